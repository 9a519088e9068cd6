"""An engine goes on with the connections of another: in order, or after a crash, with something forgotten."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natlb.core.events import EndReason
from natlb.core.flow import OFFLOADED, Connection
from natlb.core.ledger import Ledger
from natlb.core.pool import Pool, Server
from natlb.core.record import UNKNOWN, Record, after_a_crash, after_a_handover
from natlb.core.service import Service
from natlb.core.states import State
from natlb.core.stick import StickTable
from natlb.core.verdict import DropReason
from tests.effort import examples
from tests.unit.core import invariants
from tests.unit.core import packets as p
from tests.unit.core.conversation import (
    ACK,
    DATA,
    DATAGRAM,
    FIN,
    RST,
    RST_ACK,
    SYN,
    SYN_ACK,
    Conversation,
    client_key,
    dropped,
    reset,
    to,
)

SCALED = b"\x02\x04\x05\xb4\x01\x03\x03\x07"


def record(connection: Connection, ledger: Ledger) -> Record:
    """Write down what there is to know of a connection, field by field."""
    index = connection.index
    pairs = {
        name: tuple(getattr(ledger, name)[2 * index : 2 * index + 2])
        for name in ("packets", "octets", "following", "acked", "edge", "offered", "shift")
    }
    return Record(
        connection.original,
        connection.reply,
        connection.state,
        connection.service.name,
        "servers",
        connection.server.name,
        connection.has_own_port,
        connection.aside,
        connection.queue.timeout,
        connection.queue.seen(connection),
        ledger.opened[index],
        ledger.answered[index],
        ledger.asked[index],
        ledger.retries[index],
        **pairs,
    )


def records(talk: Conversation) -> list[Record]:
    found = [record(each, talk.engine.ledger) for each in talk.engine.connections()]
    return sorted(found, key=lambda each: each.seen)


def succeeded(start, talk, left, **settings):
    """Start another engine that goes on with what is left; who spoke with the first one notices nothing."""
    other = start(**settings)
    other.now, other.sent, other.heard = talk.now, talk.sent, talk.heard
    other.server1.peer, other.server2.peer = talk.server1.peer, talk.server2.peer
    for each in left:
        service = other.udp if each.original[-1] == p.UDP else other.service
        assert other.engine.resumption.resume(each, service, other.pool.servers[each.server]) is not None
    invariants.check(other.engine)
    return other


@pytest.mark.parametrize("ranges", [None, [(5000, 5003)]], ids=["nat", "full nat"])
def test_what_is_resumed_is_what_was(start, ranges):
    talk = start(ranges=ranges)
    for port, said in ((40000, ()), (40001, (ACK, DATA)), (40002, (ACK, FIN)), (40003, (ACK, RST_ACK))):
        client = talk.client.at(port)
        client >> SYN(options=SCALED)
        talk.now += 0.25
        (talk.server1 if port % 2 == 0 else talk.server2) >> SYN_ACK(options=SCALED)
        for each in said:
            client >> each
    talk.client.at(7) >> DATAGRAM
    left = records(talk)
    assert {each.state for each in left} == {
        State.SYN_RECEIVED, State.ESTABLISHED, State.CLIENT_FIN, State.TRANS, State.ONE_WAY
    }  # fmt: skip
    other = succeeded(start, talk, left, ranges=ranges)
    assert records(other) == left
    assert (other.engine.live, other.engine.ports_lent) == (4, 5 if ranges else 0)
    assert other.service.live == 3
    for engine in (talk.engine, other.engine):
        for later in (10_000, 20_000, 30_000):
            engine.handle_timeout(talk.now + later)
        assert not len(engine)
        assert not engine.ports_lent


def test_what_has_no_room_is_not_resumed(start):
    talk = start()
    talk.client >> SYN
    talk.server1 >> SYN_ACK
    [left] = records(talk)
    full = start(capacity=1)
    full.client.at(1) >> SYN
    taken = start()
    taken.client >> SYN
    for other in (full, taken):
        assert other.engine.resumption.resume(left, other.service, other.configured(other.server1)) is None
        assert len(other.engine) == 1
    empty = start()
    twisted = left._replace(reply=left.original)
    assert empty.engine.resumption.resume(twisted, empty.service, empty.configured(empty.server1)) is None
    assert not len(empty.engine)


def test_half_open_ones_have_no_more_room_than_others_of_their_kind_and_give_way_like_them(start):
    talk = start()
    for port in range(1, 6):
        talk.client.at(port) >> SYN
        talk.now += 0.1
    talk.client.at(6) >> DATAGRAM
    talk.now += 0.1
    talk.shake_hands(talk.client.at(7))
    left = records(talk)
    assert [each.state for each in left] == [State.INIT] * 5 + [State.ONE_WAY, State.ESTABLISHED]
    other = start(half_open_capacity=3)
    other.now = talk.now
    services = {p.TCP: other.service, p.UDP: other.udp}
    resumed = [
        other.engine.resumption.resume(each, services[each.original[-1]], other.pool.servers[each.server])
        for each in left
    ]
    assert [each is not None for each in resumed] == [True, True, True, False, False, False, True]
    invariants.check(other.engine)
    assert (other.engine.table.half_open, other.engine.live) == (3, 4)
    other.client.at(100) >> SYN
    invariants.check(other.engine)
    assert resumed[0] not in list(other.engine.connections()), "it was silent longest"
    assert (other.engine.closed[EndReason.EVICTED], other.engine.live) == (1, 4)
    other.wait(10_000)
    assert other.engine.table.half_open == 0


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 0, 2), (0, 2, 1)], ids=str)
def test_whatever_order_they_come_in_those_silent_longest_end_first(start, order):
    talk = start()
    for port in range(3):
        talk.shake_hands(talk.client.at(port + 1))
        talk.now += 10
    left = records(talk)
    other = succeeded(start, talk, [left[number] for number in order])
    assert [each.original for each in other.engine.connections()] == [each.original for each in left]
    for number in range(3):
        for ended in left[: number + 1]:
            assert other.engine.table.find(ended.original) is not None
        due = other.engine.next_timeout()
        other.engine.handle_timeout(due)
        assert other.engine.table.find(left[number].original).state is State.SHUT
        invariants.check(other.engine)


@pytest.mark.parametrize("ranges", [None, [(5000, 5003)]], ids=["nat", "full nat"])
def test_what_was_resumed_too_early_has_never_been(start, ranges):
    talk = start(ranges=ranges)
    talk.shake_hands(talk.client.at(1))
    talk.client.at(1) >> DATA
    talk.shake_hands(talk.client.at(2))
    talk.client.at(2) >> RST_ACK
    left = records(talk)
    assert {each.state for each in left} == {State.ESTABLISHED, State.TRANS}
    other = start(ranges=ranges)
    before = totals(other)
    for _ in range(2):
        resumed = [
            other.engine.resumption.resume(each, other.service, other.pool.servers[each.server]) for each in left
        ]
        assert totals(other) != before
        for connection in resumed:
            other.engine.resumption.unresume(connection, talk.now)
            invariants.check(other.engine)
        assert totals(other) == before
        assert not len(other.engine)
    assert other.engine.next_event() is None
    assert not other.engine.closed


def totals(talk):
    engine = talk.engine
    servers = list(talk.pool.servers.values())
    traffic = [talk.service.traffic(server) for server in servers]
    carried = [(account.packets, account.octets) for each in traffic for account in (each.there, each.back)]
    return engine.live, talk.service.live, engine.ports_lent, [each.live for each in servers], carried


def test_a_port_that_would_be_lent_to_nobody_any_more_is_kept_to_the_end(start):
    talk = start(ranges=[(5000, 5000)])
    talk.client >> SYN
    talk.server1 >> SYN_ACK
    talk.client >> ACK
    [left] = records(talk)
    for ranges in ([(6000, 6000)], None):
        other = succeeded(start, talk, [left], ranges=ranges)
        other.client >> DATA << to(other.server1, seen_as=(talk.snat, 5000))
        other.server1 >> FIN << to(other.client)
        other.client >> FIN << to(other.server1, seen_as=(talk.snat, 5000))
        for _ in range(3):
            other.wait(10_000)
        assert not other.engine.ports_lent


def test_a_tuple_that_is_taken_leaves_the_port_free(start):
    talk = start(ranges=[(5000, 5000)])
    talk.client >> SYN
    [left] = records(talk)
    other = start(ranges=[(5000, 5000)])
    assert other.engine.resumption.resume(left, other.service, other.configured(other.server1)) is not None
    again = left._replace(original=client_key(talk.client.at(9).place, talk.client.peer) + bytes([p.TCP]))
    assert other.engine.resumption.resume(again, other.service, other.configured(other.server1)) is None
    invariants.check(other.engine)


def test_who_follows_the_table_hears_of_it(start):
    talk = start()
    talk.client >> SYN
    talk.server1 >> SYN_ACK
    other = start()
    other.engine.table.changed = set()
    [left] = records(talk)
    resumed = other.engine.resumption.resume(left, other.service, other.configured(other.server1))
    assert other.engine.table.changed == {resumed.index}
    other.engine.table.changed.clear()
    other.engine.shutdown(resumed, other.now)
    assert other.engine.table.changed == {resumed.index}
    other.engine.table.changed.clear()
    other.wait(1000)
    assert other.engine.table.changed == {resumed.index}


# After a crash


def test_after_a_crash_time_begins_anew_and_numbers_are_unknown(talk):
    talk.client >> SYN
    [half_open] = records(talk)
    talk.server1 >> SYN_ACK
    talk.client.at(7) >> DATAGRAM
    flow, answered = sorted(records(talk), key=lambda each: each.original[-1], reverse=True)
    assert after_a_crash(answered, 2000.0) == answered._replace(seen=2000.0, aside=UNKNOWN)
    for known in (half_open, flow):
        assert after_a_crash(known, 2000.0) == known._replace(seen=2000.0)
    assert after_a_handover(answered, 2000.0) == answered
    elsewhere = answered._replace(aside=OFFLOADED)
    assert after_a_handover(elsewhere, 2000.0) == answered._replace(seen=2000.0, aside=UNKNOWN)


def test_but_for_those_that_are_over_and_only_wait_to_be_forgotten(talk):
    """Or one who is killed often would remember them all for ever."""
    talk.shake_hands()
    talk.client >> RST(seq=1001)
    [over] = records(talk)
    assert over.state is State.TRANS
    assert after_a_crash(over, 2000.0) == over._replace(aside=UNKNOWN)


def established(start, options=SCALED):
    talk = start()
    talk.client >> SYN(options=options)
    server = talk.server1
    server >> SYN_ACK(options=options)
    talk.client >> ACK
    return talk, server


def crashed(start, talk, left):
    return succeeded(start, talk, [after_a_crash(each, talk.now) for each in left])


def test_numbers_are_picked_up_as_both_ends_speak(start):
    talk, server = established(start)
    left = records(talk)
    for _ in range(40):  # which nothing remembers
        talk.client >> DATA(payload=bytes(1400))
        server >> DATA(payload=bytes(1400))
    other = crashed(start, talk, left)
    for one in (talk, other):
        sent, heard = dict(talk.sent), dict(talk.heard)
        one.client >> DATA(payload=b"more") << to(one.server1)
        one.server1 >> DATA(payload=b"and more") << to(one.client)
        if one is talk:
            talk.sent.clear(), talk.heard.clear()
            talk.sent.update(sent), talk.heard.update(heard)
    assert not other.entry().aside
    assert numbers(other) == numbers(talk)
    assert other.carried() == [(2 + 1, len(b"more")), (1 + 1, len(b"and more"))], "what was missed is lost"
    other.client >> RST(seq=77) << dropped(DropReason.OUT_OF_WINDOW)


def numbers(talk):
    ledger, row = talk.engine.ledger, 2 * talk.entry().index
    return [tuple(getattr(ledger, name)[row : row + 2]) for name in ("following", "acked", "edge", "shift")]


@pytest.mark.parametrize("first", ["client", "server"])
def test_an_end_that_comes_first_is_believed(start, first):
    talk, server = established(start)
    left = records(talk)
    for _ in range(40):
        talk.client >> DATA(payload=bytes(1400))
        server >> DATA(payload=bytes(1400))
    other = crashed(start, talk, left)
    sides = {"client": (other.client, other.server1), "server": (other.server1, other.client)}
    (me, peer), states = sides[first], {"client": State.CLIENT_FIN, "server": State.SERVER_FIN}
    me >> FIN << to(peer)
    assert other.entry().state is states[first]
    peer >> FIN << to(me)
    assert other.entry().state is State.BOTH_FIN


def test_a_reset_without_a_number_to_go_by_is_not_believed_but_the_answer_to_what_passed_is(start):
    talk, server = established(start, b"")
    left = records(talk)
    for _ in range(40):
        talk.client >> DATA(payload=bytes(1400))
        server >> DATA(payload=bytes(1400))
    other = crashed(start, talk, left)
    number = talk.heard[talk.client.place, talk.client.peer]
    other.server1 >> RST(seq=number) << dropped(DropReason.OUT_OF_WINDOW)
    other.client >> DATA << to(other.server1)
    other.server1 >> RST(seq=number) << to(other.client)
    assert other.entry().state is State.TRANS


def test_a_connection_that_was_established_unseen_goes_on(start):
    talk = start()
    talk.client >> SYN(options=SCALED)
    talk.server1 >> SYN_ACK(options=SCALED)
    left = records(talk)
    talk.client >> ACK
    for _ in range(40):
        talk.client >> DATA(payload=bytes(1400))
        talk.server1 >> DATA(payload=bytes(1400))
    other = crashed(start, talk, left)
    other.server1 >> DATA << to(other.client)
    assert other.entry().state is State.SYN_RECEIVED
    other.client >> DATA << to(other.server1)
    assert other.entry().state is State.ESTABLISHED


def test_a_client_that_begins_anew_is_known_from_its_syn(start):
    talk = start()
    talk.client >> SYN
    talk.server1 >> SYN_ACK
    other = crashed(start, talk, records(talk))
    other.client >> SYN(seq=900_000_000) << to(other.server1)
    assert (other.entry().state, other.entry().aside) == (State.INIT, 0)


def test_damaged_segments_tell_nothing(start):
    talk, _ = established(start)
    other = crashed(start, talk, records(talk))
    other.client >> DATA(spoilt=True, seq=77, ack=88)
    assert other.entry().aside == UNKNOWN


def test_an_end_that_sends_again_what_came_before_the_crash_is_understood(start):
    talk, server = established(start)
    left = records(talk)
    for _ in range(40):
        server >> DATA(payload=bytes(1400))
    end = talk.sent[server.place, server.peer]
    other = crashed(start, talk, left)
    # The server sends its oldest segment again; the client has all of them, and says so.
    other.server1 >> DATA(payload=bytes(1400), seq=end - 40 * 1400) << to(other.client)
    other.client >> ACK(ack=end) << to(other.server1)
    assert not other.entry().aside
    other.server1 >> DATA(payload=b"fresh", seq=end) << to(other.client)
    other.client >> RST_ACK(ack=end + 5) << to(other.server1)
    assert other.entry().state is State.TRANS


def test_the_short_way_is_not_taken_before_both_ends_have_spoken(start):
    talk, _ = established(start)
    other = crashed(start, talk, records(talk))
    led, way = [], other.engine._lead
    other.engine._lead = lambda *packet: led.append(packet) or way(*packet)
    other.client >> DATA << to(other.server1)
    other.client >> DATA << to(other.server1)
    other.server1 >> DATA << to(other.client)
    other.client >> DATA << to(other.server1)
    assert len(led) == 3


@settings(max_examples=examples(60))
@given(
    family=st.sampled_from([4, 6]),
    before=st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=12),
    unseen=st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=60),
    after=st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=12),
)
def test_who_has_forgotten_catches_up_with_who_has_not(family, before, unseen, after):
    """Whatever was carried before, unseen and after: when both ends have spoken, nobody could tell the two apart."""

    unheard = {True: 0, False: 0}

    def fits(host, size):
        """Whether an end may say so much: no more than its peer's window without hearing from it."""
        unheard[not host] = 0
        unheard[host] += size if (fitting := unheard[host] + size <= DATA.window) else 0
        return fitting

    def say(one, host, size):
        (one.client if host else one.server1) >> DATA(payload=bytes(size)) << to(one.server1 if host else one.client)

    talk, _ = established(lambda: Conversation(family))
    for host, size in before:
        if fits(host, size):
            say(talk, host, size)
    left = records(talk)
    for host, size in unseen:
        if fits(host, size):
            say(talk, host, size)
    other = crashed(lambda: Conversation(family), talk, left)
    other.sent, other.heard = dict(talk.sent), dict(talk.heard)
    for host, size in (*after, (True, 0), (False, 10), (True, 10), (False, 0)):
        if fits(host, size):
            say(talk, host, size)
            say(other, host, size)
    assert not other.entry().aside
    assert numbers(other) == numbers(talk)
    assert other.entry().state is talk.entry().state


# What belongs to no frontend any more


def test_a_connection_of_a_frontend_that_is_gone_goes_on(start):
    talk, _ = established(start)
    [left] = records(talk)
    other = start()
    other.addresses.release(other.service)
    other.now, other.sent, other.heard = talk.now, talk.sent, talk.heard
    retired = Service("web", None)
    server = Server("server1", p.packed(talk.server1.place[0]), talk.server1.place[1])
    Pool("servers", [server])
    assert other.engine.resumption.resume(left, retired, server) is not None
    other.server1.peer = talk.server1.peer
    other.client >> DATA << to(other.server1)
    other.server1 >> DATA << to(other.client)
    assert (other.service.live, other.pool.live, retired.live) == (0, 0, 1)


# Stick tables


def test_connections_are_counted_again(start):
    talk, _ = established(start)
    table = StickTable("counted", "ip", 10, stored={"conn_cur": None})
    entry = table.enter(bytes(4), talk.now)
    connection = talk.entry()
    talk.engine.lifecycle.count_again(connection, (None, entry, None), talk.now)
    assert (entry.use, entry.read("conn_cur", talk.now)) == (1, 1)
    assert list(talk.engine.lifecycle.counted()) == [(connection, (None, entry, None))]
    talk.client >> FIN
    talk.server1 >> FIN
    assert (entry.use, entry.read("conn_cur", talk.now)) == (0, 0)
    over = StickTable("over", "ip", 10).enter(bytes(4), talk.now)
    talk.wait(10_000)
    talk.client >> SYN
    talk.engine.shutdown(talk.entry(), talk.now)
    talk.engine.lifecycle.count_again(talk.entry(), (over, None, None), talk.now)
    assert over.use == 0
    talk.client >> DATA << reset


def test_what_is_sent_again_by_the_second_end_takes_nothing_back(start):
    talk, server = established(start)
    left = records(talk)
    server >> DATA(payload=bytes(1000))
    talk.client >> DATA(payload=bytes(1000))
    sent, heard = talk.sent[server.place, server.peer], talk.heard[server.place, server.peer]
    other = crashed(start, talk, left)
    other.client >> DATA(payload=bytes(500)) << to(other.server1)
    before = numbers(other)
    other.server1 >> DATA(payload=bytes(400), seq=sent - 1000, ack=heard - 1000) << to(other.client)
    assert not other.entry().aside
    assert numbers(other)[0] == before[0], "both have sent more than that"
