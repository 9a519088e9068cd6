"""Work that lasts begins again when it has failed."""

import asyncio

import pytest

from natlb import log as log_module
from natlb.lasting import lasting


def test_work_that_fails_begins_again_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds: list[int] = []
    monkeypatch.setattr(log_module, "_faults", {})
    monkeypatch.setattr(log_module.log, "propagate", True)

    async def _look_after() -> None:
        rounds.append(len(rounds))
        if len(rounds) < 4:
            raise MemoryError if rounds[-1] else KeyError("x")
        await asyncio.Event().wait()

    async def until_the_fourth() -> None:
        task = asyncio.get_running_loop().create_task(lasting(_look_after, pause=0))
        while len(rounds) < 4:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(until_the_fourth())
    assert rounds == [0, 1, 2, 3]
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith("work that goes on all the time (look_after) was interrupted because of an internal error")
