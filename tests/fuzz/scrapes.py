"""Requests for metrics: any bytes get an answer that is one, or none, and never an internal error.

An input is what a client sends: its first byte says in how many pieces.
"""

import asyncio
import socket
from collections.abc import Iterator

import h11
from prometheus_client.core import CounterMetricFamily, Metric

from natlb.metrics.server import MetricsServer
from tests.fuzz.choices import Choices

_STATUSES = {200, 400, 404, 405, 413, 431, 501, 505}


class _Few:
    """A registry with next to nothing in it: it is the requests that are tried."""

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily("natlb_packets", "Packets.", value=7)


class _Client:
    """What is read from a client, and written to it."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.answer = bytearray()

    async def read(self, most: int) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > most:
            self.pieces.insert(0, piece[most:])
        return piece[:most]

    def write(self, data: bytes) -> None:
        self.answer += data

    async def drain(self) -> None:
        pass


def check(data: bytes) -> None:
    """Ask. Raises if anything about the answer is not right."""
    choices = Choices(data)
    size = choices.byte() % 64 or len(data) or 1
    said = choices.rest()
    client = _Client([said[at : at + size] for at in range(0, len(said), size)])
    with socket.socket() as unused:
        server = MetricsServer(unused, _Few())
        asyncio.run(server._answer(client, client))
    if not client.answer:
        return
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="HEAD" if said.startswith(b"HEAD ") else "GET", target="/", headers=[("host", "x")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(bytes(client.answer))
    reader.receive_data(b"")
    response = reader.next_event()
    assert isinstance(response, h11.Response), response
    assert response.status_code in _STATUSES, response
    while not isinstance(event := reader.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), event
