"""Rates, averages and accounts, in time that is told."""

import pytest

from natlb.core.statistics import AVERAGED, Average, Counters, Rate, Standing, Traffic

# Rates


def test_nothing_happens_at_no_rate():
    assert Rate().read(1000.0) == 0


def test_events_of_the_second_that_runs_all_count():
    rate = Rate()
    for at in (1000.0, 1000.2, 1000.4):
        rate.count(at)
    assert rate.read(1000.5) == 3


@pytest.mark.parametrize(("after", "left"), [(0.0, 10), (0.25, 7), (0.5, 5), (0.9, 1), (1.0, 0), (5.0, 0)])
def test_of_the_second_before_as_much_counts_as_is_not_yet_over(after, left):
    rate = Rate()
    for _ in range(10):
        rate.count(1000.0)
    assert rate.read(1001.0 + after) == left


def test_a_steady_rate_reads_as_what_it_is():
    rate = Rate()
    for tenth in range(100):
        rate.count(1000 + tenth / 10)
        if tenth > 10:
            assert rate.read(1000 + tenth / 10) in (10, 11)
    assert rate.highest == 10


def test_a_single_event_counts_in_full_until_it_does_not_count():
    rate = Rate()
    rate.count(1000.0)
    assert [rate.read(1000.0 + after) for after in (0.0, 0.9, 1.5, 1.99, 2.01)] == [1, 1, 1, 1, 0]


def test_events_are_counted_anew_after_a_pause():
    rate = Rate()
    for _ in range(5):
        rate.count(1000.0)
    rate.count(1003.0)
    assert rate.read(1003.0) == 1
    assert rate.highest == 5


# Averages


def test_without_values_the_mean_is_none():
    assert (Average().mean, Average().highest) == (0, 0)


def test_the_mean_of_few_values_is_theirs_rounded_up():
    average = Average()
    for value in (1, 2, 2):
        average.add(value)
    assert (average.mean, average.highest) == (2, 2)
    average.add(0)
    assert average.mean == 2
    average.clear()
    assert (average.mean, average.highest) == (0, 0)


def test_the_mean_of_many_values_follows_the_last_ones():
    average = Average()
    for _ in range(AVERAGED):
        average.add(100)
    assert average.mean == 100
    for _ in range(AVERAGED):
        average.add(200)
    assert 160 <= average.mean <= 165, "a new value has taken the place of a mean, not of an old value"
    for _ in range(5 * AVERAGED):
        average.add(200)
    assert 199 <= average.mean <= 200


# Clearing


def test_maxima_are_cleared_alone_or_with_all_else():
    counters = Counters()
    counters.most_live = counters.failed = counters.octets_in = 5
    counters.sessions.count(1000.0)
    counters.arrivals.count(1000.0)
    for average in (counters.queue_time, counters.connect_time, counters.total_time):
        average.add(7)
    counters.clear_maxima()
    assert (counters.most_live, counters.sessions.highest, counters.arrivals.highest) == (0,) * 3
    assert (counters.total_time.mean, counters.total_time.highest) == (7, 0)
    assert (counters.failed, counters.octets_in) == (5, 5)
    counters.clear()
    assert (counters.failed, counters.octets_in, counters.total_time.mean) == (0, 0, 0)
    assert counters.sessions.read(1000.0) == 1, "what happened in the last second is no statistic"


def test_every_counter_is_cleared():
    fresh, used = Counters(), Counters()
    plain = [name for name in Counters.__slots__ if isinstance(getattr(fresh, name), int | None)]
    assert len(plain) == 13
    for name in plain:
        setattr(used, name, 9)
    used.clear()
    assert {name: getattr(used, name) for name in plain} == {name: getattr(fresh, name) for name in plain}


# Accounts


def test_what_was_carried_is_added_to_each_owner_once():
    owners = [Counters(), Counters()]
    traffic = Traffic(*owners)
    traffic.there.count(10)
    traffic.there.count(0)
    traffic.back.count(20)
    assert [traffic.settle(), traffic.settle()] == [30, 0]
    traffic.back.count(1)
    assert traffic.settle() == 1
    traffic.there.count(0)
    assert traffic.settle() == 0
    assert [(owner.octets_in, owner.octets_out) for owner in owners] == [(10, 21)] * 2
    assert [(owner.packets_in, owner.packets_out) for owner in owners] == [(3, 2)] * 2


# Standing


def test_the_time_that_something_is_down_is_added_up():
    standing = Standing(up=True)
    standing.changed = 1000.0
    standing.update(True, 1005.0)
    assert (standing.changed, standing.falls, standing.down_time(1010.0)) == (1000.0, 0, 0.0)
    standing.update(False, 1010.0)
    assert (standing.changed, standing.falls, standing.down_time(1012.0)) == (1010.0, 1, 2.0)
    standing.update(True, 1015.0)
    standing.update(False, 1020.0)
    assert (standing.falls, standing.down_time(1021.0)) == (2, 6.0)


def test_what_is_down_from_the_start_did_not_fall():
    standing = Standing(up=False)
    standing.changed = 1000.0
    assert (standing.falls, standing.down_time(1003.0)) == (0, 3.0)
