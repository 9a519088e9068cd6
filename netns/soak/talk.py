"""One end of a connection: what it sends, what it checks, and in which words it tells how that ended."""

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import AsyncIterator, Iterator

from netns.soak.keyed import Stream, WrongByte
from netns.soak.wire import Frame

STALLED = 30.0
"""Seconds without a byte, where one is due, after which a connection has stalled. TCP gets over all that is done to it
in less: after four seconds without a link it tries again within four more (RFC 6298, section 5.5)."""

SHUT_WITHIN = 120.0
"""Seconds in which natlb is told to shut a connection down that waits for it: whoever tells it may have to wait too."""

_PIECE = 1 << 15


class Ended(Exception):  # noqa: N818 - it may well be as planned
    """A connection is over; `how` is one word for it."""

    def __init__(self, how: str, why: str = "") -> None:
        super().__init__(f"{how}: {why}" if why else how)
        self.how, self.why = how, why


class Talk:
    """One end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.sent = 0
        """Bytes, without frames."""
        self.verified = 0
        """Bytes that have come and are right."""
        self._is_closed = False

    async def frame(self, connection: int | None, turn: int, patience: float) -> Frame:
        """Read the next frame, which must be of this turn; whoever sends it may be silent for so long."""
        async with _within(patience):
            octets = await self._reader.readexactly(Frame.SIZE)
        return Frame.unpack(octets, connection, turn)

    async def send(self, stream: Stream, size: int) -> None:
        """Send the next bytes of a stream."""
        until = self.sent + size
        while self.sent < until:
            piece = stream.at(self.sent, min(_PIECE, until - self.sent))
            self.writer.write(piece)
            async with _within(STALLED):
                await self.writer.drain()
            self.sent += len(piece)

    async def receive(self, stream: Stream, size: int) -> None:
        """Read and check the next bytes of a stream."""
        until = self.verified + size
        while self.verified < until:
            async with _within(STALLED):
                piece = await self._reader.read(min(_PIECE, until - self.verified))
            if not piece:
                raise Ended("closed early", f"{until - self.verified} bytes were still to come")
            stream.check(self.verified, piece)
            self.verified += len(piece)

    async def exchange(self, stream: Stream, size: int, theirs: Stream, their_size: int) -> None:
        """Send and receive at the same time."""
        sending = asyncio.create_task(self.send(stream, size))
        try:
            await self.receive(theirs, their_size)
            await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def end(self, patience: float = STALLED) -> None:
        """Wait, for so long, until the other end has closed, which must be what comes next."""
        async with _within(patience):
            more = await self._reader.read(64)
        if more:
            raise WrongByte(f"{len(more)} bytes too many have come: {more.hex()}")

    async def reset(self) -> None:
        """End it with a RST."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await self.gone()

    async def close(self) -> None:
        """Close it once all is sent."""
        self.writer.close()
        async with _within(STALLED):
            await self.writer.wait_closed()
        self._is_closed = True

    async def gone(self) -> None:
        """Let go of the connection, whatever state it is in."""
        if self._is_closed:
            return
        self._is_closed = True
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def _within(patience: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(patience):
            yield
    except TimeoutError as error:
        if error.errno is not None:  # the kernel's: it has tried for long to reach the other end
            raise
        raise Ended("stalled", f"no byte for {patience:g} s") from None


_HOW = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timed out",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
}


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn whatever can end a connection into `Ended`."""
    try:
        yield
    except WrongByte as wrong:
        raise Ended("wrong", str(wrong)) from None
    except asyncio.IncompleteReadError as short:
        if short.partial:
            raise Ended("closed early", f"after {len(short.partial)} bytes of a frame") from None
        raise Ended("closed early", "where a frame was to come") from None
    except OSError as error:
        # asyncio has a ConnectionResetError of its own, without a number.
        number = errno.ECONNRESET if isinstance(error, ConnectionResetError) else error.errno or 0
        raise Ended(_HOW.get(number, "failed"), str(error)) from None
