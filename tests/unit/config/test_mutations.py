"""Whatever the bytes of a configuration: natlb answers, soon, and in characters that a terminal shows.

Valid configurations are damaged, byte by byte, word by word and line by line. A seed is a damaged file.
"""

import time
from collections.abc import Iterator
from random import Random

import pytest

from tests.garbage import collected_as_in_natlb

from .conftest import Reader
from .differential import pruned
from .grammar import ODD_WORDS, Grammar

FILES = 40
DAMAGES = 250
"""To each file, one at a time and several together: 10,000 in all."""
SLOWEST = 1.0
"""Seconds of the processor that reading a file may take."""

_BYTES = bytes([0, 1, 9, 10, 13, 27, 32, 34, 35, 36, 39, 44, 45, 46, 47, 58, 91, 92, 93, 123, 125, 127, 128, 195, 255])
_LONG = [b"a" * 5000, b"1" * 400, b"(" * 300, b"a," * 300, b"! " * 40, b"::" * 100, b'"' * 33, b"\\" * 77, b"{ " * 20]


def damaged(data: bytes, random: Random) -> bytes:
    """The bytes with one damage more."""
    at = random.randrange(len(data) + 1)
    lines = data.split(b"\n")
    line = random.randrange(len(lines))
    match random.randrange(11):
        case 0:
            return data[:at] + bytes([random.choice(_BYTES)]) + data[at:]
        case 1:
            return data[:at] + bytes([random.choice(_BYTES)]) + data[at + 1 :]
        case 2:
            return data[:at] + data[at + random.randrange(1, 9) :]
        case 3:
            return data[:at]
        case 4:
            lines.insert(line, lines[random.randrange(len(lines))])
        case 5:
            del lines[line]
        case 6:
            random.shuffle(lines)
        case 7:
            return data[:at] + random.choice(_LONG) + data[at:]
        case 8:
            words = lines[line].split()
            random.shuffle(words)
            lines[line] = b" ".join(words)
        case 9:
            words = lines[line].split() or [b"x"]
            words[random.randrange(len(words))] = random.choice(ODD_WORDS).encode()
            lines[line] = b" ".join(words)
        case _:
            lines[line] += b" " + random.choice(ODD_WORDS).encode()
    return b"\n".join(lines)


@pytest.fixture(scope="module", autouse=True)
def _collector() -> Iterator[None]:
    with collected_as_in_natlb():
        yield


@pytest.mark.parametrize("seed", range(FILES))
def test_no_damage_makes_natlb_raise_hang_or_garble(read: Reader, seed: int) -> None:
    random = Random(seed)
    lines = pruned(read, Grammar(random).configuration(most_sections=3)).lines or ["global"]
    whole = "".join(f"{line}\n" for line in lines).encode()
    data = whole
    for number in range(DAMAGES):
        data = damaged(whole if number % 2 else data or whole, random)[:20000]
        start = time.process_time()
        got = read(data, {"HOME": "/root"})
        took = time.process_time() - start
        assert took < SLOWEST, f"{took} s for {data!r}"
        assert got.parsed.exit_status in (0, 1, 2)
        said = got.lines
        assert (got.parsed.config is None) == any(line.startswith("[ALERT]") for line in said), data
        for line in said:
            assert all(part.isprintable() for part in line.split("\n")), f"{line!r} for {data!r}"
