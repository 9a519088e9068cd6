"""Packets for the core's tests, made word by word from the RFCs: nothing in here knows natlb.

`segment`, `datagram`, `icmp` and `cut` are for tests that need thousands of packets. `oracle` says with scapy whether
they, and natlb, are right.
"""

from functools import cache
from ipaddress import ip_address

Place = tuple[str, int]
"""An address as text, and a port."""

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58

PAD = b"\x01\x04\x00\x00\x00\x00"
"""The body of a hop-by-hop or destination options header that says nothing: one PadN option."""

EXTENSIONS = HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60


@cache
def packed(address: str) -> bytes:
    return ip_address(address).packed


def ones_sum(data: bytes) -> int:
    """RFC 1071 as it is written: add 16-bit words, carry around."""
    total = 0
    for high, low in zip(data[::2], data[1::2] + b"\0", strict=False):
        total += high << 8 | low
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo(source: bytes, destination: bytes, size: int, protocol: int = TCP) -> bytes:
    if len(source) == 4:
        return source + destination + bytes((0, protocol)) + size.to_bytes(2, "big")
    return source + destination + size.to_bytes(4, "big") + bytes((0, 0, 0, protocol))


def complement(data: bytes) -> bytes:
    return (ones_sum(data) ^ 0xFFFF).to_bytes(2, "big")


def ports(source: Place, destination: Place) -> bytes:
    return source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")


def network(
    source: str,
    destination: str,
    protocol: int,
    body: bytes,
    *,
    ip_options: bytes = b"",
    extensions: tuple[int, ...] = (),
) -> bytearray:
    """Return an IP packet around `body`, IPv4 or IPv6 by its addresses.

    `ip_options` come in multiples of four bytes; `extensions` are numbers of IPv6 extension headers.
    """
    start, end = packed(source), packed(destination)
    if len(start) == 16:
        chain, following = b"", protocol
        for number in reversed(extensions):
            content = PAD if number in (HOP_BY_HOP, DESTINATION) else bytes(6)
            chain, following = bytes((following, 0)) + content + chain, number
        size = (len(chain) + len(body)).to_bytes(2, "big")
        return bytearray(bytes((0x60, 0, 0, 0)) + size + bytes((following, 64)) + start + end + chain + body)
    ip = bytearray((0x45 + len(ip_options) // 4, 0)) + (20 + len(ip_options) + len(body)).to_bytes(2, "big")
    ip += bytes((0x12, 0x34, 0x40, 0, 64, protocol, 0, 0)) + start + end + ip_options
    ip[10:12] = complement(ip)
    return ip + body


def segment(
    source: Place,
    destination: Place,
    flags: int,
    *,
    seq: int = 1000,
    ack: int = 0,
    window: int = 0x2000,
    payload: bytes = b"",
    options: bytes = b"",
    ip_options: bytes = b"",
    extensions: tuple[int, ...] = (),
    spoilt: bool = False,
) -> bytearray:
    """Return a packet with TCP, with right checksums unless it is to be spoilt.

    `options` come in multiples of four bytes.
    """
    tcp = bytearray(ports(source, destination) + seq.to_bytes(4, "big") + ack.to_bytes(4, "big"))
    tcp += bytes(((5 + len(options) // 4) << 4, flags)) + window.to_bytes(2, "big") + bytes(4) + options + payload
    tcp[16:18] = complement(pseudo(packed(source[0]), packed(destination[0]), len(tcp)) + tcp)
    if spoilt:
        tcp[17] ^= 0x55
    return network(source[0], destination[0], TCP, tcp, ip_options=ip_options, extensions=extensions)


def datagram(
    source: Place,
    destination: Place,
    payload: bytes = b"",
    *,
    checksum: int | None = None,
    ip_options: bytes = b"",
    extensions: tuple[int, ...] = (),
    spoilt: bool = False,
) -> bytearray:
    """Return a packet with UDP. `checksum` is the right one unless given; 0 says that there is none."""
    udp = bytearray(ports(source, destination) + (8 + len(payload)).to_bytes(2, "big") + bytes(2) + payload)
    if checksum is None:
        right = complement(pseudo(packed(source[0]), packed(destination[0]), len(udp), UDP) + udp)
        udp[6:8] = right if any(right) else b"\xff\xff"
    else:
        udp[6:8] = checksum.to_bytes(2, "big")
    if spoilt:
        udp[7] ^= 0x55
    return network(source[0], destination[0], UDP, udp, ip_options=ip_options, extensions=extensions)


def icmp(
    source: str, destination: str, kind: int, code: int, rest: bytes, body: bytes, *, spoilt: bool = False
) -> bytearray:
    """Return a packet with ICMP, or ICMPv6 by its addresses; `rest` is the second word of its header."""
    start, end = packed(source), packed(destination)
    protocol = ICMP if len(start) == 4 else ICMPV6
    message = bytearray((kind, code, 0, 0)) + rest + body
    covered = b"" if protocol == ICMP else pseudo(start, end, len(message), ICMPV6)
    message[2:4] = complement(covered + message)
    if spoilt:
        message[3] ^= 0x55
    return network(source, destination, protocol, message)


def cut(packet: bytes, first: int, last: int | None = None, *, identification: int = 77) -> bytearray:
    """Return the fragment with bytes `first` to `last` of what a whole packet carries, one past the last; None is all.

    What stands before an IPv6 fragment header, and is in all fragments, is the hop-by-hop and the routing header.
    """
    if packet[0] >> 4 == 4:
        start = (packet[0] & 15) * 4
        whole = packet[start : int.from_bytes(packet[2:4], "big")]
        part = whole[first:last]
        head = bytearray(packet[:start])
        head[2:4] = (start + len(part)).to_bytes(2, "big")
        head[4:6] = identification.to_bytes(2, "big")
        head[6:8] = (first // 8 | (0x2000 if first + len(part) < len(whole) else 0)).to_bytes(2, "big")
        head[10:12] = bytes(2)
        head[10:12] = complement(head)
        return head + part
    names, start = 6, 40
    while packet[names] in (HOP_BY_HOP, ROUTING):
        names, start = start, start + 8 + packet[start + 1] * 8
    whole = packet[start : 40 + int.from_bytes(packet[4:6], "big")]
    part = whole[first:last]
    head = bytearray(packet[:start])
    following, head[names] = head[names], FRAGMENT
    more = first + len(part) < len(whole)
    head += bytes((following, 0)) + (first | more).to_bytes(2, "big") + identification.to_bytes(4, "big")
    head[4:6] = (len(head) - 40 + len(part)).to_bytes(2, "big")
    return head + part


def transport(packet: bytes) -> tuple[int, int]:
    """Return the protocol that a packet carries, and where: behind IPv4 options or IPv6 extension headers."""
    if packet[0] >> 4 == 4:
        return packet[9], (packet[0] & 15) * 4
    protocol, start = packet[6], 40
    while protocol in EXTENSIONS and start + 8 <= len(packet):
        protocol, start = packet[start], start + 8 + (0 if protocol == FRAGMENT else packet[start + 1] * 8)
    return protocol, start


def flags_and_end(packet: bytes) -> tuple[int, int]:
    """Return the flags of a segment and the sequence number after it; SYN and FIN count as one each."""
    start = transport(packet)[1]
    seq, flags = int.from_bytes(packet[start + 4 : start + 8], "big"), packet[start + 13]
    size = len(packet) - start - (packet[start + 12] >> 4) * 4
    return flags, seq + size + bool(flags & SYN) + bool(flags & FIN) & 0xFFFFFFFF


def places(packet: bytes) -> tuple[Place, Place]:
    """Return source and destination of a packet with ports."""
    first, size = (12, 4) if packet[0] >> 4 == 4 else (8, 16)
    start = transport(packet)[1]
    addresses = (str(ip_address(bytes(packet[at : at + size]))) for at in (first, first + size))
    numbers = (int.from_bytes(packet[at : at + 2], "big") for at in (start, start + 2))
    source, destination = zip(addresses, numbers, strict=True)
    return source, destination


def ends(key: bytes) -> tuple[Place, Place]:
    """Return source and destination of a flow key: two addresses, two ports, a protocol."""
    size = 4 if len(key) == 13 else 16
    addresses = (str(ip_address(key[at : at + size])) for at in (0, size))
    numbers = (int.from_bytes(key[at : at + 2], "big") for at in (2 * size, 2 * size + 2))
    source, destination = zip(addresses, numbers, strict=True)
    return source, destination
