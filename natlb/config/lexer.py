r"""From the bytes of a file to lines of words, by HAProxy's rules of quoting.

One directive is one line, and a line is words with white space between them. `#` starts a comment. What a character
means depends on where it stands:

    unquoted   \ escapes space # \ ' " and writes \n \r \t \xNN; before anything else it stays itself
    "..."      the same, and \$; here $NAME, ${NAME}, ${NAME-default} and ${NAME[*]} stand for the environment
    '...'      everything is itself

Outside double quotes a `$` is an ordinary character. (Address arguments expand variables once more, on their own:
`natlb.config.addresses`.) `.FILE`, `.LINE` and `.SECTION` are variables that HAProxy defines itself.

The hand-written loop follows the characters one by one, because every error points at one, with a caret below the line
as HAProxy draws it. A line with an error is reported and yields no words; the next line is read all the same.

What it never does: know a keyword, or read the environment of the process (it is handed one). Stricter than HAProxy, it
refuses what HAProxy lets through by accident: a carriage return in the middle of a line (the rest would vanish), an
empty word (all that follows it would vanish), control characters and bytes that are not UTF-8. A file with a NUL byte
or another control character in it is no text, and is answered in one line.
"""

import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from natlb.config.diagnostics import Diagnostic
from natlb.config.model import Location

MAX_WORDS: Final = 64

_SPACE: Final = frozenset(" \t\v\f\r\n")
_NAME_START: Final = frozenset(string.ascii_letters + "_.")
_NAME_REST: Final = frozenset(string.ascii_letters + string.digits + "_")
_HEX: Final = frozenset(string.hexdigits)
_PLAIN_ESCAPES: Final = {" ": " ", "\\": "\\", "#": "#", "'": "'", '"': '"', "n": "\n", "r": "\r", "t": "\t"}
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_CARET_WIDTH: Final = 80


@dataclass(frozen=True, slots=True)
class Line:
    """The words of one directive."""

    words: tuple[str, ...]
    """At least one; none is empty."""
    location: Location
    """Where it stands."""

    def word(self, index: int) -> str:
        """The word at `index`, 0 being the keyword; "" past the end."""
        return self.words[index] if index < len(self.words) else ""


def unset_variable(name: str, location: Location) -> Diagnostic:
    """The warning that a variable stands for nothing: HAProxy says nothing of it, and binds to every address."""
    return Diagnostic("WARNING", location, f"environment variable '{name}' is not set; it stands for nothing.")


class _LineError(Exception):
    def __init__(self, text: str, position: int | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.position = position
        """Index into the line of the character to blame."""


class Lexer:
    """The lines of one file. `section` is the parser's to keep: it is what `.SECTION` stands for."""

    def __init__(self, file: str, data: bytes, environ: Mapping[str, str]) -> None:
        self.section = ""
        self.gave_up = False
        """Whether the file was no text, and was not read."""
        self._file = file
        self._data = data
        self._environ = environ

    def __iter__(self) -> Iterator[Line | Diagnostic]:
        """Each directive with the warnings on it, or the error in its place. Empty lines and comments yield nothing."""
        broken = self._not_text()
        if broken is not None:
            self.gave_up = True
            yield broken
            return
        *whole, rest = self._data.split(b"\n")
        for number, raw in enumerate([*whole, rest] if rest else whole, 1):
            location = Location(self._file, number)
            text = raw.decode("utf-8", "surrogateescape")
            try:
                line, unset = self._split(text.removesuffix("\r"), location)
            except _LineError as error:
                yield _complaint(error, text, location)
                continue
            for name in unset:
                yield unset_variable(name, location)
            if line is not None:
                yield line
        if rest:
            text = f"Missing LF on last line, file might have been truncated at position {len(rest) + 1}."
            yield Diagnostic("ALERT", Location(self._file, len(whole) + 1), text)

    def _not_text(self) -> Diagnostic | None:
        data = self._data
        if data.startswith(_BYTE_ORDER_MARK):
            text = "the file starts with a byte-order mark; save it as UTF-8 without one."
            return Diagnostic("ALERT", Location(self._file, 1), text)
        control = _CONTROL.search(data)
        if control is None:
            return None
        line_start = data.rfind(b"\n", 0, control.start()) + 1
        location = Location(self._file, data.count(b"\n", 0, control.start()) + 1)
        what = "Stray NUL character" if control[0] == b"\x00" else f"control character 0x{control[0][0]:02x}"
        position = control.start() - line_start + 1
        return Diagnostic("ALERT", location, f"{what} at position {position}: this is no text file; it is not read.")

    def _split(self, text: str, location: Location) -> tuple[Line | None, list[str]]:
        splitter = _Splitter(text, self._environ, self._own_variables(location))
        splitter.split()
        words = [word.text() for word in splitter.words]
        if len(words) + splitter.ends_in_space > MAX_WORDS:  # HAProxy counts what follows the last space as a word
            last = words[MAX_WORDS - 1] if len(words) > MAX_WORDS else ""
            position = sum(len(word) + 1 for word in words[: MAX_WORDS - 1]) + 1
            text = f"too many words, truncating after word {MAX_WORDS}, position {position}: <{last}>."
            raise _LineError(text)
        while words and not words[-1] and splitter.words[len(words) - 1].expanded:
            words.pop()  # a variable that is unset or empty: an optional word that is not there
        if "" in words:
            text = f"word {words.index('') + 1} of '{text.strip()}' is empty; HAProxy would read no further. Remove it."
            raise _LineError(text)
        return (Line(tuple(words), location) if words else None), splitter.unset

    def _own_variables(self, location: Location) -> Mapping[str, str]:
        return {".FILE": location.file, ".LINE": str(location.line), ".SECTION": self.section}


class _Word:
    """A word being put together."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.expanded = False
        """Whether a variable had a part in it."""

    def text(self) -> str:
        word = "".join(self.parts)
        if word.isascii():
            return word
        try:
            return word.encode("utf-8", "surrogateescape").decode("utf-8")  # joins the bytes of \xc3\xa9
        except UnicodeError:
            raise _LineError(f"'{word}' is not UTF-8; save the file as UTF-8.") from None


class _Splitter:
    """One line being split. `at` moves along it, and the last of `words` grows."""

    def __init__(self, line: str, environ: Mapping[str, str], own: Mapping[str, str]) -> None:
        self.line = line
        self.environ = environ
        self.own = own
        self.at = 0
        self.words: list[_Word] = []
        self.unset: list[str] = []
        self.ends_in_space = False

    def split(self) -> None:
        """Fill `words`, `unset` and `ends_in_space`."""
        line = self.line
        opening: int | None = None  # where the quote that we are in was opened
        self._skip_space()
        while self.at < len(line):
            character = line[self.at]
            quote = None if opening is None else line[opening]
            if character == "#" and quote is None:
                break
            if character in _SPACE and character != "\r" and quote is None:
                self._skip_space()
                self.ends_in_space = True
                continue
            if not self.words or self.ends_in_space:
                self.words.append(_Word())
                self.ends_in_space = False
            if character == "\r":
                raise _LineError("stray carriage return; HAProxy would read no further. Remove it.", self.at)
            if character in "'\"" and quote in (None, character):
                opening = self.at if quote is None else None
                self.at += 1
            elif character == "\\" and quote != "'":
                self._escape(quote)
            elif character == "$" and quote == '"':
                self._variable()
            else:
                self._append(character)
                self.at += 1
        if opening is not None:
            raise _LineError(f"unmatched quote at position {opening + 1}:", opening)

    def _append(self, text: str) -> None:
        self.words[-1].parts.append(text)

    def _skip_space(self) -> None:
        while self.at < len(self.line) and self.line[self.at] in _SPACE:
            self.at += 1

    def _escape(self, quote: str | None) -> None:
        following = self.line[self.at + 1 : self.at + 2]
        if following in _PLAIN_ESCAPES:
            self._append(_PLAIN_ESCAPES[following])
            self.at += 2
        elif following == "$" and quote == '"':
            self._append("$")
            self.at += 2
        elif following == "x":
            digits = self.line[self.at + 2 : self.at + 4]
            if len(digits) < 2 or not _HEX.issuperset(digits):
                raise _LineError(f"truncated or invalid hexadecimal sequence at position {self.at + 1}:", self.at)
            if digits == "00":
                raise _LineError("\\x00 would end the word here. Remove it.", self.at)
            self._append(bytes.fromhex(digits).decode("utf-8", "surrogateescape"))
            self.at += 4
        else:
            self._append("\\")
            self.at += 1

    def _variable(self) -> None:
        line = self.line
        at = self.at + 1
        brace = at if line[at : at + 1] == "{" else None
        at += brace is not None
        start = at
        if line[at : at + 1] not in _NAME_START:
            raise _LineError(f"forbidden first char in environment variable name at position {at + 1}:", at)
        at += 1
        while at < len(line) and line[at] in _NAME_REST:
            at += 1
        name = line[start:at]
        value = self._value(name, start)
        spread = False
        if brace is not None:
            if line[at : at + 1] == "[":
                if line[at : at + 3] != "[*]":
                    raise _LineError(f"truncated or invalid word expansion sequence at position {at + 1}:", at)
                spread = True
                at += 3
            closing = line.find("}", at)
            if closing < 0 or (line[at] not in "-}"):
                raise _LineError(f"unmatched brace in environment variable name at position {brace + 1}:", brace)
            if line[at] == "-" and value is None:
                value = line[at + 1 : closing]
            at = closing + 1
        if value is None:
            self.unset.append(name)
        self._emit(value or "", spread)
        self.at = at

    def _value(self, name: str, start: int) -> str | None:
        if not name.startswith("."):
            return self.environ.get(name)
        if name not in self.own:
            raise _LineError(f"forbidden first char in environment variable name at position {start + 1}:", start)
        return self.own[name]

    def _emit(self, value: str, spread: bool) -> None:
        first, *others = re.split(r"[ \t\v\f\r\n]+", value) if spread else [value]
        self._append(first)
        self.words[-1].expanded = True
        for other in others:
            self.words.append(_Word())
            self._append(other)
            self.words[-1].expanded = True


def _complaint(error: _LineError, line: str, location: Location) -> Diagnostic:
    """The error as HAProxy shows it: below it the line, cut to fit, and a caret."""
    if error.position is None:
        return Diagnostic("ALERT", location, error.text)
    indent = len(line) - len(line.lstrip(" \t\v\f\r\n"))
    shown, caret = line[indent:].rstrip(), error.position - indent
    if caret >= _CARET_WIDTH:
        shown = "..." + shown[caret - _CARET_WIDTH // 2 + 3 :]
        caret = _CARET_WIDTH // 2
    if len(shown) > _CARET_WIDTH:
        shown = shown[: _CARET_WIDTH - 3] + "..."
    shown = "".join(c if c.isprintable() else " " if c in _SPACE else "?" for c in shown)
    return Diagnostic("ALERT", location, error.text, (f"  {shown}", f"  {' ' * caret}^"))
