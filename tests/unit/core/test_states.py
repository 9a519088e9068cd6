import pytest

from natlb.core.states import FINISHED, HALF_OPEN, PHASES, Phase, State


@pytest.mark.parametrize("state", State)
def test_every_state_has_a_phase(state):
    assert PHASES[state] is {
        State.INIT: Phase.HALF_OPEN,
        State.SYN_RECEIVED: Phase.HALF_OPEN,
        State.ONE_WAY: Phase.HALF_OPEN,
        State.BOTH_FIN: Phase.FINISHED,
        State.TRANS: Phase.FINISHED,
        State.ABORTED: Phase.FINISHED,
        State.SHUT: Phase.FINISHED,
    }.get(state, Phase.OPEN)


def test_finished_connections_give_way_first_and_open_ones_last():
    assert Phase.FINISHED < Phase.HALF_OPEN < Phase.OPEN


def test_no_connection_is_half_open_and_finished():
    assert not HALF_OPEN & FINISHED
