"""`show stat`: what is counted of each frontend, server and backend, in HAProxy's columns and HAProxy's four formats.

A row is first made as a mapping from columns to values, and only then written: as CSV, a value a line with its tags
(`typed`), or as JSON. A column that has no meaning for a row is left out of it, and is empty where HAProxy leaves it
empty; one that HAProxy prints of TCP and natlb has no such thing of is 0, as it is in HAProxy when nobody uses it.

The reply is made row by row, so that packets can pass between two of them however many servers there are, and counters
are read, never summed up over connections.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from json import dumps
from typing import Final

from natlb.core.engine import BYPASSED_AFTER
from natlb.core.packet import UDP
from natlb.core.pool import AdminState, Pool, Server
from natlb.core.service import Intake, Service
from natlb.core.statistics import Counters
from natlb.digits import MOST_DIGITS
from natlb.runtime.addresses import written
from natlb.runtime.columns import COLUMNS, NATURES, OF_BACKENDS, ORIGINS, POSITIONS, SCOPES
from natlb.runtime.console import Console
from natlb.runtime.language import Refused, Words
from natlb.runtime.running import Proxy, Running, Value

Row = dict[str, Value]

_PROCESS: Final = 1
_FRONTEND, _BACKEND, _SERVER = 0, 1, 2
_LOOKED_AT_ONCE: Final = 500
"""Servers that are looked at before other work has its turn."""

_LETTERS: Final = "FBS"
_KINDS: Final = ("Frontend", "Backend", "Server")

_INTAKES: Final = {Intake.OPEN: "OPEN", Intake.PAUSED: "PAUSED", Intake.STOPPED: "STOP"}
_NOTHING: Final = dict.fromkeys(("dresp", "wrew"), 0)
_NO_REQUESTS: Final = dict.fromkeys(("dreq", "ereq", "req_rate", "req_rate_max", "req_tot", "dses"), 0)
_NO_COMPRESSION: Final = dict.fromkeys(("comp_in", "comp_out", "comp_byp", "comp_rsp"), 0)
_NO_HTTP: Final = dict.fromkeys(("rtime", "rtime_max", "reuse"), 0)
_NO_IDLE_CONNECTIONS: Final = dict.fromkeys(("srv_icur", "idle_conn_cur", "safe_conn_cur"), 0)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows are wanted, and how written."""

    proxy: str | int | None = None
    """Name or number; None is all."""
    kinds: int = -1
    """The sum of 1 for frontends, 2 for backends, 4 for servers."""
    server: int = -1
    """Number; -1 is all."""
    format: str = "csv"
    described: bool = False
    hides_down: bool = False
    hides_maintenance: bool = False

    def has(self, kind: int, number: int) -> bool:
        """Whether rows of a kind (0 frontend, 1 backend, 2 server) with that number are wanted."""
        return self.kinds >> kind & 1 == 1 and self.server in (-1, number)


def selection(words: Sequence[str]) -> Selection:
    """Read what follows `show stat`. What is not understood is passed over, as HAProxy does."""
    proxy: str | int | None = None
    kinds = server = -1
    if len(words) >= 3:
        proxy = _number(words[0]) if words[0][0] in "-0123456789" else words[0]
        proxy = None if proxy == -1 else proxy
        kinds, server = _number(words[1]), _number(words[2])
        words = words[3:]
    formats = [word for word in words if word in ("typed", "json")]
    return Selection(
        proxy,
        kinds,
        server,
        formats[-1] if formats else "csv",
        described="desc" in words,
        hides_down="up" in words,
        hides_maintenance="no-maint" in words,
    )


def _number(word: str) -> int:
    """Read a number as C's atoi does: what follows it does not matter, and without one it is 0."""
    sign, digits = (-1, word[1:]) if word.startswith("-") else (1, word)
    length = next((place for place, letter in enumerate(digits) if letter not in "0123456789"), len(digits))
    return sign * int(digits[: min(length, MOST_DIGITS)] or "0")


def show_stat(console: Console, words: Words) -> Iterator[str]:
    """`show stat [<iid>|<name> <type> <sid>] [typed|json] [desc] [up] [no-maint]`."""
    running, chosen = console.running, selection(words)
    proxies = [each for each in running.proxies if _is_asked(each, chosen.proxy)]
    if isinstance(chosen.proxy, str) and not proxies:
        raise Refused("No such proxy.")
    return _reply(running, proxies, chosen)


def _reply(running: Running, proxies: Sequence[Proxy], chosen: Selection) -> Iterator[str]:
    yield from settled(running)
    rows = _rows(running, proxies, chosen)
    if chosen.format == "typed":
        yield from (_typed(row, chosen.described) if row else "" for row in rows)
    else:
        yield from _as_json(rows) if chosen.format == "json" else _as_csv(rows)


def settled(running: Running) -> Iterator[str]:
    """Bring all totals of bytes up to date, in pieces that each take little time; they are empty."""
    for service in running.services:
        for _ in service.settling():
            yield ""
        yield ""


def _is_asked(proxy: Proxy, asked: str | int | None) -> bool:
    return asked is None or any(each is not None and asked in (each.id, each.name, f"#{each.id}") for each in proxy)


# Formats


def _as_csv(rows: Iterator[Row | None]) -> Iterator[str]:
    yield f"# {','.join(POSITIONS)},\n"
    for row in rows:
        if row is None:
            yield ""
            continue
        # Clients split at every comma, whatever is quoted.
        values = [str(row.get(name, "")).replace(",", ";") for name in POSITIONS]
        yield f"{','.join(values)},\n"


def _typed(row: Row, described: bool) -> str:
    head = f"{_LETTERS[int(row['type'])]}.{row['iid']}.{row['sid']}"
    lines = []
    for place, column in enumerate(COLUMNS):
        if column.name in row:
            tail = f':"{column.meaning}"' if described else ""
            tags, value = _tags(int(row["type"]), column.name), row[column.name]
            lines.append(f"{head}.{place}.{column.name}.{_PROCESS}:{tags}:{column.type}:{value}{tail}\n")
    return "".join(lines)


def _as_json(rows: Iterator[Row | None]) -> Iterator[str]:
    yield "["
    separator = ""
    for row in rows:
        if row is None:
            yield ""
            continue
        kind, numbers = int(row["type"]), f'"proxyId":{row["iid"]},"id":{row["sid"]}'
        values = [
            f'{{"objType":"{_KINDS[kind]}",{numbers},{_JSON[kind, name]}{dumps(row[name])}}}}}'
            for name in POSITIONS
            if name in row
        ]
        yield f"{separator}[{','.join(values)}]"
        separator = ","
    yield "]\n"


def _tags(kind: int, column: str) -> str:
    usual = COLUMNS[POSITIONS[column]].tags
    return OF_BACKENDS.get(column, usual) if kind == _BACKEND else usual


def named(tags: str) -> dict[str, str]:
    """Return three letters of tags in words, as JSON has them."""
    return {"origin": ORIGINS[tags[0]], "nature": NATURES[tags[1]], "scope": SCOPES[tags[2]]}


_JSON: Final = {
    (kind, column.name): dumps(
        {
            "field": {"pos": place, "name": column.name},
            "processNum": _PROCESS,
            "tags": named(_tags(kind, column.name)),
            "value": {"type": column.type, "value": None},
        },
        separators=(",", ":"),
    )[1:].removesuffix("null}}")
    for kind in range(len(_KINDS))
    for place, column in enumerate(COLUMNS)
}
"""What stands before each value, by kind of row and column: JSON as HAProxy has it is mostly this."""


# Rows


def _rows(running: Running, proxies: Sequence[Proxy], chosen: Selection) -> Iterator[Row | None]:
    """Go over the rows; None stands for a little work of which nothing is to be seen yet."""
    for service, pool in proxies:
        # A backend has no protocol of its own, but that of a udp-lb section is that section's.
        mode = "udp" if service is not None and service.protocol == UDP else "tcp"
        if service is not None and chosen.has(_FRONTEND, 0):
            yield _of_frontend(running, service, mode)
        if pool is None:
            continue
        usable = _Usable(pool.all_backups)
        for number, server in enumerate(list(pool.servers.values()), start=1):
            if server.pool is None:  # it has gone while others were shown
                continue
            usable.add(server)
            if chosen.has(_SERVER, server.id):
                row = _of_server(running, pool, server, mode)
                yield None if _is_hidden(str(row["status"]), chosen) else row
            elif number % _LOOKED_AT_ONCE == 0:
                yield None
        if chosen.has(_BACKEND, 0):
            yield _of_backend(running, pool, chosen, mode, usable)


@dataclass(slots=True)
class _Usable:
    """The servers of a backend, added up as they are gone over."""

    all_backups: bool
    servers: int = 0
    present: int = 0
    active: int = 0
    backups: int = 0
    weight: int = 0
    """Of those that get connections: the active ones, or else the first backup, or all of them."""
    in_force: int = 0
    """The same, as it is for the moment."""

    def add(self, server: Server) -> None:
        self.servers += 1
        self.present += not server.away
        if not server.usable:
            return
        if not server.backup and not self.active:
            self.weight = self.in_force = 0
        if not server.backup or (not self.active and (self.all_backups or not self.backups)):
            self.weight += server.weight
            self.in_force += server.effective_weight
        self.active += not server.backup
        self.backups += server.backup


def _is_hidden(status: str, chosen: Selection) -> bool:
    """Whether a server is not to be shown. One that is on its way up is no longer down."""
    in_maintenance = status.startswith("MAINT")
    return (chosen.hides_down and (in_maintenance or status == "DOWN")) or (chosen.hides_maintenance and in_maintenance)


def _of_frontend(running: Running, service: Service, mode: str) -> Row:
    counters, now = service.counters, running.clock()
    return {
        "pxname": service.name,
        "svname": "FRONTEND",
        "scur": service.live,
        "smax": counters.most_live,
        "slim": running.most_connections if service.max_connections is None else service.max_connections,
        "stot": service.total,
        "bin": counters.octets_in,
        "bout": counters.octets_out,
        "status": _INTAKES[service.intake],
        "pid": _PROCESS,
        "iid": service.id,
        "sid": 0,
        "type": _FRONTEND,
        "rate": counters.sessions.read(now),
        "rate_lim": service.session_limit or 0,
        "rate_max": counters.sessions.highest,
        "mode": mode,
        "conn_rate": counters.arrivals.read(now),
        "conn_rate_max": counters.arrivals.highest,
        "conn_tot": service.total + service.denied,
        "dcon": service.denied,
        "eint": counters.internal,
        **_NOTHING,
        **_NO_REQUESTS,
        **_NO_COMPRESSION,
    }


def _of_server(running: Running, pool: Pool, server: Server, mode: str) -> Row:
    now = running.clock()
    row: Row = {
        "pxname": pool.name,
        "svname": server.name,
        "qcur": server.queued,
        "qmax": server.most_queued,
        "scur": server.live,
        "stot": server.total,
        "wretr": server.retries,
        "wredis": server.redispatches,
        "weight": server.effective_weight,
        "act": int(not server.backup),
        "bck": int(server.backup),
        "pid": _PROCESS,
        "iid": pool.id,
        "sid": server.id,
        "type": _SERVER,
        "addr": written(*server.endpoint(0)),
        "mode": mode,
        "used_conn_cur": server.live,
        "need_conn_est": server.live,
        "uweight": server.weight,
        **_shared(server.counters, now),
        **_NOTHING,
        **_NO_HTTP,
        **_NO_IDLE_CONNECTIONS,
        **_health(running, pool, server, now),
    }
    if server.maxconn is not None:
        row["slim"] = server.maxconn
    if server.maxqueue:
        row["qlimit"] = server.maxqueue
    if server.throttled is not None and not server.drained and server.weight:
        row["throttle"] = server.throttled
    if server.unanswered >= BYPASSED_AFTER and server.remark:
        row["last_chk"] = server.remark
    return row


def _of_backend(running: Running, pool: Pool, chosen: Selection, mode: str, servers: _Usable) -> Row:
    now = running.clock()
    standing = pool.standing
    status = "UP" if standing.up else "DOWN"
    if chosen.hides_down or chosen.hides_maintenance:
        status += f" ({servers.present}/{servers.servers})"
    return {
        "pxname": pool.name,
        "svname": "BACKEND",
        "qcur": pool.queued,
        "qmax": pool.most_queued,
        "scur": pool.live,
        "slim": pool.fullconn,
        "stot": pool.total,
        "wretr": pool.retries,
        "wredis": pool.redispatches,
        "status": status,
        "weight": servers.in_force,
        "act": servers.active,
        "bck": servers.backups,
        "chkdown": standing.falls,
        "lastchg": int(now - standing.changed),
        **({"downtime": int(standing.down_time(now))} if servers.servers else {}),
        "pid": _PROCESS,
        "iid": pool.id,
        "sid": 0,
        "type": _BACKEND,
        "mode": mode,
        "algo": pool.algorithm,
        "uweight": servers.weight,
        "dreq": 0,
        **_shared(pool.counters, now),
        **_NOTHING,
        **_NO_HTTP,
        **_NO_COMPRESSION,
    }


def _health(running: Running, pool: Pool, server: Server, now: float) -> Row:
    """Return what is known of a server's health, and what the operator wants of it."""
    known = running.checks[f"{pool.name}/{server.name}"]
    status = known.status(draining=server.drained)
    if server.admin is AdminState.MAINT and not status.startswith("MAINT"):
        status = "MAINT"  # it came while natlb ran, and was never enabled
    return {**known.columns(now), "status": status, "lastchg": int(now - server.changed)}


def _shared(counters: Counters, now: float) -> Row:
    """Return the columns that servers and backends have in common."""
    last = counters.last_session
    return {
        "smax": counters.most_live,
        "bin": counters.octets_in,
        "bout": counters.octets_out,
        "econ": counters.failed,
        "eresp": counters.reset_by_server,
        "lbtot": counters.balanced,
        "rate": counters.sessions.read(now),
        "rate_max": counters.sessions.highest,
        "cli_abrt": counters.aborted_by_client,
        "srv_abrt": counters.aborted_by_server,
        "lastsess": -1 if last is None else int(now - last),
        "qtime": counters.queue_time.mean,
        "ctime": counters.connect_time.mean,
        "ttime": counters.total_time.mean,
        "connect": counters.attempts,
        "qtime_max": counters.queue_time.highest,
        "ctime_max": counters.connect_time.highest,
        "ttime_max": counters.total_time.highest,
        "eint": counters.internal,
    }
