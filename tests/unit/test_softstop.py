"""A soft stop ends when the last connection has, or ends them all when it has waited for too long."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from natlb.config.model import Process
from natlb.softstop import SoftStop


class Engine:
    """An engine with some connections, and with addresses that it answers at."""

    def __init__(self, live: int) -> None:
        self.live = live
        self.addresses: Any = "all"
        self.shut_down = 0

    def pieces(self, size: int) -> Iterator[list[None]]:
        yield [None] * self.live

    def shutdown(self, connection: None, now: float) -> None:
        self.live -= 1
        self.shut_down += 1


async def _stopped(engine: Engine, process: Process, told: list[str]) -> None:
    """Ask for a soft stop twice, and wait until it stops."""
    stopping, tasks = asyncio.Event(), []
    watch, states = SimpleNamespace(is_stopping=False), SimpleNamespace(tell_of_all_stopped=lambda: told.append("all"))
    soft_stop = SoftStop(
        process,
        *(cast("Any", each) for each in (engine, watch, states)),
        settle=lambda: None,
        start=lambda work: tasks.append(asyncio.get_running_loop().create_task(work)),
        stop=stopping.set,
    )
    assert not soft_stop.has_begun
    soft_stop.begin()
    soft_stop.begin()
    assert soft_stop.has_begun
    if engine.live and process.hard_stop_after is None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stopping.wait(), 0.3)
        engine.live = 0
    await asyncio.wait_for(stopping.wait(), 60)
    await asyncio.gather(*tasks)
    assert len(tasks) == 1
    assert watch.is_stopping


@pytest.mark.parametrize(
    ("live", "patience", "shut_down"),
    [(0, None, 0), (3, None, 0), (3, 0.0, 3)],
    ids=["nothing is open", "connections end", "connections are ended"],
)
def test_it_takes_no_new_connection_and_stops_when_none_is_open(
    live: int, patience: float | None, shut_down: int
) -> None:
    engine, told = Engine(live), list[str]()
    asyncio.run(_stopped(engine, Process(hard_stop_after=patience), told))
    assert engine.addresses != "all"
    assert told == ["all"], "that is told once, however often it is asked for"
    assert engine.shut_down == shut_down
