"""From files to a `Config`, or to the reasons why there is none.

Reading goes on after an error, so that one run shows all of them: a line with an error is left out, a section whose
first line is wrong is read for its errors, and only a file that is no text is given up. What the sections say of one
another is checked when all of them are read (`natlb.config.validity`).

The whole is a function of its arguments: the bytes of the files, the environment and a resolver of host names. It asks
the system for nothing else but the users and groups that a `stats socket` names, it never raises on any bytes, and it
prints nothing. `load` is the same with the file system before it.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from natlb.config import files as config_files
from natlb.config.addresses import AddressReader, Resolver, system_resolver
from natlb.config.build import make_config
from natlb.config.diagnostics import Diagnostic
from natlb.config.drafts import Reading
from natlb.config.entries import Refuse, Warn
from natlb.config.global_section import open_global
from natlb.config.keywords import DIRECTIVES, FOREIGN_SECTIONS, GLOBAL, PROXY, UDP_LB, LineKeyword, find
from natlb.config.lexer import Lexer, Line, unset_variable
from natlb.config.model import Config
from natlb.config.proxy_section import PROXY_KINDS, open_proxy
from natlb.config.suggest import hint
from natlb.config.validity import check
from natlb.errors import ConfigError

MOST_ERRORS: Final = 50
"""After so many a file is read no further, as HAProxy does."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What reading came to."""

    config: Config | None
    """The configuration; None if there was any ALERT."""
    diagnostics: list[Diagnostic]
    """All that is to be said about it, in the order found."""

    @property
    def exit_status(self) -> int:
        """What `-c` exits with: 0 is valid, 1 has errors, 2 is valid with nothing to listen on."""
        if self.config is None:
            return 1
        return 0 if self.config.listens else 2


def load(paths: Sequence[str], environ: Mapping[str, str] | None = None, resolve: Resolver = system_resolver) -> Parsed:
    """Read these files and directories, with the environment of the process unless another is given."""
    files, diagnostics = config_files.read(paths)
    if diagnostics:
        return Parsed(None, diagnostics)
    return parse(files, os.environ if environ is None else environ, resolve)


def parse(
    files: Sequence[tuple[str, bytes]], environ: Mapping[str, str], resolve: Resolver = system_resolver
) -> Parsed:
    """Read the files, each a name to show and its bytes, as one configuration."""
    environ = dict(environ)
    reading = Reading(AddressReader(environ, resolve), environ)
    for name, data in files:
        before = reading.alerts
        _FileReader(reading, name, data, environ).read()
        if reading.alerts > before:
            reading.say("ALERT", None, f"Error(s) found in configuration file : {name}")
    if not reading.incomplete:
        check(reading)
    if reading.alerts:
        reading.say("ALERT", None, "Fatal errors found in configuration.")
        return Parsed(None, reading.diagnostics)
    return Parsed(make_config(reading), reading.diagnostics)


class _FileReader:
    """One file being read. A section does not go on into the next file."""

    def __init__(self, reading: Reading, name: str, data: bytes, environ: Mapping[str, str]) -> None:
        self.reading = reading
        self.lexer = Lexer(name, data, environ)
        self.section: str | None = None
        self.skipped_ifs = 0
        """How deep in `.if` blocks we are; they are refused whole."""
        reading.proxy = None

    def read(self) -> None:
        errors_before = self.reading.alerts
        for item in self.lexer:
            if isinstance(item, Diagnostic):
                self.reading.add(item)
            else:
                self._line(item)
            errors = self.reading.alerts - errors_before
            if errors >= MOST_ERRORS:
                text = f"too many fatal errors ({errors}), stopping now."
                self.reading.say("ALERT", self.reading.diagnostics[-1].location, text)
                self.reading.incomplete = True
                return
        self.reading.incomplete |= self.lexer.gave_up

    def _line(self, line: Line) -> None:
        try:
            self._directive(line)
        except ConfigError as error:
            self.reading.say("ALERT", line.location, str(error))
        unset = self.reading.addresses.unset
        for name in unset:
            self.reading.add(unset_variable(name, line.location))
        unset.clear()

    def _directive(self, line: Line) -> None:
        word = line.word(0)
        if word.startswith("."):
            self._conditional(word)
        elif self.skipped_ifs:
            pass
        elif word in PROXY_KINDS or word == "global" or word in FOREIGN_SECTIONS:
            self.section = word
            self.lexer.section = line.word(1) or word
            self._open(line)
        elif self.section is None:
            raise ConfigError(_out_of_section(word))
        elif self.section not in FOREIGN_SECTIONS:
            self._keyword(line, self.section)

    def _conditional(self, word: str) -> None:
        if self.skipped_ifs:
            self.skipped_ifs += {".if": 1, ".endif": -1}.get(word, 0)
            return
        if word not in DIRECTIVES:
            raise ConfigError(f"unknown directive '{word}'.")
        if word == ".if":
            self.skipped_ifs = 1
            self.reading.incomplete = True
            raise ConfigError("'.if' blocks are refused: nothing is read until '.endif'. Write out what holds.")
        raise ConfigError(f"'{word}' is a directive that natlb does not have. Remove it.")

    def _open(self, line: Line) -> None:
        word = line.word(0)
        self.reading.proxy = None
        if word == "global":
            open_global(self.reading, line)
        elif word in PROXY_KINDS:
            open_proxy(self.reading, line)
        else:
            raise ConfigError(f"section '{word}' {FOREIGN_SECTIONS[word]}")

    def _keyword(self, line: Line, section: str) -> None:
        table = {"global": GLOBAL, "udp-lb": UDP_LB}.get(section, PROXY)
        prefix = line.word(0)
        negated = prefix in ("no", "default")
        if negated:
            line = Line(line.words[1:] or ("",), line.location)
        keyword = find(table, line)
        if negated and (keyword is None or not (keyword.negatable or isinstance(keyword.action, Refuse))):
            if line.word(0) == "option":
                raise ConfigError(f"negation/default is not supported for option '{line.word(1)}'.")
            raise ConfigError(f"negation/default currently supported only for options. Remove '{prefix}'.")
        if keyword is None:
            raise ConfigError(_unknown(line, section, table))
        if prefix == "default" and keyword.negatable:  # as HAProxy 2.6, which miscounts the words
            raise ConfigError(
                f"'{keyword.name}' cannot handle unexpected argument '{line.word(1)}'; write 'no {keyword.name}'."
            )
        self._obey(keyword, line, negated)

    def _obey(self, keyword: LineKeyword, line: Line, negated: bool) -> None:
        action = keyword.undo if negated and keyword.undo is not None else keyword.action
        if isinstance(action, Refuse):
            raise ConfigError(f"'{keyword.name}' {action.reason}")
        proxy = self.reading.proxy
        if proxy is not None and proxy.kind == "defaults" and not keyword.in_defaults:
            raise ConfigError(f"'{keyword.name}' not allowed in 'defaults' section.")
        if isinstance(action, Warn):
            if keyword.name.startswith("tune."):
                self._tune_once(keyword.name)
            action.arguments(keyword.name, line.words[len(keyword.name.split()) :])
            self.reading.say("WARNING", line.location, f"'{keyword.name}' has no effect: {action.reason}")
            return
        if proxy is not None and keyword.side is not None and not proxy.is_a(keyword.side):
            ignored = "will be ignored" if keyword.name.startswith("timeout ") else "ignored"
            text = f"'{keyword.name}' {ignored} because {proxy.noun} '{proxy.name}' has no {keyword.side} capability."
            self.reading.say("WARNING", line.location, text)
        action(self.reading, line)

    def _tune_once(self, name: str) -> None:
        if name in self.reading.settings.tuned:
            raise ConfigError(f"'{name}' already specified. Continuing.")
        self.reading.settings.tuned.add(name)


def _unknown(line: Line, section: str, table: Mapping[str, LineKeyword]) -> str:
    word, second = line.word(0), line.word(1)
    if section == "udp-lb":  # most of what it knows it knows of TCP alone
        table = {name: each for name, each in table.items() if not isinstance(each.action, Refuse)}
    families = [name.split(" ")[1] for name in table if name.startswith(f"{word} ")]
    if word == "option" and families:
        return f"unknown option '{second}'{hint(second, families) or '.'}" if second else _NO_OPTION
    known = [*(name for name in table if " " not in name), *PROXY_KINDS, "global", "option"]
    return f"unknown keyword '{word}' in '{section}' section{hint(word, known)}"


def _out_of_section(word: str) -> str:
    sections = [*PROXY_KINDS, "global"]
    # A keyword that exists is not misspelt: its section is missing.
    meant = "" if word in PROXY or word in GLOBAL else hint(word, sections)
    known = ", ".join(f"'{section}'" for section in sections)
    return f"unknown keyword '{word}' out of section{meant or f'; a section comes first: {known}.'}"


_NO_OPTION: Final = "'option' expects an option name."
