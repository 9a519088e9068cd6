"""Limits: how many connections there may be, and who gives way when there is no room."""

import pytest

from natlb.core.engine import NatEngine
from natlb.core.eviction import HALF_OPEN_GRACE
from natlb.core.packet import UDP
from natlb.core.service import Intake, Service
from natlb.core.states import State
from natlb.core.verdict import DropReason, Rewrite
from tests.unit.core.conversation import (
    DATA,
    DATAGRAM,
    FIN,
    PORT,
    RST,
    SYN,
    SYN_ACK,
    VIP,
    dropped,
    reset,
    to,
)
from tests.unit.core.packets import datagram, packed, segment

# So many and no more


@pytest.mark.parametrize("limit", ["max_connections", "service_max_connections"])
def test_a_syn_past_the_limit_waits_until_a_slot_is_free(start, limit):
    talk = start(**{limit: 1})
    second = talk.client.at(1002)
    server1 = talk.shake_hands()
    second >> SYN << dropped(DropReason.MAXCONN)
    second >> SYN << dropped(DropReason.MAXCONN)
    assert talk.service.held_back == 2
    talk.client >> FIN
    second >> SYN << dropped(DropReason.MAXCONN)
    server1 >> FIN
    second >> SYN << to(talk.server2)


def test_the_limit_of_one_service_does_not_hold_back_another(start):
    talk = start(service_max_connections=1)
    mail = Service("mail", talk.pool)
    talk.addresses.bind(packed(VIP[talk.family]), 25, mail)
    talk.shake_hands()
    talk.client.asking(VIP[talk.family], 25) >> SYN << to(talk.server2)
    assert (talk.service.live, mail.live, talk.engine.live) == (1, 1, 2)


def test_a_limit_that_is_lowered_ends_no_connection(talk):
    server1 = talk.shake_hands()
    talk.engine.admission.max_connections = 0
    talk.client >> DATA << to(server1)
    talk.client.at(1002) >> SYN << dropped(DropReason.MAXCONN)


def test_in_a_full_table_a_finished_connection_gives_way(start):
    talk = start(capacity=2)
    server1 = talk.shake_hands()
    talk.client.at(1002) >> SYN
    talk.client >> RST
    talk.news()
    talk.client.at(1003) >> SYN << to(server1)
    assert talk.entry() is None
    assert talk.entry(talk.client.at(1002)) is not None
    assert talk.news() == ["opened, server1"], "the one that gave way was closed before"


def test_in_a_full_table_the_half_open_connection_that_is_silent_longest_gives_way(start):
    talk = start(capacity=2)
    talk.client.at(1001) >> SYN
    talk.wait(2)
    talk.client.at(1002) >> SYN
    talk.client.at(1003) >> SYN << to(talk.server1)
    assert talk.entry(talk.client.at(1001)) is None
    assert "closed, server1, EVICTED" in talk.news()


def test_in_a_table_full_of_established_connections_none_gives_way(start):
    talk = start(capacity=2)
    servers = [talk.shake_hands(talk.client.at(port)) for port in (1001, 1002)]
    talk.client.at(1003) >> SYN << dropped(DropReason.TABLE_FULL)
    for port, server in zip((1001, 1002), servers, strict=True):
        talk.client.at(port) >> DATA << to(server)


@pytest.mark.parametrize("limit", ["max_connections", "service_max_connections"])
def test_flows_of_udp_are_connections_that_count(start, limit):
    talk = start(**{limit: 1})
    talk.client >> DATAGRAM << to(talk.server1)
    talk.server1 >> DATAGRAM << to(talk.client)
    talk.client.at(1002) >> DATAGRAM << dropped(DropReason.MAXCONN)
    assert talk.udp.held_back == 1


def test_a_connection_that_comes_back_after_a_reset_may_be_one_too_many(start):
    """It was there before the others."""
    talk = start(max_connections=1)
    server1 = talk.shake_hands()
    server1 >> RST << to(talk.client)
    talk.shake_hands(talk.client.at(1002))
    talk.client >> DATA << to(server1)
    assert talk.engine.live == 2
    talk.client.at(1003) >> SYN << dropped(DropReason.MAXCONN)


# Half-open connections have a place, but not for long


@pytest.mark.parametrize("limit", ["max_connections", "service_max_connections"])
@pytest.mark.parametrize("state", [State.INIT, State.SYN_RECEIVED])
def test_at_the_limit_a_half_open_connection_gives_way_when_its_grace_is_over(start, limit, state):
    """Or else a flood of SYNs would keep everybody else out."""
    talk = start(**{limit: 1})
    talk.client >> SYN << to(talk.server1)
    if state is State.SYN_RECEIVED:
        talk.server1 >> SYN_ACK << to(talk.client)
    talk.now += HALF_OPEN_GRACE - 0.001
    talk.client.at(1002) >> SYN << dropped(DropReason.MAXCONN)
    assert talk.entry().state is state
    talk.now += 0.001
    talk.client.at(1002) >> SYN << to(talk.server2)
    assert talk.entry() is None
    assert talk.engine.live == 1
    assert "closed, server1, EVICTED" in talk.news()


def test_a_flow_that_nobody_answered_gives_way_likewise(start):
    talk = start(service_max_connections=1)
    talk.client >> DATAGRAM << to(talk.server1)
    talk.client.at(1002) >> DATAGRAM << dropped(DropReason.MAXCONN)
    talk.now += HALF_OPEN_GRACE
    talk.client.at(1002) >> DATAGRAM << to(talk.server2)
    talk.server2 >> DATAGRAM << to(talk.client.at(1002))
    talk.now += HALF_OPEN_GRACE
    talk.client >> DATAGRAM << dropped(DropReason.MAXCONN)


def test_the_one_that_has_been_silent_longest_gives_way(start):
    talk = start(max_connections=2)
    for port in (1001, 1002):
        talk.client.at(port) >> SYN
        talk.now += HALF_OPEN_GRACE
    talk.client.at(1003) >> SYN << to(talk.server1)
    assert talk.entry(talk.client.at(1001)) is None
    assert talk.entry(talk.client.at(1002)) is not None


def test_at_the_limit_of_a_service_its_own_half_open_connections_give_way(start):
    talk = start(service_max_connections=1)
    mail = Service("mail", talk.pool)
    talk.addresses.bind(packed(VIP[talk.family]), 25, mail)
    mailer = talk.client.asking(VIP[talk.family], 25)
    mailer >> SYN << to(talk.server1)
    talk.now += 1
    talk.client >> SYN << to(talk.server2)
    talk.client.at(1002) >> SYN << dropped(DropReason.MAXCONN)
    talk.now += 1
    talk.client.at(1002) >> SYN << to(talk.server1)
    assert talk.entry(mailer) is not None
    assert talk.entry() is None


def test_at_the_limit_of_all_any_half_open_connection_gives_way(start):
    talk = start(max_connections=1)
    talk.client >> DATAGRAM << to(talk.server1)
    talk.now += 1
    talk.client >> SYN << to(talk.server2)
    assert [each.state for each in talk.engine.connections()] == [State.INIT]


def test_who_gives_way_for_the_service_gives_way_for_all(start):
    talk = start(max_connections=2, service_max_connections=1)
    talk.client >> DATAGRAM << to(talk.server1)
    talk.now += 1
    talk.client >> SYN << to(talk.server2)
    talk.now += 1
    talk.client.at(1002) >> SYN << to(talk.server1)
    assert sorted(each.state.name for each in talk.engine.connections()) == ["INIT", "ONE_WAY"]
    assert (talk.engine.live, talk.service.live) == (2, 1)


def test_a_flood_of_syns_at_the_limit_leaves_established_connections_alone(start):
    talk = start(max_connections=3)
    servers = [talk.shake_hands(talk.client.at(port)) for port in (1, 2)]
    for port in range(1000, 1050):
        talk.client.at(port) >> SYN
        talk.now += 0.1
    for port, server in zip((1, 2), servers, strict=True):
        talk.client.at(port) >> DATA << to(server)
    assert talk.engine.live == 3


# The table


def test_half_open_connections_have_a_bound_of_their_own_and_make_room_among_themselves(start):
    """At once: whoever floods the table with SYNs pushes out his own."""
    talk = start(capacity=100, half_open_capacity=2)
    server1 = talk.shake_hands()
    talk.client.at(1) >> FIN
    talk.client.at(1001) >> SYN << to(talk.server2)
    talk.client.at(1002) >> SYN << to(server1)
    talk.client.at(1003) >> SYN << to(talk.server2)
    assert talk.entry(talk.client.at(1001)) is None
    assert talk.entry(talk.client.at(1002)) is not None
    assert "closed, server2, EVICTED" in talk.news()
    talk.client >> DATA << to(server1)
    assert len(talk.engine) == 3


def test_a_flood_of_syns_leaves_established_connections_and_flows_alone(start):
    talk = start(capacity=20, half_open_capacity=5)
    server1 = talk.shake_hands()
    talk.client >> DATAGRAM << to(talk.server2)
    talk.server2 >> DATAGRAM << to(talk.client)
    for port in range(1000, 1100):
        talk.client.at(port) >> SYN
    assert len(talk.engine) == 7
    talk.client >> DATA << to(server1)
    talk.client >> DATAGRAM << to(talk.server2)


def test_a_flood_of_datagrams_likewise(start):
    talk = start(capacity=20, half_open_capacity=5)
    server1 = talk.shake_hands()
    for port in range(1000, 1100):
        talk.client.at(port) >> DATAGRAM
    assert len(talk.engine) == 6
    talk.client >> DATA << to(server1)


@pytest.mark.parametrize(("capacity", "half_open"), [(400, 100), (3, 1), (1, 1)])
def test_unless_told_otherwise_a_quarter_of_the_table_may_be_half_open(talk, capacity, half_open):
    engine = NatEngine(talk.addresses, capacity=capacity)
    for port in range(1, 500):
        engine.handle_packet(segment((talk.client.place[0], port), talk.client.peer, 2), 0.0)
        engine.handle_packet(datagram((talk.client.place[0], port), talk.client.peer), 0.0)
    assert len(engine) == engine.live == half_open


def test_in_a_full_table_flows_that_were_answered_do_not_give_way(start):
    talk = start(capacity=1)
    talk.client >> DATAGRAM << to(talk.server1)
    talk.server1 >> DATAGRAM << to(talk.client)
    talk.client.at(1002) >> DATAGRAM << dropped(DropReason.TABLE_FULL)
    talk.client.at(1003) >> SYN << dropped(DropReason.TABLE_FULL)
    talk.client >> DATAGRAM << to(talk.server1)


def test_a_refused_connection_takes_no_room_and_pushes_nobody_out(start):
    talk = start(capacity=1)
    talk.client >> SYN << to(talk.server1)
    for server in talk.pool.servers.values():
        talk.pool.set_health(server, False, talk.now)
    talk.client.at(1002) >> SYN << reset
    assert talk.entry() is not None


def test_the_limit_of_a_udp_service_is_its_own(start):
    talk = start(service_max_connections=1)
    other = Service("ntp", talk.pool, protocol=UDP)
    talk.addresses.bind(packed(VIP[talk.family]), 123, other)
    talk.client >> DATAGRAM << to(talk.server1)
    talk.client.asking(VIP[talk.family], 123) >> DATAGRAM << to(talk.server2)
    talk.client.asking(VIP[talk.family], PORT) >> SYN << to(talk.server1)
    assert (talk.udp.live, other.live, talk.service.live) == (1, 1, 1)


def test_both_ends_are_told_of_the_largest_packet_that_can_be_handed_in(talk):
    talk.engine.largest_packet = 65531
    largest = {4: 65491, 6: 65471}[talk.family].to_bytes(2, "big")
    syn = SYN(seq=1000, options=b"\x02\x04\xff\xff")
    server1 = talk.server1.facing(talk.client)
    for host, said in ((talk.client, syn), (talk.client, syn), (server1, syn(flags=0x12, ack=1001))):
        packet = said.packet(host)
        assert isinstance(talk.engine.handle_packet(packet, talk.now), Rewrite)
        assert packet.endswith(b"\x02\x04" + largest)
    assert talk.entry().state is State.SYN_RECEIVED


# Frontends that take no connections for now, or for good


@pytest.mark.parametrize("intake", [Intake.PAUSED, Intake.STOPPED])
def test_a_service_that_takes_no_connections_refuses_new_ones_and_keeps_those_it_has(talk, intake):
    server1 = talk.shake_hands()
    talk.service.intake = intake
    second = talk.client.at(1002)
    second >> SYN << reset
    talk.client >> DATA << to(server1)
    talk.service.intake = Intake.OPEN
    second >> SYN << to(talk.server2)
    assert (talk.service.refused, talk.service.held_back) == (0, 0)
