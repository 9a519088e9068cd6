"""What is counted of packets before and after the engine has them, and who is told of it.

The engine counts for itself, and so does each of the others: the kernel's queues, the socket that packets come from and
the one that natlb's own go to, the guard of the rules, the log of connections. Here that comes together: by name for
the Runtime API, beside the engine's for a scrape, and in the log when packets were lost.
"""

from natlb import __version__
from natlb.assembly import Assembly
from natlb.datapath.backlog import Backlog
from natlb.datapath.guard import Guard
from natlb.datapath.injector import Injector
from natlb.datapath.nfqueue import PacketQueue
from natlb.log import log
from natlb.logs.sender import Sender
from natlb.metrics.families import Checks, Offloader, Sources
from natlb.metrics.timing import LoopLag, Stopwatch


class Counts:
    """The counts of one natlb."""

    def __init__(
        self, packets: PacketQueue, backlog: Backlog, injector: Injector, guard: Guard, log_lines: Sender | None
    ) -> None:
        """`log_lines` is None where nothing is logged."""
        self._packets = packets
        self._backlog = backlog
        self._injector = injector
        self._guard = guard
        self._log_lines = log_lines
        self._told = (0, 0)
        """Of the packets that were lost, those that have been told of."""

    def by_name(self) -> dict[str, int]:
        """Return all of it, as the Runtime API names it."""
        packets, backlog, log_lines = self._packets, self._backlog, self._log_lines
        backlog.look()
        return {
            "packets": packets.delivered,
            "queue_waiting": backlog.waiting,
            "queue_full": backlog.queue_full,
            "socket_full": backlog.socket_full,
            "verdicts_refused": packets.refused,
            "messages_unreadable": packets.unreadable,
            "failures": packets.failures,
            "unsendable": self._injector.failures,
            "rules_repaired": self._guard.repaired,
            "log_lines": log_lines.sent if log_lines else 0,
            "log_lines_dropped": log_lines.dropped if log_lines else 0,
        }

    def sources(
        self, made: Assembly, checks: Checks, offloader: Offloader, stopwatch: Stopwatch, lag: LoopLag
    ) -> Sources:
        """Return where metrics are read: here, in the engine, and by what is measured for them alone."""
        return Sources(
            __version__,
            made.engine,
            made.services,
            made.pools,
            self._packets,
            self._backlog,
            self._injector,
            checks,
            self._log_lines,
            stopwatch.seconds,
            lag.seconds,
            offloader,
            self._guard,
        )

    def tell_of_losses(self) -> None:
        """Look what the kernel has lost since the last time, and tell of it in the log."""
        self._backlog.look()
        before, self._told = self._told, (self._backlog.queue_full, self._backlog.socket_full)
        queue_full, socket_full = (now - then for now, then in zip(self._told, before, strict=True))
        if queue_full or socket_full:
            log.warning(
                "%d packets were lost because more came than natlb can take: the queue was full for %d of them, "
                "the socket for %d.",
                queue_full + socket_full,
                queue_full,
                socket_full,
            )
