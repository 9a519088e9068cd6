"""The checks of all servers: when each is asked, what follows from the answers, who is told.

One event loop asks thousands of servers, without a thread or a task that waits for each: every server has one timer, a
check is a task while it lasts, and there are never more than a given number of those. The first checks are spread over
the interval, so that they do not come in bursts: the place of the n-th server in it is n times the golden ratio, less
the whole part, which fills the interval evenly however many come. `spread-checks` then keeps them from drifting
together.

What the answers mean is HAProxy's: see `Judge` for the counter, and `complaints` for what UDP does not answer. A change
of one server is passed on to those that track it. Clients' own connections count too where a server is observed: so
many failures in a row, and something is done at once, long before the next check is due.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, Literal

from natlb.health.complaints import Complaints
from natlb.health.conversation import Answer, ask
from natlb.health.server import Cause, CheckSettings, Operation, ServerHealth
from natlb.health.status import Result, Status
from natlb.questions import Connect

OnChange = Callable[[ServerHealth, Cause, Operation], None]
"""Told of a server, why it changed, and what it did before; what it does now it knows itself."""
OnReport = Callable[[ServerHealth], None]
"""Told of a server whose last check is worth a line in a log."""

_TIMEOUTS: Final = frozenset((Status.L4TOUT, Status.L6TOUT, Status.L7TOUT))

_STOOD_STILL: Final = 2.0
"""Seconds that a check may be waited for beyond its time without anybody wondering."""

_GOLDEN: Final = (5**0.5 - 1) / 2


class _Schedule:
    """The checks of one server in time."""

    __slots__ = ("overslept", "task", "timer", "waiting")

    def __init__(self) -> None:
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.waiting = False
        """Whether its check is due and has to wait for others."""
        self.overslept = False
        """Whether the last check says nothing, since nobody looked when its answer should have come."""


class Checks:
    """The health of all servers, by name (`backend/server`). Needs a running event loop."""

    def __init__(
        self,
        on_change: OnChange,
        on_report: OnReport = lambda _: None,
        on_drain: OnReport = lambda _: None,
        *,
        spread_percent: float = 0,
        longest_spread: float | None = None,
        most_at_once: int = 256,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Begin with no server.

        `on_drain` is told of servers that are drained with the one that they track, and when they no longer are.
        `spread_percent` is how far from its interval a check may be, at random; `longest_spread` bounds the seconds
        from the first server's first check to the last one's. `chance` draws from 0 to 1.
        """
        self._loop = asyncio.get_running_loop()
        self._on_change = on_change
        self._on_report = on_report
        self._on_drain = on_drain
        self._spread = spread_percent / 100
        self._longest_spread = longest_spread
        self._most_at_once = most_at_once
        self._chance = chance
        self._healths: dict[str, ServerHealth] = {}
        self._schedules: dict[str, _Schedule] = {}
        self._queue: deque[str] = deque()
        self._asking = 0
        self._ever_added = 0
        self._complaints = Complaints()

    def __getitem__(self, name: str) -> ServerHealth:
        """The health of a server. Raises KeyError for one that is not there."""
        return self._healths[name]

    def get(self, name: str) -> ServerHealth | None:
        """The health of a server, or None for one that is not there."""
        return self._healths.get(name)

    def __iter__(self) -> Iterator[ServerHealth]:
        """All servers, in the order in which they were added."""
        return iter(self._healths.values())

    def __len__(self) -> int:
        """How many servers there are."""
        return len(self._healths)

    def add(
        self, name: str, settings: CheckSettings | None, *, track: str | None = None, maintenance: bool = False
    ) -> ServerHealth:
        """Take on a server; without `settings` it is not checked.

        `track` names the server whose health it shares, which must be there. Raises ValueError if it is not, or if
        `name` is taken.
        """
        if name in self._healths:
            raise ValueError(f"there is a server '{name}' already")
        if track is not None and track not in self._healths:
            raise ValueError(f"there is no server '{track}' to track")
        health = ServerHealth(name, settings, self._loop.time())
        self._healths[name] = health
        if track is not None:
            health.tracked = self._healths[track]
            health.tracked.trackers.append(health)
            health.operation = health.tracked.operation
        health.in_maintenance = maintenance
        if health.maintained:
            health.operation = Operation.STOPPED
            health.judge.health = 0
        if settings is not None:
            self._schedules[name] = _Schedule()
            self._ever_added += 1
            window = settings.intervals.normal
            if self._longest_spread:
                window = min(window, self._longest_spread)
            self._plan(health, window * ((self._ever_added - 1) * _GOLDEN % 1))
        return health

    def remove(self, name: str) -> None:
        """Forget a server. Raises ValueError while others track it."""
        health = self._healths[name]
        if health.trackers:
            raise ValueError(f"'{health.trackers[0].name}' tracks '{name}'")
        if health.tracked is not None:
            health.tracked.trackers.remove(health)
        del self._healths[name]
        self._complaints.forget(health)
        schedule = self._schedules.pop(name, None)
        if schedule is not None:
            _stop(schedule)

    async def close(self) -> None:
        """Stop all checks."""
        tasks = []
        for schedule in self._schedules.values():
            _stop(schedule)
            if schedule.task is not None:
                tasks.append(schedule.task)
        self._schedules.clear()
        self._healths.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What the operator wants

    def force(self, name: str, state: Literal["up", "stopping", "down"]) -> None:
        """Say what a server's checks should have found; they go on from there.

        Raises ValueError, with HAProxy's words, for one that tracks another.
        """
        health = self._healths[name]
        if health.tracked is not None:
            raise ValueError("cannot change health on a tracking server.")
        health.judge.health = 0 if state == "down" else health.judge.best
        operation = {"up": Operation.RUNNING, "stopping": Operation.STOPPING, "down": Operation.STOPPED}[state]
        self._change(health, operation, Cause.OPERATOR)

    def pause(self, name: str) -> None:
        """Take a server into maintenance, and those along that track it: no checks, no new connections."""
        health = self._healths[name]
        before = health.maintained
        health.in_maintenance = True
        if not before:
            self._enter_maintenance(health)

    def resume(self, name: str) -> None:
        """End a server's maintenance: it is up, one failure away from down, and checked at once."""
        health = self._healths[name]
        before = health.maintained
        health.in_maintenance = False
        if before and not health.maintained:
            self._leave_maintenance(health)

    def drain(self, name: str, drained: bool) -> None:
        """Note whether a server is to get no new connections, and take those along that track it."""
        health = self._healths[name]
        before = health.drained
        health.in_drain = drained
        if health.drained is not before:
            self._drain_trackers(health)

    def enable(self, name: str) -> None:
        """Let a server be checked again. Raises ValueError, with HAProxy's words, for one without checks."""
        self._checked(name, "enable").enabled = True

    def disable(self, name: str) -> None:
        """Let a server stay what it is, unchecked. Raises ValueError as `enable` does."""
        self._checked(name, "disable").enabled = False

    def _checked(self, name: str, verb: str) -> ServerHealth:
        health = self._healths[name]
        if health.settings is None:
            raise ValueError(f"Health check was not configured on this server, cannot {verb}.")
        return health

    def aim(self, name: str, address: str, port: int) -> None:
        """Check a server at another address and port from now on."""
        health = self._healths[name]
        if health.settings is not None:
            health.settings = replace(health.settings, address=address, port=port)

    # What clients' connections tell

    def observe(self, name: str, connected: bool) -> None:
        """Note that a client's connection reached the server or failed to; counts if the server is observed."""
        health = self._healths.get(name)
        if health is None or health.settings is None or not health.settings.observed or not health.checked:
            return
        if connected:
            health.consecutive_errors = 0
            return
        settings = health.settings
        health.consecutive_errors += 1
        if health.consecutive_errors < settings.error_limit:
            return
        errors, health.consecutive_errors = health.consecutive_errors, 0
        health.failed_observations += 1
        if settings.on_error != "fastinter":
            if settings.on_error == "sudden-death":
                health.judge.weaken()
            elif settings.on_error == "mark-down":
                health.judge.doom()
            what = f"Detected {errors} consecutive errors, last one was: L4 unsuccessful connection"
            self._conclude(health, Answer(Status.HANA, what, 0, 0.0))
        self._hurry(health)

    def _hurry(self, health: ServerHealth) -> None:
        """Check within `fastinter`, unless that is going to happen anyway."""
        schedule = self._schedules[health.name]
        if health.settings is not None and schedule.timer is not None:
            soon = self._loop.time() + health.settings.intervals.in_transition
            if soon < schedule.timer.when():
                self._plan(health, health.settings.intervals.in_transition)

    # What the checks tell

    def _plan(self, health: ServerHealth, seconds: float) -> None:
        schedule = self._schedules[health.name]
        if schedule.timer is not None:
            schedule.timer.cancel()
        schedule.timer = self._loop.call_later(seconds, self._due, health)

    def _plan_next(self, health: ServerHealth) -> None:
        interval = health.interval
        self._plan(health, interval * (1 + self._spread * (1 - 2 * self._chance())))

    def _due(self, health: ServerHealth) -> None:
        """A server's next check is due: begin it, or let it wait for its turn among those of its host."""
        schedule = self._schedules[health.name]
        schedule.timer = None
        settings = health.settings
        if settings is not None and settings.question.kind == "udp" and health.checked:
            seconds = self._complaints.wait(settings.address, self._loop.time())
            if seconds > 0:
                schedule.timer = self._loop.call_later(seconds, self._start, health)
                return
        self._start(health)

    def _start(self, health: ServerHealth) -> None:
        """It is a server's turn: begin its check, or let it wait for a place."""
        schedule = self._schedules[health.name]
        schedule.timer = None
        if not health.checked:
            self._plan_next(health)
        elif self._asking >= self._most_at_once:
            schedule.waiting = True
            self._queue.append(health.name)
        else:
            self._begin(health, schedule)

    def _begin(self, health: ServerHealth, schedule: _Schedule) -> None:
        self._asking += 1
        health.running = True
        schedule.task = self._loop.create_task(self._ask(health))
        schedule.task.add_done_callback(lambda task: self._ended(health, task))

    def _ended(self, health: ServerHealth, task: asyncio.Task[None]) -> None:
        self._asking -= 1
        error = None if task.cancelled() else task.exception()
        if error is not None:  # a fault of ours: the loop's owner hears of it, and the server is asked again
            self._loop.call_exception_handler({"message": f"a check of {health.name}", "exception": error})
            if self._healths.get(health.name) is health:
                self._plan_next(health)
        self._next_in_line()

    def _next_in_line(self) -> None:
        """There is room for another check: the one that waits longest may begin."""
        while self._queue:
            name = self._queue.popleft()
            schedule = self._schedules.get(name)
            if schedule is None or not schedule.waiting:
                continue
            schedule.waiting = False
            health = self._healths[name]
            if health.checked:
                self._begin(health, schedule)
                return
            self._plan_next(health)

    async def _ask(self, health: ServerHealth) -> None:
        settings = health.settings
        if settings is None:
            raise AssertionError("a server without checks has no schedule")
        is_up = health.operation is not Operation.STOPPED
        sent = self._loop.time()
        try:
            answer = await ask(settings.question, settings.address, settings.port, settings.limits, is_up=is_up)
        finally:
            health.running = False
        schedule = self._schedules[health.name]
        schedule.task = None
        schedule.overslept = not schedule.overslept and _overslept(settings, answer)
        by_datagram = settings.question.kind == "udp"
        if schedule.overslept or (
            by_datagram and not self._complaints.believes(health, settings.address, answer, sent)
        ):
            self._plan(health, 0.0)
            return
        if health.checked:
            self._conclude(health, answer)
        self._plan_next(health)

    def _conclude(self, health: ServerHealth, answer: Answer) -> None:
        """Draw the conclusions from an answer."""
        before, health.last = health.last.status, answer
        passed = answer.status.result is not Result.FAILED
        if not passed and health.judge.health:
            health.failed_checks += 1
        moved = health.judge.record(passed)
        if passed:
            health.consecutive_errors = 0
        if moved or before is not answer.status:
            self._on_report(health)
        if not passed:
            if not health.judge.health:
                self._change(health, Operation.STOPPED, Cause.CHECK)
        elif health.judge.up:
            conditionally = answer.status.result is Result.CONDITIONALLY_PASSED
            self._change(health, Operation.STOPPING if conditionally else Operation.RUNNING, Cause.CHECK)

    # What follows

    def _change(self, health: ServerHealth, operation: Operation, cause: Cause) -> None:
        before = health.operation
        if health.maintained or before is operation:
            return
        health.change(operation, self._loop.time())
        self._on_change(health, cause, before)
        for tracker in health.trackers:
            self._change(tracker, operation, Cause.TRACKED)

    def _enter_maintenance(self, health: ServerHealth, cause: Cause = Cause.MAINTENANCE) -> None:
        before = health.operation
        health.judge.health = 0
        if before is not Operation.STOPPED:
            health.change(Operation.STOPPED, self._loop.time())
        self._on_change(health, cause, before)
        for tracker in health.trackers:
            if not tracker.in_maintenance:
                self._enter_maintenance(tracker, Cause.MAINTENANCE_THROUGH)

    def _drain_trackers(self, health: ServerHealth) -> None:
        for tracker in health.trackers:
            self._on_drain(tracker)
            if not tracker.in_drain:
                self._drain_trackers(tracker)

    def _leave_maintenance(self, health: ServerHealth, cause: Cause = Cause.MAINTENANCE) -> None:
        if health.enabled:
            health.judge.health = health.judge.rise
        operation = Operation.RUNNING if health.tracked is None else health.tracked.operation
        if operation is not Operation.STOPPED:
            health.change(operation, self._loop.time())
        self._on_change(health, cause, Operation.STOPPED)
        schedule = self._schedules.get(health.name)
        if schedule is not None and schedule.timer is not None:
            self._plan(health, 0.0)
        for tracker in health.trackers:
            if not tracker.in_maintenance:
                self._leave_maintenance(tracker, Cause.MAINTENANCE_THROUGH)


def _overslept(settings: CheckSettings, answer: Answer) -> bool:
    """Whether a check that had to wait for too long was waited for much longer still.

    Then the machine was suspended, or natlb stopped, and the answer may have come in time. That counts once: where
    everything is that late, a server that is down must be found to be so all the same.
    """
    if answer.status not in _TIMEOUTS:
        return False
    connections = sum(isinstance(step, Connect) for step in settings.question.steps) or 1
    patience = connections * (settings.limits.connecting + (settings.limits.answering or 0.0))
    return answer.duration > patience + _STOOD_STILL


def _stop(schedule: _Schedule) -> None:
    schedule.waiting = False
    if schedule.timer is not None:
        schedule.timer.cancel()
    if schedule.task is not None:
        schedule.task.cancel()
