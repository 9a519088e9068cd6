"""The servers of the lab: a small real web server, that says who it is and whom it sees.

    GET /          two lines: its own name, and the client's address and port as this host sees them
    GET /bytes/N   N bytes that anyone can compute: `pattern(N)`; a cache may keep them for a minute
    GET /headers   the request's headers, as they arrived
    PUT /          the SHA-256 and the length of what arrived, in one line

HTTP/1.1 with kept-alive connections, a thread for each; with TLS where it is given a certificate. One socket serves
IPv4 and IPv6. It runs as a program, `python -m netns.web --name server1 --port 4444`, and once a line with `listens` is
out, it does.

The bytes repeat with a period that is prime, so that a segment lost, doubled or put in another's place shows in the
sum: no segment size divides the period.
"""

import argparse
import hashlib
import random
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

_PERIOD = 65521
_BLOCK = random.Random(44).randbytes(_PERIOD) * 4  # noqa: S311 - it has to be the same each time


def pattern(length: int) -> Iterator[bytes]:
    """Yield the body of `GET /bytes/LENGTH`, in pieces."""
    while length > 0:
        piece = _BLOCK[:length]
        length -= len(piece)
        yield piece


def digest(length: int) -> str:
    """Return the SHA-256 of `pattern(length)`, as `PUT` would answer it."""
    whole = hashlib.sha256()
    for piece in pattern(length):
        whole.update(piece)
    return whole.hexdigest()


def endpoint(address: str, port: int) -> str:
    """Write an endpoint as natlb and HAProxy do; an IPv4 client of a dual-stack socket as the IPv4 client it is."""
    address = address.removeprefix("::ffff:")
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Server(ThreadingHTTPServer):
    """Listens; the handler below answers."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, name: str, address: str, port: int, certificate: str = "") -> None:
        self.name = name
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._tls: ssl.SSLContext | None = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        super().__init__((address, port), Handler)

    def server_bind(self) -> None:
        """Bind without asking any resolver for a host name; `::` stands for both families."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()  # port 0 was whichever is free
        self.server_name, self.server_port = self.name, self.server_address[1]

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection, in its own thread, which does the handshake of TLS too."""
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        with self._tls.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a client that went away in one line; a fault of this program with all that is known."""
        if isinstance(error := sys.exception(), (ConnectionError, ssl.SSLError)):
            print(f"{endpoint(*client_address[:2])} went away: {error}", file=sys.stderr)
        else:
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection, kept alive."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # buffered: head and body of a short answer leave as one segment, which makes a walk easy to follow
    server: Server

    def handle_expect_100(self) -> bool:
        """Say at once that the body may come: the client waits for it."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def do_GET(self) -> None:
        """Answer `/`, `/bytes/N` and `/headers`."""
        what, _, number = self.path.removeprefix("/").partition("/")
        if what == "bytes" and number.isdecimal():
            self._head(int(number), "application/octet-stream", {"Cache-Control": "max-age=60"})
            for piece in pattern(int(number)):
                self.wfile.write(piece)
        elif what == "headers":
            self._answer(str(self.headers))
        else:
            self._answer(f"{self.server.name}\nclient {endpoint(*self.client_address[:2])}\n")

    def do_PUT(self) -> None:
        """Answer with what arrived."""
        left = length = int(self.headers.get("Content-Length", 0))
        whole = hashlib.sha256()
        while left and (piece := self.rfile.read1(min(left, 1 << 18))):
            whole.update(piece)
            left -= len(piece)
        self._answer(f"{whole.hexdigest()} {length - left}\n")

    def _answer(self, text: str) -> None:
        self._head(len(text), "text/plain")
        self.wfile.write(text.encode())

    def _head(self, length: int, kind: str, more: Mapping[str, str] = MappingProxyType({})) -> None:
        self.send_response(HTTPStatus.OK)
        for name, value in {"Content-Type": kind, "Content-Length": str(length), **more}.items():
            self.send_header(name, value)
        self.end_headers()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m netns.web", description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="what GET / answers with")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--address", default="::", help="where to listen (default: everywhere, IPv4 and IPv6)")
    parser.add_argument("--certificate", default="", help="speak TLS, with this certificate and key (a PEM file)")
    options = parser.parse_args()
    with Server(options.name, options.address, options.port, options.certificate) as server:
        print(f"{options.name} listens on {endpoint(options.address, options.port)}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
