"""Packets of the engine's own: the RST, the ICMP error, the echo reply that a host in its place would send.

Each is whole, IP header and checksums included, and says where it goes. None answers what must not be answered: an
error never answers an error (RFC 1122, section 3.2.2), and a RST never a RST; the engine sees to that.
"""

from struct import Struct
from typing import Final

from natlb.core.checksum import fold, pseudo_header
from natlb.core.packet import ACK, FIN, ICMP, ICMPV6, IPV4_CHECKSUM, RST, SYN, TCP, PacketView

# A hop limit for packets that natlb makes itself: the default of Linux and of RFC 1700.
_HOP_LIMIT = 64

_MOST_QUOTED: Final = {4: 576 - 20 - 8, 6: 1280 - 40 - 8}
"""How much of the offending packet an ICMP error quotes: RFC 1812, section 4.3.2.3, and RFC 4443, section 3.1."""

_PORT_UNREACHABLE: Final = {4: (ICMP, 3, 3), 6: (ICMPV6, 1, 4)}
"""Protocol, type and code: RFC 792 and RFC 4443, section 3.1."""

_ECHO_REPLY: Final = {4: (ICMP, 0), 6: (ICMPV6, 129)}

_U16 = Struct("!H")
_U32 = Struct("!I")
_TCP_HEADER = Struct("!HHIIBBHHH")


def reset_for(view: PacketView) -> bytes:
    """Return the RST that a host without such a connection answers a segment with (RFC 9293, section 3.10.7.1).

    It goes from the packet's destination to its source, and is acceptable to the sender of the packet.
    """
    sequence, acknowledgment = _U32.unpack_from(view.packet, view.transport + 4)[0], 0
    if view.flags & ACK:
        sequence, flags = _U32.unpack_from(view.packet, view.transport + 8)[0], RST
    else:
        length = view.payload_size + bool(view.flags & SYN) + bool(view.flags & FIN)
        sequence, acknowledgment, flags = 0, (sequence + length) & 0xFFFFFFFF, RST | ACK
    transport = view.transport
    ports = bytes(view.packet[transport + 2 : transport + 4] + view.packet[transport : transport + 2])
    return _segment(view.destination, view.source, ports, sequence, acknowledgment, flags)


def reset(source: bytes, destination: bytes, ports: bytes, sequence: int, acknowledged: int) -> bytes:
    """Return a RST with these numbers; addresses are 4 or 16 bytes, `ports` source and destination, 4 bytes."""
    return _segment(source, destination, ports, sequence, acknowledged, RST | ACK)


def port_unreachable(view: PacketView) -> bytes:
    """Return the ICMP error of a host where nobody listens at the port, quoting the packet (RFC 1122, 4.1.3.1)."""
    protocol, kind, code = _PORT_UNREACHABLE[view.version]
    quoted = view.packet[: min(view.end, _MOST_QUOTED[view.version])]
    return _icmp(view, protocol, bytearray((kind, code, 0, 0, 0, 0, 0, 0)) + quoted)


def echo_reply(view: PacketView) -> bytes:
    """Return the answer to an echo request: the same message, another type (RFC 792; RFC 4443, section 4.2)."""
    protocol, kind = _ECHO_REPLY[view.version]
    message = bytearray((kind, 0, 0, 0)) + view.packet[view.transport + 4 : view.end]
    return _icmp(view, protocol, message)


def icmp_checksum(source: bytes, destination: bytes, protocol: int, message: bytearray) -> bytes:
    """Return the checksum field of an ICMP message whose own field is zero; ICMPv6 covers a pseudo-header too."""
    covered = message
    if protocol == ICMPV6:
        covered = bytearray(pseudo_header(source, destination, protocol, len(message))) + message
    return _U16.pack(fold(covered) ^ 0xFFFF)


def _icmp(view: PacketView, protocol: int, message: bytearray) -> bytes:
    """Return an ICMP message that answers a packet, with the same service class (RFC 5508, REQ-10 d)."""
    source, destination = view.destination, view.source
    message[2:4] = icmp_checksum(source, destination, protocol, message)
    return _ip_header(source, destination, protocol, len(message), _service_class(view)) + bytes(message)


def _service_class(view: PacketView) -> int:
    """Return the six bits of a packet that say how it is to be treated, at their place; congestion is not its own."""
    if view.version == 4:
        return view.packet[1] & 0xFC
    return (view.packet[0] << 4 | view.packet[1] >> 4) & 0xFC


def _segment(source: bytes, destination: bytes, ports: bytes, sequence: int, acknowledgment: int, flags: int) -> bytes:
    header = bytearray(20)
    one, other = ports[0] << 8 | ports[1], ports[2] << 8 | ports[3]
    _TCP_HEADER.pack_into(header, 0, one, other, sequence, acknowledgment, 0x50, flags, 0, 0, 0)
    total = fold(pseudo_header(source, destination, TCP, 20) + header)
    _U16.pack_into(header, 16, total ^ 0xFFFF)
    return _ip_header(source, destination, TCP, len(header)) + bytes(header)


def _ip_header(source: bytes, destination: bytes, protocol: int, size: int, service_class: int = 0) -> bytes:
    """Return an IP header, IPv4 or IPv6 by the length of the addresses, for `size` bytes of transport."""
    if len(source) == 16:
        return (
            bytes((0x60 | service_class >> 4, service_class << 4 & 0xFF, 0, 0))
            + _U16.pack(size)
            + bytes((protocol, _HOP_LIMIT))
            + source
            + destination
        )
    # Don't Fragment is set and the identification is 0, as RFC 6864 allows for atomic datagrams.
    header = (
        bytearray((0x45, service_class)) + _U16.pack(20 + size) + bytes((0, 0, 0x40, 0, _HOP_LIMIT, protocol, 0, 0))
    )
    header += source + destination
    _U16.pack_into(header, IPV4_CHECKSUM, fold(header) ^ 0xFFFF)
    return bytes(header)
