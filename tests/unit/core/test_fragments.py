"""The book that is kept of datagrams in fragments. What is done with them is told in `test_engine_fragments`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.core.fragments import FRAGMENT_TIMEOUT, MOST_DATAGRAMS, MOST_HELD, Datagram, Fragments
from natlb.core.packet import Kind, PacketView
from natlb.core.verdict import DropReason
from tests.unit.core.packets import cut, datagram

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
HERE = {4: ("44.1.1.1", 40000), 6: ("fd44:1::1", 40000)}
THERE = {4: ("44.2.2.2", 8888), 6: ("fd44:2::2", 8888)}


class Book(Fragments):
    """Fragments of datagrams of 8 bytes of header and 192 of payload: 25 units of 8."""

    def __init__(self, family=4):
        super().__init__()
        self.whole = datagram(HERE[family], THERE[family], bytes(192))

    def view(self, first, last, identification=1):
        """Look at the fragment with the units from `first` up to but not including `last`."""
        view = PacketView()
        assert view.read(cut(self.whole, 8 * first, 8 * last, identification=identification)) is Kind.FRAGMENT
        return view

    def enter(self, first, last, identification=1, now=0.0):
        return self.see(self.view(first, last, identification), now)


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def book(request):
    return Book(request.param)


def test_the_fragments_of_a_datagram_are_of_one_datagram(book):
    one, other = book.enter(0, 10), book.enter(0, 10, identification=2)
    assert isinstance(one, Datagram)
    assert book.enter(10, 20) is one
    assert book.enter(10, 20, identification=2) is other is not one
    assert len(book) == 2


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0), (0, 2, 1), (2, 0, 1)], ids=str)
def test_a_datagram_is_over_when_every_byte_has_been_seen_and_none_waits(book, order):
    parts = [(0, 10), (10, 20), (20, 25)]
    for number in order:
        found = book.enter(*parts[number])
        assert not found.is_over
    book.decide(found, None)
    assert found.is_over


def test_a_datagram_that_lacks_a_piece_is_not_over(book):
    found = book.enter(0, 10)
    book.decide(found, None)
    book.enter(20, 25)
    assert not found.is_over
    book.enter(10, 15)
    assert not found.is_over
    book.enter(15, 20)
    assert found.is_over


def test_a_datagram_of_which_the_last_fragment_has_not_come_is_not_over(book):
    found = book.enter(0, 20)
    book.decide(found, None)
    assert not found.is_over


def test_a_forgotten_datagram_is_another_one_when_it_comes_again(book):
    found = book.enter(0, 10)
    book.forget(book.view(0, 10))
    assert len(book) == 0
    assert book.enter(0, 10) is not found


@pytest.mark.parametrize("again", [(10, 20), (10, 11), (12, 15), (19, 20)], ids=str)
def test_what_was_there_already_is_a_duplicate(book, again):
    found = book.enter(10, 20)
    assert book.enter(*again) is DropReason.FRAGMENT_DUPLICATE
    assert found.fate is None
    assert found.covered == [(80, 160)]


def test_a_duplicate_does_not_say_how_long_its_datagram_is(book):
    """One that pretends to be the last is a forgery or an accident."""
    found = book.enter(0, 20)
    book.decide(found, None)
    pretender = book.view(10, 20)
    pretender.more = False
    assert book.see(pretender, 0.0) is DropReason.FRAGMENT_DUPLICATE
    assert found.size is None
    assert not found.is_over
    book.enter(20, 25)
    assert found.is_over


@pytest.mark.parametrize("other", [(9, 11), (19, 21), (5, 25), (0, 20), (10, 25)], ids=str)
def test_what_overlaps_makes_the_whole_datagram_suspect(book, other):
    """RFC 5722."""
    found = book.enter(10, 20)
    assert book.enter(*other) is found
    assert found.fate is DropReason.FRAGMENT_OVERLAP


@pytest.mark.parametrize("beside", [(0, 10), (20, 25), (5, 10), (22, 24)], ids=str)
def test_what_lies_beside_is_neither(book, beside):
    found = book.enter(10, 20)
    assert book.enter(*beside) is found
    assert found.fate is None


def test_a_fragment_that_ends_past_the_largest_datagram_is_no_part_of_any():
    """Ping of death: 65535 bytes is what an IP header can say."""
    book = Book()
    part = cut(book.whole, 0, 64)
    part[6:8] = (0x1FFF).to_bytes(2, "big")
    view = PacketView()
    assert view.read(part) is Kind.FRAGMENT
    assert book.see(view, 0.0) is DropReason.BAD_HEADER
    assert len(book) == 0


def test_a_datagram_in_more_than_64_places_is_not_followed_further():
    book = Book()
    book.whole = datagram(HERE[4], THERE[4], bytes(1200))
    found = book.enter(0, 1)
    for place in range(1, 64):
        assert book.enter(2 * place, 2 * place + 1) is found
    assert book.enter(130, 131) is DropReason.FRAGMENT_LIMIT
    assert book.enter(1, 2) is found, "what closes a gap may come"


@given(st.permutations(range(25)), st.data())
def test_in_any_order_and_with_any_repetition_every_byte_is_seen_once(order, data):
    book = Book()
    seen = set()
    for unit in order:
        found = book.enter(unit, unit + 1)
        book.decide(found, None)
        seen.add(unit)
        assert found.is_over is (len(seen) == 25)
        again = data.draw(st.sampled_from(sorted(seen)))
        assert book.enter(again, again + 1) is DropReason.FRAGMENT_DUPLICATE
    assert found.covered == [(0, 200)]


# Waiting


def test_what_waits_is_handed_out_when_the_fate_is_known(book):
    found = book.enter(10, 20)
    packets = bytearray(b"one"), bytearray(b"two")
    tickets = [book.hold(found, packet) for packet in packets]
    assert len(set(tickets)) == 2
    assert book.held == 2
    waiting = book.decide(found, DropReason.MAXCONN)
    assert [ticket for ticket, _ in waiting] == tickets
    assert all(got is given for (_, got), given in zip(waiting, packets, strict=True))
    assert found.fate is DropReason.MAXCONN
    assert book.held == 0


def test_nothing_waits_for_a_fate_that_is_known(book):
    found = book.enter(0, 10)
    assert book.decide(found, None) == []
    assert book.hold(found, bytearray()) is None
    assert book.decide(found, DropReason.FRAGMENT_OVERLAP) == []


def test_no_more_wait_than_there_are_places(book):
    one, other = book.enter(10, 20), book.enter(10, 20, identification=2)
    for _ in range(MOST_HELD - 1):
        assert book.hold(one, bytearray()) is not None
    assert book.hold(other, bytearray()) is not None
    assert book.hold(one, bytearray()) is book.hold(other, bytearray()) is None
    book.decide(one, None)
    assert book.held == 1
    assert book.hold(other, bytearray()) is not None


def test_a_datagram_is_known_until_it_is_forgotten(book):
    view = book.view(10, 20)
    assert not book.knows(view)
    book.see(view, 0.0)
    assert book.knows(book.view(0, 10))
    assert not book.knows(book.view(0, 10, identification=2))
    book.forget(view)
    assert not book.knows(view)


# Limits


def test_a_datagram_is_over_some_time_after_its_first_seen_fragment(book):
    assert book.next_deadline() is None
    found = book.enter(10, 20, now=100.0)
    book.enter(0, 10, identification=2, now=101.0)
    ticket = book.hold(found, bytearray(b"waits"))
    book.enter(20, 25, now=110.0)
    assert book.next_deadline() == 100.0 + FRAGMENT_TIMEOUT
    assert list(book.expired(129.9)) == []
    assert list(book.expired(130.0)) == [[(ticket, b"waits")]]
    assert (len(book), book.held) == (1, 0)
    assert book.next_deadline() == 131.0
    assert list(book.expired(1e9)) == [[]]
    assert book.next_deadline() is None


def test_there_is_room_for_a_number_of_datagrams_and_the_oldest_gives_way():
    book = Book()
    oldest = book.enter(10, 20, identification=0)
    ticket = book.hold(oldest, bytearray())
    for number in range(1, MOST_DATAGRAMS):
        assert not book.full
        book.enter(0, 10, identification=number)
    assert book.full
    assert book.give_up() == [(ticket, b"")]
    assert not book.full
    assert book.enter(20, 25, identification=0) is not oldest
