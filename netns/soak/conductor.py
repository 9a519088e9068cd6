"""All of a soak, in its time: traffic, churn and faults; then silence, and the question whether all is as before.

Traffic, churn and faults go on beside each other until the time is over, somebody interrupts, or natlb is gone. Then
churn and faults end with what they are at, traffic says its last words, and natlb must come back to where it was: no
open connection in its table, memory within a bound, descriptors and threads as after the warm-up, and its counters must
agree with what was counted here.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from netns.console import Progress
from netns.errors import LabError
from netns.soak import churn, faults
from netns.soak.accounts import CORRUPTED, LOST, Accounts, Injected
from netns.soak.channel import Channel, listen
from netns.soak.faults import Fault
from netns.soak.plans import chance
from netns.soak.scene import Scene, aside
from netns.soak.stage import Stage
from netns.soak.vitals import Vitals

_MOST_SAMPLES = 1200
"""Points of the picture: of a long soak some are left out."""
_FINISHED_WITHIN = 200.0
"""Seconds for all traffic to end, once it is told to."""
_SETTLED_WITHIN = 220.0
"""Seconds for natlb to see that everything is over: its longest timeout here, and some."""
_FORGOTTEN_WITHIN = 300.0
"""Seconds for it to forget what is over: four minutes (RFC 5382, REQ-5), and some."""
_LOOKED_FOR = 10.0
"""Seconds in which natlb is looked at after its warm-up."""
LONG = 600.0
"""Seconds of a soak from which on that is waited for."""
_MOST_PROBLEMS = 50

_OVER = frozenset({"BOTH_FIN", "TRANS", "ABORTED", "SHUT"})
"""States, as natlb tells them, of connections that are over, and only in its table for late packets."""


@dataclass(slots=True)
class Sample:
    """One moment."""

    at: float
    """Seconds since the beginning."""
    open: int
    made: int
    verified: int
    vitals: Vitals | None


@dataclass(slots=True)
class Rest:
    """natlb at the end, when nothing is left to do."""

    entries: int
    """In its table."""
    open: int
    """Of these, not over."""
    vitals: Vitals | None
    sent_again: int
    """SYNs that the client has sent again."""
    totals: Counter[str]
    """Connections and flows that it has counted, by section, all that ran one after the other together."""


@dataclass(slots=True)
class Outcome:
    """What a soak has found."""

    seconds: float = 0.0
    """How long it went on."""
    interrupted: bool = False
    samples: list[Sample] = field(default_factory=list)
    changes: Counter[str] = field(default_factory=Counter)
    warm: Vitals | None = None
    rest: Rest | None = None
    activity: list[str] = field(default_factory=list)
    """What natlb has counted of packets, a line each."""
    log: str = ""
    """All that natlb has said, in all its lives."""
    problems: list[str] = field(default_factory=list)
    """What went wrong besides connections and bytes."""


class Conductor:
    """One soak, in a lab that is up."""

    def __init__(self, scene: Scene, seconds: float, progress: Progress) -> None:
        self._scene = scene
        self._seconds = seconds
        self._progress = progress
        self.accounts = Accounts(scene.seed)
        self.outcome = Outcome()
        self.stage = Stage(scene, self.accounts, chance(scene.seed, "stage"))
        self._over = asyncio.Event()
        self._client: Channel | None = None
        self._channels: set[Channel] = set()
        self._client_finished = asyncio.Event()
        self._pulses: Counter[str] = Counter()
        self._at = 0.0

    def interrupt(self) -> None:
        """End it before its time."""
        self.outcome.interrupted = True
        self._over.set()

    async def run(self) -> None:
        """Do all of it; what was found is in `outcome` and `accounts`. LabError when it could not even begin."""
        scene = self._scene
        await aside(scene.prepare)
        server = await listen(scene.conductor, self._meet)
        try:
            for host in scene.server_hosts:
                await self.stage.start_server(host)
            await aside(scene.start_natlb)
            await aside(scene.start_client)
            self._at = self.accounts.at = time.monotonic()
            shutting = asyncio.create_task(self._shut())
            try:
                await self._play()
                self.outcome.seconds = time.monotonic() - self._at
                await self._finish()
            finally:
                shutting.cancel()
                await asyncio.gather(shutting, return_exceptions=True)
            self.outcome.log = "".join(self.stage.logs) + scene.natlb.log()
        finally:
            server.close()
            for channel in list(self._channels):
                await channel.close()

    # -- while it goes on

    async def _play(self) -> None:
        """Have everything go on at the same time, until it is over."""
        await asyncio.gather(self._change(), self._break(), self._delete(), self._sample(), self._wait())

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), self._seconds)
        self._over.set()

    async def _pause(self, seconds: float) -> bool:
        """Let time pass; return whether it is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)
        return self._over.is_set()

    async def _change(self) -> None:
        """Do what an operator does."""
        source = chance(self._scene.seed, "churn")
        possible = {name: change for name, change in churn.CHANGES.items() if change.possible(self._scene)}
        weights = [change.weight for change in possible.values()]
        while not await self._pause(source.expovariate(1 / churn.GAP)):
            (name,) = source.choices(list(possible), weights)
            with self._noted(f"churn, {name}"):
                await possible[name].make(self.stage)
                self.outcome.changes[name] += 1

    async def _break(self) -> None:
        """Break one thing after the other."""
        source = chance(self._scene.seed, "faults")
        possible = await aside(
            lambda: {name: fault for name, fault in faults.FAULTS.items() if fault.possible(self._scene)}
        )
        weights = [fault.weight for fault in possible.values()]
        while not await self._pause(source.expovariate(1 / faults.GAP)):
            (name,) = source.choices(list(possible), weights)
            await self._inject(name, possible[name])

    async def _inject(self, name: str, fault: Fault) -> None:
        made = Injected(name, time.monotonic(), fault.ends, fault.loses, fault.doubles)
        self.accounts.faults.append(made)
        with self._noted(name):
            await fault.make(self.stage, made)
        made.ended = time.monotonic()

    async def _shut(self) -> None:
        """Shut down what is to be shut down, as long as traffic goes on."""
        while True:
            with self._noted("connections are shut down"):
                await self.stage.shut()
            await asyncio.sleep(0.5)

    async def _delete(self) -> None:
        while not await self._pause(2.0):
            with self._noted("churn, delete"):
                await self.stage.delete()

    async def _sample(self) -> None:
        """Look at everything once a second."""
        every = max(1.0, self._seconds / _MOST_SAMPLES)
        due = 0.0
        while not await self._pause(1.0):
            now = time.monotonic()
            self.accounts.sweep(now)
            vitals = self._vitals()
            passed = now - self._at
            if passed >= due:
                due += every
                made = self.accounts.made.total()
                self.outcome.samples.append(Sample(passed, len(self.accounts.open), made, self._verified, vitals))
            if vitals and 0 <= passed - warm_up(self._seconds) < _LOOKED_FOR:
                self.outcome.warm = vitals.at_rest(self.outcome.warm)
            self._progress.passing(self._line(passed, vitals))
            self._look_after()
            with self._noted("looking up who was lost"):
                await self.stage.look_up()

    def _vitals(self) -> Vitals | None:
        return Vitals.of(self._scene.pid)

    @property
    def _verified(self) -> int:
        return max(self._pulses.total(), self.accounts.verified)

    def _line(self, passed: float, vitals: Vitals | None) -> str:
        now = next((each.kind for each in self.accounts.faults[-1:] if each.ended is None), "")
        ends, datagrams = self.accounts.ends, self.accounts.datagrams
        wrong = ends[LOST] + ends[CORRUPTED] + datagrams.wrong + len(self.outcome.problems)
        resident = f"{vitals.resident:.0f} MB" if vitals else "gone"
        return (
            f"{clock(passed)} of {clock(self._seconds)}: {self.accounts.made.total():,} connections,"
            f" {len(self.accounts.open)} open, {self._verified / 1e6:,.0f} MB, {len(self.accounts.faults)} faults,"
            f" natlb {resident}{f', {wrong} WRONG' * bool(wrong)}{f' ({now})' * bool(now)}"
        )

    def _look_after(self) -> None:
        """See whether all that should run runs."""
        scene = self._scene
        for program in (scene.client, *scene.servers.values(), scene.natlb):
            if not program.alive and not self.stage.away.locked() and not self.stage.api.locked():
                self._problem(str(program.failure("")))
                self._over.set()

    @contextlib.contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        """Note what goes wrong in the block, and go on."""
        try:
            yield
        except (LabError, OSError) as error:
            self._problem(f"{clock(time.monotonic() - self._at)}, {what}: {error}")

    def _problem(self, words: str) -> None:
        if len(self.outcome.problems) < _MOST_PROBLEMS:
            self.outcome.problems.append(words)

    # -- the programs

    async def _meet(self, channel: Channel) -> None:
        """Have a program tell what it tells, until it is gone."""
        name = "?"

        def hear(message: dict[str, object]) -> None:
            nonlocal name
            match message["what"]:
                case "hello":
                    name = str(message["name"])
                    if name == "client":
                        self._client = channel
                case "pulse":
                    self._pulses[name] = int(str(message["verified"]))
                case "broken":
                    self._problem(f"the program {name}: {message['why']}")
                case "finished":
                    self._client_finished.set()
                case "to be shut":
                    self.stage.to_shut.add(int(str(message["id"])))
                case _:
                    self.accounts.hear(message, name, time.monotonic())

        self._channels.add(channel)
        try:
            await channel.hear(hear)
        finally:
            self._channels.discard(channel)
        if name == "client":
            self._client_finished.set()
        else:
            self.accounts.killed(name, time.monotonic())

    # -- afterwards

    async def _finish(self) -> None:
        """Let traffic end and natlb come to rest, and see what is left."""
        self._progress("traffic ends")
        if self._client:
            self._client.tell("finish")
        if not await self._until(self._client_finished.is_set, _FINISHED_WITHIN):
            self._problem(f"the clients have not finished within {_FINISHED_WITHIN:g} s")
        await self._until(lambda: not self.accounts.open, _FINISHED_WITHIN)
        self.accounts.give_up(time.monotonic())
        if not self._scene.natlb.alive:
            self._problem(str(self._scene.natlb.failure("")))
            return
        self._progress("natlb comes to rest")
        with self._noted("at the end"):
            await self.stage.look_up()
            await self._rest()

    async def _rest(self) -> None:
        deadline = time.monotonic() + _SETTLED_WITHIN
        while self.stage.to_delete and time.monotonic() < deadline:
            await self.stage.delete()
            await asyncio.sleep(0.5)
        if self.stage.to_delete:
            self._problem(f"natlb has not deleted {', '.join(self.stage.to_delete)}")
        is_long = self._seconds >= LONG and not self.outcome.interrupted
        entries, is_open = [], []
        for patience, wanted in ((_SETTLED_WITHIN, "open"), (_FORGOTTEN_WITHIN * is_long, "all")):
            deadline = time.monotonic() + patience
            while True:
                entries = await aside(self._scene.entries)
                is_open = [entry for entry in entries if entry.state not in _OVER]
                if not (is_open if wanted == "open" else entries) or time.monotonic() > deadline:
                    break
                await asyncio.sleep(1.0)
        totals = Counter(await aside(self._scene.totals)) + self.stage.earlier
        if is_open:
            self._problem(f"natlb still has {len(is_open)} connections that are over, such as {is_open[0]}")
        elif is_long and entries:
            self._problem(f"natlb has not forgotten {len(entries)} connections that are over, such as {entries[0]}")
        vitals = None
        for _ in range(10):
            vitals = seen.at_rest(vitals) if (seen := self._vitals()) else vitals
            await asyncio.sleep(0.2)
        self.outcome.activity = (await aside(self._scene.ask, "show activity")).strip().splitlines()
        offload = await aside(self._scene.ask, "show offload")
        if "differences: 0" not in offload.splitlines():
            self._problem(f"the kernel has carried packets otherwise than natlb would have: {offload}")
        sent_again = await aside(self._scene.sent_again)
        status = await aside(self._scene.natlb.stop)
        if status:
            self._problem(str(self._scene.natlb.failure("")))
        self.outcome.rest = Rest(len(entries), len(is_open), vitals, sent_again, totals)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition, going on to look after what is open; return whether it came true."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or not self._scene.natlb.alive:
                return False
            self.accounts.sweep(time.monotonic())
            await asyncio.sleep(0.2)
        return True


def warm_up(seconds: float) -> float:
    """Return how long natlb has to warm up in a soak of so many seconds."""
    return min(300.0, seconds / 2)


def clock(seconds: float) -> str:
    """Write a time as minutes and seconds, with hours if there are any."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
