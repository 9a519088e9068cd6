"""What a connection's log line says: HAProxy's variables, of what a packet-level balancer knows.

A format is text with variables between, and is compiled once into one function for each part. `Entry` is all that the
variables stand for, at the moment that the line is about.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import Final

from natlb.core.flow import Endpoint
from natlb.logs.syslog import MONTHS

Part = str | tuple[str, frozenset[str]]
"""A text, or a variable's name with its flags: `Q` in quotes, `X` in hexadecimal, `E` escaped for RFC 5424."""


@dataclass(slots=True)
class Entry:
    """One connection, as a line tells of it."""

    client: Endpoint
    vip: Endpoint
    """What the client asked for."""
    seen_as: Endpoint | None
    """What the server sees as the client; None without a server."""
    at: Endpoint | None
    """Where the server is; None without one."""
    frontend: str
    backend: str
    server: str
    opened: float
    """When it began, in seconds since the epoch."""
    total: float
    """Seconds since then."""
    connect: float | None
    """Seconds that the server took to answer; None when it did not."""
    queue: float | None
    """Seconds that it waited for a server; None when it got none."""
    sent: int
    """Bytes of the client."""
    received: int
    """Bytes of the server."""
    ending: str
    """How it ended, in two letters."""
    live: tuple[int, int, int, int]
    """Connections open then: of the process, the frontend, the backend, the server."""
    retries: int = 0
    queued: tuple[int, int] = (0, 0)
    """Its place in the queue of the server, and in that of the backend; 0 where it did not wait."""
    number: int = 0
    """The process's count of connections that were logged."""
    frontend_number: int = 0
    """The frontend's."""
    unfinished: bool = False
    """Its bytes and its time are those so far."""


Render = Callable[[Entry], str]


def compile_format(parts: Iterable[Part]) -> Render:
    """Return the function that writes the line of a format."""
    made = [partial(_constant, part) if isinstance(part, str) else _variable(*part) for part in parts]
    return lambda entry: "".join([each(entry) for each in made])


def connect_line(client: Endpoint, vip: Endpoint, frontend: str, protocol: str) -> str:
    """Return the line of a proxy without a format, about a connection that begins."""
    (source, source_port), (asked, asked_port) = _readable(client), _readable(vip)
    return f"Connect from {source}:{source_port} to {asked}:{asked_port} ({frontend}/{protocol})"


def _constant(text: str, _: Entry) -> str:
    return text


def _variable(name: str, flags: frozenset[str]) -> Render:
    if name in _ADDRESSES:
        return partial(_address, _ADDRESSES[name], flags)
    if name in _PORTS:
        return partial(_port, _PORTS[name], "X" in flags)
    if name in _TEXTS:
        return partial(_text, _TEXTS[name], flags)
    if name in _HEXADECIMALS:
        return partial(_number, _HEXADECIMALS[name], "X" in flags)
    return _OTHERS[name]


def _text(value: Render, flags: frozenset[str], entry: Entry) -> str:
    return _quoted(value(entry), flags)


def _quoted(text: str, flags: frozenset[str]) -> str:
    if "E" in flags:
        text = "".join(f"\\{c}" if c in '"\\]' else c for c in text)
    return f'"{text}"' if "Q" in flags else text


def _address(end: Callable[[Entry], Endpoint | None], flags: frozenset[str], entry: Entry) -> str:
    found = end(entry)
    if found is None:
        return _quoted("-", flags)
    return _quoted(found[0].hex().upper() if "X" in flags else _readable(found)[0], flags)


def _port(end: Callable[[Entry], Endpoint | None], hexadecimal: bool, entry: Entry) -> str:
    found = end(entry)
    if found is None:
        return "-"
    return found[1].hex().upper() if hexadecimal else _readable(found)[1]


def _number(value: Callable[[Entry], int], hexadecimal: bool, entry: Entry) -> str:
    return f"{value(entry):04X}" if hexadecimal else str(value(entry))


def _readable(end: Endpoint) -> tuple[str, str]:
    return _written(end[0]), str(int.from_bytes(end[1], "big"))


@cache
def hostname() -> str:
    """Return this host's name."""
    return socket.gethostname()


def _written(address: bytes) -> str:
    return ".".join(map(str, address)) if len(address) == 4 else socket.inet_ntop(socket.AF_INET6, address)


def _ms(seconds: float | None) -> str:
    return "-1" if seconds is None else str(int(seconds * 1000))


def _date(at: time.struct_time) -> str:
    clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    return f"{at.tm_mday:02}/{MONTHS[at.tm_mon - 1]}/{at.tm_year}:{clock}"


def _zone(at: time.struct_time) -> str:
    minutes = abs(at.tm_gmtoff) // 60
    return f"{'+' if at.tm_gmtoff >= 0 else '-'}{minutes // 60:02}{minutes % 60:02}"


def _milliseconds(entry: Entry) -> str:
    return f"{int(entry.opened % 1 * 1000):03}"


def _local_date(entry: Entry) -> str:
    at = time.localtime(entry.opened)
    return f"{_date(at)} {_zone(at)}"


def _data_time(entry: Entry) -> str:
    if entry.connect is None or entry.queue is None:
        return "-1"
    return str(max(0, int(entry.total * 1000) - int(entry.connect * 1000) - int(entry.queue * 1000)))


def _so_far(entry: Entry, value: str) -> str:
    return f"+{value}" if entry.unfinished else value


_ADDRESSES: Final[dict[str, Callable[[Entry], Endpoint | None]]] = {
    "ci": lambda entry: entry.client,
    "fi": lambda entry: entry.vip,
    "bi": lambda entry: entry.seen_as,
    "si": lambda entry: entry.at,
}
_PORTS: Final[dict[str, Callable[[Entry], Endpoint | None]]] = {
    "cp": lambda entry: entry.client,
    "fp": lambda entry: entry.vip,
    "bp": lambda entry: entry.seen_as,
    "sp": lambda entry: entry.at,
}
_TEXTS: Final[dict[str, Render]] = {
    "f": lambda entry: entry.frontend,
    "ft": lambda entry: entry.frontend,
    "b": lambda entry: entry.backend,
    "s": lambda entry: entry.server,
    "H": lambda _: hostname(),
}
_HEXADECIMALS: Final[dict[str, Callable[[Entry], int]]] = {
    "Ts": lambda entry: int(entry.opened),
    "pid": lambda _: os.getpid(),
    "rt": lambda entry: entry.number,
}
_OTHERS: Final[dict[str, Render]] = {
    "t": lambda entry: f"{_date(time.localtime(entry.opened))}.{_milliseconds(entry)}",
    "T": lambda entry: f"{_date(time.gmtime(entry.opened))} +0000",
    "Tl": _local_date,
    "ms": _milliseconds,
    "Th": lambda _: "0",  # a handshake of TLS or of the PROXY protocol, which there is none of
    "Tw": lambda entry: _ms(entry.queue),
    "Tc": lambda entry: _ms(entry.connect),
    "Td": _data_time,
    "Tt": lambda entry: _so_far(entry, _ms(entry.total)),
    "Tu": lambda entry: _so_far(entry, _ms(entry.total)),
    "B": lambda entry: _so_far(entry, str(entry.received)),
    "U": lambda entry: _so_far(entry, str(entry.sent)),
    "ts": lambda entry: entry.ending,
    "ac": lambda entry: str(entry.live[0]),
    "fc": lambda entry: str(entry.live[1]),
    "bc": lambda entry: str(entry.live[2]),
    "sc": lambda entry: str(entry.live[3]),
    "rc": lambda entry: str(entry.retries),
    "sq": lambda entry: str(entry.queued[0]),
    "bq": lambda entry: str(entry.queued[1]),
    "lc": lambda entry: str(entry.frontend_number),
}

VARIABLES: Final = frozenset((*_ADDRESSES, *_PORTS, *_TEXTS, *_HEXADECIMALS, *_OTHERS))
"""All names of variables that a format may have."""
