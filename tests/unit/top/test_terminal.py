"""What a terminal sends, and the keys that it means."""

import pytest

from natlb.top.terminal import keys


@pytest.mark.parametrize(
    ("received", "pressed"),
    [
        (b"q", ["q"]),
        (b"s1?", ["s", "1", "?"]),
        (b"\t", ["tab"]),
        (b" ", [" "]),
        (b"\x1b[A\x1b[B", ["up", "down"]),
        (b"\x1bOA\x1bOB\x1bOH", ["up", "down", "home"]),
        (b"\x1b[5~\x1b[6~\x1b[H\x1b[1~", ["pageup", "pagedown", "home", "home"]),
        (b"\x1b[24~", []),
        (b"\x1b", []),
        (b"\x00\x07\r\n", []),
        ("é".encode(), []),
        (b"\xff\xfeq", ["q"]),
        (b"", []),
    ],
)
def test_keys_are_named_and_what_is_unknown_is_left_out(received: bytes, pressed: list[str]) -> None:
    assert keys(received) == pressed
