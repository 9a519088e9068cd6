"""A network that loses segments, as whoever receives them sees it, whichever way they took to get there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from netns.build import Lab
from tests.lab.support import shell

_COMMANDS = ("iptables -t raw", "ip6tables -t raw")


@contextmanager
def loss(lab: Lab, share: float = 0.01) -> Iterator[Callable[[], int]]:
    """Lose a share of all segments inside the block where they arrive, on client and servers; some must get lost.

    What it yields tells how many that are until now.
    """
    rule = f"PREROUTING ! -i lo -p tcp -m statistic --mode random --probability {share} -j DROP"
    hosts = [lab.topology.client.name, *(server.name for server in lab.topology.servers)]
    for host in hosts:
        shell(lab, host, "; ".join(f"{command} -A {rule}" for command in _COMMANDS))
    listing = "; ".join(f"{command} -vxnL PREROUTING" for command in _COMMANDS)

    def lost() -> int:
        lines = [line for host in hosts for line in shell(lab, host, listing).splitlines() if "statistic" in line]
        return sum(int(line.split()[0]) for line in lines)

    try:
        yield lost
        assert lost() > 0
    finally:
        for host in hosts:
            shell(lab, host, "; ".join(f"{command} -D {rule}" for command in _COMMANDS))
