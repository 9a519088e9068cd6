"""Whole numbers that others have written: no more of their digits are read than a number needs."""

from typing import Final

MOST_DIGITS: Final = 18
"""Digits of a number: more than any has that makes a difference. Python refuses some thousand with words of its own."""


def whole_number(text: str) -> int | None:
    """Return the number that `text` is, in ASCII digits and nothing else; None if it is none, or has too many."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None
