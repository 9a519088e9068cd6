"""Commands about the client of the stats socket itself: its level, its timeout, how it is spoken to."""

import re
from typing import Final

from natlb.runtime.console import Console
from natlb.runtime.language import Level, Message, Refused, Reply, Severity, Words

_TIME: Final = re.compile(r"([0-9]{1,10})(us|ms|s|m|h|d)?", re.ASCII)
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_TIME: Final = (2**31 - 1) / 1000


def show_help(console: Console, words: Words) -> Message:
    """`help [<command>]`."""
    return console.language.help(words)


def toggle_prompt(console: Console, _: Words) -> str:
    """`prompt`."""
    console.interactive = not console.interactive
    return ""


def leave(console: Console, _: Words) -> str:
    """`quit`."""
    console.finished = True
    return ""


def become_user(console: Console, _: Words) -> str:
    """`user`."""
    console.level = Level.USER
    return ""


def become_operator(console: Console, _: Words) -> str:
    """`operator`."""
    console.level = Level.OPERATOR
    return ""


def set_experimental(console: Console, words: Words) -> Reply:
    """`experimental-mode [on|off]`: clients say so before commands that they take for experimental."""
    return _switch(console, "experimental-mode", words)


def set_expert(console: Console, words: Words) -> Reply:
    """`expert-mode [on|off]`."""
    return _switch(console, "expert-mode", words)


def _switch(console: Console, mode: str, words: Words) -> Reply:
    """Turn on a mode, which allows nothing that is not allowed without it, or off, or tell which it is."""
    if not words:
        return Message(f"{mode} is {'ON' if mode in console.modes else 'OFF'}\n", Severity.INFO)
    if words[0] == "on":
        console.modes.add(mode)
    else:
        console.modes.discard(mode)
    return ""


def show_level(console: Console, _: Words) -> Message:
    """`show cli level`."""
    return Message(f"{console.level.name.lower()}\n", Severity.INFO)


def set_timeout(console: Console, words: Words) -> str:
    """`set timeout cli <delay>`: seconds unless a unit follows."""
    if words[:1] != ["cli"]:
        raise Refused("'set timeout' only supports 'cli'.")
    if len(words) < 2:
        raise Refused("Expects an integer value.")
    found = _TIME.fullmatch(words[1])
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 0 < seconds <= _LONGEST_TIME:
        raise Refused("Invalid timeout value.")
    console.timeout = seconds
    return ""


def set_severity_output(console: Console, words: Words) -> str:
    """`set severity-output none|number|string`."""
    if not words or words[0] not in ("none", "number", "string"):
        raise Refused("one of 'none', 'number', 'string' is a required argument")
    console.severities = words[0]
    return ""
