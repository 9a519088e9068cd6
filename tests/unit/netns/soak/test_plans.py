"""Plans come from the seed alone, and there is everything among them."""

from itertools import islice

from netns.soak import plans
from netns.soak.plans import End


def test_the_same_seed_makes_the_same_plans_and_another_one_others() -> None:
    some = [plans.connection(44, number) for number in range(50)]
    assert some == [plans.connection(44, number) for number in range(50)]
    assert some != [plans.connection(45, number) for number in range(50)]
    assert [plans.flow(44, 1), plans.flow(44, 2)] == [plans.flow(44, 1), plans.flow(44, 2)]


def test_arrivals_are_the_same_each_time_and_as_many_as_they_should_be() -> None:
    times = list(islice(plans.arrivals(44, "connections", 20.0), 2_000))
    assert times == list(islice(plans.arrivals(44, "connections", 20.0), 2_000))
    assert times == sorted(times)
    assert 80 < times[-1] < 120


def test_there_is_every_kind_of_connection_each_end_and_each_way() -> None:
    some = [plans.connection(44, number) for number in range(2_000)]
    assert {plan.kind for plan in some} == set(plans.KINDS)
    assert {plan.end for plan in some} == set(End)
    assert {plan.way for plan in some} == set(plans.WAYS)
    assert all(plan.reset_after <= plan.turns[-1].up for plan in some)
    assert {turn.both for plan in some for turn in plan.turns} == {True, False}
    assert all(turn.up > 0 and turn.down > 0 for plan in some for turn in plan.turns)


def test_flows_have_small_datagrams_and_some_that_come_in_fragments() -> None:
    sizes = [size for number in range(200) for size in plans.flow(44, number).sizes]
    assert min(sizes) >= 16
    assert 0.01 < sum(size > 1_472 for size in sizes) / len(sizes) < 0.06
