"""What faults and churn act upon: the scene, and what must not be done by two at the same time."""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from netns.errors import LabError
from netns.soak.accounts import Accounts
from netns.soak.scene import SECTIONS, Scene, aside

_MOST_LOGS = 100
_IN_BETWEEN = 3
"""Connections of a section that may be half-open when natlb is followed by another, and flows that may begin."""
_UP_WITHIN = 30.0
"""Seconds for a server that is there to be found by natlb's checks."""


class Stage:
    """A scene that is played in."""

    def __init__(self, scene: Scene, accounts: Accounts, chance: random.Random) -> None:
        self.scene, self.accounts, self.chance = scene, accounts, chance
        self.away = asyncio.Lock()
        """Held by whoever takes a server out of use: there is always another one."""
        self.api = asyncio.Lock()
        """Held by whoever speaks to natlb, or has it restarted."""
        self.programs: dict[str, str] = {}
        """The program that serves on each server's host, by a name that no other has had."""
        self.generation = 0
        """How often natlb has been started anew."""
        self.earlier: Counter[str] = Counter()
        """What natlb had counted before it was, by section."""
        self.uncertain: Counter[str] = Counter()
        """How many more or less it may have been, by section."""
        self.to_delete: dict[str, int] = {}
        """Servers that were added and are in maintenance, and natlb's generation that knows them."""
        self.to_shut: set[int] = set()
        """Connections that natlb is to be told to shut down."""
        self.logs: deque[str] = deque(maxlen=_MOST_LOGS)
        """What natlb has said before it was started anew, the last times."""
        self._starts = 0

    async def start_server(self, host: str) -> None:
        """Start the server of a host, and wait until it serves."""
        self._starts += 1
        self.programs[host] = f"{host}#{self._starts}"
        await aside(self.scene.start_server, host, self.programs[host])

    async def kill_server(self, host: str) -> None:
        """End the server of a host, with no time for a last word."""
        await aside(self.scene.servers[host].kill)

    @asynccontextmanager
    async def succession(self) -> AsyncIterator[None]:
        """Have one natlb follow another in the block, and go on counting where that one ended."""
        async with self.api:
            before, begun = await aside(self.scene.totals), Counter(self.accounts.made)
            predecessor = self.scene.natlb
            self.generation += 1
            yield
            if self.scene.natlb is not predecessor:
                self.logs.append(predecessor.log())
            after = await aside(self.scene.totals)
            if all(after[name] >= before[name] for name in SECTIONS):
                return  # it counts on
            for name in SECTIONS:
                self.earlier[name] += before[name]
                # What came after it was asked, and was perhaps counted by nobody, or a second time.
                self.uncertain[name] += self.accounts.made[name] - begun[name] + _IN_BETWEEN

    async def until_diverted(self) -> None:
        """Wait until there are rules again by which natlb gets packets."""
        deadline = time.monotonic() + _UP_WITHIN
        while not await aside(lambda: self.scene.is_diverting):
            if time.monotonic() > deadline:
                raise LabError("natlb does not make its rules again")
            await asyncio.sleep(0.1)

    async def until_up(self, host: str) -> None:
        """Wait until natlb holds the servers on a host for up."""
        deadline = time.monotonic() + _UP_WITHIN
        down = ["?"]
        while time.monotonic() < deadline:
            async with self.api:
                down = await aside(self.scene.servers_down, host)
            if not down:
                return
            await asyncio.sleep(0.25)
        raise LabError(f"natlb does not find that {', '.join(down)} is up again")

    async def say(self, command: str, reply: str = "") -> None:
        """Give natlb a command; LabError unless it answers with what the expression `reply` matches."""
        async with self.api:
            await aside(self.scene.tell, command, reply)

    async def take_back(self, command: str, generation: int, reply: str = "") -> None:
        """The same, about something that natlb was told in a generation: a later one has never heard of it."""
        async with self.api:
            if generation == self.generation:
                await aside(self.scene.tell, command, reply)
            else:
                await aside(self.scene.ask, command)

    async def delete(self) -> None:
        """Have natlb forget the servers that are to be deleted, as far as their connections have ended."""
        for server, generation in list(self.to_delete.items()):
            async with self.api:
                said = (await aside(self.scene.ask, f"del server {server}")).strip()
            if said == "Server deleted." or (said == "No such server." and generation != self.generation):
                del self.to_delete[server]
            elif "still has connections" not in said:
                raise LabError(f"natlb refused 'del server {server}': {said}")

    async def shut(self) -> None:
        """Have natlb shut down the connections that wait for that."""
        waiting = [self.accounts.open.get(number) for number in self.to_shut]
        self.to_shut.clear()
        stories = {story.original: story for story in waiting if story and story.original}
        if stories:
            async with self.api:
                for original, line in (await aside(self.scene.sessions, stories)).items():
                    stories[original].shut = time.monotonic()
                    await aside(self.scene.tell, f"shutdown session {line.partition(':')[0]}")

    async def look_up(self) -> None:
        """Ask natlb what it knows of the connections that were lost."""
        lost = dict(self.accounts.unexplained)
        self.accounts.unexplained.clear()
        if lost:
            async with self.api:
                found = await aside(self.scene.sessions, lost.values())
            for number, original in lost.items():
                self.accounts.add(number, f"natlb: {found.get(original, 'it has no such connection')}")
