"""The bytes of a soak: each stream's own, known at each position, so that none can be lost, doubled or altered unseen.

A stream is what one end of a connection sends; its bytes are SHAKE-128 of its name, cut into blocks that can be made
each by itself. Whoever knows the name can say what byte belongs where. Two streams have nothing in common, nor have two
places of one stream: so a strange byte also tells where it belongs.
"""

import hashlib
from functools import lru_cache

_BLOCK = 1 << 15
_SAMPLE = 16
"""Bytes by which a place in a stream is recognised."""
_NEARBY = 1 << 18
"""Bytes before and after in which they are looked for: more than is on its way at a time."""


class WrongByte(Exception):  # noqa: N818 - it says what was found, and is no mistake of the program's
    """A byte that does not belong where it was found; the message says where that was and what it looks like."""


class Stream:
    """What one end of a connection sends, or one datagram carries."""

    def __init__(self, *name: object) -> None:
        self._name = "/".join(map(str, name))

    def at(self, position: int, size: int) -> bytes:
        """Return `size` bytes from a position on."""
        first, last = position // _BLOCK, (position + size - 1) // _BLOCK
        if first == last:
            within = position - first * _BLOCK
            return _block(self._name, first)[within : within + size]
        whole = b"".join(_block(self._name, number) for number in range(first, last + 1))
        return whole[position - first * _BLOCK :][:size]

    def check(self, position: int, found: bytes) -> None:
        """Compare what has come at a position; WrongByte at the first byte that differs."""
        expected = self.at(position, len(found))
        if found != expected:
            raise WrongByte(self._described(position, found, expected))

    def _described(self, position: int, found: bytes, expected: bytes) -> str:
        at = next(i for i, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other)
        words = f"byte {position + at} is {found[at]:02x} and should be {expected[at]:02x}"
        sample = found[at : at + _SAMPLE]
        if len(sample) < _SAMPLE:
            return words
        differ = sum(one != other for one, other in zip(found[at:], expected[at:], strict=True))
        if differ < len(found[at:]) // 2:
            return f"{words}; {differ} of {len(found) - at} bytes from there on are wrong, in their places"
        start = max(0, position + at - _NEARBY)
        belongs = self.at(start, 2 * _NEARBY).find(sample)
        if belongs < 0:
            return f"{words}; what follows is not of this stream"
        way = start + belongs - (position + at)
        return f"{words}; what follows belongs {abs(way)} bytes {'further on' if way > 0 else 'back'}"


@lru_cache(maxsize=64)
def _block(name: str, number: int) -> bytes:
    """Return one block of a stream; those in use are kept, since pieces of one block are asked for one by one."""
    return hashlib.shake_128(f"{name}#{number}".encode()).digest(_BLOCK)
