"""What came of a soak: judged, and told as a table for people and as JSON for programs. The table is made from that.

    {"when": "2026-01-31 12:00 UTC", "seconds": ..., "minutes": what was asked for, "seed": ..., "offload": true,
     "interrupted": false, "machine": {"cores": ..., "kernel": ..., "python": ...},
     "connections": {"made": ..., "connected": ..., "ends": {HOW: number}, "lost": 0, "corrupted": 0},
     "verified": bytes, "datagrams": {...}, "faults": {KIND: number}, "churn": {KIND: number},
     "natlb": {"warm": VITALS, "end": VITALS, "entries": ..., "open": ..., "sent_again": SYNs,
               "activity": [`show activity`, a line each], "counters": {SECTION: [least, most, natlb's]}},
     "failures": [...], "stories": [...], "log": [natlb's last lines, if there are failures],
     "timeline": [[seconds, open, made, verified, natlb's MB], ...], "marks": [[KIND, from, to], ...]}

A section's counters are how many connections or flows were answered, how many were begun, and how many natlb says there
were; each time one natlb follows another nobody knows to the last one. `failures` is empty when the soak has found
nothing wrong; `stories` tell more about each connection among them.
"""

import os
import platform
import re
import textwrap
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from netns.draw import table
from netns.soak.accounts import CORRUPTED, LOST
from netns.soak.conductor import LONG, Conductor, clock, warm_up
from netns.soak.scene import SECTIONS
from netns.soak.vitals import Vitals

Report = dict[str, Any]
"""As above."""

MORE_MEMORY = {True: 4.0, False: 16.0}
"""MB that natlb may have more at the end than after the warm-up: in a long soak, and in one that is shorter than natlb
remembers what is over, and so ends with more to remember."""

MORE_DESCRIPTORS = 2
"""Descriptors that one natlb has more than another one which began otherwise: by itself, after another, or as the
successor that another has started, and that keeps it."""

STRAY = 0.001
"""The share of the datagrams that may be lost while no fault loses any: UDP allows it, a quiet lab does without."""

_WIDTH = 100
_LOG_LINES = 400
_TOLD = 8
"""Stories that are printed."""
_ERROR = re.compile(r"^.*(?:Traceback|internal error|\berror\b.*offload|differently).*$", re.M | re.I)


def build(conductor: Conductor, minutes: float, *, offload: bool) -> Report:
    """Judge a soak that is over."""
    accounts, outcome = conductor.accounts, conductor.outcome
    rest, uncertain = outcome.rest, conductor.stage.uncertain
    ends = Counter(accounts.ends)
    report: Report = {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "minutes": minutes,
        "seconds": round(outcome.seconds, 1),
        "seed": accounts.seed,
        "offload": offload,
        "interrupted": outcome.interrupted,
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "connections": {
            "made": accounts.made.total(),
            "connected": accounts.connected.total(),
            "ends": {how: number for how, number in ends.most_common() if how not in (LOST, CORRUPTED)},
            "lost": ends[LOST],
            "corrupted": ends[CORRUPTED],
        },
        "verified": accounts.verified,
        "datagrams": asdict(accounts.datagrams),
        "faults": dict(sorted(Counter(fault.kind for fault in accounts.faults).items())),
        "churn": dict(sorted(outcome.changes.items())),
        "natlb": {
            "warm": _vitals(outcome.warm),
            "end": _vitals(rest.vitals if rest else None),
            "entries": rest.entries if rest else None,
            "open": rest.open if rest else None,
            "sent_again": rest.sent_again if rest else None,
            "activity": outcome.activity,
            "counters": {
                name: [
                    accounts.connected[name] + accounts.answered_flows[name] - uncertain[name],
                    accounts.made[name] + accounts.flows[name] + uncertain[name],
                    rest.totals[name] if rest else None,
                ]
                for name in SECTIONS
            },
        },
        "stories": accounts.stories,
        "timeline": [
            [round(each.at, 1), each.open, each.made, each.verified, each.vitals and round(each.vitals.resident, 2)]
            for each in outcome.samples
        ],
        "marks": [
            [fault.kind, round(fault.began - accounts.at, 2), round((fault.ended or fault.began) - accounts.at, 2)]
            for fault in accounts.faults
        ],
    }
    log = outcome.log
    report["failures"] = failures(report) + outcome.problems + [f"natlb's log: {line}" for line in _ERROR.findall(log)]
    report["log"] = log.splitlines()[-_LOG_LINES:] if report["failures"] else []
    return report


def _vitals(found: Vitals | None) -> dict[str, Any] | None:
    return asdict(found) if found else None


def failures(report: Report) -> list[str]:
    """Return what the figures say is wrong."""
    found = []
    connections, datagrams = report["connections"], report["datagrams"]
    for word in ("lost", "corrupted"):
        if number := connections[word]:
            found.append(f"{number} connection{'s were' if number > 1 else ' was'} {word}")
    over = sum(connections["ends"].values()) + connections["lost"] + connections["corrupted"]
    if over != connections["made"]:
        found.append(f"{connections['made']} connections were made, and {over} have ended")
    if datagrams["wrong"] or datagrams["doubled"]:
        found.append(f"{datagrams['wrong']} datagrams were altered or strange, {datagrams['doubled']} came twice")
    if datagrams["lost"] > max(1, STRAY * datagrams["asked"]):
        found.append(f"{datagrams['lost']} of {datagrams['asked']} datagrams were lost while no fault lost any")
    over, again = 0, report["natlb"]["sent_again"] or 0
    for name, (least, most, counted) in report["natlb"]["counters"].items():
        if counted is None:
            continue
        # A SYN that was sent again, and comes when its connection is over already, is another one to natlb.
        more = again if name.startswith("tcp") else 0
        over += max(0, counted - most)
        if not least <= counted <= most + more:
            found.append(f"natlb has counted {counted} in {name}: {least} were answered of {most} that were begun")
    if over > again:
        found.append(f"natlb has counted {over} more than were begun, and {again} SYNs were sent again")
    warm, end = report["natlb"]["warm"], report["natlb"]["end"]
    if warm and end:
        bound = warm["resident"] + MORE_MEMORY[report["seconds"] >= LONG]
        if end["resident"] > bound:
            found.append(f"natlb has {end['resident']:.1f} MB at the end: {bound:.1f} were allowed")
        began_otherwise = any(fault.startswith("natlb ") for fault in report["faults"])
        if end["descriptors"] > warm["descriptors"] + MORE_DESCRIPTORS * began_otherwise:
            found.append(f"natlb has {end['descriptors']} descriptors, and had {warm['descriptors']} after the warm-up")
        if end["threads"] > max(warm["threads"], 1 + min(32, report["machine"]["cores"] + 4)):
            found.append(f"natlb has {end['threads']} threads, and had {warm['threads']} after the warm-up")
    return found


def render(report: Report) -> str:
    """Return the report as text."""
    parts = ["\n".join(_head(report)), _connections(report), _table(_bytes(report)), _table(_natlb(report))]
    parts.append(_table([["faults made", ""], *_counted(report["faults"])]))
    parts.append(_table([["changes made by the Runtime API", ""], *_counted(report["churn"])]))
    parts += report["stories"][:_TOLD]
    if len(report["stories"]) > _TOLD:
        parts.append(f"and {len(report['stories']) - _TOLD} more such stories, which --json writes down")
    lost, corrupted = report["connections"]["lost"], report["connections"]["corrupted"]
    parts.append(f"lost: {lost}, corrupted: {corrupted + report['datagrams']['wrong']}")
    if report["failures"]:
        lines = [textwrap.fill(f"! {line}", _WIDTH, subsequent_indent="  ") for line in report["failures"]]
        parts.append("\n".join(["FAILED:", *lines, f"once more: {command(report)}"]))
    return "\n\n".join(parts)


def command(report: Report) -> str:
    """Return the command that does the same again, as far as chance goes."""
    offload = "on" if report["offload"] else "off"
    return f"scripts/soak.sh {report['minutes']:g} --offload {offload} --seed {report['seed']}"


def _head(report: Report) -> list[str]:
    machine = report["machine"]
    early = f", interrupted after {clock(report['seconds'])}" if report["interrupted"] else ""
    return [
        f"{report['when']}: {report['minutes']:g} minutes, offload {'on' if report['offload'] else 'off'},"
        f" seed {report['seed']}{early}",
        f"{machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}",
    ]


def _connections(report: Report) -> str:
    found = report["connections"]
    rows = [["connections made", f"{found['made']:,}"]]
    rows += [[f"  {how}", f"{number:,}"] for how, number in found["ends"].items()]
    rows += [[f"  {word}", f"{found[word]:,}"] for word in ("lost", "corrupted")]
    return _table(rows)


def _bytes(report: Report) -> list[list[str]]:
    found = report["datagrams"]
    return [
        ["bytes verified in connections", f"{report['verified']:,}"],
        ["flows of UDP", f"{found['flows']:,}"],
        ["datagrams sent", f"{found['asked']:,}"],
        ["  answered, and verified at both ends", f"{found['answered']:,}"],
        ["  lost while a fault lost packets", f"{found['lost_by_faults']:,}"],
        ["  lost while none did", f"{found['lost']:,}"],
        ["  answered twice while a fault doubled packets", f"{found['doubled_by_faults']:,}"],
        ["  answered twice while none did", f"{found['doubled']:,}"],
        ["  altered, or another's", f"{found['wrong']:,}"],
    ]


def _natlb(report: Report) -> list[list[str]]:
    natlb = report["natlb"]
    warm, end = natlb["warm"] or {}, natlb["end"] or {}
    names = {"resident": "memory, MB", "descriptors": "descriptors", "threads": "threads"}
    rows = [["natlb", f"after {clock(warm_up(60 * report['minutes']))}", "at the end"]]
    rows += [[f"  {label}", _figure(warm.get(key)), _figure(end.get(key))] for key, label in names.items()]
    rows.append(["  connections that are open", "", _figure(natlb["open"])])
    rows.append(["  entries, those that are over included", "", _figure(natlb["entries"])])
    least, most, counted = (
        None if None in column else sum(column) for column in zip(*natlb["counters"].values(), strict=True)
    )
    rows.append(["  connections and flows by its own count", "", _figure(counted)])
    rows.append(["  which can be, by those begun and answered, at most and at least", _figure(most), _figure(least)])
    rows.append(["  SYNs that were sent again", "", _figure(natlb["sent_again"])])
    return rows


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _counted(found: dict[str, int]) -> list[list[str]]:
    return [[f"  {name}", f"{number:,}"] for name, number in found.items()] or [["  none", ""]]


def _table(rows: list[list[str]]) -> str:
    return "\n".join(table(rows, right=range(1, len(rows[0]))))
