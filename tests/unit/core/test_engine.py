"""The engine's ways, told as conversations. See `conversation` for what stands behind each line.

Here is TCP, and what all protocols have in common. Modules of their own tell of UDP, ICMP, fragments, full NAT, limits
and of the end of connections by natlb itself.
"""

import pytest

from natlb.core.engine import NatEngine
from natlb.core.events import ConnectionClosed, ConnectionOpened, EndReason
from natlb.core.pool import AdminState, Pool, Server
from natlb.core.service import Service, Timeouts, VirtualAddresses
from natlb.core.states import FINISHED, State
from natlb.core.verdict import Accept, Drop, DropReason, Rewrite
from tests.unit.core.conversation import (
    ACK,
    DATA,
    FIN,
    OTHER_VIP,
    PORT,
    RST,
    RST_ACK,
    SYN,
    SYN_ACK,
    VIP,
    dropped,
    reset,
    to,
    untouched,
)
from tests.unit.core.packets import packed, places, segment

# One connection


def test_a_connection_is_translated_both_ways_from_syn_to_fin(talk):
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    server1 >> SYN_ACK << to(client)
    client >> ACK << to(server1)
    client >> DATA << to(server1)
    server1 >> ACK << to(client)
    server1 >> DATA(payload=b"hello, world") << to(client)
    client >> ACK << to(server1)
    client >> FIN << to(server1)
    server1 >> FIN << to(client)
    client >> ACK << to(server1)
    assert talk.news() == ["opened, server1", "established, server1", "closed, server1, FINISHED"]


def test_a_connection_keeps_its_server_however_many_others_open(talk):
    server1 = talk.shake_hands()
    for port in range(1000, 1050):
        talk.client.at(port) >> SYN
        talk.client >> DATA << to(server1)


def test_new_connections_alternate_between_the_servers(talk):
    names = [talk.shake_hands(talk.client.at(port)).name for port in range(1000, 1006)]
    assert names == ["server1", "server2"] * 3


def test_a_retransmitted_syn_goes_to_the_same_server(talk):
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    client >> SYN << to(server1)
    server1 >> SYN_ACK << to(client)
    client >> SYN << to(server1)
    assert talk.news() == ["opened, server1"]
    assert talk.engine.live == 1


def test_a_syn_into_an_established_connection_goes_to_its_server_which_knows_what_to_say(talk):
    server1 = talk.shake_hands()
    talk.client >> SYN << to(server1)
    server1 >> ACK << to(talk.client)
    talk.client >> RST << to(server1)
    talk.client >> SYN << to(talk.server2)


def test_both_sides_may_open_at_once(talk):
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    server1 >> SYN << to(client)
    client >> SYN_ACK << to(server1)
    server1 >> SYN_ACK << to(client)
    client >> ACK << to(server1)
    assert talk.entry().state is State.ESTABLISHED


def test_a_server_that_keeps_the_port_is_asked_at_the_port_that_the_client_asked_for(start):
    talk = start(server_port=None)
    assert talk.server1.place[1] == PORT
    talk.client >> SYN << to(talk.server1)
    talk.server1 >> SYN_ACK << to(talk.client)


def test_a_wildcard_serves_every_address_of_its_family_and_answers_from_the_one_that_was_asked(talk):
    anywhere = bytes(len(packed(VIP[talk.family])))
    talk.addresses.bind(anywhere, PORT, talk.service)
    client = talk.client.asking(OTHER_VIP[talk.family])
    client >> SYN << to(talk.server1)
    talk.server1 >> SYN_ACK << to(client)


def test_what_a_connection_has_carried_is_counted_in_each_direction(talk):
    server1 = talk.shake_hands()
    talk.client >> DATA(payload=b"12345")
    server1 >> DATA(payload=b"1234567", options=b"\x01\x01\x01\x01")
    server1 >> DATA(payload=b"890")
    assert talk.carried() == [(3, 5), (3, 10)]


def test_data_in_the_first_segment_is_carried_and_counted(talk):
    talk.client >> SYN(payload=b"fast open") << to(talk.server1)
    assert talk.carried() == [(1, 9), (0, 0)]


def test_padding_behind_a_packet_stays_where_it_is(talk):
    talk.shake_hands()
    padded = segment(talk.client.place, talk.client.peer, 0x10, seq=1001, payload=b"abc") + b"padding"
    before = talk.carried()[0][1]
    assert isinstance(talk.engine.handle_packet(padded, talk.now), Rewrite)
    assert padded.endswith(b"abcpadding")
    assert talk.carried()[0][1] == before + 3


@pytest.mark.parametrize("last", [0, 1, 10, 18, 100])
def test_sequence_numbers_may_go_round(talk, last):
    """2**32 is followed by 0: before, in and behind the first data of either side."""
    client, server1 = talk.client, talk.server1
    client >> SYN(seq=2**32 - 1 - last) << to(server1)
    server1 >> SYN_ACK(seq=2**32 - 1 - last) << to(client)
    client >> ACK << to(server1)
    for _ in range(8):
        client >> DATA << to(server1)
        server1 >> DATA << to(client)
    server1 >> FIN << to(client)
    client >> FIN << to(server1)
    assert talk.news() == ["opened, server1", "established, server1", "closed, server1, FINISHED"]


# Closing


def test_both_sides_may_close_at_once(talk):
    """RFC 9293, figure 13: the two FINs cross."""
    client, server1 = talk.client, talk.shake_hands()
    heard = talk.heard[client.place, client.peer]
    server1 >> FIN << to(client)
    client >> FIN(ack=heard) << to(server1)
    client >> ACK(seq=1002) << to(server1)
    server1 >> ACK << to(client)
    assert talk.entry().state is State.BOTH_FIN
    assert talk.news()[-1] == "closed, server1, FINISHED"


@pytest.mark.parametrize("first", ["client", "server"])
def test_either_side_may_close_first(talk, first):
    server1 = talk.shake_hands()
    hosts = (talk.client, server1) if first == "client" else (server1, talk.client)
    for host, other in (hosts, hosts[::-1]):
        assert talk.engine.live == 1
        host >> FIN << to(other)
        other >> ACK << to(host)
    assert talk.engine.live == 0


def test_a_half_closed_connection_still_carries_data(talk):
    server1 = talk.shake_hands()
    talk.client >> FIN << to(server1)
    for _ in range(3):
        server1 >> DATA << to(talk.client)
        talk.client >> ACK << to(server1)
    assert talk.entry().state is State.CLIENT_FIN
    assert talk.engine.live == 1


def test_late_packets_of_a_finished_connection_still_find_their_way(talk):
    server1 = talk.shake_hands()
    talk.client >> FIN
    server1 >> FIN
    talk.client >> ACK << to(server1)
    server1 >> FIN << to(talk.client)
    server1 >> RST << to(talk.client)
    talk.client >> DATA << to(server1)
    assert talk.entry().state is State.BOTH_FIN
    assert talk.engine.live == 0


def test_a_reset_passes_and_the_connection_counts_no_more(talk):
    server1 = talk.shake_hands()
    server1 >> RST << to(talk.client)
    assert talk.engine.live == 0
    assert talk.news()[-1] == "closed, server1, RESET"


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_forged_reset_does_not_cut_a_connection_that_goes_on(talk, side):
    server1 = talk.shake_hands()
    talk.client >> RST << to(server1)
    speaker, listener = (talk.client, server1) if side == "client" else (server1, talk.client)
    speaker >> DATA << to(listener)
    assert talk.entry().state is State.ESTABLISHED
    assert talk.engine.live == 1


def test_a_refused_connection_is_over_at_once(talk):
    talk.client >> SYN << to(talk.server1)
    talk.server1 >> RST_ACK << to(talk.client)
    assert talk.engine.live == 0
    assert talk.news() == ["opened, server1", "closed, server1, RESET"]


def test_three_forged_segments_are_not_a_connection(talk):
    """A SYN, a RST and an ACK, all from one host: no server has seen a handshake."""
    talk.client >> SYN << to(talk.server1)
    talk.client >> RST << to(talk.server1)
    talk.client >> DATA << to(talk.server1)
    assert talk.entry().state is State.ABORTED
    assert talk.engine.live == 0
    assert "established, server1" not in talk.news()


# Opening anew with an old port


@pytest.mark.parametrize("ending", ["fins", "reset", "refused", "shut down"])
def test_a_syn_opens_a_new_connection_at_once_when_the_old_one_is_finished(talk, ending):
    client, server1 = talk.client, talk.server1
    if ending == "refused":
        client >> SYN << to(server1)
        server1 >> RST_ACK << to(client)
    else:
        talk.shake_hands()
        if ending == "shut down":
            talk.engine.shutdown(talk.entry(), talk.now)
        else:
            client >> (FIN if ending == "fins" else RST) << to(server1)
            server1 >> (FIN if ending == "fins" else RST) << to(client)
    assert talk.entry().state in FINISHED
    talk.news()
    client >> SYN << to(talk.server2)
    assert talk.news() == ["opened, server2"]
    assert len(talk.engine) == talk.engine.live == 1


@pytest.mark.parametrize("said", [SYN(spoilt=True), SYN_ACK, SYN_ACK(spoilt=True)], ids=["damaged", "syn-ack", "both"])
def test_nothing_but_a_sound_syn_opens_anew(talk, said):
    server1 = talk.shake_hands()
    talk.client >> FIN
    server1 >> FIN
    talk.client >> said << to(server1)
    assert talk.entry().state is State.BOTH_FIN


@pytest.mark.parametrize("ending", ["fins", "rst"])
def test_a_finished_connection_gives_way_to_one_with_the_server_itself(talk, ending):
    """The client may ask the server directly, with a port that we alone still remember."""
    client = talk.client
    server1 = talk.shake_hands()
    client >> (FIN if ending == "fins" else RST) << to(server1)
    if ending == "fins":
        server1 >> FIN << to(client)
    talk.news()
    server1 >> SYN_ACK(seq=2_000_000, ack=900_001) << untouched
    server1 >> DATA(seq=2_000_001, ack=900_001) << untouched
    assert len(talk.engine) == 0
    assert talk.news() == []


@pytest.mark.parametrize("said", [SYN_ACK, SYN_ACK(seq=2_000_000, spoilt=True)], ids=["sent again", "damaged"])
def test_and_not_to_an_answer_that_only_comes_late_or_damaged(talk, said):
    client = talk.client
    server1 = talk.shake_hands()
    client >> RST << to(server1)
    server1 >> said << to(client)
    assert talk.entry().state is State.TRANS


def test_a_living_connection_does_not(talk):
    server1 = talk.shake_hands()
    server1 >> SYN_ACK(seq=2_000_000, ack=900_001) << to(talk.client)
    assert talk.entry().state is State.ESTABLISHED


def test_a_finished_connection_gives_its_reply_tuple_to_one_that_needs_it(start):
    """One client port, two virtual addresses, one server: the reply tuples are the same."""
    talk = start()
    talk.addresses.bind(packed(OTHER_VIP[talk.family]), PORT, talk.service)
    server1 = talk.shake_hands()
    talk.client >> RST
    other = talk.client.asking(OTHER_VIP[talk.family])
    talk.pool.set_health(talk.configured(talk.server2), False, talk.now)
    other >> SYN << to(server1)
    server1 >> SYN_ACK << to(other)
    assert len(talk.engine) == 1


def test_two_living_connections_never_share_a_reply_tuple(talk):
    """The second one's server is asked from another port of the same client, and both connections work."""
    client, server1 = talk.client, talk.server1
    talk.addresses.bind(packed(OTHER_VIP[talk.family]), PORT, talk.service)
    talk.pool.set_health(talk.configured(talk.server2), False, talk.now)
    talk.shake_hands()
    other = client.asking(OTHER_VIP[talk.family])
    opening = other >> SYN
    seen_as, _ = places(opening.buffer)
    assert seen_as[0] == client.place[0]
    assert seen_as[1] != client.place[1]
    opening << to(server1, seen_as=seen_as)
    server1 >> SYN_ACK << to(other)
    other >> DATA << to(server1, seen_as=seen_as)
    client >> DATA << to(server1)
    server1.facing(client) >> DATA << to(client)
    assert len(talk.engine) == talk.engine.live == 2


def test_a_connection_from_a_host_to_itself_through_itself_is_not_two_tuples(talk):
    """Client, virtual address and server are one endpoint: the reply tuple would be the original one."""
    place = (VIP[talk.family], PORT)
    itself = Server("itself", packed(place[0]), PORT)
    talk.addresses.bind(packed(place[0]), PORT, Service("loop", Pool("loop", [itself])))
    verdict = talk.engine.handle_packet(segment(place, place, 2), talk.now)
    assert verdict == Drop(DropReason.TUPLE_CLASH)
    assert len(talk.engine) == 0


# Servers that come and go


def test_without_a_usable_server_a_syn_is_refused_at_once(talk):
    for server in talk.pool.servers.values():
        talk.pool.set_health(server, False, talk.now)
    talk.client >> SYN << reset
    assert talk.service.refused == 1
    assert len(talk.engine) == 0


def test_a_frontend_without_a_backend_refuses(talk):
    talk.service.pool = None
    talk.client >> SYN << reset


def test_a_server_of_the_other_family_is_of_no_use(talk):
    other = Server("other", packed(VIP[10 - talk.family]), 80)
    talk.service.pool = Pool("other", [other])
    talk.client >> SYN << reset


@pytest.mark.parametrize("state", [AdminState.DRAIN, AdminState.MAINT])
def test_open_connections_stay_with_a_server_that_gets_no_new_ones(talk, state):
    server1 = talk.shake_hands()
    talk.pool.set_admin(talk.configured(server1), state, talk.now)
    talk.client >> DATA << to(server1)
    for port in (1001, 1002, 1003):
        talk.client.at(port) >> SYN << to(talk.server2)
    assert talk.configured(server1).live == 1


def test_a_syn_sent_again_goes_elsewhere_when_its_server_has_gone_down(talk):
    talk.client >> SYN << to(talk.server1)
    talk.pool.set_health(talk.configured(talk.server1), False, talk.now)
    talk.client >> SYN << to(talk.server2)
    talk.server2 >> SYN_ACK << to(talk.client)
    assert talk.news() == ["opened, server1", "closed, server1, RESCHEDULED", "opened, server2"]
    assert talk.configured(talk.server1).live == 0


def test_an_established_connection_is_not_moved_to_another_server(talk):
    server1 = talk.shake_hands()
    talk.pool.set_health(talk.configured(server1), False, talk.now)
    talk.client >> SYN << to(server1)
    talk.client >> DATA << to(server1)


def test_connections_are_counted_at_the_service_and_at_the_server(talk):
    for port in (1001, 1002, 1003):
        talk.shake_hands(talk.client.at(port))
    one, two = (talk.configured(host) for host in (talk.server1, talk.server2))
    assert (one.live, one.total, two.live, two.total) == (2, 2, 1, 1)
    assert (talk.service.live, talk.service.total) == (3, 3)


# The window: who cannot see a connection cannot end it

WINDOW = 0x2000
"""What each side offers, beyond the number that it waits for: 1001 of the client's, 5001 of the server's."""

SIDES = pytest.mark.parametrize("side", ["client", "server"])


def both(talk, side):
    """Return who speaks, who listens, and the number that the listener waits for."""
    server1 = talk.shake_hands()
    return (talk.client, server1, 1001) if side == "client" else (server1, talk.client, 5001)


@SIDES
@pytest.mark.parametrize("distance", [0, 1, 100, WINDOW])
def test_a_reset_in_the_window_is_taken(talk, side, distance):
    speaker, listener, expected = both(talk, side)
    speaker >> RST(seq=expected + distance) << to(listener)
    assert talk.entry().state is State.TRANS
    assert talk.news()[-1] == "closed, server1, RESET"


@SIDES
@pytest.mark.parametrize("distance", [-1, -100, WINDOW + 2, 2**20, 2**31])
def test_a_reset_out_of_the_window_is_dropped(talk, side, distance):
    """RFC 5961, section 3: its receiver would not take it either."""
    speaker, listener, expected = both(talk, side)
    speaker >> RST(seq=(expected + distance) % 2**32) << dropped(DropReason.OUT_OF_WINDOW)
    assert talk.entry().state is State.ESTABLISHED
    listener >> DATA << to(speaker)


@SIDES
@pytest.mark.parametrize("distance", [-2, -100, WINDOW + 2, 2**31])
def test_a_fin_out_of_the_window_moves_nothing(talk, side, distance):
    """It passes: its receiver answers it, and if the answer says that natlb is mistaken, all go on."""
    speaker, listener, expected = both(talk, side)
    speaker >> FIN(seq=(expected + distance) % 2**32) << to(listener)
    assert talk.entry().state is State.ESTABLISHED


def test_a_reset_that_answers_a_syn_acknowledges_it(talk):
    """RFC 9293, section 3.10.7.3: without that the client would not take it."""
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    server1 >> RST << dropped(DropReason.OUT_OF_WINDOW)
    server1 >> RST_ACK(ack=1000) << dropped(DropReason.OUT_OF_WINDOW)
    server1 >> RST_ACK(ack=1002) << dropped(DropReason.OUT_OF_WINDOW)
    assert talk.entry().state is State.INIT
    server1 >> RST_ACK(ack=1001) << to(client)
    assert talk.entry().state is State.ABORTED


def test_a_client_may_take_its_syn_back(talk):
    """A RST with another number passes: it is for a connection that the server remembers, and not for this one."""
    talk.client >> SYN << to(talk.server1)
    talk.client >> RST(seq=77) << to(talk.server1)
    assert talk.entry().state is State.INIT
    talk.client >> RST(seq=1001) << to(talk.server1)
    assert talk.entry().state is State.ABORTED


@pytest.mark.parametrize("ack", [0, 1000, 1002, 2**31])
def test_an_answer_that_acknowledges_another_syn_is_none(talk, ack):
    """It passes: the client answers it with a RST (RFC 9293, section 3.10.7.3)."""
    talk.client >> SYN << to(talk.server1)
    talk.server1 >> SYN_ACK(ack=ack) << to(talk.client)
    assert talk.entry().state is State.INIT
    talk.server1 >> SYN_ACK << to(talk.client)
    assert talk.entry().state is State.SYN_RECEIVED


@pytest.mark.parametrize("said", [ACK, DATA, FIN], ids=["ack", "data", "fin"])
@pytest.mark.parametrize("ack", [0, 5000, 5002, 2**31])
def test_who_does_not_know_the_servers_number_does_not_establish_a_connection(talk, said, ack):
    """Or else a host with a forged address could, with two packets."""
    talk.client >> SYN << to(talk.server1)
    talk.server1 >> SYN_ACK << to(talk.client)
    talk.client >> said(ack=ack) << to(talk.server1)
    assert talk.entry().state is State.SYN_RECEIVED


@SIDES
def test_blind_data_does_not_bring_back_what_was_reset(talk, side):
    speaker, listener, expected = both(talk, side)
    speaker >> RST << to(listener)
    speaker >> DATA(seq=expected + 2**20) << to(listener)
    assert talk.entry().state is State.TRANS


@SIDES
def test_nor_does_a_segment_that_was_overtaken_by_what_its_receiver_has_reset(talk, side):
    """Its receiver answers it with a RST whose number is old: nobody would end the connection after that."""
    closer, sender, expected = both(talk, side)
    late = talk.numbered(DATA(ack=expected), sender)
    closer >> FIN << to(sender)
    sender >> ACK(seq=late.seq + len(late.payload), ack=expected + 1) << to(closer)
    closer >> RST(seq=expected + 1) << to(sender)
    sender >> late << to(closer)
    closer >> RST(seq=expected) << to(sender)
    assert talk.entry().state is State.TRANS


@SIDES
def test_the_answer_to_a_keepalive_brings_back_what_was_reset_by_mistake(talk, side):
    """It says nothing new, and nothing less than was said before."""
    sender, closer, expected = both(talk, side)
    closer >> RST << to(sender)
    sender >> ACK(seq=expected - 1) << to(closer)
    closer >> ACK << to(sender)
    assert talk.entry().state is State.ESTABLISHED


@SIDES
def test_blind_data_does_not_move_the_window(talk, side):
    speaker, listener, expected = both(talk, side)
    far = (expected + 2**20) % 2**32
    for _ in range(3):
        speaker >> DATA(seq=far, ack=12345) << to(listener)
    speaker >> RST(seq=far) << dropped(DropReason.OUT_OF_WINDOW)
    listener >> ACK(ack=far) << to(speaker)
    speaker >> RST(seq=far) << dropped(DropReason.OUT_OF_WINDOW)
    speaker >> RST(seq=expected) << to(listener)


@pytest.mark.parametrize(
    ("client", "server", "shift"), [(None, None, 0), (7, None, 0), (None, 7, 0), (0, 7, 7), (7, 7, 7)]
)
def test_a_window_is_scaled_only_if_both_sides_offer_it(talk, client, server, shift):
    """RFC 7323, section 2.2."""

    def options(shift):
        return b"" if shift is None else b"\x01\x03\x03" + bytes((shift,))

    talk.client >> SYN(options=options(client)) << to(talk.server1)
    talk.server1 >> SYN_ACK(options=options(server)) << to(talk.client)
    talk.client >> ACK << to(talk.server1)
    talk.server1 >> ACK(window=1000) << to(talk.client)
    edge = max(1000 << shift, WINDOW)
    talk.client >> RST(seq=1001 + edge + 2) << dropped(DropReason.OUT_OF_WINDOW)
    talk.client >> RST(seq=1001 + edge) << to(talk.server1)


def test_a_closed_window_is_probed(talk):
    """RFC 9293, section 3.8.6.1: one byte past the edge, again and again, and in the end it is taken."""
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    server1 >> SYN_ACK(window=0) << to(client)
    client >> ACK << to(server1)
    for _ in range(3):
        client >> DATA(seq=1001, payload=b"?") << to(server1)
        server1 >> ACK(ack=1001, window=0) << to(client)
    server1 >> ACK(ack=1002, window=100) << to(client)
    client >> FIN(seq=1002, payload=bytes(100)) << to(server1)
    assert talk.entry().state is State.CLIENT_FIN


def test_what_was_sent_while_an_acknowledgement_was_lost_is_in_the_window_all_the_same(talk):
    """A peer that lost nothing acknowledges more than was seen acknowledged before."""
    client, server1 = talk.client, talk.shake_hands()
    for _ in range(3):
        client >> DATA(payload=bytes(2000)) << to(server1)
    server1 >> ACK << to(client)
    client >> DATA(payload=bytes(WINDOW)) << to(server1)
    client >> FIN << to(server1)
    assert talk.entry().state is State.CLIENT_FIN


# Packets that belong to no connection


@pytest.mark.parametrize("said", [ACK, DATA, FIN, SYN_ACK], ids=["ack", "data", "fin", "syn-ack"])
def test_a_stray_segment_to_a_virtual_address_is_answered_with_a_reset(talk, said):
    talk.client >> said << reset
    assert len(talk.engine) == 0


@pytest.mark.parametrize("said", [RST, RST_ACK], ids=["rst", "rst-ack"])
def test_a_stray_reset_is_not_answered(talk, said):
    talk.client >> said << dropped(DropReason.NO_CONNECTION)


@pytest.mark.parametrize("said", [SYN, ACK, DATA], ids=["syn", "ack", "data"])
def test_a_damaged_segment_neither_opens_a_connection_nor_gets_an_answer(talk, said):
    talk.client >> said(spoilt=True) << dropped(DropReason.BAD_CHECKSUM)
    assert len(talk.engine) == 0


def test_a_packet_to_anybody_else_passes_untouched(talk):
    for said in (SYN, ACK, RST, SYN(spoilt=True), SYN(flags=0)):
        talk.client.asking(OTHER_VIP[talk.family]) >> said << untouched
        talk.client.asking(VIP[talk.family], 22) >> said << untouched


def test_a_reply_from_another_server_is_not_touched(talk):
    talk.shake_hands()
    talk.server2.facing(talk.client) >> SYN_ACK << untouched
    talk.server1.facing(talk.client.at(1002)) >> SYN_ACK << untouched


@pytest.mark.parametrize("protocol", [47, 50, 132], ids=["gre", "esp", "sctp"])
def test_a_packet_of_another_protocol_passes_untouched(talk, protocol):
    other = segment(talk.client.place, talk.client.peer, 2)
    other[9 if talk.family == 4 else 6] = protocol
    before = bytes(other)
    assert talk.engine.handle_packet(other, talk.now) == Accept()
    assert other == before


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", DropReason.TRUNCATED),
        (b"\x00" * 40, DropReason.BAD_VERSION),
        (b"\x41" + b"\x00" * 39, DropReason.BAD_HEADER),
        (b"\x60" + b"\x00" * 5 + b"\x2c" + b"\x00" * 33, DropReason.TRUNCATED),
    ],
)
def test_a_packet_that_cannot_be_followed_is_dropped_and_counted(talk, packet, reason):
    assert talk.engine.handle_packet(bytearray(packet), talk.now) == Drop(reason)
    assert talk.engine.drops == {reason: 1}


@pytest.mark.parametrize("flags", [0x00, 0x01, 0x03, 0x06, 0x29, 0x3F])
def test_a_scan_opens_nothing_gets_no_answer_and_does_not_reach_the_server(talk, flags):
    talk.client >> SYN(flags=flags) << dropped(DropReason.BAD_FLAGS)
    server1 = talk.shake_hands()
    talk.client >> SYN(flags=flags) << dropped(DropReason.BAD_FLAGS)
    server1 >> SYN(flags=flags) << dropped(DropReason.BAD_FLAGS)
    assert talk.entry().state is State.ESTABLISHED


# Damage


@pytest.mark.parametrize("said", [FIN, RST], ids=["fin", "rst"])
def test_a_damaged_segment_does_not_move_the_state(talk, said):
    talk.shake_hands()
    talk.client >> said(spoilt=True) << dropped(DropReason.BAD_CHECKSUM)
    assert talk.entry().state is State.ESTABLISHED


def test_damaged_data_passes_as_damaged_as_it_came(talk):
    server1 = talk.shake_hands()
    talk.client >> DATA(spoilt=True) << to(server1)
    server1 >> DATA(spoilt=True) << to(talk.client)


def test_a_damaged_syn_that_is_sent_again_says_nothing_of_numbers(talk):
    """Were its number believed, the server's answer to the first one would be none."""
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    client >> SYN(seq=2**20, spoilt=True) << to(server1)
    server1 >> SYN_ACK << to(client)
    client >> ACK(seq=1001) << to(server1)
    assert talk.entry().state is State.ESTABLISHED


@pytest.mark.parametrize("said", [SYN_ACK, RST_ACK], ids=["syn-ack", "rst-ack"])
def test_a_damaged_answer_is_none(talk, said):
    talk.client >> SYN << to(talk.server1)
    talk.server1 >> said(spoilt=True) << dropped(DropReason.BAD_CHECKSUM)
    assert talk.entry().state is State.INIT


# Time

BRIEF = Timeouts(opening=8, idle=80, client_fin=16, server_fin=24, closing=40)


def outlast(talk, seconds):
    """Assert that the client's connection is as it was after `seconds` of silence and over a granularity later.

    What was established is shut down then, and its entry is there for whoever goes on talking.
    """
    state = talk.entry().state
    is_open = state in (State.ESTABLISHED, State.CLIENT_FIN, State.SERVER_FIN)
    talk.wait(seconds - 0.001)
    assert talk.entry().state is state
    talk.wait(1.001)
    assert talk.entry().state is State.SHUT if is_open else talk.entry() is None


@pytest.mark.parametrize(
    ("story", "seconds"),
    [
        ("opening", 8),
        ("answered", 8),
        ("idle", 80),
        ("client_fin", 16),
        ("server_fin", 24),
        ("closed", 40),
        ("reset", 40),
    ],
)
def test_a_connection_may_be_silent_as_long_as_its_state_allows(start, story, seconds):
    talk = start(timeouts=BRIEF)
    if story in ("opening", "answered"):
        talk.client >> SYN
        if story == "answered":
            talk.server1 >> SYN_ACK
    else:
        server1 = talk.shake_hands()
        if story in ("client_fin", "closed"):
            talk.client >> FIN
        if story in ("server_fin", "closed"):
            server1 >> FIN
        if story == "reset":
            server1 >> RST
    outlast(talk, seconds)


def test_a_packet_of_either_side_keeps_the_connection_alive(start):
    talk = start(timeouts=BRIEF)
    server1 = talk.shake_hands()
    for _ in range(3):
        talk.wait(79)
        talk.client >> ACK << to(server1)
        talk.wait(79)
        server1 >> ACK << to(talk.client)
    outlast(talk, 80)


def test_a_connection_that_was_silent_for_too_long_is_shut_down_and_forgotten_later(start):
    talk = start(timeouts=BRIEF)
    server1 = talk.shake_hands()
    talk.wait(81)
    assert talk.news()[-1] == "closed, server1, TIMED_OUT"
    assert talk.engine.live == 0
    assert len(talk.engine) == 1
    talk.wait(41)
    assert talk.news() == []
    assert len(talk.engine) == 0
    talk.client >> DATA << reset
    server1 >> DATA << untouched


def test_a_finished_connection_is_closed_once_and_forgotten_quietly(start):
    talk = start(timeouts=BRIEF)
    talk.shake_hands()
    talk.client >> RST
    talk.news()
    talk.wait(41)
    assert talk.news() == []
    assert len(talk.engine) == 0


def test_the_next_timeout_is_when_there_is_something_to_do(start):
    talk = start(timeouts=BRIEF)
    assert talk.engine.next_timeout() is None
    talk.shake_hands()
    talk.client.at(1002) >> SYN
    due = talk.engine.next_timeout()
    assert due == talk.now + 8 + 1
    talk.wait(due - talk.now)
    assert len(talk.engine) == 1
    for left in (1, 0):
        talk.wait(talk.engine.next_timeout() - talk.now)
        assert len(talk.engine) == left
    assert talk.engine.next_timeout() is None


def test_connections_that_end_together_are_ended_in_bounded_steps(talk):
    engine = NatEngine(talk.addresses, capacity=3000, half_open_capacity=3000)
    for port in range(1, 102):
        engine.handle_packet(segment((talk.client.place[0], port), talk.client.peer, 2), 0.0)
    assert len(engine) == 101
    left = []
    while (due := engine.next_timeout()) is not None:
        engine.handle_timeout(due)
        left.append(len(engine))
    assert left == [69, 37, 5, 0]


# What the engine tells


def test_events_are_drawn_oldest_first_and_once(talk):
    talk.shake_hands()
    talk.client >> RST
    assert isinstance(talk.engine.next_event(), ConnectionOpened)
    talk.engine.next_event()
    closed = talk.engine.next_event()
    assert isinstance(closed, ConnectionClosed)
    assert closed.reason is EndReason.RESET
    assert closed.connection is talk.entry()
    assert talk.engine.next_event() is None


def test_ends_are_counted_by_reason_and_each_once(talk):
    for port, ending in ((1001, RST), (1002, RST), (1003, FIN)):
        client = talk.client.at(port)
        server = talk.shake_hands(client)
        client >> ending
        if ending is FIN:
            server >> FIN
    talk.engine.shutdown(talk.entry(talk.client.at(1001)), talk.now)
    assert talk.engine.closed == {EndReason.RESET: 2, EndReason.FINISHED: 1}
    while (due := talk.engine.next_timeout()) is not None:
        talk.engine.handle_timeout(due)
    assert talk.engine.closed.total() == 3, "forgetting what is over is no end"


def test_what_the_engine_holds_can_be_looked_at(start):
    talk = start(ranges=[(1024, 65535)])
    talk.shake_hands()
    talk.client.at(1002) >> SYN
    engine = talk.engine
    assert (len(engine.table), engine.table.half_open, engine.ports_lent, len(engine.fragments)) == (2, 1, 2, 0)


def test_the_connections_can_be_gone_over(talk):
    for port in (1001, 1002):
        talk.shake_hands(talk.client.at(port))
    assert [connection.server.name for connection in talk.engine.connections()] == ["server1", "server2"]


def let_wait(talk, *ports):
    """Let clients send their SYNs, and send them again."""
    for port in ports:
        for _ in range(3):
            talk.client.at(port) >> SYN


def test_a_server_that_leaves_three_clients_in_a_row_waiting_is_told_of(talk):
    """It gets what they say: if it lives, it may be answering them directly."""
    talk.pool.set_admin(talk.configured(talk.server2), AdminState.MAINT, talk.now)
    let_wait(talk, 1001, 1002)
    assert "bypassed, server1" not in talk.news()
    let_wait(talk, 1003)
    assert talk.news() == ["opened, server1", "bypassed, server1"]
    let_wait(talk, 1004, 1005, 1006)
    assert "bypassed, server1" not in talk.news(), "once is enough"


@pytest.mark.parametrize("answer", [SYN_ACK, SYN, RST_ACK], ids=["syn-ack", "syn", "rst-ack"])
def test_any_answer_shows_that_a_server_is_not_bypassed(talk, answer):
    """A refusal too: it has come back through here."""
    talk.pool.set_admin(talk.configured(talk.server2), AdminState.MAINT, talk.now)
    let_wait(talk, 1001, 1002)
    client = talk.client.at(1002)
    ack = 0 if answer is SYN else 1001
    talk.server1.facing(client) >> answer(ack=ack) << to(client)
    let_wait(talk, 1003, 1004)
    assert "bypassed, server1" not in talk.news()
    let_wait(talk, 1005)
    assert talk.news()[-1] == "bypassed, server1"


def test_when_an_answer_comes_back_after_that_it_is_told_of_once(talk):
    talk.pool.set_admin(talk.configured(talk.server2), AdminState.MAINT, talk.now)
    let_wait(talk, 1001, 1002, 1003)
    assert talk.news()[-1] == "bypassed, server1"
    for port in (1002, 1003):
        client = talk.client.at(port)
        talk.server1.facing(client) >> SYN_ACK(ack=1001) << to(client)
    assert talk.news() == ["bypassed no longer, server1"]


def test_a_syn_that_was_never_sent_again_says_nothing_about_its_server(talk):
    talk.pool.set_admin(talk.configured(talk.server2), AdminState.MAINT, talk.now)
    for port in range(1000, 1010):
        talk.client.at(port) >> SYN << to(talk.server1)
    assert talk.configured(talk.server1).unanswered == 0


def test_by_itself_the_engine_says_nothing(talk):
    talk.shake_hands()
    assert talk.engine.next_packet() is None
    assert talk.engine.next_release() is None


# Another configuration


def test_connections_outlive_the_addresses_that_they_were_opened_at(talk):
    server1 = talk.shake_hands()
    talk.engine.addresses = VirtualAddresses()
    talk.client >> DATA << to(server1)
    talk.client.at(1002) >> SYN << untouched
