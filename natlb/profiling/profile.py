"""What was seen, added up by stage, and the table that is made of it.

Samples say how the time was divided, and not how much it was: that, and the number of packets, are counted exactly. So
the time of a stage is its share of the samples, of the time that the process has worked, divided by the packets.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from natlb.profiling.stages import Stage

_BAR: Final = 40
"""Characters for a stage that takes all the time."""

_UNITS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


@dataclass(slots=True)
class Profile:
    """A stretch of time, looked at."""

    seconds: float = 0.0
    """How long it was, by the clock on the wall."""
    cpu: float = 0.0
    """Seconds that the process has worked in it, the kernel on its behalf included."""
    packets: int = 0
    samples: Counter[Stage] = field(default_factory=Counter)
    user_samples: Counter[Stage] = field(default_factory=Counter)
    """Those of the samples that found the process outside of system calls."""

    def forget(self, stage: Stage) -> None:
        """Leave a stage out, as if its time had not been spent."""
        self.cpu *= 1 - self.share(stage)
        del self.samples[stage], self.user_samples[stage]

    def share(self, stage: Stage) -> float:
        """Return which part of the time it took, 0 to 1."""
        return self.samples[stage] / (self.samples.total() or 1)

    def kernel_share(self, stage: Stage) -> float:
        """Return which part of the time it took inside the kernel. The two are counted apart, and may differ by one."""
        return max(0, self.samples[stage] - self.user_samples[stage]) / (self.samples.total() or 1)

    def table(self, stages: Iterable[Stage] = Stage) -> Iterator[str]:
        """Write down these stages, in lines like those of HAProxy's `show profiling tasks`."""
        names = ("samples", "cpu_tot", "cpu_avg", "usr_avg", "sys_avg", "share")
        yield f"  {'stage':<25}{''.join(f'{name:>10}' for name in names)}\n"
        for stage in stages:
            share = self.share(stage)
            line = self._line(stage.value, self.samples[stage], share, self.kernel_share(stage))
            yield f"{line}  {'#' * round(_BAR * share)}".rstrip() + "\n"
        yield self._line("total", self.samples.total(), 1.0, sum(map(self.kernel_share, Stage))) + "\n"

    def _line(self, name: str, samples: int, share: float, kernel_share: float) -> str:
        total = self.cpu * share
        times = [total, *(self._each(self.cpu * part) for part in (share, share - kernel_share, kernel_share))]
        return f"  {name:<25}{samples:>10}{''.join(f'{written(time):>10}' for time in times)}{share:>10.1%}"

    def _each(self, seconds: float) -> float | None:
        return seconds / self.packets if self.packets else None


def written(seconds: float | None) -> str:
    """Write a time down as HAProxy does, with four digits; `-` where there is none."""
    if seconds is None:
        return "-"
    rounded = float(f"{seconds:.3e}")
    size, unit = next((each for each in _UNITS if rounded >= each[0]), _UNITS[-1])
    number = rounded / size
    return f"{number:.{3 if number < 10 else 2 if number < 100 else 1 if number < 1000 else 0}f}{unit}"
