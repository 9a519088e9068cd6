"""Running in the background: the command returns when natlb is ready, and says by its exit code if it is not.

The process is forked before anything is set up. The one that was started waits for a byte from the other, which is
written when packets may come; if there is none, because the other has ended, it has failed, and has said on standard
error why. Only then does the other let go of the terminal. The journal is none: what systemd has started goes on
telling it.

It is forked twice, so that from its first moment it is a child of process 1, and not of the one that waits for it. A
service manager wants it so: of a process that has another parent it does not wait for the end, and kills it at once
when it was to stop.

The process number is written to a file that appears whole or not at all: to another name first, which then takes the
place of the old one.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from natlb.errors import ProcessError
from natlb.log import is_journal
from natlb.remedies import OF_FILES


def fork() -> Callable[[], None]:
    """Go on in the background; return what is to be called when everything is ready.

    The process that was started does not return from here: it ends with 0 once that was called, and with 1 when the
    other one ends before.
    """
    reading, writing = os.pipe()
    if between := os.fork():
        os.close(writing)
        os.waitpid(between, 0)
        is_ready = os.read(reading, 1)
        os._exit(0 if is_ready else 1)
    between = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == between:
        time.sleep(0.001)
    os.close(reading)
    os.setsid()

    def ready() -> None:
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            if not is_journal(standard):
                os.dup2(nothing, standard)
        if nothing > 2:
            os.close(nothing)
        with contextlib.suppress(BrokenPipeError):
            os.write(writing, b"!")
        os.close(writing)

    return ready


def write_pidfile(path: str) -> None:
    """Write this process's number to a file; ProcessError, with the remedy, when that cannot be done."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
            os.fchmod(descriptor, 0o644)  # not by its name, which may be another's where others may write
        temporary.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        remedy = OF_FILES.get(error.errno, "give another path").format(directory=target.parent)
        raise ProcessError(f"cannot create pidfile {path}: {error.strerror}; {remedy}") from error
