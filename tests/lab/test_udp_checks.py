"""UDP checks of hosts whose kernels complain about closed ports once a second, as they do unless told otherwise.

All servers of a section are ports of one host. Nobody is at most of them, and who is there is silent.
"""

import csv
import io
import re
import socket
from collections.abc import Iterator

import pytest

from netns.balancer import Natlb, ask
from netns.build import Lab
from netns.topology import SEED
from tests.lab.support import shell, until

pytestmark = pytest.mark.root

_FIRST = 5401
_SERVERS = {"default": 8, "quick": 3}
"""How many servers a section has, c1, c2 and so on."""
_HOSTS = dict(zip(_SERVERS, SEED.servers, strict=True))
_SILENT = ("quick", 2)
"""A server that is there."""
_LONG = 300.0
"""Seconds that nothing takes, on whatever machine."""


def _config(lab: Lab) -> str:
    text = f"global\n    stats socket {lab.stats_socket} level admin\n"
    for number, (name, count) in enumerate(_SERVERS.items()):
        inter = " inter 300ms" if name == "quick" else ""
        servers = [
            f"server c{each} {_HOSTS[name].ipv4}:{_FIRST + each} check fall 1{inter}" for each in range(1, count + 1)
        ]
        said = [f"dgram-bind *:{8000 + number}", "timeout client 1m", "timeout server 1m", "option udp-check", *servers]
        text += "\n    ".join([f"udp-lb {name}", *said]) + "\n"
    return text


def _listen(lab: Lab, section: str, number: int) -> socket.socket:
    """Be there, as a server of a section, and say nothing."""
    opened = lab.open_socket(_HOSTS[section].name, socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((_HOSTS[section].ipv4, _FIRST + number))
    return opened


@pytest.fixture(scope="module")
def natlb(lab: Lab) -> Iterator[Natlb]:
    for host in _HOSTS.values():
        assert shell(lab, host.name, "sysctl -n net.ipv4.icmp_ratelimit").strip() == "1000", "the default"
    with _listen(lab, *_SILENT):
        running = lab.start_natlb(_config(lab))
        yield running
        assert running.stop() == 0
    assert "internal error" not in running.log()


def _states(lab: Lab) -> dict[tuple[str, int], str]:
    table = ask(lab.stats_socket, "show stat").removeprefix("# ")
    return {
        (row["pxname"], int(row["svname"][1:])): row["status"]
        for row in csv.DictReader(io.StringIO(table))
        if row["svname"].startswith("c")
    }


def _refused(lab: Lab, host: str) -> int:
    """Datagrams that have come to a host for ports where nobody is."""
    names, values = re.findall(r"(?m)^Udp: (.*)$", shell(lab, host, "cat /proc/net/snmp"))
    return int(dict(zip(names.split(), values.split(), strict=True))["NoPorts"])


def test_the_dead_servers_of_a_host_go_down_and_stay_down_and_a_silent_one_is_up(lab: Lab, natlb: Natlb) -> None:
    expected = {
        (section, each): "UP" if (section, each) == _SILENT else "DOWN"
        for section, count in _SERVERS.items()
        for each in range(1, count + 1)
    }
    until(lambda: _states(lab) == expected, "each is what it is", _LONG, instead=lambda: _states(lab))
    for section, host in _HOSTS.items():
        # Two checks that pass bring a server up.
        enough = _refused(lab, host.name) + 3 * _SERVERS[section]
        until(lambda host=host, enough=enough: _refused(lab, host.name) >= enough, "all are asked on and on", _LONG)
    assert _states(lab) == expected
    assert " is UP" not in natlb.log()
    assert "Server quick/c2" not in natlb.log()


@pytest.mark.parametrize(("section", "number"), [("default", 5), ("quick", 1)])
def test_one_that_is_there_again_comes_up_and_no_other(lab: Lab, natlb: Natlb, section: str, number: int) -> None:
    until(lambda: list(_states(lab).values()).count("UP") == 1, "one is there", _LONG, instead=lambda: _states(lab))
    before = natlb.log().count(" is UP")
    with _listen(lab, section, number):
        until(lambda: _states(lab)[section, number] == "UP", "it is up", _LONG)
        assert natlb.log().count(" is UP") == before + 1
    until(lambda: _states(lab)[section, number] == "DOWN", "it is down", _LONG)
