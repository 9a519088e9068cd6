"""Command lines that make no sense end as HAProxy's do: with a line that says what is wrong, and with 1."""

import argparse
import sys
from typing import NoReturn

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
