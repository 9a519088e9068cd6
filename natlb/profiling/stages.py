"""The stages of a packet's way, and where in natlb's source each of them begins.

A comment on a line of its own, `# -- lookup`, marks what follows in its block as belonging to that stage, up to the
next mark of the same block. Readers find the stages where the profiler does, and code that moves takes its marks along:

    # -- lookup
    connection = self._parts[hash(key) & MASK].get(key)
    if connection is None:
        # -- open
        return self._first_segment(view, now)
    # -- state

A function without marks belongs to whichever stage has called it: of all the calls that are going on, the innermost
marked line counts. What no marked line has called - the event loop, health checks, the stats socket - is elsewhere.

That every stage is met by the packets that should meet it is tested (`tests/unit/profiling/test_way.py`): a change that
loses a mark does not go by unseen.
"""

import re
from collections.abc import Iterable
from enum import Enum
from typing import Final

MARK: Final = "# -- "
"""What a mark begins with."""

_MARK: Final = re.compile(rf"\s+{MARK}([a-z]+)")


class Stage(Enum):
    """A stage, in the order in which a packet comes by."""

    RECEIVE = "receive"
    """It is fetched from the kernel."""
    PARSE = "parse"
    """Its headers are read."""
    LOOKUP = "lookup"
    """The table is asked whose it is."""
    OPEN = "open"
    """It is a connection's first: the rules, the choice of a server, the entry in the table; or it is refused."""
    STATE = "state"
    """What it means for its connection: state, window, counters, timeouts."""
    REWRITE = "rewrite"
    """Addresses, ports and checksums are replaced."""
    VERDICT = "verdict"
    """It is given back to the kernel, which carries it on in the same system call."""
    ELSEWHERE = "elsewhere"
    """Whatever else natlb does: the event loop, news of connections, checks, the clock, the stats socket."""


_LEAVING: Final = ("return", "raise ", "continue", "break")
_BRANCHING: Final = ("else:", "elif ", "except", "case ")

_STAGES: Final = {stage.value: stage for stage in Stage}


def mark_of(line: str) -> Stage | None:
    """Return the stage that a line marks the beginning of, or None. Any other comment is an ordinary one."""
    found = _MARK.fullmatch(line.rstrip())
    return _STAGES.get(found[1]) if found else None


def stages_of(lines: Iterable[str], first: int = 1) -> dict[int, Stage]:
    """Return the stages of the lines of a function, by their numbers from `first` on; those without one are left out.

    A mark itself belongs to the stage that it ends: that of the line before it from which one comes to it.
    """
    found: dict[int, Stage] = {}
    blocks: list[tuple[int, Stage]] = []
    """The marks that hold: how far each is indented, the outermost first."""
    before: Stage | None = None
    """The stage of the last line that runs on into the next one of its block."""
    opened: tuple[int, Stage | None] | None = None
    """If the last line has opened another branch: how far it is indented, and its stage."""
    left: int | None = None
    """If the last statement has left the block: how far it is indented. Its further lines are by more."""
    for number, line in enumerate(lines, start=first):
        text = line.strip()
        if not text:
            continue
        indented = line.index(text[0])
        while blocks and indented < blocks[-1][0]:
            blocks.pop()
        stage = mark_of(line)
        if stage is not None:
            ended = opened[1] if opened is not None and opened[0] < indented else before
            if ended is not None:
                found[number] = ended
            if blocks and indented == blocks[-1][0]:
                blocks.pop()
            blocks.append((indented, stage))
            before, opened, left = stage, None, None
            continue
        if blocks:
            found[number] = blocks[-1][1]
        if text[0] == "#" or (left is not None and (indented > left or text[0] in ")]}")):
            continue
        left = indented if text.startswith(_LEAVING) else None
        opened = (indented, found.get(number)) if text.startswith(_BRANCHING) else None
        if left is None and opened is None:
            before = found.get(number)
    return found
