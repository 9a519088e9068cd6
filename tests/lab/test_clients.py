"""HAProxy's own clients look at natlb: every number that they show is one that the traffic made here has to come to.

The traffic is of every kind that is counted: connections that carry something, that either side aborts, that a server
refuses or does not answer, that wait for a place, or that a rule rejects.
"""

import contextlib
import csv
import re
import socket
from collections.abc import Iterator

import pytest

from netns.balancer import Natlb
from netns.build import Lab
from netns.processes import every
from netns.topology import SEED
from tests.lab.support import shell, until
from tests.lab.test_statistics import abort, carry
from tests.lab.ways import WAYS, Way, client_socket, listening, meeting

pytestmark = pytest.mark.root

_EXPORTER = "127.0.0.1:9199"
_VIP = SEED.balancer.ipv4
_OPEN, _CLOSED, _MUTE, _FULL, _FENCED = range(8000, 8005)
_SERVER_PORT, _MUTE_PORT = 4440, 4498

_CONFIG = """\
global
    stats socket {socket} level admin
    node lb1
defaults
    timeout connect 30s
    timeout client 1h
    timeout server 1h
    maxconn 100
listen open
    bind *:8000
    rate-limit sessions 50
    server server1 44.3.3.3:4440 check port 4444 inter 1s fastinter 200ms
listen closed
    bind *:8001
    server server1 44.3.3.3:4499
listen mute
    bind *:8002
    server server1 44.3.3.3:4498
listen full
    bind *:8003
    server server1 44.3.3.3:4440 maxconn 1
listen fenced
    bind *:8004
    tcp-request connection reject if {{ src 44.1.1.1 }}
    server server1 44.3.3.3:4440
"""

_FRONT = {"slim": 100, "act": 0, "weight": 0}
_BACK = {"slim": 10, "act": 1, "weight": 1}
_SERVER = {"slim": 0, "act": 1, "weight": 1}
_CARRIED = {"scur": 2, "smax": 4, "stot": 4, "bin": 400, "bout": 600}
_ENDED = {"lbtot": 4, "cli_abrt": 1, "srv_abrt": 1, "eresp": 1}
_REFUSED = {"stot": 2, "smax": 1}
_ALONE = {"scur": 1, "smax": 1, "stot": 1}

_EXPECTED = {
    ("open", "FRONTEND"): {**_FRONT, **_CARRIED, "conn_tot": 4, "rate_lim": 50},
    ("open", "server1"): {**_SERVER, **_CARRIED, **_ENDED},
    ("open", "BACKEND"): {**_BACK, **_CARRIED, **_ENDED},
    ("closed", "FRONTEND"): {**_FRONT, **_REFUSED, "conn_tot": 2},
    ("closed", "server1"): {**_SERVER, **_REFUSED, "econ": 2, "lbtot": 2},
    ("closed", "BACKEND"): {**_BACK, **_REFUSED, "econ": 2, "lbtot": 2},
    ("mute", "FRONTEND"): {**_FRONT, **_ALONE, "conn_tot": 1},
    ("mute", "server1"): {**_SERVER, **_ALONE, "wretr": 1, "lbtot": 1},
    ("mute", "BACKEND"): {**_BACK, **_ALONE, "wretr": 1, "lbtot": 1},
    ("full", "FRONTEND"): {**_FRONT, **_ALONE, "conn_tot": 1},
    ("full", "server1"): {**_SERVER, **_ALONE, "slim": 1, "lbtot": 1},
    ("full", "BACKEND"): {**_BACK, **_ALONE, "lbtot": 1, "qcur": 1, "qmax": 1},
    ("fenced", "FRONTEND"): {**_FRONT, "conn_tot": 1},
    ("fenced", "server1"): _SERVER,
    ("fenced", "BACKEND"): _BACK,
}
"""What each row has to have come to; what is not named is 0."""


@pytest.fixture(scope="module")
def served(lab: Lab) -> Iterator[Lab]:
    """A server for the checks, and a port of it that never answers."""
    lab.start_web("server1")
    shell(lab, "server1", f"iptables -A INPUT -p tcp --dport {_MUTE_PORT} -j DROP")
    yield lab
    shell(lab, "server1", "iptables -F INPUT")


@pytest.fixture
def natlb(served: Lab) -> Iterator[Natlb]:
    """A fresh natlb for each test, whose server is known to be up: it has counted nothing yet."""
    running = served.start_natlb(_CONFIG.format(socket=served.stats_socket))
    until(lambda: rows(running)["open", "server1"]["check_status"] == "L4OK", "the server is checked")
    yield running
    assert running.stop() == 0
    assert "internal error" not in running.log()


def rows(natlb: Natlb) -> dict[tuple[str, str], dict[str, str]]:
    """Return all rows of `show stat`."""
    table = csv.DictReader(natlb.ask("show stat").removeprefix("# ").strip().splitlines())
    return {(row["pxname"], row["svname"]): row for row in table}


@pytest.fixture
def traffic(served: Lab, natlb: Natlb) -> Iterator[None]:
    """All that `_EXPECTED` speaks of, as long as the test looks at it."""
    lab, way = served, WAYS[0]
    with listening(lab, _SERVER_PORT) as listener, contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(meeting(lab, way, _OPEN, listener)) for _ in range(4)]
        for pair in pairs:
            carry(pair.client, pair.server, 100)
            carry(pair.server, pair.client, 150)
        abort(pairs[2].client)
        abort(pairs[3].server)
        for number in (_CLOSED, _CLOSED, _FENCED):
            _is_refused(lab, way, number)
        stack.enter_context(meeting(lab, way, _FULL, listener))
        for number in (_MUTE, _FULL):
            waiting = stack.enter_context(client_socket(lab, way))
            waiting.setblocking(False)
            if number == _MUTE:
                # Once more, and never again: what is counted stays, however long the test looks at it.
                waiting.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
            assert waiting.connect_ex((_VIP, number)) != 0
        until(lambda: rows(natlb)["mute", "server1"]["wretr"] == "1", "the client has sent its SYN again")
        yield


def _is_refused(lab: Lab, way: Way, number: int) -> None:
    with client_socket(lab, way) as client, pytest.raises(ConnectionRefusedError):
        client.connect((_VIP, number))


# The exporter

_EXPORTED = {
    "bytes_in_total": "bin",
    "bytes_out_total": "bout",
    "current_sessions": "scur",
    "max_sessions": "smax",
    "sessions_total": "stot",
    "connections_total": "conn_tot",
    "limit_sessions": "slim",
    "limit_session_rate": "rate_lim",
    "current_queue": "qcur",
    "max_queue": "qmax",
    "current_server": "act",
    "weight": "weight",
    "server_selected_total": "lbtot",
    "connection_errors_total": "econ",
    "response_errors_total": "eresp",
    "client_aborts_total": "cli_abrt",
    "server_aborts_total": "srv_abrt",
    "retry_warnings_total": "wretr",
    "redispatch_warnings_total": "wredis",
    "check_failures_total": "chkfail",
    "downtime_seconds_total": "downtime",
    "request_errors_total": "ereq",
    "requests_denied_total": "dreq",
    "http_requests_total": "req_tot",
    "http_response_time_average_seconds": "rtime",
    "http_responses_compressed_total": "comp_rsp",
    "compressor_bytes_in_total": "comp_in",
    "compressor_bytes_out_total": "comp_out",
    "compressor_bytes_bypassed_total": "comp_byp",
}
"""What the exporter makes of columns."""

_BETWEEN = {
    "up": (1, 1),
    "current_session_rate": (0, 4),
    "max_session_rate": (0, 4),
    "check_duration_seconds": (0, 1),
    "http_queue_time_average_seconds": (0, 0),
    "http_connect_time_average_seconds": (0, 1),
    "http_total_time_average_seconds": (0, 5),
}
"""What else it shows: the least and the most that it can be."""

_SAMPLE = re.compile(
    r'haproxy_(frontend|backend|server)_(\w+)\{(?:backend|frontend)="(\w+)"(?:,server="(\w+)")?\} (\S+)'
)


@pytest.mark.usefixtures("traffic")
def test_every_number_of_the_exporter_is_what_was_made(served: Lab) -> None:
    argv = ["prometheus-haproxy-exporter", f"--haproxy.scrape-uri=unix:{served.stats_socket}"]
    exporter = served.popen("lb", [*argv, f"--web.listen-address={_EXPORTER}"], names=False)
    try:
        metrics = f"http://{_EXPORTER}/metrics"
        until(lambda: served.run("lb", ["curl", "-s", metrics]).returncode == 0, "the exporter answers")
        shown = shell(served, "lb", f"curl -sSf {metrics}")
    finally:
        exporter.terminate()
        exporter.wait()
    assert "\nhaproxy_up 1\n" in shown
    assert "\nhaproxy_exporter_csv_parse_failures_total 0\n" in shown
    seen = set()
    for kind, name, proxy, server, value in _SAMPLE.findall(shown):
        row = proxy, server or kind.upper()
        seen.add((row, name))
        if name in _BETWEEN:
            least, most = _BETWEEN[name]
            assert least <= float(value) <= most, (row, name)
        else:
            assert float(value) == _EXPECTED[row].get(_EXPORTED[name], 0), (row, name)
    assert {row for row, _ in seen} == set(_EXPECTED)
    assert {name for _, name in seen} == set(_EXPORTED) | set(_BETWEEN)


# hatop

_VIEWS = {
    "1": ("act", "bck", "qcur", "qmax", "scur", "smax", "slim", "stot"),
    "2": ("lbtot", "rate", "rate_lim", "rate_max", "bin", "bout"),
    "4": ("chkfail", "chkdown", "lastchg", "econ", "ereq", "eresp", "dreq", "dresp", "downtime"),
}
"""By the key of each view of TCP: the columns that end its lines."""

_MOVING = {"rate", "rate_max", "lastchg"}


class Hatop:
    """hatop in a terminal of its own."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._socket = f"{lab.namespace('lb')}-hatop"
        self._tmux("new", "-d", "-s", "h", "-x", "130", "-y", "50", f"hatop -s {lab.stats_socket} -i 1")

    def type(self, *keys: str) -> None:
        self._tmux("send-keys", "-t", "h", *keys)

    def lines(self) -> dict[tuple[str, str], list[str]]:
        """Return the words of each line on the screen, by proxy and name."""
        found: dict[tuple[str, str], list[str]] = {}
        proxy = ""
        for line in self._tmux("capture-pane", "-p", "-t", "h").splitlines():
            words = line.split()
            if words[:1] == [">>>"]:
                proxy = words[1]
            elif proxy and len(words) > 5 and words[0] != "1-STATUS":  # which is what the keys do
                found[proxy, words[0]] = words
        return found

    def close(self) -> None:
        self._tmux("kill-server")

    def _tmux(self, *words: str) -> str:
        done = self._lab.run("lb", ["tmux", "-L", self._socket, *words], names=False)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)


@pytest.fixture
def hatop(served: Lab, natlb: Natlb) -> Iterator[Hatop]:
    opened = Hatop(served)
    yield opened
    opened.close()


@pytest.mark.usefixtures("traffic")
@pytest.mark.parametrize(("key", "columns"), _VIEWS.items())
def test_every_number_of_hatop_is_what_was_made(hatop: Hatop, key: str, columns: tuple[str, ...]) -> None:
    exact = [column for column in columns if column not in _MOVING]
    expected = {row: [values.get(column, 0) for column in exact] for row, values in _EXPECTED.items()}
    shown: dict[tuple[str, str], list[int]] = {}
    hatop.type(key)
    for _ in every(0.2, 10):
        shown = {row: _numbers(words, columns) for row, words in hatop.lines().items()}
        if shown == expected:
            break
    assert shown == expected


def _numbers(words: list[str], columns: tuple[str, ...]) -> list[int]:
    """Return the numbers that end a line, less those that move; none of a line that is not all there."""
    read = dict(zip(reversed(columns), reversed(words), strict=False))
    numbers = [re.fullmatch(r"(\d+)[Bs]?", read.get(column, "")) for column in columns if column not in _MOVING]
    return [int(number[1]) for number in numbers if number]


def test_the_keys_of_hatop_change_servers(natlb: Natlb, hatop: Hatop) -> None:
    def becomes(key: str, column: str, value: str, *, everywhere: bool = False) -> None:
        place = {"weight": 1, "status": 2}[column]

        def is_so() -> bool:
            table, shown = rows(natlb), hatop.lines()
            changed = [row for row in _EXPECTED if row[1] == "server1" and (everywhere or row[0] == "open")]
            return all(table[row][column] == value for row in changed) and (
                shown.get(("open", "server1"), [""] * 3)[place] == value
            )

        hatop.type(key)
        until(is_so, f"after {key} {column} is {value}")

    until(lambda: ("open", "server1") in hatop.lines(), "hatop shows the server")
    hatop.type("Down", "Down")  # from the proxy's name over FRONTEND to its server
    for key, weight in (("F8", "11"), ("F7", "12"), ("F6", "11"), ("F5", "1"), ("F7", "2"), ("F4", "1")):
        becomes(key, "weight", weight)
    becomes("F10", "status", "MAINT")
    assert rows(natlb)["closed", "server1"]["status"] == "no check", "here alone"
    becomes("F9", "status", "UP")
    becomes("F2", "status", "MAINT", everywhere=True)
    hatop.type("F1")
    until(
        lambda: (
            [row["status"] for (_, name), row in rows(natlb).items() if name == "server1"] == ["UP", *["no check"] * 4]
        ),
        "all are back",
    )
