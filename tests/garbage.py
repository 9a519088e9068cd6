"""The garbage collector as natlb sets it for itself, for tests that measure how long one step takes.

A full collection walks everything that was ever made: here all that thousands of tests before have left, which takes a
third of a second and says nothing of natlb.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collected_as_in_natlb() -> Iterator[None]:
    """Have no full collection inside the block; what is young is collected."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 1 << 30)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
