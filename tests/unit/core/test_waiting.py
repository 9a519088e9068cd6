import pytest

from natlb.core.pool import Server
from natlb.core.waiting import WaitingRoom


def flow(number):
    return number.to_bytes(13, "big")


@pytest.fixture
def one():
    return Server("one", bytes(4), 80)


@pytest.fixture
def other():
    return Server("other", bytes(4), 80)


def test_a_flow_waits_from_when_it_asks_until_it_leaves(one):
    room = WaitingRoom()
    assert room.get(flow(1)) is None
    asked = room.ask(flow(1), one, 5.0)
    assert room.get(flow(1)) is asked
    assert (asked.server, asked.since, asked.seen, asked.due) == (one, 5.0, 5.0, 6.0)
    assert room.leave(flow(1)) is asked
    assert len(room) == 0


def test_a_flow_that_asks_again_is_expected_after_twice_the_pause(one, other):
    room = WaitingRoom()
    room.ask(flow(1), one, 0.0)
    for now, due in ((1.0, 3.0), (3.0, 7.0), (7.0, 15.0)):
        asked = room.ask(flow(1), other, now)
        assert (asked.server, asked.since, asked.seen, asked.due) == (other, 0.0, now, due)


def test_a_flow_that_waits_for_another_server_now_is_in_another_queue(one, other):
    room = WaitingRoom()
    assert room.ask(flow(1), one, 0.0, 7).turn == 7
    assert room.ask(flow(1), one, 1.0, 9).turn == 7, "it keeps its place"
    assert room.ask(flow(1), other, 3.0, 2).turn == 2


def test_a_copy_made_by_the_network_does_not_hurry_a_flow(one):
    room = WaitingRoom()
    room.ask(flow(1), one, 0.0)
    assert room.ask(flow(1), one, 0.001).due == 1.001


def test_the_longest_waiting_is_ahead_if_it_is_about_to_ask_and_wants_the_same(one, other):
    room = WaitingRoom()
    for now in (0.0, 1.0):
        room.ask(flow(1), one, now)
        room.ask(flow(2), None, now + 0.1)
        room.ask(flow(3), other, now + 0.2)
    assert room.ahead(flow(4), one, 1.9) == 0, "they ask after 2 s more, at 3 s"
    assert room.ahead(flow(4), one, 2.3) == 2
    assert room.ahead(flow(4), other, 2.3) == 2
    assert room.ahead(flow(2), one, 2.3) == 1
    assert room.ahead(flow(1), one, 2.3) == 0
    room.ask(flow(1), one, 3.0)
    assert room.ahead(flow(4), one, 3.1) == 1, "flow 1 will not ask before 7 s"


def test_whoever_has_asked_only_once_is_ahead_of_nobody(one):
    """It may be a SYN with a made-up source: a thousand of those must not keep a place empty."""
    room = WaitingRoom()
    for number in range(1000):
        room.ask(flow(number), one, 0.0)
    assert room.ahead(flow(1000), one, 0.9) == 0


def test_there_are_no_more_notes_than_there_may_be(one):
    room = WaitingRoom(most=2)
    assert room.ask(flow(1), one, 0.0)
    assert room.ask(flow(2), one, 0.0)
    assert room.ask(flow(3), one, 0.0) is None
    assert room.ask(flow(1), one, 1.0), "who is there may go on asking"
    assert len(room) == 2


def test_whoever_does_not_ask_when_expected_is_gone(one):
    room = WaitingRoom()
    room.ask(flow(1), one, 0.0)
    room.ask(flow(2), one, 0.0)
    room.ask(flow(2), one, 1.0)
    assert [gone for gone, _ in room.gone(3.9)] == []
    assert [gone for gone, _ in room.gone(4.0)] == [flow(1)]
    assert [gone for gone, _ in room.gone(6.0)] == [flow(2)]
