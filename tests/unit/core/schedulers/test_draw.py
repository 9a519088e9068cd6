from random import Random

import pytest

from natlb.core.schedulers.draw import RandomDraws
from tests.unit.core.schedulers.support import CRITICAL, FLOW, built, by_weight, chi_square, connect, opened, servers


def made(*weights, draws=2, seed=5):
    among = servers(*weights)
    return among, built(RandomDraws(Random(seed).randrange, draws), among)


def test_without_servers_there_is_none():
    assert RandomDraws(Random(1).randrange).pick(FLOW) is None


@pytest.mark.parametrize("weights", [(1, 1), (1, 2, 3), (5,) * 10, (256, 1, 1)])
def test_one_draw_is_by_weight(weights):
    among, scheduler = made(*weights, draws=1)
    picked = [scheduler.pick(FLOW) for _ in range(20_000)]
    assert chi_square(picked, by_weight(among, 20_000)) < CRITICAL[len(weights) - 1]


def test_two_draws_are_much_more_even_than_one():
    def spread(draws):
        among, scheduler = made(*[1] * 50, draws=draws)
        connect(scheduler, 5000)
        return max(each.live for each in among) - min(each.live for each in among)

    assert spread(2) < 10 < spread(1)


def test_the_least_loaded_for_its_weight_is_taken():
    among, scheduler = made(1, 3, draws=20)
    opened(scheduler, among[0], 2)
    opened(scheduler, among[1], 5)
    assert scheduler.pick(FLOW) is among[1]
    opened(scheduler, among[1], 2)
    assert scheduler.pick(FLOW) is among[0]


def test_when_the_one_that_was_drawn_is_full_there_is_none():
    among, scheduler = made(1, 1, draws=1)
    among[0].maxconn = among[0].live = 1
    assert {scheduler.pick(FLOW) for _ in range(100)} == {None, among[1]}


def test_one_that_is_to_be_avoided_is_picked_only_if_there_is_no_other():
    among, scheduler = made(1, 1, 1)
    assert {scheduler.pick(FLOW, among[2]) for _ in range(100)} == set(among[:2])
    scheduler.rebuild(among[2:], among)
    assert scheduler.pick(FLOW, among[2]) is among[2]
