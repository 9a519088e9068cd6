"""What is written in the log about health: HAProxy's lines, word for word, so that what reads its logs reads these."""

from dataclasses import dataclass

from natlb.health.server import Cause, Operation, ServerHealth
from natlb.health.status import Result


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a line tells besides the server's health."""

    backup: bool
    """Whether it is a backup server."""
    active: int
    """Usable servers of its backend that are no backup servers."""
    backups: int
    """Usable ones that are."""
    live: int
    """Connections open to it."""
    queued: int = 0
    """Connections that wait for it, or for any server of its backend."""
    drained: bool = False
    """Whether the operator wants it to get no new connections."""
    unweighted: bool = False
    """Whether its weight is 0."""


def of_check(health: ServerHealth, *, backup: bool, unweighted: bool = False) -> str:
    """The line of one check: `Health check for server b/s succeeded, reason: ...`."""
    conditionally = "conditionally " if health.last.status.result is Result.CONDITIONALLY_PASSED else ""
    outcome = "failed" if health.last.status.result is Result.FAILED else "succeeded"
    judge = health.judge
    if judge.up:
        standing = f"{judge.health - judge.rise + 1}/{judge.fall} {'DRAIN' if unweighted else 'UP'}"
    else:
        standing = f"{judge.health}/{judge.rise} DOWN"
    return (
        f"Health check for {'backup ' if backup else ''}server {health.name} {conditionally}{outcome}"
        f"{_reason(health)}, status: {standing}."
    )


def of_change(
    health: ServerHealth, cause: Cause, before: Operation, around: Surroundings, *, told_of_check: bool
) -> str:
    """The line of a change: `Server b/s is DOWN, reason: ...`. With `told_of_check` the reason was logged already."""
    backup = "Backup " if around.backup else ""
    return f"{backup}Server {health.name} {_news(health, cause, before, around, told_of_check)}."


def of_drain(health: ServerHealth, around: Surroundings) -> str:
    """The line of a server that begins to be drained, or is drained no more, for itself or with the one it tracks."""
    if around.drained:
        through = f" via {health.drained_through.name}" if health.drained_through is not None else ""
        news = f"enters drain state{through}{_left(health, around)}"
    else:
        news = f"is {'DOWN' if health.operation is Operation.STOPPED else 'UP'} (leaving forced drain)"
    return f"{'Backup ' if around.backup else ''}Server {health.name} {news}."


def of_drain_that_goes_on(health: ServerHealth, *, backup: bool, forced: bool) -> str:
    """The line of a server that is drained, whatever else has changed: `forced` by the operator, or through another."""
    news = "remains in forced drain mode"
    if not forced and health.drained_through is not None:
        news = f"is leaving forced drain but remains in drain mode via {health.drained_through.name}"
    return f"{'Backup ' if backup else ''}Server {health.name} {news}."


def of_backend(name: str) -> tuple[str, str]:
    """The line of a backend whose last server went, for syslog and for standard error: HAProxy quotes the name once."""
    return f"backend {name} has no server available!", f"backend '{name}' has no server available!"


def _news(health: ServerHealth, cause: Cause, before: Operation, around: Surroundings, told_of_check: bool) -> str:
    through = f" via {health.maintained_through.name}" if health.maintained_through is not None else ""
    if cause in (Cause.MAINTENANCE, Cause.MAINTENANCE_THROUGH):
        if not health.maintained:
            up = "DOWN" if health.operation is Operation.STOPPED else "UP"
            forced = " forced" if cause is Cause.MAINTENANCE else ""
            return f"is {up}/{'DRAIN' if around.drained else 'READY'} (leaving{forced} maintenance)"
        if before is Operation.STOPPED:
            return f"was DOWN and now enters maintenance{through}"
        return f"is going DOWN for maintenance{through}{_left(health, around)}"
    what = {Operation.STOPPED: "is DOWN", Operation.STOPPING: "is stopping", Operation.RUNNING: "is UP"}
    if cause is Cause.OPERATOR:
        why = ", changed from CLI"
    elif cause is Cause.TRACKED:
        why = f" via {health.tracked.name}" if health.tracked is not None else ""
    else:
        why = "" if told_of_check else _reason(health)
    return what[health.operation] + why + _left(health, around)


def _left(health: ServerHealth, around: Surroundings) -> str:
    running_on_backup = " Running on backup." if around.backups and not around.active else ""
    if health.operation is Operation.STOPPED:
        counts = f"{around.live} sessions active, 0 requeued, {around.queued} remaining in queue"
        return f". {around.active} active and {around.backups} backup servers left.{running_on_backup} {counts}"
    counts = f"0 sessions requeued, {around.queued} total in queue"
    return f". {around.active} active and {around.backups} backup servers online.{running_on_backup} {counts}"


def _reason(health: ServerHealth) -> str:
    last = health.last
    code = f", code: {last.code}" if last.status.has_code else ""
    info = f', info: "{_escaped(last.info)}"' if last.info else ""
    duration = f", check duration: {int(last.duration * 1000)}ms" if last.status.has_duration else ""
    return f", reason: {last.status.description}{code}{info}{duration}"


def _escaped(text: str) -> str:
    """A text as HAProxy puts it between quotes."""
    return "".join(f"<{ord(character):02X}>" if character in '<>"' else character for character in text)
