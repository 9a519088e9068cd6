"""Full NAT: the servers see the balancer, and nothing else is different for anybody.

One natlb has a service for each question, all with a `source`. The balancer has two addresses more than usual, which no
program of its own speaks from, and the client has one more.
"""

import contextlib
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns.balancer import COMMAND, ask, nat_table
from netns.build import Lab
from netns.capture import Capture
from netns.dissect import read
from netns.topology import SEED
from netns.web import endpoint, pattern
from tests.lab.firewall import stateful_firewall
from tests.lab.loss import loss
from tests.lab.support import (
    Client,
    answering_server,
    at_rest,
    balancer_state,
    clients,
    download,
    shell,
    until,
    upload,
    url,
)

pytestmark = pytest.mark.root

_SIZE = 20_000_000

_VIP = {4: SEED.balancer.ipv4, 6: SEED.balancer.ipv6}
_SERVER = {4: "44.3.3.3", 6: "fd44::3"}
_CLIENT = {4: ("44.1.1.1", "44.1.1.9"), 6: ("fd44::1", "fd44::19")}
_OTHERS = {4: ("44.2.2.20", "44.2.2.21"), 6: ("fd44::20", "fd44::21")}
"""The balancer's further addresses."""

_PLAIN, _OTHER, _TWO, _FEW, _LOOPBACK, _OWN = range(8888, 8894)
"""The ports of the services, the first of them of UDP too."""

_KEPT = 20001
"""A port that the balancer gives to no program of its own."""

_REFUSED = 7
"""What curl exits with."""

_FEW_PORTS = range(30000, 30004)


def _services(version: int) -> str:
    vip, (one, two) = _VIP[version], (endpoint(each, 0).removesuffix(":0") for each in _OTHERS[version])
    own, remote = endpoint(vip, 0).removesuffix(":0"), f"server server1 {endpoint(_SERVER[version], 4444)}"
    few = f"{one}:{_FEW_PORTS[0]}-{_FEW_PORTS[-1]}"
    anywhere = "[::]" if version == 6 else "*"
    services = {
        _PLAIN: ("listen", anywhere, f"source {own}\n {remote}"),
        _OTHER: ("listen", own, f"source {one}\n {remote}"),
        _TWO: ("listen", own, f"source {one}\n source {two}\n {remote}"),
        _FEW: ("listen", own, f"default-server source {few}\n {remote}"),
        _OWN: ("listen", anywhere, f"source {own}\n server local {own}:4446"),
    }
    if version == 4:
        services[_LOOPBACK] = ("listen", own, f"source {own}\n server local 127.0.0.1:4446")
    listening = [
        f"{kind} {kind}{version}-{port}\n bind {bind}:{port}\n {rest}" for port, (kind, bind, rest) in services.items()
    ]
    return "\n".join([*listening, f"udp-lb udp{version}\n dgram-bind {own}:{_PLAIN}\n source {own}\n {remote}", ""])


def _config(lab: Lab) -> str:
    return f"global\n stats socket {lab.stats_socket} level admin\n{_services(4)}{_services(6)}"


@pytest.fixture(scope="module")
def furnished(lab: Lab) -> Lab:
    """The lab with its further addresses and its servers, one on the balancer itself, and no natlb."""
    for version, (_, second) in _CLIENT.items():
        size = 128 if version == 6 else 32
        others = "; ".join(f"ip addr add {other}/{size} dev lo" for other in _OTHERS[version])
        shell(lab, "client", f"ip addr add {second}/{size} dev eth0")
        shell(lab, "lb", f"ip route add {second} dev client src {_VIP[version]}; {others}")
    lab.start_web("server1")
    lab.start_web("lb", 4446, "local")
    return lab


@pytest.fixture(scope="module")
def full(furnished: Lab) -> Iterator[Lab]:
    natlb = furnished.start_natlb(_config(furnished))
    yield furnished
    assert natlb.stop() == 0


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def version(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


@pytest.fixture(scope="module")
def pattern_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("full") / "pattern"
    with file.open("wb") as out:
        out.writelines(pattern(_SIZE))
    return file


@contextlib.contextmanager
def _client(
    lab: Lab, version: int, port: int = _PLAIN, source: tuple[str, int] | None = None, host: str = "client"
) -> Iterator[Client]:
    made = Client(lab, host, _VIP[version], port, source=source)
    try:
        yield made
    finally:
        made.close()


# Beginning and end: natlb does not run yet


_PRIOR = {
    "settings as they come": "true",
    "a strict rp_filter": "for each in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $each; done",
    "some of it set already": "cd /proc/sys/net/ipv4/conf; echo 0 | tee {all,lo,server2}/rp_filter;"
    "echo 1 > server1/accept_local",
}


@pytest.mark.parametrize("prior", _PRIOR.values(), ids=_PRIOR)
def test_it_works_and_after_the_stop_rules_and_settings_are_as_before(furnished: Lab, prior: str) -> None:
    shell(furnished, "lb", prior)
    before = balancer_state(furnished)
    natlb = furnished.start_natlb(_config(furnished))
    assert balancer_state(furnished) != before
    for version, port in ((4, _PLAIN), (4, _OTHER), (4, _LOOPBACK), (6, _PLAIN)):
        with _client(furnished, version, port) as client:
            assert client.ask() == ("local" if port == _LOOPBACK else "server1")
    assert answering_server(furnished, "lb", _VIP[4]) == "server1"
    assert natlb.stop() == 0
    assert balancer_state(furnished) == before


def test_after_kill_9_the_next_start_and_stop_leave_nothing(furnished: Lab) -> None:
    before = balancer_state(furnished)
    furnished.start_natlb(_config(furnished)).kill()
    assert balancer_state(furnished) != before
    again = furnished.start_natlb(_config(furnished))
    assert answering_server(furnished, "client", _VIP[4]) == "server1"
    assert again.stop() == 0
    assert balancer_state(furnished) == before


@pytest.mark.parametrize("address", ["44.9.9.9", "fd44::99"])
def test_a_source_that_no_interface_has_is_refused_at_the_start(furnished: Lab, tmp_path: Path, address: str) -> None:
    of, written = (6, f"[{address}]") if ":" in address else (4, address)
    config = tmp_path / "foreign.cfg"
    server = endpoint(_SERVER[of], 4444)
    config.write_text(f"listen far\n bind {endpoint(_VIP[of], 80)}\n source {written}\n server one {server}\n")
    before = balancer_state(furnished)
    done = furnished.run("lb", [*COMMAND, "-f", str(config)], names=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (alert,) = [line for line in done.stderr.splitlines() if line.startswith("[ALERT]")]
    place = f"'source' at {config}:3, for server far/one"
    assert f"{place}: cannot bind to source address {address} (Cannot assign requested address)" in alert
    assert balancer_state(furnished) == before


# Whom the server sees


@pytest.mark.parametrize("port", [_PLAIN, _OTHER], ids=["the virtual address", "an address of its own"])
def test_the_server_sees_the_source_and_the_clients_port(full: Lab, version: int, port: int) -> None:
    source = _VIP[version] if port == _PLAIN else _OTHERS[version][0]
    with _client(full, version, port, (_CLIENT[version][0], _KEPT)) as client:
        assert client.as_seen() == endpoint(source, _KEPT)


def test_a_port_that_the_balancers_own_programs_may_be_given_is_not_used(full: Lab, version: int) -> None:
    low, high = map(int, shell(full, "lb", "cat /proc/sys/net/ipv4/ip_local_port_range").split())
    wanted = (low + high) // 2
    with _client(full, version, _PLAIN, (_CLIENT[version][0], wanted)) as client:
        address, _, port = client.as_seen().rpartition(":")
        assert address.strip("[]") == _VIP[version]
        assert not low <= int(port) <= high
    # Nobody but natlb speaks from the other address: there it is free.
    with _client(full, version, _OTHER, (_CLIENT[version][0], wanted)) as client:
        assert client.as_seen() == endpoint(_OTHERS[version][0], wanted)


def test_two_clients_with_one_port_get_two(full: Lab, version: int) -> None:
    first, second = ((address, _KEPT + 1) for address in _CLIENT[version])
    with _client(full, version, _PLAIN, first) as one, _client(full, version, _PLAIN, second) as other:
        seen = [one.as_seen(), other.as_seen()]
        assert seen[0] == endpoint(_VIP[version], _KEPT + 1)
        assert seen[1].rpartition(":")[0] == seen[0].rpartition(":")[0]
        assert seen[1] != seen[0]
        assert [one.as_seen(), other.as_seen()] == seen


def test_several_sources_take_turns(full: Lab, version: int) -> None:
    with clients(full, "client", _VIP[version], 6, _TWO) as opened:
        seen = [client.as_seen().rpartition(":")[0].strip("[]") for client in opened]
    assert sorted(seen) == sorted(_OTHERS[version] * 3)


# When ports run out


def _dropped_for_want_of_a_port(lab: Lab) -> int:
    counted = dict(line.split(": ") for line in ask(lab.stats_socket, "show activity").split("\n") if line)
    return int(counted.get("drop_no_port", 0))


def test_a_connection_without_a_port_waits_for_one_and_hurts_none(full: Lab, version: int) -> None:
    before = _dropped_for_want_of_a_port(full)
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with (
        clients(full, "client", _VIP[version], len(_FEW_PORTS), _FEW) as opened,
        full.open_socket("client", family, socket.SOCK_STREAM) as waiting,
    ):
        used = {endpoint(_OTHERS[version][0], port) for port in _FEW_PORTS}
        assert {client.as_seen() for client in opened} == used
        waiting.setblocking(False)
        waiting.connect_ex((_VIP[version], _FEW))
        until(lambda: _dropped_for_want_of_a_port(full) > before, "its SYN is dropped, and counted")
        assert waiting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0, "it is not refused"
        assert {client.as_seen() for client in opened} == used, "the others go on"
        opened[0].close()
        waiting.settimeout(10)
        until(lambda: _is_connected(waiting), "its next SYN gets in")


def _is_connected(waiting: socket.socket) -> bool:
    try:
        waiting.getpeername()
    except OSError:
        return False
    return True


# What passes


def test_20_megabytes_arrive_byte_for_byte_both_ways_over_a_lossy_network(
    full: Lab, version: int, pattern_file: Path
) -> None:
    with loss(full):
        download(full, "client", _VIP[version], _SIZE)
        upload(full, "client", _VIP[version], pattern_file)


def test_200_connections_at_once_are_kept_apart(full: Lab, version: int) -> None:
    with clients(full, "client", _VIP[version], 200) as opened:
        seen = [client.as_seen() for client in opened]
        assert len(set(seen)) == 200
        assert [client.as_seen() for client in reversed(opened)] == seen[::-1]


@pytest.mark.parametrize("size", [100, 5000, 65507], ids=["a datagram", "in fragments", "as large as they come"])
def test_a_datagram_arrives_and_so_does_its_answer(full: Lab, version: int, size: int) -> None:
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    sent, answer = (b"".join(pattern(size)), b"".join(pattern(size + 1))[1:])
    with (
        full.open_socket("client", family, socket.SOCK_DGRAM) as client,
        full.open_socket("server1", family, socket.SOCK_DGRAM) as server,
    ):
        client.settimeout(5)
        server.settimeout(5)
        server.bind((_SERVER[version], 4444))
        client.connect((_VIP[version], _PLAIN))
        client.send(sent)
        got, seen = server.recvfrom(70000)
        assert got == sent
        assert seen[0] == _VIP[version]
        server.sendto(answer, seen)
        assert client.recv(70000) == answer


@pytest.mark.parametrize("port", [_LOOPBACK, _OWN], ids=["loopback", "its own address"])
def test_a_remote_client_reaches_a_server_on_the_balancer(full: Lab, version: int, port: int) -> None:
    if version == 6 and port == _LOOPBACK:
        port = _OWN  # nothing that comes in from outside may go to ::1
    with _client(full, version, port, (_CLIENT[version][0], _KEPT + 2)) as client:
        assert client.as_seen() == endpoint(_VIP[version], _KEPT + 2)
    download(full, "client", _VIP[version], _SIZE, port=port)


def test_a_client_on_the_balancer_reaches_a_remote_server(full: Lab, version: int) -> None:
    for address in (_VIP[version], _OTHERS[version][0]):
        assert answering_server(full, "lb", address) == "server1"
    download(full, "lb", _VIP[version], _SIZE)


@pytest.mark.parametrize("loopback", ["127.0.0.1", "::1"])
def test_a_loopback_client_of_a_remote_server_is_refused_at_once(full: Lab, loopback: str) -> None:
    done = full.run("lb", ["curl", "-sSm", "2", url(loopback)], names=False)
    assert done.returncode == _REFUSED, done.stderr


def test_a_client_on_the_balancer_reaches_a_server_there(full: Lab, version: int, pattern_file: Path) -> None:
    ports = [_OWN] if version == 6 else [_OWN, _LOOPBACK]
    assert answering_server(full, "lb", "::1" if version == 6 else "127.0.0.1", port=_OWN) == "local"
    for port in ports:
        assert answering_server(full, "lb", _VIP[version], port=port) == "local"
        # The packets of the loopback interface are larger than natlb can be shown.
        download(full, "lb", _VIP[version], _SIZE, port=port)
        upload(full, "lb", _VIP[version], pattern_file, port=port)


def test_a_stateful_firewall_passes_all_of_it(full: Lab, pattern_file: Path) -> None:
    with stateful_firewall(full):
        for version in (4, 6):
            for host, port in (("client", _PLAIN), ("client", _TWO), ("client", _OWN), ("lb", _PLAIN), ("lb", _OWN)):
                download(full, host, _VIP[version], 1_000_000, port=port)
            upload(full, "client", _VIP[version], pattern_file)
            test_a_datagram_arrives_and_so_does_its_answer(full, version, 5000)
        download(full, "client", _VIP[4], 1_000_000, port=_LOOPBACK)


# What changes on the way, and what does not


def _bare(packet: bytes) -> bytes:
    """Return a packet without what full NAT may change: addresses, ports, checksums and TTL."""
    bare = bytearray(packet)
    header = (bare[0] & 0x0F) * 4 if bare[0] >> 4 == 4 else 40
    zeroed = [(8, 9), (10, 20)] if bare[0] >> 4 == 4 else [(7, 40)]
    for start, end in (*zeroed, (header, header + 4), (header + 16, header + 18)):
        bare[start:end] = bytes(end - start)
    return bytes(bare)


def test_nothing_changes_on_the_way_but_addresses_ports_checksums_and_ttl(full: Lab, version: int) -> None:
    at_rest(full)
    with full.capture("client", "eth0", "tcp") as near, full.capture("server1", "eth0", "tcp") as far:
        download(full, "client", _VIP[version], 300_000)
        at_rest(full)  # what comes later is seen by one of them only
    at_client, at_server = (_both_ways(capture, port) for capture, port in ((near, _PLAIN), (far, 4444)))
    for sent, arrived in ((at_client[0], at_server[0]), (at_server[1], at_client[1])):
        assert len(sent) > 20
        # Sorted: with several processors a link may change the order.
        assert sorted((ttl - 1, bare) for ttl, bare in sent) == sorted(arrived)


def _both_ways(capture: Capture, port: int) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
    """Return TTL and the unchanging rest of the packets to a port, and of those from it."""
    ways: tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]] = [], []
    packets = capture.packets()
    for sighting, (_, frame) in zip(read(capture.place, packets), packets, strict=True):
        assert sighting.checksums_right
        ways[sighting.source.endswith(f":{port}")].append((sighting.ttl, _bare(frame[14:])))
    return ways


# Who speaks in the balancer's name


_SEND = """
import socket, sys
out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for packet in map(bytes.fromhex, sys.argv[1:]):
    out.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
"""

_FORGED = (_VIP[4], _OTHERS[4][0], "127.0.0.1")


@pytest.mark.parametrize("of", ["lb", "server1"])
def test_a_datagram_from_outside_in_the_balancers_name_does_not_arrive(full: Lab, of: str) -> None:
    from scapy.layers.inet import IP, UDP

    assert shell(full, "lb", "cat /proc/sys/net/ipv4/conf/client/accept_local").strip() == "1"
    to = full.topology.host(of).ipv4
    packets = [bytes(IP(src=source, dst=to) / UDP(sport=9, dport=9999) / source) for source in (*_FORGED, "44.1.1.1")]
    with full.open_socket(of, socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.settimeout(5)
        server.bind((to, 9999))
        shell(full, "client", shlex.join([sys.executable, "-c", _SEND, *(packet.hex() for packet in packets)]))
        assert server.recv(100) == b"44.1.1.1", "the last one, and it is genuine"


def test_a_segment_from_outside_in_the_balancers_name_opens_no_connection(full: Lab) -> None:
    from scapy.layers.inet import IP, TCP

    syns = [IP(src=source, dst=_VIP[4]) / TCP(sport=99, dport=_PLAIN) for source in (*_FORGED, "44.1.1.1")]
    shell(full, "client", shlex.join([sys.executable, "-c", _SEND, *(bytes(syn).hex() for syn in syns)]))

    def clients_in_the_table() -> set[str]:
        return {
            entry.client for entry in nat_table(ask(full.stats_socket, "show sess")) if entry.client.endswith(":99")
        }

    until(lambda: bool(clients_in_the_table()), "the last one opens a connection")
    assert clients_in_the_table() == {"44.1.1.1:99"}
