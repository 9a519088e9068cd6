"""How to go on after a failure: whatever fails in a lesson or an experiment says so, in commands that can be typed.

A lab is cheap to build, so the way out is as a rule to begin anew: the lesson, where one was begun, or the lab.
"""

import contextlib
from collections.abc import Iterator

from netns.build import Lab
from netns.errors import LabError


def begun(lab: Lab) -> str:
    """Return the number of the lesson whose lab is up; "" when it is that of none."""
    note = lab.directory / "lesson"
    return note.read_text("ascii") if note.exists() else ""


def begin(lab: Lab, number: int) -> None:
    """Remember in the lab, and for as long as it stands, whose it is."""
    (lab.directory / "lesson").write_text(str(number), "ascii")


@contextlib.contextmanager
def with_a_way_out(lab: Lab, lesson: str = "") -> Iterator[None]:
    """Let whatever fails say how to go on, unless it does so already; `lesson` is the one to begin anew."""
    try:
        yield
    except LabError as error:
        if lab.advice("") in str(error):
            raise
        lesson = lesson or begun(lab)
        again = lab.advice(f"lesson {lesson}") if lesson else f"{lab.advice('down')}, then {lab.advice('up')}"
        raise type(error)(f"{error}\nTo begin anew: {again}\nTo see what runs: {lab.advice('status')}") from error
