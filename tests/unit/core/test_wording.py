"""Numbers of things, in words."""

import pytest

from natlb.core.wording import counted


@pytest.mark.parametrize(
    ("number", "what", "words"),
    [
        (0, (), "0 connections"),
        (1, (), "1 connection"),
        (2, (), "2 connections"),
        (1, ("entry", "entries"), "1 entry"),
        (2, ("entry", "entries"), "2 entries"),
        (2, ("server",), "2 servers"),
        (1, ("goes", "go"), "1 goes"),
    ],
)
def test_one_is_not_told_of_as_several(number: int, what: tuple[str, ...], words: str) -> None:
    assert counted(number, *what) == words
