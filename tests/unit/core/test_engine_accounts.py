"""What the engine tells of a connection for a log: only for services that are logged, and with all that has passed."""

import pytest

from natlb.core.conditions import always
from natlb.core.events import Account, ConnectionClosed, ConnectionEstablished, ConnectionRefused, EndReason, Live
from natlb.core.flow import Direction
from natlb.core.pool import AdminState, Place
from natlb.core.rules import Decision, FrontendRules
from natlb.core.schedulers.mapbased import MapBased
from natlb.core.service import Timeouts
from natlb.core.states import State
from natlb.core.verdict import DropReason
from natlb.core.waiting import Wait
from tests.unit.core.conversation import (
    ACK,
    DATA,
    DATAGRAM,
    FIN,
    RST,
    RST_ACK,
    SYN,
    SYN_ACK,
    dropped,
    reset,
    to,
    unreachable,
)

BRIEF = Timeouts(opening=8, idle=80, client_fin=16, server_fin=24, closing=40, one_way=8, both_ways=80)


def events(talk):
    """All news, as it is."""
    return list(iter(talk.engine.next_event, None))


@pytest.fixture
def logged(start):
    """A conversation with a service whose connections are logged."""
    talk = start(timeouts=BRIEF)
    talk.service.logged = True
    return talk


def closed(talk) -> Account:
    """The account of the one connection that has ended."""
    [account] = [event.account for event in events(talk) if isinstance(event, ConnectionClosed)]
    assert account is not None
    return account


def test_nothing_is_written_down_for_a_service_that_is_not_logged(talk):
    server1 = talk.shake_hands()
    talk.client >> RST << to(server1)
    assert [event.account for event in events(talk)[1:]] == [None, None]


def test_what_the_last_segment_carries_is_in_the_account(logged):
    client, began = logged.client, logged.now
    server1 = logged.shake_hands()
    client >> DATA(payload=b"hello") << to(server1)
    client >> FIN(payload=b"!") << to(server1)
    server1 >> FIN(payload=b"bye") << to(client)
    assert closed(logged) == Account(began, began, (6, 3), 0, State.CLIENT_FIN, Direction.REPLY, Live(1, 1, 1, 1))


def test_the_account_is_not_lost_when_the_row_is_lent_again(logged):
    client = logged.client
    server1 = logged.shake_hands()
    client >> DATA(payload=b"hello") << to(server1)
    row = logged.entry().index
    client >> RST << to(server1)
    for port in range(1, 1100):
        logged.engine.handle_packet(SYN.packet(client.at(port)), logged.now)
    logged.wait(0)
    assert logged.engine.ledger.octets[2 * row] == 0, "the row is another's"
    first = next(event for event in events(logged) if isinstance(event, ConnectionClosed))
    assert first.account.octets == (5, 0)


def test_it_tells_when_the_server_answered_and_how_often_the_client_asked(logged):
    client, server1, began = logged.client, logged.server1, logged.now
    client >> SYN(seq=100) << to(server1)
    for _ in range(2):
        logged.wait(1)
        client >> SYN(seq=100) << to(server1)
    server1 >> SYN_ACK << to(client)
    client >> ACK << to(server1)
    logged.wait(1)
    client >> RST << to(server1)
    account = closed(logged)
    assert (account.opened, account.answered, account.retries) == (began, began + 2, 2)
    assert (account.state, account.by) == (State.ESTABLISHED, Direction.ORIGINAL)


def test_a_server_that_refuses_has_not_answered(logged):
    client, server1 = logged.client, logged.server1
    client >> SYN(seq=100) << to(server1)
    logged.wait(1)
    client >> SYN(seq=100) << to(server1)
    server1 >> RST_ACK(seq=0, ack=101) << to(client)
    account = closed(logged)
    assert (account.answered, account.retries, account.state, account.by) == (None, 1, State.INIT, Direction.REPLY)


def test_silence_is_nobodys_packet(logged):
    logged.client >> SYN << to(logged.server1)
    logged.wait(10)
    account = closed(logged)
    assert (account.answered, account.state, account.by) == (None, State.INIT, None)


@pytest.mark.parametrize("last", [ACK, FIN], ids=["ack", "fin"])
def test_a_connection_is_established_once_the_client_has_answered(logged, last):
    client, server1 = logged.client, logged.server1
    client >> SYN << to(server1)
    server1 >> SYN_ACK << to(client)
    client >> last << to(server1)
    [account] = [event.account for event in events(logged) if isinstance(event, ConnectionEstablished)]
    assert account.state is State.SYN_RECEIVED


def test_a_connection_without_a_server_is_told_too(start):
    talk = start()
    for server in (talk.server1, talk.server2):
        talk.pool.set_admin(talk.configured(server), AdminState.MAINT, talk.now)
    talk.client >> SYN << reset
    assert events(talk) == []
    talk.service.logged = True
    talk.client >> SYN << reset
    [event] = events(talk)
    assert event == ConnectionRefused(talk.service, talk.pool, event.original, Live(0, 0, 0, 0))
    talk.client >> DATAGRAM << unreachable


@pytest.mark.parametrize("decision", [Decision.REJECT, Decision.SILENT_DROP])
def test_whom_a_rule_rejects_there_is_nothing_to_tell_of(logged, decision):
    logged.service.rules = FrontendRules(((always, decision),))
    logged.client >> SYN
    assert events(logged) == []
    assert (logged.service.denied, logged.service.total) == (1, 0)


def test_a_flow_that_was_answered(logged):
    client, server1, began = logged.client, logged.server1, logged.now
    logged.udp.logged = True
    client >> DATAGRAM(payload=b"who?") << to(server1)
    client >> DATAGRAM(payload=b"who?") << to(server1)
    logged.wait(1)
    server1 >> DATAGRAM(payload=b"I") << to(client)
    logged.wait(100)
    account = closed(logged)
    assert account == Account(began, began + 1, (8, 1), 0, State.BOTH_WAYS, None, Live(1, 1, 1, 1))


def test_a_server_that_goes_down_is_the_reason(logged):
    logged.shake_hands()
    for connection in list(logged.engine.connections()):
        logged.engine.shutdown(connection, logged.now, EndReason.SERVER_DOWN)
    assert events(logged)[-1].reason is EndReason.SERVER_DOWN


# What waiting comes to

queued = dropped(DropReason.QUEUED)


def narrow(talk):
    """Let each server have one connection, and a client wait for ten seconds; take both places."""
    talk.service.logged = True
    talk.pool.queue_timeout = 10.0
    for server in talk.pool.servers.values():
        talk.pool.set_maxconn(server, 1)
    held = [talk.client.at(port) for port in (1, 2)]
    servers = [talk.shake_hands(client) for client in held]
    events(talk)
    return list(zip(held, servers, strict=True))


def hang_up(pair):
    client, server = pair
    client >> RST << to(server.facing(client))


def test_the_account_tells_how_long_and_where_in_the_queue_it_waited(talk):
    first, second = narrow(talk)
    one, other = talk.client.at(3), talk.client.at(4)
    one >> SYN << queued
    other >> SYN << queued
    talk.now += 1
    hang_up(first)
    one >> SYN << to(talk.server1)
    hang_up(second)
    other >> SYN << to(talk.server2)
    events(talk)
    for client, server, position in ((one, talk.server1, 1), (other, talk.server2, 2)):
        server.facing(client) >> RST_ACK(seq=0, ack=1001) << to(client)
        assert closed(talk).waited == Wait(1.0, None, position)
    talk.wait(1000)
    assert len(talk.engine.lifecycle._waited) == 0, "nothing is remembered of those that are forgotten"


def test_who_goes_on_to_another_server_has_waited_as_long_as_before(start):
    talk = start(pool_settings={"redispatch": -1, "retries": 1})
    first, second = narrow(talk)
    client = talk.client.at(3)
    client >> SYN << queued
    talk.now += 1
    hang_up(first)
    hang_up(second)
    client >> SYN
    silent = talk.entry(client).server
    talk.now += 1
    client >> SYN
    assert talk.entry(client).server is not silent
    events(talk)
    client >> RST
    assert closed(talk).waited == Wait(1.0, None, 1)


def test_a_service_that_is_not_logged_remembers_no_wait(talk):
    first, _ = narrow(talk)
    talk.service.logged = False
    client = talk.client.at(3)
    client >> SYN << queued
    talk.now += 1
    hang_up(first)
    client >> SYN << to(talk.server1)
    assert len(talk.engine.lifecycle._waited) == 0


def test_whoever_waited_in_vain_is_told_with_the_wait(talk):
    narrow(talk)
    client = talk.client.at(3)
    for pause in (0, 1, 2, 4):
        talk.now += pause
        client >> SYN << queued
    talk.now += 8
    client >> SYN << reset
    [event] = events(talk)
    assert (event.reason, event.server, event.waited) == (Place.LATE, None, Wait(15.0, None, 1))
    assert event.live == Live(2, 2, 2, 0)


def test_whoever_belongs_to_a_server_that_too_many_wait_for_is_told_with_the_server(start):
    talk = start(scheduler=lambda: MapBased(lambda _: 0))
    talk.service.logged = True
    home = talk.pool.pick(bytes(13 if talk.family == 4 else 37), talk.now)
    talk.pool.set_maxconn(home, 1)
    home.maxqueue = 1
    talk.client.at(1) >> SYN
    talk.client.at(2) >> SYN << queued
    events(talk)
    talk.client.at(3) >> SYN << reset
    [event] = events(talk)
    assert (event.reason, event.server, event.waited) == (Place.CROWDED, home, None)
    assert event.live == Live(1, 1, 1, 1)
