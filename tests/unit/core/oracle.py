"""Scapy as the independent judge: what a packet must look like, and whether checksums are right."""

from scapy.layers.inet import ICMP, IP, TCP, UDP, in4_chksum
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    in6_chksum,
)
from scapy.packet import Packet, Raw
from scapy.utils import checksum

from tests.unit.core import packets as p
from tests.unit.core.packets import ACK, FIN, RST, SYN, Place


def parsed(packet: bytes) -> Packet:
    return (IP if packet[0] >> 4 == 4 else IPv6)(bytes(packet))


def built(packet: Packet) -> bytes:
    """Let scapy compute both checksums and write the packet out. UDP that has none gets none."""
    if IP in packet:
        del packet[IP].chksum
    if TCP in packet:
        del packet[TCP].chksum
    elif packet[UDP].chksum:
        del packet[UDP].chksum
    return bytes(packet)


def translated(packet: bytes, source: Place | None = None, destination: Place | None = None) -> bytes:
    """Return `packet` with another source or destination, every checksum computed anew."""
    copy = parsed(packet)
    transport = copy[TCP] if TCP in copy else copy[UDP]
    if source is not None:
        copy.src, transport.sport = source
    if destination is not None:
        copy.dst, transport.dport = destination
    return built(copy)


def reset_for(packet: bytes) -> bytes:
    """Return the RST of a host that has no such connection: RFC 9293, section 3.10.7.1."""
    heard = parsed(packet)
    tcp = heard[TCP]
    answer = TCP(sport=tcp.dport, dport=tcp.sport, window=0)
    if tcp.flags.value & ACK:
        answer.seq, answer.flags = tcp.ack, "R"
    else:
        counted = len(tcp.payload) + bool(tcp.flags.value & SYN) + bool(tcp.flags.value & FIN)
        answer.seq, answer.ack, answer.flags = 0, (tcp.seq + counted) % 2**32, "RA"
    assert not tcp.flags.value & RST, "a RST is never answered with a RST"
    return bytes(_from_here(heard.dst, heard.src) / answer)


def reset(source: Place, destination: Place, seq: int, ack: int) -> bytes:
    """Return a RST that nothing has called for, with these numbers."""
    answer = TCP(sport=source[1], dport=destination[1], seq=seq, ack=ack, flags="RA", window=0)
    return bytes(_from_here(source[0], destination[0]) / answer)


def port_unreachable(packet: bytes) -> bytes:
    """Return the ICMP error of a host where nobody listens, in at most 576 bytes (RFC 1812) or 1280 (RFC 4443)."""
    heard = parsed(packet)
    if IP in heard:
        error, most = ICMP(type="dest-unreach", code="port-unreachable"), 576 - 28
    else:
        error, most = ICMPv6DestUnreach(code=4), 1280 - 48
    return bytes(_from_here(heard.dst, heard.src) / error / Raw(bytes(packet[:most])))


def echo_reply(packet: bytes) -> bytes:
    """Return the answer to an echo request: RFC 792; RFC 4443, section 4.2."""
    heard = parsed(packet)
    if IP in heard:
        answer = ICMP(type="echo-reply", id=heard[ICMP].id, seq=heard[ICMP].seq) / heard[ICMP].payload
    else:
        request = heard.payload
        answer = ICMPv6EchoReply(id=request.id, seq=request.seq, data=request.data)
    return bytes(_from_here(heard.dst, heard.src) / answer)


_ERRORS = {3: ICMPv6TimeExceeded, 1: ICMPv6DestUnreach, 2: ICMPv6PacketTooBig, 4: ICMPv6ParamProblem}


def error(packet: bytes, source: str, destination: str, quote: bytes) -> bytes:
    """Return an ICMP error with other addresses, and about another packet, than the one given."""
    copy = parsed(packet)
    if IP in copy:
        made = IP(id=copy.id, flags=copy.flags, ttl=copy.ttl, src=source, dst=destination)
        icmp = ICMP(bytes(copy[ICMP])[:8])
        del icmp.chksum
        return bytes(made / icmp / Raw(quote))
    raw = bytes(copy.payload)
    icmp = _ERRORS[raw[0]](raw[:8])
    del icmp.cksum
    return bytes(IPv6(hlim=copy.hlim, src=source, dst=destination) / icmp / Raw(quote))


def _from_here(source: str, destination: str) -> Packet:
    """Return the IP header of a packet that natlb itself has made."""
    if ":" in source:
        return IPv6(hlim=64, src=source, dst=destination)
    return IP(id=0, flags="DF", ttl=64, src=source, dst=destination)


def sound(packet: bytes) -> bool:
    """Whether all checksums of a packet are right that can be judged: all but those of a fragment's datagram.

    Scapy's functions are given the raw bytes: a mutated packet need not come out of scapy's parser as it went in.
    """
    protocol, start = p.transport(packet)
    if packet[0] >> 4 == 4:
        end, fragment = int.from_bytes(packet[2:4], "big"), packet[6] & 0x3F or packet[7]
        if checksum(bytes(packet[:start])) != 0:
            return False
        header = IP(bytes(packet[:20]))
    else:
        end, fragment = 40 + int.from_bytes(packet[4:6], "big"), is_fragment(packet)
        header = IPv6(bytes(packet[:40]))
    if fragment:
        return True
    if protocol == p.UDP:
        if packet[start + 6 : start + 8] == b"\0\0":
            return packet[0] >> 4 == 4
        end = start + int.from_bytes(packet[start + 4 : start + 6], "big")
    covered = bytes(packet[start:end])
    if protocol == p.ICMP:
        return checksum(covered) == 0
    return (in4_chksum if packet[0] >> 4 == 4 else in6_chksum)(protocol, header, covered) == 0


def is_fragment(packet: bytes) -> bool:
    """Whether an IPv6 packet is one of several fragments."""
    protocol, start = packet[6], 40
    while protocol in p.EXTENSIONS and start + 8 <= len(packet):
        if protocol == p.FRAGMENT and (packet[start + 2] or packet[start + 3] & 0xF9):
            return True
        protocol, start = packet[start], start + 8 + (0 if protocol == p.FRAGMENT else packet[start + 1] * 8)
    return False
