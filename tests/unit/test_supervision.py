"""What is said of a server that leaves its clients without an answer, and of one that takes its connections along."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from natlb import supervision
from natlb.core.events import EndReason
from natlb.core.flow import flow_key
from natlb.core.pool import Pool, Server
from natlb.core.states import State
from natlb.datapath import host
from natlb.health.status import Status
from natlb.log import log
from natlb.supervision import Supervisor


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

    monkeypatch.setattr(supervision, "ask", ask)
    monkeypatch.setattr(host, "preferred_source", preferred_source)
    place, client = ip_address(server).packed, ip_address("::9" if ":" in server else "44.1.1.1").packed
    tried = SimpleNamespace(name="s", remark="", unanswered=3, pool=SimpleNamespace(name="web"))
    connection: Any = SimpleNamespace(
        server=tried,
        original=flow_key((client, b"\0\7"), (place, b"\0\10"), 6),
        reply=flow_key((place, b"\0\11"), (client, b"\0\7"), 6),
    )
    nobody: Any = None
    with logged() as lines:
        asyncio.run(Supervisor.look_into(nobody, connection))
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
