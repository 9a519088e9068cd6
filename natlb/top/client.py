"""One command to a stats socket, one reply, within bounds.

A reply can be as long as the table is large, and whoever writes it has packets to carry. So no more is read than asked
for: the connection is closed then, and what has not been written yet never is.
"""

import asyncio
import os
from dataclasses import dataclass
from typing import Final

_PIECE: Final = 65536

_HARMLESS: Final = dict.fromkeys((*range(10), *range(11, 32), *range(127, 160)), "?")


class Unreachable(Exception):  # noqa: N818 - it is a state of affairs, shown to the user
    """Nobody answers at the socket; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered."""

    text: str
    whole: bool
    """Whether that is all: else its last line was cut off."""


async def ask(path: str, command: str, *, most: int, seconds: float) -> Reply:
    """Send one command and read the reply, `most` bytes of it at most, for so many `seconds` at most.

    Raises Unreachable when there is nobody to ask, or no byte comes in time.
    """
    received = bytearray()
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(f"{command}\n".encode())
                while len(received) < most and (piece := await reader.read(_PIECE)):
                    received += piece
            finally:
                writer.transport.abort()
    except TimeoutError:
        if not received:
            raise Unreachable(f"{path} does not answer within {seconds:g} s") from None
        return _up_to_a_line(received)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise Unreachable(f"cannot ask {path}: {reason}") from error
    return _up_to_a_line(received) if len(received) >= most else Reply(_text(received), whole=True)


def _up_to_a_line(received: bytearray) -> Reply:
    return Reply(_text(received[: received.rfind(b"\n") + 1]), whole=False)


def _text(received: bytearray) -> str:
    """Whatever a reply has in it, it is no order to the terminal."""
    return received.decode("utf-8", "replace").translate(_HARMLESS)
