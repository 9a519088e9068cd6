"""Bytes become words by HAProxy's rules, and no word is lost without a word."""

import pytest

from natlb.config.diagnostics import Diagnostic
from natlb.config.lexer import MAX_WORDS, Lexer, Line

ENVIRON = {"HOME": "/root", "TWO": "a  b", "EMPTY": "", "QUOTED": "x\"y'z#"}


def lex(data: bytes) -> list[list[str] | str]:
    """Each line's words, or what was said in their place."""
    return [list(item.words) if isinstance(item, Line) else item.text for item in Lexer("t.cfg", data, ENVIRON)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"a b", ["a", "b"]),
        (b"\t a \v\f b \t", ["a", "b"]),
        (b"a b # c", ["a", "b"]),
        (b"a b#c", ["a", "b"]),
        (b"a b\\#c", ["a", "b#c"]),
        (b"a 'b c' \"d e\"", ["a", "b c", "d e"]),
        (b"a b'c d'e\"f g\"", ["a", "bc def g"]),
        (b"a 'b\"c' \"d'e\"", ["a", 'b"c', "d'e"]),
        (b"a '#' \"#\"", ["a", "#", "#"]),
        (b"a b\\ c", ["a", "b c"]),
        (b"a \\\\ \\' \\\"", ["a", "\\", "'", '"']),
        (b"a \\n\\r\\t\\x41", ["a", "\n\r\tA"]),
        (b"a \\q \\1 \\", ["a", "\\q", "\\1", "\\"]),
        (b"a '\\n \\x'", ["a", "\\n \\x"]),
        (b"a \\xc3\\xa9 \xc3\xa9", ["a", "\u00e9", "\u00e9"]),
        (b"a \\$HOME $HOME '$HOME'", ["a", "\\$HOME", "$HOME", "$HOME"]),
        (b'a "$HOME" "${HOME}/x" "\\$HOME"', ["a", "/root", "/root/x", "$HOME"]),
        (b'a "${NOPE-d e}" "${HOME-x}"', ["a", "d e", "/root"]),
        (b'a "${TWO}" "${TWO[*]}" z', ["a", "a  b", "a", "b", "z"]),
        (b'a "$QUOTED"', ["a", "x\"y'z#"]),
        (b'a "${.FILE}:${.LINE}"', ["a", "t.cfg:1"]),
        (b'a "$EMPTY"', ["a"]),
        (b'a "$EMPTY$EMPTY" "${EMPTY[*]}"', ["a"]),
    ],
)
def test_a_line_becomes_words(line: bytes, words: list[str]) -> None:
    assert lex(line + b"\n") == [words]
    assert lex(line + b"\r\n") == [words]


@pytest.mark.parametrize("data", [b"", b"\n\n", b" \t\n", b"# x\n", b"  # \xff x\n", b'"$EMPTY"\n'])
def test_a_line_of_no_words_says_nothing(data: bytes) -> None:
    assert [item for item in lex(data) if isinstance(item, list)] == []


@pytest.mark.parametrize(
    ("line", "text", "caret"),
    [
        (b' a "b c', "unmatched quote at position 4:", '"'),
        (b"a 'b", "unmatched quote at position 3:", "'"),
        (b"a \\xZZ", "truncated or invalid hexadecimal sequence at position 3:", "\\"),
        (b"a \\x4", "truncated or invalid hexadecimal sequence at position 3:", "\\"),
        (b'a "$1"', "forbidden first char in environment variable name at position 5:", "1"),
        (b'a "${.NOPE}"', "forbidden first char in environment variable name at position 6:", "."),
        (b'a "${A"', "unmatched brace in environment variable name at position 5:", "{"),
        (b'a "${A', "unmatched brace in environment variable name at position 5:", "{"),
        (b'a "${A b}"', "unmatched brace in environment variable name at position 5:", "{"),
        (b'a "${HOME[1]}"', "truncated or invalid word expansion sequence at position 10:", "["),
        (b"a \\x00", "\\x00 would end the word here. Remove it.", "\\"),
        (b"a b\rc", "stray carriage return; HAProxy would read no further. Remove it.", " "),
    ],
)
def test_an_error_has_a_caret_below_the_character_to_blame(line: bytes, text: str, caret: str) -> None:
    (item,) = list(Lexer("t.cfg", line + b"\n", ENVIRON))
    assert isinstance(item, Diagnostic)
    assert item.text == text
    shown, below = item.details
    assert shown[below.index("^")] == caret


def test_a_long_line_is_cut_around_the_caret() -> None:
    (item,) = list(Lexer("t.cfg", b"x" * 500 + b'"' + b"y" * 500 + b"\n", {}))
    assert isinstance(item, Diagnostic)
    shown, below = item.details
    assert len(shown) <= 82
    assert shown[below.index("^")] == '"'


def test_reading_goes_on_after_an_error() -> None:
    assert lex(b'a "\nb c\n') == ["unmatched quote at position 3:", ["b", "c"]]


def test_the_last_newline_may_not_be_missing() -> None:
    assert lex(b"a\nbc d") == [
        ["a"],
        ["bc", "d"],
        "Missing LF on last line, file might have been truncated at position 5.",
    ]


def test_sixty_four_words_are_the_most() -> None:
    assert lex(b"x " * (MAX_WORDS - 1) + b"x\n") == [["x"] * MAX_WORDS]
    too_many = "too many words, truncating after word 64, position 127: <x>."
    assert lex(b"x " * MAX_WORDS + b"x\n") == [too_many]


def test_white_space_after_the_sixty_fourth_word_is_a_word_too_many_as_in_haproxy() -> None:
    assert lex(b"x " * MAX_WORDS + b"\n") == ["too many words, truncating after word 64, position 127: <>."]


@pytest.mark.parametrize("line", [b'a "" b', b"'' a", b'a "$EMPTY" b', b'""', b'"${EMPTY[*]}" b'])
def test_an_empty_word_would_hide_the_rest_of_the_line_and_is_refused(line: bytes) -> None:
    (text,) = lex(line + b"\n")
    assert "is empty; HAProxy would read no further. Remove it." in text


def test_an_unset_variable_is_said_to_stand_for_nothing() -> None:
    assert lex(b'a b"$NOPE"\n') == ["environment variable 'NOPE' is not set; it stands for nothing.", ["a", "b"]]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\nb\0c\nd\n", "Stray NUL character at position 2: this is no text file; it is not read."),
        (b"\x7fELF\x02\x01", "control character 0x7f at position 1: this is no text file; it is not read."),
        (b"\x1f\x8b\x08\x00", "control character 0x1f at position 1: this is no text file; it is not read."),
        ("a b\n".encode("utf-16"), "Stray NUL character at position 4: this is no text file; it is not read."),
        (b"\xef\xbb\xbfa b\n", "the file starts with a byte-order mark; save it as UTF-8 without one."),
    ],
)
def test_what_is_no_text_is_answered_in_one_line(data: bytes, text: str) -> None:
    assert lex(data) == [text]


def test_bytes_that_are_not_utf8_are_refused_in_words_and_let_be_in_comments() -> None:
    assert lex(b"a \xe9t\xe9 # \xe9\n") == ["'\udce9t\udce9' is not UTF-8; save the file as UTF-8."]
    assert lex(b"a # \xe9\n") == [["a"]]


def test_a_variable_that_is_not_utf8_is_refused() -> None:
    (item,) = list(Lexer("t.cfg", b'a "$X"\n', {"X": "\ud800"}))
    assert isinstance(item, Diagnostic)


def test_the_section_variable_is_the_section_that_the_parser_is_in() -> None:
    lexer = Lexer("t.cfg", b'a "${.SECTION}"\nb "${.SECTION}"\n', {})
    words = []
    for item in lexer:
        assert isinstance(item, Line)
        words.append(item.word(1))
        lexer.section = "www"
    assert words == ["", "www"]
