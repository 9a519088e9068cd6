from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natlb.core.pool import Server
from natlb.core.schedulers.roundrobin import RoundRobin, StaticRoundRobin
from tests.effort import examples
from tests.unit.core.schedulers.support import FLOW, built

cycles = settings(max_examples=examples(30))  # each of up to 2,048 picks, several times over
weights = st.lists(st.integers(1, 256), min_size=1, max_size=8)


def servers(*weights):
    """Make servers named a, b, c, ... of the given weights."""
    return [Server(chr(ord("a") + place), bytes(4), 80, weight=weight) for place, weight in enumerate(weights)]


def scheduler(among):
    return Taking(RoundRobin(), among)


class Taking:
    """A scheduler whose picks need no flow, and whose servers are all that are configured."""

    def __init__(self, scheduler, among):
        self.scheduler = built(scheduler, among)
        self.configured = among

    def pick(self, avoid=None):
        return self.scheduler.pick(FLOW, avoid)

    def rebuild(self, among):
        self.configured = sorted({*self.configured, *among}, key=lambda server: server.name)
        self.scheduler.rebuild(among, self.configured)


def picks(scheduler, number):
    return "".join(picked.name if (picked := scheduler.pick()) else "-" for _ in range(number))


def test_without_servers_there_is_none_to_pick():
    assert RoundRobin().pick(FLOW) is None
    assert scheduler([]).pick() is None


def test_servers_of_one_weight_take_turns_in_the_order_of_the_configuration():
    assert picks(scheduler(servers(7, 7, 7)), 9) == "abcabcabc"


@pytest.mark.parametrize(
    ("weights", "cycle"),
    [
        ((1,), "a"),
        ((2, 1), "aba"),
        ((1, 2), "bab"),
        ((3, 1), "aaba"),
        ((3, 1, 1), "abaca"),
        ((1, 1, 4), "caccbc"),
        ((5, 1, 1), "abaaaca"),
        ((4, 1, 1, 1, 1), "abacadae"),
    ],
)
def test_a_heavy_server_comes_often_and_evenly_spread(weights, cycle):
    assert picks(scheduler(servers(*weights)), len(cycle)) == cycle


def runs(names):
    """Cut a string into runs of one letter."""
    cut = [names[0]]
    for name in names[1:]:
        if name == cut[-1][0]:
            cut[-1] += name
        else:
            cut.append(name)
    return cut


@cycles
@given(weights)
def test_over_a_whole_cycle_each_server_is_picked_as_often_as_its_weight_says(weights):
    among = servers(*weights)
    running = scheduler(among)
    for _ in range(3):
        picked = Counter(running.pick() for _ in range(sum(weights)))
        assert picked == {server: server.weight for server in among}


@cycles
@given(weights)
def test_no_server_is_ever_a_whole_turn_ahead_of_its_share_nor_two_behind(weights):
    among = servers(*weights)
    running, total, picked = scheduler(among), sum(weights), Counter()
    for number in range(1, total + 1):
        picked[running.pick()] += 1
        for server in among:
            ahead = picked[server] - number * server.weight / total
            assert -2 < ahead < 1


@cycles
@given(weights)
def test_every_cycle_is_like_the_first(weights):
    running = scheduler(servers(*weights))
    first = picks(running, sum(weights))
    assert picks(running, sum(weights)) == first


def test_a_server_that_leaves_does_not_disturb_the_order_of_the_others():
    a, b, c, d = servers(1, 1, 1, 1)
    running = scheduler([a, b, c, d])
    assert picks(running, 2) == "ab"
    running.rebuild([a, b, d])
    assert picks(running, 6) == "dabdab"


def test_a_server_that_joins_comes_to_its_place_and_the_others_stay_in_order():
    a, b, c = servers(1, 1, 1)
    running = scheduler([a, c])
    assert picks(running, 3) == "aca"
    running.rebuild([a, b, c])
    told = picks(running, 9)
    assert told.replace("b", "") == "cacaca"
    assert Counter(told) == {"a": 3, "b": 3, "c": 3}


def test_all_servers_may_leave_and_come_back():
    among = servers(1, 1)
    running = scheduler(among)
    running.rebuild([])
    assert running.pick() is None
    running.rebuild(among)
    assert picks(running, 4) == "abab"


def test_a_weight_counts_from_the_next_rebuild_on():
    a, _ = among = servers(1, 1)
    running = scheduler(among)
    a.weight = 3
    assert Counter(picks(running, 100)) == {"a": 50, "b": 50}
    running.rebuild(among)
    assert Counter(picks(running, 100)) == {"a": 75, "b": 25}


def test_a_weight_that_falls_from_256_to_1_leaves_no_debt_behind():
    """What a pick cost is counted in turns: the others do not catch up hundreds of picks."""
    a, _ = among = servers(256, 1)
    running = scheduler(among)
    picks(running, 100)
    a.weight = 1
    running.rebuild(among)
    assert Counter(picks(running, 10)) in ({"a": 5, "b": 5}, {"a": 4, "b": 6}, {"a": 6, "b": 4})


@cycles
@given(weights, st.data())
def test_whoever_comes_and_goes_the_shares_are_kept_from_then_on(weights, data):
    """Any history of memberships and weights, then one membership for good: within a turn or two of the exact share."""
    among = servers(*weights)
    running = scheduler(among)
    for _ in range(data.draw(st.integers(1, 10))):
        for _ in range(data.draw(st.integers(0, 20))):
            running.pick()
        for server in among:
            server.weight = data.draw(st.integers(1, 256))
        running.rebuild([server for server in among if data.draw(st.booleans())])
    running.rebuild(among)
    total = sum(server.weight for server in among)
    picked = Counter(running.pick() for _ in range(2 * total))
    for server in among:
        assert abs(picked[server] - 2 * server.weight) <= 3


@given(st.integers(2, 6), st.lists(st.integers(0, 5), max_size=200))
def test_a_flapping_server_takes_nothing_from_the_others_and_piles_nothing_up(number, flaps):
    """One of equal servers leaves and joins between any two picks: no server is picked three times in a row."""
    among = servers(*[1] * (number + 1))
    running = scheduler(among)
    told = ""
    for pause in flaps:
        running.rebuild(among[:-1])
        told += picks(running, pause)
        running.rebuild(among)
        told += picks(running, 1)
    assert all(len(run) < 3 for run in runs(told or "-"))


def test_one_that_is_full_loses_its_turns_and_the_others_share_them():
    a, b, c = among = servers(1, 1, 2)
    running = scheduler(among)
    b.maxconn = b.live = 1
    running.scheduler.load_changed(b)
    assert Counter(picks(running, 30)) == {"a": 10, "c": 20}
    b.live = 0
    running.scheduler.load_changed(b)
    assert Counter(picks(running, 40)) == {"a": 10, "b": 10, "c": 20}
    a.maxconn = a.live = b.live = c.maxconn = c.live = 1
    assert picks(running, 3) == "---"


def test_a_weight_whose_servers_are_all_full_piles_up_no_credit():
    _, b = among = servers(1, 3)
    running = scheduler(among)
    b.maxconn = b.live = 1
    assert picks(running, 100) == "a" * 100
    b.live = 0
    running.scheduler.load_changed(b)
    assert Counter(picks(running, 8)) == {"a": 2, "b": 6}


@pytest.mark.parametrize("kind", [RoundRobin, StaticRoundRobin])
def test_one_that_is_to_be_avoided_is_picked_only_if_there_is_no_other(kind):
    a, b = among = servers(1, 1)
    running = Taking(kind(), among)
    assert [running.pick(a), running.pick(a)] == [b, b]
    b.maxconn = b.live = 1
    assert running.pick(a) is a
    a.maxconn = a.live = 1
    assert running.pick(a) is None


def test_a_server_that_leaves_for_good_leaves_the_others_their_turns():
    _a, b, c = among = servers(1, 1, 1)
    running = scheduler(among)
    assert picks(running, 1) == "a"
    running.scheduler.rebuild([b, c], [b, c])
    assert Counter(picks(running, 4)) == {"b": 2, "c": 2}


@pytest.mark.parametrize(
    ("weights", "cycle"), [((1, 1, 1), "abc"), ((2, 1), "aba"), ((1, 2), "bab"), ((3, 1, 1), "aabca"), ((4, 2), "aba")]
)
def test_static_turns_follow_haproxys_map(weights, cycle):
    running = Taking(StaticRoundRobin(), servers(*weights))
    told = picks(running, 3 * len(cycle))
    assert Counter(told) == Counter(3 * cycle)
    assert told[: len(cycle)] * 3 == told


def test_static_turns_pass_over_full_servers():
    a, b, c = among = servers(1, 1, 1)
    running = Taking(StaticRoundRobin(), among)
    b.maxconn = b.live = 1
    assert picks(running, 4) == "acac"
    a.maxconn = c.maxconn = a.live = c.live = 1
    assert picks(running, 2) == "--"


def test_static_turns_without_servers():
    assert StaticRoundRobin().pick(FLOW) is None


def test_static_turns_go_on_with_the_servers_that_are_left():
    a, _b, c = among = servers(1, 1, 1)
    running = Taking(StaticRoundRobin(), among)
    assert picks(running, 1) == "a"
    running.rebuild([a, c])
    assert picks(running, 4) == "caca"


def test_only_roundrobin_follows_weights_live():
    assert RoundRobin.dynamic
    assert not StaticRoundRobin.dynamic


def test_the_load_of_one_that_has_gone_counts_no_more():
    a, b = among = servers(1, 1)
    running = scheduler(among)
    running.rebuild([a])
    b.maxconn = b.live = 1
    running.scheduler.load_changed(b)
    assert picks(running, 2) == "aa"


def test_a_limit_that_rises_by_itself_is_noticed():
    """It is looked at anew for each pick; only what a server's weight counts for waits for its load to change."""
    _a, b = among = servers(1, 1)
    running = scheduler(among)
    for each in among:
        each.maxconn = each.live = 1
        running.scheduler.load_changed(each)
    assert picks(running, 1) == "-"
    b.maxconn = 2
    assert picks(running, 1) == "b"
