"""Where it was measured: the machine, how busy it was with other things, and the version of everything that ran."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from netns.bench.candidates import Candidate
from netns.bench.hosts import Room

_TOOLS = {"iperf3": ("iperf3", "--version"), "wrk": ("wrk", "-v"), "web servers": ("nginx", "-v")}

BUSY = 0.5
"""A load average above which a machine is doing something else as well."""


def describe(candidates: Sequence[Candidate], room: Room) -> dict[str, object]:
    """Return what is known of the machine and of all programs, as it goes into JSON."""
    versions = {candidate.name: version(candidate.version) for candidate in candidates}
    return {
        "cpu": _cpu(),
        "cores": room.cores,
        "files": room.files,
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
        "versions": versions | {name: version(argv) for name, argv in _TOOLS.items()},
    }


def version(argv: Sequence[str]) -> str:
    """Return the first line that a program prints when asked for its version; `missing` when there is none."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    except OSError:
        return "missing"
    lines = (done.stdout + done.stderr).strip().splitlines() or ["says nothing"]
    return re.sub(r"^nginx version: | Copyright.*| - https?://.*", "", lines[0])


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text("utf-8", "replace"), re.M)
    return found[1] if found else platform.machine()
