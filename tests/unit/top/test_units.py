"""Five characters at most, and never more than a twentieth off."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.top.units import age, seconds, short


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.4, "0"),
        (999, "999"),
        (999.6, "1.0k"),
        (1234, "1.2k"),
        (13_400_000, "13.4M"),
        (99_949, "99.9k"),
        (99_951, "100k"),
        (999_600, "1.0M"),
        (120e9, "120G"),
        (2**64, "18.4E"),
    ],
)
def test_a_number_is_as_short_as_it_can_be(number: float | None, text: str) -> None:
    assert short(number) == text


_FACTORS = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}


@given(st.integers(0, 2**64))
def test_any_counter_fits_and_is_told_nearly_right(number: int) -> None:
    text = short(number)
    assert len(text) <= 5
    told = float(text[:-1]) * _FACTORS[text[-1]] if text[-1] in _FACTORS else float(text)
    assert abs(told - number) <= number / 20


@pytest.mark.parametrize(
    ("written", "meant", "shown"),
    [
        ("0s", 0, "0s"),
        ("119s", 119, "119s"),
        ("1m30s", 90, "90s"),
        ("120s", 120, "2m"),
        ("1h59m", 7140, "119m"),
        ("7440s", 7440, "2h"),
        ("2d3h", 183_600, "2d"),
        ("99999999s", 99_999_999, "1157d"),
        ("", None, "-"),
        ("-", None, "-"),
        ("5x7s", None, "-"),
        ("\u0663s", None, "-"),
    ],
)
def test_an_age_is_read_as_it_is_written_and_shown_in_one_unit(written: str, meant: int | None, shown: str) -> None:
    assert (seconds(written), age(written)) == (meant, shown)
