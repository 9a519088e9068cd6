"""One target in one process, under libFuzzer, which atheris brings along: `python -m tests.fuzz.one TARGET ...`.

Every branch of natlb's is instrumented while it is imported, so this is done first and by this process alone; a process
of libFuzzer's ends with the fuzzing. What follows the target is libFuzzer's. The tests never import this module: the
inputs that are kept are tried by `check` of each target, for which nothing has to be instrumented.

A target that knows how its inputs are made up has a `mutate`. That takes turns with libFuzzer's own changes, which are
good at what nobody has thought of.
"""

import sys
from importlib import import_module

import atheris

with atheris.instrument_imports(include=["natlb"]):
    import natlb.core.shards

    # A new engine for each input: a thousand small dictionaries for each, eight times over, would be most of the work.
    natlb.core.shards.MASK = 15  # type: ignore[misc]
    target = import_module(f"tests.fuzz.{sys.argv[1]}")


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """Return an input changed in the target's way or in libFuzzer's."""
    changed: bytes = target.mutate(data, most, seed) if seed & 1 else atheris.Mutate(data, most)
    return changed


if __name__ == "__main__":
    # libFuzzer starts itself again to merge inputs, by a shell and this name.
    sys.argv[:2] = [f"{sys.executable} -m tests.fuzz.one {sys.argv[1]}"]
    if hasattr(target, "mutate"):
        atheris.Setup(sys.argv, target.check, custom_mutator=mutate)
    else:
        atheris.Setup(sys.argv, target.check)
    atheris.Fuzz()
