"""The facts of layer 4 that rules may ask for: samples, in the sense of `natlb.core.conditions`.

Each is HAProxy's sample fetch of the same meaning, and asked at the same moment: the connection that opens is already
counted in its frontend, and not yet in a backend. What a stick table knows of a client is asked for by the client's key
(`of_key`), or of the entry that counts the connection (`of_tracked`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from natlb.core.conditions import Sample, Value
from natlb.core.stick import StickTable

if TYPE_CHECKING:
    from natlb.core.opening import Opening
    from natlb.core.pool import Pool, Server
    from natlb.core.service import Service

# The connection itself


def source(opening: "Opening") -> Value:
    """`src`."""
    return opening.client[0]


def source_port(opening: "Opening") -> Value:
    """`src_port`."""
    return int.from_bytes(opening.client[1], "big")


def destination(opening: "Opening") -> Value:
    """`dst`: the virtual address."""
    return opening.vip[0]


def destination_port(opening: "Opening") -> Value:
    """`dst_port`: the virtual port."""
    return int.from_bytes(opening.vip[1], "big")


def source_is_local(opening: "Opening") -> Value:
    """`src_is_local`: whether the client is this machine."""
    return opening.is_local(opening.client[0])


def destination_is_local(opening: "Opening") -> Value:
    """`dst_is_local`: whether the virtual address is one of this machine's."""
    return opening.is_local(opening.vip[0])


def frontend_id(opening: "Opening") -> Value:
    """`fe_id`: the number of the frontend."""
    return opening.service.id


def frontend_name(opening: "Opening") -> Value:
    """`fe_name`."""
    return opening.service.name


def constant(value: Value) -> Sample:
    """`always_true`, and whatever else never changes."""
    return lambda _: value


# Frontends, backends, servers


def frontend_connections(service: "Service") -> Sample:
    """`fe_conn`: connections of a frontend now, the one that opens included where it is the frontend's."""
    return lambda opening: service.live + (opening.service is service)


def frontend_session_rate(service: "Service") -> Sample:
    """`fe_sess_rate`: connections per second that a frontend's rules let in, this one included once they have."""
    return lambda opening: (
        service.counters.sessions.read(opening.now) + (opening.is_session and opening.service is service)
    )


def backend_connections(pool: "Pool") -> Sample:
    """`be_conn`: connections of a backend now."""
    return lambda _: pool.live


def backend_session_rate(pool: "Pool") -> Sample:
    """`be_sess_rate`: connections per second that a backend gets."""
    return lambda opening: pool.counters.sessions.read(opening.now)


def usable_servers(pool: "Pool") -> Sample:
    """`nbsrv`: the usable servers; when no active one is, the backup servers that are."""
    return lambda _: (pool.usable - pool.usable_backups) or min(1, pool.usable_backups)


def queued(pool: "Pool") -> Sample:
    """`queue`: connections that wait for a backend's servers, any or one of them."""
    return lambda _: _waiting(pool)


def average_queue(pool: "Pool") -> Sample:
    """`avg_queue`: the same for each usable server, rounded up; twice the whole when none is."""
    usable = usable_servers(pool)

    def sample(opening: "Opening") -> Value:
        number, waiting = usable(opening), _waiting(pool)
        return -(-waiting // number) if isinstance(number, int) and number else 2 * waiting

    return sample


def free_places(pool: "Pool") -> Sample:
    """`connslots`: connections that servers which are up have room for, queues included; -1 for no limit."""

    def sample(_: "Opening") -> Value:
        free = 0
        for server in pool.servers.values():
            if server.away:
                continue
            if not server.maxconn or not server.maxqueue:
                return -1
            free += server.maxconn - server.live + server.maxqueue - server.queued
        return free

    return sample


def _waiting(pool: "Pool") -> int:
    return pool.queued + sum(server.queued for server in pool.servers.values())


def server_queue(server: "Server") -> Sample:
    """`srv_queue`: connections that wait for a server."""
    return lambda _: server.queued


def server_is_up(server: "Server") -> Sample:
    """`srv_is_up`: whether a server is neither down nor in maintenance."""
    return lambda _: not server.away


def server_connections(server: "Server") -> Sample:
    """`srv_conn`: connections of a server now."""
    return lambda _: server.live


# Stick tables


def entries_of_table(table: StickTable) -> Sample:
    """`table_cnt`: entries of a table."""
    return lambda opening: table.used(opening.now)


def is_tracked(slot: int) -> Sample:
    """`sc0_tracked`: whether an entry counts the connection."""
    return lambda opening: opening.tracked[slot] is not None


def of_key(table: StickTable, sample: Sample, name: str) -> Sample:
    """`src_conn_rate`: what a table stores under `name` of a key; 0 for a key that it does not know."""

    def value(opening: "Opening") -> Value | None:
        key = table.key(sample(opening))
        if key is None:
            return None
        entry = table.get(key, opening.now)
        return 0 if entry is None else entry.read(name, opening.now)

    return value


def of_tracked(slot: int, table: StickTable | None, name: str) -> Sample:
    """`sc0_conn_rate`: what the entry that counts the connection stores, or that of another table with its key."""

    def value(opening: "Opening") -> Value | None:
        entry = opening.tracked[slot]
        if entry is not None and table is not None:
            entry = table.get(entry.key, opening.now)
            return 0 if entry is None else entry.read(name, opening.now)
        return None if entry is None else entry.read(name, opening.now)

    return value


def is_known(table: StickTable, sample: Sample) -> Sample:
    """`in_table`: whether a table has an entry for a key."""

    def value(opening: "Opening") -> Value:
        key = table.key(sample(opening))
        return key is not None and table.get(key, opening.now) is not None

    return value


def event_counted(table: StickTable, sample: Sample) -> Sample:
    """`src_inc_gpc0`: the general-purpose counter of a key, after counting one in it."""

    def value(opening: "Opening") -> Value | None:
        key = table.key(sample(opening))
        entry = None if key is None else table.enter(key, opening.now)
        if entry is None:
            return None
        entry.add("gpc0", opening.now)
        entry.add("gpc0_rate", opening.now)
        return entry.read("gpc0", opening.now)

    return value


def event_count_cleared(table: StickTable, sample: Sample) -> Sample:
    """`src_clr_gpc0`: the general-purpose counter of a key, before setting it to 0."""
    read = of_key(table, sample, "gpc0")

    def value(opening: "Opening") -> Value | None:
        count = read(opening)
        key = table.key(sample(opening))
        entry = None if key is None else table.get(key, opening.now)
        if entry is not None:
            entry.write("gpc0", 0, opening.now)
        return count

    return value


# Converters


def mask_address(sample: Sample, narrow: bytes, wide: bytes | None) -> Sample:
    """`ipmask`: the network of an address, by a mask of 4 bytes and one of 16; without that, of IPv4 ones alone."""

    def value(opening: "Opening") -> Value | None:
        address = sample(opening)
        if not isinstance(address, bytes):
            return None
        mask = narrow if len(address) == 4 else wide
        return None if mask is None else bytes(a & b for a, b in zip(address, mask, strict=True))

    return value


def compute(sample: Sample, operation: Callable[[int], int]) -> Sample:
    """`mod`, `and`, ...: a number made of a number."""

    def value(opening: "Opening") -> Value | None:
        number = sample(opening)
        return operation(number) if isinstance(number, int) else None

    return value
