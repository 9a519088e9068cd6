"""The commands of the course: `lesson`, `check`, `hint`, `solve`.

`lesson N` takes away whatever lab there is and builds the one that the lesson begins with, so that nothing of yesterday
is in the way. It stays up for the exercise. A lesson that is interrupted takes its lab away again; one that merely
fails leaves it, to be looked at.

The lab's directory remembers the lesson, and how many hints were given. Both go with the lab.
"""

import subprocess
from collections.abc import Sequence

from netns import draw
from netns.build import Lab
from netns.claims import report, told
from netns.draw import Pen
from netns.errors import LabError, NotSeenError
from netns.lessons.catalogue import Beginning, Lesson, lesson, lessons
from netns.lessons.player import Player, Quit
from netns.way_out import begin, begun, with_a_way_out

_NEXT = {
    "check {}": "is it done?",
    "hint {}": "a nudge",
    "solve {}": "how it is done",
    "down": "take the lab away",
}
"""What can be done after a lesson."""


def list_lessons(lab: Lab, pen: Pen) -> int:
    """Print the table of contents."""
    every = lessons()
    rows = [["", "lesson", "min", "shows"]]
    rows += [[str(each.number), each.title, str(each.minutes), each.shows] for each in every]
    heading, *lines = draw.table(rows, right=(0, 2))
    print(pen.bold(heading), *lines, sep="\n")
    print(f"\n{sum(each.minutes for each in every)} minutes in all. The first one:\n\n  {lab.advice('lesson 1')}")
    return 0


def walk_through(lab: Lab, pen: Pen, words: Sequence[str]) -> int:
    """Walk through a lesson, or list them all."""
    if not words:
        return list_lessons(lab, pen)
    which = lesson(words[0])
    try:
        with with_a_way_out(lab, str(which.number)):
            instead = ", in place of the one that was up" if lab.is_up else ""
            beginning = f"Lesson {which.number}. A fresh lab{instead}: {which.beginning.value}."
            print(pen.dim(told(beginning)), end="\n\n", flush=True)
            _begin(lab, which)
            _play(lab, pen, which)
    except LabError:
        raise
    except BaseException:
        lab.down()
        raise
    return 0


def check(lab: Lab, pen: Pen, words: Sequence[str]) -> int:
    """Look whether the exercise of a lesson is done; 1 when it is not, 3 when that could not be found out."""
    which = _current(lab, words[0])
    with with_a_way_out(lab):
        try:
            done = report(pen, which.check(lab))
        except (LabError, OSError, subprocess.SubprocessError) as error:
            raise NotSeenError(f"whether exercise {which.number} is done cannot be seen: {error}") from error
    print()
    if done:
        print(pen.good(f"Exercise {which.number} is done."))
        if which.number < len(lessons()):
            print(f"The next lesson: {lab.advice(f'lesson {which.number + 1}')}")
    else:
        print(f"Not yet. A hint: {lab.advice(f'hint {which.number}')}")
    return 0 if done else 1


def hint(lab: Lab, pen: Pen, words: Sequence[str]) -> int:
    """Give the next hint of a lesson."""
    which = _current(lab, words[0])
    counter = lab.directory / f"hints-{which.number}"
    given = int(counter.read_text("ascii")) if counter.exists() else 0
    nth = min(given, len(which.hints) - 1)
    player = Player(lab, pen)
    player.title(f"Hint {nth + 1} of {len(which.hints)}: {which.hints[nth].title}")
    player.text(which.hints[nth].body.strip())
    counter.write_text(str(nth + 1), "ascii")
    if nth + 1 == len(which.hints):
        print(f"That is the last one. How it is done: {lab.advice(f'solve {which.number}')}")
    return 0


def solve(lab: Lab, pen: Pen, words: Sequence[str]) -> int:
    """Do the exercise of a lesson, and say why it is done like that."""
    which = _current(lab, words[0])
    player = Player(lab, pen)
    try:
        with with_a_way_out(lab, str(which.number)):
            for section in which.solution:
                player.play(section)
    except Quit:
        return 0
    print(f"And now: {lab.advice(f'check {which.number}')}")
    return 0


def _begin(lab: Lab, which: Lesson) -> None:
    """Build the lab that a lesson begins with, in place of any other."""
    lab.down()
    lab.offloads = False  # a lesson shows what a wire would carry
    lab.up(cables=which.beginning is not Beginning.HOSTS)
    begin(lab, which.number)
    if which.beginning is Beginning.SERVERS:
        for server in lab.topology.servers:
            lab.start_web(server.name)
    elif which.beginning is Beginning.NATLB:
        lab.start_all()


def _play(lab: Lab, pen: Pen, which: Lesson) -> None:
    player = Player(lab, pen)
    try:
        for section in which.pages:
            player.play(section)
        player.title(which.exercise.title)
        player.text(which.exercise.body.strip())
    except Quit:
        print("The lab stays up.")
    for line in draw.table([[f"  {lab.advice(words.format(which.number))}", what] for words, what in _NEXT.items()]):
        print(line)


def _current(lab: Lab, number: str) -> Lesson:
    """Find a lesson whose lab is up; LabError says how to begin it."""
    which = lesson(number)
    current = begun(lab)
    if current != str(which.number):
        there = f"the lab is that of lesson {current}" if current else "no lesson has been begun"
        raise LabError(f"{there}; to begin lesson {which.number}: {lab.advice(f'lesson {which.number}')}")
    return which
