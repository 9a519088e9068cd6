"""Small servers on loopback that behave in one way each, well or badly, for checks to find out about."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_LINGER_ZERO = struct.pack("ii", 1, 0)
_LONG = 30.0


def saying(*parts: bytes | float, then: str = "close", first: str = "read") -> Behaviour:
    """Say `parts` (a number is a pause), after having `read` something or at once, and then close, reset or hang."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if first == "read":
            await reader.read(4096)
        for part in parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
            else:
                writer.write(part)
                await writer.drain()
        if then == "hang":
            await asyncio.sleep(_LONG)
        elif then == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            writer.transport.abort()

    return behave


@asynccontextmanager
async def serving(behaviours: dict[str, Behaviour]) -> AsyncIterator[dict[str, int]]:
    """Run a server for each behaviour; yields their ports, by name."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(behave: Behaviour, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await behave(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the check has ended before the server did, or the test has
        finally:
            tasks.discard(task)
            with contextlib.suppress(OSError):
                writer.close()

    async with contextlib.AsyncExitStack() as running:
        ports = {}
        for name, behave in behaviours.items():

            def accept(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, behave: Behaviour = behave
            ) -> Awaitable[None]:
                return serve(behave, reader, writer)

            server = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=1000)
            running.push_async_callback(server.wait_closed)
            running.callback(server.close)
            ports[name] = server.sockets[0].getsockname()[1]
        try:
            yield ports
        finally:
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*list(tasks), return_exceptions=True)


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Yield a port that refuses connections, and that nobody else gets meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """Yield a port that does not answer a SYN: its queue is full."""
    with contextlib.ExitStack() as held:
        listening = held.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            filling = held.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
