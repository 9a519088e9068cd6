"""`balance random(<draws>)`: draw some servers by weight, and take the one of them that is least loaded.

Two draws, the default, are nearly as even as looking at all servers, and many balancers that draw apart do not all
send to the same one, as they would if each looked for the least loaded (Mitzenmacher, The Power of Two Choices, 2001).
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from natlb.core.flow import FlowKey
from natlb.core.schedulers.base import Scheduler
from natlb.core.wording import counted

if TYPE_CHECKING:
    from natlb.core.pool import Server

DRAWS: Final = 2
"""HAProxy's default."""


class RandomDraws(Scheduler):
    """The least loaded of a few drawn by weight."""

    rotates = True

    def __init__(self, random: Callable[[int], int], draws: int = DRAWS) -> None:
        """Draw with `random`, which returns a number from 0 up to below its argument."""
        self._random = random
        self._draws = draws
        self._servers: list[Server] = []
        self._borders: list[int] = []

    def rebuild(self, servers: Sequence["Server"], configured: Sequence["Server"]) -> None:
        """Draw among these from now on."""
        self._servers = list(servers)
        self._borders = list(accumulate(server.share for server in servers))

    def pick(self, flow: FlowKey, avoid: "Server | None" = None) -> "Server | None":
        """Return the best of the draws; None if that one is full, as in HAProxy."""
        if not self._servers:
            return None
        best = self._draw(avoid)
        for _ in range(self._draws - 1):
            other = self._draw(avoid)
            if other.live * best.share < best.live * other.share:
                best = other
        return None if best.full else best

    def standings(self, flow: FlowKey) -> Iterator[tuple["Server", str]]:
        """Return each server's chance to be drawn, and its load."""
        total = sum(server.share for server in self._servers)
        for server in self._servers:
            yield server, f"{100 * server.share / total:.0f} % of each draw, {counted(server.live)}"

    def _draw(self, avoid: "Server | None") -> "Server":
        servers = self._servers
        place = bisect_right(self._borders, self._random(self._borders[-1]))
        return servers[place] if servers[place] is not avoid else servers[(place + 1) % len(servers)]
