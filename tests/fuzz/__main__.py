"""The command line of the long mode, for scripts/fuzz.sh: `python -m tests.fuzz TARGET|all [MINUTES]`."""

import argparse
import os
import sys
from pathlib import Path

from tests.fuzz.fuzzing import DIRECTORY, fuzz
from tests.fuzz.targets import TARGETS


def main(argv: list[str]) -> int:
    """Fuzz what the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(prog="fuzz.sh", description="Look for inputs that natlb does not take well.")
    names = ["all", *TARGETS]
    parser.add_argument("target", metavar="TARGET", choices=names, help=f"one of {', '.join(names)}")
    parser.add_argument(
        "minutes", metavar="MINUTES", nargs="?", default=10.0, type=_minutes, help="for each (%(default)g)"
    )
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where inputs and findings go (fuzzed)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="targets at a time (%(default)s)")
    if not argv:
        parser.print_help(sys.stderr)
        return 2
    options = parser.parse_args(argv)
    targets = list(TARGETS) if options.target == "all" else [options.target]
    try:
        return fuzz(targets, options.minutes * 60, options.directory.absolute(), options.jobs)
    except KeyboardInterrupt:
        return 130


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 100_000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of minutes: more than 0 and less than 100000")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
