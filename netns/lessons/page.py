"""A page of the course: Markdown in, steps out.

Of Markdown's many forms only three matter here: headings, which divide a page; `console` blocks, which are run; and all
the rest, which is shown. A line of a `console` block that begins with `$ ` is a command, one that begins with `> ` goes
on with the command above it, as in a shell. There is no room for output in a page: what a command prints is seen when
it runs.

Pure: text in, data out.
"""

import re
from dataclasses import dataclass

from netns.errors import LabError

_CONSOLE = re.compile(r"^```console\n(.*?)^```$\n?", re.M | re.S)
_HEADING = re.compile(r"^## (.+)\n", re.M)


@dataclass(frozen=True, slots=True)
class Step:
    """Something to read, and the commands to run after it; either may be missing."""

    text: str
    commands: tuple[str, ...] = ()
    """As they are typed; one that goes on over several lines has a backslash at the end of each but the last."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it; the page's own title is the first one."""

    title: str
    body: str

    @property
    def steps(self) -> list[Step]:
        """Divide it at its commands."""
        parts = _CONSOLE.split(self.body)
        steps = [
            Step(text.strip(), _commands(block)) for text, block in zip(parts[::2], [*parts[1::2], ""], strict=True)
        ]
        return [step for step in steps if step.text or step.commands]


def sections(text: str) -> list[Section]:
    """Divide a page, whose first line is `# Title`, at its second-level headings."""
    title, _, body = text.partition("\n")
    first, *rest = _HEADING.split(body)
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return [Section(title.removeprefix("# ").strip(), first), *(Section(*pair) for pair in pairs)]


def _commands(block: str) -> tuple[str, ...]:
    commands: list[str] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            commands.append(line.removeprefix("$ "))
        elif line.startswith("> ") and commands:
            commands[-1] += "\n" + line.removeprefix("> ")
        else:
            raise LabError(f"a console block of a lesson has a line that is no command: {line!r}")
    return tuple(commands)
