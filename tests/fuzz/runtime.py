"""Lines on the stats socket: any bytes, at every level, get an answer, and change what that level may change.

An input chooses a level and then is what a client sends. A whole balancer stands behind the socket, with its roster and
its checks, a few connections and a stick table. Only what they would do outside is left out: nothing is asked of the
network or of the kernel.

Either each command is taken by itself: it has an answer that can be sent, and below `admin` no server and no frontend
is another one afterwards. Or the bytes come by a socket, cut into pieces, to the server that reads from it. In the end
the tables that clients read have their shape whatever has been done, and packets are still handled.
"""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from natlb.assembly import Assembly, check_settings, written
from natlb.core.verdict import Verdict
from natlb.datapath.host import Address, Endpoint
from natlb.health.checks import Checks
from natlb.health.server import ServerHealth
from natlb.roster import Roster
from natlb.runtime.commands import LANGUAGE
from natlb.runtime.console import Console
from natlb.runtime.language import Level
from natlb.runtime.running import Running
from natlb.runtime.server import Access, RuntimeServer
from natlb.runtime.vitals import Vitals
from tests.fuzz.balancer import MACHINE, balancer, bounded, configuration
from tests.fuzz.choices import Choices
from tests.unit.core import invariants
from tests.unit.core import packets as p

SLOWEST = 3.0
"""Seconds of the processor for a command, instrumented."""

_NOW = 1000.0
_MOST_COMMANDS = 60
_WORDS = """
nodes/one nodes/two other/off web mail names counted stuck #2 #2/#1 ready drain maint up down stopping weight 50% state
addr port 44.3.3.3 fd44:3::3 44.3.3.4:80 check backup maxconn key data.gpc0 data.conn_cnt gt lt eq all typed json desc
0x1 1 65535 99999999999999999999 -1 on off string number none << ; \\ \\; prompt connections global sessions packets
"""
_VIPS = {4: "44.2.2.2", 6: "fd44:2::2"}


class _Unasked(Checks):
    """Checks that ask nobody."""

    async def _ask(self, health: ServerHealth) -> None:
        await asyncio.get_running_loop().create_future()


class _Undiverted:
    """A diversion that tells the kernel nothing."""

    def lead_to(self, servers: Iterable[Endpoint], sources: Iterable[Address]) -> None:
        assert all(0 < each.port < 65536 for each in servers)


class _Here(ThreadPoolExecutor):
    """Threads that do their work at once, and so always in the same order."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(function(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


class _Office:
    """A balancer that runs, as the commands see it."""

    def __init__(self) -> None:
        self.made: Assembly = balancer()
        self.engine = bounded(self.made, 60)
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_cleared = False
        """Whether counters may have been cleared."""
        self.checks = _Unasked(lambda *_: None)
        config = configuration()
        for pool in self.made.pools.values():
            pool.begin(_NOW)
        for backend in config.backends:
            for server in backend.servers:
                settings = None if server.check is None else check_settings(backend, server, server.check)
                self.checks.add(f"{backend.name}/{server.name}", settings)
        roster = Roster(config, self.made, MACHINE, _Undiverted(), self.checks, self._start)
        self.running = Running(
            self.engine,
            self.made.services,
            self.made.pools,
            lambda: _NOW,
            roster,
            self.checks,
            counters=lambda: {"packets": 7},
            tables=self.made.tables,
            proxies=self.made.proxies,
            written=written(config),
            vitals=Vitals,
            version="natlb 1",
            environ={"HOME": "/root", "ODD": "a\nb"},
            sockets=[("/run/natlb.sock", Level.ADMIN)],
            today=lambda: datetime(2026, 11, 26, 8, 59, 52),
        )
        for number, family in enumerate((4, 6, 4)):
            self.open(family, 40000 + number)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)

    async def close(self) -> None:
        await self.checks.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def open(self, family: int, port: int) -> Verdict:
        client = ({4: "44.1.1.1", 6: "fd44:1::1"}[family], port)
        return self.engine.handle_packet(p.segment(client, (_VIPS[family], 80), p.SYN), _NOW)

    def check(self) -> None:
        """Count everything again; what `clear counters` has forgotten cannot be."""
        if self.is_cleared:
            connections = list(self.engine.connections())
            invariants.check_queues(self.engine.table, connections)
            invariants.check_ledger(self.engine.table, connections)
        else:
            invariants.check(self.engine)

    def state(self) -> object:
        """Return all that an operator may set."""
        servers = [
            (pool.name, name, server.admin, server.weight, server.maxconn, server.address, server.port, server.healthy)
            for pool in self.made.pools.values()
            for name, server in pool.servers.items()
        ]
        services = [(each.name, each.intake, each.max_connections, each.session_limit) for each in self.made.services]
        of_all = self.engine.admission
        limits = of_all.max_connections, of_all.connection_limit, of_all.session_limit
        return servers, services, limits, self.engine.live


def words() -> list[str]:
    """Return words that mean something to the commands."""
    named = {word for command in LANGUAGE.commands for word in re.findall(r"[\w./-]+", " ".join(command.words))}
    used = {word for command in LANGUAGE.commands for word in re.findall(r"[\w-]+", command.usage)}
    refused = {word for command in LANGUAGE.refused for word in command}
    return sorted(named | used | refused | set(_WORDS.split()))


def check(data: bytes) -> None:
    """Send what an input says. Raises if anything about the answers is not right."""
    choices = Choices(data)
    how = choices.byte()
    asyncio.run(_story(how, choices.rest()))


async def _story(how: int, said: bytes) -> None:
    asyncio.get_running_loop().set_default_executor(_Here(1))
    async with _office() as office:
        office.is_cleared = b"clear" in said
        if how & 128:
            await _by_socket(office, list(Level)[how % 3], said, 1 + (how >> 2 & 31) ** 2)
        else:
            await _by_command(office, list(Level)[how % 3], said)
        await _afterwards(office)


@asynccontextmanager
async def _office() -> AsyncIterator[_Office]:
    office = _Office()
    try:
        yield office
    finally:
        await office.close()


async def _by_command(office: _Office, level: Level, said: bytes) -> None:
    console = Console(office.running, LANGUAGE, level, 10.0)
    for _ in range(_MOST_COMMANDS):
        while (line := console.next_line()) is None and said and console.room:
            said, fed = said[console.room :], said[: console.room]
            console.feed(fed)
        if line is None or console.finished:
            break
        level, before = console.level, office.state()
        began = time.process_time()
        answer = "".join([piece async for piece in console.obey(line)])
        took = time.process_time() - began
        assert took < SLOWEST, f"{line!r} took {took:.1f} s"
        answer.encode("utf-8", "replace")
        is_over = console.finished or console._in_payload
        assert is_over or answer.endswith("\n> " if console.interactive else "\n"), f"{line!r} was not answered"
        assert console.level <= level, "the level has risen"
        if level < Level.ADMIN:
            assert office.state() == before, f"{line!r} changed something at level {level.name}"
        office.check()


async def _by_socket(office: _Office, level: Level, said: bytes, size: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for each in (ours, theirs):
            each.setblocking(False)
        server = RuntimeServer([], office.running, LANGUAGE, timeout=10.0, most_clients=2)
        serving = asyncio.ensure_future(server._serve(Access(path="/run/natlb.sock", level=level), theirs))
        reading = asyncio.ensure_future(_all_of(ours))
        loop = asyncio.get_running_loop()
        try:
            for at in range(0, min(len(said), 40 * size), size):
                await loop.sock_sendall(ours, said[at : at + size])
                await asyncio.sleep(0)
            ours.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has said `quit`
        await serving
        await reading
        server.close()


async def _all_of(client: socket.socket) -> bytes:
    loop, got = asyncio.get_running_loop(), b""
    try:
        while more := await loop.sock_recv(client, 65536):
            got += more
    except OSError:
        pass
    return got


async def _afterwards(office: _Office) -> None:
    """Whatever has been done: what clients read has its shape, and packets are handled."""
    console = Console(office.running, LANGUAGE, Level.ADMIN, 10.0)
    for command in ("show stat", "show servers state", "show info", "show sess", "show table counted"):
        answer = "".join([piece async for piece in console.obey(command)])
        lines = answer.strip("\n").split("\n")
        if command == "show stat":
            assert {line.count(",") for line in lines} == {lines[0].count(",")}, lines
        if command == "show servers state":
            assert {len(line.split(" ")) for line in lines[2:]} <= {len(lines[1].split(" ")) - 1}, lines
    for family in (4, 6):
        assert office.open(family, 50000) is not None
    office.check()
