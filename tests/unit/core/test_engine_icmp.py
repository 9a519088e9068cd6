"""ICMP through the engine: errors about what it has sent on, in both directions (RFC 5508), and echoes."""

from dataclasses import replace

import pytest

from natlb.core.service import Service, Timeouts
from natlb.core.states import State
from natlb.core.verdict import DropReason
from tests.unit.core import packets as p
from tests.unit.core.conversation import (
    ACK,
    DATA,
    DATAGRAM,
    ECHO,
    ECHO_REPLY,
    EXPIRED,
    OTHER_VIP,
    PORT,
    PROBLEM,
    REDIRECT,
    SYN,
    SYN_ACK,
    TOO_BIG,
    UNREACHABLE,
    VIP,
    Conversation,
    dropped,
    echoed,
    held,
    to,
    untouched,
)
from tests.unit.core.packets import packed

ERRORS = pytest.mark.parametrize(
    "error", [UNREACHABLE, TOO_BIG, EXPIRED, PROBLEM], ids=["unreachable", "too big", "expired", "problem"]
)
NATS = pytest.mark.parametrize("ranges", [None, [(1024, 65535)]], ids=["dnat", "full nat"])


def seen(talk):
    """Return how a server sees the client: None for as it is."""
    return None if talk.sources is None else (talk.snat, talk.client.place[1])


# About what the client sent


@ERRORS
@NATS
def test_an_error_about_a_datagram_of_the_client_reaches_the_client(start, ranges, error):
    talk = start(ranges=ranges)
    sent = talk.client >> DATAGRAM << to(talk.server1, seen_as=seen(talk))
    talk.router >> error(about=sent) << to(talk.client)


@ERRORS
@NATS
def test_an_error_about_a_segment_of_the_client_reaches_the_client(start, ranges, error):
    """A path-MTU black hole is an error of this kind that does not."""
    talk = start(ranges=ranges)
    server1 = talk.shake_hands()
    sent = talk.client >> DATA << to(server1, seen_as=seen(talk))
    talk.router >> error(about=sent) << to(talk.client)


@NATS
def test_the_server_itself_may_be_the_one_that_says_so(start, ranges):
    talk = start(ranges=ranges)
    sent = talk.client >> DATAGRAM << to(talk.server1, seen_as=seen(talk))
    talk.server1 >> UNREACHABLE(about=sent) << to(talk.client)


# About what the server sent


@ERRORS
@NATS
def test_an_error_about_a_datagram_of_the_server_reaches_the_server(start, ranges, error):
    talk = start(ranges=ranges)
    talk.client >> DATAGRAM << to(talk.server1, seen_as=seen(talk))
    sent = talk.server1 >> DATAGRAM << to(talk.client)
    talk.router >> error(about=sent) << to(talk.server1)


@ERRORS
@NATS
def test_an_error_about_a_segment_of_the_server_reaches_the_server(start, ranges, error):
    talk = start(ranges=ranges)
    server1 = talk.shake_hands()
    sent = server1 >> DATA(payload=bytes(500)) << to(talk.client)
    talk.router >> error(about=sent) << to(server1)


@NATS
def test_the_client_itself_may_be_the_one_that_says_so(start, ranges):
    """And with full NAT its address is not shown either."""
    talk = start(ranges=ranges)
    talk.client >> DATAGRAM << to(talk.server1, seen_as=seen(talk))
    sent = talk.server1 >> DATAGRAM << to(talk.client)
    talk.client >> UNREACHABLE(about=sent) << to(talk.server1)


def test_after_a_clash_of_tuples_the_router_shows_its_own_address_all_the_same(talk):
    """The client has another port then, but its own address: nothing is hidden from the server."""
    talk.addresses.bind(packed(OTHER_VIP[talk.family]), PORT, talk.udp)
    talk.pool.set_health(talk.configured(talk.server2), False, talk.now)
    client, server1 = talk.client, talk.server1
    client >> DATAGRAM << to(server1)
    other = client.asking(OTHER_VIP[talk.family])
    sent = other >> DATAGRAM
    seen_as, _ = p.places(sent.buffer)
    assert seen_as != client.place
    sent << to(server1, seen_as=seen_as)
    back = server1 >> DATAGRAM << to(other)
    talk.router >> EXPIRED(about=sent) << to(other)
    talk.router >> EXPIRED(about=back) << to(server1)


# How it is quoted


@NATS
@pytest.mark.parametrize("quoted", [8, 12, 16, 18, 20, 24, None])
def test_eight_bytes_of_the_transport_header_are_enough(start, ranges, quoted):
    talk = start(ranges=ranges)
    server1 = talk.shake_hands()
    header = 20 if talk.family == 4 else 40
    for sent, receiver in (
        (talk.client >> DATA << to(server1, seen_as=seen(talk)), talk.client),
        (server1 >> DATA << to(talk.client), server1),
    ):
        talk.router >> EXPIRED(about=sent, quoted=quoted and header + quoted) << to(receiver)


def test_less_than_that_is_nobodys(talk):
    sent = talk.client >> DATAGRAM << to(talk.server1)
    talk.router >> EXPIRED(about=sent, quoted=27 if talk.family == 4 else 47) << untouched


@NATS
def test_options_and_extension_headers_of_the_quoted_packet_are_stepped_over(start, ranges):
    """RFC 5508, REQ-3 b."""
    talk = start(ranges=ranges)
    said = DATAGRAM(ip_options=b"\x01\x01\x01\x01\x01\x01\x01\x00", extensions=(0, 60, 43))
    sent = talk.client >> said << to(talk.server1, seen_as=seen(talk))
    talk.router >> UNREACHABLE(about=sent) << to(talk.client)
    sent = talk.server1 >> said << to(talk.client)
    talk.router >> UNREACHABLE(about=sent) << to(talk.server1)


@NATS
def test_a_quoted_datagram_without_a_checksum_is_quoted_without_one(ranges):
    talk = Conversation(4, ranges=ranges)
    sent = talk.client >> DATAGRAM(checksum=0) << to(talk.server1, seen_as=seen(talk))
    talk.router >> UNREACHABLE(about=sent) << to(talk.client)
    sent = talk.server1 >> DATAGRAM(checksum=0) << to(talk.client)
    talk.router >> UNREACHABLE(about=sent) << to(talk.server1)


def test_a_quoted_datagram_that_was_damaged_is_quoted_as_damaged(talk):
    """RFC 5508, REQ-3 c: the transport checksum of a quoted packet is not judged."""
    talk.client >> DATAGRAM << to(talk.server1)
    sent = talk.client >> DATAGRAM(spoilt=True) << to(talk.server1)
    talk.router >> UNREACHABLE(about=sent) << to(talk.client)


def test_a_quoted_first_fragment_is_found_by_its_ports(talk):
    first, _ = talk.client.cut(DATAGRAM(payload=bytes(100)), 64)
    sent = talk.client >> first << to(talk.server1)
    talk.router >> UNREACHABLE(about=sent) << to(talk.client)


def test_a_quoted_later_fragment_has_no_ports_to_be_found_by(talk):
    """RFC 5508 asks for the first 8 bytes of the transport header: a router that quotes another has none."""
    first, second = talk.client.cut(DATAGRAM(payload=bytes(100)), 64)
    talk.client >> first << to(talk.server1)
    sent = talk.client >> second << to(talk.server1)
    talk.router >> UNREACHABLE(about=sent) << untouched


# Damage


def test_an_error_with_a_wrong_checksum_is_dropped(talk):
    """RFC 5508, REQ-3."""
    sent = talk.client >> DATAGRAM << to(talk.server1)
    talk.router >> UNREACHABLE(about=sent, spoilt=True) << dropped(DropReason.BAD_CHECKSUM)


def test_an_error_about_a_packet_with_a_wrong_ip_checksum_is_dropped():
    """RFC 5508, REQ-3 a."""
    talk = Conversation(4)
    sent = talk.client >> DATAGRAM << to(talk.server1)
    talk.router >> UNREACHABLE(about=sent, spoilt_quote=True) << dropped(DropReason.BAD_CHECKSUM)


# About nobody's packet


def test_an_error_about_a_connection_that_is_not_there_is_dropped_if_it_is_about_a_virtual_address(talk):
    """It would tell the client side of a packet that nobody here has sent."""
    client = talk.client
    client >> DATAGRAM << to(talk.server1)
    sent = talk.server1 >> DATAGRAM << to(client)
    talk.wait(1000)
    talk.router >> UNREACHABLE(about=sent) << dropped(DropReason.NO_CONNECTION)


@pytest.mark.parametrize("is_own", [True, False])
def test_an_address_that_only_a_wildcard_leads_to_is_ours_if_the_balancer_has_it(talk, is_own):
    """An error that was translated speaks of a server's address, and the wildcard has its port: it must get out."""
    anywhere = talk.client.asking(OTHER_VIP[talk.family])
    talk.addresses.bind(bytes(len(packed(VIP[talk.family]))), PORT, talk.udp)
    if is_own:
        talk.engine.own_addresses.add(packed(OTHER_VIP[talk.family]))
    anywhere >> DATAGRAM << to(talk.server1)
    sent = talk.server1 >> DATAGRAM << to(anywhere)
    talk.wait(1000)
    talk.router >> UNREACHABLE(about=sent) << (dropped(DropReason.NO_CONNECTION) if is_own else untouched)


def test_an_error_about_a_connection_of_others_passes_untouched(talk):
    talk.client >> DATAGRAM << to(talk.server1)
    for other in (talk.client.asking(OTHER_VIP[talk.family]), talk.client.asking(VIP[talk.family], 53)):
        sent = other >> DATAGRAM << untouched
        talk.router >> UNREACHABLE(about=sent) << untouched
        talk.router >> UNREACHABLE(about=sent, spoilt=True) << untouched


def test_an_error_about_a_server_that_is_not_there_any_more_is_not_known_from_any_other(talk):
    sent = talk.client >> DATAGRAM << to(talk.server1)
    talk.wait(1000)
    talk.router >> UNREACHABLE(about=sent) << untouched


def test_an_error_about_a_packet_of_the_other_protocol_finds_nothing(talk):
    """The tuple has a protocol: an error about UDP says nothing of TCP."""
    talk.shake_hands()
    sent = talk.client.at(1) >> DATAGRAM
    other = talk.client.at(1)
    talk.router >> UNREACHABLE(about=sent) << to(other)
    about_tcp = talk.client >> ACK << to(talk.server1)
    quote = bytearray(about_tcp.buffer)
    quote[9 if talk.family == 4 else 6] = p.UDP
    if talk.family == 4:
        quote[10:12] = bytes(2)
        quote[10:12] = p.complement(quote[:20])
    about_tcp.buffer[:] = quote
    talk.router >> UNREACHABLE(about=about_tcp) << untouched


@pytest.mark.parametrize("said", [REDIRECT, ECHO_REPLY], ids=["redirect", "echo reply"])
def test_a_message_that_is_no_error_of_a_path_passes_untouched(talk, said):
    """A redirect concerns the next hop alone."""
    talk.client >> said << untouched
    talk.client >> said(spoilt=True) << untouched


def test_an_error_about_no_packet_at_all_passes_untouched(talk):
    for body in (b"", b"\x45", bytes(20), bytes(60), b"\x4f" + bytes(27)):
        packet = p.icmp(talk.router.place[0], talk.client.place[0], *UNREACHABLE.kinds[talk.family], body)
        talk.carry(ECHO, packet) << untouched


# What an error does not do


@pytest.mark.parametrize("error", [UNREACHABLE, EXPIRED], ids=["unreachable", "expired"])
def test_an_error_ends_nothing_and_keeps_nothing_alive(start, error):
    """RFC 5508, REQ-4 and REQ-6: neither the state nor the timer of a mapping is touched by an error."""
    talk = start(timeouts=Timeouts(opening=8, idle=80, one_way=8))
    sent = talk.client >> DATAGRAM << to(talk.server1)
    opening = talk.client >> SYN << to(talk.server2)
    due = talk.engine.next_timeout()
    for _ in range(3):
        talk.wait(2.5)
        talk.router >> error(about=sent) << to(talk.client)
        talk.router >> error(about=opening) << to(talk.client)
    assert {each.state for each in talk.engine.connections()} == {State.ONE_WAY, State.INIT}
    assert talk.engine.next_timeout() == due
    assert [talk.engine.ledger.packets[at] for at in range(4)] == [1, 0, 1, 0], "nor is it counted"
    talk.wait(2)
    assert len(talk.engine) == 0


def test_a_connection_goes_on_after_an_error(talk):
    server1 = talk.shake_hands()
    sent = talk.client >> DATA << to(server1)
    talk.router >> UNREACHABLE(about=sent) << to(talk.client)
    talk.client >> DATA << to(server1)
    server1 >> DATA << to(talk.client)
    assert talk.entry().state is State.ESTABLISHED


def test_an_error_about_a_finished_connection_still_finds_its_way(talk):
    server1 = talk.shake_hands()
    sent = talk.client >> DATA << to(server1)
    talk.engine.shutdown(talk.entry(), talk.now)
    talk.router >> UNREACHABLE(about=sent) << to(talk.client)


def test_a_half_open_connection_has_errors_as_well(talk):
    """A SYN into the void: the client is told what the last router says, and not left waiting."""
    sent = talk.client >> SYN << to(talk.server1)
    talk.router >> UNREACHABLE(about=sent) << to(talk.client)
    talk.server1 >> SYN_ACK << to(talk.client)


# Echo


@pytest.mark.parametrize("payload", [b"", b"x", b"xy", bytes(1400)], ids=len)
def test_an_echo_to_a_virtual_address_of_no_interface_is_answered(talk, payload):
    talk.client >> ECHO(payload=payload) << echoed


def test_a_damaged_echo_is_not(talk):
    talk.client >> ECHO(spoilt=True) << dropped(DropReason.BAD_CHECKSUM)


def test_an_echo_of_no_single_host_is_not(talk):
    nobody = {4: "224.0.0.1", 6: "ff02::1"}[talk.family]
    replace(talk.client, place=(nobody, 0)) >> ECHO << dropped(DropReason.BAD_SOURCE)


def test_an_echo_to_anybody_else_passes_untouched(talk):
    talk.client.asking(OTHER_VIP[talk.family]) >> ECHO << untouched
    talk.client.asking(OTHER_VIP[talk.family]) >> ECHO(spoilt=True) << untouched


def test_a_wildcard_answers_for_no_address(talk):
    """Whoever has the address answers: natlb does not know which addresses are the host's."""
    talk.addresses.bind(bytes(len(packed(VIP[talk.family]))), 80, Service("any", talk.pool))
    talk.client.asking(OTHER_VIP[talk.family]) >> ECHO << untouched


def test_an_echo_in_fragments_is_none_of_ours():
    """It is put together by whom it is for; over IPv6 a later one waits for the first to say what it is."""
    talk = Conversation(4)
    first, second = talk.client.cut(ECHO(payload=bytes(100)), 64)
    talk.client >> second << untouched
    talk.client >> first << untouched
    talk = Conversation(6)
    first, second = talk.client.cut(ECHO(payload=bytes(100)), 64)
    waiting = talk.client >> second << held
    talk.client >> first << untouched
    waiting << untouched
