"""Numbers are digits, and not too many of them."""

import pytest

from natlb.digits import MOST_DIGITS, whole_number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("9" * MOST_DIGITS, 10**MOST_DIGITS - 1)])
def test_digits_are_a_number(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1_000", "\N{SUPERSCRIPT TWO}", "\N{ARABIC-INDIC DIGIT ONE}"])
def test_nothing_else_is(text: str) -> None:
    assert whole_number(text) is None


def test_too_many_digits_are_none_that_python_would_complain_of() -> None:
    assert whole_number("0" * (MOST_DIGITS + 1)) is whole_number("9" * 5000) is None
