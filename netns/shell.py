"""A prompt in the lab: `client curl vip`, `server1 tcpdump -n`, `nat`, `pingall`, `break`, `heal`.

A line begins with a host's name, and is then run on that host by bash, so that pipes, loops and `&` work; or with a
command of `lab.sh`. The habits are those of Mininet's prompt. Names of hosts are names in the programs, too, by the
hosts' own hosts files (see `netns.names`); and for curl a host's name alone means its web page, port and all.

Ctrl-C is for what runs: it ends the program, and the shell goes on. Ctrl-D leaves. A shell that found no lab builds
one, and takes it away when it is left; a lab that was there stays. What was typed is kept in the lab's directory, and
goes with it.

Lines can come from a pipe as well. Then there is no prompt, programs get no input, and the exit status is that of the
last line.
"""

import cmd
import contextlib
import glob
import os
import readline
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from netns import draw
from netns.build import PREFIX, Lab
from netns.draw import Pen
from netns.errors import LabError
from netns.prompt import shell_on

INTERRUPTED = 128 + signal.SIGINT
_SENSELESS = 2
_LEAVING = ("exit", "quit")
_END_OF_INPUT = "EOF"
"""What the module cmd makes of Ctrl-D."""

_OWN = {
    "help": "this list; `help NAME` for one of them",
    "history": "what was typed so far",
    "exit": "leave, as Ctrl-D does",
}


class Command(Protocol):
    """A command of `lab.sh`, as this module sees it."""

    @property
    def run(self) -> Callable[[Lab, Pen, Sequence[str]], int]:
        """Do it, and return its exit status."""

    @property
    def about(self) -> str:
        """What it does, in a few words."""

    @property
    def arguments(self) -> str:
        """The words that it takes, as a help shows them."""

    @property
    def choices(self) -> Callable[[], Iterable[str]]:
        """What these words may be."""

    def takes(self, number: int) -> bool:
        """Whether it can be given so many."""

    def help(self, name: str) -> str | None:
        """How it is given and what it does; None when it says so itself."""


class Shell(cmd.Cmd):
    """One conversation with one lab."""

    def __init__(self, lab: Lab, pen: Pen, commands: Mapping[str, Command]) -> None:
        super().__init__()
        self._lab = lab
        self._pen = pen
        self._commands = commands
        self._hosts = [name for host in lab.topology.hosts for name in host.names]
        self._interactive = sys.stdin.isatty()
        self._typed: list[str] = []
        self._status = 0
        self.use_rawinput = self._interactive
        self.prompt = f"{'' if lab.prefix == PREFIX else lab.prefix}lab> " if self._interactive else ""

    def run(self) -> int:
        """Talk until the end, and return the status of the last line: 0 after a talk with a person."""
        built = not self._lab.is_up
        if built:
            self._say("Building the lab ...")
            with _taken_away_on_failure(self._lab):
                self._lab.up()
                self._lab.start_all()
        self._say("A line is a host and a program (client curl vip), or a command: see `help`. Ctrl-D leaves.")
        history = self._lab.directory / "history"
        try:
            with contextlib.suppress(OSError):
                readline.read_history_file(history)
            readline.set_completer_delims(" \t\n|&;()<>'\"")
            self._talk()
            with contextlib.suppress(OSError):
                readline.write_history_file(history)
        finally:
            if built:
                self._lab.down()
                self._say("The lab is gone.")
        return 0 if self._interactive else self._status

    def _talk(self) -> None:
        while True:
            try:
                self.cmdloop()
            except KeyboardInterrupt:  # at the prompt: the line is given up
                print("^C")
            else:
                return

    def _say(self, text: str) -> None:
        if self._interactive:
            print(text, flush=True)

    # -- a line

    def onecmd(self, line: str) -> bool:
        """Do what a line says, and return whether it was the last."""
        line = line.strip()
        if line == _END_OF_INPUT:
            self._say("")
            return True
        if not line or line.startswith("#"):
            return False
        self._typed.append(line)
        word, _, rest = line.partition(" ")
        if word in _LEAVING:
            return True
        try:
            self._status = self._do(word, rest.strip())
        except LabError as error:
            self._status = self._complain(str(error), error.status)
        except KeyboardInterrupt:
            self._say("")  # the terminal has shown a ^C
            self._status = self._complain("interrupted", INTERRUPTED)
        return False

    def _do(self, word: str, rest: str) -> int:
        if word in self._hosts:
            return self._on_host(word, rest)
        try:
            words = shlex.split(rest)
        except ValueError as error:
            return self._complain(f"{error}: {rest}", _SENSELESS)
        if word in ("help", "?"):
            return self._help(words)
        if word == "history":
            print(*self._typed, sep="\n")
            return 0
        command = self._commands.get(word)
        if command is None:
            return self._complain(f"'{word}' is no host and no command; `help` lists them", _SENSELESS)
        if words[:1] in (["-h"], ["--help"]) and (explained := command.help(word)):
            print(explained)
            return 0
        if not command.takes(len(words)):
            return self._complain(f"this is given like this: {word} {command.arguments}".rstrip(), _SENSELESS)
        return command.run(self._lab, self._pen, words)

    def _complain(self, wrong: str, status: int) -> int:
        sys.stdout.flush()
        print(wrong, file=sys.stderr, flush=True)
        return status

    def _on_host(self, host: str, line: str) -> int:
        if not line and not self._interactive:
            return self._complain(f"what is to be run on {host}? {host} PROGRAM...", _SENSELESS)
        if not self._lab.is_up:
            raise LabError("the lab is not up: `up` builds it")
        argv, added = (["bash", "-c", line], {}) if line else shell_on(self._lab, host)
        sys.stdout.flush()
        with _left_to_the_program():
            program = subprocess.Popen(
                self._lab.command(host, argv),
                stdin=None if self._interactive else subprocess.DEVNULL,
                env={**os.environ, "BASH_FUNC_curl%%": self._curl(), **added},
            )
            try:
                status = program.wait()
            except BaseException:
                program.terminate()
                program.wait()
                raise
        if status == -signal.SIGINT:
            self._say("")  # the terminal has shown a ^C, after which the prompt would stand
        return status if status >= 0 else 128 - status

    def _curl(self) -> str:
        """What `curl` means on a host: a function, handed to bash in its environment."""
        pages = " ".join(
            f'{"|".join(host.names)}) set -- "$@" http://$word:{host.port}/ ;;'
            for host in self._lab.topology.hosts
            if host.port
        )
        other = '*) set -- "$@" "$word" ;;'
        return f'() {{ local word; for word; do shift; case $word in {pages} {other} esac; done; command curl "$@"; }}'

    def _help(self, words: Sequence[str]) -> int:
        listed = {
            "HOST PROGRAM...": f"run it there; HOST is {', '.join(host.name for host in self._lab.topology.hosts)}",
            **{f"{name} {command.arguments}".strip(): command.about for name, command in self._commands.items()},
            **_OWN,
        }
        if words:
            listed = {name: about for name, about in listed.items() if name.split()[0] in words}
            if not listed:
                return self._complain(f"there is no command '{words[0]}'; `help` lists them", _SENSELESS)
        print(*draw.table([[self._pen.bold(name), about] for name, about in listed.items()]), sep="\n")
        return 0

    # -- Tab

    def completenames(self, text: str, *_: object) -> list[str]:
        """The first word: a host or a command."""
        return _beginning(text, [*self._hosts, *self._commands, *_OWN])

    def completedefault(self, text: str, line: str, begidx: int, *_: object) -> list[str]:
        """Any other word: what the first one can do with it."""
        before = line[:begidx].split()
        if before[0] in self._hosts:
            if len(before) == 1:
                return _beginning(text, _programs())
            return [*_beginning(text, self._hosts), *sorted(glob.glob(f"{glob.escape(text)}*"))]  # noqa: PTH207 - text, not a path
        if before[0] in self._commands:
            return _beginning(text, self._commands[before[0]].choices())
        return []

    def complete_help(self, text: str, *_: object) -> list[str]:
        """`help` explains commands."""
        return _beginning(text, [*self._commands, *_OWN])


def _beginning(text: str, words: Iterable[str]) -> list[str]:
    """The words that begin so, with the space that comes after them."""
    return sorted({f"{word} " for word in words if word.startswith(text)})


def _programs() -> Iterator[str]:
    for directory in os.get_exec_path():
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            yield from (entry.name for entry in entries if os.access(entry.path, os.X_OK))


@contextlib.contextmanager
def _left_to_the_program() -> Iterator[None]:
    """Let a Ctrl-C end the program in front, which the terminal sends it to as well, and not the shell.

    With a handler and not by ignoring it, since what is ignored would be ignored by the program, too.
    """
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _taken_away_on_failure(lab: Lab) -> Iterator[None]:
    try:
        yield
    except BaseException:
        lab.down()
        raise
