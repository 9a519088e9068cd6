"""Keeps docs/performance.md true: the section of its results is made from a JSON file, and from nothing else.

    python -m netns.bench.page docs/performance.json docs/performance.md

does it, and a test compares the two.
"""

import json
import sys
from pathlib import Path

from netns.bench.aims import drawn
from netns.bench.report import Report, busy_machine, render
from netns.errors import LabError

BEGIN = "<!-- results: made by `python -m netns.bench.page`, do not edit -->"
END = "<!-- end of results -->"


def fill(page: str, report: Report) -> str:
    """Return the page with the results of a report in their place; LabError when the page has no such place."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise LabError(f"the page has no place for results, between '{BEGIN}' and '{END}'")
    aims = drawn(report["results"])
    reached = f"What natlb is to reach on two cores, and what of it this run has:\n\n{aims}\n\n" if aims else ""
    return f"{before}{BEGIN}\n\n{_caution(report)}```text\n{render(report)}\n```\n\n{reached}{END}{after}"


def _caution(report: Report) -> str:
    """Return what a reader should know before looking at the figures."""
    quick = ["These are from a **quick** run, one short round."] if report["quick"] else []
    busy = ["The machine was **busy with other things** at the same time."] if busy_machine(report) else []
    less = ["Read no more than the order of magnitude out of them."] if quick or busy else []
    return " ".join(quick + busy + less) + "\n\n" if less else ""


def main(report: str, page: str) -> None:
    """Fill a page in place."""
    path = Path(page)
    path.write_text(fill(path.read_text("utf-8"), json.loads(Path(report).read_text("utf-8"))), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
