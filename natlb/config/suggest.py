"""Did you mean: the known word that looks most like the one that was typed.

HAProxy compares fingerprints (see `natlb.spelling`), and so does this, to give the same advice. A word further away
than twice its length is no match.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from natlb.spelling import distance, fingerprint

_known_fingerprint: Final = lru_cache(maxsize=2048)(fingerprint)
"""The keywords are the same ones again and again, and there are some 500 of them."""


def best_match(word: str, known: Iterable[str]) -> str | None:
    """The closest of `known`, the first one on a tie; None when nothing is close."""
    typed = fingerprint(word)
    best: str | None = None
    best_distance = -1
    for candidate in known:
        away = distance(typed, _known_fingerprint(candidate))
        if best is None or away < best_distance:
            best, best_distance = candidate, away
    if best is None or best_distance > 2 * min(len(word), len(best)):
        return None
    return best


def hint(word: str, known: Iterable[str]) -> str:
    """What HAProxy adds to `unknown keyword`: a suggestion, or nothing."""
    best = best_match(word, known)
    return "" if best is None else f"; did you mean '{best}' maybe ?"
