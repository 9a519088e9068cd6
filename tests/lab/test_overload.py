"""More packets than natlb can take: what is lost is counted and told, and when it is over, all is as before.

The packets come as fast as a program can make them, sixty in one call (UDP_SEGMENT), which the kernel takes apart again
on their way to natlb. That is several times what natlb takes, on any machine. All connections suffer then, as behind
every router that is full; none must be lost, and natlb has to listen to whoever wants to know what is the matter.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from netns.balancer import Natlb
from netns.build import Lab
from netns.web import endpoint
from tests.lab.datagrams import activity
from tests.lab.support import Client, answering_server, download, shell, until
from tests.lab.ways import WAYS, Way

pytestmark = [pytest.mark.root, pytest.mark.busy]

_SERVICE, _UDP_SERVICE, _UDP_PORT = 8001, 8053, 53
_SECONDS = 3.0
_IN_ONE = 60
"""Datagrams that one call sends. The kernel has taken up to 64 since it takes any."""
_SO_RCVBUFFORCE = 33

_FLOOD = f"""\
import socket, sys, time
address, until, most = (sys.argv[1], int(sys.argv[2])), time.monotonic() + float(sys.argv[3]), float(sys.argv[4])
flood = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
flood.setsockopt(socket.IPPROTO_UDP, 103, 32)
sent = 0
while time.monotonic() < until and sent < most:
    sent += flood.sendto(bytes(32 * {_IN_ONE}), address) // 32
print(sent)
"""


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with Lab(prefix=f"t{os.getpid()}-over-", offloads=True) as lab:
        lab.start_web("server1")
        yield lab


@pytest.fixture(scope="module", params=["unsegmented", "--no-gso"])
def natlb(served: Lab, request: pytest.FixtureRequest) -> Iterator[Natlb]:
    sections = [
        f"global\n    stats socket {served.stats_socket} level admin\n",
        "defaults\n    timeout connect 10s\n    timeout client 60s\n    timeout server 60s\n",
        *(way.listen("web", _SERVICE, 4444) for way in WAYS[:2]),
        *(
            f"udp-lb flooded-{way.name}\n    dgram-bind {endpoint(way.address('lb'), _UDP_SERVICE)}\n"
            f"    server server1 {endpoint(way.address('server1'), _UDP_PORT)}\n"
            for way in WAYS[:2]
        ),
    ]
    running = served.start_natlb("\n".join(sections), [request.param] if request.param.startswith("-") else [])
    yield running
    assert running.stop() == 0
    assert "internal error" not in running.log()


@pytest.fixture(params=WAYS[:2], ids=lambda way: way.name)
def sink(served: Lab, request: pytest.FixtureRequest) -> Iterator[tuple[Way, socket.socket]]:
    """A server that takes datagrams and says nothing."""
    way = request.param
    with served.open_socket("server1", way.family, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 << 20)
        opened.bind((way.address("server1"), _UDP_PORT))
        opened.setblocking(False)
        yield way, opened


def _flood(lab: Lab, way: Way, seconds: float, most: float = float("inf")) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-c", _FLOOD, way.address("lb"), str(way.port(_UDP_SERVICE)), str(seconds), str(most)]
    return lab.popen("client", argv, names=False, stdout=subprocess.PIPE, text=True)


def _lost(lab: Lab) -> int:
    counted = activity(lab)
    return counted["queue_full"] + counted["socket_full"]


def _lost_by_the_kernel(lab: Lab) -> int:
    rows = shell(lab, "lb", "cat /proc/net/netfilter/nfnetlink_queue").splitlines()
    return sum(int(word) for row in rows for word in row.split()[5:7])


def _told(natlb: Natlb) -> list[int]:
    return [int(number) for number in re.findall(r"(\d+) packets were lost because", natlb.log())]


def test_a_burst_that_the_queue_can_hold_arrives_whole(
    served: Lab, natlb: Natlb, sink: tuple[Way, socket.socket]
) -> None:
    way, server = sink
    before, many = _lost(served), 100 * _IN_ONE
    with _flood(served, way, 60, many) as flood:
        assert int(flood.communicate(timeout=60)[0]) == many
    arrived = 0

    def come() -> bool:
        nonlocal arrived
        try:
            while server.recv(2048):
                arrived += 1
        except BlockingIOError:
            return arrived == many

    until(come, "all have arrived")
    assert _lost(served) == before


def test_no_connection_is_lost_when_too_much_comes_and_what_is_lost_is_counted_and_told(
    served: Lab, natlb: Natlb, sink: tuple[Way, socket.socket]
) -> None:
    way, _ = sink
    before, told_before = activity(served), len(_told(natlb))
    clients = [Client(served, "client", way.address("lb"), way.port(_SERVICE)) for _ in range(10)]
    for client in clients:
        client.ask()
    slowest = 0.0
    started = time.monotonic()
    with _flood(served, way, _SECONDS) as flood:
        while flood.poll() is None:
            begun = time.monotonic()
            activity(served)
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.1)
        sent = int(flood.stdout.read())  # type: ignore[union-attr]
    took = time.monotonic() - started
    until(lambda: activity(served)["queue_waiting"] == 0, "natlb has taken all that waited", 5)
    after, lost = activity(served), _lost_by_the_kernel(served)
    print(f"{sent} sent, {after['packets'] - before['packets']} taken, {lost} lost, {slowest:.3f} s for an answer")
    assert after["packets"] - before["packets"] < sent / 2, "it was too much"
    assert after["queue_full"] + after["socket_full"] == lost > before["queue_full"] + before["socket_full"]
    assert slowest < 1.0
    until(lambda: sum(_told(natlb)) == lost, "all has been told of", 3)
    assert 1 <= len(_told(natlb)) - told_before <= took + 2, "once a second at most"
    for client in clients:
        assert client.ask() == "server1"
        client.close()
    assert answering_server(served, "client", way.address("lb"), port=way.port(_SERVICE)) == "server1"
    download(served, "client", way.address("lb"), 5_000_000, port=way.port(_SERVICE))
    assert _lost_by_the_kernel(served) == lost, "and nothing more was lost"
