"""Watching a connection at every place that it passes, and being the client that makes it.

`everywhere` captures at both ends of every link. `Visitor` is a client in this process, whose socket lives on the lab's
client: it knows its own endpoint, by which its packets are found in the captures.
"""

import contextlib
import http.client
import socket
import ssl
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from netns.build import Lab
from netns.capture import Capture, settle
from netns.dissect import read
from netns.errors import LabError
from netns.topology import LINK, Host
from netns.walk import Sighting
from netns.web import endpoint

PLACES = 4
"""How many places a packet passes between client and server: both ends of two links."""


def way(server: Host) -> tuple[str, ...]:
    """Name the places between the client and a server, as captures name them."""
    return f"client:{LINK}", "lb:client", f"lb:{server.name}", f"{server.name}:{LINK}"


class Observation:
    """Captures that run, at several places."""

    def __init__(self, captures: Sequence[Capture]) -> None:
        self._captures = captures

    def sightings(self, *, checksums: bool = True) -> list[Sighting]:
        """Every TCP segment so far, by place; without `checksums` several times as fast, see `dissect.read`."""
        settle(self._captures)
        return [
            sighting
            for capture in self._captures
            for sighting in read(capture.place, capture.packets(), checksums=checksums)
        ]


@contextlib.contextmanager
def everywhere(lab: Lab, expression: str = "") -> Iterator[Observation]:
    """Watch every link of the lab at both ends; unless told otherwise, all of TCP over IPv4.

    No address tells what concerns the client: with full NAT it is not to be seen on the servers' links.
    """
    places = [("lb", host.name) for host in lab.topology.neighbours]
    places += [(host.name, LINK) for host in lab.topology.neighbours]
    with watching(lab, places, expression or "ip and tcp") as observation:
        yield observation


@contextlib.contextmanager
def watching(lab: Lab, places: Sequence[tuple[str, str]], expression: str) -> Iterator[Observation]:
    """Watch some places, each a host and its interface; the files are removed afterwards."""
    with contextlib.ExitStack() as stack:
        captures = []
        for host, interface in places:
            captures.append(lab.capture(host, interface, expression, wait=False))
            stack.callback(captures[-1].remove)
            stack.push(captures[-1])
        for capture in captures:
            capture.begin()
        yield Observation(captures)
        for capture in captures:
            capture.stop(settled=True)


class Visitor:
    """One HTTP connection from the lab's client, kept open; LabError when it fails."""

    def __init__(self, lab: Lab, port: int, *, address: str = "", seconds: float = 10.0, tls: bool = False) -> None:
        """Connect to a port, of the virtual address unless told otherwise; with `tls`, whoever answers there."""
        self._target = address or lab.topology.balancer.ipv4, port
        self._socket = lab.open_socket("client", socket.AF_INET, socket.SOCK_STREAM)
        self._socket.settimeout(seconds)
        self._connection = http.client.HTTPConnection("vip")
        with self._failing():
            self._socket.connect(self._target)
            self.endpoint = endpoint(*self._socket.getsockname())
            if tls:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                self._socket = context.wrap_socket(self._socket)
            self._connection.sock = self._socket

    def get(self, path: str = "/") -> bytes:
        """Send a request and return the body of the answer."""
        with self._failing():
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            body = response.read()
            if response.status != http.HTTPStatus.OK:
                raise LabError(f"{path} was answered with {response.status} {response.reason}")
            return body

    def ask(self, path: str = "/") -> tuple[str, str]:
        """Send a request; return who answered, and the client as it sees it."""
        name, client, *_ = [*self.get(path).decode().split("\n"), "", ""]
        return name, client.removeprefix("client ")

    def certificate(self) -> bytes:
        """Return the certificate that the other side has shown, in DER."""
        if not isinstance(self._socket, ssl.SSLSocket):
            raise LabError("a connection without TLS has no certificate")
        return self._socket.getpeercert(binary_form=True) or b""

    def closed_by_peer(self, seconds: float) -> str:
        """Wait for the other side to end the connection; return how: "RST", "FIN", or "" when it did not in time."""
        self._socket.settimeout(seconds)
        try:
            return "" if self._socket.recv(1) else "FIN"
        except ConnectionResetError:
            return "RST"
        except TimeoutError:
            return ""

    def close(self) -> None:
        """End the connection; once is enough, and twice is fine."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            self._socket.close()
            raise LabError(f"the connection from the client to {endpoint(*self._target)} failed: {error}") from error
