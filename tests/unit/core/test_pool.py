from collections import Counter

import pytest

from natlb.core.flow import flow_key
from natlb.core.pool import AdminState, Neighbourhood, Obstacle, Place, Pool, Server
from natlb.core.ports import PortRanges, Source
from natlb.core.schedulers.draw import RandomDraws
from natlb.core.schedulers.first import First
from natlb.core.schedulers.hashes import folded_source
from natlb.core.schedulers.leastconn import LeastConnections
from natlb.core.schedulers.maglev import Consistent
from natlb.core.schedulers.mapbased import MapBased
from natlb.core.schedulers.roundrobin import RoundRobin, StaticRoundRobin
from natlb.core.schedulers.tables import FEW
from natlb.core.waiting import WaitingRoom
from tests.unit.core.packets import packed


def server(name, address="44.3.3.3", port=80, **settings):
    return Server(name, packed(address), port, **settings)


FLOWS = {
    4: flow_key((packed("44.1.1.1"), b"\x04\0"), (packed("44.2.2.2"), b"\0\x50"), 6),
    16: flow_key((packed("fd44:1::1"), b"\x04\0"), (packed("fd44:2::2"), b"\0\x50"), 6),
}
FLOW = FLOWS[4]


def client(number):
    return flow_key((packed("44.1.1.1"), number.to_bytes(2, "big")), (packed("44.2.2.2"), b"\0\x50"), 6)


def picks(pool, number, size=4):
    picked = (pool.pick(FLOWS[size], 0.0) for _ in range(number))
    return " ".join(server.name if server else "-" for server in picked)


@pytest.fixture
def pool():
    return Pool("web", [server("a"), server("b"), server("c")])


def test_a_server_with_a_port_answers_there():
    assert server("a", port=4444).endpoint(8888) == (packed("44.3.3.3"), b"\x11\x5c")


@pytest.mark.parametrize(("offset", "asked", "port"), [(0, 8888, 8888), (1, 8888, 8889), (-8, 8888, 8880)])
def test_a_server_without_a_port_keeps_the_one_asked_for_and_adds_its_offset(offset, asked, port):
    at = server("a", port=None, port_offset=offset).endpoint(asked)
    assert at == (packed("44.3.3.3"), port.to_bytes(2, "big"))


def test_a_new_server_is_usable_and_has_no_connection():
    new = server("a")
    assert new.usable
    assert (new.live, new.total, new.unanswered) == (0, 0, 0)


@pytest.mark.parametrize(
    "change",
    [{"healthy": False}, {"admin": AdminState.DRAIN}, {"admin": AdminState.MAINT}, {"weight": 0}],
    ids=str,
)
def test_anything_but_ready_healthy_and_of_weight_is_not_usable(change):
    changed = server("a")
    for name, value in change.items():
        setattr(changed, name, value)
    assert not changed.usable


@pytest.mark.parametrize(
    ("change", "is_away"),
    [
        ({}, False),
        ({"healthy": False}, True),
        ({"admin": AdminState.MAINT}, True),
        ({"admin": AdminState.DRAIN}, False),
        ({"weight": 0}, False),
    ],
    ids=str,
)
def test_a_server_that_is_down_or_in_maintenance_is_away(change, is_away):
    """And one that only gets nothing new is not: what it has begun it may finish."""
    changed = server("a")
    for name, value in change.items():
        setattr(changed, name, value)
    assert changed.away is is_away


def test_what_is_as_it_was_has_not_changed():
    """And no time is noted: `show stat` tells for how long a server has been as it is."""
    one = server("a")
    pool = Pool("web", [one])
    pool.set_admin(one, AdminState.DRAIN, 44.0)
    pool.set_admin(one, AdminState.DRAIN, 45.0)
    pool.set_health(one, True, 46.0)
    assert one.changed == 44.0


# What to speak to a server from

SOURCE, OTHER = (Source(packed(address), PortRanges()) for address in ("44.5.5.5", "44.5.5.6"))


def near(network, mask, source=SOURCE):
    return Neighbourhood(*(int.from_bytes(packed(address), "big") for address in (network, mask)), source)


@pytest.mark.parametrize(
    ("network", "mask", "client", "is_in"),
    [
        ("44.3.3.0", "255.255.255.0", "44.3.3.7", True),
        ("44.3.3.0", "255.255.255.0", "44.3.4.7", False),
        ("44.3.3.7", "255.255.255.255", "44.3.3.7", True),
        ("0.0.0.0", "0.0.0.0", "44.3.3.7", True),
        ("fd44:3::", "ffff:ffff::", "fd44:3:1::7", True),
        ("fd44:3::", "ffff:ffff::", "fd44:4::7", False),
    ],
)
def test_a_neighbourhood_has_the_hosts_of_its_network(network, mask, client, is_in):
    assert near(network, mask).has(packed(client)) is is_in


def test_a_client_is_seen_as_it_is_unless_it_is_a_neighbour():
    hairpin = server("a")
    hairpin.neighbourhoods = near("44.1.0.0", "255.255.0.0"), near("44.0.0.0", "255.0.0.0", OTHER)
    assert hairpin.sources_for(packed("44.1.1.1")) == (SOURCE,)
    assert hairpin.sources_for(packed("44.2.1.1")) == (OTHER,)
    assert hairpin.sources_for(packed("10.0.0.1")) == ()


@pytest.mark.parametrize("sources", [(), (OTHER,), (OTHER, SOURCE)], ids=len)
def test_sources_that_were_given_count_for_all_clients(sources):
    configured = server("a", sources=sources)
    configured.neighbourhoods = (near("44.1.0.0", "255.255.0.0"),)
    assert configured.sources_for(packed("44.1.1.1")) == configured.sources_for(packed("10.0.0.1")) == sources


def test_a_server_shuts_down_nothing_when_it_goes_down_unless_it_is_told_to():
    assert not server("a").shutdown_on_down
    assert server("a", shutdown_on_down=True).shutdown_on_down


# Pools


def test_an_empty_pool_has_no_server_to_pick():
    assert Pool("empty", []).pick(FLOW, 0.0) is None


def test_the_servers_take_turns(pool):
    assert picks(pool, 6) == "a b c a b c"


def test_a_server_is_found_by_name(pool):
    assert pool.servers["b"].name == "b"


def test_a_server_that_went_down_gets_no_new_connection_until_it_is_up_again(pool):
    pool.set_health(pool.servers["b"], False, 0.0)
    assert picks(pool, 4) == "a c a c"
    pool.set_health(pool.servers["b"], True, 0.0)
    assert Counter(picks(pool, 6).split()) == {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize("state", [AdminState.DRAIN, AdminState.MAINT])
def test_a_server_in_drain_or_maint_gets_no_new_connection_until_it_is_ready_again(pool, state):
    pool.set_admin(pool.servers["a"], state, 0.0)
    assert picks(pool, 4) == "b c b c"
    pool.set_admin(pool.servers["a"], AdminState.READY, 0.0)
    assert Counter(picks(pool, 6).split()) == {"a": 2, "b": 2, "c": 2}


def test_a_server_is_drained_with_the_one_it_tracks_whatever_is_wanted_of_itself(pool):
    a = pool.servers["a"]
    pool.drain_along(a, True, 7.0)
    assert (picks(pool, 4), a.drained, a.changed) == ("b c b c", True, 7.0)
    pool.drain_along(a, True, 8.0)
    pool.set_admin(a, AdminState.DRAIN, 9.0)
    pool.set_admin(a, AdminState.READY, 9.0)
    assert (picks(pool, 4), a.drained) == ("b c b c", True)
    pool.drain_along(a, True, 10.0)
    assert a.changed == 9.0, "that was so before"
    pool.set_admin(a, AdminState.DRAIN, 11.0)
    pool.drain_along(a, False, 12.0)
    assert a.drained, "for itself"
    pool.set_admin(a, AdminState.READY, 13.0)
    assert Counter(picks(pool, 6).split()) == {"a": 2, "b": 2, "c": 2}


def test_a_healthy_server_in_maint_is_still_in_maint(pool):
    pool.set_admin(pool.servers["a"], AdminState.MAINT, 0.0)
    pool.set_health(pool.servers["a"], True, 0.0)
    assert picks(pool, 2) == "b c"


def test_a_server_of_weight_zero_gets_no_connection():
    assert picks(Pool("web", [server("a", weight=0), server("b")]), 3) == "b b b"


def test_when_all_are_down_there_is_none(pool):
    for each in pool.servers.values():
        pool.set_health(each, False, 0.0)
    assert pool.pick(FLOW, 0.0) is None


def test_weights_decide_the_share():
    assert Counter(picks(Pool("web", [server("a", weight=3), server("b")]), 40).split()) == {"a": 30, "b": 10}


def test_a_backup_stands_aside_while_another_server_is_usable():
    pool = Pool("web", [server("spare", backup=True), server("a"), server("b")])
    assert picks(pool, 4) == "a b a b"
    pool.set_health(pool.servers["a"], False, 0.0)
    assert picks(pool, 2) == "b b"


def test_when_no_other_is_usable_the_first_usable_backup_takes_all():
    pool = Pool("web", [server("a"), server("spare1", backup=True), server("spare2", backup=True)])
    pool.set_health(pool.servers["a"], False, 0.0)
    assert picks(pool, 3) == "spare1 spare1 spare1"
    pool.set_admin(pool.servers["spare1"], AdminState.MAINT, 0.0)
    assert picks(pool, 2) == "spare2 spare2"
    pool.set_admin(pool.servers["spare1"], AdminState.READY, 0.0)
    assert picks(pool, 2) == "spare1 spare1"


def test_a_backup_stands_aside_again_when_a_server_comes_back():
    pool = Pool("web", [server("a"), server("spare", backup=True)])
    pool.set_health(pool.servers["a"], False, 0.0)
    assert picks(pool, 1) == "spare"
    pool.set_health(pool.servers["a"], True, 0.0)
    assert picks(pool, 3) == "a a a"


def test_the_families_are_scheduled_apart():
    pool = Pool("web", [server("v4"), server("v6a", "fd44::1"), server("v6b", "fd44::2")])
    assert picks(pool, 2, 4) == "v4 v4"
    assert picks(pool, 4, 16) == "v6a v6b v6a v6b"


def test_a_family_without_servers_has_none_to_pick():
    assert Pool("web", [server("v4")]).pick(FLOWS[16], 0.0) is None


def test_a_backup_of_one_family_does_not_stand_aside_for_the_other():
    pool = Pool("web", [server("v4"), server("v6", "fd44::1", backup=True)])
    assert picks(pool, 2, 16) == "v6 v6"


def test_another_scheduler_can_be_chosen():
    pool = Pool("web", [server("a", id=2), server("b", id=1)], First, algorithm="first")
    assert picks(pool, 3) == "b b b"
    assert pool.algorithm == "first"


@pytest.mark.parametrize(("kind", "dynamic"), [(RoundRobin, True), (StaticRoundRobin, False)])
def test_a_pool_is_dynamic_if_its_scheduler_is(kind, dynamic):
    assert Pool("web", [server("a")], kind).dynamic is dynamic


def test_with_allbackups_all_usable_backups_share():
    pool = Pool("web", [server("a"), server("x", backup=True), server("y", backup=True)], all_backups=True)
    assert picks(pool, 2) == "a a"
    pool.set_health(pool.servers["a"], False, 0.0)
    assert picks(pool, 4) == "x y x y"


def test_a_weight_that_is_changed_counts_at_once():
    pool = Pool("web", [server("a"), server("b")])
    pool.set_weight(pool.servers["a"], 3, 0.0)
    assert Counter(picks(pool, 8).split()) == {"a": 6, "b": 2}
    assert pool.servers["a"].initial_weight == 1
    pool.set_weight(pool.servers["a"], 0, 0.0)
    assert picks(pool, 2) == "b b"


def test_servers_may_come_and_go_and_move():
    pool = Pool("web", [server("a")])
    new = server("b")
    new.count(2)
    pool.add(new)
    assert (pool.live, new.pool) == (2, pool)
    assert Counter(picks(pool, 4).split()) == {"a": 2, "b": 2}
    pool.move(new, packed("fd44::1"), 81)
    assert (picks(pool, 2), picks(pool, 2, 16)) == ("a a", "b b")
    assert new.endpoint(1) == (packed("fd44::1"), b"\0\x51")
    pool.remove(new)
    assert (pool.live, new.pool, list(pool.servers)) == (0, None, ["a"])
    new.count(-1)
    assert (pool.live, new.live) == (0, 1), "what it still has is its own affair"


def test_servers_that_have_connections_bring_them_along():
    busy = server("a")
    busy.count(3)
    assert Pool("web", [busy]).live == 3


def test_a_server_that_is_in_no_pool_has_the_limit_that_was_given():
    assert server("a").limit is None
    assert server("a", maxconn=5, minconn=1).limit == 5


# Limits


def test_a_server_is_full_with_as_many_connections_as_it_may_have():
    pool = Pool("web", [server("a", maxconn=2), server("b")])
    a = pool.servers["a"]
    assert picks(pool, 2) == "a b"
    a.count(2)
    assert a.full
    assert picks(pool, 2) == "b b"
    pool.set_maxconn(a, 3)
    assert picks(pool, 2) == "a b"
    pool.set_maxconn(a, None)
    a.count(100)
    assert not a.full


@pytest.mark.parametrize(("live", "limit"), [(0, 2), (20, 2), (40, 4), (55, 5), (99, 9), (100, 10), (200, 10)])
def test_below_fullconn_a_server_may_have_its_part_of_maxconn_but_no_less_than_minconn(live, limit):
    pool = Pool("web", [server("a", maxconn=10, minconn=2), server("b")], fullconn=100)
    pool.servers["b"].count(live)
    assert pool.servers["a"].limit == limit


def test_a_minconn_above_what_maxconn_has_become_does_not_exceed_it():
    pool = Pool("web", [server("a", maxconn=10, minconn=5)], fullconn=100)
    pool.set_maxconn(pool.servers["a"], 3)
    assert pool.servers["a"].limit == 3


# Slow start


@pytest.fixture
def slow():
    pool = Pool("web", [server("a", weight=32, slowstart=16, maxconn=100), server("b", weight=32)])
    pool.set_health(pool.servers["a"], False, 0.0)
    pool.set_health(pool.servers["a"], True, 100.0)
    return pool


def test_at_the_start_of_natlb_there_is_no_slow_start():
    pool = Pool("web", [server("a", weight=32, slowstart=16)])
    assert pool.servers["a"].effective_weight == 32
    pool.set_health(pool.servers["a"], True, 5.0)
    assert pool.servers["a"].started is None


@pytest.mark.parametrize(
    ("elapsed", "weight", "limit"),
    [(0, 2, 1), (0.9, 2, 1), (1, 4, 6), (2, 6, 12), (7.5, 16, 43), (8, 18, 50), (15, 32, 93), (16, 32, 100)],
)
def test_weight_and_limit_grow_in_a_slow_start_as_haproxys_do(slow, elapsed, weight, limit):
    """HAProxy counts whole seconds, and gives (16 * elapsed + slowstart) / slowstart sixteenths of the weight."""
    a = slow.servers["a"]
    slow.step(100.0 + elapsed)
    assert (a.effective_weight, a.limit) == (weight, limit)
    assert a.throttled == (None if elapsed >= 16 else -(-100 * weight // 32))
    assert (a.started is None) == (elapsed >= 16)


def test_in_a_slow_start_a_server_gets_its_part_of_the_connections(slow):
    slow.step(103.0)
    assert Counter(picks(slow, 80).split()) == {"a": 16, "b": 64}
    slow.step(116.0)
    assert Counter(picks(slow, 80).split()) == {"a": 40, "b": 40}


def test_a_limit_that_has_grown_is_noticed_between_two_steps(slow):
    a = slow.servers["a"]
    a.count(1)
    assert a.full
    slow.pick(FLOW, 105.0)
    assert not a.full


def test_a_slow_start_ends_when_the_server_goes_away_and_begins_anew(slow):
    a = slow.servers["a"]
    slow.step(108.0)
    slow.set_admin(a, AdminState.MAINT, 109.0)
    assert (a.started, a.throttle) == (None, 16)
    slow.set_admin(a, AdminState.READY, 120.0)
    assert (a.started, a.effective_weight) == (120.0, 2)


def test_a_drain_is_no_reason_to_start_slowly():
    pool = Pool("web", [server("a", slowstart=16)])
    pool.set_admin(pool.servers["a"], AdminState.DRAIN, 1.0)
    pool.set_admin(pool.servers["a"], AdminState.READY, 2.0)
    assert pool.servers["a"].started is None


def test_without_live_weights_only_the_limit_grows():
    pool = Pool("web", [server("a", weight=32, slowstart=16, maxconn=100)], StaticRoundRobin)
    a = pool.servers["a"]
    pool.set_health(a, False, 0.0)
    pool.set_health(a, True, 100.0)
    pool.step(108.0)
    assert (a.effective_weight, a.limit) == (32, 50)


def test_work_that_is_left_is_done_a_little_at_a_time():
    pool = Pool("web", [server("a"), server("b")], lambda: Consistent(folded_source))
    assert {picks(pool, 1), picks(pool, 1)} <= {"a", "b"}
    pieces = 0
    while pool.work():
        pieces += 1
    assert pieces > 10
    pool.set_health(pool.servers["a"], True, 0.0)
    assert not pool.work(), "nothing has changed"
    pool.set_health(pool.servers["a"], False, 0.0)
    assert picks(pool, 2) == "b b"


# Waiting


@pytest.fixture
def full():
    """A pool of one server with one place, which is taken."""
    pool = Pool("web", [server("a", maxconn=1)], queue_timeout=10.0)
    pool.servers["a"].count(1)
    return pool


def ask(pool, number, now):
    """Ask for a place for client `number`."""
    flow = client(number)
    return pool.place(flow, pool.pick(flow, now), now)[0]


def test_whoever_finds_all_servers_full_waits_and_is_counted(full):
    assert ask(full, 1, 0.0) is Place.WAIT
    assert ask(full, 2, 0.1) is Place.WAIT
    assert ask(full, 1, 1.0) is Place.WAIT
    assert (full.queued, full.most_queued, full.servers["a"].queued) == (2, 2, 0)


def test_when_a_place_is_free_it_is_his_who_has_waited(full):
    ask(full, 1, 0.0)
    full.servers["a"].count(-1)
    assert ask(full, 1, 1.0) is Place.FREE
    assert (full.queued, full.most_queued) == (0, 1)


def test_a_place_is_kept_for_who_has_waited_longer_and_is_about_to_ask(full):
    for now in (0.0, 1.0):
        ask(full, 1, now)
        ask(full, 2, now + 0.5)
    full.servers["a"].count(-1)
    assert ask(full, 3, 2.6) is Place.WAIT, "a new one"
    assert ask(full, 2, 2.9) is Place.WAIT, "one that came later"
    assert ask(full, 1, 3.0) is Place.FREE


def test_a_place_is_not_kept_for_who_may_not_be_there_at_all(full):
    for number in range(1, 100):
        ask(full, number, 0.0)
    full.servers["a"].count(-1)
    assert ask(full, 100, 0.9) is Place.FREE


def test_a_place_is_not_kept_for_who_backs_off_for_longer(full):
    for now in (0.0, 1.0, 3.0):
        ask(full, 1, now)
    full.servers["a"].count(-1)
    assert ask(full, 2, 3.5) is Place.FREE, "client 1 asks at 7 s"
    full.servers["a"].count(1)
    assert ask(full, 2, 6.4) is Place.WAIT
    full.servers["a"].count(-1)
    assert ask(full, 3, 6.5) is Place.WAIT, "now it is about to"
    assert ask(full, 1, 7.0) is Place.FREE


def test_more_free_places_than_are_wanted_by_those_before_are_given_away():
    pool = Pool("web", [server("a", maxconn=2), server("b", maxconn=2)])
    a, b = pool.servers.values()
    a.count(2)
    b.count(2)
    for now in (0.0, 1.0):
        ask(pool, 1, now)
        ask(pool, 2, now)
    a.count(-1)
    b.count(-1)
    assert ask(pool, 3, 2.1) is Place.WAIT
    a.count(-1)
    assert ask(pool, 4, 2.2) is Place.FREE, "the third place"


def test_nobody_waits_for_a_pool_that_has_a_server_without_limit():
    pool = Pool("web", [server("a", maxconn=1)])
    pool.servers["a"].count(1)
    ask(pool, 1, 0.0)
    ask(pool, 1, 1.0)
    pool.add(server("b"))
    assert ask(pool, 2, 2.1) is Place.FREE


def test_whoever_has_waited_too_long_is_refused_when_he_asks(full):
    for now in (0.0, 1.0, 3.0, 7.0):
        assert ask(full, 1, now) is Place.WAIT
    assert ask(full, 1, 15.0) is Place.LATE
    assert (full.queued, full.gave_up) == (0, 1)
    assert ask(full, 1, 16.0) is Place.WAIT, "a new attempt"


def test_whoever_asks_no_more_is_forgotten(full):
    ask(full, 1, 0.0)
    full.step(3.9)
    assert full.queued == 1
    full.step(4.0)
    assert full.queued == 0


def test_when_too_many_wait_a_new_one_is_held_back_without_a_place_in_the_order(full):
    full._waiting = WaitingRoom(most=1)
    assert [ask(full, number, 0.0) for number in (1, 2)] == [Place.WAIT, Place.WAIT]
    assert full.queued == 1
    full.step(10.0)
    full.servers["a"].count(-1)
    assert ask(full, 2, 11.0) is Place.FREE


def test_a_flow_may_be_missing_for_twice_as_long_as_the_last_time(full):
    for now in (0.0, 1.0, 3.0):
        ask(full, 1, now)
    full.step(9.9)
    assert full.queued == 1
    full.step(10.0)
    assert full.queued == 0


@pytest.fixture
def hashed():
    """A pool whose clients belong to their servers, by address; server a has one place, which is taken."""
    pool = Pool(
        "web",
        [server("a", maxconn=1, maxqueue=2), server("b")],
        lambda: MapBased(lambda flow: flow[9]),
        queue_timeout=5,
    )
    pool.servers["a"].count(1)
    return pool


def test_whoever_belongs_to_a_server_waits_for_that_one(hashed):
    assert ask(hashed, 0, 0.0) is Place.WAIT
    assert (hashed.queued, hashed.servers["a"].queued, hashed.servers["a"].most_queued) == (0, 1, 1)
    assert ask(hashed, 1, 0.0) is Place.FREE, "server b has room"
    assert ask(hashed, 0, 1.0) is Place.WAIT
    hashed.servers["a"].count(-1)
    assert ask(hashed, 2, 2.5) is Place.WAIT, "the place is kept"
    assert hashed.servers["a"].queued == 2
    assert ask(hashed, 0, 3.0) is Place.FREE


def test_when_too_many_wait_for_a_server_the_next_is_refused(hashed):
    assert [ask(hashed, number, 0.0) for number in (0, 2, 4)] == [Place.WAIT, Place.WAIT, Place.CROWDED]
    assert ask(hashed, 2, 1.0) is Place.WAIT, "who waits already goes on"
    assert (hashed.gave_up, hashed.servers["a"].gave_up) == (1, 1)


def test_whoever_has_waited_too_long_for_a_server_is_counted_there(hashed):
    ask(hashed, 0, 0.0)
    ask(hashed, 0, 1.0)
    ask(hashed, 0, 3.0)
    assert ask(hashed, 0, 7.0) is Place.LATE
    assert (hashed.servers["a"].queued, hashed.servers["a"].gave_up, hashed.gave_up) == (0, 1, 1)


def test_whoever_waited_for_a_server_that_is_no_longer_there_goes_to_another(hashed):
    ask(hashed, 0, 0.0)
    hashed.set_health(hashed.servers["a"], False, 0.5)
    assert ask(hashed, 0, 1.0) is Place.FREE
    assert hashed.servers["a"].queued == 0


def test_a_pool_has_servers_for_a_flow_if_any_is_usable_for_its_family(full):
    assert full.has_servers(FLOW)
    assert not full.has_servers(FLOWS[16])
    full.set_health(full.servers["a"], False, 0.0)
    assert not full.has_servers(FLOW)


# Another server for a connection that is not answered


@pytest.mark.parametrize(
    ("redispatch", "retries", "at"),
    [
        (0, 3, []),
        (-1, 3, [3, 6]),
        (-2, 3, [2, 4, 6]),
        (1, 3, [1, 2, 3, 4, 5, 6]),
        (2, 3, [2, 4, 6]),
        (-1, 1, [1, 2, 3, 4, 5, 6]),
        (-1, 0, [1, 2, 3, 4, 5, 6]),
        (-9, 3, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_redispatch_says_at_which_retry_another_server_is_tried(redispatch, retries, at):
    pool = Pool("web", [server("a"), server("b")], LeastConnections, redispatch=redispatch, retries=retries)
    a, b = pool.servers.values()
    assert [number for number in range(1, 7) if pool.another(FLOW, a, number, 0.0) is b] == at


def test_algorithms_that_take_turns_try_another_server_at_every_retry():
    pool = Pool("web", [server("a"), server("b")], redispatch=-1)
    assert pool.another(FLOW, pool.servers["a"], 1, 0.0) is pool.servers["b"]


def test_there_may_be_no_other_server():
    pool = Pool("web", [server("a"), server("b", maxconn=1)], lambda: MapBased(folded_source), redispatch=1)
    a, b = pool.servers.values()
    b.count(1)
    assert pool.another(FLOW, a, 1, 0.0) is None, "it is full"
    pool.set_health(b, False, 0.0)
    assert pool.another(FLOW, a, 1, 0.0) is None
    pool.set_health(a, False, 0.0)
    assert pool.another(FLOW, a, 1, 0.0) is None


# -- what is told of each server before a connection comes


def told(pool, flow=FLOW):
    return {server.name: words for server, words in pool.standings(flow).items()}


def test_what_stands_in_the_way_of_each_server_is_told():
    servers = [server(name) for name in ("free", "down", "maint", "drain", "light", "full", "spare")]
    pool = Pool("web", [*servers, server("six", "fd44::3")])
    _, down, maint, drain, light, full, spare = servers
    pool.set_health(down, False, 0.0)
    pool.set_admin(maint, AdminState.MAINT, 0.0)
    pool.set_admin(drain, AdminState.DRAIN, 0.0)
    pool.set_weight(light, 0, 0.0)
    full.maxconn = 1
    full.count(1)
    spare.backup = True
    pool.set_admin(spare, AdminState.MAINT, 0.0)
    pool.set_admin(spare, AdminState.READY, 0.0)
    obstacles = {each.name: pool.obstacle(each, FLOW) for each in pool.servers.values()}
    assert obstacles == {
        "free": None,
        "down": Obstacle.DOWN,
        "maint": Obstacle.MAINT,
        "drain": Obstacle.DRAIN,
        "light": Obstacle.WEIGHTLESS,
        "full": Obstacle.FULL,
        "spare": Obstacle.ASIDE,
        "six": Obstacle.FAMILY,
    }
    assert pool.obstacle(pool.servers["six"], FLOWS[16]) is None


def test_a_backup_behind_the_first_is_told_so():
    spares = [server("first", backup=True), server("second", backup=True)]
    pool = Pool("web", spares)
    assert [pool.obstacle(each, FLOW) for each in spares] == [None, Obstacle.BEHIND]
    assert told(pool).keys() == {"first"}


def test_a_server_without_an_obstacle_is_picked_when_its_turn_is_next(pool):
    for _ in range(5):
        (following,) = [name for name, words in told(pool).items() if words == "its turn is next"]
        assert picks(pool, 1) == following


def test_telling_changes_nothing(pool):
    other = Pool("web", [server("a"), server("b"), server("c")])
    picked = ""
    for _ in range(7):
        told(other)
        picked += picks(other, 1)
    assert picked == picks(pool, 7).replace(" ", "")


def test_turns_of_unequal_weights_are_told_with_their_credit():
    pool = Pool("web", [server("a", weight=2), server("b"), server("c", maxconn=1)])
    pool.servers["c"].count(1)
    assert told(pool) == {
        "a": "its turn is next, weight 2 has a credit of 32",
        "b": "its turn is next, weight 1 has a credit of 16",
        "c": "its turn comes 1 later, weight 1 has a credit of 16",
    }
    assert picks(pool, 1) == "a"


def test_turns_in_a_map_are_told():
    pool = Pool("web", [server("a", weight=2), server("b")], StaticRoundRobin)
    for _ in range(4):
        (following,) = [name for name, words in told(pool).items() if words == "its turn is next"]
        assert {words for name, words in told(pool).items() if name != following} <= {
            "its turn comes 1 later",
            "its turn comes 2 later",
        }
        assert picks(pool, 1) == following
    for each in pool.servers.values():
        pool.set_health(each, False, 0.0)
    assert told(pool) == {}


def test_servers_that_left_a_map_in_the_making_are_not_told_of():
    many = [server(f"s{number}") for number in range(FEW + 2)]
    pool = Pool("web", many, StaticRoundRobin)
    while pool.work():
        pass
    pool.set_health(many[0], False, 0.0)
    assert told(pool).keys() == {each.name for each in many[1:]}


def test_the_load_of_each_server_is_told():
    pool = Pool("web", [server("a"), server("b", weight=2)], LeastConnections)
    pool.servers["a"].count(1)
    assert told(pool) == {
        "a": "1 connection at weight 1, number 2 by load and turn",
        "b": "0 connections at weight 2, number 1 by load and turn",
    }
    assert picks(pool, 1) == "b"


def test_the_ids_are_told_where_the_first_gets_all():
    pool = Pool("web", [server("b", id=2), server("a", id=1, maxconn=1)], First)
    pool.servers["a"].count(1)
    assert told(pool) == {"a": "id 1, full", "b": "id 2, has room"}


def test_the_chances_are_told_where_chance_decides():
    pool = Pool("web", [server("a", weight=3), server("b")], lambda: RandomDraws(lambda n: 0))
    assert told(pool) == {"a": "75 % of each draw, 0 connections", "b": "25 % of each draw, 0 connections"}


@pytest.mark.parametrize("scheduler", [MapBased, Consistent])
def test_whose_entry_a_hash_leads_to_is_told(scheduler):
    pool = Pool("web", [server("a"), server("b")], lambda: scheduler(folded_source))
    while pool.work():
        pass
    words = told(pool)
    (owner,) = [name for name, text in words.items() if text.endswith(" is its own")]
    (other,) = words.keys() - {owner}
    assert words[other].endswith(f"(hash 0x2c010101) is {owner}'s")
    assert picks(pool, 1) == owner
    for each in pool.servers.values():
        pool.set_health(each, False, 0.0)
    assert told(pool) == {}


def test_who_is_above_the_bound_is_told():
    pool = Pool("web", [server("a"), server("b")], lambda: Consistent(folded_source, 125))
    while pool.work():
        pass
    owner = picks(pool, 1)
    pool.servers[owner].count(10)
    assert told(pool)[owner].endswith("is its own, above 125 % of its share")
    assert picks(pool, 1) != owner
