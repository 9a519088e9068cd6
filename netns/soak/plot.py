"""The picture of a soak: connections over time, faults as marks, and natlb's memory."""

from pathlib import Path

from netns.bench.plot import pyplot_for_svg
from netns.soak.report import Report

_FEW_MARKS = 2_000


def plot(report: Report, file: Path) -> None:
    """Draw a report as SVG."""
    pyplot = pyplot_for_svg()
    figure, (connections, faults, memory) = pyplot.subplots(
        3, 1, figsize=(12, 8), sharex=True, layout="constrained", height_ratios=[3, 3, 2]
    )
    timeline = report["timeline"]
    minutes = [row[0] / 60 for row in timeline]

    connections.fill_between(minutes, [row[1] for row in timeline], color="C0", alpha=0.3, step="mid")
    connections.plot(minutes, [row[1] for row in timeline], color="C0", linewidth=0.8)
    connections.set_ylabel("connections open", color="C0")
    connections.set_ylim(bottom=0)
    made = connections.twinx()
    made.plot(minutes, [row[3] / 1e9 for row in timeline], color="C2")
    made.set_ylabel("GB verified", color="C2")
    made.set_ylim(bottom=0)

    kinds = sorted({kind for kind, _, _ in report["marks"]}, reverse=True)
    for kind, begun, ended in report["marks"][-_FEW_MARKS:]:
        width = max((ended - begun) / 60, report["seconds"] / 60 / 1000)
        faults.barh(kinds.index(kind), width, left=begun / 60, height=0.7, color=f"C{kinds.index(kind) % 10}")
    faults.set_yticks(range(len(kinds)), [f"{kind} ({report['faults'][kind]})" for kind in kinds])
    faults.set_ylim(-0.6, max(len(kinds), 1) - 0.4)
    faults.grid(axis="x", alpha=0.3)

    known = [(minute, row[4]) for minute, row in zip(minutes, timeline, strict=True) if row[4] is not None]
    memory.plot([minute for minute, _ in known], [used for _, used in known], color="C3")
    memory.set_ylim(0, 1.2 * max((used for _, used in known), default=1))
    memory.set_ylabel("natlb's memory, MB")
    memory.set_xlabel("minutes")

    found = report["connections"]
    wrong = found["corrupted"] + report["datagrams"]["wrong"]
    figure.suptitle(
        f"{report['when']}, offload {'on' if report['offload'] else 'off'}, seed {report['seed']}:"
        f" {found['made']:,} connections, {report['verified'] / 1e9:,.1f} GB verified,"
        f" {report['datagrams']['asked']:,} datagrams, {sum(report['faults'].values())} faults;"
        f" lost: {found['lost']}, corrupted: {wrong}"
    )
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
