"""What is told of connections says between whom, and what has happened."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from natlb.core.events import (
    ConnectionClosed,
    ConnectionEstablished,
    ConnectionOpened,
    ConnectionRefused,
    EndReason,
    Event,
    Live,
    ServerBypassed,
    ServerTried,
)
from natlb.core.flow import flow_key
from natlb.core.packet import TCP
from natlb.telling import describe

_ORIGINAL = flow_key((bytes((44, 1, 1, 1)), (4000).to_bytes(2)), (bytes((44, 2, 2, 2)), (80).to_bytes(2)), TCP)
_SERVICE = cast("Any", SimpleNamespace(name="www"))
_CONNECTION = cast("Any", SimpleNamespace(original=_ORIGINAL, service=_SERVICE, server=SimpleNamespace(name="server1")))


@pytest.mark.parametrize(
    ("event", "what"),
    [
        (ConnectionOpened(_CONNECTION), "opened"),
        (ConnectionEstablished(_CONNECTION), "established"),
        (ConnectionClosed(_CONNECTION, EndReason.RESET), "closed: one side reset it"),
        (ServerTried(_CONNECTION, answered=True), "the server answered"),
        (ServerTried(_CONNECTION, answered=False), "the server did not answer"),
        (ServerBypassed(_CONNECTION), "the server leaves its clients without an answer"),
        (ServerBypassed(_CONNECTION, over=True), "the server no longer leaves its clients without an answer"),
    ],
)
def test_an_event_is_told_in_a_line(event: Event, what: str) -> None:
    assert describe(event) == f"44.1.1.1:4000 -> 44.2.2.2:80 on www, server server1: {what}"


def test_a_connection_that_was_refused_has_no_server() -> None:
    refused = ConnectionRefused(_SERVICE, None, _ORIGINAL, Live(0, 0, 0, 0))
    assert describe(refused) == "44.1.1.1:4000 -> 44.2.2.2:80 on www: refused, no server is usable"
