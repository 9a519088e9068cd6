"""Commands about natlb as a whole: its version, environment, sockets, backends, and what became of packets."""

import re
from collections.abc import Iterator
from typing import Final

from natlb.runtime.addresses import written
from natlb.runtime.console import Console
from natlb.runtime.language import Message, Refused, Severity, Words

_NUMBER: Final = re.compile(r"[+-]?0*[1-9]", re.ASCII)


def show_version(console: Console, _: Words) -> Message:
    """`show version`."""
    return Message(f"{console.running.version}\n", Severity.INFO)


def show_env(console: Console, words: Words) -> str:
    """`show env [var]`."""
    environ = console.running.environ
    if not words:
        return "".join(f"{name}={value}\n" for name, value in environ.items())
    if words[0] not in environ:
        raise Refused("Variable not found")
    return f"{words[0]}={environ[words[0]]}\n"


def show_errors(console: Console, words: Words) -> str:
    """`show errors [<px>]`: of messages that could not be read. natlb reads none.

    HAProxy takes any number but 0 for one of a proxy, whether there is such a proxy or not.
    """
    running = console.running
    known = {*running.pools, *(service.name for service in running.services)}
    if words and words[0] not in known and not _NUMBER.match(words[0]):
        raise Refused("No such proxy.")
    at = running.today()
    return f"Total events captured on [{at:%d/%b/%Y:%H:%M:%S}.{at.microsecond // 1000:03d}] : 0\n"


def show_backend(console: Console, _: Words) -> str:
    """`show backend`."""
    return "".join(["# name\n", *(f"{name}\n" for name in console.running.pools)])


def show_cli_sockets(console: Console, _: Words) -> str:
    """`show cli sockets`."""
    sockets = console.running.sockets
    return "".join(["# socket lvl processes\n", *(f"{name} {level.name.lower()} all\n" for name, level in sockets)])


def show_servers_conn(console: Console, words: Words) -> Iterator[str]:
    """`show servers conn [<backend>]`: natlb keeps no idle connections to servers, so most columns are 0.

    Those that say how long and how many might be kept are what HAProxy has for a server that was told nothing.
    """
    running = console.running
    chosen = running.backends(words)

    def rows() -> Iterator[str]:
        yield (
            "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb safe_nb idle_lim "
            "idle_cur idle_per_thr[1]\n"
        )
        for pool in chosen:
            for server in list(pool.servers.values()):
                if server.pool is None:  # it has gone while others were shown
                    continue
                address, _, port = written(*server.endpoint(0)).rpartition(":")
                used = f"{server.live} {server.counters.most_live} {server.live}"
                numbers = f"{pool.id}/{server.id} {address.strip('[]')} {port} - 5000 {used} 0 0 -1 0 0"
                yield f"{pool.name}/{server.name} {numbers}\n"

    return rows()


def show_activity(console: Console, _: Words) -> str:
    """`show activity`: packets, and those dropped, by reason."""
    running, engine = console.running, console.running.engine
    counted = {
        **running.counters(),
        "connections": len(engine),
        "connections_live": engine.live,
        "held_back": sum(service.held_back for service in running.services),
        "rate_limited": sum(service.rate_limited for service in running.services),
        "denied": sum(service.denied for service in running.services),
        "refused": sum(service.refused for service in running.services),
        **{f"drop_{reason.name.lower()}": count for reason, count in engine.drops.items()},
    }
    return "".join(f"{name}: {count}\n" for name, count in counted.items())
