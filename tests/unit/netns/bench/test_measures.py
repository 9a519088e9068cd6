import pytest

from netns.bench.measures import MEASURES, NOT_A_RATIO, medians, ratios, together
from netns.bench.readings import Profile, Stage

KEYS = [measure.key for measure in MEASURES]


def test_every_key_is_there_once():
    assert len(set(KEYS)) == len(KEYS)
    assert set(KEYS) >= NOT_A_RATIO


def test_a_median_is_taken_over_the_rounds_that_have_a_value():
    rounds = [{"bulk_gbps": 3.0}, {"bulk_gbps": None}, {"bulk_gbps": 9.0, "udp_pps": 5.0}, {"bulk_gbps": 4.0}]
    found = medians(rounds)
    assert found["bulk_gbps"] == 4.0
    assert found["udp_pps"] == 5.0


def test_what_no_round_has_is_none_and_every_measure_is_named():
    assert medians([{"bulk_gbps": None}, {}]) == dict.fromkeys(KEYS)
    assert medians([]) == dict.fromkeys(KEYS)


def test_a_value_of_zero_is_a_value():
    assert medians([{"udp_loss_percent": 0.0}, {"udp_loss_percent": 0.0}])["udp_loss_percent"] == 0.0


def test_ratios_are_multiples_of_the_references_value():
    found = ratios({"haproxy": {"bulk_gbps": 8.0, "rss_mb_100k": 50.0}, "natlb": {"bulk_gbps": 2.0}}, "haproxy")
    assert found["haproxy"]["bulk_gbps"] == 1.0
    assert found["natlb"]["bulk_gbps"] == 0.25
    assert found["natlb"]["rss_mb_100k"] is None


@pytest.mark.parametrize("base", [None, 0.0])
def test_nothing_is_a_multiple_of_nothing(base):
    assert ratios({"haproxy": {"udp_pps": base}, "natlb": {"udp_pps": 2.0}}, "haproxy")["natlb"]["udp_pps"] is None


@pytest.mark.parametrize("key", sorted(NOT_A_RATIO))
def test_a_share_and_a_difference_are_not_divided(key):
    assert ratios({"haproxy": {key: 2.0}, "natlb": {key: 4.0}}, "haproxy")["natlb"][key] is None


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("bulk_gbps", 17.234, "17.23"),
        ("keepalive_rps", 203312.4, "203,312"),
        ("udp_loss_percent", 0.0, "0.0"),
        ("added_p99_us", -12.3, "-12"),
        ("rss_mb_100k", None, "-"),
    ],
)
def test_a_value_is_written_in_its_measures_digits(key, value, text):
    [measure] = [measure for measure in MEASURES if measure.key == key]
    assert measure.write(value) == text


def test_the_time_of_all_packets_counts_each_packet_once():
    one = Profile(300, 30, {"parse": Stage(4.0, 0.0), "verdict": Stage(1.0, 7.0)})
    other = Profile(100, 10, {"parse": Stage(8.0, 0.0), "open": Stage(4.0, 0.0)})
    found = together([one, other])
    assert (found.packets, found.samples) == (400, 40)
    assert found.stages == {"parse": Stage(5.0, 0.0), "verdict": Stage(0.75, 5.25), "open": Stage(1.0, 0.0)}
    assert together([one]) == one
