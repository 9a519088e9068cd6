"""Real packets, whose checksums are unfinished while they are inside the kernel, and are finished on their way out.

A program that runs on a packet by BPF_PROG_TEST_RUN never meets one. Here a client's socket makes it, the program
carries it, the kernel finishes it at a link that is told not to leave it so, and the server's socket takes nothing that
is wrong.
"""

import socket
import subprocess
from ipaddress import ip_address

import pytest
from pyroute2 import IPRoute, netns

from natlb.core.events import ConnectionOpened
from natlb.offload.fastpath import FastPath
from tests.unit.core.conversation import CLIENT, DATAGRAM, PORT, SERVER1, VIP, Conversation
from tests.unit.offload.kernel import until_carried

pytestmark = pytest.mark.root

BITS = {4: 24, 6: 64}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request):
    return request.param


@pytest.fixture
def hosts(arena, family):
    """A client and a server beside the arena, each in a namespace of its own, at the conversation's addresses."""
    made = {}
    for name, address in ("client", CLIENT[family]), ("server", SERVER1[family]):
        made[name] = f"{arena.name}-{name}"
        netns.create(made[name])
        router = str(ip_address(int(ip_address(address)) + 100))
        nodad = ["nodad"] if family == 6 else []
        ip("link", "add", name, "type", "veth", "peer", "name", "up0", "netns", made[name])
        ip("addr", "add", f"{router}/{BITS[family]}", "dev", name, *nodad)
        ip("link", "set", name, "up")
        ip("-n", made[name], "addr", "add", f"{address}/{BITS[family]}", "dev", "up0", *nodad)
        ip("-n", made[name], "link", "set", "up0", "up")
        ip("-n", made[name], "route", "add", "default", "via", router)
        subprocess.run(["ethtool", "-K", name, "tx", "off"], check=True, capture_output=True)
        ip("neigh", "replace", address, "dev", name, "lladdr", _mac(made[name]), "nud", "permanent")
    with IPRoute() as route:
        until_carried(route, *made)
    yield made
    for name, space in made.items():
        ip("link", "del", name)
        netns.remove(space)


def _mac(space: str) -> str:
    shown = subprocess.run(["ip", "-n", space, "-o", "link", "show", "up0"], capture_output=True, text=True, check=True)
    return shown.stdout.split("link/ether ")[1].split()[0]


def _socket(space: str, family: int, place: tuple[str, int]) -> socket.socket:
    netns.pushns(space)
    try:
        made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    finally:
        netns.popns()
    made.settimeout(5)
    made.bind(place)
    return made


@pytest.mark.parametrize("ranges", [None, [(30000, 30100)]], ids=["DNAT", "full NAT"])
def test_an_unfinished_checksum_is_finished_right(hosts, family, ranges):
    talk = Conversation(family, ranges=ranges)
    talk.client >> DATAGRAM
    server = talk.server1
    assert server.peer is not None
    server >> DATAGRAM
    opened = next(event for event in iter(talk.engine.next_event, None) if isinstance(event, ConnectionOpened))
    path = FastPath(talk.engine.ledger, 0, 10, lambda connection: b"")
    path.attach()
    assert path.enter(opened.connection)
    try:
        with (
            _socket(hosts["client"], family, (CLIENT[family], 40000)) as client,
            _socket(hosts["server"], family, server.place) as served,
        ):
            for payload in b"", b"x", bytes(range(256)) * 4:
                client.sendto(payload, (VIP[family], PORT))
                received, sender = served.recvfrom(2000)
                assert (received, sender[:2]) == (payload, server.peer)
                served.sendto(payload[::-1], sender)
                received, sender = client.recvfrom(2000)
                assert (received, sender[:2]) == (payload[::-1], (VIP[family], PORT))
        assert path.forget(opened.connection).packets == (3, 3)
    finally:
        path.close()
