from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from natlb.core.schedulers.leastconn import LeastConnections
from tests.effort import examples
from tests.unit.core.schedulers.support import FLOW, built, connect, names, opened, servers


def made(*weights):
    among = servers(*weights)
    return among, built(LeastConnections(), among)


def test_without_servers_there_is_none():
    assert LeastConnections().pick(FLOW) is None
    assert made()[1].pick(FLOW, servers(1)[0]) is None


def test_equals_take_turns():
    _, scheduler = made(1, 1, 1)
    assert names(connect(scheduler, 6)) == "s000 s001 s002 s000 s001 s002"


def test_the_one_with_the_fewest_is_picked():
    among, scheduler = made(1, 1, 1)
    connect(scheduler, 9)
    opened(scheduler, among[1], -1)
    assert names(connect(scheduler, 2)) == "s001 s000"


def test_connections_are_shared_by_weight():
    among, scheduler = made(3, 1, 2)
    connect(scheduler, 600)
    for each in among:
        assert abs(each.live - 100 * each.weight) <= 1


def test_an_idle_server_comes_first_whatever_its_weight():
    _among, scheduler = made(256, 1)
    assert names(connect(scheduler, 2)) == "s000 s001"


def test_those_who_wait_for_a_server_count_as_its_own():
    among, scheduler = made(1, 1)
    among[0].queued = 3
    scheduler.load_changed(among[0])
    assert names(connect(scheduler, 3)) == "s001 s001 s001"


def test_one_that_is_full_is_passed_over_until_it_has_room():
    among, scheduler = made(1, 1)
    among[0].maxconn = 1
    assert names(connect(scheduler, 4)) == "s000 s001 s001 s001"
    opened(scheduler, among[0], -1)
    assert names(connect(scheduler, 2)) == "s000 s001"


def test_when_all_are_full_there_is_none_until_a_limit_rises():
    among, scheduler = made(1, 1)
    for each in among:
        each.maxconn = 1
    assert names(connect(scheduler, 3)) == "s000 s001 -"
    among[1].maxconn = 2
    assert names(connect(scheduler, 2)) == "s001 -"


def test_one_that_is_to_be_avoided_is_picked_only_if_there_is_no_other():
    among, scheduler = made(1, 1)
    assert scheduler.pick(FLOW, among[0]) is among[1]
    assert scheduler.pick(FLOW) is among[0], "and it has not lost its turn"
    among[1].maxconn = among[1].live = 1
    assert scheduler.pick(FLOW, among[0]) is among[0]


def test_one_that_has_gone_is_not_picked_although_its_load_changes():
    among, scheduler = made(1, 1)
    connect(scheduler, 2)
    scheduler.rebuild(among[1:], among)
    opened(scheduler, among[0], -1)
    assert names(connect(scheduler, 2)) == "s001 s001"


def test_those_that_stay_keep_their_order_and_new_ones_come_behind():
    among, scheduler = made(1, 1, 1)
    assert names(connect(scheduler, 1)) == "s000"
    opened(scheduler, among[0], -1)  # now it is the last of three idle ones
    scheduler.rebuild(among[:2], among)
    scheduler.rebuild(among, among)
    assert names(connect(scheduler, 3)) == "s001 s000 s002"


def test_the_heap_does_not_grow_with_the_connections():
    _, scheduler = made(1, 1, 1)
    for _ in range(1000):
        for each in connect(scheduler, 3):
            opened(scheduler, each, -1)
    assert len(scheduler._heap) <= 4 * 3 + 64


@settings(max_examples=examples(50))
@given(st.lists(st.integers(1, 256), min_size=1, max_size=8), st.data())
def test_whatever_happens_the_pick_has_the_least_load_of_those_with_room(weights, data):
    among = servers(*weights)
    scheduler = built(LeastConnections(), among)
    usable = list(among)
    for _ in range(40):
        step = data.draw(st.integers(0, 4))
        each = data.draw(st.sampled_from(among))
        if step == 0 and each.live:
            opened(scheduler, each, -1)
        elif step == 1:
            each.weight = data.draw(st.integers(1, 256))
            usable = [one for one in among if data.draw(st.booleans())]
            scheduler.rebuild(usable, among)
        elif step == 2:
            each.maxconn = data.draw(st.integers(1, 5) | st.none())
            scheduler.load_changed(each)
        else:
            least = [one for one in usable if not one.full]
            picked = scheduler.pick(FLOW)
            assert (picked is None) == (not least)
            if picked is not None:

                def load(one):
                    return (one.live + 1) * 4096 // one.share if one.live else 0

                assert picked in least
                assert load(picked) == min(load(one) for one in least)
                opened(scheduler, picked)


def test_over_many_connections_that_come_and_go_the_shares_are_exact():
    among, scheduler = made(1, 2, 5)
    held = []
    counted = Counter()
    for _ in range(8000):
        held += connect(scheduler, 1)
        counted[held[-1]] += 1
        if len(held) > 80:
            opened(scheduler, held.pop(0), -1)
    for each in among:
        assert abs(counted[each] - 1000 * each.weight) < 40
