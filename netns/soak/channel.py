"""How the programs of a soak speak to its conductor: JSON, a line a message, over a Unix socket.

A socket in the file system knows no network namespaces, so nothing of this passes any link of the lab. A message is
handed to the kernel at once, if the conductor reads as it should: what a program has told is known even if the next
thing that happens to that program is a kill -9.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

Message = dict[str, Any]

_LONGEST = 1 << 20
"""Bytes of a message, at most."""


class Channel:
    """One end: a program's, or the conductor's to one program."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, path: Path, name: str) -> Self:
        """Connect to the conductor at a path, by a name of one's own. OSError: nobody is there."""
        channel = cls(*await asyncio.open_unix_connection(path, limit=_LONGEST))
        channel.tell("hello", name=name)
        return channel

    def tell(self, what: str, **more: object) -> None:
        """Say something; to one that has gone it is said in vain."""
        self._writer.write(json.dumps({"what": what, **more}).encode() + b"\n")

    async def hear(self, hear: Callable[[Message], None]) -> None:
        """Hand over what the other one says, until it is gone."""
        with contextlib.suppress(ConnectionError):
            while line := await self._reader.readline():
                if line.endswith(b"\n"):  # one that was killed may have said half a message
                    hear(json.loads(line))

    async def close(self) -> None:
        """Say no more, once everything is said."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def listen(path: Path, meet: Callable[[Channel], Any]) -> asyncio.Server:
    """Wait for programs at a path; `meet` has each for itself."""

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = Channel(reader, writer)
        try:
            await meet(channel)
        finally:
            await channel.close()

    return await asyncio.start_unix_server(met, path, limit=_LONGEST)
