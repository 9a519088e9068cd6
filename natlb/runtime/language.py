"""The language of the stats socket: what a command is, how one is found, and what is said when none is.

A language is one table of commands. It is obeyed, and `help` is written from it, so that the two cannot differ. Which
command a line means is decided word for word: HAProxy takes no abbreviations, and neither does this. A line that means
none is answered with those that come nearest, as HAProxy finds them: as many first words as fit, then by the likeness
of the rest (`natlb.spelling`).
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, Final

from natlb.spelling import Fingerprint, distance, fingerprint

if TYPE_CHECKING:
    from natlb.runtime.console import Console

_MOST_MATCHES: Final = 5
"""Commands that are suggested by their likeness."""
_WORDS_COMPARED: Final = 5
_LETTERS_COMPARED: Final = 50
"""Of each word: more than any command's words have. What anybody sends must not take long to answer."""
_LAST: Final = (
    "  help [<command>]                        : list matching or all commands\n"
    "  prompt                                  : toggle interactive mode with prompt\n"
    "  quit                                    : disconnect\n"
)
"""What every list of commands ends with."""


class Level(IntEnum):
    """What a stats socket allows, in HAProxy's words."""

    USER = 0
    OPERATOR = 1
    ADMIN = 2


class Severity(IntEnum):
    """How serious a message is: syslog's numbers."""

    ERR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6


@dataclass(frozen=True, slots=True)
class Message:
    """A reply about what was asked, as opposed to what was asked for; `set severity-output` marks it."""

    text: str
    """With its line's end, where HAProxy's has one."""
    severity: Severity

    def __str__(self) -> str:
        return self.text


class Refused(Exception):  # noqa: N818 - it is an answer, and no error of natlb's
    """A command could not be obeyed, or had nothing to do; the text is the reply."""

    def __init__(self, text: str, severity: Severity = Severity.ERR, end: str = "\n") -> None:
        """Say so; some of HAProxy's texts have no `end` of their line, and clients split replies by that."""
        super().__init__(text)
        self.message = Message(text + end, severity)


Reply = str | Message
Answer = Reply | Iterator[str] | Awaitable[Reply]
"""A whole reply, pieces of one that are each made in little time, or the promise of one."""

Words = Sequence[str]


@dataclass(frozen=True, slots=True)
class Command:
    """One entry of the language."""

    words: tuple[str, ...]
    level: Level
    usage: str
    """Its line in `help`, up to the colon; empty for those that stand at the end of every list, or in none."""
    help: str
    answer: "Callable[[Console, Words], Answer]"
    """From the words after the command's own to the reply. Raises Refused."""


class Language:
    """All commands that are understood, and those of HAProxy's that are refused by name."""

    def __init__(self, commands: Sequence[Command], refused: Mapping[tuple[str, ...], str]) -> None:
        """Speak `commands`; `refused` are the words of others, each with the reason."""
        self.commands = tuple(commands)
        self.refused = dict(refused)

    def find(self, words: Words) -> Command | None:
        """Return the command that these words begin with. Raises Refused for one of HAProxy's that natlb has not.

        Of several, the longest is meant; so a part of a command may be refused.
        """
        typed = tuple(words)
        meant = (each for each in self.commands if typed[: len(each.words)] == each.words)
        found = max(meant, key=lambda each: len(each.words), default=None)
        for own, reason in self.refused.items():
            if typed[: len(own)] == own and (found is None or len(own) > len(found.words)):
                raise Refused(f"'{' '.join(own)}' is not available: {reason}")
        return found

    def help(self, words: Words) -> Message:
        """Return what `help` answers: the commands that come near these words, all when there are none."""
        return Message(f"The following commands are valid at this level:\n{self._listed(words)}", Severity.INFO)

    def unknown(self, words: Words) -> Message:
        """Return what a line that means no command is answered with."""
        heading = (
            "Unknown command, but maybe one of the following ones is a better match:"
            if words
            else "Unknown command. Please enter one of the following commands only:"
        )
        return Message(f"{heading}\n{self._listed(words)}", Severity.INFO)

    def _listed(self, words: Words) -> str:
        common = max((_common(command.words, words) for command in self.commands), default=0)
        candidates = [each for each in self.commands if each.usage and _common(each.words, words) >= common]
        near = _nearest(candidates, words, common) or candidates
        lines = sorted(f"  {command.usage:<40}: {command.help}\n" for command in near)
        return "".join([*lines, _LAST])


def _common(one: Words, other: Words) -> int:
    """Return how many words two begin with alike."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


@cache
def _fingerprint(words: tuple[str, ...]) -> Fingerprint:
    return fingerprint(*words)


def _nearest(candidates: Sequence[Command], words: Words, common: int) -> list[Command]:
    """Return the commands whose words after the `common` ones look most like those typed; none if none does."""
    typed = [word[:_LETTERS_COMPARED] for word in words[common:_WORDS_COMPARED]]
    if not typed:
        return []
    rated = []
    wanted = fingerprint(*typed)
    for command in candidates:
        own = command.words[common:_WORDS_COMPARED]
        away = distance(wanted, _fingerprint(own))
        if away < 5 * sum(map(len, (*typed, *own))) // 2:
            rated.append((away, command))
    rated.sort(key=lambda pair: pair[0])
    return [command for away, command in rated[:_MOST_MATCHES] if away <= 5 * rated[0][0] // 2]
