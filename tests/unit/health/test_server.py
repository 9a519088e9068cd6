"""What is shown of a server's health: the words and numbers that HAProxy has for the same."""

from dataclasses import replace

import pytest

from natlb.health.conversation import Answer, Limits
from natlb.health.server import CheckSettings, Intervals, Operation, ServerHealth
from natlb.health.status import Status

SETTINGS = CheckSettings("192.0.2.1", 80, Intervals(2.0, 1.0, 5.0), Limits(2.0))


def make(settings: CheckSettings | None = SETTINGS, **state: object) -> ServerHealth:
    health = ServerHealth("b/s", settings, 100.0)
    for name, value in state.items():
        setattr(health, name, value)
    return health


@pytest.mark.parametrize(
    ("counter", "operation", "status", "draining"),
    [
        (4, Operation.RUNNING, "UP", "DRAIN"),
        (3, Operation.RUNNING, "UP 2/3", "DRAIN 2/3"),
        (2, Operation.RUNNING, "UP 1/3", "DRAIN 1/3"),
        (1, Operation.STOPPED, "DOWN 1/2", "DOWN 1/2"),
        (0, Operation.STOPPED, "DOWN", "DOWN"),
        (4, Operation.STOPPING, "NOLB", "NOLB"),
        (3, Operation.STOPPING, "NOLB 2/3", "NOLB 2/3"),
    ],
)
def test_the_status_shows_the_counter(counter: int, operation: Operation, status: str, draining: str) -> None:
    health = make(operation=operation)
    health.judge.health = counter
    assert (health.status(), health.status(draining=True)) == (status, draining)


def test_a_server_without_checks_says_so_unless_something_else_is_known() -> None:
    assert make(None).status() == "no check"
    assert make(None).status(draining=True) == "DRAIN"
    assert make(None, operation=Operation.STOPPED).status() == "DOWN"
    assert make(None, in_maintenance=True).status() == "MAINT"


def test_a_server_without_checks_has_no_columns_of_checks() -> None:
    assert make(None).columns(107.0) == {}


def test_before_the_first_check_there_is_no_duration() -> None:
    columns = make().columns(100.0)
    assert (columns["check_status"], columns["check_desc"], columns["last_chk"]) == ("INI", "Initializing", "")
    assert "check_duration" not in columns
    assert "check_code" not in columns


def test_a_check_that_is_going_on_has_a_star_and_no_words_yet() -> None:
    health = make(last=Answer(Status.L7STS, "Not Found", 404, 0.0129), running=True)
    columns = health.columns(100.0)
    assert (columns["check_status"], columns["last_chk"], columns["check_code"]) == ("* L7STS", "", 0)
    health.running = False
    columns = health.columns(100.0)
    assert (columns["check_status"], columns["last_chk"], columns["check_code"]) == ("L7STS", "Not Found", 404)
    assert columns["check_duration"] == 12


def test_the_time_that_it_was_down_adds_up() -> None:
    health = make()
    health.change(Operation.STOPPED, 110.0)
    health.change(Operation.RUNNING, 115.0)
    health.change(Operation.STOPPED, 120.0)
    columns = health.columns(123.0)
    assert (columns["downtime"], columns["chkdown"]) == (8, 2)


def test_what_was_counted_can_be_cleared() -> None:
    health = make(replace(SETTINGS, observed=True), failed_checks=5, failed_observations=2)
    health.change(Operation.STOPPED, 110.0)
    health.clear()
    columns = health.columns(110.0)
    assert (columns["chkfail"], columns["chkdown"], columns["hanafail"], health.status()) == (0, 0, 0, "DOWN 2/2")


def test_a_server_in_maintenance_keeps_its_counters_and_hides_its_check() -> None:
    health = make(in_maintenance=True, operation=Operation.STOPPED)
    columns = health.columns(100.0)
    assert (health.status(), columns["chkfail"]) == ("MAINT", 0)
    assert "check_status" not in columns


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, {"srv_op_state": 2, "srv_check_status": 1, "srv_check_result": 0, "srv_check_health": 2, "bits": 6}),
        ({"running": True}, {"srv_check_result": 0, "bits": 7}),
        ({"last": Answer(Status.L4CON, "", 0, 0.0)}, {"srv_check_status": 8, "srv_check_result": 2}),
        ({"last": Answer(Status.L7OK, "", 200, 0.0)}, {"srv_check_status": 15, "srv_check_result": 3}),
        ({"last": Answer(Status.L7OKC, "", 404, 0.0)}, {"srv_check_status": 16, "srv_check_result": 4}),
        ({"in_maintenance": True, "operation": Operation.STOPPED}, {"srv_op_state": 0, "bits": 14}),
        ({"enabled": False}, {"bits": 2}),
    ],
)
def test_the_state_is_numbered_as_haproxy_numbers_it(state: dict[str, object], expected: dict[str, int]) -> None:
    shown = make(**state).state()
    wanted = {("srv_check_state" if name == "bits" else name): value for name, value in expected.items()}
    assert shown | wanted == shown


def test_without_checks_the_state_is_what_haproxy_shows_then() -> None:
    assert make(None).state() == {
        "srv_op_state": 2,
        "srv_admin_state": 0,
        "srv_check_status": 1,
        "srv_check_result": 0,
        "srv_check_health": 2,
        "srv_check_state": 0,
    }


def test_a_server_that_tracks_shows_the_counter_of_the_one_that_is_checked() -> None:
    checked, tracking = make(replace(SETTINGS, observed=True)), make(None)
    tracking.tracked = checked
    assert (tracking.status(), tracking.columns(100.0)["hanafail"]) == ("UP 1/3", 0)
    checked.in_maintenance = True
    assert (tracking.status(), tracking.maintained) == ("MAINT (via b/s)", True)


def test_a_server_without_checks_has_no_interval() -> None:
    with pytest.raises(AssertionError):
        _ = make(None).interval
