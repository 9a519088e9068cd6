"""All clients of a soak: connections and flows begin by chance and do what their plans say.

    python -m netns.soak.client --seed 44 --vip4 44.2.2.2 --vip6 fd44::2 --conductor /run/soak-lab/soak.sock

Told to finish, it begins nothing more, says the last word of everything that is open, and ends.
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from netns.soak import plans, wire
from netns.soak.channel import Channel, Message
from netns.soak.keyed import Stream, WrongByte
from netns.soak.plans import End, Plan
from netns.soak.talk import SHUT_WITHIN, Ended, Talk, told
from netns.web import endpoint

PORTS = {way: 7000 + way.startswith("full") for way in plans.WAYS}
"""Where natlb listens, for TCP and UDP, at its address of the way's family."""

_ANSWERED_WITHIN = 10.0
"""Seconds after a flow's last datagram in which answers may still come; what is not answered then is lost."""
_CONNECTED_WITHIN = 31.0
"""Seconds for a handshake: SYNs go out after 0, 1, 3, 7 and 15 seconds (RFC 6298, section 5.5), and the last one's
answer has time to come."""

_MOST_WRONG = 10
"""Wrong datagrams of a flow that are described."""


@dataclass(frozen=True, slots=True)
class Target:
    """The virtual addresses."""

    ipv4: str
    ipv6: str

    def address(self, way: str) -> tuple[str, int]:
        """Return address and port by which a way begins."""
        return (self.ipv6 if way.endswith("6") else self.ipv4), PORTS[way]


class Clients:
    """All of them."""

    def __init__(self, seed: int, channel: Channel, target: Target) -> None:
        self._seed, self._channel, self._target = seed, channel, target
        self._finishing = asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        self._verified = 0
        self._datagrams = 0

    async def run(self) -> None:
        """Begin and hold connections and flows until told to finish, or until the conductor is gone."""
        self._channel.tell("ready")
        hearing = asyncio.create_task(self._channel.hear(self._heard))
        hearing.add_done_callback(lambda _: self._finishing.set())
        pulse = asyncio.create_task(self._pulse())
        begun = time.monotonic()
        await asyncio.gather(
            self._begin(begun, "connections", plans.CONNECTIONS_PER_SECOND, self._connection),
            self._begin(begun, "flows", plans.FLOWS_PER_SECOND, self._flow),
        )
        if self._open:
            await asyncio.wait(self._open)
        pulse.cancel()
        self._channel.tell("finished")
        await hearing

    def _heard(self, message: Message) -> None:
        if message["what"] == "finish":
            self._finishing.set()

    async def _pulse(self) -> None:
        while True:
            self._channel.tell("pulse", verified=self._verified, datagrams=self._datagrams)
            await asyncio.sleep(1)

    async def _begin(
        self, begun: float, what: str, per_second: float, hold: Callable[[int], Coroutine[Any, Any, None]]
    ) -> None:
        """Begin what comes, each in its time, until it is time to finish."""
        for number, at in enumerate(plans.arrivals(self._seed, what, per_second), 1):
            if await self._silent(begun + at - time.monotonic()):
                return
            if len(self._open) < plans.MOST_CONNECTIONS:
                task = asyncio.create_task(hold(number))
                self._open.add(task)
                task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        if error := task.exception():
            self._channel.tell("broken", why=repr(error))

    async def _silent(self, seconds: float) -> bool:
        """Let time pass; return whether it is time to finish."""
        if seconds > 0 and not self._finishing.is_set():
            waiting = asyncio.create_task(self._finishing.wait())
            await asyncio.wait([waiting], timeout=seconds)
            waiting.cancel()
        return self._finishing.is_set()

    # -- connections

    async def _connection(self, number: int) -> None:
        plan = plans.connection(self._seed, number)
        self._channel.tell("begins", id=number)
        talk: Talk | None = None
        how, why = "finished", ""
        try:
            with told():
                talk = await self._connect(number, plan)
                how = await self._hold(number, plan, talk)
        except Ended as ended:
            how, why = ended.how, ended.why
        finally:
            if talk:
                self._verified += talk.verified
                await talk.gone()
        self._channel.tell(
            "client end",
            id=number,
            how=how,
            why=why,
            connected=talk is not None,
            sent=talk.sent if talk else 0,
            verified=talk.verified if talk else 0,
        )

    async def _connect(self, number: int, plan: Plan) -> Talk:
        try:
            async with asyncio.timeout(_CONNECTED_WITHIN):
                talk = Talk(*await asyncio.open_connection(*self._target.address(plan.way)))
        except TimeoutError as error:
            if error.errno is not None:
                raise
            raise Ended("stalled", f"no handshake in {_CONNECTED_WITHIN:g} s") from None
        ends = (endpoint(*talk.writer.get_extra_info(name)[:2]) for name in ("sockname", "peername"))
        self._channel.tell("connected", id=number, original=">".join(ends))
        return talk

    async def _hold(self, number: int, plan: Plan, talk: Talk) -> str:
        """Do what the plan says; return how it has ended."""
        up, down = (Stream(self._seed, number, way) for way in ("up", "down"))
        end = plan.end
        for position, turn in enumerate(plan.turns):
            is_last = position == len(plan.turns) - 1 or self._finishing.is_set()
            if self._finishing.is_set() and end is End.SHUT:
                end = End.CLIENT
            flags = (wire.LAST if is_last else 0) | (wire.BOTH if turn.both else 0)
            talk.writer.write(wire.Frame(number, position, turn.up, turn.down, turn.quiet, flags, end).pack())
            if is_last and end is End.RESET:
                await talk.send(up, min(plan.reset_after, turn.up))
                await talk.reset()
                return "reset as planned"
            half = is_last and end is End.HALF
            if turn.both and not half:
                await talk.exchange(up, turn.up, down, turn.down)
            else:
                await talk.send(up, turn.up)
                if half:
                    talk.writer.write_eof()
                await talk.receive(down, turn.down)
            if is_last:
                break
            await self._silent(turn.quiet)
        if end is End.SHUT:
            self._channel.tell("to be shut", id=number)
            await talk.end(SHUT_WITHIN)
            raise Ended("closed early", "where natlb was to reset it")
        if end is not End.CLIENT:
            await talk.end()
        await talk.close()
        return "finished"

    # -- flows

    async def _flow(self, number: int) -> None:
        plan = plans.flow(self._seed, number)
        flow = _Flow(self._seed, number)
        gaps = plans.chance(self._seed, "gaps", number)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: flow, remote_addr=self._target.address(plan.way))
        try:
            for position, size in enumerate(plan.sizes):
                flow.ask(position, size)
                self._datagrams += 1
                if await self._silent(gaps.uniform(0, 2 * plan.gap)):
                    break
            await flow.answered(_ANSWERED_WITHIN)
        finally:
            transport.close()
        self._channel.tell(
            "flow end",
            id=number,
            way=plan.way,
            asked=flow.asked,
            answered=flow.asked - len(flow.open),
            lost=sorted(flow.open.values()),
            doubled=flow.doubled,
            wrong=flow.wrong,
        )


class _Flow(asyncio.DatagramProtocol):
    """The client's end of a flow of UDP."""

    def __init__(self, seed: int, number: int) -> None:
        self._seed, self._number = seed, number
        self._transport: asyncio.DatagramTransport
        self._all = asyncio.Event()
        self.asked = 0
        self.open: dict[int, float] = {}
        """Datagrams that are not answered, and when they were sent, on the clock of all."""
        self.doubled: list[float] = []
        """When an answer came that had come before."""
        self.wrong: list[str] = []

    def ask(self, number: int, size: int) -> None:
        """Send a datagram."""
        self.asked += 1
        self.open[number] = time.monotonic()
        self._transport.sendto(wire.question(self._seed, self._number, number, size))

    async def answered(self, patience: float) -> None:
        """Wait until all are answered, but no longer than that."""
        self._all.clear()
        if self.open:
            try:
                await asyncio.wait_for(self._all.wait(), patience)
            except TimeoutError:
                return

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002 - it is connected
        """Check an answer."""
        try:
            flow, number = wire.read_answer(self._seed, data)
            if flow != self._number:
                raise WrongByte(f"an answer to flow {flow} has come")
        except WrongByte as wrong:
            if len(self.wrong) < _MOST_WRONG:
                self.wrong.append(str(wrong))
            return
        if self.open.pop(number, None) is None:
            self.doubled.append(time.monotonic())
        if not self.open:
            self._all.set()

    def error_received(self, exc: Exception) -> None:
        """Be told that nobody is there: the datagram counts as lost."""


async def _main(options: argparse.Namespace) -> None:
    channel = await Channel.connect(options.conductor, "client")
    await Clients(options.seed, channel, Target(options.vip4, options.vip6)).run()


def main() -> None:
    """Be all clients until told to finish."""
    parser = argparse.ArgumentParser(prog="python -m netns.soak.client", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--vip4", required=True)
    parser.add_argument("--vip6", required=True)
    parser.add_argument("--conductor", type=Path, required=True, metavar="SOCKET")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
