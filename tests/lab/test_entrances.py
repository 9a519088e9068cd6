"""Which door a client comes in by: servers on this machine are reached by any, and addresses may lie in one another."""

import socket
from collections.abc import Iterator

import pytest

from netns.build import Lab
from tests.lab.support import answering_server, balancer_state, shell

pytestmark = pytest.mark.root

_INNER = "44.8.8.8"
"""An address of the balancer's on an interface that no client is at."""


@pytest.fixture(scope="module")
def inner(lab: Lab) -> Lab:
    """The lab, with servers on the balancer itself, and the address that no client is at."""
    for port, name in ((4446, "one"), (4447, "two")):
        lab.start_web("lb", port, name, "127.0.0.1")
    shell(lab, "lb", f"ip link add inner type veth peer name nobody; ip addr add {_INNER}/24 dev inner")
    shell(lab, "lb", "ip link set inner up; ip link set nobody up")
    return lab


@pytest.fixture
def on_lo(inner: Lab) -> Iterator[str]:
    """An address of the balancer's on `lo`."""
    shell(inner, "lb", "ip addr add 44.9.9.9/32 dev lo")
    yield "44.9.9.9"
    shell(inner, "lb", "ip addr del 44.9.9.9/32 dev lo")


def _served(lab: Lab, config: str, address: str) -> str:
    """Start natlb, ask from the client, stop it; return who answered and what was logged."""
    before = balancer_state(lab)
    natlb = lab.start_natlb(config)
    assert answering_server(lab, "client", address) == "one"
    assert answering_server(lab, "client", address) == "one"
    reachable = lab.run("client", ["curl", "-sSm", "1", "http://127.0.0.1:4446/"], names=False)
    assert reachable.returncode != 0
    assert natlb.stop() == 0
    assert balancer_state(lab) == before
    return natlb.log()


def _listen(bind: str) -> str:
    return f"listen l\n bind {bind}\n server one 127.0.0.1:4446 check\n"


def test_a_loopback_server_is_reached_by_an_address_on_lo(inner: Lab, on_lo: str) -> None:
    log = _served(inner, _listen(f"{on_lo}:8888"), on_lo)
    assert "net.ipv4.conf.lo.route_localnet" not in log
    assert "set net.ipv4.conf.client.route_localnet to 1" in log


def test_a_loopback_server_is_reached_by_an_address_of_another_interface(inner: Lab) -> None:
    _served(inner, _listen(f"{_INNER}:8888"), _INNER)


def test_a_loopback_server_is_reached_by_an_address_that_this_machine_does_not_have(inner: Lab) -> None:
    _served(inner, _listen("44.7.7.7:8888 transparent"), "44.7.7.7")


def test_only_the_interface_that_a_bind_names_is_opened(inner: Lab) -> None:
    log = _served(inner, _listen(f"{_INNER}:8888 interface client"), _INNER)
    assert log.count("route_localnet to 1") == 1


_TWO = {
    "in two frontends": "listen any\n bind *:8888\n server one 127.0.0.1:4446\n"
    f"listen some\n bind {_INNER}:8888\n server two 127.0.0.1:4447\n",
    "the other way round": f"listen some\n bind {_INNER}:8888\n server two 127.0.0.1:4447\n"
    "listen any\n bind *:8888\n server one 127.0.0.1:4446\n",
}


@pytest.mark.parametrize("config", _TWO.values(), ids=_TWO)
def test_the_narrower_of_two_frontends_has_its_own_clients(inner: Lab, config: str) -> None:
    natlb = inner.start_natlb(config)
    assert answering_server(inner, "client", "44.2.2.2") == "one"
    assert answering_server(inner, "client", _INNER) == "two"
    assert natlb.stop() == 0


_BOTH = {
    "tcp": f"listen l\n bind *:8888,{_INNER}:8888,127.0.0.1:8888\n server one 127.0.0.1:4446\n",
    "udp": f"udp-lb u\n dgram-bind *:8888\n dgram-bind {_INNER}:8888\n server one 127.0.0.1:4446\n",
}


@pytest.mark.parametrize("protocol", _BOTH)
def test_addresses_that_lie_in_one_another_are_held_together_and_from_others(inner: Lab, protocol: str) -> None:
    natlb = inner.start_natlb(_BOTH[protocol])
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    for address in ("0.0.0.0", _INNER, "127.0.0.1"):
        with inner.open_socket("lb", socket.AF_INET, kind) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="Address already in use"):
                other.bind((address, 8888))
    assert natlb.stop() == 0
