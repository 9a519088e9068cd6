"""What the tests of the stats socket share: a console to type at, and a server to connect to."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from natlb.core.pool import AdminState, Pool, Server
from natlb.errors import NatlbError
from natlb.health.server import ServerHealth
from natlb.runtime.commands import LANGUAGE
from natlb.runtime.console import Console
from natlb.runtime.language import Level
from natlb.runtime.running import Running
from natlb.runtime.server import Access, RuntimeServer


def answer(running: Running, line: str, level: Level = Level.ADMIN) -> str:
    """Return the reply to one command, without what the framing adds."""
    return typed(Console(running, LANGUAGE, level, 10.0), line).removesuffix("\n")


def typed(console: Console, line: str) -> str:
    """Return all that a console answers to one command."""

    async def read() -> str:
        return "".join([piece async for piece in console.obey(line)])

    return asyncio.run(read())


class Recruits:
    """A roster that changes pools and nothing else."""

    async def add(self, pool: Pool, name: str, words: Sequence[str]) -> None:
        if len(words) > 1:
            raise NatlbError(f"unknown keyword '{words[1]}'")
        host, _, port = words[0].rpartition(":")
        number = max((server.id for server in pool.servers.values()), default=0) + 1
        pool.add(Server(name, ip_address(host).packed, int(port), id=number, admin=AdminState.MAINT))

    async def remove(self, pool: Pool, server: Server) -> None:
        pool.remove(server)

    async def move(self, pool: Pool, server: Server, address: bytes, port: int | None, offset: int) -> None:
        server.port_offset = offset
        pool.move(server, address, port)

    def __init__(self, *checked: str) -> None:
        self.checked = checked
        self.aimed: list[tuple[str, bytes | None, int | None]] = []

    def aim(self, pool: Pool, server: Server, *, address: bytes | None = None, port: int | None = None) -> None:
        if f"{pool.name}/{server.name}" not in self.checked:
            raise ValueError("health checks are not enabled on this server")
        self.aimed.append((server.name, address, port))


class Doctor:
    """Checks that never check: all servers are up, and those that are named might be checked."""

    def __init__(self, *checked: str) -> None:
        self.checked = checked
        self.told: list[tuple[str, str]] = []
        self._known: dict[str, ServerHealth] = {}

    def __getitem__(self, name: str) -> ServerHealth:
        return self._known.setdefault(name, ServerHealth(name, None, 100.0))

    def __iter__(self) -> Iterator[ServerHealth]:
        return iter(self._known.values())

    def force(self, name: str, state: str) -> None:
        if name.endswith("tracking"):
            raise ValueError("cannot change health on a tracking server.")
        self.told.append((name, state))

    def pause(self, name: str) -> None:
        self.told.append((name, "pause"))

    def resume(self, name: str) -> None:
        self.told.append((name, "resume"))

    def drain(self, name: str, drained: bool) -> None:
        if drained:
            self.told.append((name, "drain"))

    def enable(self, name: str) -> None:
        self._check(name, "enable")

    def disable(self, name: str) -> None:
        self._check(name, "disable")

    def _check(self, name: str, verb: str) -> None:
        if name not in self.checked:
            raise ValueError(f"Health check was not configured on this server, cannot {verb}.")
        self.told.append((name, verb))


@contextmanager
def socket_directory() -> Iterator[Path]:
    """A directory for sockets. Not tmp_path: the name of a Unix socket may have 107 bytes, and tmp_path is long."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(
    running: Running, *sockets: Access, timeout: float = 5.0, most_clients: int = 10
) -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """Serve inside the block; yields what opens a client, at the first socket or at another."""
    server = RuntimeServer(sockets, running, LANGUAGE, timeout=timeout, most_clients=most_clients)
    clients: list[Client] = []

    async def client(access: Access = sockets[0]) -> Client:
        if access.address is not None:
            clients.append(await asyncio.open_connection(*access.address))
        else:
            clients.append(await asyncio.open_unix_connection(access.path))
        return clients[-1]

    server.start()
    try:
        yield client
    finally:
        server.close()
        for _, writer in clients:
            writer.transport.abort()
        # The other end of each hears of it in its own turn.
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)


async def said(client: Client, *pieces: bytes, then_close: bool = False) -> str:
    """Send the pieces one after the other; return all that comes back."""
    reader, writer = client
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.01)
    if then_close:
        writer.write_eof()
    return (await asyncio.wait_for(reader.read(), 60)).decode()


def run(story: Coroutine[Any, Any, str]) -> str:
    """Run a story to its end."""
    return asyncio.run(story)
