import pytest

from netns.claims import LONGEST, Claim, drawn, report, shown, told
from netns.draw import WIDTH, Pen


def test_a_claim_that_holds_is_a_line_with_a_tick():
    assert drawn(Pen(), Claim("two and two are four", saw=4, expected=4)) == "✓ two and two are four"


def test_one_that_does_not_says_what_was_seen_what_was_expected_and_what_to_do():
    claim = Claim(
        "the servers take turns", saw=["server1", "server1"], expected=["server1", "server2"], remedy="lab.sh up"
    )
    assert drawn(Pen(), claim).splitlines() == [
        "✗ the servers take turns",
        "    saw       server1, server1",
        "    expected  server1, server2",
        "    try       lab.sh up",
    ]


def test_without_boxes_nothing_is_said_by_a_character_that_is_not_there():
    assert drawn(Pen(boxes=False), Claim("a", 1, 2)).startswith("x a")
    assert drawn(Pen(boxes=False), Claim("a", 1, 1)).startswith("* a")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (False, "no"),
        (None, "nothing"),
        ("", "nothing"),
        (set(), "nothing"),
        ({}, "nothing"),
        ({"b", "a"}, "a, b"),
        ([1, [True, None]], "1, yes, nothing"),
        ({"server1": 6, "server2": 2}, "server1: 6, server2: 2"),
        (0, "0"),
    ],
)
def test_values_are_shown_as_people_write_them(value, text):
    assert shown(value) == text


def test_a_value_without_end_is_cut():
    assert shown("x" * 10_000) == "x" * LONGEST + " ..."


def test_lines_fit_the_terminal():
    claim = Claim("words " * 50, saw="seen " * 50, expected="wanted " * 50, remedy="do this " * 50)
    lines = drawn(Pen(), claim).splitlines() + told("sentence " * 50).splitlines()
    assert max(map(len, lines)) <= WIDTH


def test_a_report_ends_with_the_first_claim_that_does_not_hold(capsys):
    def findings():
        yield "a picture"
        yield Claim("first", 1, 1)
        yield Claim("second", 1, 2)
        raise AssertionError("nobody may look any further")

    assert report(Pen(), findings()) is False
    assert [line for line in capsys.readouterr().out.splitlines() if not line.startswith("    ")] == [
        "a picture",
        "✓ first",
        "✗ second",
    ]


def test_a_report_in_which_all_claims_hold(capsys):
    assert report(Pen(), ["text", Claim("a", 1, 1)]) is True
    assert capsys.readouterr().out == "text\n✓ a\n"
