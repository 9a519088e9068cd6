"""Where the packet is in a message, whatever stands before it and whatever came earlier."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.datapath import messages
from natlb.datapath.messages import LARGEST_MESSAGE, Arrival, Layouts
from tests.unit.datapath.kernel import attribute, packet_message

# What the kernel may say of a packet besides, by the kind of attribute: links, mark, hardware address, time, more.
_MORE = st.lists(
    st.sampled_from(
        [
            attribute(3, b"\0\0\0\1"),
            attribute(3, b"\0\0\0\2"),
            attribute(6, b"\0\0\0\3"),
            attribute(9, b"\0\6\0\0\2\0\0\0\0\1\0\0"),
            attribute(8, bytes(16)),
            attribute(8, bytes(range(16))),
            attribute(20, b"odd"),
        ]
    ),
    max_size=4,
).map(b"".join)
_TRICKS = [
    attribute(10, b"inside"),
    attribute(14, b"\0\0\0\3") + attribute(10, b"inside"),
    bytes(8) + struct.pack("=HH", 12, 10) + bytes(8),
    attribute(3, b"\0\0\0\1") + attribute(10, b"inside"),
]
_PAYLOADS = st.binary(min_size=1, max_size=60) | st.sampled_from(_TRICKS)


@given(
    st.lists(
        st.tuples(st.integers(0, 2**32 - 1), _PAYLOADS, st.integers(0, 7), st.integers(0, 4), _MORE, st.booleans()),
        max_size=30,
    )
)
def test_each_packet_is_found_whatever_came_before_it(arrivals: list[tuple[int, bytes, int, int, bytes, bool]]) -> None:
    layouts, buffer = Layouts(), bytearray(LARGEST_MESSAGE)
    for number, payload, info, hook, more, padded in arrivals:
        message = packet_message(number, payload, info, hook, more, padded)
        buffer[: len(message)] = message
        found = layouts.read(buffer, len(message))
        assert found is not None
        arrival = Arrival(*found)
        assert arrival.number == number.to_bytes(4, "big")
        assert buffer[arrival.start : arrival.end] == payload
        assert (arrival.hook, arrival.info) == (hook, info & 3)


def test_a_sender_cannot_say_where_its_packet_begins() -> None:
    """A packet that has at the remembered place what stands before a packet is found where it really begins."""
    layouts, buffer = Layouts(), bytearray(LARGEST_MESSAGE)
    mark = attribute(3, b"\0\0\0\1")
    longer = packet_message(1, b"x" * 40, more=mark)
    shorter = packet_message(2, attribute(10, b"y" * 28) + b"z" * 8)
    trick = longer[32 + 8 : 32 + 8 + len(mark)]
    for message, payload in (
        (longer, b"x" * 40),
        (shorter, attribute(10, b"y" * 28) + b"z" * 8),
        (packet_message(3, trick + attribute(10, b"y" * 28)), trick + attribute(10, b"y" * 28)),
        (longer, b"x" * 40),
    ):
        buffer[: len(message)] = message
        _, start, end, _, _ = layouts.read(buffer, len(message)) or pytest.fail("not found")
        assert buffer[start:end] == payload


def test_what_is_left_of_an_earlier_message_is_not_taken_for_this_one() -> None:
    layouts, buffer = Layouts(), bytearray(LARGEST_MESSAGE)
    message = packet_message(1, b"packet of some length")
    buffer[: len(message)] = message
    assert layouts.read(buffer, len(message))
    for size in range(len(message)):
        assert layouts.read(buffer, size) is None, size


@given(st.binary(max_size=80))
def test_no_bytes_whatever_are_more_than_unreadable(noise: bytes) -> None:
    layouts, buffer = Layouts(), bytearray(LARGEST_MESSAGE)
    message = packet_message(1, b"packet")
    for each in (noise, message[: len(message) - len(noise)] + noise, message[:32] + noise):
        buffer[: len(each)] = each
        found = layouts.read(buffer, len(each))
        assert found is None or Arrival(*found).end <= len(each)


def test_a_packet_without_its_bytes_is_unreadable() -> None:
    message = packet_message(1, b"")[:-4]
    assert Layouts().read(bytearray(message) + bytes(LARGEST_MESSAGE), len(message)) is None


@pytest.mark.parametrize("length", range(4))
def test_an_attribute_that_is_shorter_than_its_own_header_is_unreadable_behind_a_known_head_too(length: int) -> None:
    layouts, buffer = Layouts(), bytearray(LARGEST_MESSAGE)
    message = packet_message(1, b"packet")
    buffer[: len(message)] = message
    _, start, _, _, _ = layouts.read(buffer, len(message)) or pytest.fail("not found")
    buffer[start - 4 : start - 2] = struct.pack("=H", length)
    assert layouts.read(buffer, len(message)) is None


def test_no_more_heads_are_remembered_than_a_bounded_number() -> None:
    layouts, buffer = Layouts(), bytearray(LARGEST_MESSAGE)
    for number in range(5000):
        message = packet_message(1, b"packet", more=attribute(3, struct.pack("!I", number)))
        buffer[: len(message)] = message
        assert layouts.read(buffer, len(message))
    assert len(layouts._known) <= messages._MOST_HEADS


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (struct.pack("=IHHIIi", 36, 2, 0, 0, 0, 0) + bytes(16), 0),
        (struct.pack("=IHHIIi", 36, 2, 0, 0, 0, -95) + bytes(16), 95),
        (packet_message(1, b"packet"), None),
        (b"short", None),
    ],
)
def test_what_the_kernel_answers_is_understood(message: bytes, problem: int | None) -> None:
    assert messages.error_of(message) == problem
