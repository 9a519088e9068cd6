"""Connections that natlb itself ends: by silence, by an operator, with their server.

Both sides are told, and believe it.
"""

import pytest

from natlb.core.events import EndReason
from natlb.core.service import Timeouts
from natlb.core.states import State
from natlb.core.verdict import DropReason
from tests.unit.core.conversation import (
    ACK,
    DATA,
    DATAGRAM,
    FIN,
    RST,
    RST_ACK,
    SYN,
    SYN_ACK,
    Reset,
    dropped,
    reset,
    to,
    untouched,
)
from tests.unit.core.packets import places

BRIEF = Timeouts(opening=8, idle=80, client_fin=16, server_fin=24, closing=40)
NATS = pytest.mark.parametrize("ranges", [None, [(1024, 65535)]], ids=["dnat", "full nat"])


def seen(talk):
    """Return how a server sees the client: None for as it is."""
    return None if talk.sources is None else (talk.snat, talk.client.place[1])


def end(talk, how):
    """End the client's connection."""
    if how == "silence":
        talk.wait(81)
    elif how == "operator":
        talk.engine.shutdown(talk.entry(), talk.now)
    else:
        assert talk.engine.shutdown_server(talk.entry().server, talk.now) == 1


HOWS = pytest.mark.parametrize("how", ["silence", "operator", "server"])


@HOWS
@NATS
def test_both_sides_are_sent_a_reset_that_they_take_for_their_peers(start, ranges, how):
    """Each with exactly the number that its receiver waits for: RFC 5961, section 3.2."""
    talk = start(timeouts=BRIEF, ranges=ranges)
    client, server1 = talk.client, talk.shake_hands()
    client >> DATA << to(server1, seen_as=seen(talk))
    server1 >> DATA(payload=bytes(1000)) << to(client)
    client >> ACK << to(server1, seen_as=seen(talk))
    end(talk, how)
    assert talk.resets() == [talk.wanted(client), talk.wanted(server1)]
    assert talk.news()[-1] == f"closed, server1, {'TIMED_OUT' if how == 'silence' else 'SHUT_DOWN'}"
    assert talk.engine.live == 0
    assert talk.entry().state is State.SHUT


@pytest.mark.parametrize("last", [0, 1, 30])
def test_the_numbers_may_have_gone_round(talk, last):
    client, server1 = talk.client, talk.server1
    client >> SYN(seq=2**32 - 1 - last) << to(server1)
    server1 >> SYN_ACK(seq=2**32 - 1 - last) << to(client)
    client >> DATA << to(server1)
    server1 >> DATA << to(client)
    client >> ACK << to(server1)
    end(talk, "operator")
    assert talk.resets() == [talk.wanted(client), talk.wanted(server1)]


def test_who_may_not_have_got_all_is_sent_a_reset_for_either_case(talk):
    """What was sent to the server and not acknowledged may have been lost on the way."""
    client, server1 = talk.client, talk.shake_hands()
    client >> DATA(payload=bytes(100)) << to(server1)
    end(talk, "operator")
    got_all = talk.wanted(server1)
    assert talk.resets() == [talk.wanted(client), got_all, got_all._replace(seq=got_all.seq - 100)]


@pytest.mark.parametrize("first", ["client", "server"])
def test_a_half_closed_connection_is_ended_alike(start, first):
    talk = start(timeouts=BRIEF)
    client, server1 = talk.client, talk.shake_hands()
    if first == "client":
        client >> FIN << to(server1)
        server1 >> ACK << to(client)
    else:
        server1 >> FIN << to(client)
        client >> ACK << to(server1)
    talk.wait(17 if first == "client" else 25)
    assert talk.resets() == [talk.wanted(client), talk.wanted(server1)]
    assert talk.entry().state is State.SHUT


def test_a_client_that_waits_for_an_answer_takes_a_reset_that_acknowledges_its_syn(talk):
    """RFC 9293, section 3.10.7.3; the server takes it as the next thing after the SYN."""
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    end(talk, "operator")
    to_client, to_server = talk.resets()
    assert to_client == Reset(client.peer, client.place, 0, 1001)
    assert to_server == Reset(client.place, server1.place, 1001, 0)


def test_a_connection_being_opened_is_reset_on_both_sides(talk):
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    server1 >> SYN_ACK << to(client)
    end(talk, "operator")
    assert talk.resets() == [talk.wanted(client), talk.wanted(server1)]


@pytest.mark.parametrize("opening", [[], [SYN_ACK]], ids=["init", "syn_received"])
def test_a_connection_that_was_never_established_ends_in_silence(start, opening):
    """Whoever knocked and went away has nothing to be told."""
    talk = start(timeouts=BRIEF)
    talk.client >> SYN << to(talk.server1)
    for said in opening:
        talk.server1 >> said << to(talk.client)
    talk.wait(9)
    assert len(talk.engine) == 0
    assert talk.resets() == []
    assert talk.news()[-1] == "closed, server1, TIMED_OUT"


# Afterwards


@HOWS
@NATS
def test_whoever_goes_on_talking_is_answered_with_a_reset(start, ranges, how):
    talk = start(timeouts=BRIEF, ranges=ranges)
    client, server1 = talk.client, talk.shake_hands()
    end(talk, how)
    talk.resets()
    for said in (ACK, DATA, FIN, SYN_ACK):
        client >> said << reset
        server1 >> said << reset
    server1 >> SYN << reset
    assert talk.resets() == []
    assert talk.entry().state is State.SHUT


@pytest.mark.parametrize("said", [RST, RST_ACK], ids=["rst", "rst-ack"])
def test_a_reset_is_not_answered(talk, said):
    client, server1 = talk.client, talk.shake_hands()
    end(talk, "operator")
    client >> said << dropped(DropReason.NO_CONNECTION)
    server1 >> said << dropped(DropReason.NO_CONNECTION)


@pytest.mark.parametrize("said", [ACK, DATA, SYN], ids=["ack", "data", "syn"])
def test_nor_is_what_is_damaged(talk, said):
    client, server1 = talk.client, talk.shake_hands()
    end(talk, "operator")
    client >> said(spoilt=True) << dropped(DropReason.BAD_CHECKSUM)
    server1 >> said(spoilt=True) << dropped(DropReason.BAD_CHECKSUM)
    assert talk.entry().state is State.SHUT


@pytest.mark.parametrize("flags", [0x00, 0x03])
def test_nor_is_a_scan(talk, flags):
    talk.shake_hands()
    end(talk, "operator")
    talk.client >> SYN(flags=flags) << dropped(DropReason.BAD_FLAGS)


def test_a_new_syn_opens_a_new_connection_at_once(talk):
    server1 = talk.shake_hands()
    end(talk, "operator")
    talk.client >> SYN << to(talk.server2)
    assert len(talk.engine) == talk.engine.live == 1
    server1 >> DATA << untouched


def test_what_was_shut_down_is_forgotten_when_late_packets_have_had_their_time(start):
    talk = start(timeouts=BRIEF)
    server1 = talk.shake_hands()
    end(talk, "operator")
    talk.news()
    talk.wait(39.9)
    server1 >> DATA << reset
    talk.wait(1.2)
    assert len(talk.engine) == 0
    assert talk.news() == []
    server1 >> DATA << untouched
    talk.client >> DATA << reset


def test_those_who_go_on_talking_do_not_keep_it_alive(start):
    talk = start(timeouts=BRIEF)
    server1 = talk.shake_hands()
    end(talk, "operator")
    for _ in range(5):
        talk.wait(7.9)
        server1 >> DATA << reset
    talk.wait(2)
    assert len(talk.engine) == 0


# What can be ended


@pytest.mark.parametrize("ending", ["fins", "reset", "refused", "shut down"])
def test_what_is_over_is_not_ended_again(talk, ending):
    client, server1 = talk.client, talk.server1
    if ending == "refused":
        client >> SYN << to(server1)
        server1 >> RST_ACK << to(client)
    else:
        talk.shake_hands()
        if ending == "shut down":
            end(talk, "operator")
        else:
            client >> (FIN if ending == "fins" else RST)
            server1 >> (FIN if ending == "fins" else RST)
    before = talk.entry().state
    talk.news(), talk.resets()
    talk.engine.shutdown(talk.entry(), talk.now)
    assert talk.engine.shutdown_server(talk.configured(server1), talk.now) == 0
    assert (talk.news(), talk.resets()) == ([], [])
    assert talk.entry().state is before


@pytest.mark.parametrize("is_answered", [False, True])
def test_a_flow_of_udp_just_ends(talk, is_answered):
    """There is nobody to be told: the next datagram opens another flow."""
    talk.client >> DATAGRAM << to(talk.server1)
    if is_answered:
        talk.server1 >> DATAGRAM << to(talk.client)
    end(talk, "operator")
    assert talk.news()[-1] == "closed, server1, SHUT_DOWN"
    assert talk.resets() == []
    assert len(talk.engine) == 0
    talk.client >> DATAGRAM << to(talk.server2)


def test_a_reason_can_be_given(talk):
    talk.shake_hands()
    talk.engine.shutdown(talk.entry(), talk.now, EndReason.RESCHEDULED)
    assert talk.news()[-1] == "closed, server1, RESCHEDULED"


@NATS
def test_with_a_server_all_of_its_connections_end_and_no_others(start, ranges):
    """`on-marked-down shutdown-sessions`."""
    talk = start(ranges=ranges)
    clients = [talk.client.at(port) for port in range(2001, 2007)]
    for number, client in enumerate(clients):
        opened = client >> (SYN if number < 4 else DATAGRAM)
        opened << to((talk.server1, talk.server2)[number % 2], seen_as=ranges and (talk.snat, client.place[1]))
    talk.news()
    assert talk.engine.shutdown_server(talk.configured(talk.server1), talk.now) == 3
    assert talk.news() == ["closed, server1, SHUT_DOWN"] * 3
    assert talk.configured(talk.server1).live == 0
    assert talk.configured(talk.server2).live == talk.engine.live == 3
    ended = {each.destination for each in talk.resets()}
    assert ended == {clients[0].place, clients[2].place, talk.server1.place}
    for client in (clients[1], clients[3]):
        server, _ = places((client >> SYN).buffer)[::-1]
        assert server == talk.server2.place


def test_every_reset_of_many_connections_is_drawn(start):
    talk = start()
    for port in range(1000, 1050):
        talk.shake_hands(talk.client.at(port))
    for server in talk.pool.servers.values():
        assert talk.engine.shutdown_server(server, talk.now) == 25
    resets = talk.resets()
    assert len(resets) == 100
    assert {each.destination for each in resets if each.source == talk.client.peer} == {
        talk.client.at(port).place for port in range(1000, 1050)
    }


def test_resets_of_a_finished_connection_do_not_renew_it(start):
    """RFC 7857, section 7.1."""
    talk = start(timeouts=Timeouts(closing=8))
    server = talk.shake_hands()
    talk.client >> RST_ACK << to(server)
    for _ in range(4):
        talk.wait(3)
        talk.client >> RST_ACK
    assert talk.entry() is None


def test_the_connections_to_a_server_can_be_ended_a_piece_of_the_table_at_a_time(start):
    talk = start()
    for port in range(1000, 1050):
        talk.shake_hands(talk.client.at(port))
    server = talk.configured(talk.server1)
    ended = [talk.engine.shutdown_server(server, talk.now, piece) for piece in talk.engine.pieces(10)]
    assert sum(ended) == 25
    assert max(ended) <= 10
    assert server.live == 0


def test_a_connection_is_found_by_its_index(talk):
    talk.shake_hands()
    entry = talk.entry()
    assert talk.engine.connection(entry.index) is entry
    assert talk.engine.connection(entry.index + 1) is None
