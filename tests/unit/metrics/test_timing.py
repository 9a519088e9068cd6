"""One batch in sixteen is timed and no other; the loop's lag is seen."""

import asyncio
import time

import pytest

from natlb.metrics.timing import ONE_IN, LoopLag, Stopwatch


class Batches:
    """Work that does two pieces at each call and takes a second on its own clock."""

    def __init__(self, pieces: int = 2) -> None:
        self.calls = self.done = self.looks = 0
        self.now = 100.0
        self.pieces = pieces

    def __call__(self) -> None:
        self.calls += 1
        self.done += self.pieces
        self.now += 1

    def clock(self) -> float:
        self.looks += 1
        return self.now


@pytest.mark.parametrize("times", [1, 2, 5])
def test_every_call_works_and_one_in_sixteen_is_timed(times: int) -> None:
    batches = Batches()
    stopwatch = Stopwatch(batches, lambda: batches.done, batches.clock)
    for _ in range(times * ONE_IN):
        stopwatch()
    assert batches.calls == times * ONE_IN
    assert batches.looks == 2 * times
    assert stopwatch.seconds.count == 2 * times, "each packet of the batch counts"
    assert stopwatch.seconds.sum == pytest.approx(times)


def test_no_clock_is_read_for_the_fifteen_others() -> None:
    batches = Batches()
    stopwatch = Stopwatch(batches, lambda: batches.done, batches.clock)
    for _ in range(ONE_IN - 1):
        stopwatch()
    assert (batches.calls, batches.looks, stopwatch.seconds.count) == (ONE_IN - 1, 0, 0)


def test_a_batch_without_packets_is_not_counted() -> None:
    batches = Batches(pieces=0)
    stopwatch = Stopwatch(batches, lambda: batches.done, batches.clock)
    for _ in range(ONE_IN):
        stopwatch()
    assert stopwatch.seconds.count == 0


def test_what_holds_the_loop_is_seen() -> None:
    async def hold() -> LoopLag:
        lag = LoopLag()
        task = asyncio.get_running_loop().create_task(lag.watch())
        await asyncio.sleep(0.05)
        time.sleep(0.3)
        await asyncio.sleep(0.05)
        task.cancel()
        return lag

    seen = asyncio.run(hold()).seconds
    assert seen.count >= 1
    assert seen.sum >= 0.2
