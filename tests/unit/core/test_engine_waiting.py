"""Servers that are full, and servers that do not answer: who waits, who is refused, who goes to another one."""

import pytest

from natlb.core.engine import RETRY_AFTER
from natlb.core.eviction import FORSAKEN_AFTER
from natlb.core.pool import Pool
from natlb.core.schedulers.hashes import folded_source
from natlb.core.schedulers.leastconn import LeastConnections
from natlb.core.schedulers.mapbased import MapBased
from natlb.core.states import State
from natlb.core.verdict import DropReason
from tests.unit.core.conversation import (
    ACK,
    DATA,
    DATAGRAM,
    FIN,
    SYN,
    SYN_ACK,
    dropped,
    reset,
    to,
    unreachable,
)

queued = dropped(DropReason.QUEUED)


@pytest.fixture
def narrow(start):
    """Both servers have one place each, and the clients may wait for ten seconds."""
    talk = start()
    for server in talk.pool.servers.values():
        talk.pool.set_maxconn(server, 1)
    talk.pool.queue_timeout = 10.0
    return talk


def fill(talk):
    """Take both places; return the servers as they speak to the two clients."""
    first, second = talk.client, talk.client.at(40001)
    first >> SYN << to(talk.server1)
    second >> SYN << to(talk.server2)
    return first, second


def establish(talk, client, server):
    server = server.facing(client)
    server >> SYN_ACK << to(client)
    client >> ACK << to(server)
    return server


def hang_up(talk, client, server):
    server = establish(talk, client, server)
    client >> FIN << to(server)
    server >> FIN << to(client)


def test_a_syn_past_maxconn_waits_until_a_place_is_free(narrow):
    talk = narrow
    first, _ = fill(talk)
    third = talk.client.at(40002)
    third >> SYN << queued
    assert talk.pool.queued == 1
    talk.now += 1
    third >> SYN << queued
    hang_up(talk, first, talk.server1)
    talk.now += 2
    third >> SYN << to(talk.server1)
    assert (talk.pool.queued, talk.pool.most_queued, talk.service.refused) == (0, 1, 0)


def test_whoever_has_waited_longer_goes_first(narrow):
    talk = narrow
    first, _ = fill(talk)
    third, fourth, fifth = (talk.client.at(port) for port in (40002, 40003, 40004))
    third >> SYN << queued
    talk.now += 0.3
    fourth >> SYN << queued
    talk.now += 0.7
    third >> SYN << queued
    talk.now += 0.3
    fourth >> SYN << queued
    hang_up(talk, first, talk.server1)
    talk.now += 1.5
    fifth >> SYN << queued
    talk.now += 0.2
    third >> SYN << to(talk.server1)


def test_whoever_has_waited_too_long_is_refused(narrow):
    talk = narrow
    first, second = fill(talk)
    establish(talk, first, talk.server1)
    establish(talk, second, talk.server2)
    third = talk.client.at(40002)
    for pause in (0, 1, 2, 4):
        talk.now += pause
        third >> SYN << queued
    talk.now += 8
    third >> SYN << reset
    assert (talk.pool.gave_up, talk.pool.queued, talk.service.refused) == (1, 0, 1)


def test_a_server_that_is_picked_by_hash_is_waited_for_up_to_maxqueue(start):
    talk = start(scheduler=lambda: MapBased(folded_source))
    for server in talk.pool.servers.values():
        talk.pool.set_maxconn(server, 1)
        server.maxqueue = 1
    home, other = talk.configured(talk.server1), talk.configured(talk.server2)
    talk.client >> SYN
    if home.live == 0:
        home, other = other, home
    talk.client.at(40001) >> SYN << queued
    talk.client.at(40002) >> SYN << reset
    assert (home.queued, home.gave_up, other.live, talk.pool.queued) == (1, 1, 0, 0)


def test_a_flow_of_udp_waits_for_a_place_as_well(narrow):
    talk = narrow
    talk.client >> DATAGRAM << to(talk.server1)
    talk.client.at(40001) >> DATAGRAM << to(talk.server2)
    third = talk.client.at(40002)
    third >> DATAGRAM << queued
    talk.now += 3
    third >> DATAGRAM << queued
    talk.now += 7
    third >> DATAGRAM << unreachable


def test_when_no_server_is_usable_nobody_waits(narrow):
    talk = narrow
    fill(talk)
    third = talk.client.at(40002)
    third >> SYN << queued
    for server in talk.pool.servers.values():
        talk.pool.set_health(server, False, talk.now)
    third >> SYN << reset


def test_a_place_that_a_made_up_client_took_is_given_to_one_that_is_there(narrow):
    talk = narrow
    fill(talk)  # and neither is heard of again
    third, fourth = talk.client.at(40002), talk.client.at(40003)
    third >> SYN << queued
    talk.now += FORSAKEN_AFTER - 0.1
    third >> SYN << queued
    talk.now += 0.1
    talk.news()
    third >> SYN << to(talk.server1)
    assert talk.news() == ["closed, server1, EVICTED", "opened, server1"]
    fourth >> SYN << to(talk.server2)
    talk.client.at(40004) >> SYN << queued


def test_whoever_goes_on_asking_keeps_his_place_although_the_server_is_silent(narrow):
    talk = narrow
    first, second = fill(talk)
    third = talk.client.at(40002)
    for pause in (1, 2, 4, 8, 16):
        talk.now += pause - 0.01
        third >> SYN
        assert talk.pool.live == 2
        assert talk.entry(third) is None
        talk.now += 0.01
        first >> SYN << to(talk.server1)
        second >> SYN << to(talk.server2)


def test_whoever_was_given_to_another_server_keeps_his_place_there_for_as_long_as_he_asks(start):
    talk = start(pool_settings={"redispatch": -1, "retries": 1}, scheduler=LeastConnections)
    for server in talk.pool.servers.values():
        talk.pool.set_maxconn(server, 1)
    talk.client >> SYN << to(talk.server1)
    talk.now += 1
    talk.client >> SYN << to(talk.server2)
    other, third = talk.client.at(40001), talk.client.at(40002)
    other >> SYN << to(talk.server1)
    establish(talk, other, talk.server1)
    talk.now += 1.9  # the client's next SYN is due after two seconds
    third >> SYN << queued
    talk.now += 0.1
    third >> SYN << queued
    assert talk.entry().server is talk.configured(talk.server2)


def test_an_established_connection_keeps_its_place_however_silent_it_is(narrow):
    talk = narrow
    first, second = fill(talk)
    establish(talk, first, talk.server1)
    establish(talk, second, talk.server2)
    talk.now += 100
    talk.client.at(40002) >> SYN << queued


def test_the_place_of_another_server_is_of_no_use_to_who_belongs_to_one(start):
    talk = start(scheduler=lambda: MapBased(lambda flow: flow[-2] + flow[-4]))
    for server in talk.pool.servers.values():
        talk.pool.set_maxconn(server, 1)
    one, other = talk.client, talk.client.at(40001)
    one >> SYN
    talk.now += 1
    one >> SYN
    talk.now += 1
    other >> SYN
    talk.now += 1.5
    assert talk.pool.live == 2
    one.at(40002) >> SYN << queued  # belongs where the first is, which goes on asking
    assert talk.pool.live == 2


# Servers that do not answer


def retry(talk, pause=1.0):
    talk.now += pause
    return talk.client >> SYN


def test_syns_that_are_sent_again_are_counted_as_retries(talk):
    server = talk.configured(talk.server1)
    talk.client >> SYN << to(talk.server1)
    for pause in (1, 2, 4):
        retry(talk, pause) << to(talk.server1)
    assert (server.retries, server.redispatches, talk.pool.retries) == (3, 0, 3)


def test_a_copy_that_the_network_made_is_no_retry(talk):
    talk.client >> SYN << to(talk.server1)
    retry(talk, RETRY_AFTER / 2) << to(talk.server1)
    assert talk.pool.retries == 0
    retry(talk, RETRY_AFTER / 2) << to(talk.server1)
    assert talk.pool.retries == 1


def test_without_redispatch_a_connection_stays_with_its_server(talk):
    talk.client >> SYN << to(talk.server1)
    for _ in range(300):
        retry(talk) << to(talk.server1)
    assert talk.pool.retries == 300
    assert talk.pool.redispatches == 0


@pytest.fixture
def redispatching(start):
    return start(pool_settings={"redispatch": -1, "retries": 3}, scheduler=LeastConnections)


def test_after_the_last_retry_a_connection_goes_to_another_server(redispatching):
    talk = redispatching
    silent = talk.configured(talk.server1)
    talk.client >> SYN << to(talk.server1)
    retry(talk) << to(talk.server1)
    retry(talk, 2) << to(talk.server1)
    talk.news()
    retry(talk, 4) << to(talk.server2)
    assert talk.news() == ["closed, server1, RESCHEDULED", "opened, server2"]
    assert (silent.retries, silent.redispatches, silent.live) == (2, 1, 0)
    assert (talk.pool.retries, talk.pool.redispatches, talk.configured(talk.server2).live) == (2, 1, 1)
    server2 = talk.server2.facing(talk.client)
    server2 >> SYN_ACK << to(talk.client)
    talk.client >> ACK << to(server2)
    talk.client >> DATA << to(server2)
    assert talk.entry().state is State.ESTABLISHED


def test_retries_are_counted_over_all_servers_that_were_tried(redispatching):
    talk = redispatching
    talk.client >> SYN << to(talk.server1)
    for expected in (1, 1, 2, 2, 2, 1, 1):
        retry(talk) << to(talk.server1 if expected == 1 else talk.server2)


def test_with_nobody_else_to_go_to_a_connection_stays(redispatching):
    talk = redispatching
    talk.client >> SYN << to(talk.server1)
    talk.pool.set_health(talk.configured(talk.server2), False, talk.now)
    for _ in range(4):
        retry(talk) << to(talk.server1)
    assert (talk.pool.retries, talk.pool.redispatches) == (4, 0)


def test_turns_are_taken_at_every_retry(start):
    talk = start(pool_settings={"redispatch": -1})
    talk.client >> SYN << to(talk.server1)
    retry(talk) << to(talk.server2)
    retry(talk) << to(talk.server1)


def test_a_late_answer_of_the_silent_server_is_not_the_connections(redispatching):
    talk = redispatching
    talk.client >> SYN << to(talk.server1)
    for _ in range(3):
        retry(talk)
    server1 = talk.server1.facing(talk.client)
    assert talk.entry().server is talk.configured(talk.server2)
    late = server1 >> SYN_ACK
    assert bytes(late.buffer) == late.sent
    assert talk.entry().state is State.INIT


def test_a_connection_of_a_server_that_was_taken_away_counts_nowhere(talk):
    talk.client >> SYN << to(talk.server1)
    server = talk.configured(talk.server1)
    talk.pool.remove(server)
    talk.service.pool = Pool("other", [])
    talk.now += 1
    talk.client >> SYN << to(talk.server1)
    assert (server.retries, talk.pool.retries) == (0, 0)
