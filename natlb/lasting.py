"""Work that goes on as long as natlb does, whatever becomes of one round of it.

Silent connections are ended, servers' slow starts go on, counters are read: loops that begin with natlb and end with
it. An error in one of them, memory that was not there for a moment, must not be the end of the loop: a table of which
nobody ends the silent connections is full one day.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Final

from natlb.log import fault

_PAUSE: Final = 1.0
"""Seconds until a loop begins again that has failed."""


async def lasting(work: Callable[[], Coroutine[None, None, None]], *, pause: float = _PAUSE) -> None:
    """Do work that never ends by itself, and begin it again, after a pause in seconds, when it fails."""
    while True:
        try:
            await work()
        except Exception as error:
            fault(f"work that goes on all the time ({work.__name__.strip('_')}) was interrupted", error)
        await asyncio.sleep(pause)
