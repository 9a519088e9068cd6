"""Packets that the kernel hands over before they are cut up arrive as they should, whatever the links do by themselves.

The links of this lab pass 64 KB packets with unfinished checksums, as between containers, and cut up nothing until they
are told to. All is done twice: with a natlb that takes such packets as they are, and with one that has the kernel cut
them up first.
"""

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from netns.balancer import Natlb
from netns.build import Lab
from netns.dissect import read
from netns.errors import LabError
from netns.topology import SEED
from netns.web import pattern
from tests.lab.datagrams import Echo, activity, noise
from tests.lab.firewall import stateful_firewall
from tests.lab.loss import loss
from tests.lab.support import download, shell, until, upload
from tests.lab.ways import WAYS, Way, add_sources

pytestmark = [pytest.mark.root, pytest.mark.busy]

_PLAIN, _LOCAL, _LOOPBACK, _UDP = 8001, 8002, 8003, 8004
_HERE, _ECHO = 4446, 7000
_SIZE = 5_000_000
_BULK = 200_000_000
_UDP_SEGMENT = 103
_LO = {4: "127.0.0.1", 6: "[::1]"}


def _config(lab: Lab) -> str:
    parts = [f"global\n    stats socket {lab.stats_socket} level admin\n"]
    parts += ["defaults\n    timeout connect 10s\n    timeout client 60s\n    timeout server 60s\n"]
    for way in WAYS:
        parts += [way.listen("plain", _PLAIN, 4444), way.udp_lb("udp", _UDP, _ECHO)]
    for way in WAYS[:2]:
        bind = f"[{way.vip}]" if way.version == 6 else way.vip
        parts += [f"listen local-{way.name}\n    bind {bind}:{_LOCAL}\n    server here {bind}:{_HERE}\n"]
        parts += [f"listen lo-{way.name}\n    bind {bind}:{_LOOPBACK}\n    server here {_LO[way.version]}:{_HERE}\n"]
    return "".join(parts)


@pytest.fixture(scope="module")
def fast() -> Iterator[Lab]:
    with Lab(prefix=f"t{os.getpid()}-fast-", offloads=True) as lab:
        add_sources(lab)
        lab.start_web("server1")
        lab.start_web("lb", port=_HERE, name="here")
        yield lab


@pytest.fixture(scope="module", params=["unsegmented", "--no-gso"])
def natlb(fast: Lab, request: pytest.FixtureRequest) -> Iterator[Natlb]:
    running = fast.start_natlb(_config(fast), [request.param] if request.param.startswith("-") else [])
    yield running
    assert running.stop() == 0
    assert "internal error" not in running.log()


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("transfer") / "pattern"
    with file.open("wb") as out:
        out.writelines(pattern(_SIZE))
    return file


def _links(lab: Lab) -> list[tuple[str, str]]:
    return [(each, "eth0") for each in ("client", "server1")] + [("lb", each) for each in ("client", "server1")]


@contextmanager
def _offloads_off(
    lab: Lab, links: list[tuple[str, str]], what: str = "tx off tso off gso off gro off"
) -> Iterator[None]:
    for host, link in links:
        shell(lab, host, f"ethtool -K {link} {what}")
    yield
    for host, link in links:
        shell(lab, host, f"ethtool -K {link} {what.replace('off', 'on')}")


@contextmanager
def _mtu(lab: Lab, size: int) -> Iterator[None]:
    for host, link in _links(lab):
        shell(lab, host, f"ip link set {link} mtu {size}")
    yield
    for host, link in _links(lab):
        shell(lab, host, f"ip link set {link} mtu 1500")


def _both_ways(lab: Lab, host: str, address: str, port: int, file: Path) -> None:
    download(lab, host, address, _SIZE, port=port)
    upload(lab, host, address, file, port=port)


def _dropped(lab: Lab) -> dict[str, int]:
    return {name: count for name, count in activity(lab).items() if name.startswith("drop_")}


_OFFLOADS = {
    "offloads on": [],
    "off at the balancer": [("lb", "client"), ("lb", "server1")],
    "off at the hosts": [("client", "eth0"), ("server1", "eth0")],
    "off everywhere": [("client", "eth0"), ("server1", "eth0"), ("lb", "client"), ("lb", "server1")],
}


@pytest.mark.parametrize("mtu", [1500, 9000])
@pytest.mark.parametrize("links", _OFFLOADS.values(), ids=_OFFLOADS)
def test_every_byte_arrives_whatever_the_links_leave_undone(
    fast: Lab, natlb: Natlb, way: Way, links: list[tuple[str, str]], mtu: int, big_file: Path
) -> None:
    before = _dropped(fast)
    with _mtu(fast, mtu), _offloads_off(fast, links):
        _both_ways(fast, "client", way.vip, way.port(_PLAIN), big_file)
    assert _dropped(fast) == before


_ON_THE_BALANCER = [
    (host, version, service)
    for host in ("client", "lb")
    for version in (4, 6)
    for service in (_LOCAL, _LOOPBACK)
    if (host, version, service) != ("client", 6, _LOOPBACK)  # IPv6 leads nobody from outside to a loopback address
]


@pytest.mark.parametrize(("host", "version", "service"), _ON_THE_BALANCER)
def test_a_server_on_the_balancer_itself_gets_and_sends_every_byte(
    fast: Lab, natlb: Natlb, host: str, version: int, service: int, big_file: Path
) -> None:
    way = WAYS[version == 6]
    _both_ways(fast, host, way.vip, service, big_file)


def test_a_client_on_the_balancer_itself_gets_and_sends_every_byte(
    fast: Lab, natlb: Natlb, way: Way, big_file: Path
) -> None:
    _both_ways(fast, "lb", way.vip, way.port(_PLAIN), big_file)


@pytest.mark.parametrize("way", WAYS[:2], ids=lambda way: way.name)
def test_200_megabytes_arrive_byte_for_byte_both_ways(fast: Lab, natlb: Natlb, way: Way, tmp_path: Path) -> None:
    with (tmp_path / "pattern").open("wb") as out:
        out.writelines(pattern(_BULK))
    download(fast, "client", way.vip, _BULK, port=way.port(_PLAIN))
    upload(fast, "client", way.vip, tmp_path / "pattern", port=way.port(_PLAIN))


def test_every_byte_arrives_over_a_link_that_loses_packets(fast: Lab, natlb: Natlb, way: Way, big_file: Path) -> None:
    with loss(fast, 0.02) as lost:

        def some_get_lost() -> bool:
            _both_ways(fast, "client", way.vip, way.port(_PLAIN), big_file)
            return lost() > 0

        until(some_get_lost, "some get lost, as of few large packets may none", 60)


@pytest.mark.in_userspace("what is carried comes in no packets at all")
def test_a_stream_comes_in_few_packets_only_if_it_is_asked_for_so(fast: Lab, natlb: Natlb, way: Way) -> None:
    before = activity(fast)["packets"]
    download(fast, "client", way.vip, _SIZE, port=way.port(_PLAIN))
    packets, segments = activity(fast)["packets"] - before, _SIZE // 1448
    if "--no-gso" in natlb.process.args:  # type: ignore[operator]
        assert packets > segments
    else:
        assert packets < segments / 4


def test_every_checksum_is_right_on_the_wires_behind_the_balancer(
    fast: Lab, natlb: Natlb, way: Way, big_file: Path
) -> None:
    """What leaves the balancer is cut up and finished there, and read by scapy as it comes in at the other end."""
    with (
        _offloads_off(fast, _OFFLOADS["off at the balancer"]),
        _offloads_off(fast, _OFFLOADS["off at the hosts"], "gro off"),
    ):
        hosts = {"client": way.address("client"), "server1": way.address("server1")}
        captures = {host: fast.capture(host, "eth0", f"tcp and dst host {own}") for host, own in hosts.items()}
        small = big_file.parent / "small"
        small.write_bytes(big_file.read_bytes()[:2_000_000])
        download(fast, "client", way.vip, 2_000_000, port=way.port(_PLAIN))
        upload(fast, "client", way.vip, small, port=way.port(_PLAIN))
        for capture in captures.values():
            with contextlib.suppress(LabError):  # what tcpdump was too slow for is not looked at
                capture.stop()
    for host, capture in captures.items():
        seen = read(host, capture.packets())
        assert len(seen) > 100
        assert max(len(each.payload) for each in seen) <= 1460, "cut up"
        wrong = [each for each in seen if not each.checksums_right]
        assert not wrong, f"{host}: {len(wrong)} of {len(seen)}, {wrong[0]}"


def test_a_segment_too_large_for_the_next_hop_is_answered_and_its_sender_learns(
    fast: Lab, natlb: Natlb, way: Way, big_file: Path
) -> None:
    server, command = SEED.host("server1"), f"ip -{way.version} route"
    of_server = server.ipv4 if way.version == 4 else server.ipv6
    route = re.sub(r" (pref|mtu) \S+", "", shell(fast, "lb", f"{command} show {of_server} dev server1").strip())
    # Routes are looked at for the kernel's program when an interface comes or goes (docs/offload.md).
    change = "ip link add passing type veth peer name by; ip link del passing"

    def learns() -> bool:
        upload(fast, "client", way.vip, big_file, port=way.port(_PLAIN))
        return " mtu 1300" in shell(fast, "client", f"{command} get {way.vip}")

    shell(fast, "lb", f"{command} change {route} dev server1 mtu 1300; {change}")
    try:
        until(learns, "the client has learned")
    finally:
        shell(fast, "lb", f"{command} change {route} dev server1; {change}")
        shell(fast, "client", f"{command} flush cache")


# UDP


@pytest.fixture(scope="module")
def echo(fast: Lab) -> Iterator[Echo]:
    with Echo(fast, "server1", _ECHO) as running:
        yield running


@contextmanager
def _udp_client(lab: Lab, way: Way) -> Iterator[socket.socket]:
    with lab.open_socket("client", way.family, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect((way.vip, way.port(_UDP)))
        yield client


@pytest.mark.parametrize("links", _OFFLOADS.values(), ids=_OFFLOADS)
def test_datagrams_of_all_sizes_are_echoed(
    fast: Lab, natlb: Natlb, echo: Echo, way: Way, links: list[tuple[str, str]]
) -> None:
    with _offloads_off(fast, links), _udp_client(fast, way) as client:
        for size in (0, 1, 2, 100, 1400, 1452, 1473, 9000, 60_000):
            client.send(noise(size))
            assert client.recv(65536) == noise(size), size


@pytest.mark.parametrize("links", _OFFLOADS.values(), ids=_OFFLOADS)
def test_datagrams_that_are_sent_in_one_piece_arrive_as_many(
    fast: Lab, natlb: Natlb, echo: Echo, way: Way, links: list[tuple[str, str]]
) -> None:
    """As QUIC sends them (UDP_SEGMENT): the kernel cuts them up, on its way or at the very end."""
    with _offloads_off(fast, links), _udp_client(fast, way) as client:
        client.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 1000)
        with fast.capture("server1", "eth0", f"udp and dst port {_ECHO}") as capture:
            client.send(noise(20_500))
            answers = [client.recv(65536) for _ in range(21)]
    assert sorted(answers) == sorted(noise(20_500)[at : at + 1000] for at in range(0, 20_500, 1000))
    if ("lb", "server1") in links:
        arrived = [Ether(frame)[IP if way.version == 4 else IPv6] for _, frame in capture.packets()]
        assert len(arrived) == 21
        for packet in arrived:
            again = packet.copy()
            del again[UDP].chksum
            assert type(packet)(bytes(again))[UDP].chksum == packet[UDP].chksum


# Beside a firewall


def test_connection_tracking_finds_nothing_wrong_with_a_stream(
    fast: Lab, natlb: Natlb, way: Way, big_file: Path
) -> None:
    """It reads the checksums of what comes in, and what is wrong is INVALID for it."""
    with stateful_firewall(fast):
        time.sleep(1.1)  # natlb looks once a second whether connections are tracked
        _both_ways(fast, "client", way.vip, way.port(_PLAIN), big_file)
        _both_ways(fast, "lb", way.vip, way.port(_PLAIN), big_file)
