from hypothesis import given
from hypothesis import strategies as st

from natlb.core.schedulers.first import First
from tests.unit.core.schedulers.support import FLOW, built, connect, names, opened, server, servers


def made(*limits):
    among = servers(*[1] * len(limits))
    for each, limit in zip(among, limits, strict=True):
        each.maxconn = limit
    return among, built(First(), among)


def test_without_servers_there_is_none():
    assert First().pick(FLOW) is None


def test_one_server_is_filled_after_the_other():
    _, scheduler = made(2, 1, 2)
    assert names(connect(scheduler, 6)) == "s000 s000 s001 s002 s002 -"


def test_ids_decide_and_not_the_order_of_the_configuration():
    among = [server("late", id=7, maxconn=1), server("early", id=3, maxconn=1)]
    assert names(connect(built(First(), among), 2)) == "early late"


def test_a_server_without_limit_takes_all():
    _, scheduler = made(1, None, 1)
    assert names(connect(scheduler, 4)) == "s000 s001 s001 s001"


def test_the_first_one_with_room_again_is_first_again():
    among, scheduler = made(1, 1, 5)
    connect(scheduler, 4)
    opened(scheduler, among[1], -1)
    assert names(connect(scheduler, 2)) == "s001 s002"
    opened(scheduler, among[2], -1)
    assert names(connect(scheduler, 1)) == "s002"


def test_a_limit_that_rises_by_itself_is_noticed_when_all_are_full():
    among, scheduler = made(1, 1)
    assert names(connect(scheduler, 3)) == "s000 s001 -"
    among[0].maxconn = 2
    assert names(connect(scheduler, 1)) == "s000"


def test_one_that_is_to_be_avoided_is_picked_only_if_there_is_no_other():
    among, scheduler = made(1, 1, 1)
    assert scheduler.pick(FLOW, among[0]) is among[1]
    assert scheduler.pick(FLOW) is among[0]
    opened(scheduler, among[1])
    opened(scheduler, among[2])
    assert scheduler.pick(FLOW, among[0]) is among[0]


def test_one_that_has_gone_changes_nothing():
    among, scheduler = made(1, 1)
    scheduler.rebuild(among[1:], among)
    opened(scheduler, among[0], 0)
    assert scheduler.pick(FLOW) is among[1]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.data())
def test_whatever_comes_and_goes_it_is_the_first_that_has_room(limits, data):
    among, scheduler = made(*limits)
    for _ in range(30):
        if data.draw(st.booleans()):
            leaving = data.draw(st.sampled_from(among))
            if leaving.live:
                opened(scheduler, leaving, -1)
        else:
            expected = next((each for each in among if each.live < each.maxconn), None)
            assert connect(scheduler, 1) == [expected]
