"""Many servers, one loop: when each is asked, what follows, and who is told.

But for the last test answers are scripted and the time is the loop's own, so nothing here depends on who else is busy.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from natlb.health import checks as module
from natlb.health.checks import Checks
from natlb.health.conversation import Answer, Limits
from natlb.health.server import Cause, CheckSettings, Intervals, OnError, Operation, ServerHealth
from natlb.health.status import Status
from tests.garbage import collected_as_in_natlb
from tests.travel import Loop

from .servers import saying, serving

TICK = 0.01
GOOD, BAD, LESS = Status.L4OK, Status.L4CON, Status.L7OKC


class Story:
    """Checks of servers whose answers are told by letters; the last one stays.

    `+` passes, `-` fails, `~` is L7OKC; `t` is a timeout, `z` one that was noticed a minute later.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.reported: list[tuple[str, str]] = []
        self.asked: list[tuple[str, float]] = []
        self.answers: dict[str, str] = {}
        self.going_on = self.most_at_once = 0
        self.takes = 0.0
        monkeypatch.setattr(module, "ask", self._ask)
        self.checks = Checks(self._on_change, self._on_report, chance=lambda: 0.5, **settings)

    async def _ask(self, question: object, address: str, *_: object, is_up: bool) -> Answer:
        self.asked.append((address, asyncio.get_running_loop().time()))
        self.going_on += 1
        self.most_at_once = max(self.most_at_once, self.going_on)
        await asyncio.sleep(self.takes)
        self.going_on -= 1
        answers = self.answers[address]
        self.answers[address] = answers[1:] or answers
        status = {"+": GOOD, "-": BAD, "~": LESS, "t": Status.L4TOUT, "z": Status.L4TOUT}[answers[0]]
        return Answer(status, "", 0, {"t": 1.5, "z": 60.0}.get(answers[0], 0.0))

    def _on_change(self, health: ServerHealth, cause: Cause, before: Operation) -> None:
        assert health.operation is not before or cause in (Cause.MAINTENANCE, Cause.MAINTENANCE_THROUGH)
        self.told.append((health.name, health.operation.name, cause.name))

    def _on_report(self, health: ServerHealth) -> None:
        self.reported.append((health.name, health.last.status.code))

    def add(self, name: str, answers: str, inter: float = TICK, **more: Any) -> ServerHealth:
        self.answers[name] = answers
        intervals = more.pop("intervals", Intervals(inter, inter, inter))
        track = more.pop("track", None)
        maintenance = more.pop("maintenance", False)
        settings = CheckSettings(name, 80, intervals, Limits(1.0), **more)
        return self.checks.add(name, settings, track=track, maintenance=maintenance)

    def times(self, name: str) -> list[float]:
        return [at for address, at in self.asked if address == name]


Play = Callable[[Callable[[Story], Coroutine[None, None, None]]], None]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def run(scene: Callable[[Story], Coroutine[None, None, None]], **settings: Any) -> None:
        async def whole() -> None:
            story = Story(monkeypatch, **settings)
            await scene(story)
            await story.checks.close()

        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(whole())

    return run


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(TICK / 4)


def test_a_server_goes_down_and_up_and_each_is_told_once(play: Play) -> None:
    async def scene(story: Story) -> None:
        health = story.add("b/s", "+----+++")
        await until(lambda: len(story.asked) >= 10)
        assert story.told == [("b/s", "STOPPED", "CHECK"), ("b/s", "RUNNING", "CHECK")]
        assert (health.failed_checks, health.times_down, health.healthy) == (3, 1, True)
        assert story.reported[:4] == [("b/s", "L4OK")] + [("b/s", "L4CON")] * 3

    play(scene)


def test_a_check_that_nobody_looked_after_is_asked_again_at_once_and_not_counted(play: Play) -> None:
    """As after a suspended machine: the answer has perhaps been there all the time."""

    async def scene(story: Story) -> None:
        health = story.add("b/s", "z+", inter=3600, fall=1)
        await until(lambda: len(story.asked) >= 2)
        assert (story.told, health.failed_checks) == ([], 0)

    play(scene)


@pytest.mark.parametrize("answers", ["+t", "+zt", "+z"], ids=["on time", "the second time", "always late"])
def test_a_server_that_does_not_answer_goes_down_however_late_that_is_noticed(play: Play, answers: str) -> None:
    async def scene(story: Story) -> None:
        story.add("b/s", answers, fall=1)
        await until(lambda: bool(story.told))
        assert story.told == [("b/s", "STOPPED", "CHECK")]

    play(scene)


def test_a_new_server_is_one_failure_from_down(play: Play) -> None:
    async def scene(story: Story) -> None:
        health = story.add("b/s", "-")
        assert health.status() == "UP 1/3"
        await until(lambda: bool(story.told))
        assert len(story.asked) == 1
        assert health.status() == "DOWN"

    play(scene)


def test_the_interval_depends_on_where_the_server_is(play: Play) -> None:
    async def scene(story: Story) -> None:
        story.add("b/s", "++---++", intervals=Intervals(0.2, 0.02, 0.1))
        await until(lambda: len(story.asked) >= 8)
        pauses = [later - earlier for earlier, later in itertools.pairwise(story.times("b/s"))]
        assert pauses == pytest.approx([0.2, 0.2, 0.02, 0.02, 0.1, 0.02, 0.2])

    play(scene)


def test_the_first_checks_fill_the_interval_evenly(play: Play) -> None:
    async def scene(story: Story) -> None:
        for number in range(100):
            story.add(f"b/{number}", "+", inter=1.0)
        started = asyncio.get_running_loop().time()
        await until(lambda: len(story.asked) >= 100)
        due = sorted(at - started for _, at in story.asked[:100])
        assert due[-1] < 1.0
        assert max(later - earlier for earlier, later in itertools.pairwise(due)) < 0.03

    play(scene)


def test_max_spread_checks_is_the_most_that_the_first_checks_are_apart(play: Play) -> None:
    async def scene(story: Story) -> None:
        started = asyncio.get_running_loop().time()
        for number in range(20):
            story.add(f"b/{number}", "+", inter=60.0)
        await until(lambda: len(story.asked) >= 20)
        assert asyncio.get_running_loop().time() - started < 0.05 + TICK

    play(scene, longest_spread=0.05)


@pytest.mark.parametrize(("chance", "pause"), [(0.0, 0.15), (1.0, 0.05)])
def test_spread_checks_moves_a_check_by_so_many_percent(play: Play, chance: float, pause: float) -> None:
    async def scene(story: Story) -> None:
        story.checks._chance = lambda: chance
        story.add("b/s", "+", inter=0.1)
        await until(lambda: len(story.asked) >= 3)
        times = story.times("b/s")
        assert times[2] - times[1] == pytest.approx(pause)

    play(scene, spread_percent=50)


def test_there_are_never_more_checks_at_once_than_allowed_and_nobody_starves(play: Play) -> None:
    async def scene(story: Story) -> None:
        story.takes = 0.01
        for number in range(30):
            story.add(f"b/{number}", "+", inter=0.01)
        await until(lambda: len(story.asked) >= 200)
        assert story.most_at_once == 4
        counts = [len(story.times(f"b/{number}")) for number in range(30)]
        assert max(counts) - min(counts) <= 2

    play(scene, most_at_once=4)


def test_maintenance_stops_checks_and_afterwards_one_comes_at_once(play: Play) -> None:
    async def scene(story: Story) -> None:
        health = story.add("b/s", "+", inter=0.05)
        await until(lambda: len(story.asked) >= 2)
        story.checks.pause("b/s")
        story.checks.pause("b/s")
        assert (health.status(), health.healthy, health.judge.health) == ("MAINT", False, 0)
        asked = len(story.asked)
        await asyncio.sleep(0.12)
        assert len(story.asked) == asked
        story.checks.resume("b/s")
        story.checks.resume("b/s")
        assert (health.status(), health.healthy) == ("UP 1/3", True)
        await until(lambda: len(story.asked) > asked, 0.04)
        assert [(operation, cause) for _, operation, cause in story.told] == [
            ("STOPPED", "MAINTENANCE"),
            ("RUNNING", "MAINTENANCE"),
        ]

    play(scene)


def test_a_server_that_starts_in_maintenance_is_not_checked_and_was_never_up(play: Play) -> None:
    async def scene(story: Story) -> None:
        health = story.add("b/s", "+", maintenance=True)
        await asyncio.sleep(5 * TICK)
        assert (story.asked, health.status(), health.times_down) == ([], "MAINT", 0)

    play(scene)


def test_those_that_track_a_server_go_with_it_along_the_chain(play: Play) -> None:
    async def scene(story: Story) -> None:
        story.add("b/s", "+---++")
        first = story.checks.add("b/t", None, track="b/s")
        second = story.checks.add("c/u", None, track="b/t")
        await until(lambda: len(story.told) == 3)
        assert story.told == [
            ("b/s", "STOPPED", "CHECK"),
            ("b/t", "STOPPED", "TRACKED"),
            ("c/u", "STOPPED", "TRACKED"),
        ]
        assert second.columns(0.0)["tracked"] == "b/t"
        await until(lambda: len(story.told) == 6)
        assert first.healthy
        assert second.healthy
        story.checks.pause("b/s")
        assert (first.status(), second.status()) == ("MAINT (via b/s)", "MAINT (via b/t)")
        story.checks.pause("b/t")
        story.checks.resume("b/s")
        assert (first.status(), second.status()) == ("MAINT", "MAINT (via b/t)")
        story.checks.resume("b/t")
        assert (first.healthy, second.healthy) == (True, True)
        with pytest.raises(ValueError, match="cannot change health on a tracking server"):
            story.checks.force("b/t", "down")
        with pytest.raises(ValueError, match="tracks"):
            story.checks.remove("b/s")
        story.checks.remove("c/u")
        story.checks.remove("b/t")
        story.checks.remove("b/s")
        assert len(story.checks) == 0

    play(scene)


def test_those_that_track_a_server_are_drained_with_it_along_the_chain(play: Play) -> None:
    async def scene(story: Story) -> None:
        drained = []
        checks = Checks(lambda *_: None, on_drain=lambda health: drained.append((health.name, health.drained)))
        checks.add("b/s", None)
        chain = [checks.add("b/t", None, track="b/s"), checks.add("c/u", None, track="b/t")]
        checks.drain("b/s", True)
        assert drained == [("b/t", True), ("c/u", True)]
        assert [health.state()["srv_admin_state"] for health in chain] == [16, 16]
        checks.drain("b/s", True)
        checks.drain("b/t", True)
        assert drained[2:] == [], "they are drained already"
        checks.drain("b/s", False)
        assert drained[2:] == [("b/t", True)], "it remains so, and with it what tracks it"
        assert [health.state()["srv_admin_state"] for health in chain] == [0, 16]
        assert checks.add("d/v", None, track="c/u").drained
        checks.drain("b/t", False)
        assert drained[3:] == [("c/u", False), ("d/v", False)]
        checks.pause("b/s")
        assert [health.state()["srv_admin_state"] for health in chain] == [2, 2]
        await checks.close()

    play(scene)


def test_the_operator_can_say_what_the_checks_found_and_they_go_on_from_there(play: Play) -> None:
    async def scene(story: Story) -> None:
        health = story.add("b/s", "+", inter=0.05)
        unchecked = story.checks.add("b/t", None)
        for name in ("b/s", "b/t"):
            story.checks.force(name, "down")
            story.checks.force(name, "stopping")
            story.checks.force(name, "up")
            story.checks.force(name, "down")
        assert [told[1:] for told in story.told[:4]] == [
            ("STOPPED", "OPERATOR"),
            ("STOPPING", "OPERATOR"),
            ("RUNNING", "OPERATOR"),
            ("STOPPED", "OPERATOR"),
        ]
        await until(lambda: health.healthy)
        assert unchecked.status() == "DOWN"

    play(scene)


def test_checks_can_be_disabled_and_then_the_server_stays_what_it_is(play: Play) -> None:
    async def scene(story: Story) -> None:
        health = story.add("b/s", "+-")
        story.checks.add("b/t", None)
        await until(lambda: health.operation is Operation.STOPPED)
        story.checks.disable("b/s")
        story.answers["b/s"] = "+"
        await asyncio.sleep(10 * TICK)
        assert (health.status(), "check_status" in health.columns(0.0)) == ("DOWN", False)
        story.checks.enable("b/s")
        await until(lambda: health.healthy)
        with pytest.raises(ValueError, match="Health check was not configured on this server, cannot enable"):
            story.checks.enable("b/t")

    play(scene)


def test_a_server_that_moved_is_checked_where_it_is_now(play: Play) -> None:
    async def scene(story: Story) -> None:
        story.add("b/s", "+")
        story.answers["b/new"] = "+"
        story.checks.aim("b/s", "b/new", 81)
        await until(lambda: bool(story.times("b/new")))

    play(scene)


def test_a_server_that_answers_404_on_purpose_gets_nothing_new_and_is_not_down(play: Play) -> None:
    async def scene(story: Story) -> None:
        health = story.add("b/s", "+~~+")
        await until(lambda: len(story.told) == 2)
        assert [told[1] for told in story.told] == ["STOPPING", "RUNNING"]
        assert health.times_down == 0

    play(scene)


@pytest.mark.parametrize(
    ("on_error", "status", "operation"),
    [
        ("fastinter", "UP", Operation.RUNNING),
        ("fail-check", "UP 2/3", Operation.RUNNING),
        ("sudden-death", "UP 1/3", Operation.RUNNING),
        ("mark-down", "DOWN", Operation.STOPPED),
    ],
)
def test_clients_that_get_no_answer_count_as_much_as_is_said(
    play: Play, on_error: OnError, status: str, operation: Operation
) -> None:
    async def scene(story: Story) -> None:
        intervals = Intervals(60.0, 0.05, 60.0)
        health = story.add("b/s", "+", intervals=intervals, observed=True, error_limit=3, on_error=on_error)
        story.checks.add("b/t", None)
        await until(lambda: health.status() == "UP" and not health.running)
        for connected in (False, False, True, False, False):
            story.checks.observe("b/s", connected)
        assert health.status() == "UP"
        story.checks.observe("b/s", False)
        story.checks.observe("b/t", False)
        story.checks.observe("b/gone", False)
        assert (health.status(), health.operation) == (status, operation)
        assert (health.failed_observations, health.columns(0.0)["hanafail"]) == (1, 1)
        if on_error != "fastinter":
            assert health.last.info == "Detected 3 consecutive errors, last one was: L4 unsuccessful connection"
            assert health.columns(0.0)["check_status"] == "HANA"
        await until(lambda: len(story.asked) == 2, 0.5)

    play(scene)


def test_a_fault_of_our_own_is_told_and_the_server_is_asked_again(play: Play) -> None:
    async def scene(story: Story) -> None:
        told: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        health = story.add("b/s", "+")
        story.answers.clear()
        await until(lambda: len(told) >= 2)
        assert set(told) == {"a check of b/s"}
        await until(lambda: not health.running)
        story.answers["b/s"] = "+"
        await until(lambda: health.status() == "UP")

    play(scene)


def test_a_name_is_taken_once_and_what_is_tracked_must_be_there(play: Play) -> None:
    async def scene(story: Story) -> None:
        story.add("b/s", "+")
        with pytest.raises(ValueError, match="there is a server 'b/s' already"):
            story.add("b/s", "+")
        with pytest.raises(ValueError, match="there is no server 'b/x' to track"):
            story.checks.add("b/t", None, track="b/x")
        assert [health.name for health in story.checks] == ["b/s"]
        assert story.checks["b/s"].name == "b/s"

    play(scene)


@pytest.mark.busy
def test_two_thousand_servers_are_checked_from_one_loop_without_holding_it_up() -> None:
    async def scene() -> None:
        up: set[str] = set()
        async with serving({"s": saying(then="hang")}) as ports:
            checks = Checks(lambda *_: None, lambda health: up.add(health.name), most_at_once=200)
            settings = CheckSettings("127.0.0.1", ports["s"], Intervals(4.0, 4.0, 4.0), Limits(4.0))
            for number in range(2000):
                checks.add(f"b/{number}", settings)
            held_up = 0.0
            loop = asyncio.get_running_loop()
            started = loop.time()
            while len(up) < 2000 and loop.time() - started < 60:
                before = time.thread_time()  # of the processor: what else runs here is not natlb's
                await asyncio.sleep(0.01)
                held_up = max(held_up, time.thread_time() - before)
            healthy = sum(health.healthy for health in checks)
            await checks.close()
        assert (len(up), healthy) == (2000, 2000)
        assert held_up < 0.5

    with collected_as_in_natlb():
        asyncio.run(scene())
