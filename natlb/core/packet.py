"""Where things are in a packet, and which flow it belongs to.

A packet is one mutable buffer that starts at the IP header (RFC 791, RFC 8200). Nothing is copied out of it and no
object is made per field: `PacketView.read` finds the transport header, checks every length before it is used, and
cuts out the flow key; the rest is offsets. The engine owns a single view and points it at one packet after another,
because an object per packet would cost more than all that is done with it.

`read` never raises. It says what kind of packet it found, or why it cannot follow it. A fragment is a kind of its own:
only the first one of a datagram has ports, so `datagram` tells which fragments belong together.
"""

from enum import Enum
from struct import Struct
from typing import Final

from natlb.core.checksum import difference, fold, pseudo_header
from natlb.core.flow import FlowKey, apply_delta
from natlb.core.verdict import DropReason

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58

FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

IPV4_CHECKSUM: Final = 10
TRANSPORT_CHECKSUM: Final = {TCP: 16, UDP: 6}
"""Where the checksum stands in a transport header, by protocol."""
TRANSPORT_HEADER: Final = {TCP: 20, UDP: 8}
"""The least size of a transport header, by protocol."""

_HOP_BY_HOP, _ROUTING, _DESTINATION_OPTIONS = 0, 43, 60
FRAGMENT_HEADER: Final = 44
"""The extension header of an IPv6 fragment (RFC 8200, section 4.5): 8 bytes, whatever stands in it."""
EXTENSION_HEADERS: Final = frozenset((_HOP_BY_HOP, _ROUTING, _DESTINATION_OPTIONS))
"""Those that are stepped over: the second byte of each tells its length, in 8 bytes past the first eight."""
_END_OF_OPTIONS, _NO_OPTION, _LARGEST_SEGMENT = 0, 1, 2
_MOST_EXTENSIONS: Final = 8
"""Extension headers that are followed: RFC 8200 knows seven, each at most once or twice."""

_U16 = Struct("!H")
_IPV4 = Struct("!2x H 2x H x B")  # total length, fragmentation, protocol


class Kind(Enum):
    """What a packet is, as far as a NAT cares."""

    TCP = "a whole TCP segment"
    UDP = "a whole UDP datagram"
    ICMP = "an ICMP or ICMPv6 message"
    FRAGMENT = "a fragment of something that has ports"
    OTHER = "anything else"


_TCP, _UDP, _ICMP, _OTHER = Kind.TCP, Kind.UDP, Kind.ICMP, Kind.OTHER


class PacketView:
    """The offsets of one IP packet. Valid only after `read` has returned a `Kind` that is not OTHER."""

    __slots__ = (
        "data",
        "datagram",
        "end",
        "flags",
        "is_fragment",
        "key",
        "more",
        "offset",
        "packet",
        "protocol",
        "transport",
        "unfinished",
        "until",
        "version",
    )

    packet: bytearray
    version: int
    """4 or 6."""
    protocol: int
    """The transport protocol: TCP, UDP, ICMP or ICMPV6."""
    key: FlowKey
    """Source address, destination address, source port, destination port, protocol: as they stand in the packet.

    Only of TCP, of UDP, and of the first fragment of either."""
    transport: int
    """Offset of the transport header from the start of the packet; in a later fragment, of what it carries."""
    data: int
    """Offset of what TCP or UDP carries."""
    flags: int
    """The TCP flags, FIN to URG."""
    end: int
    """Offset of the end of the IP packet: a capture may have padding behind it."""
    is_fragment: bool
    """Whether this is one, of a datagram of more than one."""
    datagram: bytes
    """Of a fragment: what all fragments of its datagram have in common (RFC 791, section 3.2; RFC 8200, 4.5)."""
    offset: int
    """Of a fragment: where in the datagram its bytes belong."""
    until: int
    """Of a fragment: where in the datagram its bytes end, one past the last."""
    more: bool
    """Of a fragment: whether it is not the last one."""
    unfinished: bool
    """Whether the transport checksum is only begun: the field holds the sum of the pseudo-header, not complemented, for
    a network card, or whoever cuts the packet up, to go on with. So a packet is that has not been on any wire."""

    def __init__(self) -> None:
        self.unfinished = False

    def read(self, packet: bytearray) -> Kind | DropReason:
        """Point the view at `packet`; return what it is, or why it cannot be followed (the view is then void)."""
        size = len(packet)
        if size < 20:
            return DropReason.TRUNCATED
        first = packet[0]
        if first >> 4 != 4:
            return self._read_ipv6(packet) if first >> 4 == 6 else DropReason.BAD_VERSION
        transport = (first & 0x0F) * 4
        if transport < 20:
            return DropReason.BAD_HEADER
        end, fragment, protocol = _IPV4.unpack_from(packet)
        if end > size:
            return DropReason.TRUNCATED
        self.packet = packet
        self.version = 4
        self.end = end
        self.transport = transport
        self.protocol = protocol
        if fragment & 0x3FFF:  # more fragments, or an offset
            self.datagram = bytes(packet[12:20] + packet[4:6] + packet[9:10])
            return self._read_fragment(transport, fragment << 3 & 0xFFFF, fragment & 0x2000 != 0)
        self.is_fragment = False
        return self._read_tcp() if protocol == TCP else self._read_other(ICMP)

    def _read_ipv6(self, packet: bytearray) -> Kind | DropReason:
        if len(packet) < 40:
            return DropReason.TRUNCATED
        end = 40 + (packet[4] << 8 | packet[5])
        if end > len(packet):
            return DropReason.TRUNCATED
        self.packet = packet
        self.version = 6
        self.end = end
        self.is_fragment = False
        fragment = 0
        following, transport = packet[6], 40
        for _ in range(_MOST_EXTENSIONS):
            if following == FRAGMENT_HEADER:
                if transport + 8 > end:
                    return DropReason.TRUNCATED
                word = packet[transport + 2] << 8 | packet[transport + 3]
                if word & 0xFFF9:  # else it is the only one of its datagram: a whole packet (RFC 6946)
                    fragment = transport
                following, transport = packet[transport], transport + 8
                if word & 0xFFF8:
                    break
            elif following in EXTENSION_HEADERS:
                if transport + 8 > end:
                    return DropReason.TRUNCATED
                following, transport = packet[transport], transport + 8 + packet[transport + 1] * 8
            else:
                break
        self.protocol = following
        self.transport = transport
        if fragment:
            word = packet[fragment + 2] << 8 | packet[fragment + 3]
            self.datagram = bytes(packet[8:40] + packet[fragment + 4 : fragment + 8])
            return self._read_fragment(fragment + 8, word & 0xFFF8, word & 1 != 0)
        return self._read_tcp() if following == TCP else self._read_other(ICMPV6)

    def _read_fragment(self, start: int, offset: int, more: bool) -> Kind | DropReason:
        """Read a fragment whose part of the datagram, extension headers included, begins at `start`."""
        self.is_fragment = True
        self.offset = offset
        self.until = offset + self.end - start
        self.more = more
        carried = self.end - self.transport
        if carried <= 0 or (more and carried & 7):
            return DropReason.BAD_HEADER
        if offset:
            # What a later fragment of IPv6 carries is only known by the first one: extension headers may precede it.
            return Kind.FRAGMENT if self.version == 6 or self.protocol in TRANSPORT_HEADER else _OTHER
        if self.protocol not in TRANSPORT_HEADER:
            return _OTHER if self.version == 4 else Kind.FRAGMENT
        if carried < TRANSPORT_HEADER[self.protocol]:
            return DropReason.FRAGMENT_TINY
        if self.protocol == UDP:
            self._cut_key()
            self.data = self.transport + 8
            return Kind.FRAGMENT
        problem = self._read_tcp()
        return problem if isinstance(problem, DropReason) else Kind.FRAGMENT

    def _read_tcp(self) -> Kind | DropReason:
        packet, transport, end = self.packet, self.transport, self.end
        if transport + 20 > end:
            return DropReason.TRUNCATED
        header = packet[transport + 12] >> 4 << 2
        data = transport + header
        if header < 20 or data > end:
            return DropReason.BAD_HEADER
        self._cut_key()
        self.data = data
        self.flags = packet[transport + 13] & 0x3F
        return _TCP

    def _read_other(self, icmp: int) -> Kind | DropReason:
        transport = self.transport
        if self.protocol == UDP:
            if transport + 8 > self.end:
                return DropReason.TRUNCATED
            length = self.packet[transport + 4] << 8 | self.packet[transport + 5]
            if length < 8 or transport + length > self.end:
                return DropReason.BAD_HEADER
            self._cut_key()
            self.data = transport + 8
            return _UDP
        if self.protocol == icmp:
            return _ICMP if transport + 8 <= self.end else DropReason.TRUNCATED
        return _OTHER

    def _cut_key(self) -> None:
        packet, transport = self.packet, self.transport
        addresses = packet[12:20] if self.version == 4 else packet[8:40]
        self.key = bytes(addresses + packet[transport : transport + 4] + self.protocol.to_bytes())

    @property
    def source(self) -> bytes:
        """The source address, 4 or 16 bytes."""
        return bytes(self.packet[12:16] if self.version == 4 else self.packet[8:24])

    @property
    def destination(self) -> bytes:
        """The destination address, 4 or 16 bytes."""
        return bytes(self.packet[16:20] if self.version == 4 else self.packet[24:40])

    @property
    def source_port(self) -> int:
        """The source port."""
        return int(_U16.unpack_from(self.packet, self.transport)[0])

    @property
    def destination_port(self) -> int:
        """The destination port."""
        return int(_U16.unpack_from(self.packet, self.transport + 2)[0])

    @property
    def payload_size(self) -> int:
        """Bytes that TCP or UDP carries (in this fragment, if it is one)."""
        return self.end - self.data

    def option(self, kind: int, size: int) -> int | None:
        """Return where a TCP option of this kind and size stands, or None if there is none (RFC 9293, section 3.1)."""
        packet, at, end = self.packet, self.transport + 20, self.data
        while at < end:
            this = packet[at]
            if this == _NO_OPTION:
                at += 1
                continue
            if this == _END_OF_OPTIONS or at + 2 > end:
                return None
            length = packet[at + 1]
            if this == kind and length == size and at + size <= end:
                return at
            if length < 2:
                return None
            at += length
        return None

    def limit_packets(self, size: int) -> None:
        """Lower what a SYN says that its sender takes in one segment, if packets would be larger than `size` with it.

        That is the largest segment size, which does not count the two headers without options (RFC 9293, 3.7.1).
        """
        at = self.option(_LARGEST_SEGMENT, 4)
        if at is None:
            return
        packet, most = self.packet, size - (40 if self.version == 4 else 60)
        if _U16.unpack_from(packet, at + 2)[0] <= most:
            return
        if self.unfinished:  # it does not cover the options yet
            _U16.pack_into(packet, at + 2, most)
            return
        start = at + 2 & ~1  # an option may begin anywhere, and sums are of words at even offsets
        old = bytes(packet[start : start + 4])
        _U16.pack_into(packet, at + 2, most)
        apply_delta(packet, self.transport + TRANSPORT_CHECKSUM[TCP], difference(old, packet[start : start + 4]))

    @property
    def checksum_is_missing(self) -> bool:
        """Whether this is UDP without a checksum: over IPv4 that is allowed (RFC 768), over IPv6 not (RFC 8200)."""
        at = self.transport + 6
        return self.protocol == UDP and not (self.packet[at] or self.packet[at + 1])

    def checksum_is_good(self) -> bool:
        """Whether the checksum of TCP, UDP or ICMP is right, computed over all that it covers.

        Of a fragment that cannot be said; its receiver will. An unfinished one has met nothing that could spoil it.
        """
        if self.unfinished or self.is_fragment:
            return True
        packet, transport, end, protocol = self.packet, self.transport, self.end, self.protocol
        if protocol == UDP:
            if self.version == 4 and self.checksum_is_missing:
                return True
            # What stands behind the datagram is not covered.
            end = transport + (packet[transport + 4] << 8 | packet[transport + 5])
        total = int.from_bytes(packet[transport:end], "big")
        if end - transport & 1:
            total <<= 8
        if protocol != ICMP:  # the pseudo-header: words may be summed in any order
            addresses = packet[12:20] if self.version == 4 else packet[8:40]
            total += int.from_bytes(addresses, "big") + end - transport + protocol
        return total > 0 and total % 0xFFFF == 0

    @property
    def checksum_is_begun(self) -> bool:
        """Whether the checksum field of TCP or UDP holds the sum of the pseudo-header, as an unfinished one does."""
        at = self.transport + TRANSPORT_CHECKSUM[self.protocol]
        begun = fold(pseudo_header(self.source, self.destination, self.protocol, self.end - self.transport))
        return bool(_U16.unpack_from(self.packet, at)[0] == begun)

    def finish_checksum(self) -> None:
        """Make an unfinished checksum of TCP or UDP the one that a receiver expects.

        The sum in the field is summed with all that is covered, and so need not be made anew.
        """
        at = self.transport + TRANSPORT_CHECKSUM[self.protocol]
        checksum = fold(self.packet[self.transport : self.end]) ^ 0xFFFF
        # 0 of UDP says that there is none (RFC 768); TCP's sums are the same number either way, and 0 is the usual one.
        _U16.pack_into(self.packet, at, checksum or (0xFFFF if self.protocol == UDP else 0))
