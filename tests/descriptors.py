"""What a test leaves open."""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Have the same open after the block as before it.

    What was open before and is garbage is closed now, or the collector might do it meanwhile.
    """
    gc.collect()
    before = _open()
    yield
    assert _open() == before


def _open() -> Counter[str]:
    """Return what this process has open, and how often."""
    found: Counter[str] = Counter()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one by which they are listed
            found[str(each.readlink())] += 1
    return found
