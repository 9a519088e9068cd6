"""The pictures: a panel for each measure that says most, a bar for each candidate; and a packet's time, by stages."""

from pathlib import Path
from typing import Any

from netns.bench.measures import MEASURES
from netns.bench.report import Report

PANELS = {
    "bulk_gbps": "bulk to the server, Gbit/s",
    "keepalive_rps": "requests/s, kept alive",
    "connection_rps": "requests/s, a connection each",
    "udp_pps": "datagrams/s that arrive",
    "keepalive_p99_us": "99 % answered within, us (less is better)",
    "machine_cpu_s_per_gb": "all CPU, s per GB (less is better)",
}
"""Measures, by their keys, and what stands above them."""


def plot(report: Report, file: Path) -> None:
    """Draw a report as SVG."""
    pyplot = pyplot_for_svg()
    measures = {measure.key: measure for measure in MEASURES}
    names = list(report["results"])
    figure, axes = pyplot.subplots(2, 3, figsize=(12, 6.5), layout="constrained")
    for axis, (key, title) in zip(axes.flat, PANELS.items(), strict=True):
        measure = measures[key]
        values = [report["results"][name].get(key) for name in names]
        bars = axis.bar(names, [value or 0 for value in values], color=[f"C{number}" for number in range(len(names))])
        axis.bar_label(bars, [measure.write(value) for value in values], padding=2)
        axis.margins(y=0.15)
        axis.set_title(title)
        axis.tick_params("x", rotation=20)
    figure.suptitle(_origin(report))
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def plot_where(report: Report, file: Path) -> None:
    """Draw where a packet's time goes in natlb, as SVG: a bar for each stage, the kernel's part told apart."""
    pyplot = pyplot_for_svg()
    found = report["where"]
    names = list(found["stages"])
    own = [stage["user_us"] for stage in found["stages"].values()]
    kernel = [stage["kernel_us"] for stage in found["stages"].values()]
    total = sum(own) + sum(kernel)
    figure, axis = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    axis.barh(names, own, label="natlb")
    bars = axis.barh(names, kernel, left=own, label="kernel, in system calls")
    both = [sum(times) for times in zip(own, kernel, strict=True)]
    axis.bar_label(bars, [f"{us:.2f} us, {100 * us / total:.0f} %" for us in both], padding=4)
    axis.margins(x=0.2)
    axis.invert_yaxis()
    axis.legend(loc="lower right", frameon=False)
    axis.set_xlabel("microseconds of CPU for each packet; 64 connections, kept alive")
    axis.set_title(f"{total:.1f} us a packet, from {found['packets']:,} packets, looked at {found['samples']:,} times")
    figure.suptitle(_origin(report))
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def _origin(report: Report) -> str:
    machine = report["machine"]
    quick = ", quick" if report["quick"] else ""
    return f"{report['when']}, {machine['cores']} cores, Linux {machine['kernel']}{quick}"


def pyplot_for_svg() -> Any:
    """Return matplotlib's pyplot, set up to write SVG whose text is text."""
    import matplotlib as mpl  # noqa: PLC0415 - it takes a second: only for those who want a picture

    mpl.use("svg")
    mpl.rcParams["svg.fonttype"] = "none"  # text stays text, which is smaller, and can be searched
    from matplotlib import pyplot  # noqa: PLC0415

    return pyplot
