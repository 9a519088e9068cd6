"""A connection that is about to open: all that a rule may look at.

It stands for one packet that would open a connection, while the rules decide about it, and is thrown away afterwards:
nothing of it is kept for the life of a connection. What rules did to stick tables on its behalf is noted here, to be
taken back when the connection has to wait, since the client's next SYN will do all of it again.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from natlb.core.flow import ends

if TYPE_CHECKING:
    from natlb.core.flow import Endpoint, FlowKey
    from natlb.core.pool import Server
    from natlb.core.service import Service
    from natlb.core.stick import Entry
    from natlb.core.waiting import Wait

SLOTS: Final = 3
"""Entries that a connection can be counted in at once, numbered from 0: `sc0` to `sc2`."""


UNCOUNTED: Final[tuple[None, ...]] = (None,) * SLOTS
"""The slots of a connection that no entry counts: all such connections share them."""


class Past(NamedTuple):
    """What a connection that has ended takes along if it goes to another server."""

    counted: "tuple[Entry | None, ...]"
    """The entries of stick tables that have counted it, by slot."""
    waited: "Wait | None"
    """How it has waited for a place; None if it had one at once, or nobody wants to know."""


class Opening:
    """One connection, before it has a server."""

    __slots__ = (
        "client",
        "is_assigned",
        "is_local",
        "is_session",
        "key",
        "now",
        "service",
        "tracked",
        "vip",
        "waited",
        "wanted",
    )

    client: "Endpoint"
    """Where it comes from."""
    vip: "Endpoint"
    """Where the client wants to go."""

    def __init__(self, key: "FlowKey", service: "Service", now: float, is_local: Callable[[bytes], bool]) -> None:
        """Take a packet of tuple `key`, for `service`, at `now`; `is_local` is of an address of this machine."""
        self.key = key
        self.client, self.vip = ends(key)
        self.service = service
        self.now = now
        self.is_local = is_local
        self.is_session = False
        """Whether the rules have let it in."""
        self.tracked: tuple[Entry | None, ...] = UNCOUNTED
        """The entries of stick tables that count this connection, by slot."""
        self.is_assigned = False
        """Whether it belongs to its server by a rule, so that no algorithm was asked."""
        self.wanted: Server | None = None
        """The server that it was to have, whether or not it gets it."""
        self.waited: Wait | None = None
        """How it waited for a place, once that is over."""

    def count_in(self, slot: int, entry: "Entry") -> None:
        """Count the connection in an entry, and remember that."""
        entry.count_connection(self.now)
        self.tracked = (*self.tracked[:slot], entry, *self.tracked[slot + 1 :])

    def follow(self, past: Past) -> None:
        """Go on where this connection left off when it was on its way to another server."""
        self.tracked, self.waited = past
        self.is_session = True
        for entry in self.entries():
            entry.hold(self.now)

    def accept(self) -> None:
        """Count it as a session: the rules have let it in."""
        self.is_session = True
        for entry in self.entries():
            entry.count_session(self.now)

    def take_back(self) -> None:
        """Undo all that was counted: this connection has to wait, and will come again."""
        for entry in self.entries():
            if self.is_session:
                entry.count_session(self.now, -1)
            entry.count_connection(self.now, -1)

    def give_up(self) -> None:
        """End what was begun: this connection was refused, and stays counted as one that was tried."""
        for entry in self.entries():
            entry.release(self.now)

    def entries(self) -> "list[Entry]":
        """Return the entries of stick tables that count this connection."""
        return [] if self.tracked is UNCOUNTED else [entry for entry in self.tracked if entry is not None]
