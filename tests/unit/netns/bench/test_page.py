import json
from pathlib import Path

import pytest

from netns.bench import page
from netns.errors import LabError

DOCS = Path(__file__).parents[4] / "docs"


def test_results_take_the_place_of_what_was_there(report):
    before = f"# Title\n\n{page.BEGIN}\nold figures\n{page.END}\n\nend\n"
    after = page.fill(before, report)
    assert after.startswith(f"# Title\n\n{page.BEGIN}\n\n```text\n2026-01-31 12:00 UTC: ")
    assert "\n| bulk to the server | `natlb` | `haproxy` | at least 0.9 | 0.25 | **no** |\n" in after
    assert after.endswith(f" |\n\n{page.END}\n\nend\n")
    assert "old figures" not in after
    assert page.fill(after, report) == after


@pytest.mark.parametrize(
    ("quick", "load", "words"),
    [(True, 0.1, "**quick** run"), (False, 3.0, "**busy with other things**"), (True, 3.0, "order of magnitude")],
)
def test_figures_that_say_little_are_said_to_say_little(report, quick, load, words):
    report["quick"], report["machine"]["load_average"] = quick, load
    assert words in page.fill(page.BEGIN + page.END, report).split("```")[0]


@pytest.mark.parametrize("text", ["", page.BEGIN, page.END, f"{page.END}{page.BEGIN}"])
def test_a_page_without_a_place_for_results_is_told(report, text):
    with pytest.raises(LabError, match="no place for results"):
        page.fill(text, report)


def test_a_page_is_filled_in_place(report, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(report))
    (tmp_path / "p.md").write_text(f"{page.BEGIN}{page.END}")
    page.main(str(tmp_path / "r.json"), str(tmp_path / "p.md"))
    assert "A Processor of Some Kind" in (tmp_path / "p.md").read_text()


def test_the_results_in_the_docs_are_those_that_were_measured():
    text = (DOCS / "performance.md").read_text()
    report = json.loads((DOCS / "performance.json").read_text())
    assert page.fill(text, report) == text
    assert f">{report['when']}, " in (DOCS / "performance.svg").read_text()
