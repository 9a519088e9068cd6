import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from netns.seeing.diagram import diagram
from netns.seeing.picture import connection, lanes
from netns.topology import SEED
from tests.unit.netns.seeing.sightings import CLIENT, SERVER, VIP, conversation, sent

PICTURE = Path(__file__).parents[4] / "docs" / "connection.svg"

SVG = "{http://www.w3.org/2000/svg}"


def drawn(sightings, **options):
    walks, server = connection(SEED, sightings)
    return ElementTree.fromstring(diagram(walks, lanes(SEED, walks[0], server), **options))


def lines(picture):
    return ["".join(text.itertext()) for text in picture.iter(f"{SVG}text")]


def rewritten(picture):
    return [piece.text for piece in picture.iter(f"{SVG}tspan") if piece.get("class") == "new"]


def test_every_packet_is_shown_on_both_wires_with_numbers_from_the_beginning():
    said = lines(drawn(conversation()))
    for line in (
        "SYN  seq 0",
        "SYN-ACK  seq 0 ack 1",
        "ACK  seq 1 ack 1",
        "18 bytes  seq 1 ack 1",
        "19 bytes  seq 1 ack 19",
    ):
        assert said.count(line) == 2, line


def test_what_the_balancer_rewrote_is_marked_and_nothing_else():
    assert rewritten(drawn(sent())) == [SERVER, "3f", "3333", "4444", "rewritten by the balancer"]


def test_a_packet_that_goes_no_further_ends_in_a_cross_and_is_on_one_wire_only():
    picture = drawn(conversation())
    [cross] = [path for path in picture.iter(f"{SVG}path") if path.get("class") == "lost"]
    assert cross.get("d").startswith("M388 "), "at the balancer's client side"
    assert lines(picture).count("RST  seq 19") == 1


def test_a_packet_that_arrives_has_no_cross():
    assert not [path for path in drawn(sent()).iter(f"{SVG}path") if path.get("class") == "lost"]


def test_arrows_go_from_place_to_place_in_the_direction_of_the_packet():
    ways = [(line.get("class").split()[0], float(line.get("x2")) > float(line.get("x1")))
            for line in drawn(conversation()).iter(f"{SVG}line") if line.get("marker-end")]  # fmt: skip
    assert set(ways) == {("there", True), ("back", False)}
    assert len(ways) == 5 * 3 + 1


def test_a_wrong_checksum_is_said():
    assert not [line for line in lines(drawn(sent())) if "wrong" in line]
    assert [line for line in lines(drawn(sent(checksums_right=False))) if line.endswith("wrong")]


def test_nothing_is_drawn_outside_the_picture():
    picture = drawn(conversation(), left_out=12)
    width, height = (float(picture.get(name)) for name in ("width", "height"))
    for element in picture.iter():
        for name, most in (("x", width), ("x1", width), ("x2", width), ("y", height), ("y1", height), ("y2", height)):
            assert 0 <= float(element.get(name, 0)) <= most
    assert any("12 packets more" in line for line in lines(picture))


def test_a_long_endpoint_is_squeezed_into_its_place():
    six = {"source": "[2001:db8:1234:5678:9abc:def0:1234:5678]:40312", "destination": "[2001:db8:1:2:3:4:5:6]:8888"}
    line = f"{six['source']} > {six['destination']}"
    [text] = [text for text in drawn([*sent(**six, seen=2)]).iter(f"{SVG}text") if "".join(text.itertext()) == line]
    assert float(text.get("textLength")) <= 394 - 92


def test_it_is_readable_on_light_and_on_dark():
    picture = drawn(sent())
    style = picture.find(f"{SVG}style").text
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for name in ("paper", "text", "quiet", "new", "alarm", "there", "back"):
        assert f"{name} {{" in light
        assert f"{name} {{" in dark
    paper = {part: re.search(r"\.paper \{ fill: #(\w{6})", part)[1] for part in (light, dark)}
    for part in (light, dark):
        for name in ("text", r"\.quiet", r"\.new", r"\.alarm"):
            colour = re.search(rf"{name} \{{ fill: #(\w{{6}})", part)[1]
            assert contrast(colour, paper[part]) >= 4.5, f"{name} (WCAG 2.2, 1.4.3)"


def contrast(one, other):
    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("word", ["script", "href", "url(http"])
def test_it_loads_and_runs_nothing(word):
    walks, server = connection(SEED, conversation())
    assert word not in diagram(walks, lanes(SEED, walks[0], server))


def test_the_ends_are_named():
    assert {"client", "balancer", "server1", VIP, SERVER, CLIENT} <= set(lines(drawn(sent())))


def test_the_picture_of_the_page_is_of_a_real_connection_and_drawn_as_pictures_are_drawn_now():
    page = ElementTree.parse(PICTURE).getroot()
    now = drawn(conversation())
    for same in ("style", "defs/{http://www.w3.org/2000/svg}marker"):
        assert page.find(f"{SVG}{same}").attrib == now.find(f"{SVG}{same}").attrib
    assert page.find(f"{SVG}style").text == now.find(f"{SVG}style").text
    assert page.get("width") == now.get("width")
    told = page.find(f"{SVG}desc").text
    assert told.count("seen at 4 places") == told.count("seen at") == sum(1 for _ in page.iter(f"{SVG}g"))
    assert len(set(rewritten(page)) - set(rewritten(now))) > 10, "checksums that nobody made up"
