"""What stick tables hold, for the next natlb: their entries, and which connections these count.

It is written down in JSON, once, when a natlb hands over. HAProxy's users know it from peers: a reload forgets nobody.
A crash does, as it does there. An entry is taken on if there is a table of that name and type, with what that stores;
how long it may stay is for the new configuration to say.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from natlb.core.engine import NatEngine
from natlb.core.flow import Connection
from natlb.core.opening import UNCOUNTED
from natlb.core.stick import Entry, Key, StickTable


def pack(engine: NatEngine, tables: Iterable[StickTable], now: float) -> bytes:
    """Return what these tables hold, and which of the engine's connections, by their rows, their entries count."""
    kept = [
        [table.name, table.type, table.stored, [_packed(entry) for entry in table.entries(now)]] for table in tables
    ]
    if not kept:
        return b""
    counted = [
        [connection.index, [None if entry is None else [entry.table.name, _key(entry.key)] for entry in entries]]
        for connection, entries in engine.lifecycle.counted()
    ]
    return json.dumps([kept, counted]).encode()


def restore(
    packed: bytes, engine: NatEngine, resumed: Mapping[int, Connection], tables: Iterable[StickTable], now: float
) -> int:
    """Take on what was packed; return how many entries that are. What makes no sense is not begun with.

    `resumed` are the connections that go on, by the rows that they had.
    """
    try:
        kept, counted = _read(packed)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return 0
    own = {table.name: table for table in tables}
    number = 0
    for was in kept:
        table = own.get(was.name)
        if table is not None and table.type == was.type:
            # A rate over another period is another rate.
            same = {name for name, period in table.stored.items() if was.stored.get(name, -1) == period}
            number += sum(_take_on(table, each, same, now) for each in was.entries)
    for row, slots in counted:
        connection = resumed.get(row)
        found = tuple(_find(own.get(slot[0]), slot[1], now) if slot is not None else None for slot in slots)
        if connection is not None and found != UNCOUNTED:
            engine.lifecycle.count_again(connection, found, now)
    return number


class _Entry(NamedTuple):
    key: Key
    expires: float | None
    server: str | None
    data: dict[str, int | tuple[int, int, int]]


class _Table(NamedTuple):
    name: str
    type: str
    stored: dict[str, float | None]
    entries: list[_Entry]


_Slots = list[tuple[str, Key] | None]


def _read(packed: bytes) -> tuple[list[_Table], list[tuple[int, _Slots]]]:
    """Return what was packed. Raises what Python raises on data of another shape."""
    if not packed:
        return [], []
    kept, counted = json.loads(packed)
    tables = [
        _Table(str(name), str(kind), {**stored}, [_read_entry(*entry) for entry in entries])
        for name, kind, stored, entries in kept
    ]
    slots = [
        (int(row), [None if slot is None else (str(slot[0]), _unpacked(slot[1])) for slot in each])
        for row, each in counted
        if len(each) == len(UNCOUNTED)
    ]
    return tables, slots


def _read_entry(key: str | int, expires: float | None, server: str | None, data: dict[str, Any]) -> _Entry:
    return _Entry(
        _unpacked(key),
        None if expires is None else float(expires),
        None if server is None else str(server),
        {name: _value(value) for name, value in data.items()},
    )


def _take_on(table: StickTable, was: _Entry, same: set[str], now: float) -> bool:
    """Enter what another table had; return whether there was room for it."""
    entry = table.enter(was.key, now) if table.key(was.key) == was.key else None
    if entry is None:
        return False
    entry.server = was.server
    if was.expires is not None and entry.expires is not None:
        entry.expires = min(entry.expires, was.expires)
    entry.keep({name: value for name, value in was.data.items() if name in same})
    return True


def _packed(entry: Entry) -> list[Any]:
    return [_key(entry.key), entry.expires, entry.server, entry.kept()]


def _key(key: Key) -> str | int:
    return key.hex() if isinstance(key, bytes) else key


def _unpacked(packed: str | int) -> Key:
    return bytes.fromhex(packed) if isinstance(packed, str) else int(packed)


def _value(value: Any) -> int | tuple[int, int, int]:
    if isinstance(value, list):
        start, current, before = value
        return int(start), int(current), int(before)
    return int(value)


def _find(table: StickTable | None, key: Key, now: float) -> Entry | None:
    return table.get(key, now) if table is not None else None
