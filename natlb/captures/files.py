"""What stands in a capture: pcap and pcapng, to records.

pcap (draft-ietf-opsawg-pcap) is a header and then records; its first four bytes tell the byte order and whether times
are in microseconds or nanoseconds. pcapng (draft-ietf-opsawg-pcapng) is blocks: a section header, which tells the byte
order, interfaces, each with its link type and its clock, and packets, each of an interface. Whatever other blocks there
are is passed over.

A file is read once from its beginning to its end and never held as a whole, so it may be a pipe. One that ends in the
middle of a record, as those do whose program was killed, has all records before that: `Reader.cut_off` says so. A
record that cannot be is damage, and there is no way to find the next one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import BinaryIO, Final

from natlb.errors import CaptureError

LARGEST: Final = 262_144
"""Bytes of a packet that programs capture at most: what tcpdump and Wireshark allow themselves."""

_LARGEST_BLOCK: Final = 16 << 20
"""Bytes of a pcapng block, which may hold lists of names and keys: Wireshark's bound."""

_SECOND: Final = 1_000_000_000

_PCAP: Final = {
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\x3c\x4d": (">", 1),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
}
"""By the first four bytes: the byte order, and the nanoseconds that a fraction of a second is counted in."""

_PCAPNG: Final = b"\x0a\x0d\x0d\x0a"
_ORDERS: Final = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}

_FOREIGN: Final = {
    b"\x1f\x8b": "compressed with gzip: unpack it first, with gunzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it first, with unzstd",
    b"\xa1\xb2\xcd\x34": "a pcap of a kind that was given up long ago: write it anew, with editcap",
    b"\x34\xcd\xb2\xa1": "a pcap of a kind that was given up long ago: write it anew, with editcap",
    b"snoop": "a snoop capture: make a pcap of it, with editcap",
}

_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_OPTION_END, _OPTION_FLAGS, _OPTION_RESOLUTION, _OPTION_OFFSET = 0, 2, 9, 14
_INBOUND, _OUTBOUND = 1, 2


@dataclass(frozen=True, slots=True)
class Record:
    """One captured packet, from the link's header on."""

    number: int
    """Its place in the file, from 1: Wireshark's number of it."""
    at: int
    """When it was captured, in nanoseconds since the epoch."""
    link: int
    """What the link put before it: a LINKTYPE."""
    data: bytes
    """What was captured."""
    size: int
    """How many bytes there were; more than `data` where the capture cut them off."""
    outgoing: bool | None = None
    """Whether it was on its way out of the machine, where the file says that of it."""


@dataclass(frozen=True, slots=True)
class _Interface:
    link: int
    most: int
    """Bytes of a packet that are captured; 0 is all."""
    units: int
    """Of its clock, in a second."""
    offset: int
    """Seconds to add to its times."""


class Reader:
    """The records of one capture, in the order of the file."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Read from `file`, which messages call `name`; nothing is read yet."""
        self._file = file
        self._name = name
        self._at = 0
        self._number = 0
        self.cut_off = False
        """Whether the file ended in the middle of a record."""
        self.untimed = 0
        """Packets without a time of their own (pcapng's simple ones): they have that of the packet before."""

    def __iter__(self) -> Iterator[Record]:
        """Go through the records. Raises CaptureError on what is no capture, or is damaged, naming the place."""
        start = self._read(4)
        if start in _PCAP:
            yield from self._pcap(*_PCAP[start])
        elif start == _PCAPNG:
            yield from self._pcapng()
        else:
            known = next((what for magic, what in _FOREIGN.items() if magic.startswith(start[: len(magic)])), None)
            if not start:
                known = "empty: no capture begins like that"
            raise CaptureError(f"{self._name} is {known or 'no capture: neither pcap nor pcapng'}")

    # pcap

    def _pcap(self, order: str, unit: int) -> Iterator[Record]:
        header = Struct(f"{order}HHIIII")
        data = self._read(header.size)
        if len(data) < header.size:
            raise CaptureError(f"{self._name} ends within its header")
        link = header.unpack(data)[-1] & 0xFFFF  # above that, how many bytes of checksum a link may append
        record = Struct(f"{order}IIII")
        while head := self._read(record.size):
            if len(head) < record.size:
                self.cut_off = True
                return
            seconds, fraction, captured, size = record.unpack(head)
            if captured > LARGEST or fraction * unit >= _SECOND:
                raise self._damaged(f"says that {captured} bytes were captured", record.size)
            data = self._read(captured)
            if len(data) < captured:
                self.cut_off = True
                return
            self._number += 1
            yield Record(self._number, seconds * _SECOND + fraction * unit, link, data, max(size, captured))

    # pcapng

    def _pcapng(self) -> Iterator[Record]:
        order, interfaces, latest = "<", list[_Interface](), 0
        kind_as_read = _PCAPNG
        while kind_as_read:
            head = self._read(4)
            if len(kind_as_read) + len(head) < 8:
                self.cut_off = True
                return
            known = 0
            if kind_as_read == _PCAPNG:
                magic = self._read(4)
                if len(magic) < 4:
                    self.cut_off = True
                    return
                if magic not in _ORDERS:
                    raise self._damaged("is a section of an unknown byte order", 12)
                order, interfaces, known = _ORDERS[magic], [], 4
            word = Struct(f"{order}I")
            kind, size = word.unpack(kind_as_read)[0], word.unpack(head)[0]
            if size < 12 + known or size % 4 or size > _LARGEST_BLOCK:
                raise self._damaged(f"says that its block has {size} bytes", 8 + known)
            body = self._read(size - 8 - known)
            if len(body) < size - 8 - known:
                self.cut_off = True
                return
            if word.unpack_from(body, len(body) - 4)[0] != size:
                raise self._damaged("has another length at its end than at its beginning", size)
            body = body[:-4]
            if kind == _INTERFACE:
                interfaces.append(self._interface(order, body, size))
            elif kind in (_PACKET, _OLD_PACKET, _SIMPLE_PACKET):
                record = self._packet(order, kind, body, interfaces, latest, size)
                latest = record.at
                yield record
            kind_as_read = self._read(4)

    def _interface(self, order: str, body: bytes, block: int) -> _Interface:
        if len(body) < 8:
            raise self._damaged("is too short for an interface", block)
        link, _, most = Struct(f"{order}HHI").unpack_from(body)
        options = _options(order, body[8:])
        resolution = options.get(_OPTION_RESOLUTION, b"\x06")[:1] or b"\x06"
        exponent = resolution[0] & 0x7F
        if exponent > 63:
            raise self._damaged("has a clock that nobody can have", block)
        offset = options.get(_OPTION_OFFSET, b"")
        return _Interface(
            link,
            most,
            2**exponent if resolution[0] & 0x80 else 10**exponent,
            Struct(f"{order}q").unpack(offset)[0] if len(offset) == 8 else 0,
        )

    def _packet(
        self, order: str, kind: int, body: bytes, interfaces: list[_Interface], latest: int, block: int
    ) -> Record:
        layout = Struct(f"{order}{ {_PACKET: 'IIIII', _OLD_PACKET: 'HHIIII', _SIMPLE_PACKET: 'I'}[kind] }")
        if len(body) < layout.size:
            raise self._damaged("is too short for a packet", block)
        fields = layout.unpack_from(body)
        index = 0 if kind == _SIMPLE_PACKET else fields[0]
        if index >= len(interfaces):
            raise self._damaged(f"is of interface {index}, which the file does not have", block)
        interface = interfaces[index]
        if kind == _SIMPLE_PACKET:
            size, at = fields[0], latest
            captured = min(size, interface.most or size)
            self.untimed += 1
        else:
            high, low, captured, size = fields[-4:]
            at = (high << 32 | low) * _SECOND // interface.units + interface.offset * _SECOND
        if captured > min(LARGEST, len(body) - layout.size):
            raise self._damaged(f"says that {captured} bytes were captured", block)
        end = layout.size + captured
        flags = _options(order, body[end + (-captured % 4) :]).get(_OPTION_FLAGS, b"") if kind == _PACKET else b""
        way = Struct(f"{order}I").unpack(flags)[0] & 3 if len(flags) == 4 else 0
        self._number += 1
        return Record(
            self._number,
            max(0, at),
            interface.link,
            body[layout.size : end],
            max(size, captured),
            {_INBOUND: False, _OUTBOUND: True}.get(way),
        )

    # Both

    def _read(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except OSError as error:
            raise CaptureError(f"cannot read {self._name}: {error.strerror or error}") from error
        self._at += len(data)
        return data

    def _damaged(self, what: str, read: int) -> CaptureError:
        return CaptureError(
            f"{self._name} is damaged: what should be packet {self._number + 1}, at byte {self._at - read}, {what}"
        )


def _options(order: str, data: bytes) -> dict[int, bytes]:
    """Return the options of a block, by number: the last of each; what is not whole is none."""
    head, found, at = Struct(f"{order}HH"), dict[int, bytes](), 0
    while at + head.size <= len(data):
        number, size = head.unpack_from(data, at)
        if number == _OPTION_END:
            break
        found[number] = data[at + head.size : at + head.size + size]
        at += head.size + size + (-size % 4)
    return found
