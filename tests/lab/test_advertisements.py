"""A balancer whose IPv6 default route comes by router advertisement keeps it, whatever its servers need."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import Ether

from netns.build import Lab
from tests.lab.support import balancer_state, shell, until

pytestmark = pytest.mark.root

_ROUTER = "fe80::99"
_CONFIG = "listen remote\n bind [fd44::2]:8890\n server s [fd44::3]:4444\n"

_LINK = f"""
sysctl -qw net.ipv6.conf.eth9/7.accept_ra=0
ip link set eth9.7 up
ip addr add {_ROUTER}/64 dev eth9.7 nodad
"""


@pytest.fixture
def uplink(lab: Lab) -> Iterator[str]:
    """An interface of the balancer's with a router behind it, and a dot in its name."""
    router = lab.namespace("client")
    shell(lab, "lb", f"ip link add up0.7 type veth peer name eth9.7 netns {router}; ip link set up0.7 up")
    shell(lab, "client", _LINK)
    until(lambda: " tentative" not in _addresses(lab) and "fe80" in _addresses(lab), "both ends have an address", 60)
    yield "up0.7"
    shell(lab, "lb", "ip link del up0.7")


def _addresses(lab: Lab) -> str:
    return shell(lab, "lb", "ip -6 addr show dev up0.7")


@contextmanager
def _advertised(lab: Lab, seconds: int) -> Iterator[None]:
    """Have the router say that it is one, for some time, and say at the end that it is none any more."""
    _advertise(lab, seconds)
    until(lambda: _ROUTER in _routes(lab), "the route is there", 30)
    yield
    _advertise(lab, 0)


def _advertise(lab: Lab, seconds: int) -> None:
    with lab.open_socket("client", socket.AF_PACKET, socket.SOCK_RAW) as sending:
        sending.bind(("eth9.7", 0))
        own = sending.getsockname()[4]
        mac = ":".join(f"{byte:02x}" for byte in own)
        link = Ether(src=mac, dst="33:33:00:00:00:01")
        said = IPv6(src=_ROUTER, dst="ff02::1", hlim=255) / ICMPv6ND_RA(routerlifetime=seconds)
        sending.send(bytes(link / said / ICMPv6NDOptSrcLLAddr(lladdr=mac)))


def _routes(lab: Lab) -> str:
    return shell(lab, "lb", "ip -6 route show default")


def test_the_default_route_stays_and_is_advertised_on(lab: Lab, uplink: str) -> None:
    before = balancer_state(lab)
    with _advertised(lab, 1800):
        natlb = lab.start_natlb(_CONFIG)
        assert _ROUTER in _routes(lab)
        told = f"set net.ipv6.conf.{uplink}.accept_ra to 2 while natlb runs"
        assert told in natlb.log()
        assert natlb.log().index(told) < natlb.log().index("set net.ipv6.conf.all.forwarding to 1")
        _advertise(lab, 0)
        until(lambda: _ROUTER not in _routes(lab), "the router can still take it back", 30)
        _advertise(lab, 1800)
        until(lambda: _ROUTER in _routes(lab), "and give it again", 30)
        assert natlb.stop() == 0
        assert _ROUTER in _routes(lab)
        assert balancer_state(lab) == before


def test_it_stays_over_a_crash_and_what_is_changed_is_put_back_after_it(lab: Lab, uplink: str) -> None:
    before = balancer_state(lab)
    with _advertised(lab, 1800):
        lab.start_natlb(_CONFIG).kill()
        assert f"net.ipv6.conf.{uplink.replace('.', '/')}.accept_ra = 2" in balancer_state(lab)
        again = lab.start_natlb("listen local\n bind 44.2.2.2:8891\n server s 44.2.2.2:4446\n", ["--queue", "12"])
        assert "removed the rules and settings of an earlier natlb" in again.log()
        assert _ROUTER in _routes(lab)
        assert again.stop() == 0
        assert balancer_state(lab) == before


def test_an_interface_that_comes_while_natlb_runs_gets_its_route_too(lab: Lab, request: pytest.FixtureRequest) -> None:
    natlb = lab.start_natlb(_CONFIG)
    request.getfixturevalue("uplink")
    with _advertised(lab, 1800):
        pass
    assert natlb.stop() == 0


def test_a_router_that_heeds_no_advertisements_is_left_alone(lab: Lab, uplink: str) -> None:
    shell(lab, "lb", "sysctl -qw net.ipv6.conf.all.forwarding=1")
    try:
        natlb = lab.start_natlb(_CONFIG)
        assert "accept_ra" not in natlb.log()
        assert shell(lab, "lb", f"cat /proc/sys/net/ipv6/conf/{uplink}/accept_ra") == "1\n"
        assert natlb.stop() == 0
    finally:
        shell(lab, "lb", "sysctl -qw net.ipv6.conf.all.forwarding=0")
