"""The lines of the log, as HAProxy 2.6.12 wrote them for the same."""

import pytest

from natlb.health import report
from natlb.health.conversation import Answer, Limits
from natlb.health.report import Surroundings
from natlb.health.server import Cause, CheckSettings, Intervals, Operation, ServerHealth
from natlb.health.status import Status

SETTINGS = CheckSettings("192.0.2.1", 80, Intervals(2.0, 1.0, 5.0), Limits(2.0))
REFUSED = Answer(Status.L4CON, "Connection refused", 0, 0.0)
NOT_FOUND = Answer(Status.L7STS, 'Not "here" <b>', 404, 0.0123)


def health(last: Answer, counter: int, operation: Operation = Operation.RUNNING) -> ServerHealth:
    made = ServerHealth("b/s", SETTINGS, 0.0)
    made.last, made.operation = last, operation
    made.judge.health = counter
    return made


@pytest.mark.parametrize(
    ("made", "options", "line"),
    [
        (
            health(REFUSED, 0),
            {"backup": False},
            'Health check for server b/s failed, reason: Layer4 connection problem, info: "Connection refused", '
            "check duration: 0ms, status: 0/2 DOWN.",
        ),
        (
            health(Answer(Status.L7OK, "", 200, 0.001), 4),
            {"backup": True},
            "Health check for backup server b/s succeeded, reason: Layer7 check passed, code: 200, "
            "check duration: 1ms, status: 3/3 UP.",
        ),
        (
            health(Answer(Status.L7OKC, "", 404, 0.0), 4),
            {"backup": False, "unweighted": True},
            "Health check for server b/s conditionally succeeded, reason: Layer7 check conditionally passed, "
            "code: 404, check duration: 0ms, status: 3/3 DRAIN.",
        ),
        (
            health(Answer(Status.HANA, "Detected 2", 0, 0.0), 3),
            {"backup": False},
            'Health check for server b/s failed, reason: Health analyze, info: "Detected 2", status: 2/3 UP.',
        ),
    ],
)
def test_the_line_of_a_check(made: ServerHealth, options: dict[str, bool], line: str) -> None:
    assert report.of_check(made, **options) == line


LEFT = Surroundings(backup=False, active=4, backups=0, live=7, queued=2)


@pytest.mark.parametrize(
    ("made", "cause", "before", "around", "told", "line"),
    [
        (
            health(NOT_FOUND, 0, Operation.STOPPED),
            Cause.CHECK,
            Operation.RUNNING,
            LEFT,
            False,
            'Server b/s is DOWN, reason: Layer7 wrong status, code: 404, info: "Not <22>here<22> <3C>b<3E>", check '
            "duration: 12ms. 4 active and 0 backup servers left. 7 sessions active, 0 requeued, 2 remaining in queue.",
        ),
        (
            health(REFUSED, 0, Operation.STOPPED),
            Cause.CHECK,
            Operation.RUNNING,
            Surroundings(backup=True, active=0, backups=1, live=0),
            True,
            "Backup Server b/s is DOWN. 0 active and 1 backup servers left. Running on backup. 0 sessions active, "
            "0 requeued, 0 remaining in queue.",
        ),
        (
            health(Answer(Status.L4OK, "", 0, 0.0), 4),
            Cause.CHECK,
            Operation.STOPPED,
            LEFT,
            False,
            "Server b/s is UP, reason: Layer4 check passed, check duration: 0ms. 4 active and 0 backup servers online. "
            "0 sessions requeued, 2 total in queue.",
        ),
        (
            health(REFUSED, 4, Operation.STOPPING),
            Cause.OPERATOR,
            Operation.RUNNING,
            LEFT,
            False,
            "Server b/s is stopping, changed from CLI. 4 active and 0 backup servers online. 0 sessions requeued, "
            "2 total in queue.",
        ),
        (
            health(REFUSED, 2, Operation.RUNNING),
            Cause.MAINTENANCE,
            Operation.STOPPED,
            LEFT,
            False,
            "Server b/s is UP/READY (leaving forced maintenance).",
        ),
    ],
)
def test_the_line_of_a_change(
    made: ServerHealth, cause: Cause, before: Operation, around: Surroundings, told: bool, line: str
) -> None:
    assert report.of_change(made, cause, before, around, told_of_check=told) == line


def test_the_lines_of_maintenance_and_of_those_that_are_taken_along() -> None:
    made, tracking = health(REFUSED, 0, Operation.STOPPED), ServerHealth("c/t", None, 0.0)
    tracking.tracked, tracking.operation = made, Operation.STOPPED
    down = Operation.STOPPED, LEFT
    assert report.of_change(tracking, Cause.TRACKED, Operation.RUNNING, LEFT, told_of_check=False).startswith(
        "Server c/t is DOWN via b/s. 4 active"
    )
    made.in_maintenance = True
    assert report.of_change(made, Cause.MAINTENANCE, *down, told_of_check=False) == (
        "Server b/s was DOWN and now enters maintenance."
    )
    assert report.of_change(tracking, Cause.MAINTENANCE_THROUGH, *down, told_of_check=False) == (
        "Server c/t was DOWN and now enters maintenance via b/s."
    )
    assert report.of_change(made, Cause.MAINTENANCE, Operation.RUNNING, LEFT, told_of_check=False).startswith(
        "Server b/s is going DOWN for maintenance. 4 active and 0 backup servers left."
    )
    made.in_maintenance, tracking.operation = False, Operation.RUNNING
    drained = Surroundings(backup=False, active=0, backups=0, live=0, drained=True)
    assert report.of_change(tracking, Cause.MAINTENANCE_THROUGH, Operation.STOPPED, drained, told_of_check=False) == (
        "Server c/t is UP/DRAIN (leaving maintenance)."
    )


def test_the_line_of_a_backend_without_servers() -> None:
    assert report.of_backend("b") == ("backend b has no server available!", "backend 'b' has no server available!")
