import struct

import pytest

from netns.build import Lab
from netns.errors import LabError
from netns.seeing.feed import Stream, places_of


def record(at, frame):
    return struct.pack("=IIII", int(at), round(at % 1 * 1e6), len(frame), len(frame)) + frame


HEADER = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 66000, 1)
PACKETS = [(1.5, b"one"), (2.25, b""), (3.0, bytes(100))]
WHOLE = HEADER + b"".join(record(*packet) for packet in PACKETS)


@pytest.mark.parametrize("size", [1, 7, 24, 40, len(WHOLE)])
def test_packets_are_the_same_in_whatever_pieces_they_come(size):
    stream = Stream("x")
    found = [packet for at in range(0, len(WHOLE), size) for packet in stream.feed(WHOLE[at : at + size])]
    assert found == PACKETS


def test_another_file_is_refused():
    with pytest.raises(LabError, match="x is not a pcap"):
        Stream("x").feed(bytes(24))


def test_places():
    lab = Lab(prefix="no-such-lab-")
    assert places_of(lab, "server1") == [("server1", "eth0")]
    assert places_of(lab, "vip") == [("lb", "client"), ("lb", "server1"), ("lb", "server2")]
    with pytest.raises(LabError, match="no host 'mars'"):
        places_of(lab, "mars")
