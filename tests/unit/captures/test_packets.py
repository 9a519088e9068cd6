"""What a capture cut off is made up so that every header says what it said."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from natlb.captures.files import Record
from natlb.captures.links import RAW
from natlb.captures.packets import Captured, captured
from natlb.core.packet import PacketView
from natlb.core.verdict import DropReason
from tests.unit.core.packets import ACK, SYN, cut, datagram, icmp, ones_sum, pseudo, segment

ENDS = {
    4: (("44.1.1.1", 40000), ("44.2.2.2", 8888)),
    6: (("fd44::1", 40000), ("fd44::2", 8888)),
}


def record(packet: bytes, known: int | None = None) -> Record:
    return Record(7, 1000, RAW, bytes(packet[:known]), len(packet))


def found(packet: bytes, known: int | None = None) -> Captured:
    made = captured(record(packet, known))
    assert isinstance(made, Captured)
    return made


@pytest.mark.parametrize("version", ENDS)
def test_a_whole_packet_stays_as_it_is(version: int) -> None:
    packet = segment(*ENDS[version], SYN)
    made = found(packet)
    assert (made.packet, made.known, made.unfinished, made.number, made.at) == (packet, len(packet), False, 7, 1000)


@pytest.mark.parametrize("version", ENDS)
def test_what_the_link_has_put_behind_a_packet_is_none_of_it(version: int) -> None:
    packet = segment(*ENDS[version], SYN)
    made = found(packet + b"padding")
    assert (made.packet, made.known) == (packet, len(packet))


@given(st.sampled_from([4, 6]), st.booleans(), st.binary(max_size=80), st.data())
def test_what_is_missing_makes_the_checksum_right(version: int, tcp: bool, payload: bytes, data: st.DataObject) -> None:
    make = segment(*ENDS[version], ACK, payload=payload) if tcp else datagram(*ENDS[version], payload)
    headers = len(make) - len(payload)
    known = data.draw(st.integers(headers, len(make)))
    made = found(make, known)
    assert made.packet[:known] == make[:known]
    assert len(made.packet) == len(make)
    view = PacketView()
    view.read(made.packet)
    assert view.checksum_is_good()


@given(st.binary(max_size=30))
def test_a_wrong_checksum_of_a_whole_packet_stays_wrong(payload: bytes) -> None:
    made = found(segment(*ENDS[4], ACK, payload=payload, spoilt=True))
    view = PacketView()
    view.read(made.packet)
    assert not view.checksum_is_good()


@pytest.mark.parametrize("version", ENDS)
def test_a_packet_without_its_whole_headers_cannot_be_followed(version: int) -> None:
    packet = segment(*ENDS[version], ACK, payload=b"x" * 50, options=b"\1" * 12)
    headers = len(packet) - 50
    assert all(captured(record(packet, known)) is DropReason.TRUNCATED for known in range(1, headers))
    assert isinstance(captured(record(packet, headers)), Captured)


def test_an_error_must_quote_enough_to_be_known() -> None:
    inner = bytes(segment(*ENDS[4], ACK))
    packet = icmp("44.9.9.9", "44.1.1.1", 3, 4, bytes(4), inner)
    assert captured(record(packet, 55)) is DropReason.TRUNCATED
    made = found(packet, 56)
    view = PacketView()
    view.read(made.packet)
    assert view.checksum_is_good()


def test_fragments_need_no_checksum() -> None:
    whole = datagram(*ENDS[4], b"y" * 3000)
    first, later = cut(whole, 0, 1480), cut(whole, 1480)
    assert found(first, 40).packet[40:] == bytes(len(first) - 40)
    assert found(later, 30).packet[30:] == bytes(len(later) - 30)
    assert captured(record(later, 15)) is DropReason.TRUNCATED


@pytest.mark.parametrize("version", ENDS)
def test_a_checksum_that_was_only_begun_is_known_as_such(version: int) -> None:
    layer = IP if version == 4 else IPv6
    source, destination = ENDS[version]
    packet = bytearray(bytes(layer(src=source[0], dst=destination[0]) / TCP(flags="S")))
    view = PacketView()
    view.read(packet)
    begun = bytes(layer(src=source[0], dst=destination[0]) / TCP(chksum=0))
    at = view.transport + 16
    assert not found(bytes(packet)).unfinished
    half = ones_sum(pseudo(view.source, view.destination, len(packet) - view.transport)).to_bytes(2, "big")
    assert found(begun[:at] + half + begun[at + 2 :]).unfinished


def test_what_is_no_ip_packet_is_none() -> None:
    assert captured(Record(1, 0, 1, bytes(12) + b"\x08\x06" + bytes(28), 42)) is None


@given(st.binary(max_size=100), st.integers(0, 200))
def test_no_bytes_are_too_much(data: bytes, more: int) -> None:
    made = captured(Record(1, 0, RAW, data, len(data) + more))
    assert made is None or made is DropReason.TRUNCATED or isinstance(made, Captured)


@given(st.binary(min_size=1, max_size=6))
def test_what_a_record_claims_of_a_packet_takes_no_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        captured(Record(1, 0, RAW, data, 1 << 30))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
