"""From a configuration to what runs: the engine's services and pools, and the endpoints to divert.

The configuration says what was written, the core and the datapath have small settings of their own, and none of them
knows the others. This module translates, and decides nothing else.

What full NAT may speak from depends on the machine as well: on the addresses that it has, and on the ports that it
gives to its own programs. `Machine` is all that is asked about that, so that an assembly can be made without one.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from secrets import randbelow

from natlb.config.defaults import check_timeouts, connection_timeouts, flow_timeouts
from natlb.config.model import Address, Backend, Check, Config, Frontend
from natlb.config.model import Server as ServerConfig
from natlb.config.model import Source as WrittenSource
from natlb.config.model import Timeouts as WrittenTimeouts
from natlb.core.engine import DEFAULT_CAPACITY, NatEngine
from natlb.core.flow import Direction
from natlb.core.packet import TCP, UDP
from natlb.core.pool import AdminState, Neighbourhood, Pool, Server
from natlb.core.ports import LOWEST_PORT, PortRanges, Source
from natlb.core.schedulers.base import Scheduler
from natlb.core.schedulers.draw import DRAWS, RandomDraws
from natlb.core.schedulers.first import First
from natlb.core.schedulers.hashes import hash_by
from natlb.core.schedulers.leastconn import LeastConnections
from natlb.core.schedulers.maglev import Consistent
from natlb.core.schedulers.mapbased import MapBased
from natlb.core.schedulers.roundrobin import RoundRobin, StaticRoundRobin
from natlb.core.service import Listener, Service, Timeouts, VirtualAddresses
from natlb.core.stick import StickTable
from natlb.datapath.host import Endpoint
from natlb.health.conversation import Limits
from natlb.health.server import CheckSettings, Intervals
from natlb.policy import Policy
from natlb.runtime.running import Written

MakePolicy = Callable[[Config, Mapping[str, Service], Mapping[str, Pool]], Policy]

_PROTOCOLS = {"tcp": TCP, "udp": UDP}


@dataclass(frozen=True, slots=True)
class Machine:
    """What an assembly needs to know of the machine that it will run on."""

    networks: tuple[tuple[IPv4Network | IPv6Network, Address], ...] = ()
    """The networks that it is on, each with its own address there."""
    own_addresses: frozenset[Address] = frozenset()
    ephemeral_ports: tuple[int, int] = (32768, 60999)
    """The ports, first and last, that its own programs are given."""
    preferred_source: Callable[[Address], Address | None] = lambda _: None
    """What it would speak to an address from, by itself; None when it has no way there."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """One configuration, ready to run."""

    engine: NatEngine
    services: list[Service] = field(default_factory=list)
    pools: dict[str, Pool] = field(default_factory=dict)
    """By backend."""
    tables: dict[str, StickTable] = field(default_factory=dict)
    """The stick tables, by the names of their sections."""
    proxies: list[tuple[Service | None, Pool | None]] = field(default_factory=list)
    """The services and pools of each section, in the order written; those that are disabled are left out."""
    addresses: list[tuple[str, Endpoint]] = field(default_factory=list)
    """The virtual addresses, each with its frontend's name."""
    entrances: dict[str, list[Endpoint]] = field(default_factory=dict)
    """The virtual addresses that lead to each backend."""
    servers: list[Endpoint] = field(default_factory=list)
    """Where answers to connections come from."""
    asked_sources: list[tuple[Address, str]] = field(default_factory=list)
    """What full NAT is told to speak from, each with the words that say where, and for which server."""
    sources: list[Address] = field(default_factory=list)
    """What full NAT may speak from, told or not."""
    named: set[Server] = field(default_factory=set)
    """The servers that rules name."""


def assemble(
    config: Config,
    machine: Machine | None = None,
    *,
    choose: Callable[[int], int] = randbelow,
    make_policy: MakePolicy = Policy,
) -> Assembly:
    """Make the engine for a configuration, and list what it needs from the network.

    `choose(n)` picks one of n, by its number from 0, wherever chance decides. `make_policy` makes the functions of the
    rules.
    """
    machine = machine or Machine()
    addresses = VirtualAddresses()
    made = Assembly(NatEngine(addresses, max_connections=config.maxconn, choose_port=choose))
    made.engine.admission.connection_limit = config.maxconnrate
    made.engine.admission.session_limit = config.maxsessrate
    made.engine.own_addresses.update(address.packed for address in machine.own_addresses)
    for backend in config.backends:
        made.pools[backend.name] = _pool(backend, config, machine, choose)
    for frontend in config.frontends:
        if frontend.disabled:
            continue
        default, others = _backends(config, frontend)
        service = _service(frontend, default, made.pools)
        made.services.append(service)
        for other in others:
            service.other_timeouts[made.pools[other.name]] = _timeouts(frontend, other.timeouts)
        used = others if default is None else [default, *others]
        for bind in frontend.binds:
            addresses.bind(bind.address.packed, bind.port, service)
            if bind.maxconn is not None:
                service.listeners[bind.address.packed, bind.port.to_bytes(2, "big")] = Listener(bind.maxconn)
            endpoint = Endpoint(bind.address, bind.port, bind.interface, bind.transparent, service.protocol)
            made.addresses.append((frontend.name, endpoint))
            for backend in used:
                made.entrances.setdefault(backend.name, []).append(endpoint)
        for backend in used:
            made.asked_sources.extend(
                (source.address, f"'source' at {source.location}, for server {backend.name}/{server.name}")
                for server in backend.servers
                for source in _told(backend, server) or ()
            )
            servers = made.pools[backend.name].servers.values()
            made.servers.extend(
                origin for server in servers for origin in origins(server, made.entrances.get(backend.name, ()))
            )
            made.sources.extend(sources_of(servers))
    _make_rules(config, made, make_policy)
    services = {service.name: service for service in made.services}
    for front, back in config.proxies():
        proxy = (
            services.get(front.name) if front else None,
            made.pools[back.name] if back and not back.disabled else None,
        )
        if proxy != (None, None):
            made.proxies.append(proxy)
    return made


def check_settings(backend: Backend, server: ServerConfig, check: Check) -> CheckSettings:
    """Return how a server is checked."""
    connecting, answering = check_timeouts(backend.timeouts, check.inter)
    return CheckSettings(
        str(check.address or server.address),
        check.port or server.port or 0,
        Intervals(
            check.inter,
            check.inter if check.fastinter is None else check.fastinter,
            check.inter if check.downinter is None else check.downinter,
        ),
        Limits(connecting, answering),
        check.question,
        check.rise,
        check.fall,
        check.observed,
        check.error_limit,
        check.on_error,
    )


def _backends(config: Config, frontend: Frontend) -> tuple[Backend | None, list[Backend]]:
    """Return the backend that a frontend leads to by default, if any, and the others that its rules name."""
    default = config.backend(frontend.default_backend) if frontend.default_backend else None
    if default is not None and default.disabled:
        default = None
    named = {rule.backend for rule in frontend.use_backends}
    return default, [
        each for each in config.backends if each.name in named and each is not default and not each.disabled
    ]


def _make_rules(
    config: Config,
    made: Assembly,
    make_policy: MakePolicy,
) -> None:
    services = {service.name: service for service in made.services}
    policy = make_policy(config, services, made.pools)
    made.tables.update(policy.tables)
    for frontend in config.frontends:
        if frontend.name in services:
            services[frontend.name].rules = policy.of_frontend(frontend)
    for backend in config.backends:
        made.pools[backend.name].rules = policy.of_backend(backend)
    made.named.update(policy.named)


def written(config: Config) -> dict[str, Written]:
    """Return what a configuration says of each server that does not matter to the engine, by `backend/server`."""
    return {
        f"{backend.name}/{server.name}": Written(
            disabled=server.disabled,
            id=server.has_given_id,
            backend_id=backend.has_given_id,
            check_port=server.check.port or 0 if server.check else 0,
            check_address=str(server.check.address) if server.check and server.check.address else "-",
        )
        for backend in config.backends
        for server in backend.servers
    }


def _service(frontend: Frontend, backend: Backend | None, pools: dict[str, Pool]) -> Service:
    return Service(
        frontend.name,
        pools[backend.name] if backend else None,
        id=frontend.id,
        protocol=_PROTOCOLS[frontend.protocol],
        max_connections=frontend.maxconn,
        session_limit=frontend.rate_limit,
        timeouts=_timeouts(frontend, backend.timeouts if backend else WrittenTimeouts()),
        requests=backend.requests if backend else None,
        responses=backend.responses if backend else None,
    )


def _timeouts(frontend: Frontend, back: WrittenTimeouts) -> Timeouts:
    if frontend.protocol == "udp":
        flow = flow_timeouts(frontend.timeouts, back)
        return Timeouts(one_way=flow.one_way, both_ways=flow.both_ways)
    connection = connection_timeouts(frontend.timeouts, back)
    servers_is_shorter = back.tunnel is None and connection.idle == back.server != frontend.timeouts.client
    return Timeouts(
        opening=connection.connect,
        idle=connection.idle,
        shorter=Direction.REPLY if servers_is_shorter else Direction.ORIGINAL,
        client_fin=connection.client_fin,
        server_fin=connection.server_fin,
    )


def _pool(backend: Backend, config: Config, machine: Machine, choose: Callable[[int], int]) -> Pool:
    pool = Pool(
        backend.name,
        [make_server(backend, server, machine) for server in backend.servers],
        _scheduler(backend, choose),
        id=backend.id,
        algorithm=backend.balance,
        all_backups=backend.all_backups,
        fullconn=_fullconn(backend, config),
        retries=backend.retries,
        redispatch=backend.redispatch,
        queue_timeout=connection_timeouts(WrittenTimeouts(), backend.timeouts).queue,
    )
    while pool.work():  # nobody waits yet
        pass
    return pool


def _scheduler(backend: Backend, choose: Callable[[int], int]) -> Callable[[], Scheduler]:
    """Return what makes the scheduler that a backend asks for, once for each address family."""
    hashing = backend.hashing
    hash_of = hash_by(hashing.fetch if backend.balance == "hash" else None, hashing.function, stirred=hashing.avalanche)
    match backend.balance:
        case "static-rr":
            return StaticRoundRobin
        case "leastconn":
            return LeastConnections
        case "first":
            return First
        case "random":
            return partial(RandomDraws, choose, backend.draws or DRAWS)
        case "source" | "hash" if hashing.consistent:
            return partial(Consistent, hash_of, hashing.balance_factor)
        case "source" | "hash":
            return partial(MapBased, hash_of)
    return RoundRobin


def _fullconn(backend: Backend, config: Config) -> int:
    """Return how many connections fill a backend: as HAProxy, a tenth of what may be led there."""
    if backend.fullconn is not None:
        return backend.fullconn
    most = config.maxconn or DEFAULT_CAPACITY
    coming = sum(
        each.maxconn or most
        for each in config.frontends
        if backend.name in (each.default_backend, *(rule.backend for rule in each.use_backends))
    )
    return max(1, -(-coming // 10))


def make_server(backend: Backend, server: ServerConfig, machine: Machine) -> Server:
    """Return a server of a backend as the core has it."""
    told = _told(backend, server)
    made = Server(
        server.name,
        server.address.packed,
        server.port,
        id=server.id,
        port_offset=server.port_offset,
        weight=server.weight,
        backup=server.backup,
        admin=AdminState.MAINT if server.disabled else AdminState.READY,
        sources=None if told is None else tuple(_source(source, server.address, machine) for source in told),
        shutdown_on_down=server.shutdown_on_down,
        maxconn=server.maxconn,
        minconn=server.minconn,
        maxqueue=server.maxqueue,
        slowstart=server.slowstart,
        shutdown_backups_on_up=server.shutdown_backups_on_up,
        observed=server.check is not None and server.check.observed,
        sticks=server.sticks,
    )
    if made.sources is None:
        made.neighbourhoods = _neighbourhoods(server.address, machine)
    return made


def _told(backend: Backend, server: ServerConfig) -> list[WrittenSource] | None:
    """Return what the configuration says full NAT to a server should speak from; None if it says nothing of it.

    Sources of the other address family alone say nothing about this server.
    """
    written = backend.sources if server.sources is None else server.sources
    told = [source for source in written or () if source.address.version == server.address.version]
    return told if told or written == () else None


def _source(source: WrittenSource, server: Address, machine: Machine) -> Source:
    if source.first_port is not None and source.last_port is not None:
        return Source(source.address.packed, PortRanges([(source.first_port, source.last_port)]))
    return Source(source.address.packed, _free_ports(source.address, server, machine))


def _free_ports(source: Address, server: Address, machine: Machine) -> PortRanges:
    """Return the ports of an address that this machine's own programs do not use towards a server.

    They would only do so from the address that the kernel prefers. Two connections with the same four numbers are one
    to the server, and the kernel does not know of ours.
    """
    if machine.preferred_source(server) != source:
        return PortRanges()
    first, last = machine.ephemeral_ports
    ranges = [(LOWEST_PORT, first - 1), (last + 1, 65535)]
    return PortRanges([(low, high) for low, high in ranges if low <= high])


def _neighbourhoods(server: Address, machine: Machine) -> tuple[Neighbourhood, ...]:
    """Return from where a server's answers would not come back through this machine.

    That is the server's own host, and every network that the two of them share. For a server on this machine it is
    nowhere: all that it sends begins here.
    """
    if server.is_loopback or server in machine.own_addresses:
        return ()
    shared = [(network, own) for network, own in machine.networks if server in network]
    if not shared and (preferred := machine.preferred_source(server)) is not None:
        shared = [(ip_network(server), preferred)]
    return tuple(
        Neighbourhood(
            int(network.network_address),
            int(network.netmask),
            Source(own.packed, _free_ports(own, server, machine)),
        )
        for network, own in shared
    )


def sources_of(servers: Collection[Server]) -> list[Address]:
    """Return all that full NAT to these servers may speak from."""
    found = [source for server in servers for source in server.sources or ()]
    found += [near.source for server in servers for near in server.neighbourhoods]
    return [ip_address(source.address) for source in found]


def origins(server: Server, entrances: Iterable[Endpoint]) -> list[Endpoint]:
    """Return where the answers of a server come from, for connections to the given virtual addresses."""
    found = []
    for asked in entrances:
        address, port = server.endpoint(asked.port)
        found.append(Endpoint(ip_address(address), int.from_bytes(port, "big"), protocol=asked.protocol))
    return found
