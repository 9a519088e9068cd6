"""Whole numbers, without C's generosity.

HAProxy reads most numbers with atol(): `maxconn abc` is 0 to it, `maxconn 10x` is 10 and `maxconn 99999999999` whatever
the overflow leaves. Here a number is ASCII digits with perhaps a minus sign before them, and it lies within bounds that
the caller names. What it accepts, HAProxy reads as the same number.
"""

import re
from typing import Final

from natlb.errors import ConfigError

LARGEST: Final = 2**31 - 1
"""The largest number that HAProxy keeps whole everywhere."""

_INTEGER: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)


def parse_integer(word: str, what: str, lowest: int = 0, highest: int = LARGEST) -> int:
    """The number that `word` is. Raises ConfigError naming `what` when it is none, or not within the bounds."""
    if not _INTEGER.fullmatch(word):
        got = f"got '{word}'" if word else "got nothing"
        raise ConfigError(f"'{what}' expects an integer from {lowest} to {highest} ({got}).")
    number = int(word)
    if not lowest <= number <= highest:
        raise ConfigError(f"'{what}' expects an integer from {lowest} to {highest} (got {number}).")
    return number
