"""Who reaches a server without the balancer, as a neighbour or as the server itself, is served all the same.

Beside the lab's usual links, server1 shares a network with the balancer and the client: a bridge of its own, at which
it answers whoever is there directly.
"""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from netns.build import Lab
from netns.topology import SEED
from netns.web import endpoint
from tests.lab.support import Client, answering_server, download, shell, until, url

pytestmark = pytest.mark.root

_VIPS = {4: (SEED.balancer.ipv4, "44.2.2.21"), 6: (SEED.balancer.ipv6, "fd44::21")}
_SHARED = {4: "10.5.0.", 6: "fd55::"}
"""The network that all three are on: the balancer is 1 there, server1 is 2, the client is 3."""

_PLAIN, _FORBIDDEN, _SHARED_NETWORK, _SINGLE, _SHARED_FORBIDDEN, _LOCAL = range(8888, 8894)

_LOOPBACK = {4: "127.0.0.1", 6: "::1"}

_REFUSED = 7
"""What curl exits with."""

_NETWORK = """
ip -n {lb} link add shared type veth peer name lb netns {server1}
ip -n {client} link add shared type veth peer name client netns {server1}
ip -n {server1} link add shared type bridge
for port in lb client; do ip -n {server1} link set $port master shared up; done
number=0
for host in {lb} {server1} {client}; do
    number=$((number + 1))
    ip -n $host addr add 10.5.0.$number/24 dev shared
    ip -n $host addr add fd55::$number/64 dev shared nodad
    ip -n $host link set shared up
done
for host in {lb} {client}; do nsenter --net=/run/netns/$host ethtool -K shared tx off tso off gso off gro off; done
ip -n {lb} addr add 44.2.2.21/32 dev lo
ip -n {lb} addr add fd44::21/128 dev lo
"""


def _services(version: int) -> str:
    plain, single = (",".join(endpoint(vip, port) for vip in _VIPS[version]) for port in (_PLAIN, _SINGLE))
    datagrams = "\n ".join(f"dgram-bind {endpoint(vip, _SINGLE)}" for vip in _VIPS[version])
    servers = [
        f" server {host.name} {endpoint(host.ipv6 if version == 6 else host.ipv4, host.port)}" for host in SEED.servers
    ]
    anywhere = "[::]" if version == 6 else "0.0.0.0"
    return f"""
listen plain{version}
 bind {plain}
{servers[0]} check
{servers[1]} check
listen forbidden{version}
 bind {endpoint(_VIPS[version][0], _FORBIDDEN)}
 source {anywhere} usesrc clientip
{servers[0]}
listen single{version}
 bind {single}
{servers[0]}
udp-lb datagrams{version}
 {datagrams}
{servers[0]}
listen shared-forbidden{version}
 bind {anywhere}:{_SHARED_FORBIDDEN}
 source {anywhere} usesrc clientip
 server server1 {endpoint(_SHARED[version] + "2", 4444)}
listen local{version}
 bind {anywhere}:{_LOCAL}
 server local {endpoint(_LOOPBACK[version], 4446)}
listen shared{version}
 bind {anywhere}:{_SHARED_NETWORK}
 server server1 {endpoint(_SHARED[version] + "2", 4444)}
"""


@pytest.fixture(scope="module")
def hairpin(lab: Lab) -> Iterator[Lab]:
    names = {host: lab.namespace(host) for host in ("lb", "server1", "client")}
    shell(lab, "lb", _NETWORK.format(**names))
    for server in SEED.servers:
        lab.start_web(server.name)
    lab.start_web("lb", 4446, "local")
    natlb = lab.start_natlb(f"global\n stats socket {lab.stats_socket} level admin\n{_services(4)}{_services(6)}")
    until(lambda: natlb.ask("show stat").count("L4OK") == 4, "both servers are UP in both families")
    yield lab
    assert natlb.stop() == 0


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def version(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


def _seen(lab: Lab, host: str, address: str, port: int, source: tuple[str, int] | None = None) -> str:
    """Return the client that the server sees, of a connection from a host."""
    client = Client(lab, host, address, port, source=source)
    try:
        return client.as_seen()
    finally:
        client.close()


def _host(seen: str) -> str:
    return seen.rpartition(":")[0].strip("[]")


@pytest.mark.parametrize("asks", [host.name for host in SEED.servers])
def test_a_server_that_asks_the_virtual_address_is_answered_by_either_server(
    hairpin: Lab, version: int, asks: str
) -> None:
    answers = [answering_server(hairpin, asks, _VIPS[version][0]) for _ in range(4)]
    assert sorted(answers) == ["server1", "server1", "server2", "server2"]


def test_a_server_sees_itself_as_the_balancer_and_another_server_as_it_is(hairpin: Lab, version: int) -> None:
    asking = SEED.servers[0].ipv6 if version == 6 else SEED.servers[0].ipv4
    seen = {_host(_seen(hairpin, "server1", _VIPS[version][0], _PLAIN)) for _ in range(2)}
    assert seen == {_VIPS[version][0], asking}


def test_without_full_nat_a_server_gets_no_answer_from_itself(hairpin: Lab, version: int) -> None:
    answer = answering_server(hairpin, "server1", _VIPS[version][0], port=_FORBIDDEN, seconds=1)
    assert answer.startswith("curl: ")
    assert answering_server(hairpin, "client", _VIPS[version][0], port=_FORBIDDEN) == "server1"


def test_a_client_on_the_servers_network_is_answered_through_the_balancer(hairpin: Lab, version: int) -> None:
    own, client = _SHARED[version] + "1", _SHARED[version] + "3"
    assert _seen(hairpin, "client", own, _SHARED_NETWORK, (client, 20000)) == endpoint(own, 20000)
    # Whoever is elsewhere is still seen as who it is.
    there = SEED.client.ipv6 if version == 6 else SEED.client.ipv4
    assert _seen(hairpin, "client", _VIPS[version][0], _SHARED_NETWORK, (there, 20000)) == endpoint(there, 20000)


def test_without_full_nat_a_client_on_the_servers_network_gets_no_answer(hairpin: Lab, version: int) -> None:
    answer = answering_server(hairpin, "client", _SHARED[version] + "1", port=_SHARED_FORBIDDEN, seconds=1)
    assert answer.startswith("curl: ")
    assert answering_server(hairpin, "client", _VIPS[version][0], port=_SHARED_FORBIDDEN) == "server1"


def test_one_client_port_to_two_virtual_addresses_of_one_server_is_two_connections(hairpin: Lab, version: int) -> None:
    address = SEED.client.ipv6 if version == 6 else SEED.client.ipv4
    opened = [Client(hairpin, "client", vip, _SINGLE, source=(address, 20002)) for vip in _VIPS[version]]
    seen = [client.as_seen() for client in opened]
    assert seen[0] == endpoint(address, 20002)
    assert _host(seen[1]) == address
    assert seen[1] != seen[0]
    assert [client.as_seen() for client in reversed(opened)] == seen[::-1], "both at the same time"
    opened[0].close()
    assert opened[1].as_seen() == seen[1], "and one after the other has ended"
    opened[1].close()


@contextmanager
def _datagram_socket(lab: Lab, host: str, address: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with lab.open_socket(host, family, socket.SOCK_DGRAM) as made:
        made.settimeout(5)
        made.bind((address, port))
        yield made


def test_a_server_that_asks_itself_by_datagram_is_answered(hairpin: Lab, version: int) -> None:
    own, vip = SEED.servers[0].ipv6 if version == 6 else SEED.servers[0].ipv4, _VIPS[version][0]
    with (
        _datagram_socket(hairpin, "server1", own, 4444) as server,
        _datagram_socket(hairpin, "server1", own, 0) as client,
    ):
        client.connect((vip, _SINGLE))
        client.send(b"a question")
        question, seen = server.recvfrom(100)
        assert (question, seen[0]) == (b"a question", vip)
        server.sendto(b"an answer", seen)
        assert client.recv(100) == b"an answer"


def test_one_client_port_to_two_virtual_addresses_of_one_server_is_two_flows(hairpin: Lab, version: int) -> None:
    server1, address = SEED.servers[0], SEED.client.ipv6 if version == 6 else SEED.client.ipv4
    with (
        _datagram_socket(hairpin, "server1", server1.ipv6 if version == 6 else server1.ipv4, 4444) as server,
        _datagram_socket(hairpin, "client", address, 20003) as client,
    ):
        asked = {}
        for vip in _VIPS[version]:
            client.sendto(vip.encode(), (vip, _SINGLE))
            question, seen = server.recvfrom(100)
            asked[question.decode()] = seen
        assert {seen[0] for seen in asked.values()} == {address}
        assert len({seen[1] for seen in asked.values()}) == 2
        for vip, seen in asked.items():
            server.sendto(vip.encode(), seen)
            answer, source = client.recvfrom(100)
            assert (answer.decode(), source[:2]) == (vip, (vip, _SINGLE))


def test_a_program_on_the_balancer_gets_much_from_a_server_there(hairpin: Lab, version: int) -> None:
    """The loopback interface's packets are larger than the kernel shows natlb, unless both ends are told."""
    for address in (_LOOPBACK[version], _VIPS[version][0]):
        download(hairpin, "lb", address, 50_000_000, port=_LOCAL)


@pytest.mark.parametrize("loopback", ["127.0.0.1", "::1"])
def test_a_loopback_client_of_a_remote_server_is_refused_at_once(hairpin: Lab, loopback: str) -> None:
    done = hairpin.run("lb", ["curl", "-sSm", "2", url(loopback, port=_SHARED_NETWORK)], names=False)
    assert done.returncode == _REFUSED, done.stderr


_PUBLISHED = """
for chain in PREROUTING OUTPUT; do
    iptables -w -t nat -{verb} $chain -d {vip} -p tcp --dport 4777 -j DNAT --to-destination {own}
done
"""


def test_a_server_behind_the_kernels_own_nat_is_reached_by_its_own_address(hairpin: Lab) -> None:
    """The kernel takes the published address back off its answers where natlb has seen them already."""
    vip, own = SEED.balancer.ipv4, f"{SEED.servers[0].ipv4}:4555"
    contained = hairpin.start_web("server1", 4555, "contained")
    config = (
        f"listen own\n bind {vip}:8900\n server s {own}\nlisten published\n bind {vip}:8901\n server s {vip}:4777\n"
    )
    shell(hairpin, "lb", _PUBLISHED.format(verb="A", vip=vip, own=own))
    natlb = hairpin.start_natlb(config, ["--queue", "12"], stats_socket=hairpin.new_file("other", "sock"))
    try:
        assert answering_server(hairpin, "client", vip, port=4777) == "contained"
        assert answering_server(hairpin, "client", vip, port=8900) == "contained"
        assert "contained" not in answering_server(hairpin, "client", vip, port=8901, seconds=1)
    finally:
        assert natlb.stop() == 0
        shell(hairpin, "lb", _PUBLISHED.format(verb="D", vip=vip, own=own))
        contained.stop(signum=signal.SIGKILL)
