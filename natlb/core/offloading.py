"""Connections whose packets are handled elsewhere: what the engine tells a fast path, and what it learns from there.

A packet of an established connection needs no decision. Whoever knows the two tuples can rewrite it, and something in
the kernel does so in a hundredth of the time that it takes here. It keeps a `FlowCache`: of each connection that is
`offloaded`, both tuples and the numbers that the ledger has of it. What it does to a packet is what the engine would
do; what it would have to decide it hands on to the engine, as if it had not been there.

The table is the truth and the cache is a copy of a part of it:

    offered    when the two ends are known to be there: ESTABLISHED of TCP, BOTH_WAYS of UDP
    entered    behind the batch of packets with which it was offered. Others of it may already wait, and those that come
               after them must not overtake them: so it changes over, see below. If it cannot be entered, for want of
               room say, it is offered again about once a second while it is in use.
               A connection of TCP is entered before it is offered, with the server's SYN: at that moment nothing of it
               can wait, since the client has nothing to send and the server may not. So what makes up most packets of
               a short connection never comes here, however many of others wait. But a flood of SYNs has its answers,
               too: where more than a few connections are half-open, or a limit is reached (`natlb.core.patience`),
               they are entered once they are established
    learned    what the packets would have brought about here: counts, sequence numbers, the time of the last one, and
               the moves of the state, since the cache sees FINs and RSTs too
    forgotten  before the connection is ended, shut down or over, so that nothing of it passes by the table

While a connection changes over, the cache passes its packets on, and remembers the last one of each direction by its
`fingerprint`. Here they are handled as ever, and when they are on their way the cache is told which was the last
(`handled`). If it is the same there is none between the two, and the next one is carried. A packet need not come for
that to be right in the end: if one is lost, the one after it will do. The numbers of the window change hands at that
moment, for both directions of TCP at once, and the cache is told of them (`follow_along`) before a segment is on its
way: so nobody can have answered what the cache does not know of yet. Where that moment never comes, the cache loses
patience. Then each direction is its own with the next packet, which overtakes those that are still on their way. Such
a segment has nothing to say that the one ahead of it has not said, and only goes on. One that has was not overtaken:
the cache could not do with it. While one direction is carried and the other still comes here, what the first has said
is learned before anything is made of what the other says, for the two are judged by each other.

Other segments of a connection that is offloaded still come to the engine: those that the cache leaves to it. Then the
connection is withdrawn, the segment decided about as ever, and the connection offered again with the numbers that there
are now. A datagram of UDP has no numbers, and needs none of that.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from natlb.core.enums import Constant
from natlb.core.flow import OFFLOADED, Connection, Direction, FlowKey
from natlb.core.packet import TCP, UDP, PacketView
from natlb.core.states import FINISHED, State
from natlb.core.tcp import TRANSITIONS
from natlb.core.window import Said

if TYPE_CHECKING:
    from natlb.core.table import Table

_OFFERED: Final = frozenset((State.ESTABLISHED, State.CLIENT_FIN, State.SERVER_FIN, State.BOTH_WAYS))
"""The states of connections that both ends have agreed to."""

OFFLOADABLE: Final = _OFFERED | {State.SYN_RECEIVED}
"""The states in which packets are handled elsewhere. In SYN_RECEIVED that is the one by which the client agrees."""

_FINGERPRINTED: Final = 64
"""Bytes of a packet behind its IP header that tell it from others. With ports, sizes, sequence numbers and checksums,
of a datagram it is the first 56 bytes of what it carries: protocols that care for order have numbers there."""
_PRIME: Final = 0xFFFFFFFB
"""The largest prime below 2**32."""

_HALF_OPEN_SHARE: Final = 64
"""Of the half-open connections that a table may have, one in so many makes them too many to be entered."""


class Change(Constant):
    """What it means that a segment of an offloaded connection comes here."""

    UNDER_WAY = "the connection is changing over, and its segments come here behind those that were before them"
    ALONE = "the same, but those of the other direction are carried already"
    OVERTAKEN = "the cache has lost patience, and later segments say the same and more, which it has carried"
    OVER = "the cache could not do with it"


class Report(NamedTuple):
    """What a cache has seen of a connection. Pairs are by direction, or by sender, as in the ledger."""

    packets: tuple[int, int]
    """Packets since the last report about the connection, or since it was entered."""
    octets: tuple[int, int]
    """Bytes of payload since then, as the engine counts them: what is sent again over TCP does not count again."""
    seen: float
    """When the last packet came that is a sign of life, on the engine's clock."""
    state: State
    """What the packets have led to."""
    by: Direction | None
    """The direction of the packet that led to it; None if it is still what the connection was entered with."""
    following: tuple[int, int] = (0, 0)
    acked: tuple[int, int] = (0, 0)
    edge: tuple[int, int] = (0, 0)
    """TCP: the numbers of the window now, see `natlb.core.window`."""
    shift: tuple[int, int] = (0, 0)
    offered: tuple[int, int] = (0, 0)
    """TCP: the window scales, as in the ledger."""
    answered: float = -1.0
    """When the server first answered; below zero while it has not."""
    before: State = State.ESTABLISHED
    """Which state it was that a RST has ended, if one has."""


class Survivor(NamedTuple):
    """A connection that a cache has gone on with while there was no engine."""

    original: FlowKey
    reply: FlowKey
    opened: float
    """When it was opened, on the engine's clock."""
    report: Report
    """What it has come to in all."""


class FlowCache(Protocol):
    """Who handles the packets of connections that need no decision."""

    def misses(self, connection: Connection) -> bool:
        """Whether something is done to the packets of a connection on their way that would be left out here."""

    def enter(self, connection: Connection, *, behind: bool = False) -> bool:
        """Begin to handle a connection's packets, with its state and what stands of it in the ledger.

        `behind` is whether packets of it may be on their way to the engine: then the connection changes over first, and
        its packets are passed on after them. Return False if there is no room; then nothing has changed.
        """

    def change(self, connection: Connection, direction: Direction, said: Said) -> Change:
        """Return how far a connection of TCP is with the segments of a direction, when one comes that says so much."""

    def follow_along(self, connection: Connection) -> None:
        """Take in the numbers of a connection that is changing over, from the ledger."""

    def handled(self, connection: Connection, direction: Direction, packet: int) -> None:
        """Take in that a packet is on its way, which is told by its fingerprint, with all those before it."""

    def forget(self, connection: Connection) -> Report:
        """Handle the packets of a connection that was entered no longer; return the last report about it."""

    def read(self, connection: Connection) -> Report:
        """Return a report about a connection that was entered."""

    def reports(self) -> Iterator[Iterable[tuple[Connection, Report]]]:
        """Go over all connections, a piece at a time: those of which packets came since their last report.

        Between two pieces connections may come and go.
        """

    def ended(self) -> Iterable[Connection]:
        """Return those of which both sides have closed, or one has reset, since the last time. They are still there.

        It is asked before each connection that opens, and must cost next to nothing when there is none.
        """


Way = tuple[tuple[State, Direction], ...]
"""States that follow one another, each with the direction of the segment that leads there."""


def _ways() -> dict[tuple[State, State, Direction], Way]:
    """Return the shortest way from one state to another that ends with a segment of the given direction."""
    steps = sorted(
        {
            (before, after, by)
            for (before, by, _), after in TRANSITIONS.items()
            # A cache leaves all else to the engine that may happen to a connection which is being opened.
            if before is not State.SYN_RECEIVED or after is State.ESTABLISHED
        },
        key=str,
    )
    found: dict[tuple[State, State, Direction], Way] = {}
    ways: list[tuple[State, Way]] = [(before, ((after, by),)) for before, after, by in steps]
    for start, way in ways:  # which grows by longer ones behind all shorter ones
        here, by = way[-1]
        if found.setdefault((start, here, by), way) is way:
            ways += [(start, (*way, (after, then))) for before, after, then in steps if before is here]
    return found


_WAYS: Final = _ways()
_CLOSED_BY: Final = {State.CLIENT_FIN: Direction.ORIGINAL, State.SERVER_FIN: Direction.REPLY}


def _way(here: State, state: State, by: Direction, before: State) -> Way:
    """Return the way from a state to the one that is reported. With a RST, it goes by the FIN that came before."""
    closed_by = _CLOSED_BY.get(before)
    if state is not State.TRANS or closed_by is None or before is here:
        return _WAYS[here, state, by]
    return _WAYS[here, before, closed_by] + _WAYS[before, state, by]


def _beyond(known: Sequence[int], totals: tuple[int, int]) -> tuple[int, int]:
    """Return how much more the totals of both directions are than what is known of them."""
    return max(0, totals[0] - known[0]), max(0, totals[1] - known[1])


def fingerprint(view: PacketView) -> int:
    """Return what tells a packet from others of its flow: a remainder of its identification, its size and its start.

    Who has seen the packet before it was rewritten comes to the same.
    """
    packet, transport, end = view.packet, view.transport, view.end
    identification = packet[4:6] if view.version == 4 else b"\0\0"
    start = packet[transport : min(end, transport + _FINGERPRINTED)]
    told = identification + (end - transport & 0xFFFF).to_bytes(2) + start + bytes(_FINGERPRINTED - len(start))
    return int.from_bytes(told) % _PRIME


class Offloading:
    """The engine's dealings with a cache, if there is one."""

    __slots__ = (
        "_barred",
        "_handled",
        "_is_own",
        "_ledger",
        "_move",
        "_offered",
        "_table",
        "cache",
        "is_open",
        "most_half_open",
        "offloaded",
        "packets",
    )

    def __init__(
        self,
        table: "Table",
        move: Callable[[Connection, State, float, Direction], None],
        is_own: Callable[[bytes], bool],
    ) -> None:
        """Begin without a cache.

        `move` gives a connection its next state, at a time, as the packet of a direction wants it. `is_own` is whether
        an address is this machine's.
        """
        self.cache: FlowCache | None = None
        """None while all packets come to the engine. It is changed only while no connection is offloaded."""
        self.is_open = True
        """Whether connections are offered to it."""
        self.most_half_open = table.half_open_capacity // _HALF_OPEN_SHARE
        """While so many connections are half-open, or fewer, one is entered with the server's answer."""
        self.offloaded = 0
        """Connections whose packets the cache handles."""
        self.packets = 0
        """Packets that were handled there, as far as was learned."""
        self._offered: dict[Connection, None] = {}
        """Connections of the table that are to be entered."""
        self._barred: set[Connection] = set()
        """Connections of the table that are not to be offered."""
        self._handled: dict[tuple[Connection, Direction], int] = {}
        """What was handled of those since the cache was told, the last packet of each direction."""
        self._table = table
        self._ledger = table.ledger
        self._move = move
        self._is_own = is_own

    def offer(self, connection: Connection) -> None:
        """Have a connection entered soon, if its packets may be handled by a cache."""
        if self.cache is not None and self.is_open and not connection.aside and connection.state in _OFFERED:
            self._offered[connection] = None

    def enter_answered(self, connection: Connection) -> None:
        """Have the packets of a connection handled by the cache whose client is about to be sent the server's SYN.

        That it is established is learned with what follows.
        """
        few_are_half_open = self._table.half_open <= self.most_half_open
        if self.is_open and few_are_half_open and not connection.service.logged_early:
            self._enter(connection, behind=False)

    def enter(self) -> None:
        """Have the packets of those that were offered handled by the cache from now on, if they still may be.

        Who finds no room is not asked again before it is offered again.
        """
        while self._offered:
            connection, _ = self._offered.popitem()
            self._enter(connection, behind=True)

    def change(self, connection: Connection, direction: Direction, said: Said, now: float) -> Change:
        """Return why a segment of an offloaded connection comes here that moves no state, and says so much."""
        change = Change.OVER if self.cache is None else self.cache.change(connection, direction, said)
        if change is Change.ALONE:
            self.catch_up(connection, now)
        return change

    def note(self, view: PacketView, connection: Connection, direction: Direction) -> None:
        """Note a packet of a connection that changes over, before it is rewritten."""
        self._handled[connection, direction] = fingerprint(view)
        if connection.original[-1] == TCP and self.cache is not None:
            self.cache.follow_along(connection)

    def tell_handled(self) -> None:
        """Tell the cache what was handled. To be called when that is on its way."""
        cache = self.cache
        for (connection, direction), packet in self._handled.items():
            if cache is not None and connection.offloaded:
                cache.handled(connection, direction, packet)
        self._handled.clear()

    def keep(self, connection: Connection) -> None:
        """Note that a connection's packets are handled by the cache."""
        connection.aside |= OFFLOADED
        self.offloaded += 1

    def catch_up(self, connection: Connection, now: float) -> None:
        """Learn what has become of a connection by now, if it is offloaded."""
        if connection.offloaded and self.cache is not None:
            self.learn(connection, self.cache.read(connection), now)

    def catch_up_all(self, clock: Callable[[], float]) -> Iterator[None]:
        """Learn what has become of all that are offloaded, a piece at a time; between two the table may change."""
        for piece in self.cache.reports() if self.cache is not None else ():
            now = clock()
            for connection, report in piece:
                self.learn(connection, report, now)
            yield

    def is_silent(self, connection: Connection, now: float) -> bool:
        """Whether an offloaded connection has been silent for as long as it may be, with what the cache has seen."""
        self.catch_up(connection, now)
        return self._ledger.refresh_at[connection.index] + connection.queue.timeout <= now

    def withdraw(self, connection: Connection, now: float) -> None:
        """Take a connection's packets back, if it is offloaded, and learn the last about it."""
        if connection.aside & OFFLOADED and self.cache is not None:
            connection.aside &= ~OFFLOADED
            self.offloaded -= 1
            self.learn(connection, self.cache.forget(connection), now)

    def hear(self, now: float) -> None:
        """Learn which connections are over."""
        if self.cache is not None:
            for connection in self.cache.ended():
                self.withdraw(connection, now)

    def learn(self, connection: Connection, report: Report, now: float) -> None:
        """Do what the packets would have done here that a report tells of."""
        ledger, row = self._ledger, 2 * connection.index
        for direction, translation in enumerate(connection.translations):
            packets, octets = report.packets[direction], report.octets[direction]
            ledger.packets[row + direction] += packets
            ledger.octets[row + direction] += octets
            translation.account.packets += packets
            translation.account.octets += octets
            self.packets += packets
        if connection.original[-1] == TCP:
            for sender in (0, 1):  # faster than to go over an enumeration
                ledger.following[row + sender] = report.following[sender]
                ledger.acked[row + sender] = report.acked[sender]
                ledger.edge[row + sender] = report.edge[sender]
        if report.seen >= ledger.refresh_at[connection.index]:
            self._table.refresh(connection, report.seen)
        if report.by is not None and report.state is not connection.state:
            for state, by in _way(connection.state, report.state, report.by, report.before):
                self._move(connection, state, report.seen, by)  # since when it is silent
            if report.state in FINISHED:
                self.withdraw(connection, now)

    def reconcile(self, connection: Connection, report: Report, now: float) -> None:
        """Learn all that a cache has of a connection which the table has from elsewhere, and which is in the cache now.

        What the cache saw is newer than what the table was told, and its numbers are known to the last packet.
        """
        ledger, row = self._ledger, 2 * connection.index
        for sender in (0, 1):
            ledger.offered[row + sender] = report.offered[sender]
            ledger.shift[row + sender] = report.shift[sender]
        if report.answered >= 0:
            ledger.answered[connection.index] = report.answered
        packets = _beyond(ledger.packets[row : row + 2], report.packets)
        octets = _beyond(ledger.octets[row : row + 2], report.octets)
        connection.aside = 0
        self.keep(connection)
        if report.state is not connection.state:
            self._move(connection, report.state, report.seen, report.by or Direction.ORIGINAL)
        self.learn(connection, report._replace(packets=packets, octets=octets), now)
        if report.state in FINISHED:
            self.withdraw(connection, now)

    def bar(self, connection: Connection, now: float) -> None:
        """Take a connection's packets back for good."""
        self.withdraw(connection, now)
        self._barred.add(connection)

    def forget(self, connection: Connection, now: float) -> None:
        """Take the packets of a connection back that is about to leave the table."""
        self.withdraw(connection, now)
        self._offered.pop(connection, None)
        self._barred.discard(connection)

    def retreat(self, among: Iterable[Connection], now: float) -> None:
        """Take all of these back."""
        for connection in among:
            self.withdraw(connection, now)

    def retreat_from_servers_away(self, among: Iterable[Connection], now: float) -> None:
        """Take those flows of UDP back that the client's next datagram leads to another server."""
        for connection in among:
            if connection.original[-1] == UDP and connection.server.away:
                self.withdraw(connection, now)

    def _enter(self, connection: Connection, *, behind: bool) -> None:
        cache = self.cache
        if cache is None or not self._may_be_offloaded(connection):
            return
        if cache.misses(connection):
            self._barred.add(connection)
        elif cache.enter(connection, behind=behind):
            self.keep(connection)

    def _may_be_offloaded(self, connection: Connection) -> bool:
        """Whether the packets of a connection need no decision, and come in from outside."""
        if connection.state not in OFFLOADABLE or connection.aside or connection in self._barred:
            return False
        service, original, reply = connection.service, connection.original, connection.reply
        if original[-1] == UDP and (
            # Each datagram may be the last of such a flow.
            service.requests is not None or service.responses is not None or connection.server.away
        ):
            return False
        size = 4 if len(original) == 13 else 16
        return not (self._is_own(original[:size]) or self._is_own(reply[:size]))
