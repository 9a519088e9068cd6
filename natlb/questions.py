"""What a health check asks of a server: steps as data, for the configuration to write and for the checks to carry out.

A question is a list of steps, as HAProxy's `tcp-check` and `http-check` rules are: connect, send, expect. A server
passes when the last one is done. Numbers and comments of steps are kept because HAProxy's messages show them.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

from natlb.regex import Pattern

Kind = Literal["connect", "tcp-check", "http", "udp"]
OkStatus = Literal["L7OK", "L7OKC", "L6OK", "L4OK"]
ErrorStatus = Literal["L7OKC", "L7RSP", "L7STS", "L6RSP", "L4CON"]
TimeoutStatus = Literal["L7TOUT", "L6TOUT", "L4TOUT"]
Expected = Literal["string", "binary", "rstring", "rbinary", "status", "rstatus"]


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a TCP connection, after closing the one before."""

    number: int = 0
    """Its place among the rules, from 1; 0 for the one that nobody wrote."""
    port: int | None = None
    """None is the check's own."""
    address: IPv4Address | IPv6Address | None = None
    """None is the check's own."""
    linger: bool = False
    """Close with a FIN, and not with a RST."""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Send:
    """Send bytes."""

    number: int
    data: bytes
    comment: str = ""
    of_head: bool = False
    """HTTP: it is a HEAD request, and its response has no body."""


@dataclass(frozen=True, slots=True)
class Expect:
    """Wait until what was received since the last `Send` is as expected, or cannot be any more."""

    number: int
    kind: Expected
    """`status` and `rstatus` only of HTTP; there `string` and `rstring` look at the body of the response."""
    data: bytes = b""
    """For `string` and `binary`."""
    pattern: Pattern | None = None
    """For `rstring`, `rstatus` and `rbinary`; the last is matched with the bytes written in hexadecimal."""
    codes: tuple[tuple[int, int], ...] = ()
    """For `status`: the first and the last of each range."""
    negated: bool = False
    least: int | None = None
    """`min-recv`: so many bytes decide; None waits for more as long as there is no match."""
    ok_status: OkStatus | None = None
    error_status: ErrorStatus | None = None
    timeout_status: TimeoutStatus | None = None
    on_success: str = ""
    on_error: str = ""
    comment: str = ""


Step = Connect | Send | Expect


@dataclass(frozen=True, slots=True)
class Question:
    """All that one check does."""

    kind: Kind = "connect"
    """`connect` is a check without any rules. `udp` sends one datagram, and has no steps."""
    steps: tuple[Step, ...] = (Connect(),)
    disable_on_404: bool = False
    """HTTP: a server that is up and answers 404 gets no new connections (NOLB), and is not down."""


CONNECT: Final = Question()
"""Whether a server accepts a connection."""
