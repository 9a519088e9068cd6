"""Advice on a misspelt word is HAProxy's advice."""

import pytest

from natlb.config.suggest import best_match, hint

KNOWN = ["bind", "balance", "server", "maxconn", "default_backend", "check", "timeout", "tfo", "option"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("bnid", "bind"),
        ("chekc", "check"),
        ("maxcon", "maxconn"),
        ("default-backend", "default_backend"),
        ("SERVER", "server"),
        ("foo", "tfo"),
        ("zzz", None),
        ("", None),
        ("\u00e9", None),
    ],
)
def test_the_closest_word_is_offered_if_it_is_close(word: str, meant: str | None) -> None:
    assert best_match(word, KNOWN) == meant


def test_nothing_is_offered_of_nothing() -> None:
    assert hint("bind", []) == ""


def test_the_offer_reads_as_in_haproxy() -> None:
    assert hint("bnid", KNOWN) == "; did you mean 'bind' maybe ?"
