"""The loop of `natlb top`: ask, draw, wait for a key or for the next time.

Asking and drawing are apart: a natlb that does not answer holds up no key, and a key is obeyed at once, with the sample
at hand. Connections are asked for only while they are shown, and of a large table only those heard last, which is
where the busy ones are: so watching costs the datapath little, however large the table is.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import Final

from rich.console import Console

from natlb.arguments import Arguments, number, seconds
from natlb.top import replies
from natlb.top.client import Unreachable, ask
from natlb.top.rates import Sample
from natlb.top.screen import clamp, draw, extent, height_of, page
from natlb.top.state import State, View
from natlb.top.terminal import Terminal

SOCKET: Final = "/run/natlb/admin.sock"
"""The stats socket, where -s names no other."""

MOST_CONNECTIONS: Final = 500
"""Connections that natlb is asked for."""

_MOST_BYTES: Final = 1 << 20
_MOST_SECONDS: Final = 2.0
"""How much of a reply is read, and for how long: a HAProxy lists all of its connections, however many."""

_STAT_BYTES: Final = 64 << 20
"""The same of `show stat`: a thousand servers make a third of a megabyte."""

_DENIED: Final = "Permission denied"
"""What a socket says that allows less."""


async def take(path: str, view: View) -> Sample:
    """Ask for all that a view shows. Raises Unreachable."""
    at = time.monotonic()
    info = replies.info((await ask(path, "show info", most=_MOST_BYTES, seconds=_MOST_SECONDS)).text)
    stat = await ask(path, "show stat", most=_STAT_BYTES, seconds=_MOST_SECONDS)
    if view is not View.CONNECTIONS:
        return Sample(at, info, replies.stat(stat.text))
    command = f"show sess recent {MOST_CONNECTIONS}"  # HAProxy knows no 'recent', and lists all
    sess = await ask(path, command, most=_MOST_BYTES, seconds=_MOST_SECONDS)
    refusal = replies.refusal(sess.text)
    if refusal == _DENIED:
        refusal = f"{_DENIED}: connections need 'level operator' on the stats socket"
    return Sample(at, info, replies.stat(stat.text), replies.sessions(sess.text), sess.whole, refusal)


class Top:
    """One run in a terminal."""

    def __init__(self, path: str, interval: float, terminal: Terminal) -> None:
        self._path = path
        self._interval = interval
        self._terminal = terminal
        self._state = State()
        self._samples: tuple[Sample | None, Sample | None] = (None, None)
        self._message = ""
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self, first: Sample) -> None:
        """Show what is going on until the user, or a signal, ends it."""
        self._samples = None, first
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signum, self._leave)
        loop.add_signal_handler(signal.SIGWINCH, self._changed.set)
        loop.add_signal_handler(signal.SIGTSTP, self._pause)
        loop.add_reader(self._terminal.fileno(), self._on_keys)
        asking = loop.create_task(self._keep_asking())
        self._changed.set()
        try:
            while not self._state.over:
                await self._changed.wait()
                self._changed.clear()
                self._draw()
        finally:
            loop.remove_reader(self._terminal.fileno())
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking

    def _draw(self) -> None:
        before, now = self._samples
        width, height = self._terminal.size()
        if now is not None:
            clamp(self._state, now, height)
            self._terminal.show(draw(self._state, now, before, width, height, self._message))

    def _on_keys(self) -> None:
        pressed = self._terminal.pressed()
        if pressed is None:
            self._leave()
            return
        view, paused = self._state.view, self._state.paused
        for key in pressed:
            self._state.press(key, page(self._terminal.size()[1]))
        if self._state.view is not view or (paused and not self._state.paused):
            self._hurry.set()
        self._changed.set()

    def _pause(self) -> None:
        self._terminal.suspend()
        self._changed.set()

    def _leave(self) -> None:
        self._state.over = True
        self._changed.set()

    async def _keep_asking(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), self._interval)
            hurried = self._hurry.is_set()
            self._hurry.clear()
            if self._state.paused and not hurried:
                continue
            try:
                sample = await take(self._path, self._state.view)
            except Unreachable as error:
                self._message = f"Connection lost: {error}; trying again"
            else:
                self._message = ""
                self._samples = self._samples[1], sample
            self._changed.set()


async def _plainly(path: str, interval: float, count: int | None) -> None:
    """Write sample after sample, every view of each, for a file or a terminal that can do no more."""
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, no_color=True)
    before: Sample | None = None
    done = 0
    while count is None or done < count:
        if done:
            await asyncio.sleep(interval)
        now = await take(path, View.CONNECTIONS)
        for view in View:
            console.print(draw(State(view), now, before, console.width, height_of(extent(now, view)), None))
        before, done = now, done + 1


def main(argv: list[str]) -> int:
    """Run `natlb top` with these arguments and return its exit code."""
    options = _arguments().parse_args(argv)
    if options.count is None and Terminal.suffices():
        return _in_terminal(options.socket, options.interval)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_plainly(options.socket, options.interval, options.count))
    except Unreachable as error:
        return _complain(error)
    except BrokenPipeError:  # whoever reads has read enough; what is still in the buffer would fail once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _in_terminal(path: str, interval: float) -> int:
    async def run() -> int:
        try:
            first = await take(path, View.PROXIES)
        except Unreachable as error:
            return _complain(error)
        with Terminal() as terminal:
            await Top(path, interval, terminal).run(first)
        return 0

    try:
        return asyncio.run(run())
    except KeyboardInterrupt:  # before the first screen
        return 0


def _complain(error: Unreachable) -> int:
    remedy = (
        "run it as root, or as somebody whom the socket's 'mode', 'user' and 'group' let in"
        if isinstance(error.__cause__, PermissionError)
        else "is natlb running, with 'stats socket' naming this path? -s names another"
    )
    sys.stderr.write(f"natlb top: {error}; {remedy}\n")
    return 1


def _arguments() -> argparse.ArgumentParser:
    parser = Arguments(
        prog="natlb top",
        description="Watch the proxies, servers and busiest connections of a running natlb. Keys: see ? there.",
        allow_abbrev=False,
    )
    parser.add_argument("-s", dest="socket", metavar="SOCKET", default=SOCKET, help="stats socket (%(default)s)")
    parser.add_argument(
        "-i", dest="interval", metavar="SECONDS", type=seconds(0.2), default=1.0, help="time between two looks (1)"
    )
    parser.add_argument(
        "-n", dest="count", metavar="COUNT", type=_count, help="write so many samples as plain text, and end"
    )
    return parser


def _count(text: str) -> int:
    return number(text, "a number of samples, 1 or more", 1)
