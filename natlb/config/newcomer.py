"""A `server` line that comes while natlb runs (`add server`): read as a configuration's, and refused in the same words.

As in HAProxy, the section's `default-server` is not for it, and it starts in maintenance unless it says `enabled`.
"""

from collections.abc import Mapping, Sequence

from natlb.config import server as server_lines
from natlb.config.addresses import AddressReader, Resolver, system_resolver
from natlb.config.build import make_server
from natlb.config.drafts import ProxyDraft, Reading, ServerDraft, ServerSettings
from natlb.config.lexer import Line
from natlb.config.model import Backend, Location, Server
from natlb.errors import ConfigError

_HERE = Location("stats socket", 1)


def read_server(
    backend: Backend, taken: Mapping[str, int], words: Sequence[str], resolve: Resolver = system_resolver
) -> Server:
    """Return the server that the words after `server` describe, its name first.

    `taken` are the servers that the backend has, with their numbers. Raises ConfigError with all that is wrong. May ask
    the network for a host name's address.
    """
    reading = Reading(AddressReader({}, resolve), {})
    udp = backend.protocol == "udp"
    reading.proxy = proxy = ProxyDraft("udp-lb" if udp else "backend", backend.name, _HERE)
    proxy.servers = [ServerDraft(name, _HERE, ServerSettings(id=number)) for name, number in taken.items()]
    proxy.default_server.disabled = True
    server_lines.server(reading, Line(("server", *words), _HERE))
    label = f"'server {backend.name}/{words[0]}' : "
    wrong = [each.text.removeprefix(label) for each in reading.diagnostics if each.severity == "ALERT"]
    if wrong:
        raise ConfigError(" ".join(wrong))
    draft = proxy.servers[-1]
    settings = draft.settings
    if settings.check and settings.port is None and draft.target is not None and draft.target.port is None:
        raise ConfigError("it has neither service port nor check port; add 'port <port>'.")
    number = settings.id or next(number for number in range(1, len(taken) + 2) if number not in taken.values())
    return make_server(number, draft, backend.name, backend.question)
