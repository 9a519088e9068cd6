"""What happened between two samples, where both say something."""

from dataclasses import replace

from natlb.top.rates import Rate, Rates, Sample
from natlb.top.replies import Kind
from tests.unit.top.samples import row, session


def server(total: int | None, octets_in: int | None, octets_out: int | None = 0) -> Sample:
    return Sample(0.0, rows=[row(Kind.SERVER, "b", "s", total=total, octets_in=octets_in, octets_out=octets_out)])


def between(before: Sample, now: Sample, seconds: float = 2.0) -> Rate:
    return Rates(before, replace(now, at=seconds)).of(now.rows[0])


def test_a_rate_is_the_difference_by_the_seconds_between() -> None:
    rate = between(server(10, 1000, 500), server(14, 3000, 500))
    assert (rate.total, rate.octets_in, rate.octets_out, rate.octets) == (2.0, 1000.0, 0.0, 1000.0)


def test_of_one_sample_and_of_what_is_new_nothing_is_known() -> None:
    assert Rates(None, server(1, 1)).of(server(1, 1).rows[0]) == Rate()
    assert between(Sample(0.0), server(1, 1)) == Rate()
    assert between(server(1, 1), server(2, 2), seconds=0.0) == Rate()
    assert Rate().octets is None


def test_what_one_of_them_does_not_say_is_not_known() -> None:
    assert between(server(None, 5), server(7, None)) == Rate(None, None, 0.0)


def test_a_counter_that_was_cleared_has_no_rate() -> None:
    assert between(server(100, 5000), server(1, 10)) == Rate(None, None, 0.0)


def test_connections_have_rates_and_another_one_with_the_same_id_has_none() -> None:
    before = Sample(0.0, sessions=[session(1, octets_in=0, octets_out=0), session(2)])
    grown, other = session(1, octets_in=100, octets_out=300), session(2, client="44.1.1.9:7")
    rates = Rates(before, Sample(2.0, sessions=[grown, other]))
    assert (rates.of(grown).octets_in, rates.of(grown).octets_out) == (50.0, 150.0)
    assert rates.of(other) == Rate()
