"""Health checks of a real natlb: of real web servers, by HTTP, by what clients meet, and what the log says of it."""

import csv
import io
import re
import time
from collections.abc import Iterator

import pytest

from netns.balancer import Natlb, ask
from netns.build import Lab
from netns.processes import Service
from netns.topology import SEED
from tests.lab.support import Client, answering_server, until

pytestmark = pytest.mark.root

_CONFIG = """\
global
    stats socket {socket} level admin
defaults
    timeout connect 5s
    timeout client 1m
    timeout server 1m
    timeout check 5s
frontend www
    bind *:8888
    default_backend web
backend web
    option httpchk GET /
    http-check expect rstring server[0-9]
    option log-health-checks
    server server1 44.3.3.3:4444 check inter 200ms on-marked-up shutdown-backup-sessions
    server server2 44.4.4.4:5555 check inter 200ms backup
backend twins
    server twin 44.3.3.3:4444 track web/server1
listen watched
    bind *:8889
    server far 44.3.3.3:4444 check inter 10m observe layer4 error-limit 2 on-error mark-down
backend off
    disabled
    server off 44.3.3.3:9 check inter 100ms fall 1
"""


@pytest.fixture(scope="module")
def server1(lab: Lab) -> Service:
    return lab.start_web("server1")


@pytest.fixture(scope="module")
def natlb(lab: Lab, server1: Service) -> Iterator[Natlb]:
    lab.start_web("server2")
    running = lab.start_natlb(_CONFIG.format(socket=lab.stats_socket))
    until(lambda: _column(lab, "web/server2", "status") == "UP", "server2 has been checked")
    yield running
    assert running.stop() == 0
    assert "internal error" not in running.log()


def _column(lab: Lab, server: str, column: str) -> str:
    table = ask(lab.stats_socket, "show stat").removeprefix("# ")
    rows = {f"{row['pxname']}/{row['svname']}": row for row in csv.DictReader(io.StringIO(table))}
    return rows[server][column]


def test_a_check_by_http_is_reported_in_the_log_and_in_the_statistics(lab: Lab, natlb: Natlb) -> None:
    said = (
        r"\[WARNING\]  \(\d+\) : Health check for server web/server1 succeeded, reason: Layer7 check passed, "
        r"code: 200, check duration: \d+ms, status: 3/3 UP\."
    )
    until(lambda: re.search(said, natlb.log()) is not None, "the first check is logged")
    assert "Health check for backup server web/server2 succeeded" in natlb.log()
    assert _column(lab, "web/server1", "check_status").endswith("L7OK")
    assert _column(lab, "web/server1", "check_desc") == "Layer7 check passed"
    assert _column(lab, "twins/twin", "tracked") == "web/server1"
    assert _column(lab, "twins/twin", "status") == "UP"


def test_a_server_in_maintenance_takes_along_those_that_track_it(lab: Lab, natlb: Natlb) -> None:
    ask(lab.stats_socket, "disable server web/server1")
    assert _column(lab, "web/server1", "status") == "MAINT"
    assert _column(lab, "twins/twin", "status") == "MAINT (via web/server1)"
    assert "Server web/server1 is going DOWN for maintenance. 0 active and 1 backup servers left." in natlb.log()
    assert "Server twins/twin is going DOWN for maintenance via web/server1." in natlb.log()
    assert answering_server(lab, "client", SEED.balancer.ipv4) == "server2"


def test_clients_of_backup_servers_come_back_when_a_server_is_up_again(lab: Lab, natlb: Natlb) -> None:
    client = Client(lab, "client", SEED.balancer.ipv4)
    assert client.ask() == "server2"
    ask(lab.stats_socket, "enable server web/server1")
    assert "Server web/server1 is UP/READY (leaving forced maintenance)." in natlb.log()
    with pytest.raises(ConnectionError):
        client.ask()
    client.close()
    assert answering_server(lab, "client", SEED.balancer.ipv4) == "server1"
    until(lambda: _column(lab, "web/server1", "status") == "UP", "server1 has been checked again")


def test_a_server_that_is_gone_is_found_by_its_clients_before_the_next_check(
    lab: Lab, natlb: Natlb, server1: Service
) -> None:
    until(lambda: _column(lab, "watched/far", "status").startswith("UP"), "it is up")
    server1.kill()
    assert answering_server(lab, "client", SEED.balancer.ipv4, port=8889) != "server1"
    assert answering_server(lab, "client", SEED.balancer.ipv4, port=8889) != "server1"
    what = (
        'Server watched/far is DOWN, reason: Health analyze, info: "Detected 2 consecutive errors, last one was: L4 '
        'unsuccessful connection". 0 active and 0 backup servers left.'
    )
    until(lambda: what in natlb.log(), "the clients' errors have been counted")
    assert _column(lab, "watched/far", "hanafail") == "1"


def test_the_servers_of_a_backend_that_is_disabled_are_not_checked(lab: Lab, natlb: Natlb) -> None:
    """Nobody is at that server's port, and nobody hears of it, nor of the backend, as in HAProxy."""
    time.sleep(0.5)
    assert "off/off" not in natlb.log()
    assert "off," not in ask(lab.stats_socket, "show stat")


def test_a_backend_whose_last_server_is_taken_out_is_told_of(lab: Lab, natlb: Natlb) -> None:
    ask(lab.stats_socket, "disable server web/server2")
    until(lambda: "backend 'web' has no server available!" in natlb.log(), "the backend has no server")
    ask(lab.stats_socket, "enable server web/server2")


def test_what_tracks_a_server_goes_down_with_it(lab: Lab, natlb: Natlb) -> None:
    until(lambda: "Server twins/twin is DOWN via web/server1." in natlb.log(), "server1 is noticed to be down")
    assert "Health check for server web/server1 failed, reason: Layer4 connection problem, info:" in natlb.log()
    assert _column(lab, "twins/twin", "status") == "DOWN"
