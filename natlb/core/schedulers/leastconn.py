"""`balance leastconn`: the server with the fewest connections for its weight, and turns among equals.

The measure is HAProxy's: one connection more than there are, over the weight; an idle server comes before all others,
whatever its weight. The servers stand in a heap by it. One whose load has changed is entered anew, behind its equals,
and its old entry is passed over when it comes up; so a change costs as little among a thousand servers as among two.
A server without room is put aside until something changes about it.
"""

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from natlb.core.flow import FlowKey
from natlb.core.schedulers.base import Scheduler
from natlb.core.wording import counted

if TYPE_CHECKING:
    from natlb.core.pool import Server

_SCALE: Final = 4096
"""HAProxy's largest weight, in sixteenths: loads are compared to that precision."""


class LeastConnections(Scheduler):
    """The least loaded server."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Server]] = []
        self._turns: dict[Server, int] = {}
        """By server the number of its entry in the heap that counts."""
        self._aside: dict[Server, None] = {}
        """Servers that had no room when they came up."""
        self._last = 0

    def rebuild(self, servers: Sequence["Server"], configured: Sequence["Server"]) -> None:
        """Take up the given servers; those that stay keep their order among equals."""
        turns = self._turns
        self._turns = {}
        for server in servers:
            self._turns[server] = turns[server] if server in turns else self._next()
        self._aside = {}
        self._tidy()

    def pick(self, flow: FlowKey, avoid: "Server | None" = None) -> "Server | None":
        """Return the least loaded server that has room."""
        server = self._least(avoid)
        if server is None and self._aside:  # a limit may have risen by itself
            for each in [each for each in self._aside if not each.full]:
                self.load_changed(each)
            server = self._least(avoid)
        return self._least(None) if server is None and avoid is not None else server

    def standings(self, flow: FlowKey) -> Iterator[tuple["Server", str]]:
        """Return each server's connections, those that wait included, and its place among them all."""
        order = sorted(self._turns, key=lambda server: (_measure(server), self._turns[server]))
        for place, server in enumerate(order, start=1):
            load = server.live + server.queued
            yield server, f"{counted(load)} at weight {server.effective_weight}, number {place} by load and turn"

    def _least(self, avoid: "Server | None") -> "Server | None":
        heap, turns = self._heap, self._turns
        avoided = found = None
        while heap:
            entry = heap[0]
            _, turn, server = entry
            if turns.get(server) != turn:
                heappop(heap)
            elif server.full:
                heappop(heap)
                self._aside[server] = None
            elif server is avoid:
                avoided = heappop(heap)
            else:
                found = server
                break
        if avoided is not None:
            heappush(heap, avoided)
        return found

    def load_changed(self, server: "Server") -> None:
        """Enter a server anew, behind its equals."""
        if server not in self._turns:
            return
        turn = self._turns[server] = self._next()
        self._aside.pop(server, None)
        heappush(self._heap, (_measure(server), turn, server))
        if len(self._heap) > 4 * len(self._turns) + 64:
            self._tidy()

    def _tidy(self) -> None:
        """Make the heap of the entries that count."""
        self._heap = [
            (_measure(server), turn, server) for server, turn in self._turns.items() if server not in self._aside
        ]
        heapify(self._heap)

    def _next(self) -> int:
        self._last += 1
        return self._last


def _measure(server: "Server") -> int:
    load = server.live + server.queued
    return (load + 1) * _SCALE // server.share if load else 0
