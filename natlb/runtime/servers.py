"""Commands about servers: their weight, state, limits and address, and those that come and go while natlb runs.

Replies are HAProxy's word for word, with the ends of lines that it has or has not: clients compare them. None of these
commands ends a connection; whatever changes holds for the next one.
"""

import contextlib
import re
from collections.abc import Awaitable
from typing import Final

from natlb.core.pool import AdminState, Pool, Server
from natlb.digits import MOST_DIGITS
from natlb.errors import NatlbError
from natlb.log import notice
from natlb.runtime.addresses import plain, read
from natlb.runtime.console import Console
from natlb.runtime.language import Message, Refused, Reply, Severity, Words
from natlb.runtime.running import Running

MOST_WEIGHT: Final = 256

_NUMBER: Final = re.compile(r"\s*([+-]?[0-9]+)", re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_MOST_PORT: Final = 65535
_PORTS: Final = 65536
_BY: Final = "by 'stats socket command'"
_SETTINGS: Final = (
    "addr | agent | agent-addr | agent-port | agent-send | check-addr | check-port | fqdn | health | ssl | state | "
    "weight"
)
_STATIC: Final = "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'."
_NO_PORT_MAP: Final = (
    "can't change <port> to port map because it is incompatible with current health check port configuration (use "
    "'port' statement from the 'server' directive."
)
_STATES: Final = {state.value: state for state in AdminState}
_NO_AGENT: Final = "agent checks are not enabled on this server"


def get_weight(console: Console, words: Words) -> str:
    """`get weight <bk>/<srv>`."""
    _, server = console.running.server(words)
    return f"{server.weight} (initial {server.initial_weight})\n"


def set_weight(console: Console, words: Words) -> str:
    """`set weight <bk>/<srv> <weight>[%]`."""
    pool, server = console.running.server(words)
    return _set_weight(console.running, pool, server, words[1:])


def set_server(console: Console, words: Words) -> "str | Awaitable[Reply]":
    """`set server <bk>/<srv> <what> ...`."""
    running = console.running
    pool, server = running.server(words)
    what, rest = words[1] if len(words) > 1 else "", words[2:]
    match what:
        case "weight":
            return _set_weight(running, pool, server, rest)
        case "state":
            wanted = _STATES.get(rest[0]) if rest else None
            if wanted is None:
                raise Refused("'set server <srv> state' expects 'ready', 'drain' and 'maint'.")
            _set_admin(running, pool, server, wanted)
            return ""
        case "health":
            return _set_health(running, pool, server, rest)
        case "check-port" | "check-addr":
            return _aim(running, pool, server, what, rest)
        case "addr":
            if not rest:
                raise Refused("set server <b>/<s> addr requires an address and optionally a port.")
            return _set_address(running, pool, server, rest)
        case "agent" | "agent-send":
            raise Refused(f"{_NO_AGENT}.")
        case "agent-addr" | "agent-port":
            raise Refused(_NO_AGENT, Severity.WARNING, end="")
        case "fqdn":
            if not rest:
                raise Refused("set server <b>/<s> fqdn requires a FQDN.")
            raise Refused("set server <b>/<s> fqdn failed because no resolution is configured.")
        case "ssl":
            raise Refused("'set server <srv> ssl' cannot be set.  default-server should define ssl settings")
    raise Refused(f"usage: set server <backend>/<server> {_SETTINGS}")


def enable_server(console: Console, words: Words) -> str:
    """`enable server <bk>/<srv>`."""
    pool, server = console.running.server(words)
    _set_admin(console.running, pool, server, AdminState.READY)
    return ""


def disable_server(console: Console, words: Words) -> str:
    """`disable server <bk>/<srv>`."""
    pool, server = console.running.server(words)
    _set_admin(console.running, pool, server, AdminState.MAINT)
    return ""


def enable_health(console: Console, words: Words) -> str:
    """`enable health <bk>/<srv>`."""
    pool, server = console.running.server(words)
    try:
        console.running.checks.enable(f"{pool.name}/{server.name}")
    except ValueError as error:
        raise Refused(str(error)) from None
    return ""


def disable_health(console: Console, words: Words) -> str:
    """`disable health <bk>/<srv>`: a server that has no checks is not checked anyway."""
    pool, server = console.running.server(words)
    with contextlib.suppress(ValueError):
        console.running.checks.disable(f"{pool.name}/{server.name}")
    return ""


def enable_agent(console: Console, words: Words) -> str:
    """`enable agent <bk>/<srv>`: there are none."""
    console.running.server(words)
    raise Refused("Agent was not configured on this server, cannot enable.")


def disable_agent(console: Console, words: Words) -> str:
    """`disable agent <bk>/<srv>`: there is nothing to do."""
    console.running.server(words)
    return ""


def set_maxconn_server(console: Console, words: Words) -> str:
    """`set maxconn server <bk>/<srv> <value>`: 0 is no limit."""
    pool, server = console.running.server(words)
    if len(words) < 2:
        raise Refused("Require <maxconn>.")
    found = _number(words[1])
    if found is None:
        raise Refused("maxconn string empty or preceded by garbage", end="")
    limit, rest = found
    if rest:
        raise Refused("Trailing garbage in maxconn string", end="")
    pool.set_maxconn(server, max(0, limit) or None)
    return ""


async def add_server(console: Console, words: Words) -> Reply:
    """`add server <bk>/<srv> <addr>[:<port>] [<parameter>]*`."""
    running = console.running
    pool, name = running.names(words, end="")
    if not pool.dynamic:
        raise Refused("Backend must use a dynamic load balancing to support dynamic servers.", end="")
    if len(words) < 2:
        raise Refused("'server' expects <name> and <addr>[:<port>] as arguments.")
    if name in pool.servers:
        raise Refused("Already exists a server with the same name in backend.")
    try:
        await running.roster.add(pool, name, words[1:])
    except NatlbError as error:
        raise Refused(str(error)) from error
    return _done(f"{pool.name}/{name}", "New server registered.", end="\n")


async def del_server(console: Console, words: Words) -> Reply:
    """`del server <bk>/<srv>`: one in maintenance, without connections."""
    running = console.running
    pool, server = running.server(words, end="")
    if server.admin is not AdminState.MAINT:
        raise Refused("Only servers in maintenance mode can be deleted.", end="")
    if server.live:
        raise Refused("Server still has connections attached to it, cannot remove it.", end="")
    try:
        await running.roster.remove(pool, server)
    except NatlbError as error:
        raise Refused(str(error), end="") from error
    running.aimed.pop(f"{pool.name}/{server.name}", None)
    return _done(f"{pool.name}/{server.name}", "Server deleted.")


def _done(name: str, what: str, end: str = "") -> Message:
    """Say what was done, to the client and in the log."""
    notice(f"CLI : 'server {name}' : {what}")
    return Message(what + end, Severity.INFO)


def _set_admin(running: Running, pool: Pool, server: Server, state: AdminState) -> None:
    before, checks, name = server.admin, running.checks, f"{pool.name}/{server.name}"
    if state is AdminState.MAINT:
        checks.pause(name)  # while it is still known whether the server was drained
    pool.set_admin(server, state, running.clock())
    running.on_admin(pool, server, before)
    checks.drain(name, state is AdminState.DRAIN)  # which takes along those that track it
    if state is not AdminState.MAINT:
        checks.resume(name)  # into drain, if it is that


def _set_health(running: Running, pool: Pool, server: Server, words: Words) -> str:
    match words[:1]:
        case ["up" | "stopping" | "down" as state]:
            try:
                running.checks.force(f"{pool.name}/{server.name}", state)
            except ValueError as error:
                raise Refused(str(error)) from None
            return ""
    raise Refused("'set server <srv> health' expects 'up', 'stopping', or 'down'.")


def _aim(running: Running, pool: Pool, server: Server, what: str, words: Words) -> str:
    """Answer `set server ... check-port <port>` and `... check-addr <address> [port <port>]`."""
    if not words:
        needed = "a port" if what == "check-port" else "an address and optionally a port"
        raise Refused(f"set server <b>/<s> {what} requires {needed}.")
    address = None
    port = words[0] if what == "check-port" else words[2] if words[1:2] == ["port"] and len(words) > 2 else None
    try:
        if what == "check-addr":
            address = read(words[0]).packed
    except ValueError:
        raise Refused(f"invalid addr '{words[0]}'", Severity.WARNING, end="") from None
    if port is not None and not _DIGITS.fullmatch(port):
        raise Refused("provided port is not an integer", Severity.WARNING, end="")
    if port is not None and int(port) > _MOST_PORT:
        raise Refused("provided port is invalid", Severity.WARNING, end="")
    try:
        running.roster.aim(pool, server, address=address, port=None if port is None else int(port))
    except ValueError as error:
        raise Refused(str(error), Severity.WARNING, end="") from None
    name = f"{pool.name}/{server.name}"
    before = running.checked_at(name)
    running.aimed[name] = (before[0] if port is None else int(port), before[1] if address is None else words[0])
    return ""


def _set_weight(running: Running, pool: Pool, server: Server, words: Words) -> str:
    if not words:
        raise Refused("Require <weight> or <weight%>.")
    found = _number(words[0])
    if found is None:
        raise Refused("Empty weight string empty or preceded by garbage", end="")
    weight, rest = found
    if rest == "%":
        if weight < 0:
            raise Refused("Relative weight must be positive.")
        weight = min(MOST_WEIGHT, server.initial_weight * weight // 100)
    elif not 0 <= weight <= MOST_WEIGHT:
        raise Refused("Absolute weight can only be between 0 and 256 inclusive.")
    elif rest:
        raise Refused("Trailing garbage in weight string", end="")
    if weight and weight != server.initial_weight and not pool.dynamic:
        raise Refused(_STATIC)
    pool.set_weight(server, weight, running.clock())
    running.on_weight(pool)
    return ""


async def _set_address(running: Running, pool: Pool, server: Server, words: Words) -> Reply:
    """Answer `set server ... addr <address> [port <port>]`, which HAProxy does in two steps, each with its text."""
    try:
        address = read(words[0])
    except ValueError:
        raise Refused(f"Invalid addr '{words[0]}' {_BY}", Severity.WARNING) from None
    before, after = plain(server.address), plain(address.packed)
    told = "no need to change the addr" if after == before else f"IP changed from '{before}' to '{after}'"
    port, offset = server.port, server.port_offset
    if words[1:2] == ["port"]:
        checked_at, _ = running.checked_at(f"{pool.name}/{server.name}")
        port, offset, said = _new_port(server, words[2] if len(words) > 2 else "", bool(checked_at))
        told += f", {said}"
    if (after, port, offset) != (before, server.port, server.port_offset):
        try:
            await running.roster.move(pool, server, address.packed, port, offset)
        except NatlbError as error:
            raise Refused(str(error)) from error
    return Message(f"{told} {_BY}\n", Severity.WARNING)


def _new_port(server: Server, word: str, checked_elsewhere: bool) -> tuple[int | None, int, str]:
    """Return a server's port and offset when it was told that its port is `word`, and what is to be said about it.

    Where checks go to the server's own port, it cannot become one that keeps the clients'.
    """
    as_it_is = server.port, server.port_offset
    found = _number(word)
    if found is None:
        return *as_it_is, f"problem converting port '{word}' to an int"
    port, _ = found
    before = f"+{server.port_offset % _PORTS}" if server.port is None else str(server.port)
    if word[0] in "+-":
        if server.port is not None and not checked_elsewhere:
            return *as_it_is, _NO_PORT_MAP
        if server.port is None and (port - server.port_offset) % _PORTS == 0:
            return *as_it_is, "no need to change the port"
        return None, port % _PORTS, f"port changed from '{before}' to '{word[0]}{abs(port) % _PORTS}'"
    if not 0 < port <= _MOST_PORT:
        return *as_it_is, f"invalid port '{word}'"
    if port == server.port:
        return *as_it_is, "no need to change the port"
    return port, 0, f"port changed from '{before}' to '{port}'"


def _number(word: str) -> tuple[int, str] | None:
    """Return the number that a word begins with, and what follows it; None if it begins with none."""
    found = _NUMBER.match(word)
    return None if found is None else (int(found[1][:MOST_DIGITS]), word[found.end() :])
