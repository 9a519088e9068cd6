"""The seed's own configurations, byte for byte.

Layer 4, two servers on loopback addresses behind port 8888, works. Layer 7 is refused, word by word.
"""

from collections.abc import Iterator

import pytest

from netns.balancer import COMMAND, Natlb
from netns.build import Lab
from netns.processes import Service
from netns.topology import SEED
from tests.lab.support import SEED_L4, SEED_L7, answering_server, shell, until

pytestmark = pytest.mark.root

_CHECK_TIME = 2.0 * 3 + 5
"""The defaults: three failures, two seconds apart; and what a busy machine may be late with them."""


@pytest.fixture(scope="module")
def servers(lab: Lab) -> dict[str, Service]:
    ports = {"server1": 4444, "server2": 5555}
    return {name: lab.start_web("lb", port, name, "127.0.0.1") for name, port in ports.items()}


@pytest.fixture(scope="module")
def natlb(lab: Lab, servers: dict[str, Service]) -> Iterator[Natlb]:
    running = lab.start_natlb(SEED_L4)
    assert all(server.alive for server in servers.values())
    yield running
    assert running.stop() == 0


_CLIENTS = {
    "on the balancer, through loopback": ("lb", "127.0.0.1"),
    "on the balancer, through its own address": ("lb", SEED.balancer.ipv4),
    "remote": ("client", SEED.balancer.ipv4),
}


@pytest.mark.parametrize(("host", "address"), _CLIENTS.values(), ids=_CLIENTS)
@pytest.mark.usefixtures("natlb")
def test_a_client_gets_answers_that_alternate(lab: Lab, host: str, address: str) -> None:
    answers = [answering_server(lab, host, address) for _ in range(6)]
    assert answers in (["server1", "server2"] * 3, ["server2", "server1"] * 3)


@pytest.mark.usefixtures("natlb")
def test_a_loopback_server_sees_the_clients_own_address(lab: Lab) -> None:
    seen = shell(lab, "client", "curl -sSm5 http://44.2.2.2:8888/").splitlines()[1]
    assert seen.split()[1].startswith("44.1.1.1:")


@pytest.mark.usefixtures("natlb")
def test_loopback_addresses_do_not_become_reachable_from_the_network(lab: Lab) -> None:
    # A neighbour that routes 127.0.0.1 to the balancer: what route_localnet alone would let in.
    shell(lab, "client", "ip route add table 7 default via 44.2.2.2 dev eth0 onlink; ip rule add pref 1 table 7")
    shell(lab, "client", "ip rule del pref 0; ip rule add pref 32765 table local")
    shell(lab, "client", "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet")
    try:
        answer = lab.run("client", ["curl", "-sSm", "1", "http://127.0.0.1:4444/"], names=False)
        assert answer.returncode == 28, answer
        counters = shell(lab, "lb", "iptables -t raw -vxnL NATLB-2391-VIP")
        guard = next(line for line in counters.splitlines() if "DROP" in line and "client" in line)
        assert int(guard.split()[0]) > 0, "the packets were stopped by something else than natlb's guard"
    finally:
        shell(lab, "client", "ip rule add pref 0 table local; ip rule del pref 32765 table local; ip rule del pref 1")


def test_killing_one_server_moves_all_new_connections_to_the_other(
    lab: Lab, servers: dict[str, Service], natlb: Natlb
) -> None:
    servers["server1"].kill()
    until(lambda: "Server nodes/server1 is DOWN" in natlb.log(), "server1 is noticed to be down", _CHECK_TIME)
    for host, address in _CLIENTS.values():
        assert [answering_server(lab, host, address) for _ in range(4)] == ["server2"] * 4


def test_with_no_server_up_a_connection_is_refused_at_once(lab: Lab, servers: dict[str, Service], natlb: Natlb) -> None:
    servers["server2"].kill()
    until(lambda: "backend 'nodes' has no server available" in natlb.log(), "server2 is down too", _CHECK_TIME)
    for host, address in _CLIENTS.values():
        done = lab.run(host, ["curl", "-sSm", "5", f"http://{address}:8888/"], names=False)
        assert done.returncode == 7, "a refused connection: not a time-out, not an answer"


def test_a_server_that_comes_back_is_used_again(lab: Lab, natlb: Natlb) -> None:
    lab.start_web("lb", 4444, "server1", "127.0.0.1")
    until(lambda: "Server nodes/server1 is UP" in natlb.log(), "server1 is noticed to be up", _CHECK_TIME)
    assert answering_server(lab, "client", SEED.balancer.ipv4) == "server1"


_HTTP = "works on HTTP messages (layer 7); natlb forwards packets and never reads them."
_LAYER_7 = {
    4: f"'mode http' {_HTTP}",
    5: f"acl 'app1' : 'path_end' {_HTTP}",
    6: f"acl 'app2' : 'path_end' {_HTTP}",
    7: f"'use_backend' : acl 'app1', refused at {SEED_L7}:5, {_HTTP}",
    8: f"'use_backend' : acl 'app2', refused at {SEED_L7}:6, {_HTTP}",
    11: f"'mode http' {_HTTP}",
    17: f"'mode http' {_HTTP}",
}
"""The line of each keyword that works on layer 7, and what is said of it."""


@pytest.mark.parametrize("options", [["-c"], []], ids=["checked", "started"])
def test_the_layer_7_configuration_is_refused_with_one_error_per_keyword(lab: Lab, options: list[str]) -> None:
    done = lab.run("lb", [*COMMAND, *options, "-f", str(SEED_L7)], names=False)
    assert (done.returncode, done.stdout) == (1, "")
    alerts = [line.partition(" : config : ")[2] for line in done.stderr.splitlines()]
    assert alerts == [
        *(f"parsing [{SEED_L7}:{number}] : {text}" for number, text in _LAYER_7.items()),
        f"Error(s) found in configuration file : {SEED_L7}",
        "Fatal errors found in configuration.",
    ]
