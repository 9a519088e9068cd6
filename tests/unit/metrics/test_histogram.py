"""Buckets, as Prometheus has them: cumulative, the bound included."""

from natlb.metrics.histogram import Histogram


def test_nothing_observed_is_zero_everywhere() -> None:
    empty = Histogram((1.0, 2.0))
    assert empty.buckets() == [("1.0", 0), ("2.0", 0), ("+Inf", 0)]
    assert (empty.count, empty.sum) == (0, 0)


def test_each_bucket_counts_what_is_no_larger_than_its_bound() -> None:
    seen = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 99.0):
        seen.observe(value)
    assert seen.buckets() == [("1.0", 2), ("2.0", 4), ("+Inf", 5)]
    assert (seen.count, seen.sum) == (5, 104)


def test_a_value_can_count_several_times_over() -> None:
    seen = Histogram((1.0,))
    seen.observe(0.25, times=64)
    assert seen.buckets() == [("1.0", 64), ("+Inf", 64)]
    assert seen.sum == 16
