"""How long packets wait while the stats socket is asked for much: gaps between turns of the event loop.

    .venv/bin/python -m tests.bench.stats_socket [--connections N]

A table is filled in this process and served on a Unix socket; clients are processes of their own. While they ask, a
ticker runs in every turn of the loop, as natlb's reader of packets does, and the largest gap between two of its runs is
what a packet would have waited; on a busy machine only the work in it is natlb's. Meanwhile connections end and begin,
as they do in life.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable

from natlb.runtime.commands import LANGUAGE
from natlb.runtime.language import Level
from natlb.runtime.server import Access, RuntimeServer
from tests.bench.scale import Patched
from tests.bench.stalls import Crowd
from tests.garbage import collected_as_in_natlb
from tests.unit.core.packets import SYN, segment

_CLIENT = """
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.sendall(sys.argv[2].encode() + b"\\n")
lines = 0
while piece := client.recv(1 << 16):
    lines += piece.count(b"\\n")
print(lines)
"""


class Ticker:
    """Runs in every turn of the loop, and does a little of what packets do."""

    def __init__(self, work: Callable[[int], None]) -> None:
        self._work = work
        self.begin()

    def begin(self) -> None:
        """Forget what was measured."""
        self.largest = 0.0
        """Seconds of the clock, other programs of the machine included."""
        self.largest_of_ours = 0.0
        """Seconds that this process worked."""
        self.turns = 0

    async def run(self) -> None:
        before, worked_before = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(0)
            now, worked = time.perf_counter(), time.thread_time()
            self.largest = max(self.largest, now - before)
            self.largest_of_ours = max(self.largest_of_ours, worked - worked_before)
            self.turns += 1
            self._work(self.turns)
            before, worked_before = time.perf_counter(), time.thread_time()


def _filled(connections: int) -> tuple[Crowd, Callable[[int], None]]:
    """Make a balancer with established connections, and return what opens one more in every 16th turn."""
    crowd = Crowd(connections, 1)
    crowd.fill()
    syn = Patched(segment(("11.0.0.0", 0), ("44.2.2.2", 8888), SYN, seq=1000), 12, 20)

    def open_another(turn: int) -> None:
        if turn % 16 == 0:
            crowd.engine.handle_packet(syn.of(connections + turn), turn * 1e-6)
            crowd.drain()

    return crowd, open_another


async def _measure(crowd: Crowd, work: Callable[[int], None]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        access = Access(f"{directory}/socket", level=Level.ADMIN)
        server = RuntimeServer([access], crowd.running, LANGUAGE, timeout=600, most_clients=10)
        server.start()
        for clients, command in (
            (1, "show sess 0x1"),
            (1, "show sess"),
            (4, "show sess"),
            (1, "shutdown sessions server b/s0"),
        ):
            ticker = Ticker(work)
            ticking = asyncio.create_task(ticker.run())
            started = time.perf_counter()
            processes = [
                await asyncio.create_subprocess_exec(
                    sys.executable, "-c", _CLIENT, str(access.path), command, stdout=asyncio.subprocess.PIPE
                )
                for _ in range(clients)
            ]
            ticker.begin()  # starting processes is the measurement's own
            lines = [int((await process.communicate())[0]) for process in processes]
            took = time.perf_counter() - started
            ticking.cancel()
            print(
                f"{clients} x {command:<30} {sum(lines):>10,} lines {took:>7.2f} s {ticker.turns:>9,} turns, "
                f"largest gap {ticker.largest * 1e3:.1f} ms, {ticker.largest_of_ours * 1e3:.1f} ms of it work, "
                f"open {crowd.engine.live:,}",
                flush=True,
            )
        server.close()


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stats_socket", description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=1_000_000, metavar="N")
    options = parser.parse_args()
    with collected_as_in_natlb():
        crowd, work = _filled(options.connections)
        asyncio.run(_measure(crowd, work))


if __name__ == "__main__":
    main()
