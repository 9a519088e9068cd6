"""How often something took how long: Prometheus' histogram, without its locks.

All of natlb runs in one thread, so an observation is one search in a dozen numbers. It may count for several at once,
because what is measured here is measured by the batch.
"""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final


class Histogram:
    """Observations, counted into buckets."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Iterable[float]) -> None:
        """Count into buckets that end at `bounds`, which rise; what is larger has a last bucket of its own."""
        self._bounds: Final = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0
        """All that was observed, added up."""

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, so many times over."""
        self._counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times

    @property
    def count(self) -> int:
        """How many observations there were."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Return each bucket's upper bound, and how many observations were no larger: as Prometheus has them."""
        bounds = [*map(str, self._bounds), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self._counts)), strict=True))
