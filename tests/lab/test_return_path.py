"""A server whose answers do not come back through the balancer is found out, and what it lacks is named.

The server gets a link of its own to the client, and a route that leads over it. It is healthy, as every check says, and
answers every client; only that the answers come from an address that the client has never spoken to.
"""

import csv
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from netns.balancer import Natlb
from netns.build import Lab
from netns.topology import SEED
from netns.web import endpoint
from tests.lab.support import answering_server, shell, until
from tests.lab.ways import WAYS, Way, add_sources

pytestmark = pytest.mark.root

_SHORT_CUT = """
ip -n {server1} link add short type veth peer name short netns {client}
for host in {server1} {client}; do ip -n $host link set short up; done
ip -n {server1} addr add 10.6.0.1/24 dev short
ip -n {client} addr add 10.6.0.2/24 dev short
ip -n {server1} addr add fd66::1/64 dev short nodad
ip -n {client} addr add fd66::2/64 dev short nodad
"""
_NEIGHBOUR = {4: "10.6.0.2", 6: "fd66::2"}

_CONNECTIONS = 3
_WEB, _PORT, _SERVER_PORT = "web", 8888, SEED.servers[0].port


@pytest.fixture(scope="module")
def natlb(lab: Lab) -> Iterator[Natlb]:
    shell(lab, "lb", _SHORT_CUT.format(server1=lab.namespace("server1"), client=lab.namespace("client")))
    add_sources(lab)
    lab.start_web("server1")
    sections = [way.listen(_WEB, _PORT, _SERVER_PORT, "check inter 500ms") for way in WAYS]
    running = lab.start_natlb("\n".join([f"global\n    stats socket {lab.stats_socket} level admin", *sections]))
    until(lambda: running.ask("show stat").count("L4OK") == 4, "the server is UP")
    yield running
    assert running.stop() == 0
    assert "internal error" not in running.log()


@pytest.fixture(params=[way for way in WAYS if not way.full], ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


@contextmanager
def _bypassed(lab: Lab, way: Way) -> Iterator[None]:
    """Lead the server's answers to the client past the balancer."""
    route = f"{way.address('client')} via {_NEIGHBOUR[way.version]} dev short"
    shell(lab, "server1", f"ip route add {route}")
    try:
        yield
    finally:
        shell(lab, "server1", f"ip route del {route}")


def _row(natlb: Natlb, way: Way) -> dict[str, str]:
    """Return the server's line of `show stat`."""
    table = csv.DictReader(natlb.ask("show stat").removeprefix("# ").splitlines())
    (row,) = [row for row in table if (row["pxname"], row["svname"]) == (_proxy(way), "server1")]
    return row


def _proxy(way: Way) -> str:
    return f"{_WEB}-{way.name}"


def _knock(lab: Lab, way: Way) -> socket.socket:
    """Begin a connection, and return it without waiting for an answer."""
    knocking = lab.open_socket("client", way.family, socket.SOCK_STREAM)
    knocking.setblocking(False)
    knocking.connect_ex((way.vip, way.port(_PORT)))
    return knocking


def test_it_is_said_which_route_is_missing_until_it_is_there(lab: Lab, natlb: Natlb, way: Way) -> None:
    client, source = way.address("client"), endpoint(way.vip, 0).removesuffix(":0")
    warned = f"Server {_proxy(way)}/server1 is UP, but {_CONNECTIONS} connections in a row got no answer"
    assert answering_server(lab, "client", way.vip, port=way.port(_PORT)) == "server1"
    assert _row(natlb, way)["last_chk"] == ""
    with _bypassed(lab, way), ExitStack() as knocking:
        for _ in range(_CONNECTIONS):
            knocking.enter_context(_knock(lab, way))
        until(lambda: warned in natlb.log(), "it is found out")
        (line,) = [line for line in natlb.log().splitlines() if warned in line]
        assert f"It needs a route to {client} via {way.vip}; or write 'source {source}' in the backend." in line
        row = _row(natlb, way)
        assert row["status"] == "UP"
        assert f"no route to {client} via {way.vip}" in row["last_chk"]
    again = f"Server {_proxy(way)}/server1 answers clients through this machine again."
    assert again not in natlb.log()
    assert answering_server(lab, "client", way.vip, port=way.port(_PORT)) == "server1"
    until(lambda: again in natlb.log(), "that is over")
    assert _row(natlb, way)["last_chk"] == ""


def test_full_nat_does_not_need_that_route(lab: Lab, natlb: Natlb, way: Way) -> None:
    full = Way(way.version, full=True)
    with _bypassed(lab, way):
        assert [answering_server(lab, "client", full.vip, port=full.port(_PORT)) for _ in range(5)] == ["server1"] * 5
    assert _row(natlb, full)["last_chk"] == ""


def test_a_server_that_is_silent_to_everybody_is_not_said_to_be_bypassed(lab: Lab, natlb: Natlb, way: Way) -> None:
    command = "ip6tables" if way.version == 6 else "iptables"
    said = natlb.log().count("another way")
    rule = f"INPUT -p tcp --dport {_SERVER_PORT} -j DROP"
    shell(lab, "server1", f"{command} -A {rule}")
    try:
        with ExitStack() as knocking:
            for _ in range(_CONNECTIONS):
                knocking.enter_context(_knock(lab, way))
            until(lambda: f"Server {_proxy(way)}/server1 is DOWN" in natlb.log(), "the checks find it DOWN")
        assert natlb.log().count("another way") == said
        assert _row(natlb, way)["last_chk"] == ""
    finally:
        shell(lab, "server1", f"{command} -D {rule}")
    until(lambda: _row(natlb, way)["status"] == "UP", "it is UP again")
