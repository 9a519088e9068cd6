"""The terminal, taken and given back.

Keys are read as they are pressed, without echo; Ctrl-C stays a signal. What was on the screen before is there again
afterwards, on terminals that can. Whatever ends the program, `Terminal` as a context manager leaves the terminal as it
was.
"""

import contextlib
import os
import re
import signal
import sys
import termios
import tty
from types import TracebackType
from typing import Final, Self

from rich.console import Console, ConsoleDimensions, RenderableType
from rich.screen import Screen

_SMALLEST: Final = (20, 6)
"""Columns and lines; what does not fit on a smaller one is cut off there."""

_DUMB: Final = (None, "", "dumb", "unknown")
"""What `TERM` says, or does not, of a terminal that has no screen."""

_SEQUENCE: Final = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|[\x00-\x7f]")
"""A key: what a terminal sends for one that has no character, or an ASCII character."""

_NAMES: Final = {
    b"\t": "tab",
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[5~": "pageup",
    b"\x1b[6~": "pagedown",
    b"\x1b[H": "home",
    b"\x1bOH": "home",
    b"\x1b[1~": "home",
}


def keys(received: bytes) -> list[str]:
    """Return the names of the keys in what a terminal sent: characters are their own; what is unknown is left out."""
    return [
        _NAMES[found] if found in _NAMES else found.decode("ascii")
        for found in _SEQUENCE.findall(received)
        if found in _NAMES or (len(found) == 1 and found.isascii() and chr(found[0]).isprintable())
    ]


class Terminal:
    """The screen and the keyboard."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
        self._keyboard = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._keyboard)

    @staticmethod
    def suffices() -> bool:
        """Whether a screen can be drawn on: else only lines can be written, one after the other."""
        return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") not in _DUMB

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when keys were pressed."""
        return self._keyboard

    def size(self) -> tuple[int, int]:
        """Return columns and lines, as they are now."""
        size = os.get_terminal_size(sys.stdout.fileno())
        return max(_SMALLEST[0], size.columns), max(_SMALLEST[1], size.lines)

    def show(self, drawn: RenderableType) -> None:
        """Show a screen in the place of the one before."""
        self._console.size = ConsoleDimensions(*self.size())
        self._console.print(Screen(drawn), end="")

    def pressed(self) -> list[str] | None:
        """Return the keys that were pressed, or None when there is no keyboard any more."""
        try:
            received = os.read(self._keyboard, 1024)
        except OSError:
            return None
        return keys(received) if received else None

    def suspend(self) -> None:
        """Give the terminal back, stop as Ctrl-Z asks, and take it again when we are told to go on."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()

    def _take(self) -> None:
        tty.setcbreak(self._keyboard)
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)

    def _give_back(self) -> None:
        # A terminal that is gone (SIGHUP) needs nothing any more.
        with contextlib.suppress(OSError, termios.error):
            self._console.show_cursor(True)
            self._console.set_alt_screen(False)
            termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._before)

    def __enter__(self) -> Self:
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()
