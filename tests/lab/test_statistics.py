"""Tests make their own traffic, count it, and find the same in `show stat`; test_clients looks at it as others do.

Four ways: DNAT and full NAT, over IPv4 and IPv6. Each test asks for what was counted before and after.
"""

import contextlib
import csv
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from netns.balancer import Natlb
from netns.build import Lab
from tests.lab.support import shell, until
from tests.lab.ways import WAYS, Way, add_sources, client_socket, listening, meeting

pytestmark = pytest.mark.root

_OPEN, _CLOSED, _NOBODY, _UDP = 8000, 8001, 8002, 8003
_SERVER_PORT, _CLOSED_PORT = 4444, 4499
_COUNTERS = (
    *("stot", "bin", "bout", "econ", "eresp", "wretr", "wredis", "lbtot", "cli_abrt", "srv_abrt", "connect"),
    *("conn_tot", "dcon", "eint", "dreq", "ereq", "dresp"),
)


@pytest.fixture(scope="module")
def natlb(lab: Lab) -> Iterator[Natlb]:
    add_sources(lab)
    sections = [
        f"global\n    stats socket {lab.stats_socket} level admin\n    node lb1\n",
        "defaults\n    timeout connect 2s\n    timeout client 1h\n    timeout server 1h\n",
    ]
    for way in WAYS:
        sections += [
            way.listen("open", _OPEN, _SERVER_PORT),
            way.listen("closed", _CLOSED, _CLOSED_PORT),
            way.listen("nobody", _NOBODY, _SERVER_PORT, "disabled"),
            way.udp_lb("udp", _UDP, _SERVER_PORT),
        ]
    running = lab.start_natlb("\n".join(sections))
    yield running
    assert running.stop() == 0
    assert "internal error" not in running.log()


@pytest.fixture(params=WAYS, ids=[way.name for way in WAYS])
def way(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


def learn(natlb: Natlb) -> None:
    """Have natlb learn what the kernel has carried for it until now, which it does within a second otherwise."""
    natlb.ask("show sess")


def rows(natlb: Natlb, proxy: str) -> dict[str, dict[str, str]]:
    """Return the rows of a proxy, by the name of the server, FRONTEND or BACKEND."""
    learn(natlb)
    table = csv.DictReader(natlb.ask(f"show stat {proxy} -1 -1").removeprefix("# ").strip().splitlines())
    return {row["svname"]: row for row in table}


def counted(natlb: Natlb, proxy: str) -> dict[str, Counter[str]]:
    """Return what has been counted of a proxy so far."""
    return {
        name: Counter({column: int(row[column] or 0) for column in _COUNTERS if int(row[column] or 0)})
        for name, row in rows(natlb, proxy).items()
    }


def more(natlb: Natlb, proxy: str, before: dict[str, Counter[str]]) -> dict[str, dict[str, int]]:
    """Return what has been counted of a proxy since then."""
    return {name: dict(now - before[name]) for name, now in counted(natlb, proxy).items()}


def abort(end: socket.socket) -> None:
    """Close an end with a RST."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def carry(sender: socket.socket, receiver: socket.socket, size: int) -> None:
    """Send so many bytes from one end to the other, and wait until all have come."""
    sender.sendall(bytes(size))
    while size:
        size -= len(receiver.recv(size))


def expected(connections: int, octets_in: int = 0, octets_out: int = 0, **others: int) -> dict[str, dict[str, int]]:
    """Return what must have been counted of connections that have all reached the server."""
    carried = {"bin": octets_in, "bout": octets_out}
    behind = {"stot": connections, "lbtot": connections, "connect": connections, **carried, **others}
    each = {
        "FRONTEND": {"stot": connections, "conn_tot": connections, **carried},
        "server1": behind,
        "BACKEND": behind,
    }
    return {name: {column: value for column, value in row.items() if value} for name, row in each.items()}


# TCP


def test_bytes_both_ways_are_exact_while_connections_are_still_open(lab: Lab, natlb: Natlb, way: Way) -> None:
    proxy = f"open-{way.name}"
    before = counted(natlb, proxy)
    with listening(lab, _SERVER_PORT) as listener, contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(meeting(lab, way, _OPEN, listener)) for _ in range(3)]
        for size, pair in enumerate(pairs, start=1):
            carry(pair.client, pair.server, size * 1000)
            carry(pair.server, pair.client, size * 7000)
        assert more(natlb, proxy, before) == expected(3, 6000, 42000)
        for name, row in rows(natlb, proxy).items():
            assert (row["scur"], int(row["smax"]) >= 3) == ("3", True), name
            assert int(row["rate"]) >= 1
            assert int(row["rate_max"]) >= 1
        assert 0 <= int(rows(natlb, proxy)["server1"]["lastsess"]) <= 5
    until(lambda: rows(natlb, proxy)["BACKEND"]["scur"] == "0", "all are closed")
    assert more(natlb, proxy, before) == expected(3, 6000, 42000)


def test_who_aborts_is_counted_by_side(lab: Lab, natlb: Natlb, way: Way) -> None:
    proxy = f"open-{way.name}"
    before = counted(natlb, proxy)
    with listening(lab, _SERVER_PORT) as listener, contextlib.ExitStack() as stack:
        for number in range(3):
            pair = stack.enter_context(meeting(lab, way, _OPEN, listener))
            pair.speak(b"hello")
            abort(pair.client if number else pair.server)
    until(lambda: rows(natlb, proxy)["FRONTEND"]["scur"] == "0", "all are closed")
    assert more(natlb, proxy, before) == expected(3, 15, 15, cli_abrt=2, srv_abrt=1, eresp=1)


def test_a_connection_that_the_server_refuses_has_failed(lab: Lab, natlb: Natlb, way: Way) -> None:
    proxy = f"closed-{way.name}"
    before = counted(natlb, proxy)
    for _ in range(2):
        with client_socket(lab, way) as client, pytest.raises(ConnectionRefusedError):
            client.connect((way.vip, way.port(_CLOSED)))
    assert more(natlb, proxy, before) == expected(2, econ=2)


def test_a_connection_that_finds_no_server_has_failed_with_the_backend(lab: Lab, natlb: Natlb, way: Way) -> None:
    proxy = f"nobody-{way.name}"
    before = counted(natlb, proxy)
    with client_socket(lab, way) as client, pytest.raises(ConnectionRefusedError):
        client.connect((way.vip, way.port(_NOBODY)))
    assert more(natlb, proxy, before) == {
        "FRONTEND": {"stot": 1, "conn_tot": 1},
        "server1": {},
        "BACKEND": {"stot": 1, "econ": 1},
    }
    assert rows(natlb, proxy)["BACKEND"]["status"] == "DOWN"


def test_times_are_those_that_the_test_took(lab: Lab, natlb: Natlb, way: Way) -> None:
    proxy = f"open-{way.name}"
    with listening(lab, _SERVER_PORT) as listener:
        natlb.ask("clear counters all")
        begun = time.monotonic()
        with meeting(lab, way, _OPEN, listener):
            connected = time.monotonic()
            time.sleep(0.3)
        until(lambda: rows(natlb, proxy)["FRONTEND"]["scur"] == "0", "it is closed")
        closed = time.monotonic()
    for name in ("server1", "BACKEND"):
        row = rows(natlb, proxy)[name]
        assert 300 <= int(row["ttime"]) == int(row["ttime_max"]) <= (closed - begun) * 1000
        assert int(row["ctime"]) == int(row["ctime_max"]) <= (connected - begun) * 1000


# UDP


def test_datagrams_are_counted_whole_and_in_fragments(lab: Lab, natlb: Natlb, way: Way) -> None:
    proxy = f"udp-{way.name}"
    before = counted(natlb, proxy)
    sizes = (10, 1200, 5000)
    with (
        lab.open_socket("server1", way.family, socket.SOCK_DGRAM) as server,
        lab.open_socket("client", way.family, socket.SOCK_DGRAM) as client,
    ):
        for end in (server, client):
            end.settimeout(5)
        server.bind((way.address("server1"), _SERVER_PORT))
        client.connect((way.vip, way.port(_UDP)))
        for size in sizes:
            client.send(bytes(size))
            received, peer = server.recvfrom(65536)
            assert len(received) == size
            server.sendto(bytes(size + 1), peer)
            assert len(client.recv(65536)) == size + 1
    assert more(natlb, proxy, before) == expected(1, sum(sizes), sum(sizes) + len(sizes))
    assert {row["mode"] for row in rows(natlb, proxy).values()} == {"udp"}


# Clearing


def test_clearing_forgets_what_was_highest_or_all(lab: Lab, natlb: Natlb) -> None:
    way = WAYS[0]
    proxy = f"open-{way.name}"
    with listening(lab, _SERVER_PORT) as listener, meeting(lab, way, _OPEN, listener) as pair:
        pair.speak(b"hello")
        learn(natlb)
        natlb.ask("clear counters")
        row = rows(natlb, proxy)["BACKEND"]
        assert (row["scur"], row["smax"], row["rate_max"]) == ("1", "0", "0")
        assert int(row["bin"]) >= 5
        natlb.ask("clear counters all")
        before = counted(natlb, proxy)
        assert before == {"FRONTEND": {}, "server1": {}, "BACKEND": {}}
        assert rows(natlb, proxy)["BACKEND"]["scur"] == "1"
        pair.speak(b"on")
        assert more(natlb, proxy, before) == {
            name: {"bin": 2, "bout": 2} for name in ("FRONTEND", "server1", "BACKEND")
        }


# The process


def test_info_says_what_the_process_is_doing(lab: Lab, natlb: Natlb) -> None:
    way = WAYS[0]

    def info() -> dict[str, str]:
        learn(natlb)
        return dict(line.split(": ", 1) for line in natlb.ask("show info").splitlines() if line)

    before = info()
    assert (before["node"], before["Stopping"]) == ("lb1", "0")
    assert int(shell(lab, "lb", f"ps -o rss= -p {before['Pid']}")) * 1024 // 2 < int(before["PoolUsed_bytes"])
    assert 0 < int(before["Idle_pct"]) <= 100
    assert int(before["Listeners"]) == 4 * len(WAYS) + 1
    with listening(lab, _SERVER_PORT) as listener, meeting(lab, way, _OPEN, listener) as pair:
        pair.speak(bytes(1000))
        now = info()
        assert int(now["CurrConns"]) == int(before["CurrConns"]) + 1
        assert int(now["CumConns"]) == int(before["CumConns"]) + 1
        assert int(now["TotalBytesOut"]) == int(before["TotalBytesOut"]) + 2000
        until(lambda: int(info()["BytesOutRate"]) > 0, "the second in which it was carried is over")
