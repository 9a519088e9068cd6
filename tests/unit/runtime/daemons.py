"""A whole natlb on loopback, and a HAProxy, with the same configuration and the same conversation.

natlb is the daemon as it runs, with its checks, its roster and its stats sockets; what it would ask the kernel for - a
queue of packets, ports, diverted addresses - is a stand-in that agrees to everything.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from natlb.assembly import Machine, assemble
from natlb.config.parser import parse
from natlb.daemon import Daemon
from natlb.estate import Inherited
from natlb.offloading import Offloader
from natlb.succession import OFF, Succession
from natlb.yielding import Tenure
from tests.haproxy import running
from tests.ports import free_port

from .consoles import socket_directory

LEVELS = ("admin", "operator", "user")

Ask = Callable[[str, bytes], bytes]
"""Connects to the socket of a level, sends, and returns all that comes back."""
Conversation = Callable[[Ask], list[bytes]]


class Kernel:
    """Queue, backlog, injector, reservation, diversion and guard: no packets come, and whatever is asked is granted."""

    delivered = refused = unreadable = failures = waiting = queue_full = socket_full = repaired = 0
    last_failure = None
    had_more = False

    def __init__(self, ports: list[str]) -> None:
        self._ports = ports
        self._here, self._there = socket.socketpair()

    def filenos(self) -> tuple[int, ...]:
        return (self._here.fileno(),)

    def process_batch(self) -> None:
        raise AssertionError("no packets come")

    def look(self) -> None:
        pass

    async def watch(self) -> None:
        await asyncio.Event().wait()

    def lead_to(self, servers: object, sources: object) -> None:
        pass

    def release(self, frontend: str) -> None:
        self._ports = [name for name in self._ports if name != frontend]

    def __len__(self) -> int:
        return len(self._ports)

    def close(self) -> None:
        self._here.close()
        self._there.close()


def _with_sockets(config: str, directory: Path) -> str:
    lines = [f"    stats socket {directory}/{level} mode 600 level {level}" for level in LEVELS]
    return config.format(sockets="\n".join(lines), port=free_port(), another=free_port())


def _asking(directory: Path) -> Ask:
    def ask(level: str, data: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(f"{directory}/{level}")
            client.sendall(data)
            received = b""
            while piece := client.recv(65536):
                received += piece
            return received

    return ask


@contextmanager
def haproxy(config: str, log: Path | None = None) -> Iterator[Ask]:
    """Run a HAProxy inside the block; what it says goes to `log`."""
    with (
        socket_directory() as directory,
        running(_with_sockets(config, directory), directory / "admin", log=log),
    ):
        yield _asking(directory)


def natlb(config: str, conversation: Conversation) -> list[bytes]:
    """Hold a conversation with a natlb, which runs meanwhile."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with socket_directory() as directory:
        parsed = parse([("t.cfg", _with_sockets(config, directory).encode())], {})
        assert parsed.config is not None, parsed.diagnostics
        machine = Machine()
        made = assemble(parsed.config, machine)
        kernel = Kernel([name for name, _ in made.addresses])
        ready = asyncio.Event()
        each = cast("Any", kernel)
        daemon = Daemon(
            parsed.config,
            made,
            machine,
            each,
            each,
            each,
            each,
            each,
            Offloader(made, 0),
            Succession(made, 0, OFF),
            None,
            Tenure(),
            None,
            each,
            lambda: None,
            ready.set,
        )

        async def run() -> list[bytes]:
            serving = asyncio.create_task(daemon.serve(None, None, Inherited({})))
            waiting = asyncio.create_task(ready.wait())
            await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                waiting.cancel()
                await serving
            try:
                return await asyncio.to_thread(conversation, _asking(directory))
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                await serving

        try:
            return asyncio.run(run())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            kernel.close()
