"""Log lines in HAProxy's layout, on standard error: `[WARNING]  (17070) : Server nodes/server1 is DOWN, ...`.

Where standard error is systemd's journal, which $JOURNAL_STREAM tells, that knows the process, and wants to know how
urgent a line is: `<4>Server nodes/server1 is DOWN, ...` (sd-daemon(3)).

A line that nobody takes must not hold up a packet. Standard error may be a pipe whose reader has stopped, a terminal
that was told to wait (Ctrl-S), a socket of a journal that hangs; it may be closed, or a file on a disk that is full. So
while packets are handled (`never_wait`) a descriptor is asked first whether it takes something, and is given no more
than a pipe takes whole; what it does not take is lost, and counted, and the next line that gets through is followed by
one that says how many were. Before that, while natlb starts, it waits: a complaint about the configuration is what its
reader asked for.

An error of natlb's own is told with the place where it happened, and each kind of it once in a while only (`fault`): it
may well come with every packet.
"""

import contextlib
import errno
import io
import logging
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Final

NOTICE: Final = 25
"""Between INFO and WARNING: what an operator wants to know of a normal run."""

_NAMES = {logging.CRITICAL: "ALERT", logging.ERROR: "ALERT", logging.WARNING: "WARNING", NOTICE: "NOTICE"}

_LINES_OF_JOURNAL: Final = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    NOTICE: 5,
    logging.INFO: 6,
    logging.DEBUG: 7,
}
"""How urgent, as syslog numbers it, each level is to the journal."""

_TOLD_AGAIN_AFTER: Final = 10.0
"""Seconds in which an error of natlb's own is not told a second time."""

_MOST_FAULTS: Final = 64
"""Kinds of errors that are remembered as told."""

_NO_MEMORY: Final = frozenset((errno.ENOMEM, errno.ENOBUFS))
_NO_THREAD: Final = "can't start new thread"
"""What Python says where there is no memory for a thread's stack."""
_HERE: Final = Path(__file__).parent

log: Final = logging.getLogger("natlb")


class Level(IntEnum):
    """How urgent a line is, as syslog numbers it."""

    EMERG = 0
    ALERT = 1
    CRIT = 2
    ERR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


class _Layout(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        name = f"[{_NAMES.get(record.levelno, record.levelname)}]"
        return f"{name:<11}({record.process}) : {record.getMessage()}"


class _JournalLayout(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return for_journal(record.levelno, record.getMessage())


def for_journal(level: int, text: str) -> str:
    """Return a text as the journal wants it: a prefix for each line, since each becomes an entry of its own."""
    urgency = f"<{_LINES_OF_JOURNAL.get(level, 6)}>"
    return "\n".join(urgency + line for line in text.splitlines())


def is_journal(descriptor: int = 2) -> bool:
    """Whether a descriptor, standard error if none is named, is the journal ($JOURNAL_STREAM, systemd.exec(5))."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _StandardError(logging.Handler):
    """Writes to standard error, come of it what may."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = True
        """Whether a line may wait until it is taken."""
        self._untold = 0
        """Lines that were not taken, and that nothing was said of."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self.write(self.format(record)) and (lost := self._untold):
                text = f"{lost} lines of this log were lost: standard error did not take them"
                if self.write(self.format(logging.LogRecord(log.name, logging.WARNING, "", 0, text, None, None))):
                    self._untold -= lost
        except MemoryError:
            self._untold += 1

    def write(self, line: str) -> bool:
        """Write a line; return whether it was taken."""
        try:
            taken = self._try(line)
        except (OSError, MemoryError, ValueError):  # ValueError is what a closed file says
            taken = False
        self._untold += not taken
        return taken

    def _try(self, line: str) -> bool:
        file = sys.stderr
        if file is None:  # it was closed when natlb was started
            return False
        try:
            descriptor = file.fileno()
        except (AttributeError, io.UnsupportedOperation):  # some other program's object, which will know what to do
            file.write(f"{line}\n")
            file.flush()
            return True
        data = line.encode("utf-8", "replace") + b"\n"
        if self.waits:
            while data:
                data = data[os.write(descriptor, data) :]
            return True
        return write_at_once(descriptor, data)


def write_at_once(descriptor: int, line: bytes) -> bool:
    """Write a line if it is taken whole, without waiting; return whether it was. A long one is cut.

    Raises OSError where the descriptor is none, or nobody is at its other end.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if [(descriptor, select.POLLOUT)] != poll.poll(0):
        return False
    if len(line) > select.PIPE_BUF:  # what a pipe takes at once, or not at all, when it says that it takes something
        line = line[: select.PIPE_BUF - 1] + b"\n"
    return os.write(descriptor, line) == len(line)


_standard_error: Final = _StandardError()


def set_up(level: int) -> None:
    """Send natlb's log, from `level` up, to standard error."""
    _standard_error.setFormatter(_JournalLayout() if is_journal() else _Layout())
    log.handlers = [_standard_error]
    log.setLevel(level)
    log.propagate = False


@contextlib.contextmanager
def never_wait() -> Iterator[None]:
    """Let no line wait within the block: what is not taken at once is lost."""
    before, _standard_error.waits = _standard_error.waits, False
    try:
        yield
    finally:
        _standard_error.waits = before


def say(line: str) -> None:
    """Write a line as it is to standard error, where the log goes."""
    _standard_error.write(line)


def notice(text: str) -> None:
    """Log one line that a normal run has."""
    log.log(NOTICE, "%s", text)


def counted(number: int, what: str) -> str:
    """Return how many there are of something, in words that fit: "1 session", "2 sessions"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


class _Told:
    """What was told of one kind of error."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.more = 0
        """How often it has been since."""


_faults: dict[str, _Told] = {}


def fault(what: str, error: BaseException | None, clock: Callable[[], float] = time.monotonic) -> None:
    """Tell that `what` has happened because of an error that should not exist, or for want of memory.

    The same `what` is told once in ten seconds, and then how often it was. `error` is let go of: what it holds on to,
    by its traceback, may be large.
    """
    now, told = clock(), _faults.get(what)
    if told is not None and now - told.at < _TOLD_AGAIN_AFTER:
        told.more += 1
        return
    if len(_faults) >= _MOST_FAULTS:
        _faults.clear()
    _faults[what] = _Told(now)
    more = f" ({told.more} times more since it was told last)" if told is not None and told.more else ""
    if (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno in _NO_MEMORY)
        or (isinstance(error, RuntimeError) and str(error) == _NO_THREAD)
    ):
        log.error(
            "%s for want of memory: the machine, a cgroup or a limit ('ulimit -v') gives natlb no more%s", what, more
        )
    else:
        log.error("%s because of an internal error, please report it: %r%s%s", what, error, _place_of(error), more)


def _place_of(error: BaseException | None) -> str:
    """Return the innermost line of natlb's own that an error went through."""
    place, step = "", error.__traceback__ if error is not None else None
    while step is not None:
        file = Path(step.tb_frame.f_code.co_filename)
        if file.is_relative_to(_HERE):
            place = f" at {file.relative_to(_HERE.parent)}:{step.tb_lineno}"
        step = step.tb_next
    return place


Listener = Callable[[str, Level, str], None]
_listeners: list[Listener] = []


def status(proxy: str, level: Level, text: str, also_quoted: str | None = None) -> None:
    """Tell of a change of a proxy or of one of its servers: on standard error, and to the targets of its `log` lines.

    On standard error all of them are warnings but those that are emergencies to syslog, as in HAProxy. `also_quoted` is
    what is written there in place of `text`, where HAProxy quotes a name on the one way only.
    """
    log.log(logging.CRITICAL if level is Level.EMERG else logging.WARNING, "%s", also_quoted or text)
    for listener in _listeners:
        listener(proxy, level, text)


def listen(listener: Listener) -> Callable[[], None]:
    """Hand each `status` to a listener as well: its proxy, level and text. Return what takes the listener away."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)
