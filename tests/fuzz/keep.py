"""Keep what fuzzing has found worth keeping: `python -m tests.fuzz.keep [TARGET [FILE...]]`.

The inputs of tests/fuzz/corpus are for every day. What is kept stays. Files that are named are added as they are: they
have found something. Otherwise libFuzzer adds, of what is in the directory of the long mode, the smallest inputs that
reach a place in the code which the kept ones do not. How often a place is reached counts for nothing here, or they were
too many.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.fuzzing import DIRECTORY, ROOT
from tests.fuzz.targets import TARGETS


def main(argv: list[str]) -> int:
    """Keep what the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(prog="keep", description="Keep the inputs that reach something new.")
    parser.add_argument("target", nargs="?", choices=TARGETS, help="all, if not one of them is named")
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="inputs to keep in any case")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where the others are (fuzzed)")
    options = parser.parse_args(argv)
    for target in [options.target] if options.target else TARGETS:
        inputs = options.directory.absolute() / target / "inputs"
        if options.files:
            keep(target, (path.read_bytes() for path in options.files))
        elif inputs.is_dir():
            keep(target, news(target, inputs))
    return 0


def keep(target: str, inputs: Iterable[bytes], directory: Path = corpus.DIRECTORY) -> None:
    """Keep these inputs besides those that are kept already, and say how many there are."""
    before = corpus.read(target, directory)
    after = {*before, *inputs}
    corpus.write(target, after, directory)
    print(
        f"{target}: {len(after)} inputs of {sum(map(len, after)):,} bytes, {len(after) - len(set(before))} of them new"
    )


def news(target: str, inputs: Path, directory: Path = corpus.DIRECTORY) -> list[bytes]:
    """Return small inputs of a directory that together reach all that they reach and those that are kept do not."""
    with tempfile.TemporaryDirectory() as made:
        kept = Path(made) / "kept"
        corpus.unpack(corpus.read(target, directory), kept)
        arguments = ["-merge=1", "-use_counters=0", f"-max_len={TARGETS[target]}", str(kept), str(inputs)]
        subprocess.run(
            [sys.executable, "-m", "tests.fuzz.one", target, *arguments], cwd=ROOT, check=True, capture_output=True
        )
        return [path.read_bytes() for path in kept.iterdir()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
