"""The pieces are bounded, and together they are what prometheus_client writes at once."""

from collections.abc import Iterator

import pytest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.registry import Collector

from natlb.metrics.render import LINES, format_for, render

TEXT, OPENMETRICS = "text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0,text/plain;q=0.3"


class Made(Collector):
    """Families with so many values each."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

    def collect(self) -> Iterator[Metric]:
        for number, size in enumerate(self.sizes):
            kind = CounterMetricFamily if number % 2 else GaugeMetricFamily
            made = kind(f"family_{number}", "Its help, with # and \n a line's end.", labels=["server"])
            for value in range(size):
                made.add_metric([f'"s{value}"\n# HELP'], value)
            yield made


SIZES = [
    (),
    (0,),
    (1,),
    (0, 0, 3),
    (LINES,),
    (LINES, 1),
    (LINES, 0, LINES),
    (LINES - 1, 1),
    (LINES - 1, 2),
    (3 * LINES + 7, 2 * LINES, 5),
]


@pytest.mark.parametrize("accept", [TEXT, OPENMETRICS])
@pytest.mark.parametrize("sizes", SIZES)
def test_the_pieces_are_the_whole(sizes: tuple[int, ...], accept: str) -> None:
    encode = format_for(accept).encode
    assert b"".join(render(Made(*sizes), encode)) == encode(Made(*sizes))


def test_no_piece_has_more_values_than_it_may() -> None:
    for piece in render(Made(3 * LINES + 7, 1, 2 * LINES), format_for(TEXT).encode):
        assert sum(not line.startswith(b"#") for line in piece.splitlines()) <= LINES


def test_both_formats_are_what_their_readers_expect() -> None:
    for accept, read in ((TEXT, read_text), (OPENMETRICS, read_openmetrics)):
        text = b"".join(render(Made(500, 500), format_for(accept).encode)).decode()
        assert [len(family.samples) for family in read(text)] == [500, 500]


@pytest.mark.parametrize("accept", ["", "nonsense", "application/openmetrics-text;version=x", "text/html,*/*;q=0.1"])
def test_who_asks_for_nothing_known_gets_text(accept: str) -> None:
    form = format_for(accept)
    assert form.content_type.startswith("text/plain")
    assert form.encode(Made(1)).startswith(b"# HELP family_0")
