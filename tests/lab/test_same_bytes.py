"""What arrives is what was sent, byte for byte, but for addresses, ports, checksums and the time to live.

Every packet of a connection is captured as it leaves one end and as it reaches the other. The fields that a NAT may
change are blanked in both, and what is left has to be equal: header fields, options and payload, whatever they mean.
The connections say much that is rare, and some of it no stack would ever say.
"""

import contextlib
import ipaddress
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, PadN
from scapy.layers.l2 import Ether
from scapy.utils import checksum

from netns.build import Lab
from netns.capture import Capture, settle
from tests.lab.support import shell, until
from tests.lab.ways import WAYS, Way, add_sources, listening, meeting, send_raw

pytestmark = pytest.mark.root

_SERVICE, _SERVER_PORT = 8001, 4460
_ETHERNET = 14


@pytest.fixture(scope="module")
def balanced(lab: Lab) -> Iterator[Lab]:
    add_sources(lab)
    sections = [f"global\n    stats socket {lab.stats_socket} level admin\n"]
    sections += ["defaults\n    timeout connect 10s\n    timeout client 30s\n    timeout server 30s\n"]
    natlb = lab.start_natlb("\n".join([*sections, *(way.listen("plain", _SERVICE, _SERVER_PORT) for way in WAYS)]))
    for host in ("client", "server1"):
        # Explicit congestion notification, so that its flags and bits are seen; and it is asked for only if told to.
        shell(lab, host, "sysctl -qw net.ipv4.tcp_ecn=1")
    yield lab
    assert natlb.stop() == 0


@pytest.fixture(scope="module")
def listener(lab: Lab) -> Iterator[socket.socket]:
    with listening(lab, _SERVER_PORT) as made:
        yield made


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param  # type: ignore[no-any-return]


class Both:
    """Captures at both ends of a way."""

    def __init__(self, lab: Lab, way: Way, stack: contextlib.ExitStack) -> None:
        self.way = way
        self.near = stack.enter_context(lab.capture("client", "eth0", _all_of(way)))
        self.far = stack.enter_context(lab.capture("server1", "eth0", _all_of(way)))

    def compare(self) -> list[Any]:
        """Compare all that was seen at both ends; return it, as scapy reads what was seen at the client."""
        settle([self.near, self.far])
        until(lambda: len(self.near.packets()) == len(self.far.packets()), "none is on its way")
        for capture in (self.near, self.far):
            assert all(_is_sound(frame[_ETHERNET:]) for _, frame in capture.packets())
        client, as_seen = self.way.address("client"), self.way.client_as_seen
        for from_client in (True, False):
            # A host that sends from two processors may put on the wire first what it captures last.
            near = sorted(_packets(self.near, client, from_it=from_client), key=_blanked)
            far = sorted(_packets(self.far, as_seen, from_it=from_client), key=_blanked)
            assert len(near) == len(far) > 0
            for sent, received in zip(near, far, strict=True) if from_client else zip(far, near, strict=True):
                assert _blanked(sent) == _blanked(received), f"{_shown(sent)}\n{_shown(received)}"
                assert _hops(sent) - _hops(received) == 1, "one router"
        return [Ether(frame) for _, frame in self.near.packets()]


def _all_of(way: Way) -> str:
    """Return the filter for TCP of a family, also behind extension headers."""
    return "ip proto 6" if way.version == 4 else "ip6 protochain 6"


def _packets(capture: Capture, client: str, *, from_it: bool) -> list[bytes]:
    """Return the packets of a capture that come from a client, or those that do not."""
    packets = [frame[_ETHERNET:] for _, frame in capture.packets()]
    address = ipaddress.ip_address(client).packed
    at = 12 if len(address) == 4 else 8
    return [packet for packet in packets if (packet[at : at + len(address)] == address) == from_it]


def _hops(packet: bytes) -> int:
    return packet[8] if packet[0] >> 4 == 4 else packet[7]


def _size_and_transport(packet: bytes) -> tuple[int, int]:
    """Return the size of a packet, without what the link adds, and where its TCP header begins."""
    if packet[0] >> 4 == 4:
        return packet[2] << 8 | packet[3], (packet[0] & 15) * 4
    transport, following = 40, packet[6]
    while following != socket.IPPROTO_TCP:
        following, transport = packet[transport], transport + 8 * (packet[transport + 1] + 1)
    return 40 + (packet[4] << 8 | packet[5]), transport


def _is_sound(packet: bytes) -> bool:
    """Whether its checksums are right: sums to all ones, and so their complements to zero."""
    size, transport = _size_and_transport(packet)
    ipv4 = packet[0] >> 4 == 4
    addresses = packet[12:20] if ipv4 else packet[8:40]
    pseudo_header = addresses + struct.pack("!II", size - transport, socket.IPPROTO_TCP)
    return not checksum(pseudo_header + packet[transport:size]) and not (ipv4 and checksum(packet[:transport]))


def _blanked(packet: bytes) -> bytes:
    """Return a packet without what a NAT changes: addresses, ports, checksums, and the time to live."""
    blank = bytearray(packet)
    size, transport = _size_and_transport(packet)
    blanks = [(8, 9), (10, 20)] if packet[0] >> 4 == 4 else [(7, 40)]
    for start, end in [*blanks, (transport, transport + 4), (transport + 16, transport + 18)]:
        blank[start:end] = bytes(end - start)
    return bytes(blank[:size])


def _shown(packet: bytes) -> str:
    return str((IP if packet[0] >> 4 == 4 else IPv6)(packet).show(dump=True))


def _seen(packets: list[Any], field: str) -> set[Any]:
    """Return all values that a field of TCP or IP had."""
    return {layer.getfieldval(field) for p in packets for layer in (p[TCP], p.payload) if field in layer.default_fields}


def _options(packets: list[Any]) -> set[str]:
    return {name if isinstance(name, str) else str(name) for p in packets for name, _ in p[TCP].options}


def test_what_real_stacks_say_arrives_unchanged(balanced: Lab, way: Way, listener: socket.socket) -> None:
    command = "iptables" if way.version == 4 else "ip6tables"
    # A loss behind each capture: so both ends see segments sent again, and what is acknowledged selectively.
    rule = "INPUT -p tcp -m length --length 1000: -m statistic --mode nth --every 20 --packet 7 -j DROP"
    with contextlib.ExitStack() as stack:
        both = Both(balanced, way, stack)
        for host in ("client", "server1"):
            shell(balanced, host, f"{command} -A {rule}")
            stack.callback(shell, balanced, host, f"{command} -D {rule}")
        with meeting(balanced, way, _SERVICE, listener) as pair:
            _mark(pair.client, way)
            for sender, receiver in (pair.ends, pair.ends[::-1]):
                _transfer(sender, receiver, 120_000)
            pair.client.send(b"!", socket.MSG_OOB)
            pair.speak(b"after an urgent byte")
        with meeting(balanced, way, _SERVICE, listener) as pair:
            pair.server.sendall(b"never read")
            until(lambda: bool(pair.client.recv(1, socket.MSG_PEEK)), "it has come", 1)
        packets = both.compare()
    assert _options(packets) >= {"MSS", "SAckOK", "Timestamp", "NOP", "WScale", "SAck"}
    assert {flag for packet in packets for flag in str(packet[TCP].flags)} == set("SAFRPUEC")
    assert len(_seen(packets, "urgptr")) > 1
    assert len(_seen(packets, "window")) > 10
    if way.version == 4:
        assert {tos & 0xFC for tos in _seen(packets, "tos")} == {0, 0x10}
        assert {tos & 3 for tos in _seen(packets, "tos")} == {0, 2}, "capable of congestion notification, or not"
        assert len(_seen(packets, "id")) > 50
        assert {bool(p[IP].flags.DF) for p in packets} == {True, False}
    else:
        assert {tc & 0xFC for tc in _seen(packets, "tc")} == {0, 0x10}
        assert any(_seen(packets, "fl"))


def _mark(client: socket.socket, way: Way) -> None:
    """Let an end send what is rarely seen: a type of service, and over IPv4 packets that may be fragmented."""
    if way.version == 4:
        client.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x10)
        client.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER, IP_PMTUDISC_DONT
    else:
        client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0x10)


def _transfer(sender: socket.socket, receiver: socket.socket, size: int) -> None:
    thread = threading.Thread(target=sender.sendall, args=(bytes(size),))
    thread.start()
    received = 0
    while received < size and (piece := receiver.recv(1 << 16)):
        received += len(piece)
    thread.join()
    assert received == size


def test_what_no_stack_says_arrives_unchanged(balanced: Lab, way: Way, listener: socket.socket) -> None:
    with meeting(balanced, way, _SERVICE, listener) as pair, contextlib.ExitStack() as stack:
        pair.speak()
        both = Both(balanced, way, stack)
        entry = pair.entry()
        assert entry is not None
        ports = pair.port, way.port(_SERVICE), _SERVER_PORT, int(entry.reply[1].rpartition(":")[2])
        to_server = _oddities(way, way.address("client"), way.vip, *ports[:2])
        to_client = _oddities(way, way.address("server1"), way.client_as_seen, *ports[2:])
        send_raw(balanced, "client", way, *to_server)
        send_raw(balanced, "server1", way, *to_client)
        both.near.settle()
        sent = {bytes(packet) for packet in to_server}
        seen = {frame[_ETHERNET:] for _, frame in both.near.packets()}
        assert sent <= seen, "the kernel sent them as they are"
        both.compare()


def _oddities(way: Way, source: str, destination: str, sport: int, dport: int) -> list[Any]:
    """Return segments far outside of the window, so that nobody is moved by them, each odd in its own way."""
    said = {"sport": sport, "dport": dport, "seq": 1 << 20, "ack": 1 << 20, "flags": "A"}
    odd = [
        TCP(**said, options=[(253, b"\x12\x34experiment"), ("NOP", None)]),
        TCP(**said, options=[(19, bytes(range(16)))]),  # a signature (RFC 2385): it covers more than we could repair
        TCP(**said, options=[(34, b"cookie!!")]) / b"fast open",
        TCP(**said, options=[("EOL", None), (99, b"behind the end")]),
        TCP(**said, reserved=7),
        TCP(**(said | {"flags": "PAEC"}), window=0) / b"x",
        TCP(**said, urgptr=0xBEEF) / b"urgent, or not",
        TCP(**(said | {"flags": "AU"}), urgptr=1) / bytes(1000),
        TCP(**said) / bytes(range(256)),
    ]
    if way.version == 4:
        headers = [
            IP(id=0xBEEF, flags="", tos=0xFF, ttl=2),
            IP(id=0xFFFF, flags="DF", tos=1, ttl=255),
            IP(id=1, flags="evil", ttl=64, options=[IPOption_NOP()] * 4),
        ]
    else:
        headers = [
            IPv6(tc=0xFF, fl=0xFFFFF, hlim=2),
            IPv6(hlim=255) / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]),
            IPv6(fl=1) / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]),
        ]
    made = []
    for header in headers:
        header.src, header.dst = source, destination
        made += [type(header)(bytes(header / segment)) for segment in odd]
    return made
