"""Many long connections at once, of which every byte is compared, while a lab test does something to natlb."""

import asyncio
import random
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from netns.build import Lab
from netns.topology import SEED
from tests.lab.support import until

_BLOCK = 700
"""Bytes that go there and come back at a time."""
_BUSY = 20
"""Every so manieth connection sends the next block at once, and larger ones."""
_PAUSE = 1.0
_AT_ONCE = 50
"""Connections that are being opened at a time."""
_PATIENCE = 60.0
"""Seconds for whatever comes soon: what was lost while nobody was there is sent again after seconds, in the end."""


class Streams:
    """Connections through which blocks of random bytes go to an echo and come back."""

    def __init__(self, lab: Lab, vip: str, port: int, number: int) -> None:
        self._lab, self._vip, self._port, self._number = lab, vip, port, number
        self._over = asyncio.Event()
        self._places = asyncio.Semaphore(_AT_ONCE)
        self.opened = 0
        self.exchanged = [0] * number
        """Blocks that have come back, by connection."""
        self.longest = 0.0
        """Seconds that a block was on its way there and back, at most."""
        self.failures: list[str] = []
        self.ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop

    async def run(self, listening: socket.socket) -> None:
        """Go on until told to end; then end each connection in order, those that can be ended."""
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(_echo, sock=listening, backlog=1024)
        talks = [asyncio.create_task(self._talk(number)) for number in range(self._number)]
        self.ready.set()
        await self._over.wait()
        _, stuck = await asyncio.wait(talks, timeout=_PATIENCE)
        self.failures += [f"{len(stuck)} connections do not end"] if stuck else []
        server.close()

    def end(self) -> None:
        """Tell all of them to end."""
        self._loop.call_soon_threadsafe(self._over.set)

    async def _talk(self, number: int) -> None:
        busy = number % _BUSY == 0
        bytes_of = random.Random(number)
        try:
            async with self._places:
                client = self._lab.open_socket("client", socket.AF_INET, socket.SOCK_STREAM)
                client.setblocking(False)
                await asyncio.get_running_loop().sock_connect(client, (self._vip, self._port))
                reader, writer = await asyncio.open_connection(sock=client)
            self.opened += 1
            while not self._over.is_set():
                await self._exchange(number, bytes_of.randbytes(_BLOCK * (12 if busy else 1)), reader, writer)
                if not busy:
                    await asyncio.sleep(_PAUSE)
            writer.write_eof()
            rest = await reader.read()
            assert rest == b"", f"{len(rest)} bytes too many"
            writer.close()
            await writer.wait_closed()
        except (OSError, AssertionError, asyncio.IncompleteReadError) as error:
            self.failures.append(f"connection {number}, block {self.exchanged[number]}: {error!r}")

    async def _exchange(
        self, number: int, block: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        clock = asyncio.get_running_loop().time
        begun = clock()
        writer.write(block)
        got = await reader.readexactly(len(block))
        assert got == block, "other bytes came back"
        self.longest = max(self.longest, clock() - begun)
        self.exchanged[number] += 1


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
    except OSError:
        writer.transport.abort()  # the client's side tells of it


@contextmanager
def streams(lab: Lab, number: int, *, port: int, server_port: int, vip: str = SEED.balancer.ipv4) -> Iterator[Streams]:
    """Have so many connections go on inside the block; none may fail, nor lose a byte, nor stand still for good."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * number + 200)), hard))
    listening = lab.open_socket("server1", socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("", server_port))
    made = Streams(lab, vip, port, number)
    thread = threading.Thread(target=asyncio.run, args=[made.run(listening)])
    thread.start()
    assert made.ready.wait(_PATIENCE)
    try:
        until(lambda: made.opened == number or bool(made.failures), "all connections are open", _PATIENCE)
        yield made
        before = list(made.exchanged)
        until(
            lambda: bool(made.failures) or all(now > then for now, then in zip(made.exchanged, before, strict=True)),
            "a block comes back on every connection",
            _PATIENCE,
        )
    finally:
        made.end()
        thread.join()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert made.failures == []
