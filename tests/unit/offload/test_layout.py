"""What stands in the maps is what the program takes it for."""

from struct import pack

import pytest

from natlb.core.flow import Direction, flow_key
from natlb.core.states import State
from natlb.errors import OffloadError
from natlb.offload import layout, libbpf
from natlb.offload.program import OBJECT

CLIENT, VIP, SERVER, SNAT = (
    {4: (bytes((44, n, n, n)), bytes((n, 99))), 6: (bytes((0xFD, *range(n, n + 15))), bytes((n, 99)))}
    for n in range(1, 5)
)


@pytest.fixture(scope="module")
def facts() -> bytes:
    opened = libbpf.Object(OBJECT)
    yield opened.constants(".rodata")
    opened.close()


def test_the_program_agrees(facts):
    layout.check(facts)


@pytest.mark.parametrize("at", range(len(layout.FACTS)))
def test_a_program_that_differs_in_anything_is_refused(facts, at):
    other = facts[: 4 * at] + pack("=I", layout.FACTS[at] + 1) + facts[4 * at + 4 :]
    with pytest.raises(OffloadError, match="reinstall natlb"):
        layout.check(other)


def test_a_program_that_says_too_little_is_refused(facts):
    with pytest.raises(OffloadError, match="reinstall natlb"):
        layout.check(facts[:-4])


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [6, 17])
def test_a_tuple_comes_back_as_it_was(version, protocol):
    key = flow_key(CLIENT[version], VIP[version], protocol)
    packed = layout.packed_key(key)
    assert len(packed) == layout.KEY.size
    assert layout.unpacked_key(packed) == key


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [6, 17])
def test_packets_of_either_tuple_become_the_reverse_of_the_other(version, protocol):
    original = flow_key(CLIENT[version], VIP[version], protocol)
    reply = flow_key(SERVER[version], SNAT[version], protocol)
    keys, flows = layout.packed_flows(original, reply, 7, 8)
    assert keys == layout.packed_key(original) + layout.packed_key(reply)
    first, second = flows[: layout.FLOW.size], flows[layout.FLOW.size :]
    there, back = layout.packed_key(original), layout.packed_key(reply)
    assert (layout.key_of_answers(there, first), layout.key_of_answers(back, second)) == (back, there)
    assert layout.FLOW.unpack(first)[-3:] == (7, 8, Direction.ORIGINAL)
    assert layout.FLOW.unpack(second)[-3:] == (7, 8, Direction.REPLY)


def test_every_state_that_a_connection_can_have_there_has_a_number_of_its_own():
    assert len(set(layout.STATES)) == len(layout.STATES) == len(layout.NUMBERS)
    assert not {State.ABORTED, State.SHUT, State.ONE_WAY} & set(layout.STATES)


def test_the_words_that_are_compared_are_the_counters_of_packets():
    row = layout.CONNECTION.pack(0, 0, 11, *[0] * 7, 22, *[0] * 9, bytes(8), *[0] * 8)
    words = memoryview(row).cast("Q")
    assert len(words) == layout.WORDS
    assert [words[at] for at in layout.PACKETS_AT] == [11, 22]
