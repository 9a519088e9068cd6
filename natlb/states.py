"""How proxies and servers stand, told in the log as HAProxy does: at SIGHUP, and when a proxy stops."""

import asyncio
from collections.abc import Iterator
from typing import Final

from natlb.assembly import Assembly
from natlb.config.model import Config
from natlb.core.service import Intake
from natlb.log import Level as Urgency
from natlb.log import log, status

_TOLD_AT_ONCE: Final = 8
"""Servers of which is told what they are before packets have their turn."""


class States:
    """Tells of the proxies of a configuration."""

    def __init__(self, config: Config, made: Assembly) -> None:
        self._config = config
        self._made = made

    def tell_of_all_stopped(self) -> None:
        """Tell that natlb takes no new connections, of each proxy that has not been told of before."""
        stopped = {service.name for service in self._made.services if service.intake is Intake.STOPPED}
        for name, front, back in self._proxies():
            if name not in stopped:
                _tell_of_stopped(name, front[1], back[1])

    def tell_of_stopped(self, name: str) -> None:
        """Tell that one proxy takes no new connections."""
        for each, front, back in self._proxies():
            if each == name:
                _tell_of_stopped(name, front[1], back[1])

    async def tell(self) -> None:
        """Tell how each server and each proxy is (SIGHUP, as in HAProxy)."""
        log.warning("SIGHUP received, dumping servers states.")
        for name, front, back in list(self._proxies()):
            pool = self._made.pools.get(name)
            servers = list(pool.servers.values()) if pool is not None else []
            for number, server in enumerate(servers):
                if number % _TOLD_AT_ONCE == 0:
                    await asyncio.sleep(0)
                state = "DOWN" if server.away else "UP"
                status(
                    name,
                    Urgency.NOTICE,
                    f"SIGHUP: Server {name}/{server.name} is {state}. "
                    f"Conn: {server.live} act, {server.queued} pend, {server.total} tot.",
                )
            usable = [server for server in servers if server.usable]
            backups = sum(server.backup for server in usable)
            if not servers:
                what = "has no servers."
            elif usable:
                what = f"has {len(usable) - backups} active servers and {backups} backup servers available."
            else:
                what = "has no server available !"
            unassigned = pool.queued if pool is not None else 0
            queued = f"{unassigned + sum(server.queued for server in servers)} pend ({unassigned} unass)"
            counts = f"Conn: act(FE+BE): {front[0]}+{back[0]}, {queued}, tot(FE+BE): {front[1]}+{back[1]}."
            status(name, Urgency.NOTICE, f"SIGHUP: Proxy {name} {what} {counts}")

    def _proxies(self) -> Iterator[tuple[str, tuple[int, int], tuple[int, int]]]:
        """Go over the sections as written: the name, and the connections, open and ever, of either half."""
        services = {service.name: service for service in self._made.services}
        for frontend, backend in self._config.proxies():
            service = services.get(frontend.name) if frontend else None
            servers = self._made.pools[backend.name].servers.values() if backend else ()
            front = (service.live, service.total) if service else (0, 0)
            back = sum(server.live for server in servers), sum(server.total for server in servers)
            yield (frontend.name if frontend else backend.name if backend else ""), front, back


def _tell_of_stopped(name: str, through_frontend: int, through_backend: int) -> None:
    counts = f"cumulated conns: FE: {through_frontend}, BE: {through_backend}"
    status(name, Urgency.WARNING, f"Proxy {name} stopped ({counts}).")
