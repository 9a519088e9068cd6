"""Messages have HAProxy's layout, and let nothing through that a terminal would obey."""

import pytest

from natlb.config.diagnostics import Diagnostic, printable
from natlb.config.model import Location

HERE = Location("t.cfg", 7)


@pytest.mark.parametrize(
    ("diagnostic", "shown"),
    [
        (Diagnostic("ALERT", HERE, "x"), "[ALERT]    (42) : config : parsing [t.cfg:7] : x"),
        (Diagnostic("WARNING", HERE, "x"), "[WARNING]  (42) : config : parsing [t.cfg:7] : x"),
        (Diagnostic("NOTICE", HERE, "x"), "[NOTICE]   (42) : config : parsing [t.cfg:7] : x"),
        (Diagnostic("ALERT", HERE, "x", parsing=False), "[ALERT]    (42) : config : [t.cfg:7] : x"),
        (Diagnostic("ALERT", None, "x"), "[ALERT]    (42) : config : x"),
        (
            Diagnostic("WARNING", HERE, "x", ("one", "two")),
            "[WARNING]  (42) : config : parsing [t.cfg:7] : x\n   | one\n   | two",
        ),
    ],
)
def test_the_layout_is_haproxys(diagnostic: Diagnostic, shown: str) -> None:
    assert diagnostic.render(42) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain \u00e9", "plain \u00e9"),
        ("a\nb\x1b[31m\x07", "a\\x0ab\\x1b[31m\\x07"),
        ("\udcff", "\\xff"),
        ("\u202e\ud800", "\\u202e\\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    rendered = Diagnostic("ALERT", Location(text, 1), text, (text,)).render(1)
    assert rendered.count("\n") == 1
    assert rendered.count(shown) == 3


def test_a_word_of_a_megabyte_makes_no_message_of_a_megabyte() -> None:
    assert len(Diagnostic("ALERT", HERE, "x" * 1_000_000).render(1)) < 1100
