"""Commands about connections: HAProxy calls them sessions.

A table of a million is shown, and searched, a few dozen entries at a time (see `server`), by their rows in the ledger:
what ends meanwhile is left out, what begins may be. The id of a connection is its row's number, one higher, as
HAProxy's is an address: it names one connection for as long as that is in the table, and finding it is no search.
"""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from natlb.core.engine import NatEngine
from natlb.core.flow import Connection, Direction
from natlb.core.packet import UDP
from natlb.core.states import PHASES
from natlb.digits import MOST_DIGITS
from natlb.runtime.addresses import endpoints
from natlb.runtime.console import Console
from natlb.runtime.language import Refused, Words
from natlb.runtime.running import Running

_PIECE: Final = 16
"""Entries of the table that are shown, or shut down, at a time: a fraction of a millisecond's work."""

_MOST_RECENT: Final = 1000
"""Connections that are found at once: a millisecond or two of work."""

_ID: Final = re.compile(r"0[xX][0-9a-fA-F]{1,12}|[0-9]{1,12}", re.ASCII)


def show_sess(console: Console, words: Words) -> Iterator[str]:
    """`show sess [<id>|all]`: a connection a line, or in all that is known of it."""
    running = console.running
    engine, now = running.engine, running.clock()
    id_ = _id(words)
    if id_:
        connection = engine.connection(id_ - 1)
        if connection is None:
            return iter(["Session not found.\n"])
        return iter([_dumped(running, connection, now, running.today())])
    if words[:1] == ["all"]:
        today = running.today()
        return ("".join([_dumped(running, each, now, today) for each in piece]) for piece in engine.pieces(_PIECE))
    return ("".join([_described(engine, each, now) for each in piece]) for piece in engine.pieces(_PIECE))


def show_sess_recent(console: Console, words: Words) -> Iterator[str]:
    """`show sess recent <n>`: those heard last. HAProxy has no such command; `natlb top` needs it."""
    return _recent(console.running.engine, _number(words), console.running.clock())


def _number(words: Words) -> int:
    if not words or not words[0].isascii() or not words[0].isdigit():
        raise Refused("'show sess recent' expects how many.")
    return min(int(words[0][:MOST_DIGITS]), _MOST_RECENT)


def _recent(engine: NatEngine, most: int, now: float) -> Iterator[str]:
    """Show the connections heard last, less those that end while others are shown."""
    found = engine.table.recent(most)
    for start in range(0, len(found), _PIECE):
        piece = found[start : start + _PIECE]
        yield "".join([_described(engine, each, now) for each in piece if engine.connection(each.index) is each])


def shutdown_session(console: Console, words: Words) -> str:
    """`shutdown session <id>`."""
    id_ = _id(words)
    if not id_:
        raise Refused("Session pointer expected (use 'show sess').")
    engine = console.running.engine
    connection = engine.connection(id_ - 1)
    if connection is None:
        raise Refused("No such session (use 'show sess').")
    engine.shutdown(connection, console.running.clock())
    return ""


def shutdown_sessions_server(console: Console, words: Words) -> Iterator[str]:
    """`shutdown sessions server <bk>/<srv>`."""
    running = console.running
    _, server = running.server(words)

    def ending() -> Iterator[str]:
        for piece in running.engine.pieces(_PIECE):
            running.engine.shutdown_server(server, running.clock(), piece)
            yield ""

    return ending()


def _id(words: Words) -> int:
    """Return the id that the first word is, 0 if it is none."""
    return int(words[0], 16 if words[0][:2] in ("0x", "0X") else 10) if words and _ID.fullmatch(words[0]) else 0


def _described(engine: NatEngine, connection: Connection, now: float) -> str:
    """Return a connection as a line of `show sess`: HAProxy's fields, then both tuples and what they carried."""
    engine.offloading.catch_up(connection, now)
    original, reply = endpoints(connection.original), endpoints(connection.reply)
    ledger, index = engine.ledger, connection.index
    protocol = "udp" if connection.original[-1] == UDP else "tcp"
    version = 4 if len(connection.original) == 13 else 6
    pool = connection.server.pool
    there, back = 2 * index + Direction.ORIGINAL, 2 * index + Direction.REPLY
    return (
        f"0x{index + 1:x}: proto={protocol}v{version} src={original[0]} fe={connection.service.name} "
        f"be={pool.name if pool else '<none>'} srv={connection.server.name} ts={connection.state.value} "
        f"age={max(0.0, now - ledger.opened[index]):.0f}s "
        f"idle={max(0.0, now - connection.queue.seen(connection)):.0f}s "
        f"orig={original[0]}>{original[1]} reply={reply[0]}>{reply[1]} "
        f"opkts={ledger.packets[there]} obytes={ledger.octets[there]} "
        f"rpkts={ledger.packets[back]} rbytes={ledger.octets[back]}\n"
    )


def _dumped(running: Running, connection: Connection, now: float, today: datetime) -> str:
    """Return all that is known of a connection: HAProxy's lines, as far as a connection that is not a proxy's has them.

    `today` is the date of `now`. The address of the backend is that which the server sees as the client's, as in
    HAProxy. `req` is what the client sends, and the tuple that it sends it by; `res` the same of the server.
    """
    running.engine.offloading.catch_up(connection, now)
    ledger, index, queue = running.engine.ledger, connection.index, connection.queue
    service, server = connection.service, connection.server
    pool = server.pool
    client, vip = endpoints(connection.original)
    place, source = endpoints(connection.reply)
    protocol = "udp" if connection.original[-1] == UDP else "tcp"
    version = 4 if len(connection.original) == 13 else 6
    age = max(0.0, now - ledger.opened[index])
    began = today - timedelta(seconds=age)
    there, back = 2 * index + Direction.ORIGINAL, 2 * index + Direction.REPLY
    flags = [PHASES[connection.state].name.lower()]
    flags += ["answered"] * (ledger.answered[index] >= 0) + ["full-nat"] * connection.has_own_port
    behind = f"{pool.name} (id={pool.id} mode={protocol})" if pool is not None else "<NONE> (id=-1 mode=-)"
    left = max(0.0, ledger.refresh_at[index] + queue.timeout - now)
    return (
        f"0x{index + 1:x}: [{began:%d/%b/%Y:%H:%M:%S.%f}] id={index + 1} proto={protocol}v{version} source={client}\n"
        f"  flags={','.join(flags)}, conn_retries={ledger.retries[index]}\n"
        f"  frontend={service.name} (id={service.id} mode={protocol}) addr={vip}\n"
        f"  backend={behind} addr={source}\n"
        f"  server={server.name} (id={server.id}) addr={place}\n"
        f"  state={connection.state.value} age={_lasting(age)} "
        f"idle={_lasting(max(0.0, now - queue.seen(connection)))} exp={_lasting(left)}\n"
        f"  req={client}>{vip} (packets={ledger.packets[there]} total={ledger.octets[there]})\n"
        f"  res={place}>{source} (packets={ledger.packets[back]} total={ledger.octets[back]})\n"
    )


def _lasting(seconds: float) -> str:
    """Return a time as HAProxy has it: whole, in its two largest units, as `59m53s`."""
    left = int(seconds)
    units = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
    for (size, name), (less, other) in pairwise(units):
        if left >= size:
            rest = left % size // less
            return f"{left // size}{name}" + (f"{rest}{other}" if rest else "")
    return f"{left}s"
