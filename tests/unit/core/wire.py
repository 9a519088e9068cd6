"""What the state machine puts on the wire beside whole TCP segments, and how scapy judges what comes back.

UDP datagrams, ICMP errors and fragments are made word by word from the RFCs; nothing in here knows natlb. What a
rewritten packet must look like is scapy's word, checksums included. `End` counts as one end of a TCP connection does.
"""

from dataclasses import dataclass

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6ParamProblem, ICMPv6TimeExceeded, IPv6
from scapy.packet import Packet, Raw

from tests.unit.core.packets import Place, ones_sum, packed

PROTOCOLS = {"TCP": 6, "UDP": 17, "ICMP": 1, "ICMPv6": 58}
NAMES = {number: name for name, number in PROTOCOLS.items()}
CHECKSUM_AT = {6: 16, 17: 6, 1: 2, 58: 2}
WINDOW = 0x2000
"""How much every segment of `packets.segment` offers to receive."""

ERRORS = {4: [(3, 3), (3, 4), (11, 0), (12, 0)], 6: [(1, 4), (2, 0), (3, 0), (4, 1)]}
"""Type and code: port unreachable, packet too big, time exceeded, parameter problem (RFC 792, RFC 4443)."""


# What is sent


def ip(source: str, destination: str, protocol: int, body: bytes, *, identification: int = 0x1234) -> bytearray:
    """Return a packet, IPv4 or IPv6 by its addresses."""
    start, end = packed(source), packed(destination)
    if len(start) == 16:
        return bytearray(
            bytes((0x60, 0, 0, 0)) + len(body).to_bytes(2, "big") + bytes((protocol, 64)) + start + end + body
        )
    header = bytearray((0x45, 0)) + (20 + len(body)).to_bytes(2, "big") + identification.to_bytes(2, "big")
    header += bytes((0, 0, 64, protocol, 0, 0)) + start + end
    header[10:12] = (ones_sum(header) ^ 0xFFFF).to_bytes(2, "big")
    return header + body


def datagram(
    source: Place, destination: Place, payload: bytes, *, checksum: str = "sound", number: int = 0
) -> bytearray:
    """Return a UDP datagram whose checksum is "sound", "spoilt", or missing: "bare". `number` identifies it."""
    start, end = packed(source[0]), packed(destination[0])
    size = (8 + len(payload)).to_bytes(2, "big")
    udp = bytearray(source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big") + size + b"\0\0") + payload
    if checksum != "bare":
        value = ones_sum(start + end + b"\0\x11" + size + udp) ^ 0xFFFF or 0xFFFF  # 0 says that there is none
        udp[6:8] = value.to_bytes(2, "big")
    if checksum == "spoilt":
        udp[8:9] = bytes((udp[8] ^ 0x55,))
    return ip(source[0], destination[0], 17, bytes(udp), identification=number)


def error(sender: str, receiver: str, kind: tuple[int, int], quote: bytes, *, spoilt: bool = False) -> bytearray:
    """Return an ICMP error about the packet that begins as `quote` does."""
    start, end = packed(sender), packed(receiver)
    message = bytearray((*kind, 0, 0, 0, 0, 0x05, 0x78)) + quote
    protocol, pseudo = 1, b""
    if len(start) == 16:
        protocol, pseudo = 58, start + end + len(message).to_bytes(4, "big") + bytes((0, 0, 0, 58))
    message[2:4] = (ones_sum(pseudo + message) ^ 0xFFFF).to_bytes(2, "big")
    message[7] ^= spoilt
    return ip(sender, receiver, protocol, bytes(message))


def unfragmented(piece: bytearray) -> bytearray:
    """Return a first fragment made by `cut` as if it were a whole packet, of which the end is missing."""
    if piece[0] >> 4 == 6:
        return piece[:6] + piece[40:41] + piece[7:40] + piece[48:]
    return piece[:6] + b"\0\0" + piece[8:]


def cut(packet: bytes, at: int, *, number: int) -> list[bytearray]:
    """Return a packet in two fragments, the second beginning with byte `at` of what it carries, a multiple of 8."""
    pieces = []
    if packet[0] >> 4 == 6:
        for offset, more, body in (0, 1, packet[40 : 40 + at]), (at, 0, packet[40 + at :]):
            extension = bytes((packet[6], 0)) + (offset | more).to_bytes(2, "big") + number.to_bytes(4, "big")
            size = (8 + len(body)).to_bytes(2, "big")
            pieces.append(bytearray(packet[:4] + size + b"\x2c" + packet[7:40] + extension + body))
        return pieces
    for offset, more, body in (0, 0x2000, packet[20 : 20 + at]), (at, 0, packet[20 + at :]):
        piece = bytearray(packet[:20] + body)
        piece[2:4] = len(piece).to_bytes(2, "big")
        piece[6:8] = (more | offset // 8).to_bytes(2, "big")
        piece[10:12] = b"\0\0"
        piece[10:12] = (ones_sum(piece[:20]) ^ 0xFFFF).to_bytes(2, "big")
        pieces.append(piece)
    return pieces


# What comes back


def parsed(packet: bytes) -> Packet:
    return (IP if packet[0] >> 4 == 4 else IPv6)(bytes(packet))


def built(packet: Packet) -> bytes:
    """Let scapy compute all checksums, but for that of UDP if there is none, and write the packet out."""
    for layer in IP, TCP, ICMP:
        if layer in packet:
            del packet[layer].chksum
    if UDP in packet and packet[UDP].chksum:
        del packet[UDP].chksum
    return bytes(packet)


def translated(packet: bytes, source: Place, destination: Place) -> bytes:
    """Return a packet of TCP or UDP with other ends. Where its checksum is wrong, it stays wrong by as much."""
    copy = parsed(packet)
    layer = TCP if TCP in copy else UDP
    copy.src, copy[layer].sport = source
    copy.dst, copy[layer].dport = destination
    right = bytearray(built(copy))
    wrong_by = residue(packet)
    if wrong_by:
        at = len(right) - len(copy[layer]) + CHECKSUM_AT[6 if layer is TCP else 17]
        value = (int.from_bytes(right[at : at + 2], "big") + wrong_by) % 0xFFFF or 0xFFFF * (layer is UDP)
        right[at : at + 2] = value.to_bytes(2, "big")
    return bytes(right)


def residue(packet: bytes) -> int:
    """Return by how much the transport checksum of a packet without extensions is wrong, modulo 0xFFFF."""
    size, start = (4, 20) if packet[0] >> 4 == 4 else (16, 40)
    protocol = packet[9] if size == 4 else packet[6]
    at = start + CHECKSUM_AT[protocol]
    if protocol == 17 and packet[at : at + 2] == b"\0\0":
        return 0
    covered = packet[start - 2 * size : start] + protocol.to_bytes(2, "big") + (len(packet) - start).to_bytes(2, "big")
    return ones_sum(bytes(covered if protocol != 1 else b"") + bytes(packet[start:])) % 0xFFFF


def error_with(packet: bytes, sender: str, receiver: str, quote: bytes) -> bytes:
    """Return an ICMP error between other ends and with another quote."""
    outer = parsed(packet)
    outer.src, outer.dst = sender, receiver
    if IP in outer:
        outer[IP].remove_payload()
        message = ICMP(bytes(packet[20:28]))
        del outer[IP].chksum, message.chksum
        return bytes(outer / message / Raw(quote))
    outer.remove_payload()
    kinds = {1: ICMPv6DestUnreach, 2: ICMPv6PacketTooBig, 3: ICMPv6TimeExceeded, 4: ICMPv6ParamProblem}
    message = kinds[packet[40]](bytes(packet[40:48]))
    message.cksum = None
    return bytes(outer / message / Raw(quote))


def port_unreachable_for(packet: bytes) -> bytes:
    """Return the ICMP error of a host that nobody listens on: RFC 1122, section 4.1.3.1."""
    heard = parsed(packet)
    most = 548 if IP in heard else 1232
    ends = {"src": heard.dst, "dst": heard.src}
    if IP in heard:
        return bytes(IP(id=0, flags="DF", ttl=64, **ends) / ICMP(type=3, code=3) / Raw(bytes(packet[:most])))
    return bytes(IPv6(hlim=64, **ends) / ICMPv6DestUnreach(code=4) / Raw(bytes(packet[:most])))


def reset(source: Place, destination: Place, seq: int, ack: int) -> bytes:
    """Return the RST of a host that is at those numbers."""
    network = IP(id=0, flags="DF", ttl=64) if "." in source[0] else IPv6(hlim=64)
    network.src, network.dst = source[0], destination[0]
    return bytes(network / TCP(sport=source[1], dport=destination[1], flags="RA", seq=seq, ack=ack, window=0))


def numbers(packet: bytes) -> tuple[int, int]:
    """Return sequence number and acknowledgment of a segment."""
    at = 20 if packet[0] >> 4 == 4 else 40
    return int.from_bytes(packet[at + 4 : at + 8], "big"), int.from_bytes(packet[at + 8 : at + 12], "big")


# The ends of a TCP connection


@dataclass
class End:
    """What one end counts, modulo 2**32."""

    next: int = 0
    """The number of what it sends next."""
    received: int = 0
    """The number of what it waits for."""
    acked: int = 0
    """Up to where it has told that it has received."""
    edge: int = 0
    """Up to where its peer lets it send, as far as it knows."""
    gone_by: int = 0
    """Up to where it has sent, what was damaged on the way included."""

    def number(self, size: int, skipped: int) -> int:
        """Return the number for `size` bytes; `skipped` ones before them have taken another way.

        When the peer does not let it send so much, it sends something again.
        """
        room = self.edge - self.next & 0xFFFFFFFF
        ahead = skipped if skipped + size <= room else 0 if size <= room else room - size
        return self.next + ahead & 0xFFFFFFFF

    def sent(self, end: int, *, arrives_at: "End | None") -> None:
        """Note that it has sent up to `end`, to a peer that is None when the segment was damaged on the way."""
        self.acked = self.received
        self.gone_by = later(self.gone_by, end)
        if arrives_at is not None:
            self.next = later(self.next, end)
            arrives_at.received = later(arrives_at.received, end)
            arrives_at.edge = later(arrives_at.edge, self.received + WINDOW & 0xFFFFFFFF)


def later(one: int, other: int) -> int:
    """Return the later of two sequence numbers: RFC 9293, section 3.4."""
    return one if one - other & 0xFFFFFFFF < 0x80000000 else other
