"""Which numbers are believed. The segments are made by hand: nothing in here opens a connection of the engine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.core.flow import Connection, Direction
from natlb.core.ledger import Ledger
from natlb.core.packet import PacketView
from natlb.core.states import State
from natlb.core.window import Said, Window
from tests.unit.core.packets import ACK, FIN, RST, SYN, segment

CLIENT, SERVER = Direction.ORIGINAL, Direction.REPLY
MSS = b"\x02\x04\x05\xb4"

WRAP = 2**32


def scale(shift):
    """Return the window scale option of RFC 7323 between options that have to be stepped over."""
    return MSS + b"\x01\x03\x03" + bytes((shift,))


class Ends:
    """Two ends of a connection and the window between them."""

    def __init__(self, client_starts=1000, server_starts=5000):
        self.ledger = Ledger()
        self.window = Window(self.ledger)
        self.connection = Connection(b"o", b"r", (), None, None, State.INIT)
        self.ledger.lend(0.0)
        self.connection.index = self.ledger.lend(0.0)
        self.starts = client_starts, server_starts

    def view(self, side, flags, seq, ack, **fields):
        """Look at a segment whose numbers count from the start of each side: 1 is the first byte."""
        mine, other = self.starts if side is CLIENT else self.starts[::-1]
        view = PacketView()
        packet = segment(
            ("44.1.1.1", 1), ("44.2.2.2", 2), flags, seq=(mine + seq) % WRAP, ack=(other + ack) % WRAP, **fields
        )
        view.read(packet)
        return view

    def open(self, side, flags=SYN, ack=0, **fields):
        self.window.open(self.view(side, flags, 0, ack, **fields), self.connection, side)

    def shake_hands(self, client=None, server=None, *, client_window=1000, server_window=1000):
        """Open both ways, with the window scales given."""
        self.open(CLIENT, window=client_window, options=MSS if client is None else scale(client))
        self.open(SERVER, SYN | ACK, 1, window=server_window, options=MSS if server is None else scale(server))
        return self

    def say(self, side, seq, ack, size=0, flags=ACK, window=1000):
        view = self.view(side, flags, seq, ack, window=window, payload=bytes(size))
        self.window.follow(view, self.connection, side)

    def stretch(self, side, seq, size):
        self.window.stretch(self.view(side, ACK, seq, 0, payload=bytes(size)), self.connection, side)

    def allows(self, side, seq, flags=RST, size=0):
        return self.window.allows(self.view(side, flags, seq, 0, payload=bytes(size)), self.connection, side)

    def answers(self, side, ack, flags=ACK):
        return self.window.answers(self.view(side, flags, 1, ack), self.connection, side)

    def known(self, side):
        """Return what is known of a side, counted from the starts: sent to, received to, willing to receive to."""
        row = 2 * self.connection.index + side
        mine, other = self.starts if side is CLIENT else self.starts[::-1]
        ledger = self.ledger
        return (
            (ledger.following[row] - mine) % WRAP,
            (ledger.acked[row] - other) % WRAP,
            (ledger.edge[row] - other) % WRAP,
        )

    def allowed(self, side, numbers):
        return [seq for seq in numbers if self.allows(side, seq)]


# Wherever the numbers start, they go round after 2**32.
STARTS = pytest.mark.parametrize(
    "ends",
    [Ends, lambda: Ends(WRAP - 1, WRAP - 2), lambda: Ends(WRAP - 100, 0), lambda: Ends(2**31 - 50, 2**31)],
    ids=["plain", "at the end", "soon at the end", "in the middle"],
)


# Opening


@STARTS
def test_the_two_syns_say_where_each_side_starts_and_how_far_it_will_receive(ends):
    ends = ends().shake_hands(client_window=300, server_window=700)
    assert ends.known(CLIENT) == (1, 1, 301)
    assert ends.known(SERVER) == (1, 1, 701)


@STARTS
def test_before_the_server_has_answered_only_the_syn_can_be_acknowledged(ends):
    ends = ends()
    ends.open(CLIENT)
    assert [ack for ack in (0, 1, 2) if ends.answers(SERVER, ack)] == [1]
    assert ends.allowed(CLIENT, range(-3, 6)) == [1, 2]


def test_data_in_the_syn_may_be_acknowledged_or_not():
    """RFC 7413: fast open."""
    ends = Ends()
    ends.open(CLIENT, payload=bytes(10))
    assert ends.known(CLIENT)[0] == 11
    assert [ack for ack in range(14) if ends.answers(SERVER, ack)] == list(range(1, 12))


def test_an_answer_has_an_acknowledgement():
    ends = Ends()
    ends.open(CLIENT)
    assert ends.answers(SERVER, 1, RST | ACK)
    assert not ends.answers(SERVER, 1, RST)


@STARTS
def test_both_may_open_at_once(ends):
    """The server's SYN acknowledges nothing, but it is taken for one that answers."""
    ends = ends()
    ends.open(CLIENT, window=300)
    ends.open(SERVER, SYN, window=700)
    assert ends.known(CLIENT) == (1, 1, 301)
    assert ends.known(SERVER) == (1, 1, 701)


def test_a_syn_sent_again_says_the_same_again():
    ends = Ends()
    ends.open(CLIENT, options=scale(7), window=300)
    ends.open(CLIENT, options=scale(7), window=300)
    ends.open(SERVER, SYN | ACK, 1, options=scale(2))
    assert ends.known(CLIENT) == (1, 1, 301)
    ends.say(CLIENT, 1, 1, window=10)
    assert ends.known(CLIENT)[2] == 1 + (10 << 7)


# The window


@STARTS
def test_data_moves_what_was_sent_and_acknowledgements_move_the_edge(ends):
    ends = ends().shake_hands()
    ends.say(CLIENT, 1, 1, 100)
    assert ends.known(CLIENT) == (101, 1, 1001)
    ends.say(SERVER, 1, 101, 50, window=500)
    assert ends.known(SERVER) == (51, 101, 1001), "the edge never moves back"
    ends.say(SERVER, 51, 101, window=2000)
    assert ends.known(SERVER) == (51, 101, 2101)


@STARTS
def test_a_fin_counts_as_one(ends):
    ends = ends().shake_hands()
    ends.say(CLIENT, 1, 1, 10, FIN | ACK)
    assert ends.known(CLIENT)[0] == 12


@STARTS
def test_what_comes_late_or_again_moves_nothing_back(ends):
    ends = ends().shake_hands()
    ends.say(CLIENT, 1, 1, 200)
    ends.say(SERVER, 1, 201, 10)
    before = ends.known(CLIENT), ends.known(SERVER)
    ends.say(CLIENT, 1, 1, 100)
    ends.say(SERVER, 1, 101, 5, window=10)
    assert (ends.known(CLIENT), ends.known(SERVER)) == before


@STARTS
def test_nobody_sends_past_the_edge_that_the_other_offers(ends):
    ends = ends().shake_hands(server_window=100)
    ends.say(CLIENT, 1, 1, 100)
    assert ends.known(CLIENT)[0] == 101
    ends.say(CLIENT, 101, 1, 50)
    assert ends.known(CLIENT)[0] == 101, "no more than that is believed"


@STARTS
def test_a_closed_window_may_be_probed_with_one_byte(ends):
    """RFC 9293, section 3.8.6.1."""
    ends = ends().shake_hands(server_window=0)
    ends.say(CLIENT, 1, 1, 2)
    assert ends.known(CLIENT)[0] == 1
    ends.say(CLIENT, 1, 1, 1)
    assert ends.known(CLIENT)[0] == 2
    ends.say(SERVER, 1, 2, window=0)
    assert ends.known(SERVER)[1] == 2, "and the probe may be acknowledged"


@STARTS
def test_nobody_acknowledges_what_was_not_sent(ends):
    ends = ends().shake_hands()
    ends.say(CLIENT, 1, 1, 100)
    ends.say(SERVER, 1, 102, window=60000)
    assert ends.known(SERVER) == (1, 1, 1001)
    ends.say(SERVER, 1, 101, window=60000)
    assert ends.known(SERVER) == (1, 101, 60101)


def test_without_the_ack_flag_the_acknowledgement_says_nothing():
    ends = Ends().shake_hands()
    ends.say(CLIENT, 1, 1, 100)
    ends.say(SERVER, 1, 101, flags=0, window=60000)
    assert ends.known(SERVER) == (1, 1, 1001)


@STARTS
@given(st.data())
def test_blind_data_cannot_move_the_window(ends, data):
    """Who guesses both numbers out of 2**32 may; whoever has either wrong moves only what the other number says."""
    ends = ends().shake_hands()
    before = ends.known(SERVER)
    seq = data.draw(st.integers(1001 + 2, 2**31))
    ack = data.draw(st.integers(1 + 1, 2**31))
    for _ in range(3):
        ends.say(SERVER, seq, ack, data.draw(st.integers(0, 1460)), window=0xFFFF)
    assert ends.known(SERVER) == before
    assert ends.allowed(CLIENT, (0, 1, 1002, 1003)) == [1, 1002]


@STARTS
def test_a_segment_of_which_only_the_first_fragment_is_seen_may_reach_as_far_as_its_peer_allows(ends):
    ends = ends().shake_hands(server_window=500)
    ends.stretch(CLIENT, 1, 100)
    assert ends.known(CLIENT)[0] == 501
    ends.say(SERVER, 1, 300, window=100)
    ends.stretch(CLIENT, 300, 50)
    assert ends.known(CLIENT)[0] == 501, "nothing moves back"


@STARTS
@pytest.mark.parametrize("seq", [-200, 502, 2**31])
def test_but_not_if_it_lies_outside_of_the_window_itself(ends, seq):
    ends = ends().shake_hands(server_window=500)
    ends.stretch(CLIENT, seq, 100)
    assert ends.known(CLIENT)[0] == 1


# Scaling


@pytest.mark.parametrize(
    ("client", "server", "shifts"),
    [(None, None, (0, 0)), (7, None, (0, 0)), (None, 7, (0, 0)), (7, 2, (7, 2)), (0, 9, (0, 9)), (0, 0, (0, 0))],
)
def test_windows_are_scaled_only_if_both_sides_offer_it(client, server, shifts):
    """RFC 7323, section 2.2."""
    ends = Ends().shake_hands(client, server)
    ends.say(CLIENT, 1, 1, window=5000)
    ends.say(SERVER, 1, 1, window=5000)
    assert (ends.known(CLIENT)[2], ends.known(SERVER)[2]) == tuple(1 + (5000 << shift) for shift in shifts)


def test_the_window_of_a_syn_itself_is_never_scaled():
    ends = Ends().shake_hands(7, 7, client_window=300, server_window=700)
    assert (ends.known(CLIENT)[2], ends.known(SERVER)[2]) == (301, 701)


def test_no_window_is_scaled_by_more_than_14():
    """RFC 7323, section 2.3: a greater shift counts as 14."""
    ends = Ends().shake_hands(255, 14)
    ends.say(CLIENT, 1, 1, window=0xFFFF)
    assert ends.known(CLIENT)[2] == 1 + (0xFFFF << 14)


@pytest.mark.parametrize(
    "options",
    [
        b"",
        b"\x00\x03\x03\x07",  # behind the end of the options
        b"\x01\x01\x01\x03",  # cut off after its kind
        b"\x01\x01\x03\x03",  # cut off after its length
        b"\x03\x02\x01\x01",  # with no room for a shift
        b"\x03\x04\x07\x07",  # longer than it may be
        b"\x08\x00\x03\x03",  # behind an option of length 0
        b"\x08\x01\x03\x03",  # or 1
        b"\x08\xff\x03\x03",  # or of more than there is
    ],
    ids=lambda options: options.hex() or "none",
)
def test_an_option_that_is_not_whole_is_none(options):
    ends = Ends()
    ends.open(CLIENT, options=options)
    ends.open(SERVER, SYN | ACK, 1, options=scale(4), window=1000)
    ends.say(SERVER, 1, 1, window=5000)
    assert ends.known(SERVER)[2] == 5001


# What is genuine


@STARTS
def test_a_reset_lies_in_the_window_of_its_receiver(ends):
    ends = ends().shake_hands(server_window=100)
    ends.say(CLIENT, 1, 1, 50)
    ends.say(SERVER, 1, 51, window=100)
    assert ends.allowed(CLIENT, range(40, 200)) == list(range(51, 153))


@STARTS
def test_into_a_closed_window_goes_what_is_next(ends):
    ends = ends().shake_hands(server_window=0)
    assert ends.allowed(CLIENT, range(-2, 8)) == [1, 2]


@STARTS
def test_a_fin_lies_in_the_window_with_its_last_byte(ends):
    ends = ends().shake_hands(server_window=100)
    assert ends.allows(CLIENT, 1, FIN | ACK, 99)
    assert ends.allows(CLIENT, 1, FIN | ACK, 100)
    assert not ends.allows(CLIENT, 1, FIN | ACK, 101)
    assert not ends.allows(CLIENT, -5, FIN | ACK, 3)


@STARTS
def test_an_answer_acknowledges_no_less_than_before_and_no_more_than_was_sent(ends):
    ends = ends().shake_hands()
    ends.say(CLIENT, 1, 1, 100)
    ends.say(SERVER, 1, 51)
    assert [ack for ack in range(200) if ends.answers(SERVER, ack)] == list(range(51, 102))


# What the ends wait for


@STARTS
def test_a_side_waits_for_what_follows_its_peer(ends):
    ends = ends().shake_hands()
    ends.say(CLIENT, 1, 1, 100)
    ends.say(SERVER, 1, 101, 30)
    ends.say(CLIENT, 101, 31)
    client_starts, server_starts = ends.starts
    to_server, from_server = ends.window.expected(ends.connection, CLIENT)
    to_client, from_client = ends.window.expected(ends.connection, SERVER)
    assert to_server == ((client_starts + 101) % WRAP,)
    assert to_client == ((server_starts + 31) % WRAP,)
    assert from_server == to_client[0]
    assert from_client == to_server[0]


@STARTS
def test_if_something_may_have_been_lost_there_are_two_numbers_that_it_may_wait_for(ends):
    ends = ends().shake_hands()
    ends.say(CLIENT, 1, 1, 100)
    numbers, _ = ends.window.expected(ends.connection, CLIENT)
    assert numbers == ((ends.starts[0] + 101) % WRAP, (ends.starts[0] + 1) % WRAP)


# What a segment says, believed or not


def test_a_segment_says_how_far_its_sender_has_sent_and_received_and_will_receive():
    ends = Ends(WRAP - 10, WRAP - 5).shake_hands(client=2, server=3)
    view = ends.view(CLIENT, ACK, 50, 7, payload=bytes(100), window=9)
    assert ends.window.said(view, ends.connection, CLIENT) == Said(140, 2, 2 + (9 << 2))


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("known", [5000, WRAP - 1])
@pytest.mark.parametrize(("ahead", "is_news"), [(-100_000, False), (-1, False), (0, False), (1, True), (100_000, True)])
def test_it_is_news_if_any_of_that_goes_beyond_what_is_known(number, known, ahead, is_news):
    before, said = [known - 10, known, known - 20], [known - 10, known, known - 20]
    said[number] = (said[number] + ahead) % WRAP
    assert Said(*said).is_news(Said(*before)) is is_news
