"""HAProxy's rise and fall, step by step. `+` is a check that passed, `-` one that failed."""

from itertools import product

import pytest

from natlb.health.judge import Judge

_STORIES = {
    "a new server is one failure away from down": (2, 3, "-", [0]),
    "a first success fills the counter": (2, 3, "+", [4]),
    "an up server goes down at the third failure": (2, 3, "+---", [4, 3, 2, 0]),
    "a success between failures fills the counter again": (2, 3, "+--+--", [4, 3, 2, 4, 3, 2]),
    "a down server comes up at the second success": (2, 3, "-++", [0, 1, 4]),
    "a failure between successes empties the counter": (3, 3, "-++-++", [0, 1, 2, 0, 1, 2]),
    "a down server stays at nought": (2, 3, "---", [0, 0, 0]),
    "an up server stays full": (2, 3, "+++", [4, 4, 4]),
    "rise 1 and fall 1 follow every check": (1, 1, "-+-", [0, 1, 0]),
}


@pytest.mark.parametrize(("rise", "fall", "results", "counters"), _STORIES.values(), ids=_STORIES)
def test_the_counter_moves_as_haproxys(rise: int, fall: int, results: str, counters: list[int]) -> None:
    judge = Judge(rise, fall)
    seen = []
    for result in results:
        judge.record(result == "+")
        seen.append(judge.health)
    assert seen == counters


def test_a_new_server_is_up_before_any_check() -> None:
    judge = Judge(2, 3)
    assert judge.up
    assert judge.health == 2


@pytest.mark.parametrize(("results", "moves"), [("++---", "m.mmm"), ("--++", "m.mm"), ("+--+++", "mmmm..")])
def test_a_check_says_whether_it_moved_the_counter(results: str, moves: str) -> None:
    judge = Judge(2, 3)
    assert "".join("m" if judge.record(result == "+") else "." for result in results) == moves


@pytest.mark.parametrize(("before", "weakened", "doomed"), [("+", 3, 2), ("", 2, 2), ("+-", 3, 2), ("-+", 1, 1)])
def test_a_server_can_be_left_two_failures_or_one_from_down(before: str, weakened: int, doomed: int) -> None:
    judge = Judge(2, 3)
    for result in before:
        judge.record(result == "+")
    judge.weaken()
    assert judge.health == weakened
    judge.doom()
    assert judge.health == doomed


@pytest.mark.parametrize(("rise", "fall"), [(1, 1), (1, 3), (2, 3), (3, 2)])
def test_settled_means_that_the_counter_is_at_an_end(rise: int, fall: int) -> None:
    for results in product((True, False), repeat=rise + fall):
        judge = Judge(rise, fall)
        for passed in results:
            judge.record(passed)
            assert judge.settled == (judge.health in (0, rise + fall - 1))
            assert judge.up == (judge.health >= rise)


def test_a_new_server_is_not_settled() -> None:
    assert not Judge(2, 3).settled
