"""What docs/rfc.md claims of natlb and the kernel together and no other test shows."""

import socket
from collections.abc import Iterator

import pytest

from netns.build import Lab
from netns.capture import Capture
from netns.topology import SEED
from tests.lab.support import shell

pytestmark = pytest.mark.root

_SERVER = SEED.servers[0]
_ADDRESSES = {host.name: host.ipv4 for host in (SEED.client, _SERVER)}
_MTU = 1300
_DATAGRAM = bytes(range(256)) * 5 + bytes(150)  # over 1300 bytes, under 1500

_IP_MTU_DISCOVER, _PMTUDISC_DONT = 10, 0  # linux/in.h


@pytest.fixture(scope="module")
def narrow(lab: Lab) -> Iterator[Lab]:
    """A balancer that sends less at once than its neighbours do."""
    for host, address in _ADDRESSES.items():
        shell(lab, "lb", f"ip route replace {address} dev {host} src {SEED.balancer.ipv4} mtu {_MTU}")
    configuration = f"""\
global
 stats socket {lab.stats_socket} level admin
udp-lb echo
 dgram-bind {SEED.balancer.ipv4}:{SEED.balancer.port}
 server one {_SERVER.ipv4}:{_SERVER.port}
"""
    natlb = lab.start_natlb(configuration)
    yield lab
    assert natlb.stop() == 0


def _fragments(capture: Capture) -> list[tuple[int, int, bool]]:
    """Return offset, size and whether more follow, of each IPv4 packet of a capture, in the order of arrival."""
    capture.stop()
    found = []
    for _, frame in capture.packets():
        packet = frame[14:]
        word = int.from_bytes(packet[6:8], "big")
        assert not word & 0x4000, "nothing here forbids fragmenting"
        found.append(((word & 0x1FFF) * 8, int.from_bytes(packet[2:4], "big"), bool(word & 0x2000)))
    return found


def test_what_is_too_large_for_the_next_link_and_may_be_fragmented_is_in_order(narrow: Lab) -> None:
    with (
        narrow.open_socket("client", socket.AF_INET, socket.SOCK_DGRAM) as client,
        narrow.open_socket(_SERVER.name, socket.AF_INET, socket.SOCK_DGRAM) as server,
        narrow.capture("client", "eth0", f"ip and dst host {SEED.client.ipv4}") as at_client,
        narrow.capture(_SERVER.name, "eth0", f"ip and dst host {_SERVER.ipv4}") as at_server,
    ):
        for each in (client, server):
            each.settimeout(5)
            each.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
        server.bind((_SERVER.ipv4, _SERVER.port))
        client.connect((SEED.balancer.ipv4, SEED.balancer.port))
        client.send(_DATAGRAM)
        question, seen = server.recvfrom(2000)
        assert (question, seen[0]) == (_DATAGRAM, SEED.client.ipv4)
        server.sendto(_DATAGRAM, seen)
        assert client.recv(2000) == _DATAGRAM
    for capture in (at_client, at_server):
        (first, size, more), (second, _, more_again) = _fragments(capture)
        assert (first, second, more, more_again) == (0, size - 20, True, False)
        assert size <= _MTU
