"""What the balancer spends: CPU and memory of every process that lives in its namespace, and CPU of the whole machine.

A process is charged for what it does itself, and for what the kernel does on the way: on a veth link the packet that a
process sends is carried by it to the far end, the receiver's TCP included. So a program's own CPU holds some of its
neighbours' work, and theirs some of its own; and what the kernel forwards by itself, as routing and DNAT do, is charged
to whoever sent it. Only the sum over the whole machine is free of that. It has the client's and the servers' work in
it, the same for each candidate, and whatever else the machine was doing.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from netns.bench import readings
from netns.build import Lab
from netns.processes import Resident, living_in

_TICKS = os.sysconf("SC_CLK_TCK")


def balancer_processes(lab: Lab) -> list[Resident]:
    """Every process in the balancer's namespace."""
    return living_in([lab.namespace("lb")])


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds, since some beginning."""

    own: float | None
    """The balancer's processes; None when it has none, the kernel doing it all."""
    machine: float

    @classmethod
    def so_far(cls, lab: Lab) -> Self:
        """Return what has been spent until now."""
        processes = balancer_processes(lab)
        own = sum(readings.process_ticks(_text(f"/proc/{process.pid}/stat")) for process in processes)
        machine = readings.machine_ticks(_text("/proc/stat"))
        return cls(own / _TICKS if processes else None, machine / _TICKS)

    def since(self, earlier: "Spent") -> "Spent":
        """Return what was spent in between."""
        own = None if self.own is None or earlier.own is None else self.own - earlier.own
        return Spent(own, self.machine - earlier.machine)

    def each(self, units: float) -> "Spent":
        """Return it per unit."""
        return Spent(None if self.own is None else self.own / units, self.machine / units)


def resident_kilobytes(lab: Lab) -> float:
    """Return the resident memory of the balancer's processes together, in kB (1000 bytes)."""
    kilobytes = 0
    for process in balancer_processes(lab):
        with contextlib.suppress(OSError):
            kilobytes += readings.kilobytes(_text(f"/proc/{process.pid}/status"), "VmRSS")
    return kilobytes * 1.024


def available_megabytes() -> float:
    """Return the memory of the machine that can still be used, in MB."""
    return readings.kilobytes(_text("/proc/meminfo"), "MemAvailable") * 1024 / 1e6


def _text(path: str) -> str:
    return Path(path).read_text("utf-8", "replace")
