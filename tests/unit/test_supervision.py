"""What is said of a server that is up and leaves its clients without an answer."""

import asyncio
import logging
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import SimpleNamespace
from typing import Any

import pytest

from natlb import supervision
from natlb.core.flow import flow_key
from natlb.health.status import Status
from natlb.log import log
from natlb.supervision import Supervisor


def looked_into(monkeypatch: pytest.MonkeyPatch, server: str, here: str | None) -> tuple[str, str]:
    """Look into a connection to a server that answers natlb itself; return what is remarked and what is logged."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]

    async def ask(*_: object) -> Any:
        return SimpleNamespace(status=Status.L4OK)

    def preferred_source(_: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address | None:
        return ip_address(here) if here else None

    monkeypatch.setattr(supervision, "ask", ask)
    monkeypatch.setattr(supervision.host, "preferred_source", preferred_source)
    place, client = ip_address(server).packed, ip_address("::9" if ":" in server else "44.1.1.1").packed
    tried = SimpleNamespace(name="s", remark="", unanswered=3, pool=SimpleNamespace(name="web"))
    connection: Any = SimpleNamespace(
        server=tried,
        original=flow_key((client, b"\0\7"), (place, b"\0\10"), 6),
        reply=flow_key((place, b"\0\11"), (client, b"\0\7"), 6),
    )
    nobody: Any = None
    log.addHandler(handler)
    try:
        asyncio.run(Supervisor.look_into(nobody, connection))
    finally:
        log.removeHandler(handler)
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
