"""One check, from its question to its answer: plain sockets, opened from this machine.

`ask` carries out the steps of a question as HAProxy does, and says of every way in which they can fail what HAProxy
says of it: its code, its words. A connection is closed with a RST, so that checks leave none in TIME_WAIT, on neither
side. Connecting has a deadline, and so has all that follows; whatever was received is bounded, and so is the time that
looking at it takes from others.

A datagram knows less. UDP does not confirm anything, and a server is free to be silent about a datagram that is none of
its protocol's. Only the network speaks up for a host or a port that is not there: by ICMP, which the kernel turns into
an error of a connected socket. So no news is good news here, and a host that died, or a firewall that drops, passes.
Whether there may have been news that were not sent is the question of `complaints`.
"""

import asyncio
import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

from natlb.health import http
from natlb.health.status import Status
from natlb.questions import Connect, Expect, Question, Send, Step
from natlb.regex import Search

LARGEST_RESPONSE: Final = 16384
"""Bytes of a response that are looked at: HAProxy's buffer."""

_PIECE: Final = 256
"""Bytes that are searched at once, before the packets have their turn."""

_AT_ONCE: Final = 2048
"""Bytes that are received at once, and looked at before more are: a millisecond's work, whatever they are."""

_LINGER_ZERO: Final = struct.pack("ii", 1, 0)

_IP_RECVERR: Final = 11  # <linux/in.h>, <linux/in6.h>; the socket module lacks them
_IPV6_RECVERR: Final = 25

SILENCE: Final = 1.0
"""Seconds in which the network would have complained about a datagram."""
_DATAGRAM: Final = b"natlb check\n"
"""What a server is asked, for its author to know what it is when it shows up in a log."""
_NOT_THERE: Final = frozenset(
    (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENOPROTOOPT)
)
"""What the kernel makes of ICMP's Destination Unreachable, and of a route that it does not have."""
_RESOURCES: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
"""What is missing here, and says nothing about the server."""

_LONGEST_INFO: Final = 127


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a check may take, in seconds."""

    connecting: float
    """Until it is connected; and all in all, without `answering`."""
    answering: float | None = None
    """From then on, until the next connection."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a check came to."""

    status: Status
    info: str
    """The system's words, the server's or the configuration's; empty when there is nothing to say."""
    code: int
    """The application's number, such as HTTP's; 0 for none."""
    duration: float
    """Seconds."""
    silent: bool = False
    """Whether it passed because nobody said anything."""


async def ask(question: Question, address: str, port: int, limits: Limits, *, is_up: bool = True) -> Answer:
    """Ask the server at `address` and `port` (those of the question's own steps go before). Never raises OSError.

    `is_up` is whether it counts as up so far: only such a server may answer 404 to mean that it wants no more. A
    datagram has no `limits`: less than the whole second would be no answer.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    if question.kind == "udp":
        outcome = await _datagram(address, port)
    else:
        outcome = await _Conversation(question, address, port, limits, is_up).outcome()
    status, info, code = outcome or (Status.L4OK, "", 0)
    return Answer(status, _shown(info), code, loop.time() - started, silent=outcome is None)


def _shown(info: str) -> str:
    """The words as statistics may have them."""
    text = info.partition("\0")[0][:_LONGEST_INFO]
    return "".join(character if character.isascii() and character.isprintable() else "?" for character in text)


class _Failed(Exception):  # noqa: N818 - an outcome
    """The check is over, with this outcome."""

    def __init__(self, status: Status, info: str, code: int = 0) -> None:
        super().__init__(status, info)
        self.status = status
        self.info = info
        self.code = code


class _Conversation:
    """The steps of one question being carried out."""

    def __init__(self, question: Question, address: str, port: int, limits: Limits, is_up: bool) -> None:
        self._question = question
        self._address = address
        self._port = port
        self._limits = limits
        self._is_up = is_up
        self._steps = question.steps
        self._step: Step = question.steps[0]
        self._connected = False
        self._socket: socket.socket | None = None
        self._linger = False
        self._received = b""
        self._ended = False
        """Whether nothing more will be received."""
        self._response = http.Reading()
        self._searches: dict[Expect, tuple[Search, int]] = {}
        """What is being searched for in what was received, and how many bytes of it have been searched."""
        self._code = 0

    async def outcome(self) -> tuple[Status, str, int]:
        """Carry out all steps; return what it came to."""
        try:
            async with asyncio.timeout(None) as deadline:
                await self._carry_out(deadline)
        except OSError as error:
            if isinstance(error, TimeoutError) and error.errno is None:  # it was not the kernel who lost patience
                late = isinstance(self._step, Expect) and self._step.timeout_status
                return Status[late or "L7TOUT"] if self._connected else Status.L4TOUT, self._place(), 0
            status = Status.SOCKERR if self._connected or error.errno in _RESOURCES else Status.L4CON
            return status, os.strerror(error.errno or 0) + self._place(), 0
        except _Failed as failed:
            return failed.status, failed.info, failed.code
        finally:
            self._close()
        return self._passed()

    def _passed(self) -> tuple[Status, str, int]:
        if self._wants_no_more():
            return Status.L7OKC, "", self._code
        step = self._step
        plain = "(tcp-check)" if self._question.kind == "tcp-check" else ""
        if isinstance(step, Connect):
            return Status.L4OK, plain if step.number else "", 0
        if isinstance(step, Expect):
            return Status[step.ok_status or "L7OK"], step.on_success or plain, self._code
        return Status.L7OK, "(tcp-check)", 0

    async def _carry_out(self, deadline: asyncio.Timeout) -> None:
        at = 0
        fresh = False  # whether something is there that the next step has not looked at
        while at < len(self._steps):
            step = self._step = self._steps[at]
            match step:
                case Connect():
                    await self._connect(step, deadline)
                    fresh = False
                case Send():
                    self._forget()
                    self._response = http.Reading(of_head=step.of_head)
                    await asyncio.get_running_loop().sock_sendall(self._wire, step.data)
                    fresh = False
                case Expect():
                    if not fresh:
                        await self._receive(step)
                        fresh = True
                    if not await self._is_as_expected(step):
                        at = self._head(at)
                        fresh = False
                        continue
            at += 1

    def _head(self, at: int) -> int:
        """Where to begin again when more has come: what must not come has to be looked for again as well."""
        head = at
        while at and isinstance(before := self._steps[at - 1], Expect):
            at -= 1
            if before.negated:
                head = at
        return head

    @property
    def _wire(self) -> socket.socket:
        if self._socket is None:
            raise AssertionError("the first step connects")
        return self._socket

    async def _connect(self, step: Connect, deadline: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        self._close()
        self._connected = False
        self._ended = False
        self._forget()
        deadline.reschedule(loop.time() + self._limits.connecting)
        address, port = str(step.address or self._address), step.port or self._port
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        self._linger = step.linger
        self._socket.setblocking(False)
        await loop.sock_connect(self._socket, (address, port))
        self._connected = True
        if self._limits.answering is not None:
            deadline.reschedule(loop.time() + self._limits.answering)

    def _close(self) -> None:
        if self._socket is not None:
            if not self._linger:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            self._socket.close()
            self._socket = None

    def _forget(self) -> None:
        """Forget what was received: another step asks, and waits for its own answer."""
        self._received = b""
        self._response = http.Reading()
        self._searches.clear()

    async def _receive(self, step: Expect) -> None:
        """Receive more; raises what ends the check when nothing has ever come and nothing will."""
        await asyncio.sleep(0)  # receiving alone lets nobody else run while the server keeps up
        room = min(_AT_ONCE, LARGEST_RESPONSE - len(self._received))
        if room <= 0 or self._ended:
            return
        try:
            more = await asyncio.get_running_loop().sock_recv(self._wire, room)
        except OSError:
            # It is common that a RST follows the last byte: what has been said counts.
            if not self._received:
                raise
            more = b""
        self._received += more
        self._ended = not more or len(self._received) >= LARGEST_RESPONSE
        if not self._received and self._question.kind != "http":
            comment = f" comment: '{step.comment}'" if step.comment else ""
            status = Status[step.error_status or "L7RSP"]
            raise _Failed(status, f"TCPCHK got an empty response at step {step.number}{comment}")

    async def _is_as_expected(self, step: Expect) -> bool:
        """Whether a step is done; False if more must come first. Raises _Failed if it never will be."""
        if self._question.kind == "http":
            return await self._response_is_as_expected(step)
        data = self._received
        if not self._ended and len(data) < max(len(step.data), step.least or 0):
            return False
        found = await self._finds(step, data.hex().upper().encode() if step.kind == "rbinary" else data)
        if not found and not self._ended and step.least is None:
            return False
        if found is step.negated:
            info = step.on_error or _unlike(step, found)
            raise _Failed(Status[step.error_status or "L7RSP"], info + _remark(step))
        return True

    async def _response_is_as_expected(self, step: Expect) -> bool:
        def failed(status: Status, info: str) -> _Failed:
            return _Failed(status, (step.on_error or info) + _remark(step), self._code)

        try:
            response = self._response.read(self._received)
        except http.Malformed:
            raise failed(Status.L7RSP, "") from None
        if response is None:
            if self._ended:
                raise failed(Status.L7RSP, "")
            return False
        self._code = response.status
        if self._wants_no_more():
            return True
        ended = self._ended or response.complete
        if step.kind in ("status", "rstatus"):
            if step.kind == "status":
                found = any(first <= response.status <= last for first, last in step.codes)
            else:
                found = await self._finds(step, response.status_text)
            status, info = Status[step.error_status or "L7STS"], response.reason
        else:
            body = response.body
            if not body or (not ended and len(body) < max(len(step.data), step.least or 0)):
                if not ended:
                    return False
                nothing = "HTTP content check could not find a response body"
                raise failed(Status[step.error_status or "L7RSP"], nothing)
            found = await self._finds(step, body)
            if not found and not ended and step.least is None:
                return False
            status = Status[step.error_status or "L7RSP"]
            unlike = "HTTP content check did not match"
            info = "HTTP check matched unwanted content" if step.negated else unlike
        if found is step.negated:
            raise failed(status, info)
        return True

    def _wants_no_more(self) -> bool:
        return self._question.disable_on_404 and self._is_up and self._code == 404

    async def _finds(self, step: Expect, data: bytes) -> bool:
        if step.pattern is None:
            return step.data in data
        search, seen = self._searches.get(step) or (Search(step.pattern), 0)
        self._searches[step] = search, len(data)
        for found in search.steps(data[seen:], _PIECE):
            if found:
                return True
            await asyncio.sleep(0)
        return False

    def _place(self) -> str:
        """Where in the rules something happened, as HAProxy puts it behind the system's words."""
        step = self._step
        if self._question.kind != "tcp-check":
            return ""
        if not step.number:
            return " at initial connection step of tcp-check"
        match step:
            case Connect():
                what = f"connect port {step.port}" if step.port else "connect"
            case Send():
                what = "send"
            case Expect():
                what = {
                    "string": f"expect string '{step.data.decode('latin-1')}'",
                    "binary": f"expect binary '{step.data.decode('latin-1')}'",
                    "rstring": "expect regex",
                }.get(step.kind, "expect binary regex")
        comment = f" comment: '{step.comment}'" if step.comment else ""
        return f" at step {step.number} of tcp-check ({what}){comment}"


def _unlike(step: Expect, found: bool) -> str:
    """What HAProxy says of a tcp-check that was not answered as expected."""
    what = {
        "string": f" '{step.data.decode('latin-1')}'",
        "binary": " (binary)",
        "rstring": " (regex)",
    }.get(step.kind, " (binary regex)")
    return f"TCPCHK {'matched unwanted' if found else 'did not match'} content{what} at step {step.number}"


def _remark(step: Expect) -> str:
    return f" comment: {step.comment}" if step.comment else ""


async def _datagram(address: str, port: int) -> tuple[Status, str, int] | None:
    """Send a UDP datagram. It passes unless the network says that nobody is there; None is for a second's silence."""
    loop = asyncio.get_running_loop()
    try:
        with _datagram_socket(address) as probe:
            async with asyncio.timeout(SILENCE):
                await loop.sock_connect(probe, (address, port))
                await loop.sock_sendall(probe, _DATAGRAM)
                await loop.sock_recv(probe, 1)
    except TimeoutError:
        return None
    except OSError as error:
        return Status.L4CON if error.errno in _NOT_THERE else Status.SOCKERR, os.strerror(error.errno or 0), 0
    return Status.L4OK, "", 0


def _datagram_socket(address: str) -> socket.socket:
    """A UDP socket that hears of every Destination Unreachable. By default it would hear of closed ports alone."""
    if ":" in address:
        family, level, option = socket.AF_INET6, socket.IPPROTO_IPV6, _IPV6_RECVERR
    else:
        family, level, option = socket.AF_INET, socket.IPPROTO_IP, _IP_RECVERR
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.setsockopt(level, option, 1)
    return made
