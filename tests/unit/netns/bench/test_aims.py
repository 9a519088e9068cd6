import pytest

from netns.bench.aims import AIMS, Aim, drawn, found
from netns.bench.measures import MEASURES, NOT_A_RATIO


def results(**natlb):
    of_haproxy = {"bulk_gbps": 10.0, "rss_kb_per_connection": 3.0}
    empty = dict.fromkeys(measure.key for measure in MEASURES)
    return {"haproxy": {**empty, **of_haproxy}, "natlb": {**empty, **natlb}}


@pytest.mark.parametrize(
    ("natlb", "row"),
    [
        ({"bulk_gbps": 9.0}, "| bulk to the server | `natlb` | `haproxy` | at least 0.9 | 0.90 | yes |"),
        ({"bulk_gbps": 8.9}, "| bulk to the server | `natlb` | `haproxy` | at least 0.9 | 0.89 | **no** |"),
        ({}, "| bulk to the server | `natlb` | `haproxy` | at least 0.9 | - | not measured |"),
        (
            {"rss_kb_per_connection": 0.3},
            "| memory for each connection | `natlb` | `haproxy` | at most 0.1 | 0.10 | yes |",
        ),
        (
            {"rss_kb_per_connection": 0.4},
            "| memory for each connection | `natlb` | `haproxy` | at most 0.1 | 0.13 | **no** |",
        ),
        (
            {"added_p99_us": 149.7},
            "| one at a time, 99 % within, us more than routing | `natlb` |  | at most 150 | 150 | yes |",
        ),
    ],
)
def test_each_aim_is_judged_by_what_was_measured(natlb, row):
    assert row in drawn(results(**natlb)).splitlines()


def test_nothing_is_said_of_who_was_not_there():
    table = drawn({"natlb": results()["natlb"]})
    assert "haproxy" not in table
    assert "added" not in table
    assert table.count("not measured") == 1
    assert "natlb-offload" not in table
    assert drawn({"haproxy": results()["haproxy"]}) == ""


def test_a_ratio_that_was_not_measured_is_none():
    assert found(Aim("natlb", "bulk_gbps", 1.0, "haproxy"), results()) is None


def test_aims_are_about_measures_that_there_are_and_that_can_be_divided():
    keys = {measure.key for measure in MEASURES}
    assert all(aim.measure in keys for aim in AIMS)
    assert all(aim.against is None or aim.measure not in NOT_A_RATIO for aim in AIMS)
