"""Pictures for a terminal, 80 columns wide: the map, the NAT table, a packet's walk.

Everything here turns data into text and knows no lab. Colour and box-drawing characters are a matter of who reads:
`Pen` leaves colour out when the output is no terminal or NO_COLOR is set (https://no-color.org), and falls back to
ASCII where the output's encoding has no boxes. Nothing is said by colour alone.
"""

import itertools
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from netns.balancer import Entry
from netns.numbers import counted
from netns.topology import LINK, Topology
from netns.walk import FIELDS, Sighting, changed

WIDTH = 80

_ASCII = str.maketrans(
    {
        **dict.fromkeys("┌┐└┘├┤", "+"),
        "─": "-",
        "│": "|",
        "→": ">",
        "←": "<",
        "✓": "*",
        "✗": "x",
        "●": "*",
        "█": "#",
        "µ": "u",
    }
)


@dataclass(frozen=True, slots=True)
class Pen:
    """How to write for one reader."""

    colour: bool = False
    boxes: bool = True

    @classmethod
    def for_output(cls, output: TextIO) -> "Pen":
        """Find out what the output can show."""
        try:
            "┌─┐✓✗→←█µ".encode(output.encoding or "ascii")
        except UnicodeEncodeError:
            boxes = False
        else:
            boxes = True
        return cls(colour=output.isatty() and not os.environ.get("NO_COLOR"), boxes=boxes)

    def bold(self, text: str) -> str:
        """For headings."""
        return self._wrap("1", text)

    def dim(self, text: str) -> str:
        """For what can be passed over."""
        return self._wrap("2", text)

    def good(self, text: str) -> str:
        """For what is as it should be."""
        return self._wrap("32", text)

    def bad(self, text: str) -> str:
        """For what is not."""
        return self._wrap("1;31", text)

    def mark(self, text: str) -> str:
        """For what the reader's eye should fall on."""
        return self._wrap("1;33", text)

    def plain(self, text: str) -> str:
        """Fit text to the output's characters."""
        return text if self.boxes else text.translate(_ASCII)

    def _wrap(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text


class _Canvas:
    """Characters at coordinates."""

    def __init__(self, rows: int) -> None:
        self._rows = [[" "] * WIDTH for _ in range(rows)]

    def text(self, row: int, column: int, text: str) -> None:
        self._rows[row][column : column + len(text)] = text

    def box(self, row: int, column: int, width: int, lines: Sequence[str]) -> None:
        self.text(row, column, "┌" + "─" * (width - 2) + "┐")
        for below, line in enumerate(lines, 1):
            self.text(row + below, column, "│" + f" {line}"[: width - 2].ljust(width - 2) + "│")
        self.text(row + len(lines) + 1, column, "└" + "─" * (width - 2) + "┘")

    def __str__(self) -> str:
        return "\n".join("".join(row).rstrip() for row in self._rows)


def lab_map(pen: Pen, topology: Topology, addresses: Mapping[str, Sequence[str]]) -> str:
    """Draw the hosts with the addresses that they really have (host name -> addresses), and the links."""
    host_width, centre_width, server_width = 13, 17, 14
    centre_at, bend_at, server_at = 32, 59, WIDTH - server_width
    lines = 4
    box = lines + 2
    middle = box * len(topology.servers) // 2 - 1
    canvas = _Canvas(box * len(topology.servers))

    def describe(title: str, name: str, last: str) -> list[str]:
        return [title, *[*addresses.get(name, ()), "", ""][: lines - 2], last]

    top = middle - lines // 2
    canvas.box(top, 0, host_width, describe(topology.client.name, topology.client.name, ""))
    centre = topology.balancer
    canvas.box(top, centre_at, centre_width, describe("lb (balancer)", centre.name, f"VIP port {centre.port}"))
    canvas.text(middle, host_width - 1, f"├ {LINK} ".ljust(centre_at - host_width - len(topology.client.name) - 1, "─"))
    canvas.text(middle, centre_at - len(topology.client.name) - 2, f" {topology.client.name} ┤")

    for number, server in enumerate(topology.servers):
        canvas.box(number * box, server_at, server_width, describe(server.name, server.name, f"web :{server.port}"))
        leaves, arrives = middle + number, number * box + lines // 2
        canvas.text(
            leaves, centre_at + centre_width - 1, f"├ {server.name} ".ljust(bend_at - centre_at - centre_width + 1, "─")
        )
        up = arrives < leaves
        for row in range(min(leaves, arrives) + 1, max(leaves, arrives)):
            canvas.text(row, bend_at, "│")
        canvas.text(leaves, bend_at, "┘" if up else "┐")
        canvas.text(arrives, bend_at, ("┌" if up else "└") + f" {LINK} ┤")
    return pen.plain(str(canvas))


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = (), gap: int = 2) -> list[str]:
    """Set rows in columns as wide as their widest cell; the columns numbered in `right` end flush."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        (" " * gap)
        .join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        .rstrip()
        for row in rows
    ]


def paragraphs(entries: Mapping[str, str]) -> str:
    """Set texts beside their names, wrapped."""
    width = max(map(len, entries)) + 2
    return "\n".join(
        textwrap.fill(text, WIDTH, initial_indent=name.ljust(width), subsequent_indent=" " * width)
        for name, text in entries.items()
    )


def nat_table(pen: Pen, entries: Sequence[Entry]) -> str:
    """Draw natlb's NAT table: two lines for each connection, since two tuples are what it is."""
    if not entries:
        return "the NAT table is empty: no connection is open"
    rows = [["tuple", "from", "to", "server", "state", "packets", "bytes"]]
    for entry in entries:
        counts = (entry.original_packets, entry.original_bytes), (entry.reply_packets, entry.reply_bytes)
        rows.append(["original", *entry.original, entry.server, entry.state, *map(str, counts[0])])
        rows.append(["reply", *entry.reply, f"age {entry.age}", "", *map(str, counts[1])])
    heading, *lines = table(rows, right=(5, 6), gap=1)
    return "\n".join([pen.bold(heading), *lines])


def packet_walk(pen: Pen, sightings: Sequence[Sighting], titles: Sequence[str]) -> str:
    """Draw one packet at several places, side by side; a star marks what differs from the place before."""
    label, column = 13, (WIDTH - 13) // len(sightings)
    new = [set(), *(changed(before, after) for before, after in itertools.pairwise(sightings))]
    starred = [len(_cell(name, seen)) + 2 for names, seen in zip(new, sightings, strict=True) for name in names]
    if max(starred, default=0) >= column:
        column += 1  # a star would touch the next column; the last one does without a gap
    lines = [" " * label + pen.bold("".join(title.ljust(column) for title in titles).rstrip())]
    for name in FIELDS:
        cells = []
        for names, sighting in zip(new, sightings, strict=True):
            text = _cell(name, sighting)
            if name in names:
                cells.append(pen.mark(f"{text} *") + " " * (column - len(text) - 2))
            else:
                cells.append(text.ljust(column))
        if any(cell.strip() for cell in cells):
            lines.append(name.ljust(label) + "".join(cells).rstrip())
    return "\n".join(lines)


def _cell(name: str, sighting: Sighting) -> str:
    value = getattr(sighting, FIELDS[name])
    match name:
        case "IP checksum" | "TCP checksum":
            return "" if value is None else f"0x{value:04x}"
        case "payload":
            return counted(len(value), "byte")
        case "timestamp":
            return "" if value is None else str(value[0])
        case _:
            return str(value)
