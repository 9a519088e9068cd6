"""What rules may ask for, asked of a connection that opens."""

import pytest

from natlb.core import facts
from natlb.core.flow import flow_key
from natlb.core.opening import Opening
from natlb.core.pool import AdminState, Pool, Server
from natlb.core.service import Service
from natlb.core.stick import StickTable
from tests.unit.core.packets import packed

NOW = 1000.0
CLIENT, OTHER, VIP = packed("10.1.2.3"), packed("10.1.2.4"), packed("192.0.2.1")


def opening(service: Service | None = None, source: bytes = CLIENT) -> Opening:
    key = flow_key((source, b"\x03\xe9"), (VIP, b"\0\x50"), 6)
    return Opening(key, service or Service("web", None, id=7), NOW, lambda address: address == VIP)


@pytest.mark.parametrize(
    ("sample", "value"),
    [
        (facts.source, CLIENT),
        (facts.source_port, 1001),
        (facts.destination, VIP),
        (facts.destination_port, 80),
        (facts.source_is_local, False),
        (facts.destination_is_local, True),
        (facts.frontend_id, 7),
        (facts.frontend_name, "web"),
        (facts.constant(5), 5),
    ],
)
def test_facts_of_the_connection_itself(sample, value):
    assert sample(opening()) == value


def test_the_connection_that_opens_counts_in_its_own_frontend():
    web, mail = Service("web", None, live=3), Service("mail", None, live=3)
    assert facts.frontend_connections(web)(opening(web)) == 4
    assert facts.frontend_connections(web)(opening(mail)) == 3


def test_sessions_per_second():
    web, pool = Service("web", None), Pool("b", [])
    web.counters.sessions.count(NOW, 5)
    pool.counters.sessions.count(NOW, 6)
    rate = facts.frontend_session_rate(web)
    assert rate(opening()) == 5
    at = opening(web)
    assert rate(at) == 5, "the rules have not let it in yet"
    at.accept()
    assert rate(at) == 6
    assert facts.backend_session_rate(pool)(opening()) == 6


def servers(*backups: bool) -> Pool:
    return Pool("b", [Server(f"s{n}", packed(f"10.0.0.{n}"), 80, backup=backup) for n, backup in enumerate(backups)])


def test_usable_servers_are_the_active_ones_or_one_backup():
    pool = servers(False, False, True, True)
    usable = facts.usable_servers(pool)
    seen = [usable(opening())]
    for server in pool.servers.values():
        pool.set_health(server, False, 0.0)
        seen.append(usable(opening()))
    assert seen == [2, 1, 1, 1, 0]


def test_a_server_is_up_when_it_is_neither_down_nor_in_maintenance():
    [server] = servers(False).servers.values()
    up = facts.server_is_up(server)
    server.admin = AdminState.DRAIN
    assert up(opening())
    server.admin = AdminState.MAINT
    assert not up(opening())
    server.admin, server.healthy = AdminState.READY, False
    assert not up(opening())


def test_connections_of_servers_and_of_all_of_them():
    pool = servers(False, False)
    for name, count in (("s0", 2), ("s1", 3)):
        for _ in range(count):
            pool.servers[name].count(1)
    assert facts.backend_connections(pool)(opening()) == 5
    assert facts.server_connections(pool.servers["s1"])(opening()) == 3


def test_what_waits_for_servers_and_what_room_they_have():
    pool = servers(False, False)
    one, two = pool.servers.values()
    one.maxconn, one.maxqueue, two.maxconn = 5, 10, 7
    pool.queued, one.queued = 2, 3
    one.count(1)
    at = opening()
    assert facts.queued(pool)(at) == 5
    assert facts.server_queue(one)(at) == 3
    assert facts.average_queue(pool)(at) == 3
    assert facts.free_places(pool)(at) == -1, "the other one's queue has no end"
    two.maxqueue = 1
    assert facts.free_places(pool)(at) == (5 - 1 + 10 - 3) + (7 + 1)
    pool.set_health(one, False, 0.0)
    assert facts.free_places(pool)(at) == 8
    pool.set_health(two, False, 0.0)
    assert facts.average_queue(pool)(at) == 10, "nobody is there to take them"


# Stick tables


@pytest.fixture
def table() -> StickTable:
    return StickTable("t", "ip", 10, stored={"conn_cnt": None, "gpc0": None, "gpc0_rate": 10.0})


def test_what_a_table_stores_of_a_client(table):
    table.set(CLIENT, NOW, conn_cnt=5)
    count = facts.of_key(table, facts.source, "conn_cnt")
    assert count(opening()) == 5
    assert count(opening(source=OTHER)) == 0, "nothing is known"
    assert facts.of_key(table, facts.source, "sess_cnt")(opening()) is None, "it is not stored"
    assert facts.of_key(table, facts.source_port, "conn_cnt")(opening()) is None, "a port is no key"
    assert facts.entries_of_table(table)(opening()) == 1


def test_what_is_stored_in_the_entry_that_counts_the_connection(table):
    at = opening()
    tracked, count = facts.is_tracked(1), facts.of_tracked(1, None, "conn_cnt")
    assert not tracked(at)
    assert count(at) is None
    at.count_in(1, table.set(CLIENT, NOW, conn_cnt=4))
    assert tracked(at)
    assert count(at) == 5
    other = StickTable("u", "ip", 10, stored={"conn_cnt": None})
    there = facts.of_tracked(1, other, "conn_cnt")
    assert there(at) == 0
    other.set(CLIENT, NOW, conn_cnt=9)
    assert there(at) == 9


def test_a_key_is_known_or_not(table):
    known = facts.is_known(table, facts.source)
    table.enter(CLIENT, NOW)
    assert known(opening())
    assert not known(opening(source=OTHER))
    assert not facts.is_known(table, facts.source_port)(opening())


def test_asking_can_count_and_clear_events(table):
    count = facts.event_counted(table, facts.source)
    clear = facts.event_count_cleared(table, facts.source)
    assert [count(opening()), count(opening())] == [1, 2]
    assert facts.of_key(table, facts.source, "gpc0_rate")(opening()) == 2
    assert [clear(opening()), clear(opening()), clear(opening(source=OTHER))] == [2, 0, 0]
    assert count(opening()) == 1
    assert facts.event_counted(table, facts.source_port)(opening()) is None
    assert facts.event_count_cleared(table, facts.source_port)(opening()) is None


# Converters


def test_addresses_are_masked_each_family_by_its_own():
    narrow, wide = packed("255.255.255.0"), packed("ffff:ffff::")
    assert facts.mask_address(facts.source, narrow, None)(opening()) == packed("10.1.2.0")
    six = facts.constant(packed("2001:db8::1"))
    assert facts.mask_address(six, narrow, wide)(opening()) == packed("2001:db8::")
    assert facts.mask_address(six, narrow, None)(opening()) is None
    assert facts.mask_address(facts.source_port, narrow, wide)(opening()) is None


def test_numbers_are_made_of_numbers():
    assert facts.compute(facts.source_port, lambda number: number + 1)(opening()) == 1002
    assert facts.compute(facts.source, lambda number: number + 1)(opening()) is None
