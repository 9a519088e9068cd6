r"""The inputs that are kept: one file for each target, one input on each line.

An input is bytes and is kept as text, for whoever reads a change of it: bytes that can be printed stand for themselves,
a backslash is doubled, and all others are written `\n`, `\r`, `\t` or `\xNN`, as in a literal of Python's. A fuzzer
wants a directory with a file for each input, named by its hash: `unpack` makes that.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

DIRECTORY = Path(__file__).with_name("corpus")

_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|(.))", re.DOTALL)
_SHORT = {b"\n": b"n", b"\r": b"r", b"\t": b"t", b"\\": b"\\"}
_LONG = {short: byte for byte, short in _SHORT.items()}


def read(target: str, directory: Path = DIRECTORY) -> list[bytes]:
    """Return the inputs that are kept for a target."""
    path = directory / f"{target}.txt"
    return [unescape(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


def write(target: str, inputs: Iterable[bytes], directory: Path = DIRECTORY) -> None:
    """Keep these inputs for a target, and no others: the shortest first, so that a change of some changes few lines."""
    lines = [escape(each) + b"\n" for each in sorted(set(inputs), key=lambda each: (len(each), each))]
    (directory / f"{target}.txt").write_bytes(b"".join(lines))


def unpack(inputs: Iterable[bytes], directory: Path) -> None:
    """Put each input into a file of its own, as libFuzzer names them."""
    directory.mkdir(parents=True, exist_ok=True)
    for each in inputs:
        (directory / hashlib.sha1(each, usedforsecurity=False).hexdigest()).write_bytes(each)


def escape(data: bytes) -> bytes:
    """Return bytes as one line of text."""
    return b"".join(_escaped(bytes((byte,))) for byte in data)


def _escaped(byte: bytes) -> bytes:
    if byte in _SHORT:
        return b"\\" + _SHORT[byte]
    return byte if b" " <= byte <= b"~" else b"\\x%02x" % byte[0]


def unescape(line: bytes) -> bytes:
    """Return the bytes that a line of text stands for. Raises ValueError on an escape that there is none of."""

    def byte(match: re.Match[bytes]) -> bytes:
        if match[1] is not None:
            return bytes((int(match[1], 16),))
        if match[2] not in _LONG:
            raise ValueError(f"{match[0]!r} stands for no byte")
        return _LONG[match[2]]

    return _ESCAPE.sub(byte, line)
