"""The stats socket of a natlb at work: what it changes while 200 connections a second come loses none of them."""

import re
import socket
import time
from collections.abc import Iterator

import pytest

from netns.balancer import ask
from netns.build import Lab
from netns.topology import SEED
from tests.lab.stream import stream
from tests.lab.support import answering_server, balancer_state, clients, shell, until

pytestmark = pytest.mark.root

_VIP = SEED.balancer.ipv4

_CONFIG = """\
global
    stats socket {socket} level admin
    stats socket ipv4@127.0.0.1:9999 level user
    stats timeout 5s
frontend www
    bind *:8888
    default_backend nodes
backend nodes
    server server1 44.3.3.3:4444
    server server2 44.4.4.4:5555
frontend www6
    bind [::]:8888 v6only
    default_backend nodes6
backend nodes6
    server server1 [fd44::3]:4444
"""


@pytest.fixture(scope="module")
def served(lab: Lab) -> Lab:
    """The lab with its servers, two of them with a second door."""
    for server in SEED.servers:
        lab.start_web(server.name)
    lab.start_web("server1", 4999, "server1b")
    lab.start_web("server2", 5999, "server2b")
    lab.start_web("lb", 4446, "local", "127.0.0.1")
    return lab


@pytest.fixture
def running(served: Lab) -> Iterator[Lab]:
    """natlb, started for one test, and gone after it without a trace."""
    before = balancer_state(served)
    natlb = served.start_natlb(_CONFIG.format(socket=served.stats_socket))
    try:
        yield served
    finally:
        status = natlb.stop()
    assert status == 0
    assert balancer_state(served) == before
    assert "internal error" not in natlb.log()


def _ask(lab: Lab, command: str) -> str:
    return ask(lab.stats_socket, command, 15.0).removesuffix("\n")


def test_weights_and_states_hold_from_the_next_connection_on_and_lose_none(running: Lab) -> None:
    with stream(running) as coming:
        assert set(coming.since()) == {"server1", "server2"}
        assert _ask(running, "set server nodes/server1 weight 0") == ""
        assert set(coming.since()) == {"server2"}
        assert _ask(running, "set weight nodes/server1 100%") == ""
        assert _ask(running, "set server nodes/server2 state drain") == ""
        assert set(coming.since()) == {"server1"}
        assert _ask(running, "set server nodes/server2 state ready") == ""
        assert set(coming.since()) == {"server1", "server2"}
        assert _ask(running, "disable server nodes/server1") == ""
        assert set(coming.since()) == {"server2"}
        assert _ask(running, "enable server nodes/server1") == ""
        assert set(coming.since()) == {"server1", "server2"}


def test_a_server_moves_with_its_next_connections_and_keeps_those_it_has(running: Lab) -> None:
    with clients(running, "client", _VIP, 4) as held, stream(running) as coming:
        before = [client.ask() for client in held]
        assert set(before) == {"server1", "server2"}
        assert _ask(running, "set server nodes/server1 addr 44.3.3.3 port 4999") == (
            "no need to change the addr, port changed from '4444' to '4999' by 'stats socket command'\n"
        )
        assert set(coming.since()) == {"server1b", "server2"}
        assert _ask(running, "set server nodes/server2 addr 44.4.4.4 port 5999").startswith("no need to change the ad")
        assert set(coming.since()) == {"server1b", "server2b"}
        assert [client.ask() for client in held] == before
        reply = _ask(running, "set server nodes/server1 addr 127.0.0.1 port 4446")
        assert reply.startswith("IP changed from '44.3.3.3' to '127.0.0.1', port changed from '4999' to '4446'")
        assert set(coming.since()) == {"local", "server2b"}
        assert [client.ask() for client in held] == before


def test_servers_come_and_go_and_no_connection_is_lost(running: Lab) -> None:
    with stream(running) as coming:
        assert _ask(running, "add server nodes/new 44.3.3.3:4999 weight 2") == "New server registered.\n"
        assert set(coming.since()) == {"server1", "server2"}, "it starts in maintenance"
        assert _ask(running, "enable server nodes/new") == ""
        assert set(coming.since()) == {"server1", "server1b", "server2"}
        assert _ask(running, "del server nodes/new") == "Only servers in maintenance mode can be deleted."
        assert _ask(running, "disable server nodes/new") == ""
        coming.since()
        assert _ask(running, "del server nodes/new") == "Server deleted."
        assert set(coming.since()) == {"server1", "server2"}
        assert "new" not in _ask(running, "show servers conn")


def test_limits_change_and_whoever_has_to_wait_is_served(running: Lab) -> None:
    with stream(running) as coming:
        for limit in ("server nodes/server1 1", "frontend www 3", "global 3"):
            assert _ask(running, f"set maxconn {limit}") == ""
            assert coming.since(), limit
            assert _ask(running, f"set maxconn {re.sub('[13]$', '0' if 'www' not in limit else '2000', limit)}") == ""
        assert set(coming.since()) == {"server1", "server2"}


def test_all_kinds_of_changes_one_after_the_other_lose_no_connection(running: Lab) -> None:
    changes = """\
        add server nodes/new 44.3.3.3:4999 weight 2
        enable server nodes/new
        set server nodes/server2 state drain
        set weight nodes/server1 7
        set server nodes/new weight 50%
        set maxconn server nodes/server1 50
        set server nodes/server2 addr 44.4.4.4 port 5999
        set server nodes/server2 state ready
        disable server nodes/new
        set maxconn frontend www 900
        set server nodes/server1 weight 1
        set server nodes/server2 addr 44.4.4.4 port 5555
        set maxconn server nodes/server1 0
        disable server nodes/server2
        del server nodes/new
        enable server nodes/server2
    """
    with stream(running) as coming:
        over, gone = time.monotonic() + 8, 0
        while time.monotonic() < over:
            for change in changes.splitlines():
                reply = _ask(running, change.strip())
                gone += reply == "Server deleted."
                if "still has connections" in reply:
                    until(lambda: _ask(running, "del server nodes/new") == "Server deleted.", "it goes in the end")
                    gone += 1
        assert gone
        assert set(coming.since()) == {"server1", "server2"}


def test_a_server_with_connections_stays_until_they_have_ended(running: Lab) -> None:
    for server in ("server1", "server2"):
        _ask(running, f"disable server nodes/{server}")
    assert _ask(running, "add server nodes/new 44.4.4.4:5999") == "New server registered.\n"
    _ask(running, "enable server nodes/new")
    with clients(running, "client", _VIP, 1) as (held,):
        assert held.ask() == "server2b"
        _ask(running, "disable server nodes/new")
        assert _ask(running, "del server nodes/new") == "Server still has connections attached to it, cannot remove it."
        assert held.ask() == "server2b"
    until(lambda: _ask(running, "del server nodes/new") == "Server deleted.", "the server has gone")


def test_a_server_may_be_the_first_one_on_loopback_or_of_its_family(running: Lab) -> None:
    assert _ask(running, "add server nodes/local 127.0.0.1:4446") == "New server registered.\n"
    assert _ask(running, "add server nodes6/other [fd44::4]:5555") == "New server registered.\n"
    for server in ("nodes/server1", "nodes/server2", "nodes6/server1"):
        _ask(running, f"disable server {server}")
    for server in ("nodes/local", "nodes6/other"):
        _ask(running, f"enable server {server}")
    assert answering_server(running, "client", _VIP) == "local"
    assert answering_server(running, "client", SEED.balancer.ipv6) == "server2"


def test_where_a_server_was_is_diverted_until_its_last_connection_has_ended(running: Lab) -> None:
    def rules() -> str:
        return shell(running, "lb", "iptables-save -t mangle")

    with clients(running, "client", _VIP, 2) as held:
        before = [client.ask() for client in held]
        _ask(running, "set server nodes/server1 addr 44.3.3.3 port 4999")
        assert "--sport 4444" in rules()
        assert "--sport 4999" in rules()
        assert [client.ask() for client in held] == before
    _ask(running, "shutdown sessions server nodes/server1")
    assert "--sport 4444" in rules(), "the table still remembers them"


def test_a_line_that_haproxy_would_refuse_is_refused_in_its_words(running: Lab) -> None:
    before = shell(running, "lb", "iptables-save | grep -v '^[#:]'")
    for line, reply in {
        "nodes/new 44.3.3.3:4999 foo": "unknown keyword 'foo'; did you mean 'tfo' maybe ?\n",
        "nodes/new 44.3.3.3:0": None,
        "nodes/new 44.3.3.3:80 id 1": None,
        "nodes/new 44.3.3.3:80 cookie x": None,
        "nodes/new 44.3.3.3:80 source 44.9.9.9": None,
        "nodes/n$w 44.3.3.3:80": "character '$' is not permitted in server name 'n$w'.\n",
        "nodes/server1 44.3.3.3:80": "Already exists a server with the same name in backend.\n",
    }.items():
        answer = _ask(running, f"add server {line}")
        assert answer == reply if reply else re.fullmatch(r".+\n", answer), line
    assert shell(running, "lb", "iptables-save | grep -v '^[#:]'") == before
    assert len(_ask(running, "show servers conn nodes").splitlines()) == 3


def test_a_disabled_frontend_refuses_at_once_and_keeps_its_connections(running: Lab) -> None:
    with clients(running, "client", _VIP, 1) as (held,):
        assert held.ask()
        assert _ask(running, "disable frontend www") == ""
        assert "(7) Failed to connect" in answering_server(running, "client", _VIP), "at once"
        assert held.ask()
        assert _ask(running, "enable frontend www") == ""
        assert answering_server(running, "client", _VIP) in ("server1", "server2")


def test_the_port_of_a_frontend_that_was_shut_down_is_anybodys(running: Lab) -> None:
    def listeners() -> int:
        return int(dict(line.split(": ") for line in _ask(running, "show info").splitlines())["Listeners"])

    before = listeners()
    with clients(running, "client", _VIP, 1) as (held,):
        server = held.ask()
        assert _ask(running, "shutdown frontend www") == ""
        assert listeners() == before - 1
        assert ",STOP," in _ask(running, "show stat www 1 0")
        assert "(7) Failed to connect" in answering_server(running, "client", _VIP), "at once"
        with running.open_socket("lb", socket.AF_INET, socket.SOCK_STREAM) as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as any server, for the next natlb's sake
            own.bind(("0.0.0.0", 8888))
            own.listen()
            with running.open_socket("client", socket.AF_INET, socket.SOCK_STREAM) as client:
                client.settimeout(5)
                client.connect((_VIP, 8888))
                with own.accept()[0] as met:
                    assert met.getpeername() == client.getsockname()
                    met.sendall(b"another program")
                    assert client.recv(100) == b"another program"
            assert held.ask() == server, "the connections that there are go on"
    assert answering_server(running, "client", SEED.balancer.ipv6) == "server1", "others are as they were"


def test_the_tcp_socket_is_natlbs_own_and_not_diverted(running: Lab) -> None:
    with running.open_socket("lb", socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(("127.0.0.1", 9999))
        client.sendall(b"show cli sockets;enable server nodes/server1\n")
        reply = b""
        while piece := client.recv(4096):
            reply += piece
    assert reply.decode() == (
        f"# socket lvl processes\nunix@{running.stats_socket} admin all\nipv4@127.0.0.1:9999 user all\n\n"
        "Permission denied\n\n"
    )


def test_a_crowd_at_the_stats_socket_delays_no_packet_much(running: Lab) -> None:
    with stream(running) as coming:
        crowd = []
        for number in range(200):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(5)
            client.connect(str(running.stats_socket))
            client.sendall((b"show sess", b"show se", bytes(range(256)) * 20)[number % 3] + b"\n" * (number % 2))
            crowd.append(client)
        assert set(coming.since()) == {"server1", "server2"}
        for client in crowd:
            client.close()
        until(lambda: "Permission" not in _ask(running, "show cli level"), "the socket answers again", 20)


_CHECKED = """\
global
    stats socket {socket} level admin
frontend www
    bind *:8888
    default_backend nodes
backend nodes
    default-server check inter 100ms fall 2 rise 1
    server server1 44.3.3.3:4444
    server server2 44.4.4.4:5555
"""


def test_health_is_forced_switched_and_aimed(served: Lab) -> None:
    natlb = served.start_natlb(_CHECKED.format(socket=served.stats_socket))

    def answering() -> set[str]:
        return {answering_server(served, "client", _VIP) for _ in range(4)}

    def is_up(server: str) -> bool:
        rows = [line.split(",") for line in _ask(served, "show stat").splitlines()]
        return any(row[1] == server and row[17].startswith("UP") for row in rows if len(row) > 17)

    try:
        assert _ask(served, "disable health nodes/server1") == ""
        assert _ask(served, "set server nodes/server1 health down") == ""
        assert answering() == {"server2"}, "nobody checks it, so it stays down"
        assert _ask(served, "enable health nodes/server1") == ""
        until(lambda: is_up("server1"), "its checks bring it back")
        assert _ask(served, "set server nodes/server2 check-port 9") == ""
        until(lambda: not is_up("server2"), "nobody listens where it is checked")
        assert _ask(served, "set server nodes/server2 check-port 0") == ""
        until(lambda: is_up("server2"), "it is checked at its own port again")
        assert _ask(served, "add server nodes/new 44.4.4.4:5999 check inter 100ms") == "New server registered.\n"
        _ask(served, "enable server nodes/new")
        assert _ask(served, "enable health nodes/new") == ""
        until(lambda: is_up("new"), "a new server is checked once that is asked for")
        assert _ask(served, "set server nodes/new addr 44.4.4.4 port 5998").endswith(
            "'5998' by 'stats socket command'\n"
        )
        until(lambda: not is_up("new"), "it is checked where it has moved, where nobody listens")
        assert answering() == {"server1", "server2"}
    finally:
        assert natlb.stop() == 0
    assert "internal error" not in natlb.log()
