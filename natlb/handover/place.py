"""Where connections exist: they end with the boot of the machine, and with the network namespace.

A namespace is known by the inode of its file in /proc, and that number is given to another one when it is gone. The
kernel has a number that it gives only once (Linux 5.14), so that is asked for as well.
"""

import socket
from pathlib import Path
from typing import Final
from uuid import UUID

from natlb.handover.layout import Place

_SO_NETNS_COOKIE: Final = 71
"""include/uapi/asm-generic/socket.h"""


def here(queue: int) -> Place:
    """Return where this process is, with the number of its netfilter queue."""
    boot = UUID(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    return Place(boot.bytes, Path("/proc/self/ns/net").stat().st_ino, _cookie(), queue)


def _cookie() -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        try:
            return int.from_bytes(any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
        except OSError:
            return 0
