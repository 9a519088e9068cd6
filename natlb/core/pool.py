"""The servers of a backend, and whether they may get new connections.

Two things decide, kept apart because different people set them: the administrative state is what the operator wants
(`ready`, `drain`, `maint`), health is what the checks have seen. A server is usable when it is ready, healthy and of
weight above 0. Neither ends a connection that is already there.

Backup servers stand aside until no other server is usable, and then the first usable one takes all, or with
`option allbackups` all share. A packet stays in its address family (there is no NAT64 here), so a pool schedules IPv4
and IPv6 servers apart.

A server may be full without being unusable: it has as many connections as it may have at once. New ones then wait
(`natlb.core.waiting`). How many it may have is `maxconn`; with `minconn` it is less while the pool as a whole has
little to do; and in its slow start, after it has come back, it is a growing part of that, as is its weight. The
formulas are HAProxy's, and so is their coarseness: whole seconds, sixteenths of a weight.

A change of a server costs the same among thousands as among two: what is asked of all of them together is counted, and
who may be scheduled is found out for the next connection, once, however many have changed since the last.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from natlb.core.flow import Endpoint, FlowKey
from natlb.core.ports import Source
from natlb.core.schedulers.base import Scheduler
from natlb.core.schedulers.roundrobin import RoundRobin
from natlb.core.statistics import Counters, Standing
from natlb.core.waiting import Wait, Waiting, WaitingRoom

WHOLE: Final = 16
"""A weight is counted in so many parts, of which a server in its slow start has a growing number."""

_IPV4_FLOW: Final = 13
"""The length of a flow's tuple when its addresses have 4 bytes."""

if TYPE_CHECKING:
    from natlb.core.opening import Opening
    from natlb.core.rules import BackendRules


class AdminState(Enum):
    """What the operator wants of a server, in the words of HAProxy's `set server ... state`."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


_READY, _MAINT = AdminState.READY, AdminState.MAINT


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """A network whose hosts reach a server without the balancer, so that its answers to them would pass it by."""

    network: int
    """Its address, as a number."""
    mask: int
    source: Source
    """What to speak from instead of the client."""

    def has(self, client: bytes) -> bool:
        """Whether a client, 4 or 16 bytes, is one of its hosts."""
        return int.from_bytes(client, "big") & self.mask == self.network


class Server:
    """One server of a pool. Its states are changed through its pool, which then schedules anew."""

    __slots__ = (
        "address",
        "admin",
        "backup",
        "changed",
        "counters",
        "dequeued",
        "drained_along",
        "gave_up",
        "healthy",
        "id",
        "initial_weight",
        "live",
        "maxconn",
        "maxqueue",
        "minconn",
        "most_queued",
        "name",
        "neighbourhoods",
        "observed",
        "pool",
        "port",
        "port_offset",
        "queued",
        "redispatches",
        "remark",
        "retries",
        "shutdown_backups_on_up",
        "shutdown_on_down",
        "slowstart",
        "sources",
        "started",
        "sticks",
        "throttle",
        "total",
        "unanswered",
        "weight",
    )

    def __init__(
        self,
        name: str,
        address: bytes,
        port: int | None,
        *,
        id: int = 1,  # noqa: A002 - it is called that everywhere
        port_offset: int = 0,
        weight: int = 1,
        backup: bool = False,
        admin: AdminState = _READY,
        sources: tuple[Source, ...] | None = None,
        shutdown_on_down: bool = False,
        maxconn: int | None = None,
        minconn: int | None = None,
        maxqueue: int | None = None,
        slowstart: int = 0,
        shutdown_backups_on_up: bool = False,
        observed: bool = False,
        sticks: bool = True,
    ) -> None:
        """Describe a server: `address` is 4 or 16 bytes; `port` None keeps the port that the client asked for.

        `port_offset` is added to the client's port when it is kept; `weight` is 0..256. `sources` are for full NAT:
        () is never, None is where the server is in the client's neighbourhood. `maxconn` and `minconn` bound its
        connections, `maxqueue` those that wait for it, each None for no bound; `slowstart` is in whole seconds.
        """
        self.name = name
        self.id = id
        self.address = address
        self.port = port
        self.port_offset = port_offset
        self.weight = weight
        self.initial_weight = weight
        """What the configuration says."""
        self.backup = backup
        self.maxconn = maxconn
        self.minconn = minconn
        self.maxqueue = maxqueue
        self.slowstart = slowstart
        self.pool: Pool | None = None
        """The one that it is in."""
        self.started: float | None = None
        """When its slow start began; None when it is in none."""
        self.throttle = WHOLE
        """The part of its weight that counts, in sixteenths."""
        self.admin = admin
        self.drained_along = False
        """Whether it is drained with a server that it tracks, whatever is wanted of itself."""
        self.sources = sources
        self.shutdown_on_down = shutdown_on_down
        """Whether its connections are shut down when it goes down (`on-marked-down shutdown-sessions`)."""
        self.shutdown_backups_on_up = shutdown_backups_on_up
        """Whether connections to backup servers are shut down when it comes up."""
        self.observed = observed
        """Whether the outside wants to know how each of its connections begins (`ServerTried`)."""
        self.sticks = sticks
        """Whether stick tables may remember it as a client's server."""
        self.neighbourhoods: tuple[Neighbourhood, ...] = ()
        """Where full NAT is needed although nobody asked for it."""
        self.healthy = True
        self.live = 0
        """Connections open now."""
        self.total = 0
        """Connections ever given to it."""
        self.queued = 0
        """Connections that wait for it now, and for no other."""
        self.dequeued = 0
        """Connections that have waited for it, and were let through."""
        self.most_queued = 0
        """The most that have ever waited at once."""
        self.gave_up = 0
        """Connections refused because they had waited too long for it, or too many did."""
        self.retries = 0
        """SYNs that clients had to send again."""
        self.redispatches = 0
        """Connections that it did not answer, and that were given to another server."""
        self.counters = Counters()
        self.changed = 0.0
        """When its health or its administrative state changed last; at first, when time begins."""
        self.unanswered = 0
        """Connections in a row whose SYN was sent on to it and not answered through here."""
        self.remark = ""
        """What is known of why it leaves connections `unanswered`, in words."""

    def endpoint(self, asked_port: int) -> Endpoint:
        """Return address and port, as they stand in a packet, for a client that asked for `asked_port`."""
        port = self.port if self.port is not None else (asked_port + self.port_offset) & 0xFFFF
        return self.address, port.to_bytes(2, "big")

    @property
    def usable(self) -> bool:
        """Whether new connections may go here."""
        return self.healthy and self.weight > 0 and self.admin is _READY and not self.drained_along

    @property
    def drained(self) -> bool:
        """Whether it is drained, itself or with the server that it tracks."""
        return self.admin is AdminState.DRAIN or self.drained_along

    @property
    def share(self) -> int:
        """Its weight of the moment, in sixteenths."""
        return self.weight * self.throttle

    @property
    def effective_weight(self) -> int:
        """Its weight of the moment, rounded up."""
        return -(-self.share // WHOLE)

    @property
    def accounts(self) -> tuple[Counters, ...]:
        """Its counters, and those of its pool, unless it has been taken out of that."""
        return (self.counters,) if self.pool is None else (self.counters, self.pool.counters)

    @property
    def throttled(self) -> int | None:
        """How many percent of its weight it has in a slow start, rounded up; None when it is in none."""
        return None if self.started is None else -(-100 * self.throttle // WHOLE)

    @property
    def limit(self) -> int | None:
        """How many connections it may have now; None is no limit."""
        limit, pool = self.maxconn, self.pool
        if limit is None or pool is None:
            return limit
        if self.minconn is not None and pool.fullconn and pool.live < pool.fullconn:
            limit = min(limit, max(self.minconn, pool.live * limit // pool.fullconn))
        if self.started is not None:
            limit = max(1, limit * min(100, 100 * int(pool.now - self.started) // self.slowstart) // 100)
        return limit

    @property
    def full(self) -> bool:
        """Whether it has as many connections as it may have."""
        most = self.maxconn
        if most is None or self.live >= most:
            return most is not None
        return (self.minconn is not None or self.started is not None) and self.live >= (self.limit or 0)

    def count(self, change: int) -> None:
        """Count connections that it got, or that ended when `change` is negative."""
        self.live += change
        if self.pool is not None:
            self.pool.load_changed(self, change)

    @property
    def away(self) -> bool:
        """Whether it is down, in maintenance or deleted: a flow of UDP has nothing to wait for there."""
        return not self.healthy or self.admin is _MAINT

    def sources_for(self, client: bytes) -> tuple[Source, ...]:
        """Return what to speak to it from on behalf of a client; empty for the client's own address."""
        if self.sources is not None:
            return self.sources
        return next(((near.source,) for near in self.neighbourhoods if near.has(client)), ())


class Obstacle(Enum):
    """Why a server does not get a new connection, whatever the algorithm says."""

    FAMILY = "its address is of the other IP version"
    DOWN = "it is down"
    MAINT = "it is in maintenance"
    DRAIN = "it is being drained"
    WEIGHTLESS = "its weight is 0"
    ASIDE = "it is a backup, and a server that is none is usable"
    BEHIND = "it is a backup, and the first usable one takes all"
    FULL = "it has as many connections as it may have"


class Place(Enum):
    """What becomes of a new connection."""

    FREE = "it goes to the server"
    WAIT = "it has to wait for a place"
    LATE = "it has waited for too long"
    CROWDED = "too many wait already"
    NONE = "no server is usable"


_FREE: Final = Place.FREE


class Pool:
    """A backend: servers and the algorithm that chooses among the usable ones."""

    def __init__(
        self,
        name: str,
        servers: Iterable[Server],
        new_scheduler: Callable[[], Scheduler] = RoundRobin,
        *,
        id: int = 1,  # noqa: A002
        algorithm: str = "roundrobin",
        all_backups: bool = False,
        fullconn: int = 0,
        retries: int = 3,
        redispatch: int = 0,
        queue_timeout: float = 240.0,
    ) -> None:
        """Make a pool; `new_scheduler` is called for each address family, `algorithm` is what statistics call it.

        `all_backups` lets all backup servers share when no other is usable. Below `fullconn` connections a server's
        `minconn` counts. `redispatch` says at which of the client's retries an unanswered connection goes to another
        server: at every so many, counted back from `retries` when it is negative, never when it is 0.
        `queue_timeout` is how many seconds a connection may wait for a place.
        """
        self.name = name
        self.id = id
        self.algorithm = algorithm
        self.all_backups = all_backups
        self.fullconn = fullconn
        self.retries_allowed = retries
        self.redispatch = redispatch
        self.queue_timeout = queue_timeout
        self.now = 0.0
        """The time that the pool was last told."""
        self.live = 0
        """Connections open now."""
        self.total = 0
        """Connections ever led here."""
        self.counters = Counters()
        self.standing = Standing(up=True)
        """Whether a server is usable, and since when. Without servers there is none that could be down."""
        self.queued = 0
        """Connections that wait for any server."""
        self.dequeued = 0
        """Connections that have waited for any server, and were let through."""
        self.most_queued = 0
        self.gave_up = 0
        """Connections refused because they had waited too long, or too many did; those that waited for one server
        are counted here as well as there."""
        self.retries = 0
        """SYNs that clients had to send again."""
        self.redispatches = 0
        """Connections that a server did not answer, and that were given to another."""
        self.rules: BackendRules | None = None
        """Which connections belong to which server."""
        self.on_away: Callable[[], None] = lambda: None
        """Called when a server is `away` that was not."""
        self.servers: dict[str, Server] = {}
        self._waiting = WaitingRoom()
        self._schedulers = {4: new_scheduler(), 16: new_scheduler()}
        self._active: dict[int, list[Server]] = {4: [], 16: []}
        self._stale = True
        """Whether servers have changed since the schedulers were last told."""
        self._usable: tuple[set[Server], set[Server]] = set(), set()
        """The servers that may get connections: those that are no backups, and those that are."""
        for server in servers:
            self.servers[server.name] = server
            server.pool = self
            self.live += server.live
            self._note(server)
        self.standing = Standing(up=self.usable > 0 or not self.servers)  # what is down from the start did not fall

    @property
    def dynamic(self) -> bool:
        """Whether weights may take any value while it runs."""
        return self._schedulers[4].dynamic

    @property
    def usable(self) -> int:
        """How many servers may get new connections, backups included."""
        return self.usable_backups + len(self._usable[False])

    @property
    def usable_backups(self) -> int:
        """How many of those are backups."""
        return len(self._usable[True])

    def begin(self, now: float) -> None:
        """Let time begin: what is up has been so since now, and what is down as well."""
        self.now = self.standing.changed = now
        for server in self.servers.values():
            server.changed = now

    # New connections

    def pick(self, flow: FlowKey, now: float, avoid: Server | None = None) -> Server | None:
        """Return the server for a new connection, by the tuple that its client sends.

        None is returned when no server is usable, or all are full. The server may be full itself, when the connection
        belongs to it and no other. `avoid` is returned only if there is no other.
        """
        self.now = now
        if self._stale:
            self._reschedule()
        return self._schedulers[4 if len(flow) == _IPV4_FLOW else 16].pick(flow, avoid)

    def assign(self, opening: "Opening", make_way: "Callable[[Opening, Pool, Server | None], bool]") -> Server | Place:
        """Return the server for a connection: the one that it belongs to, or else one that is picked; or why not.

        `make_way` is asked for a place where there is none, at a server or (with None) at any; it returns whether there
        is one now. What is known besides is noted in `opening`.
        """
        flow, now = opening.key, opening.now
        own = self.rules.choose(opening, self) if self.rules is not None else None
        server = own or self.pick(flow, now)
        if server is None and not self.has_servers(flow):
            return Place.NONE
        if (server is None or server.full) and make_way(opening, self, server):
            server = own or self.pick(flow, now)
        opening.is_assigned = own is not None
        place, waited = self.place(flow, server, now, belongs=opening.is_assigned)
        opening.waited = waited
        opening.wanted = server if waited is None else waited.server
        return server if place is _FREE and server is not None else place

    def place(
        self, flow: FlowKey, server: Server | None, now: float, *, belongs: bool = False
    ) -> tuple[Place, Wait | None]:
        """Return whether a connection may go to the server picked for it, or to any where `server` is None.

        If that ends a wait, return that as well. `belongs` is whether it belongs to that server although the algorithm
        would give it to any.
        """
        self.now = now
        waiting = self._waiting.get(flow) if self._waiting else None
        if server is not None and not server.full and not (self._waiting and self._is_kept(flow, server, now)):
            waited = None if waiting is None else self._leave(flow, waiting, now)
            for counters in (self.counters, server.counters):
                counters.queue_time.add(0 if waited is None else int(1000 * waited.seconds))
            if waited is not None:
                (waited.server or self).dequeued += 1
            return _FREE, waited
        if waiting is not None and now - waiting.since >= self.queue_timeout:
            self._give_up(waiting.server)
            return Place.LATE, self._leave(flow, waiting, now)
        belongs = belongs or (server is not None and self._schedulers[len(server.address)].belongs)
        if server is not None and not server.full and not belongs:
            server = None  # it only has to let others go first
        if waiting is None and server is not None and server.maxqueue and server.queued >= server.maxqueue:
            self._give_up(server)
            return Place.CROWDED, None
        if waiting is not None:
            self._count_waiting(waiting.server, -1)
        if self._waiting.ask(flow, server, now, (server or self).dequeued) is not None:
            self._count_waiting(server, 1)
        return Place.WAIT, None

    def has_servers(self, flow: FlowKey) -> bool:
        """Whether any server is usable for connections like this one."""
        return bool(self._candidates(4 if len(flow) == _IPV4_FLOW else 16))

    def obstacle(self, server: Server, flow: FlowKey) -> Obstacle | None:
        """Return why a server of the pool does not get a connection like this one; None if only the algorithm decides.

        For whoever asks, before the connection comes: nothing changes. Where a connection belongs to a server that is
        full, it waits for that one.
        """
        size = 4 if len(flow) == _IPV4_FLOW else 16
        if len(server.address) != size:
            return Obstacle.FAMILY
        if server.admin is AdminState.MAINT:
            return Obstacle.MAINT
        if server.drained:
            return Obstacle.DRAIN
        if not server.healthy:
            return Obstacle.DOWN
        if not server.weight:
            return Obstacle.WEIGHTLESS
        candidates = self._candidates(size)
        if server not in candidates:
            return Obstacle.BEHIND if candidates[0].backup else Obstacle.ASIDE
        return Obstacle.FULL if server.full else None

    def standings(self, flow: FlowKey) -> dict[Server, str]:
        """Return what the algorithm goes by, in words, of each server that may get a connection like this one.

        For whoever asks, before the connection comes: nothing changes.
        """
        size = 4 if len(flow) == _IPV4_FLOW else 16
        self._candidates(size)
        return dict(self._schedulers[size].standings(flow))

    def another(self, flow: FlowKey, server: Server, attempt: int, now: float) -> Server | None:
        """Return whom to give a connection that `server` has not answered, at the client's retry number `attempt`.

        That is nobody when it is to stay where it is. Algorithms that take turns change at every retry, as a
        connection belongs to no server in particular there.
        """
        if not self.redispatch:
            return None
        every = self.redispatch if self.redispatch > 0 else max(1, self.retries_allowed + 1 + self.redispatch)
        if attempt % every and not self._schedulers[len(server.address)].rotates:
            return None
        other = self.pick(flow, now, server)
        return None if other is None or other is server or other.full else other

    def _is_kept(self, flow: FlowKey, server: Server, now: float) -> bool:
        """Whether the places that are free are kept for others, who have waited longer."""
        ahead = self._waiting.ahead(flow, server, now)
        if not ahead:
            return False
        for each in self._candidates(len(server.address)) if self.queued else (server,):
            limit = each.limit
            if limit is None or (ahead := ahead - max(0, limit - each.live)) < 0:
                return False
        return True

    def _leave(self, flow: FlowKey, waiting: Waiting, now: float) -> Wait:
        server = waiting.server
        self._waiting.leave(flow)
        self._count_waiting(server, -1)
        return Wait(now - waiting.since, server, 1 + (server or self).dequeued - waiting.turn)

    def _give_up(self, server: Server | None) -> None:
        self.gave_up += 1
        if server is not None:
            server.gave_up += 1
            server.counters.failed += 1

    def _count_waiting(self, server: Server | None, change: int) -> None:
        owner = self if server is None else server
        owner.queued += change
        owner.most_queued = max(owner.most_queued, owner.queued)
        if server is not None:
            self._schedulers[len(server.address)].load_changed(server)

    # Time and load

    def load_changed(self, server: Server, change: int) -> None:
        """Note that a server has more or fewer connections than before. Called by `Server.count`."""
        self.live += change
        self._schedulers[len(server.address)].load_changed(server)

    def work(self) -> bool:
        """Do a little of what scheduling has left to do, a millisecond or two; return whether anything is left."""
        if self._stale:
            self._reschedule()
            return True
        return any(scheduler.work() for scheduler in self._schedulers.values())

    def step(self, now: float) -> None:
        """Let slow starts go on, and forget the connections that no longer wait. To be called about every second."""
        self.now = now
        for _, waiting in self._waiting.gone(now):
            self._count_waiting(waiting.server, -1)
        changed = False
        for server in self.servers.values():
            if server.started is None:
                continue
            changed |= self._throttle(server, now)
            self._schedulers[len(server.address)].load_changed(server)
        self._stale |= changed

    def _throttle(self, server: Server, now: float) -> bool:
        """Set how much of its weight a server gets by now; return whether that has changed."""
        before = server.throttle
        server.throttle = WHOLE
        if server.started is not None:
            elapsed, length = int(now - server.started), server.slowstart
            if elapsed >= length:
                server.started = None
            elif self.dynamic:
                server.throttle = min(WHOLE, (WHOLE * elapsed + length) // length)
        return server.throttle != before

    # Changes

    def set_health(self, server: Server, healthy: bool, now: float) -> None:
        """Record what the health checks found."""
        came_back, was_away = healthy and not server.healthy, server.away
        if healthy is not server.healthy:
            server.changed = now
        server.healthy = healthy
        self._changed(server, came_back, was_away, now)

    def set_admin(self, server: Server, admin: AdminState, now: float) -> None:
        """Record what the operator wants."""
        came_back = server.admin is _MAINT and admin is not _MAINT and server.healthy
        was_away = server.away
        if admin is not server.admin:
            server.changed = now
        server.admin = admin
        self._changed(server, came_back, was_away, now)

    def drain_along(self, server: Server, drained: bool, now: float) -> None:
        """Record whether the server that this one tracks is drained, and this one with it."""
        if drained is not server.drained_along:
            server.changed = now
        server.drained_along = drained
        self._changed(server, came_back=False, was_away=server.away, now=now)

    def set_weight(self, server: Server, weight: int, now: float) -> None:
        """Give a server another weight, 0 to 256. Only a `dynamic` pool follows any."""
        self.now = now
        server.weight = weight
        self._note(server)

    def set_maxconn(self, server: Server, maxconn: int | None) -> None:
        """Give a server another limit; None is none."""
        server.maxconn = maxconn
        self._schedulers[len(server.address)].load_changed(server)

    def add(self, server: Server) -> None:
        """Take in another server, behind the others."""
        self.servers[server.name] = server
        server.pool = self
        server.changed = self.now
        self.live += server.live
        self._note(server)

    def remove(self, server: Server) -> None:
        """Let a server go. Connections that it still has go on, and are counted by itself alone."""
        del self.servers[server.name]
        server.pool = None
        self.live -= server.live
        self._note(server)

    def move(self, server: Server, address: bytes, port: int | None) -> None:
        """Give a server another address, 4 or 16 bytes, and another port. Its connections stay where they are."""
        server.address = address
        server.port = port
        self._note(server)

    def _changed(self, server: Server, came_back: bool, was_away: bool, now: float) -> None:
        self.now = now
        if server.away:
            server.started = None
        elif came_back and server.slowstart:
            server.started = now
        usable = server in self._usable[False] or server in self._usable[True]
        if self._throttle(server, now) or server.usable is not usable:
            self._note(server)
        if server.away and not was_away:
            self.on_away()

    def _note(self, server: Server) -> None:
        """Count a server that has changed, come or gone."""
        self._stale = True
        for usable in self._usable:
            usable.discard(server)
        if server.usable and server.pool is self:
            self._usable[server.backup].add(server)
        self.standing.update(self.usable > 0 or not self.servers, self.now)

    def _candidates(self, size: int) -> list[Server]:
        """Return the servers with addresses of so many bytes that connections are scheduled among."""
        if self._stale:
            self._reschedule()
        return self._active[size]

    def _reschedule(self) -> None:
        """Tell the schedulers which servers there are now."""
        self._stale = False
        usable, spare = self._usable
        for size, scheduler in self._schedulers.items():
            configured = [server for server in self.servers.values() if len(server.address) == size]
            chosen = [server for server in configured if server in usable]
            if not chosen and spare:
                backups = [server for server in configured if server in spare]
                chosen = backups if self.all_backups else backups[:1]
            self._active[size] = chosen
            scheduler.rebuild(chosen, configured)
