"""The server of a soak: it answers as it is asked, and checks every byte that comes.

    python -m netns.soak.server --seed 44 --name server1 --conductor /run/soak-lab/soak.sock

It serves TCP and UDP, IPv4 and IPv6, at `PORT`, and the same again at `SECOND`, where servers are added and moved to.
At `SINK` it takes whatever comes and says nothing: that is where floods are led. It ends when its conductor is gone.
"""

import argparse
import asyncio
import contextlib
import socket
from pathlib import Path
from typing import cast

from netns.soak import wire
from netns.soak.channel import Channel
from netns.soak.keyed import Stream, WrongByte
from netns.soak.plans import End
from netns.soak.talk import SHUT_WITHIN, STALLED, Ended, Talk, told

PORT, SECOND, SINK = 9000, 9001, 9009
READY = "serves"
"""What it says when it does."""
_BACKLOG = 1024
_BUFFER = 1 << 20


class Server:
    """All that runs on one server's host."""

    def __init__(self, seed: int, channel: Channel) -> None:
        self._seed = seed
        self._channel = channel
        self._verified = 0
        self._datagrams = 0
        self._open: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the conductor is gone."""
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as running:
            for port in (PORT, SECOND):
                await running.enter_async_context(await asyncio.start_server(self._met, sock=_listening(port)))
                transport, _ = await loop.create_datagram_endpoint(lambda: _Answering(self), sock=_bound(port))
                running.callback(transport.close)
            running.enter_context(_listening(SINK))
            running.enter_context(_bound(SINK))
            print(READY, flush=True)
            pulse = asyncio.create_task(self._pulse())
            await self._channel.hear(lambda _: None)
            pulse.cancel()
            for task in list(self._open):
                task.cancel()

    async def _pulse(self) -> None:
        while True:
            self._channel.tell("pulse", verified=self._verified, datagrams=self._datagrams)
            await asyncio.sleep(1)

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        talk, peer = Talk(reader, writer), writer.get_extra_info("peername")
        conversation = _Conversation(self._seed, self._channel, talk)
        try:
            with told():
                await conversation.hold()
            how, why = "finished", ""
        except Ended as ended:
            how, why = ended.how, ended.why
        except asyncio.CancelledError:
            return
        except Exception as error:
            self._channel.tell("broken", why=repr(error))
            return
        finally:
            self._verified += talk.verified
            await talk.gone()
        self._channel.tell(
            "server end",
            id=conversation.connection,
            how=how,
            why=why,
            sent=talk.sent,
            verified=talk.verified,
            peer=f"{peer[0]} {peer[1]}" if peer else "",
        )

    def answer(self, datagram: bytes) -> bytes | None:
        """Return the answer to a datagram, if it is one of a client's."""
        try:
            flow, number = wire.read_question(self._seed, datagram)
        except WrongByte as wrong:
            self._channel.tell("wrong datagram", why=str(wrong))
            return None
        self._datagrams += 1
        return wire.answer(self._seed, flow, number, len(datagram))


class _Conversation:
    """What is said on one connection, from the server's side."""

    def __init__(self, seed: int, channel: Channel, talk: Talk) -> None:
        self._seed, self._channel, self._talk = seed, channel, talk
        self.connection: int | None = None

    async def hold(self) -> None:
        talk = self._talk
        frame = await talk.frame(None, 0, STALLED)
        self.connection = frame.connection
        self._channel.tell("accepted", id=frame.connection)
        up, down = (Stream(self._seed, frame.connection, way) for way in ("up", "down"))
        turn = 0
        while True:
            half = frame.flags & wire.LAST and frame.end == End.HALF
            if frame.flags & wire.BOTH and not half:
                await talk.exchange(down, frame.down, up, frame.up)
            else:
                await talk.receive(up, frame.up)
                if half:
                    await talk.end()
                await talk.send(down, frame.down)
            if frame.flags & wire.LAST:
                break
            turn += 1
            frame = await talk.frame(frame.connection, turn, frame.quiet + STALLED)
        if frame.end == End.SERVER:
            talk.writer.write_eof()
        if frame.end != End.HALF:
            await talk.end(SHUT_WITHIN if frame.end == End.SHUT else STALLED)
        await talk.close()


class _Answering(asyncio.DatagramProtocol):
    """UDP at one port."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a datagram."""
        answer = self._server.answer(data)
        if answer:
            self._transport.sendto(answer, addr)


def _listening(port: int) -> socket.socket:
    made = _bound(port, socket.SOCK_STREAM)
    made.listen(_BACKLOG)
    return made


def _bound(port: int, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
    """Return a socket at a port of all addresses of both families."""
    made = socket.socket(socket.AF_INET6, kind)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if kind is socket.SOCK_DGRAM:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    made.setblocking(False)
    made.bind(("::", port))
    return made


async def _main(options: argparse.Namespace) -> None:
    channel = await Channel.connect(options.conductor, options.name)
    await Server(options.seed, channel).run()


def main() -> None:
    """Serve until the conductor is gone."""
    parser = argparse.ArgumentParser(prog="python -m netns.soak.server", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--name", required=True, help="what it tells the conductor that it is")
    parser.add_argument("--conductor", type=Path, required=True, metavar="SOCKET")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
