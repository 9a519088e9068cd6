"""What is written is read by scapy, and is the same file each time."""

import io

import pytest
from scapy.utils import RawPcapReader

from natlb.captures.files import Reader
from natlb.captures.writer import Writer
from natlb.errors import CaptureError

PACKETS = [(1_700_000_000_000_000_001, b"E" * 40, 40), (1_700_000_001_999_999_999, b"`" * 60, 1500)]


def written() -> bytes:
    file = io.BytesIO()
    writer = Writer(file, "out.pcap")
    for packet in PACKETS:
        writer.write(*packet)
    writer.flush()
    return file.getvalue()


def test_the_same_packets_are_the_same_file() -> None:
    assert written() == written()


def test_scapy_reads_what_is_written() -> None:
    reader = RawPcapReader(io.BytesIO(written()))
    read = [(meta.sec * 10**9 + meta.usec, data, meta.wirelen) for data, meta in reader]
    assert (read, reader.linktype, reader.nano) == (PACKETS, 101, True)


def test_what_is_written_can_be_read_again() -> None:
    assert [(r.at, r.data, r.size) for r in Reader(io.BytesIO(written()), "out.pcap")] == PACKETS


def test_a_full_disk_is_told() -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(CaptureError, match=r"cannot write out\.pcap: No space left on device"):
        Writer(Full(), "out.pcap")
