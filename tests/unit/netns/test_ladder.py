import pytest

from netns import ladder
from netns.draw import WIDTH, Pen
from netns.walk import Sighting, follow

CLIENT, VIP, SERVER, OTHER = "44.1.1.1:40312", "44.2.2.2:8888", "44.3.3.3:4444", "44.4.4.4:5555"
PLACES = {"client:eth0": "client", "server1:eth0": "server1", "server2:eth0": "server2"}


def seen(place, time, source, destination, flags, *, seq=0, ack=0, payload=b""):
    return Sighting(place, time, source, destination, 64, 1, 2, True, seq, ack, flags, (1, 2), payload)


SIGHTINGS = [
    seen("client:eth0", 1.0, CLIENT, VIP, "S", seq=100),
    seen("server1:eth0", 1.0001, CLIENT, SERVER, "S", seq=100),
    seen("server1:eth0", 1.001, SERVER, CLIENT, "SA", seq=4294967295, ack=101),
    seen("client:eth0", 1.002, VIP, CLIENT, "SA", seq=4294967295, ack=101),
    seen("client:eth0", 1.003, CLIENT, VIP, "A", seq=101, ack=9),
    seen("server2:eth0", 1.004, CLIENT, OTHER, "A", seq=101, ack=9),
    seen("server2:eth0", 2.5, OTHER, CLIENT, "R", seq=9),
]


def walks():
    return follow(SIGHTINGS, CLIENT, tuple(PLACES))


def test_each_packet_is_a_line_and_each_place_a_column():
    lines = ladder.draw(Pen(), walks(), PLACES).splitlines()
    assert lines == [
        "    ms  client                  server1                 server2",
        "  0.00  → SYN 44.2.2.2:8888     → SYN 44.3.3.3:4444",
        "  1.00  ← SYN-ACK 44.2.2.2:8888 ← SYN-ACK 44.3.3.3:4444",
        "  3.00  → ACK 44.2.2.2:8888                             → ACK 44.4.4.4:5555",
        "  1500                                                  ← RST 44.4.4.4:5555",
    ]


def test_it_fits_the_terminal_and_marks_resets_also_without_colour():
    coloured = ladder.draw(Pen(colour=True), walks(), PLACES)
    assert "\x1b[1;31m← RST" in coloured
    assert max(len(line) for line in ladder.draw(Pen(), walks(), PLACES).splitlines()) <= WIDTH
    assert "< RST" in ladder.draw(Pen(boxes=False), walks(), PLACES)


def test_numbers_count_from_the_beginning_and_go_round():
    relative = ladder.Relative.of(walks())
    syn, answer, acknowledgement, _ = walks()
    assert (relative.seq(syn), relative.seq(answer), relative.ack(answer)) == (0, 0, 1)
    assert relative.ack(acknowledgement) == 10


@pytest.mark.parametrize(("size", "name"), [(90, "90 bytes"), (1, "1 byte")])
def test_data_is_named_by_its_size(size, name):
    data = seen("client:eth0", 0, CLIENT, VIP, "PA", payload=b"x" * size)
    assert ladder.kind(data) == name


def test_a_segment_without_data_is_named_by_what_it_does():
    assert ladder.kind(seen("client:eth0", 0, CLIENT, VIP, "FA")) == "FIN"


def test_no_packets_are_no_lines():
    assert ladder.draw(Pen(), [], PLACES).splitlines() == [
        "    ms  client                  server1                 server2"
    ]
