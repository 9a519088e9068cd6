"""The `source` of a section or a server: whose address the servers see.

A proxy opens a connection of its own to the server, so in HAProxy the server sees the proxy, and `source` chooses which
of the proxy's addresses, or the client's with `usesrc clientip`. A NAT rewrites the client's packets, and what it does
not rewrite stays: where a configuration says nothing, natlb decides flow by flow, and keeps the client's address where
it can. `source` makes the choice here too, but starts from the other end:

    source 10.0.0.9                     full NAT: servers see 10.0.0.9, and their answers find the way back by routing
    source 10.0.0.9:20000-29999         the same with these ports alone
    source 0.0.0.0 usesrc clientip      the client's address and port, always

One address has some 64,000 ports, so a section may say `source` more than once and its flows are spread over all of the
addresses. (HAProxy obeys the last one alone.) The first line of a section takes the place of what `defaults` said.

HAProxy takes a range of ports for a server, and a single port for a section; so does natlb. Stricter than HAProxy, it
refuses what a packet cannot show: two sources at once, an address that only a socket could leave open, an interface.
"""

from typing import Final

from natlb.config.addresses import ANY_IPV4, ANY_IPV6, AddressReader, SourceRange
from natlb.config.drafts import Reading
from natlb.config.entries import HTTP
from natlb.config.lexer import Line
from natlb.config.model import Location, Source
from natlb.errors import ConfigError

OPTIONS: Final = ("usesrc", "interface")
"""The words that may follow the address, each with a value."""


def source(reading: Reading, line: Line) -> None:
    """`source <address>[:<port>] [usesrc clientip]` of a section."""
    proxy = reading.section
    made = read(line.words[1:], reading.addresses, line.location, on_server=False)
    before = proxy.sources if proxy.sources_said is not None else None
    if before is not None:
        if (made is None) is not (not before):
            raise ConfigError(
                f"'source {line.word(1)}' contradicts {proxy.sources_said}: either servers see the client's address, "
                "or they see natlb's. Remove one."
            )
        for other in before:
            if made is not None and _overlap(made, other):
                raise ConfigError(
                    f"'source {line.word(1)}' : {other.address} is already given at {other.location}; remove one."
                )
    proxy.sources = (*(before or ()), *(() if made is None else (made,)))
    proxy.sources_said = proxy.sources_said or line.location


def read(words: tuple[str, ...], addresses: AddressReader, location: Location, *, on_server: bool) -> Source | None:
    """What the words after `source` say; None is the client's own address and port. Raises ConfigError.

    On a `server` line the ports may be a range.
    """
    if not words:
        ports, argument = ("[:<port>[-<port>]]", " as argument") if on_server else ("[:<port>]", "")
        raise ConfigError(
            f"'source' expects <addr>{ports}, and optionally 'usesrc' <addr>, and 'interface' <name>{argument}."
        )
    word = words[0]
    try:
        found = addresses.source(word, ranges=on_server)
    except ConfigError as error:
        raise ConfigError(f"'source {word}' : {error}{_hint(word, str(error))}") from error
    usesrc = _usesrc(words[1:], on_server)
    if usesrc:
        _check_transparent(word, found, usesrc)
        return None
    if found.address in (ANY_IPV4, ANY_IPV6):
        raise ConfigError(
            f"'source {word}' leaves the address to the system; natlb writes it into packets, and needs one. Add "
            "'usesrc clientip' to keep the client's."
        )
    return Source(found.address, found.first or None, found.last or None, location)


def _hint(word: str, error: str) -> str:
    if not error.startswith("port range not permitted"):
        return ""
    return f"; it may stand on a 'server' or 'default-server' line: 'default-server source {word}'."


def _usesrc(options: tuple[str, ...], on_server: bool) -> str:
    """Which of `client` and `clientip` is asked for; "" for none."""
    usesrc = ""
    for at in range(0, len(options), 2):
        option = options[at]
        value = options[at + 1] if at + 1 < len(options) else ""
        if option == "interface" and not value:
            raise ConfigError("'source' : missing interface name.")
        if option == "interface":
            raise ConfigError(
                "'interface' of 'source' ties a socket to a device; natlb forwards packets as the host routes them. "
                "Remove it."
            )
        if option != "usesrc":
            raise ConfigError(f"'source' only supports optional keywords 'interface' and 'usesrc' (got '{option}').")
        if not value:
            header = ", 'clientip', or 'hdr_ip(name,#)'" if on_server else ", or 'clientip'"
            raise ConfigError(f"'usesrc' expects <addr>[:<port>], 'client'{header} as argument.")
        if value.startswith("hdr_ip("):
            raise ConfigError(f"'usesrc {value}' {HTTP}")
        if value not in ("client", "clientip"):
            raise ConfigError(
                f"'usesrc {value}' : servers see one address; natlb has 'usesrc clientip' for the client's, and "
                f"'source {value}' for another."
            )
        usesrc = value
    return usesrc


def _check_transparent(word: str, found: SourceRange, usesrc: str) -> None:
    if found.address not in (ANY_IPV4, ANY_IPV6):
        raise ConfigError(
            f"'source {word} usesrc {usesrc}' names two sources; write 'source 0.0.0.0 usesrc {usesrc}' for the "
            f"client's, or 'source {word}'."
        )
    if found.last:
        raise ConfigError(
            f"'source {word} usesrc {usesrc}' : the client's address comes with the client's port; remove the port."
        )


def _overlap(one: Source, other: Source) -> bool:
    if one.address != other.address:
        return False
    if one.first_port is None or one.last_port is None or other.first_port is None or other.last_port is None:
        return True
    return one.first_port <= other.last_port and other.first_port <= one.last_port
