"""A file that Wireshark opens, with the hosts' names in it: pcapng.

Each place of a capture is an interface of the file, with its name, so that one file can hold the same packet at all the
places that it passes; and a Name Resolution Block says who has which address, so that Wireshark shows `client` and
`server1`. scapy writes pcapng, but no names; it reads back what is written here, as tshark does (see the tests).

https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html, sections 4.1 to 4.5.
"""

import contextlib
import ipaddress
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from scapy.error import Scapy_Exception
from scapy.utils import RawPcapNgReader

from netns.dissect import read
from netns.errors import LabError
from netns.walk import Sighting

_SECTION, _INTERFACE, _NAMES, _PACKET = 0x0A0D0D0A, 1, 4, 6
_MAGIC = 0x1A2B3C4D
_ETHERNET = 1
_IPV4_RECORD, _IPV6_RECORD = 1, 2
_IF_NAME, _PROGRAM = 2, 4
_END = 0
_PER_SECOND = 1_000_000
"""Ticks of a time stamp where an interface says nothing else."""


def options(values: Mapping[int, str]) -> bytes:
    """Return a list of options, by their codes, as a block ends with; nothing if there are none."""
    listed = b"".join(
        struct.pack("<HH", code, len(text.encode())) + _padded(text.encode()) for code, text in values.items()
    )
    return listed + struct.pack("<HH", _END, 0) if values else b""


def block(kind: int, body: bytes) -> bytes:
    """Return a block: its type, its length, the body, and the length once more, to read it backwards."""
    length = 12 + len(_padded(body))
    return struct.pack("<II", kind, length) + _padded(body) + struct.pack("<I", length)


def name_records(names: Mapping[str, Sequence[str]]) -> bytes:
    """Return the body of a Name Resolution Block: address -> the names of whoever has it."""
    records = b""
    for text, known_as in names.items():
        address = ipaddress.ip_address(text)
        value = address.packed + b"".join(name.encode() + b"\0" for name in known_as)
        records += struct.pack("<HH", _IPV4_RECORD if address.version == 4 else _IPV6_RECORD, len(value))
        records += _padded(value)
    return records + struct.pack("<HH", _END, 0)


class Writer:
    """Writes packets of some places to a file, in whole blocks: it can be read while it grows."""

    def __init__(self, file: BinaryIO, places: Sequence[str], names: Mapping[str, Sequence[str]]) -> None:
        """`places` become the interfaces; `names` says who has an address."""
        self._file = file
        self._interfaces = {place: number for number, place in enumerate(places)}
        section = struct.pack("<IHHq", _MAGIC, 1, 0, -1)
        head = block(_SECTION, section + options({_PROGRAM: "lab.sh capture"}))
        for place in places:
            head += block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, 0) + options({_IF_NAME: place}))
        file.write(head + block(_NAMES, name_records(names)))
        file.flush()

    def write(self, place: str, at: float, frame: bytes) -> None:
        """Add a packet: where it was seen, when, and its bytes from the Ethernet header on."""
        ticks, length = round(at * _PER_SECOND), len(frame)
        head = struct.pack("<IIIII", self._interfaces[place], ticks >> 32, ticks & 0xFFFFFFFF, length, length)
        self._file.write(block(_PACKET, head + frame))

    def flush(self) -> None:
        """Let readers have what was written."""
        self._file.flush()


def sightings(path: Path) -> list[Sighting]:
    """Read the TCP segments of a file that this module wrote; LabError when it is not one."""
    at: dict[str, list[tuple[float, bytes]]] = {}
    with _reading(path) as reader:
        for frame, meta in reader:
            place = (meta.ifname or b"").decode(errors="replace")
            ticks = (meta.tshigh << 32) | meta.tslow
            at.setdefault(place, []).append((ticks / meta.tsresol, frame))
    return [sighting for place, packets in at.items() for sighting in read(place, packets)]


def places(path: Path) -> set[str]:
    """Return where a file was captured, whether anything came there or not; LabError when it is none of ours."""
    with _reading(path) as reader:
        for _ in reader:
            pass
        return {about.get("name", b"").decode(errors="replace") for _, _, about in reader.interfaces}


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[RawPcapNgReader]:
    try:
        with path.open("rb") as file, RawPcapNgReader(file) as reader:
            yield reader
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}") from error
    except (Scapy_Exception, struct.error, ValueError) as error:
        raise LabError(f"{path} is not a pcapng file: {error}; `lab.sh capture` writes them") from error


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
