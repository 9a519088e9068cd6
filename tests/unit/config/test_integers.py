"""A number is digits, within bounds, and nothing else."""

import pytest

from natlb.config.integers import parse_integer
from natlb.errors import ConfigError


@pytest.mark.parametrize(("word", "number"), [("0", 0), ("007", 7), ("2147483647", 2147483647)])
def test_digits_are_a_number(word: str, number: int) -> None:
    assert parse_integer(word, "maxconn") == number


def test_a_minus_sign_is_one_where_the_bounds_allow_it() -> None:
    assert parse_integer("-1024", "nice", -1024, 1024) == -1024


@pytest.mark.parametrize(
    "word", ["", "abc", "10x", "1.5", "0x10", "+1", " 1", "1_000", "\u0661", "-1", "2147483648", "9" * 5000]
)
def test_anything_else_is_refused_naming_what_it_was_for(word: str) -> None:
    with pytest.raises(ConfigError, match=r"'maxconn' expects an integer from 0 to 2147483647 \(got "):
        parse_integer(word, "maxconn")
