"""The examples of HAProxy's configuration manual, as natlb reads them.

The manual has some 200 blocks under `Example :`. Those of whole sections are taken as they are, others are put into a
`listen` section or a `global` one. They are held to the same rule as everything: what natlb accepts, HAProxy accepts,
what natlb refuses is explained by name, and what natlb alone refuses has one of the known reasons.
"""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from natlb.config.keywords import FOREIGN_SECTIONS, GLOBAL, PROXY

from .conftest import HAProxy, Reader
from .differential import accepted, as_haproxy_has_it, explains, known_reason, pruned, refusals, text_of

MANUAL = Path("/usr/share/doc/haproxy/configuration.txt.gz")
"""As Debian's package haproxy-doc, or haproxy itself, brings it."""

_EXAMPLE = re.compile(r"^( +)Examples? *:\s*$")
_SECTION = re.compile(rf"\s*(global|defaults|frontend|backend|listen|{'|'.join(FOREIGN_SECTIONS)})\b")


def examples() -> Iterator[tuple[int, list[str]]]:
    """The number of the line, and the lines of each example, with no lines broken by a backslash."""
    lines = gzip.decompress(MANUAL.read_bytes()).decode("utf-8", "replace").splitlines() if MANUAL.exists() else []
    for number, line in enumerate(lines):
        match = _EXAMPLE.match(line)
        if match is None:
            continue
        block = []
        for text in lines[number + 1 :]:
            if text.strip() and len(text) - len(text.lstrip()) <= len(match[1]):
                break
            block.append(text)
        joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(block)).expandtabs().splitlines()
        yield number + 1, [text for text in joined if text.strip() and not text.strip().startswith("#")]


def whole(block: list[str]) -> list[str]:
    """The block as a configuration."""
    if any(_SECTION.match(line) for line in block):
        before = [] if _SECTION.match(block[0]) else ["listen l"]
        return [*before, *(line.strip() if _SECTION.match(line) else f"    {line.strip()}" for line in block)]
    words = [line.split()[0] for line in block]
    is_global = all(word in GLOBAL and word not in PROXY for word in words)
    return ["global" if is_global else "listen l", *(f"    {line.strip()}" for line in block)]


EXAMPLES = {f"line-{number}": whole(block) for number, block in examples() if block}


def test_the_manual_has_examples() -> None:
    assert len(EXAMPLES) > 150, f"{MANUAL} is missing: scripts/setup.sh test"


@pytest.mark.parametrize("lines", EXAMPLES.values(), ids=EXAMPLES)
def test_of_an_example_natlb_accepts_what_haproxy_does_and_explains_the_rest(
    read: Reader, haproxy: HAProxy, lines: list[str]
) -> None:
    file = pruned(read, lines)
    assert [f"{each.line}\n  => {each.alert}" for each in file.refusals if not explains(each)] == []
    for each in file.refusals:
        if not known_reason(each.alert):  # then HAProxy has to refuse it as well
            alone = file.lines_with(each.number)
            assert not refusals(read, alone) or not accepted(haproxy(as_haproxy_has_it(alone))), each
    verdict = haproxy(as_haproxy_has_it(file.lines))
    assert accepted(verdict), f"{text_of(file.lines)}\n{verdict.output}"
