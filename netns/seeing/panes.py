"""A packet on two wires, and the table between them: as the lines of three panes, as a screen of them, as text.

Three things are told apart, by colour and by sign: the original tuple, which packets carry on the client's wire; the
reply tuple, which they carry on the server's; and the bytes that were rewritten, in brackets on the wire that the
packet left the balancer by. Pure.
"""

import ipaddress
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from netns.draw import Pen
from netns.ladder import kind
from netns.seeing.scene import Moment, belongs
from netns.walk import Sighting, changed

ORIGINAL, REPLY, REWRITTEN = "cyan", "magenta", "bold yellow"
"""The colours of the original tuple, the reply tuple, and what was rewritten."""


def packet_lines(pen: Pen, moment: Moment, seen: Sighting | None, began: float, tuple_colour: str) -> list[Text]:
    """Return the two lines of a packet on one wire: what it is, and its bytes; or that it was not seen there."""
    passage = moment.passage
    arrow = pen.plain("→" if passage.towards_server else "←")
    line = Text(f"{passage.first.time - began:7.3f} {arrow} ", no_wrap=True, overflow="crop")
    if seen is None:
        line.append("not seen here", "bold red")
        return [line, Text("")]
    what = kind(seen)
    line.append(what.ljust(10), "bold red" if "R" in seen.flags else "bold")
    line.append(f"{seen.source} > {seen.destination}", tuple_colour)
    line.append(f"  {moment.numbers}", "dim")
    new = changed(passage.first, seen)
    bytes_line = Text(" " * 6, no_wrap=True, overflow="crop")
    for label, text, name in fields(seen):
        bytes_line.append(f"{label} " if label else "", "dim")
        bytes_line.append(f"[{text}]" if name in new else text, REWRITTEN if name in new else "")
        bytes_line.append(" ")
    bytes_line.rstrip()
    return [line, bytes_line]


def fields(seen: Sighting) -> list[tuple[str, str, str]]:
    """Return the bytes that a balancer may write, as they follow each other: label, hexadecimal, the field's name."""
    ip_sum = [] if seen.ip_checksum is None else [("sum", f"{seen.ip_checksum:04x}", "IP checksum")]
    return [
        ("ttl", f"{seen.ttl:02x}", "TTL"),
        *ip_sum,
        ("from", _hexadecimal(seen.source), "source"),
        ("to", _hexadecimal(seen.destination), "destination"),
        ("sum", f"{seen.tcp_checksum:04x}", "TCP checksum"),
    ]


def _hexadecimal(text: str) -> str:
    """Write an endpoint as it is in the headers; of an IPv6 address the last four bytes."""
    address, _, port = text.rpartition(":")
    if address.startswith("["):
        return f"..{ipaddress.IPv6Address(address.strip('[]')).packed[-4:].hex()}:{int(port):04x}"
    return f"{bytes(map(int, address.split('.'))).hex()}:{int(port):04x}"


def table_lines(pen: Pen, moment: Moment | None, silent: str, room: int) -> list[Text]:
    """Return the NAT table as lines, the connection of the packet first."""
    if silent:
        return [Text(silent, "bold red")]
    if moment is None or not moment.entries:
        return [Text("empty: no connection is open", "dim")]
    entries = sorted(moment.entries, key=lambda entry: not belongs(entry, moment.passage))
    lines = []
    for entry in entries[: max(1, room // 2)]:
        sign = pen.plain("● ") if belongs(entry, moment.passage) else "  "
        original, reply = (f"{source} > {destination}" for source, destination in (entry.original, entry.reply))
        width = max(len(original), len(reply))
        lines.append(Text.assemble(sign, "original ", (original.ljust(width), ORIGINAL), f"  {entry.state}"))
        lines.append(Text.assemble("  reply    ", (reply.ljust(width), REPLY), f"  {entry.server}"))
    left = len(entries) - len(lines) // 2
    if left:
        lines[-1].append(f"  (and {left} more)", "dim")
    for line in lines:
        line.no_wrap, line.overflow = True, "crop"
    return lines


_LEGEND = Text.assemble(
    ("original tuple", ORIGINAL), "  ", ("reply tuple", REPLY), "  ", ("[rewritten]", REWRITTEN)
)  # fmt: skip


_ROOMY, _FRAMED = 15, 13
"""Lines of a terminal that has room for two connections of the table; and for frames."""


def screen(pen: Pen, moments: Sequence[Moment], began: float, silent: str, height: int, missed: int) -> RenderableType:
    """Draw the three panes, as many packets as there is room for, the last one at the bottom.

    In a low terminal the table is one connection's, in a very low one the panes have no frames: the last line, that
    tells the colours apart, is there in ten lines as well.
    """
    framed = height >= _FRAMED
    table_room = 4 if height >= _ROOMY else 2
    around = 7 if framed else 4  # the frames, or titles, and the last line
    each = max(1, (height - around - table_room - 1) // 4)  # two lines on each wire
    shown = moments[-each:]
    frame = box.ROUNDED if pen.boxes else box.ASCII
    client = [line for m in shown for line in packet_lines(pen, m, m.passage.client_side, began, ORIGINAL)]
    server = [line for m in shown for line in packet_lines(pen, m, m.passage.server_side, began, REPLY)]

    def pane(title: str, lines: Sequence[Text], rows: int) -> RenderableType:
        if not framed:
            return Group(Text(f"{title}:", "bold"), *lines)
        return Panel(Group(*lines), title=title, title_align="left", box=frame, height=rows + 2)

    foot = Text("Ctrl-C ends it   ") + _LEGEND
    if missed:
        foot.append(f"   {missed} packets not shown", "bold red")
    foot.no_wrap, foot.overflow = True, "crop"
    waiting = [Text("nothing has passed yet", "dim")]
    table = table_lines(pen, shown[-1] if shown else None, silent, table_room)
    return Group(
        pane("client wire", client or waiting, each * 2),
        pane("NAT table of natlb", table, table_room),
        pane("server wire", server or waiting, each * 2),
        foot,
    )


def text(pen: Pen, moment: Moment, began: float, silent: str) -> list[str]:
    """Return a packet and its entry as lines of text."""
    passage = moment.passage
    panes = [
        ("client wire", packet_lines(pen, moment, passage.client_side, began, ORIGINAL)),
        ("NAT table", table_lines(pen, moment, silent, 2)),
        ("server wire", packet_lines(pen, moment, passage.server_side, began, REPLY)),
    ]
    if not passage.towards_server:
        panes.reverse()
    return [
        "",
        *(
            line
            for title, lines in panes
            for line in (f"{title}:", *(f"  {line.plain}" for line in lines if line.plain))
        ),
    ]
