"""Command lines that make no sense end as HAProxy's do: with a line that says what is wrong, and with 1."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from natlb.digits import MOST_DIGITS, whole_number
from natlb.log import log


class Arguments(argparse.ArgumentParser):
    """Reads a command line; what is wrong with it is told as the program's that the user has called."""

    def error(self, message: str) -> NoReturn:
        """Say how the program is called, and what is wrong, and end."""
        self.print_usage(sys.stderr)
        self.complain(message)
        raise SystemExit(1)

    def complain(self, message: str) -> None:
        """Say what is wrong."""
        sys.stderr.write(f"{self.prog}: {message}\n")


class LoggedArguments(Arguments):
    """The same for a program that has a log: there it is told."""

    def complain(self, message: str) -> None:
        """Log what is wrong."""
        log.critical("%s", message)


def number(text: str, what: str, lowest: int = 0, highest: int = 10**MOST_DIGITS) -> int:
    """Return the number that an argument is. If it is none, or not within the bounds, it is not `what`."""
    found = whole_number(text)
    if found is None or not lowest <= found <= highest:
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}")
    return found


def seconds(lowest: float) -> Callable[[str], float]:
    """Return what reads an argument that is a number of seconds: `lowest`, or more, and an hour at most."""

    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = 0.0
        if not lowest <= found <= 3600:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds, {lowest:g} to 3600")
        return found

    return read
