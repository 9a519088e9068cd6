"""Checksums that the kernel has only begun: after the rewriting they are the beginnings of the right ones.

What is right is said twice: a packet with the same content whose checksum is finished is rewritten beside it, and must
come out the same once that of the other is finished too; and `packets` sums as RFC 1071 is written.
"""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.core.flow import Direction, FullTranslation, Translation
from natlb.core.packet import PacketView
from natlb.core.statistics import Account
from natlb.core.verdict import Drop, Reply, Rewrite
from tests.unit.core import packets as p
from tests.unit.core.conversation import ACK, DATA, DATAGRAM, FIN, RST, SYN, SYN_ACK, Conversation, reset

AT = {p.TCP: 16, p.UDP: 6}

families = st.sampled_from([4, 6])
numbers = st.integers(0, 65535)
payloads = st.binary(max_size=70) | st.sampled_from([b"\0" * 8, b"\xff" * 9, b"\xff\xff"])


@st.composite
def endpoints(draw: st.DrawFn, family: int) -> tuple[str, int]:
    size = 4 if family == 4 else 16
    octets = draw(st.binary(min_size=size, max_size=size) | st.sampled_from([b"\xff" * size, b"\0" * size]))
    return str(ip_address(octets)), draw(numbers)


def begun(packet: bytes) -> bytearray:
    """Return the packet with its checksum unfinished."""
    copy = bytearray(packet)
    protocol, start = p.transport(copy)
    addresses = copy[12:20] if copy[0] >> 4 == 4 else copy[8:40]
    half = len(addresses) // 2
    sum_of_it = p.ones_sum(p.pseudo(bytes(addresses[:half]), bytes(addresses[half:]), len(copy) - start, protocol))
    copy[start + AT[protocol] : start + AT[protocol] + 2] = sum_of_it.to_bytes(2, "big")
    return copy


def finished(packet: bytes) -> bytes:
    copy = bytearray(packet)
    view = PacketView()
    view.read(copy)
    view.finish_checksum()
    return bytes(copy)


def as_key(place: tuple[str, int]) -> tuple[bytes, bytes]:
    return p.packed(place[0]), place[1].to_bytes(2, "big")


def flow_key(source: tuple[str, int], destination: tuple[str, int], protocol: int) -> bytes:
    return p.packed(source[0]) + p.packed(destination[0]) + p.ports(source, destination) + bytes((protocol,))


@given(
    st.data(), families, st.sampled_from([p.TCP, p.UDP]), payloads, st.sampled_from(["source", "destination", "both"])
)
def test_rewriting_an_unfinished_checksum_and_finishing_it_is_rewriting_the_finished_one(
    data: st.DataObject, family: int, protocol: int, payload: bytes, what: str
) -> None:
    source, destination, new_source, new_destination = (data.draw(endpoints(family)) for _ in range(4))
    make = p.segment if protocol == p.TCP else p.datagram
    extra = {"flags": p.ACK} if protocol == p.TCP else {}
    whole = make(source, destination, payload=payload, **extra)
    if what == "both":
        old, new = flow_key(source, destination, protocol), flow_key(new_source, new_destination, protocol)
        translation = FullTranslation(old, new, Account())
        expected = make(new_source, new_destination, payload=payload, **extra)
    elif what == "source":
        translation = Translation(Direction.REPLY, as_key(source), as_key(new_source), Account())
        expected = make(new_source, destination, payload=payload, **extra)
    else:
        translation = Translation(Direction.ORIGINAL, as_key(destination), as_key(new_destination), Account())
        expected = make(source, new_destination, payload=payload, **extra)
    start = p.transport(whole)[1]
    packet = begun(whole)

    translation.apply_unfinished(packet, start, start + AT[protocol])

    # 0 and 0xFFFF are the same number; which of them the IPv4 header gets is tried elsewhere, and so is left out here.
    assert transport_of(packet) == transport_of(begun(expected))
    assert transport_of(finished(packet)) == transport_of(expected)
    assert addresses_of(packet) == addresses_of(expected)


def transport_of(packet: bytes) -> bytes:
    return bytes(packet[p.transport(packet)[1] :])


def addresses_of(packet: bytes) -> bytes:
    return bytes(packet[12:20] if packet[0] >> 4 == 4 else packet[8:40])


@given(st.data(), families, st.sampled_from([p.TCP, p.UDP]), payloads)
def test_a_checksum_is_known_for_begun_and_for_finished(
    data: st.DataObject, family: int, protocol: int, payload: bytes
) -> None:
    source, destination = data.draw(endpoints(family)), data.draw(endpoints(family))
    make = p.segment if protocol == p.TCP else p.datagram
    whole = make(source, destination, payload=payload, **({"flags": p.ACK} if protocol == p.TCP else {}))
    view = PacketView()
    view.read(begun(whole))
    assert view.checksum_is_begun
    view.read(bytearray(whole))
    assert view.checksum_is_begun == (begun(whole) == whole)
    assert finished(begun(whole)) == whole


class Twins:
    """Two conversations alike: to one engine each packet comes finished, to the other unfinished."""

    def __init__(self, talk: Conversation, twin: Conversation) -> None:
        self.talk, self.twin = talk, twin

    def say(self, host, what):
        outcome = host >> what
        other = begun(outcome.sent)
        verdict = self.twin.engine.handle_packet(other, self.talk.now, unfinished=True)
        assert type(verdict) is type(outcome.verdict)
        if isinstance(verdict, Rewrite):
            assert finished(other) == bytes(outcome.buffer)
            assert other == begun(outcome.buffer), "it is left unfinished"
        elif isinstance(verdict, Drop):
            assert verdict == outcome.verdict
        else:
            assert isinstance(verdict, Reply)
            assert verdict == outcome.verdict
        return outcome


@pytest.fixture(params=[None, [(1024, 65535)]], ids=["DNAT", "full NAT"])
def twins(start, request):
    return Twins(*(start(ranges=request.param) for _ in range(2)))


def test_a_connection_is_led_the_same_way_from_syn_to_fin(twins):
    client, server = twins.talk.client, twins.talk.server1
    for host, what in (
        (client, SYN),
        (client, SYN),
        (server, SYN_ACK),
        (client, ACK),
        (client, DATA),
        (server, DATA(payload=b"x" * 64_000)),
        (server, FIN(payload=b"the last")),
        (client, FIN),
        (client, SYN(seq=90_000)),
    ):
        twins.say(host, what)
    assert twins.talk.news() == twins.twin.news()


def test_so_are_datagrams(twins):
    for _ in range(3):
        twins.say(twins.talk.client, DATAGRAM)
        twins.say(twins.talk.server1, DATAGRAM(payload=b"an answer"))


def test_what_has_no_connection_is_refused_the_same_way(twins):
    twins.say(twins.talk.client, DATA) << reset
    twins.say(twins.talk.client, RST)


def test_the_largest_segment_is_lowered_without_a_trace_in_the_checksum(twins):
    for talk in (twins.talk, twins.twin):
        talk.engine.largest_packet = 65531
    for padding in range(4):
        options = b"\x01" * padding + b"\x02\x04\xff\xff" + b"\x00" * (-padding % 4)
        outcome = twins.say(twins.talk.client.at(5000 + padding), SYN(options=options))
        assert b"\x02\x04\xff\xff" not in outcome.buffer


def test_what_is_finished_after_what_was_not_is_judged_again(talk):
    """Whether a checksum is unfinished is said of each packet."""
    assert isinstance(talk.engine.handle_packet(begun(SYN.packet(talk.client)), talk.now, unfinished=True), Rewrite)
    assert isinstance(talk.engine.handle_packet(begun(SYN.packet(talk.client.at(1))), talk.now), Drop)
