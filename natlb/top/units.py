"""Numbers as a terminal of 80 columns has room for: five characters at most."""

import re
from typing import Final

NOTHING: Final = "-"
"""What stands for a number that nobody told."""

_STEPS: Final = "kMGTPE"


def short(number: float | None) -> str:
    """Return a number, 0 or more, in five characters: `0`, `999`, `1.2k`, `13.4M`, `120G`."""
    if number is None:
        return NOTHING
    if number < 999.5:
        return f"{number:.0f}"
    for step in _STEPS:
        number /= 1000
        if number < 99.95:
            return f"{number:.1f}{step}"
        if number < 999.5 or step == _STEPS[-1]:
            return f"{number:.0f}{step}"
    raise AssertionError


_UNITS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_PARTS: Final = re.compile(r"(\d+)([dhms])", re.ASCII)


def seconds(written: str) -> int | None:
    """Return an age as `show sess` writes it, `90s`, `1m30s` or `2d3h`, in seconds; None if it is none."""
    parts = _PARTS.findall(written)
    if not parts or "".join(number + unit for number, unit in parts) != written:
        return None
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def age(written: str) -> str:
    """Return such an age in its largest unit of which it is at least two: `90s`, `2m`, `119m`, `2h`."""
    found = seconds(written)
    if found is None:
        return NOTHING
    unit = next((unit for unit, size in _UNITS.items() if found >= 2 * size), "s")
    return f"{found // _UNITS[unit]}{unit}"
