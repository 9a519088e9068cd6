"""`hash-type map-based`: a map with as many entries as all weights together, and the hash modulo its size.

The map is HAProxy's own, entry by entry, so that a client gets the same server from natlb as it gets from HAProxy with
the same configuration. Each entry goes to a server whose score has grown to it: before every entry all scores grow by
the weights, the server that gets the entry pays the sum of them, and of those that are equally many whole sums above or
below it is the first in the configuration's order. HAProxy looks at every server for every entry. Here each server
stands in a queue by the entry at which it comes a whole sum higher, which gives the same map, a thousand times sooner
for a thousand servers.

A map changes nearly everywhere when a server comes or goes: `consistent` is there for whoever minds.
"""

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from math import gcd
from typing import TYPE_CHECKING

from natlb.core.flow import FlowKey
from natlb.core.schedulers.base import HashOf
from natlb.core.schedulers.tables import FEW, STEPS, TableScheduler

if TYPE_CHECKING:
    from natlb.core.pool import Server


class Map(TableScheduler):
    """HAProxy's map. The weights are those of the configuration: it is made for them."""

    dynamic = False

    def make(
        self, servers: Sequence["Server"], configured: Sequence["Server"], table: list["Server"]
    ) -> Iterator[None]:
        """Fill the table: as many entries as the weights, divided by what divides them all, add up to."""
        divisor = gcd(*(server.initial_weight for server in configured)) or 1
        weights = [-(-server.weight // divisor) for server in servers]
        total = sum(weights)
        # Servers by whole sums above or below, the highest first; and when each will be one higher.
        level = [0] * len(weights)
        ready = [(0, place) for place in range(len(weights))]
        rising = [(-(-total // weight) - 1, place) for place, weight in enumerate(weights)]
        heapify(rising)
        paid = [0] * len(weights)
        if len(weights) > FEW:
            yield
        for entry in range(total):
            while rising[0][0] <= entry:
                _, place = heappop(rising)
                level[place] += 1
                heappush(ready, (-level[place], place))
                heappush(rising, (-(-total * (level[place] + 1 + paid[place]) // weights[place]) - 1, place))
            while -ready[0][0] != level[ready[0][1]]:
                heappop(ready)
            _, place = heappop(ready)
            table.append(servers[place])
            paid[place] += 1
            level[place] -= 1
            heappush(ready, (-level[place], place))
            if entry % STEPS == STEPS - 1:
                yield


class MapBased(Map):
    """Lead what hashes to one number to one server, as long as no server comes or goes."""

    belongs = True

    def __init__(self, hash_of: HashOf) -> None:
        super().__init__()
        self._hash_of = hash_of

    def pick(self, flow: FlowKey, avoid: "Server | None" = None) -> "Server | None":
        """Return the server that the connection belongs to, full or not."""
        return self.at(self._hash_of(flow) % len(self.table), avoid) if self.table else None

    def standings(self, flow: FlowKey) -> Iterator[tuple["Server", str]]:
        """Return whose the entry is that the connection is hashed to."""
        return self.owners(self._hash_of(flow), self._hash_of(flow) % max(1, len(self.table)))
