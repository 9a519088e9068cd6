"""What is true of an engine between any two packets."""

from collections import Counter

from natlb.core.engine import NatEngine
from natlb.core.events import ConnectionClosed, ConnectionOpened, ConnectionRefused, ServerBypassed
from natlb.core.flow import Connection, ends
from natlb.core.ports import Lender, PortPool
from natlb.core.shards import K, Shards, V
from natlb.core.states import FINISHED, PHASES, Phase, State
from natlb.core.table import Table


def check(engine: NatEngine) -> None:
    """Count everything again, from the entries of the table, and compare."""
    keys_of: dict[Connection, set[bytes]] = {}
    for key, connection in whole(engine.table.connections).items():
        keys_of.setdefault(connection, set()).add(key)
    for connection, keys in keys_of.items():
        assert keys == {connection.original, connection.reply}
        assert len(keys) == 2
    connections = list(keys_of)
    assert len(engine) == len(connections) <= engine.table.capacity
    check_queues(engine.table, connections)
    check_ledger(engine.table, connections)
    check_lender(engine._lender, connections)
    check_live_counts(engine, connections)
    check_rules(engine, connections)
    check_carried(engine, connections)
    check_events(engine, connections)
    assert engine.fragments.held == sum(len(each.held or ()) for each in engine.fragments._datagrams.values())


def check_queues(table: Table, connections: list[Connection]) -> None:
    """Every connection stands in the queue of its phase and timeout, the longest silent first."""
    assert Counter(each for queue in table._queues.values() for each in queue) == Counter(connections)
    for (phase, timeout, service), queue in table._queues.items():
        members = list(queue)
        assert queue.size == len(members)
        assert queue.timeout == timeout
        seen = [queue.seen(member) for member in members]
        assert seen == sorted(seen)
        for member in members:
            assert member.queue is queue
            assert phase is PHASES[member.state]
            assert timeout == member.service.timeout(member.server, member.state)
            assert service is (member.service if phase is Phase.HALF_OPEN else None)
    half_open = sum(PHASES[each.state] is Phase.HALF_OPEN for each in connections)
    assert table.half_open == half_open <= table.half_open_capacity


def check_ledger(table: Table, connections: list[Connection]) -> None:
    """Every row is free or lent to one connection."""
    ledger = table.ledger
    assert sorted([*ledger._free, *(each.index for each in connections)]) == list(range(ledger.size))


def check_lender(lender: Lender, connections: list[Connection]) -> None:
    """Every port that was lent belongs to one connection, and there is no pool of which none is lent."""
    borrowers: dict[bytes, dict[int, Connection]] = {}
    for connection in connections:
        if connection.has_own_port:
            server, (address, port) = ends(connection.reply)
            name = server[0] + address + server[1] + connection.reply[-1:]
            assert borrowers.setdefault(name, {}).setdefault(int.from_bytes(port, "big"), connection) is connection
    assert lender._pools.keys() == borrowers.keys()
    assert lender.lent == sum(map(len, borrowers.values()))
    for name, pools in lender._pools.items():
        assert sorted(port for pool in pools.values() for port in lent(pool)) == sorted(borrowers[name])
        for pool in pools.values():
            held = [borrowers[name][port] for port in lent(pool)]
            assert held, "a pool of which none is lent"
            assert set(pool.finished) == {each for each in held if each.state in FINISHED}


def lent(pool: PortPool) -> list[int]:
    """Return the ports that stand behind the border of a pool's row."""
    assert {place: number for number, place in pool._place_of.items()} == pool._at
    assert all(place != number for place, number in pool._at.items())
    row = range(pool._free, pool._ranges.count)
    return sorted(pool._ranges.port(pool._at.get(place, place)) for place in row)


def check_live_counts(engine: NatEngine, connections: list[Connection]) -> None:
    """What is counted as live is what is not finished."""
    live = [connection for connection in connections if connection.state not in FINISHED]
    assert engine.live == len(live)
    for service in {each.service for each in connections} | set(engine.addresses._services.values()):
        assert service.live == sum(each.service is service for each in live)
    for server in {each.server for each in connections} | {
        server
        for service in engine.addresses._services.values()
        for server in (service.pool.servers.values() if service.pool else ())
    }:
        assert server.live == sum(each.server is server for each in live)
        assert server.live <= server.counters.most_live
    for service in {each.service for each in live}:
        assert service.live <= service.counters.most_live
    for pool in {each.server.pool for each in connections} - {None}:
        assert pool.live == sum(each.server.pool is pool for each in live)
        assert pool.live <= pool.counters.most_live


def check_carried(engine: NatEngine, connections: list[Connection]) -> None:
    """All that connections have carried is in the totals, and the totals agree."""
    services = {each.service for each in connections} | set(engine.addresses._services.values())
    for service in services:
        service.settle()
        carried = [carried_by(engine, each) for each in connections if each.service is service]
        counters = service.counters
        counted = counters.octets_in, counters.octets_out, counters.packets_in, counters.packets_out
        assert all(sum(parts) <= whole for parts, whole in zip(zip(*carried, strict=True), counted, strict=False))
        assert counters.octets_in + counters.octets_out == service.carried
    led_to = {pool for service in services for _, pool in service.rules.backends}
    pools = ({service.pool for service in services} | led_to | {each.server.pool for each in connections}) - {None}
    servers = {server for pool in pools for server in pool.servers.values()}
    servers |= {connection.server for connection in connections}  # of which some may have been taken away
    for direction in ("octets_in", "octets_out", "packets_in", "packets_out"):
        total = sum(getattr(service.counters, direction) for service in services)
        assert total == sum(getattr(pool.counters, direction) for pool in pools)
        assert total >= sum(getattr(server.counters, direction) for server in servers)


def carried_by(engine: NatEngine, connection: Connection) -> tuple[int, ...]:
    """Return the bytes that a connection has carried, by direction, and the packets."""
    row = 2 * connection.index
    return (*engine.ledger.octets[row : row + 2], *engine.ledger.packets[row : row + 2])


def whole(shards: Shards[K, V]) -> dict[K, V]:
    """Return all parts of a dictionary in one, and check that it knows how much it has."""
    made: dict[K, V] = {}
    for part in filter(None, shards.parts):  # of a thousand, a handful
        made |= part
    assert len(made) == len(shards)
    return made


def check_rules(engine: NatEngine, connections: list[Connection]) -> None:
    """What rules have noted of connections is about those of the table, and listeners count the live ones."""
    counted, to_stick = whole(engine.lifecycle._counted), whole(engine.lifecycle._to_stick)
    assert counted.keys() <= set(connections)
    assert {each.state for each in to_stick} <= {State.INIT}
    assert to_stick.keys() <= set(connections)
    used = Counter(
        entry for each, entries in counted.items() if each.state not in FINISHED for entry in entries if entry
    )
    for entry in {entry for entries in counted.values() for entry in entries if entry}:
        assert entry.use == used[entry]
        assert entry.read("conn_cur", 0) in (None, used[entry])
    for service in {each.service for each in connections}:
        for vip, listener in service.listeners.items():
            own = [each for each in connections if service.listener(ends(each.original)[1]) is listener]
            assert listener.live == sum(each.state not in FINISHED and each.service is service for each in own), vip


def check_events(engine: NatEngine, connections: list[Connection]) -> None:
    """What is told last of a connection is what has become of it; nobody is told of its end twice in a row."""
    live = {connection for connection in connections if connection.state not in FINISHED}
    told: dict[Connection, type] = {}
    for event in engine._events:
        if isinstance(event, ServerBypassed | ConnectionRefused):
            continue
        if event.connection in told:
            assert not isinstance(event, ConnectionOpened)
            assert (told[event.connection], type(event)) != (ConnectionClosed, ConnectionClosed)
        told[event.connection] = type(event)
    assert Counter(each.reason for each in engine._events if isinstance(each, ConnectionClosed)) <= engine.closed
    for connection, event in told.items():
        assert (connection in live) == (event is not ConnectionClosed)
