"""Servers with few places, and servers that do not answer: natlb holds SYNs back, and tries another server."""

import errno
import socket
import time
from collections.abc import Iterator

import pytest

from netns.balancer import ask, nat_table
from netns.build import Lab
from netns.topology import SEED
from tests.lab.support import Client, answering_server, clients, shell, until

pytestmark = pytest.mark.root

_CONFIG = """\
global
    stats socket {socket} level admin
defaults
    timeout client 60s
    timeout server 60s
    timeout connect 30s
listen narrow
    bind *:8888
    timeout queue 5s
    server server1 44.3.3.3:4444 maxconn 2
listen patient
    bind *:8889
    balance source
    option redispatch
    retries 2
    server server1 44.3.3.3:4444
    server server2 44.4.4.4:5555
"""

VIP = SEED.balancer.ipv4


@pytest.fixture(scope="module")
def narrow(lab: Lab) -> Iterator[Lab]:
    lab.start_web("server1")
    lab.start_web("server2")
    natlb = lab.start_natlb(_CONFIG.format(socket=lab.stats_socket))
    yield lab
    assert natlb.stop() == 0


def _stat(lab: Lab, proxy: str, name: str) -> dict[str, str]:
    """The row of `show stat` for one name of a proxy."""
    heading, *rows = [line.split(",") for line in ask(lab.stats_socket, "show stat").splitlines() if line]
    heading[0] = heading[0].removeprefix("# ")
    [row] = [row for row in rows if row[:2] == [proxy, name]]
    return dict(zip(heading, row, strict=True))


def _knock(lab: Lab) -> socket.socket:
    """Begin to connect, and do not wait for it."""
    waiting = lab.open_socket("client", socket.AF_INET, socket.SOCK_STREAM)
    waiting.setblocking(False)
    assert waiting.connect_ex((VIP, 8888)) == errno.EINPROGRESS
    return waiting


def _connected(waiting: socket.socket) -> bool:
    try:
        waiting.getpeername()
    except OSError:
        return False
    return True


def test_a_client_waits_for_a_place_at_the_server_and_is_served_when_there_is_one(narrow: Lab) -> None:
    with clients(narrow, "client", VIP, 2) as opened:
        assert [client.ask() for client in opened] == ["server1"] * 2
        with _knock(narrow) as waiting:
            until(lambda: _stat(narrow, "narrow", "BACKEND")["qcur"] == "1", "one connection waits")
            time.sleep(0.5)
            assert not _connected(waiting)
            assert len(list(nat_table(ask(narrow.stats_socket, "show sess")))) == 2
            opened[0].close()
            until(lambda: _connected(waiting), "its next SYN is let through")
            waiting.setblocking(True)
            waiting.sendall(b"GET / HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n")
            assert b"server1" in waiting.recv(65536)
    row = _stat(narrow, "narrow", "BACKEND")
    assert (row["qcur"], row["qmax"]) == ("0", "1")


def test_a_client_that_has_waited_too_long_is_refused(narrow: Lab) -> None:
    until(lambda: _stat(narrow, "narrow", "server1")["scur"] == "0", "the places are free")
    with clients(narrow, "client", VIP, 2), _knock(narrow) as waiting:
        until(lambda: waiting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED, "a RST comes", 12)


def test_a_connection_that_its_server_does_not_answer_goes_to_another(narrow: Lab) -> None:
    home = answering_server(narrow, "client", VIP, port=8889)
    (other,) = {"server1", "server2"} - {home}
    port = {"server1": 4444, "server2": 5555}[home]
    shell(narrow, home, f"iptables -I INPUT -p tcp --dport {port} -j DROP")
    try:
        client = Client(narrow, "client", VIP, 8889)
        assert client.ask() == other
        client.close()
    finally:
        shell(narrow, home, f"iptables -D INPUT -p tcp --dport {port} -j DROP")
    silent, pool = _stat(narrow, "patient", home), _stat(narrow, "patient", "BACKEND")
    assert (silent["wretr"], silent["wredis"], pool["wredis"]) == ("1", "1", "1")
    assert answering_server(narrow, "client", VIP, port=8889) == home
