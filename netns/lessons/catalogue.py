"""Which lessons there are, and what each is about: read from their folders.

The second paragraph of a lesson says, in a sentence that is for people and for this module alike, how long it takes,
what of the notes it shows, and what the lab is like when it begins.
"""

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from netns.build import Lab
from netns.claims import Findings
from netns.errors import LabError
from netns.lessons.page import Section, sections

HOME = Path(__file__).parent
EXERCISE = "Exercise"


class Beginning(Enum):
    """What the lab is like when a lesson begins; the value is how the lesson says it."""

    HOSTS = "four hosts and no cable"
    SERVERS = "cables and web servers, no balancer"
    NATLB = "cables, web servers and natlb"


_FOLDER = re.compile(r"(\d\d)-([a-z-]+)")
_ABOUT = re.compile(
    r"^\*(?P<minutes>\d+) minutes\. Shows (?P<shows>[^.]+)\. "
    rf"Begins with (?P<begins>{'|'.join(beginning.value for beginning in Beginning)})\.\*$",
    re.M,
)


@dataclass(frozen=True, slots=True)
class Lesson:
    """One lesson."""

    number: int
    name: str
    title: str
    minutes: int
    shows: str
    """The statement of the notes that becomes visible."""
    beginning: Beginning
    pages: tuple[Section, ...]
    """What is walked through, in order; the exercise is not among it."""
    exercise: Section
    folder: Path

    @property
    def hints(self) -> list[Section]:
        """Its hints, the vaguest first."""
        return sections((self.folder / "hints.md").read_text("utf-8"))[1:]

    @property
    def solution(self) -> list[Section]:
        """How the exercise is done."""
        return sections((self.folder / "solution.md").read_text("utf-8"))

    @property
    def check(self) -> Callable[[Lab], Findings]:
        """Return the function that looks whether the exercise is done."""
        path = self.folder / f"check_{self.name.replace('-', '_')}.py"
        specification = importlib.util.spec_from_file_location(path.stem, path)
        if specification is None or specification.loader is None:
            raise LabError(f"{path} cannot be read")
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        found: Callable[[Lab], Findings] = module.check
        return found


def lessons(home: Path = HOME) -> list[Lesson]:
    """Return all lessons in order; LabError, naming the file, when a page does not say what it is about."""
    return [_read(folder) for folder in sorted(home.iterdir()) if _FOLDER.fullmatch(folder.name)]


def lesson(number: str) -> Lesson:
    """Find a lesson by its number; LabError names the choices."""
    found = lessons()
    for each in found:
        if number.isdecimal() and int(number) == each.number:
            return each
    raise LabError(f"there is no lesson '{number}'; the lessons are 1 to {len(found)}")


def _read(folder: Path) -> Lesson:
    path = folder / "lesson.md"
    first, *rest = sections(path.read_text("utf-8"))
    about = _ABOUT.search(first.body)
    named = _FOLDER.fullmatch(folder.name)
    if not about or not named or not rest or rest[-1].title != EXERCISE:
        raise LabError(f"{path} needs a sentence about itself, '{_ABOUT.pattern}', and a last heading '## {EXERCISE}'")
    *pages, exercise = [Section(first.title, first.body.replace(about[0], "")), *rest]
    return Lesson(
        number=int(named[1]),
        name=named[2],
        title=first.title,
        minutes=int(about["minutes"]),
        shows=about["shows"],
        beginning=Beginning(about["begins"]),
        pages=tuple(pages),
        exercise=exercise,
        folder=folder,
    )
