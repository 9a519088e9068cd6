"""What the engine counts: each test makes a little traffic and says what must have been counted of it."""

import pytest

from natlb.core.eviction import HALF_OPEN_GRACE
from natlb.core.flow import Direction
from natlb.core.pool import AdminState
from natlb.core.service import Service, Timeouts
from natlb.core.verdict import DropReason
from tests.unit.core.conversation import (
    ACK,
    DATA,
    DATAGRAM,
    FIN,
    OTHER_VIP,
    PORT,
    RST,
    RST_ACK,
    SYN,
    SYN_ACK,
    dropped,
    reset,
    to,
    unreachable,
)
from tests.unit.core.packets import packed

BRIEF = Timeouts(opening=8, idle=80, client_fin=16, server_fin=24, closing=40, one_way=8, both_ways=80)
NATS = pytest.mark.parametrize("ranges", [None, [(1024, 65535)]], ids=["dnat", "full nat"])
FAILURES = ("failed", "reset_by_server", "aborted_by_client", "aborted_by_server", "internal")


def seen(talk):
    """Return how a server sees the client: None for as it is."""
    return None if talk.sources is None else (talk.snat, talk.client.place[1])


def octets(talk):
    """Return the bytes in and out of the frontend, of server1 and of the backend; they must agree."""
    talk.service.settle()
    talk.udp.settle()
    counters = talk.service.counters, talk.configured(talk.server1).counters, talk.pool.counters
    [carried] = {(each.octets_in, each.octets_out) for each in counters}
    return carried


def failures(talk, counters=None):
    """Return what is counted of server1 that is not as it should be; the backend must count the same."""
    both = talk.configured(talk.server1).counters, talk.pool.counters
    [counted] = [{name: getattr(both[0], name) for name in FAILURES if getattr(both[0], name)}]
    assert counted == {name: getattr(both[1], name) for name in FAILURES if getattr(both[1], name)}
    return counted


# Bytes


@NATS
def test_payload_is_counted_of_connections_that_are_still_open(start, ranges):
    talk = start(ranges=ranges)
    server1 = talk.shake_hands()
    assert octets(talk) == (0, 0)
    talk.client >> DATA(payload=bytes(100)) << to(server1, seen_as=seen(talk))
    server1 >> DATA(payload=bytes(1000)) << to(talk.client)
    assert octets(talk) == (100, 1000)
    server1 >> DATA(payload=bytes(1)) << to(talk.client)
    talk.client >> FIN(payload=b"bye") << to(server1, seen_as=seen(talk))
    assert octets(talk) == (103, 1001)


def test_what_a_syn_carries_is_payload(talk):
    talk.client >> SYN(payload=b"fast open") << to(talk.server1)
    assert octets(talk) == (9, 0)


def test_what_is_sent_again_is_not_counted_again(talk):
    """A proxy would not see that it was, either."""
    server1 = talk.shake_hands()
    for _ in range(2):
        talk.client >> DATA(seq=1001, payload=bytes(10)) << to(server1)
    talk.client >> DATA(seq=1006, payload=bytes(10)) << to(server1)
    talk.client >> DATA(seq=1000, payload=b"?") << to(server1)  # a keep-alive
    assert octets(talk) == (15, 0)
    assert talk.carried()[0] == (6, 15)
    talk.client >> FIN(seq=1016) << to(server1)
    talk.client >> FIN(seq=1016) << to(server1)
    assert octets(talk) == (15, 0)


def test_what_comes_late_is_counted_once(talk):
    server1 = talk.shake_hands()
    for sequence in (1011, 1001, 1011, 1021):
        talk.client >> DATA(seq=sequence, payload=bytes(10)) << to(server1)
    assert octets(talk) == (30, 0)


def test_what_the_peer_has_no_room_for_is_not_counted(talk):
    server1 = talk.shake_hands()
    talk.client >> DATA(seq=1001 + 0x2000, payload=bytes(10)) << to(server1)
    assert octets(talk) == (0, 0)


@NATS
def test_datagrams_are_counted_whole_or_in_fragments(start, ranges):
    talk = start(ranges=ranges)
    client, server1 = talk.client, talk.server1
    client >> DATAGRAM(payload=bytes(10)) << to(server1, seen_as=seen(talk))
    talk.udp.settle()
    for part in server1.cut(DATAGRAM(payload=bytes(200)), 64, 128):
        server1 >> part << to(client)
    for part in reversed(client.cut(DATAGRAM(payload=bytes(300)), 64, 128)):
        client >> part
    talk.udp.settle()
    counters = talk.udp.counters
    assert (counters.octets_in, counters.octets_out) == (310, 200)
    assert (counters.packets_in, counters.packets_out) == (4, 3), "fragments one by one"


def test_a_packet_that_is_dropped_carries_nothing(talk):
    server1 = talk.shake_hands()
    talk.client.at(1002) >> DATA << reset
    server1 >> RST(seq=1, payload=b"no") << dropped(DropReason.OUT_OF_WINDOW)
    assert octets(talk) == (0, 0)


# Connections


def test_a_connection_counts_with_all_whom_it_concerns(talk):
    server1 = talk.configured(talk.shake_hands())
    talk.shake_hands(talk.client.at(1002))
    assert (talk.service.total, talk.pool.total, server1.total, talk.engine.books.total) == (2, 2, 1, 2)
    assert (talk.pool.live, talk.pool.counters.most_live, server1.counters.most_live) == (2, 2, 1)
    assert talk.service.counters.most_live == 2
    assert (talk.pool.counters.balanced, server1.counters.balanced) == (2, 1)
    assert (talk.pool.counters.attempts, server1.counters.attempts) == (2, 1)
    for counters in (talk.service.counters, talk.pool.counters, talk.engine.books.counters):
        assert (counters.sessions.read(talk.now), counters.sessions.highest) == (2, 2)
    assert talk.service.counters.arrivals.read(talk.now) == 2
    assert server1.counters.last_session == talk.now
    assert failures(talk) == {}


def test_the_most_that_were_open_stays_when_they_have_ended(talk):
    server1 = talk.shake_hands()
    talk.client >> FIN
    server1 >> FIN
    assert (talk.service.live, talk.pool.live) == (0, 0)
    assert (talk.service.counters.most_live, talk.pool.counters.most_live) == (1, 1)
    assert failures(talk) == {}


def test_a_connection_that_comes_back_after_a_reset_is_open_again(talk):
    server1 = talk.shake_hands()
    talk.client >> RST
    talk.client.at(1002) >> SYN << to(talk.server2)
    assert talk.service.counters.most_live == 1
    talk.client >> DATA << to(server1)
    assert talk.service.counters.most_live == talk.pool.counters.most_live == 2


def test_a_frontend_without_a_backend_counts_those_that_it_refuses(talk):
    bare = Service("bare", None)
    talk.addresses.bind(packed(OTHER_VIP[talk.family]), PORT, bare)
    talk.client.asking(OTHER_VIP[talk.family], PORT) >> SYN << reset
    assert (bare.total, bare.refused, talk.engine.books.total) == (1, 1, 1)
    assert bare.counters.sessions.highest == 1


@pytest.mark.parametrize(("said", "answered"), [(SYN, reset), (DATAGRAM, unreachable)], ids=["tcp", "udp"])
def test_where_no_server_is_usable_the_backend_has_failed(talk, said, answered):
    for server in talk.pool.servers.values():
        talk.pool.set_health(server, False, talk.now)
    talk.client >> said << answered
    service = talk.service if said is SYN else talk.udp
    assert (service.total, service.refused, talk.pool.total, talk.pool.counters.failed) == (1, 1, 1, 1)
    assert talk.configured(talk.server1).counters.failed == 0


# What goes wrong, and whose doing it is


def test_a_server_that_refuses_has_failed(talk):
    talk.client >> SYN << to(talk.server1)
    talk.server1 >> RST_ACK(seq=0) << to(talk.client)
    assert failures(talk) == {"failed": 1}


def test_a_server_that_does_not_answer_has_failed(start):
    talk = start(timeouts=BRIEF)
    talk.client >> SYN << to(talk.server1)
    talk.wait(10)
    assert failures(talk) == {"failed": 1}
    assert talk.pool.counters.total_time.mean == 0


def test_a_client_that_gives_up_before_the_answer_has_aborted(talk):
    talk.client >> SYN << to(talk.server1)
    talk.server1 >> SYN_ACK << to(talk.client)
    talk.client >> RST << to(talk.server1)
    assert failures(talk) == {"aborted_by_client": 1}


def test_a_client_that_does_not_take_the_answer_has_aborted(start):
    talk = start(timeouts=BRIEF)
    talk.client >> SYN << to(talk.server1)
    talk.server1 >> SYN_ACK << to(talk.client)
    talk.wait(10)
    assert failures(talk) == {"aborted_by_client": 1}


def test_a_server_that_resets_after_its_answer_has_aborted(talk):
    talk.client >> SYN << to(talk.server1)
    talk.server1 >> SYN_ACK << to(talk.client)
    talk.server1 >> RST << to(talk.client)
    assert failures(talk) == {"aborted_by_server": 1, "reset_by_server": 1}


@pytest.mark.parametrize(
    ("who", "counted"),
    [("client", {"aborted_by_client": 1}), ("server1", {"aborted_by_server": 1, "reset_by_server": 1})],
)
def test_who_resets_an_open_connection_has_aborted_it(talk, who, counted):
    talk.shake_hands()
    getattr(talk, who) >> RST
    assert failures(talk) == counted


@pytest.mark.parametrize(
    ("shorter", "counted"),
    [(Direction.ORIGINAL, {"aborted_by_client": 1}), (Direction.REPLY, {"aborted_by_server": 1})],
)
def test_an_open_connection_times_out_from_the_side_with_the_shorter_timeout(start, shorter, counted):
    talk = start(timeouts=Timeouts(idle=80, shorter=shorter))
    talk.shake_hands()
    talk.wait(82)
    assert failures(talk) == counted


@pytest.mark.parametrize(("closes", "counted"), [("client", "aborted_by_server"), ("server1", "aborted_by_client")])
def test_a_half_closed_connection_times_out_from_the_side_that_has_not_closed(start, closes, counted):
    talk = start(timeouts=BRIEF)
    talk.shake_hands()
    getattr(talk, closes) >> FIN
    talk.wait(26)
    assert failures(talk) == {counted: 1}


@pytest.mark.parametrize("ended", ["operator", "both"])
def test_what_ends_well_or_by_an_operator_is_nobodys_fault(talk, ended):
    server1 = talk.shake_hands()
    if ended == "operator":
        talk.engine.shutdown(talk.entry(), talk.now)
    else:
        talk.client >> FIN
        server1 >> FIN
    assert failures(talk) == {}


def test_flows_of_udp_end_in_silence_without_a_fault(start):
    talk = start(timeouts=BRIEF)
    talk.client >> DATAGRAM << to(talk.server1)
    talk.wait(10)
    talk.client >> DATAGRAM
    talk.client >> DATAGRAM
    talk.wait(100)
    assert failures(talk) == {}


def test_a_syn_that_is_sent_again_is_a_retry(talk):
    talk.client >> SYN << to(talk.server1)
    talk.client >> SYN << to(talk.server1)
    for _ in range(2):
        talk.wait(1)
        talk.client >> SYN << to(talk.server1)
    for owner in (talk.configured(talk.server1), talk.pool):
        assert (owner.retries, owner.counters.attempts) == (2, 3)


@pytest.mark.parametrize("said", [SYN, DATAGRAM], ids=["tcp", "udp"])
def test_a_connection_that_goes_on_to_another_server_is_the_same_to_the_frontend(talk, said):
    talk.client >> said << to(talk.server1)
    talk.pool.set_admin(talk.configured(talk.server1), AdminState.MAINT, talk.now)
    talk.client >> said << to(talk.server2)
    service = talk.service if said is SYN else talk.udp
    assert (service.total, talk.pool.total, talk.engine.books.total) == (1, 1, 1)
    assert [server.total for server in talk.pool.servers.values()] == [1, 1]
    assert failures(talk) == {}
    assert (talk.configured(talk.server1).redispatches, talk.pool.redispatches) == (1, 1)
    assert talk.pool.counters.balanced == 2


def test_a_connection_that_goes_on_to_nobody_is_the_same_to_the_frontend(talk):
    talk.client >> SYN << to(talk.server1)
    for server in talk.pool.servers.values():
        talk.pool.set_health(server, False, talk.now)
    talk.client >> SYN << reset
    assert (talk.service.total, talk.service.refused, talk.pool.counters.failed) == (1, 1, 1)


# Room


def test_what_has_no_room_in_the_table_is_an_internal_error(start):
    talk = start(capacity=1)
    talk.shake_hands()
    talk.client.at(1002) >> SYN << dropped(DropReason.TABLE_FULL)
    assert (talk.service.counters.internal, talk.pool.counters.internal, talk.service.total) == (1, 1, 1)


def test_what_has_no_port_is_an_internal_error(start):
    talk = start(ranges=[(5000, 5000)])
    for port in (1001, 1002):
        talk.client.at(port) >> SYN
    talk.client.at(1003) >> SYN << dropped(DropReason.NO_PORT)
    assert (talk.service.counters.internal, talk.pool.counters.internal) == (1, 1)


def test_a_half_open_connection_that_gives_way_is_an_internal_error_and_nobodys_fault(start):
    talk = start(max_connections=1)
    talk.client >> SYN << to(talk.server1)
    talk.wait(HALF_OPEN_GRACE)
    talk.client.at(1002) >> SYN << to(talk.server2)
    assert failures(talk) == {"internal": 1}
    assert talk.service.counters.internal == 1


def test_a_finished_connection_that_gives_way_is_nothing(start):
    talk = start(capacity=1)
    server1 = talk.shake_hands()
    talk.client >> FIN
    server1 >> FIN
    talk.client.at(1002) >> SYN << to(talk.server2)
    assert failures(talk) == {}
    assert talk.service.counters.internal == 0


# Times


def test_times_are_measured_in_milliseconds(talk):
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    talk.wait(0.25)
    server1 >> SYN_ACK << to(client)
    client >> ACK << to(server1)
    talk.wait(0.5)
    client >> FIN
    server1 >> FIN
    for counters in (talk.configured(server1).counters, talk.pool.counters):
        assert (counters.connect_time.mean, counters.connect_time.highest) == (250, 250)
        assert (counters.total_time.mean, counters.total_time.highest) == (750, 750)


def test_a_flow_of_udp_is_measured_alike(start):
    talk = start(responses=1)
    talk.client >> DATAGRAM << to(talk.server1)
    talk.wait(0.25)
    talk.server1 >> DATAGRAM << to(talk.client)
    counters = talk.pool.counters
    assert (counters.connect_time.mean, counters.total_time.mean) == (250, 250)


# Servers that are taken away


def test_a_server_that_is_taken_away_counts_for_itself_alone_from_then_on(talk):
    server1 = talk.configured(talk.shake_hands())
    talk.pool.remove(server1)
    talk.client >> RST << to(talk.server1)
    assert (server1.counters.aborted_by_client, talk.pool.counters.aborted_by_client) == (1, 0)


def test_bytes_to_a_server_that_was_taken_away_count_as_long_as_it_has_connections(talk):
    server1 = talk.shake_hands()
    talk.pool.remove(talk.pool.servers["server1"])
    for _ in range(2):
        talk.client >> DATA(payload=bytes(10)) << to(server1)
        talk.service.settle()
    assert talk.service.counters.octets_in == talk.pool.counters.octets_in == 20
    talk.client >> FIN
    server1 >> FIN
    talk.service.settle()
    assert talk.service._traffic == {}


def test_a_client_that_asks_again_a_server_that_was_taken_away_goes_to_another(talk):
    talk.client >> SYN << to(talk.server1)
    server1 = talk.configured(talk.server1)
    talk.pool.set_admin(server1, AdminState.MAINT, talk.now)
    talk.pool.remove(server1)
    talk.client >> SYN << to(talk.server2)
    assert (server1.redispatches, talk.pool.redispatches, talk.service.total) == (1, 0, 1)


# Waiting


def test_how_long_a_connection_has_waited_is_measured(talk):
    for server in talk.pool.servers.values():
        talk.pool.set_maxconn(server, 1)
    opened = [talk.shake_hands(talk.client.at(port)) for port in (1001, 1002)]
    waiting = talk.client.at(1003)
    waiting >> SYN << dropped(DropReason.QUEUED)
    talk.wait(0.5)
    talk.client.at(1001) >> RST << to(opened[0])
    waiting >> SYN << to(opened[0])
    assert talk.pool.counters.queue_time.highest == 500
    assert talk.configured(opened[0]).counters.queue_time.mean == 250, "the first has not waited, this one has"
    assert talk.configured(opened[1]).counters.queue_time.highest == 0


def test_a_connection_that_has_waited_too_long_has_failed(talk):
    for server in talk.pool.servers.values():
        talk.pool.set_maxconn(server, 1)
    for port in (1001, 1002):
        talk.shake_hands(talk.client.at(port))
    waiting = talk.client.at(1003)
    talk.pool.queue_timeout = 5.0
    for _ in range(4):
        waiting >> SYN << dropped(DropReason.QUEUED)
        talk.wait(1.5)
    waiting >> SYN << reset
    assert (talk.pool.counters.failed, talk.service.total, talk.service.refused) == (1, 3, 1)
