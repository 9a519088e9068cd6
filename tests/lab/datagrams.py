"""UDP for the lab tests: servers that send back what they get, clients, and packets that no socket would send."""

import itertools
import json
import os
import select
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from types import TracebackType
from typing import Self

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment

from netns.balancer import ask
from netns.build import Lab
from netns.web import endpoint
from tests.lab.support import shell
from tests.lab.ways import full_nat

WHO = b"who?"
"""What a server answers with its name."""

MODES = {"DNAT": False, "full NAT": True}

_SO_RCVBUFFORCE = 33
_BUFFER = 4 << 20
_EVERYTHING, _OUTGOING = 0x0003, 4
"""ETH_P_ALL and PACKET_OUTGOING of Linux's headers."""
_ETHERTYPE = {4: 0x0800, 6: 0x86DD}


def udp_lb(lab: Lab, name: str, port: int, to: int, *lines: str, full: bool = False) -> str:
    """Return two sections, `name`4 and `name`6, that balance `port` over port `to` of both servers of the lab."""
    text = ""
    for version, everywhere in ((4, "*"), (6, "[::]")):
        said = [f"dgram-bind {everywhere}:{port}", "timeout client 1m", "timeout server 1m", *lines]
        if full:
            said.append(full_nat(version))
        servers = [(host.name, host.ipv4 if version == 4 else host.ipv6) for host in lab.topology.servers]
        body = [*said, *(f"server {host} {endpoint(address, to)}" for host, address in servers)]
        text += "\n    ".join([f"udp-lb {name}{version}", *body]) + "\n"
    return text


def activity(lab: Lab) -> Counter[str]:
    """Return what natlb has counted; what it has not is 0."""
    lines = ask(lab.stats_socket, "show activity").splitlines()
    return Counter({name: int(value) for name, value in (line.split(": ") for line in lines if line)})


def packets(lab: Lab) -> int:
    """Return how many packets natlb has had until now, those that the kernel has carried for it included."""
    ask(lab.stats_socket, "show sess")  # which makes it learn of them
    told = dict(line.split(": ", 1) for line in ask(lab.stats_socket, "show offload").splitlines() if line)
    return activity(lab)["packets"] + int(told["packets"])


def noise(size: int) -> bytes:
    """Return bytes among which none can be left out or exchanged unseen; the same for the same size."""
    return Random(size).randbytes(size)


class Echo:
    """A server on a host: it sends each datagram back to where it came from, and answers `WHO` with its name."""

    def __init__(self, lab: Lab, host: str, port: int, address: str = "::", name: str | None = None) -> None:
        self.name = name or host
        self.received: list[bytes] = []
        self.peers: list[str] = []
        """Whom each datagram came from, as the server sees it."""
        self.socket = lab.open_socket(host, socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        if address == "::":
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind((address, port))
        self._last: tuple[str, int] | None = None
        self._ended = os.eventfd(0)
        self._thread = threading.Thread(target=self._serve, name=f"echo {self.name}")
        self._thread.start()

    def _serve(self) -> None:
        while self._ended not in select.select([self.socket, self._ended], [], [])[0]:
            datagram, peer = self.socket.recvfrom(65536)
            self.received.append(datagram)
            self.peers.append(endpoint(*peer[:2]))
            self._last = peer
            self.socket.sendto(self.name.encode() if datagram == WHO else datagram, peer)

    def send(self, datagram: bytes) -> None:
        """Send one more to whom it has answered last."""
        assert self._last
        self.socket.sendto(datagram, self._last)

    def close(self) -> None:
        """Close its port: who sends to it from now on is told by an ICMP error."""
        if not self.socket._closed:
            os.eventfd_write(self._ended, 1)
            self._thread.join()
            os.close(self._ended)
            self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def echoes(lab: Lab, port: int) -> Iterator[list[Echo]]:
    """Run a server on each server host of the lab."""
    running = [Echo(lab, host.name, port) for host in lab.topology.servers]
    try:
        yield running
    finally:
        for echo in running:
            echo.close()


@contextmanager
def client(lab: Lab, address: str, port: int, host: str = "client", *, own_port: int = 0) -> Iterator[socket.socket]:
    """Open a socket that speaks to one address and port, and that hears nobody else.

    Whoever needs a flow that nobody has had before gives it a port of its own: one that the kernel chooses may have
    been an earlier test's, whose flow is still known.
    """
    with lab.open_socket(host, socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        opened.settimeout(5)
        if own_port:
            opened.bind(("", own_port))
        opened.connect((address, port))
        yield opened


def asked(by: socket.socket, question: bytes = WHO) -> bytes:
    """Send a datagram and return the next one that comes."""
    by.send(question)
    return by.recv(65536)


class Wire:
    """The client's end of its link: packets go out as they are, past the client's own stack."""

    def __init__(self, lab: Lab) -> None:
        (link,) = json.loads(shell(lab, "lb", "ip -j link show dev client"))
        self._hardware = bytes.fromhex(link["address"].replace(":", ""))
        self._socket = lab.open_socket("client", socket.AF_PACKET, socket.SOCK_DGRAM)
        self._socket.bind(("eth0", _EVERYTHING))
        self._socket.settimeout(5)

    def send(self, packets: Sequence[bytes]) -> None:
        """Send IP packets to the balancer, in this order."""
        for packet in packets:
            self._socket.sendto(packet, ("eth0", _ETHERTYPE[packet[0] >> 4], 0, 0, self._hardware))

    def receive(self) -> bytes:
        """Return the next IP packet that comes in."""
        while True:
            packet, (_, _, direction, *_) = self._socket.recvfrom(65536)
            if direction != _OUTGOING and packet[0] >> 4 in _ETHERTYPE:
                return packet

    def close(self) -> None:
        """Let go of the link."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Cut:
    """What an IP packet carries, to be sent in fragments."""

    _identifications = itertools.count(0x4400)

    def __init__(self, packet: IP | IPv6) -> None:
        """Take a whole packet, whose checksum scapy computes as it should be where there is no fragment."""
        self._ipv6 = isinstance(packet, IPv6)
        self._ends = {"src": packet.src, "dst": packet.dst}
        self._protocol = packet.nh if self._ipv6 else packet.proto
        self._identification = next(self._identifications)
        self.bytes = bytes(packet.payload)

    def piece(self, first: int, last: int | None = None) -> bytes:
        """Return the IP packet with the fragment from byte `first` to before `last`, or to the end."""
        more = last is not None and last < len(self.bytes)
        place = {"id": self._identification, "offset" if self._ipv6 else "frag": first // 8}
        if self._ipv6:
            header = IPv6(**self._ends) / IPv6ExtHdrFragment(nh=self._protocol, m=int(more), **place)
        else:
            header = IP(**self._ends, proto=self._protocol, flags="MF" if more else 0, **place)
        return bytes(header / self.bytes[first:last])

    def pieces(self, size: int = 1400) -> list[bytes]:
        """Return all of it, in fragments of `size` bytes, a multiple of 8, in order."""
        return [self.piece(first, first + size) for first in range(0, len(self.bytes), size)]


def datagram(sender: socket.socket, payload: bytes) -> Cut:
    """Return a datagram from a client's socket to where that is connected."""
    (source, source_port), (destination, port) = sender.getsockname()[:2], sender.getpeername()[:2]
    ip = IPv6 if ":" in source else IP
    whole = ip(src=source, dst=destination) / UDP(sport=source_port, dport=port) / payload
    return Cut(ip(bytes(whole)))
