"""What balancing costs: CPU for a gigabyte, and latency, at layer 4 and at layer 7, on this machine, just now.

About a second of load for each is enough for an order of magnitude, and for no more; `scripts/bench.sh` measures
properly. The CPU is that of the balancer's own process: what the kernel does on its behalf is in it, what the kernel
does by itself, as in plain routing, is not.
"""

import os
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from netns import draw, haproxy, programs
from netns.build import Lab
from netns.claims import Claim, Findings
from netns.draw import Pen
from netns.observe import Visitor

_ROUNDS = 3
_SECONDS = 0.4
"""Of load, for each door in each round."""
_PIECE = 2_000_000
_REQUESTS = 100
_TICKS = os.sysconf("SC_CLK_TCK")
_BAR = 30


@dataclass(frozen=True, slots=True)
class Door:
    """One way to a server."""

    port: int
    program: str = ""
    """Who balances there; nobody, where the client speaks to a server itself."""
    address: str = ""


def cost(lab: Lab, pen: Pen) -> Findings:
    """Go through each door in turn, several times: small requests, then a load; draw what it took."""
    first = lab.topology.servers[0]
    doors = {
        "no balancer": Door(first.port, address=first.ipv4),
        "natlb, layer 4": Door(lab.topology.balancer.port, "natlb"),
        "HAProxy, mode tcp": Door(haproxy.TCP, "haproxy"),
        "HAProxy, mode http": Door(haproxy.HEADER, "haproxy"),
    }
    for program in {door.program for door in doors.values()} - {""}:
        programs.needed(lab, program)
    times: dict[str, list[float]] = {title: [] for title in doors}
    spent, carried = dict.fromkeys(doors, 0.0), dict.fromkeys(doors, 0)
    for _ in range(_ROUNDS):
        for title, door in doors.items():
            times[title] += _small_requests(lab, door)
            if door.program:
                seconds, received = _load(lab, door)
                spent[title] += seconds
                carried[title] += received
    for_a_gigabyte = {title: spent[title] / carried[title] * 1e9 for title in doors if carried[title]}
    yield pen.bold("CPU that the balancer's process takes for a gigabyte")
    yield _bars(pen, for_a_gigabyte, "{:6.1f} s")
    yield ""
    yield pen.bold("Time of a small request on an open connection (median)")
    yield _bars(pen, {title: median(each) * 1e6 for title, each in times.items()}, "{:6.0f} µs")
    yield ""
    yield Claim(
        "each balancer has carried data, and its process has taken CPU for it",
        saw=[title for title, seconds in for_a_gigabyte.items() if seconds > 0],
        expected=[title for title, door in doors.items() if door.program],
    )


def _small_requests(lab: Lab, door: Door) -> list[float]:
    """Return the seconds that each of some requests took."""
    with Visitor(lab, door.port, address=door.address) as visitor:
        visitor.get()
        marks = [time.perf_counter()]
        for _ in range(_REQUESTS):
            visitor.get()
            marks.append(time.perf_counter())
    return [later - earlier for earlier, later in pairwise(marks)]


def _load(lab: Lab, door: Door) -> tuple[float, int]:
    """Download for a while; return the CPU seconds that the balancer's process took, and the bytes that came."""
    pid = programs.needed(lab, door.program).pid
    with Visitor(lab, door.port) as visitor:
        before, began, received = _cpu(pid), time.monotonic(), 0
        while time.monotonic() - began < _SECONDS:
            received += len(visitor.get(f"/bytes/{_PIECE}"))
        return _cpu(pid) - before, received


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has spent, its own and the kernel's on its behalf (proc(5): utime, stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _bars(pen: Pen, values: dict[str, float], form: str) -> str:
    most = max(values.values()) or 1.0
    rows = [[title, form.format(value), "█" * max(1, round(value / most * _BAR))] for title, value in values.items()]
    return pen.plain("\n".join(f"  {line}" for line in draw.table(rows)))
