"""Hosts that complain once a second, as Linux does, and servers whose checks are datagrams: who is found to be dead.

The hosts are made here, and the time is the loop's own.
"""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from natlb.health import checks as module
from natlb.health.checks import Checks
from natlb.health.conversation import Answer, Limits
from natlb.health.server import Cause, CheckSettings, Intervals, Operation, ServerHealth
from natlb.health.status import Status
from natlb.questions import Question
from tests.travel import Loop

_UDP = Question("udp", ())
_WAY = 0.01
"""Seconds to a host, and as many back."""


class Host:
    """A host whose kernel limits its complaints as Linux does: `inet_peer_xrlim_allow`."""

    def __init__(self) -> None:
        self.closed: set[int] = set()
        """Ports where nobody is; at the others somebody is, and silent, or who answers."""
        self.talking: set[int] = set()
        self.asked: list[tuple[float, int]] = []
        self._tokens, self._looked_at = 0.0, float("-inf")

    def complains(self, now: float) -> bool:
        self._tokens, self._looked_at = min(6.0, self._tokens + now - self._looked_at), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Story:
    """Servers at hosts, and what is found out about them."""

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        self.told: list[tuple[str, str]] = []
        self.checks = Checks(self._on_change, chance=lambda: 0.5)

    async def ask(self, _: Question, address: str, port: int, *__: object, is_up: bool) -> Answer:
        loop = asyncio.get_running_loop()
        host, sent = self.hosts[address], loop.time()
        host.asked.append((sent, port))
        await asyncio.sleep(_WAY)
        status = Status.L4OK
        if port in host.talking:
            await asyncio.sleep(_WAY)
        elif port in host.closed and host.complains(loop.time()):
            status = Status.L4CON
            await asyncio.sleep(_WAY)
        else:
            await asyncio.sleep(1.0 - _WAY)
            return Answer(status, "", 0, loop.time() - sent, silent=True)
        return Answer(status, "", 0, loop.time() - sent)

    def _on_change(self, health: ServerHealth, cause: Cause, before: Operation) -> None:
        self.told.append((health.name, health.operation.name))

    def add(self, address: str, port: int, inter: float = 2.0, **more: Any) -> ServerHealth:
        self.hosts.setdefault(address, Host())
        settings = CheckSettings(address, port, Intervals(inter, inter, inter), Limits(inter), _UDP, **more)
        return self.checks.add(f"{address}/{port}", settings)

    def went_up(self) -> list[str]:
        return [name for name, operation in self.told if operation == "RUNNING"]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def run(scene: Callable[[Story], Coroutine[None, None, None]]) -> None:
        async def whole() -> None:
            story = Story()
            monkeypatch.setattr(module, "ask", story.ask)
            await scene(story)
            await story.checks.close()

        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(whole())

    return run


Play = Callable[[Callable[[Story], Coroutine[None, None, None]]], None]


@pytest.mark.parametrize("inter", [2.0, 0.3, 0.01, 1.1, 30.0])
@pytest.mark.parametrize("count", [1, 2, 8, 20])
def test_servers_that_are_dead_go_down_and_stay_down_however_many_there_are_at_a_host(
    play: Play, count: int, inter: float
) -> None:
    async def scene(story: Story) -> None:
        healths = [story.add("h", port, inter) for port in range(count)]
        story.hosts["h"].closed = set(range(count))
        await asyncio.sleep(3 * inter + 3 * count)
        assert [health.operation for health in healths] == [Operation.STOPPED] * count
        assert all(health.last.status is Status.L4CON for health in healths)
        await asyncio.sleep(1000)
        assert story.went_up() == []

    play(scene)


@pytest.mark.parametrize("inter", [2.0, 0.3])
def test_one_that_is_alive_among_the_dead_is_never_down_and_one_that_comes_back_comes_up(
    play: Play, inter: float
) -> None:
    async def scene(story: Story) -> None:
        healths = [story.add("h", port, inter) for port in range(6)]
        host = story.hosts["h"]
        host.closed = {0, 1, 2, 3}
        await asyncio.sleep(60)
        assert [health.healthy for health in healths] == [False] * 4 + [True] * 2
        host.closed.remove(2)
        await asyncio.sleep(60)
        assert story.went_up() == ["h/2"]
        host.closed.add(5)
        await asyncio.sleep(60)
        assert [health.healthy for health in healths] == [False, False, True, False, True, False]
        host.closed.clear()
        await asyncio.sleep(60)
        assert all(health.healthy for health in healths)
        assert len(story.went_up()) == 5

    play(scene)


def test_a_new_server_is_not_taken_to_be_alive_beside_dead_ones(play: Play) -> None:
    async def scene(story: Story) -> None:
        for port in range(8):
            story.add("h", port, 0.3)
        host = story.hosts["h"]
        host.closed = set(range(30))
        await asyncio.sleep(20)
        for port in range(8, 30):
            health = story.add("h", port, 0.3)
            while health.last.status is Status.INI:
                await asyncio.sleep(0.1)
            assert health.last.status is Status.L4CON

    play(scene)


def test_silence_is_believed_and_nobody_waits_where_none_is_refused(play: Play) -> None:
    async def scene(story: Story) -> None:
        healths = [story.add("h", port) for port in range(100)]
        await asyncio.sleep(100)
        assert all(health.last.silent for health in healths)
        assert len(story.hosts["h"].asked) >= 100 * 100 / 3 - 100

    play(scene)


def test_the_line_ends_with_what_made_it(play: Play) -> None:
    """Be it that the server is there again, or that it is checked no more, or elsewhere."""

    async def scene(story: Story) -> None:
        for port in range(40):
            story.add("h", port)
        host = story.hosts["h"]
        ends: list[Callable[[], object]] = [
            host.closed.clear,
            lambda: story.checks.pause("h/0"),
            lambda: story.checks.aim("h/0", "elsewhere", 7),
            lambda: story.checks.disable("h/0"),
            lambda: story.checks.remove("h/0"),
        ]
        story.hosts["elsewhere"] = Host()
        for end in ends:
            host.closed.add(0)
            story.checks.resume("h/0")
            story.checks.aim("h/0", "h", 0)
            story.checks.enable("h/0")
            while story.checks["h/0"].healthy:
                await asyncio.sleep(1)
            await asyncio.sleep(20)
            host.asked.clear()
            await asyncio.sleep(60)
            assert len(host.asked) <= 60, "they stand in line"
            end()
            await asyncio.sleep(200)
            host.asked.clear()
            await asyncio.sleep(60)
            assert len(host.asked) >= 39 * 60 / 3 - 39, "they do not"

    play(scene)


def test_while_one_is_refused_its_host_is_asked_less_than_once_a_second_and_others_as_ever(play: Play) -> None:
    async def scene(story: Story) -> None:
        for port in range(10):
            story.add("h", port, 0.5)
            story.add("other", port, 0.5)
        story.hosts["h"].closed = set(range(10))
        await asyncio.sleep(30)
        asked = [at for at, _ in story.hosts["h"].asked][-20:]
        assert min(later - earlier for earlier, later in itertools.pairwise(asked)) > 1
        assert len(story.hosts["other"].asked) >= 10 * (30 / 1.5 - 1)

    play(scene)


def test_a_reply_is_always_believed(play: Play) -> None:
    async def scene(story: Story) -> None:
        for port in range(8):
            story.add("h", port, 0.5)
        host = story.hosts["h"]
        host.closed = set(range(8))
        await asyncio.sleep(30)
        host.talking = {3}
        await asyncio.sleep(30)
        assert story.went_up() == ["h/3"]

    play(scene)
