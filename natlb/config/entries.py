"""What an entry of the keyword table is.

HAProxy's language is larger than what a packet-level balancer can honestly do, and a balancer that skipped over what it
does not know would balance something else than its configuration says. So there is an entry for every keyword of
HAProxy 2.6, and it has one of three actions: a handler that does it, `Refuse`, which says by name why natlb does not,
or `Warn`, for the few that natlb can truthfully do without, because nothing that anybody could observe depends on them.

An entry carries its syntax, a line of help and its default too, so that the reference page is written from the table
that is obeyed and cannot say anything else.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from natlb.config.integers import LARGEST, parse_integer
from natlb.config.times import parse_time
from natlb.errors import ConfigError

HandlerT = TypeVar("HandlerT")

Arguments = Callable[[str, tuple[str, ...]], None]
"""Checks the words after a keyword (the first argument), and raises ConfigError if HAProxy would not take them."""

HTTP: Final = "works on HTTP messages (layer 7); natlb forwards packets and never reads them."
CONTENT: Final = "reads what the connection carries (layer 7); natlb forwards packets and never reads them."
TLS: Final = "works on TLS, which ends in the proxy; natlb forwards packets, encrypted or not, and never reads them."
SCRIPTED: Final = "is a check that natlb lacks; write it with 'option tcp-check' and 'tcp-check send|expect'."
VARIABLES: Final = "sets a variable, and natlb has none; remove it."
LUA: Final = "runs programs on what connections carry (layer 7); natlb forwards packets and never reads them."
ENDS_TCP: Final = "needs to end the TCP connection; natlb only rewrites its packets."
TCP_ONLY: Final = "works on TCP connections; a 'udp-lb' section forwards UDP datagrams. Remove it."
UDP_ONLY: Final = "works on UDP datagrams; it belongs in a 'udp-lb' section."
ONE_CONNECTION: Final = "bounds idle connections to servers, which natlb has none of: each is its client's. Remove it."
NO_RESOLVERS: Final = (
    "is for asking the DNS again while it runs; natlb looks a name up once, when it starts. 'set server "
    "<backend>/<server> addr' of the Runtime API moves a server."
)
NO_PEERS: Final = (
    "is for sharing stick tables with other HAProxys; those of natlb are its own, and start empty. Remove it."
)
FOREIGN: Final = "belongs to parts of HAProxy that natlb does not have; remove it."
REMOVED: Final = "was removed from HAProxy; remove it."

NO_SOCKETS: Final = "natlb forwards packets and has no sockets of its own between client and server."
NO_BUFFERS: Final = "natlb forwards packet by packet and keeps no buffers to tune."
NO_THREADS: Final = "natlb forwards packets in one thread."


@dataclass(frozen=True, slots=True)
class Refuse:
    """The keyword is an error."""

    reason: str
    """What follows the keyword's name in the message."""


@dataclass(frozen=True, slots=True)
class Warn:
    """The keyword is accepted, with a warning that it has no effect."""

    reason: str
    """What follows `has no effect: ` in the message."""
    arguments: Arguments
    """Whether HAProxy would accept its arguments."""


@dataclass(frozen=True, slots=True)
class Keyword(Generic[HandlerT]):
    """One keyword in one or more sections, or one parameter of a line."""

    name: str
    """The word, or the two words (`timeout client`)."""
    action: HandlerT | Refuse | Warn
    """What is done about it."""
    syntax: str
    """How it is written."""
    help: str = ""
    """One line for the reference page."""
    default: str = ""
    """What holds when it is absent."""
    takes: int = 0
    """For a parameter: the words after it that belong to it; -1 is all to the end of the line."""
    options: tuple[str, ...] = ()
    """For a parameter: words that belong to it if they come next, each with a value."""
    side: Literal["frontend", "backend"] | None = None
    """For a keyword of proxies: what the section has to be for it to mean anything; None is either."""
    in_defaults: bool = True
    """For a keyword of proxies: whether a `defaults` section may have it."""
    negatable: bool = False
    """Whether `no` and `default` may stand before it."""
    undo: HandlerT | None = None
    """What is done when `no` stands before it."""


def refuse(reason: str, names: str, takes: int = 0) -> Iterable[Keyword[HandlerT]]:
    """Entries that refuse each of `names`, which are separated by commas (a name may have two words)."""
    for name in names.split(","):
        yield Keyword(" ".join(name.split()), Refuse(reason), " ".join(name.split()), takes=takes)


def nothing(keyword: str, words: tuple[str, ...]) -> None:
    """No argument at all."""
    at_most(0, keyword, words)


def at_most(count: int, keyword: str, words: tuple[str, ...]) -> None:
    """Raise ConfigError, in HAProxy's words, for the first word too many."""
    if len(words) > count:
        raise ConfigError(f"'{keyword}' cannot handle unexpected argument '{words[count]}'.")


def integer(lowest: int = 0, highest: int = LARGEST) -> Arguments:
    """One integer within bounds."""

    def check(keyword: str, words: tuple[str, ...]) -> None:
        parse_integer(words[0] if words else "", keyword, lowest, highest)
        at_most(1, keyword, words)

    return check


def time(keyword: str, words: tuple[str, ...]) -> None:
    """One time."""
    parse_time(words[0] if words else "", keyword)
    at_most(1, keyword, words)


def switch(keyword: str, words: tuple[str, ...]) -> None:
    """`on` or `off`."""
    if not words or words[0] not in ("on", "off"):
        got = words[0] if words else ""
        raise ConfigError(f"'{keyword}' expects either 'on' or 'off' but got '{got}'.")
    at_most(1, keyword, words)
