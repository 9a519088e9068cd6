"""`clear counters`: HAProxy's rules for what is forgotten, and by whom."""

from collections.abc import Iterator
from itertools import chain
from typing import Final

from natlb.core.pool import Pool, Server
from natlb.core.service import Service
from natlb.runtime.console import Console
from natlb.runtime.language import Level, Refused, Words
from natlb.runtime.running import Running
from natlb.runtime.stat import settled

_PIECE: Final = 32
"""Servers whose counters are cleared before packets have their turn."""


def clear_counters(console: Console, words: Words) -> Iterator[str]:
    """`clear counters [all]`: what was highest; with `all`, which is for admins, all that was counted as well.

    Connections that are open stay so, limits and times of change stay, and the process is not begun anew: its totals
    in `show info` only lose what was highest.
    """
    everything = words[:1] == ["all"]
    if everything and console.level < Level.ADMIN:
        raise Refused("Permission denied")
    return _cleared(console.running, everything=everything)


def _cleared(running: Running, *, everything: bool) -> Iterator[str]:
    yield from settled(running)
    running.engine.books.counters.clear_maxima()
    pools = list(running.pools.values())
    servers = (server for pool in pools for server in list(pool.servers.values()))
    counted: Iterator[Service | Pool | Server] = chain(running.services, pools, servers)
    for number, each in enumerate(counted, start=1):
        if everything:
            each.counters.clear()
            each.total = 0
        else:
            each.counters.clear_maxima()
        if not isinstance(each, Service):
            each.most_queued = 0
            if everything:
                each.retries = each.redispatches = each.gave_up = 0
        elif everything:
            each.denied = 0
        if number % _PIECE == 0:
            yield ""
    if everything:
        for number, health in enumerate(list(running.checks), start=1):
            health.clear()
            if number % _PIECE == 0:
                yield ""
