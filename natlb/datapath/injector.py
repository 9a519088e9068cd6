"""Sending packets that the engine made, whole, headers included."""

import contextlib
import socket
from ipaddress import ip_address


class Injector:
    """Raw sockets, one per address family, that send IP packets as they are."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}
        for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            # A kernel without IPv6 has no such packets to send either.
            with contextlib.suppress(OSError):
                self._sockets[version] = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
                self._sockets[version].setblocking(False)
        self.failures = 0
        """Packets that the kernel would not send: no route, a full buffer, a firewall rule."""

    def send(self, packet: bytes) -> None:
        """Send one IP packet to the destination in its header. What cannot be sent is counted: it was best effort."""
        version = packet[0] >> 4
        destination = packet[16:20] if version == 4 else packet[24:40]
        try:
            self._sockets[version].sendto(packet, (str(ip_address(destination)), 0))
        except (OSError, KeyError):
            self.failures += 1

    def close(self) -> None:
        """Close both sockets."""
        for held in self._sockets.values():
            held.close()
