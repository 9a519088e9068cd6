"""Every timer of a connection ends, and one connection has one idle timer."""

import pytest

from natlb.config.defaults import (
    FLOW_BOTH_WAYS,
    FLOW_ONE_WAY,
    IDLE,
    TRANSITORY,
    FlowTimeouts,
    check_timeouts,
    connection_timeouts,
    flow_timeouts,
)
from natlb.config.model import Timeouts


def test_defaults_are_no_shorter_than_rfc_5382_allows() -> None:
    assert IDLE >= 2 * 3600 + 4 * 60
    assert TRANSITORY >= 4 * 60


def test_defaults_for_flows_are_no_shorter_than_rfc_4787_allows() -> None:
    assert FLOW_ONE_WAY >= 2 * 60
    assert FLOW_BOTH_WAYS >= 5 * 60


@pytest.mark.parametrize(
    ("client", "server", "one_way", "both_ways"),
    [
        (None, None, FLOW_ONE_WAY, FLOW_BOTH_WAYS),
        (30.0, None, 30.0, 30.0),
        (None, 60.0, 60.0, 60.0),
        (30.0, 60.0, 60.0, 30.0),
        (60.0, 30.0, 30.0, 30.0),
    ],
)
def test_a_flow_waits_for_its_server_and_then_has_one_idle_timer_the_smaller(
    client: float | None, server: float | None, one_way: float, both_ways: float
) -> None:
    timers = flow_timeouts(Timeouts(client=client), Timeouts(server=server))
    assert timers == FlowTimeouts(one_way=one_way, both_ways=both_ways)


def test_where_nothing_is_said_every_timer_is_finite() -> None:
    timers = connection_timeouts(Timeouts(), Timeouts())
    assert (timers.idle, timers.connect, timers.queue) == (IDLE, TRANSITORY, TRANSITORY)
    assert (timers.client_fin, timers.server_fin) == (IDLE, IDLE), "a half-closed connection is established (RFC 5382)"


@pytest.mark.parametrize(
    ("client", "server", "tunnel", "idle"),
    [
        (30.0, 60.0, None, 30.0),
        (60.0, 30.0, None, 30.0),
        (50_000.0, None, None, 50_000.0),
        (None, 5.0, None, 5.0),
        (30.0, 60.0, 3600.0, 3600.0),
        (None, None, 1.0, 1.0),
    ],
)
def test_the_idle_timer_is_the_smaller_unless_there_is_a_tunnel_timer(
    client: float | None, server: float | None, tunnel: float | None, idle: float
) -> None:
    assert connection_timeouts(Timeouts(client=client), Timeouts(server=server, tunnel=tunnel)).idle == idle


def test_what_is_said_is_taken() -> None:
    timers = connection_timeouts(Timeouts(client_fin=1), Timeouts(server_fin=2, connect=3, queue=4))
    assert (timers.client_fin, timers.server_fin, timers.connect, timers.queue) == (1, 2, 3, 4)


def test_the_queue_waits_as_long_as_connecting_does_unless_said() -> None:
    assert connection_timeouts(Timeouts(), Timeouts(connect=3)).queue == 3


@pytest.mark.parametrize(
    ("back", "expected"),
    [
        (Timeouts(), (2.0, None)),
        (Timeouts(connect=1.0), (2.0, None)),
        (Timeouts(check=5.0), (2.0, 5.0)),
        (Timeouts(check=5.0, connect=1.0), (1.0, 5.0)),
        (Timeouts(check=0.5, connect=9.0), (2.0, 0.5)),
    ],
)
def test_a_check_is_bounded_as_in_haproxy(back: Timeouts, expected: tuple[float, float | None]) -> None:
    assert check_timeouts(back, 2.0) == expected
