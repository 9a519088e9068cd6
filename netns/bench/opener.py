"""Opens many connections from many addresses, and keeps them, idle, until its input ends.

    python -m netns.bench.opener 44.2.2.2 8888 --number 100000 --from 44.1.64.0/24

At most `IN_FLIGHT` are being opened at a time, so that no queue on the way overflows for the opener's sake. When all
have been tried it prints one line, `opened N, failed M`, and keeps what it has. They end with a RST: an orderly end
would leave the kernel with as many connections in TIME_WAIT.
"""

import argparse
import errno
import selectors
import socket
import struct
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Network

IN_FLIGHT = 200

_IP_BIND_ADDRESS_NO_PORT = 24
"""Of linux/in.h: choose the port when connecting; one in use towards another address is as good as a free one."""

_PATIENCE = 10.0
"""Seconds without any progress, after which what is still being opened has failed."""


class Opener:
    """Connections to one address."""

    def __init__(self, target: tuple[str, int], number: int, network: IPv4Network) -> None:
        self._target = target
        self._left = number
        self._sources = _in_turn([str(address) for address in network.hosts()])
        self._selector = selectors.DefaultSelector()
        self._connections: list[socket.socket] = []
        self.failed = 0

    @property
    def opened(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def run(self) -> None:
        """Open them all, or try to."""
        progress = time.monotonic()
        while self._left or self._selector.get_map():
            while self._left and len(self._selector.get_map()) < IN_FLIGHT:
                self._left -= 1
                self._begin()
            for key, _ in self._selector.select(1.0):
                progress = time.monotonic()
                self._end(key.data)
            if time.monotonic() > progress + _PATIENCE:
                self.failed += self._left + len(self._selector.get_map())
                return

    def close(self) -> None:
        """End all of them."""
        for key in list(self._selector.get_map().values()):
            key.data.close()
        self._selector.close()
        for connection in self._connections:
            connection.close()

    def _begin(self) -> None:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            connection.bind((next(self._sources), 0))
            error = connection.connect_ex(self._target)
        except OSError as failure:
            error = failure.errno or errno.EIO
        if error in (0, errno.EINPROGRESS):
            self._selector.register(connection, selectors.EVENT_WRITE, connection)
        else:
            self.failed += 1
            connection.close()

    def _end(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.failed += 1
            connection.close()
        else:
            self._connections.append(connection)


def _in_turn(sources: list[str]) -> Iterator[str]:
    while True:
        yield from sources


def main() -> None:
    """Open, say so, and wait for the end of the input."""
    parser = argparse.ArgumentParser(prog="python -m netns.bench.opener", description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--from", dest="network", type=IPv4Network, required=True)
    options = parser.parse_args()
    opener = Opener((options.address, options.port), options.number, options.network)
    opener.run()
    print(f"opened {opener.opened}, failed {opener.failed}", flush=True)
    sys.stdin.read()
    opener.close()


if __name__ == "__main__":
    main()
