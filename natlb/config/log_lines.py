"""The `log` line and what belongs to it: where log lines go, and which connections have one.

    log 192.0.2.9:514 len 1024 format rfc5424 local0 info

A target is a syslog server over UDP, a Unix datagram socket, or a file descriptor that was open when natlb started. The
targets of a `global` section are those of every proxy that says `log global`; a proxy's own lines add to what it
inherited, and `no log` takes all of it away.
"""

from collections.abc import Callable
from typing import Final, get_args

from natlb.config.drafts import ProxyDraft, Reading
from natlb.config.entries import at_most
from natlb.config.integers import parse_integer
from natlb.config.lexer import Line
from natlb.config.log_format import TCPLOG, parse_log_format
from natlb.config.model import LogFormat, LogHeader, LogTarget
from natlb.errors import ConfigError

SHORTEST, LONGEST, LENGTH = 80, 65535, 1024
"""Bytes of a log line: the bounds of `len`, and what holds without it."""

FACILITIES: Final = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "auth2", "ftp"),
    *("ntp", "audit", "alert", "cron2"),
    *(f"local{number}" for number in range(8)),
)
"""By number."""
LEVELS: Final = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]
HEADERS: Final[dict[str, LogHeader]] = {header: header for header in get_args(LogHeader)}

_STREAMS: Final = {"stdout": 1, "stderr": 2}
_OTHER_PROTOCOLS: Final = ("ring@", "tcp@", "tcp4@", "tcp6@", "stream+", "abns@", "sockpair@", "quic4@", "quic6@")


def log(reading: Reading, line: Line) -> None:
    """`log global`, or `log <target> [len n] [format f] <facility> [level [minlevel]]`."""
    proxy = reading.proxy
    targets = reading.settings.log_targets if proxy is None else proxy.log_targets
    if line.words == ("log", "global"):
        if proxy is None:
            raise ConfigError("log : 'global' is not supported for a global syslog server")
        if "global" not in proxy.log_targets:
            proxy.log_targets.append("global")
        return
    targets.append(_target(reading, line))


def no_log(reading: Reading, line: Line) -> None:
    """`no log`."""
    if line.word(1):
        raise ConfigError("log : 'no log' does not expect arguments")
    (reading.settings.log_targets if reading.proxy is None else reading.proxy.log_targets).clear()


def log_tag(reading: Reading, line: Line) -> None:
    """`log-tag <text>`."""
    if not line.word(1):
        raise ConfigError("'log-tag' expects a tag for use in syslog.")
    at_most(1, "log-tag", line.words[1:])
    if not line.word(1).isprintable():
        raise ConfigError(f"'log-tag' takes printable characters only (got '{line.word(1)}').")
    (reading.settings if reading.proxy is None else reading.proxy).log_tag = line.word(1)


def log_send_hostname(reading: Reading, line: Line) -> None:
    """`log-send-hostname [<name>]`; without a name it is the host's."""
    at_most(1, "log-send-hostname", line.words[1:])
    if not line.word(1).isprintable() or " " in line.word(1):
        raise ConfigError(f"'log-send-hostname' takes printable characters without spaces (got '{line.word(1)}').")
    reading.settings.log_hostname = line.word(1)


def tcplog(reading: Reading, line: Line) -> None:
    """`option tcplog`."""
    at_most(0, "option tcplog", line.words[2:])
    reading.section.log_format = parse_log_format(TCPLOG)


def log_format(reading: Reading, line: Line) -> None:
    """`log-format <format>`."""
    reading.section.log_format = _format(line)


def log_format_sd(reading: Reading, line: Line) -> None:
    """`log-format-sd <format>`."""
    reading.section.structured_data = _format(line)


def _format(line: Line) -> LogFormat:
    keyword = line.word(0)
    if not line.word(1):
        raise ConfigError(f"{keyword} expects an argument.")
    if len(line.words) > 2:
        raise ConfigError(f"{keyword} expects only one argument, don't forget to escape spaces!")
    return parse_log_format(line.word(1))


def log_option(name: str, *, on: bool) -> Callable[[Reading, Line], None]:
    """The handler of `option <name>`, or of `no option <name>`."""

    def handler(reading: Reading, line: Line) -> None:
        at_most(0, f"option {name}", line.words[2:])
        options = reading.section.log_options
        (options.add if on else options.discard)(name)

    return handler


def expanded(proxy: ProxyDraft, common: list[LogTarget]) -> tuple[LogTarget, ...]:
    """The targets of a proxy, with those of the `global` sections in the place of `log global`."""
    found: list[LogTarget] = []
    for target in proxy.log_targets:
        found += common if target == "global" else [target]
    return tuple(found)


def _target(reading: Reading, line: Line) -> LogTarget:
    word, at = line.word(1), 2
    if not word or not line.word(2):
        raise ConfigError("log : expects <address> and <facility>  as arguments")
    length, header = LENGTH, None
    if line.word(at) == "len":
        length, at = _length(line.word(at + 1)), at + 2
    if line.word(at) == "format":
        header, at = HEADERS.get(line.word(at + 1)), at + 2
        if header is None:
            raise ConfigError(f"log : unknown log format '{line.word(at - 1)}'")
    if line.word(at) == "sample":
        raise ConfigError("log : 'sample' leaves out lines; natlb gives every line to every target. Remove it.")
    facility, highest, lowest = line.word(at), line.word(at + 1), line.word(at + 2)
    if not facility:
        raise ConfigError("log : expects <address> and <facility>  as arguments")
    if facility not in FACILITIES:
        raise ConfigError(f"log : unknown log facility '{facility}'")
    if highest and highest not in LEVELS:
        raise ConfigError(f"log : unknown optional log level '{highest}'")
    if lowest and lowest not in LEVELS:
        raise ConfigError(f"log : unknown optional minimum log level '{lowest}'")
    if line.word(at + 3):
        raise ConfigError(f"log : cannot handle unexpected argument '{line.word(at + 3)}'")
    return LogTarget(
        destination=_destination(reading, word),
        length=length,
        header=header,
        facility=FACILITIES.index(facility),
        level=LEVELS.index(highest) if highest else LEVELS.index("debug"),
        least_level=LEVELS.index(lowest) if lowest else LEVELS.index("emerg"),
        location=line.location,
    )


def _length(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 6 and SHORTEST <= int(word) <= LONGEST):
        raise ConfigError(f"log : invalid log length '{word}', must be between {SHORTEST} and {LONGEST}")
    return int(word)


def _destination(reading: Reading, word: str) -> tuple[str, int] | str | int:
    """Address and port, path or file descriptor."""
    text = reading.addresses.expand(word)
    if text in _STREAMS:
        return _STREAMS[text]
    if text.startswith("fd@"):
        if not text[3:].isascii() or not text[3:].isdigit():
            raise ConfigError(f"log : file descriptor '{text[3:]}' is not a valid integer in '{word}'")
        return parse_integer(text[3:], "fd@", 0, 65535)
    if text.startswith(("/", "unix@", "uxdg@")):
        path = text.partition("@")[2] if "@" in text[:5] else text
        if not path.startswith("/") or not path.isprintable() or len(path.encode("utf-8", "replace")) > 107:
            raise ConfigError(f"log : '{word}' is not an absolute path of a Unix socket, of up to 107 bytes.")
        return path
    for prefix in _OTHER_PROTOCOLS:
        if text.startswith(prefix):
            raise ConfigError(
                f"log : '{prefix}' in '{word}' is not supported; natlb logs over UDP, to a Unix datagram socket or to "
                "a file descriptor."
            )
    try:
        address, port = reading.addresses.log_server(text.removeprefix("udp@"))
    except ConfigError as error:
        raise ConfigError(f"log : {error}") from error
    return str(address), port
