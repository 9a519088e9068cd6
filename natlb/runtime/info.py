"""`show info`: natlb as a whole, in HAProxy's lines, HAProxy's order and HAProxy's four formats.

Clients know HAProxy alone and insist on its name and a numeric version, so both are given here; natlb's own name stands
in `show version`. A line about something that natlb does not have (TLS, compression, pipes, peers) is 0, as it is in
HAProxy when nobody uses it. What there is, is measured: docs/statistics.md says how.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from json import dumps
from typing import Final

from natlb.runtime.columns import Field, Type
from natlb.runtime.console import Console
from natlb.runtime.language import Words
from natlb.runtime.running import Running, Value
from natlb.runtime.stat import named, settled
from natlb.runtime.vitals import Vitals

_PROCESS: Final = 1
_MEGABYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Line:
    field: Field
    read: Callable[[Running, Vitals], Value | None]
    """None leaves the line out."""


def _line(name: str, tags: str, kind: Type, meaning: str, read: Callable[[Running, Vitals], Value | None]) -> _Line:
    return _Line(Field(name, tags, kind, meaning), read)


def _none(name: str, tags: str, what: str, kind: Type = "u32") -> _Line:
    return _line(name, tags, kind, f"{what}: none", lambda *_: 0)


def _product_version(_: Running, vitals: Vitals) -> str:
    return f"2.6.0-natlb{vitals.version}"


def _carried(running: Running, _: Vitals) -> int:
    return sum(service.carried for service in running.services)


def _most_connections(running: Running, _: Vitals) -> int:
    return running.engine.admission.max_connections or running.engine.capacity


def _uptime(_: Running, vitals: Vitals) -> str:
    minutes, seconds = divmod(int(vitals.uptime), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}d {hours}h{minutes:02}m{seconds:02}s"


LINES: Final = {
    place: line
    for place, line in enumerate(
        (
            _line("Name", "POS", "str", "the product that clients look for", lambda *_: "HAProxy"),
            _line(
                "Version", "POS", "str", "the version of HAProxy that this speaks like, and natlb's", _product_version
            ),
            _line("Release_date", "POS", "str", "when this version was made", lambda _, v: v.released),
            _line("Nbthread", "CGS", "u32", "threads that handle packets", lambda *_: 1),
            _line("Nbproc", "CGS", "u32", "processes", lambda *_: 1),
            _line("Process_num", "KGP", "u32", "number of this process", lambda *_: _PROCESS),
            _line("Pid", "SGP", "u32", "the system's number for this process", lambda _, v: v.pid),
            _line("Uptime", "MDP", "str", "time since the start", _uptime),
            _line("Uptime_sec", "MDP", "u32", "seconds since the start", lambda _, v: int(v.uptime)),
            _none("Memmax_MB", "CLP", "limit to memory"),
            _line(
                "PoolAlloc_MB", "MGP", "u32", "the most memory in use so far", lambda _, v: v.most_resident // _MEGABYTE
            ),
            _line("PoolUsed_MB", "MGP", "u32", "memory in use", lambda _, v: v.resident // _MEGABYTE),
            _none("PoolFailed", "MCP", "memory that was not to be had"),
            _line("Ulimit-n", "CLP", "u32", "the most file descriptors", lambda _, v: v.descriptors),
            _line("Maxsock", "CLP", "u32", "the most sockets", lambda _, v: v.descriptors),
            _line("Maxconn", "CLP", "u32", "the most connections at a time", _most_connections),
            _line("Hard_maxconn", "CLP", "u32", "the most that Maxconn may be set to", lambda r, _: r.most_connections),
            _line("CurrConns", "MGP", "u32", "connections that are open", lambda r, _: r.engine.live),
            _line("CumConns", "MCP", "u32", "connections that came", lambda r, _: r.engine.books.total),
            _line("CumReq", "MCP", "u32", "connections that were let in", lambda r, _: r.engine.books.let_in),
            _none("MaxSslConns", "MMP", "limit to TLS"),
            _none("CurrSslConns", "MGP", "TLS now"),
            _none("CumSslConns", "MCP", "TLS so far"),
            _none("Maxpipes", "CLP", "limit to pipes"),
            _none("PipesUsed", "MGP", "pipes in use"),
            _none("PipesFree", "MGP", "pipes at hand"),
            _line(
                "ConnRate",
                "MRP",
                "u32",
                "connections that came in the last second",
                lambda r, _: r.engine.books.counters.arrivals.read(r.clock()),
            ),
            _line(
                "ConnRateLimit",
                "CLP",
                "u32",
                "limit to ConnRate",
                lambda r, _: r.engine.admission.connection_limit or 0,
            ),
            _line(
                "MaxConnRate",
                "MMP",
                "u32",
                "the most connections that came in a second",
                lambda r, _: r.engine.books.counters.arrivals.highest,
            ),
            _line(
                "SessRate",
                "MRP",
                "u32",
                "connections that were let in, in the last second",
                lambda r, _: r.engine.books.counters.sessions.read(r.clock()),
            ),
            _line(
                "SessRateLimit", "CLP", "u32", "limit to SessRate", lambda r, _: r.engine.admission.session_limit or 0
            ),
            _line(
                "MaxSessRate",
                "MRP",
                "u32",
                "the most connections that were let in, in a second",
                lambda r, _: r.engine.books.counters.sessions.highest,
            ),
            _none("SslRate", "MRP", "TLS in the last second"),
            _none("SslRateLimit", "CLP", "limit to SslRate"),
            _none("MaxSslRate", "MMP", "the most TLS in a second"),
            _none("SslFrontendKeyRate", "MGP", "TLS keys of clients in the last second"),
            _none("SslFrontendMaxKeyRate", "MMP", "the most TLS keys of clients in a second"),
            _none("SslFrontendSessionReuse_pct", "MGP", "TLS sessions used again"),
            _none("SslBackendKeyRate", "MRP", "TLS keys of servers in the last second"),
            _none("SslBackendMaxKeyRate", "MMP", "the most TLS keys of servers in a second"),
            _none("SslCacheLookups", "MCP", "TLS sessions looked up"),
            _none("SslCacheMisses", "MCP", "TLS sessions not found"),
            _none("CompressBpsIn", "MRP", "bytes before compression in the last second"),
            _none("CompressBpsOut", "MRP", "bytes after compression in the last second"),
            _none("CompressBpsRateLim", "CLP", "limit to compression"),
            None,
            None,
            _line("Tasks", "MGP", "u32", "tasks of the event loop", lambda _, v: v.tasks),
            _line("Run_queue", "MGP", "u32", "tasks that run", lambda _, v: v.active_tasks),
            _line("Idle_pct", "MaP", "u32", "per cent of the last second without work", lambda _, v: v.idle_percent),
            _line("node", "COS", "str", "name of this machine", lambda _, v: v.node),
            _line("description", "COS", "str", "what this machine is for", lambda _, v: v.description),
            _line("Stopping", "MGP", "u32", "1 while it stops softly", lambda _, v: int(v.stopping)),
            _line(
                "Jobs",
                "MGP",
                "u32",
                "connections, addresses that it answers at, and stats sockets",
                lambda r, v: r.engine.live + v.listeners,
            ),
            _none("Unstoppable Jobs", "MGP", "jobs that cannot be stopped"),
            _line(
                "Listeners", "MGP", "u32", "addresses that it answers at, and stats sockets", lambda _, v: v.listeners
            ),
            _none("ActivePeers", "MGP", "peers"),
            _none("ConnectedPeers", "MGP", "peers that were reached"),
            _line("DroppedLogs", "MGP", "u32", "log messages that were lost", lambda _, v: v.dropped_logs),
            _none("BusyPolling", "MGP", "waiting without sleep"),
            _none("FailedResolutions", "MGP", "names not resolved"),
            _line("TotalBytesOut", "MGP", "u64", "bytes of payload carried, both ways", _carried),
            _none("TotalSplicdedBytesOut", "MGP", "bytes through pipes", "u64"),
            _line(
                "BytesOutRate",
                "MRP",
                "u64",
                "bytes of payload carried in the last second",
                lambda _, v: v.octets_per_second,
            ),
            _none("DebugCommandsIssued", "MGP", "commands for debugging"),
            _none("CumRecvLogs", "MCP", "log messages received"),
            _line("Build info", "POS", "str", "as Version", _product_version),
            _none("Memmax_bytes", "CLP", "limit to memory"),
            _line("PoolAlloc_bytes", "MGP", "u64", "the most memory in use so far", lambda _, v: v.most_resident),
            _line("PoolUsed_bytes", "MGP", "u64", "memory in use", lambda _, v: v.resident),
            _line("Start_time_sec", "MDP", "u32", "when it started, in seconds since 1970", lambda _, v: v.started_at),
            _line("Tainted", "SGP", "str", "experimental features in use: none", lambda *_: "0"),
        )
    )
    if line is not None
}
"""By HAProxy's number of each line: two are only there in builds with another compression."""


def show_info(console: Console, words: Words) -> Iterator[str]:
    """`show info [typed|json] [desc]`. Words that are not understood are passed over, as HAProxy does."""
    running = console.running
    vitals = running.vitals()
    yield from settled(running)
    formats = [word for word in words if word in ("typed", "json")]
    chosen = formats[-1] if formats else "text"
    shown = [
        (place, line.field, value) for place, line in LINES.items() if (value := line.read(running, vitals)) is not None
    ]
    if chosen == "json":
        yield dumps([_as_json(*each) for each in shown], separators=(",", ":")) + "\n"
        return
    described = "desc" in words
    for place, field, value in shown:
        tail = f':"{field.meaning}"' if described else ""
        if chosen == "typed":
            yield f"{place}.{field.name}.{_PROCESS}:{field.tags}:{field.type}:{value}{tail}\n"
        else:
            yield f"{field.name}: {value}{tail}\n"


def _as_json(place: int, field: Field, value: Value) -> dict[str, object]:
    return {
        "field": {"pos": place, "name": field.name},
        "processNum": _PROCESS,
        "tags": named(field.tags),
        "value": {"type": field.type, "value": value},
    }
