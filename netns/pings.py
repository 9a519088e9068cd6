"""Who reaches whom: one ping from every host to every other, in both address families, all at the same time."""

import itertools
import socket
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from netns.build import Lab
from netns.draw import Pen, table
from netns.topology import Host, Topology

Way = tuple[str, str, socket.AddressFamily]
"""From which host, to which, and in which family."""

_FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
_SECONDS = 1


def between_all(lab: Lab) -> dict[Way, bool]:
    """Ping along every way there is, and tell where an answer came."""

    def ping(way: tuple[Host, Host, socket.AddressFamily]) -> bool:
        near, far, family = way
        address = far.ipv4 if family == socket.AF_INET else far.ipv6
        argv = ["ping", "-n", "-q", "-c", "1", "-W", str(_SECONDS), address]
        done: subprocess.CompletedProcess[str] = lab.run(near.name, argv, names=False)
        return done.returncode == 0

    ways = [(*pair, family) for pair in itertools.permutations(lab.topology.hosts, 2) for family in _FAMILIES]
    with ThreadPoolExecutor(len(ways)) as pool:
        answers = list(pool.map(ping, ways))
    return {(near.name, far.name, family): come for (near, far, family), come in zip(ways, answers, strict=True)}


def drawn(topology: Topology, answered: Mapping[Way, bool], pen: Pen) -> str:
    """Draw who reaches whom: a row for each host that asks, a column for each that is asked."""
    names = [host.name for host in topology.hosts]
    rows = [["from \\ to", *names]]
    rows += [[near, *(_cell(answered, near, far) for far in names)] for near in names]
    heading, *lines = table(rows, gap=3)
    total = f"{sum(answered.values())} of {len(answered)} pings were answered."
    return "\n".join([pen.bold(heading), *lines, "", total])


def _cell(answered: Mapping[Way, bool], near: str, far: str) -> str:
    if near == far:
        return "."
    come = [name for family, name in _FAMILIES.items() if answered[near, far, family]]
    return "yes" if len(come) == len(_FAMILIES) else f"{come[0]} only" if come else "no"
