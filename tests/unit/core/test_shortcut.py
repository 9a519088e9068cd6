"""The short way and the general one: whatever comes, both do the same.

Each packet goes through two engines that differ in one thing: one of them leaves every packet to the general way. What
comes out must be the same, bytes and verdict, and so must all that is remembered. Most packets are of the usual kind,
and many of the others are unusual in one thing alone, just past what the short way may take. The random numbers are the
same every time.
"""

from dataclasses import dataclass, replace
from random import Random

import pytest

from natlb.core.engine import NatEngine
from natlb.core.pool import AdminState, Pool, Server
from natlb.core.ports import PortRanges, Source
from natlb.core.service import Service, Timeouts, VirtualAddresses
from natlb.core.states import State
from natlb.core.verdict import Rewrite
from tests.unit.core import invariants
from tests.unit.core import packets as p
from tests.unit.core.conversation import CLIENT, PORT, SERVER1, SNAT, VIP, brief
from tests.unit.core.packets import ACK, FIN, PSH, RST, SYN, TCP, UDP, URG, packed
from tests.unit.core.test_unfinished import begun

_ALL = 0xFFFFFFFF
SCALED = b"\x02\x04\x05\xb4\x01\x03\x03\x07"
STAMPS = b"\x01\x01\x08\x0a" + bytes(range(8))


@dataclass(frozen=True)
class Step:
    """One packet of a connection that is there, and how much later than the one before it comes."""

    client: int = 0
    is_reply: bool = False
    flags: int = ACK
    ahead: int = 0
    """How far the sequence number is from where its sender has come."""
    acknowledged: int = 0
    """The same of the acknowledgment, from where the peer has come."""
    window: int = 0x2000
    payload: bytes = b""
    options: bytes = b""
    around: bool = False
    """Whether the IP header has options, or extension headers."""
    unfinished: bool = False
    spoilt: bool = False
    bare: bool = False
    """Whether a datagram has no checksum."""
    padding: bytes = b""
    cut: int | None = None
    lacking: int = 0
    """How many of the last bytes are missing."""
    disguised: bool = False
    """Whether IPv4 options stand where the ports do in a packet without any, and look like them."""
    offset: int | None = None
    """What a segment says of its header's size, in words; of a datagram, how far what it says of its own is wrong."""
    checksum: int | None = None
    """The transport checksum, as far as it is from what the translation takes off: there the sum turns around."""
    ip_checksum: int | None = None
    """The same of the IPv4 header."""
    damage: tuple[int, int] | None = None
    """A byte in the headers that is another, and by which bits."""
    later: float = 0.0


FAR = (1, -1, 100, -100, 70_000, 1 << 20, (1 << 31) - 1, 1 << 31, 1 - (1 << 31))
NEAR = (-1, 0, 1, 0xFFFF, 0xFFFE)
UNUSUAL = {
    "flags": (ACK | FIN, ACK | URG, SYN, SYN | ACK, RST, RST | ACK, FIN, 0),
    "ahead": FAR,
    "acknowledged": FAR,
    "window": (0, 1, 0xFFFF),
    "around": (True,),
    "spoilt": (True,),
    "bare": (True,),
    "padding": (bytes(6),),
    "cut": (24, 32),
    "lacking": (1, 3, 6, 40),
    "disguised": (True,),
    "offset": (4, 6, 7, 15, -1, 1, -100),
    "checksum": NEAR,
    "ip_checksum": NEAR,
    "damage": tuple((at, bits) for at in range(64) for bits in (1, 2, 0x20, 0xFF)),
    "later": (2.5, 5.0),
}
PAYLOADS = (b"", b"x", b"xyz", bytes(5), bytes(12), bytes(100), b"\xff" * 101, bytes(1400))


def anything(random: Random) -> Step:
    """Return a packet of the usual kind, or one that is not in some respect."""
    step = Step(
        client=random.randrange(2),
        is_reply=random.random() < 0.5,
        flags=random.choice((ACK, ACK | PSH)),
        payload=random.choice(PAYLOADS),
        options=random.choice((b"", STAMPS)),
        unfinished=random.random() < 0.3,
        later=random.choice((0.0, 0.25, 0.5, 1.0)),  # exact in binary: the moment that something is due comes as well
    )
    for name in random.sample(list(UNUSUAL), random.choice((0, 0, 0, 1, 1, 1, 2))):
        step = replace(step, **{name: random.choice(UNUSUAL[name])})
    return step


class Twins:
    """Two engines that are told the same."""

    def __init__(self, family: int, protocol: int, *, full: bool, **limits: int) -> None:
        self.family, self.protocol, self.now = family, protocol, 0.0
        self.clients, self.vip, self.server = (
            [(CLIENT[family], port) for port in (40000, 40001)],
            (VIP[family], PORT),
            (SERVER1[family], 4444),
        )
        self.seen_as = [(SNAT[family], 1025), (SNAT[family], 1024)] if full else self.clients
        self.hasty, self.general = (self._engine(full, limits) for _ in range(2))
        self.general._shortcut = lambda *_: None
        self.hurried = 0
        hurry = self.hasty._shortcut

        def count(*arguments):
            verdict = hurry(*arguments)
            self.hurried += verdict is not None
            return verdict

        self.hasty._shortcut = count

    def _engine(self, full: bool, limits: dict[str, int]) -> NatEngine:
        sources = (Source(packed(SNAT[self.family]), PortRanges([(1024, 1025)])),) if full else ()
        pool = Pool("b", [Server("s", packed(self.server[0]), self.server[1], sources=sources)])
        timeouts = Timeouts(opening=8, idle=8, client_fin=6, server_fin=7, closing=4, one_way=5, both_ways=6)
        service = Service("f", pool, protocol=self.protocol, timeouts=timeouts, **limits)
        addresses = VirtualAddresses()
        addresses.bind(packed(self.vip[0]), self.vip[1], service)
        return NatEngine(addresses)

    def give(self, packet: bytes, *, unfinished: bool = False) -> bytes | None:
        """Lead a packet through both; return it as it comes out, or None if it does not."""
        one, other = bytearray(packet), bytearray(packet)
        verdict = self.hasty.handle_packet(one, self.now, unfinished)
        assert verdict == self.general.handle_packet(other, self.now, unfinished)
        assert one == other
        self.compare()
        return bytes(verdict.payload) if isinstance(verdict, Rewrite) else None

    def compare(self) -> None:
        assert remembered(self.hasty) == remembered(self.general)

    def set_admin(self, admin: AdminState) -> None:
        for engine in (self.hasty, self.general):
            [service] = engine.addresses._services.values()
            service.pool.set_admin(service.pool.servers["s"], admin, self.now)

    def take_step(self, step: Step) -> bytes | None:
        self.now += step.later
        for engine in (self.hasty, self.general):
            engine.handle_timeout(self.now)
        self.compare()
        packet = self.packet(step)
        if step.unfinished:
            packet = begun(packet)
        if step.cut is not None:
            packet = p.cut(packet, 0, step.cut)
        self.misstate(step, packet)
        if step.damage is not None:
            at, bits = step.damage
            packet[min(at, len(packet) - 1)] ^= bits
        del packet[len(packet) - step.lacking :]
        return self.give(packet + step.padding, unfinished=step.unfinished)

    def misstate(self, step: Step, packet: bytearray) -> None:
        """Write into a packet what its sender would not."""
        protocol, start = p.transport(packet)
        connection = self.general._find(self.key(step.client))
        if step.offset is not None and protocol == TCP:
            packet[start + 12] = step.offset % 16 << 4
        elif step.offset is not None:
            size = int.from_bytes(packet[start + 4 : start + 6], "big")
            packet[start + 4 : start + 6] = (size + step.offset & 0xFFFF).to_bytes(2, "big")
        if connection is None:
            return
        translation = connection.translations[step.is_reply]
        places = (start + (16 if protocol == TCP else 6), step.checksum), (10, step.ip_checksum)
        turns = -translation.address_delta if step.unfinished else translation.transport_delta
        for (at, distance), turn in zip(places, (turns, translation.address_delta), strict=True):
            if distance is not None and (at > 10 or self.family == 4):
                packet[at : at + 2] = ((turn + distance) % 0x10000).to_bytes(2, "big")

    def packet(self, step: Step) -> bytearray:
        client, seen_as = self.clients[step.client], self.seen_as[step.client]
        way = (self.server, seen_as) if step.is_reply else (client, self.vip)
        around = {"ip_options": b"\x01\x01\x01\x00", "extensions": (0,)} if step.around else {}
        if step.disguised:
            around = {"ip_options": p.ports(*way)}
        if self.protocol == UDP:
            return p.datagram(*way, step.payload, checksum=0 if step.bare else None, spoilt=step.spoilt, **around)
        sequence, acknowledged = self.numbers(step)
        return p.segment(
            *way,
            step.flags,
            seq=sequence + step.ahead & _ALL,
            ack=acknowledged + step.acknowledged & _ALL,
            window=step.window,
            payload=step.payload,
            options=step.options,
            spoilt=step.spoilt,
            **around,
        )

    def numbers(self, step: Step) -> tuple[int, int]:
        """Return where the sender of a segment has come, and where its peer."""
        connection = self.general._find(self.key(step.client))
        if connection is None:
            return 1000, 0
        row = 2 * connection.index + step.is_reply
        following = self.general.ledger.following
        return following[row], following[row ^ 1]

    def key(self, client: int) -> bytes:
        """Return the tuple of a client's connection."""
        place, vip = self.clients[client], self.vip
        return p.packed(place[0]) + p.packed(vip[0]) + p.ports(place, vip) + bytes((self.protocol,))

    def open(self) -> None:
        """Open a connection of each client, one with windows that are scaled."""
        for client, options in enumerate((SCALED, b"")):
            if self.protocol == UDP:
                assert self.take_step(Step(client)) is not None
                continue
            at, back = (Step(client, is_reply=is_reply, options=options) for is_reply in (False, True))
            way, reply = (self.clients[client], self.vip), (self.server, self.seen_as[client])
            assert self.give(p.segment(*way, SYN, seq=_ALL - 1000, options=options)) is not None
            assert self.give(p.segment(*reply, SYN | ACK, seq=_ALL >> 1, ack=_ALL - 999, options=options)) is not None
            assert self.take_step(at) is not None
            assert self.take_step(back) is not None


def remembered(engine: NatEngine) -> object:
    """All that an engine knows after a packet."""
    ledger = engine.ledger
    invariants.check_queues(engine.table, list(engine.connections()))
    return (
        [getattr(ledger, name).tobytes() for name in ledger.__slots__ if hasattr(getattr(ledger, name), "tobytes")],
        [
            (each.original, each.reply, each.state, each.index, [vars_of(way.account) for way in each.translations])
            for each in engine.connections()
        ],
        [brief(each) for each in engine._events],
        list(engine._packets),
        list(engine._releases),
        (len(engine.fragments), engine.fragments.held),
        engine.drops,
        engine.closed,
        engine.next_timeout(),
    )


def vars_of(account):
    return account.packets, account.octets


FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
NATS = pytest.mark.parametrize("full", [False, True], ids=["dnat", "full nat"])


@FAMILIES
@NATS
@pytest.mark.parametrize(
    ("protocol", "limits"),
    [(TCP, {}), (UDP, {}), (UDP, {"requests": 3}), (UDP, {"responses": 2})],
    ids=["tcp", "udp", "udp with requests", "udp with responses"],
)
def test_all_packets_fare_the_same_both_ways(family, full, protocol, limits):
    random = Random(f"{family}, {full}, {protocol}, {limits}")
    hurried = 0
    for _ in range(25):  # whatever befalls a connection, there are others after it
        twins = Twins(family, protocol, full=full, **limits)
        twins.open()
        for _ in range(40):
            if random.random() < 0.02:
                twins.set_admin(random.choice((AdminState.MAINT, AdminState.READY)))
            twins.take_step(anything(random))
        hurried += twins.hurried
    assert hurried == 0 if limits else hurried > 200


@FAMILIES
@pytest.mark.parametrize("protocol", [TCP, UDP], ids=["tcp", "udp"])
@NATS
@pytest.mark.parametrize("unfinished", [False, True], ids=["finished", "unfinished"])
def test_what_is_usual_goes_the_short_way(family, protocol, full, unfinished):
    """Or it would not be tested by the others that both do the same."""
    twins = Twins(family, protocol, full=full)
    twins.open()
    for is_reply in (False, True, False, True):
        twins.take_step(Step(is_reply=is_reply, payload=b"a page of text, at least"))
    before = twins.hurried
    for is_reply in (False, True):
        for size in (12, 1000):
            for options in (b"", STAMPS):
                step = Step(
                    is_reply=is_reply, payload=bytes(size), options=options, unfinished=unfinished, flags=ACK | PSH
                )
                assert twins.take_step(step) is not None
    assert twins.hurried == before + 8


@FAMILIES
def test_what_follows_a_fin_goes_the_short_way_and_the_fin_does_not(family):
    twins = Twins(family, TCP, full=False)
    twins.open()
    before = twins.hurried
    for is_reply in (False, True):
        assert twins.take_step(Step(is_reply=is_reply, flags=ACK | FIN)) is not None
        assert twins.hurried == before
        assert twins.take_step(Step(is_reply=not is_reply)) is not None
        before = twins.hurried = before + 1
    assert {each.state for each in twins.hasty.connections()} == {State.ESTABLISHED, State.BOTH_FIN}


@FAMILIES
def test_a_datagram_that_says_to_be_shorter_than_its_header_goes_no_way(family):
    twins = Twins(family, UDP, full=False)
    twins.open()
    assert twins.take_step(Step(payload=bytes(100), offset=-100)) is not None
    assert twins.take_step(Step(payload=bytes(100), offset=-101)) is None


@FAMILIES
def test_a_checksum_that_comes_out_as_nothing_is_written_as_its_other_spelling(family):
    """In a datagram 0 would say that there is none (RFC 768)."""
    twins = Twins(family, UDP, full=False)
    twins.open()
    before = twins.hurried
    at = slice(26, 28) if family == 4 else slice(46, 48)
    lacking = p.datagram(twins.clients[0], twins.server, bytes(12))[at]
    came_out = twins.give(p.datagram(twins.clients[0], twins.vip, bytes(10) + lacking))
    assert came_out == p.datagram(twins.clients[0], twins.server, bytes(10) + lacking)
    assert came_out[at] == b"\xff\xff"
    assert twins.hurried == before + 1
