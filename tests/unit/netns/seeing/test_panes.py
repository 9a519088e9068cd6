import io

import pytest
from rich.console import Console

from netns.balancer import Entry
from netns.draw import WIDTH, Pen
from netns.seeing.pairs import Passage
from netns.seeing.panes import ORIGINAL, REPLY, REWRITTEN, packet_lines, screen, table_lines, text
from netns.seeing.scene import Moment, belongs
from tests.unit.netns.seeing.sightings import CLIENT, SERVER, VIP, answered, sent


def entry(server, state, original, reply):
    return Entry("tcp", "www", "nodes", server, state, "1s", "0s", original, reply, 1, 0, 1, 0)


ENTRY = entry("server1", "ESTABLISHED", (CLIENT, VIP), (SERVER, CLIENT))
OTHER = entry("server2", "INIT", ("44.1.1.1:5", VIP), ("44.4.4.4:5555", "44.1.1.1:5"))


def moment(towards_server=True, entries=(ENTRY,), arrived=True, **fields):
    seen = sent(**fields) if towards_server else answered(**fields)
    client, server = (seen[0], seen[3]) if towards_server else (seen[3], seen[0])
    if not arrived:
        server = None
    return Moment(Passage(towards_server, client, server), tuple(entries), "seq 0")


def plain(lines):
    return [line.plain for line in lines]


def test_a_packet_as_it_was_sent_has_nothing_rewritten():
    here = moment()
    assert plain(packet_lines(Pen(), here, here.passage.client_side, 0.0, ORIGINAL)) == [
        f"  0.000 → SYN       {CLIENT} > {VIP}  seq 0",
        "      ttl 40 sum 1111 from 2c010101:9d78 to 2c020202:22b8 sum 2222",
    ]


def test_what_was_rewritten_is_in_brackets_and_in_its_colour():
    here = moment()
    head, written = packet_lines(Pen(), here, here.passage.server_side, 0.0, REPLY)
    assert written.plain == "      ttl [3f] sum [3333] from 2c010101:9d78 to [2c030303:115c] sum [4444]"
    marked = {written.plain[span.start : span.end] for span in written.spans if span.style == REWRITTEN}
    assert marked == {"[3f]", "[3333]", "[2c030303:115c]", "[4444]"}
    assert f"{CLIENT} > {SERVER}" in {head.plain[span.start : span.end] for span in head.spans if span.style == REPLY}


def test_of_an_answer_the_source_is_rewritten_on_the_clients_wire():
    here = moment(towards_server=False, flags="SA")
    assert "from [2c020202:22b8]" in packet_lines(Pen(), here, here.passage.client_side, 0.0, ORIGINAL)[1].plain


def test_ipv6_addresses_are_shown_by_their_ends_and_have_no_header_checksum():
    seen = sent(source="[fd44::1]:40312", destination="[fd44::2]:8888", ip_checksum=None, seen=2)[0]
    here = Moment(Passage(True, seen, None), (), "")
    [_, written] = packet_lines(Pen(), here, seen, 0.0, ORIGINAL)
    assert written.plain == "      ttl 40 from ..00000001:9d78 to ..00000002:22b8 sum 2222"


def test_a_packet_that_did_not_arrive_is_said_in_words():
    here = moment(arrived=False)
    assert "not seen here" in plain(packet_lines(Pen(), here, None, 0.0, REPLY))[0]


def test_the_table_has_the_packets_own_connection_first_and_both_tuples_in_their_colours():
    here = moment(entries=[OTHER, ENTRY])
    original, reply = table_lines(Pen(), here, "", 2)
    assert original.plain == f"● original {CLIENT} > {VIP}  ESTABLISHED"
    assert reply.plain == f"  reply    {SERVER} > {CLIENT}  server1  (and 1 more)"
    assert ORIGINAL in {span.style for span in original.spans}
    assert REPLY in {span.style for span in reply.spans}


def test_why_there_is_no_table_is_said():
    assert "natlb does not answer" in table_lines(Pen(), None, "natlb does not answer: gone", 2)[0].plain
    assert "no connection" in table_lines(Pen(), moment(entries=()), "", 2)[0].plain


def test_an_entry_is_known_by_either_tuple_in_either_direction():
    assert belongs(ENTRY, moment().passage)
    assert belongs(ENTRY, moment(towards_server=False, flags="SA").passage)
    assert belongs(ENTRY, Passage(False, None, answered(flags="SA")[0]))
    assert not belongs(OTHER, moment().passage)


@pytest.mark.parametrize("height", [10, 11, 12, 13, 14, 15, 16, 24, 50])
@pytest.mark.parametrize("boxes", [True, False])
def test_the_screen_fits_the_terminal(height, boxes):
    output = io.StringIO()
    console = Console(file=output, width=WIDTH, height=height, force_terminal=False)
    console.print(screen(Pen(boxes=boxes), [moment()] * 30, 0.0, "", height, missed=3))
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) <= height
    for title in ("client wire", "NAT table", "server wire", "[rewritten]", "3 packets not shown"):
        assert title in output.getvalue()
    assert output.getvalue().count("[") == output.getvalue().count("]"), "nothing is cut off"
    if not boxes:
        assert output.getvalue().isascii()


def test_as_text_the_panes_are_in_the_order_in_which_the_packet_met_them():
    titles = ["client wire:", "NAT table:", "server wire:"]
    assert [line for line in text(Pen(), moment(), 0.0, "") if line in titles] == titles
    back = text(Pen(), moment(towards_server=False, flags="SA"), 0.0, "")
    assert [line for line in back if line in titles] == titles[::-1]
