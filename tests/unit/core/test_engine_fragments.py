"""Fragments through the engine: the first one of a datagram decides for all, whenever it comes."""

from itertools import permutations

import pytest
from scapy.layers.inet import IP, defragment
from scapy.layers.inet6 import defragment6

from natlb.core import fragments
from natlb.core.fragments import FRAGMENT_TIMEOUT
from natlb.core.service import Timeouts
from natlb.core.states import State
from natlb.core.verdict import DropReason
from tests.unit.core import oracle
from tests.unit.core.conversation import (
    ACK,
    DATA,
    DATAGRAM,
    FIN,
    OTHER_VIP,
    RST,
    SYN,
    Conversation,
    dropped,
    held,
    reset,
    to,
    unreachable,
    untouched,
)

LONG = DATAGRAM(payload=bytes(range(200)))
NATS = pytest.mark.parametrize("ranges", [None, [(1024, 65535)]], ids=["dnat", "full nat"])


def seen(talk):
    """Return how a server sees the client: None for as it is."""
    return None if talk.sources is None else (talk.snat, talk.client.place[1])


# Whole


@NATS
def test_fragments_are_translated_one_by_one(start, ranges):
    talk = start(ranges=ranges)
    client, server1 = talk.client, talk.server1
    for part in client.cut(LONG, 64, 128):
        client >> part << to(server1, seen_as=seen(talk))
    for part in server1.cut(LONG, 8, 16, 24):
        server1 >> part << to(client)
    assert talk.entry().state is State.BOTH_WAYS


@NATS
def test_what_is_put_together_again_is_the_datagram_as_if_it_had_never_been_cut(start, ranges):
    """With a right checksum, though no fragment could have been judged by it."""
    talk = start(ranges=ranges)
    client, server1 = talk.client, talk.server1
    came = [oracle.parsed((client >> part).buffer) for part in client.cut(LONG, 64, 128)]
    whole = defragment(came)[0] if talk.family == 4 else defragment6(came)
    received = bytearray(bytes(whole))
    if talk.family == 4:
        assert IP(bytes(received)).frag == 0
    assert oracle.sound(received)
    assert received.endswith(LONG.payload)
    assert oracle.parsed(received)["UDP"].dport == server1.place[1]


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=lambda order: "".join(map(str, order)))
def test_in_whatever_order_they_come_all_reach_the_same_server(start, order):
    """What comes before the first one waits for it."""
    talk = start()
    client, server1 = talk.client, talk.server1
    parts = client.cut(LONG, 64, 128, 192)
    waiting = []
    for number in order:
        outcome = client >> parts[number]
        if number == 0:
            outcome << to(server1)
            for before in waiting:
                before << to(server1)
        elif order.index(number) < order.index(0):
            outcome << held
            waiting.append(outcome)
        else:
            outcome << to(server1)
    assert talk.engine.fragments.held == len(talk.engine.fragments) == 0


def counted(talk, service):
    """Return the packets and the bytes that the statistics have of a service's first server, to it and from it."""
    service.settle()
    counters = talk.configured(talk.server1).counters
    return [(counters.packets_in, counters.octets_in), (counters.packets_out, counters.octets_out)]


@NATS
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (2, 1, 0)], ids=str)
def test_each_fragment_counts_as_a_packet_of_its_connection(start, ranges, order):
    """With all of its bytes, also if it has waited for the first."""
    talk = start(ranges=ranges)
    client, server1 = talk.client, talk.server1
    client >> DATAGRAM
    for host, at in ((client, (64, 128)), (server1, (8, 16))):
        parts = host.cut(LONG, *at)
        for number in order:
            host >> parts[number]
    assert talk.carried() == [(4, 1 + 200), (3, 200)] == counted(talk, talk.udp)


def test_each_fragment_of_a_segment_counts_likewise_whatever_was_sent_before(talk):
    server1 = talk.shake_hands()
    before = talk.carried()
    for host, other in ((talk.client, server1), (server1, talk.client)):
        for _ in range(3):
            first, second, third = host.cut(DATA(payload=bytes(1000)), 24, 512)
            waiting = host >> third
            host >> first << to(other)
            waiting << to(other)
            host >> second << to(other)
    grown = [(now[0] - then[0], now[1] - then[1]) for now, then in zip(talk.carried(), before, strict=True)]
    assert grown == [(9, 3000), (9, 3000)]
    assert talk.carried() == counted(talk, talk.service)


def test_where_datagrams_are_counted_a_datagram_in_fragments_is_one(start):
    """Or a question in two fragments would be two, and the second the first of another flow."""
    talk = start(requests=2)
    for _ in range(2):
        for part in talk.client.cut(LONG, 64, 128):
            talk.client >> part << to(talk.server1)
    assert talk.carried()[0] == (2, 400)
    talk.client >> DATAGRAM << to(talk.server2)


def test_what_comes_after_its_connection_has_ended_counts_for_nobody_else(start):
    """The row of the one is the other's by then."""
    talk = start()
    first, second = talk.client.cut(LONG, 64)
    talk.client >> first << to(talk.server1)
    row = talk.entry().index
    talk.engine.shutdown(talk.entry(), talk.now)
    other = talk.client.at(1002)
    talk.engine.table.ledger._free.rotate(1)  # the row that was given back last is the next
    other >> DATAGRAM << to(talk.server2)
    assert talk.entry(other).index == row
    talk.client >> second << to(talk.server1)
    assert talk.carried(other) == [(1, 1), (0, 0)]
    assert counted(talk, talk.udp)[0] == (2, 200), "but for its server, to which it went"


def test_options_and_extension_headers_are_carried_in_every_fragment(talk):
    said = LONG(ip_options=b"\x01\x01\x01\x00", extensions=(0, 43))
    for part in talk.client.cut(said, 64, 128):
        talk.client >> part << to(talk.server1)


def test_a_datagram_without_a_checksum_is_carried_without_one():
    talk = Conversation(4)
    for part in talk.client.cut(LONG(checksum=0), 64):
        talk.client >> part << to(talk.server1)


def test_whether_a_datagram_in_fragments_is_damaged_is_for_its_receiver_to_say(talk):
    said = LONG(spoilt=True)
    came = [(talk.client >> part).buffer for part in talk.client.cut(said, 64)]
    whole = [oracle.parsed(part) for part in came]
    together = defragment(whole)[0] if talk.family == 4 else defragment6(whole)
    assert not oracle.sound(bytearray(bytes(together)))


# TCP


@NATS
def test_segments_in_fragments_are_carried_from_syn_to_fin(start, ranges):
    talk = start(ranges=ranges)
    client, server1 = talk.client, talk.server1
    for part in client.cut(SYN(payload=b"fast open, in fragments"), 32):
        client >> part << to(server1, seen_as=seen(talk))
    talk.shake_hands()
    for host, other, seen_as in ((client, server1, seen(talk)), (server1, client, None)):
        for part in host.cut(DATA(payload=bytes(1000)), 24, 512):
            host >> part << to(other, seen_as=seen_as)
        for part in host.cut(FIN(payload=bytes(1000)), 512):
            host >> part << to(other, seen_as=seen_as)
    assert talk.entry().state is State.BOTH_FIN


@pytest.mark.parametrize("ending", [FIN, RST], ids=["fin", "rst"])
@pytest.mark.parametrize("speaker", ["client", "server"])
def test_how_far_a_segment_in_fragments_has_reached_is_not_held_against_those_that_follow(talk, speaker, ending):
    """The first fragment does not say how long its segment is: what acknowledges all of it is genuine nevertheless."""
    server1 = talk.shake_hands()
    host, other = (talk.client, server1) if speaker == "client" else (server1, talk.client)
    for _ in range(20):
        for part in host.cut(DATA(payload=bytes(1400)), 512, 1024):
            host >> part << to(other)
        other >> ACK << to(host)
    host >> ending << to(other)
    assert talk.entry().state is (State.TRANS if ending is RST else State[f"{speaker.upper()}_FIN"])


def test_a_stray_segment_in_fragments_is_answered_with_a_reset_and_the_rest_is_dropped(talk):
    first, second, third = talk.client.cut(DATA(payload=bytes(200)), 64, 128)
    waiting = talk.client >> third << held
    talk.client >> first << reset
    waiting << dropped(DropReason.NO_CONNECTION)
    talk.client >> second << dropped(DropReason.NO_CONNECTION)


# What becomes of the first becomes of all


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_fragments_to_anybody_else_pass_untouched_and_wait_no_longer_than_those_of_ours(talk, protocol):
    stranger = talk.client.asking(OTHER_VIP[talk.family])
    first, second, third = stranger.cut(LONG if protocol == "udp" else SYN(payload=bytes(200)), 64, 128)
    waiting = stranger >> third << held
    stranger >> first << untouched
    waiting << untouched
    stranger >> second << untouched


def test_without_a_usable_server_the_first_is_answered_and_the_rest_is_dropped(talk):
    talk.udp.pool = None
    first, second, third = talk.client.cut(LONG, 64, 128)
    waiting = talk.client >> third << held
    talk.client >> first << unreachable
    waiting << dropped(DropReason.NO_CONNECTION)
    talk.client >> second << dropped(DropReason.NO_CONNECTION)


def test_if_the_first_is_dropped_all_are(start):
    talk = start(service_max_connections=0)
    first, second, third = talk.client.cut(LONG, 64, 128)
    waiting = talk.client >> third << held
    talk.client >> first << dropped(DropReason.MAXCONN)
    waiting << dropped(DropReason.MAXCONN)
    talk.client >> second << dropped(DropReason.MAXCONN)


def test_a_flow_that_ends_with_the_first_fragment_is_carried_to_the_last(start):
    talk = start(responses=0, ranges=[(1024, 65535)])
    first, second = talk.client.cut(LONG, 64)
    talk.client >> first << to(talk.server1, seen_as=(talk.snat, 40000))
    assert len(talk.engine) == 0
    talk.client >> second << to(talk.server1, seen_as=(talk.snat, 40000))


def test_a_datagram_stays_with_its_server_even_if_the_flow_does_not(talk):
    first, second = talk.client.cut(LONG, 64)
    talk.client >> first << to(talk.server1)
    talk.pool.set_health(talk.configured(talk.server1), False, talk.now)
    talk.client >> DATAGRAM << to(talk.server2)
    talk.client >> second << to(talk.server1)


def test_several_datagrams_may_come_at_once_and_mixed_up(talk):
    hosts = [talk.client.at(port) for port in range(1000, 1004)]
    cut = [host.cut(LONG, 64, identification=number) for number, host in enumerate(hosts)]
    waiting = [host >> second << held for host, (_, second) in zip(hosts, cut, strict=True)]
    for number in (2, 0, 3, 1):
        hosts[number] >> cut[number][0] << to((talk.server1, talk.server2)[[2, 0, 3, 1].index(number) % 2])
        waiting[number] << to((talk.server1, talk.server2)[[2, 0, 3, 1].index(number) % 2])


# What must not pass


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_fragment_that_comes_twice_passes_once(talk, which):
    parts = talk.client.cut(LONG, 64, 128)
    for part in (parts[0], parts[which]) if which else parts[:1]:
        talk.client >> part << to(talk.server1)
    talk.client >> parts[which] << dropped(DropReason.FRAGMENT_DUPLICATE)
    for part in parts[1:]:
        if part is not parts[which]:
            talk.client >> part << to(talk.server1)


def test_a_fragment_that_waits_waits_once(talk):
    first, second = talk.client.cut(LONG, 64)
    waiting = talk.client >> second << held
    talk.client >> second << dropped(DropReason.FRAGMENT_DUPLICATE)
    talk.client >> first << to(talk.server1)
    waiting << to(talk.server1)


def test_a_datagram_whose_fragments_overlap_is_given_up(talk):
    """RFC 5722, and RFC 1858 for why."""
    first, second, third = talk.client.cut(LONG, 64, 128)
    talk.client >> first << to(talk.server1)
    talk.client >> second(first=56) << dropped(DropReason.FRAGMENT_OVERLAP)
    talk.client >> third << dropped(DropReason.FRAGMENT_OVERLAP)


def test_an_overlap_drops_what_waits(talk):
    first, second, third = talk.client.cut(LONG, 64, 128)
    waiting = talk.client >> third << held
    talk.client >> second(last=136) << dropped(DropReason.FRAGMENT_OVERLAP)
    waiting << dropped(DropReason.FRAGMENT_OVERLAP)
    talk.client >> first << dropped(DropReason.FRAGMENT_OVERLAP)
    assert len(talk.engine) == 0, "and opens no flow"


def test_a_first_fragment_that_overlaps_what_waits_opens_no_flow(talk):
    """It could show one port to the balancer and another to the server."""
    first, second = talk.client.cut(LONG, 64)
    waiting = talk.client >> second << held
    talk.client >> first(last=72) << dropped(DropReason.FRAGMENT_OVERLAP)
    waiting << dropped(DropReason.FRAGMENT_OVERLAP)
    assert len(talk.engine) == 0


def test_a_tiny_first_fragment_is_dropped_and_the_others_wait_in_vain(talk):
    """RFC 1858: a first fragment without the flags of TCP is made to pass a filter."""
    tiny, second = talk.client.cut(SYN(payload=bytes(100)), 16)
    waiting = talk.client >> second << held
    talk.client >> tiny << dropped(DropReason.FRAGMENT_TINY)
    talk.wait(FRAGMENT_TIMEOUT)
    waiting << dropped(DropReason.FRAGMENT_TIMEOUT)
    assert len(talk.engine) == 0


def test_a_fragment_past_the_largest_datagram_is_dropped():
    talk = Conversation(4)
    _, part = talk.client.cut(LONG, 64)
    packet = part.packet(talk.client)
    packet[6:8] = (0x1FFF).to_bytes(2, "big")
    talk.carry(part, packet) << dropped(DropReason.BAD_HEADER)


@pytest.mark.parametrize("flags", [0x00, 0x03])
def test_a_scan_in_fragments_opens_nothing(talk, flags):
    first, second = talk.client.cut(SYN(flags=flags, payload=bytes(100)), 64)
    talk.client >> first << dropped(DropReason.BAD_FLAGS)
    talk.client >> second << dropped(DropReason.BAD_FLAGS)


# Time


def test_what_waits_in_vain_is_dropped_in_the_end(talk):
    _, second, third = talk.client.cut(LONG, 64, 128)
    waiting = [talk.client >> part << held for part in (third, second)]
    assert talk.engine.next_timeout() == talk.now + FRAGMENT_TIMEOUT
    talk.wait(FRAGMENT_TIMEOUT - 0.001)
    waiting[0] << held
    talk.wait(0.001)
    for each in waiting:
        each << dropped(DropReason.FRAGMENT_TIMEOUT)
    assert talk.engine.next_timeout() is None


def test_the_first_fragment_after_that_begins_a_datagram_that_lacks_something(talk):
    first, second = talk.client.cut(LONG, 64)
    waiting = talk.client >> second << held
    talk.wait(FRAGMENT_TIMEOUT)
    waiting << dropped(DropReason.FRAGMENT_TIMEOUT)
    talk.client >> first << to(talk.server1)


def test_the_next_timeout_is_the_earliest_of_connections_and_fragments(start):
    talk = start(timeouts=Timeouts(one_way=8))
    first, _ = talk.client.cut(LONG, 64)
    talk.client >> first << to(talk.server1)
    assert talk.engine.next_timeout() == talk.now + 9
    talk.wait(9)
    assert len(talk.engine) == 0
    assert talk.engine.next_timeout() == talk.now + FRAGMENT_TIMEOUT - 9


def test_an_identification_is_used_again_as_soon_as_its_datagram_has_passed(talk):
    """Over IPv4 there are 65,536: at a gigabit a second they go round in less than a second."""
    for _ in range(3):
        for part in talk.client.cut(LONG, 64, 128):
            talk.client >> part << to(talk.server1)
    first, second = talk.client.cut(LONG, 64)
    for _ in range(3):
        waiting = talk.client >> second << held
        talk.client >> first << to(talk.server1)
        waiting << to(talk.server1)
    assert len(talk.engine.fragments) == 0


def test_an_identification_is_used_again_likewise_behind_extension_headers_that_are_cut_too():
    """Over IPv6 some of them belong to what is cut, and count as bytes of it."""
    talk = Conversation(6)
    said = LONG(extensions=(0, 60, 60))
    for _ in range(3):
        for part in talk.client.cut(said, 64, 128):
            talk.client >> part << to(talk.server1)
    assert len(talk.engine.fragments) == 0


def test_an_identification_whose_datagram_lacks_something_is_used_again_when_its_time_is_over(talk):
    first, second = talk.client.cut(LONG, 64)
    talk.client >> first << to(talk.server1)
    talk.client >> first << dropped(DropReason.FRAGMENT_DUPLICATE)
    talk.wait(FRAGMENT_TIMEOUT)
    talk.client >> first << to(talk.server1)
    talk.client >> second << to(talk.server1)


# Bounds


def test_the_datagram_that_is_known_longest_gives_way_when_there_are_too_many(talk, monkeypatch):
    monkeypatch.setattr(fragments, "MOST_DATAGRAMS", 3)
    client = talk.client
    cut = [client.cut(LONG, 64, identification=number) for number in range(4)]
    waiting = [client >> second << held for _, second in cut[:3]]
    client >> cut[3][0] << to(talk.server1)
    waiting[0] << dropped(DropReason.FRAGMENT_LIMIT)
    client >> cut[3][1] << to(talk.server1)
    for number in (1, 2):
        client >> cut[number][0] << to(talk.server1)
        waiting[number] << to(talk.server1)


def test_no_datagram_gives_way_to_itself(talk, monkeypatch):
    """A fragment of a datagram that is known needs no room."""
    monkeypatch.setattr(fragments, "MOST_DATAGRAMS", 3)
    client = talk.client
    cut = [client.cut(LONG, 64, identification=number) for number in range(3)]
    waiting = [client >> second << held for _, second in cut]
    for number in range(3):
        client >> cut[number][0] << to(talk.server1)
        waiting[number] << to(talk.server1)


def test_no_more_fragments_wait_than_there_are_places(talk, monkeypatch):
    monkeypatch.setattr(fragments, "MOST_HELD", 2)
    client = talk.client
    first, second, third, fourth = client.cut(LONG, 64, 128, 192)
    waiting = [client >> part << held for part in (second, third)]
    client >> fourth << dropped(DropReason.FRAGMENT_LIMIT)
    client >> first << to(talk.server1)
    for each in waiting:
        each << to(talk.server1)


def test_a_flood_of_fragments_leaves_whole_packets_alone(talk, monkeypatch):
    monkeypatch.setattr(fragments, "MOST_DATAGRAMS", 3)
    monkeypatch.setattr(fragments, "MOST_HELD", 2)
    server1 = talk.shake_hands()
    for number in range(50):
        _, part = talk.client.at(1000 + number).cut(LONG, 64, identification=number)
        talk.client.at(1000 + number) >> part
    talk.client >> DATA << to(server1)
    talk.client.at(1) >> DATAGRAM << to(talk.server2)
    assert len(talk.engine.fragments) <= 3
    assert talk.engine.fragments.held <= 2
