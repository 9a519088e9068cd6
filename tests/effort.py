"""How much is tried by the tests that try many examples of something: what is enough for every day, or more.

For ten times as many of them, and as much time: `NATLB_EFFORT=10 .venv/bin/python -m pytest --timeout 0 tests/unit`.
(A profile of Hypothesis would not do: it does not reach the tests that say a number of their own.)
"""

import os

_FACTOR = max(1.0, float(os.environ.get("NATLB_EFFORT", "1")))


def examples(number: int) -> int:
    """Return how many examples to try where `number` of them are enough for every day."""
    return round(number * _FACTOR)
