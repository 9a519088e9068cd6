"""docs/metrics.md has the table of all metrics, and no other names than are in it."""

import re
from pathlib import Path

from natlb.metrics.families import FAMILIES, Kind

PAGE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")


def table() -> str:
    """The table, as the page has to have it."""
    lines = ["| metric | kind | labels | |", "|---|---|---|---|"]
    for family in FAMILIES:
        labels = " ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.name}` | {family.kind.value} | {labels} | {family.help} |")
    return "\n".join(lines) + "\n"


def test_the_table_is_that_of_the_program() -> None:
    assert table() in PAGE, f"docs/metrics.md needs:\n{table()}"


def test_every_metric_that_the_page_speaks_of_exists() -> None:
    known = {family.name for family in FAMILIES}
    known |= {
        f"{each.name}_{part}" for each in FAMILIES if each.kind is Kind.HISTOGRAM for part in ("bucket", "sum", "count")
    }
    assert set(re.findall(r"natlb_\w+", PAGE)) <= known
