"""The options of these commands: argparse, with mistakes told as the lab tells them, in one line, status 2."""

import argparse
import sys
from typing import NoReturn

from netns.build import Lab
from netns.errors import LabError


class Words(argparse.ArgumentParser):
    """What may follow the name of a command."""

    def __init__(self, command: str, about: str) -> None:
        super().__init__(prog=f"lab.sh {command}", description=about, allow_abbrev=False)
        self._command = command

    def error(self, message: str) -> NoReturn:
        """Say it in one line and end with status 2."""
        print(f"lab.sh: {self._command}: {message}; {self.prog} -h tells more", file=sys.stderr)
        raise SystemExit(2)


def need(lab: Lab) -> None:
    """Raise LabError, saying how, unless the lab is up."""
    if not lab.is_up:
        raise LabError(f"the lab is not up: {lab.advice('up')}")


def seconds(text: str) -> float:
    """Read a time: more than nothing, and no more than a day."""
    return _within(float(text), 86400)


def number(text: str) -> int:
    """Read a number of packets: one at least, and no more than a million."""
    return int(_within(int(text), 1_000_000))


def _within(value: float, most: int) -> float:
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"{value:g} is not more than 0 and at most {most}")
    return value
