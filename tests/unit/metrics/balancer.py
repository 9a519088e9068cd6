"""An engine with two frontends and any number of servers, and what else metrics are read from."""

from dataclasses import dataclass, field

from natlb.core.engine import NatEngine
from natlb.core.pool import Pool, Server
from natlb.core.service import Service, Timeouts, VirtualAddresses
from natlb.health.server import ServerHealth
from natlb.metrics.families import Sources
from natlb.metrics.histogram import Histogram

VIP = bytes((44, 2, 2, 2))


@dataclass
class Counts:
    """A queue, its backlog, an outlet and a log that have counted this much."""

    delivered: int = 0
    sent: int = 0
    dropped: int = 0
    refused: int = 0
    unreadable: int = 0
    waiting: int = 0
    queue_full: int = 0
    socket_full: int = 0
    failures: int = 0
    repaired: int = 0


@dataclass
class Offloaded:
    """A fast path that has counted this much."""

    is_on: bool = False
    offloaded: int = 0
    capacity: int = 0
    refused: int = 0
    translated: int = 0
    packets: int = 0
    audited: int = 0
    differences: int = 0


@dataclass
class Balancer:
    """What the daemon would put together."""

    services: list[Service]
    pools: dict[str, Pool]
    capacity: int = 1000
    queue: Counts = field(default_factory=Counts)
    backlog: Counts = field(default_factory=Counts)
    outlet: Counts = field(default_factory=Counts)
    guard: Counts = field(default_factory=Counts)
    log: Counts | None = None
    checks: dict[str, ServerHealth] = field(default_factory=dict)
    packet_seconds: Histogram = field(default_factory=lambda: Histogram((1e-5, 1e-4)))
    lag_seconds: Histogram = field(default_factory=lambda: Histogram((0.001, 0.01)))
    offloader: Offloaded = field(default_factory=Offloaded)
    engine: NatEngine = field(init=False)

    def __post_init__(self) -> None:
        addresses = VirtualAddresses()
        for number, service in enumerate(self.services):
            addresses.bind(VIP, 8888 + number, service)
        self.engine = NatEngine(addresses, capacity=self.capacity)
        for pool in self.pools.values():
            for name in (f"{pool.name}/{server.name}" for server in pool.servers.values()):
                self.checks[name] = ServerHealth(name, None, 0.0)

    @property
    def sources(self) -> Sources:
        """Where the numbers stand."""
        return Sources(
            "1.2.3",
            self.engine,
            self.services,
            self.pools,
            self.queue,
            self.backlog,
            self.outlet,
            self.checks,
            self.log,
            self.packet_seconds,
            self.lag_seconds,
            self.offloader,
            self.guard,
        )


def many(servers: int, capacity: int = 1000) -> Balancer:
    """Return a `listen web` with so many servers, and a frontend without a backend."""
    made = [Server(f"s{n}", bytes((44, 3, n >> 8, n & 255)), 4444, id=n + 1) for n in range(servers)]
    web = Pool("web", made)
    timeouts = Timeouts(idle=60, closing=8)
    return Balancer([Service("web", web, timeouts=timeouts), Service("nobody", None, id=2)], {"web": web}, capacity)
