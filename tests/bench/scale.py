"""What a connection costs, from one to a million of them, and from one server to a thousand.

    .venv/bin/python -m tests.bench.scale [--quick] [--plot FILE.svg]

Real handshakes go through the engine, then packets of connections picked at random, then all are left to expire. Memory
is what the process has grown by when all are open, as the kernel counts it. Few connections are measured many times
over. `--quick` stops at ten thousand connections, and at ten servers.
"""

import argparse
import gc
import random
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from natlb.core.checksum import adjust, difference
from natlb.core.engine import NatEngine
from natlb.core.pool import Pool, Server
from natlb.core.schedulers.base import Scheduler
from natlb.core.schedulers.hashes import hash_by
from natlb.core.schedulers.leastconn import LeastConnections
from natlb.core.schedulers.maglev import Consistent
from natlb.core.schedulers.roundrobin import RoundRobin
from natlb.core.service import Service, Timeouts, VirtualAddresses
from natlb.core.verdict import Rewrite
from tests.unit.core.packets import ACK, PSH, SYN, segment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
SERVERS = (1, 10, 100, 1_000)
SCHEDULERS: dict[str, Callable[[], Scheduler]] = {
    "roundrobin": RoundRobin,
    "leastconn": LeastConnections,
    "source, consistent": partial(Consistent, hash_by(None, "sdbm", stirred=False)),
}
_CLIENT, _VIP, _SERVER = ("11.0.0.0", 0), ("44.2.2.2", 8888), ("44.3.3.3", 4444)
_PORTS = 200
"""Ports that each client address uses."""
_PACKETS = 20_000
_LEAST = 2_000
"""Connections over which a cost is averaged at least."""
_MANY = 5_000
"""Connections, where it is the servers that differ."""
_WEIGHABLE = 10_000
"""Connections from which on their memory tells itself from the rest of the process."""
_LONG_AFTER = 1e6


@dataclass(frozen=True)
class Cost:
    """What was measured with `connections` of them to `servers`; times in microseconds."""

    connections: int
    servers: int
    memory: float | None
    """Bytes for each; None where they are too few to tell."""
    opening: float
    """A whole handshake of three packets."""
    packet: float
    """A packet with data, of a connection picked at random."""
    expiry: float
    """Ending one that was silent for too long: two RSTs, and forgetting it."""


class Patched:
    """A packet whose client is changed for each connection, checksums included."""

    def __init__(self, packet: bytearray, address_at: int, port_at: int) -> None:
        self._packet = bytes(packet)
        self._address_at, self._port_at = address_at, port_at

    def of(self, number: int) -> bytearray:
        packet = bytearray(self._packet)
        address = struct.pack("!I", 0x0B000001 + number // _PORTS)
        port = struct.pack("!H", 1024 + number % _PORTS)
        at = self._address_at
        delta = difference(packet[at : at + 4], address)
        packet[at : at + 4] = address
        packet[10:12] = adjust(int.from_bytes(packet[10:12]), delta).to_bytes(2)
        packet[self._port_at : self._port_at + 2] = port
        total = (delta + int.from_bytes(port)) % 0xFFFF
        packet[36:38] = adjust(int.from_bytes(packet[36:38]), total).to_bytes(2)
        return packet


def measure(connections: int, servers: int = 1, scheduler: str = "roundrobin") -> Cost:
    """Open so many connections to so many servers, use them, and let them expire; few ones several times over."""
    opened = carried = ended = 0.0
    rounds = max(1, _LEAST // connections)
    memory: float | None = None
    for _ in range(rounds):
        engine = _engine(connections, servers, SCHEDULERS[scheduler])
        gc.collect()
        before = _resident()
        opened += _open(engine, connections)
        memory = (_resident() - before) / connections if connections >= _WEIGHABLE else None
        assert len(engine) == engine.live == connections
        carried += _use(engine, connections, _PACKETS // rounds)
        ended += _expire(engine)
        assert len(engine) == 0
    each = 1e6 / (rounds * connections)
    return Cost(
        connections, servers, memory, opened * each, carried * 1e6 / (_PACKETS // rounds * rounds), ended * each
    )


def _engine(connections: int, servers: int, scheduler: Callable[[], Scheduler]) -> NatEngine:
    made = [Server(f"s{number}", struct.pack("!I", 0x2C030001 + number), 4444) for number in range(servers)]
    pool = Pool("b", made, scheduler)
    while pool.work():
        pass
    addresses = VirtualAddresses()
    addresses.bind(bytes((44, 2, 2, 2)), 8888, Service("f", pool, timeouts=Timeouts(idle=60, closing=8)))
    return NatEngine(addresses, capacity=connections, half_open_capacity=connections)


def _open(engine: NatEngine, connections: int) -> float:
    """Return the seconds that the handshakes took."""
    syn = Patched(segment(_CLIENT, _VIP, SYN, seq=1000), 12, 20)
    answer = Patched(segment(_SERVER, _CLIENT, SYN | ACK, seq=5000, ack=1001), 16, 22)
    proof = Patched(segment(_CLIENT, _VIP, ACK, seq=1001, ack=5001), 12, 20)
    spent = 0.0
    for number in range(connections):
        request = syn.of(number)
        spent += _handle(engine, request)
        spent += _handle(engine, _from(request[16:20], answer.of(number)))  # the server that it was led to
        spent += _handle(engine, proof.of(number))
        _drain(engine)
    return spent


def _handle(engine: NatEngine, packet: bytearray) -> float:
    started = time.perf_counter()
    verdict = engine.handle_packet(packet, 0.0)
    spent = time.perf_counter() - started
    assert isinstance(verdict, Rewrite)
    return spent


def _from(server: bytes, packet: bytearray) -> bytearray:
    """Let a server's packet come from another server."""
    delta = difference(packet[12:16], server)
    for at in (10, 36):
        packet[at : at + 2] = adjust(int.from_bytes(packet[at : at + 2]), delta).to_bytes(2)
    packet[12:16] = server
    return packet


def _use(engine: NatEngine, connections: int, number: int) -> float:
    """Return the seconds that so many packets of connections picked at random took."""
    data = Patched(segment(_CLIENT, _VIP, PSH | ACK, seq=1001, ack=5001, payload=b"x" * 1000), 12, 20)
    picked = random.Random(44)  # the same packets each time
    packets = [data.of(picked.randrange(connections)) for _ in range(number)]
    started = time.perf_counter()
    for packet in packets:
        engine.handle_packet(packet, 0.0)
    return time.perf_counter() - started


def _expire(engine: NatEngine) -> float:
    """Return the seconds that it took to shut down what was idle, and to forget it later."""
    spent = 0.0
    for now in (_LONG_AFTER, 2 * _LONG_AFTER):
        while (due := engine.next_timeout()) is not None and due <= now:
            started = time.perf_counter()
            engine.handle_timeout(now)
            spent += time.perf_counter() - started
            _drain(engine)
    return spent


def _drain(engine: NatEngine) -> None:
    while engine.next_event() is not None:
        pass
    while engine.next_packet() is not None:
        pass


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def plot(by_connections: list[Cost], by_servers: dict[str, list[Cost]], file: Path) -> None:
    """Draw the costs: flat lines are the claim."""
    from matplotlib import pyplot

    figure, (many, servers, memory) = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    sizes = [cost.connections for cost in by_connections]
    many.plot(sizes, [cost.opening for cost in by_connections], marker="o", label="open (3 packets)")
    many.plot(sizes, [cost.packet for cost in by_connections], marker="o", label="packet")
    many.plot(sizes, [cost.expiry for cost in by_connections], marker="o", label="expire")
    _label(many, "connections in the table", "microseconds")
    for name, costs in by_servers.items():
        numbers = [cost.servers for cost in costs]
        servers.plot(numbers, [cost.opening for cost in costs], marker="o", label=f"open, {name}")
    servers.plot(numbers, [cost.packet for cost in costs], marker="o", color="tab:gray", label="packet")
    _label(servers, f"servers, for {_MANY:,} connections", "microseconds")
    weighed = [(cost.connections, cost.memory) for cost in by_connections if cost.memory is not None]
    memory.plot(*zip(*weighed, strict=True), marker="o", color="tab:red", label="memory")
    _label(memory, "connections in the table", "bytes for each")
    figure.suptitle("natlb's engine: the cost of a connection")
    figure.savefig(file)


def _label(axes: "Axes", below: str, beside: str) -> None:
    axes.set(xscale="log", xlabel=below, ylabel=beside, ylim=(0, None))
    axes.legend()


def main() -> None:
    """Measure, print, and draw if asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="stop at ten thousand connections, and at ten servers")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    options = parser.parse_args()
    with ProcessPoolExecutor(1, get_context("spawn"), gc.disable, max_tasks_per_child=1) as fresh:
        by_connections, by_servers = (
            _sweep(fresh, SIZES[:5], SERVERS[:2]) if options.quick else _sweep(fresh, SIZES, SERVERS)
        )
    if options.plot:
        plot(by_connections, by_servers, options.plot)


def _sweep(fresh: Executor, sizes: Sequence[int], servers: Sequence[int]) -> tuple[list[Cost], dict[str, list[Cost]]]:
    """Measure and print, each in a fresh process: what one frees, the next would get without growing."""
    _heading("connections")
    by_connections = [_told(size, fresh.submit(measure, size).result()) for size in sizes]
    by_servers = {}
    for name in SCHEDULERS:
        _heading(f"servers, {name}")
        by_servers[name] = [_told(number, fresh.submit(measure, _MANY, number, name).result()) for number in servers]
    return by_connections, by_servers


def _heading(what: str) -> None:
    print(f"{what:>28} {'bytes':>6} {'open us':>8} {'packet us':>10} {'expire us':>10}")


def _told(number: int, cost: Cost) -> Cost:
    memory = "-" if cost.memory is None else f"{cost.memory:.0f}"
    print(f"{number:>28,} {memory:>6} {cost.opening:>8.1f} {cost.packet:>10.2f} {cost.expiry:>10.2f}", flush=True)
    return cost


if __name__ == "__main__":
    main()
