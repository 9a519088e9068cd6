"""What is known of the health of one server, and how HAProxy's statistics put it.

A server that is not checked is known too: it is up. One that tracks another has no checks of its own; it is what the
other is, drained and in maintenance as well. Maintenance stops a server here, as it does in HAProxy, and pauses its
checks; that it is drained is all the same to its checks, and only known here for those that track it.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Literal

from natlb.health.conversation import Answer, Limits
from natlb.health.judge import Judge
from natlb.health.status import Result, Status
from natlb.questions import CONNECT, Question

OnError = Literal["fastinter", "fail-check", "sudden-death", "mark-down"]

_RISE, _FALL = 2, 3
"""HAProxy's defaults: it shows them of servers without checks, too."""

# The bits of `srv_check_state` in `show servers state`.
_IN_PROGRESS, _CONFIGURED, _ENABLED, _PAUSED = 1, 2, 4, 8

# Those of `srv_admin_state` that come from the server that is tracked.
_MAINTAINED_THROUGH, _DRAINED_THROUGH = 2, 16


class Operation(IntEnum):
    """What a server does, as `show servers state` numbers it."""

    STOPPED = 0
    RUNNING = 2
    STOPPING = 3
    """It is well and takes no new connections: NOLB."""


class Cause(Enum):
    """Why a server changed its state."""

    CHECK = "its checks"
    OPERATOR = "changed from CLI"
    TRACKED = "the server that it tracks"
    MAINTENANCE = "maintenance"
    MAINTENANCE_THROUGH = "maintenance of the server that it tracks"


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds from the end of one check to the next."""

    normal: float
    in_transition: float
    """While the next results may bring the server up or take it down."""
    down: float


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """How one server is checked."""

    address: str
    port: int
    """0 when there is none, and each connection of the question has its own."""
    intervals: Intervals
    limits: Limits
    question: Question = CONNECT
    rise: int = 2
    fall: int = 3
    observed: bool = False
    """Whether the connections of clients count too (`observe layer4`)."""
    error_limit: int = 10
    """Connections in a row that failed, until something is done."""
    on_error: OnError = "fail-check"


class ServerHealth:
    """The health of one server. Changed by `Checks` alone."""

    def __init__(self, name: str, settings: CheckSettings | None, now: float) -> None:
        self.name = name
        """`backend/server`."""
        self.settings = settings
        """None without checks."""
        self.tracked: ServerHealth | None = None
        """The server whose health this one shares."""
        self.trackers: list[ServerHealth] = []
        self.judge = Judge(_RISE, _FALL) if settings is None else Judge(settings.rise, settings.fall)
        self.last = Answer(Status.INI, "", 0, 0.0)
        """What the last check came to."""
        self.running = False
        """Whether a check is going on."""
        self.enabled = settings is not None
        """Whether it is checked: `disable health` and `enable health`."""
        self.in_maintenance = False
        """Whether the operator took it out."""
        self.in_drain = False
        """Whether the operator drains it."""
        self.operation = Operation.RUNNING
        self.failed_checks = 0
        self.times_down = 0
        self.failed_observations = 0
        self.consecutive_errors = 0
        self.changed_at = now
        """When `operation` changed."""
        self._seconds_down = 0.0

    @property
    def origin(self) -> "ServerHealth":
        """The server whose checks decide: the end of the chain of tracked ones, or this one."""
        health = self
        while health.tracked is not None:
            health = health.tracked
        return health

    @property
    def maintained_through(self) -> "ServerHealth | None":
        """The tracked server, when it is in maintenance and takes this one along."""
        return self.tracked if self.tracked is not None and self.tracked.maintained else None

    @property
    def maintained(self) -> bool:
        """Whether it is in maintenance, itself or with the server that it tracks."""
        return self.in_maintenance or self.maintained_through is not None

    @property
    def drained_through(self) -> "ServerHealth | None":
        """The tracked server, when it is drained and takes this one along."""
        return self.tracked if self.tracked is not None and self.tracked.drained else None

    @property
    def drained(self) -> bool:
        """Whether it is drained, itself or with the server that it tracks."""
        return self.in_drain or self.drained_through is not None

    @property
    def healthy(self) -> bool:
        """Whether new connections may go there, as far as health is concerned."""
        return self.operation is Operation.RUNNING

    @property
    def checked(self) -> bool:
        """Whether checks are being made now."""
        return self.enabled and not self.maintained

    @property
    def check_seconds(self) -> float | None:
        """How long the last check took; None before the first one has ended."""
        return self.last.duration if self.last.status.has_duration else None

    @property
    def interval(self) -> float:
        """Seconds until the next check; only for a server that has checks."""
        if self.settings is None:
            raise AssertionError("a server without checks is not checked again")
        intervals, judge = self.settings.intervals, self.judge
        if judge.health == judge.best:
            return intervals.normal
        down = self.operation is Operation.STOPPED and not judge.health
        return intervals.down if down else intervals.in_transition

    def change(self, operation: Operation, now: float) -> None:
        """Note what the server does from now on."""
        if self.operation is Operation.STOPPED:
            self._seconds_down += now - self.changed_at
        elif operation is Operation.STOPPED:
            self.times_down += 1
        self.operation = operation
        self.changed_at = now

    def clear(self) -> None:
        """Count failed checks anew."""
        self.failed_checks = self.times_down = self.failed_observations = 0

    def seconds_down(self, now: float) -> float:
        """How long it has been down all in all."""
        return self._seconds_down + (now - self.changed_at if self.operation is Operation.STOPPED else 0.0)

    def status(self, *, draining: bool = False) -> str:
        """The column `status` of `show stat`; `draining` is for servers that are drained."""
        if (through := self.maintained_through) is not None:
            return f"MAINT (via {through.name})"
        if self.in_maintenance:
            return "MAINT"
        origin = self.origin
        judge, checked = origin.judge, origin.enabled
        if self.operation is Operation.STOPPED:
            return f"DOWN {judge.health}/{judge.rise}" if checked and judge.health else "DOWN"
        moving = f" {judge.health - judge.rise + 1}/{judge.fall}" if checked and judge.health < judge.best else ""
        if self.operation is Operation.STOPPING:
            return f"NOLB{moving}"
        if draining:
            return f"DRAIN{moving}"
        return f"UP{moving}" if checked else "no check"

    def columns(self, now: float) -> dict[str, str | int]:
        """The columns of `show stat` that checks have to fill; what HAProxy leaves empty is left out."""
        shown: dict[str, str | int] = {}
        origin = self.origin
        if self.tracked is not None:
            shown["tracked"] = self.tracked.name
        if origin.settings is not None and origin.settings.observed:
            shown["hanafail"] = self.failed_observations
        if self.enabled:
            shown["chkfail"] = self.failed_checks
            shown["chkdown"] = self.times_down
            shown["downtime"] = int(self.seconds_down(now))
        if self.checked:
            shown |= self._last_check()
        return shown

    def _last_check(self) -> dict[str, str | int]:
        status = self.last.status
        shown: dict[str, str | int] = {
            "check_status": f"* {status.code}" if self.running else status.code,
            "check_desc": status.description,
            "last_chk": "" if self.running else self.last.info,
            "check_rise": self.judge.rise,
            "check_fall": self.judge.fall,
            "check_health": self.judge.health,
        }
        if status.has_code:
            shown["check_code"] = 0 if self.running else self.last.code
        if status.has_duration:
            shown["check_duration"] = int(self.last.duration * 1000)
        return shown

    def state(self) -> dict[str, int]:
        """The columns of `show servers state` that health has to fill; of `srv_admin_state`, what is inherited."""
        bits = 0
        if self.settings is not None:
            bits = _CONFIGURED | (_IN_PROGRESS if self.running else 0)
            if self.enabled:
                bits |= _ENABLED | (_PAUSED if self.maintained else 0)
        return {
            "srv_op_state": int(self.operation),
            "srv_admin_state": (_MAINTAINED_THROUGH if self.maintained_through is not None else 0)
            | (_DRAINED_THROUGH if self.drained_through is not None else 0),
            "srv_check_status": self.last.status.number,
            "srv_check_result": int(Result.UNKNOWN if self.running else self.last.status.result),
            "srv_check_health": self.judge.health,
            "srv_check_state": bits,
        }
