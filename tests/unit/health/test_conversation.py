"""One check against real sockets, on loopback addresses alone. What HAProxy says of the same `test_haproxy` knows."""

import asyncio
import errno
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from natlb.health import conversation
from natlb.health.conversation import LARGEST_RESPONSE, Answer, Limits, ask
from natlb.health.status import Status
from natlb.questions import CONNECT, Connect, Expect, Question, Send, Step
from natlb.regex import Pattern, Search
from tests.descriptors import nothing_left_open
from tests.garbage import collected_as_in_natlb
from tests.travel import Loop

from .servers import Behaviour, closed_port, saying, serving, silent_port

UDP = Question("udp", ())


@contextmanager
def listener(address: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as listening:
        listening.bind((address, 0))
        if kind is socket.SOCK_STREAM:
            listening.listen(8)
        yield listening


def check(address: str, port: int, timeout: float = 5.0, question: Question = CONNECT) -> Answer:
    return asyncio.run(ask(question, address, port, Limits(timeout)))


def outcome(answer: Answer) -> tuple[Status, str]:
    return answer.status, answer.info


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_server_that_listens_passes(address: str) -> None:
    with listener(address) as server:
        answer = check(address, server.getsockname()[1])
    assert outcome(answer) == (Status.L4OK, "")
    assert 0 <= answer.duration < 5


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_where_nobody_listens_is_a_connection_problem(address: str) -> None:
    with listener(address) as server:
        port = server.getsockname()[1]
    assert outcome(check(address, port)) == (Status.L4CON, "Connection refused")


def test_a_server_that_does_not_answer_in_time_is_a_timeout() -> None:
    with silent_port() as port:
        answer = check("127.0.0.1", port, timeout=0.1)
    assert outcome(answer) == (Status.L4TOUT, "")
    assert 0.1 <= answer.duration < 2


def test_a_check_ends_its_connection_with_a_rst() -> None:
    with listener() as server:
        assert check(*server.getsockname()).status is Status.L4OK
        with server.accept()[0] as connection:
            assert select.select([connection], [], [], 5)[0]
            with pytest.raises(ConnectionResetError):
                connection.recv(1)


def test_or_with_a_fin_where_it_lingers() -> None:
    with listener() as server:
        lingering = Question("tcp-check", (Connect(1, linger=True),))
        assert outcome(check(*server.getsockname(), question=lingering)) == (Status.L4OK, "(tcp-check)")
        with server.accept()[0] as connection:
            assert connection.recv(1) == b""


def test_the_lack_of_a_socket_of_our_own_says_nothing_about_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with closed_port() as port:
        loop = asyncio.new_event_loop()
        monkeypatch.setattr(conversation.socket, "socket", refuse)
        answer = loop.run_until_complete(ask(CONNECT, "127.0.0.1", port, Limits(1.0)))
        monkeypatch.undo()
        loop.close()
    assert outcome(answer) == (Status.SOCKERR, "Too many open files")


def test_no_check_leaves_a_file_open() -> None:
    with closed_port() as closed, silent_port() as silent, nothing_left_open():
        for port in (closed, silent):
            check("127.0.0.1", port, timeout=0.05)
        check("127.0.0.1", closed, 0.05, UDP)


# -- datagrams


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_datagram_that_nobody_complains_about_passes(address: str) -> None:
    with listener(address, socket.SOCK_DGRAM) as server:
        answer = check(address, server.getsockname()[1], 0.2, UDP)
        assert server.recv(100) == b"natlb check\n"
    assert outcome(answer) == (Status.L4OK, "")
    assert answer.silent


def test_a_datagram_that_is_answered_passes_at_once() -> None:
    async def play() -> Answer:
        with listener("127.0.0.1", socket.SOCK_DGRAM) as server:
            server.setblocking(False)
            loop = asyncio.get_running_loop()
            asked = loop.create_task(ask(UDP, *server.getsockname(), Limits(5.0)))
            _, client = await loop.sock_recvfrom(server, 100)
            await loop.sock_sendto(server, b"here", client)
            return await asked

    answer = asyncio.run(play())
    assert outcome(answer) == (Status.L4OK, "")
    assert not answer.silent


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_datagram_to_a_port_where_nobody_is_fails(address: str) -> None:
    with listener(address, socket.SOCK_DGRAM) as server:
        port = server.getsockname()[1]
    assert outcome(check(address, port, 5.0, UDP)) == (Status.L4CON, "Connection refused")


@pytest.mark.parametrize("limits", [Limits(0.1), Limits(60.0), Limits(60.0, 0.1), Limits(0.1, 60.0)])
def test_silence_about_a_datagram_is_a_whole_second_and_no_more(limits: Limits) -> None:
    async def play() -> Answer:
        with listener("127.0.0.1", socket.SOCK_DGRAM) as server:
            return await ask(UDP, *server.getsockname(), limits)

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(play()).duration == pytest.approx(1.0)


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH])
def test_a_host_that_no_datagram_reaches_is_a_connection_problem(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoWay(socket.socket):
        def send(self, *_: object) -> int:
            raise OSError(number, os.strerror(number))

    async def play() -> Answer:
        with monkeypatch.context() as patched:
            patched.setattr(conversation.socket, "socket", NoWay)
            return await ask(UDP, "127.0.0.1", 9, Limits(1.0))

    assert outcome(asyncio.run(play())) == (Status.L4CON, os.strerror(number))


def test_a_datagram_that_this_host_does_not_let_out_says_nothing_about_the_server() -> None:
    answer = check("127.255.255.255", 9, 1.0, UDP)  # a broadcast, which the kernel refuses a plain socket
    assert outcome(answer) == (Status.SOCKERR, "Permission denied")


@pytest.mark.parametrize(
    ("address", "level", "option"), [("127.0.0.1", socket.IPPROTO_IP, 11), ("::1", socket.IPPROTO_IPV6, 25)]
)
def test_the_socket_of_a_datagram_hears_of_hosts_that_are_not_there(address: str, level: int, option: int) -> None:
    with conversation._datagram_socket(address) as made:
        assert made.getsockopt(level, option) == 1  # IP_RECVERR: without it the kernel reports closed ports alone


# -- scripts


def answered(behave: Behaviour, *steps: Step, limits: Limits = Limits(5.0), kind: str = "tcp-check") -> Answer:  # noqa: B008
    async def play() -> Answer:
        async with serving({"s": behave}) as ports:
            return await ask(Question(kind, (Connect(), *steps)), "127.0.0.1", ports["s"], limits)  # type: ignore[arg-type]

    return asyncio.run(play())


def test_each_part_of_a_check_has_its_own_time_if_it_is_given_one() -> None:
    # There is time enough to connect in, on a busy machine as well, and never enough for the answer.
    slow = saying(1.2, b"ok", first="talk", then="hang")
    wanted = Expect(1, "string", data=b"ok")
    late = answered(slow, wanted, limits=Limits(0.8))
    assert outcome(late) == (Status.L7TOUT, " at step 1 of tcp-check (expect string 'ok')")
    assert answered(slow, wanted, limits=Limits(0.8, 60.0)).status is Status.L7OK
    assert answered(slow, wanted, limits=Limits(60.0, 0.8)).status is Status.L7TOUT


def test_what_is_looked_at_is_bounded_and_the_loop_is_not_held_up() -> None:
    """A pattern that is expensive, a server that talks without end: others go on meanwhile."""
    pattern = Pattern(b"(a|b)*a(a|b){14}c")
    text = bytes(b"ab"[(number * number // 7) & 1] for number in range(4 * LARGEST_RESPONSE))

    async def play() -> tuple[Answer, float]:
        async with serving({"s": saying(text, first="talk", then="hang")}) as ports:
            expect = Expect(1, "rstring", pattern=pattern)
            asked = asyncio.create_task(
                ask(Question("tcp-check", (Connect(), expect)), "127.0.0.1", ports["s"], Limits(30.0))
            )
            longest = 0.0
            while not asked.done():
                before = time.thread_time()  # of the processor: what else runs here is not natlb's
                await asyncio.sleep(0)
                longest = max(longest, time.thread_time() - before)
            return await asked, longest

    with collected_as_in_natlb():
        answer, longest = asyncio.run(play())
    assert outcome(answer) == (Status.L7RSP, "TCPCHK did not match content (regex) at step 1")
    assert longest < 0.25


@pytest.mark.parametrize("head", [b"", b"HTTP/1.0 200 OK\r\n\r\n"], ids=["tcp", "http"])
def test_no_byte_is_searched_twice_however_slowly_a_server_speaks(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []

    class Counting(Search):
        def steps(self, more: bytes, size: int) -> Iterator[bool]:
            searched.append(more)
            return super().steps(more, size)

    monkeypatch.setattr(conversation, "Search", Counting)
    said = [b"a", b"b", b"ab" * 50, b"c", b"x" * 5000, b"and so on"]
    parts = [part for each in said for part in (each, 0.02)]
    expect = Expect(1, "rstring", pattern=Pattern(b"nothing"))
    kind = "http" if head else "tcp-check"

    async def play() -> Answer:
        async with serving({"s": saying(head, *parts, first="talk")}) as ports:
            question = Question(kind, (Connect(), expect))  # type: ignore[arg-type]
            return await ask(question, "127.0.0.1", ports["s"], Limits(30.0))

    assert asyncio.run(play()).status is Status.L7RSP
    assert b"".join(searched) == b"".join(said)
    assert max(map(len, searched)) <= 2048


def test_what_must_not_come_is_looked_for_again_when_more_has_come() -> None:
    steps = (Expect(1, "string", data=b"ERR", negated=True, least=0), Expect(2, "string", data=b"done"))
    assert answered(saying(b"one", 0.05, b" done", first="talk"), *steps).status is Status.L7OK
    failed = answered(saying(b"one", 0.05, b" ERR done", first="talk"), *steps)
    assert outcome(failed) == (Status.L7RSP, "TCPCHK matched unwanted content 'ERR' at step 1")


def test_what_is_sent_anew_is_answered_anew() -> None:
    steps = (
        Expect(1, "string", data=b"hello"),
        Send(2, b"more"),
        Expect(3, "string", data=b"hello", negated=True, least=1),
    )

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        assert await reader.read(4096) == b"more"
        writer.write(b"goodbye")
        await reader.read()

    assert answered(behave, *steps).status is Status.L7OK


def test_words_for_statistics_are_ascii_short_and_in_one_line() -> None:
    long = Expect(1, "string", data="\u00e9\n".encode() + b"x" * 200)
    answer = answered(saying(b"y", first="talk"), long)
    assert len(answer.info) == 127
    assert answer.info.startswith("TCPCHK did not match content '???xxx")


def test_a_404_means_stopping_only_of_a_server_that_is_up() -> None:
    async def play(*, is_up: bool) -> Answer:
        question = Question(
            "http",
            (Connect(), Send(1, b"GET / HTTP/1.0\r\n\r\n"), Expect(2, "status", codes=((200, 399),))),
            disable_on_404=True,
        )
        async with serving({"s": saying(b"HTTP/1.0 404 Not Found\r\n\r\n")}) as ports:
            return await ask(question, "127.0.0.1", ports["s"], Limits(5.0), is_up=is_up)

    assert outcome(asyncio.run(play(is_up=True))) == (Status.L7OKC, "")
    refused = asyncio.run(play(is_up=False))
    assert (refused.status, refused.info, refused.code) == (Status.L7STS, "Not Found", 404)
