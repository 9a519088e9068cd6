"""What became of connections and packets: one entry after the other, as text or as JSON.

An entry is data. As text it is a line or two of at most 80 columns, IPv6 aside; as JSON it is a line, an object with
the same data under names, for programs. Entries are written as they come and are not kept.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from natlb.core.flow import Connection, Direction, FlowKey
from natlb.core.ledger import Ledger
from natlb.core.packet import TCP, UDP, Kind, PacketView
from natlb.core.wording import counted
from natlb.runtime.addresses import endpoints, plain


class Fate(Enum):
    """What became of a packet of the capture."""

    REWRITTEN = "sent on, rewritten"
    ANSWERED = "answered by natlb itself"
    DROPPED = "dropped"
    HELD = "held back at the end, for the first fragment of its datagram"
    PASSED = "none of natlb's, and let pass as they were"
    COPY = "what natlb sent, as the capture has it"
    DIFFERENT = "natlb's work by their looks, and not what was made here"
    FOREIGN = "no IP packets"
    SHORT = "cut too short by the capture to be followed"


FATES: Final = {fate.name.lower(): fate.value for fate in Fate}

Value = str | int | float | None | list[Any] | Mapping[str, Any]

_INDENT: Final = " " * 13

_NAMES: Final = {TCP: "tcp", UDP: "udp"}


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened."""

    event: str
    """What kind of thing."""
    at: int
    """When, in nanoseconds since the epoch."""
    since: int
    """When, in nanoseconds since the first packet."""
    packet: int | None
    """The packet of the capture that brought it about; None if none did."""
    connection: int | None
    """The connection that it is about, by its number, from 1."""
    told: Mapping[str, Value]
    """What there is to tell, by name."""

    def as_json(self) -> str:
        """Return it as one line of JSON."""
        head = {"event": self.event, "at": self.at, "packet": self.packet, "connection": self.connection}
        return json.dumps({**head, **self.told})

    def as_text(self) -> str:
        """Return it as lines of text, the later ones indented."""
        lines = _TEXTS[self.event](self.told)
        if self.event == "end":
            return "\n".join(["", *lines])
        who = f"#{self.connection} " if self.connection is not None else ""
        head = f"{self.since / 1e9:12.6f} {'' if self.packet is None else self.packet:>7}  "
        return "\n".join([f"{head}{who}{lines[0]}", *(f"{_INDENT}{line}" for line in lines[1:])])


def opening(connection: Connection) -> dict[str, Value]:
    """Return what there is to tell of a connection that opens."""
    pool = connection.server.pool
    return {
        "protocol": _NAMES[connection.original[-1]],
        "frontend": connection.service.name,
        "backend": pool.name if pool else None,
        "server": connection.server.name,
        "original": list(endpoints(connection.original)),
        "reply": list(endpoints(connection.reply)),
    }


def ending(ledger: Ledger, connection: Connection, now: float) -> dict[str, Value]:
    """Return what a connection has come to: its row in the ledger is its own still, or was until a moment ago."""
    row = 2 * connection.index
    there, back = row + Direction.ORIGINAL, row + Direction.REPLY
    return {
        "state": connection.state.value,
        "packets": [ledger.packets[there], ledger.packets[back]],
        "bytes": [ledger.octets[there], ledger.octets[back]],
        "seconds": round(now - ledger.opened[connection.index], 6),
    }


def ways(packet: bytes | bytearray, key: FlowKey | None = None) -> dict[str, Value]:
    """Return where a packet comes from and where it goes; `key` is its tuple, if that is known."""
    view = PacketView()
    if key is None and view.read(bytearray(packet)) in (Kind.TCP, Kind.UDP):
        key = view.key
    if key is not None:
        return dict(zip(("from", "to"), endpoints(key), strict=True))
    first, size = (12, 4) if packet[:1] and packet[0] >> 4 == 4 else (8, 16)
    middle = first + size
    if len(packet) < middle + size:
        return {"from": "?", "to": "?"}
    return {"from": plain(bytes(packet[first:middle])), "to": plain(bytes(packet[middle : middle + size]))}


# Text

Told = Mapping[str, Any]


def _opened(told: Told) -> list[str]:
    return [
        f"opened on {told['frontend']}: {_arrow(told['original'])}",
        f"to {told['backend']}/{told['server']}, answers {_arrow(told['reply'])}",
    ]


def _came_to(told: Told) -> str:
    (packets, replies), (sent, received) = told["packets"], told["bytes"]
    return (
        f"{counted(packets, 'packet')} with {counted(sent, 'byte')} there, "
        f"{replies} with {counted(received, 'byte')} back, {told['seconds']:g} s"
    )


def _way(told: Told) -> str:
    return f"{told['from']} > {told['to']}"


def _released(told: Told) -> list[str]:
    reason = f": {told['reason']}" if told["reason"] else ""
    return [f"packet {told['held']}, held back until now: {told['fate']}{reason}"]


def summary(told: Told) -> list[str]:
    """Return in lines what a capture came to."""
    fates, drops = told["fates"], told["drops"]
    lines = [f"{counted(told['packets'], 'packet')} in {told['seconds']:g} s; {told['sent']} sent by natlb"]
    lines += [f"{number:>9}  {FATES[name]}" for name, number in fates.items()]
    lines += [f"{number:>9}  dropped: {name}" for name, number in drops.items()] if len(drops) > 1 else []
    closed = ", ".join(f"{number} {name}" for name, number in told["closed"].items())
    lines += [
        f"{counted(told['opened'], 'connection')}: {told['open']} still open, "
        f"{sum(told['closed'].values())} closed" + (f" ({closed})" if closed else "")
    ]
    if told["seen"]:
        lines += [f"{told['seen']} of the {told['sent']} packets that natlb sends are in the capture as well"]
    if told["different"] is not None:
        lines += [f"packet {told['different']} is the first of natlb's work that was not made here"]
    if told["strays"]:
        lines += [f"{told['strays']} belong to connections that may have begun before the capture"]
    if told["cut"]:
        lines += [f"{told['cut']} are cut short; what is missing was taken to be sound"]
    if told["late"]:
        lines += [f"{told['late']} are dated before the one before them"]
    return lines


def _arrow(ends: list[str]) -> str:
    return " > ".join(ends)


_TEXTS: Final[Mapping[str, Callable[[Told], list[str]]]] = {
    "opened": _opened,
    "state": lambda told: [f"{told['from']} > {told['to']}"],
    "closed": lambda told: [f"closed: {told['reason']}", _came_to(told)],
    "open": lambda told: [f"still {told['state']} at the end", _came_to(told)],
    "dropped": lambda told: [f"dropped: {told['reason']}", _way(told)],
    "answered": lambda told: [f"answered with {told['what']}: {told['why']}", _way(told)],
    "held": lambda _: ["held back: a fragment that came before the first of its datagram"],
    "released": _released,
    "sent": lambda told: [f"natlb sends a RST: {_way(told)}"],
    "bypassed": lambda told: [f"{told['server']} leaves its clients without an answer"],
    "different": lambda told: ["natlb's work, by its looks, and not what was made here", _way(told)],
    "end": summary,
}

EVENTS: Final = tuple(_TEXTS)
"""The kinds of entries."""
