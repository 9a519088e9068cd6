"""Which connection has been silent longest, without looking at the others.

All connections that share one timeout stand in one queue, oldest activity first. Activity moves a connection to the
young end, so the first one is always the next to expire and the best one to give up when room is needed. Entering,
moving, leaving and finding the next deadline are constant work, whether the queue holds ten or a million.

Moving on every packet would be wasted work: a connection moves at most once per `granularity`, an eighth of the
timeout and never over a second. A connection therefore expires between `timeout` and `timeout + granularity` after
its last packet, and never early.
"""

from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from natlb.core.flow import Connection


class IdleQueue:
    """The connections that may be silent for `timeout` seconds, in the order of their last activity.

    A doubly linked list through the connections themselves (`older`, `newer`): the queue is its own sentinel.
    """

    __slots__ = ("_refresh_at", "granularity", "newer", "older", "size", "timeout")

    def __init__(self, timeout: float, refresh_at: "array[float]") -> None:
        """Make a queue; `refresh_at` is the ledger's: when each connection, by its index, is to be moved next."""
        self.timeout: Final = timeout
        self.granularity: Final = min(1.0, timeout / 8)
        self.size = 0
        self._refresh_at = refresh_at
        # A link is a connection or, at both ends, this queue.
        self.newer: Any = self
        self.older: Any = self

    def add(self, connection: "Connection", now: float) -> None:
        """Enter a connection that is in no queue, as the youngest."""
        connection.queue = self
        self._refresh_at[connection.index] = now + self.granularity
        connection.older = youngest = self.older
        connection.newer = self
        youngest.newer = self.older = connection
        self.size += 1

    def put_in_order(self, connection: "Connection") -> None:
        """Move a connection that was entered last to its place, before those that were heard later."""
        heard = self._refresh_at
        older = was_older = connection.older
        while older is not self and heard[older.index] > heard[connection.index]:
            older = older.older
        if older is not was_older:
            self.remove(connection)
            self.size += 1
            connection.older, connection.newer = older, older.newer
            older.newer.older = older.newer = connection

    def remove(self, connection: "Connection") -> None:
        """Take a connection out of this queue."""
        older, newer = connection.older, connection.newer
        older.newer = newer
        newer.older = older
        connection.older = connection.newer = None
        self.size -= 1

    def oldest(self) -> "Connection | None":
        """Return the connection that has been silent longest, or None if there is none."""
        return None if self.newer is self else cast("Connection", self.newer)

    def seen(self, connection: "Connection") -> float:
        """Return when a packet of a connection in this queue was last noticed, within the granularity."""
        return self._refresh_at[connection.index] - self.granularity

    def deadline(self) -> float | None:
        """Return when the oldest connection expires, or None if there is none."""
        oldest = self.oldest()
        return None if oldest is None else self._refresh_at[oldest.index] + self.timeout

    def overdue(self, now: float) -> "Connection | None":
        """Return the oldest connection if its deadline has come, or None."""
        deadline = self.deadline()
        return self.oldest() if deadline is not None and deadline <= now else None

    def __iter__(self) -> Iterator["Connection"]:
        """Go from the oldest to the youngest; the connection just handed out may be removed meanwhile."""
        link = self.newer
        while link is not self:
            following = link.newer
            yield link
            link = following

    def __reversed__(self) -> Iterator["Connection"]:
        """Go from the youngest to the oldest; nothing may change meanwhile."""
        link = self.older
        while link is not self:
            yield link
            link = link.older
