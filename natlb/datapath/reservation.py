"""Holding the ports that natlb answers at.

Diverted packets never reach a socket, so nothing would keep a web server from being started on a port that natlb has
taken over, or natlb from taking over the port of one that runs. A socket bound to the address, but not listening,
makes the kernel see to it: both attempts fail with "Address already in use", as they would between two proxies. It
also keeps local clients from being given that port as their own, and while the rules are gone (between a crash and
the next start) the kernel answers with a RST in our place.

A UDP socket has no such state as "not listening": while the rules are gone, what comes would pile up in it unread. A
filter that passes nothing makes the kernel drop it instead, which to a client is a datagram lost, to be sent again.
Connecting the socket to itself would make the kernel answer "port unreachable", but a socket that is connected holds
one address, and a wildcard is not one. (And the clients of a natlb that is about to be back need not give up.)

A natlb that takes another's place gets its sockets. Those that it wants as they are it keeps. Where another one of them
is in the way of what it wants (`*:80` of `10.0.0.1:80`) both are told to overlook each other while it is bound.

So it is with one natlb's own that want both: `*:80` for one frontend and `10.0.0.1:80` for another. The wildcards are
bound first, when nothing is overlooked: they find every stranger that is in the way of the others.
"""

import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from natlb.datapath.host import Address, Endpoint
from natlb.errors import DatapathError

_UDP = 17

_TIME_WAIT = "06"

_SO_ATTACH_FILTER = 26
"""asm-generic/socket.h"""

_PASS_NOTHING = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
"""One instruction of classic BPF (linux/filter.h): return 0, the number of bytes to keep."""

_IP_FREEBIND = 15
"""linux/in.h: bind an address that no interface has; it serves IPv6 sockets too."""

_REMEDIES = {
    errno.EADDRINUSE: "{holders}",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address; add it, or bind '*'",
    errno.ENODEV: "there is no interface of that name",
    errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
    errno.EAFNOSUPPORT: "this kernel runs without IPv6; remove that bind",
}

_HOLDERS = {
    # ss of before 2024 knows no TCP sockets that are bound and nothing else.
    6: "a local process has that port, which 'ss -tanp' shows, or another natlb, which 'pgrep -af natlb' shows",
    _UDP: "a local process, or another natlb, has that port; 'ss -uanp' shows which",
}
"""Who may have a port, by protocol."""


class Reservation:
    """Sockets bound to the given endpoints, released by `close`."""

    def __init__(
        self, endpoints: Iterable[tuple[str, Endpoint]], inherited: Mapping[Endpoint, socket.socket] | None = None
    ) -> None:
        """Take all endpoints, each with the name of its frontend for messages, or none.

        What is `inherited` was held by another process and is closed here, or kept. Raises DatapathError, in HAProxy's
        words and with the remedy, when one cannot be had.
        """
        self._sockets: list[tuple[str, Endpoint, socket.socket]] = []
        others = dict(inherited or {})
        try:
            for frontend, endpoint in sorted(endpoints, key=lambda each: not each[1].address.is_unspecified):
                held = others.pop(endpoint, None) or _bound(frontend, endpoint, [*others.items(), *self._own(endpoint)])
                self._sockets.append((frontend, endpoint, held))
        except DatapathError:
            self.close()
            raise
        finally:
            for other in others.values():
                other.close()

    def _own(self, beside: Endpoint) -> Iterable[tuple[Endpoint, socket.socket]]:
        """Return what is held already at addresses that are not this one: each is told from it by its address."""
        return [(endpoint, held) for _, endpoint, held in self._sockets if endpoint.address != beside.address]

    def __len__(self) -> int:
        """How many endpoints are held."""
        return len(self._sockets)

    @property
    def holdings(self) -> dict[Endpoint, socket.socket]:
        """What to give to the one who is to hold these ports next."""
        return {endpoint: held for _, endpoint, held in self._sockets}

    def release(self, frontend: str) -> None:
        """Give the ports of one frontend back."""
        for name, _, held in self._sockets:
            if name == frontend:
                held.close()
        self._sockets = [each for each in self._sockets if each[0] != frontend]

    def close(self) -> None:
        """Give the ports back."""
        for _, _, held in self._sockets:
            held.close()
        self._sockets.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def check_sources(sources: Iterable[tuple[Address, str]]) -> None:
    """Raise DatapathError, with the remedy, unless full NAT may speak from all of these addresses.

    Each comes with the words that say for which server, and where that is written.
    """
    for source, told in sources:
        try:
            with socket.socket(socket.AF_INET6 if source.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind((str(source), 0))
        except OSError as error:
            raise DatapathError(
                f"{told}: cannot bind to source address {source} ({os.strerror(error.errno or 0)}): full NAT "
                "speaks from addresses of this machine alone; add it to an interface, or remove that source"
            ) from error


def _bound(frontend: str, endpoint: Endpoint, others: Iterable[tuple[Endpoint, socket.socket]]) -> socket.socket:
    in_the_way = [held for other, held in others if (other.protocol, other.port) == (endpoint.protocol, endpoint.port)]
    try:
        return _bind(endpoint, in_the_way)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        remedy = _REMEDIES.get(error.errno or 0, "").format(holders=_HOLDERS[endpoint.protocol])
        raise DatapathError(
            f"Starting frontend {frontend}: cannot bind socket ({reason}) [{endpoint}]"
            + (f": {remedy}" if remedy else "")
        ) from error


def _bind(endpoint: Endpoint, in_the_way: Iterable[socket.socket]) -> socket.socket:
    ipv6 = endpoint.address.version == 6
    udp = endpoint.protocol == _UDP
    held = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
    place = (str(endpoint.address), endpoint.port)
    try:
        if udp:
            program = struct.pack("HP", 1, ctypes.addressof(_PASS_NOTHING))
            held.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        if ipv6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if endpoint.foreign:
            held.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if endpoint.interface:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, endpoint.interface.encode())
        with contextlib.suppress(OSError):
            held.bind(place)
            return held
        # Finished connections of a server that ran here a minute ago hold the port too; SO_REUSEADDR overlooks
        # them. It would also overlook another natlb, so it comes second, and only if there is nothing else; and it
        # does not stay, or else the next natlb, or a server, would overlook us.
        overlooked = list(in_the_way)
        if overlooked or (not udp and _only_time_wait(endpoint)):
            overlooked.append(held)
        try:
            for each in overlooked:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(place)
        finally:
            for each in overlooked:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError:
        held.close()
        raise
    return held


def _only_time_wait(endpoint: Endpoint) -> bool:
    """Whether all TCP sockets at the port are remains of finished connections (state 06 of /proc/net/tcp)."""
    states = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == endpoint.port:
                    states.add(fields[3])
    return states == {_TIME_WAIT}
