"""`lab.sh watch`: the client's wire, natlb's NAT table, the servers' wire, one above the other, at reading speed.

Each packet has its line on both wires, so that the two can be compared, and below it the bytes that a balancer may
write. Without a terminal the same is written as text, for so many packets and no more.
"""

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console, RenderableType
from rich.live import Live

from netns.build import Lab
from netns.draw import Pen
from netns.observe import Visitor
from netns.seeing.feed import feed
from netns.seeing.panes import screen, text
from netns.seeing.scene import Moment, Scene
from netns.seeing.words import Words, need, number, seconds
from netns.topology import LINK

_LOOK = 0.02
"""Seconds between two questions to natlb."""
_LINGER = 0.2
"""Seconds that a visit takes before and after its request."""
_BACKLOG = 200
"""Packets that wait to be shown; any more are only counted."""
_SHOWN = 100
"""Packets that a very high terminal has room for."""


def watch(lab: Lab, pen: Pen, words: Sequence[str]) -> int:
    """Show what passes, and what natlb makes of it."""
    options = _words().parse_args(words)
    need(lab)
    live = sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb", "unknown")
    client = lab.topology.client
    places = [(host.name, LINK) for host in lab.topology.neighbours]
    lasts = options.seconds or (None if live else 3.0 if options.visit else 30.0)
    with feed(lab, places, "tcp") as source, ThreadPoolExecutor(1) as aside:
        scene = Scene(lab, source)
        visit = aside.submit(_visit, lab) if options.visit else None
        ends = None if lasts is None else time.monotonic() + lasts
        with contextlib.suppress(KeyboardInterrupt):
            if live:
                _in_terminal(scene, pen, ends, options.pace, options.packets)
            else:
                print(f"Watching what {client.name} and the servers send; {options.packets or 20} packets at most.")
                _plainly(scene, pen, ends, options.packets or 20)
        if visit is not None:
            visit.result()  # raises what it failed with
    return 0


def _words() -> Words:
    words = Words("watch", "Show client wire, NAT table and server wire, packet by packet. Ctrl-C ends it.")
    words.add_argument("--visit", action="store_true", help="let the client make a request, to have something to see")
    words.add_argument("--pace", type=seconds, default=0.7, metavar="N", help="seconds for a packet (%(default)s)")
    words.add_argument("--packets", type=number, metavar="N", help="end after so many (in a terminal: never)")
    words.add_argument("--seconds", type=seconds, metavar="N", help="end after so long (the same)")
    return words


def _visit(lab: Lab) -> None:
    """Make a request, slowly enough for natlb to be asked for its table in between."""
    with Visitor(lab, lab.topology.balancer.port) as visitor:
        time.sleep(_LINGER)
        visitor.get("/")
        time.sleep(_LINGER)


def _in_terminal(scene: Scene, pen: Pen, ends: float | None, pace: float, packets: int | None) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    backlog: deque[Moment] = deque()
    shown: deque[Moment] = deque(maxlen=_SHOWN)
    missed = count = 0
    due = 0.0

    def drawing() -> RenderableType:
        return screen(pen, list(shown), scene.began, scene.silent, console.height, missed)

    with Live(drawing(), console=console, screen=True, auto_refresh=False) as display:
        drawn = 0.0
        for moments in _looks(scene, ends):
            for moment in moments:
                if len(backlog) < _BACKLOG:
                    backlog.append(moment)
                else:
                    missed += 1
            now = time.monotonic()
            if backlog and now >= due:
                shown.append(backlog.popleft())
                count += 1
                due, drawn = now + pace, 0.0
            if now >= drawn:
                display.update(drawing(), refresh=True)
                drawn = now + 0.5
            if packets is not None and count >= packets and now >= due - pace / 2:
                break


def _looks(scene: Scene, ends: float | None) -> Iterator[list[Moment]]:
    while ends is None or time.monotonic() < ends:
        yield scene.look()
        time.sleep(_LOOK)


def _plainly(scene: Scene, pen: Pen, ends: float | None, packets: int) -> None:
    count = 0
    for moments in _looks(scene, ends):
        for moment in moments[: packets - count]:
            count += 1
            for line in text(pen, moment, scene.began, scene.silent):
                print(line)
            sys.stdout.flush()
        if count >= packets:
            return
