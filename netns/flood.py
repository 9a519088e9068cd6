"""A flood of connections for the lab: each is established and then says nothing. It is bounded in every way.

    python -m netns.flood --to 44.2.2.2 --port 8888

Half-open connections, the classic flood, make way for others in natlb: whoever has not answered a SYN-ACK is the first
to go. A client that answers has a right to its place, and whoever takes a thousand places leaves none for others.

Bounds: so many new connections a second (`RATE`), so many in all (`CONNECTIONS`), so long (`SECONDS`). At the end all
of them are reset, however it came, by itself, by SIGTERM, by Ctrl-C or by a kill -9: every place is free at once.
"""

import argparse
import contextlib
import errno
import os
import resource
import signal
import socket
import struct
import sys
import time
from types import FrameType

RATE = 400
"""New connections per second."""
CONNECTIONS = 1000
"""More than the lab's natlb has places for."""
SECONDS = 60.0

READY = "floods"
"""What it says once it is about to begin."""

_TICK = 0.02
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: closing sends a RST. The kernel does it for a process that was killed, too."""


def flood(to: str, port: int, seconds: float = SECONDS) -> None:
    """Flood one IPv4 address and port for so long. OSError: there is no way there, or too few files may be open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(f"{READY} {to}:{port}", flush=True)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        held = 0
        while (passed := time.monotonic() - began) < seconds:
            while held < min(passed * RATE, CONNECTIONS):
                connection = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                connection.setblocking(False)
                begun = connection.connect_ex((to, port))
                if begun not in (0, errno.EINPROGRESS):
                    raise OSError(begun, os.strerror(begun))
                held += 1
            time.sleep(_TICK)


def main() -> None:
    """Flood until the time is over or a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m netns.flood", description=__doc__.splitlines()[0])
    parser.add_argument("--to", required=True, help="IPv4 address")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for so long (default: %(default)g)")
    options = parser.parse_args()

    def end(_: int, __: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        flood(options.to, options.port, options.seconds)
    except OSError as error:
        sys.exit(f"the flood of {options.to}:{options.port} ended: {error}")


if __name__ == "__main__":
    main()
