"""`set profiling packets` and `show profiling`: what they say, and to whom. What is measured is another's matter."""

from collections.abc import Iterator

import pytest

from natlb.errors import ProfilingError
from natlb.runtime.language import Level
from natlb.runtime.running import Running

from .consoles import answer

_STATUS = "Per-packet CPU profiling            : {:<14}# set profiling packets {{on|off}}\n"


class Played:
    """A profiler that only notes what it is told."""

    is_on = False
    problem: ProfilingError | None = None

    async def start(self) -> None:
        if self.problem:
            raise self.problem
        self.is_on = True

    def stop(self) -> None:
        self.is_on = False

    def report(self) -> Iterator[str]:
        yield "Packets activity: 0 packets in 0.000s\n"
        yield "  the table\n"


@pytest.fixture
def profiler(running: Running) -> Played:
    running.profiler = played = Played()
    return played


def test_it_is_begun_and_ended_and_says_so(running: Running, profiler: Played) -> None:
    assert answer(running, "show profiling status") == _STATUS.format("off")
    assert answer(running, "set profiling packets on") == ""
    assert profiler.is_on
    assert answer(running, "show profiling status") == _STATUS.format("on")
    assert answer(running, "set profiling packets off") == ""
    assert not profiler.is_on


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("show profiling packets", ""),
        ("show profiling", _STATUS.format("off")),
        ("show profiling all", _STATUS.format("off")),
    ],
)
def test_what_was_seen_is_shown(running: Running, profiler: Played, command: str, expected: str) -> None:
    report = "Packets activity: 0 packets in 0.000s\n  the table\n"
    assert answer(running, command) == expected + report


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("set profiling", "Expects 'packets'."),
        ("set profiling x on", "Expects 'packets'."),
        ("set profiling packets", "Expects either 'on' or 'off'."),
        ("set profiling packets auto", "Expects either 'on' or 'off'."),
        ("show profiling x", "Expects either 'all', 'status' or 'packets'."),
    ],
)
def test_what_is_not_understood_is_told(running: Running, profiler: Played, command: str, reply: str) -> None:
    assert answer(running, command) == f"{reply}\n"
    assert not profiler.is_on


@pytest.mark.parametrize("command", ["show profiling tasks", "show profiling memory", "set profiling tasks on"])
def test_what_only_haproxy_has_is_refused_and_natlbs_is_named(running: Running, command: str) -> None:
    reply = answer(running, command)
    assert reply.startswith(
        f"'{' '.join(command.split()[:3])}' is not available: it looks inside HAProxy; natlb has 'set"
    )


def test_only_an_administrator_may(running: Running, profiler: Played) -> None:
    for command in ("set profiling packets on", "show profiling"):
        assert answer(running, command, Level.OPERATOR) == "Permission denied\n"
    assert not profiler.is_on


def test_why_it_cannot_begin_is_told(running: Running, profiler: Played) -> None:
    profiler.problem = ProfilingError("there is no source of x to look for marks in")
    reply = answer(running, "set profiling packets on")
    assert reply == "Cannot begin: there is no source of x to look for marks in.\n"
    assert not profiler.is_on


def test_without_packets_there_is_nothing_to_look_at(running: Running) -> None:
    for command in ("show profiling", "set profiling packets on"):
        assert answer(running, command) == "There are no packets to look at.\n"
