"""How natlb itself is doing: what is measured of the process, and what is known of it."""

import asyncio
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is known of the process at one moment."""

    version: str = ""
    """natlb's own."""
    released: str = ""
    """When that version was made, as 2026/11/26."""
    pid: int = 0
    node: str = ""
    description: str | None = None
    uptime: float = 0.0
    """Seconds since the start."""
    started_at: int = 0
    """When that was: seconds since 1970."""
    descriptors: int = 0
    """The most file descriptors that it may have."""
    resident: int = 0
    """Bytes of memory in use."""
    most_resident: int = 0
    """The most bytes of memory that were in use."""
    tasks: int = 0
    """Tasks of the event loop."""
    active_tasks: int = 0
    """Those of them that run now."""
    idle_percent: int = 100
    octets_per_second: int = 0
    stopping: bool = False
    listeners: int = 0
    """Addresses that it answers at, and stats sockets."""
    dropped_logs: int = 0
    """Log lines that a target did not take."""


class Meter:
    """What is measured from one second to the next: how busy the process is, and how many bytes it carries."""

    def __init__(self, now: float, cpu: float) -> None:
        """Begin; `now` is seconds of a clock, `cpu` those that the process has worked."""
        self._now, self._cpu, self._octets = now, cpu, 0
        self.idle_percent = 100
        self.octets_per_second = 0

    def sample(self, now: float, cpu: float, octets: int) -> None:
        """Take a reading, about once a second; `octets` are the bytes of payload carried so far."""
        elapsed = now - self._now
        if elapsed > 0:
            self.idle_percent = max(0, min(100, round(100 * (1 - (cpu - self._cpu) / elapsed))))
            self.octets_per_second = round((octets - self._octets) / elapsed)
        self._now, self._cpu, self._octets = now, cpu, octets


class Watch:
    """Looks at the process, from the start on."""

    def __init__(
        self,
        node: str,
        description: str | None,
        version: str,
        released: str,
        *,
        listeners: Callable[[], int],
        dropped_logs: Callable[[], int] = lambda: 0,
    ) -> None:
        """Begin now; the arguments are `Vitals`', those that change as what returns them."""
        self._node, self._description = node, description
        self._version, self._released = version, released
        self._listeners, self._dropped_logs = listeners, dropped_logs
        self._started, self._started_at = time.monotonic(), time.time()
        self._meter = Meter(self._started, time.process_time())
        self.is_stopping = False
        """Whether it only waits for the open connections to end."""

    def sample(self, octets: int) -> None:
        """Take a reading, about once a second; `octets` are the bytes of payload carried so far."""
        self._meter.sample(time.monotonic(), time.process_time(), octets)

    def vitals(self) -> Vitals:
        """Say how it is now. To be called in the event loop."""
        resident = int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
        return Vitals(
            version=self._version,
            released=self._released,
            pid=os.getpid(),
            node=self._node,
            description=self._description,
            uptime=time.monotonic() - self._started,
            started_at=int(self._started_at),
            descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            resident=resident,
            # The kernel counts the highest less exactly than the present.
            most_resident=max(resident, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024),
            tasks=len(asyncio.all_tasks()),
            active_tasks=int(asyncio.current_task() is not None),
            idle_percent=self._meter.idle_percent,
            octets_per_second=self._meter.octets_per_second,
            stopping=self.is_stopping,
            listeners=self._listeners(),
            dropped_logs=self._dropped_logs(),
        )
