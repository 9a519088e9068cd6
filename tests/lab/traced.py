"""Runs of `lab.sh` whose traces can be found, whatever namespace they end up in."""

import contextlib
import os
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from netns.build import Lab

_MARK = "LAB_UNDER_TEST"
"""A variable of the environment, inherited by every process that a run starts."""


class Traced(ABC):
    """`lab.sh` with a prefix of its own."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.lab = Lab(prefix=prefix)
        self.environment = {**os.environ, _MARK: prefix}

    @abstractmethod
    def command(self, *words: str) -> list[str]:
        """Return the command line that does `words`."""

    def start(self, *words: str, output: Path) -> subprocess.Popen[bytes]:
        with output.open("wb") as file:
            return subprocess.Popen(
                self.command(*words),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )

    def processes(self) -> list[str]:
        """Every process that a run has left behind."""
        mark = f"{_MARK}={self.prefix}\0".encode()
        found = []
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if process.name.isdigit() and mark in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
        return found

    def traces(self) -> list[object]:
        return [*self.lab.traces(), *self.processes()]
