"""Claims: what was looked at, what was seen, what was expected, and what to do when the two differ.

Lessons, exercises and experiments all speak in *findings*: text to be read, and claims. A claim that holds is a line
with a tick. The first that does not ends the report, since what follows would only be its echo.
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from netns.draw import WIDTH, Pen

LONGEST = 400
"""Characters of a value that are shown."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that should hold."""

    text: str
    saw: object
    expected: object
    remedy: str = ""
    """What to do when it does not hold: a sentence, or a command."""

    @property
    def holds(self) -> bool:
        """Whether what was seen is what was expected."""
        return self.saw == self.expected


Findings = Iterator[str | Claim]
"""What a look at the lab brings: text, and claims, in the order in which they are to be read."""


def shown(value: object) -> str:
    """Write a value for people: in one line, not endless."""
    match value:
        case bool():
            return "yes" if value else "no"
        case None | "" | [] | ():
            return "nothing"
        case set() | frozenset():
            text = ", ".join(sorted(map(str, value))) or "nothing"
        case Mapping():
            text = ", ".join(f"{key}: {shown(each)}" for key, each in value.items()) or "nothing"
        case list() | tuple():
            text = ", ".join(shown(each) for each in value)
        case _:
            text = str(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."


def drawn(pen: Pen, claim: Claim) -> str:
    """Draw a claim: a line with a tick, or a cross with what was seen, what was expected and the remedy."""
    if claim.holds:
        return pen.good(pen.plain("✓ ")) + _hanging(claim.text, 2)
    lines = [pen.bad(pen.plain("✗ ")) + _hanging(claim.text, 2)]
    rows = {"saw": shown(claim.saw), "expected": shown(claim.expected), "try": claim.remedy}
    lines += [f"    {title:10}{_hanging(text, 14)}" for title, text in rows.items() if text]
    return "\n".join(lines)


def report(pen: Pen, findings: Iterable[str | Claim]) -> bool:
    """Print findings as they come; return whether all claims held. It ends with the first that did not."""
    for finding in findings:
        print(drawn(pen, finding) if isinstance(finding, Claim) else finding, flush=True)
        if isinstance(finding, Claim) and not finding.holds:
            return False
    return True


def told(text: str) -> str:
    """Set a sentence that an experiment says about what it saw."""
    return textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False)


def _hanging(text: str, indent: int) -> str:
    filled = textwrap.fill(text, WIDTH - indent, break_on_hyphens=False, break_long_words=False)
    return textwrap.indent(filled, " " * indent).lstrip()
