"""ICMP errors: they quote the packet that they are about, and the quote must be translated too (RFC 5508, REQ-3 to 5).

An error about a packet that natlb has sent on quotes it as it was sent on. Its receiver must read of a packet that it
knows, so the quote is turned back into what came in, and the error is addressed to whoever sent that:

    from the server's side    quotes  client -> server, or SNAT -> server    to be about  client -> VIP
    from the client's side    quotes  VIP -> client                          to be about  server -> client, or -> SNAT

The quoted packet is the reverse of the tuple that its answers have, so one look-up of the reversed quote finds the
connection: either tuple, as for any packet. Only the beginning of the packet is quoted, 8 bytes of the transport header
at the least: its checksum is adjusted if it is among them, and is never judged (RFC 5508, REQ-3 c).
"""

from typing import Final

from natlb.core.answers import icmp_checksum
from natlb.core.checksum import difference, fold
from natlb.core.flow import FlowKey, apply_delta
from natlb.core.packet import (
    EXTENSION_HEADERS,
    FRAGMENT_HEADER,
    ICMP,
    ICMPV6,
    IPV4_CHECKSUM,
    TCP,
    TRANSPORT_CHECKSUM,
    UDP,
    PacketView,
)

_ERRORS: Final = {ICMP: frozenset((3, 11, 12)), ICMPV6: frozenset((1, 2, 3, 4))}
"""Destination unreachable, time exceeded, parameter problem (RFC 792; source quench is no more, RFC 6633); destination
unreachable, packet too big, time exceeded, parameter problem (RFC 4443). A redirect concerns the next hop alone and is
never translated."""

_ECHO_REQUEST: Final = {ICMP: 8, ICMPV6: 128}


def is_error(view: PacketView) -> bool:
    """Whether an ICMP message is an error, about another packet."""
    return view.packet[view.transport] in _ERRORS[view.protocol]


def is_echo_request(view: PacketView) -> bool:
    """Whether an ICMP message is an echo request."""
    return view.packet[view.transport] == _ECHO_REQUEST[view.protocol]


class Quote:
    """The packet that an ICMP error is about, inside the error."""

    __slots__ = ("key", "start", "transport", "view")

    key: FlowKey
    """The quoted packet's tuple."""

    def __init__(self, view: PacketView, transport: int, protocol: int) -> None:
        """Note the quoted packet in `view`, an ICMP error: offset of its transport header, and protocol."""
        packet = view.packet
        self.view = view
        self.start = view.transport + 8
        self.transport = transport
        addresses = self.start + (12 if view.version == 4 else 8)
        size = 8 if view.version == 4 else 32
        self.key = bytes(packet[addresses : addresses + size] + packet[transport : transport + 4] + protocol.to_bytes())

    @property
    def is_sound(self) -> bool:
        """Whether the IP checksum of the quoted packet is right, if it has one (RFC 5508, REQ-3 a)."""
        return self.view.version == 6 or fold(self.view.packet[self.start : self.transport]) == 0xFFFF

    def translate(self, about: FlowKey, source: bytes) -> None:
        """Make it an error about a packet of tuple `about`, to that packet's sender, from address `source`."""
        view = self.view
        packet, transport, end = view.packet, self.transport, view.end
        size = 4 if view.version == 4 else 16
        addresses, ports = about[: 2 * size], about[2 * size : 2 * size + 4]
        first = 12 if size == 4 else 8
        if size == 4:
            apply_delta(packet, self.start + IPV4_CHECKSUM, difference(self.key[:8], addresses))
        inside = self.start + first
        packet[inside : inside + 2 * size] = addresses
        packet[transport : transport + 4] = ports
        checksum = transport + TRANSPORT_CHECKSUM[about[-1]]
        if checksum + 2 <= end:
            apply_delta(packet, checksum, difference(self.key[:-1], about[:-1]), about[-1])
        outer = source + about[:size]
        if size == 4:
            apply_delta(packet, IPV4_CHECKSUM, difference(bytes(packet[12:20]), outer))
        packet[first : first + 2 * size] = outer
        message = packet[view.transport : end]
        message[2:4] = b"\x00\x00"
        packet[view.transport + 2 : view.transport + 4] = icmp_checksum(source, about[:size], view.protocol, message)


def quoted(view: PacketView) -> Quote | None:
    """Return the packet that an ICMP error is about, or None if it has no ports that one could find it by."""
    packet, start, end = view.packet, view.transport + 8, view.end
    if view.version == 6:
        return _quoted_ipv6(view, start)
    if start + 20 > end or packet[start] >> 4 != 4:
        return None
    header = (packet[start] & 0x0F) * 4
    transport, protocol = start + header, packet[start + 9]
    later = packet[start + 6] & 0x1F or packet[start + 7]  # a fragment that is not the first has no ports
    if header < 20 or transport + 8 > end or later or protocol not in (TCP, UDP):
        return None
    return Quote(view, transport, protocol)


def _quoted_ipv6(view: PacketView, start: int) -> Quote | None:
    packet, end = view.packet, view.end
    if start + 40 > end or packet[start] >> 4 != 6:
        return None
    protocol, transport = packet[start + 6], start + 40
    while protocol not in (TCP, UDP):
        if transport + 8 > end:
            return None
        if protocol == FRAGMENT_HEADER:
            if packet[transport + 2] or packet[transport + 3] & 0xF8:
                return None
            protocol, transport = packet[transport], transport + 8
        elif protocol in EXTENSION_HEADERS:
            protocol, transport = packet[transport], transport + 8 + packet[transport + 1] * 8
        else:
            return None
    return Quote(view, transport, protocol) if transport + 8 <= end else None
