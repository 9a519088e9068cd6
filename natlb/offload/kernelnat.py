"""Whether the kernel's own NAT has a hand in a connection: MASQUERADE, SNAT or DNAT between natlb and the server.

What netfilter's NAT makes of a connection it decides with the first packet, which natlb has rewritten before, and it
does so with each packet after that. On the fast path they pass it by: the server would see the first ones come from one
address and all others from another. So whoever is about to be entered is looked up in connection tracking, which keeps
what NAT has decided in the status of the connection, and stays in userspace if that is anything.

The question is a message of ctnetlink, about the tuple that connection tracking has seen first: client to server, or
under natlb's full NAT its own address to server. It takes some ten microseconds, once for each connection, and only
where connection tracking is at work: if it knows no connection, not even this one, it tracks none. One that it does not
know it does not translate either.

linux/netfilter/nfnetlink_conntrack.h, linux/netfilter/nf_conntrack_common.h
"""

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import Final

from natlb import conntrack
from natlb.core.flow import Connection, reverse
from natlb.errors import OffloadError

_NETLINK_NETFILTER: Final = 12
_NLM_F_REQUEST, _NLMSG_ERROR = 0x1, 2
_CT_NEW, _CT_GET = 0x100, 0x101
"""NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW, which is what the answer is, and IPCTNL_MSG_CT_GET."""
_CTA_STATUS: Final = 3
_IPS_NAT_MASK: Final = 0x30
"""IPS_SRC_NAT | IPS_DST_NAT: set only where an address or a port has become another."""

_COUNT: Final = conntrack.SETTINGS / "nf_conntrack_count"
"""There while connection tracking is loaded: how many connections it knows in this network namespace."""
_KEPT: Final = 1.0
"""Seconds for which a look at that holds."""

_NESTED: Final = 0x8000
_TUPLE_ORIG, _TUPLE_IP, _TUPLE_PROTO = 1 | _NESTED, 1 | _NESTED, 2 | _NESTED
_PROTO_NUM, _PROTO_SRC_PORT, _PROTO_DST_PORT = 1, 2, 3

# The header of netlink, that of nfnetlink, and attributes, all of whose lengths are known from the IP version.
_QUESTION_4: Final = Struct("=IHHII BBH HH HH HH4s HH4s HH HHB3x HH2s2x HH2s2x")
_QUESTION_6: Final = Struct("=IHHII BBH HH HH HH16s HH16s HH HHB3x HH2s2x HH2s2x")
_KIND: Final = Struct("=4xH10xi")
"""Of an answer: what it is, and in an error which, below zero."""
_ATTRIBUTE: Final = Struct("=HH")
_STATUS: Final = Struct("!I")
_HEADERS: Final = 20
_LARGEST: Final = 8192


class KernelNat:
    """A line to connection tracking."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, count: Path = _COUNT) -> None:
        """Open it. OffloadError, with the remedy, where connection tracking is at work and cannot be asked."""
        self._clock = clock
        self._count = count
        self._is_at_work = False
        self._until = clock()
        # The kernel answers before the question returns.
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER)
        if count.exists():
            try:
                self._ask(bytes(13))
            except OSError as error:
                self._socket.close()
                raise OffloadError(
                    "connection tracking does not say which connections the kernel's NAT translates "
                    f"({os.strerror(error.errno or 0)}); try 'modprobe nf_conntrack_netlink'"
                ) from error

    def translates(self, connection: Connection) -> bool:
        """Whether the server, or the client, sees another address or port than natlb has written.

        Where the kernel does not answer, it may.
        """
        now = self._clock()
        if now >= self._until:
            self._until = now + _KEPT
            self._is_at_work = conntrack.number(self._count) != 0
        if not self._is_at_work:
            return False
        try:
            return self._ask(reverse(connection.reply)) & _IPS_NAT_MASK != 0
        except OSError:
            return True

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def _ask(self, key: bytes) -> int:
        """Return the status of the connection that began with this tuple, 0 if there is none; OSError if that fails."""
        self._socket.send(_question(key))
        answer = self._socket.recv(_LARGEST)
        kind, wrong = _KIND.unpack_from(answer)
        if kind == _NLMSG_ERROR and wrong in (-errno.ENOENT, 0):
            return 0
        if kind != _CT_NEW:
            raise OSError(-wrong if kind == _NLMSG_ERROR else errno.EPROTO, "connection tracking does not answer")
        at = _HEADERS
        while at < len(answer):
            size, kind = _ATTRIBUTE.unpack_from(answer, at)
            if kind == _CTA_STATUS:
                return int(_STATUS.unpack_from(answer, at + 4)[0])
            at += size + 3 & ~3
        return 0


def _question(key: bytes) -> bytes:
    """Return the message that asks for the connection that began with this tuple."""
    four = len(key) == 13
    size = 4 if four else 16
    question, family = (_QUESTION_4, socket.AF_INET) if four else (_QUESTION_6, socket.AF_INET6)
    ports, address = 2 * size, 4 + size
    return question.pack(
        *(question.size, _CT_GET, _NLM_F_REQUEST, 0, 0),
        *(family, 0, 0),
        *(question.size - _HEADERS, _TUPLE_ORIG),
        *(4 + 2 * address, _TUPLE_IP),
        *(address, 1 if four else 3, key[:size]),
        *(address, 2 if four else 4, key[size:ports]),
        *(4 + 3 * 8, _TUPLE_PROTO),
        *(5, _PROTO_NUM, key[-1]),
        *(6, _PROTO_SRC_PORT, key[ports : ports + 2]),
        *(6, _PROTO_DST_PORT, key[ports + 2 : ports + 4]),
    )
