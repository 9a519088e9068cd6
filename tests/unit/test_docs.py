"""What docs/rfc.md says of itself is true: no requirement is left out, and every test that it names is there.

So are those that docs/security.md and docs/trouble.md name; and of the module that the latter is about none is left
out. What docs/balancing.md has to copy is a configuration that natlb takes.
"""

import re
from functools import cache
from pathlib import Path

import pytest

from natlb import privileges
from natlb.config.parser import parse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rfc.md").read_text(encoding="utf-8")

REQUIREMENTS = {
    "4787": "1 2 3 3a 4 5 5a 5b 5c 6 6a 7 8 8a 9 9a 10 10a 11 12 12a 12b 13 13a 14 14a",
    "5382": "1 2 2a 3 3a 3b 4 4a 5 5a 6 7 8 8a 9 10",
    "5508": "1 1a 2 2a 3 3a 3b 3c 3d 4 4a 4b 4c 5 5a 5b 5c 6 7 7a 8 9 10a 10b 10c 10d 10e 10f 11",
    "7857": "2 2.1 2.2 3 4 5 6 7 7.1 8 9 10 11 12",
}
"""By RFC, in its own order. RFC 5508 has nothing to meet in REQ-10 but its letters; RFC 7857 has sections."""

ANSWERS = ("met", "n.a.", "different")

_ROW = re.compile(r"\| \*\*(?:REQ-|section )([\w.]+)\*\* [^|]+ \| ([^|]+) \| [^|]+ \| ([^|]+) \|")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def chapters() -> dict[str, str]:
    """The chapters of the page, by their titles."""
    parts = re.split(r"^## (.+)\n", PAGE, flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def rows(rfc: str) -> list[tuple[str, str, str]]:
    """The table of an RFC: requirement, answer, and the tests that show it."""
    [chapter] = [text for title, text in chapters().items() if title.endswith(f"RFC {rfc}")]
    lines = [line for line in chapter.splitlines() if line.startswith("| **")]
    matches = [_ROW.fullmatch(line) for line in lines]
    assert None not in matches, [line for line, match in zip(lines, matches, strict=True) if match is None]
    return [match.group(1, 2, 3) for match in matches if match]


@cache
def functions_of(path: str) -> frozenset[str]:
    file = ROOT / path
    return frozenset(re.findall(r"^def (test_\w+)\(", file.read_text(), re.M)) if file.exists() else frozenset()


@pytest.mark.parametrize("rfc", REQUIREMENTS)
def test_every_requirement_is_answered_once_and_in_order(rfc: str) -> None:
    assert [requirement for requirement, _, _ in rows(rfc)] == REQUIREMENTS[rfc].split()


@pytest.mark.parametrize("rfc", REQUIREMENTS)
def test_every_answer_is_one_of_three_and_is_shown(rfc: str) -> None:
    for requirement, answer, shown in rows(rfc):
        assert answer in ANSWERS, requirement
        assert _TEST.search(shown) or (answer, shown) == ("n.a.", "-"), f"{requirement} is {answer}: who shows it?"


def test_every_test_that_is_named_exists() -> None:
    named = _TEST.findall(PAGE)
    assert len(named) == PAGE.count("tests/"), "a test is named in another way"
    assert not [f"{path}::{name}" for path, name in named if name not in functions_of(path)]


def test_every_test_that_the_page_on_security_names_exists_and_every_threat_has_one() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = _TEST.findall(page)
    assert len(named) == page.count("tests/"), "a test is named in another way"
    assert not [f"{path}::{name}" for path, name in named if name not in functions_of(path)]
    threats = page.split("## Who can send what")[1].split("\n## ")[0]
    rows = [line for line in threats.splitlines() if line.startswith("| ") and not line.startswith("| who |")]
    assert len(rows) > 15
    assert [row for row in rows if not _TEST.search(row.split("|")[-2])] == []


def test_the_page_on_security_has_the_capabilities_that_are_kept() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| (CAP_\w+) \|", page, re.M)) == set(privileges.KEPT)


def test_whatever_is_different_has_its_reason_on_purpose() -> None:
    assert [title for title in chapters() if title.startswith("Different")] == ["Different on purpose"]
    reasons = chapters()["Different on purpose"]
    given = set()
    for places in re.findall(r"\((RFC \d{4}[^()]*)\)", " ".join(reasons.split())):
        for rfc, rest in re.findall(r"RFC (\d{4}), ([^;]*)", places):
            given |= {(rfc, found) for found in re.findall(r"(?:REQ-|section )(\d[\w.]*)", rest)}
    different = {(rfc, found) for rfc in REQUIREMENTS for found, answer, _ in rows(rfc) if answer == "different"}
    assert different == given


def test_the_configurations_of_the_page_on_balancing_are_taken_without_a_warning() -> None:
    page = (ROOT / "docs" / "balancing.md").read_text(encoding="utf-8")
    found = re.findall(r"^```haproxy\n(.*?)^```$", page, re.M | re.S)
    assert found
    for text in found:
        read = parse([("page", text.encode())], {})
        assert read.config is not None
        assert not read.diagnostics


def test_the_page_about_trouble_names_tests_that_are_there_and_all_of_its_module() -> None:
    page = (ROOT / "docs" / "trouble.md").read_text(encoding="utf-8")
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", page))
    own = functions_of("tests/lab/test_trouble.py")
    named = set(re.findall(r"`(test_\w+)`", page))
    assert all((ROOT / file).exists() for file in files)
    assert own <= named
    assert named <= own.union(*map(functions_of, files))
