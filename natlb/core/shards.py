"""A dictionary that grows without ever taking long over it.

A dictionary of Python's copies itself whenever it is full, and so does one of which entries come and go, every so many
of them. With two million entries, those of a million connections, that takes a twentieth of a second, and all packets
wait. So there are a thousand small dictionaries in its place, and the hash of a key says which one is the key's: each
grows by itself, in some ten microseconds, and hardly two of them at once.
"""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MASK: Final = 1023
"""The part of a key `key` is the one numbered `hash(key) & MASK`."""


class Shards(Generic[K, V]):
    """A dictionary in parts."""

    __slots__ = ("_size", "parts")

    def __init__(self) -> None:
        self.parts: Final[tuple[dict[K, V], ...]] = tuple({} for _ in range(MASK + 1))
        """For whoever looks up so often that a call of `get` would count."""
        self._size = 0

    def __len__(self) -> int:
        """The number of keys."""
        return self._size

    def get(self, key: K) -> V | None:
        """Return the value of a key, or None if there is none."""
        return self.parts[hash(key) & MASK].get(key)

    def add(self, key: K, value: V) -> bool:
        """Enter a key with its value; return False, changing nothing, if it has one."""
        part = self.parts[hash(key) & MASK]
        if key in part:
            return False
        part[key] = value
        self._size += 1
        return True

    def pop(self, key: K) -> V | None:
        """Forget a key; return its value, or None if it had none."""
        found = self.parts[hash(key) & MASK].pop(key, None)
        self._size -= found is not None
        return found
