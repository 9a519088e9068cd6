"""Rates slide, as HAProxy's frequency counters do."""

from hypothesis import given
from hypothesis import strategies as st

from natlb.core.rates import Rate

START = 1000.0


def test_events_of_the_running_period_count_whole_and_fade_over_the_next():
    rate = Rate(10.0)
    rate.count(START, 100)
    read = {after: rate.read(START + after) for after in (0, 9.999, 10, 12.5, 15, 19.99, 20, 100)}
    assert read == {0: 100, 9.999: 100, 10: 100, 12.5: 75, 15: 50, 19.99: 0, 20: 0, 100: 0}


def test_a_single_event_of_the_last_period_does_not_flicker():
    rate = Rate(10.0)
    rate.count(START)
    assert [rate.read(START + after) for after in (0, 10, 19.999, 20)] == [1, 1, 1, 0]


def test_a_limit_has_room_for_as_many_as_the_sliding_period_leaves():
    rate = Rate()
    assert rate.room(START, 10) == 10
    rate.count(START, 10)
    assert rate.room(START, 10) == 0
    assert rate.room(START + 1.5, 10) == 5
    rate.count(START + 1.5, 5)
    assert rate.room(START + 1.5, 10) == 0
    assert rate.room(START + 1.6, 10) == 1
    assert rate.room(START + 50, 10) == 10


def test_what_did_not_happen_after_all_can_be_taken_back():
    rate = Rate()
    rate.count(START, 3)
    rate.count(START, -1)
    assert rate.read(START) == 2
    rate.count(START, -5)
    assert rate.read(START) == 0


def test_a_rate_can_be_set():
    rate = Rate(10.0)
    rate.count(START, 3)
    rate.set(START + 3, 50)
    assert [rate.read(START + after) for after in (3, 13, 18)] == [50, 50, 25]


class FrequencyCounter:
    """HAProxy 2.6's own arithmetic, from include/haproxy/freq_ctr.h and src/freq_ctr.c, word for word."""

    def __init__(self, period: int) -> None:
        self.period, self.tick, self.current, self.previous = period, 0, 0, 0

    def update(self, now: int, events: int) -> None:
        if now - self.tick >= self.period:
            self.previous, self.current = self.current, events
            self.tick += self.period
            if now - self.tick >= self.period:
                self.previous, self.tick = 0, now
        else:
            self.current += events

    def total(self, now: int, pending: int) -> int:
        current, past = self.current, self.previous
        remain = self.tick + self.period - now
        if remain < 0:
            past, current = current, 0
            remain += self.period
            if remain < 0:
                past = remain = 0
        if pending < 0:
            pending = 0
            if not current and past <= 1:
                return past * self.period
        return past * remain + (current + pending) * self.period

    def read(self, now: int) -> int:
        return self.total(now, -1) // self.period

    def remaining(self, now: int, limit: int) -> int:
        return limit - min(limit, self.total(now, 0) // self.period)


@given(st.integers(1, 5000), st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 20)), max_size=30))
def test_rates_are_haproxys_to_the_number(period, steps):
    ours, theirs, now = Rate(period / 1000), FrequencyCounter(period), 10_000
    theirs.tick = 10_000
    ours.set(now / 1000, 0)
    for pause, events in steps:
        now += pause
        at = (now + 0.5) / 1000  # inside the millisecond, where no rounding can push it into another
        remain = theirs.tick + period - now
        if remain and remain != -period:  # on the very border HAProxy's readers and writers disagree by one event
            assert ours.read(at) == theirs.read(now)
            assert ours.room(at, 50) == theirs.remaining(now, 50)
        if events:
            ours.count(at, events)
            theirs.update(now, events)
            assert ours.read(at) == theirs.read(now)


def test_a_rate_goes_on_where_another_one_was():
    before, after = Rate(10), Rate(10)
    for at in (3.0, 9.0, 14.0):
        before.count(at, 4)
    after.counts = before.counts
    assert [after.read(at) for at in (14.0, 17.0, 22.0, 40.0)] == [before.read(at) for at in (14.0, 17.0, 22.0, 40.0)]
