"""An input, read as a row of decisions.

A fuzzer changes bytes and knows no meanings. A target that reads each byte as one choice among few makes a story out of
any input: a byte more is a packet more, a byte changed is another host. When the bytes have come to an end every choice
is the first one, so each input has an end too.
"""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """The decisions of one input."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self._at < len(self._data)

    def byte(self) -> int:
        """Return the next byte, or 0 behind the end."""
        if self._at >= len(self._data):
            return 0
        self._at += 1
        return self._data[self._at - 1]

    def number(self, size: int) -> int:
        """Return a number of so many bytes."""
        return int.from_bytes(self.take(size).ljust(size, b"\0"), "big")

    def pick(self, options: Sequence[T]) -> T:
        """Return one of up to 256 options."""
        return options[self.byte() % len(options)]

    def take(self, size: int) -> bytes:
        """Return the next bytes as they are: fewer, if fewer are left."""
        self._at += size
        return self._data[self._at - size : self._at]

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(max(0, len(self._data) - self._at))
