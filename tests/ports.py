"""Ports that nobody has, and that nobody else gets for as long as this process lives.

Within its own range the kernel gives a port to whoever wants any, so one that was free need not be so for long. Outside
of it only those get a port who ask for its number. Tests that go on beside these do; they keep out of each other's way,
a hundred ports at a time, by abstract Unix sockets: these are one network namespace's, as ports are, and go with their
process however it ends.
"""

import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_AT_ONCE: Final = 100


def free_port() -> int:
    """Return a port that is free at all addresses, for TCP and for UDP. Each is returned once."""
    return next(_ports)


def _free_ports() -> Iterator[int]:
    lowest, highest = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    all_ = range(20_000, 65_500, _AT_ONCE)
    for first in [each for each in all_ if not lowest - _AT_ONCE < each <= highest] or all_:
        if _keep(first):
            yield from filter(_is_free, range(first, first + _AT_ONCE))


def _keep(first: int) -> bool:
    """Keep a hundred ports for this process, unless another does."""
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(f"\0natlb-test-ports-{first}")
        except OSError:
            return False
        lock.detach()  # it is open until this process ends
        return True


def _is_free(port: int) -> bool:
    try:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET6, kind) as probe:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                probe.bind(("::", port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


_ports = _free_ports()
