"""Looks at which stage this process is in, at each tick of the kernel's clock for which it has worked.

Two timers of the kernel count the process's own work (setitimer(2)): ITIMER_PROF all of it, ITIMER_VIRTUAL what is not
done inside the kernel. Each sends a signal whenever a tick's worth has been done. So a process that waits costs no
sample, and the difference of the two is the time in system calls: for natlb a large part, since the kernel carries a
packet on, up to its receiver's TCP, within the call that gives the verdict.

Work of another thread than the main one, of which natlb has little, is seen as whatever the main one is doing.
"""

import signal
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from natlb.profiling.stages import Stage

_CLOCK_MONOTONIC_COARSE: Final = 6
"""linux/time.h: the clock that moves by ticks."""

_SHORTEST: Final = 0.004
"""Seconds of work between two samples at least: a sample takes some microseconds."""


def interval() -> float:
    """Return the seconds of work between two samples.

    That is a tick, and never less: a timer that is set to less falls behind by more each time, and ITIMER_VIRTUAL would
    then fire in ticks that the kernel has worked, too.
    """
    return max(_SHORTEST, time.clock_getres(_CLOCK_MONOTONIC_COARSE))


class Sampler:
    """Looks from `resume` on, until `pause` or `close`. To be used in the main thread."""

    def __init__(self, stage: Callable[[FrameType | None], Stage]) -> None:
        """Get ready; `stage` says which stage a call that is going on belongs to."""
        self.samples: Counter[Stage] = Counter()
        self.user_samples: Counter[Stage] = Counter()
        """Those that found the process outside of system calls."""
        self._stage = stage
        self._before: list[tuple[signal.Signals, Any]] = []
        for signum, handler in ((signal.SIGPROF, self._on_work), (signal.SIGVTALRM, self._on_user_work)):
            self._before.append((signum, signal.signal(signum, handler)))
            signal.siginterrupt(signum, False)  # system calls that it interrupts are taken up again

    def resume(self) -> None:
        """Begin, or go on."""
        every = interval()
        signal.setitimer(signal.ITIMER_VIRTUAL, every, every)
        signal.setitimer(signal.ITIMER_PROF, every, every)

    def pause(self) -> None:
        """Cease for a while."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def close(self) -> None:
        """Cease for good, and leave timers and signals as they were."""
        self.pause()
        for signum, before in self._before:
            # One that is still on its way shall not end the process, which is what it does by default.
            signal.signal(signum, signal.SIG_IGN)
            if before is not None:
                signal.signal(signum, before)

    def _on_work(self, _signum: int, frame: FrameType | None) -> None:
        self.samples[self._stage(frame)] += 1

    def _on_user_work(self, _signum: int, frame: FrameType | None) -> None:
        self.user_samples[self._stage(frame)] += 1
