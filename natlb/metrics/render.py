"""The text that Prometheus reads, in pieces: packets pass between two of them.

A thousand servers make tens of thousands of lines, and writing them takes longer than a packet can be kept waiting.
prometheus_client writes a whole registry at once, so it is asked for a few lines at a time: for some families, or for
a part of a large one, whose heading is then taken off again.
"""

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from itertools import islice
from typing import Final

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

LINES: Final = 200
"""Values in a piece at most: a millisecond's work."""


@dataclass(frozen=True, slots=True)
class Format:
    """One of the formats that Prometheus reads."""

    encode: Callable[[Collector], bytes]
    content_type: str


def format_for(accept: str) -> Format:
    """Return the format that a client asks for with its `Accept` header, the oldest one if that makes no sense."""
    try:
        return Format(*choose_encoder(accept))
    except (TypeError, ValueError):  # a version that is no number
        return Format(generate_latest, CONTENT_TYPE_PLAIN_0_0_4)


def render(registry: Collector, encode: Callable[[Collector], bytes]) -> Iterator[bytes]:
    """Go over the pieces of the text; together they are what `encode(registry)` returns."""
    end = encode(_Families([]))
    for families, goes_on in _pieces(registry.collect()):
        text = encode(_Families(families))
        if goes_on:
            text = text.removeprefix(encode(_Families([_part(families[0], 0)])).removesuffix(end))
        yield text.removesuffix(end)
    yield end


def _pieces(families: Iterable[Metric]) -> Iterator[tuple[list[Metric], bool]]:
    """Go over the families, small ones together and large ones in parts.

    With each piece goes whether it begins with more of what the one before it has ended with.
    """
    piece: list[Metric] = []
    room, goes_on = LINES, False
    for family in families:
        values = iter(family.samples)
        while True:
            piece.append(part := _part(family, room, values))
            room -= len(part.samples)
            if room:
                break
            yield piece, goes_on
            piece, room, goes_on = [], LINES, True
    yield piece, goes_on


def _part(family: Metric, most: int, values: Iterable[Sample] = ()) -> Metric:
    """Return a family that has so many of these values at most."""
    part = copy(family)
    part.samples = list(islice(values, most))
    return part


class _Families(Collector):
    """Families at hand, as a collector."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
