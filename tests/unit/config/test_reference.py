"""The reference page says what the table says, all of it, and is the one in docs/."""

from pathlib import Path

import pytest

from natlb.config.entries import Refuse, Warn
from natlb.config.keywords import FOREIGN_SECTIONS, TABLE
from natlb.config.reference import page

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"

WRITTEN = page()
LISTED = [line for line in WRITTEN.splitlines() if line.startswith("- ")]
CHAPTERS = {chapter.partition("\n")[0]: chapter for chapter in WRITTEN.split("\n## ")}


def row(chapter: str, syntax: str) -> list[str]:
    """The cells behind a keyword in the table of a chapter."""
    [line] = [line for line in CHAPTERS[chapter].splitlines() if line.startswith(f"| `{syntax}")]
    return [cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")][1:]


def test_the_page_in_docs_is_up_to_date() -> None:
    assert PAGE.read_text() == WRITTEN, "run: .venv/bin/python -m natlb.config.reference > docs/configuration.md"


def test_a_keyword_is_shown_with_its_place_meaning_and_default() -> None:
    proxies = "Proxies: `defaults`, `frontend`, `backend`, `listen`"
    assert row(proxies, "retries <number>")[0] == "d b l"
    assert row(proxies, "retries <number>")[2] == "3"
    assert row(proxies, "server <name>")[0] == "b l"
    assert row(proxies, "maxconn <number>")[0] == "d f l"
    assert row("`global`", "maxconn <number>")[1] == "0, as many as the table holds"
    assert row("Parameters of `server` and `default-server`", "id <number>")[0] == "s"


@pytest.mark.parametrize(("section", "name"), TABLE)
def test_every_keyword_is_on_the_page(section: str, name: str) -> None:
    keyword = TABLE[section, name]
    if isinstance(keyword.action, Refuse | Warn):
        assert any(f"`{name}`" in line and keyword.action.reason.rstrip(".") in line for line in LISTED)
    elif keyword.help:
        assert f"| `{keyword.syntax}`".replace("|", "\\|")[1:] in WRITTEN
    else:
        longer = [each for at, each in TABLE if at == section and each.startswith(f"{name} ")]
        assert longer, f"'{name}' is done and the page does not say what it means"


def test_every_refused_section_is_on_the_page() -> None:
    refused = CHAPTERS["What is refused, and why"].partition("### Whole sections")[2]
    assert all(f"`{section}`" in refused for section in FOREIGN_SECTIONS)
