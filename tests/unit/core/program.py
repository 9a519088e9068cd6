"""What a fast path does to packets, on one page: the specification that the kernel's program and the engine share.

`Program` is a cache (`natlb.core.offloading.FlowCache`), and it is what stands in front of the engine:

    packet = program.carry(packet, now)      it has been handled, or is None: then the engine sees it

A connection that is entered behind its packets waits for them: of each direction it remembers the last one that it has
passed on, whole, and is told by its fingerprint which one has been handled. With no patience it does not wait.

It is written another way than the engine, on purpose: a connection is a small record of its own, sequence numbers are
compared as distances with a sign, and a state is the sides that have closed. What leaves is made by scapy.
"""

from dataclasses import dataclass

from natlb.core.flow import Connection, Direction
from natlb.core.ledger import Ledger
from natlb.core.offloading import Change, Report, fingerprint
from natlb.core.packet import PacketView
from natlb.core.states import State
from natlb.core.window import Said
from tests.unit.core import oracle, wire
from tests.unit.core.packets import ACK, FIN, RST, SYN, TCP, UDP, URG, ends

DATA, CLOSES, RESETS = {ACK, ACK | URG}, {FIN | ACK, FIN | ACK | URG}, {RST, RST | ACK}
CLOSED_BY = {State.CLIENT_FIN: [Direction.ORIGINAL], State.SERVER_FIN: [Direction.REPLY]}


@dataclass
class Side:
    """What the sender of one direction has said, and how much of it."""

    following: int
    acked: int
    edge: int
    shift: int
    packets: int = 0
    octets: int = 0
    passed: bytes | None = None
    """The last packet that was passed on while the connection changed over."""
    handled: int | None = None
    """The fingerprint of the last one that was handled."""


@dataclass
class Row:
    """One connection."""

    connection: Connection
    sides: tuple[Side, Side]
    closed_by: list[Direction]
    seen: float
    half_open: bool = False
    reset: bool = False
    by: Direction | None = None
    before: State = State.ESTABLISHED
    waiting: frozenset[Direction] = frozenset()
    """The directions whose packets are passed on."""
    since: float | None = None
    overtook: bool = False


class Program:
    """Both the map and who uses it. `room` is how many connections it takes.

    `patience` is for how many seconds one waits that is entered behind its packets, from the first that comes.
    """

    def __init__(self, ledger: Ledger, room: int = 1000, patience: float = 0.0) -> None:
        self.ledger = ledger
        self.room = room
        self.patience = patience
        self.misses_all = False
        """Whether somebody else does something to the packets as well."""
        self.carried = 0
        """Packets."""
        self.rows: dict[Connection, Row] = {}
        self.flows: dict[bytes, tuple[Row, Direction]] = {}
        self.over: list[Connection] = []

    # What the engine asks of a cache

    def misses(self, connection: Connection) -> bool:
        return self.misses_all

    def enter(self, connection: Connection, *, behind: bool = False) -> bool:
        ledger = self.ledger
        assert connection not in self.rows
        assert connection.state in {State.BOTH_WAYS, State.SYN_RECEIVED, State.ESTABLISHED, *CLOSED_BY}
        if len(self.rows) == self.room:
            return False
        sides = [
            Side(ledger.following[at], ledger.acked[at], ledger.edge[at], ledger.shift[at])
            for at in (2 * connection.index, 2 * connection.index + 1)
        ]
        row = Row(
            connection,
            (sides[0], sides[1]),
            list(CLOSED_BY.get(connection.state, ())),
            ledger.opened[connection.index],
            half_open=connection.state is State.SYN_RECEIVED,
            waiting=frozenset(Direction if behind and self.patience else ()),
        )
        self.rows[connection] = row
        self.flows[connection.original] = row, Direction.ORIGINAL
        self.flows[connection.reply] = row, Direction.REPLY
        return True

    def change(self, connection: Connection, direction: Direction, said: Said) -> Change:
        row = self.rows[connection]
        if direction in row.waiting:
            return Change.UNDER_WAY if row.waiting == set(Direction) else Change.ALONE
        side = row.sides[direction]
        known = side.following, side.acked, side.edge
        is_known = all(ahead(number, before) <= 0 for number, before in zip(said, known, strict=True))
        return Change.OVERTAKEN if row.overtook and is_known else Change.OVER

    def follow_along(self, connection: Connection) -> None:
        at, ledger = 2 * connection.index, self.ledger
        for direction in self.rows[connection].waiting:
            side, of = self.rows[connection].sides[direction], at + direction
            side.following, side.acked, side.edge = ledger.following[of], ledger.acked[of], ledger.edge[of]

    def handled(self, connection: Connection, direction: Direction, packet: int) -> None:
        self.rows[connection].sides[direction].handled = packet

    def forget(self, connection: Connection) -> Report:
        report = self.read(connection)
        del self.rows[connection], self.flows[connection.original], self.flows[connection.reply]
        return report

    def read(self, connection: Connection) -> Report:
        row = self.rows[connection]
        there, back = row.sides
        report = Report(
            (there.packets, back.packets),
            (there.octets, back.octets),
            row.seen,
            self.state(row),
            row.by,
            (there.following, back.following),
            (there.acked, back.acked),
            (there.edge, back.edge),
            before=row.before,
        )
        there.packets = back.packets = there.octets = back.octets = 0
        return report

    def reports(self):
        for connection in list(self.rows):
            yield [(connection, self.read(connection))]

    def ended(self):
        over, self.over = self.over, []
        return [connection for connection in over if connection in self.rows]

    @staticmethod
    def state(row: Row) -> State:
        if row.connection.original[-1] == UDP:
            return State.BOTH_WAYS
        if row.half_open:
            return State.SYN_RECEIVED
        if row.reset:
            return State.TRANS
        if len(row.closed_by) == 2:
            return State.BOTH_FIN
        return next((state for state, sides in CLOSED_BY.items() if sides == row.closed_by), State.ESTABLISHED)

    # What happens to a packet

    def carry(self, packet: bytes, now: float) -> bytes | None:
        """Return what a packet leaves as, or None if that is for the engine to decide."""
        found = self.plain(packet)
        if found is None:
            return None
        key, start = found
        row, direction = self.flows.get(key, (None, None))
        if row is None or direction is None or row.reset or not self.is_in_turn(row, direction, packet, now):
            return None
        me, peer = row.sides[direction], row.sides[direction ^ 1]
        if key[-1] == UDP:
            size = int.from_bytes(packet[start + 4 : start + 6], "big")
            if size != len(packet) - start or (len(key) > 13 and packet[start + 6 : start + 8] == b"\0\0"):
                return None
            fresh = size - 8
        else:
            said = self.segment(packet, start, row, direction, me, peer)
            if said is None:
                return None
            fresh = said
        me.packets += 1
        me.octets += fresh
        row.seen = now
        self.carried += 1
        connection = row.connection
        becomes = connection.reply if direction is Direction.ORIGINAL else connection.original
        destination, source = ends(becomes)
        return wire.translated(packet, source, destination)

    def is_in_turn(self, row: Row, direction: Direction, packet: bytes, now: float) -> bool:
        """Whether all packets that were passed on before this one have been handled, or it has been long enough."""
        if direction not in row.waiting:
            return True
        row.since = now if row.since is None else row.since
        concerned = row.sides if row.connection.original[-1] == TCP else [row.sides[direction]]
        caught_up = all(side.passed is not None and told_apart(side.passed) == side.handled for side in concerned)
        if not caught_up and now - row.since < self.patience:
            row.sides[direction].passed = packet
            return False
        row.overtook |= not caught_up
        row.waiting -= set(Direction) if caught_up and len(concerned) == 2 else {direction}
        return True

    def segment(self, packet: bytes, start: int, row: Row, direction: Direction, me: Side, peer: Side) -> int | None:
        """Return how many new bytes a segment brings, having taken in what it says; or None if it is for the engine."""
        header = 4 * (packet[start + 12] >> 4)
        if header < 20 or start + header > len(packet):
            return None
        flags = packet[start + 13] & (FIN | SYN | RST | ACK | URG)
        seq, ack = wire.numbers(packet)
        end = seq + len(packet) - start - header + (flags & FIN)
        window = int.from_bytes(packet[start + 14 : start + 16], "big")
        if row.half_open:
            is_answer = ahead(ack, me.acked) >= 0 > ahead(ack - 1, peer.following)
            if flags not in DATA or direction is Direction.REPLY or not is_answer or not oracle.sound(packet):
                return None
            row.half_open = False
            row.by = direction
        elif flags in RESETS or (flags in CLOSES and direction not in row.closed_by):
            if len(row.closed_by) == 2 or not oracle.sound(packet):
                return None
            if ahead(end, peer.acked) < 0 or ahead(end - 2, peer.edge) >= 0:
                return None
            if flags in RESETS:
                row.before = self.state(row)
                row.reset = True
                row.by = direction
                self.over.append(row.connection)
                return 0
            row.closed_by.append(direction)
            row.by = direction
            if len(row.closed_by) == 2:
                self.over.append(row.connection)
        elif flags not in DATA | CLOSES:
            return None
        fresh = ahead(end - 1, me.following) + 1
        if fresh > 0 and ahead(end - 2, peer.edge) < 0:  # one past the edge: a probe
            me.following = end & 0xFFFFFFFF
            fresh -= flags & FIN
        else:
            fresh = 0
        if ahead(ack - 1, peer.following) < 0:
            me.acked = wire.later(ack, me.acked)
            me.edge = wire.later(ack + (window << me.shift) & 0xFFFFFFFF, me.edge)
        return fresh

    @staticmethod
    def plain(packet: bytes) -> tuple[bytes, int] | None:
        """Return the tuple of a packet without anything special about it, and where its transport header starts."""
        if packet[0] == 0x45 and len(packet) > 20:
            size, start, protocol, addresses = int.from_bytes(packet[2:4], "big"), 20, packet[9], packet[12:20]
            if packet[6] & 0x3F or packet[7]:
                return None
        elif packet[0] >> 4 == 6 and len(packet) > 40:
            size, start, protocol, addresses = 40 + int.from_bytes(packet[4:6], "big"), 40, packet[6], packet[8:40]
        else:
            return None
        least = {TCP: 20, UDP: 8}.get(protocol)
        if least is None or size != len(packet) or size < start + least:
            return None
        return bytes(addresses + packet[start : start + 4] + bytes((protocol,))), start


def told_apart(packet: bytes) -> int:
    """Return the fingerprint of a packet."""
    view = PacketView()
    view.read(bytearray(packet))
    return fingerprint(view)


def ahead(one: int, other: int) -> int:
    """Return how far a sequence number is ahead of another, below 0 if it is behind: RFC 9293, section 3.4."""
    return (one - other + 2**31) % 2**32 - 2**31
