"""The bytes of a soak: whatever happens to one of them is found, and told."""

import pytest

from netns.soak.keyed import Stream, WrongByte

STREAM = Stream(44, 7, "up")
LONG = 100_000


def test_bytes_are_the_same_however_they_are_cut() -> None:
    whole = STREAM.at(0, LONG)
    assert len(whole) == LONG
    for first in (0, 1, 32_767, 32_768, 32_769, 65_535):
        for size in (1, 2, 32_768, 34_000):
            assert STREAM.at(first, size) == whole[first : first + size]


def test_no_two_streams_have_anything_in_common() -> None:
    others = [Stream(44, 7, "down"), Stream(44, 8, "up"), Stream(45, 7, "up")]
    sample = STREAM.at(0, 16)
    assert all(sample not in other.at(0, LONG) for other in others)
    assert STREAM.at(0, LONG).count(sample) == 1


def test_what_is_right_is_right_at_its_place() -> None:
    STREAM.check(12_345, STREAM.at(12_345, 1_000))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            STREAM.at(1_000, 50) + b"!" + STREAM.at(1_051, 949),
            "^byte 1050 is 21 .*; 1 of 950 bytes .* in their places$",
        ),
        (STREAM.at(1_000, 50) + STREAM.at(1_055, 950), "^byte 1050 .*; what follows belongs 5 bytes further on$"),
        (STREAM.at(1_000, 50) + STREAM.at(1_040, 950), "^byte 1050 .*; what follows belongs 10 bytes back$"),
        (STREAM.at(1_000, 50) + Stream("other").at(0, 950), "^byte 1050 .*; what follows is not of this stream$"),
    ],
    ids=["altered", "lost", "doubled", "another's"],
)
def test_what_is_wrong_is_found_at_its_place(found: bytes, words: str) -> None:
    with pytest.raises(WrongByte, match=words):
        STREAM.check(1_000, found)


def test_the_last_byte_counts_too() -> None:
    with pytest.raises(WrongByte, match=r"^byte 99 is"):
        STREAM.check(0, STREAM.at(0, 99) + bytes([STREAM.at(99, 1)[0] ^ 1]))
