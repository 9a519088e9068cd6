"""The first rule whose condition holds decides."""

import pytest

from natlb.core import facts
from natlb.core.conditions import Condition, always
from natlb.core.flow import flow_key
from natlb.core.opening import Opening
from natlb.core.pool import AdminState, Pool, Server
from natlb.core.rules import BackendRules, Decision, FrontendRules, Sticking, count_event, track
from natlb.core.service import Service
from natlb.core.stick import StickTable
from tests.unit.core.packets import packed

NOW = 1000.0
CLIENT = packed("10.1.2.3")
STORED = {"conn_cnt": None, "conn_cur": None, "sess_cnt": None, "gpc0": None, "gpc0_rate": 10.0}


def opening(client: bytes = CLIENT) -> Opening:
    key = flow_key((client, b"\x03\xe9"), (client, b"\0\x50"), 6)
    return Opening(key, Service("web", None), NOW, lambda _: False)


def never(_: Opening) -> bool:
    return False


@pytest.fixture
def table() -> StickTable:
    return StickTable("t", "ip", 10, stored=STORED)


@pytest.fixture
def pool() -> Pool:
    return Pool("b", [Server(f"s{n}", packed(f"10.0.0.{n}"), 80) for n in (1, 2)])


def test_who_is_not_rejected_is_accepted():
    assert FrontendRules().decide(opening()) is Decision.ACCEPT
    assert FrontendRules(((never, Decision.REJECT),)).decide(opening()) is Decision.ACCEPT


def test_the_first_decision_is_final_and_actions_before_it_are_done(table):
    rules = FrontendRules(
        (
            (always, track(0, table, facts.source)),
            (never, Decision.ACCEPT),
            (always, Decision.SILENT_DROP),
            (always, track(1, table, facts.source)),
            (always, Decision.REJECT),
        )
    )
    at = opening()
    assert rules.decide(at) is Decision.SILENT_DROP
    assert [entry is not None for entry in at.tracked] == [True, False, False]


def test_the_first_backend_is_chosen_or_the_default(pool):
    other = Pool("other", [])
    assert FrontendRules().choose(opening(), pool) is pool
    rules = FrontendRules(backends=((never, None), (always, other), (always, None)))
    assert rules.choose(opening(), pool) is other
    assert FrontendRules(backends=((always, None),)).choose(opening(), pool) is None, "it takes no connections"


def test_a_connection_is_counted_once_in_each_slot(table):
    at = opening()
    track(0, table, facts.source)(at)
    track(0, table, facts.destination)(at)
    [entry] = table.entries(NOW)
    assert (entry.use, entry.read("conn_cnt", NOW)) == (1, 1)


def test_what_is_no_key_or_finds_no_room_is_not_counted(table):
    at = opening(packed("2001:db8::1"))
    track(0, table, facts.source)(at)
    assert at.tracked[0] is None
    full = StickTable("t", "ip", 0, purge=False)
    track(0, full, facts.source)(opening())
    assert full.used(NOW) == 0


def test_events_are_counted_where_the_connection_is(table):
    at = opening()
    count_event(0)(at)
    track(0, table, facts.source)(at)
    count_event(0)(at)
    entry = table.get(CLIENT, NOW)
    assert (entry.read("gpc0", NOW), entry.read("gpc0_rate", NOW)) == (1, 1)


def test_a_connection_that_has_to_wait_was_never_counted(table):
    at = opening()
    track(0, table, facts.source)(at)
    at.accept()
    assert table.get(CLIENT, NOW).read("sess_cnt", NOW) == 1
    at.take_back()
    entry = table.get(CLIENT, NOW)
    assert [entry.read(name, NOW) for name in ("conn_cnt", "conn_cur", "sess_cnt")] == [0, 0, 0]
    assert entry.use == 0


def test_a_connection_that_is_refused_stays_counted_as_tried(table):
    at = opening()
    track(0, table, facts.source)(at)
    at.give_up()
    entry = table.get(CLIENT, NOW)
    assert [entry.read(name, NOW) for name in ("conn_cnt", "conn_cur", "sess_cnt")] == [1, 0, 0]
    assert entry.use == 0


# Servers


def use(name: str, condition: Condition = always, **more: object) -> BackendRules:
    return BackendRules(((condition, name),), **more)


def test_without_a_rule_that_holds_the_connection_belongs_to_no_server(pool):
    assert BackendRules().choose(opening(), pool) is None
    assert use("s1", never).choose(opening(), pool) is None


@pytest.mark.parametrize("persist", [False, True])
@pytest.mark.parametrize(
    ("change", "is_open"),
    [
        ({}, True),
        ({"admin": AdminState.DRAIN}, True),
        ({"weight": 0}, True),
        ({"backup": True}, True),
        ({"healthy": False}, False),
        ({"admin": AdminState.MAINT}, False),
    ],
)
def test_a_server_takes_what_belongs_to_it_unless_it_is_away(pool, change, is_open, persist):
    server = pool.servers["s2"]
    for name, value in change.items():
        setattr(server, name, value)
    chosen = use("s2", persist=persist).choose(opening(), pool)
    assert chosen is (server if is_open or persist else None)


def test_a_server_that_has_gone_or_is_of_another_family_is_passed_over(pool):
    assert use("s9").choose(opening(), pool) is None
    assert use("s2", persist=True).choose(opening(packed("2001:db8::1")), pool) is None


def test_the_next_rule_is_asked_when_a_server_is_away(pool):
    pool.servers["s2"].healthy = False
    rules = BackendRules(((always, "s2"), (always, "s1")))
    assert rules.choose(opening(), pool) is pool.servers["s1"]


# Sticking


def stick(table: StickTable, condition: Condition = always, *, matches: bool = True, stores: bool = True) -> Sticking:
    return Sticking(table, facts.source, condition, matches, stores)


def test_a_key_sticks_to_its_server(table, pool):
    rules = BackendRules(sticking=(stick(table),))
    assert rules.choose(opening(), pool) is None
    table.set(CLIENT, NOW, "s2")
    assert rules.choose(opening(), pool) is pool.servers["s2"]


def test_use_server_comes_before_sticking(table, pool):
    table.set(CLIENT, NOW, "s2")
    rules = BackendRules(((always, "s1"),), (stick(table),))
    assert rules.choose(opening(), pool) is pool.servers["s1"]


def test_rules_that_do_not_hold_or_do_not_match_send_nobody_anywhere(table, pool):
    table.set(CLIENT, NOW, "s2")
    rules = BackendRules(sticking=(stick(table, never), stick(table, matches=False)))
    assert rules.choose(opening(), pool) is None


def test_an_entry_without_a_server_or_with_one_that_is_away_sends_nobody_anywhere(table, pool):
    rules = BackendRules(sticking=(stick(table),))
    table.enter(CLIENT, NOW)
    assert rules.choose(opening(), pool) is None
    table.set(CLIENT, NOW, "s2")
    pool.servers["s2"].healthy = False
    assert rules.choose(opening(), pool) is None


def test_what_is_no_key_sticks_to_nothing(table, pool):
    rules = BackendRules(sticking=(stick(table),))
    six = opening(packed("2001:db8::1"))
    assert rules.choose(six, pool) is None
    assert rules.to_store(six) == ()


def test_using_an_entry_touches_it(pool):
    table = StickTable("t", "ip", 10, expire=10)
    table.set(CLIENT, NOW - 9, "s2")
    BackendRules(sticking=(stick(table),)).choose(opening(), pool)
    assert table.get(CLIENT, NOW + 9).server == "s2"


def test_keys_are_stored_by_the_rules_that_store_and_hold(table):
    rules = BackendRules(sticking=(stick(table), stick(table, never), stick(table, stores=False)))
    assert rules.to_store(opening()) == ((table, CLIENT),)
