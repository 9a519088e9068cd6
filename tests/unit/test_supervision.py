"""What is said of a server whose answers go past this machine, and of one that takes its connections along."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from natlb import supervision as under_test
from natlb.assembly import Machine, assemble
from natlb.config.parser import parse
from natlb.core.engine import BYPASSED_AFTER
from natlb.core.events import EndReason, ServerBypassed
from natlb.core.flow import flow_key
from natlb.core.pool import Pool, Server
from natlb.core.states import State
from natlb.datapath import host
from natlb.health.conversation import Answer
from natlb.health.status import Status
from natlb.log import NOTICE, log
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


@contextmanager
def logged() -> Iterator[list[str]]:
    """Collect what is logged."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield lines
    finally:
        log.removeHandler(handler)


def looked_into(monkeypatch: pytest.MonkeyPatch, server: str, here: str | None) -> tuple[str, str]:
    """Look into a connection to a server that answers natlb itself; return what is remarked and what is logged."""

    async def ask(*_: object) -> Any:
        return SimpleNamespace(status=Status.L4OK)

    def preferred_source(_: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address | None:
        return ip_address(here) if here else None

    monkeypatch.setattr(under_test, "ask", ask)
    monkeypatch.setattr(host, "preferred_source", preferred_source)
    place, client = ip_address(server).packed, ip_address("::9" if ":" in server else "44.1.1.1").packed
    tried = SimpleNamespace(name="s", remark="", unanswered=3, pool=SimpleNamespace(name="web"))
    connection: Any = SimpleNamespace(
        server=tried,
        original=flow_key((client, b"\0\7"), (place, b"\0\10"), 6),
        reply=flow_key((place, b"\0\11"), (client, b"\0\7"), 6),
    )
    supervisor: Any = SimpleNamespace(checks={})
    with logged() as lines:
        asyncio.run(Supervisor.look_into(supervisor, connection))
    return tried.remark, "\n".join(lines)


@pytest.mark.parametrize(("server", "here"), [("44.3.3.3", "44.2.2.2"), ("fd44::3", "fd44::2")])
def test_the_route_that_a_remote_server_lacks_is_named(monkeypatch: pytest.MonkeyPatch, server: str, here: str) -> None:
    remark, told = looked_into(monkeypatch, server, here)
    assert f"via {here}" in remark
    assert f"via {here}; or write 'source {f'[{here}]' if ':' in here else here}'" in told


@pytest.mark.parametrize(
    ("server", "here"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "44.2.2.2"),
        ("::1", "::1"),
        ("44.2.2.2", "44.2.2.2"),
        ("44.3.3.3", None),
    ],
)
def test_no_route_is_named_to_a_server_on_this_machine_or_by_an_address_that_there_is_not(
    monkeypatch: pytest.MonkeyPatch, server: str, here: str | None
) -> None:
    assert looked_into(monkeypatch, server, here) == ("", "")


@pytest.mark.parametrize(
    ("live", "told"),
    [
        (0, []),
        (1, ["Server web/s: 1 session was shut down."]),
        (2, ["Server web/s: 2 sessions were shut down."]),
    ],
)
def test_the_connections_that_a_server_takes_along_are_counted_if_there_are_any(live: int, told: list[str]) -> None:
    server = Server("s", bytes(4), 80)
    server.pool = Pool("web", [server])
    connection = SimpleNamespace(server=server, state=State.ESTABLISHED)
    supervisor: Any = SimpleNamespace(
        _to_shut_down={server: EndReason.SERVER_DOWN},
        _engine=SimpleNamespace(pieces=lambda _: [[connection] * live], shutdown=lambda *_: None),
        _settle=lambda: None,
        _is_shutting_down=True,
    )
    with logged() as lines:
        asyncio.run(Supervisor._shut_servers_down(supervisor))
    assert lines == told
    assert not supervisor._is_shutting_down
