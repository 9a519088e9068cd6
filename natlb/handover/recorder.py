"""Keeping the state file up to date while an engine runs, without costing a packet anything.

What is written into a mapping of a file stays there when the process is killed: it is the kernel's from that moment on.
So nothing has to be flushed, and a record costs some microseconds.

The table notes the rows of connections that have moved or gone (`Table.changed`), and `settle` is called when a batch
of packets is decided about. A connection is recorded there as soon as both ends have spoken, again when it is
established, and its record is taken away as soon as it has left the table. All else can wait for `refresh`, which is
called about once a second and goes over the table a little at a time: further moves of the state, and counts and
sequence numbers of the connections that have carried packets. A connection in which only the client has spoken is not
worth a record: who has had no answer asks again. `complete` writes everything there is, when no more packets come.

A file grows by chunks of records, and its space is reserved before it is written to: a write to a mapping for which
there is no room would kill the process.
"""

import mmap
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final
from zlib import crc32

from natlb.core.engine import NatEngine
from natlb.core.flow import Connection
from natlb.core.states import State
from natlb.handover.layout import (
    CHUNK,
    CHUNK_SIZE,
    COMPLETE,
    EMPTY,
    ENDED,
    MOST_CHUNKS,
    NO_NAME,
    PAGE,
    RECORD,
    Header,
    pack_header,
    pack_name,
    pack_record,
)

PIECE: Final = 128
"""Rows that `refresh` looks at before others have their turn: less than half a millisecond's work."""

PAUSE: Final = 0.02
"""Seconds between two pieces that can wait."""

_UNANSWERED: Final = frozenset((State.INIT, State.ONE_WAY))
_ESTABLISHED: Final = State.ESTABLISHED
_MOST_OWNERS: Final = 65_536
"""Pairs of frontend and server whose names are remembered."""


class Recorder:
    """The file of one engine. It raises nothing: what cannot be recorded is counted, and told of once."""

    def __init__(self, engine: NatEngine, descriptor: int, header: Header, tell: Callable[[str], None]) -> None:
        """Follow an engine from now on, in an empty file that is open for writing and the recorder's from here on.

        `tell` is told once, in one line, when connections cannot be recorded. OSError if there is no room at all.
        """
        self.engine = engine
        self._table = engine.table
        self._ledger = engine.ledger
        self._tell = tell
        self._descriptor = descriptor
        self._header = header
        self._names: dict[str, int] = {}
        self._names_end = 0
        self._owners: dict[tuple[object, object], tuple[int, int, int]] = {}
        os.posix_fallocate(descriptor, 0, header.records_at)
        # All of it in one piece: each mapping would have a descriptor of its own.
        self._map = mmap.mmap(descriptor, header.records_at)
        self._recorded: list[Connection | None] = []
        """Whose record stands in a row."""
        self._progress = array("Q")
        """How many packets it had carried when that was written, times 8, and why it stood aside."""
        self._later: set[int] = set()
        self._is_full = False
        self.unrecorded = 0
        """How often a connection could not be recorded."""
        self._map[:PAGE] = pack_header(header)
        self._table.changed = set()
        for piece in engine.pieces(CHUNK):
            for connection in piece:
                self._write(connection)

    # While it runs

    def settle(self) -> None:
        """Record the connections that both ends have spoken for by now, and take away what has left the table."""
        changed = self._table.changed
        if not changed:
            return
        recorded, at, later = self._recorded, self._table.at, self._later
        for row in changed:
            connection = at(row)
            before = recorded[row] if row < len(recorded) else None
            if connection is None:
                if before is not None:
                    self._clear(row)
            elif connection.state is _ESTABLISHED or (before is not connection and connection.state not in _UNANSWERED):
                self._write(connection)
            elif before is connection:
                later.add(row)
            elif before is not None:
                self._clear(row)
        changed.clear()

    def refresh(self) -> Iterator[float]:
        """Bring all records up to date, in pieces; the table may change between them.

        What has moved on comes first, then who has carried packets. After each piece it is said for how many seconds
        others are to have their turn: the first may not lag behind what happens, and the second is to take a fiftieth
        of the time, however many connections are busy.
        """
        self._is_full = False
        for _ in range(0, len(self._later), PIECE):
            for _ in range(min(PIECE, len(self._later))):
                self._renew(self._later.pop())
            yield 0.0
        for start in range(0, len(self._recorded), PIECE):
            if self._refresh(start):
                yield PAUSE

    def complete(self, now: float) -> None:
        """Write all that there is of connections: the engine must not decide about packets any more."""
        self.settle()
        self._is_full = False
        for _ in self.engine.offloading.catch_up_all(lambda: now):
            pass
        self.settle()  # who was found to be over
        for row in self._later:
            self._renew(row)
        self._later.clear()
        for piece in self.engine.pieces(CHUNK):
            for connection in piece:
                row = connection.index
                if self._recorded[row : row + 1] != [connection]:
                    self._write(connection)
        for start in range(0, len(self._recorded), PIECE):
            self._refresh(start)

    def seal(self, tables: bytes, now: float) -> None:
        """Write what stick tables hold, and that nothing is newer than what stands here."""
        header = replace(self._header, flags=COMPLETE, completed=now, tables=len(tables), tables_checksum=crc32(tables))
        try:
            os.ftruncate(self._descriptor, header.tables_at)
            os.posix_fallocate(self._descriptor, header.tables_at, max(1, len(tables)))
            os.pwrite(self._descriptor, tables, header.tables_at)
            os.ftruncate(self._descriptor, header.tables_at + len(tables))
        except OSError as error:
            self._tell(f"stick tables cannot be handed over: {error.strerror}")
            header = replace(header, tables=0, tables_checksum=0)
            os.ftruncate(self._descriptor, header.tables_at)
        self._put(header)

    def end(self) -> None:
        """Write that nothing of this counts any more."""
        self._put(replace(self._header, flags=ENDED))

    def close(self) -> None:
        """Follow nothing any more; the file stays as it is."""
        self._table.changed = None
        self._map.close()
        os.close(self._descriptor)

    # Writing

    def _refresh(self, start: int) -> bool:
        """Renew the records of some rows, where packets were carried since; return whether there were any."""
        recorded, known, packets = self._recorded, self._progress, self._ledger.packets
        found = False
        for row in range(start, min(start + PIECE, len(recorded))):
            connection = recorded[row]
            if connection is not None and packets[2 * row] + packets[2 * row + 1] << 3 | connection.aside != known[row]:
                self._renew(row)
                found = True
        return found

    def _renew(self, row: int) -> None:
        """Write a record again, unless its connection has left meanwhile."""
        connection = self._recorded[row]
        if connection is not None and self._table.at(row) is connection:
            self._write(connection)

    def _write(self, connection: Connection) -> None:
        row = connection.index
        if row >= len(self._recorded) and not self._grow(row):
            self._miss()
            return
        service, server = connection.service, connection.server
        owner = self._owners.get((service, server)) or self._owner(connection)
        if owner is None:
            self._miss()
            return
        ledger = self._ledger
        at = self._header.records_at + row * RECORD
        self._map[at : at + RECORD] = pack_record(connection, ledger, *owner)
        self._recorded[row] = connection
        self._progress[row] = ledger.packets[2 * row] + ledger.packets[2 * row + 1] << 3 | connection.aside

    def _clear(self, row: int) -> None:
        at = self._header.records_at + row * RECORD
        self._map[at : at + RECORD] = EMPTY
        self._recorded[row] = None

    def _grow(self, row: int) -> bool:
        """Make room for all rows up to one, by chunks; return whether there is any."""
        while len(self._recorded) <= row:
            chunks, start = self._header.chunks, self._header.tables_at
            if self._is_full or chunks == MOST_CHUNKS:
                return False
            try:
                os.posix_fallocate(self._descriptor, start, CHUNK_SIZE)
                self._map.resize(start + CHUNK_SIZE)
            except (OSError, ValueError):
                self._is_full = True
                return False
            self._recorded.extend([None] * CHUNK)
            self._progress.frombytes(bytes(CHUNK * self._progress.itemsize))
            self._put(replace(self._header, chunks=chunks + 1))
        return True

    def _put(self, header: Header) -> None:
        self._header = header
        self._map[:PAGE] = pack_header(header)

    def _owner(self, connection: Connection) -> tuple[int, int, int] | None:
        """Return where the names of frontend, backend and server stand; None if there is no room for them."""
        service, server = connection.service, connection.server
        pool = self._name(server.pool.name) if server.pool is not None else NO_NAME
        found = self._name(service.name), pool, self._name(server.name)
        if None in found:
            return None
        if len(self._owners) >= _MOST_OWNERS:
            self._owners.clear()
        owner = self._owners[service, server] = (found[0] or 0, found[1] or 0, found[2] or 0)
        return owner

    def _name(self, name: str) -> int | None:
        """Return where a name stands, written down if it was not; None if there is no room for it."""
        found = self._names.get(name)
        if found is not None:
            return found
        packed, at = pack_name(name), self._names_end
        if at + len(packed) > self._header.names:
            return None
        self._map[PAGE + at : PAGE + at + len(packed)] = packed
        self._names_end += len(packed)
        self._names[name] = at
        return at

    def _miss(self) -> None:
        self.unrecorded += 1
        if self.unrecorded == 1:
            self._tell(
                "there is no room to record connections: some would not survive a crash or a reload; make room in the "
                "file system of --state"
            )
