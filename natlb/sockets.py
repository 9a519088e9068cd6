"""Sockets that natlb listens at: at an address, or at a path where nobody meets one that is half made."""

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path


def at_address(address: str, port: int, backlog: int) -> socket.socket:
    """Listen at an IP address; at one of IPv6 for IPv6 alone. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((address, port))
        opened.listen(backlog)
    except OSError:
        opened.close()
        raise
    return opened


def at_path(
    path: Path, kind: socket.SocketKind, backlog: int, prepare: Callable[[Path], None] = lambda _: None
) -> socket.socket:
    """Listen at a path, in the place of what an earlier run has left there. Raises OSError, and what `prepare` does.

    The socket is made beside its place, for the user of this process alone, and moved there when `prepare` has done
    with it: nobody ever meets it with the wrong mode.
    """
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    opened = socket.socket(socket.AF_UNIX, kind)
    try:
        fresh.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            opened.bind(str(fresh))
        finally:
            os.umask(before)
        prepare(fresh)
        opened.listen(backlog)
        fresh.rename(path)
    except BaseException:
        opened.close()
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    return opened
