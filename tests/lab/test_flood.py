"""A flood from addresses that do not exist costs the flood's own entries, and nobody else anything.

While a flood runs, a download goes on, connections stay open in silence, and well-behaved clients open new ones at a
steady rate. The flood comes many times as fast as they do, from one raw socket. What is sent back to the made-up
addresses ends in a black hole at the client.
"""

import contextlib
import ipaddress
import random
import selectors
import shlex
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from scapy.utils import checksum

from netns.balancer import ask, nat_table
from netns.build import Lab
from netns.topology import SEED
from netns.web import digest
from tests.lab.support import Client, shell, until, url
from tests.lab.ways import WAYS, Way, add_sources, client_socket, counted, raw_socket

pytestmark = [pytest.mark.root, pytest.mark.busy]

_SERVICE, _UDP_SERVICE, _UDP_PORT = 8001, 8053, 53
_MAXCONN = 940

_NOBODY = {4: ipaddress.ip_network("10.0.0.0/8"), 6: ipaddress.ip_network("fd44:ffff::/32")}
"""Where the flood claims to come from."""

_SECONDS = 2.0
_STEADY = 30
"""New connections per second of the clients that mean it."""
_FLOOD = 1500
"""Packets per second of the flood: enough to reach maxconn, since a half-open connection lasts a second here."""

_PATIENCE = 3.0
"""Seconds in which an answer has to come."""

_LONGEST = _SECONDS + _PATIENCE + 1
"""Seconds for which there is enough to send and to download: a client that gets no answer is waited for."""
_DOWNLOAD_RATE = 8_000_000
_DOWNLOADED = int(_DOWNLOAD_RATE * _LONGEST)

_BRIEF = ("timeout client 1s", "timeout server 1s")
_LIMITED, _UNLIMITED = f"maxconn {_MAXCONN}", "no maxconn"


@pytest.fixture(scope="module")
def prepared(lab: Lab) -> Lab:
    add_sources(lab)
    lab.start_web("server1")
    for version, network in _NOBODY.items():
        way = Way(version, full=False)
        shell(lab, "lb", f"ip -{version} route add {network} via {way.address('client')} dev client")
        shell(lab, "client", f"ip -{version} route add blackhole {network}")
    return lab


@pytest.fixture(scope="module")
def limit(prepared: Lab, request: pytest.FixtureRequest) -> Iterator[str]:
    """A running natlb with this limit."""
    limit: str = request.param
    sections = [
        f"global\n    stats socket {prepared.stats_socket} level admin\n    {limit if limit == _LIMITED else ''}\n",
        "defaults\n    timeout connect 1s\n    timeout client 30s\n    timeout server 30s\n",
        *(way.listen("flooded", _SERVICE, SEED.host("server1").port) for way in WAYS),
        *(way.udp_lb("flooded-udp", _UDP_SERVICE, _UDP_PORT, *_BRIEF) for way in WAYS[:2]),
    ]
    natlb = prepared.start_natlb("\n".join(sections))
    yield limit
    log = natlb.log()
    assert natlb.stop() == 0
    assert "internal error" not in log


def _packets(way: Way, protocol: int, number: int) -> list[bytes]:
    """Return SYNs, or datagrams, to the service from as many addresses of nobody."""
    network, vip = _NOBODY[way.version], way.vip
    if protocol == socket.IPPROTO_TCP:
        template = bytes(way.segment(str(network[1]), vip, sport=1, dport=way.port(_SERVICE), flags="S"))
        checksum_at = 16
    else:
        template = bytes(way.datagram(str(network[1]), vip, sport=1, dport=way.port(_UDP_SERVICE)) / b"flood")
        checksum_at = 6
    start, size, at = (12, 4, 20) if way.version == 4 else (8, 16, 40)
    made = []
    chance = random.Random(44)
    for _ in range(number):
        packet = bytearray(template)
        source = network.network_address + chance.randrange(2, network.num_addresses)
        packet[start : start + size] = source.packed
        struct.pack_into("!H", packet, at, chance.randrange(1024, 65536))
        if protocol == socket.IPPROTO_TCP:
            struct.pack_into("!I", packet, at + 4, chance.getrandbits(32))
        struct.pack_into("!H", packet, at + checksum_at, 0)
        pseudo_header = packet[start : start + 2 * size] + struct.pack("!II", len(packet) - at, protocol)
        struct.pack_into("!H", packet, at + checksum_at, checksum(bytes(pseudo_header + packet[at:])))
        made.append(bytes(packet))
    return made


@contextlib.contextmanager
def _flood(lab: Lab, way: Way, packets: list[bytes]) -> Iterator[None]:
    """Send packets from nobody while this lasts."""
    sent, over = 0, threading.Event()

    def send(raw: socket.socket) -> None:
        nonlocal sent
        begun = time.monotonic()
        while not over.wait(0.005):
            due = min(len(packets), int((time.monotonic() - begun) * _FLOOD))
            for packet in packets[sent:due]:
                raw.sendto(packet, (way.vip, 0))
            sent = due

    with raw_socket(lab, "client", way) as raw:
        thread = threading.Thread(target=send, args=(raw,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
    assert sent >= 10 * _STEADY * _SECONDS


_REQUEST = b"GET / HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n"


def _open_steadily(lab: Lab, way: Way) -> list[float | None]:
    """Open connections at the steady rate, with a request each; return how long each answer took, or None."""
    sockets = [client_socket(lab, way) for _ in range(int(_STEADY * _SECONDS))]
    took: list[float | None] = [None] * len(sockets)
    begun = [0.0] * len(sockets)
    waiting = selectors.DefaultSelector()
    start = time.monotonic()
    opened = 0
    while (
        time.monotonic() < start + _SECONDS
        or opened < len(sockets)
        or (waiting.get_map() and time.monotonic() < begun[-1] + _PATIENCE)
    ):
        now = time.monotonic()
        while opened < len(sockets) and now >= start + opened / _STEADY:
            sockets[opened].setblocking(False)
            begun[opened] = now
            sockets[opened].connect_ex((way.vip, way.port(_SERVICE)))
            waiting.register(sockets[opened], selectors.EVENT_WRITE, opened)
            opened += 1
        for key, events in waiting.select(0.01):
            number = key.data
            with contextlib.suppress(OSError):
                if events & selectors.EVENT_WRITE:
                    sockets[number].sendall(_REQUEST)
                    waiting.modify(sockets[number], selectors.EVENT_READ, number)
                    continue
                if b"server1" in sockets[number].recv(65536):
                    took[number] = time.monotonic() - begun[number]
            waiting.unregister(sockets[number])
            sockets[number].close()
    for each in sockets:
        each.close()
    waiting.close()
    return [each if each is not None and each < _PATIENCE else None for each in took]


@contextlib.contextmanager
def _downloading(lab: Lab, way: Way) -> Iterator[None]:
    """Download as long as this lasts, and a little longer; every byte has to come."""
    source = shlex.quote(url(way.vip, f"/bytes/{_DOWNLOADED}", way.port(_SERVICE)))
    script = f"curl -sSfm 20 --limit-rate {_DOWNLOAD_RATE} {source} | sha256sum"
    argv = ["bash", "-o", "pipefail", "-c", script]
    with lab.popen("client", argv, names=False, stdout=subprocess.PIPE, text=True) as download:
        try:
            yield
            assert download.poll() is None, "it went on all the time"
            assert download.communicate(timeout=20)[0].split()[0] == digest(_DOWNLOADED)
            assert download.returncode == 0
        except BaseException:
            download.kill()
            raise


def _entries_of_nobody(lab: Lab, way: Way) -> int:
    network = _NOBODY[way.version]
    clients = (entry.client.rpartition(":")[0].strip("[]") for entry in nat_table(ask(lab.stats_socket, "show sess")))
    return sum(ipaddress.ip_address(client) in network for client in clients)


def _suffer(lab: Lab, way: Way, limit: str, protocol: int) -> None:
    """Let a flood come over natlb, and see that nobody else notices."""
    packets = _packets(way, protocol, int(_FLOOD * _LONGEST))
    with contextlib.ExitStack() as stack:
        silent = [Client(lab, "client", way.vip, way.port(_SERVICE)) for _ in range(10)]
        for client in silent:
            stack.callback(client.close)
            client.ask()
        with _downloading(lab, way), _flood(lab, way, packets):
            took = _open_steadily(lab, way)
            live = counted(lab, "connections_live")
            flooding = _entries_of_nobody(lab, way)
        answered = [each for each in took if each is not None]
        share = len(answered) / len(took)
        print(f"{share:.1%} answered, the slowest in {max(answered, default=0):.3f} s")
        assert share >= 0.95
        assert flooding > _MAXCONN / 2, "it was a flood"
        if limit == _LIMITED:
            assert live <= _MAXCONN
        for client in silent:
            assert client.ask() == "server1"


def _under(*cases: tuple[str, Way]) -> pytest.MarkDecorator:
    """Run a test under limits, and on ways."""
    names = [f"{limit}, {way.name}" for limit, way in cases]
    return pytest.mark.parametrize(("limit", "way"), cases, ids=names, indirect=["limit"], scope="module")


@_under(*((_LIMITED, way) for way in WAYS), (_UNLIMITED, WAYS[0]))
def test_a_flood_of_syns_harms_neither_open_connections_nor_new_ones(prepared: Lab, limit: str, way: Way) -> None:
    _suffer(prepared, way, limit, socket.IPPROTO_TCP)
    _becomes_quiet(prepared, way)


@_under(*((_LIMITED, way) for way in WAYS[:2]))
def test_a_flood_of_datagrams_harms_no_tcp_connection_open_or_new(prepared: Lab, limit: str, way: Way) -> None:
    _suffer(prepared, way, limit, socket.IPPROTO_UDP)
    _becomes_quiet(prepared, way)


def _becomes_quiet(lab: Lab, way: Way) -> None:
    # A server's SYN that is sent again keeps a half-open connection a little longer.
    until(lambda: _entries_of_nobody(lab, way) == 0, "of the flood nothing is left", 8)
    until(lambda: counted(lab, "connections_live") == 0, "nothing is open", 3)
