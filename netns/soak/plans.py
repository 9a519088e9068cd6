"""What each connection and each flow of a soak does: chosen by chance, and the same again for the same seed.

A plan is made of the seed and the connection's number alone. So both ends, and whoever tells the story of a connection
that was lost, have the same one without a word about it.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

_Choice = TypeVar("_Choice")

CONNECTIONS_PER_SECOND = 20.0
FLOWS_PER_SECOND = 1.0
"""How many begin, on average: it makes about one core's work of all programs together."""

MOST_CONNECTIONS = 200
"""That are open at a time: none is begun beyond that."""


class End(IntEnum):
    """How a connection is to end."""

    CLIENT = 0
    """The client closes it once it has everything."""
    HALF = 1
    """The client closes its side before it is answered for the last time."""
    SERVER = 2
    """The server closes it first."""
    RESET = 3
    """The client resets it in the middle of what it sends."""
    SHUT = 4
    """natlb is told to shut it down, when it has said all it had to say."""


WAYS = ("dnat4", "dnat6", "full4", "full6")
"""The ways through natlb: with the destination rewritten or both ends, in each address family."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer."""

    up: int
    down: int
    both: bool = False
    """Whether both ends send at once."""
    quiet: float = 0.0
    """Seconds of silence afterwards."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a connection does."""

    kind: str
    way: str
    turns: tuple[Turn, ...]
    end: End
    reset_after: int = 0
    """Bytes of the last turn after which the client resets it, if it does."""

    def __str__(self) -> str:
        up, down = sum(turn.up for turn in self.turns), sum(turn.down for turn in self.turns)
        quiet = sum(turn.quiet for turn in self.turns)
        return (
            f"{self.kind} by {self.way}: {len(self.turns)} turn{'s' * (len(self.turns) != 1)}, {up:,} bytes up,"
            f" {down:,} down, {quiet:.0f} s of silence, end: {self.end.name.lower()}"
        )


@dataclass(frozen=True, slots=True)
class FlowPlan:
    """What a flow of UDP does."""

    way: str
    sizes: tuple[int, ...]
    """Bytes of its datagrams, one after the other."""
    gap: float
    """Seconds from one to the next, on average."""


def chance(*name: object) -> random.Random:
    """Return a source of chance that is the same for the same name."""
    return random.Random("/".join(map(str, name)))  # noqa: S311 - it has to be the same each time


def arrivals(seed: int, what: str, per_second: float) -> Iterator[float]:
    """Yield when connections begin, or flows, in seconds from the beginning: independent of each other, in no order."""
    source, at = chance(seed, "arrivals", what), 0.0
    while True:
        at += source.expovariate(per_second)
        yield at


def _short(source: random.Random) -> list[Turn]:
    return [Turn(_size(source, 1, 4_000), _size(source, 1, 60_000))]


def _talk(source: random.Random) -> list[Turn]:
    return [
        Turn(_size(source, 1, 2_000), _size(source, 1, 20_000), quiet=source.uniform(0, 1.5))
        for _ in range(source.randint(3, 20))
    ]


def _idle(source: random.Random) -> list[Turn]:
    return [Turn(source.randint(1, 200), source.randint(1, 200), quiet=source.uniform(5, 25)) for _ in range(3)]


def _download(source: random.Random) -> list[Turn]:
    return [Turn(_size(source, 1, 200), _size(source, 100_000, 4_000_000))]


def _upload(source: random.Random) -> list[Turn]:
    return [Turn(_size(source, 100_000, 4_000_000), _size(source, 1, 200))]


def _both(source: random.Random) -> list[Turn]:
    return [Turn(_size(source, 100_000, 2_000_000), _size(source, 100_000, 2_000_000), both=True)]


def _long(source: random.Random) -> list[Turn]:
    return [
        Turn(_size(source, 1, 20_000), _size(source, 1, 20_000), both=True, quiet=source.uniform(0.05, 0.8))
        for _ in range(source.randint(50, 300))
    ]


KINDS = {
    "short": (_short, 56),
    "talk": (_talk, 20),
    "idle": (_idle, 5),
    "download": (_download, 6),
    "upload": (_upload, 5),
    "both ways": (_both, 5),
    "long": (_long, 3),
}
"""How a connection's turns are made, and how many of a hundred are made so."""

_ENDS = {End.CLIENT: 46, End.HALF: 20, End.SERVER: 20, End.RESET: 12, End.SHUT: 2}
_MOST_DATAGRAMS = 120
_FRAGMENTED = 0.03
"""The share of datagrams that are larger than a packet."""


def connection(seed: int, number: int) -> Plan:
    """Return what a connection does."""
    source = chance(seed, "connection", number)
    kind = _drawn(source, {name: weight for name, (_, weight) in KINDS.items()})
    turns = KINDS[kind][0](source)
    end = _drawn(source, _ENDS)
    reset_after = source.randint(0, turns[-1].up) if end is End.RESET else 0
    return Plan(kind, source.choice(WAYS), tuple(turns), end, reset_after)


def flow(seed: int, number: int) -> FlowPlan:
    """Return what a flow of UDP does."""
    source = chance(seed, "flow", number)
    sizes = tuple(
        source.randint(1_473, 9_000) if source.random() < _FRAGMENTED else source.randint(16, 1_400)
        for _ in range(source.randint(1, _MOST_DATAGRAMS))
    )
    return FlowPlan(source.choice(WAYS), sizes, source.uniform(0.02, 0.5))


def _size(source: random.Random, least: int, most: int) -> int:
    """Draw a size: of each order of magnitude as many as of the next."""
    return round(math.exp(source.uniform(math.log(least), math.log(most))))


def _drawn(source: random.Random, weights: dict[_Choice, int]) -> _Choice:
    return source.choices(list(weights), list(weights.values()))[0]
