"""Answers to health checks: whatever a server says, and however it cuts it up, the check ends with an outcome.

An input chooses one of the questions that are written in a configuration below, and then is what the server says, in
pieces; a piece may also be silence, a reset or the end. Time is the loop's own and passes when nothing else happens, so
that nobody waits. No connection is made: the loop has the server's part.
"""

import asyncio
import errno
import os
import socket
import time
from functools import cache

from natlb.config.parser import parse
from natlb.health.conversation import Answer, Limits, ask
from natlb.health.status import Status
from natlb.questions import Question
from tests.fuzz.choices import Choices

SLOWEST = 3.0
"""Seconds of the processor for a check, instrumented."""

_CHECKS = r"""
H
H; http-check expect status 200-299,404
H; http-check expect ! rstatus ^5; http-check disable-on-404
H; http-check expect string ready
H; http-check expect min-recv 10 ! string down
H; http-check expect rstring '(a|b)*c{2,9}d$'
H HEAD / HTTP/1.1; http-check expect status 200
T; tcp-check expect string +PONG
T; tcp-check expect ! string -ERR; tcp-check expect rstring '^\+(OK|PONG)'
T; tcp-check send PING; tcp-check expect binary 2b504f4e47; tcp-check send QUIT; tcp-check expect string BYE
T; tcp-check expect min-recv 8 rbinary '^(00|FF)*[0-9A-F]{4}'
T; tcp-check connect; tcp-check expect rstring '^[^a]*(aa?b?){1,20}z'; tcp-check connect; tcp-check expect string x
T; tcp-check expect comment said error-status L7RSP tout-status L7TOUT string no
"""
"""One on each line; H and T are its option, and a semicolon is the end of a line of the configuration."""
_OPTIONS = {"H": "option httpchk", "T": "option tcp-check"}


class _Server(asyncio.SelectorEventLoop):
    """A loop in which every connection leads to a server that says what an input has."""

    def __init__(self, choices: Choices) -> None:
        super().__init__()
        self.choices = choices
        self.now = 100.0
        self.said = 0

    def time(self) -> float:
        return self.now

    async def _silence(self) -> None:
        self.now += 1000.0
        await self.create_future()

    async def sock_connect(self, sock: socket.socket, address: object) -> None:
        match self.choices.byte():
            case 255:
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            case 254:
                await self._silence()

    async def sock_sendall(self, sock: socket.socket, data: object) -> None:
        if self.choices.byte() == 255:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    async def sock_recv(self, sock: socket.socket, most: int) -> bytes:
        assert most > 0
        if not self.choices.more:
            return b""
        size = self.choices.byte()
        match size:
            case 255:
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            case 254:
                await self._silence()
            case 253:
                return b""
            case 252:
                size = 4096
        times = self.choices.byte() if size & 1 else 1
        piece = (self.choices.take(size // 4 + 1) * max(1, times))[:most]
        self.said += len(piece)
        return piece


@cache
def questions() -> tuple[Question, ...]:
    """Return the questions, as a configuration has them."""
    found = []
    for lines in _CHECKS.strip().split("\n"):
        rules = (_OPTIONS[lines[0]] + lines[1:]).replace("; ", "\n")
        text = f"backend b\nmode tcp\ntimeout check 5s\n{rules}\nserver s 192.0.2.1:80 check\n"
        read = parse([("checks.cfg", text.encode())], {})
        if read.config is None or (checked := read.config.backends[0].servers[0].check) is None:
            raise AssertionError(f"{lines}: {[each.render(1) for each in read.diagnostics]}")
        found.append(checked.question)
    return tuple(found)


def check(data: bytes) -> None:
    """Ask a server. Raises if the check does not end with an outcome that can be told."""
    choices = Choices(data)
    how = choices.byte()
    question = questions()[how % len(questions())]
    loop = _Server(choices)
    began = time.process_time()
    try:
        answer = loop.run_until_complete(
            ask(question, "192.0.2.1", 80, Limits(2.0, 3.0 if how & 128 else None), is_up=bool(how & 64))
        )
    finally:
        loop.close()
    took = time.process_time() - began
    assert took < SLOWEST, f"a check took {took:.1f} s"
    _judge(answer)


def _judge(answer: Answer) -> None:
    assert isinstance(answer.status, Status)
    assert answer.info.isascii(), answer
    assert answer.info.isprintable(), answer
    assert len(answer.info) <= 127, answer
    assert 0 <= answer.code < 10**9, answer
