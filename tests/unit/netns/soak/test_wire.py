"""Frames and datagrams: none that is altered, strange or out of turn is taken for a right one."""

import pytest

from netns.soak import wire
from netns.soak.keyed import WrongByte
from netns.soak.wire import Frame

FRAME = Frame(connection=7, turn=2, up=1_000, down=2_000_000, quiet=1.5, flags=wire.LAST, end=1)


def test_a_frame_comes_back_as_it_was() -> None:
    assert len(FRAME.pack()) == Frame.SIZE
    assert Frame.unpack(FRAME.pack(), 7, 2) == FRAME
    assert Frame.unpack(FRAME.pack(), None, 2) == FRAME


def test_no_bit_of_a_frame_can_be_altered() -> None:
    octets = FRAME.pack()
    for bit in range(8 * len(octets)):
        altered = bytearray(octets)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WrongByte):
            Frame.unpack(bytes(altered), 7, 2)


@pytest.mark.parametrize(("connection", "turn"), [(8, 2), (7, 1), (7, 3)])
def test_a_frame_of_another_connection_or_turn_is_wrong(connection: int, turn: int) -> None:
    with pytest.raises(WrongByte, match=r"of connection 7, turn 2, and should be"):
        Frame.unpack(FRAME.pack(), connection, turn)


@pytest.mark.parametrize("size", [16, 17, 1_400, 9_000])
def test_a_datagram_is_as_long_as_it_is_to_be_and_tells_whose_it_is(size: int) -> None:
    question, answer = wire.question(44, 5, 9, size), wire.answer(44, 5, 9, size)
    assert len(question) == len(answer) == size
    assert wire.read_question(44, question) == (5, 9)
    assert wire.read_answer(44, answer) == (5, 9)


@pytest.mark.parametrize("size", [16, 100])
def test_a_datagram_that_comes_back_unanswered_or_altered_is_wrong(size: int) -> None:
    question = wire.question(44, 5, 9, size)
    with pytest.raises(WrongByte):
        wire.read_answer(44, question)
    with pytest.raises(WrongByte):
        wire.read_question(44, question[:15])
    if size > wire.LEAST:
        for position in range(4, size):
            with pytest.raises(WrongByte):
                wire.read_question(44, question[:position] + bytes([question[position] ^ 1]) + question[position + 1 :])
