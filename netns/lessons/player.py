"""Shows a page a step at a time, and runs its commands on the live lab.

What is shown and what runs is one text. The commands of a block run in one shell, so that `&` and `wait` work; the
shell ends with the first command that fails. Some words mean something of their own there: `sudo`, since whoever runs a
lesson is root already, and `scripts/lab.sh` and `.venv/bin/natlb`, which are those of this installation.

In a terminal each step waits for Enter. Where standard input is none, the page runs straight through.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap

from rich.console import Console
from rich.markdown import Markdown

from netns.build import PREFIX, Lab
from netns.console import ask
from netns.draw import WIDTH, Pen
from netns.errors import LabError
from netns.lessons.page import Section, Step
from netns.processes import PYTHON

SECONDS = 60.0
"""The longest that the commands of one step may take."""

_NAMES = re.compile(rf"(?<![\w-]){PREFIX}(?=(?:client|lb|server\d|lab)\b)")
"""What is named after a lab: its namespaces, and its directory."""

_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
"""Words in the middle of a sentence that are typed or read as they are; without colour they keep their marks."""


class Quit(Exception):  # noqa: N818 - nothing went wrong
    """The student wants to stop here."""


class Player:
    """Shows pages to one reader."""

    def __init__(self, lab: Lab, pen: Pen) -> None:
        self._lab = lab
        self._pen = pen
        self._console = Console(
            width=WIDTH,
            color_system="standard" if pen.colour else None,
            force_terminal=pen.colour,
            highlight=False,
            emoji=False,
        )
        self._interactive = sys.stdin.isatty() and sys.stdout.isatty()

    def play(self, section: Section) -> None:
        """Show a section and run its commands. Quit: the reader has had enough; LabError: a command failed."""
        self.title(section.title)
        for step in section.steps:
            self.text(step.text)
            if step.commands:
                self._wait()
                self._run(step)
        if not section.steps[-1].commands:
            self._wait()

    def title(self, title: str) -> None:
        """Show a heading."""
        print(self._pen.bold(title), "", sep="\n", flush=True)

    def text(self, text: str) -> None:
        """Show Markdown without commands."""
        if text:
            if not self._pen.colour:
                text = _CODE.sub(r"`` `\1` ``", text)
            with self._console.capture() as capture:
                self._console.print(Markdown(self._ours(text), code_theme="bw"))
            lines = [line.rstrip() for line in capture.get().splitlines()]
            print(self._pen.plain("\n".join(lines).strip("\n")), "", sep="\n", flush=True)

    def _wait(self) -> None:
        if not self._interactive:
            return
        answer = ask(self._pen.dim("[Enter goes on, q and Enter stops] ")) or "q"
        print(flush=True)
        if answer.strip().lower() in {"q", "quit", "exit"}:
            raise Quit

    def _run(self, step: Step) -> None:
        """Run the commands of a step, each shown before what it prints."""
        # A session of its own: whatever the step has started can be ended with it.
        command = ["bash", "-c", self._script(step)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as shell:
            try:
                status = shell.wait(SECONDS)
            except subprocess.TimeoutExpired:
                _end(shell)
                raise LabError(f"the step above took more than {SECONDS:g} s and was stopped") from None
            except BaseException:
                _end(shell)
                raise
        print(flush=True)
        if status:
            raise LabError(f"the last command above ended with status {status}, and should not have")

    def _script(self, step: Step) -> str:
        meanings = {
            "sudo": '"$@"',
            "scripts/lab.sh": f'{shlex.join([*PYTHON, "netns"])} "$@"',
            ".venv/bin/natlb": f'{shlex.join([*PYTHON, "natlb"])} "$@"',
        }
        lines = [*(f"{word}() {{ {meaning}; }}" for word, meaning in meanings.items()), "set -e"]
        for command in step.commands:
            ours = self._ours(command)
            prompted = textwrap.indent(ours, "> ").removeprefix("> ")
            lines += [f"printf '%s\\n' {shlex.quote(self._pen.mark(f'$ {prompted}'))}", ours]
        return "\n".join(lines)

    def _ours(self, text: str) -> str:
        """Write names and commands as they are for this lab, which may have another prefix."""
        if self._lab.prefix == PREFIX:
            return text
        return _NAMES.sub(self._lab.prefix, text).replace("sudo scripts/lab.sh ", self._lab.advice(""))


def _end(shell: subprocess.Popen[bytes], grace: float = 5.0) -> None:
    """End a shell and all that it has started, which may have something to put back."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            shell.wait(grace)
            return
