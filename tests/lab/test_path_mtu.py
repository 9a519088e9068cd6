"""Errors that routers send about packets reach whoever sent those packets, and speak of the packets that were sent.

The way to either end becomes narrower twice: the balancer itself takes less than its neighbours send, and the router
behind it less still. So each transfer below needs two ICMP errors, one of the balancer's own kernel and one that is
passing through, and without either of them it would hang.
"""

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netns.build import Lab
from netns.capture import Capture
from netns.topology import SEED
from netns.web import pattern
from tests.lab import hops
from tests.lab.firewall import stateful_firewall
from tests.lab.support import download, shell, until, upload
from tests.lab.ways import WAYS, Way, add_sources

pytestmark = pytest.mark.root

_SIZE = 2_000_000
_LB_MTU, _HOP_MTU = 1300, 1280
_PORT, _TO = SEED.balancer.port, SEED.servers[0].port

_IP = {4: socket.IPPROTO_IP, 6: socket.IPPROTO_IPV6}
_HEADERS = {4: 20 + 8, 6: 40 + 8}
# linux/in.h and linux/in6.h, by IP version
_MTU_DISCOVER, _PMTUDISC_DO = {4: 10, 6: 23}, 2
_MTU = {4: 14, 6: 24}
_RECVERR = {4: 11, 6: 25}
_HOPS = {4: 2, 6: 16}


@pytest.fixture(scope="module")
def narrow(lab: Lab) -> Iterator[Lab]:
    server = SEED.servers[0]
    with hops.hop(lab, "client", _HOP_MTU), hops.hop(lab, server.name, _HOP_MTU):
        for host in (SEED.client, server):
            shell(
                lab,
                "lb",
                f"ip route replace {host.ipv4} dev {host.name} src {SEED.balancer.ipv4} mtu {_LB_MTU};"
                f"ip -6 route add {host.ipv6} dev {host.name} src {SEED.balancer.ipv6} metric 1 mtu {_LB_MTU}",
            )
        add_sources(lab)
        lab.start_web(server.name)
        sections = [each for way in WAYS for each in (way.listen("tcp", _PORT, _TO), way.udp_lb("udp", _PORT, _TO))]
        natlb = lab.start_natlb("\n".join([f"global\n    stats socket {lab.stats_socket} level admin", *sections]))
        yield lab
        assert natlb.stop() == 0


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest, narrow: Lab) -> Way:
    """A way to the server, of whose narrowness nobody has learnt yet."""
    _forget(narrow)
    found: Way = request.param
    return found


def _forget(lab: Lab) -> None:
    """Let both ends forget what they were told."""
    for host in ("client", "server1"):
        shell(lab, host, "ip route flush cache; ip -6 route flush cache")


@pytest.fixture(scope="module")
def pattern_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("narrow") / "pattern"
    with file.open("wb") as out:
        out.writelines(pattern(_SIZE))
    return file


# What was told to whom


@dataclass(frozen=True, slots=True)
class _Told:
    """An ICMP error as its receiver got it."""

    kind: tuple[int, int]
    """Type and code."""
    source: str
    destination: str
    mtu: int
    is_right: bool
    """Whether scapy comes to the same checksums, of the error and in the packet that it quotes."""
    quote: bytes
    """The packet that it quotes, as far as it does, without what a router may change."""


def _as_sent(packet: bytes) -> bytes:
    """Return a packet without what routers change: TTL, and over IPv4 the header's checksum."""
    if packet[0] >> 4 == 4:
        return packet[:8] + b"\0" + packet[9:10] + b"\0\0" + packet[12:]
    return packet[:7] + b"\0" + packet[8:]


def _errors(capture: Capture) -> Iterator[_Told]:
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.inet6 import ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
    from scapy.layers.l2 import Ether

    for _, frame in capture.packets():
        packet = Ether(frame)
        if ICMP in packet and packet[ICMP].type in (3, 11):
            ip, icmp, checksum = packet[IP], packet[ICMP], "chksum"
            kind, mtu = (icmp.type, icmp.code), icmp.nexthopmtu if icmp.type == 3 else 0
        elif layer := next((each for each in (ICMPv6PacketTooBig, ICMPv6TimeExceeded) if each in packet), None):
            ip, icmp, checksum = packet[IPv6], packet[layer], "cksum"
            kind, mtu = (icmp.type, icmp.code), icmp.mtu if layer is ICMPv6PacketTooBig else 0
        else:
            continue
        again = ip.copy()
        quoted = bytes(icmp.payload)
        inner = IP(quoted) if IP in packet else None
        for header, field in ((again, "chksum"), (again[type(icmp)], checksum)):
            if IP in packet or header is not again:
                delattr(header, field)
        is_right = bytes(type(ip)(bytes(again))) == bytes(ip)
        if inner is not None:
            header = IP(quoted[: inner.ihl * 4])
            del header.chksum
            is_right = is_right and IP(bytes(header)).chksum == inner.chksum
        yield _Told(kind, ip.src, ip.dst, mtu, is_right, _as_sent(quoted))


def _sent(capture: Capture) -> list[bytes]:
    """Return the packets of a capture, as they were sent there."""
    return [_as_sent(frame[14:]) for _, frame in capture.packets()]


def _told(capture: Capture, address: str) -> list[_Told]:
    """Return the errors that a capture's host, of this address, was told; each is right and about what it has sent."""
    capture.stop()
    errors, sent = list(_errors(capture)), _sent(capture)
    assert errors, "nobody was told anything"
    for error in errors:
        assert error.is_right
        assert error.destination == address
        assert any(packet.startswith(error.quote) for packet in sent), "it is about a packet that nobody has sent"
    return errors


# TCP


def _download_is_told(lab: Lab, way: Way) -> None:
    with lab.capture("server1", "eth0") as capture:
        download(lab, "client", way.vip, _SIZE, port=way.port(_PORT))
    errors = _told(capture, way.address("server1"))
    assert {error.mtu for error in errors} == {_LB_MTU, _HOP_MTU}
    hop = hops.addresses(lab, "client")[way.version == 6]
    # A server that sees the balancer is told by the balancer: it may not know a way to anybody else.
    assert {error.source for error in errors if error.mtu == _HOP_MTU} == {way.balancer_as_seen if way.full else hop}


def _upload_is_told(lab: Lab, way: Way, file: Path) -> None:
    with lab.capture("client", "eth0") as capture:
        upload(lab, "client", way.vip, file, port=way.port(_PORT))
    errors = _told(capture, way.address("client"))
    assert {error.mtu for error in errors} == {_LB_MTU, _HOP_MTU}
    assert {error.source for error in errors} == {way.vip}, "nobody behind the virtual address shows"


def test_a_download_over_a_narrowing_path_arrives_and_the_server_was_told(narrow: Lab, way: Way) -> None:
    _download_is_told(narrow, way)


def test_an_upload_over_a_narrowing_path_arrives_and_the_client_was_told(
    narrow: Lab, way: Way, pattern_file: Path
) -> None:
    _upload_is_told(narrow, way, pattern_file)


# UDP


def _datagram_socket(lab: Lab, host: str, way: Way) -> socket.socket:
    """Return a UDP socket that never lets its datagrams be fragmented."""
    made = lab.open_socket(host, way.family, socket.SOCK_DGRAM)
    made.setsockopt(_IP[way.version], _MTU_DISCOVER[way.version], _PMTUDISC_DO)
    made.settimeout(5)
    return made


@contextlib.contextmanager
def _flow(lab: Lab, way: Way) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Open a UDP flow that has been answered; yield the client's and the server's socket, both connected."""
    with _datagram_socket(lab, "client", way) as client, _datagram_socket(lab, "server1", way) as server:
        server.bind((way.address("server1"), _TO))
        client.connect((way.vip, way.port(_PORT)))
        client.send(b"a question")
        question, seen = server.recvfrom(2000)
        assert question == b"a question"
        assert seen[0] == way.client_as_seen
        server.connect(seen)
        server.send(b"an answer")
        assert client.recv(2000) == b"an answer"
        yield client, server


def _path_mtu(sender: socket.socket, way: Way) -> int:
    return sender.getsockopt(_IP[way.version], _MTU[way.version])


def _error_of(sender: socket.socket) -> int:
    return sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


@pytest.mark.parametrize("asks", [True, False], ids=["the client sends", "the server sends"])
def test_a_datagram_too_large_for_the_path_is_reported_and_a_smaller_one_arrives(
    narrow: Lab, way: Way, asks: bool
) -> None:
    with _flow(narrow, way) as flow:
        sender, receiver = flow if asks else reversed(flow)
        size = _path_mtu(sender, way)
        for mtu in (_LB_MTU, _HOP_MTU):
            sender.send(bytes(size - _HEADERS[way.version]))
            until(lambda: _error_of(sender) == errno.EMSGSIZE, "the sender is told")
            assert _path_mtu(sender, way) == mtu
            with pytest.raises(OSError, match="Message too long"):
                sender.send(bytes(size - _HEADERS[way.version]))
            size = mtu
        sender.send(bytes(size - _HEADERS[way.version]))
        assert receiver.recv(2000) == bytes(size - _HEADERS[way.version]), "and none of the others came before it"


# Time exceeded


def _hear_of_errors(sender: socket.socket, way: Way, hops_left: int) -> None:
    """Let a socket's packets live for so many hops, and keep what it is told about them."""
    sender.setsockopt(_IP[way.version], _RECVERR[way.version], 1)
    sender.setsockopt(_IP[way.version], _HOPS[way.version], hops_left)


def _told_by(sender: socket.socket, way: Way) -> tuple[int, str, str]:
    """Return the last error that a socket was told: its ICMP type, who sent it, and about a packet to whom."""
    _, ancillary, _, about = sender.recvmsg(2000, 1000, socket.MSG_ERRQUEUE)
    data = next(data for level, kind, data in ancillary if (level, kind) == (_IP[way.version], _RECVERR[way.version]))
    # struct sock_extended_err of linux/errqueue.h, and behind it the offender as a sockaddr
    at = 16 + (4 if way.version == 4 else 8)
    offender = socket.inet_ntop(way.family, data[at : at + (4 if way.version == 4 else 16)])
    return struct.unpack_from("=IBBBB", data)[2], offender, about[0]


_TIME_EXCEEDED = {4: 11, 6: 3}


@pytest.mark.parametrize("hops_left", [2, 3], ids=["at the balancer", "at a router behind it"])
def test_a_client_whose_datagram_expires_behind_the_virtual_address_is_told(
    narrow: Lab, way: Way, hops_left: int
) -> None:
    with narrow.capture("client", "eth0") as capture, _flow(narrow, way) as (client, _):
        _hear_of_errors(client, way, hops_left)
        client.send(b"a probe")
        with pytest.raises(OSError) as caught:
            client.recv(2000)
        assert caught.value.errno == errno.EHOSTUNREACH
        assert _told_by(client, way) == (_TIME_EXCEEDED[way.version], way.vip, way.vip)
    _told(capture, way.address("client"))


@pytest.mark.parametrize("hops_left", [2, 3], ids=["at the balancer", "at a router behind it"])
def test_a_server_whose_datagram_expires_on_its_way_to_the_client_is_told(
    narrow: Lab, way: Way, hops_left: int
) -> None:
    with narrow.capture("server1", "eth0") as capture, _flow(narrow, way) as (_, server):
        _hear_of_errors(server, way, hops_left)
        server.send(b"a probe")
        with pytest.raises(OSError) as caught:
            server.recv(2000)
        assert caught.value.errno == errno.EHOSTUNREACH
        passing_by = not way.full and hops_left == 3
        by = hops.addresses(narrow, "client")[way.version == 6] if passing_by else way.balancer_as_seen
        assert _told_by(server, way) == (_TIME_EXCEEDED[way.version], by, way.client_as_seen)
    _told(capture, way.address("server1"))


@pytest.mark.parametrize("hops_left", [2, 3], ids=["at the balancer", "at a router behind it"])
def test_a_client_whose_first_segment_expires_behind_the_virtual_address_is_told(
    narrow: Lab, way: Way, hops_left: int
) -> None:
    with narrow.open_socket("client", way.family, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        _hear_of_errors(client, way, hops_left)
        with pytest.raises(OSError) as caught:
            client.connect((way.vip, way.port(_PORT)))
        assert caught.value.errno == errno.EHOSTUNREACH
        assert _told_by(client, way) == (_TIME_EXCEEDED[way.version], way.vip, way.vip)


# Beside a firewall


def test_a_stateful_firewall_takes_the_errors_for_related(narrow: Lab, pattern_file: Path) -> None:
    with stateful_firewall(narrow):
        for each in WAYS:
            _forget(narrow)
            _download_is_told(narrow, each)
            _forget(narrow)
            _upload_is_told(narrow, each, pattern_file)
