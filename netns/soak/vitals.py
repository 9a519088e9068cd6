"""natlb's memory, descriptors and threads, as the kernel knows them."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Vitals:
    """Of one process, at one moment."""

    resident: float
    """Memory in MB (10^6 bytes)."""
    descriptors: int
    threads: int

    def at_rest(self, other: "Vitals | None") -> "Vitals":
        """Return the less busy one of two looks: checks of servers, and clients of the stats socket, come and go."""
        if other is None:
            return self
        return Vitals(
            min(self.resident, other.resident),
            min(self.descriptors, other.descriptors),
            min(self.threads, other.threads),
        )

    @classmethod
    def of(cls, pid: int) -> "Vitals | None":
        """Look at a process; None when it has gone."""
        try:
            status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
            descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except OSError:
            return None
        resident, threads = (
            re.search(r"^VmRSS:\s+(\d+) kB$", status, re.M),
            re.search(r"^Threads:\s+(\d+)$", status, re.M),
        )
        if not resident or not threads:  # a process that ends has no memory any more
            return None
        return cls(int(resident[1]) * 1.024 / 1000, descriptors, int(threads[1]))
