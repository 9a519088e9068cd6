"""Commands about stick tables: shown, searched and changed as in HAProxy, a few dozen entries at a time.

Data goes by HAProxy's names and in HAProxy's order. What sticks to a server is stored by its name (`server_key`), and
shown by its number in the backend of the table's name as well (`server_id`).
"""

import operator
import re
from collections.abc import Callable, Iterator
from typing import Final

from natlb.core.stick import RATES, Entry, Key, StickTable
from natlb.runtime.addresses import plain, read
from natlb.runtime.console import Console
from natlb.runtime.language import Level, Refused, Words
from natlb.runtime.running import Running

_PIECE: Final = 32
"""Entries that are looked at before packets have their turn."""

_MOST_FILTERS: Final = 4

_DATA: Final = ("gpc0", "gpc0_rate", "conn_cnt", "conn_rate", "conn_cur", "sess_cnt", "sess_rate")
"""What natlb's tables may store, in the order in which HAProxy shows it."""
_OTHER_DATA: Final = (
    *("gpt", "gpt0", "gpc", "gpc1", "gpc_rate", "gpc1_rate", "server_key"),
    *("http_req_cnt", "http_req_rate", "http_err_cnt", "http_err_rate", "http_fail_cnt", "http_fail_rate"),
    *("bytes_in_cnt", "bytes_in_rate", "bytes_out_cnt", "bytes_out_rate"),
)
"""What HAProxy's may store besides."""

_OPERATORS: Final[dict[str, Callable[[int, int], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "le": operator.le,
    "ge": operator.ge,
    "lt": operator.lt,
    "gt": operator.gt,
}
_INTEGER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_ADDRESSES: Final = {"ip": 4, "ipv6": 6}
_LARGEST_KEY: Final = 2**32 - 1

_CLEAR: Final = 'Required arguments: <table> "data.<store_data_type>" <operator> <value> or <table> key <key>'
_SHOW: Final = 'Optional argument only supports "data.<store_data_type>" <operator> <value> and key <key>'
_SET: Final = "Required arguments: <table> key <key> [data.<store_data_type> <value>]*"

Filter = Callable[[Entry], bool]


def show_table(console: Console, words: Words) -> Iterator[str]:
    """`show table [<table> [key <key> | data.<type> <operator> <value>]*]`."""
    running = console.running
    now = running.clock()
    if not words:
        return iter([_headline(table, now) for table in reversed(list(running.tables.values()))])
    table = _table(running, words)
    if words[1:2] == ["key"]:
        entry = _entry(console, table, words[2:], now)
        return iter([] if entry is None else [_headline(table, now), _described(running, table, entry, now)])
    matches = _filters(running, table, words[1:], now, otherwise=_SHOW)
    return _shown(console, table, matches, now)


def clear_table(console: Console, words: Words) -> str | Iterator[str]:
    """`clear table <table> [key <key> | data.<type> <operator> <value>]*`: but for entries in use."""
    running = console.running
    now = running.clock()
    if not words:
        raise Refused(_CLEAR)
    table = _table(running, words)
    if words[1:2] == ["key"]:
        entry = _entry(console, table, words[2:], now)
        if entry is not None and not table.forget(entry):
            raise Refused("Entry currently in use, cannot remove")
        return ""
    matches = _filters(running, table, words[1:], now, otherwise=_CLEAR)
    if console.level < Level.OPERATOR:
        raise Refused("Permission denied")
    return _cleared(table, matches, now)


def set_table(console: Console, words: Words) -> str:
    """`set table <table> key <key> [data.<type> <value>]*`."""
    running = console.running
    now = running.clock()
    if not words:
        raise Refused(_SET)
    table = _table(running, words)
    if words[1:2] and words[1].startswith("data."):
        raise Refused('content-based lookup is only supported with the "show" and "clear" actions')
    if words[1:2] != ["key"]:
        raise Refused(_SET)
    key = _key(console, table, words[2:])
    data: dict[str, int] = {}
    server: str | None = None
    for name, value in zip(words[3::2], [*words[4::2], ""], strict=False):
        if not name.startswith("data."):
            raise Refused('"data.<type>" followed by a value expected')
        type_ = _stored(table, name.removeprefix("data."))
        if not _INTEGER.fullmatch(value):
            raise Refused("Require a valid integer value to store")
        if type_ == "server_id":
            server = _server_named(running, table, int(value))
        else:
            data[type_] = int(value)
    if table.set(key, now, server, **data) is None:
        raise Refused("Unable to allocate a new entry")
    return ""


def _shown(console: Console, table: StickTable, matches: Filter, now: float) -> Iterator[str]:
    while table.tidy(now):
        yield ""
    yield _headline(table, now)
    if console.level < Level.OPERATOR:
        yield "# contents not dumped due to insufficient privileges\n"
        return
    for piece in table.pieces(_PIECE, now):
        yield "".join(_described(console.running, table, entry, now) for entry in piece if matches(entry))


def _cleared(table: StickTable, matches: Filter, now: float) -> Iterator[str]:
    for piece in table.pieces(_PIECE, now):
        for entry in piece:
            if matches(entry):
                table.forget(entry)
        yield ""


def _headline(table: StickTable, now: float) -> str:
    return f"# table: {table.name}, type: {table.type}, size:{table.size}, used:{table.used(now)}\n"


def _described(running: Running, table: StickTable, entry: Entry, now: float) -> str:
    key = entry.key if isinstance(entry.key, int) else plain(entry.key)
    left = 0 if entry.expires is None else max(0, round((entry.expires - now) * 1000))
    data = [f"{_named(table, name)}={entry.read(name, now)}" for name in _DATA if name in table.stored]
    if entry.server is not None:
        data = [f"server_id={_server_id(running, table, entry)}", *data, f"server_key={entry.server}"]
    return " ".join([f"0x{entry.row + 1:x}: key={key} use={entry.use} exp={left}", *data]) + "\n"


def _named(table: StickTable, name: str) -> str:
    """Return the name of data as it is shown: that of a rate with its period, in milliseconds."""
    period = table.stored[name]
    return name if name not in RATES or period is None else f"{name}({round(period * 1000)})"


def _server_id(running: Running, table: StickTable, entry: Entry) -> int:
    pool = running.pools.get(table.name)
    server = pool.servers.get(entry.server or "") if pool is not None else None
    return 0 if server is None else server.id


def _server_named(running: Running, table: StickTable, number: int) -> str | None:
    pool = running.pools.get(table.name)
    servers = () if pool is None else pool.servers.values()
    return next((server.name for server in servers if server.id == number), None)


def _table(running: Running, words: Words) -> StickTable:
    table = running.tables.get(words[0])
    if table is None:
        raise Refused("No such table")
    return table


def _entry(console: Console, table: StickTable, words: Words, now: float) -> Entry | None:
    return table.get(_key(console, table, words), now)


def _key(console: Console, table: StickTable, words: Words) -> Key:
    """Return the key that the first word is. Raises Refused."""
    if not words:
        raise Refused("Key value expected")
    if console.level < Level.OPERATOR:
        raise Refused("Permission denied")
    if table.type == "integer":
        if _INTEGER.fullmatch(words[0]) and int(words[0]) <= _LARGEST_KEY:
            return int(words[0])
        raise Refused("Invalid key")
    try:
        address = read(words[0])
    except ValueError:
        raise Refused("Invalid key") from None
    if address.version != _ADDRESSES[table.type]:
        raise Refused("Invalid key")
    return address.packed


def _stored(table: StickTable, name: str, where: str = "") -> str:
    """Return the name of data that a table stores. Raises Refused."""
    if name == "server_id" or name in table.stored:
        return name
    known = name in _DATA or name in _OTHER_DATA
    raise Refused(f"{where}{'Data type not stored in this table' if known else 'Unknown data type'}")


def _filters(running: Running, table: StickTable, words: Words, now: float, otherwise: str) -> Filter:
    """Return whether an entry is one of those that the words describe. Raises Refused."""
    if words and not words[0].startswith("data."):
        raise Refused(otherwise)
    wanted: list[tuple[str, Callable[[int, int], bool], int]] = []
    for number, at in enumerate(range(0, len(words), 3), 1):
        where = f"Filter entry #{number}: "
        if number > _MOST_FILTERS:
            raise Refused(f"Detected extra data in filter, {3 + at + 1}th word of input, after '{words[at - 1]}'")
        name, compare, value = [*words[at : at + 3], "", ""][:3]
        type_ = _stored(table, name.removeprefix("data."), where) if name.startswith("data.") else ""
        if compare not in _OPERATORS:
            raise Refused(f'{where}Require and operator among "eq", "ne", "le", "ge", "lt", "gt"')
        if not _INTEGER.fullmatch(value):
            raise Refused(f"{where}Require a valid integer value to compare against")
        if not type_:
            raise Refused(f"{where}Unknown data type")
        wanted.append((type_, _OPERATORS[compare], int(value)))

    def matches(entry: Entry) -> bool:
        return all(
            compare(_server_id(running, table, entry) if name == "server_id" else entry.read(name, now) or 0, value)
            for name, compare, value in wanted
        )

    return matches
