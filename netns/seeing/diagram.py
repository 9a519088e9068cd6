"""A connection as a sequence diagram: four places from left to right, time downwards, in plain SVG.

Each packet is an arrow that bends downwards a little as time does; above it stands what it is, with sequence and
acknowledgement numbers counted from the beginning of the connection, and below it what is in its headers. What the
balancer has rewritten is bold and underlined in the copy that left it, and in colour as well: nothing is said by colour
alone. A packet that was not seen at the next place ends in a cross. Time has no scale, since a wire in the lab takes
microseconds and a server milliseconds; the numbers at the left tell it.

The reader's light or dark is followed by a style sheet (`prefers-color-scheme`), also where the picture is embedded in
a page. The picture loads nothing and runs nothing. SVG 2, https://www.w3.org/TR/SVG2/.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from netns.ladder import Relative, kind
from netns.walk import Sighting, Walk, changed

_LANES = (92, 394, 574, 876)
"""Where the four places are: the two at the balancer close together."""
_WIDTH = 908
_TOP = 96
_ROW = 76
_SLOPE = 8
_CHARACTER = 7.0
"""About how wide a character of the text is; what is too long for its place is squeezed."""

_STYLE = """
.paper { fill: #ffffff } text { fill: #1f2328; font: 11.5px ui-monospace, Menlo, Consolas, monospace }
.quiet { fill: #59636e } .lane { stroke: #c4ccd4; stroke-width: 1.5 } .host { fill: #eef1f4; stroke: #c4ccd4 }
.name { font-size: 14px; font-weight: bold } .box { fill: #f6f8fa }
.there { stroke: #0b62c4; fill: none; stroke-width: 1.6 } .back { stroke: #6f42c1; fill: none; stroke-width: 1.6 }
.inside { stroke-dasharray: 4 3 } .lost { stroke: #c01c28; stroke-width: 2.4; fill: none }
.tip-there { fill: #0b62c4 } .tip-back { fill: #6f42c1 } .alarm { fill: #c01c28; font-weight: bold }
.new { fill: #a84300; font-weight: bold; text-decoration: underline } .what { font-weight: bold }
@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117 } text { fill: #e6edf3 } .quiet { fill: #9aa4af } .lane { stroke: #4b535d }
.host { fill: #1c232c; stroke: #4b535d } .box { fill: #141a21 } .there { stroke: #6cb0ff } .back { stroke: #c7a6ff }
.tip-there { fill: #6cb0ff } .tip-back { fill: #c7a6ff } .lost { stroke: #ff7b72 } .alarm { fill: #ff7b72 }
.new { fill: #ffb454 }
}
"""


@dataclass(frozen=True, slots=True)
class Lane:
    """One place: its name in the sightings, the host that it is at, that host's address, and which side of it."""

    place: str
    host: str
    address: str
    side: str = ""


def diagram(walks: Sequence[Walk], lanes: Sequence[Lane], left_out: int = 0) -> str:
    """Draw walks (in the order of sending) at four places, from the client to the server, as an SVG document.

    `left_out` is how many packets the picture had no room for.
    """
    height = _TOP + _ROW * len(walks) + 58
    svg = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {_WIDTH} {height}",
            "width": str(_WIDTH),
            "height": str(height),
            "role": "img",
        },
    )
    client, server = lanes[0], lanes[-1]
    _add(svg, "title", f"A TCP connection between {client.host} and {server.host}, through {lanes[1].host}")
    _add(svg, "desc", " ".join(_told(walk) for walk in walks))
    _add(svg, "style", _STYLE)
    definitions = _add(svg, "defs")
    for way in ("there", "back"):
        tip = _add(definitions, "marker", id=f"tip-{way}", viewBox="0 0 8 8", refX=8, refY=4, markerWidth=7,
                   markerHeight=7, orient="auto")  # fmt: skip
        _add(tip, "path", d="M0 0 8 4 0 8z", **{"class": f"tip-{way}"})
    _add(svg, "rect", width=_WIDTH, height=height, **{"class": "paper"})
    _hosts(svg, lanes, height)
    relative = Relative.of(walks)
    began = min((sighting.time for walk in walks for sighting in walk.sightings), default=0.0)
    for row, walk in enumerate(walks):
        _packet(svg, walk, _TOP + _ROW * row, [lane.place for lane in lanes], relative, began)
    foot = height - 40
    more = f" {left_out} packets more were captured than there is room for." if left_out else ""
    _text(svg, 14, foot, [("Underlined: ", "quiet"), ("rewritten by the balancer", "new"), (f".{more}", "quiet")])
    numbers = "seq and ack are counted from the beginning of the connection; times in ms; headers in hexadecimal."
    _text(svg, 14, foot + 20, [(numbers, "quiet")])
    _indent(svg)
    return ElementTree.tostring(svg, encoding="unicode") + "\n"


def _hosts(svg: ElementTree.Element, lanes: Sequence[Lane], height: int) -> None:
    bottom = height - 66
    inner = _LANES[1] - 12, _LANES[2] + 12
    _add(svg, "rect", x=inner[0], y=64, width=inner[1] - inner[0], height=bottom - 64, **{"class": "box"})
    for lane, x in zip(lanes, _LANES, strict=True):
        _add(svg, "line", x1=x, x2=x, y1=64, y2=bottom, **{"class": "lane"})
        if lane.side:
            _text(svg, x, 80, [(lane.side, "quiet")], anchor="start" if x == _LANES[1] else "end", inset=5)
    boxes = (
        (lanes[0], 14, 156),
        (lanes[1], inner[0], inner[1] - inner[0]),
        (lanes[-1], _WIDTH - 14 - 156, 156),
    )
    for lane, x, width in boxes:
        _add(svg, "rect", x=x, y=12, width=width, height=48, rx=6, **{"class": "host"})
        _text(svg, x + width / 2, 32, [(lane.host, "name")], anchor="middle")
        _text(svg, x + width / 2, 50, [(lane.address, "quiet")], anchor="middle", room=width - 8)


def _packet(
    svg: ElementTree.Element, walk: Walk, top: float, places: Sequence[str], relative: Relative, began: float
) -> None:
    group = _add(svg, "g")
    way = "there" if walk.towards_server else "back"
    seen = {sighting.place: sighting for sighting in walk.sightings}
    order = [place for place in (places if walk.towards_server else reversed(places)) if place in seen]
    when = (min(sighting.time for sighting in walk.sightings) - began) * 1000
    _text(group, 76, top + 22, [(f"{when:.2f}", "quiet")], anchor="end")
    for before, after in itertools.pairwise(order):
        start, end = _LANES[places.index(before)], _LANES[places.index(after)]
        inside = {places.index(before), places.index(after)} == {1, 2}
        _arrow(group, start, end, top + 26, way, inside=inside)
        if inside:
            ends = ("source", "destination")
            named = " and ".join(end for end in ends if end in changed(seen[before], seen[after]))
            _text(group, (start + end) / 2, top + 20, [(named or "as it came", "quiet")], anchor="middle")
    for wire in ((0, 1), (2, 3)):
        near, far = (seen.get(places[at]) for at in (wire if walk.towards_server else reversed(wire)))
        shown = near or far
        if shown is not None:
            rewritten = changed(walk.first, shown)
            _label(group, walk, shown, rewritten, (_LANES[wire[0]], _LANES[wire[1]]), top, relative)
    last = order[-1]
    if last != (places[-1] if walk.towards_server else places[0]):
        x = _LANES[places.index(last)]
        _add(group, "path", d=f"M{x - 6} {top + 28}l12 12m0-12l-12 12", **{"class": "lost"})


def _arrow(group: ElementTree.Element, start: float, end: float, y: float, way: str, *, inside: bool) -> None:
    gap = 2 if start < end else -2
    _add(group, "line", x1=start + gap, y1=y, x2=end - gap, y2=y + _SLOPE,
         **{"class": f"{way} inside" if inside else way, "marker-end": f"url(#tip-{way})"})  # fmt: skip


def _label(
    group: ElementTree.Element,
    walk: Walk,
    shown: Sighting,
    rewritten: set[str],
    between: tuple[float, float],
    top: float,
    relative: Relative,
) -> None:
    middle, room = sum(between) / 2, between[1] - between[0] - 16

    def new(name: str) -> str:
        return "new" if name in rewritten else ""

    numbers = f"  seq {relative.seq(walk)}" + (f" ack {relative.ack(walk)}" if "A" in shown.flags else "")
    alarm = "alarm" if "R" in shown.flags else "what"
    _text(group, middle, top + 8, [(kind(shown), alarm), (numbers, "")], anchor="middle", room=room)
    ends = [(shown.source, new("source")), (" > ", ""), (shown.destination, new("destination"))]
    _text(group, middle, top + 23, ends, anchor="middle", room=room)
    headers = [("ttl ", "quiet"), (f"{shown.ttl:02x}", new("TTL") or "quiet")]
    if shown.ip_checksum is not None:
        headers += [("  ip sum ", "quiet"), (f"{shown.ip_checksum:04x}", new("IP checksum") or "quiet")]
    headers += [("  tcp sum ", "quiet"), (f"{shown.tcp_checksum:04x}", new("TCP checksum") or "quiet")]
    if not shown.checksums_right:
        headers.append(("  wrong", "alarm"))
    _text(group, middle, top + 48, headers, anchor="middle", room=room)


def _told(walk: Walk) -> str:
    way = "to the server" if walk.towards_server else "to the client"
    return f"{kind(walk.first)} {way}, seen at {len(walk.sightings)} places."


def _text(
    parent: ElementTree.Element,
    x: float,
    y: float,
    pieces: Iterable[tuple[str, str]],
    *,
    anchor: str = "start",
    room: float = 0,
    inset: float = 0,
) -> None:
    """Write pieces, each with a class of its own, as one line; where it would not fit the room, squeezed into it."""
    pieces = list(pieces)
    line = _add(parent, "text", x=x + (inset if anchor == "start" else -inset), y=y,
                **{"text-anchor": anchor, "xml:space": "preserve"})  # fmt: skip
    if room and sum(len(text) for text, _ in pieces) * _CHARACTER > room:
        line.set("textLength", f"{room:g}")
        line.set("lengthAdjust", "spacingAndGlyphs")
    for text, style in pieces:
        _add(line, "tspan", text, **({"class": style} if style else {}))


def _indent(svg: ElementTree.Element) -> None:
    """Give each element a line of its own, but for the pieces of a text: between them a space would show."""
    ElementTree.indent(svg)
    for line in svg.iter("text"):
        line.text = None
        for piece in line:
            piece.tail = None


def _add(parent: ElementTree.Element, tag: str, text: str = "", **attributes: object) -> ElementTree.Element:
    written = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in attributes.items()}
    child = ElementTree.SubElement(parent, tag, written)
    child.text = text or None
    return child
