"""How much words look alike: HAProxy's measure, so that natlb gives the same advice about a slip of the pen.

A text's fingerprint is the multiset of its steps from one character to the next, with the two ends of each word, all
digits, and all other characters each counted as one character, plus the set of characters met. Letters that were
swapped or dropped change few steps, whatever their place in the word.
"""

from collections import Counter

Fingerprint = Counter[str]

_EDGE = "-"
_LONGEST = 1024
"""Characters of a word that are looked at."""


def fingerprint(*words: str) -> Fingerprint:
    """Return the fingerprint of some words together."""
    steps: Fingerprint = Counter()
    met = set()
    for word in words:
        before = _EDGE
        for character in map(_kind, word[:_LONGEST]):
            met.add(character)
            steps[before + character] += 1
            before = character
        steps[before + _EDGE] += 1
    steps.update(met)
    return steps


def distance(one: Fingerprint, other: Fingerprint) -> int:
    """Return in how many steps and characters two fingerprints differ."""
    return sum(abs(one[step] - other[step]) for step in one.keys() | other.keys())


def _kind(character: str) -> str:
    if not character.isascii() or not character.isalnum():
        return _EDGE
    return "0" if character.isdigit() else character.lower()
