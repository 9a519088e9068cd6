import pytest

from netns.bench.loads import Datagrams


@pytest.mark.parametrize(
    ("sent", "arrived", "per_second", "lost"), [(1000, 1000, 500, 0), (1000, 250, 125, 75), (1000, 0, 0, 100)]
)
def test_datagrams_are_counted_at_both_ends(sent, arrived, per_second, lost):
    found = Datagrams(sent, arrived, 2.0)
    assert (found.per_second, found.lost_percent) == (per_second, lost)


def test_more_cannot_arrive_than_were_sent_whatever_else_the_hosts_did():
    assert Datagrams(1000, 1003, 1.0).lost_percent == 0
