"""What breaks while traffic flows: a table of faults, one at a time, each for a moment, each undone.

A fault says beforehand what it can explain (`netns.soak.accounts.Injected`): which connections it may end, and whether
packets get lost or come twice by it. Most of them may end none.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from netns.errors import LabError
from netns.processes import PYTHON
from netns.soak.accounts import Ends, Injected
from netns.soak.scene import Scene, aside
from netns.soak.stage import Stage
from netns.topology import LINK

GAP = 4.0
"""Seconds from the end of one fault to the beginning of the next, on average."""

_QUEUE = 7
"""Of the program that reorders packets, on its own host."""
_REORDERED = 0.03
"""The share of packets that it holds back."""
_HANGING = 5
"""Clients of natlb's stats socket, of twenty, that hang at a time."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks."""

    weight: int
    make: Callable[[Stage, Injected], Awaitable[None]]
    """Make it, wait, undo it. It may write into what is kept about it."""
    ends: Ends = Ends.NONE
    loses: bool = False
    doubles: bool = False
    possible: Callable[[Scene], bool] = lambda _: True


async def _server_killed(stage: Stage, fault: Injected) -> None:
    """End a server's program with SIGKILL, and start it again."""
    async with stage.away:
        host = stage.chance.choice(stage.scene.server_hosts)
        fault.server, fault.note = stage.programs[host], host
        await stage.kill_server(host)
        await asyncio.sleep(stage.chance.choice((0.2, 1.0, 3.0, 12.0)))
        await stage.start_server(host)
        await stage.until_up(host)


async def _server_stands_still(stage: Stage, fault: Injected) -> None:
    """Stop a server's program for a while; its kernel goes on."""
    fault.note = host = stage.chance.choice(stage.scene.server_hosts)
    await aside(stage.scene.signal, host, signal.SIGSTOP)
    try:
        await asyncio.sleep(stage.chance.uniform(0.5, 4))
    finally:
        stage.scene.signal(host, signal.SIGCONT)


async def _link_down(stage: Stage, fault: Injected) -> None:
    """Have a link down for a moment."""
    async with stage.away:
        fault.note = host = stage.chance.choice([each.name for each in stage.scene.topology.neighbours])
        await aside(stage.scene.set_link, host, "down")
        try:
            await asyncio.sleep(stage.chance.uniform(0.1, 2))
        finally:
            await aside(stage.scene.set_link, host, "up")
        if host in stage.scene.server_hosts:
            await stage.until_up(host)


async def _loss(stage: Stage, fault: Injected) -> None:
    """Lose some of the packets that a host gets."""
    host = stage.chance.choice([each.name for each in stage.scene.topology.neighbours])
    percent = stage.chance.randint(1, 10)
    fault.note = f"{percent} % at {host}"
    chain = "type filter hook prerouting priority raw; policy accept;"
    rule = f"iifname {LINK} numgen random mod 100 < {percent} drop"
    await aside(stage.scene.told, host, ["nft", f"table inet soak_loss {{ chain loss {{ {chain} {rule}; }}; }}"])
    try:
        await asyncio.sleep(stage.chance.uniform(1, 5))
    finally:
        await aside(stage.scene.told, host, ["nft", "delete", "table", "inet", "soak_loss"])


async def _disorder(stage: Stage, fault: Injected) -> None:
    """Have a host send some packets late, and some of those twice."""
    fault.note = host = stage.chance.choice([each.name for each in stage.scene.topology.neighbours])
    scene = stage.scene
    argv = [*PYTHON, "netns.disorder", str(_QUEUE)]
    program = await aside(scene.lab.start, "soak-disorder", host, argv)
    await aside(program.wait_for, "disorder begins", 60.0)
    rule = ["POSTROUTING", "-o", LINK, "-m", "statistic", "--mode", "random"]
    rule += ["--probability", str(_REORDERED), "-j", "NFQUEUE", "--queue-num", str(_QUEUE)]
    try:
        for command in ("iptables", "ip6tables"):
            await aside(scene.told, host, [command, "-t", "mangle", "-A", *rule])
        await asyncio.sleep(stage.chance.uniform(1, 5))
    finally:
        for command in ("iptables", "ip6tables"):
            await aside(scene.told, host, [command, "-t", "mangle", "-D", *rule])
        await aside(program.stop)


async def _burst(stage: Stage, _: Injected) -> None:
    """Send more datagrams at once than natlb's queue has room for."""
    await aside(stage.scene.bother, "burst", stage.chance.getrandbits(32), 1.0)


async def _flood(stage: Stage, _: Injected) -> None:
    """Flood natlb with SYNs."""
    await aside(stage.scene.bother, "flood", stage.chance.getrandbits(32), stage.chance.uniform(1, 3))


async def _garbage(stage: Stage, _: Injected) -> None:
    """Send what no host sends."""
    await aside(stage.scene.bother, "garbage", stage.chance.getrandbits(32), stage.chance.uniform(1, 4))


async def _hanging_clients(stage: Stage, _: Injected) -> None:
    """Have clients of the stats socket ask and not listen, or not even finish what they ask."""
    with contextlib.ExitStack() as stack:
        for number in range(_HANGING):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            try:
                client.connect(str(stage.scene.lab.stats_socket))
                client.send(b"show sess all; show stat; show sess\n" if number % 2 else b"show se")
            except OSError as error:
                raise LabError(f"natlb's stats socket takes no client: {error.strerror}") from error
        await asyncio.sleep(stage.chance.uniform(1, 6))


async def _natlb_killed(stage: Stage, _: Injected) -> None:
    """End natlb with SIGKILL, and start it again."""
    async with stage.succession():
        await aside(stage.scene.kill_natlb)
        await aside(stage.scene.start_natlb)


async def _natlb_replaced(stage: Stage, _: Injected) -> None:
    """Start another natlb that takes the place of this one."""
    async with stage.succession():
        await aside(stage.scene.replace_natlb)


async def _natlb_reloaded(stage: Stage, _: Injected) -> None:
    """Have natlb reload in place."""
    async with stage.succession():
        await aside(stage.scene.reload_natlb)


async def _rules_flushed(stage: Stage, _: Injected) -> None:
    """Take away natlb's rules, and everybody's. Until they are there again the kernel answers in natlb's place."""
    await aside(stage.scene.flush_rules)
    await stage.until_diverted()


FAULTS = {
    "server killed": Fault(3, _server_killed, Ends.THERE, loses=True),
    "server stands still": Fault(2, _server_stands_still, loses=True),
    "link down": Fault(3, _link_down, Ends.NEW, loses=True),
    "loss": Fault(3, _loss, loses=True),
    "disorder": Fault(2, _disorder, loses=True, doubles=True),
    "burst of datagrams": Fault(1, _burst, loses=True),
    "SYN flood": Fault(1, _flood),
    "garbage": Fault(2, _garbage),
    "hanging stats clients": Fault(1, _hanging_clients),
    "natlb killed": Fault(2, _natlb_killed, loses=True, possible=lambda scene: scene.hands_over),
    "natlb replaced (-sf)": Fault(2, _natlb_replaced, loses=True, possible=lambda scene: scene.hands_over),
    "natlb reloaded (SIGUSR2)": Fault(2, _natlb_reloaded, loses=True, possible=lambda scene: scene.hands_over),
    "rules flushed": Fault(1, _rules_flushed, Ends.ALL, loses=True, possible=lambda scene: scene.repairs),
}
