"""What is written is read back by others: scapy here, tshark for the names."""

import io
import struct
import subprocess

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapNgReader

from netns.errors import LabError
from netns.seeing.pcapng import Writer, places, sightings
from netns.seeing.record import names
from netns.topology import SEED

FRAME = bytes(Ether() / IP(src="44.1.1.1", dst="44.2.2.2") / TCP(sport=40312, dport=8888, seq=7) / b"odd")
AT = 1_700_000_000.123457
PLACES = ["client:eth0", "lb:client"]


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "some.pcapng"
    with found.open("wb") as file:
        writer = Writer(file, PLACES, names(SEED))
        writer.write("client:eth0", AT, FRAME)
        writer.write("lb:client", AT + 1, FRAME + b"\0")
    return found


def test_scapy_reads_places_times_and_bytes(path):
    with RawPcapNgReader(str(path)) as reader:
        read = [(meta.ifname, (meta.tshigh << 32 | meta.tslow) / meta.tsresol, data) for data, meta in reader]
    assert read == [
        (b"client:eth0", pytest.approx(AT, abs=1e-6), FRAME),
        (b"lb:client", pytest.approx(AT + 1, abs=1e-6), FRAME + b"\0"),
    ]


def test_it_is_read_back_as_sightings(path):
    assert [(seen.place, seen.source, seen.payload) for seen in sightings(path)] == [
        (place, "44.1.1.1:40312", b"odd") for place in PLACES
    ]


def test_where_it_was_captured_is_read_back_also_where_nothing_came(tmp_path):
    found = tmp_path / "some.pcapng"
    with found.open("wb") as file:
        Writer(file, PLACES, names(SEED)).write("lb:client", AT, FRAME)
    assert places(found) == set(PLACES)


def test_tshark_reads_it_and_shows_the_names(path):
    done = subprocess.run(
        ["tshark", "-N", "n", "-r", path, "-T", "fields",
         "-e", "frame.interface_name", "-e", "ip.src_host", "-e", "ip.dst_host"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "client:eth0\tclient\tlb\nlb:client\tclient\tlb\n"


def test_every_address_of_the_lab_has_a_name():
    assert names(SEED) == {
        "44.1.1.1": ["client"], "fd44::1": ["client"], "44.2.2.2": ["lb"], "fd44::2": ["lb"],
        "44.3.3.3": ["server1"], "fd44::3": ["server1"], "44.4.4.4": ["server2"], "fd44::4": ["server2"],
    }  # fmt: skip


def test_blocks_are_whole_and_can_be_read_backwards():
    file = io.BytesIO()
    writer = Writer(file, PLACES, {"44.1.1.1": ["client"]})
    for length in range(14, 20):
        writer.write("client:eth0", AT, bytes(length))
    data, kinds = file.getvalue(), []
    while data:
        kind, length = struct.unpack_from("<II", data)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, length - 4)[0] == length
        kinds.append(kind)
        data = data[length:]
    assert kinds == [0x0A0D0D0A, 1, 1, 4, *[6] * 6]


@pytest.mark.parametrize(("text", "told"), [(b"no capture at all, this", "is not a pcapng"), (b"", "is not a pcapng")])
def test_what_is_no_pcapng_is_told_in_one_line(tmp_path, text, told):
    found = tmp_path / "x"
    found.write_bytes(text)
    for reading in (sightings, places):
        with pytest.raises(LabError, match=told) as caught:
            reading(found)
        assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(LabError, match="No such file"):
        sightings(tmp_path / "x")
