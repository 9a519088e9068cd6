"""Nothing that natlb is asked for, or has to do by itself, takes long in one go: packets pass between two steps.

`tests/bench/stalls.py` does the same with a million connections. Here the sizes are such that each of these things done
in one go would take longer than the bound, and the processor's time is measured, so that a busy machine does no harm.
"""

import time
from collections.abc import Iterator
from functools import cache

import pytest

from tests.bench.stalls import ALGORITHMS, COMMANDS, Crowd, changes
from tests.garbage import collected_as_in_natlb

_CONNECTIONS, _SERVERS = 10_000, 650

_BOUND = 0.008
"""Seconds of work: some five times what the longest step takes, and less than a packet may be kept waiting."""
_PACE = 0.0017
"""Seconds that `_lines` took on the machine where that was found; on a slower one the bound is as much longer."""


def _lines() -> float:
    """Write some lines, as commands do; return how long that took."""
    began = time.thread_time()
    "".join(f"{number}: {7 * number}\n" for number in range(10_000))
    return time.thread_time() - began


@cache
def _bound() -> float:
    return _BOUND * max(1.0, min(_lines() for _ in range(5)) / _PACE)


@pytest.fixture(scope="module", autouse=True)
def _collector() -> Iterator[None]:
    with collected_as_in_natlb():
        yield


@pytest.fixture(scope="module")
def crowd(_collector: None) -> Crowd:
    """A balancer with many of everything."""
    made = Crowd(_CONNECTIONS, _SERVERS)
    assert made.fill().own < _bound()
    assert made.remember().own < _bound()
    return made


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_answered_in_small_steps(crowd: Crowd, command: str) -> None:
    longest = crowd.ask(command)
    assert longest.own < _bound(), longest


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_servers_change_and_fail_together_in_small_steps(algorithm: str) -> None:
    for longest in changes(algorithm, _SERVERS):
        assert longest.own < _bound(), longest


def test_what_ends_all_together_is_forgotten_in_small_steps(crowd: Crowd) -> None:
    crowd.remember()
    for longest in (crowd.forget(), crowd.expire()):
        assert longest.own < _bound(), longest
