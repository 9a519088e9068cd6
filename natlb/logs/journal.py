"""Which events make a log line, and what is in it.

A proxy without a log format tells of each connection when it begins. One with a format tells how it went, when it has
ended; with `option logasap` as soon as it is established. A connection whose server went away before it answered is
tried again on another one by the client's next SYN, and only that one's end is told.

A line costs some twenty microseconds, and a connection of a proxy that is not logged costs nothing: the engine writes
nothing down for it, and it is looked up here in a dictionary that does not have it.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from natlb.core.events import (
    Account,
    ConnectionClosed,
    ConnectionEstablished,
    ConnectionOpened,
    ConnectionRefused,
    EndReason,
    Event,
)
from natlb.core.flow import Connection, FlowKey, ends
from natlb.core.packet import TCP, UDP
from natlb.core.service import Service
from natlb.core.states import FINISHED, HALF_OPEN
from natlb.core.waiting import Wait
from natlb.log import Level
from natlb.logs.ending import NORMAL, REFUSED, termination
from natlb.logs.line import Entry, Part, compile_format, connect_line
from natlb.logs.sender import Sender
from natlb.logs.syslog import Origin, Target


@dataclass(frozen=True, slots=True)
class Settings:
    """What one proxy logs."""

    targets: Sequence[Target]
    tag: str
    format: Sequence[Part] | None = None
    """None tells of each connection that there was one."""
    data: Sequence[Part] | None = None
    """The structured data in the header of a line, where the target's has that (`log-format-sd`)."""
    skip_empty: bool = False
    """Nothing about connections on which the client sent no data (`option dontlognull`)."""
    skip_normal: bool = False
    """Nothing about connections that ended as they should (`option dontlog-normal`)."""
    separate_errors: bool = False
    """All others are told as errors (`option log-separate-errors`)."""
    early: bool = False
    """As soon as they are established (`option logasap`)."""


class _ProxyLog:
    """What stands ready for one frontend."""

    def __init__(self, settings: Settings, host: str | None) -> None:
        self.settings = settings
        self.origin = Origin(settings.tag, os.getpid(), host)
        self.render = None if settings.format is None else compile_format(settings.format)
        self.data = compile_format(["-"] if settings.data is None else settings.data)
        self.lines = count()


class Journal:
    """The log lines of all proxies. `clock` is the engine's, and `wall` gives seconds since the epoch."""

    def __init__(
        self,
        host: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.sender = Sender()
        self._host = host
        self._clock = clock
        self._wall = wall
        self._services: dict[Service, _ProxyLog] = {}
        self._proxies: dict[str, _ProxyLog] = {}
        self._lines = count()

    def log_connections(self, service: Service, settings: Settings) -> None:
        """Log the connections of a service from now on."""
        service.logged, service.logged_early = True, settings.early
        self._services[service] = _ProxyLog(settings, self._host)

    def log_proxies(self, proxies: Mapping[str, Settings]) -> None:
        """Log what becomes of these proxies, by name, when `tell` says so."""
        self._proxies.update({name: _ProxyLog(settings, self._host) for name, settings in proxies.items()})

    def tell(self, proxy: str, level: Level, text: str) -> None:
        """Log a line about a proxy; one that is not logged is no matter."""
        log = self._proxies.get(proxy)
        if log is not None:
            self.sender.send(log.settings.targets, log.origin, level, text, self._wall())

    def record(self, event: Event) -> None:
        """Log what an event is worth, if anything."""
        match event:
            case ConnectionOpened(connection):
                log = self._services.get(connection.service)
                if log is not None and log.render is None:
                    self._connect(log, connection.service, connection.original)
            case ConnectionRefused(service):
                self._refused(self._services[service], event)
            case ConnectionEstablished(connection, Account() as account):
                log = self._services[connection.service]
                if log.settings.early and account.state not in FINISHED:
                    self._write(log, NORMAL, connection, account, goes_on=True)
            case ConnectionClosed(connection, reason, Account() as account):
                self._closed(self._services[connection.service], connection, reason, account)

    def close(self) -> None:
        """Close the sockets."""
        self.sender.close()

    def _closed(self, log: _ProxyLog, connection: Connection, reason: EndReason, account: Account) -> None:
        protocol = connection.service.protocol
        if reason is EndReason.RESCHEDULED and protocol == TCP:
            return
        if log.settings.early and account.state not in HALF_OPEN:
            return  # it was told when it was established
        shorter = connection.service.timeouts_to(connection.server).shorter
        ending = termination(reason, account, protocol, shorter)
        self._write(log, ending, connection, account, goes_on=False)

    def _write(self, log: _ProxyLog, ending: str, connection: Connection, account: Account, *, goes_on: bool) -> None:
        settings = log.settings
        is_error = ending != NORMAL
        if log.render is None or (settings.skip_normal and not is_error):
            return
        if settings.skip_empty and not account.octets[0] and not goes_on:
            return
        client, vip = ends(connection.original)
        at, seen_as = ends(connection.reply)
        live = account.live
        now, wall = self._clock(), self._wall()
        gone = 0 if goes_on else 1  # HAProxy has let go of its server by the time that it writes the line
        pool = connection.server.pool or connection.service.pool
        queue = 0.0 if account.waited is None else account.waited.seconds
        entry = Entry(
            client,
            vip,
            seen_as,
            at,
            connection.service.name,
            pool.name if pool else connection.service.name,
            connection.server.name,
            opened=wall - (now - account.opened) - queue,
            total=now - account.opened + queue,
            connect=None if account.answered is None else account.answered - account.opened,
            queue=queue,
            sent=account.octets[0],
            received=account.octets[1],
            ending=ending,
            live=(live.process, live.service, live.pool - gone, live.server - gone),
            retries=account.retries,
            queued=_position(account.waited),
            unfinished=settings.early,
        )
        self._send(log, entry, is_error, wall)

    def _refused(self, log: _ProxyLog, event: ConnectionRefused) -> None:
        service, original, live = event.service, event.original, event.live
        if log.render is None:
            self._connect(log, service, original)
            return
        if log.settings.skip_empty:
            return
        wall, waited = self._wall(), event.waited
        queue = None if waited is None else waited.seconds
        client, vip = ends(original)
        backend = event.pool.name if event.pool else service.name
        # The one that was refused was there for a moment, as HAProxy counts.
        counts = live.process + 1, live.service + 1, live.pool, live.server
        entry = Entry(
            client,
            vip,
            seen_as=None,
            at=None,
            frontend=service.name,
            backend=backend,
            server="<NOSRV>" if event.server is None else event.server.name,
            opened=wall - (queue or 0.0),
            total=queue or 0.0,
            connect=None,
            queue=queue,
            sent=0,
            received=0,
            ending=REFUSED[event.reason],
            live=counts,
            queued=_position(waited),
            unfinished=log.settings.early,
        )
        self._send(log, entry, True, wall)

    def _connect(self, log: _ProxyLog, service: Service, original: FlowKey) -> None:
        client, vip = ends(original)
        text = connect_line(client, vip, service.name, "UDP" if service.protocol == UDP else "TCP")
        self.sender.send(log.settings.targets, log.origin, Level.INFO, text, self._wall())

    def _send(self, log: _ProxyLog, entry: Entry, is_error: bool, wall: float) -> None:
        if log.render is None:
            return
        entry.number, entry.frontend_number = next(self._lines), next(log.lines)
        level = Level.ERR if is_error and log.settings.separate_errors else Level.INFO
        self.sender.send(log.settings.targets, log.origin, level, log.render(entry), wall, log.data(entry))


def _position(waited: Wait | None) -> tuple[int, int]:
    """Return the place in the queue of the server, and in that of the backend."""
    if waited is None:
        return 0, 0
    return (0, waited.position) if waited.server is None else (waited.position, 0)
