"""Lines on their way out, without ever waiting: what cannot be taken at once is dropped, and counted.

A log server that is slow, full or gone must not slow down a packet. Datagram sockets are non-blocking and never
connected, so that a Unix socket that comes back, or a server that does, is simply there again for the next line. A file
descriptor is asked first whether it takes something now, and is given no more than a pipe takes whole.
"""

import socket
from collections.abc import Iterable

from natlb.log import write_at_once
from natlb.logs.syslog import Origin, Target, render


class Sender:
    """The sockets of all targets. `dropped` counts the lines that a target did not take."""

    def __init__(self) -> None:
        self.sent = 0
        """Lines that were taken."""
        self.dropped = 0
        """Lines that were not."""
        self._sockets: dict[int, socket.socket] = {}

    def send(
        self, targets: Iterable[Target], origin: Origin, level: int, text: str, now: float, data: str = "-"
    ) -> None:
        """Send a line to each target that wants it; `now` is seconds since the epoch, `data` as in `render`."""
        for target in targets:
            line = render(target, origin, level, text, now, data)
            if line is None:
                continue
            try:
                taken = self._hand_over(target.destination, line)
            except OSError:
                taken = False
            self.sent += taken
            self.dropped += not taken

    def close(self) -> None:
        """Close the sockets."""
        for each in self._sockets.values():
            each.close()
        self._sockets.clear()

    def _hand_over(self, destination: tuple[str, int] | str | int, line: bytes) -> bool:
        if isinstance(destination, int):
            return write_at_once(destination, line)
        if isinstance(destination, str):
            return self._socket(socket.AF_UNIX).sendto(line, destination) == len(line)
        family = socket.AF_INET6 if ":" in destination[0] else socket.AF_INET
        return self._socket(family).sendto(line, destination) == len(line)

    def _socket(self, family: int) -> socket.socket:
        found = self._sockets.get(family)
        if found is None:
            found = self._sockets[family] = socket.socket(family, socket.SOCK_DGRAM)
            found.setblocking(False)
        return found
