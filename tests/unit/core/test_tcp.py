from itertools import product

import pytest

from natlb.core.flow import Direction
from natlb.core.packet import ACK, FIN, RST, SYN, URG
from natlb.core.states import FINISHED, State
from natlb.core.tcp import ESTABLISHED_TIMEOUT, TRANSITIONS, TRANSITORY_TIMEOUT, Segment, segment_of
from tests.unit.core.packets import CWR, ECE, PSH

CLIENT, SERVER = Direction.ORIGINAL, Direction.REPLY
SEGMENTS = {
    "SYN": Segment.SYN,
    "SYN+ACK": Segment.SYN_ACK,
    "ACK": Segment.DATA,
    "FIN": Segment.FIN,
    "RST": Segment.RST,
}


def after(story, state=State.INIT):
    """Tell a story, from the client's first SYN on: `server SYN+ACK, client ACK, ...`."""
    for chapter in filter(None, story.split(", ")):
        side, segment = chapter.split()
        key = state, CLIENT if side == "client" else SERVER, SEGMENTS[segment]
        state = TRANSITIONS.get(key, state)
    return state


HANDSHAKE = "server SYN+ACK, client ACK"


@pytest.mark.parametrize(
    ("story", "state"),
    [
        ("", State.INIT),
        ("client SYN", State.INIT),
        ("client ACK", State.INIT),
        ("server ACK", State.INIT),
        ("server SYN+ACK", State.SYN_RECEIVED),
        ("server SYN", State.SYN_RECEIVED),
        ("server SYN+ACK, server SYN+ACK", State.SYN_RECEIVED),
        ("server SYN+ACK, client SYN", State.INIT),
        ("server SYN+ACK, server ACK", State.SYN_RECEIVED),
        (HANDSHAKE, State.ESTABLISHED),
        ("server SYN+ACK, client FIN", State.CLIENT_FIN),
        (f"{HANDSHAKE}, server ACK, client ACK", State.ESTABLISHED),
        (f"{HANDSHAKE}, client SYN", State.ESTABLISHED),
        (f"{HANDSHAKE}, server SYN+ACK", State.ESTABLISHED),
        (f"{HANDSHAKE}, client FIN", State.CLIENT_FIN),
        (f"{HANDSHAKE}, client FIN, client FIN", State.CLIENT_FIN),
        (f"{HANDSHAKE}, client FIN, server ACK", State.CLIENT_FIN),
        (f"{HANDSHAKE}, server FIN", State.SERVER_FIN),
        (f"{HANDSHAKE}, client FIN, server FIN", State.BOTH_FIN),
        (f"{HANDSHAKE}, server FIN, client FIN", State.BOTH_FIN),
        (f"{HANDSHAKE}, server FIN, client FIN, server ACK", State.BOTH_FIN),
        (f"{HANDSHAKE}, server RST", State.TRANS),
        (f"{HANDSHAKE}, client FIN, client RST", State.TRANS),
    ],
)
def test_a_connection_moves_as_rfc_6146_says(story, state):
    assert after(story) is state


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("fins", ["", ", client FIN", ", server FIN"])
def test_an_established_connection_that_was_reset_comes_back_if_either_side_goes_on_talking(fins, side):
    assert after(f"{HANDSHAKE}{fins}, server RST, {side} ACK") is State.ESTABLISHED


@pytest.mark.parametrize("opening", ["", "server SYN+ACK, "])
@pytest.mark.parametrize("side", ["client", "server"])
def test_no_segment_but_a_new_syn_brings_back_what_was_reset_while_opening(opening, side):
    aborted = after(f"{opening}{side} RST")
    assert aborted is State.ABORTED
    for each, segment in product(Direction, Segment):
        assert TRANSITIONS.get((aborted, each, segment), aborted) is aborted


def test_a_client_alone_cannot_establish_a_connection():
    reached = {State.INIT}
    for _ in State:
        reached |= {TRANSITIONS.get((state, CLIENT, segment), state) for state in reached for segment in Segment}
    assert reached == {State.INIT, State.ABORTED}


def test_a_server_alone_cannot_establish_a_connection():
    reached = {State.INIT}
    for _ in State:
        reached |= {TRANSITIONS.get((state, SERVER, segment), state) for state in reached for segment in Segment}
    assert reached == {State.INIT, State.SYN_RECEIVED, State.ABORTED}


def test_nothing_brings_back_what_both_sides_have_closed():
    for side, segment in product(Direction, Segment):
        assert (State.BOTH_FIN, side, segment) not in TRANSITIONS


def test_no_transition_is_listed_that_changes_nothing():
    assert all(before is not state for (before, _, _), state in TRANSITIONS.items())


def test_nothing_brings_back_what_natlb_itself_has_ended():
    for side, segment in product(Direction, Segment):
        assert (State.SHUT, side, segment) not in TRANSITIONS


def test_no_segment_leads_to_what_only_natlb_does_or_only_udp_knows():
    assert not set(TRANSITIONS.values()) & {State.SHUT, State.ONE_WAY, State.BOTH_WAYS}
    assert not {before for before, _, _ in TRANSITIONS} & {State.ONE_WAY, State.BOTH_WAYS}


def test_what_is_finished_comes_back_only_from_a_reset_that_was_not_taken():
    """And only if there was a connection to come back to."""
    back = {before for (before, _, _), after in TRANSITIONS.items() if before in FINISHED and after not in FINISHED}
    assert back == {State.TRANS}


@pytest.mark.parametrize(
    ("flags", "segment"),
    [
        (SYN, Segment.SYN),
        (SYN | URG, Segment.SYN),
        (SYN | ACK, Segment.SYN_ACK),
        (FIN | ACK, Segment.FIN),
        (FIN | ACK | URG, Segment.FIN),
        (RST, Segment.RST),
        (RST | ACK, Segment.RST),
        (ACK, Segment.DATA),
        (ACK | URG, Segment.DATA),
    ],
)
@pytest.mark.parametrize("beside", [0, PSH, ECE, CWR, PSH | ECE | CWR])
def test_push_and_the_congestion_flags_stand_beside_any_segment(flags, segment, beside):
    assert segment_of(flags | beside) is segment


def test_every_combination_that_no_host_sends_is_none():
    """All 32 of FIN, SYN, RST, ACK and URG, but for the nine that Linux's nf_conntrack_proto_tcp.c holds valid."""
    every = {sum(chosen) for chosen in product(*((0, flag) for flag in (FIN, SYN, RST, ACK, URG)))}
    valid = {flags for flags in every if segment_of(flags) is not None}
    assert len(every) == 32
    assert valid == {SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG}


def test_the_timeouts_are_no_shorter_than_rfc_5382_allows():
    assert ESTABLISHED_TIMEOUT >= 2 * 3600 + 4 * 60
    assert TRANSITORY_TIMEOUT >= 4 * 60
