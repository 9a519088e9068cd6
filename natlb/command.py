"""How natlb was started: the command line with which it can be started again, as it is or in another's place."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Command:
    """How this natlb was started."""

    program: tuple[str, ...]
    """What runs natlb, without the arguments for it."""
    arguments: tuple[str, ...]
    directory: str
    environment: Mapping[str, str]

    @classmethod
    def own(cls) -> Self:
        """Return how this process was started; to be called before it has changed anything about itself."""
        arguments = sys.argv[1:]
        program = sys.orig_argv[1 : len(sys.orig_argv) - len(arguments)]
        return cls((sys.executable, *program), tuple(arguments), os.getcwd(), dict(os.environ))  # noqa: PTH109

    def checking(self) -> list[str]:
        """Return the command that checks the configuration."""
        return self._with("-c")

    def succeeding(self, pid: int) -> list[str]:
        """Return the command that starts another in the place of a process."""
        return self._with("-sf", str(pid))

    def _with(self, *more: str) -> list[str]:
        arguments = _without_predecessors(self.arguments)
        at = arguments.index("--") if "--" in arguments else len(arguments)
        return [*self.program, *arguments[:at], *more, *arguments[at:]]


def _without_predecessors(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without those that tell whose place was taken."""
    kept: list[str] = []
    dropping = False
    for at, word in enumerate(arguments):
        if word == "--":
            return [*kept, *arguments[at:]]
        if word.partition("=")[0] in ("-sf", "-st"):
            dropping = True
        elif not (dropping and word.isascii() and word.isdigit()):
            dropping = False
            kept.append(word)
    return kept
