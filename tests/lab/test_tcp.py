"""How a TCP connection ends, and how it does not: silence, operators, dead servers, forged resets, closes, old ports.

Both ends are sockets of the tests' own, on real stacks: what is claimed is what they are told.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from netns.balancer import ask
from netns.build import Lab
from netns.capture import Capture
from netns.dissect import read
from netns.walk import Sighting
from netns.web import endpoint
from tests.lab.support import shell, until
from tests.lab.ways import (
    WAYS,
    Pair,
    Way,
    add_sources,
    client_socket,
    connect,
    counted,
    entry_of,
    id_of,
    listening,
    meet,
    meeting,
    send_raw,
    state_of,
    when_reset,
)

pytestmark = pytest.mark.root

_PLAIN, _SHORT, _CLOSING, _REFUSING, _WATCHED, _LEFT, _RESTARTING = range(8001, 8008)
"""The services' ports."""

_SERVER_PORT, _WATCHED_PORT, _RESTARTING_PORT, _CLOSED_PORT = 4460, 4461, 4462, 4469

_AT_ONCE = 0.2
"""Seconds: no retransmission is that fast, so nothing was lost and nobody had to ask twice."""

_SILENCE = 1.0
_HALF_SILENCE = 2.0
"""The same of connections that one end has closed."""
_SOON = 5.0
"""Seconds for what comes at once: the machine may be busy."""


def _config(lab: Lab) -> str:
    check = "check inter 100ms fall 2 rise 1"
    sections = [
        f"global\n    stats socket {lab.stats_socket} level admin\n",
        "defaults\n    timeout connect 10s\n    timeout client 30s\n    timeout server 30s\n",
    ]
    silence, half_silence = f"{_SILENCE:g}s", f"{_HALF_SILENCE:g}s"
    for way in WAYS:
        sections += [
            way.listen("plain", _PLAIN, _SERVER_PORT),
            way.listen("short", _SHORT, _SERVER_PORT, "", f"timeout client {silence}", f"timeout server {silence}"),
            way.listen(
                *("closing", _CLOSING, _SERVER_PORT, ""),
                *(f"timeout client-fin {half_silence}", f"timeout server-fin {half_silence}"),
            ),
            way.listen("refusing", _REFUSING, _CLOSED_PORT),
            way.listen("restarting", _RESTARTING, _RESTARTING_PORT),
            way.listen("watched", _WATCHED, _WATCHED_PORT, f"{check} on-marked-down shutdown-sessions"),
            way.listen("left", _LEFT, _WATCHED_PORT, check),
        ]
    return "\n".join(sections)


@pytest.fixture(scope="module")
def balanced(lab: Lab) -> Iterator[Lab]:
    add_sources(lab)
    natlb = lab.start_natlb(_config(lab))
    yield lab
    log = natlb.log()
    assert natlb.stop() == 0
    assert "internal error" not in log


@pytest.fixture(scope="module")
def listener(lab: Lab) -> Iterator[socket.socket]:
    with listening(lab, _SERVER_PORT) as made:
        yield made


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def pair(balanced: Lab, way: Way, listener: socket.socket) -> Iterator[Pair]:
    """A connection of the plain service, on which both ends have spoken."""
    with meeting(balanced, way, _PLAIN, listener) as made:
        made.speak()
        yield made


@contextlib.contextmanager
def _losing(lab: Lab, host: str, way: Way, what: str) -> Iterator[None]:
    """Let a host lose what comes in and matches."""
    command = "iptables" if way.version == 4 else "ip6tables"
    rule = f"INPUT -p tcp {what} -j DROP"
    shell(lab, host, f"{command} -A {rule}")
    try:
        yield
    finally:
        shell(lab, host, f"{command} -D {rule}")


def _resets(capture: Capture) -> list[Sighting]:
    """Return the RSTs of a capture so far."""
    return [seen for seen in read(capture.place, capture.packets()) if "R" in seen.flags]


def _ends(seen: Sighting) -> set[str]:
    return {seen.source, seen.destination}


# Silence


def test_silence_ends_a_connection_and_both_ends_are_told_by_one_rst_each(
    balanced: Lab, listener: socket.socket
) -> None:
    near = balanced.capture("client", "eth0", "tcp")
    far = balanced.capture("server1", "eth0", f"tcp port {_SERVER_PORT}")
    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(meeting(balanced, way, _SHORT, listener)) for way in WAYS]
        before_the_last_word = time.monotonic()
        for pair in pairs:
            pair.speak()
        entries = [entry for pair in pairs if (entry := pair.entry())]
        told = when_reset([end for pair in pairs for end in pair.ends], 4)
        assert min(told) - before_the_last_word > _SILENCE - _AT_ONCE
        for pair in pairs:
            assert pair.state == "SHUT"
            for end in pair.ends:
                assert end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0, "told once"
        came: list[list[float]] = []
        for capture in (near, far):
            capture.stop()
            seen = _resets(capture)
            ends = [set(entry.original if capture is near else entry.reply) for entry in entries]
            of_pairs = [[each.time for each in seen if _ends(each) == of_pair] for of_pair in ends]
            assert [len(times) for times in of_pairs] == [1] * len(WAYS), capture.place
            assert all(each.checksums_right for each in seen)
            came.append([time_ for (time_,) in of_pairs])
        for pair, at_client, at_server in zip(pairs, *came, strict=True):
            assert abs(at_client - at_server) < _AT_ONCE, pair.way.name


# An operator


def test_an_operator_ends_a_connection_at_once_for_both_ends(pair: Pair) -> None:
    id_ = pair.id
    assert ask(pair.lab.stats_socket, f"shutdown session {id_}") in ("", "\n")
    when_reset(pair.ends, _AT_ONCE)
    assert pair.state == "SHUT"


def test_an_operator_ends_a_connection_that_no_server_has_answered(balanced: Lab, way: Way) -> None:
    with client_socket(balanced, way) as client:
        client.bind((way.any, 0))
        port = client.getsockname()[1]
        with _losing(balanced, "server1", way, f"--sport {port}"):
            client.setblocking(False)
            client.connect_ex((way.vip, way.port(_PLAIN)))
            until(lambda: state_of(balanced, way, _PLAIN, port) == "INIT", "the SYN has come")
            ask(balanced.stats_socket, f"shutdown session {id_of(balanced, way, _PLAIN, port)}")
            client.settimeout(_AT_ONCE)
            with pytest.raises(ConnectionRefusedError):
                client.connect((way.vip, way.port(_PLAIN)))
            assert state_of(balanced, way, _PLAIN, port) == "SHUT"


@pytest.mark.parametrize(
    ("towards", "command"),
    [("client", "shutdown session {id}"), ("server", "shutdown sessions server plain-{way}/server1")],
    ids=["download", "upload"],
)
def test_an_operator_ends_a_large_transfer_within_a_second(pair: Pair, command: str, towards: str) -> None:
    receiver, sender = pair.ends if towards == "client" else pair.ends[::-1]
    ended: dict[str, float] = {}
    running = threading.Event()

    def send() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                sender.sendall(bytes(100_000))
        ended["sender"] = time.monotonic()

    def receive() -> None:
        received = 0
        with contextlib.suppress(ConnectionError):
            while piece := receiver.recv(1 << 18):
                received += len(piece)
                if received > 10_000_000:
                    running.set()
        ended["receiver"] = time.monotonic()

    threads = [threading.Thread(target=work) for work in (send, receive)]
    for thread in threads:
        thread.start()
    assert running.wait(10)
    id_ = pair.id
    begun = time.monotonic()
    assert ask(pair.lab.stats_socket, command.format(id=id_, way=pair.way.name)) in ("", "\n")
    for thread in threads:
        thread.join(4)
    assert ended.keys() == {"sender", "receiver"}
    assert max(ended.values()) - begun < 1
    assert pair.state == "SHUT"


def test_shutting_down_a_servers_connections_ends_all_of_them_and_no_other(
    balanced: Lab, way: Way, listener: socket.socket
) -> None:
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(meeting(balanced, way, _CLOSING, listener))
        pairs = [stack.enter_context(meeting(balanced, way, _PLAIN, listener)) for _ in range(5)]
        ask(balanced.stats_socket, f"shutdown sessions server plain-{way.name}/server1")
        when_reset([end for pair in pairs for end in pair.ends], _SOON)
        other.speak()
        assert other.state == "ESTABLISHED"


# A server that goes down


def test_when_a_server_goes_down_its_connections_end_at_once_if_the_configuration_says_so(balanced: Lab) -> None:
    up = {f"{name}-{way.name}" for name in ("watched", "left") for way in WAYS}

    def status() -> dict[str, str]:
        rows = [row.split(",") for row in ask(balanced.stats_socket, "show stat").splitlines()]
        return {row[0]: row[17] for row in rows if row[0] in up and row[1] == "server1"}

    with contextlib.ExitStack() as stack:
        with listening(balanced, _WATCHED_PORT) as watched:
            until(lambda: status() == dict.fromkeys(up, "UP"), "all are up")
            ending = [_meet_beside_checks(stack, balanced, way, _WATCHED, watched) for way in WAYS]
            staying = [_meet_beside_checks(stack, balanced, way, _LEFT, watched) for way in WAYS]
            for pair in ending + staying:
                pair.speak()
        for pair in ending:
            until(lambda pair=pair: status()[f"watched-{pair.way.name}"] == "DOWN", "its checks find it down")
            when_reset(pair.ends, _AT_ONCE)
        until(lambda: status() == dict.fromkeys(up, "DOWN"), "all are down")
        for pair in staying:
            pair.speak()
            assert pair.state == "ESTABLISHED"


def _meet_beside_checks(stack: contextlib.ExitStack, lab: Lab, way: Way, number: int, listener: socket.socket) -> Pair:
    """Open a connection to a server that is also checked; the checks' connections are passed over."""
    client = stack.enter_context(client_socket(lab, way))
    client.connect((way.vip, way.port(number)))
    port = client.getsockname()[1]
    entry = entry_of(lab, way, number, port)
    assert entry is not None
    while True:
        server, peer = listener.accept()
        if endpoint(*peer[:2]) == entry.reply[1]:
            stack.enter_context(server)
            server.settimeout(5)
            return Pair(lab, way, number, client, server, port)
        server.close()


# Forged resets


_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_QUEUE_SEQ = 19, 20, 21
_RECEIVING, _SENDING = 1, 2
_REPAIR_OFF_WITHOUT_A_WORD = -1


@contextlib.contextmanager
def _at_the_numbers(end: socket.socket, queue: int) -> Iterator[None]:
    """Open one queue of an end, so that its sequence number can be read and written.

    The kernel takes SO_REUSEADDR from a socket that was opened so, and its port would be taken for as long as it is in
    TIME_WAIT: from any test whose connection happens to get the same one.
    """
    end.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    end.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, queue)
    yield
    end.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, _REPAIR_OFF_WITHOUT_A_WORD)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def _expects(end: socket.socket) -> int:
    """Return the sequence number that an end waits for, from its own kernel."""
    with _at_the_numbers(end, _RECEIVING):
        return end.getsockopt(socket.IPPROTO_TCP, _TCP_QUEUE_SEQ) & 0xFFFFFFFF


def _forge(pair: Pair, victim: str, offset: int) -> None:
    """Send an end a RST in the name of the other, its number `offset` off from what that end expects."""
    way = pair.way
    if victim == "server":
        number = _expects(pair.server) + offset
        addresses, ports = (way.address("client"), way.vip), (pair.port, way.port(_PLAIN))
    else:
        number = _expects(pair.client) + offset
        entry = pair.entry()
        assert entry is not None
        addresses = way.address("server1"), way.client_as_seen
        ports = _SERVER_PORT, int(entry.reply[1].rpartition(":")[2])
    packet = way.segment(*addresses, sport=ports[0], dport=ports[1], flags="R", seq=number & 0xFFFFFFFF)
    send_raw(pair.lab, "client" if victim == "server" else "server1", way, packet)


_VICTIMS = pytest.mark.parametrize("victim", ["client", "server"])


@_VICTIMS
@pytest.mark.parametrize("offset", [-2, 1 << 24, 1 << 31, -(1 << 20)])
def test_a_forged_rst_outside_the_window_goes_nowhere(pair: Pair, victim: str, offset: int) -> None:
    before = counted(pair.lab, "drop_out_of_window")
    _forge(pair, victim, offset)
    until(lambda: counted(pair.lab, "drop_out_of_window") == before + 1, "it is dropped")
    assert pair.state == "ESTABLISHED"
    pair.speak()


@_VICTIMS
def test_a_rst_with_the_number_that_is_expected_ends_the_connection(pair: Pair, victim: str) -> None:
    _forge(pair, victim, 0)
    when_reset([pair.client if victim == "client" else pair.server], _SOON)
    assert pair.state == "TRANS"


@_VICTIMS
def test_a_connection_goes_on_when_its_end_did_not_believe_a_rst_that_natlb_could_not_doubt(
    pair: Pair, victim: str
) -> None:
    before = counted(pair.lab, "drop_out_of_window")
    with pair.lab.capture("client" if victim == "client" else "server1", "eth0", f"tcp port {pair.port}") as capture:
        _forge(pair, victim, 1000)
        # The end asks its peer whether it meant that (RFC 5961, section 3.2), and so proves that it lives.
        until(lambda: bool(_resets(capture)), "the RST arrives")
        pair.reaches("ESTABLISHED")
    assert counted(pair.lab, "drop_out_of_window") == before
    pair.speak()


# Closing


def test_a_half_closed_connection_delivers_all_that_is_still_sent(balanced: Lab, listener: socket.socket) -> None:
    pieces, pause = 14, 0.3
    assert pieces * pause > 2 * _HALF_SILENCE
    assert pause < _HALF_SILENCE / 2
    with contextlib.ExitStack() as stack:
        halves = []
        for way in WAYS:
            for closed_by in (0, 1):
                pair = stack.enter_context(meeting(balanced, way, _CLOSING, listener))
                pair.speak()
                receiver, sender = pair.ends[closed_by], pair.ends[1 - closed_by]
                receiver.shutdown(socket.SHUT_WR)
                assert sender.recv(1) == b""
                pair.reaches(("CLIENT_FIN", "SERVER_FIN")[closed_by])
                halves.append((pair, receiver, sender))
        for number in range(pieces):
            time.sleep(pause)
            for _, _, sender in halves:
                sender.sendall(bytes([number]) * 5_000)
        for pair, receiver, sender in halves:
            sender.shutdown(socket.SHUT_WR)
            received = b""
            while piece := receiver.recv(1 << 18):
                received += piece
            assert received == b"".join(bytes([number]) * 5_000 for number in range(pieces)), pair.way.name
            pair.reaches("BOTH_FIN")


def test_a_half_closed_connection_in_silence_is_ended_for_both_ends(balanced: Lab, listener: socket.socket) -> None:
    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(meeting(balanced, way, _CLOSING, listener)) for way in WAYS for _ in range(2)]
        for number, pair in enumerate(pairs):
            pair.ends[number % 2].shutdown(socket.SHUT_WR)
            assert pair.ends[1 - number % 2].recv(1) == b""
        when_reset([pair.ends[number % 2] for number, pair in enumerate(pairs)], 4)
        for number, pair in enumerate(pairs):
            # An end that has been told of the other's close is told of a reset by EPIPE.
            with pytest.raises(BrokenPipeError):
                pair.ends[1 - number % 2].sendall(b"!")
            assert pair.state == "SHUT"


_FIN_WAIT_1, _CLOSED = 4, 7
"""States of tcp_info; a socket in TIME_WAIT shows as closed to its owner."""


def _kernel_state(end: socket.socket) -> int:
    state: int = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state


def _close_both(pair: Pair) -> None:
    """Close both ends before either knows of the other's close: what they say of it first is lost before it arrives.

    It got as far as that, whichever way it took through the balancer, and is sent again.
    """
    way, fin = pair.way, "--tcp-flags FIN FIN"
    with _losing(pair.lab, "client", way, fin), _losing(pair.lab, "server1", way, fin):
        for end in pair.ends:
            end.shutdown(socket.SHUT_WR)
        pair.reaches("BOTH_FIN")
        assert [_kernel_state(end) for end in pair.ends] == [_FIN_WAIT_1] * 2, "neither knows of the other"
    assert [end.recv(1) for end in pair.ends] == [b""] * 2
    until(lambda: [_kernel_state(end) for end in pair.ends] == [_CLOSED] * 2, "each was told of the other's close")


def test_both_ends_may_close_at_the_same_time(pair: Pair) -> None:
    _close_both(pair)
    assert pair.state == "BOTH_FIN"


# Ports that are used again


@pytest.fixture(scope="module")
def forgetful_client(lab: Lab) -> None:
    """A client that does not keep its ports in TIME_WAIT, as one with a stack of another kind, or just rebooted."""
    shell(lab, "client", "sysctl -qw net.ipv4.tcp_max_tw_buckets=0")


def _end_by_client(pair: Pair) -> None:
    pair.client.close()
    assert pair.server.recv(1) == b""
    pair.server.close()


def _end_by_server(pair: Pair) -> None:
    pair.server.close()
    assert pair.client.recv(1) == b""
    pair.client.close()


def _reset(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def _end_by_reset_of_client(pair: Pair) -> None:
    _reset(pair.client)
    when_reset([pair.server], _SOON)


def _end_by_reset_of_server(pair: Pair) -> None:
    _reset(pair.server)
    when_reset([pair.client], _SOON)
    pair.client.close()


def _end_by_operator(pair: Pair) -> None:
    ask(pair.lab.stats_socket, f"shutdown session {pair.id}")
    when_reset(pair.ends, _SOON)
    pair.client.close()


def _end_by_both(pair: Pair) -> None:
    _close_both(pair)
    pair.client.close()
    pair.server.close()


_ENDINGS = {
    "the client closed first": (_end_by_client, "BOTH_FIN"),
    "the server closed first": (_end_by_server, "BOTH_FIN"),
    "both closed at the same time": (_end_by_both, "BOTH_FIN"),
    "the client reset it": (_end_by_reset_of_client, "TRANS"),
    "the server reset it": (_end_by_reset_of_server, "TRANS"),
    "an operator shut it down": (_end_by_operator, "SHUT"),
}


@pytest.mark.usefixtures("forgetful_client")
@pytest.mark.parametrize("ending", _ENDINGS)
def test_a_client_can_use_its_port_again_at_once(pair: Pair, listener: socket.socket, ending: str) -> None:
    end, state = _ENDINGS[ending]
    for _ in range(3):
        end(pair)
        pair.reaches(state)
        again = _meet_at_once(pair, listener)
        pair.close()
        pair.client, pair.server = again.ends
        assert pair.state == "ESTABLISHED"
        pair.speak()


@pytest.mark.usefixtures("forgetful_client")
@pytest.mark.parametrize("ending", _ENDINGS)
def test_and_to_ask_the_server_itself(pair: Pair, listener: socket.socket, ending: str) -> None:
    """natlb still remembers the connection by its tuples, and one of them is that of the server's answers now."""
    end, state = _ENDINGS[ending]
    end(pair)
    pair.reaches(state)
    with client_socket(pair.lab, pair.way, pair.port) as client:
        client.connect((pair.way.address("server1"), _SERVER_PORT))
        server, _ = listener.accept()
        with server:
            server.settimeout(5)
            for here, there in ((client, server), (server, client)):
                here.sendall(b"directly")
                assert there.recv(100) == b"directly"


_SYN_AGAIN = 0.9
"""Seconds: before that no client sends a SYN again that nothing has come of (RFC 6298, section 2.1)."""

_SENT_AGAIN = 100
"""Where tcp_info counts the segments that an end has sent again (linux/tcp.h)."""


def _sent_again(pair: Pair) -> list[int]:
    """Return how many segments each end has sent again until now."""
    infos = [end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SENT_AGAIN + 4) for end in pair.ends]
    return [struct.unpack_from("=I", info, _SENT_AGAIN)[0] for info in infos]


def _meet_at_once(pair: Pair, listener: socket.socket) -> Pair:
    begun = time.monotonic()
    again = meet(pair.lab, pair.way, _PLAIN, listener, pair.port)
    assert time.monotonic() - begun < _SYN_AGAIN
    before = _sent_again(again)
    again.speak()
    assert _sent_again(again) == before
    return again


def _begin_at(client: socket.socket, number: int) -> None:
    """Let a socket that is not yet connected begin with a sequence number of our choice."""
    with _at_the_numbers(client, _SENDING):
        client.setsockopt(socket.IPPROTO_TCP, _TCP_QUEUE_SEQ, number)


@pytest.fixture
def without_timestamps(lab: Lab) -> Iterator[None]:
    """A client without timestamps: then only its sequence number tells a server in TIME_WAIT that a SYN is new."""
    shell(lab, "client", "sysctl -qw net.ipv4.tcp_timestamps=0")
    yield
    shell(lab, "client", "sysctl -qw net.ipv4.tcp_timestamps=1")


def _connect_at_once(lab: Lab, way: Way, listener: socket.socket, port: int, number: int) -> Pair:
    client = client_socket(lab, way, port)
    _begin_at(client, number)
    begun = time.monotonic()
    pair = connect(lab, way, _PLAIN, listener, client)
    assert time.monotonic() - begun < _SYN_AGAIN
    return pair


@pytest.mark.usefixtures("forgetful_client", "without_timestamps")
@pytest.mark.parametrize("offset", [1 << 24, -(1 << 24)], ids=["newer", "older"])
def test_a_server_in_time_wait_takes_a_syn_of_the_same_port_whatever_its_number(
    balanced: Lab, way: Way, listener: socket.socket, offset: int
) -> None:
    first = _connect_at_once(balanced, way, listener, 0, 1 << 30)
    first.speak()
    _end_by_server(first)
    first.reaches("BOTH_FIN")
    second = _connect_at_once(balanced, way, listener, first.port, (1 << 30) + offset)
    second.speak()
    second.close()


@pytest.mark.usefixtures("without_timestamps")
@pytest.mark.parametrize("offset", [1 << 24, -(1 << 24), 1000], ids=["newer", "older", "in the window"])
def test_a_client_that_has_forgotten_its_connection_can_open_another_from_the_same_port(
    balanced: Lab, way: Way, listener: socket.socket, offset: int
) -> None:
    first = _connect_at_once(balanced, way, listener, 0, 1 << 30)
    first.speak()
    command = "iptables" if way.version == 4 else "ip6tables"
    rule = f"OUTPUT -p tcp --sport {first.port} --tcp-flags RST RST -j DROP"
    shell(balanced, "client", f"{command} -A {rule}")
    _reset(first.client)
    shell(balanced, "client", f"{command} -D {rule}")
    assert first.state == "ESTABLISHED"
    second = _connect_at_once(balanced, way, listener, first.port, (1 << 30) + offset)
    second.speak()
    when_reset([first.server], _SOON)
    first.close()
    second.close()


# Handshakes that begin anew


@contextlib.contextmanager
def _unanswered(lab: Lab, way: Way) -> Iterator[socket.socket]:
    """A client whose SYN has reached a server, and whose answer is lost for as long as this lasts."""
    with client_socket(lab, way) as client:
        client.bind((way.any, 0))
        client.setblocking(False)
        port = client.getsockname()[1]
        with _losing(lab, "client", way, f"--dport {port}"):
            client.connect_ex((way.vip, way.port(_RESTARTING)))
            until(lambda: state_of(lab, way, _RESTARTING, port) == "SYN_RECEIVED", "the server has answered")
            yield client


def test_a_server_may_answer_a_syn_that_is_sent_again_with_another_number(balanced: Lab) -> None:
    with contextlib.ExitStack() as stack:
        with contextlib.ExitStack() as loss:
            with listening(balanced, _RESTARTING_PORT):
                clients = [loss.enter_context(_unanswered(balanced, way)) for way in WAYS]
                clients = [stack.enter_context(client.dup()) for client in clients]
            # Whoever listens now knows nothing of the first SYN: as after a restart, or a flood of SYNs. It listens
            # before the clients hear again: of a SYN that is sent again meanwhile they would hear a refusal.
            listener = stack.enter_context(listening(balanced, _RESTARTING_PORT))
        servers = {}
        for _ in WAYS:
            server, peer = listener.accept()
            servers[endpoint(*peer[:2])] = stack.enter_context(server)
            server.settimeout(5)
        for way, client in zip(WAYS, clients, strict=True):
            client.settimeout(5)
            port = client.getsockname()[1]
            entry = entry_of(balanced, way, _RESTARTING, port)
            assert entry is not None
            pair = Pair(balanced, way, _RESTARTING, client, servers[entry.reply[1]], port)
            pair.speak()
            assert pair.state == "ESTABLISHED", way.name


@pytest.mark.parametrize("server_forgets", [True, False], ids=["and so did the server", "and the server did not"])
def test_a_client_that_gave_up_opening_can_try_again_from_the_same_port(
    balanced: Lab, way: Way, server_forgets: bool
) -> None:
    with contextlib.ExitStack() as stack:
        before = stack.enter_context(contextlib.ExitStack())
        listener = before.enter_context(listening(balanced, _RESTARTING_PORT))
        with _unanswered(balanced, way) as client:
            port = client.getsockname()[1]
            client.close()
        if server_forgets:
            before.close()
            listener = stack.enter_context(listening(balanced, _RESTARTING_PORT))
        pair = meet(balanced, way, _RESTARTING, listener, port)
        stack.callback(pair.close)
        pair.speak()
        assert pair.state == "ESTABLISHED"


# What belongs to no connection


_STRAY = {
    "A": "R",
    "PA": "R",
    "FA": "R",
    "SA": "R",
    "SAU": None,
    "R": None,
    "RA": None,
    "S": "SA",
    "SF": None,
    "SR": None,
    "F": None,
    "FPU": None,
    "": None,
}
"""Flags of a segment that comes out of nowhere, and of what answers it: nothing where no host would send it."""


def test_a_segment_without_a_connection_is_answered_as_by_a_host(
    balanced: Lab, way: Way, listener: socket.socket
) -> None:
    first_port, sequence, acknowledged = 30001, 5000, 7000
    with balanced.capture("client", "eth0", f"tcp and src port {way.port(_PLAIN)}") as capture:
        stray = [
            way.segment(
                way.address("client"),
                way.vip,
                sport=port,
                dport=way.port(_PLAIN),
                flags=flags,
                seq=sequence,
                ack=acknowledged,
            )
            / b"data"
            for port, flags in enumerate(_STRAY, first_port)
        ]
        before = counted(balanced, "packets")
        send_raw(balanced, "client", way, *stray)
        until(lambda: counted(balanced, "packets") >= before + len(stray), "natlb has seen them all")
    answers = {int(seen.destination.rpartition(":")[2]): seen for seen in read("client", capture.packets())}
    told = {flags: answers[port].flags if port in answers else None for port, flags in enumerate(_STRAY, first_port)}
    assert told == _STRAY
    for port, flags in enumerate(_STRAY, first_port):
        if told[flags] == "R":
            assert answers[port].seq == acknowledged, "the number that makes it believed (RFC 9293, 3.10.7.1)"
            assert answers[port].checksums_right
            assert entry_of(balanced, way, _PLAIN, port) is None


# The table


def test_the_table_tells_each_state(balanced: Lab, way: Way, listener: socket.socket) -> None:
    with contextlib.ExitStack() as stack:

        def opening() -> tuple[socket.socket, int]:
            client = stack.enter_context(client_socket(balanced, way))
            client.bind((way.any, 0))
            client.setblocking(False)
            return client, client.getsockname()[1]

        def is_in(port: int, state: str, number: int = _PLAIN) -> bool:
            return state_of(balanced, way, number, port) == state

        def opened() -> Pair:
            return stack.enter_context(meeting(balanced, way, _PLAIN, listener))

        client, port = opening()
        stack.enter_context(_losing(balanced, "server1", way, f"--sport {port}"))
        client.connect_ex((way.vip, way.port(_PLAIN)))
        until(lambda: is_in(port, "INIT"), "a SYN without an answer")

        client, port = opening()
        stack.enter_context(_losing(balanced, "client", way, f"--dport {port}"))
        client.connect_ex((way.vip, way.port(_PLAIN)))
        until(lambda: is_in(port, "SYN_RECEIVED"), "an answer that has not arrived")

        client, port = opening()
        client.connect_ex((way.vip, way.port(_REFUSING)))
        until(lambda: is_in(port, "ABORTED", _REFUSING), "a server that refuses")

        pair = opened()
        pair.reaches("ESTABLISHED")
        entry = pair.entry()
        assert entry is not None
        assert entry.reply[1].rpartition(":")[0].strip("[]") == way.client_as_seen
        pair.client.shutdown(socket.SHUT_WR)
        pair.reaches("CLIENT_FIN")
        pair.server.shutdown(socket.SHUT_WR)
        pair.reaches("BOTH_FIN")

        pair = opened()
        pair.server.shutdown(socket.SHUT_WR)
        pair.reaches("SERVER_FIN")

        pair = opened()
        _reset(pair.client)
        pair.reaches("TRANS")

        pair = opened()
        ask(balanced.stats_socket, f"shutdown session {pair.id}")
        pair.reaches("SHUT")
