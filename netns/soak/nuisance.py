"""Programs that bother natlb from the client's host, bounded in every way.

    python -m netns.soak.nuisance burst|flood|garbage --vip4 44.2.2.2 --vip6 fd44::2 --seed 7 --seconds 2

    burst      more datagrams at once than fit into the queue between kernel and natlb, each of a flow of its own
    flood      SYNs from addresses that nobody has (`STRANGERS`), which nobody will acknowledge
    garbage    packets that no host sends: wrong checksums and lengths, odd options and flags, halves of packets

Burst and flood go to a port of their own, `PORT`: they open connections, which must not be counted among others. So
does what garbage may open one; the rest of it is for anybody's ports, and whoever takes it for his own has been fooled.
"""

import argparse
import ipaddress
import random
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from netns.soak.client import PORTS
from netns.soak.plans import chance
from netns.topology import LINK

PORT = 7009
STRANGERS = "44.1.64.0/24"

FLOODED_PER_SECOND = 1500
BURST = 12_000
"""Datagrams: half as many again as natlb has room for in its queue."""
GARBAGE_PER_SECOND = 300

_TICK = 0.02
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}
_SYN, _RST, _ACK, _FIN, _PSH = 0x02, 0x04, 0x10, 0x01, 0x08


class Wire:
    """The client's end of its link, past the client's own stack."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        self._socket.bind((LINK, 0))
        self._hardware = _gateway()

    def send(self, packet: bytes, version: int) -> None:
        """Send an IP packet to the balancer; when the link is not there, nothing."""
        try:
            self._socket.sendto(packet, (LINK, _ETHERTYPES[version], 0, 0, self._hardware))
        except OSError:
            time.sleep(_TICK)


def _gateway() -> bytes:
    """Return the hardware address of the balancer: the only neighbour there is."""
    for line in Path("/proc/net/arp").read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if fields[3] != "00:00:00:00:00:00":
            return bytes.fromhex(fields[3].replace(":", ""))
    return b"\xff" * 6


def checksum(octets: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(octets) % 2:
        octets += b"\0"
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    """Return an IP packet of either family."""
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    if len(ends) == 8:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0) + ends
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + ends + payload


def transport(source: str, destination: str, protocol: int, segment: bytes) -> bytes:
    """Return a segment or a datagram with its checksum, by the pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1)."""
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    at = 16 if protocol == socket.IPPROTO_TCP else 6
    segment = segment[:at] + b"\0\0" + segment[at + 2 :]
    pseudo = ends + struct.pack("!II", len(segment), protocol)
    return segment[:at] + struct.pack("!H", checksum(pseudo + segment)) + segment[at + 2 :]


def tcp(ports: tuple[int, int], sequence: int, flags: int, options: bytes = b"", data: bytes = b"") -> bytes:
    """Return a TCP segment without its checksum."""
    options += b"\0" * (-len(options) % 4)
    offset = (5 + len(options) // 4) << 12 | flags
    return struct.pack("!HHIIHHHH", *ports, sequence, 0, offset, 8192, 0, 0) + options + data


def udp(ports: tuple[int, int], data: bytes) -> bytes:
    """Return a UDP datagram without its checksum."""
    return struct.pack("!HHHH", *ports, 8 + len(data), 0) + data


def flood(wire: Wire, vips: tuple[str, str], source: random.Random, seconds: float) -> None:
    """Send SYNs that nobody will follow up."""
    strangers = [str(address) for address in ipaddress.IPv4Network(STRANGERS).hosts()]
    for _ in _paced(FLOODED_PER_SECOND, seconds):
        stranger, port = source.choice(strangers), source.randint(1024, 65535)
        segment = tcp((port, PORT), source.getrandbits(32), _SYN, b"\x02\x04\x05\xb4")
        wire.send(ip(stranger, vips[0], socket.IPPROTO_TCP, transport(stranger, vips[0], 6, segment)), 4)


def burst(wire: Wire, vips: tuple[str, str], source: random.Random, seconds: float) -> None:  # noqa: ARG001
    """Send datagrams as fast as they can be sent."""
    strangers = [str(address) for address in ipaddress.IPv4Network(STRANGERS).hosts()]
    packets = []
    for _ in range(BURST // 10):
        stranger, port = source.choice(strangers), source.randint(1024, 65535)
        datagram = transport(stranger, vips[0], socket.IPPROTO_UDP, udp((port, PORT), source.randbytes(64)))
        packets.append(ip(stranger, vips[0], socket.IPPROTO_UDP, datagram))
    for _ in range(10):
        for packet in packets:
            wire.send(packet, 4)


def garbage(wire: Wire, vips: tuple[str, str], source: random.Random, seconds: float) -> None:
    """Send what no host sends."""
    hosts = _own_addresses(vips)
    for _ in _paced(GARBAGE_PER_SECOND, seconds):
        version = source.choice((4, 6))
        make = source.choice(GARBAGE)
        wire.send(make(source, hosts[version], vips[version == 6]), version)


def _own_addresses(vips: tuple[str, str]) -> dict[int, str]:
    """Return the client's addresses, by IP version: the ones that it speaks to natlb from."""
    found = {}
    for version, family, vip in zip((4, 6), (socket.AF_INET, socket.AF_INET6), vips, strict=True):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((vip, PORT))
            found[version] = probe.getsockname()[0]
    return found


# -- garbage: each maker takes a source of chance, the client's address and the virtual one


def _any_ports(source: random.Random) -> tuple[int, int]:
    """Return ports that a connection of the client's is likely to have."""
    return source.randint(32768, 60999), source.choice(sorted(set(PORTS.values())))


def _wrong_checksum(source: random.Random, client: str, vip: str) -> bytes:
    """A segment of what may well be a connection, whose checksum is wrong."""
    flags = source.choice((_SYN, _ACK, _RST, _RST | _ACK, _FIN | _ACK, _PSH | _ACK))
    segment = tcp(_any_ports(source), source.getrandbits(32), flags, data=source.randbytes(source.randint(0, 200)))
    whole = transport(client, vip, 6, segment)
    wrong = struct.unpack_from("!H", whole, 16)[0] ^ source.randint(1, 0xFFFE)
    return ip(client, vip, 6, whole[:16] + struct.pack("!H", wrong) + whole[18:])


def _wrong_datagram(source: random.Random, client: str, vip: str) -> bytes:
    """A datagram whose checksum is wrong."""
    whole = transport(client, vip, 17, udp(_any_ports(source), source.randbytes(source.randint(0, 200))))
    wrong = struct.unpack_from("!H", whole, 6)[0] ^ source.randint(1, 0xFFFE)
    return ip(client, vip, 17, whole[:6] + struct.pack("!H", wrong or 1) + whole[8:])


def _odd_flags(source: random.Random, client: str, vip: str) -> bytes:
    """A segment with flags that do not go together."""
    flags = source.choice((0, _SYN | _FIN, _SYN | _RST, _FIN, _SYN | _FIN | _RST | _ACK | _PSH, _FIN | _PSH | 0x20))
    segment = tcp(_any_ports(source), source.getrandbits(32), flags)
    return ip(client, vip, 6, transport(client, vip, 6, segment))


def _odd_options(source: random.Random, client: str, vip: str) -> bytes:
    """A SYN, to the port for such, whose options have lengths that cannot be."""
    options = bytes(source.choice((0, 1, 2, 3, 5, 8, 34, 253, 255, 40)) for _ in range(source.randint(1, 40)))
    segment = tcp((source.randint(1024, 65535), PORT), source.getrandbits(32), _SYN, options[:40])
    return ip(client, vip, 6, transport(client, vip, 6, segment))


def _odd_offset(source: random.Random, client: str, vip: str) -> bytes:
    """A segment whose header is said to be longer than the segment, or shorter than a header."""
    segment = bytearray(tcp(_any_ports(source), source.getrandbits(32), _ACK))
    segment[12] = source.choice((0, 1, 4, 6, 15)) << 4
    return ip(client, vip, 6, transport(client, vip, 6, bytes(segment)))


def _out_of_window(source: random.Random, client: str, vip: str) -> bytes:
    """A segment of nobody's, from a port that the client does not use."""
    ports = source.randint(61_000, 65_535), source.choice(sorted(set(PORTS.values())))
    segment = tcp(ports, source.getrandbits(32), source.choice((_ACK, _RST | _ACK, _FIN | _ACK)))
    return ip(client, vip, 6, transport(client, vip, 6, segment))


def _half(source: random.Random, client: str, vip: str) -> bytes:
    """The first bytes of some other garbage, as if the rest had been cut off."""
    packet = source.choice((_wrong_checksum, _wrong_datagram, _odd_flags))(source, client, vip)
    return packet[: source.randint(1, len(packet) - 1)]


def _wrong_length(source: random.Random, client: str, vip: str) -> bytes:
    """A packet that is said to be longer or shorter than it is."""
    packet = bytearray(_wrong_checksum(source, client, vip))
    at = 2 if packet[0] >> 4 == 4 else 4
    packet[at : at + 2] = struct.pack("!H", source.randint(0, 2 * len(packet)))
    if at == 2:
        packet[10:12] = b"\0\0"
        packet[10:12] = struct.pack("!H", checksum(bytes(packet[:20])))
    return bytes(packet)


def _noise(source: random.Random, client: str, vip: str) -> bytes:  # noqa: ARG001 - it is from nobody to nobody
    """Bytes that mean nothing, where an IP packet is to begin."""
    first = 0x45 if ":" not in vip else 0x60
    return bytes([first]) + source.randbytes(source.randint(0, 100))


GARBAGE: tuple[Callable[[random.Random, str, str], bytes], ...] = (
    _wrong_checksum,
    _wrong_datagram,
    _odd_flags,
    _odd_options,
    _odd_offset,
    _out_of_window,
    _half,
    _wrong_length,
    _noise,
)


def _paced(per_second: int, seconds: float) -> Iterator[None]:
    """Yield so many times in a second, for so long."""
    begun, number = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < seconds:
        while number < passed * per_second:
            number += 1
            yield
        time.sleep(_TICK)


NUISANCES = {"burst": burst, "flood": flood, "garbage": garbage}


def main() -> None:
    """Bother natlb."""
    parser = argparse.ArgumentParser(prog="python -m netns.soak.nuisance", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=NUISANCES)
    parser.add_argument("--vip4", required=True)
    parser.add_argument("--vip6", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    try:
        vips = options.vip4, options.vip6
        NUISANCES[options.what](Wire(), vips, chance(options.seed, options.what), options.seconds)
    except OSError as error:
        sys.exit(f"the {options.what} ended: {error}")


if __name__ == "__main__":
    main()
