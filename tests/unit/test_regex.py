"""Python's `re` is the oracle of what matches, HAProxy's PCRE of what is a pattern; neither is of how long it takes."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natlb.regex import MOST_PLACES, Pattern, PatternError, Search
from tests.effort import examples

ATOMS = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", "\\d", "\\n", "(?:ab)", "(a|b)", "(c|)", "[a-c]", "x"])
TIMES = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{0,2}", "{1,}", "*?"])
PIECES = st.lists(st.tuples(ATOMS, TIMES).map("".join), max_size=6).map("".join)
PATTERNS = st.builds("{}{}{}".format, st.sampled_from(["", "^"]), PIECES, st.sampled_from(["", "$"]))
TEXTS = st.text(alphabet="abcx1\n", max_size=12)


@settings(max_examples=examples(1000))
@given(st.lists(PATTERNS, min_size=1, max_size=3).map("|".join), TEXTS)
def test_it_matches_where_pythons_does(pattern: str, text: str) -> None:
    assert Pattern(pattern.encode()).search(text.encode()) is (re.search(pattern, text) is not None)


@pytest.mark.parametrize(
    ("pattern", "found", "not_found"),
    [
        (r"^\+PONG", b"+PONG\r\n", b" +PONG"),
        (r"\.$", b"a.", b"a.b"),
        (r"a$", b"a\n", b"a\n\n"),
        (r"[[:digit:][:upper:]_]{3}", b"..A_1", b"A1b"),
        (r"[[:^alpha:]]", b"1", b"a"),
        (r"[]a]", b"]", b"b"),
        (r"[^]a]", b"b", b"]"),
        (r"[a\-z]", b"-", b"b"),
        (r"[a-]", b"-", b"b"),
        (r"\x41\t", b"A\t", b"A"),
        (r"a{,b", b"a{,b", b"ab"),
        (r"\w\W\s\S\d\D", b"a- a1a", b"aaaaaa"),
        (r"\e", b"\x1b", b"e"),
        ("\u00e9", "\u00e9".encode(), b"\xe9"),
    ],
)
def test_it_reads_a_pattern_as_pcre_does(pattern: str, found: bytes, not_found: bytes) -> None:
    made = Pattern(pattern.encode())
    assert made.search(found)
    assert not made.search(not_found)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a", "a group is not closed"),
        ("a)", "')' closes no group"),
        ("[a", "'[' is not closed"),
        ("*a", "'*' has nothing to repeat"),
        ("a**", "a repetition follows another one"),
        ("a{2}{3}", "a repetition follows another one"),
        ("a++", "possessive repetition"),
        ("^*", "'^' and '$' cannot be repeated"),
        ("a$b", "something follows '$'"),
        ("(a$)b", "something follows '$'"),
        ("(?=a)", "only '(?:...)' is supported"),
        ("(?i)a", "only '(?:...)' is supported"),
        ("(*VERB)", "only '(?:...)' is supported"),
        (r"(a)\1", r"'\1' is not supported"),
        (r"\bA", r"'\b' is not supported"),
        ("a\\", "a backslash stands at the end"),
        (r"\xg1", "two hexadecimal digits"),
        (r"\x4", "two hexadecimal digits"),
        ("[z-a]", "in the wrong order"),
        (r"[a-\d]", "does not end in a character"),
        (r"[\d-z]", "does not begin with a character"),
        ("[[:foo:]]", "no class that is known"),
        ("[[.a.]]", "no class that is known"),
        ("a{3,2}", "numbers in the wrong order"),
        ("a{256}", "up to 255 times"),
        ("a{,3}", "write '{0,n}'"),
        ("(" * 60 + ")" * 60, "up to 50 within each other"),
        ("(a{200}){200}", f"it may have {MOST_PLACES} places"),
    ],
)
def test_what_is_wrong_or_not_supported_is_refused_with_the_reason(pattern: str, why: str) -> None:
    with pytest.raises(PatternError, match=re.escape(why)):
        Pattern(pattern.encode())


@given(st.binary(max_size=20))
def test_any_bytes_are_a_pattern_or_are_refused(pattern: bytes) -> None:
    try:
        Pattern(pattern).search(b"abc")
    except PatternError as error:
        assert str(error)


@pytest.mark.parametrize("pattern", [b"(a|a)*b", b"(a*)*b", b"(a|b)*a(a|b){14}c", b"(.*){5}x"])
def test_the_time_is_linear_even_where_others_need_exponential_time(pattern: bytes) -> None:
    made = Pattern(pattern)
    started = time.process_time()
    assert not made.search(b"a" * 16384)
    assert time.process_time() - started < 2


def test_memory_is_bounded_whatever_the_text() -> None:
    made = Pattern(b"(a|b)*a(a|b){14}c")
    text = bytes(b"ab"[(number * number // 7) & 1] for number in range(16384))
    assert not made.search(text)
    assert len(made._states) <= 1000


@pytest.mark.parametrize("pattern", [b"abc", b"b$", b"^a+b", b"(ab|c)*d$", b"."])
@given(st.lists(st.sampled_from([b"a", b"b", b"ab", b"c", b"d", b"\n", b""]), max_size=8))
def test_a_search_in_pieces_finds_what_one_in_all_of_it_finds(pattern: bytes, pieces: list[bytes]) -> None:
    made = Pattern(pattern)
    search, text = Search(made), b""
    for piece in pieces:
        text += piece
        found = any(search.steps(piece, 3))
        assert found is made.search(text)
        if found:
            return  # whoever has found it does not go on


def test_a_search_can_be_made_in_steps() -> None:
    made = Pattern(b"end$")
    assert list(made.steps(b"x" * 10 + b"end", 4)) == [False, False, False, False, True]
    assert list(Pattern(b"x").steps(b"axaaa", 1))[-1]
    assert list(made.steps(b"", 4)) == [False]
