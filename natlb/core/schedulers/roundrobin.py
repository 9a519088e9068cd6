"""`balance roundrobin` and `balance static-rr`: the servers take turns, in proportion to their weights.

Servers of one weight take plain turns, in the order of the configuration. Groups of different weights take turns by
smooth round robin: before each pick the credit of every group grows by the weight of all its servers together, the
group with the most credit is picked, and pays the sum of all weights for it. After as many picks as that sum, each
server has been picked as often as its weight says and all credits are back at zero. A server of weight 3 beside two of
weight 1 comes every other time and not three times in a row. The arithmetic is whole numbers, so it is exact for ever.
nginx made the method known; the groups make a pick among a thousand servers as quick as among two.

A server that is full loses its turns, and its weight counts for nothing until it has room.

`static-rr` walks along a map that is made once for all weights, HAProxy's own, so they cannot change while it runs.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from natlb.core.flow import FlowKey
from natlb.core.schedulers.base import Scheduler
from natlb.core.schedulers.mapbased import Map

if TYPE_CHECKING:
    from natlb.core.pool import Server


class _Group:
    """The servers of one weight."""

    __slots__ = ("credit", "following", "full", "last", "servers", "share", "weight")

    def __init__(self, servers: list["Server"], share: int) -> None:
        self.servers = servers
        self.share = share
        """The weight of each."""
        self.weight = share * len(servers)
        """Of all together."""
        self.full = {server for server in servers if server.full}
        """Those that had no room when their load changed last."""
        self.credit = 0
        self.following = 0
        """The place of the one whose turn is next."""
        self.last: Server | None = None
        """The one that had the last turn."""

    def free(self, avoid: "Server | None") -> int | None:
        """Return the place of the next server that has room; None if none has."""
        servers, following = self.servers, self.following
        server = servers[following]
        if not server.full and server is not avoid:
            return following
        size = len(servers)
        for place in range(following + 1, following + size):
            server = servers[place % size]
            if not server.full and server is not avoid:
                return place % size
        return None

    def take(self, place: int) -> "Server":
        """Give the turn to the server at a place; return it."""
        self.following = (place + 1) % len(self.servers)
        self.last = self.servers[place]
        return self.last


class RoundRobin(Scheduler):
    """Turns in proportion to the weights of the moment."""

    rotates = True

    def __init__(self) -> None:
        self._groups: list[_Group] = []
        self._of: dict[Server, _Group] = {}

    def rebuild(self, servers: Sequence["Server"], configured: Sequence["Server"]) -> None:
        """Take up the given servers and their weights.

        A weight that stays is as near to its next turn as before, and the order within it goes on where it was; a new
        weight enters in the middle of the others.
        """
        by_share: dict[int, list[Server]] = {}
        for server in servers:
            by_share.setdefault(server.share, []).append(server)
        known = {group.share: group for group in self._groups}
        before = sum(group.weight for group in self._groups)
        total = sum(share * len(members) for share, members in by_share.items())
        # A credit is counted in shares of the total: the same distance to the next turn is another number now.
        kept = {share: known[share].credit * total // before for share in by_share.keys() & known.keys()}
        middle = sum(kept.values()) // len(kept) if kept else 0
        order = {server: place for place, server in enumerate(configured)}
        self._groups = []
        for share, members in by_share.items():
            group = _Group(members, share)
            group.credit = kept.get(share, middle) - middle
            group.last = known[share].last if share in known else None
            if group.last in order:
                at = order[group.last]
                group.following = bisect_right([order[member] for member in members], at) % len(members)
            self._groups.append(group)
        self._of = {server: group for group in self._groups for server in group.servers}

    def pick(self, flow: FlowKey, avoid: "Server | None" = None) -> "Server | None":
        """Return the server whose turn it is, and let its group pay for it."""
        if len(self._groups) == 1 and avoid is None:
            [group] = self._groups
            place = group.free(None)
            return None if place is None else group.take(place)
        free = [(group, place) for group in self._groups if (place := group.free(avoid)) is not None]
        if not free:
            return None if avoid is None else self.pick(flow)
        total = 0
        for group, _ in free:
            weight = group.share * max(1, len(group.servers) - len(group.full))
            group.credit += weight
            total += weight
        group, place = max(free, key=_credit)  # of equals the first in the configuration
        group.credit -= total
        return group.take(place)

    def standings(self, flow: FlowKey) -> Iterator[tuple["Server", str]]:
        """Return how far each server is from its turn among those of its weight, and what credit that weight has."""
        for group in self._groups:
            size = len(group.servers)
            credit = ""
            if len(self._groups) > 1:
                own = group.credit + group.share * max(1, size - len(group.full))
                credit = f", weight {group.servers[0].effective_weight} has a credit of {own}"
            for place, server in enumerate(group.servers):
                turns = (place - group.following) % size
                yield server, ("its turn is next" if not turns else f"its turn comes {turns} later") + credit

    def load_changed(self, server: "Server") -> None:
        """Note whether a server has room."""
        group = self._of.get(server)
        if group is None or (server.maxconn is None and not group.full):
            return
        if server.full:
            group.full.add(server)
        else:
            group.full.discard(server)


def _credit(turn: tuple[_Group, int]) -> int:
    return turn[0].credit


class StaticRoundRobin(Map):
    """Turns in proportion to the weights of the configuration."""

    rotates = True

    def __init__(self) -> None:
        super().__init__()
        self._next = 0

    def pick(self, flow: FlowKey, avoid: "Server | None" = None) -> "Server | None":
        """Return the next server of the map that has room."""
        size = len(self.table)
        avoided = None
        for place in range(self._next, self._next + size):
            server = self.table[place % size]
            if server not in self.usable or server.full:
                continue
            if server is not avoid:
                self._next = (place + 1) % size
                return server
            avoided = server
        return avoided

    def standings(self, flow: FlowKey) -> Iterator[tuple["Server", str]]:
        """Return how far each server is from its next turn in the map."""
        size = len(self.table)
        first: dict[Server, int] = {}
        for turns in range(size):
            first.setdefault(self.table[(self._next + turns) % size], turns)
        for server, turns in first.items():
            if server in self.usable:
                yield server, f"its turn comes {turns} later" if turns else "its turn is next"
