"""GET /metrics: as much of HTTP/1.1 as a scrape needs, on h11, in the loop that the packets are in.

The socket is opened before anything is changed on the machine, so that a port that is taken is told at once; it is
served later, from the event loop. One request, one answer, and the connection is closed: a scrape comes every few
seconds, and a place that nobody uses is free for another. Clients are few and have little time, so whoever sends half
a request, or does not read, cannot hold up more than his own place.
"""

import asyncio
import errno
import os
import socket
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import h11
from prometheus_client.exposition import gzip_accepted
from prometheus_client.registry import Collector

from natlb.errors import MetricsError
from natlb.log import fault
from natlb.metrics.address import Address
from natlb.metrics.render import format_for, render
from natlb.sockets import at_address

PATH: Final = "/metrics"

MOST_CLIENTS: Final = 8
"""Clients at once; one more is told to come again."""

_TIMEOUT: Final = 10.0
"""Seconds for a client, from its first byte to the last one it reads: Prometheus' own patience by default."""

_LONGEST_REQUEST: Final = 8192
"""Bytes of a request's line and headers."""

_PLAIN: Final = b"text/plain; charset=utf-8"

_TOO_MANY: Final = b"HTTP/1.1 503 \r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"

_REMEDIES: Final = {
    errno.EADDRINUSE: "another program has this port ('ss -ltnp' shows which); choose another port",
    errno.EADDRNOTAVAIL: "this machine has no such address; name one that it has",
    errno.EACCES: "a port under 1024 needs CAP_NET_BIND_SERVICE; choose another port",
}


def listen(where: Address) -> socket.socket:
    """Open the socket. Raises MetricsError when that cannot be done."""
    try:
        opened = at_address(str(where.address), where.port, MOST_CLIENTS)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        reason = os.strerror(error.errno or 0)
        raise MetricsError(f"--metrics {where}: {reason}" + (f"; {remedy}" if remedy else "")) from error
    opened.setblocking(False)
    return opened


class MetricsServer:
    """Answers scrapes on a socket that is open already, until `close`."""

    def __init__(self, listening: socket.socket, registry: Collector, *, timeout: float = _TIMEOUT) -> None:
        self._listening = listening
        self._registry = registry
        self._timeout = timeout
        self._clients = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to answer."""
        self._server = await asyncio.start_server(self._serve, sock=self._listening)

    def close(self) -> None:
        """Answer nobody any more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._clients >= MOST_CLIENTS:
            writer.write(_TOO_MANY)
            writer.close()
            return
        self._clients += 1
        try:
            async with asyncio.timeout(self._timeout):
                await self._answer(reader, writer)
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # the client's trouble
        except Exception as error:
            fault("a scrape failed", error)
        finally:
            # Nothing is left to send but to a client that does not read: closing would wait for it.
            writer.transport.abort()
            self._clients -= 1

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_REQUEST)
        try:
            while (event := http.next_event()) is h11.NEED_DATA:
                http.receive_data(await reader.read(_LONGEST_REQUEST))
            if not isinstance(event, h11.Request):
                return  # the client has left
            answer = self._answer_to(event)
            if event.method == b"HEAD":
                answer.body = ()
        except h11.RemoteProtocolError as error:
            answer = _Answer.of_text(error.error_status_hint, f"this cannot be answered: {error}\n")
        headers = [*answer.headers, (b"connection", b"close")]
        _send(http, writer, h11.Response(status_code=answer.status, headers=headers))
        for piece in answer.body:
            _send(http, writer, h11.Data(piece))
            await writer.drain()
            await asyncio.sleep(0)  # drain alone lets nobody else run while the client keeps up
        _send(http, writer, h11.EndOfMessage())

    def _answer_to(self, request: h11.Request) -> "_Answer":
        if request.target.partition(b"?")[0] != PATH.encode():
            return _Answer.of_text(404, f"natlb's metrics are at {PATH}\n")
        if request.method not in (b"GET", b"HEAD"):
            return _Answer.of_text(405, "metrics can only be read\n", (b"allow", b"GET, HEAD"))
        asked = {name: value.decode("latin-1") for name, value in request.headers}
        form = format_for(asked.get(b"accept", ""))
        answer = _Answer(
            200, [(b"content-type", form.content_type.encode("latin-1"))], render(self._registry, form.encode)
        )
        if gzip_accepted(asked.get(b"accept-encoding", "")):
            answer.headers.append((b"content-encoding", b"gzip"))
            answer.body = _gzip(answer.body)
        return answer


@dataclass(slots=True)
class _Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: Iterable[bytes]

    @classmethod
    def of_text(cls, status: int, text: str, *headers: tuple[bytes, bytes]) -> "_Answer":
        body = text.encode()
        length = (b"content-length", str(len(body)).encode())
        return cls(status, [(b"content-type", _PLAIN), length, *headers], [body])


def _send(http: h11.Connection, writer: asyncio.StreamWriter, event: h11.Event) -> None:
    if sent := http.send(event):
        writer.write(sent)


def _gzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(level=1, wbits=31)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()
