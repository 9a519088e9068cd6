"""What nobody else measures: how long a packet keeps natlb busy, and how late the event loop comes to its work.

Reading a clock costs about as much as a tenth of a packet does, so not every packet is timed. `Stopwatch` takes one
batch in sixteen, whole, and counts its average for each packet in it; every other batch costs one subtraction more. The
loop's lag is what a sleep takes longer than it should: whatever else wanted to run then had to wait as long.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from natlb.metrics.histogram import Histogram

ONE_IN: Final = 16
"""Batches of which one is timed."""

_TICK: Final = 0.1
"""Seconds between two looks at how late the loop is."""

_PACKET_BOUNDS: Final = (5e-6, 1e-5, 2e-5, 3e-5, 5e-5, 7.5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 1e-2)
_LAG_BOUNDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Stopwatch:
    """Does a piece of work whenever it is called, and times some of the calls."""

    def __init__(
        self, work: Callable[[], None], done: Callable[[], int], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Time `work`, of which each call does several pieces; `done` says how many were done until now."""
        self.seconds = Histogram(_PACKET_BOUNDS)
        """Seconds for each piece, of the calls that were timed."""
        self._work = work
        self._done = done
        self._clock = clock
        self._left = ONE_IN

    def __call__(self) -> None:
        """Work once."""
        self._left -= 1
        if self._left:
            self._work()
            return
        self._left = ONE_IN
        before, started = self._done(), self._clock()
        self._work()
        took, pieces = self._clock() - started, self._done() - before
        if pieces:
            self.seconds.observe(took / pieces, pieces)


class LoopLag:
    """Watches the event loop that it is awaited in."""

    def __init__(self) -> None:
        self.seconds = Histogram(_LAG_BOUNDS)
        """How late each tick was, in seconds."""

    async def watch(self) -> None:
        """Watch for as long as the task lives."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _TICK
            await asyncio.sleep(_TICK)
            self.seconds.observe(max(0.0, loop.time() - due))
