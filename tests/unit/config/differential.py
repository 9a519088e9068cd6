"""What natlb says of a configuration held against what HAProxy says: the questions that several tests ask."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from natlb.config.entries import Refuse
from natlb.config.keywords import FOREIGN_SECTIONS, TABLE
from natlb.config.lexer import Lexer, Line

from .conftest import HAProxy, Reader, Verdict
from .grammar import Grammar

_LINE = re.compile(r"\[t\.cfg:(\d+)\]")
_WHERE = re.compile(r"^(?:parsing )?\[t\.cfg:\d+\] : ")
_QUOTED = re.compile(r"['<]([^'<>]+)['>]")
_WORD = re.compile(r"[A-Za-z][\w.-]+")
_OURS_ALONE = ("dgram-bind", "option udp-check", "proxy-requests", "proxy-responses")


def as_haproxy_has_it(lines: Sequence[str]) -> str:
    """The configuration with each `udp-lb`, which is HAProxy Enterprise's, as the `listen` section of the same lines.

    It inherits nothing. And without `zero-warning`, as the warnings differ, and `quiet`, as it hides what HAProxy says.
    """
    made: list[str] = []
    nothing = ["defaults nothing-at-all", "defaults"]
    for line in lines:
        words = line.split()
        if words[:1] == ["udp-lb"] and len(words) > 1:
            made, nothing = [*nothing, *made], []
            made.append(f"listen {words[1]} from nothing-at-all")
        elif words[:1] in (["zero-warning"], ["quiet"]) or " ".join(words[:2]).startswith(_OURS_ALONE[1:]):
            made.append("")
        elif words[:1] == ["dgram-bind"]:
            made.append(line.replace("dgram-bind", "bind", 1))
        else:
            made.append(line)
    return text_of(made)


def text_of(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def accepted(verdict: Verdict) -> bool:
    """Whether HAProxy accepts a configuration.

    HAProxy 2.6.12 may crash as it ends, after the verdict: it forgets `use-server` rules of disabled sections twice.
    """
    crashed = verdict.status < 0 and "Configuration file is valid" in verdict.output
    return verdict.accepted or crashed


@dataclass(frozen=True)
class Refusal:
    """What natlb refuses: the number of the line, from 0, the line, and what is said of it."""

    number: int
    line: str
    alert: str
    section: str
    """The first line of its section."""


@dataclass
class Pruned:
    """A configuration, and which of its lines are left when what natlb refuses is taken out."""

    written: Sequence[str]
    kept: list[int]
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return [self.written[number] for number in self.kept]

    def lines_with(self, number: int) -> list[str]:
        """The lines that are left, and one that was taken out."""
        return [self.written[each] for each in sorted({*self.kept, number})]


def refusals(read: Reader, lines: Sequence[str]) -> list[Refusal]:
    """Everything that natlb says against a configuration, none if it accepts it."""
    got = read(text_of(lines), os.environ)
    if got.parsed.config is not None:
        return []
    found = []
    for alert in got.alerts:
        where = _LINE.search(alert)
        assert where is not None, f"{alert}\nnames no line of\n{text_of(lines)}"
        number = int(where[1]) - 1
        section = next((line for line in reversed(lines[: number + 1]) if line[:1] not in ("", " ")), "")
        found.append(Refusal(number, lines[number], alert, section))
    assert found, f"refused without a word:\n{text_of(lines)}"
    return found


def pruned(read: Reader, lines: Sequence[str]) -> Pruned:
    """Take out what natlb refuses, until it accepts the rest."""
    made = Pruned(lines, list(range(len(lines))))
    while found := refusals(read, made.lines):
        out = {made.kept[each.number] for each in found}
        made.refusals += [replace(each, number=made.kept[each.number]) for each in found]
        made.kept = [number for number in made.kept if number not in out]
    return made


def generated(seed: int, together: int = 4) -> list[str]:
    """Several configurations in one file, which have no name in common: one run of HAProxy costs most of the time."""
    random = Random(seed)
    return [line for number in range(together) for line in Grammar(random, str(number)).configuration()]


def smallest(read: Reader, haproxy: HAProxy, lines: Sequence[str]) -> list[str]:
    """As few lines as natlb accepts and HAProxy refuses with the same first words."""
    made, words = list(lines), _first_words(haproxy(as_haproxy_has_it(lines)))
    for at in reversed(range(len(made))):
        fewer = made[:at] + made[at + 1 :]
        if not refusals(read, fewer):
            verdict = haproxy(as_haproxy_has_it(fewer))
            if not accepted(verdict) and _first_words(verdict) == words:
                made = fewer
    return made


def _first_words(verdict: Verdict) -> str:
    alert = next((line for line in verdict.output.splitlines() if line.startswith("[ALERT]")), "")
    return re.sub(r"'[^']*'|\d+", "", alert)


def explains(refusal: Refusal) -> bool:
    """Whether an alert says something of its line: a word of it, its section, or the line with a caret below."""
    said, _, shown = refusal.alert.partition("\n")
    if "not available" in said or "Traceback" in said or not said.isprintable():
        return False
    if "too many fatal errors" in said or "too many words" in said:
        return True
    written = [refusal.line, refusal.section]
    for line in Lexer("t.cfg", text_of([refusal.line, refusal.section]).encode(), os.environ):
        written += line.words if isinstance(line, Line) else ()
    text = _WHERE.sub("", said)
    quoted = [piece for quote in _QUOTED.findall(text) for piece in (quote, *quote.split())]
    known = {part for each in written for word in _WORD.findall(each) for part in (word, *word.split("-"))}
    if "%[" in refusal.line and "%[" in text:
        return True
    caret = any(refusal.line.strip()[:20] in line or line.lstrip(" |").startswith("...") for line in shown.splitlines())
    return caret or any(piece in each for piece in quoted for each in written) or bool(known & set(_WORD.findall(text)))


STRICTER = {
    "layer 7": [
        "(layer 7)",
        "HTTP",
        "ends in the proxy",
    ],
    "sockets": [
        *("needs to end the", "ties a socket to a device", "sockets that take traffic", "proxy's sockets"),
        *("is of one listening socket", "is of one of a proxy's two connections"),
        *("hands listening sockets", "leaves the address to the system", "servers see one address"),
    ],
    "what natlb has otherwise, or in one way": [
        *("cannot be matched by", "takes one of", "in one of", "is not supported", "a line for each", "did you mean"),
        *("leaves out lines", "checks of natlb have none", "it is ab", "is for what a client says", "'init-addr' : "),
        *(
            "natlb knows none of that name",
            "is not of the connection; ",
            "counts the bytes of a key; ",
            "are not for natlb's log lines",
            "no expectation of natlb's",
            "format are none here",
            "one table",
            "no name",
        ),
    ],
    "udp-lb": ["udp-lb", "UDP", "udp-check", "proxy-re", "datagrams"],
    "words, numbers, times and addresses that HAProxy reads in part, or not at all": [
        *("expects an integer", "unexpected character", "cannot handle unexpected argument", "invalid port"),
        *(
            "invalid address",
            "not UTF-8",
            "is empty",
            "printable",
            "could not resolve",
            "is not permitted in",
            "is no ",
        ),
        *("names no host", "is not an IPv", "unexpected argument to store", "stray carriage return", "unknown flag"),
        *(
            "truncated line",
            "is not a valid",
            "timer overflow",
            "timer underflow",
            "takes no argument",
            "takes a number",
            "takes one number",
            "expects only one argument",
        ),
        *(
            "a condition is missing",
            "takes an IPv4 or IPv6 address",
            "contradict each other",
            "is longer than",
            "is not a number",
            "no such",
            "is not stored",
            "is not an absolute path",
            "is more than",
            "please use the 'bind' keyword",
            "must be between",
            "already used",
        ),
    ],
    "sections that are disabled, where HAProxy looks up none of the servers that others track": [
        *("for tracking", "tracking chain"),
    ],
    "what is said twice": [
        "already specified",
        "given twice",
        "already bound",
        "the same name",
        "already used",
        "names two sources",
    ],
    "what stands in no section": ["out of section"],
}
"""Why natlb refuses what HAProxy takes: each reason with what the messages then have in them."""


_REASONS = {
    *(words for reason in STRICTER.values() for words in reason),
    *(entry.action.reason for entry in TABLE.values() if isinstance(entry.action, Refuse)),
    *FOREIGN_SECTIONS.values(),
}


def known_reason(alert: str) -> bool:
    """Whether this is a reason for which natlb refuses what HAProxy takes."""
    return any(words in alert for words in _REASONS)
