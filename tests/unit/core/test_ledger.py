import pytest

from natlb.core.flow import Connection, Direction
from natlb.core.ledger import Ledger
from natlb.core.states import State

PAIRS = ("packets", "octets", "following", "acked", "edge", "offered", "shift")
SINGLES = ("opened", "refresh_at")


@pytest.fixture
def ledger():
    return Ledger()


def connection(index):
    made = Connection(b"o", b"r", (), None, None, State.INIT)
    made.index = index
    return made


def test_a_ledger_takes_no_room_before_it_is_used(ledger):
    assert ledger.size == 0
    assert [len(getattr(ledger, name)) for name in PAIRS + SINGLES] == [0] * 9


def test_rows_are_lent_from_the_lowest_on(ledger):
    assert [ledger.lend(0.0) for _ in range(2000)] == list(range(2000))


def test_there_are_two_numbers_to_a_row_of_what_has_a_direction_and_one_of_what_has_none(ledger):
    for _ in range(1500):
        ledger.lend(0.0)
    assert ledger.size >= 1500
    assert {len(getattr(ledger, name)) for name in PAIRS} == {2 * ledger.size}
    assert {len(getattr(ledger, name)) for name in SINGLES} == {ledger.size}


def test_a_row_that_was_given_back_is_lent_again_and_the_ledger_does_not_grow(ledger):
    rows = [ledger.lend(0.0) for _ in range(1024)]
    size = ledger.size
    for row in rows[100:200]:
        ledger.give_back(row)
    assert {ledger.lend(0.0) for _ in range(100)} == set(rows[100:200])
    assert ledger.size == size


@pytest.mark.parametrize("name", PAIRS)
def test_a_row_that_is_lent_again_remembers_nothing(ledger, name):
    row = ledger.lend(1.0)
    others = [ledger.lend(2.0) for _ in range(1023)]
    pair = getattr(ledger, name)
    pair[2 * row], pair[2 * row + 1] = 7, 8
    ledger.give_back(row)
    assert list(pair[2 * row : 2 * row + 2]) == [7, 8], "until it is lent again"
    assert row not in others
    assert ledger.lend(5.0) == row
    assert list(pair[2 * row : 2 * row + 2]) == [0, 0]
    assert ledger.opened[row] == 5.0


def test_growing_keeps_what_was_written(ledger):
    rows = [ledger.lend(float(number)) for number in range(1024)]
    for row in rows:
        ledger.octets[2 * row] = row
    assert ledger.lend(0.0) == 1024
    assert list(ledger.octets[: 2 * 1024 : 2]) == rows
    assert list(ledger.opened[:1024]) == [float(row) for row in rows]


def test_what_is_recorded_is_recorded_in_one_direction_of_one_row(ledger):
    one, other = connection(ledger.lend(0.0)), connection(ledger.lend(0.0))
    ledger.record(one, Direction.ORIGINAL, 100)
    ledger.record(one, Direction.REPLY, 3)
    ledger.record(one, Direction.REPLY, 4)
    ledger.record(other, Direction.ORIGINAL, 0)
    assert list(ledger.packets[:4]) == [1, 2, 1, 0]
    assert list(ledger.octets[:4]) == [100, 7, 0, 0]


def test_a_connection_may_carry_more_than_four_gigabytes(ledger):
    one = connection(ledger.lend(0.0))
    for _ in range(3):
        ledger.record(one, Direction.REPLY, 2**33)
    assert ledger.octets[1] == 3 * 2**33


def test_sequence_numbers_take_32_bits_and_scales_eight():
    ledger = Ledger()
    assert {getattr(ledger, name).itemsize for name in ("following", "acked", "edge")} == {4}
    assert ledger.shift.itemsize == 1


@pytest.mark.parametrize("name", (*PAIRS, "opened", "answered", "asked", "retries", "refresh_at"))
def test_rows_that_memory_was_too_short_for_are_made_the_next_time(ledger, name):
    class Short:
        itemsize = 1

        def __len__(self):
            return 0

        def frombytes(self, data):
            raise MemoryError

    whole = getattr(ledger, name)
    setattr(ledger, name, Short())
    with pytest.raises(MemoryError):
        ledger.lend(0.0)
    setattr(ledger, name, whole)
    assert [ledger.lend(0.0) for _ in range(1500)] == list(range(1500))
    assert {len(getattr(ledger, name)) for name in PAIRS} == {2 * ledger.size}
    assert {len(getattr(ledger, name)) for name in SINGLES} == {ledger.size}
