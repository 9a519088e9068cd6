"""A packet's bytes before and after: which fields changed, and why its checksums are right again.

A checksum is the complement of the one's-complement sum of 16-bit words (RFC 1071). When some of the words change, the
old checksum is enough to make the new one (RFC 1624, equation 3):

    HC' = ~(~HC + ~m + m')      m is a word that was, m' the one in its place

That is done here once more, word by word, from the two packets alone: the engine has made the same change at once, from
a difference that it keeps ready. Then all that the new checksum covers is summed from the beginning, which must come to
all ones.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

from natlb.core.checksum import fold, pseudo_header
from natlb.core.packet import ICMP, IPV4_CHECKSUM, TCP, TRANSPORT_CHECKSUM, UDP, Kind, PacketView
from natlb.core.verdict import DropReason
from natlb.runtime.addresses import plain

_ROW: Final = 16
_U16: Final = Struct("!H")


@dataclass(frozen=True, slots=True)
class Field:
    """Some bytes of a header that mean one thing."""

    name: str
    start: int
    size: int

    def show(self, packet: bytes) -> str:
        """Return what stands there, as people write it."""
        data = packet[self.start : self.start + self.size]
        if self.name.endswith("address"):
            return plain(data)
        return str(int.from_bytes(data, "big")) if self.name.endswith("port") else f"0x{data.hex()}"


@dataclass(frozen=True, slots=True)
class Sum:
    """The arithmetic of one checksum."""

    name: str
    at: int
    """Where it stands."""
    old: int
    new: int
    words: tuple[tuple[int, int], ...]
    """The words that it covers and that changed, old and new."""
    made: int
    """What comes out."""
    total: int | None
    """The sum of all that the new one covers, itself included; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Row:
    """Up to sixteen bytes."""

    at: int
    before: bytes
    after: bytes


def fields(packet: bytes) -> list[Field]:
    """Return the fields that a NAT writes to; of what cannot be read, none."""
    view = PacketView()
    kind = view.read(bytearray(packet))
    if isinstance(kind, DropReason) or (len(packet) < 40 and packet[0] >> 4 == 6):
        return []
    if packet[0] >> 4 == 4:
        found = [Field("IP checksum", IPV4_CHECKSUM, 2), Field("source address", 12, 4)]
        found += [Field("destination address", 16, 4)]
    else:
        found = [Field("source address", 8, 16), Field("destination address", 24, 16)]
    at = view.transport if kind is not Kind.OTHER else len(packet)
    if kind in (Kind.TCP, Kind.UDP) or (kind is Kind.FRAGMENT and not view.offset):
        found += [Field("source port", at, 2), Field("destination port", at + 2, 2)]
        name = "TCP" if view.protocol == TCP else "UDP"
        found += [Field(f"{name} checksum", at + TRANSPORT_CHECKSUM[view.protocol], 2)]
    elif kind is Kind.ICMP:
        found += [Field("ICMP checksum", at + 2, 2)]
        found += _quoted(packet[at + 8 :], at + 8)
    return found


def _quoted(packet: bytes, start: int) -> list[Field]:
    """Return the fields of a packet that an ICMP error quotes, cut short as it may be."""
    if len(packet) < 28:
        return []
    if packet[0] >> 4 == 4:
        protocol, at = packet[9], (packet[0] & 15) * 4
        found = [("IP checksum", 10, 2), ("source address", 12, 4), ("destination address", 16, 4)]
    else:
        protocol, at = packet[6], 40
        found = [("source address", 8, 16), ("destination address", 24, 16)]
    if protocol in (TCP, UDP):
        found += [("source port", at, 2), ("destination port", at + 2, 2)]
        found += [("checksum", at + TRANSPORT_CHECKSUM[protocol], 2)]
    return [Field(f"quoted {name}", start + at, size) for name, at, size in found if at + size <= len(packet)]


def changes(before: bytes, after: bytes) -> list[tuple[Field, str, str]]:
    """Return what changed, field by field, old and new as people write it."""
    found, known = [], set[int]()
    for field in fields(before):
        known.update(range(field.start, field.start + field.size))
        old, new = field.show(before), field.show(after)
        if old != new:
            found.append((field, old, new))
    for at in range(min(len(before), len(after))):
        if before[at] != after[at] and at not in known:
            found.append((Field("byte", at, 1), f"0x{before[at]:02x}", f"0x{after[at]:02x}"))
    return found


def sums(before: bytes, after: bytes, known: int) -> list[Sum]:
    """Return the arithmetic of each checksum that changed, outermost first; `known` is how much of it was captured."""
    view = PacketView()
    kind = view.read(bytearray(before))
    if isinstance(kind, DropReason):
        return []
    found = []
    if view.version == 4:
        found.append(_sum("IP checksum", IPV4_CHECKSUM, [(0, view.transport)], before, after, b"", whole=True))
    has_ports = kind in (Kind.TCP, Kind.UDP) or (kind is Kind.FRAGMENT and not view.offset)
    if not has_ports and kind is not Kind.ICMP:
        return [each for each in found if each.old != each.new]
    addresses = (12, 20) if view.version == 4 else (8, 40)
    pseudo = b""
    covers = [(view.transport, view.end)]
    if view.protocol != ICMP:
        covers.insert(0, addresses)
        half = (addresses[0] + addresses[1]) // 2
        ends = after[addresses[0] : half], after[half : addresses[1]]
        pseudo = pseudo_header(*ends, view.protocol, view.end - view.transport)
    name, at = {TCP: ("TCP checksum", 16), UDP: ("UDP checksum", 6)}.get(view.protocol, ("ICMP checksum", 2))
    whole = known >= view.end and kind is not Kind.FRAGMENT
    found.append(_sum(name, view.transport + at, covers, before, after, pseudo, whole=whole))
    return [each for each in found if each.old != each.new]


def _sum(
    name: str, at: int, covers: list[tuple[int, int]], before: bytes, after: bytes, pseudo: bytes, *, whole: bool
) -> Sum:
    """Do the arithmetic of a checksum at `at`, of all that is in `covers`."""
    words = []
    for start, end in covers:
        for place in range(start, end, 2):
            old, new = _word(before, place, end), _word(after, place, end)
            if place != at and old != new:
                words.append((old, new))
    old, new = _word(before, at, at + 2), _word(after, at, at + 2)
    total = old ^ 0xFFFF
    for was, now in words:
        total += (was ^ 0xFFFF) + now
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    start, end = covers[-1]
    return Sum(name, at, old, new, tuple(words), total ^ 0xFFFF, fold(pseudo + after[start:end]) if whole else None)


def _word(packet: bytes, at: int, end: int) -> int:
    return packet[at] << 8 | (packet[at + 1] if at + 1 < end else 0)


def rows(before: bytes, after: bytes) -> list[Row]:
    """Return both, sixteen bytes at a time."""
    longest = max(len(before), len(after))
    return [Row(at, before[at : at + _ROW], after[at : at + _ROW]) for at in range(0, longest, _ROW)]
