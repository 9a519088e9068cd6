"""What waits in queues of the kernel, and what did not get in: the kernel's own count, of every packet.

A packet gets lost before natlb sees it where either of two is full. One is the queue: packets wait there until they
have their verdicts. The other is the buffer of the socket, in bytes: copies of packets wait there to be fetched. What
follows from that is the sender's matter, as with any router that is full; but it is to be seen.

/proc/net/netfilter/nfnetlink_queue has a line for each queue: its number, who holds it, how many packets wait, how
packets are copied and how much of them, the packets lost by either (`queue_dropped`, `user_dropped`), the number of the
last packet. Only root may open it, so it is opened while we are that.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_QUEUES: Final = Path("/proc/self/net/netfilter/nfnetlink_queue")
"""Of the network namespace of the process that opens it, whatever becomes of that."""
_NUMBER, _WAITING, _QUEUE_DROPPED, _USER_DROPPED = 0, 2, 5, 6
_MOST_READ: Final = 1 << 16
_COUNTERS_END: Final = 0xFFFFFFFF
"""The kernel counts with 32 bits."""


class Backlog:
    """The state of some queues together, as of the last `look`."""

    def __init__(self, numbers: Sequence[int], queues: Path = _QUEUES, *, inherited: bool = False) -> None:
        """Look at these queues; of those that are `inherited`, the natlb before has counted what was lost so far."""
        self.waiting = 0
        """Packets that have no verdict yet."""
        self.queue_full = 0
        """Packets lost because too many waited."""
        self.socket_full = 0
        """Packets lost because those in the socket took too many bytes."""
        self._seen = dict.fromkeys(numbers, (0, 0))
        self._file: int | None = None
        with contextlib.suppress(OSError):  # where there is none, nothing is known to be lost
            self._file = os.open(queues, os.O_RDONLY | os.O_CLOEXEC)
        if inherited:
            self.look()
            self.waiting = self.queue_full = self.socket_full = 0

    def look(self) -> None:
        """Read the kernel's counters."""
        if self._file is None:
            return
        self.waiting = 0
        for line in os.pread(self._file, _MOST_READ, 0).splitlines():
            words = [int(word) for word in line.split()]
            seen = self._seen.get(words[_NUMBER])
            if seen is not None:
                self.waiting += words[_WAITING]
                self.queue_full += words[_QUEUE_DROPPED] - seen[0] & _COUNTERS_END
                self.socket_full += words[_USER_DROPPED] - seen[1] & _COUNTERS_END
                self._seen[words[_NUMBER]] = words[_QUEUE_DROPPED], words[_USER_DROPPED]

    def close(self) -> None:
        """Look no more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
