"""Packets: whatever hosts, routers, operators and time do, in the order that an input has them.

An input is a story (`Choices`). Its first bytes choose the engine: how many entries its table has, and whether there is
a largest packet. Each step after that is a packet, or time that passes, or an order to a server. Packets are as hosts
would send them, with numbers that fit, unless the next byte damages them: bits and bytes, lengths, a piece of them
elsewhere, options and extension headers, and right checksums again, or not.

After each packet there is a verdict, and it is judged by `judge`; what is rewritten has to be the other tuple of a
connection of the table. What is counted agrees with what happened. In the end all time passes: then nothing is left.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import pairwise

from natlb.core.engine import NatEngine
from natlb.core.flow import Connection, Direction, reverse
from natlb.core.pool import AdminState
from natlb.core.service import Intake
from natlb.core.verdict import Accept, Drop, Hold, Reply, Rewrite, Verdict
from tests.fuzz.balancer import balancer, bounded
from tests.fuzz.choices import Choices
from tests.fuzz.judge import judge_own, judge_reply, judge_rewrite, key, layout
from tests.unit.core import invariants
from tests.unit.core import packets as p

CLIENTS = {
    4: ("44.1.1.1", "44.1.1.7", "45.1.1.1", "44.3.3.9", "44.3.3.3", "44.2.2.2", "0.0.0.0", "224.0.0.1"),
    6: ("fd44:1::1", "fd44:1::7", "fd45::1", "fd44:3::9", "fd44:3::3", "fd44:2::2", "::", "ff02::1"),
}
"""Strangers, a client of the other backend, one that is not known, a neighbour of servers, a server, and oddities."""
VIPS = {4: ("44.2.2.2", "44.2.2.2", "44.2.2.3", "44.2.2.9"), 6: ("fd44:2::2", "fd44:2::2", "fd44:2::2", "fd44:2::9")}
PORTS = {p.TCP: (80, 80, 25, 81), p.UDP: (53, 7001, 53, 54)}
ROUTERS = {4: ("44.9.9.9", "44.3.3.3"), 6: ("fd44:9::9", "fd44:3::3")}
FLAGS = (p.SYN, p.SYN | p.ACK, p.ACK, p.PSH | p.ACK, p.FIN | p.ACK, p.RST, p.RST | p.ACK)
SIZES = (0, 1, 7, 18, 33, 200)
OPTIONS = (b"", b"\x02\x04\x05\xb4", b"\x02\x04\x05\xb4\x01\x03\x03\x07", b"\x01\x02\x04\x05\xb4\x01\x01\x01")
AHEAD = (0, 0, 0, 1, -1, 1000, 70_000, 1 << 31)
CHAINS = ((), (0,), (60,), (0, 43), (0, 60, 43, 60), (60,) * 9)
ERRORS = {
    4: ((3, 3), (3, 4), (11, 0), (12, 0), (5, 1), (4, 0)),
    6: ((1, 4), (2, 0), (3, 0), (4, 0), (137, 0), (0, 0)),
}
ECHOES = {4: ((8, 0), (0, 0), (13, 0)), 6: ((128, 0), (129, 0), (135, 0))}
SPANS = (0.0, 0.001, 0.5, 1.0, 4.0, 8.0, 31.0, 61.0, 250.0)
_MOST_REMEMBERED = 12
_MOST_STEPS = 200
_COUNTED_EVERY = 5
_LONG = 1e6
"""Seconds in which everything ends."""


class Story:
    """One engine, and what happens to it."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.made = balancer()
        capacity = choices.pick((0, 4, 12))
        self.engine: NatEngine = bounded(self.made, capacity) if capacity else self.made.engine
        self.engine.largest_packet = choices.pick((None, 576))
        self.now = 1000.0
        self.sent: deque[tuple[bytes, bytes]] = deque(maxlen=_MOST_REMEMBERED)
        """The last packets: as they came, and as they left."""
        self.held: dict[int, tuple[bytes, bytearray]] = {}
        self.drops: Counter[str] = Counter()
        for pool in self.made.pools.values():
            pool.begin(self.now)

    def tell(self) -> None:
        """Let everything happen, and end."""
        steps = (self.client, self.client, self.goes_on, self.goes_on, self.goes_on, self.pieces, self.error)
        steps += (self.error, self.echo, self.again, self.raw, self.wait, self.wait, self.operate)
        for number in range(_MOST_STEPS):
            if not self.choices.more:
                break
            step: Callable[[], None] = self.choices.pick(steps)
            step()
            self.settle(counting=number % _COUNTED_EVERY == 0)
        self.end()

    # What happens

    def client(self) -> None:
        """A client speaks to a virtual address, or to what is none."""
        self.send(self.of_client())

    def goes_on(self) -> None:
        """One side of a connection says something more."""
        packet = self.of_connection()
        if packet is not None:
            self.send(packet)

    def pieces(self) -> None:
        """A packet comes in fragments, in some order, one of them perhaps twice or not at all."""
        how = self.choices.byte()
        packet = (self.of_connection() if how & 1 else None) or self.of_client()
        borders = [0, *sorted({8 * (1 + self.choices.byte() % 30) for _ in range(1 + (how >> 1 & 3))}), None]
        number = how >> 3 & 3
        parts = [p.cut(bytes(packet), first, last, identification=number) for first, last in pairwise(borders)]
        for _ in range(len(parts) + (how >> 5 & 1)):
            self.send(bytearray(self.choices.pick(parts)))

    def error(self) -> None:
        """A router, or a host, complains about a packet that was sent on, to who seems to have sent it."""
        if not self.sent:
            return
        came, left = self.sent[self.choices.byte() % len(self.sent)]
        about = self.choices.pick((left, left, left, came))
        family = about[0] >> 4
        if family not in (4, 6) or len(about) < (20 if family == 4 else 40):
            return
        size = {4: 4, 6: 16}[family]
        first = 12 if family == 4 else 8
        receiver = p.ip_address(bytes(about[first : first + size]))
        rest = self.choices.pick((bytes(4), b"\0\0\x05\x78"))
        quote = about[: self.choices.pick((None, 28, 48, 60, 36, 20))]
        spoilt = self.choices.byte() == 255
        router = self.choices.pick(ROUTERS[family])
        kind, code = self.choices.pick(ERRORS[family])
        self.send(p.icmp(router, str(receiver), kind, code, rest, bytes(quote), spoilt=spoilt))

    def echo(self) -> None:
        """An ICMP message comes that is about no packet."""
        family = self.choices.pick((4, 6))
        source, destination = self.choices.pick(CLIENTS[family]), self.choices.pick(VIPS[family])
        kind, code = self.choices.pick(ECHOES[family])
        self.send(p.icmp(source, destination, kind, code, b"\x12\x34\0\1", bytes(self.choices.byte() % 50)))

    def again(self) -> None:
        """A packet comes once more, or comes back as it left."""
        if self.sent:
            self.send(bytearray(self.choices.pick(self.sent[self.choices.byte() % len(self.sent)])))

    def raw(self) -> None:
        """Bytes come."""
        self.send(bytearray(self.choices.take(self.choices.byte() % 100)))

    def wait(self) -> None:
        """Time passes."""
        self.now += self.choices.pick(SPANS)
        self.engine.handle_timeout(self.now)
        for pool in self.made.pools.values():
            pool.step(self.now)
            while pool.work():
                pass

    def operate(self) -> None:
        """An operator, or a check, does something to a server or to a service."""
        pool = self.choices.pick([each for each in self.made.pools.values() if each.servers])
        server = self.choices.pick(list(pool.servers.values()))
        what = self.choices.byte() % 8
        if what < 3:
            pool.set_admin(server, list(AdminState)[what], self.now)
        elif what < 5:
            pool.set_health(server, healthy=what == 4, now=self.now)
        elif what == 5:
            self.engine.shutdown_server(server, self.now)
        elif what == 6:
            pool.set_maxconn(server, self.choices.pick((None, 1, 2)))
        else:
            self.choices.pick(self.made.services).intake = self.choices.pick(list(Intake))

    # What is said

    def of_client(self) -> bytearray:
        choices = self.choices
        family, protocol = choices.pick(((4, p.TCP), (6, p.TCP), (4, p.UDP), (6, p.UDP)))
        which = choices.byte()
        source = CLIENTS[family][which & 7], (40000, 40001, 9, 5000)[which >> 3 & 3]
        place = choices.byte()
        destination = VIPS[family][place & 3], PORTS[protocol][place >> 2 & 3]
        if protocol == p.UDP:
            return self.datagram(source, destination)
        flags = choices.pick((*FLAGS[:1] * 6, *FLAGS, 0, 255))
        return self.segment(source, destination, flags, 1000 * choices.byte(), 0)

    def of_connection(self) -> bytearray | None:
        connections = sorted(self.engine.connections(), key=lambda each: each.index)
        if not connections:
            return None
        connection = connections[self.choices.byte() % len(connections)]
        how = self.choices.byte()
        direction = Direction(how & 1)
        source, destination = p.ends(connection.original if direction is Direction.ORIGINAL else connection.reply)
        if connection.original[-1] == p.UDP:
            return self.datagram(source, destination)
        flags = (*FLAGS, p.SYN | p.FIN)[how >> 1 & 7]
        following = self.engine.ledger.following
        mine, other = following[2 * connection.index + direction], following[2 * connection.index + (direction ^ 1)]
        seq, ack = mine + AHEAD[how >> 4 & 7], other + self.choices.pick(AHEAD)
        return self.segment(source, destination, flags, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF)

    def segment(self, source: p.Place, destination: p.Place, flags: int, seq: int, ack: int) -> bytearray:
        how = self.choices.byte()
        options = OPTIONS[how & 3] if flags & p.SYN else b""
        payload = bytes(range(SIZES[(how >> 2 & 7) % len(SIZES)]))
        return p.segment(source, destination, flags, seq=seq, ack=ack, payload=payload, options=options,
                         spoilt=how > 250, **self.around())  # fmt: skip

    def datagram(self, source: p.Place, destination: p.Place) -> bytearray:
        how = self.choices.byte()
        payload = bytes(range(SIZES[(how & 7) % len(SIZES)]))
        checksum = 0 if how >> 3 & 3 == 3 else None
        return p.datagram(source, destination, payload, checksum=checksum, spoilt=how > 250, **self.around())

    def around(self) -> dict[str, object]:
        """Return what else stands in the header."""
        how = self.choices.byte()
        if how < 128:
            return {}
        return {"ip_options": bytes([1, 1, 1, 0] * (how & 3)), "extensions": CHAINS[(how >> 2) % len(CHAINS)]}

    # What becomes of it

    def send(self, packet: bytearray) -> None:
        """Hand in a packet, as it is or damaged, and judge what becomes of it."""
        damage = self.choices.byte()
        unfinished = damage == 1 and self.leave_unfinished(packet)
        if damage >= 128:
            for _ in range(1 + (damage & 3)):
                self.damage(packet)
            if damage & 4:
                repair(packet)
        before = bytes(packet)
        found = self.connection_of(before)
        verdict = self.engine.handle_packet(packet, self.now, unfinished)
        self.judge(before, packet, verdict, unfinished=unfinished)
        if isinstance(verdict, Rewrite):
            self.sent.append((before, bytes(packet)))
            self.judge_tuple(before, bytes(packet), self.connection_of(before) or found)

    def leave_unfinished(self, packet: bytearray) -> bool:
        """Leave a checksum as a program on the same machine does, for whoever sends the packet to finish."""
        if len(packet) < 60 or packet[0] not in (0x45, 0x60):
            return False
        at = layout(packet)
        plain = at.end == len(packet) >= at.start + 20 and at.start == (20 if at.version == 4 else 40)
        if at.is_fragment or at.protocol not in (p.TCP, p.UDP) or not plain:
            return False
        ends_of = (packet[12:16], packet[16:20]) if at.version == 4 else (packet[8:24], packet[24:40])
        begun = p.pseudo(bytes(ends_of[0]), bytes(ends_of[1]), at.end - at.start, at.protocol)
        packet[at.checksum : at.checksum + 2] = p.ones_sum(begun).to_bytes(2, "big")
        return True

    def damage(self, packet: bytearray) -> None:
        if not packet:
            return
        what, at, value = self.choices.byte(), self.choices.byte() % len(packet), self.choices.byte()
        match what & 7:
            case 0:
                packet[at] ^= 1 << (value & 7)
            case 1:
                packet[at] = value
            case 2:
                del packet[max(at, 1) :]
            case 3:
                del packet[max(1, len(packet) - 1 - value % 4) :]
            case 4:
                packet += bytes(value % 40)
            case 5:
                piece = packet[value % len(packet) :][: 1 + (what >> 4)]
                packet[at : at + len(piece)] = piece
            case 6:
                packet[at:at] = bytes([value]) * (8 * (what >> 6))
            case 7 if len(packet) > 6:  # the length in the IP header
                low = 3 if packet[0] >> 4 == 4 else 5
                packet[low] = (packet[low] + (1, -1, 8, -8)[value & 3]) & 255

    def judge(self, before: bytes, packet: bytearray, verdict: Verdict, *, unfinished: bool = False) -> None:
        match verdict:
            case Rewrite(payload):
                assert payload is packet
                limited = self.engine.largest_packet is not None
                judge_rewrite(before, bytes(packet), unfinished=unfinished, limited=limited)
                return
            case Reply(answer):
                judge_reply(before, answer)
            case Drop(reason):
                self.drops[reason] += 1
            case Hold(ticket):
                assert ticket not in self.held, "a ticket was given out twice"
                self.held[ticket] = before, packet
            case _:
                assert isinstance(verdict, Accept), f"{verdict!r} is no verdict"
        assert bytes(packet) == before, "a packet that is not rewritten was changed"

    def judge_tuple(self, before: bytes, after: bytes, connection: Connection | None) -> None:
        """Assert that a packet has become the other tuple of its connection, or an error about it."""
        at = layout(before)
        if at.is_later or connection is None:  # it has no ports, or its flow was of one packet
            return
        asked = connection.original, reverse(connection.reply)
        answered = connection.reply, reverse(connection.original)
        if at.protocol in (p.TCP, p.UDP):
            assert (key(before, at), key(after, at)) in (asked, answered), "the packet went elsewhere"
            return
        base = at.start + 8
        quotes = tuple(key(each, layout(each, base), base) for each in (before, after))
        assert quotes in (asked[::-1], answered[::-1]), "the error is about another packet"
        size = len(at.addresses) // 2
        receiver = after[at.addresses.start + size : at.addresses.stop]
        assert receiver == quotes[1][:size], "the error went to somebody else than who sent what it is about"

    def connection_of(self, packet: bytes) -> Connection | None:
        """Return the connection that a packet belongs to, or an error is about, as far as that can be read."""
        try:
            at = layout(packet)
            if at.protocol in (p.TCP, p.UDP):
                return self.engine.table.find(key(packet, at))
            base = at.start + 8
            return self.engine.table.find(reverse(key(packet, layout(packet, base), base)))
        except IndexError:
            return None

    def settle(self, *, counting: bool = True) -> None:
        """Take what the engine has to say; if asked to, which takes long, count everything again."""
        for ticket, verdict in self.releases():
            before, packet = self.held.pop(ticket)
            self.judge(before, packet, verdict)
        for packet in iter(self.engine.next_packet, None):
            judge_own(packet)
        if counting:
            invariants.check(self.engine)
        while self.engine.next_event() is not None:
            pass
        assert self.drops == self.engine.drops, "drops are counted wrongly"
        assert self.engine.fragments.held == len(self.held)

    def releases(self) -> Iterator[tuple[int, Verdict]]:
        return iter(self.engine.next_release, None)

    def end(self) -> None:
        """Let all time pass: nothing may be left."""
        for _ in range(1000):
            due = self.engine.next_timeout()
            if due is None:
                break
            assert due < self.now + _LONG, "something is due in weeks"
            self.now = max(self.now, due)
            self.engine.handle_timeout(self.now)
        self.settle()
        assert self.engine.next_timeout() is None, "time does not end everything"
        assert not self.held, "a fragment waits for ever"
        assert (len(self.engine), self.engine.live, self.engine.ports_lent) == (0, 0, 0), "something is left"


def repair(packet: bytearray) -> None:
    """Give a packet right lengths and checksums, as far as its headers can be found."""
    if len(packet) < 48 or packet[0] >> 4 not in (4, 6):
        return
    four = packet[0] >> 4 == 4
    packet[2 if four else 4 : 4 if four else 6] = (len(packet) - (0 if four else 40)).to_bytes(2, "big")
    at = layout(packet)
    if four and 20 <= at.start <= len(packet):
        packet[10:12] = bytes(2)
        packet[10:12] = p.complement(bytes(packet[: at.start]))
    if at.protocol not in (p.TCP, p.UDP, p.ICMP, p.ICMPV6) or at.checksum + 2 > len(packet) or at.is_fragment:
        return
    if at.protocol == p.UDP:
        packet[at.start + 4 : at.start + 6] = (len(packet) - at.start).to_bytes(2, "big")
    packet[at.checksum : at.checksum + 2] = bytes(2)
    source, destination = (packet[12:16], packet[16:20]) if four else (packet[8:24], packet[24:40])
    covered = b"" if at.protocol == p.ICMP else p.pseudo(
        bytes(source), bytes(destination), len(packet) - at.start, at.protocol
    )  # fmt: skip
    right = p.complement(covered + bytes(packet[at.start :]))
    packet[at.checksum : at.checksum + 2] = b"\xff\xff" if at.protocol == p.UDP and not any(right) else right


def check(data: bytes) -> None:
    """Tell the story of an input. Raises if anything about it is not right."""
    Story(Choices(data)).tell()
