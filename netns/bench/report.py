"""What a run has found, told: as a table for people, as JSON for programs. The table is made from the JSON alone.

    {"when": "2026-01-31 12:00 UTC", "quick": false, "rounds": 3, "seconds": 5,
     "machine": {"cpu": ..., "cores": ..., "kernel": ..., "versions": {...}, ...},
     "about": {NAME: ...},
     "results": {NAME: {measure: median or null}},
     "samples": {NAME: [{measure: value or null} for each round, and for memory]},
     "where": {"packets": ..., "samples": ..., "stages": {STAGE: {"user_us": ..., "kernel_us": ...}}},
     "remarks": [...]}

`about` says what each candidate is; a measure's key is its name in `netns.bench.measures`. `where` is only there when
natlb was measured.
"""

import textwrap
from typing import Any

from netns.bench.machine import BUSY
from netns.bench.measures import MEASURES, Values, ratios
from netns.draw import table

REFERENCE = "haproxy"

Report = dict[str, Any]
"""As above."""

_WIDTH = 80


def render(report: Report) -> str:
    """Return the whole report as text: the medians, ratios where HAProxy is there to compare with, and remarks."""
    parts = [head(report), medians(report["results"])]
    if REFERENCE in report["results"] and len(report["results"]) > 1:
        parts.append(compared(report["results"]))
    if "where" in report:
        parts.append(where(report["where"]))
    if report["remarks"]:
        parts.append(
            "\n".join(textwrap.fill(f"! {remark}", _WIDTH, subsequent_indent="  ") for remark in report["remarks"])
        )
    return "\n\n".join(parts)


def head(report: Report) -> str:
    """Return when and where it was measured, and what was compared."""
    machine = report["machine"]
    many = "1 round" if report["rounds"] == 1 else f"medians of {report['rounds']} rounds"
    lines = [
        f"{report['when']}: {many}, {report['seconds']} s for each load{', quick' if report['quick'] else ''}",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_mb']:,} MB, Linux {machine['kernel']}, "
        f"Python {machine['python']}",
    ]
    if busy_machine(report):
        lines.append(f"The machine was busy with other things: load average {machine['load_average']} at the start.")
    lines += [f"{name}: {version}" for name, version in machine["versions"].items() if name not in report["about"]]
    lines += [f"{name}: {about} ({machine['versions'][name]})" for name, about in report["about"].items()]
    return "\n".join(textwrap.fill(line, _WIDTH, subsequent_indent="  ") for line in lines)


def busy_machine(report: Report) -> bool:
    """Whether the machine did something else as well when the run began."""
    return bool(report["machine"]["load_average"] > BUSY)


def medians(results: dict[str, Values]) -> str:
    """Return the table of the medians: a row for each measure, a column for each candidate."""
    rows = [["", *results]]
    rows += [[m.label, *(m.write(values.get(m.key)) for values in results.values())] for m in MEASURES]
    return _table(rows)


def compared(results: dict[str, Values]) -> str:
    """Return the table of the ratios to HAProxy, where there is anything to divide."""
    rows = [[f"multiples of {REFERENCE}; * less is better", *results]]
    multiples = ratios(results, REFERENCE)
    for measure in MEASURES:
        values = [multiples[name][measure.key] for name in results]
        if any(value is not None for value in values):
            label = measure.label + ("" if measure.more_is_better else " *")
            rows.append([label, *("-" if value is None else f"{value:.2f}" for value in values)])
    return _table(rows)


def where(found: dict[str, Any]) -> str:
    """Return the table of where a packet's time goes in natlb."""
    times = {name: (of["user_us"], of["kernel_us"]) for name, of in found["stages"].items()}
    total = sum(map(sum, times.values()))
    rows = [["where a packet's time goes in natlb, us", "natlb", "kernel", "%"]]
    rows += [[name, *(f"{us:.2f}" for us in of), f"{100 * sum(of) / total:.1f}"] for name, of in times.items()]
    rows.append(["all", *(f"{sum(of):.2f}" for of in zip(*times.values(), strict=True)), "100.0"])
    return _table(rows)


def _table(rows: list[list[str]]) -> str:
    return "\n".join(table(rows, right=range(1, len(rows[0]))))
