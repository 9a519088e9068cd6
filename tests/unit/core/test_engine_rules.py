"""Rules at work: who is let in, to which backend and server, and what is remembered of it."""

import pytest

from natlb.core import facts
from natlb.core.conditions import always, ask, in_networks, in_ranges
from natlb.core.events import Live, ServerTried
from natlb.core.eviction import HALF_OPEN_GRACE
from natlb.core.pool import Pool, Server
from natlb.core.rules import BackendRules, Decision, FrontendRules, Sticking, track
from natlb.core.service import Listener, Timeouts
from natlb.core.states import State
from natlb.core.stick import StickTable
from natlb.core.verdict import DropReason
from tests.unit.core.conversation import (
    CLIENT,
    DATA,
    FIN,
    OTHER_VIP,
    PORT,
    RST,
    SERVER2,
    SYN,
    SYN_ACK,
    VIP,
    Conversation,
    Host,
    dropped,
    reset,
    to,
)
from tests.unit.core.packets import packed

OTHER_CLIENT = {4: "44.1.1.2", 6: "fd44:1::2"}


def from_(address: str):
    """The condition that a connection comes from an address."""
    wanted = packed(address)
    return ask(facts.source, in_networks([(wanted, b"\xff" * len(wanted))]))


@pytest.fixture
def other(talk: Conversation) -> Host:
    """Another client."""
    return Host(talk, "other", (OTHER_CLIENT[talk.family], 40000), (VIP[talk.family], PORT))


def clients_table(talk: Conversation, **settings) -> StickTable:
    stored = {"conn_cnt": None, "conn_cur": None, "conn_rate": 10.0, "sess_cnt": None}
    return StickTable("clients", "ip" if talk.family == 4 else "ipv6", 100, stored=stored, **settings)


# Who is let in


def test_whom_a_rule_rejects_is_reset_and_counted(talk, other):
    talk.service.rules = FrontendRules(((from_(CLIENT[talk.family]), Decision.REJECT),))
    talk.client >> SYN << reset
    assert (talk.service.denied, talk.service.refused, talk.service.total, len(talk.engine)) == (1, 0, 0, 0)
    assert (talk.engine.books.total, talk.engine.books.let_in) == (1, 0)
    other >> SYN << to(talk.server1)
    assert talk.service.denied == 1


def test_whom_a_rule_drops_hears_nothing(talk):
    talk.service.rules = FrontendRules(((always, Decision.SILENT_DROP),))
    talk.client >> SYN << dropped(DropReason.DENIED)
    assert talk.service.denied == 1


def test_rules_are_asked_about_new_connections_alone(talk):
    server1 = talk.shake_hands()
    talk.service.rules = FrontendRules(((always, Decision.REJECT),))
    talk.client >> DATA << to(server1)
    talk.client.at(2) >> SYN << reset


def test_a_client_that_opens_too_many_connections_at_once_is_rejected_until_some_end(talk, other):
    table = clients_table(talk)
    current = facts.of_tracked(0, None, "conn_cur")
    talk.service.rules = FrontendRules(
        ((always, track(0, table, facts.source)), (ask(current, in_ranges([(3, None)])), Decision.REJECT))
    )
    first, second = talk.client.at(1), talk.client.at(2)
    server = talk.shake_hands(first)
    talk.shake_hands(second)
    talk.client.at(3) >> SYN << reset
    other >> SYN << to(talk.server1)
    first >> RST << to(server)
    talk.client.at(4) >> SYN << to(talk.server2)
    entry = table.get(packed(CLIENT[talk.family]), talk.now)
    assert (entry.use, entry.read("conn_cur", talk.now), entry.read("conn_cnt", talk.now)) == (2, 2, 4)
    assert entry.read("sess_cnt", talk.now) == 3


def test_a_client_that_opens_connections_too_fast_is_rejected_for_a_while(talk):
    table = clients_table(talk)
    rate = facts.of_tracked(0, None, "conn_rate")
    talk.service.rules = FrontendRules(
        ((always, track(0, table, facts.source)), (ask(rate, in_ranges([(3, None)])), Decision.REJECT))
    )
    for port in (1, 2):
        talk.shake_hands(talk.client.at(port))
    talk.client.at(3) >> SYN << reset
    talk.wait(21)
    talk.client.at(4) >> SYN << to(talk.server1)


def test_a_connection_that_comes_back_after_a_reset_is_counted_again(talk):
    table = clients_table(talk, expire=60)
    talk.service.rules = FrontendRules(((always, track(0, table, facts.source)),))
    server = talk.shake_hands()
    server >> RST << to(talk.client)
    entry = table.get(packed(CLIENT[talk.family]), talk.now)
    assert entry.use == 0
    talk.client >> DATA << to(server)
    assert (entry.use, entry.read("conn_cur", talk.now)) == (1, 1)


def test_an_entry_expires_after_the_last_connection_that_it_counts(talk):
    table = clients_table(talk, expire=60)
    talk.service.rules = FrontendRules(((always, track(0, table, facts.source)),))
    server = talk.shake_hands()
    talk.wait(100)
    key = packed(CLIENT[talk.family])
    assert table.get(key, talk.now).use == 1
    talk.client >> RST << to(server)
    assert table.get(key, talk.now + 59) is not None
    assert table.get(key, talk.now + 60) is None


def test_a_connection_that_was_forgotten_while_live_is_no_longer_counted(start):
    talk = start(timeouts=Timeouts(opening=5))
    table = clients_table(talk, expire=60)
    talk.service.rules = FrontendRules(((always, track(0, table, facts.source)),))
    talk.client >> SYN << to(talk.server1)
    talk.wait(6)
    assert talk.entry() is None
    entry = table.get(packed(CLIENT[talk.family]), talk.now)
    assert (entry.use, entry.expires) == (0, talk.now + 60)


def counted(table: StickTable, talk: Conversation) -> list[int | None]:
    """What is counted of the client: `use`, `conn_cnt`, `conn_cur` and `sess_cnt`."""
    entry = table.get(packed(CLIENT[talk.family]), talk.now)
    return [entry.use, *(entry.read(name, talk.now) for name in ("conn_cnt", "conn_cur", "sess_cnt"))]


def test_a_connection_that_moves_to_another_server_is_counted_once_and_no_rule_is_asked_again(talk):
    table = clients_table(talk)
    talk.service.rules = FrontendRules(((always, track(2, table, facts.source)),))
    talk.client >> SYN << to(talk.server1)
    talk.service.rules = FrontendRules(((always, Decision.REJECT),))
    talk.pool.set_health(talk.configured(talk.server1), False, talk.now)
    talk.client >> SYN << to(talk.server2)
    assert counted(table, talk) == [1, 1, 1, 1]
    talk.pool.set_health(talk.configured(talk.server2), False, talk.now)
    talk.client >> SYN << reset
    assert counted(table, talk) == [0, 1, 0, 1]


def test_a_connection_that_cannot_move_yet_is_not_there_meanwhile(talk):
    table = clients_table(talk)
    talk.client.at(9) >> SYN << to(talk.server1)
    talk.service.rules = FrontendRules(((always, track(0, table, facts.source)),))
    talk.client >> SYN << to(talk.server2)
    talk.pool.set_health(talk.configured(talk.server2), False, talk.now)
    talk.pool.set_maxconn(talk.configured(talk.server1), 1)
    talk.client >> SYN << dropped(DropReason.QUEUED)
    assert counted(table, talk) == [0, 1, 0, 1]


def test_a_connection_that_waits_for_its_server_is_not_counted(talk):
    table = clients_table(talk)
    talk.pool.rules = BackendRules(((always, "server2"),))
    talk.pool.set_maxconn(talk.configured(talk.server2), 1)
    talk.client.at(9) >> SYN << to(talk.server2)
    talk.service.rules = FrontendRules(((always, track(0, table, facts.source)),))
    talk.client >> SYN << dropped(DropReason.QUEUED)
    assert counted(table, talk) == [0, 0, 0, 0]
    assert talk.configured(talk.server2).queued == 1, "it belongs to that server, though the other one has room"
    talk.client.at(9) >> RST << to(talk.server2)
    talk.wait(1)
    talk.client >> SYN << to(talk.server2)
    assert counted(table, talk) == [1, 1, 1, 1]


# How many


@pytest.mark.parametrize("of_all", [False, True])
def test_past_a_limit_per_second_clients_wait(talk, of_all):
    (talk.engine.admission if of_all else talk.service).session_limit = 2
    talk.client.at(1) >> SYN << to(talk.server1)
    talk.client.at(2) >> SYN << to(talk.server2)
    talk.client.at(3) >> SYN << dropped(DropReason.RATE_LIMIT)
    assert (talk.service.rate_limited, talk.service.held_back) == (1, 0)
    talk.wait(1.2)
    talk.client.at(3) >> SYN << to(talk.server1)
    talk.client.at(4) >> SYN << dropped(DropReason.RATE_LIMIT)


def test_sessions_that_rules_reject_take_no_room_from_the_others(talk, other):
    talk.service.session_limit = 1
    talk.service.rules = FrontendRules(((from_(CLIENT[talk.family]), Decision.REJECT),))
    for port in range(1, 9):
        talk.client.at(port) >> SYN << reset
    other >> SYN << to(talk.server1)


def test_past_the_limit_of_the_whole_process_no_rule_is_asked(talk):
    talk.engine.admission.connection_limit = 2
    talk.service.rules = FrontendRules(((always, Decision.REJECT),))
    talk.client.at(1) >> SYN << reset
    talk.client.at(2) >> SYN << reset
    talk.client.at(3) >> SYN << dropped(DropReason.RATE_LIMIT)
    assert talk.service.denied == 2


def test_a_syn_that_has_to_wait_is_not_counted_until_it_gets_in(start):
    talk = start(service_max_connections=1)
    table = clients_table(talk)
    talk.service.rules = FrontendRules(((always, track(0, table, facts.source)),))
    talk.engine.admission.connection_limit = talk.engine.admission.session_limit = 3
    server = talk.shake_hands(talk.client.at(1))
    for _ in range(5):
        talk.client.at(2) >> SYN << dropped(DropReason.MAXCONN)
    entry = table.get(packed(CLIENT[talk.family]), talk.now)
    assert [entry.read(name, talk.now) for name in ("conn_cnt", "conn_cur", "conn_rate", "sess_cnt")] == [1, 1, 1, 1]
    assert talk.service.counters.sessions.read(talk.now) == talk.engine.books.counters.sessions.read(talk.now) == 1
    assert talk.engine.books.counters.arrivals.read(talk.now) == 1
    talk.client.at(1) >> RST << to(server)
    talk.client.at(2) >> SYN << to(talk.server2)


def test_what_finds_no_place_in_the_table_is_not_counted(start):
    talk = start(capacity=1)
    table = clients_table(talk)
    talk.service.rules = FrontendRules(((always, track(0, table, facts.source)),))
    talk.shake_hands()
    talk.client.at(2) >> SYN << dropped(DropReason.TABLE_FULL)
    assert table.get(packed(CLIENT[talk.family]), talk.now).read("conn_cnt", talk.now) == 1


@pytest.mark.parametrize("wildcard", [False, True])
def test_an_address_and_port_may_have_a_limit_of_its_own(talk, wildcard):
    vip = packed(VIP[talk.family])
    talk.service.listeners[bytes(len(vip)) if wildcard else vip, PORT.to_bytes(2, "big")] = Listener(1)
    talk.addresses.bind(vip, PORT + 1, talk.service)
    server = talk.shake_hands(talk.client.at(1))
    talk.client.at(2) >> SYN << dropped(DropReason.MAXCONN)
    talk.client.at(2).asking(VIP[talk.family], PORT + 1) >> SYN << to(talk.server2)
    talk.client.at(1) >> FIN << to(server)
    server >> FIN
    talk.client.at(2) >> SYN << to(talk.server1)


def test_at_a_listeners_limit_one_of_its_own_half_open_connections_gives_way(talk):
    vip = packed(VIP[talk.family])
    talk.service.listeners[vip, PORT.to_bytes(2, "big")] = Listener(1)
    talk.addresses.bind(packed(OTHER_VIP[talk.family]), PORT, talk.service)
    elsewhere = talk.client.at(9).asking(OTHER_VIP[talk.family])
    elsewhere >> SYN
    talk.now += 0.1
    talk.client.at(1) >> SYN
    talk.now += HALF_OPEN_GRACE
    talk.client.at(2) >> SYN << dropped(DropReason.MAXCONN)
    talk.shake_hands(elsewhere)
    talk.client.at(2) >> SYN
    assert talk.entry(talk.client.at(1)) is None
    assert talk.entry(talk.client.at(2)) is not None


# Where to


@pytest.fixture
def second_pool(talk: Conversation) -> Pool:
    """A backend with server2 alone; the other one has server1 and server2, which is another server to it."""
    return Pool("second", [Server("server2", packed(SERVER2[talk.family]), 4444)])


def test_a_rule_leads_to_another_backend(talk, other, second_pool):
    talk.service.rules = FrontendRules(backends=((from_(OTHER_CLIENT[talk.family]), second_pool),))
    talk.client >> SYN << to(talk.server1)
    other >> SYN << to(talk.server2)
    connection = talk.entry(other)
    assert connection.server.pool is second_pool
    assert tuple(pool.counters.sessions.read(talk.now) for pool in (talk.pool, second_pool)) == (1, 1)


@pytest.fixture
def led(talk, second_pool):
    """A conversation in which the client is led to the second backend."""
    talk.service.rules = FrontendRules(backends=((from_(CLIENT[talk.family]), second_pool),))
    return talk


def test_what_becomes_of_a_connection_is_entered_in_the_backend_that_it_was_led_to(led, other, second_pool):
    led.service.logged = True
    led.shake_hands(other)
    for port in (1, 2):
        led.shake_hands(led.client.at(port))
    led.client.at(1) >> DATA << to(led.server2)
    led.service.settle()
    server, namesake = second_pool.servers["server2"], led.configured(led.server2)
    assert [(each.live, each.total) for each in (led.pool, second_pool, server, namesake)] == [
        (1, 1),
        (2, 2),
        (2, 2),
        (0, 0),
    ]
    assert [each.counters.balanced for each in (led.pool, second_pool, server, namesake)] == [1, 2, 2, 0]
    assert second_pool.counters.octets_in == server.counters.octets_in == len(DATA.payload)
    assert led.pool.counters.octets_in == 0
    list(iter(led.engine.next_event, None))
    led.client.at(1) >> RST << to(led.server2)
    [closed] = iter(led.engine.next_event, None)
    assert closed.account.live == Live(3, 3, 2, 2), "of the process, the frontend, the backend, the server"
    assert (second_pool.counters.aborted_by_client, led.pool.counters.aborted_by_client) == (1, 0)


def test_a_server_that_goes_down_takes_no_namesakes_connections_with_it(led, other, second_pool):
    own = led.shake_hands()
    for port in (1, 2):
        led.shake_hands(other.at(port))
    assert led.engine.shutdown_server(second_pool.servers["server2"], led.now) == 1
    assert led.resets() == [led.wanted(led.client), led.wanted(own.facing(led.client))]
    assert (led.configured(led.server1).live, led.configured(led.server2).live) == (1, 1)


def test_how_it_went_is_told_of_the_server_in_the_backend_that_it_was_led_to(led, second_pool):
    second_pool.servers["server2"].observed = True
    led.shake_hands()
    [tried] = [event for event in iter(led.engine.next_event, None) if isinstance(event, ServerTried)]
    assert tried.answered
    assert tried.connection.server.pool is second_pool


def test_a_backend_that_is_full_holds_back_only_who_is_led_there(led, other, second_pool):
    second_pool.set_maxconn(second_pool.servers["server2"], 1)
    second_pool.queue_timeout = 1.0
    led.shake_hands()
    led.client.at(2) >> SYN << dropped(DropReason.QUEUED)
    assert (second_pool.queued, led.pool.queued) == (1, 0)
    other >> SYN << to(led.server1)
    led.now += 1
    led.client.at(2) >> SYN << reset
    assert [(pool.gave_up, pool.counters.failed) for pool in (second_pool, led.pool)] == [(1, 1), (0, 0)]


def test_fullconn_is_that_of_the_backend_that_it_was_led_to(led, other, second_pool):
    server = second_pool.servers["server2"]
    server.minconn, server.maxconn, second_pool.fullconn = 1, 4, 2
    led.pool.fullconn = 1
    for port in (1, 2, 3):
        led.shake_hands(other.at(port))
    led.client.at(1) >> SYN << to(led.server2)
    assert server.limit == 2, "one of two connections that fill it"
    led.client.at(2) >> SYN << to(led.server2)
    assert server.limit == 4


def test_a_server_that_a_rule_names_was_not_chosen_by_the_algorithm(led, second_pool):
    second_pool.rules = BackendRules(((always, "server2"),))
    led.client >> SYN << to(led.server2)
    server = second_pool.servers["server2"]
    assert (server.total, server.counters.balanced, second_pool.counters.balanced) == (1, 0, 0)


def test_a_backend_that_takes_nothing_refuses(talk):
    talk.service.rules = FrontendRules(backends=((always, None),))
    talk.client >> SYN << reset
    assert (talk.service.refused, talk.service.denied) == (1, 0)


def test_each_backend_has_its_own_timeouts(start):
    talk = start(timeouts=Timeouts(opening=10, idle=100))
    pool = Pool("second", [Server("server2", packed(SERVER2[talk.family]), 4444)])
    talk.service.other_timeouts[pool] = Timeouts(opening=5, idle=50)
    talk.service.rules = FrontendRules(backends=((ask(facts.source_port, in_ranges([(2, 2)])), pool),))
    one, two = talk.client.at(1), talk.client.at(2)
    talk.shake_hands(one)
    talk.shake_hands(two)
    talk.wait(60)
    assert talk.entry(one).state is State.ESTABLISHED
    assert talk.entry(two).state is State.SHUT
    talk.resets()


def test_a_server_without_a_pool_has_the_frontends_timeouts(talk):
    server = Server("s", packed("44.3.3.3"), 80)
    talk.service.other_timeouts[talk.pool] = Timeouts(idle=1)
    assert talk.service.timeout(server, State.ESTABLISHED) == talk.service.timeouts.idle


def test_a_connection_may_belong_to_a_server(talk):
    talk.pool.rules = BackendRules(((from_(CLIENT[talk.family]), "server2"),))
    for port in (1, 2, 3):
        talk.client.at(port) >> SYN << to(talk.server2)


# Staying there


def sticking(talk: Conversation, **settings) -> StickTable:
    table = clients_table(talk, **settings)
    talk.pool.rules = BackendRules(sticking=(Sticking(table, facts.source, always, True, True),))
    return table


def test_a_client_stays_with_its_server(talk, other):
    sticking(talk)
    server = talk.shake_hands(talk.client.at(1))
    for port in range(2, 6):
        assert talk.shake_hands(talk.client.at(port)) == server
    assert talk.shake_hands(other) != server


def test_a_client_sticks_to_a_server_once_that_has_answered(talk):
    table = sticking(talk)
    talk.client >> SYN << to(talk.server1)
    assert table.used(talk.now) == 0
    talk.server1 >> SYN_ACK << to(talk.client)
    assert table.get(packed(CLIENT[talk.family]), talk.now).server == "server1"


def test_a_server_that_refuses_is_not_remembered(talk):
    table = sticking(talk)
    talk.client >> SYN << to(talk.server1)
    talk.server1 >> RST(flags=0x14, ack=talk.sent[talk.client.place, talk.client.peer]) << to(talk.client)
    assert talk.entry().state is State.TRANS or talk.entry().state is State.ABORTED
    assert table.used(talk.now) == 0


def test_a_server_may_be_one_that_no_client_sticks_to(talk, other):
    table = sticking(talk)
    talk.configured(talk.server1).sticks = False
    assert talk.shake_hands(talk.client.at(1)) == talk.server1
    assert table.used(talk.now) == 0
    assert talk.shake_hands(other) == talk.server2
    assert table.get(packed(OTHER_CLIENT[talk.family]), talk.now).server == "server2"


def test_who_is_forced_goes_to_its_server_although_that_is_down(talk, other):
    talk.pool.rules = BackendRules(((always, "server2"),), forced=(from_(CLIENT[talk.family]),))
    talk.pool.set_health(talk.configured(talk.server2), False, talk.now)
    talk.client >> SYN << to(talk.server2)
    other >> SYN << to(talk.server1)


def test_when_its_server_is_down_a_client_moves_and_stays_there(talk):
    sticking(talk)
    server = talk.shake_hands(talk.client.at(1))
    talk.pool.set_health(talk.configured(server), False, talk.now)
    moved = talk.shake_hands(talk.client.at(2))
    assert moved != server
    talk.pool.set_health(talk.configured(server), True, talk.now)
    assert talk.shake_hands(talk.client.at(3)) == moved


def test_a_syn_that_is_sent_again_past_a_server_that_went_down_is_remembered_of_the_new_one(talk):
    table = sticking(talk)
    talk.client >> SYN << to(talk.server1)
    talk.pool.set_health(talk.configured(talk.server1), False, talk.now)
    talk.client >> SYN << to(talk.server2)
    talk.server2 >> SYN_ACK << to(talk.client)
    assert table.get(packed(CLIENT[talk.family]), talk.now).server == "server2"


def test_a_client_that_was_forgotten_is_balanced_anew(talk):
    sticking(talk, expire=10)
    server = talk.shake_hands(talk.client.at(1))
    assert talk.shake_hands(talk.client.at(2)) == server
    talk.wait(11)
    assert talk.shake_hands(talk.client.at(3)) != server


@pytest.mark.parametrize("own", [False, True])
def test_whose_address_is_local(talk, own):
    if own:
        talk.engine.own_addresses.add(packed(CLIENT[talk.family]))
    talk.service.rules = FrontendRules(((ask(facts.source_is_local, bool), Decision.REJECT),))
    talk.client >> SYN << (reset if own else to(talk.server1))
