"""A frontend as the engine needs it: whom it serves, which pool it leads to, and its limits."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from natlb.core import tcp, udp
from natlb.core.flow import Direction, Endpoint, FlowKey, FullTranslation, Translation, reverse
from natlb.core.packet import TCP
from natlb.core.pool import Pool, Server
from natlb.core.rules import FrontendRules
from natlb.core.states import State
from natlb.core.statistics import Counters, Traffic

_SETTLED_AT_ONCE: Final = 500
"""Servers whose bytes are added up before other work has its turn: half a millisecond."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How many seconds a connection may be silent, for both sides together: it is one connection."""

    opening: float = tcp.TRANSITORY_TIMEOUT
    """TCP: until the client has acknowledged the server's SYN."""
    idle: float = tcp.ESTABLISHED_TIMEOUT
    """TCP: while it is established."""
    client_fin: float = tcp.ESTABLISHED_TIMEOUT
    """TCP: after the client has closed its half."""
    server_fin: float = tcp.ESTABLISHED_TIMEOUT
    """TCP: after the server has closed its half."""
    closing: float = tcp.TRANSITORY_TIMEOUT
    """TCP: after both have closed, or one has reset it: late packets still find their way."""
    one_way: float = udp.ONE_WAY_TIMEOUT
    """UDP: while only the client has spoken."""
    both_ways: float = udp.BOTH_WAYS_TIMEOUT
    """UDP: since the server has spoken too."""
    shorter: Direction = Direction.ORIGINAL
    """TCP: whose timeout `idle` is, where the two were written differently: who is silent when it has passed."""

    _by_state: dict[State, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_state = {
            State.INIT: self.opening,
            State.SYN_RECEIVED: self.opening,
            State.ESTABLISHED: self.idle,
            State.CLIENT_FIN: self.client_fin,
            State.SERVER_FIN: self.server_fin,
            State.BOTH_FIN: self.closing,
            State.TRANS: self.closing,
            State.ABORTED: self.closing,
            State.SHUT: self.closing,
            State.ONE_WAY: self.one_way,
            State.BOTH_WAYS: self.both_ways,
        }
        object.__setattr__(self, "_by_state", by_state)

    def of(self, state: State) -> float:
        """Return the seconds of silence that a connection in `state` is allowed."""
        return self._by_state[state]


class Intake(Enum):
    """Whether a frontend takes new connections."""

    OPEN = "open"
    PAUSED = "paused"
    STOPPED = "stopped"
    """For good."""


@dataclass(slots=True, eq=False)
class Listener:
    """An address and port of a service that has a limit of its own."""

    max_connections: int
    """Connections at once; further ones wait."""
    live: int = 0
    """Connections open now."""


@dataclass(slots=True, eq=False)
class Service:
    """A frontend: the engine leads connections to its addresses into its pool."""

    name: str
    pool: Pool | None
    """Where connections go that no rule sends elsewhere. None refuses them: a frontend without a backend."""
    id: int = 1
    """Its number for the outside."""
    protocol: int = TCP
    """What it balances: TCP or UDP, by IP protocol number."""
    max_connections: int | None = None
    """Connections at once; further ones wait. None is no limit but the engine's."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    """Those of connections to `pool`."""
    other_timeouts: dict[Pool, Timeouts] = field(default_factory=dict)
    """Those of connections to other pools, that rules send them to."""
    rules: FrontendRules = field(default_factory=FrontendRules)
    """Who is let in, and to which pool."""
    session_limit: int | None = None
    """Connections per second; further ones wait. None is no limit."""
    listeners: dict[Endpoint, Listener] = field(default_factory=dict)
    """The virtual addresses that have a limit of their own; all zero for any address."""
    requests: int | None = None
    """UDP: a flow is over after so many datagrams of the client, and the next one is scheduled anew."""
    responses: int | None = None
    """UDP: a flow is over when the server has answered each datagram with so many. None is not known beforehand."""
    logged: bool = False
    """Whether what its connections come to is to be told with the events about them."""
    logged_early: bool = False
    """Whether that is to be told as soon as they are established."""
    intake: Intake = Intake.OPEN
    """Whether it takes new connections. While it does not they are refused, as where nobody listens."""
    live: int = 0
    """Connections open now."""
    total: int = 0
    """Connections that the rules have let in, those included that no server could take."""
    held_back: int = 0
    """New connections dropped because there are as many as there may be; the client will try again."""
    rate_limited: int = 0
    """New connections dropped because a second has had as many as it may have; the client will try again."""
    refused: int = 0
    """New connections answered with a RST, or UDP ones with an ICMP error, because no server was usable."""
    denied: int = 0
    """New connections that a rule rejected."""
    counters: Counters = field(default_factory=Counters)
    carried: int = 0
    """Bytes of payload, both ways. Settled ones only, and never cleared."""
    _traffic: dict[Server, Traffic] = field(default_factory=dict)
    _translations: dict[tuple[Endpoint, Server], tuple[Translation, Translation]] = field(default_factory=dict)

    def timeouts_to(self, server: Server) -> Timeouts:
        """Return the timeouts of connections to a server, by the pool that it is in."""
        if self.other_timeouts and server.pool is not None:
            return self.other_timeouts.get(server.pool, self.timeouts)
        return self.timeouts

    def timeout(self, server: Server, state: State) -> float:
        """Return the seconds of silence that a connection to `server` is allowed in `state`."""
        return self.timeouts_to(server).of(state)

    def listener(self, vip: Endpoint) -> Listener | None:
        """Return the listener at a virtual address, if that has a limit of its own."""
        address, port = vip
        return self.listeners.get(vip) or self.listeners.get((bytes(len(address)), port))

    def translations(self, vip: Endpoint, server: Server, endpoint: Endpoint) -> tuple[Translation, Translation]:
        """Return the translations, by direction, between an address and an endpoint of a server.

        All connections between the two share them: that keeps the table small. Those to where a server has been are
        its connections' alone: however often it moves, there is one pair for it here.
        """
        between = vip, server
        found = self._translations.get(between)
        if found is None or (found[0].address, found[0].port) != endpoint:
            traffic = self.traffic(server)
            found = (
                Translation(Direction.ORIGINAL, vip, endpoint, traffic.there),
                Translation(Direction.REPLY, endpoint, vip, traffic.back),
            )
            self._translations[between] = found
        return found

    def full_translations(self, original: FlowKey, reply: FlowKey, server: Server) -> tuple[Translation, Translation]:
        """Return the translations of one connection whose server sees another source than the client's."""
        traffic = self.traffic(server)
        return (
            FullTranslation(original, reverse(reply), traffic.there),
            FullTranslation(reply, reverse(original), traffic.back),
        )

    def traffic(self, server: Server) -> Traffic:
        """Return what is carried to and from a server."""
        found = self._traffic.get(server)
        if found is None:
            found = self._traffic[server] = Traffic(self.counters, *server.accounts)
        return found

    def settle(self) -> None:
        """Bring the totals of bytes up to date; forget servers that are there no more."""
        list(self.settling())

    def settling(self) -> Iterator[None]:
        """Do the same in pieces, each of which is little work."""
        gone = set()
        for number, (server, traffic) in enumerate(list(self._traffic.items()), start=1):
            self.carried += traffic.settle()
            if server.pool is None and not server.live:
                gone.add(server)
            if number % _SETTLED_AT_ONCE == 0:
                yield
        if gone:
            self._traffic = {server: traffic for server, traffic in self._traffic.items() if server not in gone}
            self._translations = {key: made for key, made in self._translations.items() if key[1] not in gone}


class VirtualAddresses:
    """Which service answers at a destination: exact addresses first, then the wildcards of the address family."""

    def __init__(self) -> None:
        self._services: dict[tuple[bytes, bytes, int], Service] = {}
        self._exact: set[bytes] = set()

    def bind(self, address: bytes, port: int, service: Service) -> None:
        """Lead what comes to `address` (4 or 16 bytes; all zero for any) and `port` to `service`."""
        self._services[address, port.to_bytes(2, "big"), service.protocol] = service
        if any(address):
            self._exact.add(address)

    def release(self, service: Service) -> None:
        """Lead nothing to `service` any more."""
        self._services = {place: each for place, each in self._services.items() if each is not service}
        self._exact = {address for address, _, _ in self._services if any(address)}

    def find(self, address: bytes, port: bytes, protocol: int) -> Service | None:
        """Return the service at a destination as it stands in a packet, or None if it is nobody's."""
        services = self._services
        return services.get((address, port, protocol)) or services.get((bytes(len(address)), port, protocol))

    def owns(self, address: bytes) -> bool:
        """Whether an address, not as one of any, is a virtual one."""
        return address in self._exact
