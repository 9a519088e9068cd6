"""What follows from what is seen of servers: by their checks, and by the connections that natlb leads to them.

Every server of the configuration is entered in the checks, those without checks as well, since an operator may still
say how they are. When one goes up or down, its pool is told, the log is, and the connections end that are to end with
it: a few at a time, so that the packets of others need not wait. A server that is up and yet leaves clients without an
answer is looked into: it may be answering them past this machine.
"""

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Final

from natlb.assembly import Assembly, check_settings
from natlb.config.model import Config
from natlb.core.engine import BYPASSED_AFTER
from natlb.core.events import EndReason, ServerTried
from natlb.core.flow import Connection, ends
from natlb.core.pool import AdminState, Pool, Server
from natlb.core.states import FINISHED
from natlb.core.wording import counted
from natlb.datapath import host
from natlb.health import report
from natlb.health.checks import Checks
from natlb.health.conversation import Limits, ask
from natlb.health.report import Surroundings
from natlb.health.server import Cause, Operation, ServerHealth
from natlb.health.status import Status
from natlb.log import Level as Urgency
from natlb.log import log, notice, status
from natlb.questions import CONNECT
from natlb.runtime.addresses import written

SHUT_DOWN_AT_ONCE: Final = 32
"""Entries of the table that are looked at, and perhaps shut down, before packets have their turn."""

_BYPASS_PROBE: Final = 2.0
"""Seconds in which a server that leaves clients without an answer has to answer us."""

_FEWEST_CHECKS: Final = 16
"""Checks that may go on at once, however few files the process may open; else half of those."""


class Supervisor:
    """The checks of all servers, and what is done about what they find."""

    def __init__(
        self,
        config: Config,
        made: Assembly,
        settle: Callable[[], None],
        start: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        """Begin to check, in a running event loop.

        `settle` does what the engine has to say beyond its verdicts, `start` runs what goes on in the background.
        """
        self._made = made
        self._engine = made.engine
        self._settle = settle
        self._start = start
        self._logging_checks = {backend.name for backend in config.backends if backend.log_health_checks}
        self._to_shut_down: dict[Server, EndReason] = {}
        """Servers whose connections are to be shut down, and why."""
        self._is_shutting_down = False
        self._without_servers = {pool for pool in made.pools.values() if not pool.usable}
        """Backends of which it was told that they have no server, or that began so."""
        self.checks: Final = self._make_checks(config)

    def observe(self, event: ServerTried) -> None:
        """A client has met a server that is observed, or has not."""
        pool = event.connection.server.pool
        if pool is not None:
            self.checks.observe(f"{pool.name}/{event.connection.server.name}", event.answered)

    async def look_into(self, connection: Connection) -> None:
        """Find out why a server leaves clients without an answer; if it answers us, its answers go another way."""
        server = connection.server
        server.remark = ""  # what was found the last time need not be why it is silent now
        address, port = ends(connection.reply)[0]
        answer = await ask(CONNECT, str(ip_address(address)), int.from_bytes(port, "big"), Limits(_BYPASS_PROBE))
        # In a thread, because what asks the kernel there runs an event loop of its own.
        here = await asyncio.to_thread(host.preferred_source, ip_address(address))
        if answer.status is not Status.L4OK or server.unanswered < BYPASSED_AFTER:
            return
        if here is None or here == ip_address(address) or ip_address(address).is_loopback:
            return  # a server on this machine has no other way than through it
        client = ip_address(ends(connection.original)[0][0])
        source = f"[{here}]" if here.version == 6 else here
        server.remark = f"{written(address, port)} answers clients past this machine: no route to {client} via {here}"
        name = _name(server)
        health = self.checks.get(name)
        log.warning(
            "Server %s %s, but %d connections in a row got no answer through this machine: its answers to the "
            "clients go another way. It needs a route to %s via %s; or write 'source %s' in the backend.",
            name,
            "is UP" if health is not None and health.origin.enabled else "is not checked, and answers this machine",
            server.unanswered,
            client,
            here,
            source,
        )

    def is_bypassed_no_longer(self, server: Server) -> None:
        """A server has answered a client through this machine, after several that it has not."""
        if server.remark:
            server.remark = ""
            notice(f"Server {_name(server)} answers clients through this machine again.")

    def _make_checks(self, config: Config) -> Checks:
        """Take on all servers, those that others track before the others."""
        checks = Checks(
            self._on_health,
            self._on_check,
            self._on_drain,
            spread_percent=config.spread_checks,
            longest_spread=config.max_spread_checks,
            most_at_once=max(_FEWEST_CHECKS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2),
        )
        waiting = [(backend, server) for backend in config.backends for server in backend.servers]
        known: set[str] = set()
        while waiting:
            for backend, server in list(waiting):
                if server.track is None or server.track in known:
                    waiting.remove((backend, server))
                    name = f"{backend.name}/{server.name}"
                    known.add(name)
                    check = None if backend.disabled else server.check
                    settings = None if check is None else check_settings(backend, server, check)
                    health = checks.add(name, settings, track=server.track, maintenance=server.disabled)
                    if health.maintained_through is not None:
                        pool, running = self._found(health)
                        pool.set_health(running, healthy=False, now=time.monotonic())
        return checks

    def _on_health(self, health: ServerHealth, cause: Cause, before: Operation) -> None:
        """A server has gone up or down: tell the pool, and the log."""
        pool, running = self._found(health)
        now = time.monotonic()
        pool.set_health(running, health.healthy, now)
        around = _surroundings(pool, running, health)
        told = pool.name in self._logging_checks
        # Nobody is surprised by the end of a server that had no new connections.
        lost = health.operation is Operation.STOPPED and before is Operation.RUNNING and not around.drained
        level = Urgency.ALERT if lost else Urgency.NOTICE
        status(pool.name, level, report.of_change(health, cause, before, around, told_of_check=told))
        if around.drained:
            self._tell_of_drain(pool, running, goes_on=True)
        if health.operation is Operation.STOPPED and before is not Operation.STOPPED and running.shutdown_on_down:
            self._shut_down(running, EndReason.SERVER_DOWN)
        if health.healthy and running.shutdown_backups_on_up and not running.backup and running.usable:
            for backup in pool.servers.values():
                if backup.backup and backup.live:
                    self._shut_down(backup, EndReason.SERVER_UP)
        self._settle()
        self.look_at(pool)

    def on_admin(self, pool: Pool, server: Server, before: AdminState) -> None:
        """An operator has said what to do with a server; of maintenance it has been told already."""
        if {before, server.admin} == {AdminState.READY, AdminState.DRAIN}:
            self._tell_of_drain(pool, server, goes_on=server.drained_along)
        self.look_at(pool)

    def look_at(self, pool: Pool) -> None:
        """Tell of a backend whose last server has gone, whatever that was: once, until it has one again."""
        if pool.usable:
            self._without_servers.discard(pool)
        elif pool not in self._without_servers:
            self._without_servers.add(pool)
            status(pool.name, Urgency.EMERG, *report.of_backend(pool.name))

    def _on_drain(self, health: ServerHealth) -> None:
        """The server that this one tracks is drained, or no more: so is this one."""
        pool, running = self._found(health)
        pool.drain_along(running, health.drained_through is not None, time.monotonic())
        self._settle()
        self._tell_of_drain(pool, running, goes_on=running.admin is AdminState.DRAIN)
        self.look_at(pool)

    def _tell_of_drain(self, pool: Pool, server: Server, *, goes_on: bool) -> None:
        """Tell that a server is drained, or no more; or that it is drained nevertheless, for another reason."""
        health = self.checks[f"{pool.name}/{server.name}"]
        if health.maintained:
            return
        if goes_on:
            forced = server.admin is AdminState.DRAIN
            line = report.of_drain_that_goes_on(health, backup=server.backup, forced=forced)
        else:
            line = report.of_drain(health, _surroundings(pool, server, health))
        status(pool.name, Urgency.NOTICE, line)

    def _on_check(self, health: ServerHealth) -> None:
        """A check came to something new."""
        pool, running = self._found(health)
        if pool.name in self._logging_checks:
            line = report.of_check(health, backup=running.backup, unweighted=running.weight == 0)
            status(pool.name, Urgency.NOTICE, line)

    def _found(self, health: ServerHealth) -> tuple[Pool, Server]:
        backend, _, name = health.name.partition("/")
        pool = self._made.pools[backend]
        return pool, pool.servers[name]

    def _shut_down(self, server: Server, reason: EndReason) -> None:
        """Begin to shut down all connections to a server."""
        self._to_shut_down[server] = reason
        if not self._is_shutting_down:
            self._is_shutting_down = True
            self._start(self._shut_servers_down())

    async def _shut_servers_down(self) -> None:
        """Shut down the connections to all servers that are to lose theirs, in one go over the table.

        It is done a few at a time, so that packets of others need not wait. Servers that come to it meanwhile have
        theirs shut down in the next one, since some may have been passed by.
        """
        while self._to_shut_down:
            chosen, self._to_shut_down = self._to_shut_down, {}
            ended = Counter[Server]()
            for piece in self._engine.pieces(SHUT_DOWN_AT_ONCE):
                for connection in piece:
                    reason = chosen.get(connection.server)
                    if reason is not None and connection.state not in FINISHED:
                        self._engine.shutdown(connection, time.monotonic(), reason)
                        ended[connection.server] += 1
                self._settle()
                await asyncio.sleep(0)
            for server, reason in chosen.items():
                if reason is EndReason.SERVER_DOWN and ended[server]:
                    were = "was" if ended[server] == 1 else "were"
                    log.warning("Server %s: %s %s shut down.", _name(server), counted(ended[server], "session"), were)
                    await asyncio.sleep(0)
        self._is_shutting_down = False


def _name(server: Server) -> str:
    """Return the name of a server as the checks know it."""
    return f"{server.pool.name}/{server.name}" if server.pool is not None else server.name


def _surroundings(pool: Pool, server: Server, health: ServerHealth) -> Surroundings:
    return Surroundings(
        backup=server.backup,
        active=pool.usable - pool.usable_backups,
        backups=pool.usable_backups,
        live=server.live,
        queued=server.queued if health.operation is Operation.STOPPED else pool.queued,
        drained=server.drained,
    )
