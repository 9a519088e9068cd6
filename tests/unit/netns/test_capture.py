import struct

import pytest

from netns.capture import read_pcap
from netns.errors import LabError

HEADER = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)


def record(data, seconds=10, micros=500_000):
    return struct.pack("=IIII", seconds, micros, len(data), len(data)) + data


@pytest.fixture
def pcap(tmp_path):
    return tmp_path / "x.pcap"


def test_packets_have_time_and_bytes(pcap):
    pcap.write_bytes(HEADER + record(b"first") + record(b"second", seconds=11))
    assert read_pcap(pcap) == [(10.5, b"first"), (11.5, b"second")]


@pytest.mark.parametrize("cut", [1, 6, 20])
def test_a_record_still_being_written_is_left_out(pcap, cut):
    pcap.write_bytes((HEADER + record(b"first") + record(b"second"))[:-cut])
    assert read_pcap(pcap) == [(10.5, b"first")]


@pytest.mark.parametrize("beginning", [b"", HEADER[:10], HEADER])
def test_no_packets_yet(pcap, beginning):
    pcap.write_bytes(beginning)
    assert read_pcap(pcap) == []


def test_what_is_no_pcap_is_refused(pcap):
    pcap.write_bytes(b"GIF89a" * 10)
    with pytest.raises(LabError, match="not a pcap"):
        read_pcap(pcap)


def test_a_packet_of_which_a_part_is_missing_is_refused(pcap):
    pcap.write_bytes(HEADER + struct.pack("=IIII", 10, 0, 5, 1500) + b"first")
    with pytest.raises(LabError, match="no more than 5 of 1500 bytes of a packet"):
        read_pcap(pcap)
