"""The profiler of a natlb that runs: begun, ended and read by commands."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Final

from natlb.profiling.checkpoints import Way, sources
from natlb.profiling.profile import Profile
from natlb.profiling.sampler import Sampler

_ON_THE_WAY: Final = ("natlb.core.", "natlb.datapath.", "natlb.daemon")
"""What a packet comes by: names of modules begin like this."""


def modules() -> list[ModuleType]:
    """Return the modules that a packet comes by, of those that are loaded."""
    return [module for name, module in sys.modules.items() if name.startswith(_ON_THE_WAY)]


class Profiler:
    """Off until it is started; what was seen last stays to be read when it is off again."""

    def __init__(self, packets: Callable[[], int]) -> None:
        """Get ready; `packets` says how many have come until now."""
        self._packets = packets
        self._sources = sources(modules())
        self._way: Way | None = None
        self._starting = asyncio.Lock()
        self._sampler: Sampler | None = None
        self._begun = Profile()
        """What the clocks and the count of packets said when it began."""
        self._seen = Profile()

    @property
    def is_on(self) -> bool:
        """Whether it looks."""
        return self._sampler is not None

    async def start(self) -> None:
        """Begin anew, unless it is on already. Raises ProfilingError when natlb's source is not at hand."""
        async with self._starting:
            if self._way is None:
                # In a thread, because that takes longer than packets should wait.
                self._way = await asyncio.to_thread(Way, self._sources)
        if self._sampler is None:
            self._way.put_in()
            self._sampler = Sampler(self._way.stage)
            self._begun = self._now()
            self._sampler.resume()

    def stop(self) -> None:
        """Look no more, and leave no trace of it: no timer, no handler of a signal, no checkpoint."""
        if self._sampler is not None and self._way is not None:
            self._seen = self.profile()
            self._sampler.close()
            self._sampler = None
            self._way.take_out()

    def profile(self) -> Profile:
        """Return what was seen, until now or until it was stopped."""
        if self._sampler is None:
            return self._seen
        now, begun = self._now(), self._begun
        return Profile(
            now.seconds - begun.seconds,
            now.cpu - begun.cpu,
            now.packets - begun.packets,
            self._sampler.samples.copy(),
            self._sampler.user_samples.copy(),
        )

    def report(self) -> Iterator[str]:
        """Return that in lines."""
        found = self.profile()
        yield f"Packets activity: {found.packets} packets in {found.seconds:.3f}s\n"
        yield from found.table()

    def _now(self) -> Profile:
        return Profile(time.monotonic(), time.process_time(), self._packets())
