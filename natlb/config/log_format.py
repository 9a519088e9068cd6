"""`log-format`: what a log line says, as text with variables in it.

A variable is `%name`, or `%{+Q}name` with flags: `Q` in quotes, `X` in hexadecimal, `E` escaped for the structured data
of RFC 5424. `%{+Q}o` says nothing itself and gives its flags to all that follow. `%%` is a percent sign. Several
spaces are one, and those at the beginning are none. What a variable stands for is known to `natlb.logs.line`; here it
is only a name.

Of HAProxy's variables those are taken that a connection has before anybody reads it. Those of HTTP and TLS are refused
by name, and so are sample expressions, `%[...]`.
"""

import re
from typing import Final

from natlb.config.entries import HTTP, TLS
from natlb.config.model import LogFormat, Variable
from natlb.config.suggest import hint
from natlb.errors import ConfigError

TCPLOG: Final = "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq"
"""What `option tcplog` stands for."""

VARIABLES: Final = frozenset(
    [
        *("ci", "cp", "fi", "fp", "bi", "bp", "si", "sp"),
        *("f", "ft", "b", "s", "H", "pid", "rt", "lc"),
        *("t", "T", "Tl", "Ts", "ms", "Th", "Tw", "Tc", "Td", "Tt", "Tu"),
        *("B", "U", "ts", "ac", "fc", "bc", "sc", "rc", "sq", "bq"),
    ]
)

_OF_HTTP: Final = frozenset(
    [
        *("CC", "CS", "HM", "HP", "HPO", "HQ", "HU", "HV", "ID", "ST", "tsc", "hr", "hrl", "hs", "hsl", "r"),
        *("Ta", "Ti", "Tq", "TR", "Tr", "tr", "trg", "trl"),
    ]
)
_OF_TLS: Final = frozenset(("sslc", "sslv"))
_FLAGS: Final = "QXE"
_SPECIAL: Final = re.compile(r"%(?:%|\{(?P<flags>[^}]*)\}?(?P<flagged>[A-Za-z]*)|(?P<name>[A-Za-z]+)|\[|)")


def parse_log_format(text: str) -> LogFormat:
    """The parts of a format in order: texts and variables. Raises ConfigError."""
    parts: list[str | Variable] = []
    kept: frozenset[str] = frozenset()
    at = 0
    for match in _SPECIAL.finditer(text):
        _add_text(parts, text[at : match.start()])
        at = match.end()
        if match[0] == "%%":
            _add_text(parts, "%")
            continue
        name = match["flagged"] if match["flags"] is not None else match["name"]
        flags = kept if match["flags"] is None else _flags(kept, match["flags"], match[0])
        if name is None:
            raise _error(_why_not(match[0]))
        if not name:
            raise _error(f"parse argument modifier without variable name near '{match[0]}'.")
        if name == "o":
            kept = flags
        else:
            parts.append(Variable(_known(name), flags))
    _add_text(parts, text[at:])
    if parts and isinstance(parts[0], str):
        parts[0] = parts[0].lstrip(" ")
    return tuple(part for part in parts if part)


def _add_text(parts: list[str | Variable], text: str) -> None:
    if not text:
        return
    if parts and isinstance(parts[-1], str):
        text = f"{parts.pop()}{text}"
    parts.append(re.sub(" +", " ", text))


def _flags(kept: frozenset[str], text: str, near: str) -> frozenset[str]:
    if not near.startswith(f"%{{{text}}}"):
        raise _error(f"truncated line after '{text}'.")
    flags = set(kept)
    for flag in filter(None, text.split(",")):
        sign, letter = flag[0], flag[1:]
        if sign not in "+-" or len(letter) != 1 or letter not in _FLAGS:
            raise _error(f"unknown flag '{flag}' in '{near}'; the flags are +Q, +X, +E and -Q, -X, -E.")
        (flags.add if sign == "+" else flags.discard)(letter)
    return frozenset(flags)


def _known(name: str) -> str:
    if name in _OF_HTTP:
        raise _error(f"variable '{name}' {HTTP}")
    if name in _OF_TLS:
        raise _error(f"variable '{name}' {TLS}")
    if name not in VARIABLES:
        raise _error(
            f"no such format variable '{name}'. If you wanted to emit the '%' character verbatim, you need to use '%%'."
            f"{hint(name, sorted(VARIABLES)).replace('; did', ' Did')}"
        )
    return name


def _why_not(found: str) -> str:
    if found == "%[":
        return "sample expressions, %[...], are not for natlb's log lines; write its variables, such as %ci."
    return "truncated line after '%'."


def _error(text: str) -> ConfigError:
    return ConfigError(f"failed to parse log-format : {text}")
