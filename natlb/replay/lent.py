"""Which ports the live natlb lent under full NAT, read off the capture itself.

A port that full NAT lends is drawn at random where the client's own will not do (RFC 6056), and the server answers to
that port: a replay that drew another would not know its answers. A capture with both sides shows which one it was. The
first packet of a connection is sent on to the server with the client's own sequence number, or payload, and so it is
known again. The capture is gone through once before the replay for that.
"""

from collections import deque
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from natlb.captures.files import Record
from natlb.captures.packets import Captured, captured
from natlb.core.packet import TCP, Kind, PacketView
from natlb.core.tcp import Segment, segment_of

_MOST: Final = 1 << 20
"""Connections whose ports are remembered: some 300 MB at worst."""


class Lent:
    """The ports by what the first packets of their connections say."""

    def __init__(self) -> None:
        self._ports: dict[bytes, deque[int]] = {}
        self._seen: set[bytes] = set()
        self._asked: bytes | None = None
        self._view = PacketView()

    def learn(self, records: Iterable[Record], sources: frozenset[bytes]) -> None:
        """Go through a capture; `sources` are the addresses that full NAT speaks from."""
        view = self._view
        for record in records:
            if len(self._seen) >= _MOST:
                break
            found = captured(record)
            if not isinstance(found, Captured) or (first := self._first(found.packet)) is None:
                continue
            if view.source in sources and view.key not in self._seen:
                self._seen.add(view.key)
                self._ports.setdefault(first, deque()).append(view.source_port)
        self._seen.clear()

    def port_for(self, packet: bytearray) -> int | None:
        """Return the port that was lent to the connection of this first packet, or None if that is not known.

        Of several that say the same the client's own is taken, or else each gets its own in the order in which they
        came.
        """
        self._asked = self._first(packet) if self._ports else None
        ports = self._ports.get(self._asked) if self._asked is not None else None
        if not ports:
            return None
        return self._view.source_port if self._view.source_port in ports else ports[0]

    def took(self, port: int) -> None:
        """Note that the connection that was asked for last has got this port, which is nobody else's then."""
        ports = self._ports.get(self._asked) if self._asked is not None else None
        if ports and len(ports) > 1 and port in ports:
            ports.remove(port)

    def _first(self, packet: bytearray) -> bytes | None:
        """Return what a packet that may open a connection says, whoever it comes from; None if it opens none."""
        view = self._view
        kind = view.read(packet)
        if kind is Kind.FRAGMENT and not view.offset:
            kind = Kind.TCP if view.protocol == TCP else Kind.UDP
        if kind is Kind.TCP and segment_of(view.flags) is Segment.SYN:
            return b"\x06" + bytes(packet[view.transport + 4 : view.transport + 8])
        if kind is Kind.UDP:
            return b"\x11" + blake2b(packet[view.data : view.end], digest_size=16).digest()
        return None
