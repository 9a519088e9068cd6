"""What is counted and timed of each connection, in arrays and not in objects.

A number in Python is an object of its own, 24 bytes and more, and a connection has some two dozen numbers. Kept as
attributes they would make up two thirds of a table of a million connections; kept in arrays of machine words, at the
row that the connection was given, they are what they are: 2, 4 or 8 bytes each.

What comes in pairs, one for each direction, stands at `2 * index + direction`. A row is given back with its connection
and lent again, the one that has been free for longest first, so that what was counted can still be read for a while.
The arrays are as long as the table was at its fullest.
"""

from array import array
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from natlb.core.flow import Connection, Direction

_CHUNK: Final = 1024
"""Rows that the arrays grow by."""


class Ledger:
    """The rows of all connections of one table."""

    __slots__ = (
        "_free",
        "acked",
        "answered",
        "asked",
        "edge",
        "following",
        "octets",
        "offered",
        "opened",
        "packets",
        "refresh_at",
        "retries",
        "shift",
        "size",
    )

    def __init__(self) -> None:
        self.size = 0
        """Rows that there are, lent or not."""
        self._free: deque[int] = deque()
        self.packets = array("Q")
        """Packets, by direction."""
        self.octets = array("Q")
        """Bytes of payload, by direction. What a sender of TCP sends again does not count again."""
        self.following = array("I")
        """TCP, by sender: the sequence number after the last byte that was seen."""
        self.acked = array("I")
        """TCP, by sender: the highest acknowledgement that it sent."""
        self.edge = array("I")
        """TCP, by sender: the right edge of the window that it offers."""
        self.offered = array("B")
        """TCP, by sender: the window scale that its SYN offered (RFC 7323), one higher; 0 if it offered none."""
        self.shift = array("B")
        """TCP, by sender: the window scale in force."""
        self.opened = array("d")
        """When the connection was entered."""
        self.answered = array("d")
        """When the server first answered; below zero while it has not."""
        self.asked = array("d")
        """TCP: when the client sent the SYN that counted last."""
        self.retries = array("B")
        """TCP: how often it has had to send it again, 255 at most."""
        self.refresh_at = array("d")
        """A packet from this time on moves the connection to the young end of its queue."""

    def lend(self, now: float) -> int:
        """Return a row for a new connection, all zero but for the time. MemoryError if there is no room for more."""
        if not self._free:
            self._grow()
        index = self._free.popleft()
        row, peer = 2 * index, 2 * index + 1
        self.packets[row] = self.packets[peer] = self.octets[row] = self.octets[peer] = 0
        self.following[row] = self.following[peer] = self.acked[row] = self.acked[peer] = 0
        self.edge[row] = self.edge[peer] = self.offered[row] = self.offered[peer] = 0
        self.shift[row] = self.shift[peer] = 0
        self.opened[index] = self.asked[index] = now
        self.answered[index] = -1.0
        self.retries[index] = 0
        return index

    def give_back(self, index: int) -> None:
        """Take a row back."""
        self._free.append(index)

    def record(self, connection: "Connection", direction: "Direction", payload: int) -> None:
        """Count one packet of `payload` bytes."""
        row = 2 * connection.index + direction
        self.packets[row] += 1
        self.octets[row] += payload

    def _grow(self) -> None:
        """Make more rows. If memory runs out on the way, no row is lent twice, and the next time goes on from there."""
        first, rows = self.size, self.size + _CHUNK
        for pair in (self.packets, self.octets, self.following, self.acked, self.edge, self.offered, self.shift):
            pair.frombytes(bytes((2 * rows - len(pair)) * pair.itemsize))
        for single in (self.opened, self.answered, self.asked, self.retries, self.refresh_at):
            single.frombytes(bytes((rows - len(single)) * single.itemsize))
        self.size = rows
        self._free.extend(range(first, rows))
