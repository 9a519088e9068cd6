"""Stick tables: what is remembered of clients beyond their connections.

A table maps a key, mostly a client's address, to an entry. An entry remembers the server that the key sticks to, counts
the key's connections, or both. It is bounded: when it is full, the entry that was touched longest ago makes room,
unless the table is told not to purge; then the new key finds no room, and is not remembered. An entry that counts a
connection which is still there (`use`) never goes, whatever its age.

Entries are kept in the order in which they were touched, so the ones to expire and to purge are always the first: no
search, no timer. An entry whose time is over is nobody's any more, and is taken away when somebody next looks, a few at
a time: a million that end together must not hold up the one packet that comes then.

What is stored besides the server is data by HAProxy's names: plain counts, and rates over a period.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, Literal

from natlb.core.rates import Rate
from natlb.core.shards import Shards

Key = bytes | int
"""An address of 4 or 16 bytes, or a number."""

KeyType = Literal["ip", "ipv6", "integer"]

COUNTS: Final = ("conn_cnt", "conn_cur", "sess_cnt", "gpc0")
"""Data that is a number."""
RATES: Final = ("conn_rate", "sess_rate", "gpc0_rate")
"""Data that is a rate, over a period of its own."""

_MOST_LOOKED_AT: Final = 32
"""Entries in use that are passed over to find one that can make room."""

_MOST_DROPPED: Final = 32
"""Entries whose time is over that are taken away at once."""

_MAPPED: Final = bytes(10) + b"\xff\xff"
"""What stands before an IPv4 address that is written as one of IPv6 (RFC 4291, section 2.5.5.2)."""


class Entry:
    """What a table knows about one key."""

    __slots__ = ("_data", "_table", "expires", "key", "newer", "older", "row", "server", "use")

    def __init__(self, table: "StickTable", key: Key, row: int) -> None:
        self._table = table
        self.key = key
        self.row = row
        """Its place in the table for as long as it is there: no two entries have one at the same time."""
        self.expires: float | None = None
        """When it may go; None is never."""
        self.server: str | None = None
        """The name of the server that the key sticks to."""
        self.use = 0
        """Connections that are counted in it and still there."""
        # Its neighbours in the order of touching: entries or, at both ends, the table; None when it is in no table.
        self.older: Any = None
        self.newer: Any = None
        self._data: dict[str, int | Rate] = {
            name: 0 if period is None else Rate(period) for name, period in table.stored.items()
        }

    def is_over(self, now: float) -> bool:
        """Whether its time is over, and nobody counts on it."""
        return not self.use and self.expires is not None and self.expires <= now

    def read(self, name: str, now: float) -> int | None:
        """Return what is stored under a name of `COUNTS` or `RATES`; None if the table does not store that."""
        value = self._data.get(name)
        return value.read(now) if isinstance(value, Rate) else value

    def write(self, name: str, value: int, now: float) -> None:
        """Set what is stored under a name; nothing happens if the table does not store that."""
        kept = self._data.get(name)
        if isinstance(kept, Rate):
            kept.set(now, value)
        elif kept is not None:
            self._data[name] = value

    @property
    def table(self) -> "StickTable":
        """The table that it is in, or was."""
        return self._table

    def kept(self) -> dict[str, int | tuple[int, int, int]]:
        """Return what is stored, for `keep`: plain counts, and rates as `Rate.counts` has them."""
        return {name: kept.counts if isinstance(kept, Rate) else kept for name, kept in self._data.items()}

    def keep(self, kept: Mapping[str, int | tuple[int, int, int]]) -> None:
        """Store what another entry had, as far as the table stores that; nobody is connected to this one yet."""
        for name, value in kept.items():
            own = self._data.get(name)
            if isinstance(own, Rate) and isinstance(value, tuple):
                own.counts = value
            elif isinstance(own, int) and isinstance(value, int) and name != "conn_cur":
                self._data[name] = value

    def add(self, name: str, now: float, change: int = 1) -> None:
        """Add to what is stored under a name; nothing happens if the table does not store that."""
        kept = self._data.get(name)
        if isinstance(kept, Rate):
            kept.count(now, change)
        elif kept is not None:
            self._data[name] = max(0, kept + change)

    def count_connection(self, now: float, change: int = 1) -> None:
        """Count a connection that begins; with a `change` of -1, it has not begun after all."""
        self.use += change
        for name in ("conn_cnt", "conn_cur", "conn_rate"):
            self.add(name, now, change)

    def count_session(self, now: float, change: int = 1) -> None:
        """Count a connection that the rules let in; with a `change` of -1, they have not."""
        for name in ("sess_cnt", "sess_rate"):
            self.add(name, now, change)

    def hold(self, now: float) -> None:
        """Note that a counted connection, which was over, has come back."""
        self.use += 1
        self.add("conn_cur", now)

    def release(self, now: float) -> None:
        """Note that a counted connection is over: the entry's time begins anew."""
        self.use -= 1
        self.add("conn_cur", now, -1)
        self._table.touch(self, now)


class StickTable:
    """Entries by key, at most `size` of them."""

    def __init__(
        self,
        name: str,
        type: KeyType,  # noqa: A002 - it is called that everywhere
        size: int,
        *,
        expire: float | None = None,
        purge: bool = True,
        stored: Mapping[str, float | None] | None = None,
    ) -> None:
        """Make an empty table. `expire` is in seconds since an entry was touched; None is never.

        `purge` is whether old entries make room for new ones. `stored` is what entries store: names of `COUNTS` with
        None, names of `RATES` with their periods in seconds.
        """
        self.name: Final = name
        self.type: Final = type
        self.size: Final = size
        self.expire: Final = expire
        self.purge: Final = purge
        self.stored: Final = dict(stored or {})
        self._entries: Shards[Key, Entry] = Shards()
        # The entry touched longest ago, and the one touched last: a ring that this table closes.
        self.newer: Any = self
        self.older: Any = self
        self._rows: list[Entry | None] = []
        self._free_rows: list[int] = []

    def used(self, now: float) -> int:
        """Return how many entries there are, those included that `tidy` has left for the next time."""
        self.tidy(now)
        return len(self._entries)

    def key(self, value: object) -> Key | None:
        """Return the key that a value is in this table; None when it can be none.

        An IPv4 address is a key of an `ipv6` table as an IPv4-mapped one, and such a one of an `ip` table as IPv4.
        """
        if isinstance(value, int):
            return value if self.type == "integer" else None
        if not isinstance(value, bytes) or self.type == "integer":
            return None
        if len(value) == (4 if self.type == "ip" else 16):
            return value
        if self.type == "ipv6":
            return _MAPPED + value
        return value[12:] if value.startswith(_MAPPED) else None

    def get(self, key: Key, now: float) -> Entry | None:
        """Return the entry of a key; None if there is none. It is not touched."""
        self.tidy(now)
        entry = self._entries.get(key)
        if entry is None or not entry.is_over(now):
            return entry
        self._remove(entry)
        return None

    def enter(self, key: Key, now: float) -> Entry | None:
        """Return the entry of a key, made if there is none, and touched; None if there is no room for it."""
        entry = self.get(key, now)
        if entry is None:
            if len(self._entries) >= self.size and not self._make_room(now):
                return None
            if not self._free_rows:
                self._free_rows.append(len(self._rows))
                self._rows.append(None)
            row = self._free_rows.pop()
            entry = self._rows[row] = Entry(self, key, row)
            self._entries.add(key, entry)
            self._link(entry)
        self.touch(entry, now)
        return entry

    def set(self, key: Key, now: float, server: str | None = None, **data: int) -> Entry | None:
        """Remember a server and data for a key, and return its entry; None if there is no room for it."""
        entry = self.enter(key, now)
        if entry is not None:
            if server is not None:
                entry.server = server
            for name, value in data.items():
                entry.write(name, value, now)
        return entry

    def forget(self, entry: Entry) -> bool:
        """Forget an entry that is there, unless it is in use; return whether it is gone."""
        if entry.use:
            return False
        self._remove(entry)
        return True

    def clear(self, now: float, matches: Callable[[Entry], bool] = lambda _: True) -> int:
        """Forget the entries that match, but for those in use; return how many were forgotten."""
        return sum(self.forget(entry) for entry in self.entries(now) if matches(entry))

    def pieces(self, most: int, now: float) -> Iterator[list[Entry]]:
        """Go over the entries, by row, at most `most` in a piece: the table may change between two pieces."""
        for start in range(0, len(self._rows), most):
            yield [entry for entry in self._rows[start : start + most] if entry is not None and not entry.is_over(now)]

    def entries(self, now: float) -> Iterator[Entry]:
        """Go over the entries, the one touched longest ago first.

        The table may change meanwhile: an entry that has gone is left out, and what is new may be.
        """
        for entry in list(self._by_age()):
            if entry.newer is not None and not entry.is_over(now):
                yield entry

    def touch(self, entry: Entry, now: float) -> None:
        """Begin an entry's time anew."""
        if entry.newer is not None:
            self._unlink(entry)
            self._link(entry)
        entry.expires = None if self.expire is None else now + self.expire

    def tidy(self, now: float) -> bool:
        """Take away some of what is past its time; return whether there may be more.

        Those are the first of all, since each touch begins the same time. One in use has its time begun anew.
        """
        for _ in range(_MOST_DROPPED):
            entry = self.newer
            if entry is self or entry.expires is None or entry.expires > now:
                return False
            if entry.use:
                self.touch(entry, now)
            else:
                self._remove(entry)
        return True

    def _by_age(self) -> Iterator[Entry]:
        """Go over the entries, the one touched longest ago first; nothing may change meanwhile."""
        entry = self.newer
        while entry is not self:
            yield entry
            entry = entry.newer

    def _link(self, entry: Entry) -> None:
        last = self.older
        entry.older, entry.newer = last, self
        last.newer = self.older = entry

    def _unlink(self, entry: Entry) -> None:
        entry.older.newer, entry.newer.older = entry.newer, entry.older
        entry.older = entry.newer = None

    def _remove(self, entry: Entry) -> None:
        self._entries.pop(entry.key)
        self._unlink(entry)
        self._rows[entry.row] = None
        self._free_rows.append(entry.row)

    def _make_room(self, now: float) -> bool:
        """Let the entry go that was touched longest ago and is not in use; return whether there was one.

        Those in use are put last on the way, and not many are looked at: a table that is all in use stays quick.
        """
        if self.purge:
            for entry in list(islice(self._by_age(), _MOST_LOOKED_AT)):
                if not entry.use:
                    self._remove(entry)
                    return True
                self.touch(entry, now)
        return False
