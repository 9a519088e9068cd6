"""A stateful firewall on the balancer passes what natlb does, and finds nothing INVALID in it."""

import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netns.balancer import Natlb
from netns.build import Lab
from netns.topology import SEED
from netns.web import pattern
from tests.lab.firewall import UNTRACKED, stateful_firewall
from tests.lab.loss import loss
from tests.lab.support import Client, answering_server, clients, download, shell, upload, url

pytestmark = pytest.mark.root

SIZE = 20_000_000


@pytest.fixture(scope="module")
def pattern_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("firewall") / "pattern"
    with file.open("wb") as out:
        out.writelines(pattern(SIZE))
    return file


@pytest.fixture(scope="module")
def check(lab: Lab) -> Iterator[Callable[[], None]]:
    with stateful_firewall(lab) as found_nothing:
        lab.start_all()
        yield found_nothing


@pytest.fixture
def firewalled(lab: Lab, check: Callable[[], None]) -> Iterator[Lab]:
    yield lab
    check()


def test_the_firewall_passes_a_remote_client(firewalled: Lab, vip: str) -> None:
    assert {answering_server(firewalled, "client", vip) for _ in range(4)} == {"server1", "server2"}
    download(firewalled, "client", vip, SIZE)


def test_the_firewall_passes_a_transfer_that_loses_packets(firewalled: Lab, vip: str, pattern_file: Path) -> None:
    """The firewall's connection tracking has seen what gets lost."""
    with loss(firewalled):
        download(firewalled, "client", vip, SIZE)
        upload(firewalled, "client", vip, pattern_file)


def test_the_firewall_passes_200_connections_at_once(firewalled: Lab, vip: str) -> None:
    with clients(firewalled, "client", vip, 200) as opened:
        first = [client.ask() for client in opened]
        assert Counter(first) == {"server1": 100, "server2": 100}
        assert [client.ask() for client in opened] == first


def test_the_firewall_passes_a_connection_that_stays_open_across_20_others(firewalled: Lab, vip: str) -> None:
    staying = Client(firewalled, "client", vip)
    server = staying.ask()
    for _ in range(20):
        assert answering_server(firewalled, "client", vip) in ("server1", "server2")
        assert staying.ask() == server
    staying.close()


def test_the_firewall_passes_a_client_on_the_balancer(firewalled: Lab, vip: str) -> None:
    assert {answering_server(firewalled, "lb", vip) for _ in range(4)} == {"server1", "server2"}
    download(firewalled, "lb", vip, SIZE)


def test_the_firewall_passes_servers_on_loopback(firewalled: Lab) -> None:
    firewalled.start_web("lb", 4446, "local", "127.0.0.1")
    local = firewalled.start_natlb(
        "listen local\n bind *:8889\n server local 127.0.0.1:4446\n", ["--queue", "7"], stats_socket=None
    )
    for host, address in (("lb", "127.0.0.1"), ("lb", SEED.balancer.ipv4), ("client", SEED.balancer.ipv4)):
        assert answering_server(firewalled, host, address, port=8889) == "local"
    _stop_softly(local)


def test_a_refused_connection_is_no_invalid_packet(firewalled: Lab) -> None:
    nobody = firewalled.start_natlb("frontend nobody\n bind *:8890\n", ["--queue", "8"])
    for host in ("lb", "client"):
        done = firewalled.run(host, ["curl", "-sSm", "5", f"http://{SEED.balancer.ipv4}:8890/"], names=False)
        assert done.returncode == 7, done.stderr
    assert nobody.stop() == 0


_REFUSED, _TIMED_OUT = 7, 28
"""What curl exits with."""


def test_a_refusal_needs_the_rule_for_untracked_packets_and_nothing_else(firewalled: Lab, vip: str) -> None:
    command = "ip6tables" if ":" in vip else "iptables"
    address = "[::]" if ":" in vip else "*"
    nobody = firewalled.start_natlb(f"frontend nobody\n bind {address}:8890\n", ["--queue", "8"])

    def outcome() -> int:
        return firewalled.run("client", ["curl", "-sSm", "2", url(vip, port=8890)], names=False).returncode

    assert "-P OUTPUT DROP" in shell(firewalled, "lb", f"{command} -S OUTPUT")
    shell(firewalled, "lb", f"{command} -D OUTPUT {UNTRACKED}")
    try:
        assert outcome() == _TIMED_OUT
    finally:
        shell(firewalled, "lb", f"{command} -A OUTPUT {UNTRACKED}")
    assert outcome() == _REFUSED
    assert nobody.stop() == 0


def _stop_softly(natlb: Natlb) -> None:
    """End natlb when its connections have ended: a FIN that is sent again when it has gone is rightly INVALID."""
    assert natlb.stop(signum=signal.SIGUSR1) == 0


_FULL_NAT = """\
listen full
 bind {wildcard}:8892
 source {source}
 server server1 {server}:4444
"""

_ENDS = {
    "ipv4": (SEED.balancer.ipv4, SEED.host("server1").ipv4),
    "ipv6": (SEED.balancer.ipv6, SEED.host("server1").ipv6),
}


def _written(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _wildcard(address: str) -> str:
    return "[::]" if ":" in address else "*"


@pytest.mark.parametrize(("balancer", "server"), _ENDS.values(), ids=_ENDS)
def test_the_firewall_passes_full_nat(firewalled: Lab, balancer: str, server: str) -> None:
    config = _FULL_NAT.format(wildcard=_wildcard(balancer), source=_written(balancer), server=_written(server))
    full = firewalled.start_natlb(config, ["--queue", "9"], stats_socket=None)
    for host in ("client", "lb"):
        assert answering_server(firewalled, host, balancer, port=8892) == "server1"
    _stop_softly(full)


@pytest.mark.parametrize("address", [SEED.balancer.ipv4, SEED.balancer.ipv6], ids=["ipv4", "ipv6"])
def test_a_refused_datagram_is_no_invalid_packet(firewalled: Lab, address: str) -> None:
    nobody = firewalled.start_natlb(
        f"udp-lb nobody\n dgram-bind {_wildcard(address)}:8893\n", ["--queue", "10"], stats_socket=None
    )
    for host in ("lb", "client"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with firewalled.open_socket(host, family, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.connect((address, 8893))
            client.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                client.recv(1)
    assert nobody.stop() == 0


@pytest.mark.parametrize(("balancer", "server"), _ENDS.values(), ids=_ENDS)
def test_an_error_about_full_nat_is_related_to_it(firewalled: Lab, balancer: str, server: str) -> None:
    """Its source is a virtual address here: conntrack must see the errors before they are changed."""
    six = ":" in balancer
    command = "ip6tables" if six else "iptables"
    written = {"wildcard": _wildcard(balancer), "source": _written(balancer), "server": _written(server)}
    config = "udp-lb full\n dgram-bind {wildcard}:8894\n source {source}\n server server1 {server}:9\n".format(
        **written
    )
    full = firewalled.start_natlb(config, ["--queue", "11"], stats_socket=None)
    shell(firewalled, "lb", f"{command} -I FORWARD -i client -p udp -m conntrack --ctstate NEW -j ACCEPT")
    with firewalled.open_socket("client", socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect((balancer, 8894))
        client.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(1)
    shell(firewalled, "lb", f"{command} -D FORWARD -i client -p udp -m conntrack --ctstate NEW -j ACCEPT")
    assert full.stop() == 0


@pytest.mark.parametrize("address", ["44.9.9.9", "fd44::9"], ids=["ipv4", "ipv6"])
def test_a_ping_of_an_address_that_only_natlb_has_is_no_invalid_packet(firewalled: Lab, address: str) -> None:
    natlb = firewalled.start_natlb(
        f"frontend others\n bind {_written(address)}:80 transparent\n", ["--queue", "13"], stats_socket=None
    )
    shell(firewalled, "client", f"ping -n -c 1 -W 3 {address}")
    assert natlb.stop() == 0
