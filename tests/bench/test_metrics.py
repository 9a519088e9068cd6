"""What being watched costs: how long a scrape keeps packets waiting, and what timing adds to a packet."""

import time
import timeit
from collections.abc import Iterator

import pytest

from natlb.metrics.registry import registry
from natlb.metrics.render import format_for, render
from natlb.metrics.timing import Stopwatch
from tests.garbage import collected_as_in_natlb
from tests.unit.core.packets import SYN, segment
from tests.unit.metrics.balancer import Balancer, many

pytestmark = pytest.mark.bench

_SERVERS, _CONNECTIONS = 1000, 1_000_000


@pytest.fixture(scope="module")
def crowded() -> Iterator[Balancer]:
    """A balancer with all of them."""
    balancer = many(_SERVERS, 4 * _CONNECTIONS)
    engine = balancer.engine
    with collected_as_in_natlb():
        for number in range(_CONNECTIONS):
            client = f"11.{number >> 14 & 255}.{number >> 6 & 255}.1", 1024 + (number & 63)
            engine.handle_packet(segment(client, ("44.2.2.2", 8888), SYN, seq=1), 0.0)
            while engine.next_event():
                pass
        assert len(engine) == _CONNECTIONS
        yield balancer


@pytest.mark.timeout(900)
@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text;version=1.0.0"])
def test_a_scrape_of_a_thousand_servers_and_a_million_connections_never_holds_the_loop_for_10_ms(
    crowded: Balancer, accept: str
) -> None:
    pieces = render(registry(crowded.sources), format_for(accept).encode)
    steps, size, piece = [], 0, b""
    while piece is not None:
        started = time.thread_time()  # of the processor: what else runs here is not natlb's
        piece = next(pieces, None)
        steps.append(time.thread_time() - started)
        size += len(piece or b"")
    print(f"\n{size:,} bytes in {len(steps)} steps, {sum(steps) * 1e3:.0f} ms, the longest {max(steps) * 1e3:.1f} ms")
    assert max(steps) < 0.010


def test_what_natlb_top_asks_for_is_no_more_work_with_a_million_connections(crowded: Balancer) -> None:
    started = time.thread_time()
    found = crowded.engine.table.recent(500)
    took = time.thread_time() - started
    print(f"\n{took * 1e3:.2f} ms")
    assert len(found) == 500
    assert took < 0.005


def test_timing_adds_less_than_a_twentieth_of_a_microsecond_to_a_packet() -> None:
    done = 0

    def batch() -> None:
        nonlocal done
        done += 64

    stopwatch = Stopwatch(batch, lambda: done)
    bare, timed = (min(timeit.repeat(work, number=100_000, repeat=5)) / 100_000 for work in (batch, stopwatch))
    print(f"\n{(timed - bare) * 1e6:.3f} us for a batch, {(timed - bare) / 64 * 1e6:.4f} us for each of 64 packets")
    assert (timed - bare) / 64 < 0.05e-6
