"""The short way of nearly every packet: a segment that moves no state, a datagram of a flow that is known.

Everything in here happens in the general way as well (`engine`, `packet`, `window`, `flow`), which reads better and is
right without this module: whatever looks unusual is left to it, untouched. What both do is the same to the last byte,
count and sequence number; tests/unit/core/test_shortcut.py leads the same packets through two engines, one of them
without this, and compares all of that.

It is one flat piece, and not made of the general way's parts, because of what a packet costs in Python. That is not its
arithmetic: it is calls, attributes, and objects that are made and thrown away. Here the headers are unpacked at once,
the tuple is cut out with them, the connection is found by it, its window is followed in line, and the rewrite is four
writes of what was made ready (see `Translation`). In place the code runs in caches that the kernel has just used for
something else, which makes every further function twice as dear. So it is to stay flat, and small: what does not
concern every packet belongs into the general way.

An IPv4 header with options, an extension header of IPv6 and a fragment are unusual, and so are all flags but ACK and
PSH. UDP goes along for the price of a branch: its header lies where TCP's begins, and at least twelve bytes follow.
"""

from collections.abc import Callable
from struct import Struct
from typing import Final

from natlb.core.flow import Connection
from natlb.core.packet import ACK, TCP, UDP
from natlb.core.shards import MASK
from natlb.core.states import State
from natlb.core.table import Table
from natlb.core.tcp import SIGNIFICANT, UNMOVED
from natlb.core.verdict import Rewrite

_ALL: Final = 0xFFFFFFFF
_HALF: Final = 0x80000000

_IPV4: Final = Struct("!2x H 2x H x B H 12s I I H H H").unpack_from
"""Total length, fragmentation, protocol, header checksum, addresses and ports; then as TCP has it: sequence number,
acknowledgment, data offset and flags, window, checksum."""
_IPV6: Final = Struct("!4x H B x 36s I I H H H").unpack_from
"""Payload length, next header, addresses and ports; then the same."""
_IPV4_TCP, _IPV6_TCP = 40, 60
"""Bytes of both headers without options."""

_CHECKSUM: Final = Struct("!H").pack_into

_ONE_WAY: Final = State.ONE_WAY


class Shortcut:
    """The short way through the connections of one table."""

    __slots__ = (
        "_acked",
        "_edge",
        "_following",
        "_octets",
        "_packets",
        "_parts",
        "_refresh",
        "_refresh_at",
        "_rewrite",
        "_shift",
    )

    def __init__(self, table: Table, refresh: Callable[[Connection, float], None]) -> None:
        """Lead packets this way; `refresh` notes that one of a connection was seen, once in a while."""
        ledger = table.ledger
        self._parts = table.connections.parts
        self._refresh = refresh
        self._packets = ledger.packets
        self._octets = ledger.octets
        self._refresh_at = ledger.refresh_at
        self._following = ledger.following
        self._acked = ledger.acked
        self._edge = ledger.edge
        self._shift = ledger.shift
        self._rewrite = Rewrite(bytearray())

    def carry(self, packet: bytearray, now: float, unfinished: bool) -> Rewrite | None:
        """Rewrite a packet in place and count it; or, if it is not of the usual kind, return None and change nothing.

        The verdict that is returned is the same object each time, with another payload.
        """
        # -- parse
        # `carried` is how many bytes follow the IP header, at `transport`.
        size = len(packet)
        if size < _IPV4_TCP:
            return None
        first = packet[0]
        if first == 0x45:
            length, fragment, protocol, ip_sum, ends, sequence, acknowledged, flags, window, checksum = _IPV4(packet)
            if fragment & 0x3FFF or length > size:
                return None
            transport, carried = 20, length - 20
        elif first >> 4 == 6 and size >= _IPV6_TCP:
            carried, protocol, ends, sequence, acknowledged, flags, window, checksum = _IPV6(packet)
            if carried + 40 > size:
                return None
            transport = 40
        else:
            return None

        connection: Connection | None
        if protocol == TCP:
            octets = carried - (flags >> 10 & 0x3C)
            if flags & SIGNIFICANT != ACK or octets < 0 or flags < 0x5000:
                return None
            # -- lookup
            key = ends + b"\x06"
            connection = self._parts[hash(key) & MASK].get(key)
            if connection is None or connection.aside or connection.state not in UNMOVED:
                return None
            # -- state
            index = connection.index
            if key == connection.original:
                direction, row, peer = 0, 2 * index, 2 * index + 1
            else:
                direction, row, peer = 1, 2 * index + 1, 2 * index
            # Window.follow, of a segment without FIN
            following, edges = self._following, self._edge
            end = sequence + octets & _ALL
            octets = end - following[row] & _ALL
            if octets:
                if octets <= _HALF and (end - edges[peer] - 2 & _ALL) >= _HALF:
                    following[row] = end
                else:
                    octets = 0
            if (acknowledged - following[peer] - 1 & _ALL) >= _HALF:
                if (acknowledged - self._acked[row] & _ALL) < _HALF:
                    self._acked[row] = acknowledged
                edge = acknowledged + (window << self._shift[row]) & _ALL
                if (edge - edges[row] & _ALL) < _HALF:
                    edges[row] = edge
            translation = connection.translations[direction]
            # -- rewrite
            at = transport + 16
            if not unfinished:
                checksum -= translation.transport_delta
                if checksum < 0:
                    checksum += 0xFFFF
        elif protocol == UDP:
            # What TCP calls the sequence number is length and checksum here.
            length, checksum = sequence >> 16, sequence & 0xFFFF
            octets = carried - 8
            if length < 8 or length > carried or (transport == 40 and not checksum):
                return None
            # -- lookup
            key = ends + b"\x11"
            connection = self._parts[hash(key) & MASK].get(key)
            if connection is None or connection.offloaded:
                return None
            # -- state
            service = connection.service
            if service.requests is not None or service.responses is not None:
                return None
            index = connection.index
            if key == connection.original:
                if connection.server.away:
                    return None
                direction, row = 0, 2 * index
            else:
                if connection.state is _ONE_WAY:
                    return None
                direction, row = 1, 2 * index + 1
            translation = connection.translations[direction]
            # -- rewrite
            at = transport + 6
            if checksum and not unfinished:
                checksum -= translation.transport_delta
                if checksum <= 0:  # 0 would say that there is none
                    checksum += 0xFFFF
        else:
            return None

        # -- state
        self._packets[row] += 1
        account = translation.account
        account.packets += 1
        if octets:
            self._octets[row] += octets
            account.octets += octets
        if now >= self._refresh_at[index]:
            self._refresh(connection, now)

        # -- rewrite
        packet[translation.address_at] = translation.address
        packet[translation.port_at] = translation.port
        if unfinished:
            checksum += translation.address_delta
            if checksum > 0xFFFF:
                checksum -= 0xFFFF
        _CHECKSUM(packet, at, checksum)
        if transport == 20:
            ip_sum -= translation.address_delta
            if ip_sum < 0:
                ip_sum += 0xFFFF
            _CHECKSUM(packet, 10, ip_sum)
        # -- verdict
        rewrite = self._rewrite
        rewrite.payload = packet
        return rewrite
