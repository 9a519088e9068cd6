"""Ladders: the packets of a connection, a line each, side by side as they were seen at some places.

Time runs downwards. An arrow to the right goes to the server, one to the left to the client. A packet that was seen at
one place and not at another leaves that cell empty, which is what most ladders of the lab are about.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from netns.draw import WIDTH, Pen
from netns.numbers import counted
from netns.walk import Sighting, Walk

_TIME = 8
_NAMES = {"S": "SYN", "SA": "SYN-ACK", "A": "ACK", "FA": "FIN", "F": "FIN", "R": "RST", "RA": "RST"}


def kind(sighting: Sighting) -> str:
    """Name a segment by what it does: SYN, ACK, FIN, RST, or its number of bytes of data."""
    if sighting.payload:
        return counted(len(sighting.payload), "byte")
    return _NAMES.get(sighting.flags, sighting.flags)


@dataclass(frozen=True, slots=True)
class Relative:
    """Sequence numbers counted from the beginning of a connection, as people count."""

    client: int
    server: int

    @classmethod
    def of(cls, walks: Sequence[Walk]) -> "Relative":
        """Take the first numbers from the two SYNs; 0 where there was none."""
        seen = {walk.first.flags: walk.first.seq for walk in reversed(walks) if "S" in walk.first.flags}
        return cls(seen.get("S", 0), seen.get("SA", 0))

    def seq(self, walk: Walk) -> int:
        """Where a packet begins in its sender's stream."""
        return (walk.first.seq - (self.client if walk.towards_server else self.server)) % 2**32

    def ack(self, walk: Walk) -> int:
        """Up to where a packet's sender has received the other stream."""
        return (walk.first.ack - (self.server if walk.towards_server else self.client)) % 2**32


def with_peer(walk: Walk, sighting: Sighting) -> str:
    """Describe a packet by its kind and by who is at the far end, as seen at one place."""
    return f"{kind(sighting)} {sighting.destination if walk.towards_server else sighting.source}"


def draw(
    pen: Pen,
    walks: Sequence[Walk],
    places: Mapping[str, str],
    describe: Callable[[Walk, Sighting], str] = with_peer,
) -> str:
    """Draw walks (in the order of sending) at places (name -> title); what is said of RSTs and SYNs stands out."""
    width = (WIDTH - _TIME) // len(places)
    lines = [pen.bold("ms".rjust(_TIME - 2) + "  " + "".join(title.ljust(width) for title in places.values()).rstrip())]
    began = min((sighting.time for walk in walks for sighting in walk.sightings), default=0.0)
    for walk in walks:
        when = min(sighting.time for sighting in walk.sightings) - began
        cells = []
        for place in places:
            seen = next((sighting for sighting in walk.sightings if sighting.place == place), None)
            text = "" if seen is None else f"{'→' if walk.towards_server else '←'} {describe(walk, seen)}"
            cell = text[: width - 1].ljust(width)
            cells.append(pen.bad(cell) if seen is not None and "R" in seen.flags else cell)
        time = f"{when * 1000:.2f}" if when < 1 else f"{when * 1000:.0f}"
        lines.append(time.rjust(_TIME - 2) + "  " + "".join(cells).rstrip())
    return pen.plain("\n".join(lines))
