"""Engine tests that read like a conversation.

    client >> SYN << to(server1)
    server1 >> SYN_ACK << to(client)

The first line says: the client sends a SYN to the virtual address, and the engine lets it through to server1. A server
answers whom it last heard, as it heard them: it knows nothing of the virtual address. Sequence numbers are those of a
host that counts what it has sent and heard, unless a test gives others. UDP is spoken alike:

    client >> DATAGRAM << to(server1)

A router in the middle complains about what it has been sent; the complaint reaches who sent that, and reads of it:

    sent = client >> DATAGRAM << to(server1)
    router >> UNREACHABLE(about=sent) << to(client)

A host may cut what it says. What comes before the first fragment waits for it:

    first, second = client.cut(DATAGRAM(payload=bytes(100)), 64)
    waiting = client >> second << held
    client >> first << to(server1)
    waiting << to(server1)

Behind every `<<` stands the whole judgement, so that no test has to repeat it: the packet that came out is byte for
byte what scapy makes of the one that went in, with one end replaced, or both (`to(server1, seen_as=...)` of full NAT);
a packet that was not rewritten is unchanged; a drop is counted once. After every `>>` the engine's invariants are
checked.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

from natlb.core.engine import NatEngine
from natlb.core.events import (
    ConnectionClosed,
    ConnectionEstablished,
    ConnectionOpened,
    ConnectionRefused,
    Event,
    ServerBypassed,
    ServerTried,
)
from natlb.core.flow import Connection
from natlb.core.packet import UDP
from natlb.core.pool import Pool, Server
from natlb.core.ports import PortRanges, Source
from natlb.core.schedulers.base import Scheduler
from natlb.core.schedulers.roundrobin import RoundRobin
from natlb.core.service import Service, Timeouts, VirtualAddresses
from natlb.core.verdict import Accept, Drop, DropReason, Hold, Reply, Rewrite, Verdict
from tests.unit.core import invariants, oracle
from tests.unit.core import packets as p
from tests.unit.core.packets import Place, packed, places

CLIENT = {4: "44.1.1.1", 6: "fd44:1::1"}
VIP = {4: "44.2.2.2", 6: "fd44:2::2"}
OTHER_VIP = {4: "44.2.2.9", 6: "fd44:2::9"}
SERVER1 = {4: "44.3.3.3", 6: "fd44:3::3"}
SERVER2 = {4: "44.4.4.4", 6: "fd44:4::4"}
SNAT = {4: "44.5.5.5", 6: "fd44:5::5"}
OTHER_SNAT = {4: "44.5.5.6", 6: "fd44:5::6"}
ROUTER = {4: "44.9.9.9", 6: "fd44:9::9"}
PORT = 8888

_ALL = 0xFFFFFFFF


@dataclass(frozen=True)
class Segment:
    """What a host says over TCP. Called, it is the same segment said differently: `DATA(payload=b"hello")`."""

    flags: int
    seq: int | None = None
    ack: int | None = None
    window: int = 0x2000
    payload: bytes = b""
    options: bytes = b""
    spoilt: bool = False

    def __call__(self, **changes: object) -> "Segment":
        return replace(self, **changes)

    def packet(self, host: "Host") -> bytearray:
        said = vars(host.talk.numbered(self, host))
        return p.segment(host.place, host.peer, **said)


SYN = Segment(p.SYN, options=b"\x02\x04\x05\xb4")
SYN_ACK = Segment(p.SYN | p.ACK, options=b"\x02\x04\x05\xb4")
ACK = Segment(p.ACK)
DATA = Segment(p.PSH | p.ACK, payload=b"GET / HTTP/1.1\r\n\r\n")
FIN = Segment(p.FIN | p.ACK)
RST = Segment(p.RST)
RST_ACK = Segment(p.RST | p.ACK)


@dataclass(frozen=True)
class Datagram:
    """What a host says over UDP."""

    payload: bytes = b"?"
    checksum: int | None = None
    ip_options: bytes = b""
    extensions: tuple[int, ...] = ()
    spoilt: bool = False

    def __call__(self, **changes: object) -> "Datagram":
        return replace(self, **changes)

    def packet(self, host: "Host") -> bytearray:
        return p.datagram(host.place, host.peer, **vars(self))


DATAGRAM = Datagram()


@dataclass(frozen=True)
class Fragment:
    """A part of what a host says."""

    whole: bytes
    first: int
    last: int | None
    identification: int = 77

    def __call__(self, **changes: object) -> "Fragment":
        return replace(self, **changes)

    def packet(self, host: "Host") -> bytearray:
        return self.of(self.whole)

    def of(self, whole: bytes) -> bytearray:
        """Return the same part of another packet."""
        return p.cut(whole, self.first, self.last, identification=self.identification)


@dataclass(frozen=True)
class Error:
    """What a router, or a host, has to say about a packet that it was sent: an ICMP error.

    `kinds` are type, code and the second word of the header, by address family.
    """

    kinds: dict[int, tuple[int, int, bytes]]
    about: "Outcome | None" = None
    quoted: int | None = None
    """Bytes of the packet that are quoted; None is all."""
    spoilt: bool = False
    spoilt_quote: bool = False
    """Whether the quoted packet has a wrong IP checksum."""

    def __call__(self, **changes: object) -> "Error":
        return replace(self, **changes)

    def packet(self, host: "Host") -> bytearray:
        family = host.talk.family
        quote = bytearray(self.about.buffer[: self.quoted])
        if self.spoilt_quote:
            quote[11] ^= 0x55
        (address, _), _ = places(quote)
        return p.icmp(host.place[0], address, *self.kinds[family], quote, spoilt=self.spoilt)


UNREACHABLE = Error({4: (3, 3, bytes(4)), 6: (1, 4, bytes(4))})
TOO_BIG = Error({4: (3, 4, b"\0\0\x05\x78"), 6: (2, 0, b"\0\0\x05\x78")})
EXPIRED = Error({4: (11, 0, bytes(4)), 6: (3, 0, bytes(4))})
PROBLEM = Error({4: (12, 0, b"\x01\0\0\0"), 6: (4, 0, b"\0\0\0\x06")})


@dataclass(frozen=True)
class Message:
    """An ICMP message that is about no packet: type, code, the second word of the header, and what follows."""

    kinds: dict[int, tuple[int, int]]
    rest: bytes = b"\x12\x34\x00\x01"
    payload: bytes = b"are you there?"
    spoilt: bool = False

    def __call__(self, **changes: object) -> "Message":
        return replace(self, **changes)

    def packet(self, host: "Host") -> bytearray:
        kind = self.kinds[host.talk.family]
        return p.icmp(host.place[0], host.peer[0], *kind, self.rest, self.payload, spoilt=self.spoilt)


ECHO = Message({4: (8, 0), 6: (128, 0)})
ECHO_REPLY = Message({4: (0, 0), 6: (129, 0)})
REDIRECT = Message({4: (5, 1), 6: (137, 0)})

Said = Segment | Datagram | Fragment | Error | Message


@dataclass
class Host:
    """One end of a connection: it sends from `place` to `peer`."""

    talk: "Conversation"
    name: str
    place: Place
    peer: Place | None = None
    is_server: bool = False

    def __rshift__(self, said: Said) -> "Outcome":
        assert self.peer is not None or isinstance(said, Error), f"{self.name} has heard nobody whom it could answer"
        return self.talk.carry(said, said.packet(self))

    def facing(self, other: "Host") -> "Host":
        """Return this server as it speaks to the given client."""
        return replace(self, peer=other.place)

    def at(self, port: int) -> "Host":
        """Return this client with another source port."""
        return replace(self, place=(self.place[0], port))

    def asking(self, address: str, port: int = PORT) -> "Host":
        """Return this client as it speaks to another address."""
        return replace(self, peer=(address, port))

    def cut(self, said: Segment | Datagram, *at: int, identification: int = 77) -> list[Fragment]:
        """Return the fragments of what this host says, cut at these places: multiples of 8 behind the IP header."""
        whole = bytes(said.packet(self))
        borders = [0, *at, None]
        return [Fragment(whole, first, last, identification) for first, last in pairwise(borders)]


@dataclass
class Outcome:
    """What the engine made of a packet."""

    talk: "Conversation"
    said: Said
    sent: bytes
    """The packet as it went in."""
    buffer: bytearray
    """The same buffer, afterwards."""
    verdict: Verdict
    newly_dropped: dict[DropReason, int] = field(default_factory=dict)

    def __lshift__(self, expectation: "Expectation") -> "Outcome":
        expectation(self)
        return self


Expectation = Callable[[Outcome], None]


def to(host: Host, *, seen_as: Place | None = None) -> Expectation:
    """The packet reaches `host`: a server at its own place, a client as if the virtual address had sent it.

    A server sees who sent it, or with full NAT the address and port `seen_as` in the place of that.
    """

    def expectation(outcome: Outcome) -> None:
        assert isinstance(outcome.verdict, Rewrite), outcome.verdict
        assert outcome.verdict.payload is outcome.buffer
        assert not outcome.newly_dropped
        said = outcome.said
        if isinstance(said, Error):
            assert bytes(outcome.buffer) == translated_error(outcome)
            return
        changed = {"destination": host.place, "source": seen_as if host.is_server else host.peer}
        if isinstance(said, Fragment):
            assert bytes(outcome.buffer) == said.of(oracle.translated(said.whole, **changed))
            return
        expected = oracle.translated(outcome.sent, **changed)
        assert places(outcome.buffer) == places(expected)
        if said.spoilt:
            assert not oracle.sound(outcome.buffer), "a damaged packet must not be made sound"
        else:
            assert bytes(outcome.buffer) == expected

    return expectation


def translated_error(outcome: Outcome) -> bytes:
    """Return an ICMP error as the sender of the packet that it is about must get it: about the packet as it was sent.

    It comes from where that packet was sent to, unless it has reached there: then the router has an address to show.
    """
    about, said = outcome.said.about, outcome.said
    (sender, _), (asked, _) = places(about.sent)
    reached = places(about.buffer)[1][0]
    router = str(p.ip_address(outcome.sent[12:16] if len(packed(sender)) == 4 else outcome.sent[8:24]))
    return oracle.error(outcome.sent, router if reached == asked else asked, sender, about.sent[: said.quoted])


def dropped(reason: DropReason) -> Expectation:
    """The packet is thrown away, and that is counted."""

    def expectation(outcome: Outcome) -> None:
        assert outcome.verdict == Drop(reason)
        assert outcome.newly_dropped == {reason: 1}
        assert outcome.buffer == outcome.sent

    return expectation


def untouched(outcome: Outcome) -> None:
    """The packet passes as it is."""
    assert outcome.verdict == Accept()
    assert not outcome.newly_dropped
    assert outcome.buffer == outcome.sent


def answered(by: Callable[[bytes], bytes]) -> Expectation:
    """The packet is answered by the engine, in the words of scapy."""

    def expectation(outcome: Outcome) -> None:
        assert outcome.verdict == Reply(by(outcome.sent))
        assert not outcome.newly_dropped
        assert outcome.buffer == outcome.sent

    return expectation


reset = answered(oracle.reset_for)
"""The sender is answered with the RST of a host that has no such connection."""
unreachable = answered(oracle.port_unreachable)
"""The sender is answered with the ICMP error of a host where nobody listens."""
echoed = answered(oracle.echo_reply)
"""The sender gets its echo."""


def held(outcome: Outcome) -> None:
    """The packet waits. Once it is let go, the outcome is what has become of it."""
    assert isinstance(outcome.verdict, Hold), outcome.verdict
    assert not outcome.newly_dropped
    assert outcome.buffer == outcome.sent


class Reset(NamedTuple):
    """A RST that the engine sends of its own accord."""

    source: Place
    destination: Place
    seq: int
    ack: int


class Conversation:
    """An engine with one virtual address and two servers, and a clock that the test moves.

    A TCP service and a UDP service share port and pool. `ranges` are the ports of full NAT, from the address SNAT.
    """

    def __init__(
        self,
        family: int,
        *,
        capacity: int = 100,
        half_open_capacity: int | None = 100,
        max_connections: int | None = None,
        service_max_connections: int | None = None,
        timeouts: Timeouts | None = None,
        server_port: int | None = 4444,
        ranges: list[tuple[int, int]] | None = None,
        requests: int | None = None,
        responses: int | None = None,
        scheduler: Callable[[], Scheduler] = RoundRobin,
        pool_settings: dict[str, int] | None = None,
    ) -> None:
        self.now = 1000.0
        self.family = family
        self.sent: dict[tuple[Place, Place | None], int] = {}
        """By sender and receiver, as the sender sees them: the number that it uses next."""
        self.heard: dict[tuple[Place, Place], int] = {}
        """By receiver and sender, as the receiver sees them: the number that it waits for."""
        self.waiting: dict[int, Outcome] = {}
        """Packets that are held back, by ticket."""
        self.sources = None if ranges is None else (Source(packed(SNAT[family]), PortRanges(ranges)),)
        self.pool = Pool(
            "servers",
            [
                Server(f"server{n}", packed(at[family]), server_port, sources=self.sources)
                for n, at in ((1, SERVER1), (2, SERVER2))
            ],
            scheduler,
            **(pool_settings or {}),
        )
        limits = {"max_connections": service_max_connections, "timeouts": timeouts or Timeouts()}
        self.service = Service("web", self.pool, **limits)
        self.udp = Service("dns", self.pool, protocol=UDP, **limits, requests=requests, responses=responses)
        self.addresses = VirtualAddresses()
        for service in (self.service, self.udp):
            self.addresses.bind(packed(VIP[family]), PORT, service)
        self.engine = NatEngine(
            self.addresses,
            max_connections=max_connections,
            capacity=capacity,
            half_open_capacity=half_open_capacity,
        )
        self.client = Host(self, "client", (CLIENT[family], 40000), (VIP[family], PORT))
        kept = server_port or PORT
        self.server1 = Host(self, "server1", (SERVER1[family], kept), is_server=True)
        self.server2 = Host(self, "server2", (SERVER2[family], kept), is_server=True)
        self.router = Host(self, "router", (ROUTER[family], 0))
        self.snat = SNAT[family]

    def numbered(self, said: Segment, host: Host) -> Segment:
        """Return the segment with the numbers that `host` would give it, where the test has given none."""
        way = host.place, host.peer
        seq, ack = said.seq, said.ack
        if seq is None:
            start = 5000 if host.is_server else 1000
            seq = start if said.flags & p.SYN else self.sent.get(way, start + 1)
        if said.seq is None or said.flags & p.SYN:
            self.sent[way] = seq + len(said.payload) + bool(said.flags & p.SYN) + bool(said.flags & p.FIN) & _ALL
        if ack is None:
            ack = self.heard.get(way, 0) if said.flags & p.ACK else 0
        return said(seq=seq, ack=ack)

    def carry(self, said: Said, buffer: bytearray) -> Outcome:
        """Hand a packet to the engine; a server that it reaches will answer its sender."""
        sent, before = bytes(buffer), self.engine.drops.copy()
        verdict = self.engine.handle_packet(buffer, self.now)
        outcome = Outcome(self, said, sent, buffer, verdict)
        if isinstance(verdict, Hold):
            assert verdict.ticket not in self.waiting
            self.waiting[verdict.ticket] = outcome
        let_go = self.let_go()
        outcome.newly_dropped = dict(self.engine.drops - before - let_go)
        invariants.check(self.engine)
        self.arrive(outcome)
        return outcome

    def let_go(self) -> dict[DropReason, int]:
        """Let the packets know that are no longer held back; return how many of them are dropped, by reason."""
        drops = type(self.engine.drops)()
        for ticket, verdict in iter(self.engine.next_release, None):
            outcome = self.waiting.pop(ticket)
            outcome.verdict = verdict
            if isinstance(verdict, Drop):
                outcome.newly_dropped = {verdict.reason: 1}
                drops[verdict.reason] += 1
        return drops

    def arrive(self, outcome: Outcome) -> None:
        """Let who receives a packet take note of it."""
        said = outcome.said
        whole = said.whole if isinstance(said, Fragment) else outcome.sent
        is_later = isinstance(said, Fragment) and said.first > 0
        if not isinstance(outcome.verdict, Rewrite) or isinstance(said, Error) or is_later:
            return
        source, destination = places(outcome.buffer)
        for server in (self.server1, self.server2):
            if server.place == destination:
                server.peer = source
        if p.transport(whole)[0] == p.TCP and oracle.sound(whole):
            flags, end = p.flags_and_end(whole)
            before = self.heard.get((destination, source), end)
            is_newer = flags & p.SYN or (end - before & _ALL) < 0x80000000
            self.heard[destination, source] = end if is_newer else before

    def wait(self, seconds: float) -> None:
        """Let time pass, and let the engine know."""
        self.now += seconds
        self.engine.handle_timeout(self.now)
        self.let_go()
        invariants.check(self.engine)

    def shake_hands(self, client: Host | None = None, **syn: object) -> Host:
        """Open a connection; return the server that got it."""
        client = client or self.client
        _, destination = places((client >> SYN(**syn)).buffer)
        [server] = [host for host in (self.server1, self.server2) if host.place == destination]
        server >> SYN_ACK << to(client)
        seen_as = None if server.peer == client.place else server.peer
        client >> ACK << to(server, seen_as=seen_as)
        return server

    def configured(self, host: Host) -> Server:
        """Return a server as the pool knows it."""
        return self.pool.servers[host.name]

    def entry(self, client: Host | None = None) -> Connection | None:
        """Return what the engine knows of a client's connection, by the client's tuple."""
        client = client or self.client
        return next(
            (
                connection
                for connection in self.engine.connections()
                if connection.original[:-1] == client_key(client.place, client.peer)
            ),
            None,
        )

    def carried(self, client: Host | None = None) -> list[tuple[int, int]]:
        """Return the packets and the bytes of payload that a client's connection has carried, by direction."""
        row, ledger = 2 * self.entry(client).index, self.engine.ledger
        return [(ledger.packets[at], ledger.octets[at]) for at in (row, row + 1)]

    def news(self) -> list[str]:
        """Draw the events since the last time, in short."""
        return [brief(event) for event in iter(self.engine.next_event, None)]

    def resets(self) -> list[Reset]:
        """Draw what the engine wants to say of its own accord: each a RST, byte for byte the one that scapy builds."""
        drawn = []
        for packet in iter(self.engine.next_packet, None):
            tcp = oracle.parsed(packet)["TCP"]
            drawn.append(Reset(*places(packet), tcp.seq, tcp.ack))
            assert packet == oracle.reset(*drawn[-1])
        return drawn

    def wanted(self, host: Host) -> Reset:
        """Return the RST that `host` takes for its peer's: the next number that it waits for (RFC 5961, 3.2)."""
        way = host.place, host.peer
        return Reset(host.peer, host.place, self.heard[way], self.sent[way])


def client_key(source: Place, destination: Place) -> bytes:
    """Return a flow key without the protocol."""
    return b"".join(
        [packed(source[0]), packed(destination[0]), *(at[1].to_bytes(2, "big") for at in (source, destination))]
    )


def brief(event: Event) -> str:
    if isinstance(event, ConnectionRefused):
        return f"refused, {event.service.name}"
    server = event.connection.server.name
    match event:
        case ConnectionOpened():
            return f"opened, {server}"
        case ConnectionEstablished():
            return f"established, {server}"
        case ConnectionClosed(reason=reason):
            return f"closed, {server}, {reason.name}"
        case ServerTried(answered=answered):
            return f"{'answered' if answered else 'not answered'}, {server}"
        case ServerBypassed(over=over):
            return f"bypassed{' no longer' if over else ''}, {server}"
