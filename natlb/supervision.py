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
from natlb.core.pool import Pool, Server
from natlb.core.states import FINISHED
from natlb.datapath import host
from natlb.health import report
from natlb.health.checks import Checks
from natlb.health.conversation import Limits, ask
from natlb.health.report import Surroundings
from natlb.health.server import Cause, Operation, ServerHealth
from natlb.health.status import Status
from natlb.log import Level as Urgency
from natlb.log import log, status
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
        client = ip_address(ends(connection.original)[0][0])
        source = f"[{here}]" if here is not None and here.version == 6 else here
        pool = connection.server.pool
        server.remark = f"{written(address, port)} answers clients past this machine: no route to {client} via {here}"
        log.warning(
            "Server %s/%s is UP, but %d connections in a row got no answer through this machine: its answers to the "
            "clients go another way. It needs a route to %s via %s; or write 'source %s' in the backend.",
            pool.name if pool else "",
            server.name,
            server.unanswered,
            client,
            here,
            source,
        )

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
        had_servers = before is Operation.RUNNING or pool.usable > 0
        pool.set_health(running, health.healthy, now)
        around = Surroundings(
            backup=running.backup,
            active=pool.usable - pool.usable_backups,
            backups=pool.usable_backups,
            live=running.live,
            queued=running.queued if health.operation is Operation.STOPPED else pool.queued,
            drained=running.drained,
        )
        told = pool.name in self._logging_checks
        level = Urgency.ALERT if health.operation is Operation.STOPPED else Urgency.NOTICE
        status(pool.name, level, report.of_change(health, cause, before, around, told_of_check=told))
        if health.operation is Operation.STOPPED and before is not Operation.STOPPED and running.shutdown_on_down:
            self._shut_down(running, EndReason.SERVER_DOWN)
        if health.healthy and running.shutdown_backups_on_up and not running.backup and running.usable:
            for backup in pool.servers.values():
                if backup.backup and backup.live:
                    self._shut_down(backup, EndReason.SERVER_UP)
        self._settle()
        if had_servers and not pool.usable:
            status(pool.name, Urgency.EMERG, report.of_backend(pool.name))

    def _on_drain(self, health: ServerHealth) -> None:
        """The server that this one tracks is drained, or no more: so is this one."""
        pool, running = self._found(health)
        pool.drain_along(running, health.drained_through is not None, time.monotonic())
        self._settle()

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
                if reason is EndReason.SERVER_DOWN:
                    name = f"{server.pool.name}/{server.name}" if server.pool is not None else server.name
                    log.warning("Server %s: %d sessions were shut down.", name, ended[server])
                    await asyncio.sleep(0)
        self._is_shutting_down = False
