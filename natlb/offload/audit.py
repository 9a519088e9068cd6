"""Whether the program does to packets what the engine would have done: a sample of them is done again, in Python.

The program and the engine are two descriptions of one NAT, and only one of them is easy to read. So the program copies
a packet now and then, as it came and as it left, and here the copy goes the engine's way: the headers are read by
`PacketView`, the tuple must be the connection's, the flags such that no decision was needed, and what the translation
of the connection makes of it must be what the program made of it, to the byte.

A packet that is longer than a sample is compared as far as it goes: what is not there would not have been changed.
"""

from typing import Final, NamedTuple

from natlb.core.checksum import difference
from natlb.core.flow import Connection, Direction, Translation, apply_delta
from natlb.core.packet import TCP, TRANSPORT_CHECKSUM, Kind, PacketView
from natlb.core.tcp import Segment, segment_of

_IPV4_TTL, _IPV4_CHECKSUM, _IPV6_HOP_LIMIT = 8, 10, 7
_CARRIED: Final = frozenset((Segment.DATA, Segment.FIN, Segment.RST, Segment.SYN_ACK))
"""What a program may carry of TCP: a SYN is always for the engine."""


class Sample(NamedTuple):
    """A packet that the program has rewritten."""

    connection: Connection
    direction: Direction
    size: int
    """Bytes of the whole packet. Of a long one only the start is here."""
    before: bytes
    after: bytes


def expected(sample: Sample) -> tuple[bytes, ...]:
    """Return what should have become of the start of a packet; nothing if it should not have been carried at all.

    Nobody says of a sample whether its checksum was finished. An unfinished one is the sum of the pseudo-header, and
    wrong as a finished one; but one in 65536 is both, and of a long packet it cannot be told. Then either answer is
    right.
    """
    connection, direction, size, before, _ = sample
    packet = bytearray(before) + bytes(max(0, size - len(before)))
    view = PacketView()
    kind = view.read(packet)
    if kind not in (Kind.TCP, Kind.UDP) or view.key != (connection.original, connection.reply)[direction]:
        return ()
    if kind is Kind.TCP and segment_of(view.flags) not in _CARRIED:
        return ()
    begun = view.checksum_is_begun
    may_be_finished = not begun or size > len(before) or view.checksum_is_good()
    return tuple(
        _rewritten(view, bytearray(packet), connection.translations[direction], unfinished)[: len(before)]
        for unfinished, possible in ((True, begun), (False, may_be_finished))
        if possible
    )


def _rewritten(view: PacketView, packet: bytearray, translation: Translation, unfinished: bool) -> bytes:
    """Rewrite a copy of the packet that was read, and let it lose a hop."""
    if unfinished:
        translation.apply_unfinished(packet, view.transport, view.transport + TRANSPORT_CHECKSUM[view.protocol])
    elif view.protocol == TCP:
        translation.apply_tcp(packet, view.transport)
    else:
        translation.apply_udp(packet, view.transport)
    if view.version == 6:
        packet[_IPV6_HOP_LIMIT] -= 1
    else:
        old = bytes(packet[_IPV4_TTL : _IPV4_TTL + 2])
        packet[_IPV4_TTL] -= 1
        apply_delta(packet, _IPV4_CHECKSUM, difference(old, packet[_IPV4_TTL : _IPV4_TTL + 2]))
    return bytes(packet)
