"""Two tuples are the NAT.

A connection through the balancer has two 5-tuples. `original` is what the client sends: client -> VIP. `reply` is
what the server sends back: server -> client. A packet that matches the one leaves as the reverse of the other, and
that is all that network address translation is (RFC 3022; for load sharing RFC 2391):

    client -> VIP       becomes    client -> server        direction ORIGINAL: the destination is rewritten
    server -> client    becomes    VIP -> client           direction REPLY: the source is rewritten

With full NAT the server sees another client, an address and port of the balancer's own, and both ends are rewritten:

    client -> VIP       becomes    SNAT -> server
    server -> SNAT      becomes    VIP -> client

A `FlowKey` is the tuple as it stands in the packet: plain bytes, because a dictionary finds bytes fastest. A
translation is one direction's change made ready: where to write which bytes and by how much the checksums move. A
`Translation` of one end depends on the VIP and the server only, so all connections between the same two share it.
"""

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from natlb.core.checksum import adjust, difference
from natlb.core.statistics import Account

if TYPE_CHECKING:
    from natlb.core.idle import IdleQueue
    from natlb.core.pool import Server
    from natlb.core.service import Service
    from natlb.core.states import State

FlowKey = bytes
"""Source address, destination address, source port, destination port, protocol: 13 bytes for IPv4, 37 for IPv6."""

Endpoint = tuple[bytes, bytes]
"""An address, 4 or 16 bytes, and a port, 2 bytes: as they stand in a packet."""

OFFLOADED: Final = 4
"""A reason for a connection to stand aside: its packets are handled elsewhere, see `natlb.core.offloading`. Others are
`1 << direction`: where that sender is in its numbers is not known."""

_UDP = 17  # as in natlb.core.packet, which needs this module

_U16 = Struct("!H")


class Direction(IntEnum):
    """Which of a connection's two tuples a packet matched."""

    ORIGINAL = 0
    REPLY = 1


def ends(key: FlowKey) -> tuple[Endpoint, Endpoint]:
    """Return source and destination of a tuple."""
    size = 4 if len(key) == 13 else 16
    ports = 2 * size
    return (key[:size], key[ports : ports + 2]), (key[size:ports], key[ports + 2 : ports + 4])


def flow_key(source: Endpoint, destination: Endpoint, protocol: int) -> FlowKey:
    """Return the tuple of packets from `source` to `destination`."""
    return source[0] + destination[0] + source[1] + destination[1] + protocol.to_bytes()


def reverse(key: FlowKey) -> FlowKey:
    """Return the tuple of the packets that answer those of `key`."""
    size = 4 if len(key) == 13 else 16
    ports = 2 * size
    return key[size:ports] + key[:size] + key[ports + 2 : ports + 4] + key[ports : ports + 2] + key[-1:]


def apply_delta(packet: bytearray, at: int, delta: int, protocol: int = 0) -> None:
    """Move the checksum that stands at `at` by `delta`.

    For UDP (`protocol` 17), 0 says that there is none and stays 0, and a checksum that comes out as 0 is written as
    0xFFFF, which is the same number to one's complement (RFC 768).
    """
    value = packet[at] << 8 | packet[at + 1]
    if protocol == _UDP:
        if value:
            _U16.pack_into(packet, at, adjust(value, delta) or 0xFFFF)
    else:
        _U16.pack_into(packet, at, adjust(value, delta))


class Translation:
    """One endpoint of a packet, address and port, replaced in place together with the checksums that cover it."""

    __slots__ = (
        "account",
        "address",
        "address_at",
        "address_delta",
        "port",
        "port_at",
        "port_start",
        "transport_delta",
    )

    account: Account
    """Where the payload of the packets is counted for the statistics."""

    address: bytes | bytearray
    """What is written into the IP header, at `address_at`."""
    address_at: slice
    port: bytes | bytearray
    """What is written into the transport header, at `port_start`."""
    port_start: int
    port_at: slice
    """Where that is in a packet whose IP header has no options."""
    address_delta: int
    """How a sum over the addresses moves: that of the IPv4 header, and that of a pseudo-header."""
    transport_delta: int
    """How the transport checksum moves: it covers the addresses through its pseudo-header."""

    def __init__(self, direction: Direction, old: Endpoint, new: Endpoint, account: Account) -> None:
        """Prepare replacing endpoint `old` by `new`.

        In direction ORIGINAL that is the destination, in direction REPLY the source.
        """
        self.account = account
        # A bytearray takes bytes by way of a bytearray, so they are one already: these few are shared by all.
        self.address, self.port = bytearray(new[0]), bytearray(new[1])
        self.address_at, self.port_at = _PLACES[len(new[0]), direction]
        self.port_start = 2 if direction is Direction.ORIGINAL else 0
        self.address_delta = difference(old[0], new[0])
        self.transport_delta = difference(old[0] + old[1], new[0] + new[1])

    def apply_tcp(self, packet: bytearray, transport: int) -> None:
        """Rewrite a TCP segment in place; `transport` is the offset of its header."""
        at = transport + self.port_start
        packet[at : at + len(self.port)] = self.port
        at = transport + 16
        _U16.pack_into(packet, at, adjust(packet[at] << 8 | packet[at + 1], self.transport_delta))
        self.apply_addresses(packet)

    def apply_udp(self, packet: bytearray, transport: int) -> None:
        """Rewrite a UDP datagram in place, or its first fragment; `transport` is the offset of its header."""
        at = transport + self.port_start
        packet[at : at + len(self.port)] = self.port
        apply_delta(packet, transport + 6, self.transport_delta, _UDP)
        self.apply_addresses(packet)

    def apply_unfinished(self, packet: bytearray, transport: int, checksum: int) -> None:
        """Rewrite a packet whose transport checksum, at `checksum`, is unfinished: the sum of the pseudo-header alone.

        It stays unfinished, and the ports are not in it.
        """
        at = transport + self.port_start
        packet[at : at + len(self.port)] = self.port
        total = (packet[checksum] << 8 | packet[checksum + 1]) + self.address_delta
        _U16.pack_into(packet, checksum, (total & 0xFFFF) + (total >> 16))
        self.apply_addresses(packet)

    def apply_addresses(self, packet: bytearray) -> None:
        """Rewrite what stands in the IP header alone: all there is to do in a later fragment."""
        packet[self.address_at] = self.address
        if packet[0] >> 4 == 4:  # IPv6 has no checksum of its own
            _U16.pack_into(packet, 10, adjust(packet[10] << 8 | packet[11], self.address_delta))


_PLACES: Final = {
    (4, Direction.ORIGINAL): (slice(16, 20), slice(22, 24)),
    (4, Direction.REPLY): (slice(12, 16), slice(20, 22)),
    (16, Direction.ORIGINAL): (slice(24, 40), slice(42, 44)),
    (16, Direction.REPLY): (slice(8, 24), slice(40, 42)),
}
"""Where the address that is replaced stands in a packet without options, and where the port, by size of the address."""

_BOTH_PLACES: Final = {13: (slice(12, 20), slice(20, 24)), 37: (slice(8, 40), slice(40, 44))}
"""The same of both addresses and of both ports, by size of the tuple."""


class FullTranslation(Translation):
    """Both endpoints of a packet replaced at once: the two addresses stand side by side, and so do the two ports."""

    __slots__ = ()

    def __init__(self, old: FlowKey, new: FlowKey, account: Account) -> None:
        """Prepare making packets of tuple `old` into packets of tuple `new`."""
        self.account = account
        addresses = 8 if len(new) == 13 else 32
        self.address, self.port = new[:addresses], new[addresses:-1]
        self.address_at, self.port_at = _BOTH_PLACES[len(new)]
        self.port_start = 0
        self.address_delta = difference(old[:addresses], self.address)
        self.transport_delta = difference(old[:-1], new[:-1])


class Connection:
    """One connection, or one flow of UDP: its two tuples, its server, its state.

    The engine alone changes it. What it counts and times stands in the `Ledger`, at `index`: a million connections
    are kept small by that. `newer`, `older` and `queue` belong to `natlb.core.idle`.
    """

    __slots__ = (
        "aside",
        "index",
        "newer",
        "older",
        "original",
        "queue",
        "reply",
        "server",
        "service",
        "state",
        "translations",
    )

    aside: int
    """Why its segments do not go the short way, as flags: see `OFFLOADED`. 0 of nearly all that come here."""
    index: int
    """Its row in the ledger, and its name for the outside while it is in the table."""
    newer: Any
    older: Any
    queue: "IdleQueue"
    """The queue that it stands in, or stood in last: there is none before it enters the table."""
    translations: tuple[Translation, Translation]
    """What to do to a packet, by direction."""

    def __init__(
        self,
        original: FlowKey,
        reply: FlowKey,
        translations: tuple[Translation, Translation],
        service: "Service",
        server: "Server",
        state: "State",
    ) -> None:
        self.original = original
        self.reply = reply
        self.translations = translations
        self.service = service
        self.server = server
        self.state = state
        self.newer = self.older = None
        self.index = -1
        self.aside = 0

    @property
    def offloaded(self) -> bool:
        """Whether its packets are handled elsewhere."""
        return self.aside & OFFLOADED != 0

    @property
    def has_own_port(self) -> bool:
        """Whether the server sees another source than the client's: an address or a port that natlb lent it."""
        return type(self.translations[0]) is FullTranslation
