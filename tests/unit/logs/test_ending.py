"""Termination states: true to what happened."""

import pytest

from natlb.core.events import Account, EndReason, Live
from natlb.core.flow import Direction
from natlb.core.packet import TCP, UDP
from natlb.core.states import State
from natlb.logs.ending import termination

CLIENT, SERVER = Direction.ORIGINAL, Direction.REPLY
R, S = EndReason, State

ENDINGS = [
    (R.FINISHED, S.CLIENT_FIN, SERVER, "--"),
    (R.RESET, S.INIT, SERVER, "SC"),
    (R.RESET, S.INIT, CLIENT, "CC"),
    (R.RESET, S.SYN_RECEIVED, CLIENT, "CC"),
    (R.RESET, S.ESTABLISHED, CLIENT, "CD"),
    (R.RESET, S.ESTABLISHED, SERVER, "SD"),
    (R.RESET, S.CLIENT_FIN, SERVER, "SD"),
    (R.TIMED_OUT, S.INIT, None, "sC"),
    (R.TIMED_OUT, S.SYN_RECEIVED, None, "cC"),
    (R.TIMED_OUT, S.ESTABLISHED, None, "cD"),
    (R.TIMED_OUT, S.CLIENT_FIN, None, "sD"),
    (R.TIMED_OUT, S.SERVER_FIN, None, "cD"),
    (R.SHUT_DOWN, S.ESTABLISHED, None, "K-"),
    (R.SERVER_DOWN, S.ESTABLISHED, None, "D-"),
    (R.SERVER_UP, S.ESTABLISHED, None, "U-"),
    (R.EVICTED, S.INIT, None, "RC"),
]
FLOWS = [
    (R.FINISHED, S.BOTH_WAYS, None, "--"),
    (R.TIMED_OUT, S.BOTH_WAYS, None, "--"),
    (R.TIMED_OUT, S.ONE_WAY, None, "sD"),
    (R.RESCHEDULED, S.BOTH_WAYS, None, "D-"),
    (R.EVICTED, S.ONE_WAY, None, "RC"),
    (R.SHUT_DOWN, S.BOTH_WAYS, None, "K-"),
]


def account(state, by):
    return Account(0.0, None, (0, 0), 0, state, by, Live(1, 1, 1, 1))


@pytest.mark.parametrize(("reason", "state", "by", "letters"), ENDINGS)
def test_connections(reason, state, by, letters):
    assert termination(reason, account(state, by), TCP, CLIENT) == letters


@pytest.mark.parametrize(("reason", "state", "by", "letters"), FLOWS)
def test_flows(reason, state, by, letters):
    assert termination(reason, account(state, by), UDP, CLIENT) == letters


def test_the_shorter_idle_time_ends_an_idle_connection():
    assert termination(R.TIMED_OUT, account(S.ESTABLISHED, None), TCP, SERVER) == "sD"
