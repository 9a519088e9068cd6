"""One log line as a target wants it: HAProxy's headers, byte for byte.

    rfc3164    <134>Nov 26 09:03:25 host natlb[23509]: text
    local      the same without the host
    rfc5424    <134>1 2026-11-26T09:03:25.213406+00:00 host natlb 23509 - - text
    priority   <134>text
    short      <6>text
    timed      <6>2026-11-26T09:03:25.213406+00:00 text
    iso        2026-11-26T09:03:25.213406+00:00 text
    raw        text

The number is facility and level as syslog packs them, or the level alone. Times are local. Each line ends in a newline,
is cut to its target's length, and carries no other control character: whatever a name or a server's answer holds, it
is one line.
"""

import time
from dataclasses import dataclass
from typing import Final

from natlb.log import Level

MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""Whatever the locale."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place that lines go to, and how they are written there."""

    destination: tuple[str, int] | str | int
    """Address and UDP port, path of a Unix datagram socket, or file descriptor."""
    length: int = 1024
    """Bytes of the longest line, without its newline."""
    header: str | None = None
    """One of those above; None is `rfc3164`, with the host only where one is to be named."""
    facility: int = 16
    level: int = Level.DEBUG
    """Lines of this level and of more urgent (lower) ones are sent."""
    least_level: int = Level.EMERG
    """Lines more urgent than this are sent as if they were of this level."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who says a line."""

    tag: str
    pid: int
    host: str | None = None
    """None where it is not to be named."""


def render(target: Target, origin: Origin, level: int, text: str, now: float, data: str = "-") -> bytes | None:
    """Write a line for a target, or return None where it is not wanted; `now` is seconds since the epoch.

    `data` is the structured data of RFC 5424, section 6.3, where the header has that.
    """
    if level > target.level:
        return None
    level = max(level, target.least_level)
    line = _header(target.header, origin, target.facility * 8 + level, level, now, data) + text
    if not line.isprintable():
        line = "".join(c if c.isprintable() else f"#{ord(c):02X}" for c in line)
    return line.encode("utf-8", "replace")[: target.length] + b"\n"


def _header(header: str | None, origin: Origin, priority: int, level: int, now: float, data: str) -> str:
    match header:
        case "raw":
            return ""
        case "priority":
            return f"<{priority}>"
        case "short":
            return f"<{level}>"
        case "iso":
            return f"{_iso(now)} "
        case "timed":
            return f"<{level}>{_iso(now)} "
        case "rfc5424":
            return f"<{priority}>1 {_iso(now)} {origin.host or '-'} {origin.tag} {origin.pid} - {data} "
    host = origin.host
    if header == "local":
        host = None
    elif header == "rfc3164":
        host = host or "localhost"
    return f"<{priority}>{_stamp(now)} {f'{host} ' if host else ''}{origin.tag}[{origin.pid}]: "


def _stamp(now: float) -> str:
    at = time.localtime(now)
    return f"{MONTHS[at.tm_mon - 1]} {at.tm_mday:2} {at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"


def _iso(now: float) -> str:
    at = time.localtime(now)
    ahead, minutes = "+" if at.tm_gmtoff >= 0 else "-", abs(at.tm_gmtoff) // 60
    clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}.{int(now % 1 * 1_000_000):06}"
    return f"{at.tm_year}-{at.tm_mon:02}-{at.tm_mday:02}T{clock}{ahead}{minutes // 60:02}:{minutes % 60:02}"
