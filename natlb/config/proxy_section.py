"""The `defaults`, `frontend`, `backend`, `listen` and `udp-lb` sections: how they open, and their common keywords.

A section starts as a copy of a `defaults` section: of the one it names with `from`, else of the last one before it.
What the line of a keyword says then takes the place of what was inherited. A `udp-lb` section starts empty: what a
`defaults` section says is meant for TCP connections.
"""

from collections.abc import Callable
from typing import Final, get_args

from natlb.config.drafts import ProxyDraft, ProxyKind, Reading, Side, Timer
from natlb.config.entries import at_most
from natlb.config.global_section import printable_text
from natlb.config.integers import parse_integer
from natlb.config.lexer import Line
from natlb.config.server import forbidden_character
from natlb.config.times import parse_time
from natlb.errors import ConfigError

TIMEOUTS: Final[dict[str, Side]] = {
    "client": "frontend",
    "server": "backend",
    "connect": "backend",
    "check": "backend",
    "queue": "backend",
    "tunnel": "backend",
    "client-fin": "frontend",
    "server-fin": "backend",
}
"""The timeouts that natlb has, and the side of a connection that each belongs to."""

UDP_TIMEOUTS: Final = ("client", "server", "check")
"""Those that a UDP flow has."""

PROXY_KINDS: Final[dict[str, ProxyKind]] = {kind: kind for kind in get_args(ProxyKind)}


def open_proxy(reading: Reading, line: Line) -> None:
    """The line that opens a section: `frontend <name> [from <defaults>]`."""
    kind = PROXY_KINDS[line.word(0)]
    words = line.words[1:]
    name = ""
    if words and not (kind == "defaults" and words[0] == "from" and len(words) == 2):
        name, words = words[0], words[1:]
    proxy = ProxyDraft(kind, name, line.location)
    reading.proxy = proxy
    proxy.registered = _open(reading, line, proxy, words)
    if kind == "defaults":
        reading.defaults.append(proxy)
    else:
        reading.proxies.append(proxy)


def _open(reading: Reading, line: Line, proxy: ProxyDraft, words: tuple[str, ...]) -> bool:
    """Check the name and inherit. Whether the section counts, or is read for its errors only."""

    def alert(text: str) -> None:
        reading.say("ALERT", line.location, text)

    counts = True
    if not proxy.name and proxy.kind != "defaults":
        alert(f"'{proxy.kind}' expects an <id> argument")
        return False
    bad = forbidden_character(proxy.name)
    if bad is not None:
        alert(f"character '{bad}' is not permitted in '{proxy.kind}' name '{proxy.name}'.")
    twin = _namesake(reading, proxy)
    if twin is not None:
        alert(
            f"{proxy.noun} '{proxy.name}' has the same name as {twin.noun} '{twin.name}' declared at {twin.location}."
        )
        counts = False
    if proxy.kind == "udp-lb":
        if words:
            inherits = words[0] == "from"
            what = "a 'udp-lb' section inherits nothing." if inherits else "its addresses go on a 'dgram-bind' line."
            alert(f"'udp-lb' cannot handle unexpected argument '{words[0]}'; {what}")
        return counts
    if words and (words[0] != "from" or len(words) != 2):
        extra = words[2] if words[0] == "from" and len(words) > 2 else words[0]
        alert(f"'{proxy.kind}' cannot handle unexpected argument '{extra}'.")
        if proxy.kind in ("frontend", "listen"):
            alert(f"please use the 'bind' keyword for listening addresses. (got '{extra}')")
        return counts
    parent = _named_defaults(reading, proxy, words[1], alert) if words else _last_defaults(reading, proxy)
    if parent is not None:
        if parent.referenced and parent.implied:
            reading.say(
                "WARNING",
                line.location,
                f"defaults section '{parent.name}' (declared at {parent.location}) is explicitly referenced by another "
                "proxy and implicitly used here. To avoid any ambiguity don't mix both usage. Add a last defaults "
                "section not explicitly used or always use explicit references.",
            )
        proxy.inherit(parent)
    return counts


def _namesake(reading: Reading, proxy: ProxyDraft) -> ProxyDraft | None:
    sides: tuple[Side, ...] = ("frontend", "backend")
    for other in reading.proxies if proxy.kind != "defaults" else ():
        if other.name == proxy.name and any(proxy.is_a(side) and other.is_a(side) for side in sides):
            return other
    return None


def _named_defaults(reading: Reading, proxy: ProxyDraft, name: str, alert: Callable[[str], None]) -> ProxyDraft | None:
    found = [defaults for defaults in reading.defaults if defaults.name == name]
    if not found:
        alert(f"defaults section '{name}' not found for {proxy.noun} '{proxy.name}'.")
        return None
    if len(found) > 1:
        alert(
            f"ambiguous defaults section name '{name}' referenced by {proxy.noun} '{proxy.name}' exists at least at "
            f"{found[0].location} and {found[1].location}."
        )
    found[0].referenced = True
    return found[0]


def _last_defaults(reading: Reading, proxy: ProxyDraft) -> ProxyDraft | None:
    if proxy.kind == "defaults" or not reading.defaults:
        return None
    reading.defaults[-1].implied = True
    return reading.defaults[-1]


def mode(_: Reading, line: Line) -> None:
    """`mode tcp`; any other mode ends here."""
    at_most(1, "mode", line.words[1:])
    if line.word(1) != "tcp":
        udp = " UDP has sections of its own: 'udp-lb'." if line.word(1) == "udp" else ""
        raise ConfigError(f"unknown proxy mode '{line.word(1)}'; natlb has 'mode tcp'.{udp}")


def set_id(reading: Reading, line: Line) -> None:
    """`id <number>`."""
    proxy = reading.section
    if not line.word(1):
        raise ConfigError("'id' expects an integer argument.")
    at_most(1, "id", line.words[1:])
    number = parse_integer(line.word(1), "id", 1)
    for other in reading.proxies:
        if other.id == number:
            raise ConfigError(
                f"{proxy.noun} {proxy.name} reuses same custom id as {other.noun} {other.name} "
                f"(declared at {other.location})."
            )
    if proxy.id is not None:
        raise ConfigError("'id' already specified; a section has one.")
    proxy.id = number


def description(reading: Reading, line: Line) -> None:
    """`description <text>`."""
    reading.section.description = printable_text(line)


def disabled(reading: Reading, line: Line) -> None:
    """`disabled`."""
    at_most(0, "disabled", line.words[1:])
    reading.section.disabled = True


def enabled(reading: Reading, line: Line) -> None:
    """`enabled`."""
    at_most(0, "enabled", line.words[1:])
    reading.section.disabled = False


def maxconn(reading: Reading, line: Line) -> None:
    """`maxconn <number>`."""
    if not line.word(1):
        raise ConfigError("'maxconn' expects an integer argument.")
    at_most(1, "maxconn", line.words[1:])
    reading.section.maxconn = parse_integer(line.word(1), "maxconn") or None


def default_backend(reading: Reading, line: Line) -> None:
    """`default_backend <name>`."""
    if not line.word(1):
        raise ConfigError("'default_backend' expects a backend name.")
    at_most(1, "default_backend", line.words[1:])
    reading.section.default_backend = line.word(1), line.location


def proxy_requests(reading: Reading, line: Line) -> None:
    """`proxy-requests <number>`."""
    reading.section.requests = _datagrams(line) or None


def proxy_responses(reading: Reading, line: Line) -> None:
    """`proxy-responses <number>`."""
    reading.section.responses = _datagrams(line)


def _datagrams(line: Line) -> int:
    keyword = line.word(0)
    if not line.word(1):
        raise ConfigError(f"'{keyword}' expects an integer argument (a number of datagrams).")
    at_most(1, keyword, line.words[1:])
    return parse_integer(line.word(1), keyword)


def udp_check(reading: Reading, line: Line) -> None:
    """`option udp-check`."""
    at_most(0, "option udp-check", line.words[2:])
    reading.section.checks.kind = "udp"


def timeout(reading: Reading, line: Line) -> None:
    """`timeout <name> <time>`."""
    proxy, name = reading.section, line.word(1)
    what = f"timeout {name}"
    names = UDP_TIMEOUTS if proxy.protocol == "udp" else TIMEOUTS
    if name not in names:
        known = ", ".join(f"'{each}'" for each in names)
        raise ConfigError(f"'timeout' supports {known} (got '{name}')")
    seconds = parse_time(line.word(2), what)
    if len(line.words) > 3:
        raise ConfigError(f"'{what}' : unexpected extra argument '{line.word(3)}' after value '{line.word(2)}'.")
    before, inherited = proxy.seconds(name), proxy.inherited.get(name)
    if (
        proxy.is_a(TIMEOUTS[name])
        and proxy.kind != "defaults"
        and before is not None
        and before != (inherited and inherited.seconds)
    ):
        reading.say("WARNING", line.location, f"overwriting '{what}' which was already specified")
    if not seconds:
        text = f"'{what} {line.word(2)}' counts as not set: natlb has no timeout that never ends."
        reading.say("WARNING", line.location, text)
    proxy.timers[name] = Timer(seconds or None, line.location)


def tcp_request(reading: Reading, line: Line) -> None:
    """`tcp-request` and a word that is not known."""
    proxy = reading.section
    if not line.word(1):
        raise ConfigError(f"missing argument for 'tcp-request' in {proxy.noun} '{proxy.name}'")
    raise ConfigError(
        f"'tcp-request' expects 'inspect-delay', 'connection', or 'content' in {proxy.noun} '{proxy.name}' "
        f"(got '{line.word(1)}')"
    )
