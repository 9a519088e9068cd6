"""Captures, made word by word from the drafts, and by scapy, which shares no code with the reader."""

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgWriter, PcapWriter

from natlb.captures.files import LARGEST, Reader, Record
from natlb.errors import CaptureError

FRAMES = [b"\x00" * 12 + b"\x08\x00" + bytes([number]) * (40 + number) for number in range(5)]
AT = 1_700_000_000_123_456_789


def read(data: bytes) -> tuple[list[Record], Reader]:
    reader = Reader(io.BytesIO(data), "t.pcap")
    return list(reader), reader


def pcap(*frames: bytes, order: str = "<", nano: bool = True, link: int = 1, most: int = LARGEST) -> bytes:
    data = struct.pack(f"{order}IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, most, link)
    for number, frame in enumerate(frames):
        at = AT + number * 1_000_000
        fraction = at % 10**9 // (1 if nano else 1000)
        data += struct.pack(f"{order}IIII", at // 10**9, fraction, min(most, len(frame)), len(frame)) + frame[:most]
    return data


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", 12 + len(body))
    return struct.pack(f"{order}I", kind) + size + body + size


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def option(number: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HH", number, len(value)) + value + bytes(-len(value) % 4)


def interface(link: int = 1, most: int = 0, order: str = "<", options: bytes = b"") -> bytes:
    return block(1, struct.pack(f"{order}HHI", link, 0, most) + options, order)


def packet(
    frame: bytes, ticks: int, size: int | None = None, index: int = 0, order: str = "<", options: bytes = b""
) -> bytes:
    head = struct.pack(f"{order}IIIII", index, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), size or len(frame))
    return block(6, head + frame + bytes(-len(frame) % 4) + options, order)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("nano", [True, False])
def test_a_pcap_of_either_byte_order_and_resolution_is_read(order: str, nano: bool) -> None:
    records, reader = read(pcap(*FRAMES, order=order, nano=nano))
    assert [record.data for record in records] == FRAMES
    assert [record.number for record in records] == [1, 2, 3, 4, 5]
    unit = 1 if nano else 1000
    assert [record.at for record in records] == [(AT + n * 1_000_000) // unit * unit for n in range(5)]
    assert {record.link for record in records} == {1}
    assert not reader.cut_off


@pytest.mark.parametrize("endianness", "<>")
@pytest.mark.parametrize("nano", [True, False])
def test_what_scapy_writes_is_read(tmp_path: Path, endianness: str, nano: bool) -> None:
    path = tmp_path / "t.pcap"
    with PcapWriter(str(path), linktype=1, endianness=endianness, nano=nano) as writer:
        for frame in FRAMES:
            writer.write(Ether(frame))
    assert [record.data for record in read(path.read_bytes())[0]] == FRAMES


def test_the_pcapng_that_scapy_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    with PcapNgWriter(str(path)) as writer:
        for number, frame in enumerate(FRAMES):
            made = Ether(frame)
            made.time = 1_700_000_000 + number
            writer.write(made)
    records, _ = read(path.read_bytes())
    assert [record.data for record in records] == FRAMES
    assert [record.at // 10**9 for record in records] == [1_700_000_000 + number for number in range(5)]


def test_a_packet_that_was_cut_short_says_how_long_it_was() -> None:
    records, _ = read(pcap(*FRAMES, most=20))
    assert [(len(record.data), record.size) for record in records] == [(20, len(frame)) for frame in FRAMES]


@pytest.mark.parametrize("order", "<>")
def test_the_clocks_of_interfaces_and_the_way_of_packets_are_heeded(order: str) -> None:
    clocks = [
        (b"", 10**6, 0),
        (option(9, b"\x09", order), 10**9, 0),
        (option(9, b"\x8a", order) + option(14, struct.pack(f"{order}q", 100), order), 2**10, 100),
    ]
    ways = {0: None, 1: False, 2: True}
    data = section(order)
    for options, _, _ in clocks:
        data += interface(order=order, options=options + option(0, b"", order))
    for index, (_, units, _) in enumerate(clocks):
        for way in ways:
            flags = option(1, b"a comment", order) + option(2, struct.pack(f"{order}I", way), order)
            data += packet(FRAMES[1], 7 * units, index=index, order=order, options=flags)
    records, _ = read(data)
    assert [record.at for record in records] == [(7 + offset) * 10**9 for _, _, offset in clocks for _ in ways]
    assert [record.outgoing for record in records] == [*ways.values()] * 3


def test_other_blocks_are_passed_over_and_old_and_simple_packets_are_read() -> None:
    old = struct.pack("<HHIIII", 1, 0, 0, 5_000_000, 14, 99) + FRAMES[0][:14]
    data = section() + interface(most=30) + interface(link=101) + block(5, b"statistics") + block(2, old)
    data += block(3, struct.pack("<I", len(FRAMES[0])) + FRAMES[0][:30])
    records, reader = read(data)
    assert [(r.link, r.at, r.size, r.data) for r in records] == [
        (101, 5 * 10**9, 99, FRAMES[0][:14]),
        (1, 5 * 10**9, len(FRAMES[0]), FRAMES[0][:30]),
    ]
    assert reader.untimed == 1


def test_a_second_section_has_its_own_byte_order_and_interfaces() -> None:
    data = section("<") + interface(1) + packet(FRAMES[0], 1) + section(">")
    data += interface(101, order=">") + packet(FRAMES[1], 2, order=">")
    assert [(r.link, r.data) for r in read(data)[0]] == [(1, FRAMES[0]), (101, FRAMES[1])]


WHOLE = {"pcap": pcap(*FRAMES), "pcapng": section() + interface() + b"".join(packet(f, 1) for f in FRAMES)}


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_a_file_that_ends_anywhere_has_all_packets_before_that(data: bytes) -> None:
    whole, _ = read(data)
    seen, ends = set(), 0
    for end in range(24 if data is WHOLE["pcap"] else 4, len(data)):
        records, reader = read(data[:end])
        assert records == whole[: len(records)]
        seen.add(len(records))
        ends += not reader.cut_off
    assert seen == set(range(5))
    assert ends == (5 if data is WHOLE["pcap"] else 6), "behind the header, the section, the interface, each packet"


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
@given(st.data())
def test_no_byte_of_a_file_is_too_much_for_the_reader(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        damaged[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        records, _ = read(bytes(damaged))
    except CaptureError as error:
        assert str(error).startswith("t.pcap ")
        assert "\n" not in str(error)
    else:
        assert all(record.size >= len(record.data) and record.at >= 0 for record in records)


@given(st.binary(max_size=200))
def test_no_file_is_too_much_for_the_reader(data: bytes) -> None:
    for start in (b"", b"\xa1\xb2\xc3\xd4", section(), section() + interface()):
        try:
            read(start + data)
        except CaptureError as error:
            assert str(error).startswith("t.pcap ")


BAD = {
    "nothing": (b"", "t.pcap is empty: no capture begins like that"),
    "no capture": (b"frontend www\n", "t.pcap is no capture: neither pcap nor pcapng"),
    "gzip": (b"\x1f\x8b\x08\x00", "t.pcap is compressed with gzip: unpack it first, with gunzip"),
    "a pcap of old": (b"\xa1\xb2\xcd\x34", "editcap"),
    "half a header": (pcap()[:20], "t.pcap ends within its header"),
    "an impossible length": (
        pcap(*FRAMES) + struct.pack("<IIII", 1, 1, 1 << 30, 1 << 30),
        "t.pcap is damaged: what should be packet 6, at byte 384, says that 1073741824 bytes were captured",
    ),
    "a fraction of more than a second": (pcap() + struct.pack("<IIII", 1, 10**9, 0, 0), "packet 1, at byte 24"),
    "an unknown byte order": (section()[:8] + b"abcd" + section()[12:], "unknown byte order"),
    "a block of impossible size": (section() + struct.pack("<II", 6, 13), "says that its block has 13 bytes"),
    "two lengths": (section()[:-4] + b"\x20\0\0\0", "another length at its end"),
    "no interface": (section() + packet(FRAMES[0], 1), "is of interface 0, which the file does not have"),
    "a short interface": (section() + block(1, b"abcd"), "too short for an interface"),
    "an impossible clock": (section() + interface(options=option(9, b"\x7f")), "a clock that nobody can have"),
    "a short packet": (section() + interface() + block(6, b"abcd"), "too short for a packet"),
    "more than its block": (
        section() + interface() + block(6, struct.pack("<IIIII", 0, 0, 0, 100, 100) + b"abcd"),
        "says that 100 bytes were captured",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_damage_is_told_with_its_place(name: str) -> None:
    data, message = BAD[name]
    with pytest.raises(CaptureError) as caught:
        read(data)
    assert message in str(caught.value)


def test_what_cannot_be_read_is_told() -> None:
    class Broken(io.BytesIO):
        def read(self, _: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(CaptureError, match=r"cannot read t\.pcap: Input/output error"):
        list(Reader(Broken(), "t.pcap"))
