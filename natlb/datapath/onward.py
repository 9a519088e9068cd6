"""What the kernel will still do with a packet: it is asked, and its answers are kept for a second.

The addresses of a machine change while it runs, routes can make whole networks local, and a firewall may be loaded at
any time; only the kernel knows.
"""

import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from natlb import conntrack

# linux/rtnetlink.h
_RTM_NEWROUTE, _RTM_GETROUTE, _RTA_DST, _RTN_UNICAST = 24, 26, 1, 1
_NLM_F_REQUEST = 0x1

_KEPT: Final = 1.0
"""Seconds in which an answer holds."""
_MOST_KEPT: Final = 4096
"""Answers that are kept at a time."""


class Onward:
    """The kernel's answers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, settings: Path = conntrack.SETTINGS) -> None:
        self._clock = clock
        self._settings = settings
        self._until = clock()
        self._sent_on: dict[bytes, bool] = {}
        self._checked: bool | None = None
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        # The kernel answers before the question returns.
        self._socket.setblocking(False)

    def is_sent_on(self, address: bytes) -> bool:
        """Whether packets to an address leave this machine. Where the kernel does not say so, they do not."""
        self._forget()
        answer = self._sent_on.get(address)
        if answer is None:
            answer = self._sent_on[address] = self._ask(address)
        return answer

    def is_checked(self) -> bool:
        """Whether connection tracking reads the checksums of what comes in, and takes what is wrong for INVALID."""
        self._forget()
        if self._checked is None:
            # It may be loaded and have nothing to do here; then it knows no connections, not even ours.
            self._checked = all(
                conntrack.number(self._settings / name) for name in ("nf_conntrack_checksum", "nf_conntrack_count")
            )
        return self._checked

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def _forget(self) -> None:
        now = self._clock()
        if now >= self._until or len(self._sent_on) >= _MOST_KEPT:
            self._sent_on.clear()
            self._checked = None
            self._until = now + _KEPT

    def _ask(self, address: bytes) -> bool:
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        route = struct.pack("=BBBBBBBBI", family, 8 * len(address), 0, 0, 0, 0, 0, 0, 0)
        attribute = struct.pack("=HH", 4 + len(address), _RTA_DST) + address
        size = 16 + len(route) + len(attribute)
        try:
            self._socket.send(struct.pack("=IHHII", size, _RTM_GETROUTE, _NLM_F_REQUEST, 0, 0) + route + attribute)
            reply = self._socket.recv(8192)
        except OSError:
            return False
        # Of the route: family, two lengths, service class, table, protocol, scope, and then its type.
        return struct.unpack_from("=H", reply, 4)[0] == _RTM_NEWROUTE and reply[16 + 7] == _RTN_UNICAST
