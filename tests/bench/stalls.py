"""How long one turn of the event loop takes at most, whatever natlb is asked for or has to do by itself.

    .venv/bin/python -m tests.bench.stalls [--connections N] [--servers N]

A packet that comes while natlb does something else waits for the end of the step that is under way. So everything that
may be large is done in steps, and here each step is timed: by the processor's time, which is natlb's own, and by the
clock, which other programs of the machine have a part in. A turn of the loop does steps for a millisecond, and ends
with the one that passes it.

`tests/unit/test_stalls.py` holds smaller sizes to a bound whenever the tests run; `tests/bench/stats_socket.py` has the
sockets and their clients around it.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

from natlb.core.engine import NatEngine
from natlb.core.pool import Pool, Server
from natlb.core.schedulers.base import Scheduler
from natlb.core.schedulers.draw import RandomDraws
from natlb.core.schedulers.first import First
from natlb.core.schedulers.hashes import folded_source
from natlb.core.schedulers.leastconn import LeastConnections
from natlb.core.schedulers.maglev import Consistent
from natlb.core.schedulers.mapbased import MapBased
from natlb.core.schedulers.roundrobin import RoundRobin, StaticRoundRobin
from natlb.core.service import Service, Timeouts, VirtualAddresses
from natlb.core.stick import StickTable
from natlb.core.verdict import Rewrite
from natlb.runtime.commands import LANGUAGE
from natlb.runtime.console import Console
from natlb.runtime.language import Level
from natlb.runtime.running import Running
from tests.bench.scale import Patched
from tests.garbage import collected_as_in_natlb
from tests.unit.core.packets import ACK, SYN, segment
from tests.unit.runtime.consoles import Doctor, Recruits

_CLIENT, _VIP = ("11.0.0.0", 0), ("44.2.2.2", 8888)
_FLOW = bytes((11, 0, 0, 1, 44, 2, 2, 2, 4, 0, 0x22, 0xB8, 6))
_STICKY = 60.0

ALGORITHMS: dict[str, Callable[[], Scheduler]] = {
    "roundrobin": RoundRobin,
    "static-rr": StaticRoundRobin,
    "leastconn": LeastConnections,
    "first": First,
    "random": lambda: RandomDraws(lambda most: most // 2),
    "source": lambda: MapBased(folded_source),
    "source, consistent": lambda: Consistent(folded_source),
}


@dataclass
class Longest:
    """The steps of one piece of work."""

    name: str
    own: float = 0.0
    """Seconds of the processor that the longest step took."""
    clock: float = 0.0
    """Seconds of the clock that the longest step took."""
    total: float = 0.0
    """Seconds of the processor for all."""
    steps: int = 0
    _at: tuple[float, float] = field(default=(0.0, 0.0), repr=False)

    def begin(self) -> None:
        self._at = time.thread_time(), time.perf_counter()

    def end(self) -> None:
        own, clock = time.thread_time() - self._at[0], time.perf_counter() - self._at[1]
        self.own, self.clock = max(self.own, own), max(self.clock, clock)
        self.total += own
        self.steps += 1

    def __str__(self) -> str:
        return (
            f"{self.name:<44} {self.steps:>8,} steps {self.total:>7.2f} s, "
            f"the longest {self.own * 1e3:>6.2f} ms of work, {self.clock * 1e3:>6.2f} ms by the clock"
        )


class Crowd:
    """A balancer with many connections, servers, and entries of a stick table."""

    def __init__(self, connections: int, servers: int) -> None:
        self.now = 0.0
        self.servers = [
            Server(f"s{number}", (0x2D000000 + number).to_bytes(4, "big"), 4444, id=number + 1)
            for number in range(servers)
        ]
        self.pool = Pool("b", self.servers)
        self.service = Service("f", self.pool, timeouts=Timeouts(idle=1e3, closing=8))
        addresses = VirtualAddresses()
        addresses.bind(bytes((44, 2, 2, 2)), 8888, self.service)
        self.engine = NatEngine(addresses, capacity=2 * connections, half_open_capacity=connections)
        self.table = StickTable("t", "ip", connections, expire=_STICKY, stored={"conn_cnt": None, "conn_rate": 10.0})
        self.running = Running(
            self.engine,
            [self.service],
            {"b": self.pool},
            lambda: self.now,
            Recruits(),
            Doctor(),
            afterwards=self.drain,
            tables={"t": self.table},
        )
        self._connections = connections

    def fill(self) -> Longest:
        """Open the connections, each by a whole handshake; return how long a packet took at most."""
        longest = Longest("opening connections")
        syn = Patched(segment(_CLIENT, _VIP, SYN, seq=1000), 12, 20)
        proof = Patched(segment(_CLIENT, _VIP, ACK, seq=1001, ack=5001), 12, 20)
        answers = [
            Patched(segment((str(ip_address(each.address)), 4444), _CLIENT, SYN | ACK, seq=5000, ack=1001), 16, 22)
            for each in self.servers
        ]
        for number in range(self._connections):
            for packet in (syn, answers[number % len(answers)], proof):
                patched = packet.of(number)
                longest.begin()
                verdict = self.engine.handle_packet(patched, 0.0)
                longest.end()
                assert isinstance(verdict, Rewrite)
            self.drain()
        return longest

    def remember(self) -> Longest:
        """Fill the stick table."""
        longest = Longest("entering keys in the stick table")
        for number in range(self.table.size):
            longest.begin()
            entry = self.table.enter((0x0B000000 + number).to_bytes(4, "big"), self.now)
            longest.end()
            assert entry is not None
            entry.count_connection(self.now)
            entry.use -= 1
        return longest

    def drain(self) -> None:
        """Take away what the engine has to say; sending it is the datapath's work."""
        while self.engine.next_event() is not None or self.engine.next_packet() is not None:
            pass

    def ask(self, *lines: str) -> Longest:
        """Have commands answered, by turns if there are several."""
        return asyncio.run(self._ask(lines))

    async def _ask(self, lines: tuple[str, ...]) -> Longest:
        longest = Longest(lines[0] if len(lines) == 1 else f"{len(lines)} x {lines[0]}")
        consoles = [Console(self.running, LANGUAGE, Level.ADMIN, 10.0) for _ in lines]
        answers: list[AsyncIterator[str]] = [console.obey(line) for console, line in zip(consoles, lines, strict=True)]
        first = ""
        while answers:
            for answer in list(answers):
                longest.begin()
                piece = await anext(answer, None)
                longest.end()
                if piece is None:
                    answers.remove(answer)
                else:
                    first = first or piece
        assert not first.startswith(("Unknown", "Permission", "No such", "Can't")), first
        return longest

    def expire(self) -> Longest:
        """End all connections, all of them silent for too long at once, and then forget them."""
        longest = Longest("expiry of all connections")
        for _ in range(2):
            self.now += 1e4
            while (due := self.engine.next_timeout()) is not None and due <= self.now:
                longest.begin()
                self.engine.handle_timeout(self.now)
                longest.end()
                self.drain()
        assert len(self.engine) == 0
        return longest

    def forget(self) -> Longest:
        """Have a packet come to the stick table after the time of all its entries is over."""
        longest = Longest("expiry of the stick table")
        self.now += 2 * _STICKY
        going_on = True
        while going_on:
            longest.begin()
            self.table.get(b"\0\0\0\0", self.now)
            going_on = self.table.tidy(self.now)
            longest.end()
        assert self.table.used(self.now) == 0
        return longest


COMMANDS = (
    "show sess",
    "show sess all",
    "show sess recent 1000",
    "show info",
    "show stat",
    "show stat typed desc",
    "show stat json",
    "show servers state",
    "show servers conn",
    "show table t",
    "show table t data.conn_cnt gt 5",
    "clear counters all",
    "show backend",
    "show activity",
    "shutdown session 1",
    "shutdown sessions server b/s1",
    "clear table t",
)


def changes(name: str, servers: int) -> Iterator[Longest]:
    """Change servers of a pool while connections come."""
    made = [
        Server(f"s{number}", (0x2D000000 + number).to_bytes(4, "big"), 80, id=number + 1) for number in range(servers)
    ]
    pool = Pool("b", made, ALGORITHMS[name])
    while pool.work():
        pass

    def steps(what: str, *changes: Callable[[], object]) -> Longest:
        longest = Longest(f"{name}: {what}")
        for change in changes:
            longest.begin()
            change()
            pool.pick(_FLOW, 0.0)
            longest.end()
            working = True
            while working:
                longest.begin()
                working = pool.work()
                longest.end()
        return longest

    newcomer = Server("new", (0x2E000000).to_bytes(4, "big"), 80, id=servers + 1)
    if pool.dynamic:
        yield steps("set weight", *[lambda weight=weight: pool.set_weight(made[7], weight, 0.0) for weight in (2, 7)])
        yield steps("add server", lambda: pool.add(newcomer))
        yield steps("del server", lambda: pool.remove(newcomer))
    yield steps("one server fails", lambda: pool.set_health(made[1], False, 0.0))
    # All of them at once, and a connection after every tenth.
    longest = Longest(f"{name}: all servers fail")
    for number, each in enumerate(made):
        longest.begin()
        pool.set_health(each, False, 0.0)
        if number % 10 == 9:
            pool.pick(_FLOW, 0.0)
        longest.end()
        longest.begin()
        pool.work()
        longest.end()
    assert pool.pick(_FLOW, 0.0) is None
    yield longest


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stalls", description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--servers", type=int, default=5000, metavar="N")
    options = parser.parse_args()
    with collected_as_in_natlb():
        _measure(options)


def _measure(options: argparse.Namespace) -> None:
    for name in ALGORITHMS:
        for longest in changes(name, min(options.servers, 2000)):
            print(longest, flush=True)
    crowd = Crowd(options.connections, options.servers)
    print(crowd.fill(), flush=True)
    print(crowd.remember(), flush=True)
    for command in COMMANDS[:2]:
        print(crowd.ask(*[command] * 4), flush=True)
    for command in COMMANDS:
        print(crowd.ask(command), flush=True)
    crowd.remember()
    print(crowd.forget(), flush=True)
    print(crowd.expire(), flush=True)


if __name__ == "__main__":
    main()
