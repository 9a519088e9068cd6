"""`balance first`: the first server by id that has room, so that the last ones can sleep.

It makes sense with `maxconn` alone: a server without a limit takes all. Weights count for nothing. Where the search
begins is remembered: before that place all are full, until something changes about one of them.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from natlb.core.flow import FlowKey
from natlb.core.schedulers.base import Scheduler

if TYPE_CHECKING:
    from natlb.core.pool import Server


class First(Scheduler):
    """Fill one server after the other."""

    def __init__(self) -> None:
        self._servers: list[Server] = []
        self._places: dict[Server, int] = {}
        self._begin = 0

    def rebuild(self, servers: Sequence["Server"], configured: Sequence["Server"]) -> None:
        """Take up the given servers, by their ids."""
        self._servers = sorted(servers, key=lambda server: server.id)
        self._places = {server: place for place, server in enumerate(self._servers)}
        self._begin = 0

    def pick(self, flow: FlowKey, avoid: "Server | None" = None) -> "Server | None":
        """Return the first server that has room."""
        servers = self._servers
        for place in range(self._begin, len(servers)):
            if servers[place].full:
                continue
            self._begin = place
            if servers[place] is not avoid:
                return servers[place]
            return next((each for each in servers[place + 1 :] if not each.full), avoid)
        self._begin = 0  # a limit may have risen by itself
        return None

    def standings(self, flow: FlowKey) -> Iterator[tuple["Server", str]]:
        """Return each server's id."""
        for server in self._servers:
            yield server, f"id {server.id}, {'full' if server.full else 'has room'}"

    def load_changed(self, server: "Server") -> None:
        """Begin with this one if it has room again."""
        place = self._places.get(server, self._begin)
        if place < self._begin and not server.full:
            self._begin = place
