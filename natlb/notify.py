"""Telling a service manager how natlb is: the protocol of sd_notify(3), which is one datagram for each message.

Who starts natlb as a service of `Type=notify` names a socket in $NOTIFY_SOCKET: systemd, and others that do as it does.
Once packets may come, natlb says so there; then, how it is; and that it stops. With $WATCHDOG_USEC the manager wants to
hear from it at least as often, and starts it anew if it does not. Without $NOTIFY_SOCKET nobody is told anything.

A message that does not get through is no reason to drop a packet: the log says so, and natlb goes on. Children inherit
the variables. None of those that natlb starts speaks the protocol.
"""

import os
import socket
import time
from typing import Final

from natlb.log import log

_PATIENCE: Final = 0.1
"""Seconds that a manager may take to accept a datagram: packets wait meanwhile."""

_LONGEST: Final = 19
"""Digits that a number of microseconds has in 64 bits, which a manager counts with, at most."""


def tell(*assignments: str) -> bool:
    """Send these assignments, such as `READY=1`, in one message; return whether there is a manager who took it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # an abstract name, which no file system has
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.settimeout(_PATIENCE)
            manager.sendto("\n".join(assignments).encode(), address)
    except (OSError, ValueError) as error:
        log.warning("cannot tell the service manager %s: %s", assignments[0], getattr(error, "strerror", None) or error)
        return False
    return True


def ready(status: str) -> None:
    """Say that packets may come, which process to look after from now on, and one line on how it is."""
    tell("READY=1", f"MAINPID={os.getpid()}", f"STATUS={status}")


def reloading() -> None:
    """Say that a new configuration is being taken up; `ready` is to follow, whatever comes of it."""
    tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def stopping() -> None:
    """Say that the end has begun, and is meant."""
    tell("STOPPING=1")


def interval() -> float | None:
    """Return in which interval, in seconds, the manager wants a sign of life; None if it wants none.

    It is half of the time after which natlb would be started anew, as sd_watchdog_enabled(3) recommends.
    """
    wanted, of = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID") or str(os.getpid())
    if not (wanted.isascii() and wanted.isdigit() and len(wanted) <= _LONGEST) or int(wanted) == 0:
        return None
    if of != str(os.getpid()):
        return None
    return int(wanted) / 2_000_000
