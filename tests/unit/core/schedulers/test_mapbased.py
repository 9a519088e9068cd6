from collections import Counter
from math import gcd

from hypothesis import given
from hypothesis import strategies as st

from natlb.core.schedulers.hashes import folded_source
from natlb.core.schedulers.mapbased import MapBased
from natlb.core.schedulers.tables import STEPS
from tests.unit.core.schedulers.support import FLOW, built, finish, flow, names, servers


def as_haproxy_fills(weights):
    """Fill a map as lb_map.c does it, looking at every server for every entry."""
    divisor = gcd(*weights)
    weights = [weight // divisor for weight in weights]
    total = sum(weights)
    scores = [0] * len(weights)
    entries = []
    for _ in range(total):
        best, highest = None, 0
        for place, weight in enumerate(weights):
            scores[place] += weight
            value = (scores[place] + total) // total
            if best is None or value > highest:
                best, highest = place, value
        scores[best] -= total
        entries.append(best)
    return entries


def made(*weights):
    among = servers(*weights)
    return among, built(MapBased(folded_source), among)


@given(st.lists(st.integers(1, 256), min_size=1, max_size=12))
def test_the_map_is_haproxys(weights):
    among, scheduler = made(*weights)
    assert [among.index(each) for each in scheduler.table] == as_haproxy_fills(weights)


def test_the_map_of_many_servers_is_haproxys_too():
    weights = [1 + place * 37 % 11 for place in range(150)]
    among, scheduler = made(*weights)
    assert [among.index(each) for each in scheduler.table] == as_haproxy_fills(weights)


def test_without_servers_there_is_none():
    scheduler = MapBased(folded_source)
    assert scheduler.pick(FLOW) is None
    assert built(scheduler, []).pick(FLOW) is None


def test_a_client_goes_where_its_address_points():
    _, scheduler = made(1, 1, 1)
    assert names(scheduler.pick(flow(number)) for number in range(6)) == "s000 s001 s002 s000 s001 s002"


def test_a_client_goes_there_full_or_not():
    among, scheduler = made(1, 1)
    for each in among:
        each.maxconn = each.live = 1
    assert scheduler.pick(flow(1)) is among[1]


def test_one_that_is_to_be_avoided_makes_way_for_the_next_unless_it_is_alone():
    among, scheduler = made(1, 1, 1)
    assert scheduler.pick(flow(1), among[1]) is among[2]
    scheduler.rebuild(among[1:2], among)
    assert scheduler.pick(flow(1), among[1]) is among[1]
    scheduler.rebuild(among[:1], among)
    assert scheduler.pick(flow(1), among[1]) is among[0]
    scheduler.rebuild([], among)
    assert scheduler.pick(flow(1), among[1]) is None


def test_over_all_hashes_each_server_gets_its_weight():
    among, scheduler = made(3, 1, 2)
    counted = Counter(scheduler.pick(flow(number)) for number in range(6000))
    assert counted == {among[0]: 3000, among[1]: 1000, among[2]: 2000}


def test_weights_are_divided_by_those_of_all_servers_that_are_configured():
    """As HAProxy does it: the map of the servers that are left is that part of it."""
    among = servers(4, 2, 1)
    scheduler = MapBased(folded_source)
    scheduler.rebuild(among[:2], among)
    assert len(scheduler.table) == 6
    assert len(built(MapBased(folded_source), among[:2]).table) == 3


def test_a_large_map_is_made_piece_by_piece_while_the_old_one_serves():
    among = servers(*[250 + place % 7 for place in range(100)])
    scheduler = built(MapBased(folded_source), among)
    before = list(scheduler.table)
    pieces = 0
    scheduler.rebuild(among[1:], among)
    assert scheduler.table == before
    for number in range(500):
        assert scheduler.pick(flow(number)) in among[1:], "the one that has gone gets nothing"
    while scheduler.work():
        pieces += 1
    assert pieces == 1 + len(scheduler.table) // STEPS
    assert among[0] not in scheduler.table
    assert not scheduler.work()


def test_until_a_first_large_map_is_made_the_servers_themselves_are_it():
    among = servers(*[250 + place % 7 for place in range(100)])
    scheduler = MapBased(folded_source)
    scheduler.rebuild(among, among)
    assert scheduler.table == among
    finish(scheduler)
    assert len(scheduler.table) == sum(each.weight for each in among)


def test_when_all_servers_change_at_once_there_is_no_pause_either():
    among = servers(*[250 + place % 7 for place in range(100)])
    scheduler = built(MapBased(folded_source), among[:50])
    scheduler.rebuild(among[50:], among)
    assert scheduler.pick(flow(3)) is among[53]


def test_a_map_is_not_made_anew_for_nothing():
    among = servers(*[250 + place % 7 for place in range(100)])
    scheduler = built(MapBased(folded_source), among)
    scheduler.rebuild(among, among)
    assert not scheduler.work()
