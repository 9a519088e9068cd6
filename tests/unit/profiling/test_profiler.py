"""The profiler of a running natlb: on, off, and what can be read meanwhile and afterwards."""

import asyncio
import signal
import time

import pytest

from natlb.core.engine import NatEngine
from natlb.errors import ProfilingError
from natlb.profiling import profiler as under_test
from natlb.profiling.burst import loads
from natlb.profiling.burst import run as run_load
from natlb.profiling.profiler import Profiler, modules
from natlb.profiling.stages import Stage


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
        work(0.1)
        meanwhile = list(profiler.report())
        packets += 50
        profiler.stop()
        packets += 50
        work(0.1)
        ended = list(profiler.report())
        assert not profiler.is_on
        return meanwhile, ended, list(profiler.report())

    meanwhile, ended, later = asyncio.run(story())
    assert meanwhile[0].startswith("Packets activity: 50 packets in 0.")
    assert ended[0].startswith("Packets activity: 100 packets in 0.")
    assert ended == later
    found = ended[-2].split()
    assert found[0] == "elsewhere"
    assert int(found[1]) > 5
    assert 80 < float(found[2].removesuffix("ms")) < 200


def test_it_begins_anew_but_not_while_it_is_on() -> None:
    async def story() -> tuple[int, int, int]:
        profiler = Profiler(lambda: 0)
        await profiler.start()
        work(0.1)
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
    found = run_load(loads()[0], 1.0)
    # What is left to do for the verdict is too little to be met for certain.
    assert set(found.samples) - {Stage.VERDICT} == {Stage.PARSE, Stage.LOOKUP, Stage.STATE, Stage.REWRITE}
    assert found.packets > 1000
    assert 0.1 < found.cpu < 1.2
    assert NatEngine.__module__ in {module.__name__ for module in modules()}
