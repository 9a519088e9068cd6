"""Times: an integer and a unit.

The units are us, ms, s, m, h and d; without one it is milliseconds. HAProxy keeps milliseconds in 31 bits, so the
longest time is some 24.8 days, and rounds microseconds up. A model keeps seconds.

Stricter than HAProxy, which only warns of it: nothing may follow the unit (`5sx`, `1h30m`).
"""

import re
from typing import Final

from natlb.errors import ConfigError

_TIME: Final = re.compile(r"([0-9]+)([^0-9]?.*)", re.ASCII | re.DOTALL)
_MICROSECONDS: Final = {
    "us": 1,
    "": 1_000,
    "ms": 1_000,
    "s": 10**6,
    "m": 60 * 10**6,
    "h": 3600 * 10**6,
    "d": 86400 * 10**6,
}
_MOST_MILLISECONDS: Final = 2**31 - 1
_MOST_DIGITS: Final = 20
_UNITS: Final = "(us=microseconds,ms=milliseconds,s=seconds,m=minutes,h=hours,d=days)"


def parse_time(word: str, what: str) -> float:
    """The seconds that `word` says. Raises ConfigError naming `what` (such as `timeout client`)."""
    if not word:
        raise ConfigError(f"'{what}' expects an integer value (in milliseconds)")
    match = _TIME.fullmatch(word)
    if match is None:
        raise ConfigError(
            f"unexpected character '{word[0]}' in '{what}' (got '{word}'); a time is a number and a unit."
        )
    digits, unit = match.groups()
    if unit not in _MICROSECONDS:
        known = max((known for known in _MICROSECONDS if unit.startswith(known)), key=len)
        raise ConfigError(
            f"unexpected character '{unit[len(known)]}' after the timer value '{word}' in '{what}', "
            f"only {_UNITS} are supported."
        )
    microseconds = int(digits) * _MICROSECONDS[unit] if len(digits) <= _MOST_DIGITS else 10**30
    milliseconds = -(-microseconds // 1000)
    if milliseconds > _MOST_MILLISECONDS:
        raise ConfigError(
            f"timer overflow in argument '{word}' to '{what}' (maximum value is 2147483647 ms or ~24.8 days)"
        )
    return milliseconds / 1000


def format_time(seconds: float) -> str:
    """Seconds as a configuration would say them, in the largest units that fit: `2h4m`, `30s`, `1500ms`."""
    milliseconds = round(seconds * 1000)
    if milliseconds % 1000:
        return f"{milliseconds}ms"
    left, words = milliseconds // 1000, []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            words.append(f"{count}{unit}")
    return "".join(words) or "0"
