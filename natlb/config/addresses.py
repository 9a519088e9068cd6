"""Addresses and ports, as HAProxy writes them.

    bind     [ipv4@|ipv6@][host]:port[-port][,...]     :80  *:80  [::]:80  ::1:80  [::1]:80  www.example.org:80
    server   [ipv4@|ipv6@]host[:[port|+N|-N]]          10.0.0.1:80  10.0.0.1  10.0.0.1:+1000
    source   [ipv4@|ipv6@][host][:[port[-port]]]       10.0.0.9  10.0.0.9:0  10.0.0.9:20000-29999  [::]

The last colon is the port's, unless a bracket closes after it. An empty host and `*` are every IPv4 address (every
IPv6 one after `ipv6@`). In an address, and only there, `$NAME` and `${NAME}` are expanded even outside double quotes.

A host name is resolved once, by the function that the reader was given, and its first address is taken. natlb resolves
when it reads the configuration and never again: a NAT's mapping is to an address.

What is refused although HAProxy takes it: addresses that no TCP connection can be rewritten to (multicast, IPv4-mapped
IPv6, a server at 0.0.0.0), sockets that would have to be opened in place of forwarding packets (`unix@`, `fd@`), and
the shorthands of inet_aton (`127.1`, `0x7f.1`, `010.0.0.1`), which read as a typing error more often than not.
"""

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from natlb.config.model import Address
from natlb.errors import ConfigError

Resolver = Callable[[str], Sequence[Address]]
"""From a host name to its addresses, the best one first. Raises OSError, or gives none, when there is none."""

ANY_IPV4: Final = IPv4Address("0.0.0.0")  # noqa: S104 - a value that users write, not a socket of ours
ANY_IPV6: Final = IPv6Address("::")
SYSLOG_PORT: Final = 514

_VERSION: Final[dict[str, int]] = {"ipv4@": 4, "ipv6@": 6}
_ENDS_TCP: Final = ("unix@", "uxst@", "uxdg@", "abns@", "fd@", "sockpair@")
_UDP: Final = ("udp@", "udp4@", "udp6@", "dgram+")
_QUIC: Final = ("quic4@", "quic6@")
_NEEDLESS: Final = ("ip@", "tcp@", "tcp4@", "tcp6@", "stream+")

_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))?", re.ASCII)
_HOST_NAME: Final = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,62})\.)*[a-z0-9_][a-z0-9_-]{0,62}\.?", re.ASCII | re.I)
_IN_BRACKETS: Final = "the last colon of '{0}' starts a port; put an IPv6 address in brackets: [{0}]."
_NUMERIC_LABEL: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)\.?", re.ASCII | re.I)
_PORT: Final = re.compile(r"[0-9]{1,10}", re.ASCII)


def system_resolver(host: str) -> Sequence[Address]:
    """What the C library says, `/etc/hosts` and all: the default resolver."""
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [ip_address(answer[4][0]) for answer in answers]


@dataclass(frozen=True, slots=True)
class BindRange:
    """An address and the ports `first` to `last` of it, as one piece of a `bind` line says."""

    address: Address
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class SourceRange:
    """An address and the ports `first` to `last` of it, as a `source` says. Both are 0 for any port."""

    address: Address
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server is. Without a `port` it is the client's, plus `offset`."""

    address: Address
    port: int | None
    offset: int


class AddressReader:
    """Reads addresses with one environment and one resolver.

    Every method raises ConfigError with a message that names the word.
    """

    def __init__(self, environ: Mapping[str, str], resolve: Resolver) -> None:
        self._environ = environ
        self._resolve = resolve
        self.unset: list[str] = []
        """Variables met that are not set. For the caller to report, and to clear."""

    def bind(self, word: str) -> list[BindRange]:
        """The addresses and ports of a `bind` line."""
        pieces = word.split(",")
        if "" in pieces:
            raise ConfigError(f"empty address in the list '{word}'; remove a comma.")
        return [self._bind_piece(piece) for piece in pieces]

    def server(self, word: str) -> ServerAddress:
        """The address of a `server` line."""
        expanded = self.expand(word)
        host, port_text = _split_port(expanded)
        port, offset = _server_port(port_text or "", word)
        version, host = _version(host, word)
        if host in ("", "*"):
            raise ConfigError(
                f"'{word}' names no host; natlb rewrites packets to a server, and needs the address of one."
            )
        return ServerAddress(server_address(self._address(host, version, word), word), port, offset)

    def source(self, word: str, *, ranges: bool) -> SourceRange:
        """The address of a `source`, which may be 0.0.0.0 or `::`. Whether it may have a range of ports is `ranges`."""
        host, port = _split_port(self.expand(word))
        first, last = _port_range(port, word, lowest=0, ranges=ranges) if port else (0, 0)
        if not first and last:
            raise ConfigError(f"invalid port range '{port}'; 0 stands for any port, alone.")
        version, host = _version(host, word)
        if host in ("", "*"):
            return SourceRange(ANY_IPV6 if version == 6 else ANY_IPV4, first, last)
        return SourceRange(self._address(host, version, word), first, last)

    def host(self, word: str) -> Address:
        """An address literal without a port."""
        expanded = self.expand(word)
        version, host = _version(expanded, word)
        literal = _literal(host)
        if literal is None:
            raise ConfigError(f"invalid address: '{host}' in '{word}'; it takes an IPv4 or IPv6 address and no port.")
        if _split_port(host)[1] is not None:  # HAProxy takes what follows the last colon for a port
            raise ConfigError(_IN_BRACKETS.format(word))
        return _usable(literal, version, word)

    def log_server(self, word: str) -> tuple[Address, int]:
        """The address and the UDP port of a syslog server; 514 where none is given."""
        host, port = _split_port(self.expand(word))
        number = _port_range(port, word, lowest=0, ranges=False)[0] if port else 0
        version, host = _version(host, word)
        if host in ("", "*"):
            raise ConfigError(f"'{word}' names no host; log lines need the address of one.")
        return self._address(host, version, word), number or SYSLOG_PORT

    def path(self, word: str) -> str:
        """The path of a Unix socket."""
        expanded = self.expand(word).removeprefix("unix@")
        if not expanded.startswith("/"):
            raise ConfigError(f"'{word}' is not an absolute path; natlb's stats socket is a Unix socket.")
        return expanded

    def expand(self, word: str) -> str:
        """`word` with its variables replaced."""

        def value(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            if name is None:
                raise ConfigError(
                    f"'{word}' : '$' is followed by no variable's name; write \"${{NAME-default}}\" in double quotes "
                    "for a default."
                )
            found = self._environ.get(name)
            if found is None:
                self.unset.append(name)
            return found or ""

        expanded = _VARIABLE.sub(value, word)
        if not expanded:
            raise ConfigError(f"'{word}' resolves to an empty address (environment variable missing?)")
        return expanded

    def _bind_piece(self, piece: str) -> BindRange:
        host, port = _split_port(self.expand(piece))
        version, host = _version(host, piece)
        if not port:
            raise ConfigError(f"missing port specification in '{piece}'")
        first, last = _port_range(port, piece)
        if host in ("", "*"):
            return BindRange(ANY_IPV6 if version == 6 else ANY_IPV4, first, last)
        return BindRange(self._address(host, version, piece), first, last)

    def _address(self, host: str, version: int | None, word: str) -> Address:
        literal = _literal(host)
        if literal is not None:
            return _usable(literal, version, word)
        if _literal(_version(self.expand(word), word)[1]) is not None:
            raise ConfigError(_IN_BRACKETS.format(word))
        if host.startswith("_"):
            raise ConfigError(f"'{host}' is a DNS SRV name, which gives no address; write a host name and a port.")
        if not _HOST_NAME.fullmatch(host) or _NUMERIC_LABEL.fullmatch(host.rstrip(".").rpartition(".")[2]):
            raise ConfigError(f"invalid address: '{host}' in '{word}'")
        try:
            found = [address for address in self._resolve(host) if version in (None, address.version)]
        except (OSError, ValueError) as error:  # a name that IDNA refuses is a UnicodeError, and that a ValueError
            raise ConfigError(f"could not resolve address '{host}'.") from error
        if not found:
            kind = "" if version is None else f" as an IPv{version} address"
            raise ConfigError(f"could not resolve address '{host}'{kind}.")
        return _usable(found[0], version, word)


def _split_port(word: str) -> tuple[str, str | None]:
    """The host, and what follows the colon; None where there is no colon."""
    for at in range(len(word) - 1, -1, -1):
        if word[at] == ":":
            return word[:at], word[at + 1 :]
        if word[at] == "]":
            break
    return word, None


def _version(host: str, word: str) -> tuple[int | None, str]:
    """The IP version that a prefix asks for, and the host after it."""
    if host.startswith("/"):
        raise ConfigError(
            f"'{word}' is a Unix socket and needs to end the TCP connection; natlb only forwards packets."
        )
    for prefix in _ENDS_TCP:
        if host.startswith(prefix):
            raise ConfigError(f"'{prefix}' in '{word}' needs to end the TCP connection; natlb only forwards packets.")
    for prefix in _UDP:
        if host.startswith(prefix):
            raise ConfigError(
                f"'{prefix}' in '{word}' is not supported; for UDP write a 'udp-lb' section, with 'ipv4@', 'ipv6@' or "
                "no prefix."
            )
    for prefix in _QUIC:
        if host.startswith(prefix):
            raise ConfigError(
                f"'{prefix}' in '{word}' needs to end the QUIC connection; a 'udp-lb' section forwards its datagrams."
            )
    for prefix in _NEEDLESS:
        if host.startswith(prefix):
            raise ConfigError(f"'{prefix}' in '{word}' is not supported; write 'ipv4@', 'ipv6@' or no prefix.")
    for prefix, version in _VERSION.items():
        if host.startswith(prefix):
            return version, host.removeprefix(prefix)
    return None, host


def _port_range(text: str, word: str, lowest: int = 1, *, ranges: bool = True) -> tuple[int, int]:
    if text[0] in "+-":
        raise ConfigError(f"port offset not permitted here in '{word}'")
    if not text[0].isascii() or not text[0].isdigit():
        raise ConfigError(f"invalid character '{text[0]}' in port number '{text}' in '{word}'")
    low, dash, high = text.partition("-")
    if dash and not ranges:
        raise ConfigError(f"port range not permitted here in '{word}'")
    first = _port(low, lowest)
    last = _port(high, lowest) if dash else first
    if first > last:
        raise ConfigError(f"invalid port range '{first}-{last}'")
    return first, last


def _server_port(text: str, word: str) -> tuple[int | None, int]:
    if not text:
        return None, 0
    if text[0] in "+-":
        if not _PORT.fullmatch(text[1:]) or int(text) > 65535 or int(text) < -65535:
            raise ConfigError(f"invalid port offset '{text}' in '{word}'")
        return None, int(text)
    if not text[0].isascii() or not text[0].isdigit():
        raise ConfigError(f"invalid character '{text[0]}' in port number '{text}' in '{word}'")
    if "-" in text:
        raise ConfigError(f"port range not permitted here in '{word}'")
    return _port(text), 0


def _port(text: str, lowest: int = 1) -> int:
    if not _PORT.fullmatch(text) or not lowest <= int(text) <= 65535:
        raise ConfigError(f"invalid port '{text}'; a port is a number from 1 to 65535.")
    return int(text)


def _literal(text: str) -> Address | None:
    """The address that `text` is: IPv4 dotted, IPv6 with or without brackets. None when it is none."""
    bracketed = text.startswith("[") and text.endswith("]")
    try:
        address = ip_address(text[1:-1] if bracketed else text)
    except ValueError:
        return None
    return None if bracketed and address.version == 4 else address


def server_address(address: Address, word: str) -> Address:
    """Return an address that a server can have, as it stands in `word`. Raises ConfigError, with the reason."""
    if address in (ANY_IPV4, ANY_IPV6):
        raise ConfigError(f"'{address}' is no server's address; natlb rewrites packets to it, and needs one.")
    return _usable(address, None, word)


def _usable(address: Address, version: int | None, word: str) -> Address:
    if version not in (None, address.version):
        raise ConfigError(f"'{address}' in '{word}' is not an IPv{version} address.")
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ConfigError(f"'%{address.scope_id}' in '{word}' is not supported; use 'interface' on a bind line.")
        if address.ipv4_mapped is not None:
            raise ConfigError(f"'{address}' in '{word}' travels as IPv4; write {address.ipv4_mapped}.")
    if address.is_multicast or address == IPv4Address("255.255.255.255"):
        raise ConfigError(f"'{address}' in '{word}' is no single host's; natlb forwards unicast packets.")
    return address
