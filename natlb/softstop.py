"""The soft stop (SIGUSR1, as in HAProxy): no new connection is taken, and natlb ends when the last one has.

There may be a while before it begins (`grace`), and an end to its patience (`hard-stop-after`): then the connections
that are still open are ended, a few at a time, so that the packets of others need not wait.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine

from natlb.config.model import Process
from natlb.core.engine import NatEngine
from natlb.core.service import VirtualAddresses
from natlb.core.wording import counted
from natlb.log import log, notice
from natlb.runtime.vitals import Watch
from natlb.states import States
from natlb.supervision import SHUT_DOWN_AT_ONCE


class SoftStop:
    """The soft stop of one natlb; not begun yet."""

    def __init__(
        self,
        process: Process,
        engine: NatEngine,
        watch: Watch,
        states: States,
        settle: Callable[[], None],
        start: Callable[[Coroutine[None, None, None]], None],
        stop: Callable[[], None],
    ) -> None:
        """`settle` does what the engine has to say, `start` runs what goes on in the background, `stop` ends natlb."""
        self._process = process
        self._engine = engine
        self._watch = watch
        self._states = states
        self._settle = settle
        self._start = start
        self._stop = stop
        self.has_begun = False

    def begin(self) -> None:
        """Take no new connection and stop when the last one has ended; asked once more, that is under way."""
        if not self.has_begun:
            self.has_begun = True
            self._start(self._stop_when_empty())

    async def _stop_when_empty(self) -> None:
        await asyncio.sleep(self._process.grace)
        notice("stopping softly: no new connections, waiting for the open ones to end")
        self._watch.is_stopping = True
        # Nobody listens at the reserved ports, so the kernel refuses what the engine no longer claims.
        self._engine.addresses = VirtualAddresses()
        self._states.tell_of_all_stopped()
        patience, started = self._process.hard_stop_after, time.monotonic()
        while self._engine.live:
            if patience is not None and time.monotonic() - started >= patience:
                await self._end_all_connections()
                break
            await asyncio.sleep(0.1)
        self._stop()

    async def _end_all_connections(self) -> None:
        log.warning(
            "soft-stop running for too long, performing a hard-stop, which ends %s.", counted(self._engine.live)
        )
        for piece in self._engine.pieces(SHUT_DOWN_AT_ONCE):
            for connection in piece:
                self._engine.shutdown(connection, time.monotonic())
            self._settle()
            await asyncio.sleep(0)
