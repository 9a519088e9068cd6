"""Try inputs once more, without a fuzzer: `python -m tests.fuzz.reproduce TARGET FILE...`.

What a target says about the first one that is not right is a traceback, as of any test; exit status 1. A debugger goes
before it as always: `python -m pdb -m tests.fuzz.reproduce ...`.
"""

import argparse
import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS, check_of


def main(argv: list[str]) -> int:
    """Try what the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(prog="reproduce", description="Try inputs once more.")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    options = parser.parse_args(argv)
    check = check_of(options.target)
    for path in options.files:
        check(path.read_bytes())
        print(f"{path}: all right")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
