"""What is said of a server whose answers go past this machine, and when that is over."""

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from itertools import count

import pytest

from natlb import supervision as under_test
from natlb.assembly import Machine, assemble
from natlb.config.parser import parse
from natlb.core.engine import BYPASSED_AFTER
from natlb.core.events import ServerBypassed
from natlb.datapath import host
from natlb.health.conversation import Answer
from natlb.health.status import Status
from natlb.log import NOTICE
from natlb.supervision import Supervisor
from tests.unit.core.packets import ACK, SYN, segment

_VIP = ("44.2.2.2", 8888)


async def _answers(*_: object, **__: object) -> Answer:
    return Answer(Status.L4OK, "", 0, 0.0)


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What has been logged."""
    caplog.set_level(NOTICE, "natlb")
    return lambda: caplog.messages


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers this machine, and a machine with one address."""
    monkeypatch.setattr(under_test, "ask", _answers)
    monkeypatch.setattr(host, "preferred_source", lambda _: ip_address(_VIP[0]))


class Stage:
    """An engine with one server, and who supervises that."""

    def __init__(self, keywords: str) -> None:
        text = f"listen www\n bind {_VIP[0]}:{_VIP[1]}\n server server1 44.3.3.3:4444 {keywords}\n"
        parsed = parse([("t.cfg", text.encode())], {})
        assert parsed.config is not None, parsed.diagnostics
        made = assemble(parsed.config, Machine())
        self.engine = made.engine
        self.supervisor = Supervisor(parsed.config, made, lambda: None, lambda coroutine: coroutine.close())
        self._ports = count(5000)
        self._times = count()

    async def let_wait(self) -> None:
        """Have clients find no answer, until that is told of and looked into."""
        for _ in range(BYPASSED_AFTER):
            self.waiting = ("44.1.1.1", next(self._ports))
            for _ in range(2):
                self.engine.handle_packet(segment(self.waiting, _VIP, SYN, seq=1000), next(self._times))
        await self._act()

    async def answer(self) -> None:
        """Have the server answer the last client."""
        answer = segment(("44.3.3.3", 4444), self.waiting, SYN | ACK, seq=5000, ack=1001)
        self.engine.handle_packet(answer, next(self._times))
        await self._act()

    async def _act(self) -> None:
        while (event := self.engine.next_event()) is not None:
            if isinstance(event, ServerBypassed):
                if event.over:
                    self.supervisor.is_bypassed_no_longer(event.connection.server)
                else:
                    await self.supervisor.look_into(event.connection)


@pytest.mark.parametrize(
    ("keywords", "said"),
    [("check", "is UP"), ("", "is not checked, and answers this machine")],
    ids=["checked", "not checked"],
)
def test_a_server_whose_answers_go_another_way_is_named_as_what_is_known_of_it(
    heard: Callable[[], list[str]], keywords: str, said: str
) -> None:
    async def scene() -> None:
        stage = Stage(keywords)
        await stage.let_wait()

    asyncio.run(scene())
    (line,) = heard()
    assert line.startswith(f"Server www/server1 {said}, but {BYPASSED_AFTER} connections in a row got no answer")


def test_when_an_answer_comes_back_this_way_that_is_said_once(heard: Callable[[], list[str]]) -> None:
    async def scene() -> None:
        stage = Stage("")
        for _ in range(2):
            await stage.let_wait()
            await stage.answer()
            await stage.answer()

    asyncio.run(scene())
    again = "Server www/server1 answers clients through this machine again."
    assert [line == again for line in heard()] == [False, True, False, True]


def test_of_a_server_that_was_silent_to_us_as_well_it_is_not_said(
    heard: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_silent(*_: object, **__: object) -> Answer:
        return Answer(Status.L4TOUT, "", 0, 0.0)

    monkeypatch.setattr(under_test, "ask", is_silent)

    async def scene() -> None:
        stage = Stage("")
        await stage.let_wait()
        await stage.answer()

    asyncio.run(scene())
    assert heard() == []
