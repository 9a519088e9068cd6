r"""One client of the stats socket: what it has sent, what it is allowed, and how it wants its answers.

This is HAProxy's framing without a socket. Bytes go in with `feed`, `next_line` gives one command after the other, and
`obey` answers it in pieces. A client begins non-interactive: each reply is followed by an empty line, and the
connection ends when nothing more has been sent. After `prompt` it is interactive: replies are followed by `\n> `, and
the connection lasts until `quit`.

A command is obeyed as soon as it is whole, which it is with the `;` or the LF that ends it; before a LF there may be a
CR. What a client that breaks off has not finished is never obeyed, and what it has finished before is. A backslash
takes the meaning from a `;`, a space or a backslash after it. Words are ended by NUL, as C has it.
"""

import inspect
import re
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING, Final

from natlb.runtime.language import Language, Level, Message, Refused, Reply, Severity

if TYPE_CHECKING:
    from natlb.runtime.running import Running

LONGEST_LINE: Final = 16384
"""Bytes of a line: HAProxy's buffer."""

_PAYLOAD: Final = "<<"
_END_OF_COMMAND: Final = re.compile(rb"(?:[^\\;\n]|\\[^\n])*?(;|\\?\n)", re.DOTALL)
_WORD: Final = re.compile(r"(?:\\.?|[^ \t\\])+", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(\\?)")


class Console:
    """The state of one client."""

    def __init__(self, running: "Running", language: Language, level: Level, timeout: float) -> None:
        """Begin, non-interactive, with the socket's level; `timeout` is in seconds of the client's silence."""
        self.running = running
        self.language = language
        self.level = level
        self.timeout = timeout
        self.interactive = False
        self.finished = False
        """Whether the client has said `quit`."""
        self.severities = "none"
        """How messages are marked: `none`, `number` or `string`."""
        self.modes: set[str] = set()
        """Those of HAProxy's modes that it has turned on."""
        self.served = False
        """Whether it has been answered anything yet."""
        self._received = bytearray()
        self._in_payload = False

    @property
    def room(self) -> int:
        """How many more bytes may be fed now."""
        return LONGEST_LINE - len(self._received)

    @property
    def waiting(self) -> bool:
        """Whether the client has begun something that is not whole yet."""
        return self._in_payload or bool(self._received)

    def feed(self, data: bytes) -> None:
        """Take what the client has sent, at most `room` bytes."""
        self._received += data

    def next_line(self) -> str | None:
        """Return the next command that is whole, or None if there is none."""
        received = self._received
        end = received.find(b"\n") + 1 if self._in_payload else _end_of_command(received)
        if not end:
            return None
        line = bytes(received[: end - 1]).removesuffix(b"\r")
        del received[:end]
        return line.partition(b"\0")[0].decode("utf-8", "replace")

    async def obey(self, line: str) -> AsyncGenerator[str, None]:
        """Answer one command, with what follows the reply. The pieces are each made in little time."""
        if self._in_payload:
            if line:
                if self.interactive:
                    yield "+ "
                return
            self._in_payload = False
            yield self._told(
                Message("Payloads ('<<') are not accepted: no command of natlb's takes one.\n", Severity.ERR)
            )
        elif line.endswith(_PAYLOAD):
            self._in_payload = True
            if self.interactive:
                yield "+ "
            return
        else:
            async for piece in self._answer(split(line)):
                yield piece
        self.served = True
        if not self.finished:
            yield "\n> " if self.interactive else "\n"

    async def _answer(self, words: list[str]) -> AsyncGenerator[str, None]:
        try:
            command = self.language.find(words)
            if command is None:
                yield self._told(self.language.unknown(words))
                return
            if self.level < command.level:
                raise Refused("Permission denied")
            answer = command.answer(self, words[len(command.words) :])
            if isinstance(answer, Iterator):
                for piece in answer:
                    yield piece
            elif inspect.isawaitable(answer):
                yield self._told(await answer)
            else:
                yield self._told(answer)
        except Refused as refused:
            yield self._told(refused.message)
        finally:
            self.running.afterwards()

    def _told(self, reply: Reply) -> str:
        if isinstance(reply, str) or self.severities == "none":
            return str(reply)
        tag = int(reply.severity) if self.severities == "number" else reply.severity.name.lower()
        return f"[{tag}]: {reply}"


def split(line: str) -> list[str]:
    """Return the words of a line, without the backslashes that stood for something."""
    return [_ESCAPED.sub(r"\1", word) for word in _WORD.findall(line)]


def _end_of_command(received: bytearray) -> int:
    """Return how many bytes the first command has, with the `;` or LF that ends it; 0 if it has no end."""
    found = _END_OF_COMMAND.match(received)
    return found.end() if found else 0
