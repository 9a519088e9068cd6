"""Servers that come, move and go while natlb runs.

The order is the safety here as it is at the start. Before a server gets its first connection, the kernel hands over its
answers; as long as the table remembers a connection to where a server was, it goes on to do so. So no answer ever
passes by natlb on its way to a client, who would not know it. What a server's place in the network demands - full NAT
for its neighbours, ports that are free towards it - is found out as for those of the configuration.

What the kernel is told takes tens of milliseconds, and what it is asked may take as long: that is done in a thread,
while packets go on. One change is made at a time.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Final, Protocol

from natlb.assembly import Assembly, Machine, check_settings, make_server, origins, sources_of
from natlb.config.addresses import server_address
from natlb.config.model import Backend, Config
from natlb.config.model import Server as ServerConfig
from natlb.config.newcomer import read_server
from natlb.core.flow import ends
from natlb.core.pool import Pool, Server
from natlb.datapath.host import Address, Endpoint
from natlb.datapath.reservation import check_sources
from natlb.errors import ConfigError, DatapathError
from natlb.health.server import CheckSettings

_LOOKED_AT_ONCE: Final = 256
"""Entries of the table that are looked at before packets have their turn."""

_UNCHECKED: Final = "health checks are not enabled on this server"
_POINTED_AT: Final = "This server cannot be removed at runtime due to other configuration elements pointing to it."

_RETIRED_FOR: Final = 30.0
"""Seconds from one look at the table to the next, while something that has gone is still diverted."""


class Diverting(Protocol):
    """What a roster asks of the diversion."""

    def lead_to(self, servers: Iterable[Endpoint], sources: Iterable[Address]) -> None:
        """Divert packets of these servers from now on, and of no others. Raises DatapathError."""


class Inheriting(Protocol):
    """The health of a server, which it may have from the one that it tracks."""

    @property
    def healthy(self) -> bool:
        """Whether new connections may go there."""

    @property
    def drained_through(self) -> object | None:
        """The tracked server, when it is drained and takes this one along."""


class Checking(Protocol):
    """What a roster asks of the health checks, where servers go by `backend/server`."""

    def add(
        self, name: str, settings: CheckSettings | None, *, track: str | None = None, maintenance: bool = False
    ) -> Inheriting:
        """Take on a server. Raises ValueError if there is none to `track`."""

    def remove(self, name: str) -> None:
        """Forget a server. Raises ValueError while others track it."""

    def disable(self, name: str) -> None:
        """Leave a server unchecked."""

    def aim(self, name: str, address: str, port: int) -> None:
        """Check a server there from now on."""


class Roster:
    """All servers of all backends, and where their answers come from."""

    def __init__(
        self,
        config: Config,
        made: Assembly,
        machine: Machine,
        diversion: Diverting,
        checks: Checking,
        start: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        """Keep the servers of an assembly whose packets are diverted; `start` runs what goes on in the background."""
        self._made = made
        self._machine = machine
        self._diversion = diversion
        self._checks = checks
        self._start = start
        self._backends = {backend.name: backend for backend in config.backends}
        self._written: dict[Server, ServerConfig] = {}
        self._origins: dict[Server, list[Endpoint]] = {}
        for backend in config.backends:
            for written in backend.servers:
                self._enter(backend, written, made.pools[backend.name].servers[written.name])
        self._retired: dict[Endpoint, set[Address]] = {}
        """Where servers have been that connections may still go to, and what full NAT spoke to them from."""
        self._one_at_a_time = asyncio.Lock()
        self._watching = False

    async def add(self, pool: Pool, name: str, words: Sequence[str]) -> None:
        """Take a server on, in maintenance; `words` are what follows its name on a `server` line.

        Raises NatlbError, having changed nothing.
        """
        async with self._one_at_a_time:
            backend = self._backends[pool.name]
            taken = {server.name: server.id for server in pool.servers.values()}
            written, server = await asyncio.to_thread(self._read, backend, taken, [name, *words])
            await self._divert({*self._origins, server}, origins(server, self._entrances(backend)))
            settings = None if written.check is None else check_settings(backend, written, written.check)
            health = self._check(written, f"{pool.name}/{name}", settings)
            server.healthy, server.drained_along = health.healthy, health.drained_through is not None
            self._enter(backend, written, server)
            pool.add(server)

    async def remove(self, pool: Pool, server: Server) -> None:
        """Let a server go that has no connections left. Raises ConfigError if a rule or another server needs it."""
        async with self._one_at_a_time:
            if server in self._made.named:
                raise ConfigError(_POINTED_AT)
            try:
                self._checks.remove(f"{pool.name}/{server.name}")
            except ValueError:
                raise ConfigError(_POINTED_AT) from None
            pool.remove(server)
            del self._written[server]
            self._retire(self._origins.pop(server), sources_of([server]))

    async def move(self, pool: Pool, server: Server, address: bytes, port: int | None, offset: int) -> None:
        """Lead the next connections of a server elsewhere. Raises NatlbError, having changed nothing."""
        async with self._one_at_a_time:
            backend = self._backends[pool.name]
            place = server_address(ip_address(address), str(ip_address(address)))
            written = replace(self._written[server], address=place, port=port, port_offset=offset)
            elsewhere = await asyncio.to_thread(self._make, backend, written)
            await self._divert({*self._origins, elsewhere}, origins(elsewhere, self._entrances(backend)))
            before = self._origins[server], sources_of([server])
            server.sources, server.neighbourhoods = elsewhere.sources, elsewhere.neighbourhoods
            server.port_offset = offset
            pool.move(server, address, port)
            self._enter(backend, written, server)
            self._retire(*before)
            self._point(pool, written)

    def aim(self, pool: Pool, server: Server, *, address: bytes | None = None, port: int | None = None) -> None:
        """Check a server at another address or port: with None as before, with port 0 at the server's own.

        Raises ValueError, with HAProxy's words, for one that has no checks.
        """
        written = self._written[server]
        check = written.check
        if check is None:
            raise ValueError(_UNCHECKED)
        if address is not None:
            check = replace(check, address=ip_address(address))
        if port is not None:
            check = replace(check, port=port or None)
        self._written[server] = written = replace(written, check=check)
        self._point(pool, written)

    def undisturbed(self) -> asyncio.Lock:
        """Return what is to be held by whoever wants no server to come or go meanwhile."""
        return self._one_at_a_time

    def retire(self, origins_: Iterable[Endpoint], sources: Iterable[Address]) -> None:
        """Divert what comes from places that are diverted already, for as long as connections go there."""
        self._retire(origins_, sources)

    def _check(self, written: ServerConfig, name: str, settings: CheckSettings | None) -> Inheriting:
        """Have a new server checked, once that is asked for (`enable health`), as HAProxy does."""
        try:
            health = self._checks.add(name, settings, track=written.track, maintenance=written.disabled)
        except ValueError:
            raise ConfigError(f"unable to find the server '{written.track}' to track.") from None
        if settings is not None:
            self._checks.disable(name)
        return health

    def _point(self, pool: Pool, written: ServerConfig) -> None:
        """Have a server checked where it is, or where it was said to be checked."""
        check = written.check
        if check is not None:
            port = check.port or written.port or 0
            self._checks.aim(f"{pool.name}/{written.name}", str(check.address or written.address), port)

    def _read(self, backend: Backend, taken: dict[str, int], words: list[str]) -> tuple[ServerConfig, Server]:
        written = read_server(backend, taken, words)
        return written, self._make(backend, written)

    def _make(self, backend: Backend, written: ServerConfig) -> Server:
        made = make_server(backend, written, self._machine)
        told = f"server {backend.name}/{made.name}"
        check_sources((ip_address(source.address), told) for source in made.sources or ())
        return made

    def _enter(self, backend: Backend, written: ServerConfig, server: Server) -> None:
        self._written[server] = written
        self._origins[server] = origins(server, self._entrances(backend))

    def _entrances(self, backend: Backend) -> list[Endpoint]:
        return self._made.entrances.get(backend.name, [])

    async def _divert(self, servers: set[Server], more: Iterable[Endpoint] = ()) -> None:
        """Have the kernel hand over the packets of all servers, of where some have been, and more."""
        every = {origin for own in self._origins.values() for origin in own} | set(self._retired) | set(more)
        sources = set(sources_of(servers)).union(*self._retired.values())
        await asyncio.to_thread(self._diversion.lead_to, every, sources)

    def _retire(self, origins_: Iterable[Endpoint], sources: Iterable[Address]) -> None:
        """Note that no new connections go to these places, unless other servers are there."""
        for origin in origins_:
            self._retired[origin] = self._retired.get(origin, set()).union(sources)
        if not self._watching:
            self._watching = True
            self._start(self._watch())

    async def _watch(self) -> None:
        """Stop diverting what servers have left as soon as the table has no connection to it."""
        while self._retired:
            await asyncio.sleep(_RETIRED_FOR)
            before = dict(self._retired)
            in_use = await self._in_use()
            async with self._one_at_a_time:
                # What was left once more meanwhile was perhaps not seen in use: it waits for the next look.
                left = [each for each in before if each not in in_use and self._retired[each] is before[each]]
                for origin in left:
                    del self._retired[origin]
                if left:
                    # What cannot be taken away now may be next time: it does no harm.
                    with contextlib.suppress(DatapathError):
                        await self._divert(set(self._origins))
        self._watching = False

    async def _in_use(self) -> set[Endpoint]:
        """Return where the answers to the connections of the table come from, of the places that are retired."""
        retired = {(each.address.packed, each.port.to_bytes(2, "big")): each for each in self._retired}
        found = set()
        for piece in self._made.engine.pieces(_LOOKED_AT_ONCE):
            for connection in piece:
                origin = retired.get(ends(connection.reply)[0])
                if origin is not None:
                    found.add(origin)
            await asyncio.sleep(0)
        return found
