"""What stays of a natlb in the foreground that was reloaded in place: its number.

Whoever started natlb waits for that process, and sends signals to it. So it does not end when another has taken its
place, but becomes this program: it passes signals on, and ends when the natlb that goes on has ended, in the same way.
That one may have been followed by others meanwhile: they are orphans when their parents end, and come to live here.

Run as a file, by path, with nothing but the standard library: it is to be small, and to need nothing of an installation
that may be replaced while it runs.
"""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

_PR_SET_CHILD_SUBREAPER = 36
"""linux/prctl.h: orphans among the descendants become children of this process: it outlasts execve."""


def prepare() -> list[int]:
    """Adopt orphans from now on, and obey no signal any more; return a list of those that come, for `become`."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    noted: list[int] = []
    for signum in PASSED_ON:
        signal.signal(signum, lambda number, _: noted.append(number))
    return noted


def become(noted: list[int]) -> NoReturn:
    """Turn this process, whose child a natlb is, into its keeper, and pass on the signals that were noted."""
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    for signum in noted:
        os.kill(os.getpid(), signum)  # it waits until the keeper is ready for it
    os.execv(sys.executable, [sys.executable, "-I", "-S", __file__])  # noqa: S606 - there is no shell in it


def keep() -> int:
    """Pass signals on to the children until there are none; return the last one's status, as `os.wait` tells it."""
    asked: list[int] = []

    def pass_on(signum: int, _: FrameType | None = None) -> None:
        if signum in _ENDING:
            asked.append(signum)
        for child in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signum)

    for passed_on in PASSED_ON:
        signal.signal(passed_on, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    status = 0
    while True:
        try:
            _, status = os.wait()
        except ChildProcessError:
            return status
        # One that was just handing over may have heard it as the last thing, and its successor not at all.
        for signum in asked[-1:]:
            pass_on(signum)


def _children() -> list[int]:
    own, found = str(os.getpid()), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name, in brackets, may hold anything; after it come the state and the parent.
                if (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1] == own:
                    found.append(int(entry.name))
    return found


def _end_as(status: int) -> NoReturn:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with contextlib.suppress(OSError):  # of SIGKILL nothing else can be done
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    _end_as(keep())
