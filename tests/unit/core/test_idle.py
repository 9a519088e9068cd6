from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.core.flow import Connection
from natlb.core.idle import IdleQueue
from natlb.core.states import State


def connection(index):
    """Return a connection whose row in the ledger is `index`."""
    made = Connection(b"", b"", (), None, None, State.INIT)
    made.index = index
    return made


def idle_queue(timeout):
    return IdleQueue(timeout, array("d", bytes(8 * 10)))


A, B, C = (connection(index) for index in range(3))


@pytest.fixture
def queue():
    """A queue in which A, B and C were last active at 1, 2 and 3 s."""
    queue = idle_queue(80.0)
    for when, each in enumerate((A, B, C), start=1):
        queue.add(each, float(when))
    return queue


def test_an_empty_queue_has_no_oldest_and_no_deadline():
    queue = idle_queue(10.0)
    assert (queue.size, queue.oldest(), queue.deadline(), queue.overdue(1e9), list(queue)) == (0, None, None, None, [])


def test_it_can_be_gone_over_from_either_end(queue):
    assert (list(queue), list(reversed(queue))) == ([A, B, C], [C, B, A])
    assert list(reversed(idle_queue(10.0))) == []


def test_the_first_to_enter_is_the_oldest(queue):
    assert queue.oldest() is A
    assert list(queue) == [A, B, C]
    assert queue.size == 3


@pytest.mark.parametrize(("timeout", "granularity"), [(240.0, 1.0), (8.0, 1.0), (4.0, 0.5), (0.08, 0.01), (0.0, 0.0)])
def test_the_granularity_is_an_eighth_of_the_timeout_and_never_over_a_second(timeout, granularity):
    assert idle_queue(timeout).granularity == pytest.approx(granularity)


def test_entering_notes_the_time_and_when_the_next_move_is_worth_it(queue):
    assert A.queue is queue
    assert queue.seen(A) == 1.0
    assert queue._refresh_at[A.index] == 2.0


def test_the_deadline_is_that_of_the_oldest_with_the_granularity_on_top(queue):
    assert queue.deadline() == 1.0 + 80.0 + 1.0


def test_the_oldest_is_overdue_at_its_deadline_and_not_before(queue):
    assert queue.overdue(81.999) is None
    assert queue.overdue(82.0) is A


def test_moving_to_the_young_end_makes_the_next_one_the_oldest(queue):
    queue.remove(A)
    queue.add(A, 4.0)
    assert list(queue) == [B, C, A]
    assert queue.deadline() == 2.0 + 80.0 + 1.0


@pytest.mark.parametrize(("gone", "left"), [(A, [B, C]), (B, [A, C]), (C, [A, B])])
def test_any_one_can_leave(queue, gone, left):
    queue.remove(gone)
    assert list(queue) == left
    assert queue.size == 2
    assert gone.newer is gone.older is None


def test_the_one_handed_out_may_leave_meanwhile(queue):
    for each in queue:
        queue.remove(each)
    assert queue.size == 0
    assert queue.oldest() is None


@given(st.lists(st.integers(0, 4)))
def test_the_queue_is_the_order_of_last_activity(activity):
    """Against a plain list: whoever is active goes to its end."""
    queue, expected = idle_queue(10.0), []
    everyone = [connection(number) for number in range(5)]
    for now, number in enumerate(activity):
        each = everyone[number]
        if each in expected:
            expected.remove(each)
            queue.remove(each)
        expected.append(each)
        queue.add(each, float(now))
        assert list(queue) == expected
        assert queue.oldest() is expected[0]
        assert queue.size == len(expected)
