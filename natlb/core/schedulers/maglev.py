"""`hash-type consistent`: when a server comes or goes, hardly any connection moves but those that must.

The table is Maglev's (Eisenbud et al., NSDI 2016, section 3.4). Its size M is a prime. Every server has a permutation
of all M entries of its own, drawn from its name: entry `offset`, then every `skip`-th one further. The servers take
turns, and each takes the first entry of its permutation that nobody has yet, until all are taken. So each has M/N
entries, give or take one, and what decides about an entry is for the most part only which servers there are. When one
of N leaves, its entries go to the others, and a few more change hands because their new owners' turns come sooner:
about one in a hundred, less with a larger M.

A server of half the weight takes half the turns. Names are sorted before, so that the order in which servers came
counts for nothing, and they are hashed by BLAKE2, so that every process on every machine makes the same table.

`hash-balance-factor` bounds what one server may have beside the others (Mirrokni, Thorup and Zadimoghaddam, 2016): a
connection whose server has more than so many percent of its share goes on to the next in the table that has not.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from natlb.core.flow import FlowKey
from natlb.core.schedulers.base import HashOf
from natlb.core.schedulers.tables import PROBES, STEPS, TableScheduler, name_of

if TYPE_CHECKING:
    from natlb.core.pool import Server

SIZES: Final = (65537, 655373)
"""The sizes of a table: both primes, and Maglev's own. A hundred entries for each server keep the shares within 1 %."""

_TURNS_AT_ONCE: Final = 250
"""Servers whose permutations are drawn in one go."""

_SPREAD: Final = 0x9E3779B1
"""Neighbouring hashes, as those of neighbouring addresses, are spread over the table by this: 2 ** 32 over the golden
ratio (Knuth, The Art of Computer Programming, volume 3, section 6.4)."""


class Consistent(TableScheduler):
    """Lead what hashes to one number to one server, as long as that one is there."""

    belongs = True

    def __init__(self, hash_of: HashOf, balance_factor: int = 0) -> None:
        """Hash connections by `hash_of`; `balance_factor` is in percent, above 100, or 0 for no bound."""
        super().__init__()
        self._hash_of = hash_of
        self._factor = balance_factor
        self._loads: dict[Server, int] = {}
        self._load = 0
        self._weight = 0

    def rebuild(self, servers: Sequence["Server"], configured: Sequence["Server"]) -> None:
        """Begin to make the table for these servers anew."""
        super().rebuild(servers, configured)
        self._loads = {server: server.live for server in servers}
        self._load = sum(self._loads.values())
        self._weight = sum(server.share for server in servers)

    def load_changed(self, server: "Server") -> None:
        """Keep count of all connections together."""
        if server in self._loads:
            self._load += server.live - self._loads[server]
            self._loads[server] = server.live

    def make(
        self, servers: Sequence["Server"], configured: Sequence["Server"], table: list["Server"]
    ) -> Iterator[None]:
        """Fill the table: Maglev's population, with weights."""
        if len(servers) < 2:
            table.extend(servers)
            return
        size = next((prime for prime in SIZES if prime >= 100 * len(servers)), SIZES[-1])
        named = sorted(servers, key=name_of)
        heaviest = max(server.share for server in named)
        turns = []
        for place, server in enumerate(named):
            turns.append(_Turns(server, size))
            if place % _TURNS_AT_ONCE == _TURNS_AT_ONCE - 1:
                yield
        taken = bytearray(size)
        table.append(named[0])
        table *= size
        yield
        left, steps = size, 0
        while True:
            for turn in turns:
                turn.credit += turn.share
                if turn.credit < heaviest:
                    continue
                turn.credit -= heaviest
                at, skip = turn.at, turn.skip
                while taken[at]:
                    at = (at + skip) % size
                    steps += 1
                    if steps >= STEPS:  # the last entries are found late
                        steps = 0
                        yield
                taken[at] = 1
                table[at] = turn.server
                turn.at = (at + skip) % size
                left -= 1
                if not left:
                    return
                steps += 6  # so much longer it takes to give an entry than to find one taken
                if steps >= STEPS:
                    steps = 0
                    yield

    def pick(self, flow: FlowKey, avoid: "Server | None" = None) -> "Server | None":
        """Return the server that the connection belongs to, full or not, unless it is above its bound."""
        if not self.usable:
            return None
        place = self._place(flow)
        server = self.at(place, avoid)
        if not self._factor or self._has_room(server):
            return server
        size = len(self.table)
        for each in range(place + 1, place + min(size, PROBES)):
            other = self.table[each % size]
            if other in self.usable and other is not avoid and self._has_room(other):
                return other
        return server

    def standings(self, flow: FlowKey) -> Iterator[tuple["Server", str]]:
        """Return whose the entry is that the connection is hashed to, and who is above the bound."""
        if not self.usable:
            return
        for server, words in self.owners(self._hash_of(flow), self._place(flow)):
            is_above = self._factor and not self._has_room(server)
            yield server, words + (f", above {self._factor} % of its share" if is_above else "")

    def _place(self, flow: FlowKey) -> int:
        return ((self._hash_of(flow) * _SPREAD) & 0xFFFFFFFF) % len(self.table)

    def _has_room(self, server: "Server") -> bool:
        """Whether one more connection leaves a server within its bound: its part of so many percent of all."""
        return server.live * 100 * self._weight < self._factor * (self._load + 1) * server.share


class _Turns:
    """One server while a table is made: its permutation, and how near its next turn is."""

    __slots__ = ("at", "credit", "server", "share", "skip")

    def __init__(self, server: "Server", size: int) -> None:
        digest = blake2b(server.name.encode(), digest_size=16).digest()
        self.server = server
        self.share = server.share
        self.credit = 0
        self.at = int.from_bytes(digest[:8], "big") % size
        self.skip = int.from_bytes(digest[8:], "big") % (size - 1) + 1
