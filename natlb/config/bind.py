"""The `bind` and `dgram-bind` lines: the addresses and ports that a section answers on, and their parameters.

One line may name many addresses and ranges of ports; each address with each port becomes a `Bind` of its own, all with
the same parameters. `[::]` is IPv6 alone unless `v4v6` is given, whatever the host's `net.ipv6.bindv6only` says
(HAProxy leaves that to the host): a NAT matches packets, and a packet is of one family.

`dgram-bind` is the same for the UDP datagrams of a `udp-lb` section, and takes fewer parameters.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from natlb.config.addresses import ANY_IPV4, ANY_IPV6, BindRange
from natlb.config.drafts import Reading
from natlb.config.entries import (
    CONTENT,
    ENDS_TCP,
    FOREIGN,
    NO_SOCKETS,
    NO_THREADS,
    TCP_ONLY,
    TLS,
    Keyword,
    Refuse,
    Warn,
    integer,
    nothing,
    refuse,
    time,
)
from natlb.config.integers import parse_integer
from natlb.config.lexer import Line
from natlb.config.model import Address, Bind
from natlb.config.parameters import read_parameters
from natlb.errors import ConfigError

_LONGEST_INTERFACE: Final = 15  # the kernel's IFNAMSIZ, less the NUL
_NAME: Final = re.compile(r"[!-~]+", re.ASCII)


@dataclass(slots=True)
class BindParameters:
    """What the words after the address say."""

    name: str | None = None
    id: int | None = None
    interface: str | None = None
    transparent: bool = False
    maxconn: int | None = None
    v4v6: bool = False
    v6only: bool = False


BindHandler = Callable[[BindParameters, str], None]


def _set_name(parameters: BindParameters, value: str) -> None:
    if not _NAME.fullmatch(value):
        raise ConfigError("'name' : missing name" if not value else f"'name' : '{value}' is not printable ASCII.")
    parameters.name = value


def _set_id(parameters: BindParameters, value: str) -> None:
    parameters.id = parse_integer(value, "id", 1)


def _set_interface(parameters: BindParameters, value: str) -> None:
    if not _NAME.fullmatch(value) or "/" in value:
        raise ConfigError("'interface' : missing interface name" if not value else f"'interface' : no such '{value}'.")
    if len(value) > _LONGEST_INTERFACE:
        raise ConfigError(f"'interface' : '{value}' is longer than the {_LONGEST_INTERFACE} characters of a name.")
    parameters.interface = value


def _set_maxconn(parameters: BindParameters, value: str) -> None:
    parameters.maxconn = parse_integer(value, "maxconn") or None


def _set_transparent(parameters: BindParameters, _: str) -> None:
    parameters.transparent = True


def _set_v4v6(parameters: BindParameters, _: str) -> None:
    parameters.v4v6 = True


def _set_v6only(parameters: BindParameters, _: str) -> None:
    parameters.v6only = True


def _table(*keywords: Keyword[BindHandler]) -> dict[str, Keyword[BindHandler]]:
    return {keyword.name: keyword for keyword in keywords}


PARAMETERS: Final[dict[str, Keyword[BindHandler]]] = _table(
    Keyword("name", _set_name, "name <name>", "A name for the reader of statistics.", takes=1),
    Keyword("id", _set_id, "id <number>", "The number of this listener; of a single address and port.", takes=1),
    Keyword("interface", _set_interface, "interface <name>", "Only packets that come in on this interface.", takes=1),
    Keyword(
        "transparent", _set_transparent, "transparent", "The address need not be the host's: packets to it pass by."
    ),
    Keyword(
        "maxconn",
        _set_maxconn,
        "maxconn <number>",
        "Most connections at a time through each address and port of the line.",
        "0, no limit of its own",
        takes=1,
    ),
    Keyword("v4v6", _set_v4v6, "v4v6", "`[::]` is every IPv4 address as well."),
    Keyword("v6only", _set_v6only, "v6only", "`[::]` is IPv6 alone.", "so; HAProxy leaves it to the host"),
    Keyword("backlog", Warn(NO_SOCKETS, integer(1)), "backlog <number>", takes=1),
    Keyword("defer-accept", Warn(NO_SOCKETS, nothing), "defer-accept"),
    Keyword("tfo", Warn(NO_SOCKETS, nothing), "tfo"),
    Keyword("nice", Warn(NO_THREADS, integer(-1024, 1024)), "nice <number>", takes=1),
    Keyword("tcp-ut", Warn(NO_SOCKETS, time), "tcp-ut <time>", takes=1),
    *refuse(ENDS_TCP, "accept-proxy"),
    *refuse(ENDS_TCP, "accept-netscaler-cip", takes=1),
    *refuse(CONTENT, "proto", takes=1),
    *refuse(FOREIGN, "expose-fd, gid, group, level, mode, namespace, process, severity-output", takes=1),
    *refuse(FOREIGN, "mss, shards, thread, uid, user", takes=1),
    *refuse(TLS, "ssl, allow-0rtt, force-sslv3, force-tlsv10, force-tlsv11, force-tlsv12, force-tlsv13"),
    *refuse(TLS, "generate-certificates, no-ca-names, no-sslv3, no-tls-tickets, no-tlsv10, no-tlsv11, no-tlsv12"),
    *refuse(TLS, "no-tlsv13, prefer-client-ciphers, strict-sni"),
    *refuse(TLS, "alpn, ca-file, ca-ignore-err, ca-sign-file, ca-sign-pass, ca-verify-file, ciphers", takes=1),
    *refuse(TLS, "ciphersuites, crl-file, crt, crt-ignore-err, crt-list, curves, ecdhe, npn, ssl-max-ver", takes=1),
    *refuse(TLS, "ssl-min-ver, tls-ticket-keys, verify", takes=1),
)

DGRAM_PARAMETERS: Final[dict[str, Keyword[BindHandler]]] = {
    **{name: PARAMETERS[name] for name in ("name", "id", "interface", "transparent", "v4v6", "v6only", "nice")},
    **{name: each for name, each in PARAMETERS.items() if isinstance(each.action, Refuse)},
    **_table(
        *refuse("is not for one address: a 'maxconn' line bounds the flows of the section.", "maxconn", takes=1),
        *refuse(TCP_ONLY, "defer-accept, tfo, accept-proxy"),
        *refuse(TCP_ONLY, "backlog, tcp-ut, mss, accept-netscaler-cip", takes=1),
    ),
}


def bind(reading: Reading, line: Line) -> None:
    """`bind <address>:<port>[-<port>][,...] [parameters]`."""
    _read(reading, line, PARAMETERS)


def dgram_bind(reading: Reading, line: Line) -> None:
    """`dgram-bind <address>:<port>[-<port>][,...] [parameters]`."""
    _read(reading, line, DGRAM_PARAMETERS)


def _read(reading: Reading, line: Line, table: Mapping[str, Keyword[BindHandler]]) -> None:
    proxy = reading.section
    keyword, word = line.word(0), line.word(1)
    if not word:
        raise ConfigError(f"'{keyword}' expects {{[addr1]:port1[-end1]}}{{,[addr]:port[-end]}}... as arguments.")
    parameters = BindParameters()
    try:
        ranges = reading.addresses.bind(word)
    except ConfigError as error:
        reading.say("ALERT", line.location, f"'{keyword}' : {error}")
        ranges = []
    say = reading.about(line.location, f"'{keyword} {word}' in section '{proxy.kind}'")

    def run(handler: BindHandler, own: tuple[str, ...]) -> None:
        handler(parameters, own[0] if own else "")

    read_parameters(line.words[2:], table, run, say)
    try:
        made = _expand(ranges, parameters, line)
        _check_id(proxy.binds, made, parameters)
    except ConfigError as error:
        say("ALERT", str(error))
        return
    if parameters.v4v6 and made and not any(each.address == ANY_IPV6 for each in made):
        say("WARNING", "'v4v6' has no effect: only [::] stands for both families.")
    proxy.binds += made


def _expand(ranges: list[BindRange], parameters: BindParameters, line: Line) -> list[Bind]:
    if parameters.v4v6 and parameters.v6only:
        raise ConfigError("'v4v6' and 'v6only' contradict each other; remove one.")
    both: list[Address] = [ANY_IPV4, ANY_IPV6]
    return [
        Bind(
            address,
            port,
            line.location,
            interface=parameters.interface,
            transparent=parameters.transparent,
            maxconn=parameters.maxconn,
            name=parameters.name,
            id=parameters.id,
        )
        for each in ranges
        for address in (both if parameters.v4v6 and each.address == ANY_IPV6 else [each.address])
        for port in range(each.first, each.last + 1)
    ]


def _check_id(others: list[Bind], made: list[Bind], parameters: BindParameters) -> None:
    if parameters.id is None:
        return
    if len(made) > 1:
        raise ConfigError("'id' can only be used with a single socket")
    for other in others:
        if other.id == parameters.id:
            raise ConfigError(f"'id' : custom id {other.id} already used at {other.location}")
