"""UDP through the engine: flows, their timeouts, their servers, and what is said when nobody listens."""

from dataclasses import replace

import pytest

from natlb.core.engine import MOST_ERRORS_PER_SECOND
from natlb.core.pool import AdminState, Pool, Server
from natlb.core.service import Timeouts
from natlb.core.states import State
from natlb.core.verdict import Accept, Drop, DropReason, Reply
from tests.unit.core import oracle
from tests.unit.core.conversation import (
    ACK,
    CLIENT,
    DATAGRAM,
    OTHER_VIP,
    PORT,
    SYN,
    VIP,
    Conversation,
    dropped,
    reset,
    to,
    unreachable,
    untouched,
)
from tests.unit.core.packets import ICMP, ICMPV6, datagram, packed

BRIEF = Timeouts(one_way=8, both_ways=80)


# One flow


def test_a_flow_is_translated_both_ways(talk):
    client, server1 = talk.client, talk.server1
    client >> DATAGRAM(payload=b"who is it?") << to(server1)
    server1 >> DATAGRAM(payload=b"it is I") << to(client)
    client >> DATAGRAM << to(server1)
    server1 >> DATAGRAM << to(client)
    assert talk.news() == ["opened, server1", "established, server1"]
    assert talk.entry().state is State.BOTH_WAYS


def test_a_flow_keeps_its_server_however_many_others_open(talk):
    client = talk.client
    client >> DATAGRAM << to(talk.server1)
    for port in range(1000, 1020):
        client.at(port) >> DATAGRAM
        client >> DATAGRAM << to(talk.server1)


def test_new_flows_alternate_between_the_servers(talk):
    for port in range(1000, 1006):
        talk.client.at(port) >> DATAGRAM << to((talk.server1, talk.server2)[port % 2])


def test_the_flows_of_udp_and_the_connections_of_tcp_do_not_meet(talk):
    """The same addresses and ports, and still two."""
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    client >> DATAGRAM << to(talk.server2)
    client >> SYN << to(server1)
    client >> DATAGRAM << to(talk.server2)
    assert len(talk.engine) == talk.engine.live == 2
    assert (talk.service.live, talk.udp.live) == (1, 1)


def test_what_a_flow_has_carried_is_counted_in_each_direction(talk):
    talk.client >> DATAGRAM(payload=b"12345")
    talk.client >> DATAGRAM(payload=b"")
    talk.server1 >> DATAGRAM(payload=b"1234567")
    assert talk.carried() == [(2, 5), (1, 7)]


@pytest.mark.parametrize("size", [0, 1, 2, 7, 1471, 1472])
def test_a_datagram_of_any_size_is_carried(talk, size):
    talk.client >> DATAGRAM(payload=bytes(size)) << to(talk.server1)
    talk.server1 >> DATAGRAM(payload=bytes(size)) << to(talk.client)


def test_options_and_extension_headers_are_carried(talk):
    said = DATAGRAM(ip_options=b"\x01\x01\x01\x00", extensions=(0, 60))
    talk.client >> said << to(talk.server1)
    talk.server1 >> said << to(talk.client)


def test_padding_behind_a_datagram_stays_where_it_is(talk):
    padded = datagram(talk.client.place, talk.client.peer, b"abc") + b"padding"
    talk.carry(DATAGRAM, padded) << to(talk.server1)
    assert padded.endswith(b"abcpadding")
    assert talk.carried() == [(1, 3), (0, 0)]


def test_a_datagram_to_anybody_else_passes_untouched(talk):
    for said in (DATAGRAM, DATAGRAM(spoilt=True), DATAGRAM(checksum=0)):
        talk.client.asking(OTHER_VIP[talk.family]) >> said << untouched
        talk.client.asking(VIP[talk.family], 53) >> said << untouched


def test_a_reply_from_another_server_is_not_touched(talk):
    talk.client >> DATAGRAM << to(talk.server1)
    talk.server2.facing(talk.client) >> DATAGRAM << untouched
    talk.server1.facing(talk.client.at(1002)) >> DATAGRAM << untouched


# Checksums


def test_over_ipv4_a_datagram_without_a_checksum_gets_none():
    talk = Conversation(4)
    talk.client >> DATAGRAM(checksum=0) << to(talk.server1)
    talk.server1 >> DATAGRAM(checksum=0) << to(talk.client)
    talk.client >> DATAGRAM(checksum=0) << to(talk.server1)


def test_over_ipv6_a_datagram_without_a_checksum_is_damaged():
    """RFC 8200, section 8.1: a receiver must discard it."""
    talk = Conversation(6)
    talk.client >> DATAGRAM(checksum=0) << dropped(DropReason.BAD_CHECKSUM)
    assert len(talk.engine) == 0
    talk.client >> DATAGRAM << to(talk.server1)
    talk.client >> DATAGRAM(checksum=0) << dropped(DropReason.BAD_CHECKSUM)
    talk.server1 >> DATAGRAM(checksum=0) << dropped(DropReason.BAD_CHECKSUM)
    assert talk.entry().state is State.ONE_WAY


def with_checksum(source, destination, wanted):
    """Return the payload with which a datagram between these places has the checksum that is wanted."""
    start = 26 if ":" not in source[0] else 46
    plain = datagram(source, destination, b"\0\0")
    filler = (int.from_bytes(plain[start : start + 2], "big") - wanted) % 0xFFFF
    return filler.to_bytes(2, "big")


@pytest.mark.parametrize("wanted", [0xFFFF, 0x0001, 0xFFFE, 0x8000])
def test_a_checksum_that_comes_out_as_zero_is_written_as_ffff(talk, wanted):
    """RFC 768: 0 would say that there is none."""
    client, server1 = talk.client, talk.server1
    payload = with_checksum(client.place, server1.place, wanted)
    went = client >> DATAGRAM(payload=payload) << to(server1)
    at = 26 if talk.family == 4 else 46
    assert went.buffer[at : at + 2] == wanted.to_bytes(2, "big")
    assert oracle.sound(went.buffer)
    payload = with_checksum(client.peer, client.place, wanted)
    back = server1 >> DATAGRAM(payload=payload) << to(client)
    assert back.buffer[at : at + 2] == wanted.to_bytes(2, "big")


@pytest.mark.parametrize("wanted", [0xFFFF, 0x0001, 0xFFFE])
def test_a_checksum_of_ffff_comes_out_as_any_other(talk, wanted):
    payload = with_checksum(talk.client.place, talk.client.peer, wanted)
    talk.client >> DATAGRAM(payload=payload) << to(talk.server1)


def test_a_damaged_datagram_opens_no_flow_and_gets_no_answer(talk):
    talk.client >> DATAGRAM(spoilt=True) << dropped(DropReason.BAD_CHECKSUM)
    assert len(talk.engine) == 0
    talk.udp.pool = None
    talk.client >> DATAGRAM(spoilt=True) << dropped(DropReason.BAD_CHECKSUM)


def test_in_a_flow_damaged_datagrams_pass_as_damaged_as_they_came(talk):
    talk.client >> DATAGRAM << to(talk.server1)
    talk.client >> DATAGRAM(spoilt=True) << to(talk.server1)
    talk.server1 >> DATAGRAM(spoilt=True) << to(talk.client)


@pytest.mark.parametrize("why", ["server gone", "spent"])
def test_a_damaged_datagram_ends_no_flow(start, why):
    """Though a sound one would be scheduled anew: what the server has still to say finds its way."""
    talk = start(requests=1 if why == "spent" else None)
    talk.client >> DATAGRAM << to(talk.server1)
    if why == "server gone":
        talk.pool.set_health(talk.configured(talk.server1), False, talk.now)
    talk.client >> DATAGRAM(spoilt=True) << dropped(DropReason.BAD_CHECKSUM)
    talk.server1 >> DATAGRAM << to(talk.client)
    talk.client >> DATAGRAM << to(talk.server2)


# Time


def test_a_flow_that_only_the_client_has_spoken_in_is_soon_forgotten(start):
    talk = start(timeouts=BRIEF)
    talk.client >> DATAGRAM << to(talk.server1)
    talk.wait(7.999)
    assert talk.entry().state is State.ONE_WAY
    talk.wait(1.002)
    assert talk.entry() is None
    assert talk.news() == ["opened, server1", "closed, server1, TIMED_OUT"]
    assert talk.resets() == []


def test_a_flow_that_both_have_spoken_in_may_be_silent_for_longer(start):
    talk = start(timeouts=BRIEF)
    talk.client >> DATAGRAM << to(talk.server1)
    talk.server1 >> DATAGRAM << to(talk.client)
    talk.wait(79.999)
    assert talk.entry().state is State.BOTH_WAYS
    talk.wait(1.002)
    assert talk.entry() is None
    assert talk.news()[-1] == "closed, server1, TIMED_OUT"
    assert talk.resets() == []
    talk.server1 >> DATAGRAM << untouched
    talk.client >> DATAGRAM << to(talk.server2)


def test_by_default_a_flow_lives_as_long_as_rfc_4787_asks(talk):
    """REQ-5: two minutes at least, five recommended."""
    talk.client >> DATAGRAM
    talk.wait(119.9)
    assert talk.entry() is not None
    talk.server1 >> DATAGRAM << to(talk.client)
    talk.wait(299.9)
    assert talk.entry() is not None


@pytest.mark.parametrize("is_answered", [False, True])
def test_what_the_client_sends_keeps_the_flow_alive(start, is_answered):
    """RFC 4787, REQ-6: outbound refresh."""
    talk = start(timeouts=BRIEF)
    talk.client >> DATAGRAM
    if is_answered:
        talk.server1 >> DATAGRAM
    for _ in range(5):
        talk.wait(79 if is_answered else 7)
        talk.client >> DATAGRAM << to(talk.server1)
    assert talk.news().count("opened, server1") == 1


def test_what_the_server_sends_keeps_the_flow_alive(start):
    """RFC 4787 leaves that open: a stream from the server must not break off."""
    talk = start(timeouts=BRIEF)
    talk.client >> DATAGRAM
    for _ in range(5):
        talk.server1 >> DATAGRAM << to(talk.client)
        talk.wait(79)


def test_the_next_timeout_is_that_of_the_flow(start):
    talk = start(timeouts=BRIEF)
    talk.client >> DATAGRAM
    assert talk.engine.next_timeout() == talk.now + 8 + 1
    talk.server1 >> DATAGRAM
    assert talk.engine.next_timeout() == talk.now + 80 + 1


# Servers that come and go


@pytest.mark.parametrize("how", ["down", "maint"])
def test_a_flow_whose_server_is_gone_goes_to_another_with_the_next_datagram(talk, how):
    client = talk.client
    client >> DATAGRAM << to(talk.server1)
    talk.server1 >> DATAGRAM << to(client)
    server = talk.configured(talk.server1)
    if how == "down":
        talk.pool.set_health(server, False, talk.now)
    else:
        talk.pool.set_admin(server, AdminState.MAINT, talk.now)
    talk.server1 >> DATAGRAM << to(client)
    talk.news()
    client >> DATAGRAM << to(talk.server2)
    talk.server2 >> DATAGRAM << to(client)
    assert talk.news() == ["closed, server1, RESCHEDULED", "opened, server2", "established, server2"]
    assert (server.live, talk.configured(talk.server2).live) == (0, 1)


def test_a_flow_stays_with_a_server_that_is_in_drain(talk):
    talk.client >> DATAGRAM << to(talk.server1)
    talk.pool.set_admin(talk.configured(talk.server1), AdminState.DRAIN, talk.now)
    talk.client >> DATAGRAM << to(talk.server1)
    talk.client.at(1001) >> DATAGRAM << to(talk.server2)
    talk.client.at(1002) >> DATAGRAM << to(talk.server2)


def test_a_flow_whose_last_server_is_gone_is_told_so(talk):
    talk.client >> DATAGRAM << to(talk.server1)
    for server in talk.pool.servers.values():
        talk.pool.set_health(server, False, talk.now)
    talk.client >> DATAGRAM << unreachable
    assert len(talk.engine) == talk.engine.live == 0


# Flows with an end


def test_a_flow_is_over_when_the_client_has_sent_as_many_datagrams_as_were_expected(start):
    talk = start(requests=2)
    client = talk.client
    for server in (talk.server1, talk.server2, talk.server1):
        client >> DATAGRAM << to(server)
        client >> DATAGRAM << to(server)
        server >> DATAGRAM << to(client)
    assert talk.news()[:3] == ["opened, server1", "established, server1", "closed, server1, FINISHED"]
    assert talk.engine.live == 1


def test_a_flow_is_over_when_the_server_has_answered_as_often_as_was_expected(start):
    talk = start(responses=2)
    client, server1 = talk.client, talk.server1
    client >> DATAGRAM << to(server1)
    client >> DATAGRAM << to(server1)
    for left in (1, 1, 1, 0):
        server1 >> DATAGRAM << to(client)
        assert len(talk.engine) == talk.engine.live == left
    assert talk.news()[-1] == "closed, server1, FINISHED"
    server1 >> DATAGRAM << untouched
    client >> DATAGRAM << to(talk.server2)


def test_a_flow_that_expects_no_answer_is_over_at_once(start):
    """Such as syslog: every datagram is scheduled for itself."""
    talk = start(responses=0)
    for server in (talk.server1, talk.server2, talk.server1):
        talk.client >> DATAGRAM << to(server)
        assert len(talk.engine) == talk.engine.live == 0


def test_a_question_and_an_answer_are_a_flow_when_one_of_each_is_expected(start):
    """Such as DNS."""
    talk = start(requests=1, responses=1)
    for server in (talk.server1, talk.server2):
        talk.client >> DATAGRAM << to(server)
        server >> DATAGRAM << to(talk.client)
        assert len(talk.engine) == 0


# Nobody listens


@pytest.mark.parametrize("why", ["all down", "no backend", "other family"])
@pytest.mark.parametrize("size", [1, 600, 1400])
def test_without_a_usable_server_the_client_is_told_that_nobody_listens(talk, why, size):
    """RFC 1122, section 4.1.3.1: an error of ICMP, at once, and not silence."""
    if why == "all down":
        for server in talk.pool.servers.values():
            talk.pool.set_health(server, False, talk.now)
    elif why == "no backend":
        talk.udp.pool = None
    else:
        talk.udp.pool = Pool("other", [Server("other", packed(VIP[10 - talk.family]), 80)])
    talk.client >> DATAGRAM(payload=bytes(size)) << unreachable
    assert talk.udp.refused == 1
    assert len(talk.engine) == 0


def test_errors_are_sent_at_most_a_thousand_times_a_second(talk):
    """RFC 4443, section 2.4 f, and RFC 1812, section 4.3.2.8."""
    talk.udp.pool = talk.service.pool = None
    packet = datagram(talk.client.place, talk.client.peer, b"?")

    def told(number):
        verdicts = [talk.engine.handle_packet(bytearray(packet), talk.now) for _ in range(number)]
        assert all(isinstance(each, Reply) or each == Drop(DropReason.ICMP_LIMIT) for each in verdicts)
        return sum(isinstance(each, Reply) for each in verdicts)

    assert MOST_ERRORS_PER_SECOND == 1000
    assert told(1500) == 1000
    talk.now += 0.999
    assert told(10) == 0
    talk.client >> SYN << reset
    talk.client >> ACK << reset
    talk.now += 0.001
    assert told(1500) == 1000
    assert talk.engine.drops == {DropReason.ICMP_LIMIT: 1010}
    assert talk.udp.refused == 3010


def test_an_error_is_never_about_an_error(talk):
    """RFC 1122, section 3.2.2: what nobody listens to is a datagram and nothing else."""
    talk.udp.pool = None
    refused = talk.client >> DATAGRAM << unreachable
    answer = bytearray(refused.verdict.packet)
    assert answer[9 if talk.family == 4 else 6] in (ICMP, ICMPV6)
    assert talk.engine.handle_packet(answer, talk.now) != Reply(answer)
    assert not isinstance(talk.engine.handle_packet(answer, talk.now), Reply)


# Another configuration


def test_flows_outlive_the_addresses_that_they_were_opened_at(talk):
    talk.client >> DATAGRAM << to(talk.server1)
    talk.engine.addresses = type(talk.addresses)()
    talk.client >> DATAGRAM << to(talk.server1)
    talk.client.at(1002) >> DATAGRAM << untouched


def test_a_flow_whose_address_and_server_are_both_gone_passes_on_as_anybody_elses(talk):
    talk.client >> DATAGRAM << to(talk.server1)
    talk.engine.addresses = type(talk.addresses)()
    talk.pool.set_health(talk.configured(talk.server1), False, talk.now)
    talk.client >> DATAGRAM << untouched
    assert len(talk.engine) == 0


def test_a_datagram_from_a_host_to_itself_through_itself_is_not_two_tuples(talk):
    place = VIP[talk.family], PORT
    talk.udp.pool = Pool("loop", [Server("itself", packed(place[0]), PORT)])
    packet = datagram(place, place, b"?")
    assert talk.engine.handle_packet(packet, talk.now) == Drop(DropReason.TUPLE_CLASH)
    assert len(talk.engine) == 0


def test_a_datagram_between_strangers_is_let_alone(talk):
    packet = datagram((CLIENT[talk.family], 53), (CLIENT[talk.family], 54), b"?")
    assert talk.engine.handle_packet(packet, talk.now) == Accept()


# What must not be answered


NO_HOSTS = {4: ("0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255"), 6: ("::", "ff02::1")}


@pytest.mark.parametrize("said", [DATAGRAM, SYN, ACK])
@pytest.mark.parametrize("which", [0, -1])
def test_who_cannot_be_a_single_host_opens_nothing_and_gets_no_answer(talk, said, which):
    """RFC 1122, section 3.2.1.3: the kernel would drop it later, but its queue comes first."""
    talk.pool.set_admin(talk.configured(talk.server1), AdminState.MAINT, talk.now)
    talk.pool.set_admin(talk.configured(talk.server2), AdminState.MAINT, talk.now)
    stranger = replace(talk.client, place=(NO_HOSTS[talk.family][which], 40000))
    stranger >> said << dropped(DropReason.BAD_SOURCE)


def test_a_damaged_answer_does_not_prolong_a_flow(talk):
    talk.client >> DATAGRAM << to(talk.server1)
    talk.server1 >> DATAGRAM(spoilt=True) << to(talk.client)
    assert talk.entry().state is State.ONE_WAY
    talk.server1 >> DATAGRAM << to(talk.client)
    assert talk.entry().state is State.BOTH_WAYS
