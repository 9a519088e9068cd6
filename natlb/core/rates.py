"""How often something happens: events over a sliding period.

HAProxy's frequency counters, to the number, because limits are written for them. Two counts are kept, of the period
that runs and of the one before it. What is reported is the running count, plus as much of the one before as the sliding
period still overlaps with: events are taken as spread evenly over a period that is past. It needs no list of events,
and it never lets through twice the limit around the turn of a second, as counting by the clock's seconds would.

Time is told, in seconds, and kept in whole milliseconds as HAProxy does, so that both come to the same numbers.
"""


class Rate:
    """How many events there were in the last `period` seconds."""

    __slots__ = ("_before", "_current", "_period", "_start", "highest")

    def __init__(self, period: float = 1.0) -> None:
        """Count over `period` seconds, at least a millisecond."""
        self._period = max(1, round(period * 1000))
        self._start = 0
        """When the running period began."""
        self._current = 0
        self._before = 0
        self.highest = 0
        """The most events within one of the periods that were counted."""

    def count(self, now: float, events: int = 1) -> None:
        """Note that events happen now; below 0, that as many of those just noted did not happen after all."""
        at = int(now * 1000)
        if at - self._start >= self._period:
            self._turn(at)
        self._current = current = self._current + events
        if current > self.highest:
            self.highest = current
        elif current < 0:
            self._current = 0

    def _turn(self, at: int) -> None:
        """Begin another period, as one or more are past."""
        start = self._start + self._period
        self._before = self._current if at - start < self._period else 0
        self._start = start if at - start < self._period else at
        self._current = 0

    def read(self, now: float) -> int:
        """Return the events of the last period. A single one of the period before the running one stays whole."""
        current, before, left = self._counted(now)
        if not current and before <= 1:
            return before
        return (before * left + current * self._period) // self._period

    def room(self, now: float, limit: int) -> int:
        """Return how many more events the limit has room for now."""
        current, before, left = self._counted(now)
        return max(0, limit - (before * left + current * self._period) // self._period)

    def set(self, now: float, events: int) -> None:
        """Act as if so many events had happened just now, and none before."""
        self._start, self._current, self._before = int(now * 1000), events, 0

    @property
    def counts(self) -> tuple[int, int, int]:
        """When the running period began, in milliseconds, the events in it, and those of the one before."""
        return self._start, self._current, self._before

    @counts.setter
    def counts(self, counts: tuple[int, int, int]) -> None:
        self._start, self._current, self._before = counts

    def _counted(self, now: float) -> tuple[int, int, int]:
        """Return the counts of the running period and of the one before, and how much of that is not yet past."""
        left = self._start + self._period - int(now * 1000)
        if left > 0:
            return self._current, self._before, left
        left += self._period
        return (0, self._current, left) if left > 0 else (0, 0, 0)
