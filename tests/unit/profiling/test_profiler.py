"""The profiler of a running natlb: on, off, and what can be read meanwhile and afterwards."""

import asyncio
import re
import signal
import time
from collections.abc import Iterator

import pytest

from natlb.core.engine import NatEngine
from natlb.errors import ProfilingError
from natlb.profiling import profiler as under_test
from natlb.profiling.burst import loads
from natlb.profiling.burst import run as run_load
from natlb.profiling.profiler import Profiler, modules
from natlb.profiling.stages import Stage
from tests.garbage import collected_as_in_natlb

WORK = 0.4
"""Seconds of the processor: a hundred ticks, or forty where they are long."""


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    """A full collection would be work that nobody has counted on."""
    with collected_as_in_natlb():
        yield


def work(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_what_was_seen_while_it_was_on_can_be_read_then_and_later() -> None:
    packets = 1000

    async def story() -> tuple[list[str], list[str], list[str]]:
        nonlocal packets
        profiler = Profiler(lambda: packets)
        assert not profiler.is_on
        await profiler.start()
        assert profiler.is_on
        packets += 50
        work(WORK)
        meanwhile = list(profiler.report())
        packets += 50
        profiler.stop()
        packets += 50
        work(WORK)
        ended = list(profiler.report())
        assert not profiler.is_on
        return meanwhile, ended, list(profiler.report())

    meanwhile, ended, later = asyncio.run(story())
    # By the clock on the wall it may have taken longer, if others were busy too.
    for said, number in ((meanwhile, 50), (ended, 100)):
        head = re.fullmatch(r"Packets activity: (\d+) packets in (\d+\.\d{3})s\n", said[0])
        assert head is not None
        assert int(head[1]) == number
        assert float(head[2]) > 0.9 * WORK
    assert ended == later
    found = ended[-2].split()
    assert found[0] == "elsewhere"
    assert int(found[1]) > 5
    assert 0.8 * WORK < float(found[2].removesuffix("ms")) / 1000 < 2 * WORK


def test_it_begins_anew_but_not_while_it_is_on() -> None:
    async def story() -> tuple[int, int, int]:
        profiler = Profiler(lambda: 0)
        await profiler.start()
        work(WORK)
        before = profiler.profile().samples.total()
        await profiler.start()
        unchanged = profiler.profile().samples.total()
        profiler.stop()
        profiler.stop()
        await profiler.start()
        anew = profiler.profile().samples.total()
        profiler.stop()
        return before, unchanged, anew

    before, unchanged, anew = asyncio.run(story())
    assert 5 < before <= unchanged
    assert anew < 5


def test_two_who_begin_it_at_once_begin_it_once() -> None:
    async def story() -> None:
        profiler = Profiler(lambda: 0)
        await asyncio.gather(profiler.start(), profiler.start())
        profiler.stop()

    asyncio.run(story())
    assert signal.getsignal(signal.SIGPROF) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_off_there_is_no_trace_of_it() -> None:
    own = NatEngine._segment.__code__

    async def story() -> None:
        profiler = Profiler(lambda: 0)
        await profiler.start()
        assert NatEngine._segment.__code__ is not own
        profiler.stop()

    asyncio.run(story())
    assert NatEngine._segment.__code__ is own
    assert [signal.getsignal(each) for each in (signal.SIGPROF, signal.SIGVTALRM)] == [signal.SIG_DFL] * 2


def test_what_cannot_begin_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "modules", list)

    async def story() -> None:
        profiler = Profiler(lambda: 0)
        with pytest.raises(ProfilingError):
            await profiler.start()
        assert not profiler.is_on
        profiler.stop()

    asyncio.run(story())
    assert signal.getsignal(signal.SIGPROF) is signal.SIG_DFL


def test_the_engine_under_load_is_seen_in_all_its_stages() -> None:
    looks: list[float] = []

    def clock() -> float:
        looks.append(time.process_time())
        return looks[-1]

    found = run_load(loads()[0], 1.0, clock)
    laps = [ended - began for began, ended in zip(looks[::2], looks[1::2], strict=True)]
    # What is left to do for the verdict is too little to be met for certain.
    assert set(found.samples) - {Stage.VERDICT} == {Stage.PARSE, Stage.LOOKUP, Stage.STATE, Stage.REWRITE}
    assert found.packets > 1000
    assert sum(laps[:-1]) < 1.0 <= sum(laps), "whole laps, and none more than it takes"
    assert 0.1 < found.cpu <= sum(laps)
    assert NatEngine.__module__ in {module.__name__ for module in modules()}
