"""From a record to a packet as the kernel would have handed it over: from its IP header to its end, and whole.

A capture is often cut short (`tcpdump -s`, or Wireshark's "limit each packet"): of each packet only the first bytes
were kept. All that a NAT reads and writes stands in those, but for one thing: a packet that opens or closes a
connection has to have a right checksum, which covers what is missing. So what is missing is made up: zeros, and at the
very end the two bytes with which the checksum is right. Whether the real packet's was cannot be known; it is taken to
be. What the engine makes of the packet is then cut as short as it came: every byte that is written was captured, or
follows from what was.

A packet that was captured before a network card, or a cut into segments, had completed its checksum is `unfinished`, in
the sense of `natlb.core.packet`. A file does not say so, but it shows: the field holds the sum of the pseudo-header.
"""

from dataclasses import dataclass

from natlb.captures.files import Record
from natlb.captures.links import network
from natlb.core.checksum import fold, pseudo_header
from natlb.core.packet import ICMP, UDP, Kind, PacketView
from natlb.core.verdict import DropReason

_TELLING = 6
"""Bytes of an IP packet that say how long it is. A record says that, too, but may say anything."""


@dataclass(slots=True)
class Captured:
    """An IP packet of a capture."""

    number: int
    """Its place in the file, from 1."""
    at: int
    """When it was captured, in nanoseconds since the epoch."""
    packet: bytearray
    """The packet, whole: what the capture cut off is made up."""
    known: int
    """How many of its bytes were captured."""
    unfinished: bool
    """Whether its transport checksum is."""
    outgoing: bool | None
    """Whether it was on its way out of the machine, where the capture says that."""


def captured(record: Record) -> Captured | DropReason | None:
    """Return the IP packet of a record; None if it is none; TRUNCATED where too little of it was captured to follow."""
    found = network(record.link, record.data)
    if found is None:
        return None
    start, outgoing = found
    data = bytearray(record.data[start:])
    there = record.size - start
    if len(data) < min(there, _TELLING):
        return DropReason.TRUNCATED
    size = min(_size(data), there) if len(data) >= _TELLING else there
    known = min(len(data), size)
    packet = data[:known] + bytes(size - known)
    view = PacketView()
    kind = view.read(packet)
    unfinished = kind in (Kind.TCP, Kind.UDP) and view.checksum_is_begun and not view.checksum_is_good()
    if known < size:
        if known < 20 or isinstance(kind, DropReason) or known < _headers(view, kind):
            return DropReason.TRUNCATED
        if kind is not Kind.OTHER and not unfinished:
            _make_up(view, known)
    outgoing = record.outgoing if outgoing is None else outgoing
    return Captured(record.number, record.at, packet, known, unfinished, outgoing)


def _size(data: bytearray) -> int:
    """Return how long an IP packet says it is, by its first bytes; behind that a link may have padded it."""
    if data[0] >> 4 == 4:
        # 0 is what Linux shows of a packet that is yet to be cut up, and longer than the field can say.
        return data[2] << 8 | data[3] or len(data)
    return 40 + (data[4] << 8 | data[5])


def _headers(view: PacketView, kind: Kind) -> int:
    """Return how many bytes of a packet must be known for it to be followed."""
    if kind is Kind.OTHER or (kind is Kind.FRAGMENT and view.offset):
        return view.transport
    if kind is Kind.ICMP:  # of an error, the header of the packet that it quotes, and its ports
        return min(view.end, view.transport + 8 + (28 if view.version == 4 else 48))
    return view.data


def _make_up(view: PacketView, known: int) -> None:
    """Let the last bytes of what a checksum covers make it right; those that are not known are zero before."""
    if view.checksum_is_good():
        return
    packet, end = view.packet, view.end
    if view.protocol == UDP:  # what stands behind the datagram is not covered
        end = view.transport + (packet[view.transport + 4] << 8 | packet[view.transport + 5])
    if end <= known:
        return
    covered = packet[view.transport : end]
    if view.protocol != ICMP:
        covered = bytearray(pseudo_header(view.source, view.destination, view.protocol, len(covered))) + covered
    lacking = (0xFFFF - fold(covered)) % 0xFFFF
    high, low = lacking >> 8, lacking & 0xFF
    # The byte at an even place is the high one of its word. One byte alone can only be what it was.
    ends_word = (end - view.transport) % 2 == 0
    packet[end - 1] = low if ends_word else high
    if end - known >= 2:
        packet[end - 2] = high if ends_word else low
