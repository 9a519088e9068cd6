"""Ticks of work, in system calls and outside of them; and that nothing of it stays."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from natlb.profiling.sampler import Sampler, interval
from natlb.profiling.stages import Stage

_SIGNALS = (signal.SIGPROF, signal.SIGVTALRM)
_TIMERS = (signal.ITIMER_PROF, signal.ITIMER_VIRTUAL)


def look(work: Callable[[], object], seconds: float = 0.4) -> tuple[int, int]:
    """Work for so long; return how often it was seen, and how often outside of system calls."""
    sampler = Sampler(lambda frame: Stage.STATE)
    until = time.process_time() + seconds
    sampler.resume()
    while time.process_time() < until:
        work()
    sampler.close()
    return sampler.samples.total(), sampler.user_samples.total()


def test_work_in_python_is_none_of_the_kernels() -> None:
    samples, user = look(lambda: sum(i * i for i in range(1000)))
    assert samples > 20
    assert user > 0.8 * samples


def test_work_in_a_system_call_is_the_kernels() -> None:
    with open(os.devnull, "wb", buffering=0) as nowhere, open("/dev/urandom", "rb", buffering=0) as random:  # noqa: PTH123
        samples, user = look(lambda: nowhere.write(random.read(1 << 20)))
    assert samples > 20
    assert user < 0.3 * samples


def in_turns() -> None:
    """Print the share of samples that were outside of system calls, and the share that the kernel counts itself."""
    with open("/dev/urandom", "rb", buffering=0) as random:  # noqa: PTH123
        before = os.times()
        samples, user = look(lambda: (random.read(1 << 16), sum(range(6000))), 1.0)
        after = os.times()
    spent = after.user - before.user, after.system - before.system
    print(user / samples, spent[0] / sum(spent))


def test_the_kernels_own_count_of_the_two_agrees() -> None:
    # In a process of its own: the kernel divides what a process has spent by what it has been seen to do in all its
    # life, so the latest second of one that is minutes old is badly known.
    code = f"from {__name__} import in_turns; in_turns()"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    sampled, counted = map(float, done.stdout.split())
    assert sampled == pytest.approx(counted, abs=0.1)


def test_sleep_costs_no_sample() -> None:
    sampler = Sampler(lambda frame: Stage.STATE)
    sampler.resume()
    time.sleep(0.2)
    sampler.close()
    assert sampler.samples.total() <= 2


def test_it_looks_at_whoever_is_interrupted() -> None:
    seen = set()

    def stage(frame: object) -> Stage:
        seen.add(frame.f_code.co_name)  # type: ignore[attr-defined]
        return Stage.STATE

    sampler = Sampler(stage)

    def busy() -> None:
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass

    sampler.resume()
    busy()
    sampler.pause()
    assert "busy" in seen
    count = sampler.samples.total()
    busy()
    assert sampler.samples.total() == count
    sampler.close()


def test_timers_and_handlers_are_left_as_they_were() -> None:
    def mine(*_: object) -> None:
        raise AssertionError

    default = signal.signal(signal.SIGPROF, mine)
    try:
        before = [signal.getsignal(each) for each in _SIGNALS]
        sampler = Sampler(lambda frame: Stage.STATE)
        sampler.resume()
        assert all(signal.getitimer(each)[1] > 0 for each in _TIMERS)
        sampler.close()
        assert [signal.getitimer(each) for each in _TIMERS] == [(0.0, 0.0)] * 2
        assert [signal.getsignal(each) for each in _SIGNALS] == before
    finally:
        signal.signal(signal.SIGPROF, default)


def test_between_two_samples_is_a_tick_at_least() -> None:
    assert interval() >= time.clock_getres(6)
    assert 0.004 <= interval() <= 0.01
