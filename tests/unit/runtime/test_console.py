"""Lines out of bytes, words out of lines, and what follows a reply."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.core.engine import NatEngine
from natlb.core.service import VirtualAddresses
from natlb.runtime.commands import LANGUAGE
from natlb.runtime.console import LONGEST_LINE, Console, split
from natlb.runtime.language import Command, Language, Level, Message, Severity
from natlb.runtime.running import Running

from .consoles import Doctor, Recruits, typed


def console(language: Language = LANGUAGE) -> Console:
    engine = NatEngine(VirtualAddresses())
    today = datetime(2026, 11, 26, 8, 59, 52, 484999)
    running = Running(engine, [], {}, lambda: 0.0, Recruits(), Doctor(), today=lambda: today)
    return Console(running, language, Level.ADMIN, 10.0)


def lines(data: bytes) -> list[str]:
    at = console()
    at.feed(data)
    found = []
    while (line := at.next_line()) is not None:
        found.append(line)
    return found


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"a\n", ["a"]),
        (b"a b\r\nc\n", ["a b", "c"]),
        (b"a;b\n", ["a", "b"]),
        (b"a;b", ["a"]),
        (b"a;", ["a"]),
        (b"a\\;", []),
        (b"a\nb", ["a"]),
        (b"a\\;b;c\n", ["a\\;b", "c"]),
        (b"a\\\\;b\n", ["a\\\\", "b"]),
        (b"a\\\nb\n", ["a\\", "b"]),
        (b"a\0b\nc\n", ["a", "c"]),
        (b";\n", ["", ""]),
        (b"\r\n", [""]),
        (b"\xff\n", ["\ufffd"]),
    ],
)
def test_a_line_ends_at_its_lf_and_a_command_at_its_semicolon(data: bytes, found: list[str]) -> None:
    assert lines(data) == found


@given(st.lists(st.binary(max_size=12), max_size=8))
def test_how_bytes_come_in_makes_no_difference(pieces: list[bytes]) -> None:
    at, found = console(), []
    for piece in pieces:
        at.feed(piece)
        while (line := at.next_line()) is not None:
            found.append(line)
    assert found == lines(b"".join(pieces))


def test_a_line_longer_than_the_buffer_has_no_room_and_no_end() -> None:
    at = console()
    at.feed(b"x" * LONGEST_LINE)
    assert (at.room, at.next_line()) == (0, None)


def test_commands_of_a_line_longer_than_the_buffer_are_taken_as_they_come() -> None:
    at = console()
    at.feed(b"show backend;" * (LONGEST_LINE // 13 + 1))
    assert at.next_line() == "show backend"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("  a\t b ", ["a", "b"]),
        ("a\\ b c", ["a b", "c"]),
        ("a\\\\b", ["a\\b"]),
        ("a\\;b", ["a;b"]),
        ("a\\", ["a"]),
        ("", []),
    ],
)
def test_a_backslash_takes_the_meaning_from_what_follows(line: str, words: list[str]) -> None:
    assert split(line) == words


def test_a_payload_is_refused_once_it_is_whole_and_none_of_it_is_obeyed() -> None:
    at = console()
    assert typed(at, "set server b/s state <<") == ""
    assert at.waiting
    assert typed(at, "quit") == ""
    assert typed(at, "") == "Payloads ('<<') are not accepted: no command of natlb's takes one.\n\n"
    assert not at.waiting
    assert not at.finished


def test_an_interactive_client_is_prompted_for_more_of_its_payload() -> None:
    at = console()
    typed(at, "prompt")
    assert [typed(at, line) for line in ("a <<", "b;c")] == ["+ ", "+ "]
    assert typed(at, "").endswith("\n\n> ")


def test_a_semicolon_in_a_payload_separates_nothing() -> None:
    at = console()
    typed(at, "a <<")
    at.feed(b"b;c\n")
    assert at.next_line() == "b;c"


def test_messages_are_marked_and_what_was_asked_for_is_not() -> None:
    language = Language(
        [
            Command(("say",), Level.USER, "say", "", lambda *_: Message("so\n", Severity.NOTICE)),
            Command(("show",), Level.USER, "show", "", lambda *_: iter(["a\n", "b\n"])),
            Command(("done",), Level.USER, "done", "", lambda *_: ""),
        ],
        {},
    )
    at = console(language)
    answers = {}
    for at.severities in ("none", "number", "string"):
        answers[at.severities] = [typed(at, line) for line in ("say", "show", "done")]
    assert answers == {
        "none": ["so\n\n", "a\nb\n\n", "\n"],
        "number": ["[5]: so\n\n", "a\nb\n\n", "\n"],
        "string": ["[notice]: so\n\n", "a\nb\n\n", "\n"],
    }


def test_whoever_drives_the_engine_hears_of_every_command() -> None:
    at, heard = console(), []
    at.running.afterwards = lambda: heard.append(True)
    for line in ("show backend", "nonsense", "shutdown session 0x99"):
        typed(at, line)
    assert heard == [True, True, True]
