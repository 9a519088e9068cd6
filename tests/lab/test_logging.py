"""Log lines about real connections: HAProxy, told the same, says the same of each kind of them, and so says syslog."""

import contextlib
import csv
import re
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netns.balancer import Natlb, ask
from netns.build import Lab
from netns.topology import SEED
from tests import haproxy
from tests.lab.support import shell, until

# HAProxy has to be in time with what it is compared in: it, too, has the machine for itself.
pytestmark = [pytest.mark.root, pytest.mark.busy]

_VIP, _SERVER = SEED.balancer.ipv4, SEED.servers[0].ipv4
_ECHO, _NOBODY, _SILENT = 4450, 4451, 4452
_NATLB, _HAPROXY = 7000, 7100
_SYSLOG, _OTHER_SYSLOG = 5514, 5515
_RST_AT_CLOSE = struct.pack("ii", 1, 0)

_SECTIONS = f"""\
defaults
    mode tcp
    log global
    timeout connect 500ms
    timeout client 1s
    timeout server 1s
    retries 0
    option tcplog
listen echo
    bind {_VIP}:{{0}}
    server s1 {_SERVER}:{_ECHO}
listen refused
    bind {_VIP}:{{1}}
    server s1 {_SERVER}:{_NOBODY}
listen silent
    bind {_VIP}:{{2}}
    server s1 {_SERVER}:{_SILENT}
frontend nosrv
    bind {_VIP}:{{3}}
    default_backend off
backend off
    server s1 {_SERVER}:{_ECHO} disabled
listen slow
    bind {_VIP}:{{4}}
    timeout client 5s
    timeout server 1s
    server s1 {_SERVER}:{_ECHO}
defaults
    mode tcp
    log global
    timeout connect 500ms
    timeout client 1s
    timeout server 1s
    retries 0
listen brief
    bind {_VIP}:{{5}}
    server s1 {_SERVER}:{_ECHO}
listen brief-refused
    bind {_VIP}:{{6}}
    server s1 {_SERVER}:{_NOBODY}
listen brief-nosrv
    bind {_VIP}:{{7}}
defaults
    mode tcp
    log global
    option tcplog
    timeout connect 2s
    timeout queue 1s
    timeout client 10s
    timeout server 10s
listen narrow
    bind {_VIP}:{{8}}
    server s1 {_SERVER}:{_ECHO} maxconn 1
listen narrow-hashed
    bind {_VIP}:{{9}}
    balance source
    server s1 {_SERVER}:{_ECHO} maxconn 1 maxqueue 1
listen spare
    bind {_VIP}:{{10}}
    server s1 {_SERVER}:{_ECHO} check disabled on-marked-up shutdown-backup-sessions
    server s2 {_SERVER}:{_ECHO} backup
frontend split
    bind {_VIP}:{{11}}
    use_backend apart if {{{{ src 44.1.1.1 }}}} {{{{ src_port lt 5000 }}}}
    default_backend echo
backend apart
    use-server s2 if {{{{ src 44.1.1.1 }}}}
    server s1 {_SERVER}:{_NOBODY}
    server s2 {_SERVER}:{_ECHO}
frontend closed
    bind {_VIP}:{{12}}
    tcp-request connection reject
    default_backend echo
"""


def _config(first_port: int, syslog: int, stats: Path) -> str:
    ports = range(first_port, first_port + 13)
    own = f"global\n    log {_VIP}:{syslog} local0\n    stats socket {stats} level admin\n"
    return own + _SECTIONS.format(*ports)


class Listener:
    """A syslog server of the balancer."""

    def __init__(self, lab: Lab, port: int) -> None:
        self.socket = lab.open_socket("lb", socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((_VIP, port))
        self.socket.settimeout(5)

    def line(self) -> str:
        """Wait for the next line about a connection."""
        return self.socket.recv(65536).decode()

    def rest(self) -> list[str]:
        """Whatever else has come."""
        lines = []
        with contextlib.suppress(BlockingIOError):
            self.socket.setblocking(False)
            while True:
                lines.append(self.socket.recv(65536).decode())
        self.socket.settimeout(5)
        return lines


def _serve(listening: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    """Echo, but for the words that ask for another end."""
    with contextlib.suppress(OSError), connection:
        while said := connection.recv(65536):
            if said == b"reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_AT_CLOSE)
                return
            if said == b"bye":
                connection.sendall(b"good bye")
                return
            if said == b"half":
                connection.shutdown(socket.SHUT_WR)
            else:
                connection.sendall(said)


@pytest.fixture(scope="module")
def served(lab: Lab) -> Iterator[Lab]:
    """The lab with a server that does as it is told, on one port, and drops all SYNs to another."""
    with lab.open_socket("server1", socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind((_SERVER, _ECHO))
        listening.listen()
        threading.Thread(target=_serve, args=(listening,), daemon=True).start()
        shell(lab, "server1", f"iptables -A INPUT -p tcp --dport {_SILENT} -j DROP")
        yield lab
        listening.shutdown(socket.SHUT_RDWR)


def _connect(lab: Lab, port: int, source_port: int = 0) -> socket.socket:
    made = lab.open_socket("client", socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(5)
    try:
        made.bind(("0.0.0.0", source_port))
        made.connect((_VIP, port))
    except BaseException:
        made.close()
        raise
    return made


def _ask(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(100)


def _to_the_end(connection: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while connection.recv(65536):
            pass


def _client_closes(lab: Lab, first_port: int, source_port: int = 0) -> None:
    with _connect(lab, first_port, source_port) as connection:
        _ask(connection, b"hello")
        connection.shutdown(socket.SHUT_WR)
        _to_the_end(connection)


def _server_closes(lab: Lab, first_port: int) -> None:
    with _connect(lab, first_port) as connection:
        connection.sendall(b"bye")
        _to_the_end(connection)


def _nothing_is_said(lab: Lab, first_port: int) -> None:
    with _connect(lab, first_port):
        # A proxy has to connect itself, and then to hear of that: whoever ends before, ends another way (CC for --).
        connected = f"ss -Htn state established sport = :{_ECHO}"
        until(lambda: shell(lab, "server1", connected), "the server has the connection")
        time.sleep(0.4)


def _client_resets(lab: Lab, first_port: int) -> None:
    with _connect(lab, first_port) as connection:
        _ask(connection, b"hello")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_AT_CLOSE)


def _server_resets(lab: Lab, first_port: int) -> None:
    with _connect(lab, first_port) as connection:
        _ask(connection, b"hello")
        connection.sendall(b"reset")
        _to_the_end(connection)


def _both_are_silent(lab: Lab, first_port: int) -> None:
    with _connect(lab, first_port) as connection:
        _ask(connection, b"hello")
        _to_the_end(connection)


def _server_is_silent_first(lab: Lab, first_port: int) -> None:
    _both_are_silent(lab, first_port + 4)


def _client_is_silent_after_the_server_has_closed(lab: Lab, first_port: int) -> socket.socket:
    connection = _connect(lab, first_port)
    connection.sendall(b"half")
    _to_the_end(connection)
    return connection


def _refused(lab: Lab, first_port: int) -> None:
    with contextlib.suppress(ConnectionError), _connect(lab, first_port + 1) as connection:
        _to_the_end(connection)


def _server_is_silent_from_the_start(lab: Lab, first_port: int) -> socket.socket:
    connection = lab.open_socket("client", socket.AF_INET, socket.SOCK_STREAM)
    connection.setblocking(False)
    connection.connect_ex((_VIP, first_port + 2))
    return connection


def _no_server(lab: Lab, first_port: int) -> None:
    with contextlib.suppress(ConnectionError), _connect(lab, first_port + 3) as connection:
        _to_the_end(connection)


Session = Callable[[Lab, int], socket.socket | None]
"""What a client does with the ports from the given one on; what it still holds is closed when its line has come."""

SESSIONS: dict[str, tuple[Session, str]] = {
    "the client closes": (_client_closes, "--"),
    "the server closes": (_server_closes, "--"),
    "nothing is said": (_nothing_is_said, "--"),
    "the client resets": (_client_resets, "CD"),
    "the server resets": (_server_resets, "SD"),
    "both are silent": (_both_are_silent, "cD"),
    "the server is silent first": (_server_is_silent_first, "sD"),
    "the client does not close": (_client_is_silent_after_the_server_has_closed, "cD"),
    "the server refuses": (_refused, "SC"),
    "the server never answers": (_server_is_silent_from_the_start, "sC"),
    "there is no server": (_no_server, "SC"),
}


Pair = tuple[Natlb, Listener, Listener]


@pytest.fixture(scope="module")
def haproxy_stats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HAProxy's stats socket."""
    return tmp_path_factory.mktemp("haproxy") / "h.sock"


@pytest.fixture(scope="module")
def pair(served: Lab, haproxy_stats: Path) -> Iterator[Pair]:
    """natlb and HAProxy, each with a syslog server."""
    ours, theirs = Listener(served, _SYSLOG), Listener(served, _OTHER_SYSLOG)
    natlb = served.start_natlb(_config(_NATLB, _SYSLOG, served.stats_socket))
    with haproxy.running(_config(_HAPROXY, _OTHER_SYSLOG, haproxy_stats), haproxy_stats, lab=served):
        yield natlb, ours, theirs
    natlb.stop()
    ours.socket.close()
    theirs.socket.close()


def _forget_the_last(haproxy_stats: Path) -> None:
    """Wait until HAProxy counts nobody as connected: one of its threads has told of an end before it counts it."""
    until(lambda: "\nCurrConns: 0\n" in ask(haproxy_stats, "show info"), "HAProxy's last client is forgotten")


@pytest.fixture(autouse=True)
def _nobody_else(pair: Pair, haproxy_stats: Path) -> None:
    _forget_the_last(haproxy_stats)


def _comparable(line: str) -> str:
    """A line without ports, dates, process and how long it took; that something never was, is left."""
    line = re.sub(r"^(<\d+>)\w{3} [ \d]\d \d\d:\d\d:\d\d (?:natlb|haproxy)\[\d+\]: ", r"\1 ", line)
    line = re.sub(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d\.\d{3}\]", "[T]", line)
    line = re.sub(r"(?<=\d)[:]\d{4,5}(?=[ \n])", ":P", line)
    return re.sub(
        r"(?<= )(\+?-?\d+)/(\+?-?\d+)/(\+?-?\d+)(?= \+?\d)",
        lambda match: "/".join("never" if part == "-1" else "t" for part in match.groups()),
        line,
    )


@pytest.mark.parametrize(("session", "flags"), SESSIONS.values(), ids=SESSIONS)
def test_haproxy_would_say_the_same_of_a_connection(served: Lab, pair: Pair, session: Session, flags: str) -> None:
    _, ours, theirs = pair
    with session(served, _NATLB) or contextlib.nullcontext():
        line = ours.line()
    with session(served, _HAPROXY) or contextlib.nullcontext():
        assert _comparable(line) == _comparable(theirs.line())
    assert f" {flags} " in line
    assert ours.rest() == []


def test_haproxy_would_say_the_same_without_a_format(served: Lab, pair: Pair) -> None:
    _, ours, theirs = pair
    for offset, session in ((5, _client_closes), (5, _refused), (4, _no_server)):
        session(served, _NATLB + offset)
        session(served, _HAPROXY + offset)
        line = ours.line()
        assert _comparable(line) == _comparable(theirs.line())
        assert " Connect from 44.1.1.1:" in line
    assert ours.rest() == []


def _knock(lab: Lab, port: int) -> socket.socket:
    """Begin to connect, and do not wait until that has come to anything."""
    knocking = lab.open_socket("client", socket.AF_INET, socket.SOCK_STREAM)
    knocking.setblocking(False)
    knocking.connect_ex((_VIP, port))
    return knocking


def _get_in(knocking: socket.socket) -> None:
    """Wait until a connection is there that was begun."""
    assert select.select([], [knocking], [], 5)[1], "it was let in"
    knocking.setblocking(True)
    knocking.settimeout(5)


def _waits(stats: Path, proxy: str) -> bool:
    """Whether somebody waits for a server of a proxy, or for any."""
    rows = csv.DictReader(ask(stats, "show stat").removeprefix("# ").splitlines())
    return any(row["qcur"] not in ("", "0") for row in rows if row["pxname"] == proxy)


def _queue(lab: Lab, port: int, log: Listener, stats: Path) -> list[str]:
    """Wait for a server in vain, and then with success; return the two lines about that."""
    holder = _connect(lab, port)
    _ask(holder, b"hello")
    with _knock(lab, port):
        lines = [log.line()]
    with _knock(lab, port) as patient:
        until(lambda: _waits(stats, "narrow"), "the client waits")
        holder.close()
        assert " 5 -- " in log.line()
        _get_in(patient)
        _ask(patient, b"hello")
    return [*lines, log.line()]


def test_a_wait_for_a_server_is_told_as_haproxy_does(served: Lab, pair: Pair, haproxy_stats: Path) -> None:
    _, ours, theirs = pair
    lines = _queue(served, _NATLB + 8, ours, served.stats_socket)
    others = _queue(served, _HAPROXY + 8, theirs, haproxy_stats)
    assert [_comparable(line) for line in lines] == [_comparable(line) for line in others]
    assert " narrow/<NOSRV> " in lines[0]
    assert " sQ 2/2/1/0/0 0/1\n" in lines[0]
    waited = re.search(r" narrow/s1 (\d+)/(\d+)/(\d+) 5 -- 1/1/0/0/0 0/1\n$", lines[1])
    assert waited
    queue, connect, whole = map(int, waited.groups())
    assert queue >= 900, "the client's next SYN comes after a second"
    assert queue + connect <= whole


def _crowd(lab: Lab, port: int, log: Listener) -> list[str]:
    """Have one more client than may wait for the one server that they belong to."""
    with _connect(lab, port) as holder:
        _ask(holder, b"hello")
        with _knock(lab, port), _knock(lab, port):
            lines = [log.line(), log.line()]
    log.line()
    return lines


def test_too_many_who_wait_and_too_long_a_wait_are_told_with_the_server(served: Lab, pair: Pair) -> None:
    _, ours, theirs = pair
    for line, other, ending in zip(
        _crowd(served, _NATLB + 9, ours),
        _crowd(served, _HAPROXY + 9, theirs),
        (" narrow-hashed/s1 never/never/t 0 SQ ", " narrow-hashed/s1 t/never/t 0 sQ "),
        strict=True,
    ):
        assert ending in _comparable(line)
        assert ending in _comparable(other)
        assert line.split(" ")[-1] == other.split(" ")[-1], "its place in the queue"


def test_the_states_that_are_told_on_a_signal_have_those_who_wait(served: Lab, pair: Pair) -> None:
    natlb, ours, _ = pair
    for name, port, server, proxy in (
        ("narrow", _NATLB + 8, 0, r"1 pend \(1 unass\)"),
        ("narrow-hashed", _NATLB + 9, 1, r"1 pend \(0 unass\)"),
    ):
        with _connect(served, port) as holder:
            _ask(holder, b"hello")
            with _knock(served, port):
                until(lambda name=name: _waits(served.stats_socket, name), "the client waits")
                before = len(natlb.log())
                natlb.process.send_signal(signal.SIGHUP)
                told = f"Server {name}/s1 is UP. Conn: 1 act, {server} pend, "
                until(lambda told=told, before=before: told in natlb.log()[before:], told)
                of_proxy = rf"Proxy {name} has 1 active .* Conn: act\(FE\+BE\): 1\+1, {proxy}, "
                until(lambda of=of_proxy, before=before: re.search(of, natlb.log()[before:]), of_proxy)
        until(lambda name=name: re.search(rf" {name}/s1 .* 5 -- ", ours.line()), "the line about the holder")


def _better_server(lab: Lab, port: int, log: Listener, stats: Path) -> str:
    with _connect(lab, port) as connection:
        _ask(connection, b"hello")
        ask(stats, "enable server spare/s1")
        line = log.line()
        while "spare/s2" not in line:
            line = log.line()
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b""
        return line


def test_a_backup_server_that_is_needed_no_more_is_the_reason(served: Lab, pair: Pair, haproxy_stats: Path) -> None:
    _, ours, theirs = pair
    line = _better_server(served, _NATLB + 10, ours, served.stats_socket)
    assert _comparable(line) == _comparable(_better_server(served, _HAPROXY + 10, theirs, haproxy_stats))
    assert " spare/s2 0/" in line
    assert " U- " in line


def test_a_rule_leads_to_the_backend_and_the_server_of_the_line(served: Lab, pair: Pair, haproxy_stats: Path) -> None:
    _, ours, theirs = pair
    for first_port, log in ((_NATLB, ours), (_HAPROXY, theirs)):
        for source_port, server in ((first_port - 3000, "apart/s2"), (0, "echo/s1")):
            _forget_the_last(haproxy_stats)
            _client_closes(served, first_port + 11, source_port)
            line = log.line()
            while " split " not in line:
                line = log.line()
            assert re.search(rf" split {server} \d+/\d+/\d+ 5 -- 1/1/0/0/0 0/0\n$", line)


def _counted(stats: Path, proxy: str) -> dict[str, str]:
    header, *rows = ask(stats, "show stat").splitlines()
    [row] = [row for row in rows if row.startswith(f"{proxy},FRONTEND,")]
    found = dict(zip(header.removeprefix("# ").split(","), row.split(","), strict=False))
    return {
        name: found[name] for name in ("stot", "dcon", "dses", "dreq", "ereq", "conn_tot", "conn_rate_max", "rate_max")
    }


def test_whom_a_rule_rejects_is_counted_and_has_no_line(served: Lab, pair: Pair, haproxy_stats: Path) -> None:
    _, ours, theirs = pair
    for log in (ours, theirs):
        log.rest()
    for first_port in (_NATLB, _HAPROXY):
        with contextlib.suppress(ConnectionError), _connect(served, first_port + 12) as connection:
            _to_the_end(connection)
    counted = _counted(served.stats_socket, "closed")
    assert counted == _counted(haproxy_stats, "closed")
    assert (counted["dcon"], counted["stot"]) == ("1", "0")
    _no_server(served, _NATLB)
    _no_server(served, _HAPROXY)
    assert [" nosrv " in log.line() for log in (ours, theirs)] == [True, True], "and it is the first line"


def test_an_operator_who_ends_a_connection_is_named(served: Lab, pair: Pair) -> None:
    natlb, ours, _ = pair
    with _connect(served, _NATLB) as connection:
        _ask(connection, b"hello")
        assert natlb.ask("shutdown sessions server echo/s1") == "\n"
        assert re.search(r" echo echo/s1 0/0/\d+ 5 K- 1/1/0/0/0 0/0\n$", ours.line())


def test_flows_are_logged_and_a_unix_socket_may_go_and_come_back(served: Lab, tmp_path: Path) -> None:
    """And lines can have a format of their own."""
    path = tmp_path / "log"
    config = (
        f"global\n    log {path} format raw local0\n    log stderr format short local0\n"
        f"    stats socket {tmp_path}/stats\n"
        f"udp-lb dns\n    dgram-bind {_VIP}:7053\n    server s1 {_SERVER}:7053\n    proxy-responses 1\n"
        '    log global\n    log-format "%{+Q}b %s %B %U %ts %bi"\n'
    )
    natlb = served.start_natlb(config, ["--queue", "12"], stats_socket=tmp_path / "stats")

    def told() -> list[str]:
        return natlb.ask("show activity").splitlines()

    try:
        with served.open_socket("server1", socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind((_SERVER, 7053))
            server.settimeout(5)
            for number in range(1, 4):
                if number == 2:
                    _flow(served, server)
                    until(lambda: "log_lines_dropped: 1" in told(), "nobody is there to be told")
                else:
                    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
                        syslog.bind(str(path))
                        syslog.settimeout(5)
                        _flow(served, server)
                        assert syslog.recv(1000) == b'"dns" s1 2 5 -- 44.1.1.1\n'
                    path.unlink()
        until(lambda: natlb.log().count('<6>"dns" s1 2 5 -- 44.1.1.1\n') == 3, "stderr was told of all three")
        assert {"log_lines: 5", "log_lines_dropped: 1"} <= set(told())
        assert "DroppedLogs: 1" in natlb.ask("show info").splitlines()
    finally:
        natlb.stop()


def _flow(lab: Lab, server: socket.socket) -> None:
    with lab.open_socket("client", socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(b"where", (_VIP, 7053))
        _, asker = server.recvfrom(100)
        server.sendto(b"me", asker)
        assert client.recv(100) == b"me"
