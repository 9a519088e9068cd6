"""Which command a line means, and what is said when it means none."""

import re
from pathlib import Path

import pytest

from natlb.runtime.commands import LANGUAGE
from natlb.runtime.language import Command, Language, Level, Refused
from natlb.runtime.running import Running

from .consoles import answer

_LAST = ["help", "prompt", "quit"]


def shown(reply: str) -> list[str]:
    """Return the usages that a list of commands has, less the three that every list ends with."""
    lines = [line.split(":")[0].split("[")[0].split("<")[0].strip() for line in reply.splitlines()[1:]]
    assert lines[-3:] == _LAST
    return lines[:-3]


def language(*commands: str) -> Language:
    return Language([Command(tuple(c.split()), Level.USER, c, "", lambda *_: "") for c in commands], {})


def test_commands_that_begin_with_the_same_words_are_suggested() -> None:
    tongue = language("show sess", "show stat", "set server")
    assert shown(tongue.unknown(["show"]).text) == ["show sess", "show stat"]
    assert shown(tongue.unknown(["show", "zzzzzzzzzz"]).text) == ["show sess", "show stat"]


def test_the_likest_words_are_suggested() -> None:
    tongue = language("show sess", "show stat", "set server")
    assert shown(tongue.unknown(["show", "ses"]).text) == ["show sess"]
    assert shown(tongue.unknown(["shwo", "sess"]).text) == ["show sess"]


def test_no_more_than_five_are_suggested_by_likeness() -> None:
    tongue = language(*(f"wor{letter}" for letter in "abcdefgh"))
    assert len(shown(tongue.unknown(["wor"]).text)) == 5


def test_an_empty_line_is_answered_with_all_commands() -> None:
    reply = LANGUAGE.unknown([]).text
    assert reply.startswith("Unknown command. Please enter one of the following commands only:\n")
    assert len(shown(reply)) == len([command for command in LANGUAGE.commands if command.usage])


def test_help_is_written_from_the_table_in_alphabetical_order() -> None:
    usages = shown(LANGUAGE.help([]).text)
    assert usages == sorted(usages)
    assert {" ".join(command.words) for command in LANGUAGE.commands if command.usage} == {
        usage.removesuffix(" (DEPRECATED)").strip() for usage in usages
    }


def test_a_language_of_nothing_has_help_all_the_same() -> None:
    assert shown(Language([], {}).help([]).text) == []


@pytest.mark.parametrize("words", ["show map x", "set ssl cert", "show pools", "trace", "get acl a b"])
def test_what_only_haproxy_has_is_refused_by_name_with_the_reason(running: Running, words: str) -> None:
    reply = answer(running, words)
    assert reply.startswith(f"'{words.split(maxsplit=1)[0]}")
    assert "' is not available: " in reply


def test_what_is_refused_is_not_understood() -> None:
    for words in LANGUAGE.refused:
        with pytest.raises(Refused):
            LANGUAGE.find(words)
        assert all(command.words[: len(words)] != words for command in LANGUAGE.commands)


def test_the_page_about_the_runtime_api_has_every_command() -> None:
    page = (Path(__file__).parents[3] / "docs" / "runtime.md").read_text(encoding="utf-8")
    told = " ".join(page.replace("`", " ").split())
    unmentioned = [
        " ".join(command.words)
        for command in LANGUAGE.commands
        if not all(re.search(rf"\b{re.escape(word)}\b", told) for word in command.words)
    ]
    assert unmentioned == []


def test_a_part_of_a_command_may_be_refused() -> None:
    tongue = Language(language("show x", "show x y z").commands, {("show", "x", "y"): "there is no y."})
    for words, found in (("show x", "show x"), ("show x w", "show x"), ("show x y z", "show x y z")):
        command = tongue.find(words.split())
        assert command is not None
        assert command.usage == found
    with pytest.raises(Refused, match="'show x y' is not available: there is no y"):
        tongue.find(["show", "x", "y"])
