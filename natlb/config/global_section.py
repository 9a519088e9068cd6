"""The `global` section: what concerns the whole process."""

import grp
import pwd
import re
from collections.abc import Callable
from typing import Final

from natlb.config.drafts import Reading
from natlb.config.entries import Keyword, at_most, refuse
from natlb.config.integers import parse_integer
from natlb.config.lexer import Line
from natlb.config.model import Address, Level, Severity, StatsSocket
from natlb.config.parameters import read_parameters
from natlb.config.times import parse_time
from natlb.errors import ConfigError

LONGEST_SOCKET_PATH: Final = 97
"""HAProxy's limit: the kernel's 107 bytes, less the suffix that HAProxy gives the path while it replaces a socket."""

_NODE: Final = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_MODE: Final = re.compile(r"0*[0-7]{1,3}", re.ASCII)
_LEVELS: Final[dict[str, Level]] = {"user": "user", "operator": "operator", "admin": "admin"}
_SEVERITIES: Final[dict[str, Severity]] = {"none": "none", "number": "number", "string": "string"}
_OTHER_SOCKETS: Final = ("abns@", "uxst@", "uxdg@", "fd@", "sockpair@")
_OF_FILES: Final = ("mode", "user", "group", "uid", "gid")


def printable_text(line: Line) -> str:
    """The words after the keyword as one text, as `description` takes them."""
    text = " ".join(line.words[1:])
    if not text:
        raise ConfigError(f"'{line.words[0]}' expects a string argument.")
    if not text.isprintable():
        raise ConfigError(f"'{line.words[0]}' takes printable characters only (got '{text}').")
    return text


def open_global(reading: Reading, line: Line) -> None:
    """The line `global` itself."""
    reading.proxy = None
    at_most(0, "global", line.words[1:])


def maxconn(reading: Reading, line: Line) -> None:
    """`maxconn <number>`."""
    if not line.word(1):
        raise ConfigError("'maxconn' expects an integer argument.")
    at_most(1, "maxconn", line.words[1:])
    if reading.settings.maxconn is not None:
        raise ConfigError("'maxconn' already specified. Continuing.")
    reading.settings.maxconn = parse_integer(line.word(1), "maxconn") or None


def maxconnrate(reading: Reading, line: Line) -> None:
    """`maxconnrate <number>`."""
    reading.settings.maxconnrate = _rate(line, reading.settings.maxconnrate)


def maxsessrate(reading: Reading, line: Line) -> None:
    """`maxsessrate <number>`."""
    reading.settings.maxsessrate = _rate(line, reading.settings.maxsessrate)


def _rate(line: Line, before: int | None) -> int | None:
    keyword = line.word(0)
    if before is not None:
        raise ConfigError(f"'{keyword}' already specified. Continuing.")
    if not line.word(1):
        raise ConfigError(f"'{keyword}' expects an integer argument.")
    at_most(1, keyword, line.words[1:])
    return parse_integer(line.word(1), keyword) or None


def node(reading: Reading, line: Line) -> None:
    """`node <name>`."""
    if not _NODE.fullmatch(line.word(1)):
        raise ConfigError(
            "'node' requires valid node name - non-empty string with digits(0-9), letters(A-Z, a-z), dot(.), hyphen(-)"
            f" or underscore(_) (got '{line.word(1)}')."
        )
    at_most(1, "node", line.words[1:])
    reading.settings.node = line.word(1)


def description(reading: Reading, line: Line) -> None:
    """`description <text>`."""
    reading.settings.description = printable_text(line)


def stats(_: Reading, line: Line) -> None:
    """`stats` and a word that is not known."""
    raise ConfigError(f"'stats' only supports 'socket', 'maxconn' and 'timeout' (got '{line.word(1)}')")


def stats_timeout(reading: Reading, line: Line) -> None:
    """`stats timeout <time>`."""
    seconds = parse_time(line.word(2), "stats timeout")
    if not seconds:
        raise ConfigError("'stats timeout' expects a positive value")
    at_most(1, "stats timeout", line.words[2:])
    reading.settings.stats_timeout = seconds
    _take_place(reading)


def stats_maxconn(reading: Reading, line: Line) -> None:
    """`stats maxconn <number>`."""
    number = parse_integer(line.word(2), "stats maxconn") if line.word(2) else 0
    if not number:
        raise ConfigError("'stats maxconn' expects a positive value")
    at_most(1, "stats maxconn", line.words[2:])
    reading.settings.stats_maxconn = number
    _take_place(reading)


def _take_place(reading: Reading) -> None:
    """Note where the stats sockets stand among the proxies."""
    if reading.settings.stats_place is None:
        reading.settings.stats_place = len(reading.proxies)


def spread_checks(reading: Reading, line: Line) -> None:
    """`spread-checks <0..50>`."""
    at_most(1, "spread-checks", line.words[1:])
    if reading.settings.spread_checks:
        raise ConfigError("spread-checks already specified. Continuing.")
    if not line.word(1):
        raise ConfigError("'spread-checks' expects an integer argument (0..50).")
    reading.settings.spread_checks = parse_integer(line.word(1), "spread-checks", 0, 50)


def max_spread_checks(reading: Reading, line: Line) -> None:
    """`max-spread-checks <time>`."""
    at_most(1, "max-spread-checks", line.words[1:])
    reading.settings.max_spread_checks = parse_time(line.word(1), "max-spread-checks") or None


StatsSocketHandler = Callable[[dict[str, str], str], None]


def _mode(given: dict[str, str], value: str) -> None:
    if not _MODE.fullmatch(value):
        raise ConfigError(f"'mode' : missing or invalid mode '{value}' (octal integer expected)")
    given["mode"] = value


def _user(given: dict[str, str], value: str) -> None:
    try:
        pwd.getpwnam(value)
    except (KeyError, ValueError):
        raise ConfigError(f"'user' : {_unknown('user', value)}") from None
    given["user"] = value


def _group(given: dict[str, str], value: str) -> None:
    try:
        grp.getgrnam(value)
    except (KeyError, ValueError):
        raise ConfigError(f"'group' : {_unknown('group', value)}") from None
    given["group"] = value


def _uid(given: dict[str, str], value: str) -> None:
    given["uid"] = str(_owner("uid", value))


def _gid(given: dict[str, str], value: str) -> None:
    given["gid"] = str(_owner("gid", value))


def _owner(what: str, value: str) -> int:
    if not value:
        raise ConfigError(f"'{what}' : missing value")
    return parse_integer(value, what)


def _severity(given: dict[str, str], value: str) -> None:
    if value not in _SEVERITIES:
        text = f"'severity-output' only supports 'none', 'number', and 'string' (got '{value}')"
        raise ConfigError(text if value else "'severity-output' : missing severity format")
    given["severity"] = value


def _unknown(what: str, value: str) -> str:
    return f"unknown {what} name '{value}'" if value else f"missing {what} name"


def _level(given: dict[str, str], value: str) -> None:
    if value not in _LEVELS:
        text = f"'level' only supports 'user', 'operator', and 'admin' (got '{value}')"
        raise ConfigError(text if value else "'level' : missing level")
    given["level"] = value


def _table(*keywords: Keyword[StatsSocketHandler]) -> dict[str, Keyword[StatsSocketHandler]]:
    return {keyword.name: keyword for keyword in keywords}


_OF_TRAFFIC: Final = "is for sockets that clients' traffic comes in by; a stats socket of natlb is not one. Remove it."

STATS_SOCKET_PARAMETERS: Final[dict[str, Keyword[StatsSocketHandler]]] = _table(
    Keyword("mode", _mode, "mode <octal>", "File mode of the socket.", "600", takes=1),
    Keyword("user", _user, "user <name>", "Owner of the socket.", "the process's", takes=1),
    Keyword("group", _group, "group <name>", "Group of the socket.", "the process's", takes=1),
    Keyword(
        "level",
        _level,
        "level user|operator|admin",
        "What those who connect may do: look, look at all and clear counters, change.",
        "operator",
        takes=1,
    ),
    Keyword("uid", _uid, "uid <number>", "Owner of the socket, by number.", "the process's", takes=1),
    Keyword("gid", _gid, "gid <number>", "Group of the socket, by number.", "the process's", takes=1),
    Keyword(
        "severity-output",
        _severity,
        "severity-output none|number|string",
        "How messages are marked, until a client asks for it otherwise.",
        "none",
        takes=1,
    ),
    *refuse("hands listening sockets to another HAProxy, and natlb has none; remove it.", "expose-fd", takes=1),
    *refuse("is not for one socket in natlb: 'stats maxconn' bounds the clients of all.", "maxconn", takes=1),
    *refuse(_OF_TRAFFIC, "name, id, namespace, process, thread", takes=1),
    *refuse(_OF_TRAFFIC, "backlog, interface, nice, tcp-ut, mss, shards, proto", takes=1),
    *refuse(_OF_TRAFFIC, "accept-proxy, defer-accept, tfo, transparent, v4v6, v6only"),
)


def stats_socket(reading: Reading, line: Line) -> None:
    """`stats socket <path>|<address>:<port> [mode M] [user U] [group G] [level L] [severity-output S]`."""
    word = line.word(2)
    if not word:
        raise ConfigError("'stats socket' in global section expects an address or a path to a UNIX socket")
    places = _places(reading, word)
    _take_place(reading)
    given: dict[str, str] = {}
    say = reading.about(line.location, "'stats socket'")

    def run(handler: StatsSocketHandler, own: tuple[str, ...]) -> None:
        handler(given, own[0] if own else "")

    read_parameters(line.words[3:], STATS_SOCKET_PARAMETERS, run, say)
    for path, address, port in places:
        for name in _OF_FILES if path is None else ():
            if name in given:
                say("WARNING", f"'{name}' has no effect: {word} is no Unix socket, and has no file.")
        reading.settings.stats_sockets.append(
            StatsSocket(
                path=path,
                mode=int(given["mode"], 8) if "mode" in given else None,
                user=int(given["uid"]) if "uid" in given else given.get("user"),
                group=int(given["gid"]) if "gid" in given else given.get("group"),
                level=_LEVELS[given.get("level", "operator")],
                location=line.location,
                address=address,
                port=port,
                severity=_SEVERITIES[given.get("severity", "none")],
            )
        )


def _places(reading: Reading, word: str) -> list[tuple[str | None, Address | None, int | None]]:
    """Return the path, or the addresses and ports, that a `stats socket` line says. Raises ConfigError."""
    for prefix in _OTHER_SOCKETS:
        if word.startswith(prefix):
            raise ConfigError(
                f"'stats socket' : '{prefix}' in '{word}' is not supported; give a path, or address:port."
            )
    expanded = reading.addresses.expand(word)
    places: list[tuple[str | None, Address | None, int | None]]
    if expanded.startswith(("/", "unix@")):
        places = [(_path(reading, word), None, None)]
    else:
        places = [
            (None, each.address, port)
            for each in reading.addresses.bind(word)
            for port in range(each.first, each.last + 1)
        ]
    for other in reading.settings.stats_sockets:
        if (other.path, other.address, other.port) in places:
            raise ConfigError(f"'stats socket' : '{word}' already specified at {other.location}.")
    return places


def _path(reading: Reading, word: str) -> str:
    path = reading.addresses.path(word)
    if "," in path:
        raise ConfigError(f"'stats socket' : '{path}' has a comma; write one line for each socket.")
    if len(path.encode("utf-8", "replace")) > LONGEST_SOCKET_PATH:
        raise ConfigError(f"'stats socket' : socket path '{path}' too long (max {LONGEST_SOCKET_PATH})")
    if not path.isprintable() or path.endswith("/"):
        raise ConfigError(f"'stats socket' : '{path}' is no path of a socket.")
    return path
