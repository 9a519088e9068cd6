"""Schedulers that look a connection up in a table of servers, and how the table is replaced.

A table is made by a generator that stops every thousand steps or so. The first of its pieces is done at once where
servers are few, which is enough for small tables; the others are left to `work`. The old table serves meanwhile, less
the servers that have gone: what leads to one of those goes on to the next entry that leads to another. Where the old
one has no server that may still be used, the servers themselves, each once, are the table until the new one is whole.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from natlb.core.schedulers.base import Scheduler

if TYPE_CHECKING:
    from natlb.core.pool import Server

STEPS: Final = 1000
"""How many steps of making a table are done in one go: a millisecond."""

FEW: Final = 64
"""So many servers are few."""

PROBES: Final = 100
"""How many entries are looked at for a server that will do, before one is taken by its name: a table that is old may
have none."""


def name_of(server: "Server") -> str:
    """Return what servers are sorted by where their order must not count."""
    return server.name


class TableScheduler(Scheduler):
    """A table, and the next one in the making."""

    def __init__(self) -> None:
        self.table: list[Server] = []
        """The table that serves."""
        self.usable: frozenset[Server] = frozenset()
        """The servers that may get connections now; the table may be older and have others."""
        self._made: list[Server] = []
        self._shares: dict[Server, int] = {}
        self._known: frozenset[Server] = frozenset()
        """The servers that the table was made for."""
        self._by_name: list[Server] = []
        """The usable servers by name, once that was needed."""
        self._making: Iterator[None] | None = None

    def rebuild(self, servers: Sequence["Server"], configured: Sequence["Server"]) -> None:
        """Begin to make the table for these servers anew, unless nothing has changed about them."""
        shares = {server: server.share for server in servers}
        if shares == self._shares:
            return
        self._shares = shares
        self.usable = frozenset(servers)
        self._by_name = []
        if self.usable.isdisjoint(self._known):
            self.table = self._by_name = sorted(servers, key=name_of)
            self._known = self.usable
        self._made = []
        self._making = self.make(servers, configured, self._made)
        if len(servers) <= FEW:
            self.work()

    def work(self) -> bool:
        """Go on making the table; take it into service when it is whole."""
        if self._making is None:
            return False
        for _ in self._making:
            return True
        self.table, self._made, self._making = self._made, [], None
        self._known = self.usable
        return False

    @abstractmethod
    def make(
        self, servers: Sequence["Server"], configured: Sequence["Server"], table: list["Server"]
    ) -> Iterator[None]:
        """Fill the empty `table`; stop for breath every `STEPS` steps."""

    def at(self, place: int, avoid: "Server | None") -> "Server":
        """Return the server at a place of the table, or the next behind it that is usable, and not to be avoided.

        The table must have entries; a server is usable then. If the one to be avoided is the only one, it is returned.
        """
        table, usable = self.table, self.usable
        size = len(table)
        for each in range(place, place + min(size, PROBES)):
            server = table[each % size]
            if server in usable and server is not avoid:
                return server
        self._by_name = others = self._by_name or sorted(usable, key=name_of)
        other = others[place % len(others)]
        return others[(place + 1) % len(others)] if other is avoid else other

    def owners(self, hashed: int, place: int) -> Iterator[tuple["Server", str]]:
        """Return in words, for each server, whose the entry is that a hash leads to."""
        if not self.table:
            return
        owner = self.at(place, None)
        for server in sorted(self.usable, key=name_of):
            whose = "its own" if server is owner else f"{owner.name}'s"
            yield server, f"entry {place} of {len(self.table)} (hash {hashed:#010x}) is {whose}"
