"""Source ports for full NAT: which are free, in constant time, however many are taken.

`Lender` is what the engine speaks to.

A port needs to be unique only towards one server: the 5-tuple of the answers must name one connection. So there is one
`PortPool` for each source address with its ports and each server endpoint, made when it is first needed and forgotten
when it is whole again. Two services may lead to one endpoint from one address and have different ports for it: each has
its pool, and where their ports overlap, whoever comes second finds the tuple taken.

The ports of a pool stand in a row, the free ones before the taken ones. Taking one swaps it with the last free one and
moves the border; giving it back swaps it with the first taken one. The row is as good as sorted while little is taken,
so only what stands out of place is remembered: a pool of 64,000 ports with ten taken costs some ten entries at first,
and grows with use until it is whole again.
This is the shuffle of Fisher and Yates, kept sparse.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from natlb.core.flow import Endpoint, FlowKey, ends, flow_key

if TYPE_CHECKING:
    from natlb.core.flow import Connection

LOWEST_PORT: Final = 1024
"""Full NAT never speaks from a well-known port unless told to: servers may take those for privileged."""


class PortRanges:
    """The ports that may be used from an address: whole ranges, as one row."""

    __slots__ = ("_ranges", "count")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ((LOWEST_PORT, 65535),)) -> None:
        """Take `ranges` of ports, each first and last, that do not overlap."""
        made: list[tuple[int, int, int]] = []
        self.count = 0
        """How many ports there are."""
        for first, last in ranges:
            made.append((first, last, self.count))
            self.count += last - first + 1
        self._ranges: Final = tuple(made)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PortRanges) and self._ranges == other._ranges

    def __hash__(self) -> int:
        return hash(self._ranges)

    def place(self, port: int) -> int | None:
        """Return where in the row a port stands, or None if it may not be used."""
        return next((start + port - first for first, last, start in self._ranges if first <= port <= last), None)

    def port(self, place: int) -> int:
        """Return the port at a place of the row."""
        return next(first + place - start for first, last, start in self._ranges if place - start <= last - first)


ANY_PORT: Final = PortRanges()
"""The ports of an address of which nothing else is said."""


@dataclass(frozen=True, slots=True)
class Source:
    """An address that full NAT speaks from, and the ports to use there."""

    address: bytes
    """4 or 16 bytes."""
    ranges: PortRanges


def last(free: int) -> int:
    """Pick the last of so many free ports: the choice where nothing random was handed in."""
    return free - 1


class PortPool:
    """The ports of one source address towards one server endpoint."""

    __slots__ = ("_at", "_choose", "_free", "_place_of", "_ranges", "finished")

    def __init__(self, ranges: PortRanges, choose: Callable[[int], int] = last) -> None:
        """Begin with all ports of `ranges` free; `choose(n)` picks one of n, by its number from 0."""
        self._ranges: Final = ranges
        self._choose = choose
        self._free = ranges.count
        self._at: dict[int, int] = {}  # place in the row -> which port's number (counted in the row), if not its own
        self._place_of: dict[int, int] = {}  # the other way round
        self.finished: OrderedDict[Connection, None] = OrderedDict()
        """Connections that are over and still hold their port, in the order in which they ended."""

    @property
    def whole(self) -> bool:
        """Whether no port is taken."""
        return self._free == self._ranges.count

    def has_lent(self, port: int) -> bool:
        """Whether a port is taken from here."""
        number = self._ranges.place(port)
        return number is not None and self._place_of.get(number, number) >= self._free

    def take(self, wanted: int) -> int | None:
        """Take the wanted port if it is free, else any; return it, or None when all are taken."""
        number = self._ranges.place(wanted)
        if number is None or self._place_of.get(number, number) >= self._free:
            if not self._free:
                return None
            place = self._choose(self._free)
            number = self._at.get(place, place)
        self._free -= 1
        self._swap(self._place_of.get(number, number), self._free)
        return self._ranges.port(number)

    def give_back(self, port: int) -> None:
        """Make a taken port free again."""
        number = self._ranges.place(port)
        if number is not None and (place := self._place_of.get(number, number)) >= self._free:
            self._swap(place, self._free)
            self._free += 1

    def _swap(self, one: int, other: int) -> None:
        at_one, at_other = self._at.get(one, one), self._at.get(other, other)
        self._put(one, at_other)
        self._put(other, at_one)

    def _put(self, place: int, number: int) -> None:
        if place == number:
            self._at.pop(place, None)
            self._place_of.pop(number, None)
        else:
            self._at[place] = number
            self._place_of[number] = place


_PORTS_TRIED: Final = 16
"""How many ports are tried that turn out to be in use by connections that need no full NAT."""


class Lender:
    """The pools of all source addresses and server endpoints in use."""

    def __init__(self, choose: Callable[[int], int] = last) -> None:
        """Begin with nothing lent; `choose(n)` picks one of n free ports where the wanted one is not to be had.

        It should be random, so that nobody can guess the port of another's connection (RFC 6056).
        """
        self._choose = choose
        self.expected: int | None = None
        """The port to try first, where it is known which one is to be lent next; None is the client's own."""
        self._pools: dict[bytes, dict[PortRanges, PortPool]] = {}
        self.lent = 0
        """Ports that are lent now."""

    def __len__(self) -> int:
        """Pools of which a port is lent."""
        return sum(map(len, self._pools.values()))

    def lend(
        self, source: Source, server: Endpoint, client: Endpoint, protocol: int, is_free: Callable[[FlowKey], bool]
    ) -> FlowKey | None:
        """Return the tuple of a server's answers to a port that was lent: what is expected, or the client's, if free.

        None when no port is to be had. `is_free` says whether nobody else has a tuple.
        """
        name = _name(flow_key(server, (source.address, b"\0\0"), protocol))
        pools = self._pools.setdefault(name, {})
        pool = pools.get(source.ranges)
        if pool is None:
            pool = pools[source.ranges] = PortPool(source.ranges, self._choose)
        wanted = int.from_bytes(client[1], "big") if self.expected is None else self.expected
        in_use: list[int] = []
        found = None
        while found is None and len(in_use) < _PORTS_TRIED and (port := pool.take(wanted)) is not None:
            key = flow_key(server, (source.address, port.to_bytes(2, "big")), protocol)
            if is_free(key):
                found = key
            else:
                in_use.append(port)
        for port in in_use:
            pool.give_back(port)
        self._tidy(name, source.ranges)
        self.lent += found is not None
        return found

    def claim(self, source: Source, reply: FlowKey) -> bool:
        """Lend the very port that a connection has already, by the tuple of its answers; return whether it was free."""
        server, client = ends(reply)
        return self.lend(source, server, client, reply[-1], lambda key: key == reply) == reply

    def give_back(self, connection: "Connection") -> None:
        """Take back what was lent to a connection."""
        self._lent_from(connection.reply)[1].finished.pop(connection, None)
        self.take_back(connection.reply)

    def take_back(self, reply: FlowKey) -> None:
        """Take back what was lent to a tuple that no connection has, or that of one that is not over."""
        ranges, pool = self._lent_from(reply)
        pool.give_back(_port(reply))
        self.lent -= 1
        self._tidy(_name(reply), ranges)

    def retire(self, connection: "Connection") -> None:
        """Note that a connection is over: its port is lent on only when there is no other."""
        self._lent_from(connection.reply)[1].finished[connection] = None

    def revive(self, connection: "Connection") -> None:
        """Note that a connection goes on after all."""
        del self._lent_from(connection.reply)[1].finished[connection]

    def retired(self, source: Source, server: Endpoint, protocol: int) -> "Connection | None":
        """Return the connection that has been over for longest of those that hold such a port, or None."""
        pools = self._pools.get(_name(flow_key(server, (source.address, b"\0\0"), protocol)), {})
        own_first = sorted(pools, key=lambda ranges: ranges != source.ranges)
        over = (next(iter(pools[ranges].finished), None) for ranges in own_first)
        return next((each for each in over if each and source.ranges.place(_port(each.reply)) is not None), None)

    def _lent_from(self, reply: FlowKey) -> tuple[PortRanges, PortPool]:
        """Return the pool of a tuple's port: no other has lent it, since it is in this tuple."""
        pools, port = self._pools[_name(reply)], _port(reply)
        return next((ranges, pool) for ranges, pool in pools.items() if pool.has_lent(port))

    def _tidy(self, name: bytes, ranges: PortRanges) -> None:
        """Forget a pool of which nothing is lent."""
        pools = self._pools[name]
        if pools[ranges].whole:
            del pools[ranges]
        if not pools:
            del self._pools[name]


def _port(reply: FlowKey) -> int:
    """Return the port that was lent, by the tuple of the answers to it."""
    return int.from_bytes(ends(reply)[1][1], "big")


def _name(reply: FlowKey) -> bytes:
    """Return what an answer's tuple has in common with all of its pool: everything but the port that was lent."""
    return reply[:-3] + reply[-1:]
