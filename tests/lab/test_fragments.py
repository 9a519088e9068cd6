"""Datagrams larger than a link, and segments that a router cut up, arrive as they were sent, or not at all.

What the senders' and receivers' own stacks do with fragments is real here. Only where no stack would send what has to
be tried, a fragment before its predecessor, twice, or over another, it comes from `Wire`.

How long an incomplete datagram is remembered is half a minute: the natlb that is asked about that is told a shorter
time, and is itself in all else.
"""

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from netns.balancer import READY, Natlb
from netns.build import Lab
from netns.topology import SEED
from netns.web import pattern
from tests.lab.conftest import VIPS
from tests.lab.datagrams import (
    MODES,
    Cut,
    Echo,
    Wire,
    activity,
    asked,
    client,
    datagram,
    echoes,
    noise,
    packets,
    udp_lb,
)
from tests.lab.hops import hop
from tests.lab.support import download, shell, until, upload
from tests.lab.ways import add_sources, full_nat

pytestmark = pytest.mark.root

_SERVER_PORT = 7000
_PORTS = {False: 7007, True: 7008}
"""The virtual port, by whether it is full NAT."""

_WEB_PORTS = {False: 8888, True: 8889}

_SIZES = (1472, 1473, 3000, 8973, 20_000, 65_507)
"""The largest that an IPv4 packet of 1,500 bytes can hold, and one more; ...; the largest that there is."""

_LARGEST = {4: 65_507, 6: 65_527}
"""By IP version: what a length of 16 bits leaves beside the headers that it counts."""

_MOST_HELD = 1024
"""Fragments that natlb keeps back at a time."""


def _config(lab: Lab) -> str:
    sections = (udp_lb(lab, f"echo-{full}-", port, _SERVER_PORT, full=full) for full, port in _PORTS.items())
    web = "".join(
        f"listen web{version}-{full}\n    bind {everywhere}:{port}\n"
        + (f"    {full_nat(version)}\n" if full else "")
        + f"    server server1 {server}:4444\n"
        for full, port in _WEB_PORTS.items()
        for version, everywhere, server in ((4, "*", "44.3.3.3"), (6, "[::]", "[fd44::3]"))
    )
    return f"global\n    stats socket {lab.stats_socket} level admin\n{''.join(sections)}{web}"


@pytest.fixture(scope="module")
def servers(lab: Lab) -> Iterator[list[Echo]]:
    add_sources(lab)
    with echoes(lab, _SERVER_PORT) as running:
        yield running


@pytest.fixture(scope="module")
def natlb(lab: Lab, servers: list[Echo]) -> Iterator[Natlb]:
    running = lab.start_natlb(_config(lab))
    yield running
    assert running.stop() == 0
    assert "internal error" not in running.log()


@pytest.fixture(params=MODES.values(), ids=MODES)
def port(request: pytest.FixtureRequest, natlb: Natlb) -> int:
    return _PORTS[request.param]


@pytest.fixture
def fresh(servers: list[Echo]) -> list[Echo]:
    """The servers, and nothing received yet."""
    for server in servers:
        server.received.clear()
    return servers


@pytest.fixture(scope="module")
def web(lab: Lab) -> None:
    lab.start_web("server1")


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _received(servers: Sequence[Echo]) -> list[bytes]:
    """What came to the servers: all that a flow has sent, for one flow at a time has one server."""
    return [each for server in servers for each in server.received]


_MTUS = [1500, 9000]


@pytest.fixture(params=_MTUS)
def mtu(lab: Lab, request: pytest.FixtureRequest) -> Iterator[int]:
    """Give all links of the lab an MTU."""

    def let_be(size: int) -> None:
        links = {host.name: ["eth0"] for host in lab.topology.neighbours}
        links["lb"] = [host.name for host in lab.topology.neighbours]
        for host, names in links.items():
            shell(lab, host, "; ".join(f"ip link set {name} mtu {size}" for name in names))

    let_be(request.param)
    yield request.param
    let_be(1500)


def _packets(size: int, mtu: int, version: int) -> int:
    """In how many packets a datagram comes."""
    header, more = (20, 0) if version == 4 else (40, 8)
    if header + 8 + size <= mtu:
        return 1
    room = (mtu - header - more) // 8 * 8
    return -(-(8 + size) // room)


def test_a_datagram_of_any_size_is_echoed_byte_for_byte(lab: Lab, vip: str, port: int, mtu: int) -> None:
    before, packets_before = activity(lab), packets(lab)
    sizes = (*_SIZES, _LARGEST[_version(vip)])
    with client(lab, vip, port) as opened:
        for size in sizes:
            assert asked(opened, noise(size)) == noise(size), size
    counted = activity(lab) - before
    assert not [name for name in counted if name.startswith("drop_")]
    whole = sum(_packets(size, mtu, _version(vip)) for size in sizes)
    assert packets(lab) - packets_before == 2 * whole, "none was put together"


def _orders(number: int) -> dict[str, list[int]]:
    """Ways to send the fragments of a datagram, by name."""
    straight = list(range(number))
    shuffled = random.Random(number).sample(straight, number)
    assert shuffled not in (straight, straight[::-1])
    return {
        "in order": straight,
        "reversed": straight[::-1],
        "shuffled": shuffled,
        "the first one last": [*straight[1:], 0],
        "each twice": [place for place in straight for _ in range(2)],
        "each twice, reversed": [place for place in straight[::-1] for _ in range(2)],
        "shuffled, some twice": [*shuffled[:4], *shuffled[1:3], *shuffled[4:]],
    }


def _duplicates(order: list[int]) -> int:
    """How many fragments come again before the last one has come; any after that begin a datagram that has no end."""
    complete = max(order.index(place) for place in set(order))
    return complete + 1 - len(set(order))


@pytest.mark.parametrize("order", _orders(6).values(), ids=_orders(6))
def test_fragments_in_any_order_arrive_as_one_datagram(
    lab: Lab, fresh: list[Echo], vip: str, port: int, order: list[int]
) -> None:
    payload = noise(8000)
    before = activity(lab)
    with client(lab, vip, port) as opened, Wire(lab) as wire:
        pieces = datagram(opened, payload).pieces()
        wire.send([pieces[place] for place in order])
        assert opened.recv(65536) == payload
        # What is behind it on the same way comes after it.
        assert asked(opened, b"behind") == b"behind"
    assert _received(fresh) == [payload, b"behind"]
    assert activity(lab)["drop_fragment_duplicate"] - before["drop_fragment_duplicate"] == _duplicates(order)


def test_fragments_of_many_datagrams_mixed_together_find_their_own(
    lab: Lab, fresh: list[Echo], vip: str, port: int
) -> None:
    payloads = [noise(2800 + number) for number in range(20)]
    with client(lab, vip, port) as opened, client(lab, vip, port) as other, Wire(lab) as wire:
        senders = itertools.cycle((opened, other))
        cut = [datagram(sender, payload).pieces() for sender, payload in zip(senders, payloads, strict=False)]
        mixed = [piece for pieces in cut for piece in pieces]
        wire.send(random.Random(44).sample(mixed, len(mixed)))
        assert sorted(opened.recv(65536) for _ in payloads[::2]) == sorted(payloads[::2])
        assert sorted(other.recv(65536) for _ in payloads[1::2]) == sorted(payloads[1::2])
    assert sorted(map(sorted, (server.received for server in fresh))) == sorted(
        map(sorted, (payloads[::2], payloads[1::2]))
    )


_OVERLAPS = {
    "the second over the first": [(0, 1400), (1392, 2800), (2800, None)],
    "the first over the second": [(1392, 2792), (0, 1400), (2792, None)],
    "over the ends of a gap": [(0, 1400), (2600, None), (1352, 2648)],
    "over what waits": [(2800, None), (1408, 2808), (0, 1400)],
    "around another": [(400, 800), (0, 1400), (1400, 2800), (2800, None)],
    "the transport header anew": [(0, 1400), (0, 8), (0, 1408), (1400, 2800), (2800, None)],
}
"""Fragments, in the order in which they are sent: the first byte of each, and the one behind its last."""


@pytest.mark.parametrize("cuts", _OVERLAPS.values(), ids=_OVERLAPS)
def test_a_datagram_with_fragments_that_overlap_does_not_arrive_and_is_counted(
    lab: Lab, fresh: list[Echo], vip: str, port: int, cuts: list[tuple[int, int | None]]
) -> None:
    before = activity(lab)
    with client(lab, vip, port) as opened, Wire(lab) as wire:
        overlapping = datagram(opened, noise(4000))
        wire.send([overlapping.piece(*cut) for cut in cuts])
        assert asked(opened, b"behind") == b"behind"
    assert _received(fresh) == [b"behind"]
    assert activity(lab)["drop_fragment_overlap"] - before["drop_fragment_overlap"] >= 1


# Where connection tracking puts fragments together before natlb sees them


@pytest.fixture
def tracked(lab: Lab, natlb: Natlb) -> Iterator[None]:
    """Connection tracking at work on the balancer, as any rule that asks for it makes it."""
    rule = "FORWARD -m conntrack --ctstate INVALID"
    commands = ("iptables", "ip6tables")
    shell(lab, "lb", "; ".join(f"{command} -A {rule}" for command in commands))
    yield
    listing = shell(lab, "lb", "; ".join(f"{command} -vxnL FORWARD; {command} -D {rule}" for command in commands))
    assert [line.split()[0] for line in listing.splitlines() if "INVALID" in line] == ["0", "0"]


_VISIBLE = 65_531
"""Bytes of a packet, its headers included, that the kernel shows to a program."""

_HEADERS = {4: 20 + 8, 6: 40 + 8}


@pytest.mark.usefixtures("tracked")
def test_beside_connection_tracking_any_size_passes_that_can_be_seen_whole(lab: Lab, vip: str, port: int) -> None:
    before = packets(lab)
    sizes = (*_SIZES[:-1], _VISIBLE - _HEADERS[_version(vip)])
    with client(lab, vip, port) as opened:
        for size in sizes:
            assert asked(opened, noise(size)) == noise(size), size
    assert packets(lab) - before == 2 * len(sizes), "each was one packet there, and one back"


@pytest.mark.usefixtures("tracked")
@pytest.mark.parametrize("beyond", ["by one byte", "the largest"])
def test_beside_connection_tracking_what_cannot_be_seen_whole_is_dropped_and_counted(
    lab: Lab, fresh: list[Echo], vip: str, port: int, beyond: str
) -> None:
    size = _LARGEST[_version(vip)] if beyond == "the largest" else _VISIBLE - _HEADERS[_version(vip)] + 1
    before = activity(lab)
    with client(lab, vip, port) as opened:
        opened.send(noise(size))
        assert asked(opened, b"behind") == b"behind"
        assert _received(fresh) == [b"behind"]
        assert activity(lab)["drop_truncated"] - before["drop_truncated"] == 1
        (server,) = (server for server in fresh if server.received)
        server.send(noise(size))
        server.send(b"behind that")
        assert opened.recv(65536) == b"behind that"
        assert activity(lab)["drop_truncated"] - before["drop_truncated"] == 2


# TCP


_SIZE = 3_000_000
_CUT_TO = 1000


@pytest.fixture(scope="module")
def cut_up() -> Iterator[tuple[Lab, tuple[str, str]]]:
    """A lab where nobody discovers path MTUs, and the routers in it that cut up what is on its way to the balancer."""
    balancer = SEED.balancer
    with Lab(prefix=f"t{os.getpid()}-cut-") as lab, hop(lab, "client") as near, hop(lab, "server1") as far:
        add_sources(lab)
        for router in (near, far):
            for way in (f"{balancer.ipv4}/32", f"default via {balancer.ipv4}"):
                command = f"ip -n {router} route change {way} dev lb mtu {_CUT_TO}"
                subprocess.run(command.split(), check=True, timeout=10)
        for host in ("client", "server1"):
            shell(lab, host, "sysctl -qw net.ipv4.ip_no_pmtu_disc=1")
        lab.start_web("server1")
        running = lab.start_natlb(_config(lab))
        yield lab, (near, far)
        assert running.stop() == 0


def _fragments_made(router: str) -> int:
    command = ["nsenter", f"--net=/run/netns/{router}", "cat", "/proc/net/snmp"]
    done = subprocess.run(command, check=True, timeout=10, capture_output=True, text=True)
    names, values = (line.split() for line in done.stdout.splitlines() if line.startswith("Ip: "))
    return int(dict(zip(names, values, strict=True))["FragCreates"])


@pytest.mark.parametrize("port", _WEB_PORTS.values(), ids=MODES)
def test_tcp_whose_segments_a_router_cuts_up_arrives_byte_for_byte(
    cut_up: tuple[Lab, tuple[str, str]], port: int, tmp_path: Path
) -> None:
    lab, routers = cut_up
    before = [_fragments_made(router) for router in routers]
    file = tmp_path / "pattern"
    file.write_bytes(b"".join(pattern(_SIZE)))
    upload(lab, "client", SEED.balancer.ipv4, file, port=port)
    download(lab, "client", SEED.balancer.ipv4, _SIZE, port=port)
    made = [_fragments_made(router) - earlier for router, earlier in zip(routers, before, strict=True)]
    assert min(made) > 2 * _SIZE // 1500, "every full segment was cut in two, on both ways"
    assert not [name for name in activity(lab) if name.startswith("drop_")]


class _Bare:
    """A client of one TCP connection that has no stack, and may cut up its segments as it likes: no IPv6 stack does."""

    _ports = itertools.count(2000)

    def __init__(self, lab: Lab, address: str, port: int) -> None:
        self._ip = IPv6(src=SEED.client.ipv6, dst=address) if ":" in address else IP(src=SEED.client.ipv4, dst=address)
        self._ports_used = {"sport": next(self._ports), "dport": port}
        self._wire = Wire(lab)
        self._sequence, self._acknowledged = 1000, 0

    def send(self, flags: str, payload: bytes = b"", size: int = 1400) -> None:
        """Send a segment; what is larger than `size`, header included, in fragments, the last one first."""
        tcp = TCP(flags=flags, seq=self._sequence, ack=self._acknowledged, **self._ports_used)
        whole = bytes(self._ip / tcp / payload)
        cut = Cut(type(self._ip)(whole)).pieces(size)
        self._wire.send(cut[::-1] if len(cut) > 1 else [whole])
        self._sequence += len(payload) + ("S" in flags)

    def receive(self) -> bytes:
        """Return what the other side says next that it has not said before; its SYN is an S."""
        while True:
            tcp = self._next_segment()
            assert "R" not in tcp.flags
            said = b"S" if "S" in tcp.flags else bytes(tcp.payload)
            if said and tcp.seq >= self._acknowledged:
                self._acknowledged = tcp.seq + len(said)
                return said

    def _next_segment(self) -> TCP:
        while True:
            read = type(self._ip)(self._wire.receive())
            if TCP in read and read[TCP].dport == self._ports_used["sport"]:
                return read[TCP]

    def close(self) -> None:
        self.send("R")
        self._wire.close()


@pytest.fixture
def deaf(lab: Lab) -> Iterator[None]:
    """The client's kernel, not to refuse what comes for a connection that it does not know."""
    rule = "OUTPUT -p tcp --tcp-flags RST RST -j DROP"
    for command in ("iptables", "ip6tables"):
        shell(lab, "client", f"{command} -A {rule}")
    yield
    for command in ("iptables", "ip6tables"):
        shell(lab, "client", f"{command} -D {rule}")


_FILLED = b"GET /bytes/1000 HTTP/1.1\r\nHost: vip\r\nFilling: " + b"x" * 2500 + b"\r\n\r\n"


@pytest.mark.parametrize("port", _WEB_PORTS.values(), ids=MODES)
@pytest.mark.usefixtures("natlb", "web", "deaf")
def test_a_segment_that_comes_in_fragments_is_part_of_its_connection(lab: Lab, vip: str, port: int) -> None:
    peer = _Bare(lab, vip, port)
    try:
        peer.send("S")
        assert peer.receive() == b"S"
        peer.send("PA", _FILLED)
        answer = b""
        while len(answer.partition(b"\r\n\r\n")[2]) < 1000:
            answer += peer.receive()
    finally:
        peer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"".join(pattern(1000)))


# What never becomes complete


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[tuple[Lab, list[Echo]]]:
    """Another lab, whose natlb can be filled up."""
    with Lab(prefix=f"t{os.getpid()}-limits-") as lab:
        add_sources(lab)
        with echoes(lab, _SERVER_PORT) as running:
            yield lab, running


@pytest.fixture
def hasty(elsewhere: tuple[Lab, list[Echo]]) -> Iterator[Natlb]:
    """A natlb that gives a datagram two seconds instead of half a minute: enough for one that is sent in one go."""
    lab, _ = elsewhere
    script = "from natlb import cli; from natlb.core import fragments; fragments.FRAGMENT_TIMEOUT = 2; cli.run()"
    config = lab.directory / "hasty.cfg"
    config.write_text(_config(lab))
    command = lab.command("lb", [sys.executable, "-c", script, "-f", str(config)], names=False)
    running = Natlb("a hasty natlb", command, lab.directory / "hasty.log", lab.stats_socket)
    running.wait_for(READY)
    yield running
    assert running.stop() == 0
    assert "internal error" not in running.log()


@pytest.mark.usefixtures("hasty")
def test_a_datagram_that_does_not_become_complete_in_time_is_dropped_and_counted(
    elsewhere: tuple[Lab, list[Echo]],
) -> None:
    lab, servers = elsewhere
    for server in servers:
        server.received.clear()
    with ExitStack() as stack:
        wire = stack.enter_context(Wire(lab))
        clients = [
            stack.enter_context(client(lab, address, port))
            for address, port in itertools.product(VIPS.values(), _PORTS.values())
        ]
        cut = [datagram(opened, noise(4000)).pieces() for opened in clients]
        for _, *others in cut:
            wire.send(others)
        late = sum(len(others) for _, *others in cut)
        until(lambda: activity(lab)["drop_fragment_timeout"] == late, "those that waited are dropped")
        for opened in clients:
            assert asked(opened, b"behind") == b"behind"
        assert _received(servers) == [b"behind"] * len(clients)
        # Nothing is remembered of them: others may have their names.
        for opened, (first, *others) in zip(clients, cut, strict=True):
            wire.send([*others, first])
            assert opened.recv(65536) == noise(4000)
    assert activity(lab)["drop_fragment_timeout"] == late


@pytest.fixture
def patient(elsewhere: tuple[Lab, list[Echo]]) -> Iterator[Natlb]:
    """A natlb as it is."""
    lab, _ = elsewhere
    running = lab.start_natlb(_config(lab))
    yield running
    assert running.stop() == 0
    assert "internal error" not in running.log()


@pytest.mark.usefixtures("patient")
@pytest.mark.busy  # datagrams are not sent again: none may be lost for want of time
def test_fragments_that_wait_are_bounded_and_harm_nobody_who_comes_in_order(
    elsewhere: tuple[Lab, list[Echo]],
) -> None:
    lab, servers = elsewhere
    too_many = 76
    with ExitStack() as stack:
        wire = stack.enter_context(Wire(lab))
        clients = [
            stack.enter_context(client(lab, address, port))
            for address, port in itertools.product(VIPS.values(), _PORTS.values())
        ]
        for sender, _ in zip(itertools.cycle(clients), range(_MOST_HELD + too_many), strict=False):
            wire.send([datagram(sender, b"no first").piece(8)])
        until(lambda: activity(lab)["packets"] >= _MOST_HELD + too_many, "natlb has seen them all")
        assert activity(lab)["drop_fragment_limit"] == too_many
        for opened in clients:
            assert asked(opened, noise(65_507)) == noise(65_507)
    assert not [each for each in _received(servers) if b"first" in each]
