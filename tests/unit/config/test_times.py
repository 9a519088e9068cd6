"""A time is an integer and a unit, in HAProxy's bounds."""

import pytest

from natlb.config.times import format_time, parse_time
from natlb.errors import ConfigError


@pytest.mark.parametrize(
    ("word", "seconds"),
    [
        ("0", 0.0),
        ("1", 0.001),
        ("1500", 1.5),
        ("1us", 0.001),
        ("1500us", 0.002),
        ("20ms", 0.02),
        ("2s", 2.0),
        ("3m", 180.0),
        ("2h", 7200.0),
        ("24d", 24 * 86400.0),
        ("2147483647", 2147483.647),
        ("0" * 18 + "5s", 5.0),
    ],
)
def test_a_time_is_read_in_seconds_and_microseconds_round_up(word: str, seconds: float) -> None:
    assert parse_time(word, "timeout client") == seconds


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("", "'timeout client' expects an integer value (in milliseconds)"),
        ("x", "unexpected character 'x' in 'timeout client' (got 'x'); a time is a number and a unit."),
        ("-1", "unexpected character '-' in 'timeout client' (got '-1'); a time is a number and a unit."),
        ("5x", "unexpected character 'x' after the timer value '5x' in 'timeout client', only "),
        ("5sx", "unexpected character 'x' after the timer value '5sx' in 'timeout client', only "),
        ("1h30m", "unexpected character '3' after the timer value '1h30m' in 'timeout client', only "),
        ("5u", "unexpected character 'u' after the timer value '5u' in 'timeout client', only "),
        ("5 s", "unexpected character ' ' after the timer value '5 s' in 'timeout client', only "),
        ("1.5s", "unexpected character '.' after the timer value '1.5s' in 'timeout client', only "),
        ("25d", "timer overflow in argument '25d' to 'timeout client' (maximum value is 2147483647 ms or ~24.8 days)"),
        ("9" * 5000, f"timer overflow in argument '{'9' * 5000}' to 'timeout client' "),
        ("2147483648", "timer overflow in argument '2147483648' to 'timeout client' "),
    ],
)
def test_anything_else_is_refused_naming_what_it_was_for(word: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_time(word, "timeout client")
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("seconds", "word"),
    [(0, "0"), (0.001, "1ms"), (1.5, "1500ms"), (30, "30s"), (7440, "2h4m"), (240, "4m"), (90061, "1d1h1m1s")],
)
def test_a_time_is_shown_in_the_units_of_the_language(seconds: float, word: str) -> None:
    assert format_time(seconds) == word
