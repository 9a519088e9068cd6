"""What a state file looks like: a header, names, and a record of each connection. See docs/handover.md.

    header     a page: who has written the file and where, how large its parts are, whether it is complete; its checksum
    names      of frontends, backends and servers, each once, with a checksum; records say where in here theirs stand
    records    chunks of 1024, as many as the table has had rows: the record of a connection stands at its row
    tables     of a complete file: what the stick tables hold, see `natlb.handover.tables`

Numbers are little-endian. A record is all zero or has a checksum of its own, so one that a kill has torn is known, and
is refused alone. In the same way the header speaks for the whole. `read` makes of the bytes what they say, and believes
nothing: whatever it is handed, it either refuses with a reason or returns what an engine can go on with.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from math import isfinite
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

from natlb.core.flow import OFFLOADED, Connection
from natlb.core.ledger import Ledger
from natlb.core.packet import TCP, UDP
from natlb.core.record import UNKNOWN, Record
from natlb.core.states import State

MAGIC: Final = b"natlb\xffst"
FORMAT: Final = 1
"""Goes up with each change of what stands here: what one natlb has written no other version is to misread."""

PAGE: Final = 4096
CHUNK: Final = 1024
"""Records that the file grows by."""
MOST_CHUNKS: Final = 2048
"""Two million records, more than a table has rows: a file that speaks of more is damaged."""
MOST_NAMES: Final = 1 << 26
"""Bytes of names, likewise."""

_HEADER: Final = Struct("<8s I I I I I I 16s Q Q d Q I 32s")
"""Magic, format, bytes of a record, of names, chunks, queue, flags, boot, namespace and its cookie, when it was
completed, bytes of tables and their checksum, natlb's version."""
_CHECKSUM: Final = Struct("<I")

COMPLETE: Final = 1
"""A flag: written when the engine had stopped, so that nothing is newer than what stands here."""
ENDED: Final = 2
"""A flag: natlb has stopped for good, and nothing of this counts."""

_NAME: Final = Struct("<I H")
"""The checksum of what follows, and how many bytes of name that is."""
NO_NAME: Final = 0xFFFFFFFF

_BODY: Final = Struct("<10B 37s 37s 3I 5d 4Q 6I 4x")
RECORD: Final = _CHECKSUM.size + _BODY.size
EMPTY: Final = bytes(RECORD)
CHUNK_SIZE: Final = CHUNK * RECORD
"""A whole number of pages, as a mapping is."""
_EMPTY_CHUNK: Final = bytes(CHUNK_SIZE)

STATES: Final = (
    State.INIT,
    State.SYN_RECEIVED,
    State.ESTABLISHED,
    State.CLIENT_FIN,
    State.SERVER_FIN,
    State.BOTH_FIN,
    State.TRANS,
    State.ABORTED,
    State.SHUT,
    State.ONE_WAY,
    State.BOTH_WAYS,
)
"""By their numbers in a record."""
_NUMBERS: Final = {state: number for number, state in enumerate(STATES)}
_OF_UDP: Final = frozenset((State.ONE_WAY, State.BOTH_WAYS, State.BOTH_FIN, State.SHUT))
_OF_TCP: Final = frozenset(State) - {State.ONE_WAY, State.BOTH_WAYS}

_LARGEST_SHIFT: Final = 14
_LATEST: Final = 1e12
"""Seconds that no clock has reached which began with the machine."""


class Place(NamedTuple):
    """Where connections exist: one boot of one machine, one network namespace, one queue."""

    boot: bytes
    """The kernel's boot id, 16 bytes."""
    namespace: int
    """The inode of the network namespace: its name while it is there."""
    cookie: int
    """The number that the kernel gives to no other namespace; 0 where it has none to give."""
    queue: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    place: Place
    names: int
    """Bytes of names, a whole number of pages."""
    chunks: int = 0
    flags: int = 0
    completed: float = 0.0
    """When it was completed, on the monotonic clock."""
    tables: int = 0
    """Bytes of tables."""
    tables_checksum: int = 0
    version: str = ""
    """Of the natlb that has written it, for people."""

    @property
    def records_at(self) -> int:
        """Where the records begin."""
        return PAGE + self.names

    @property
    def tables_at(self) -> int:
        """Where the tables begin, and the records end."""
        return self.records_at + self.chunks * CHUNK_SIZE


@dataclass(slots=True)
class Contents:
    """What was read of a file that counts."""

    header: Header
    data: bytes = b""
    """All of the file."""
    names: dict[int, str] = field(default_factory=dict)
    """By where they stand."""
    records: list[tuple[int, Record]] = field(default_factory=list)
    """Each with its row."""
    changed: set[int] = field(default_factory=set)
    """Rows that are not as they were earlier, if it was read earlier, or were of no use then."""
    useless: set[int] = field(default_factory=set)
    """Rows of which nothing has come: their records are damaged, to begin with."""
    refused: int = 0
    """Records that are damaged, and what is damaged besides."""
    tables: bytes = b""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is newer than what stands here."""
        return self.header.flags & COMPLETE != 0


class Refused(Exception):  # noqa: N818 - it is what `read` says, and never reaches a user as it is
    """A file that is not to be believed, with the reason."""


class Stranger(Refused):
    """A file in order of which nothing can exist here: from another boot, or from a namespace that is gone."""


def pack_header(header: Header) -> bytes:
    """Return the page that a file begins with."""
    place = header.place
    packed = _HEADER.pack(
        MAGIC,
        FORMAT,
        RECORD,
        header.names,
        header.chunks,
        place.queue,
        header.flags,
        place.boot,
        place.namespace,
        place.cookie,
        header.completed,
        header.tables,
        header.tables_checksum,
        header.version.encode()[:32],
    ).ljust(PAGE - _CHECKSUM.size, b"\0")
    return packed + _CHECKSUM.pack(crc32(packed))


def unpack_header(page: bytes) -> Header:
    """Return what a file says of itself. Raises Refused, with the reason, if that is not to be believed."""
    if len(page) < PAGE:
        raise Refused("it is cut off")
    magic, form, record, names, chunks, queue, flags, boot, namespace, cookie, completed, tables, checksum, version = (
        _HEADER.unpack_from(page)
    )
    if magic != MAGIC:
        raise Refused("it is no state file of natlb's")
    if _CHECKSUM.unpack_from(page, PAGE - _CHECKSUM.size)[0] != crc32(page[: PAGE - _CHECKSUM.size]):
        raise Refused("the checksum of its header is wrong")
    if (form, record) != (FORMAT, RECORD):
        raise Refused(f"it is of format {form}, written by another version of natlb, and this one reads {FORMAT}")
    if names % PAGE or names > MOST_NAMES or chunks > MOST_CHUNKS or not isfinite(completed):
        raise Refused("its header makes no sense")
    return Header(
        Place(boot, namespace, cookie, queue),
        names,
        chunks,
        flags,
        completed,
        tables,
        checksum,
        version.rstrip(b"\0").decode("utf-8", "replace"),
    )


def pack_name(name: str) -> bytes:
    """Return a name as it stands among the names."""
    encoded = name.encode()[:0xFFFF]
    return _NAME.pack(crc32(encoded), len(encoded)) + encoded


def read_names(area: bytes) -> tuple[dict[int, str], bool]:
    """Return the names by where they stand, and whether there is nothing else: a kill may have torn the last one."""
    names: dict[int, str] = {}
    at = 0
    while at + _NAME.size <= len(area):
        checksum, size = _NAME.unpack_from(area, at)
        if not size:
            break
        encoded = area[at + _NAME.size : at + _NAME.size + size]
        if len(encoded) < size or crc32(encoded) != checksum:
            return names, False
        try:
            names[at] = encoded.decode()
        except UnicodeDecodeError:
            return names, False
        at += _NAME.size + size
    return names, not any(area[at:])


def pack_record(connection: Connection, ledger: Ledger, service: int, pool: int, server: int) -> bytes:
    """Return what there is to know of a connection; `service`, `pool` and `server` are where their names stand."""
    index, queue = connection.index, connection.queue
    row, peer = 2 * index, 2 * index + 1
    original = connection.original
    offered, shift, packets, octets = ledger.offered, ledger.shift, ledger.packets, ledger.octets
    following, acked, edge = ledger.following, ledger.acked, ledger.edge
    body = _BODY.pack(
        1,
        _NUMBERS[connection.state],
        connection.has_own_port,
        connection.aside,
        ledger.retries[index],
        offered[row],
        offered[peer],
        shift[row],
        shift[peer],
        len(original),
        original,
        connection.reply,
        service,
        pool,
        server,
        queue.timeout,
        ledger.refresh_at[index] - queue.granularity,
        ledger.opened[index],
        ledger.answered[index],
        ledger.asked[index],
        packets[row],
        packets[peer],
        octets[row],
        octets[peer],
        following[row],
        following[peer],
        acked[row],
        acked[peer],
        edge[row],
        edge[peer],
    )
    return _CHECKSUM.pack(crc32(body)) + body


def unpack_record(packed: bytes, name: Callable[[int], str | None]) -> Record | None:
    """Return a record, or None if it is not to be believed; `name` returns the name that stands at a place."""
    body = packed[_CHECKSUM.size :]
    if len(body) != _BODY.size or _CHECKSUM.unpack_from(packed)[0] != crc32(body):
        return None
    fields = _BODY.unpack(body)
    used, number, lent, aside, retries, *scales, size, original, reply, service, pool, server = fields[:15]
    timeout, seen, opened, answered, asked, *counts = fields[15:]
    original, reply = original[:size], reply[:size]
    if used != 1 or number >= len(STATES) or lent > 1 or aside & ~(UNKNOWN | OFFLOADED) or size not in (13, 37):
        return None
    state, protocol = STATES[number], original[-1]
    if reply[-1] != protocol or state not in {TCP: _OF_TCP, UDP: _OF_UDP}.get(protocol, ()):
        return None
    if max(scales[:2]) > _LARGEST_SHIFT + 1 or max(scales[2:]) > _LARGEST_SHIFT:
        return None
    times = (seen, opened, answered, asked)
    if not (
        min(times) >= -1.0 and max(times) <= _LATEST and isfinite(sum(times)) and isfinite(timeout) and timeout > 0
    ):
        return None
    frontend, to = name(service), name(server)
    backend = None if pool == NO_NAME else name(pool)
    if frontend is None or to is None or (backend is None and pool != NO_NAME):
        return None
    return Record(
        original,
        reply,
        state,
        frontend,
        backend,
        to,
        bool(lent),
        aside,
        timeout,
        seen,
        opened,
        answered,
        asked,
        retries,
        (counts[0], counts[1]),
        (counts[2], counts[3]),
        (counts[4], counts[5]),
        (counts[6], counts[7]),
        (counts[8], counts[9]),
        (scales[0], scales[1]),
        (scales[2], scales[3]),
    )


def read(data: bytes, here: Place, earlier: Contents | None = None) -> Contents:
    """Return what a file holds of connections that exist here; of records, those that are not as they were `earlier`.

    Raises Refused, with the reason, when it is damaged or not this version's; Stranger when nothing of it is from here.
    """
    header = unpack_header(data[:PAGE])
    if header.place != here:
        raise Stranger(_difference(header.place, here))
    end = header.tables_at + header.tables
    if len(data) < end or (header.flags & COMPLETE and len(data) > end):
        raise Refused(f"it should have {end} bytes, and has {len(data)}")
    contents = Contents(header, data)
    if header.flags & ENDED:
        return contents
    contents.tables = data[header.tables_at : end]
    if crc32(contents.tables) != header.tables_checksum:
        raise Refused("the checksum of its stick tables is wrong")
    contents.names, all_good = read_names(data[PAGE : header.records_at])
    contents.refused += not all_good
    for row, packed in _rows(contents, earlier):
        contents.changed.add(row)
        if packed == EMPTY:
            continue
        record = unpack_record(packed, contents.names.get)
        if record is None:
            contents.refused += 1
            contents.useless.add(row)
        else:
            contents.records.append((row, record))
    if earlier is not None:
        contents.changed.update(range(header.chunks * CHUNK, earlier.header.chunks * CHUNK))
    return contents


def is_of_one_file(contents: Contents, earlier: Contents) -> bool:
    """Whether a record that is the same in both says the same, and did count: the names stand where they stood."""
    if earlier.header.flags & ENDED:
        return False
    return contents.header.names == earlier.header.names and earlier.names.items() <= contents.names.items()


def _rows(contents: Contents, earlier: Contents | None) -> Iterator[tuple[int, bytes]]:
    """Go over the records of a file, by row, that are not as they were earlier; if it was not read, not empty."""
    header, data = contents.header, contents.data
    for chunk in range(header.chunks):
        start = header.records_at + chunk * CHUNK_SIZE
        records, before = data[start : start + CHUNK_SIZE], _EMPTY_CHUNK
        useless: Collection[int] = ()
        if earlier is not None and chunk < earlier.header.chunks:
            before = earlier.data[start : start + CHUNK_SIZE]
            useless = earlier.useless
        if records == before and not useless:
            continue
        for at in range(0, CHUNK_SIZE, RECORD):
            packed, row = records[at : at + RECORD], chunk * CHUNK + at // RECORD
            if packed != before[at : at + RECORD] or row in useless:
                yield row, packed


def _difference(there: Place, here: Place) -> str:
    if there.boot != here.boot:
        return "it is from before the machine was started"
    if there.queue != here.queue:
        return f"it is of queue {there.queue}"
    return "it is of a network namespace that is gone"
