"""Time that passes only while there is nothing to do: what happens when is then the same on every machine."""

import asyncio


class Clock:
    """Stands in for the module `time`, where a test is of what is done how often: who sleeps has slept at once."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while anything is done, and then goes on to what is due next.

    For what waits for nobody but the loop itself: the time that threads or other processes need passes it by.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 100.0
        self._wait = self._selector.select
        self._selector.select = self._pass  # type: ignore[method-assign]

    def time(self) -> float:
        return self._now

    def _pass(self, seconds: float | None = None) -> list[object]:
        if seconds is None:  # nothing is due: whoever comes, comes from outside
            return self._wait(None)
        events = self._wait(0)
        if not events:
            self._now += seconds
        return events
