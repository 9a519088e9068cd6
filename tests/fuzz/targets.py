"""What there is to fuzz: everything of natlb's that reads what somebody else has written.

A target is a module of this package with a function `check`, which takes an input and raises if natlb, or anything that
it says or does, is not right. It may have `words`, which mean something to what it tries, and `mutate`. A target is
deterministic: what an input finds once, it finds whenever it is tried.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Final

TARGETS: Final = {
    "packets": 600,
    "messages": 600,
    "configuration": 4000,
    "runtime": 600,
    "scrapes": 2000,
    "captures": 4000,
    "health": 2000,
    "responses": 2000,
    "handover": 600,
}
"""By name, the longest input that a fuzzer makes up, in bytes: what is longer seldom finds more, and takes longer."""


def check_of(target: str) -> Callable[[bytes], None]:
    """Return what tries an input."""
    check: Callable[[bytes], None] = import_module(f"tests.fuzz.{target}").check
    return check


def words_of(target: str) -> list[str]:
    """Return the words that mean something to a target."""
    words: list[str] = getattr(import_module(f"tests.fuzz.{target}"), "words", list)()
    return words
