"""What programs and kernels print, read. Text in, numbers out; LabError where the text is not what it should be."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from netns.errors import LabError


@dataclass(frozen=True, slots=True)
class Bulk:
    """What iperf3 says of a transfer."""

    gbps: float
    """As the receiver counts it."""
    octets: int
    """That arrived."""
    seconds: float


def iperf3(text: str) -> Bulk:
    """Read `iperf3 -J`, of TCP or UDP; LabError with iperf3's own words when it failed."""
    try:
        report = json.loads(text)
    except ValueError:
        raise LabError(f"iperf3 printed no JSON but {_begin(text)}") from None
    if error := report.get("error"):
        raise LabError(f"iperf3: {error}")
    try:
        received = report["end"]["sum_received"]
        return Bulk(received["bits_per_second"] / 1e9, int(received["bytes"]), float(received["seconds"]))
    except KeyError as missing:
        raise LabError(f"iperf3's report lacks {missing}") from None


@dataclass(frozen=True, slots=True)
class Requests:
    """What wrk says of a load."""

    done: int
    per_second: float
    p50_us: float
    p99_us: float
    errors: tuple[tuple[str, int], ...]
    """What went wrong, and how often: only what did."""


_UNITS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6}
_DONE = re.compile(r"(\d+) requests in ")
_RATE = re.compile(r"^Requests/sec: +([\d.]+)", re.M)
_PERCENTILE = re.compile(r"^ +(\d+)% +([\d.]+)(us|ms|s|m|h) *$", re.M)
"""A unit of one letter is padded to two."""
_ERRORS = re.compile(r"^ +Socket errors: (.*)$", re.M)
_OTHER_ANSWERS = re.compile(r"^ +Non-2xx or 3xx responses: (\d+)$", re.M)


def wrk(text: str) -> Requests:
    """Read `wrk --latency`; LabError when that is no report of a load."""
    done, rate = _DONE.search(text), _RATE.search(text)
    percentiles = {int(share): float(value) * _UNITS[unit] for share, value, unit in _PERCENTILE.findall(text)}
    if not done:
        raise LabError(f"wrk: {_begin(text)}")
    missing = [] if rate else ["Requests/sec"]
    missing += [f"{share}%" for share in (50, 99) if share not in percentiles]
    if not rate or missing:
        raise LabError(f"wrk's report lacks {' and '.join(missing)}: {_begin(text)}")
    errors = {}
    if sockets := _ERRORS.search(text):
        errors = {kind: int(count) for kind, count in re.findall(r"(\w+) (\d+)", sockets[1])}
    if others := _OTHER_ANSWERS.search(text):
        errors["answers other than 2xx"] = int(others[1])
    return Requests(
        int(done[1]),
        float(rate[1]),
        percentiles[50],
        percentiles[99],
        tuple((kind, count) for kind, count in errors.items() if count),
    )


@dataclass(frozen=True, slots=True)
class Status:
    """nginx's counters, of its `stub_status` module."""

    active: int
    """Connections open now, the one that asks among them."""
    accepted: int
    """Connections and UDP sessions since it started."""
    requests: int
    """HTTP requests since it started."""


def stub_status(text: str) -> Status:
    """Read the page of nginx's `stub_status`."""
    found = re.search(r"Active connections: (\d+) .*?\n\s*(\d+) \d+ (\d+)\s", text, re.S)
    if not found:
        raise LabError(f"nginx's status is {_begin(text)}")
    return Status(*(int(number) for number in found.groups()))


def sessions(show_stat: str) -> int:
    """Add up the connections that all frontends of a `show stat` have had: HAProxy's, and natlb's the same."""
    header, *rows = show_stat.strip().splitlines() or [""]
    columns = header.removeprefix("# ").split(",")
    if "svname" not in columns or "stot" not in columns:
        raise LabError(f"'show stat' was answered with {_begin(show_stat)}")
    fields = [dict(zip(columns, row.split(","), strict=False)) for row in rows]
    return sum(int(row["stot"]) for row in fields if row.get("svname") == "FRONTEND")


@dataclass(frozen=True, slots=True)
class Stage:
    """What natlb says of one stage of a packet's way."""

    user_us: float
    """Microseconds for each packet, outside of the kernel."""
    kernel_us: float
    """Microseconds for each packet, in system calls."""

    @property
    def us(self) -> float:
        """Both together."""
        return self.user_us + self.kernel_us


@dataclass(frozen=True, slots=True)
class Profile:
    """Where a packet's time went in natlb, on the average."""

    packets: int
    samples: int
    """How often it was looked: what the shares rest on."""
    stages: dict[str, Stage]
    """By name, in a packet's order."""


_PACKETS = re.compile(r"^Packets activity: (\d+) packets in ", re.M)
_STAGE = re.compile(r"^  ([a-z]+) +(\d+) +[\d.]+\w+ +[\d.]+\w+ +([\d.]+)(ns|us|ms|s) +([\d.]+)(ns|us|ms|s) ", re.M)


def profiling(text: str) -> Profile:
    """Read natlb's `show profiling`; LabError when it has seen nothing."""
    packets = _PACKETS.search(text)
    samples, stages = 0, {}
    for name, seen, *times in _STAGE.findall(text):
        if name != "total":
            samples += int(seen)
            stages[name] = Stage(float(times[0]) * _UNITS[times[1]], float(times[2]) * _UNITS[times[3]])
    if not packets or not stages:
        raise LabError(f"'show profiling' was answered with {_begin(text)}")
    return Profile(int(packets[1]), samples, stages)


def offload(show_offload: str) -> dict[str, str]:
    """Return what natlb's `show offload` tells, by name."""
    found = dict(line.split(": ", 1) for line in show_offload.strip().splitlines() if ": " in line)
    if not {"state", "packets", "differences"} <= found.keys():
        raise LabError(f"'show offload' was answered with {_begin(show_offload)}")
    return found


def nft_counters(text: str) -> int:
    """Add up the packets of all named counters in `nft -j list counters`."""
    try:
        return sum(entry["counter"]["packets"] for entry in _objects(text) if "counter" in entry)
    except (ValueError, KeyError, TypeError):
        raise LabError(f"nft's counters are {_begin(text)}") from None


def _objects(text: str) -> Iterator[Any]:
    yield from json.loads(text)["nftables"]


def snmp(text: str, protocol: str, name: str) -> int:
    """Read one counter of /proc/net/snmp, where a line of names comes before each line of numbers."""
    lines = [line.split() for line in text.splitlines() if line.startswith(f"{protocol}: ")]
    if len(lines) == 2 and name in lines[0]:
        return int(lines[1][lines[0].index(name)])
    raise LabError(f"/proc/net/snmp has no {protocol} {name}")


def process_ticks(stat: str) -> int:
    """Read what a process has spent, all its threads together, off /proc/PID/stat: clock ticks, user and system."""
    # The name stands in brackets and may have anything in it, brackets and spaces too.
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def machine_ticks(stat: str) -> int:
    """Read what all processors have spent off /proc/stat: user, nice, system and interrupts of both kinds, in ticks."""
    cpu, user, nice, system, _idle, _iowait, irq, softirq, *_ = stat.split(maxsplit=9)
    if cpu != "cpu":
        raise LabError(f"/proc/stat begins with {_begin(stat)}")
    return sum(int(ticks) for ticks in (user, nice, system, irq, softirq))


def kilobytes(text: str, name: str) -> int:
    """Read one line of /proc/PID/status or /proc/meminfo, in kB; 0 where there is none, as a process that ends has."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.M)
    return int(found[1]) if found else 0


def _begin(text: str) -> str:
    return " / ".join(text.strip().splitlines()[:3])[:200] or "nothing"
