"""What the program carries, and what it leaves to the engine.

That what it carries comes out as the engine would have made it is part of every conversation: see `lockstep`.
"""

import pytest
from pyroute2 import IPRoute

from tests.unit.core import packets as p
from tests.unit.core.conversation import (
    ACK,
    DATA,
    DATAGRAM,
    ECHO,
    FIN,
    RST,
    RST_ACK,
    SYN,
    SYN_ACK,
    TOO_BIG,
    Host,
    Segment,
    held,
    to,
)
from tests.unit.offload import kernel
from tests.unit.offload.kernel import REDIRECT, UNSPEC
from tests.unit.offload.lockstep import Lockstep, carried, one_hop_on, passed

pytestmark = pytest.mark.root

SCALED = b"\x02\x04\x05\xb4\x01\x03\x03\x07"
"""A largest segment, a filler, a window scale of 7."""


@pytest.fixture(params=["DNAT", "full NAT"])
def either(request: pytest.FixtureRequest, start) -> Lockstep:
    """A conversation with each kind of NAT."""
    return start(ranges=[(30000, 30100)] if request.param == "full NAT" else None)


def seen_as(talk: Lockstep, server: Host):
    return None if talk.sources is None else server.peer


def spoken(talk: Lockstep) -> Host:
    """Have both sides of a flow of UDP speak; return the server."""
    talk.client >> DATAGRAM << passed
    [server] = [each for each in (talk.server1, talk.server2) if each.peer is not None]
    server >> DATAGRAM << to(talk.client) << passed
    return server


# A connection's whole life


def test_of_a_connection_only_the_syn_goes_to_the_engine(either):
    client = either.client
    outcome = client >> SYN(options=SCALED) << passed
    [server] = [each for each in (either.server1, either.server2) if each.place == p.places(outcome.buffer)[1]]
    server >> SYN_ACK(options=SCALED) << to(client) << carried
    for said in ACK, DATA, DATA(payload=b"x" * 1400), ACK:
        client >> said << to(server, seen_as=seen_as(either, server)) << carried
        server >> said << to(client) << carried
    client >> FIN << to(server, seen_as=seen_as(either, server)) << carried
    server >> DATA << to(client) << carried
    server >> FIN(payload=b"the end") << to(client) << carried
    client >> ACK << to(server, seen_as=seen_as(either, server)) << carried
    assert either.news()[-1] == f"closed, {server.name}, FINISHED"


def test_a_flow_of_udp_is_carried_once_both_have_spoken(either):
    server = spoken(either)
    for size in 0, 1, 2, 1400:
        either.client >> DATAGRAM(payload=b"?" * size) << to(server, seen_as=seen_as(either, server)) << carried
        server >> DATAGRAM(payload=b"!" * size) << to(either.client) << carried


@pytest.mark.parametrize("said", [DATA(payload=b""), DATA(payload=b"odd"), ACK(options=b"\x01\x01\x01\x01" * 10)])
def test_segments_of_all_shapes_are_carried(either, said):
    server = either.shake_hands()
    either.client >> said << to(server, seen_as=seen_as(either, server)) << carried


@pytest.mark.parametrize("flags", [p.PSH, p.URG, p.ECE, p.CWR, p.PSH | p.URG | p.ECE | p.CWR])
def test_flags_that_mean_nothing_to_a_nat_are_carried(talk, flags):
    server = talk.shake_hands()
    talk.client >> DATA(flags=flags | p.ACK) << to(server) << carried
    talk.client >> FIN(flags=flags | p.ACK | p.FIN) << to(server) << carried


@pytest.mark.parametrize("payload", [b"", b"x", b"\xff\xff" * 50])
def test_a_damaged_packet_that_moves_no_state_is_carried_as_damaged_as_it_is(talk, payload):
    server = talk.shake_hands()
    talk.client >> DATA(payload=payload, spoilt=True) << to(server) << carried


def test_datagrams_without_a_checksum_are_carried_without_one_where_that_is_allowed(talk):
    server = spoken(talk)
    outcome = talk.client >> DATAGRAM(checksum=0)
    if talk.family == 4:
        outcome << to(server) << carried
    else:
        outcome << passed


def test_a_checksum_of_udp_never_becomes_the_one_that_says_there_is_none(talk):
    """All 65,536 payloads of two bytes pass by each value of the checksum; a few hundred around zero will do."""
    server = spoken(talk)
    base = p.datagram(server.place, server.peer, b"\0\0")
    at = len(base) - 4
    for delta in range(-150, 150):
        # So much more in the payload is so much less in the checksum of what comes out.
        outcome = server >> DATAGRAM(payload=b"\0\0")
        want = int.from_bytes(outcome.buffer[at : at + 2], "big") + delta
        server >> DATAGRAM(payload=(want % 0xFFFF).to_bytes(2, "big")) << to(talk.client) << carried


# What goes to the engine


@pytest.mark.parametrize("said", [SYN, SYN_ACK, Segment(0), Segment(p.FIN), Segment(p.SYN | p.FIN), Segment(0x3F)])
def test_what_opens_a_connection_and_what_no_host_sends_is_the_engines(talk, said):
    talk.shake_hands()
    talk.client >> said << passed


def test_a_packet_of_no_connection_is_the_engines(talk):
    talk.shake_hands()
    talk.client.at(1) >> DATA << passed
    talk.client.at(1) >> DATAGRAM << passed


@pytest.mark.parametrize("protocol", [p.ICMP, p.ICMPV6, 0, 47, 50, 132, 255])
def test_another_protocol_is_the_kernels(talk, protocol):
    server = talk.shake_hands()
    packet = bytes(ACK.packet(talk.client))
    body = packet[20 if talk.family == 4 else 40 :]
    other = bytes(p.network(talk.client.place[0], talk.client.peer[0], protocol, body))
    assert talk.run(packet).verdict == REDIRECT
    assert talk.run(other)[:2] == (UNSPEC, kernel.framed(other))
    assert server.peer == talk.client.place


def test_icmp_is_the_engines(talk):
    server = talk.shake_hands()
    sent = talk.client >> DATA << to(server) << carried
    talk.router >> TOO_BIG(about=sent) << to(talk.client) << passed
    talk.client >> ECHO << passed


def test_fragments_are_the_engines(talk):
    server = spoken(talk)
    first, second = talk.client.cut(DATAGRAM(payload=bytes(100)), 64)
    talk.client >> second << held << passed
    talk.client >> first << to(server) << passed
    server = talk.shake_hands()
    for piece in talk.client.cut(DATA(payload=bytes(100)), 64, identification=78):
        talk.client >> piece << to(server) << passed


def test_options_and_extension_headers_are_the_engines(talk):
    server = spoken(talk)
    talk.client >> DATAGRAM << to(server) << carried
    if talk.family == 4:
        talk.client >> DATAGRAM(ip_options=b"\x01\x01\x01\x00") << to(server) << passed
    for number in p.HOP_BY_HOP, p.ROUTING, p.DESTINATION:
        if talk.family == 6:
            talk.client >> DATAGRAM(extensions=(number,)) << to(server) << passed


@pytest.mark.parametrize(("hops", "verdict"), [(0, UNSPEC), (1, UNSPEC), (2, REDIRECT), (255, REDIRECT)])
def test_a_packet_that_has_come_too_far_is_the_kernels(talk, hops, verdict):
    talk.shake_hands()
    packet = ACK.packet(talk.client)
    if talk.family == 6:
        packet[7] = hops
    else:
        packet[8] = hops
        packet[10:12] = bytes(2)
        packet[10:12] = p.complement(packet[:20])
    result = talk.run(bytes(packet))
    assert result.verdict == verdict
    if verdict == REDIRECT:
        assert result.frame[14:] == one_hop_on(talk.engine.handle_packet(packet, talk.now).payload)


@pytest.mark.parametrize("over", [0, 1])
def test_a_packet_that_does_not_fit_where_it_must_go_is_the_kernels(talk, over):
    server = talk.shake_hands()
    size = 1300 - (40 if talk.family == 4 else 60)
    talk.arena.set_mtu(1300)
    try:
        talk.client >> DATA(payload=bytes(size + over)) << to(server) << (passed if over else carried)
    finally:
        talk.arena.set_mtu(1500)


@pytest.mark.parametrize("narrowest", [1300, 0])
def test_what_may_exceed_the_mtu_of_a_route_is_the_kernels_to_answer(talk, narrowest):
    server, header = spoken(talk), {4: 28, 6: 48}[talk.family]
    talk.path._program.limit((narrowest, 0) if talk.family == 4 else (0, narrowest))
    try:
        talk.client >> DATAGRAM(payload=bytes(1300 - header)) << to(server) << carried
        talk.client >> DATAGRAM(payload=bytes(1301 - header)) << to(server) << (passed if narrowest else carried)
    finally:
        talk.path._program.limit((0, 0))


@pytest.mark.parametrize(("segment", "verdict"), [(1300, REDIRECT), (1301, UNSPEC)])
def test_of_a_stream_that_is_not_cut_up_yet_each_segment_must_fit(talk, segment, verdict):
    talk.shake_hands()
    packet = bytes(DATA(payload=bytes(3000)).packet(talk.client))
    talk.arena.set_mtu(segment + (40 if talk.family == 4 else 60) - (segment == 1301))
    try:
        assert talk.run(packet, gso_size=segment).verdict == verdict
    finally:
        talk.arena.set_mtu(1500)


def test_of_a_datagram_that_is_to_be_cut_up_each_part_must_fit(talk):
    spoken(talk)
    packet = bytes(DATAGRAM(payload=bytes(3000)).packet(talk.client))
    headers = 28 if talk.family == 4 else 48
    assert talk.run(packet, gso_size=1500 - headers).verdict == REDIRECT
    assert talk.run(packet, gso_size=1501 - headers).verdict == UNSPEC


def test_a_neighbour_that_is_not_known_is_for_the_kernel_to_find(talk):
    server = talk.shake_hands()
    with talk.arena.without_neighbour(talk.family):
        talk.client >> DATA << to(server) << passed
    talk.client >> DATA << to(server) << carried


def test_a_destination_without_a_route_is_the_kernels(talk):
    server = talk.shake_hands()
    with IPRoute() as route:
        way = {"dst": server.place[0], "type": "unreachable", "family": 2 if talk.family == 4 else 10}
        route.route("add", **way)
        try:
            talk.client >> DATA << to(server) << passed
        finally:
            route.route("del", **way)


def test_a_server_on_this_machine_is_the_kernels(talk):
    server = talk.shake_hands()
    with IPRoute() as route:
        own = {"index": 1, "address": server.place[0], "prefixlen": 32 if talk.family == 4 else 128}
        route.addr("add", **own)
        try:
            talk.client >> DATA << to(server) << passed
        finally:
            route.addr("del", **own)


def test_nothing_is_carried_where_the_kernel_must_not_forward(talk):
    talk.shake_hands()
    packet = bytes(ACK.packet(talk.client))
    with kernel.setting("ipv4/conf/in0/forwarding" if talk.family == 4 else "ipv6/conf/in0/forwarding", "0"):
        assert talk.run(packet).verdict == UNSPEC
    assert talk.run(packet).verdict == REDIRECT


def test_a_frame_for_another_host_is_none_of_ours(talk):
    talk.shake_hands()
    packet = bytes(ACK.packet(talk.client))
    for to_whom in (kernel.NEIGHBOUR, b"\xff" * 6, bytes.fromhex("01005e000001")):
        assert talk.run_frame(kernel.framed(packet, to=to_whom)).verdict == UNSPEC
    assert talk.run(packet).verdict == REDIRECT


def test_padding_behind_a_packet_is_left_where_it_is(talk):
    server = talk.shake_hands()
    packet = ACK.packet(talk.client)
    result = talk.run(bytes(packet) + b"\x55" * 6)
    assert result.verdict == REDIRECT
    assert result.frame[14:] == one_hop_on(talk.engine.handle_packet(packet, talk.now).payload) + b"\x55" * 6
    assert server.peer == talk.client.place


def test_a_packet_of_which_anything_is_missing_is_the_engines(talk):
    """Cut off anywhere, and with a length that says more, or less, than there can be."""
    talk.shake_hands()
    whole = bytes(DATA(payload=b"x" * 20).packet(talk.client))
    for size in range(20 if talk.family == 4 else 40, len(whole)):  # the kernel's test takes no less
        assert talk.run(whole[:size]).verdict == UNSPEC
    at, least = (2, 40) if talk.family == 4 else (4, 20)
    for length in (*range(least), least + 21, 0xFFFF):
        lying = bytearray(whole)
        lying[at : at + 2] = length.to_bytes(2, "big")
        if talk.family == 4:
            lying[10:12] = bytes(2)
            lying[10:12] = p.complement(lying[:20])
        assert talk.run(bytes(lying)).verdict == UNSPEC
    assert talk.run(whole).verdict == REDIRECT


@pytest.mark.parametrize("offset", range(16))
def test_a_header_length_that_is_impossible_is_the_engines(talk, offset):
    talk.shake_hands()
    start = 20 if talk.family == 4 else 40
    packet = ACK.packet(talk.client)
    packet[start + 12] = offset << 4
    assert talk.run(bytes(packet)).verdict == (REDIRECT if offset == 5 else UNSPEC)


@pytest.mark.parametrize("length", [0, 7, 9])
def test_a_length_of_udp_that_is_impossible_is_the_engines(talk, length):
    spoken(talk)
    start = 20 if talk.family == 4 else 40
    packet = DATAGRAM(payload=b"").packet(talk.client)
    packet[start + 4 : start + 6] = length.to_bytes(2, "big")
    assert talk.run(bytes(packet)).verdict == UNSPEC
    packet[start + 4 : start + 6] = (8).to_bytes(2, "big")
    assert talk.run(bytes(packet)).verdict == REDIRECT


def test_an_ipv4_header_with_a_wrong_checksum_is_the_kernels(talk):
    talk.shake_hands()
    if talk.family == 4:
        packet = ACK.packet(talk.client)
        packet[10] ^= 1
        assert talk.run(bytes(packet)).verdict == UNSPEC


def test_a_packet_that_says_another_version_than_its_frame_is_the_kernels(talk):
    talk.shake_hands()
    packet = ACK.packet(talk.client)
    packet[0] ^= 0x20
    ethertype = kernel.ETHERTYPE[talk.family]
    assert talk.run_frame(kernel.MAC + kernel.NEIGHBOUR + ethertype + bytes(packet)).verdict == UNSPEC


# What would end a connection


@pytest.mark.parametrize("said", [FIN, RST, RST_ACK])
def test_what_the_window_does_not_allow_is_the_engines(talk, said):
    server = talk.shake_hands()
    talk.client >> DATA << to(server) << carried
    talk.client >> said(seq=0x80000000) << passed
    assert talk.entry().state.name == "ESTABLISHED"


@pytest.mark.parametrize("said", [FIN, RST])
@pytest.mark.parametrize("payload", [b"", b"x", bytes(90), bytes(500)])
def test_what_ends_a_connection_must_be_undamaged(talk, said, payload):
    server = talk.shake_hands()
    talk.client >> said(payload=payload, spoilt=True) << passed
    assert talk.entry().state.name == "ESTABLISHED"
    # To sum up more than 128 bytes would take too long.
    talk.client >> said(payload=payload) << to(server) << (passed if len(payload) > 100 else carried)
    assert talk.entry().state.name == ("CLIENT_FIN" if said is FIN else "TRANS")


@pytest.mark.parametrize("said", [FIN(payload=b"odd"), RST, SYN_ACK])
def test_a_checksum_that_is_only_begun_is_not_a_wrong_one(talk, said):
    """As it is of a packet that comes from this very machine."""
    server = talk.shake_hands() if said is not SYN_ACK else None
    if server is None:
        talk.client >> SYN
        [server] = [each for each in (talk.server1, talk.server2) if each.peer is not None]
    packet = said.packet(server)
    size, start = (4, 20) if talk.family == 4 else (16, 40)
    begun = p.ones_sum(
        p.pseudo(packet[start - 2 * size : start - size], packet[start - size : start], len(packet) - start)
    )
    for wrong_by, verdict in (1, UNSPEC), (0, REDIRECT):
        packet[start + 16 : start + 18] = (begun ^ wrong_by).to_bytes(2, "big")
        assert talk.run(bytes(packet)).verdict == verdict


def test_after_a_reset_everything_is_the_engines(talk):
    server = talk.shake_hands()
    talk.client >> RST << to(server) << carried
    for host in talk.client, server:
        for said in ACK, FIN, RST:
            assert talk.run(bytes(said.packet(host))).verdict == UNSPEC
    talk.client >> DATA << to(server) << passed
    talk.client >> DATA << to(server) << carried


def test_when_both_have_ended_late_packets_are_carried_but_a_reset_is_not(talk):
    server = talk.shake_hands()
    talk.client >> FIN << carried
    server >> FIN << carried
    for host, other in (talk.client, server), (server, talk.client):
        host >> ACK << to(other) << carried
        host >> FIN << to(other) << carried
    server >> RST << to(talk.client) << passed


# The handshake


def test_an_answer_that_acknowledges_something_else_is_the_engines(talk):
    talk.client >> SYN
    [server] = [each for each in (talk.server1, talk.server2) if each.peer is not None]
    server >> SYN_ACK(ack=77) << passed
    server >> SYN_ACK(spoilt=True) << passed
    server >> SYN_ACK << to(talk.client) << carried
    server >> SYN_ACK << to(talk.client) << passed
    talk.client >> ACK(ack=77) << passed
    talk.client >> ACK(spoilt=True) << passed
    talk.client >> ACK << to(server) << carried


@pytest.mark.parametrize(
    "options",
    [
        b"",
        b"\x03\x03\x07\x00",
        b"\x01\x03\x03\x0e",
        b"\x03\x03\xff\x01",
        b"\x03\x03\x00\x01",
        b"\x01\x01\x01\x01" * 9 + b"\x01\x03\x03\x02",
        b"\x01\x01\x01\x01" * 9 + b"\x01\x01\x03\x03",
        b"\x00\x03\x03\x07",
        b"\x03\x04\x07\x07" + SCALED,
        b"\x03\x02\x01\x01\x03\x03\x05\x03\x03\x06\x01\x01",
        b"\x08\x00" + SCALED + b"\x01\x01",
        b"\x08\x01" + SCALED + b"\x01\x01",
        b"\x08\x28" + b"\x03\x03\x07" * 12 + b"\x01\x01",
        b"\x08\xff" + b"\x03\x03\x07" * 12 + b"\x01\x01",
        b"\x02\x04\x05\xb4\x04\x02\x08\x0a" + bytes(8) + b"\x01\x03\x03\x07",
    ],
)
def test_the_window_scale_is_found_where_the_engine_finds_it(talk, options):
    """The conversation compares what the map holds with what the ledger holds."""
    client = talk.client
    client >> SYN(options=SCALED)
    [server] = [each for each in (talk.server1, talk.server2) if each.peer is not None]
    server >> SYN_ACK(options=options) << carried
    client >> ACK << to(server) << carried
    server >> DATA << to(client) << carried
    client >> DATA << to(server) << carried


# The edges of the window, where one byte more or less makes a difference: the conversation compares what is known then

AROUND = [-2, -1, 0, 1, 2, 3]


@pytest.mark.parametrize("beyond", AROUND)
@pytest.mark.parametrize("said", [DATA(payload=b"x"), ACK, FIN, RST])
@pytest.mark.parametrize("window", [0, 1, 0x2000])
def test_what_reaches_as_far_as_the_peer_allows(talk, said, window, beyond):
    """One more than it allows is a probe, and is allowed as well."""
    client = talk.client
    client >> SYN
    [server] = [each for each in (talk.server1, talk.server2) if each.peer is not None]
    server >> SYN_ACK(window=window)
    client >> ACK << to(server) << carried
    edge = 1001 + window
    end = edge + beyond
    allowed = 1001 <= end <= edge + 1
    start = end - len(said.payload) - (said is FIN)
    client >> said(seq=start) << (carried if allowed or said in (ACK, DATA(payload=b"x")) else passed)
    client >> DATA(seq=edge, ack=5001, payload=b"xy")
    server >> ACK(ack=edge + beyond, window=7)


@pytest.mark.parametrize("before", AROUND)
@pytest.mark.parametrize("said", [FIN, RST])
def test_what_lies_before_what_the_peer_has_acknowledged(talk, said, before):
    client, server = talk.client, talk.shake_hands()
    for _ in range(3):
        client >> DATA(payload=bytes(10)) << carried
    server >> ACK << carried
    client >> said(seq=1031 - before - (said is FIN)) << (passed if before > 0 else carried)
    assert server.peer == client.place


@pytest.mark.parametrize("beyond", AROUND)
@pytest.mark.parametrize("window", [0, 5, 0x1000])
def test_what_acknowledges_as_much_as_was_sent(talk, beyond, window):
    client, server = talk.client, talk.shake_hands()
    client >> DATA(payload=bytes(10)) << carried
    for acknowledged in 1011 + beyond, 1011, 1011 + beyond:
        server >> ACK(ack=acknowledged, window=window) << carried
        client >> DATA(payload=b"") << carried


@pytest.mark.parametrize("beyond", AROUND)
def test_an_answer_to_a_syn_acknowledges_it_and_no_more(talk, beyond):
    talk.client >> SYN(payload=b"fast open")
    [server] = [each for each in (talk.server1, talk.server2) if each.peer is not None]
    for acknowledged in 1001 + beyond - 2, 1010 + beyond:
        if talk.entry().state.name == "INIT":
            right = 1001 <= acknowledged <= 1010
            server >> SYN_ACK(ack=acknowledged) << (carried if right else passed)
    if talk.entry().state.name == "INIT":
        server >> SYN_ACK << carried
    talk.client >> ACK(ack=5001 + beyond) << (carried if beyond == 0 else passed)
