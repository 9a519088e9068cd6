"""How a command line of the lab ends: every way to fail becomes a line on standard error and an exit status.

Whoever started something cleans up on the way here: an interrupt and a polite end arrive as exceptions.
"""

import argparse
import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from netns.errors import LabError


class _Interrupt(KeyboardInterrupt):
    """Ctrl-C, under a name of its own.

    Python's own exception, when it leaves code that was given as text (dataclasses give theirs so, while a module is
    imported), has Python end by the signal after all, whatever was done about it.
    """


def _say_nothing(_: object) -> None:
    """Be told by something that was half made when a signal came that it cannot be thrown away in order."""


@contextlib.contextmanager
def for_people(script: str) -> Iterator[None]:
    """Run the block in the name of a script: 1 when it fails, 128 and the signal's number when a signal ends it.

    The scripts start Python with SIGINT blocked, since for its first tenth of a second it knows nothing of this.
    """

    def end(signum: int, _: FrameType | None) -> None:
        sys.unraisablehook = _say_nothing
        raise SystemExit(128 + signum)

    def interrupt(*_: object) -> None:
        sys.unraisablehook = _say_nothing
        raise _Interrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it may be ignored, in the background
        signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"\n{script}: interrupted", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    except BrokenPipeError:
        # The reader went away (lab.sh | head). Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except LabError as error:
        print(f"{script}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except Exception as error:
        if os.environ.get("NATLB_LAB_DEBUG"):
            raise
        print(f"{script}: {type(error).__name__}: {error} (NATLB_LAB_DEBUG=1 tells more)", file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        # It is done, or cleaned up. While Python ends, a tenth of a second, a signal would make a failure of it.
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)


def ask(prompt: str) -> str:
    """Return the line that a person types, "" at the end of the input; Ctrl-C ends it, whenever it comes.

    With input() it would not: a signal between Python's last look for one and the read in C is noticed after the next
    line only, and whoever pressed Ctrl-C as the prompt appeared waits. What a signal writes to the pipe is there before
    select() sleeps as well as after.
    """
    print(prompt, end="", flush=True)
    noticed, notice = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(notice, warn_on_full_buffer=False)
    try:
        while sys.stdin not in select.select([sys.stdin, noticed], [], [])[0]:
            os.read(noticed, 4096)  # a signal that did not end it
    finally:
        signal.set_wakeup_fd(before)
        os.close(noticed)
        os.close(notice)
    return sys.stdin.readline()


def output_file(text: str) -> Path:
    """Return a place to write to, as the type of an option: that there is one is found out before anything is done."""
    path = Path(text)
    if not path.parent.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' cannot be a file: is there such a directory?")
    return path


class Progress:
    """Says on standard error what is being done: in one line of a terminal, or line by line where that is none."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()

    def passing(self, text: str) -> None:
        """Show what is out of date in a second: on a terminal alone."""
        if self._terminal:
            self(text)

    def __call__(self, text: str) -> None:
        """Show what is being done now; nothing, when it is all done."""
        if self._terminal:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        elif text:
            print(text, file=sys.stderr, flush=True)
