"""All of natlb's own metrics, as one table: name, kind, help, labels, and where the values are read.

Nothing is counted here. The engine, its services and its pools count, for the runtime API as much as for Prometheus;
a family goes to where the number stands when it is asked for. The names follow Prometheus' conventions: base units,
`_total` for what only grows, one family for what can be added up. A frontend and a backend may have the same name
(`listen` makes both), so they have families of their own, and the label `proxy` names the one that is meant.

The page docs/metrics.md has this table for readers; a test compares the two.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, cast

from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from natlb.core.engine import NatEngine
from natlb.core.events import EndReason
from natlb.core.fragments import MOST_DATAGRAMS, MOST_HELD
from natlb.core.pool import AdminState, Pool, Server
from natlb.core.service import Service
from natlb.core.statistics import Counters
from natlb.core.verdict import DropReason
from natlb.metrics.histogram import Histogram

Value = tuple[tuple[str, ...], float]
"""The values of the labels, and the number."""
Carried = Callable[[Counters], tuple[int, int]]
"""From counters to what they say came from clients, and went to them."""


class Queue(Protocol):
    """Where packets come from: what it counts."""

    @property
    def delivered(self) -> int: ...  # noqa: D102
    @property
    def refused(self) -> int: ...  # noqa: D102
    @property
    def unreadable(self) -> int: ...  # noqa: D102
    @property
    def failures(self) -> int: ...  # noqa: D102


class Backlog(Protocol):
    """What waits in the kernel to be fetched, and what did not get in."""

    @property
    def waiting(self) -> int: ...  # noqa: D102
    @property
    def queue_full(self) -> int: ...  # noqa: D102
    @property
    def socket_full(self) -> int: ...  # noqa: D102


class Outlet(Protocol):
    """Where natlb's own packets go: what it counts."""

    @property
    def failures(self) -> int: ...  # noqa: D102


class Guard(Protocol):
    """Who looks after the rules by which packets come: what it counts."""

    @property
    def repaired(self) -> int: ...  # noqa: D102


class Log(Protocol):
    """Where log lines go: what it counts."""

    @property
    def sent(self) -> int: ...  # noqa: D102
    @property
    def dropped(self) -> int: ...  # noqa: D102


class Health(Protocol):
    """What the checks know of a server."""

    @property
    def settings(self) -> object | None: ...  # noqa: D102 - None without checks
    @property
    def healthy(self) -> bool: ...  # noqa: D102
    @property
    def failed_checks(self) -> int: ...  # noqa: D102
    @property
    def times_down(self) -> int: ...  # noqa: D102
    @property
    def check_seconds(self) -> float | None: ...  # noqa: D102


class Checks(Protocol):
    """The health of servers, by `backend/server`."""

    def get(self, name: str, /) -> Health | None: ...  # noqa: D102


class Offloader(Protocol):
    """The fast path: what it counts."""

    @property
    def is_on(self) -> bool: ...  # noqa: D102
    @property
    def offloaded(self) -> int: ...  # noqa: D102
    @property
    def capacity(self) -> int: ...  # noqa: D102
    @property
    def refused(self) -> int: ...  # noqa: D102
    @property
    def translated(self) -> int: ...  # noqa: D102
    @property
    def packets(self) -> int: ...  # noqa: D102
    @property
    def audited(self) -> int: ...  # noqa: D102
    @property
    def differences(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the numbers stand."""

    version: str
    engine: NatEngine
    services: Sequence[Service]
    pools: Mapping[str, Pool]
    queue: Queue
    backlog: Backlog
    outlet: Outlet
    checks: Checks
    log: Log | None
    """None where nothing is logged."""
    packet_seconds: Histogram
    lag_seconds: Histogram
    offloader: Offloader
    guard: Guard

    def servers(self) -> Iterator[tuple[tuple[str, str], Server]]:
        """Go over all servers, each with its labels."""
        return (
            ((pool.name, server.name), server)
            for pool in tuple(self.pools.values())
            for server in tuple(pool.servers.values())
        )


class Kind(Enum):
    """What a family's numbers are, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, with all values of its labels."""

    name: str
    """As it is shown: with `_total` if it is a counter."""
    kind: Kind
    help: str
    labels: tuple[str, ...]
    read: Callable[[Sources], Iterable[Value] | Histogram]

    def collect(self, sources: Sources) -> Metric:
        """Return the family. Its values are read one by one as they are gone over, which can be done once."""
        found = self.read(sources)
        if isinstance(found, Histogram):
            measured = HistogramMetricFamily(self.name, self.help)
            measured.add_metric([], found.buckets(), found.sum)
            return measured
        made = Metric(self.name.removesuffix("_total"), self.help, self.kind.value)
        samples = (Sample(self.name, dict(zip(self.labels, labels, strict=True)), value) for labels, value in found)
        # Whoever writes text only goes over them; there may be thousands, and packets that should not wait for them.
        made.samples = cast("list[Sample]", samples)
        return made


class NatlbCollector(Collector):
    """All families, read anew each time: what a registry of prometheus_client asks."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Go over the families, see `Family.collect`, when what has been carried is in the totals that they read."""
        for service in self._sources.services:
            service.settle()
        yield from (family.collect(self._sources) for family in FAMILIES)


def _one(read: Callable[[Sources], float]) -> Callable[[Sources], Iterator[Value]]:
    """Read a single number, without labels."""

    def values(sources: Sources) -> Iterator[Value]:
        yield (), read(sources)

    return values


def _bounds(read: Callable[[Sources], float | None]) -> Callable[[Sources], Iterator[Value]]:
    """Read a limit; without one there is no value."""

    def values(sources: Sources) -> Iterator[Value]:
        limit = read(sources)
        if limit is not None:
            yield (), limit

    return values


def _of_services(read: Callable[[Service], float | None]) -> Callable[[Sources], Iterator[Value]]:
    """Read a number of each frontend that has it."""

    def values(sources: Sources) -> Iterator[Value]:
        return (((each.name,), value) for each in sources.services if (value := read(each)) is not None)

    return values


def _of_pools(read: Callable[[Pool], float]) -> Callable[[Sources], Iterator[Value]]:
    """Read a number of each backend."""

    def values(sources: Sources) -> Iterator[Value]:
        return (((pool.name,), read(pool)) for pool in tuple(sources.pools.values()))

    return values


def _of_servers(read: Callable[[Server], float | None]) -> Callable[[Sources], Iterator[Value]]:
    """Read a number of each server that has it."""

    def values(sources: Sources) -> Iterator[Value]:
        return ((labels, value) for labels, server in sources.servers() if (value := read(server)) is not None)

    return values


def _of_healths(read: Callable[[Health], float | None]) -> Callable[[Sources], Iterator[Value]]:
    """Read a number of each server that the checks know and that has it."""

    def values(sources: Sources) -> Iterator[Value]:
        for labels, _ in sources.servers():
            health = sources.checks.get("/".join(labels))
            if health is not None and (value := read(health)) is not None:
                yield labels, value

    return values


def _carried_by_services(carried: Carried) -> Callable[[Sources], Iterator[Value]]:
    """Read what each frontend has carried, by direction."""

    def values(sources: Sources) -> Iterator[Value]:
        for service in sources.services:
            there, back = carried(service.counters)
            yield (service.name, "in"), there
            yield (service.name, "out"), back

    return values


def _carried_by_servers(carried: Carried) -> Callable[[Sources], Iterator[Value]]:
    """Read what each server's connections have carried, by direction."""

    def values(sources: Sources) -> Iterator[Value]:
        for labels, server in sources.servers():
            there, back = carried(server.counters)
            yield (*labels, "in"), there
            yield (*labels, "out"), back

    return values


def _octets(counters: Counters) -> tuple[int, int]:
    return counters.octets_in, counters.octets_out


def _packets(counters: Counters) -> tuple[int, int]:
    return counters.packets_in, counters.packets_out


def _lines(sources: Sources) -> Iterator[Value]:
    log = sources.log
    yield ("sent",), log.sent if log is not None else 0
    yield ("dropped",), log.dropped if log is not None else 0


def _aborts(sources: Sources) -> Iterator[Value]:
    for labels, server in sources.servers():
        yield (*labels, "client"), server.counters.aborted_by_client
        yield (*labels, "server"), server.counters.aborted_by_server


def _turned_away(sources: Sources) -> Iterator[Value]:
    for service in sources.services:
        yield (service.name, "maxconn"), service.held_back
        yield (service.name, "rate_limit"), service.rate_limited
        yield (service.name, "rule"), service.denied
        yield (service.name, "no_server"), service.refused


def _closed(sources: Sources) -> Iterator[Value]:
    return (((reason.name.lower(),), sources.engine.closed[reason]) for reason in EndReason)


def _drops(sources: Sources) -> Iterator[Value]:
    return (((reason.name.lower(),), sources.engine.drops[reason]) for reason in DropReason)


def _lost(sources: Sources) -> Iterator[Value]:
    yield ("queue",), sources.backlog.queue_full
    yield ("socket",), sources.backlog.socket_full


def _states(sources: Sources) -> Iterator[Value]:
    for labels, server in sources.servers():
        for state in AdminState:
            yield (*labels, state.value), server.admin is state


COUNTER, GAUGE, HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

FAMILIES: Final = (
    # natlb as a whole
    Family(
        "natlb_build_info", GAUGE, "Always 1; the label is the running version.", ("version",),
        lambda sources: [((sources.version,), 1)],
    ),
    Family(
        "natlb_connections", GAUGE, "Connections open now, half-open ones included.", (),
        _one(lambda sources: sources.engine.live),
    ),
    Family(
        "natlb_connections_limit", GAUGE, "Connections that may be open at once (global maxconn).", (),
        _bounds(lambda sources: sources.engine.admission.max_connections),
    ),
    Family(
        "natlb_connections_closed_total", COUNTER, "Connections that have ended, by what ended them.", ("reason",),
        _closed,
    ),
    # the NAT table
    Family(
        "natlb_table_entries", GAUGE, "Entries of the NAT table, connections that are over but remembered included.",
        (), _one(lambda sources: len(sources.engine)),
    ),
    Family(
        "natlb_table_entries_limit", GAUGE, "Entries that the NAT table may have.", (),
        _one(lambda sources: sources.engine.table.capacity),
    ),
    Family(
        "natlb_table_half_open", GAUGE, "Entries whose other side has not been heard yet.", (),
        _one(lambda sources: sources.engine.table.half_open),
    ),
    Family(
        "natlb_table_half_open_limit", GAUGE, "Half-open entries that the NAT table may have.", (),
        _one(lambda sources: sources.engine.table.half_open_capacity),
    ),
    Family(
        "natlb_nat_ports_in_use", GAUGE, "Source ports that full NAT has lent to connections.", (),
        _one(lambda sources: sources.engine.ports_lent),
    ),
    # packets
    Family(
        "natlb_packets_received_total", COUNTER, "Packets that the kernel has handed over.", (),
        _one(lambda sources: sources.queue.delivered),
    ),
    Family(
        "natlb_packets_dropped_total", COUNTER, "Packets thrown away, by why.", ("reason",), _drops,
    ),
    Family(
        "natlb_packet_failures_total", COUNTER, "Packets dropped because of an error in natlb; please report any.", (),
        _one(lambda sources: sources.queue.failures),
    ),
    Family(
        "natlb_packets_unsendable_total", COUNTER, "Packets of natlb's own that the kernel would not send.", (),
        _one(lambda sources: sources.outlet.failures),
    ),
    Family(
        "natlb_rules_repaired_total", COUNTER, "How often rules were made again that somebody had taken away.", (),
        _one(lambda sources: sources.guard.repaired),
    ),
    Family(
        "natlb_queue_packets_waiting", GAUGE, "Packets in the kernel's queue that have no verdict yet.", (),
        _one(lambda sources: sources.backlog.waiting),
    ),
    Family(
        "natlb_queue_packets_lost_total", COUNTER, "Packets lost before natlb fetched them, by what was full.",
        ("full",), _lost,
    ),
    Family(
        "natlb_queue_verdicts_refused_total", COUNTER, "Verdicts on packets that the kernel had given up.", (),
        _one(lambda sources: sources.queue.refused),
    ),
    Family(
        "natlb_queue_messages_unreadable_total", COUNTER, "Messages of the kernel's that are not understood.", (),
        _one(lambda sources: sources.queue.unreadable),
    ),
    Family(
        "natlb_packet_seconds", HISTOGRAM, "Time in which one packet is fetched, decided and handed back; sampled.",
        (), lambda sources: sources.packet_seconds,
    ),
    Family(
        "natlb_event_loop_lag_seconds", HISTOGRAM, "How late the event loop comes to its work, ten times a second.",
        (), lambda sources: sources.lag_seconds,
    ),
    Family(
        "natlb_log_lines_total", COUNTER, "Log lines, by whether their target took them.", ("outcome",), _lines,
    ),
    # the fast path
    Family(
        "natlb_offload_on", GAUGE, "1 while the kernel carries packets of established connections, else 0.", (),
        _one(lambda sources: sources.offloader.is_on),
    ),
    Family(
        "natlb_offload_connections", GAUGE, "Connections whose packets the kernel carries.", (),
        _one(lambda sources: sources.offloader.offloaded),
    ),
    Family(
        "natlb_offload_connections_limit", GAUGE, "Connections that there is room for on the fast path.", (),
        _one(lambda sources: sources.offloader.capacity),
    ),
    Family(
        "natlb_offload_no_room_total", COUNTER, "How often a connection found no room on the fast path.", (),
        _one(lambda sources: sources.offloader.refused),
    ),
    Family(
        "natlb_offload_translated_total", COUNTER,
        "Connections that stayed in userspace because the kernel's own NAT translates them as well.", (),
        _one(lambda sources: sources.offloader.translated),
    ),
    Family(
        "natlb_offload_packets_total", COUNTER, "Packets that the kernel has carried by itself.", (),
        _one(lambda sources: sources.offloader.packets),
    ),
    Family(
        "natlb_offload_audited_total", COUNTER, "Packets of the kernel's that natlb has done again, to compare.", (),
        _one(lambda sources: sources.offloader.audited),
    ),
    Family(
        "natlb_offload_differences_total", COUNTER, "Those of which something else came out; please report any.", (),
        _one(lambda sources: sources.offloader.differences),
    ),
    # fragments
    Family(
        "natlb_fragmented_datagrams", GAUGE, "Datagrams in fragments that are remembered.", (),
        _one(lambda sources: len(sources.engine.fragments)),
    ),
    Family(
        "natlb_fragmented_datagrams_limit", GAUGE, "Datagrams in fragments that can be remembered.", (),
        _one(lambda _: MOST_DATAGRAMS),
    ),
    Family(
        "natlb_fragments_held", GAUGE, "Fragments that wait for the first one of their datagram.", (),
        _one(lambda sources: sources.engine.fragments.held),
    ),
    Family(
        "natlb_fragments_held_limit", GAUGE, "Fragments that can wait at once.", (), _one(lambda _: MOST_HELD),
    ),
    # frontends
    Family(
        "natlb_frontend_connections", GAUGE, "Connections open now through a frontend.", ("proxy",),
        _of_services(lambda service: service.live),
    ),
    Family(
        "natlb_frontend_connections_limit", GAUGE, "Connections that a frontend may have (maxconn).", ("proxy",),
        _of_services(lambda service: service.max_connections),
    ),
    Family(
        "natlb_frontend_connections_opened_total", COUNTER, "Connections ever opened through a frontend.", ("proxy",),
        _of_services(lambda service: service.total),
    ),
    Family(
        "natlb_frontend_connections_turned_away_total", COUNTER, "First packets that opened no connection, by why.",
        ("proxy", "reason"), _turned_away,
    ),
    Family(
        "natlb_frontend_bytes_total", COUNTER, "Payload that has passed a frontend: in from clients, out to them.",
        ("proxy", "direction"), _carried_by_services(_octets),
    ),
    Family(
        "natlb_frontend_packets_total", COUNTER, "Packets sent on through a frontend: in from clients, out to them.",
        ("proxy", "direction"), _carried_by_services(_packets),
    ),
    # backends and servers
    Family(
        "natlb_backend_servers_usable", GAUGE, "Servers of a backend that can take new connections, backups included.",
        ("proxy",), _of_pools(lambda pool: pool.usable),
    ),
    Family(
        "natlb_backend_queue_length", GAUGE, "Connections that wait for any server of a backend.", ("proxy",),
        _of_pools(lambda pool: pool.queued),
    ),
    Family(
        "natlb_backend_queue_given_up_total", COUNTER, "Connections refused because they, or too many, had to wait.",
        ("proxy",), _of_pools(lambda pool: pool.gave_up),
    ),
    Family(
        "natlb_server_connections", GAUGE, "Connections open now to a server.", ("proxy", "server"),
        _of_servers(lambda server: server.live),
    ),
    Family(
        "natlb_server_connections_opened_total", COUNTER, "Connections that the algorithm has given to a server.",
        ("proxy", "server"), _of_servers(lambda server: server.total),
    ),
    Family(
        "natlb_server_connections_limit", GAUGE, "Connections that a server may have now (maxconn, slowstart).",
        ("proxy", "server"), _of_servers(lambda server: server.limit),
    ),
    Family(
        "natlb_server_queue_length", GAUGE, "Connections that wait for a server, and for no other.",
        ("proxy", "server"), _of_servers(lambda server: server.queued),
    ),
    Family(
        "natlb_server_connections_failed_total", COUNTER, "Connections that a server has refused or not answered.",
        ("proxy", "server"), _of_servers(lambda server: server.counters.failed),
    ),
    Family(
        "natlb_server_connections_aborted_total", COUNTER, "Connections that one side has reset or fallen silent in.",
        ("proxy", "server", "by"), _aborts,
    ),
    Family(
        "natlb_server_retries_total", COUNTER, "SYNs that clients had to send again to a server.",
        ("proxy", "server"), _of_servers(lambda server: server.retries),
    ),
    Family(
        "natlb_server_redispatches_total", COUNTER, "Connections that a server did not answer and another got.",
        ("proxy", "server"), _of_servers(lambda server: server.redispatches),
    ),
    Family(
        "natlb_server_bytes_total", COUNTER, "Payload of a server's connections: in from clients, out to them.",
        ("proxy", "server", "direction"), _carried_by_servers(_octets),
    ),
    Family(
        "natlb_server_packets_total", COUNTER, "Packets of a server's connections: in from clients, out to them.",
        ("proxy", "server", "direction"), _carried_by_servers(_packets),
    ),
    Family(
        "natlb_server_up", GAUGE, "1 if the health checks hold a server for up, or there are none.",
        ("proxy", "server"), _of_healths(lambda health: health.healthy),
    ),
    Family(
        "natlb_server_downs_total", COUNTER, "How often a server went down, or into maintenance.",
        ("proxy", "server"), _of_healths(lambda health: health.times_down),
    ),
    Family(
        "natlb_server_checks_failed_total", COUNTER, "Health checks that failed while a server was up.",
        ("proxy", "server"),
        _of_healths(lambda health: None if health.settings is None else health.failed_checks),
    ),
    Family(
        "natlb_server_check_seconds", GAUGE, "Time that the last health check of a server took.",
        ("proxy", "server"), _of_healths(lambda health: health.check_seconds),
    ),
    Family(
        "natlb_server_state", GAUGE, "1 for the state that the operator has put a server into, else 0.",
        ("proxy", "server", "state"), _states,
    ),
    Family(
        "natlb_server_weight", GAUGE, "A server's weight of the moment; one of 0 gets nothing.", ("proxy", "server"),
        _of_servers(lambda server: server.effective_weight),
    ),
    Family(
        "natlb_server_unanswered", GAUGE, "Connections in a row that a server has left without an answer.",
        ("proxy", "server"), _of_servers(lambda server: server.unanswered),
    ),
)  # fmt: skip
"""In the order in which they are shown."""
