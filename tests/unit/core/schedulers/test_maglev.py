import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from natlb.core.schedulers.hashes import folded_source, hash_by
from natlb.core.schedulers.maglev import SIZES, Consistent
from tests.effort import examples
from tests.unit.core.schedulers.support import FLOW, built, finish, flow, opened, server, servers

HASH = hash_by("src", "sdbm", stirred=False)


def made(among, factor=0):
    return built(Consistent(HASH, factor), among)


def test_without_servers_there_is_none():
    assert Consistent(HASH).pick(FLOW) is None
    assert made([]).pick(FLOW) is None


def test_one_server_gets_all():
    among = servers(5)
    assert {made(among).pick(flow(number)) for number in range(1000)} == set(among)


@pytest.mark.parametrize("prime", SIZES)
def test_the_sizes_are_primes(prime):
    assert all(prime % divisor for divisor in range(2, int(prime**0.5) + 1))


@pytest.mark.parametrize("weights", [(1, 1), (1, 2, 3), (256, 1), (7,) * 20, (100, 50, 25, 25)])
def test_the_table_is_shared_by_weight_within_one_percent_of_all(weights):
    among = servers(*weights)
    scheduler = made(among)
    assert len(scheduler.table) == SIZES[0]
    counted = Counter(scheduler.table)
    for each in among:
        share = each.weight / sum(weights)
        assert abs(counted[each] / SIZES[0] - share) < 0.01 * share + 2 / SIZES[0] * 256


@pytest.mark.parametrize(("number", "size"), [(9, 0), (10, 1), (150, 1)])
def test_many_servers_have_a_larger_table(small_tables, number, size):
    scheduler = made(servers(*[1] * number))
    assert len(scheduler.table) == small_tables[size]
    assert max(Counter(scheduler.table).values()) - min(Counter(scheduler.table).values()) <= 1


@pytest.mark.parametrize("number", [2, 3, 10, 50])
def test_when_one_of_n_leaves_hardly_any_flow_moves_but_its_own(number):
    among = servers(*[1] * number)
    scheduler = made(among)
    flows = [flow(each) for each in Random(number).sample(range(2**32), 10_000)]
    before = [scheduler.pick(each) for each in flows]
    gone = among[number // 2]
    scheduler.rebuild([each for each in among if each is not gone], among)
    finish(scheduler)
    after = [scheduler.pick(each) for each in flows]
    moved = sum(one is not other for one, other in zip(before, after, strict=True))
    own = before.count(gone)
    assert moved >= own
    assert moved <= len(flows) * (1 / number + 0.02)
    scheduler.rebuild(among, among)
    finish(scheduler)
    assert [scheduler.pick(each) for each in flows] == before, "and all come home with it"


@pytest.mark.usefixtures("small_tables")
@settings(max_examples=examples(10), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(8)), st.lists(st.integers(1, 9), min_size=8, max_size=8))
def test_the_order_in_which_servers_came_counts_for_nothing(order, weights):
    among = servers(*weights)
    shuffled = [among[place] for place in order]
    assert made(among).table == made(shuffled).table


_ELSEWHERE = """
from tests.unit.core.schedulers.support import flow, servers
from tests.unit.core.schedulers.test_maglev import made
scheduler = made(list(reversed(servers(1, 2, 3, 4, 5))))
print(*(scheduler.pick(flow(number * 7919)).name for number in range(2000)))
"""


def test_every_process_makes_the_same_table():
    def elsewhere(seed):
        return subprocess.run(
            [sys.executable, "-c", _ELSEWHERE],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.fspath(Path(__file__).parents[4])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()

    here = made(servers(1, 2, 3, 4, 5))
    told = [here.pick(flow(number * 7919)).name for number in range(2000)]
    assert told == elsewhere("1") == elsewhere("2")


def test_a_known_table():
    """So that no change of the code moves everybody's clients unnoticed."""
    scheduler = built(Consistent(folded_source), [server("one"), server("two"), server("three")])
    assert [scheduler.pick(flow(number)).name for number in range(12)] == KNOWN.split()


KNOWN = "two two three three two three three one two two one three"


def test_neighbouring_addresses_are_spread_over_all_servers():
    among = servers(*[1] * 10)
    scheduler = made(among)
    counted = Counter(scheduler.pick(flow(0x0A000000 + number)) for number in range(2560))
    assert all(150 < counted[each] < 370 for each in among)


@pytest.mark.usefixtures("small_tables")
def test_the_old_table_serves_while_the_new_one_is_made_and_leads_to_nobody_who_has_gone():
    among = servers(1, 1, 1)
    scheduler = made(among)
    flows = [flow(number * 104729) for number in range(1000)]
    before = [scheduler.pick(each) for each in flows]
    scheduler.rebuild(among[:2], among)
    meanwhile = [scheduler.pick(each) for each in flows]
    assert among[2] not in meanwhile
    assert all(one is other for one, other in zip(before, meanwhile, strict=True) if one is not among[2])
    assert scheduler.work()


@pytest.mark.usefixtures("small_tables")
def test_one_that_is_to_be_avoided_makes_way_for_another():
    among = servers(1, 1)
    scheduler = made(among)
    first = scheduler.pick(FLOW)
    assert scheduler.pick(FLOW, first) is not first


# hash-balance-factor


def loaded(factor, *weights):
    among = servers(*weights)
    return among, made(among, factor)


@pytest.mark.usefixtures("small_tables")
def test_no_server_gets_more_than_the_factor_times_its_share():
    among, scheduler = loaded(125, 1, 1, 2)
    for number in range(400):
        picked = scheduler.pick(FLOW if number % 2 else flow(number))
        opened(scheduler, picked)
        for each in among:
            assert each.live <= 1.25 * (number + 1) * each.weight / 4 + 1


@pytest.mark.usefixtures("small_tables")
def test_who_has_no_room_at_home_goes_to_the_next_in_the_table_and_comes_home_later():
    among, scheduler = loaded(150, 1, 1)
    home = scheduler.pick(FLOW)
    other = next(each for each in among if each is not home)
    opened(scheduler, home, 10)
    assert scheduler.pick(FLOW) is other
    opened(scheduler, home, -10)
    assert scheduler.pick(FLOW) is home


@pytest.mark.usefixtures("small_tables")
def test_one_that_is_to_be_avoided_is_no_way_out_of_a_full_home():
    among, scheduler = loaded(150, 1, 1)
    home = scheduler.pick(FLOW)
    other = next(each for each in among if each is not home)
    opened(scheduler, home, 10)
    assert scheduler.pick(FLOW, other) is home


def test_one_server_alone_has_no_bound():
    [alone], scheduler = loaded(110, 1)
    opened(scheduler, alone, 10)
    assert scheduler.pick(FLOW) is alone


@pytest.mark.usefixtures("small_tables")
def test_the_load_of_a_server_that_has_gone_counts_no_more():
    among, scheduler = loaded(150, 1, 1, 1)
    home = scheduler.pick(FLOW)
    gone = next(each for each in among if each is not home)
    left = [each for each in among if each is not gone]
    opened(scheduler, gone, 100)
    opened(scheduler, home, 10)
    assert scheduler.pick(FLOW) is home, "all together have 110"
    scheduler.rebuild(left, among)
    finish(scheduler)
    opened(scheduler, gone, -50)
    assert scheduler.pick(FLOW) is next(each for each in left if each is not home)


@pytest.mark.usefixtures("small_tables")
def test_the_search_for_room_passes_over_others_without():
    among, scheduler = loaded(101, 1, 1, 1)
    home = scheduler.pick(FLOW)
    scheduler.rebuild(among, among)
    opened(scheduler, home, 3)
    second = scheduler.pick(FLOW)
    opened(scheduler, second, 3)
    third = scheduler.pick(FLOW)
    assert {home, second, third} == set(among)


def test_until_the_table_of_many_servers_is_made_they_are_it_themselves():
    among = servers(*[1] * 300)
    scheduler = Consistent(folded_source)
    scheduler.rebuild(among, among)
    assert scheduler.table == among
    finish(scheduler)
    assert len(scheduler.table) == SIZES[0]
    assert set(scheduler.table) == set(among)
