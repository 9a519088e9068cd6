"""The running balancer as the commands of the stats socket see it: what there is, and what is said of what is not.

What lies outside the core - the configuration's reader, the rules in the kernel, health checks - is handed in by the
daemon, and known here by a `Protocol` alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from natlb.core.engine import NatEngine
from natlb.core.pool import AdminState, Pool, Server
from natlb.core.service import Service
from natlb.core.stick import StickTable
from natlb.runtime.language import Level, Refused
from natlb.runtime.vitals import Vitals

Value = str | int
Proxy = tuple[Service | None, Pool | None]
"""A section of the configuration: a frontend, a backend, or both."""


class Roster(Protocol):
    """Whoever takes servers on and lets them go while natlb runs. All raise NatlbError, having changed nothing."""

    async def add(self, pool: Pool, name: str, words: Sequence[str]) -> None:
        """Take a server on, in maintenance; `words` are what follows its name on a `server` line."""

    async def remove(self, pool: Pool, server: Server) -> None:
        """Let a server go that has no connections left, and that no rule and no other server needs."""

    async def move(self, pool: Pool, server: Server, address: bytes, port: int | None, offset: int) -> None:
        """Lead the next connections of a server elsewhere: with `port` None to the client's port, and `offset` more."""

    def aim(self, pool: Pool, server: Server, *, address: bytes | None = None, port: int | None = None) -> None:
        """Check a server at another address or port: with None as before, with port 0 at the server's own.

        Raises ValueError, with HAProxy's words, for one that has no checks.
        """


class Health(Protocol):
    """What health checks know of a server."""

    def columns(self, now: float, /) -> Mapping[str, Value]:
        """Return the columns of `show stat` that they fill."""

    def status(self, *, draining: bool = False) -> str:
        """Return the column `status` of a server that is drained, or not."""

    def state(self) -> Mapping[str, int]:
        """Return the columns of `show servers state` that they fill; of `srv_admin_state`, what is inherited."""

    def clear(self) -> None:
        """Count failed checks anew."""


class Checks(Protocol):
    """Whoever checks the health of servers, which go by `backend/server`."""

    def __getitem__(self, name: str, /) -> Health:
        """Return the health of one."""

    def __iter__(self) -> Iterator[Health]:
        """Go over the health of all."""

    def force(self, name: str, state: Literal["up", "stopping", "down"], /) -> None:
        """Act as if checks had found that. Raises ValueError, with HAProxy's words, where that cannot be."""

    def pause(self, name: str, /) -> None:
        """A server is in maintenance: check it no more."""

    def resume(self, name: str, /) -> None:
        """A server is in maintenance no more."""

    def drain(self, name: str, drained: bool, /) -> None:
        """A server is to get no new connections, or is to again."""

    def enable(self, name: str, /) -> None:
        """Check a server again. Raises ValueError, with HAProxy's words, for one that has no checks."""

    def disable(self, name: str, /) -> None:
        """Leave a server unchecked. Raises ValueError as `enable` does."""


class Profiler(Protocol):
    """Whoever looks where a packet's time goes."""

    @property
    def is_on(self) -> bool:
        """Whether it looks now."""

    async def start(self) -> None:
        """Begin anew; if it is on already, do nothing. Raises NatlbError when that cannot be done."""

    def stop(self) -> None:
        """Look no more."""

    def report(self) -> Iterator[str]:
        """Return what was seen until now, or until it was stopped, in whole lines."""


class Offloader(Protocol):
    """Whoever has the kernel carry packets of established connections."""

    @property
    def is_on(self) -> bool: ...  # noqa: D102
    @property
    def lacking(self) -> str: ...  # noqa: D102 - why it is not on
    @property
    def interfaces(self) -> int: ...  # noqa: D102 - on which it is
    @property
    def offloaded(self) -> int: ...  # noqa: D102 - connections
    @property
    def capacity(self) -> int: ...  # noqa: D102 - the most of those
    @property
    def refused(self) -> int: ...  # noqa: D102 - for want of room
    @property
    def translated(self) -> int: ...  # noqa: D102 - connections that the kernel's own NAT has a hand in
    @property
    def packets(self) -> int: ...  # noqa: D102
    @property
    def audited(self) -> int: ...  # noqa: D102 - packets that were done again
    @property
    def differences(self) -> int: ...  # noqa: D102 - of which something else came out

    async def switch(self, *, on: bool) -> None:
        """Have the kernel carry packets from now on, or no longer. Raises NatlbError, with the remedy, if it cannot."""


@dataclass(frozen=True, slots=True)
class Written:
    """What the configuration says of a server, and only `show servers state` has to know."""

    disabled: bool = False
    """Whether it starts in maintenance."""
    id: bool = False
    """Whether its number was given."""
    backend_id: bool = False
    """Whether its backend's was."""
    check_port: int = 0
    """Where it is checked, if that is elsewhere; 0 is its own port."""
    check_address: str = "-"


@dataclass(slots=True)
class Running:
    """What the commands work on."""

    engine: NatEngine
    services: Sequence[Service]
    pools: Mapping[str, Pool]
    """By backend, in the order of the configuration."""
    clock: Callable[[], float]
    """The engine's: seconds."""
    roster: Roster
    checks: Checks
    counters: Callable[[], Mapping[str, int]] = dict
    """The datapath's own, by name."""
    profiler: Profiler | None = None
    """None where there are no packets to look at."""
    afterwards: Callable[[], None] = lambda: None
    """Called when a command may have changed something."""
    on_shutdown: Callable[[Service], None] = lambda _: None
    """Called when a frontend has been shut down for good."""
    on_admin: Callable[[Pool, Server, AdminState], None] = lambda *_: None
    """Called when a server is to be ready, drained or in maintenance, with what it was to be before."""
    on_weight: Callable[[Pool], None] = lambda _: None
    """Called when a server of a backend has another weight."""
    tables: Mapping[str, StickTable] = field(default_factory=dict)
    """Stick tables, by the sections that have them."""
    proxies: Sequence[Proxy] = ()
    """In the order written; the services and pools, where nobody says."""
    written: Mapping[str, Written] = field(default_factory=dict)
    """By `backend/server`; servers that came later are not there."""
    aimed: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Port and address where servers are checked, by `backend/server`, of those that were told; as in `Written`."""
    vitals: Callable[[], Vitals] = Vitals
    version: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    sockets: Sequence[tuple[str, Level]] = ()
    """The stats sockets, as `show cli sockets` has them."""
    offloader: Offloader | None = None
    today: Callable[[], datetime] = datetime.now
    most_connections: int = field(init=False)
    """What `set maxconn global` may set at most: what natlb began with, or as many as the table has entries."""

    def __post_init__(self) -> None:
        self.most_connections = self.engine.admission.max_connections or self.engine.capacity
        self.proxies = self.proxies or [
            *((service, None) for service in self.services),
            *((None, pool) for pool in self.pools.values()),
        ]

    def checked_at(self, name: str) -> tuple[int, str]:
        """Return the port and the address where a server is checked, if that is elsewhere: see `Written`."""
        written = self.written.get(name, Written())
        return self.aimed.get(name, (written.check_port, written.check_address))

    def pool(self, name: str) -> Pool | None:
        """Return a backend by its name, or by its number as `#4`."""
        if name.startswith("#"):
            return next((pool for pool in self.pools.values() if name[1:] == str(pool.id)), None)
        return self.pools.get(name)

    def backends(self, words: Sequence[str]) -> list[Pool]:
        """Return the backend that the first word names; all when there are no words. Raises Refused."""
        if not words:
            return list(self.pools.values())
        pool = self.pool(words[0])
        if pool is None:
            raise Refused("Can't find backend.")
        return [pool]

    def names(self, words: Sequence[str], end: str = "\n") -> tuple[Pool, str]:
        """Return the backend and the server's name that the first word, `backend/server`, says. Raises Refused."""
        backend, slash, name = (words[0] if words else "").partition("/")
        if not slash or not name:
            raise Refused("Require 'backend/server'.", end=end)
        pool = self.pool(backend)
        if pool is None:
            raise Refused("No such backend.", end=end)
        return pool, name

    def server(self, words: Sequence[str], end: str = "\n") -> tuple[Pool, Server]:
        """Return the backend and the server that the first word names. Raises Refused."""
        pool, name = self.names(words, end)
        if name.startswith("#"):
            found = next((each for each in pool.servers.values() if name[1:] == str(each.id)), None)
        else:
            found = pool.servers.get(name)
        if found is None:
            raise Refused("No such server.", end=end)
        return pool, found

    def service(self, words: Sequence[str]) -> Service:
        """Return the frontend that the first word names. Raises Refused."""
        if not words:
            raise Refused("A frontend name is expected.")
        found = next((service for service in self.services if service.name == words[0]), None)
        if found is None:
            raise Refused("No such frontend.")
        return found
