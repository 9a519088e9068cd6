import io
import re

import pytest

from netns.balancer import Entry
from netns.draw import WIDTH, Pen, lab_map, nat_table, packet_walk, table
from netns.topology import SEED
from netns.walk import Sighting

ADDRESSES = {host.name: [host.ipv4, host.ipv6] for host in SEED.hosts}

MAP = """\
                                                                  +------------+
                                                                  | server1    |
                                                           + eth0 + 44.3.3.3   |
+-----------+                   +---------------+          |      | fd44::3    |
| client    |                   | lb (balancer) |          |      | web :4444  |
| 44.1.1.1  + eth0 ----- client + 44.2.2.2      + server1 -+      +------------+
| fd44::1   |                   | fd44::2       + server2 -+      +------------+
|           |                   | VIP port 8888 |          |      | server2    |
+-----------+                   +---------------+          + eth0 + 44.4.4.4   |
                                                                  | fd44::4    |
                                                                  | web :5555  |
                                                                  +------------+"""


def entry(server="server1", state="ESTABLISHED"):
    return Entry(
        protocol="tcpv6",
        frontend="localnodes6",
        backend="nodes6",
        server=server,
        state=state,
        age="1h2m3s",
        idle="0s",
        original=("[fd44::1]:40312", "[fd44::2]:8888"),
        reply=("[fd44::3]:4444", "[fd44::1]:40312"),
        original_packets=123456,
        original_bytes=1234567,
        reply_packets=5,
        reply_bytes=880,
    )


def sighting(**fields):
    return Sighting(
        **{
            "place": "",
            "time": 0.0,
            "source": "44.1.1.1:40312",
            "destination": "44.2.2.2:8888",
            "ttl": 64,
            "ip_checksum": 0x11,
            "tcp_checksum": 0xFFFF,
            "checksums_right": True,
            "seq": 4294967295,
            "ack": 4294967294,
            "flags": "PA",
            "timestamps": (4294967293, 1),
            "payload": b"x" * 1448,
            **fields,
        }
    )


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_map_is_drawn():
    assert lab_map(Pen(boxes=False), SEED, ADDRESSES) == MAP


def test_map_shows_the_addresses_that_are_there_and_no_others():
    drawn = lab_map(Pen(), SEED, {"client": ["10.0.0.7"]})
    assert "10.0.0.7" in drawn
    assert "44." not in drawn


def test_nat_table_shows_both_tuples_of_each_connection():
    drawn = nat_table(Pen(), [entry(), entry(server="server2")])
    assert len(drawn.splitlines()) == 5
    assert "original [fd44::1]:40312 [fd44::2]:8888" in drawn
    assert "reply    [fd44::3]:4444  [fd44::1]:40312" in drawn


def test_empty_nat_table_says_so():
    assert "empty" in nat_table(Pen(), [])


def test_walk_marks_what_differs_from_the_place_before():
    after = sighting(destination="44.3.3.3:4444", ttl=63)
    drawn = packet_walk(Pen(), [sighting(), sighting(), after, after], ["a", "b", "c", "d"])
    marked = {line.split("  ")[0].strip(): line.count("*") for line in drawn.splitlines()}
    assert {name for name, stars in marked.items() if stars} == {"destination", "TTL"}
    assert sum(marked.values()) == 2


def test_a_star_never_touches_the_next_column():
    longest = sighting(source="44.2.2.2:50000", destination="44.4.4.4:5555")
    drawn = packet_walk(Pen(), [sighting(), sighting(), longest, longest], ["a", "b", "c", "d"])
    assert "44.2.2.2:50000 * 44.2.2.2:50000" in drawn
    assert max(map(len, drawn.splitlines())) <= WIDTH


def test_walk_of_an_ipv6_packet_has_no_ip_checksum():
    drawn = packet_walk(Pen(), [sighting(ip_checksum=None)] * 4, ["a", "b", "c", "d"])
    assert "IP checksum" not in drawn
    assert "TCP checksum" in drawn


@pytest.mark.parametrize("pen", [Pen(), Pen(boxes=False), Pen(colour=True)], ids=["boxes", "ascii", "colour"])
def test_nothing_is_wider_than_the_terminal(pen):
    after = sighting(destination="44.3.3.3:4444", ttl=63, ip_checksum=0xFFFF, tcp_checksum=1)
    drawings = [
        lab_map(pen, SEED, ADDRESSES),
        nat_table(pen, [entry()]),
        packet_walk(pen, [sighting(), sighting(), after, after], ["client wire", "in", "out", "server wire"]),
    ]
    for line in "\n".join(drawings).splitlines():
        assert len(re.sub("\x1b\\[[0-9;]*m", "", line)) <= WIDTH, line


def test_colour_changes_no_character():
    plain, coloured = (packet_walk(pen, [sighting()] * 4, "abcd") for pen in (Pen(), Pen(colour=True)))
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == plain


def test_table_columns_are_as_wide_as_they_must_be():
    assert table([["a", "n"], ["bcd", "10"]], right=[1]) == ["a     n", "bcd  10"]


def test_colour_on_a_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Pen.for_output(Terminal()) == Pen(colour=True, boxes=True)


def test_no_colour_when_the_user_says_so(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Pen.for_output(Terminal()).colour


def test_no_colour_into_a_file(tmp_path):
    with (tmp_path / "out").open("w", encoding="utf-8") as output:
        assert not Pen.for_output(output).colour


def test_ascii_where_the_output_has_no_boxes(tmp_path):
    with (tmp_path / "out").open("w", encoding="ascii") as output:
        pen = Pen.for_output(output)
        output.write(lab_map(pen, SEED, ADDRESSES) + pen.plain("✓"))
    assert not pen.boxes
