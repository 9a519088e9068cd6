"""What an operator does while traffic flows: by the Runtime API, one thing after the other, and nothing that kills.

Whoever takes a server out of use holds `Stage.away`, so that there is always one that takes new connections.
"""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from netns.errors import LabError
from netns.soak import plans
from netns.soak.scene import SECTIONS, Scene, aside, section
from netns.soak.server import PORT, SECOND
from netns.soak.stage import Stage
from netns.web import endpoint

GAP = 2.5
"""Seconds from one change to the next, on average."""

_names = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Change:
    """Something that an operator does."""

    weight: int
    make: Callable[[Stage], Awaitable[None]]
    possible: Callable[[Scene], bool] = lambda _: True


async def _weight(stage: Stage) -> None:
    """Give a server another weight."""
    server = _server(stage)
    await stage.say(f"set server {server} weight {stage.chance.randint(1, 100)}")


async def _drain(stage: Stage) -> None:
    """Drain a server for a while."""
    await _out_of_use(stage, "drain")


async def _maintenance(stage: Stage) -> None:
    """Have a server in maintenance for a while."""
    await _out_of_use(stage, "maint")


async def _out_of_use(stage: Stage, state: str) -> None:
    async with stage.away:
        server, generation = _server(stage), stage.generation
        await stage.say(f"set server {server} state {state}")
        await asyncio.sleep(stage.chance.uniform(0.2, 4))
        await stage.take_back(f"set server {server} state ready", generation)


async def _added(stage: Stage) -> None:
    """Add a server, use it for a while, and delete it once its last connection has ended."""
    way, host = stage.chance.choice(plans.WAYS), stage.chance.choice(stage.scene.topology.servers)
    server = f"{section('tcp', way)}/extra{next(_names)}"
    generation = stage.generation
    await stage.say(
        f"add server {server} {endpoint(stage.scene.address(host, way), SECOND)}", r"New server registered\."
    )
    await stage.take_back(f"set server {server} state ready", generation)
    await asyncio.sleep(stage.chance.uniform(1, 6))
    await stage.take_back(f"set server {server} state maint", generation)
    stage.to_delete[server] = generation


async def _moved(stage: Stage) -> None:
    """Lead a server's new connections to its other port, and back again."""
    way, host = stage.chance.choice(plans.WAYS), stage.chance.choice(stage.scene.topology.servers)
    server, address = f"{section('tcp', way)}/{host.name}", stage.scene.address(host, way)
    generation = stage.generation
    await stage.say(f"set server {server} addr {address} port {SECOND}", ".*port changed .*")
    await asyncio.sleep(stage.chance.uniform(0.2, 3))
    await stage.take_back(f"set server {server} addr {address} port {PORT}", generation, ".*port changed .*")


async def _offload(stage: Stage) -> None:
    """Have the kernel carry nothing for a while."""
    generation = stage.generation
    await stage.say("set offload off")
    await asyncio.sleep(stage.chance.uniform(0.1, 3))
    await stage.take_back("set offload on", generation)


async def _looking(stage: Stage) -> None:
    """Ask for everything that can be asked."""
    for command in ("show sess all", "show stat typed", "show info desc", "show servers state", "show activity"):
        async with stage.api:
            if not await aside(stage.scene.ask, command):
                raise LabError(f"natlb says nothing to '{command}'")
    async with stage.api:
        json.loads(await aside(stage.scene.ask, "show stat json"))


def _server(stage: Stage) -> str:
    return f"{stage.chance.choice(SECTIONS)}/{stage.chance.choice(stage.scene.server_hosts)}"


CHANGES = {
    "weight": Change(5, _weight),
    "drain": Change(4, _drain),
    "maint": Change(4, _maintenance),
    "add and delete": Change(2, _added),
    "move": Change(1, _moved),
    "offload off and on": Change(1, _offload, lambda scene: scene.offload),
    "look": Change(2, _looking),
}
