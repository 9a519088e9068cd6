"""The ways that a connection can take through natlb: with its destination rewritten or both its ends, in each family.

Sockets at both ends are the test's own, so it can do to either what no well-behaved program would.
"""

import contextlib
import ipaddress
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from netns.balancer import Entry, ask, nat_table
from netns.build import Lab
from netns.topology import SEED
from netns.web import endpoint
from tests.lab.support import shell, until

SOURCES = {4: "44.2.2.20", 6: "fd44::20"}
"""By IP version, the balancer's address that servers see under full NAT: one that it does nothing else with."""

FULL_NAT_PORTS = 1000
"""Full NAT is at a port that is higher by so much."""


@dataclass(frozen=True, slots=True)
class Way:
    """One of the four ways."""

    version: int
    full: bool

    @property
    def name(self) -> str:
        """As it stands in the names of tests and of sections."""
        return f"{'full-nat' if self.full else 'dnat'}-ipv{self.version}"

    @property
    def family(self) -> socket.AddressFamily:
        """The address family."""
        return socket.AF_INET if self.version == 4 else socket.AF_INET6

    @property
    def any(self) -> str:
        """Any address of the family."""
        return "0.0.0.0" if self.version == 4 else "::"

    def address(self, host: str) -> str:
        """Return the address of a host."""
        found = SEED.host(host)
        return found.ipv4 if self.version == 4 else found.ipv6

    @property
    def vip(self) -> str:
        """The virtual address."""
        return self.address("lb")

    @property
    def client_as_seen(self) -> str:
        """The address that the server speaks to."""
        return SOURCES[self.version] if self.full else self.address("client")

    @property
    def balancer_as_seen(self) -> str:
        """The address that the balancer has for the server."""
        return SOURCES[self.version] if self.full else self.vip

    def port(self, number: int) -> int:
        """Return the port at which the service with this number is found this way."""
        return number + FULL_NAT_PORTS * self.full

    def listen(self, name: str, number: int, server_port: int, on_server: str = "", *lines: str) -> str:
        """Return a section that leads a TCP port of the balancer to one of server1, this way."""
        return self._section(f"listen {name}", f"bind {self._bind(number)}", server_port, on_server, lines)

    def udp_lb(self, name: str, number: int, server_port: int, *lines: str) -> str:
        """Return a section that leads a UDP port of the balancer to one of server1, this way."""
        return self._section(f"udp-lb {name}", f"dgram-bind {self._bind(number)}", server_port, "", lines)

    def _bind(self, number: int) -> str:
        return endpoint(self.vip, self.port(number))

    def _section(self, opening: str, bind: str, server_port: int, on_server: str, lines: Sequence[str]) -> str:
        said = [bind, *lines, *([full_nat(self.version)] if self.full else [])]
        said += [f"server server1 {endpoint(self.address('server1'), server_port)} {on_server}"]
        return "\n    ".join([f"{opening}-{self.name}", *said]) + "\n"

    def segment(self, host: str, other: str, **fields: Any) -> Any:
        """Return a TCP segment, a packet of scapy's, from one address to another."""
        return self.packet(host, other) / TCP(**fields)

    def datagram(self, host: str, other: str, **fields: Any) -> Any:
        """Return a UDP datagram, a packet of scapy's, from one address to another."""
        return self.packet(host, other) / UDP(**fields)

    def packet(self, host: str, other: str) -> Any:
        """Return the IP header of a packet from one address to another."""
        return (IP if self.version == 4 else IPv6)(src=host, dst=other)


WAYS = tuple(Way(version, full) for full in (False, True) for version in (4, 6))


def add_sources(lab: Lab) -> None:
    """Give the balancer the addresses that full NAT speaks from."""
    shell(lab, "lb", f"ip addr add {SOURCES[4]}/32 dev lo; ip addr add {SOURCES[6]}/128 dev lo nodad")


def full_nat(version: int) -> str:
    """Return the line that asks for full NAT."""
    return f"source [{SOURCES[version]}]" if version == 6 else f"source {SOURCES[version]}"


@contextmanager
def listening(lab: Lab, port: int, host: str = "server1") -> Iterator[socket.socket]:
    """Listen at a port of a server, in both families."""
    with lab.open_socket(host, socket.AF_INET6, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", port))
        listener.listen(128)
        listener.settimeout(5)
        yield listener


@dataclass(slots=True)
class Pair:
    """The two ends of one connection through natlb."""

    lab: Lab
    way: Way
    number: int
    """The service's."""
    client: socket.socket
    server: socket.socket
    port: int
    """The client's."""

    @property
    def ends(self) -> tuple[socket.socket, socket.socket]:
        """Both of them."""
        return self.client, self.server

    def speak(self, words: bytes = b"are you there?") -> None:
        """Say something in each direction and see that it arrives."""
        for one, other in (self.ends, self.ends[::-1]):
            one.sendall(words)
            assert other.recv(len(words), socket.MSG_WAITALL) == words

    def entry(self) -> Entry | None:
        """Return what natlb knows of it."""
        return entry_of(self.lab, self.way, self.number, self.port)

    @property
    def id(self) -> str:
        """Its name in `show sess`."""
        return id_of(self.lab, self.way, self.number, self.port)

    @property
    def state(self) -> str:
        """Its state as natlb tells it; empty if it has no entry."""
        return state_of(self.lab, self.way, self.number, self.port)

    def reaches(self, state: str) -> None:
        """Wait until natlb says that it is in a state."""
        until(lambda: self.state == state, f"{self.way.name}: {state}")

    def close(self) -> None:
        """Close both ends."""
        for end in self.ends:
            end.close()


@contextmanager
def meeting(lab: Lab, way: Way, number: int, listener: socket.socket, client_port: int = 0) -> Iterator[Pair]:
    """Open a connection to a service; both ends are closed afterwards."""
    pair = meet(lab, way, number, listener, client_port)
    try:
        yield pair
    finally:
        pair.close()


def meet(lab: Lab, way: Way, number: int, listener: socket.socket, client_port: int = 0) -> Pair:
    """Open a connection to a service."""
    return connect(lab, way, number, listener, client_socket(lab, way, client_port))


def connect(lab: Lab, way: Way, number: int, listener: socket.socket, client: socket.socket) -> Pair:
    """Connect a socket of the client to a service."""
    with contextlib.ExitStack() as stack:
        stack.push(client)
        client.connect((way.vip, way.port(number)))
        server, _ = listener.accept()
        stack.pop_all()
    server.settimeout(5)
    return Pair(lab, way, number, client, server, client.getsockname()[1])


def client_socket(lab: Lab, way: Way, port: int = 0) -> socket.socket:
    """Return a socket on the client, bound to a port if one is given, not yet connected."""
    made = lab.open_socket("client", way.family, socket.SOCK_STREAM)
    with contextlib.ExitStack() as stack:
        stack.push(made)
        made.settimeout(5)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if port:
            made.bind((way.any, port))
        stack.pop_all()
    return made


def entry_of(lab: Lab, way: Way, number: int, client_port: int) -> Entry | None:
    """Return natlb's entry of the connection from a port of the client to a service, or None."""
    entries = nat_table(ask(lab.stats_socket, "show sess"))
    return next((each for each in entries if each.original == _original(way, number, client_port)), None)


def state_of(lab: Lab, way: Way, number: int, client_port: int) -> str:
    """Return the state of a connection as natlb tells it; empty if there is no entry."""
    entry = entry_of(lab, way, number, client_port)
    return entry.state if entry else ""


def id_of(lab: Lab, way: Way, number: int, client_port: int) -> str:
    """Return the name that `show sess` gives to a connection."""
    original = f" orig={'>'.join(_original(way, number, client_port))} "
    (line,) = [line for line in ask(lab.stats_socket, "show sess").splitlines() if original in line]
    return line.partition(":")[0]


def _original(way: Way, number: int, client_port: int) -> tuple[str, str]:
    return endpoint(way.address("client"), client_port), endpoint(way.vip, way.port(number))


def counted(lab: Lab, name: str) -> int:
    """Return a counter of `show activity`; one that is not there yet is zero."""
    lines = ask(lab.stats_socket, "show activity").split("\n")
    return next((int(value) for key, _, value in (line.partition(": ") for line in lines) if key == name), 0)


def when_reset(ends: Sequence[socket.socket], seconds: float) -> list[float]:
    """Wait until each end is told of a reset, sending nothing; return when each was told. What arrived is read.

    However late this looks, what is there by then is seen.
    """
    told: dict[int, float] = {}
    poll = select.poll()
    for number, end in enumerate(ends):
        poll.register(end, select.POLLIN)
        end.setblocking(False)
        assert end.fileno() >= 0, number
    by_fd = {end.fileno(): end for end in ends}
    deadline = time.monotonic() + seconds
    while len(told) < len(ends):
        there = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not there:
            break
        for fd, _ in there:
            try:
                assert by_fd[fd].recv(1 << 20) != b"", "a connection was closed where it should have been reset"
            except ConnectionResetError:
                told[fd] = time.monotonic()
                poll.unregister(fd)
    assert len(told) == len(ends), f"{len(ends) - len(told)} of {len(ends)} ends were told nothing in {seconds:g} s"
    return [told[end.fileno()] for end in ends]


@contextmanager
def raw_socket(lab: Lab, host: str, way: Way) -> Iterator[socket.socket]:
    """Open a socket on a host that sends IP packets as they are."""
    with lab.open_socket(host, way.family, socket.SOCK_RAW, socket.IPPROTO_RAW) as made:
        yield made


def send_raw(lab: Lab, host: str, way: Way, *packets: Any) -> None:
    """Send packets of scapy's from a host."""
    with raw_socket(lab, host, way) as made:
        for packet in packets:
            made.sendto(bytes(packet), (str(ipaddress.ip_address(packet.dst)), 0))
