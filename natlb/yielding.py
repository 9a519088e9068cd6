"""The old one's side of a handover, and whose everything is in the course of it.

`natlb.transfer` has the words of the conversation; here is what they make a natlb do that balances meanwhile. It tells
what it has, brings its records up to date, stands still, and has another go on in its place; or goes on itself, as if
nothing had been.

What the machine has lent belongs to one of them at any moment. Who that is stands in the `Tenure`, and whoever gives
things back at the end looks there first: what is a successor's stays as it is.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from natlb import keeper, notify
from natlb.datapath.diversion import Diversion
from natlb.datapath.guard import Guard
from natlb.errors import DatapathError
from natlb.log import log, notice
from natlb.offloading import Offloader
from natlb.readiness import readable
from natlb.reload import Reloader, keeper_of
from natlb.roster import Roster
from natlb.succession import Succession
from natlb.transfer import Estate, Heir, Offer


class Owner(Enum):
    """Whose is what the machine has lent."""

    PREDECESSOR = "that of the natlb before, until it was thanked"
    US = "ours, to be given back at the end"
    SUCCESSOR = "that of the natlb that goes on from here"


@dataclass(slots=True)
class Tenure:
    """Whose place this is. It decides what becomes, at the end, of what the machine has lent."""

    owner: Owner = Owner.US
    noted: list[int] | None = None
    """Signals that have come since this process is the keeper of its successor; None if it is not."""

    @property
    def is_over(self) -> bool:
        """Whether everything is to stay as it is: it is another natlb's, which goes on."""
        return self.owner is not Owner.US


class Yielding:
    """Gives this natlb's place to whoever comes for it, in a running event loop."""

    def __init__(
        self,
        offer: Offer,
        tenure: Tenure,
        reloader: Reloader | None,
        succession: Succession,
        diversion: Diversion,
        guard: Guard,
        roster: Roster,
        offloader: Offloader,
        *,
        estate: Callable[[], Estate],
        catch_up: Callable[[], None],
        stand_aside: Callable[[], None],
        answering: Callable[[], str],
        start: Callable[[Coroutine[None, None, None]], None],
        stop: Callable[[], None],
    ) -> None:
        """What it asks of the event loop comes as functions.

        `estate` returns all that there is to hand over. `catch_up` handles the packets that have come, `stand_aside`
        has nothing more be done of what is ready. `answering` says in a few words what natlb does, `start` runs what
        goes on in the background, and `stop` ends natlb.
        """
        self._offer = offer
        self._tenure = tenure
        self._reloader = reloader
        self._succession = succession
        self._diversion = diversion
        self._guard = guard
        self._roster = roster
        self._offloader = offloader
        self._estate = estate
        self._catch_up = catch_up
        self._stand_aside = stand_aside
        self._answering = answering
        self._start = start
        self._stop = stop

    def begin(self) -> None:
        """Expect successors; and end, if this process is kept by another, when that has ended."""
        self._offer.begin()
        self._start(self._expect_heirs())
        self._start(self._end_with_keeper())

    async def _expect_heirs(self) -> None:
        """Hand everything on to whoever comes for it, one after the other."""
        while True:
            await readable(self._offer.socket)
            heir = self._offer.accept()
            if heir is not None:
                self._start(self._converse(heir))

    async def _converse(self, heir: Heir) -> None:
        failure = ""
        try:
            while not self._tenure.is_over and (words := await heir.hear()):
                word, _, failure = words.partition(" ")
                if word == "estate":
                    heir.give(self._estate())
                elif word == "record":
                    for _ in self._succession.refresh():
                        await asyncio.sleep(0)
                    heir.confirm()
                elif word == "yield":
                    failure = await self._yield_to(heir)
                    break
        except OSError as error:
            failure = str(error)
        finally:
            heir.close()
        if failure:
            log.warning("natlb %d has not taken this one's place, which goes on: %s", heir.pid, failure)

    async def _yield_to(self, heir: Heir) -> str:
        """Stand still until the other goes on from here; if it does not, return why, and nothing has happened."""
        # Whatever is being changed in a thread is done with first.
        async with self._roster.undisturbed(), self._offloader.undisturbed(), self._guard.undisturbed():
            if self._tenure.is_over:
                return "another one has"
            # Signals that come from here on wait until it is certain who is to hear them. Those that have come are
            # heard first: in one turn the loop sees that there are any, in the next it tells of them; one may end it.
            with _held_back(keeper.PASSED_ON):
                for _ in range(3):
                    await asyncio.sleep(0)
                notify.reloading()
                self._catch_up()
                self._succession.hand_over()
                failure = heir.yield_to(self._diversion.fingerprint)
                if not failure:
                    self._tenure.owner = Owner.SUCCESSOR
                    self._stand_aside()
                    stays = self._reloader is not None and self._reloader.keeps(heir.pid)
                    if stays:
                        for signum in keeper.PASSED_ON:
                            asyncio.get_running_loop().remove_signal_handler(signum)
                        self._tenure.noted = keeper.prepare()
                    else:
                        notify.tell(f"MAINPID={heir.pid}")  # it says itself that it is ready, as soon as it may
                    heir.bid_farewell(ends=not stays)
                    if self._reloader is not None:
                        self._reloader.hand_on(heir.pid)
            if not failure:
                notice(f"natlb {heir.pid} goes on from here")
                self._stop()
                return ""
            self._succession.take_back()
            notify.ready(self._answering())
            try:
                await asyncio.to_thread(self._diversion.again)
            except DatapathError as error:
                log.error("the rules are perhaps not as they should be: %s", error)
            return failure

    async def _end_with_keeper(self) -> None:
        """End when the process has ended that keeps this one: without giving anything back, since it was killed.

        Whoever started it starts another natlb now, which goes on from here as it does when this one is killed.
        """
        pid = keeper_of(os.environ)
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                await readable(descriptor)
            finally:
                os.close(descriptor)
        log.warning("the process that was reloaded has been killed: natlb ends as if it were itself")
        self._tenure.owner = Owner.SUCCESSOR
        self._stand_aside()
        self._stop()


@contextlib.contextmanager
def _held_back(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Have signals that come inside the block come when it is over, however it ends."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
