"""The fast path as Python sees it: the engine's connections, copied into maps of the kernel and read back.

`FastPath` is the `FlowCache` of `natlb.core.offloading`. A connection that is entered takes a row of the map
`connections` and two entries of `flows`. Rows are lent here, the one given back last first, and have a generation each,
so that a packet which was under way in the program when its connection was forgotten is not counted for the next one in
the row.

Where packets of a connection may still be on their way to the engine when it is entered, the program passes on those
that follow, until it is told that the last of them has left there (`handled`): in shared memory, without a system call,
since that is told after each of them.

What the program has done comes back in two ways. When a connection ends (both FINs, or a RST), the program says so
within microseconds: `fileno` is readable, and `ended` names the connection. Everything else is read in pieces, by
`reports`: only rows in which packets were counted since are looked at more closely, so that a hundred thousand silent
connections cost some milliseconds a second in all, and no piece of them costs one.

Nothing is pinned into a file system. The filter on an interface holds the program, the program holds its maps: so what
is on the fast path goes on while natlb is dead, in the network namespace that it belongs to, and disappears with that
namespace. The next start finds the maps by the filters (`natlb.offload.program`); `survivors` says what is in them.

A life goes like this; what is marked * asks the kernel about interfaces, and is for threads (`natlb.offload.tc`):

    path = FastPath(engine.ledger, queue, capacity, identify)  * before privileges are dropped
    for survivor in path.survivors():                            each is taken back by `take_back`, or discarded
    path.attach()                                                * from here on packets are carried
    path.enter, path.read, path.forget                           the engine, as connections come and go
    path.change, path.follow_along, path.handled                 the engine, while one changes over
    path.fileno(), path.ended(), path.samples()                  when connections end, and for the audit
    path.links_fileno(), path.follow()                           * when interfaces come and go, or filters
    path.reports()                                               once a second
    path.detach()                                                * live off; `attach` again is live on
    path.close()                                                 * the end
"""

import contextlib
import os
import socket
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from struct import Struct
from typing import Final, NamedTuple, cast

from natlb.core.flow import Connection, Direction, FlowKey
from natlb.core.ledger import Ledger
from natlb.core.offloading import Change, Report
from natlb.core.packet import TCP
from natlb.core.window import Said
from natlb.errors import OffloadError
from natlb.offload.audit import Sample
from natlb.offload.kernelnat import KernelNat
from natlb.offload.layout import (
    BOTH_CHANGING,
    CONNECTION,
    ENDED,
    FLOW,
    HANDLED,
    KEY,
    NOBODY,
    NONE_HANDLED,
    NONE_PASSED,
    NUMBERS,
    OUT_OF_TURN,
    PACKETS_AT,
    SAMPLE,
    SNAP,
    STATES,
    WORDS,
    Row,
    key_of_answers,
    packed_flows,
    packed_key,
    unpacked_key,
)
from natlb.offload.libbpf import LOCK, Pieces, Ring, content_of
from natlb.offload.program import OBJECT, Program
from natlb.offload.tc import Filters

PIECE: Final = 128
"""Connections that are read at once: with what the engine makes of them less than two milliseconds."""

PATIENCE: Final = 0.25
"""Seconds for which datagrams of a flow follow those that went to the engine before them, at most: three times as long
as a packet waits there that comes into a full queue."""
PATIENCE_OF_TCP: Final = 0.02
"""The same of segments. Their receiver puts them in order, and a bulk transfer rarely leaves the gap that is waited
for: it is better off with the one disorder, and soon."""

MOST_PASSED: Final = 4096
"""Packets of a connection that follow in that time, at most: half of what finds room in the queue. What would be lost
there had better overtake."""

_ROW: Final = Struct("=I")
_HANDLED_WORDS: Final = HANDLED.size // 4
_NANO: Final = 1_000_000_000
_RTMGRP_LINK, _RTMGRP_TC = 0x1, 0x8
"""linux/rtnetlink.h: interfaces that come, go and change; the same of qdiscs and filters."""


class Survivor(NamedTuple):
    """A connection that an earlier run of natlb has left on the fast path."""

    row: int
    original: FlowKey
    reply: FlowKey
    identity: bytes
    """The eight bytes by which that run named its service and its server."""
    opened: float
    """When it was opened, in seconds on the monotonic clock."""
    report: Report
    """What it has come to in all, not since some time."""


class Changes(NamedTuple):
    """What has happened to the interfaces, of which packets are carried again now."""

    added: list[str]
    """Names of those that have come."""
    gone: list[int]
    """Indices of those that have gone."""
    restored: list[str]
    """Names of those whose filter somebody has taken away."""


class FastPath:
    """The connections that the kernel carries. It raises OSError only when the kernel breaks its word."""

    def __init__(
        self,
        ledger: Ledger,
        queue: int,
        capacity: int,
        identify: Callable[[Connection], bytes],
        handed_over: Mapping[str, int] | None = None,
    ) -> None:
        """Load the program, for at most `capacity` connections; packets are carried once it is attached.

        `ledger` is the engine's. `identify` names service and server of a connection in eight bytes. What an earlier
        run of the same queue has left is taken over, by its `maps` if they were `handed_over`. OffloadError, with the
        remedy, if the kernel or libbpf cannot.
        """
        self._ledger = ledger
        self._identify = identify
        self._filters = Filters(queue)
        left = self._filters.find()
        self._attached = {found.interface for found in left}
        self._made = {found.interface for found in left if found.made}
        """Interfaces whose qdisc was made for the program."""
        self._program = Program(capacity, dict.fromkeys(found.program for found in left), handed_over or {})
        self.capacity: Final = self._program.connections.capacity
        """The most connections that there is room for: what an earlier run has left may be of another size."""
        self.refused = 0
        """Connections that found no room."""
        self._flows = self._program.flows
        self._rows = self._program.connections
        self._handled = self._program.handled
        self._owners: list[Connection | None] = []
        self._row_of = array("i")
        self._generations = array("I")
        self._told = (array("Q"), array("Q"), array("Q"), array("Q"))
        self._free: list[int] = []
        self._held = 0
        self._pieces = Pieces(self._rows, PIECE, LOCK)
        self._ended: list[Connection] = []
        self._samples: list[Sample] = []
        self.translated = 0
        """Connections that the kernel's own NAT translates as well, and which are not carried therefore."""
        self._survivors: list[Survivor] = []
        self._stock_taken = False
        self._links = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        with contextlib.ExitStack() as opened:
            opened.callback(self._program.close)
            opened.callback(self._links.close)
            self._kernel_nat = KernelNat()
            opened.callback(self._kernel_nat.close)
            try:
                self._links.bind((0, _RTMGRP_LINK | _RTMGRP_TC))
                self._ring = Ring((self._program.events, self._on_event), (self._program.samples, self._on_sample))
            except OSError as error:
                raise OffloadError(f"the kernel refuses the maps: {os.strerror(error.errno or 0)}") from error
            opened.pop_all()

    @staticmethod
    def read_file() -> None:
        """Read the program's file now, for the time when it is asked for by who may not read it any more.

        OffloadError, with the remedy, if it cannot be read.
        """
        content_of(OBJECT)

    @staticmethod
    def has_left(queue: int) -> bool:
        """Whether a run of this queue that was killed has left something."""
        return bool(Filters(queue).find())

    # The engine's side

    def misses(self, connection: Connection) -> bool:
        """Whether the kernel's own NAT translates a connection as well, see `natlb.offload.kernelnat`."""
        translated = self._kernel_nat.translates(connection)
        self.translated += translated
        return translated

    @property
    def maps(self) -> Mapping[str, int]:
        """Descriptors of the maps, by name, for the next run to take them over."""
        return self._program.maps

    @property
    def held(self) -> int:
        """The connections that are here."""
        return self._held

    def __contains__(self, connection: Connection) -> bool:
        """Whether a connection is here."""
        return self._find(connection) is not None

    def enter(self, connection: Connection, *, behind: bool = False) -> bool:
        """Take a connection over, as `FlowCache.enter` says."""
        number = NUMBERS.get(connection.state)
        row = self._find(connection)
        if number is None:
            return False
        if row is not None:
            self._rows.update(_ROW.pack(row), self._content(connection, row, number, behind=behind), LOCK)
            return True
        row = self._lend()
        if row is None:
            self.refused += 1
            return False
        self._own(row, connection)
        self._rows.update(_ROW.pack(row), self._content(connection, row, number, behind=behind), LOCK)
        keys, flows = packed_flows(connection.original, connection.reply, row, self._generations[row])
        if self._flows.update_all(keys, flows) < 2:
            self._flows.delete_all(keys)
            self._disown(row, connection)
            self.refused += 1
            return False
        return True

    def read(self, connection: Connection) -> Report:
        """Return what has become of a connection since the last report, as `FlowCache.read` says."""
        row = self._row_of[connection.index]
        return self._report(row, self._look_up(row))

    def forget(self, connection: Connection) -> Report:
        """Give a connection back, as `FlowCache.forget` says."""
        row = self._row_of[connection.index]
        self._flows.delete_all(packed_key(connection.original) + packed_key(connection.reply))
        # A packet that had found its flow before it was deleted is counted by now: that takes the program less than a
        # microsecond, in which nothing interrupts it, and it takes longer to come here from the line above.
        report = self._report(row, self._look_up(row))
        self._disown(row, connection)
        return report

    def change(self, connection: Connection, direction: Direction, said: Said) -> Change:
        """Return how far a connection is, as `FlowCache.change` says."""
        now = self._look_up(self._row_of[connection.index])
        if now.changing & 1 << direction:
            return Change.UNDER_WAY if now.changing & BOTH_CHANGING == BOTH_CHANGING else Change.ALONE
        known = (
            Said(now.reply_following, now.reply_acked, now.reply_edge)
            if direction
            else Said(now.following, now.acked, now.edge)
        )
        return Change.OVERTAKEN if now.changing & OUT_OF_TURN and not said.is_news(known) else Change.OVER

    def follow_along(self, connection: Connection) -> None:
        """Know the numbers of a connection that packets have come to, as `FlowCache.follow_along` says."""
        handled, ledger = self._handled, self._ledger
        at, row = _HANDLED_WORDS * self._row_of[connection.index] + 2, 2 * connection.index
        for column in (ledger.following, ledger.acked, ledger.edge):
            handled[at], handled[at + 1] = column[row], column[row + 1]
            at += 2

    def handled(self, connection: Connection, direction: int, packet: int) -> None:
        """Know which packet has left the engine, as `FlowCache.handled` says."""
        self._handled[_HANDLED_WORDS * self._row_of[connection.index] + direction] = packet

    def reports(self) -> Iterator[list[tuple[Connection, Report]]]:
        """Report on all connections that packets were carried of, as `FlowCache.reports` says.

        A piece takes less than a millisecond.
        """
        start = 0
        while start < len(self._owners):
            yield self._piece(start)
            start += PIECE

    # What an earlier run has left

    def survivors(self) -> list[Survivor]:
        """Return, once, what an earlier run has left; packets of these go on meanwhile.

        Each must be taken back or discarded before the engine sees a packet. From here on that run must be at an end.
        OffloadError if the kernel refuses.
        """
        if self._program.inherited and not self._stock_taken:
            try:
                self._take_stock()
            except OSError as error:
                raise OffloadError(f"the kernel refuses the maps: {os.strerror(error.errno or 0)}") from error
        self._stock_taken = True
        survivors, self._survivors = self._survivors, []
        return survivors

    def take_back(self, survivor: Survivor, connection: Connection) -> None:
        """Know a survivor as this connection, which has its tuples, and is in the table with what it has come to."""
        self._own(survivor.row, connection)
        for told, total in zip(self._told, (*survivor.report.packets, *survivor.report.octets), strict=True):
            told[survivor.row] = total

    def discard(self, survivor: Survivor) -> None:
        """Give a survivor up: there is no service or server for it any more."""
        self._flows.delete_all(packed_key(survivor.original) + packed_key(survivor.reply))
        self._free.append(survivor.row)

    # The loop's side

    def fileno(self) -> int:
        """Return what is readable while `ended` or `samples` have something to tell."""
        return self._ring.fileno()

    def ended(self) -> list[Connection]:
        """Return the connections that have ended since the last time, and are still here, as `FlowCache.ended` says."""
        self._ring.consume()
        ended, self._ended = self._ended, []
        return [connection for connection in ended if connection in self]

    def samples(self) -> list[Sample]:
        """Return the samples that were taken since the last time."""
        self._ring.consume()
        samples, self._samples = self._samples, []
        return samples

    def sample(self, share: float) -> None:
        """Take samples of a share of the packets, from 0 (none) to 1 (as many as there is room for)."""
        self._program.sample(share)

    # The interfaces

    @property
    def interfaces(self) -> int:
        """On how many interfaces packets are carried."""
        return len(self._attached)

    @property
    def carries(self) -> bool:
        """Whether packets of these connections are carried already, by the program of an earlier run."""
        return self._program.inherited and bool(self._attached)

    def attach(self) -> list[str]:
        """Carry packets on all interfaces; return why some of them have no fast path, one line for each.

        OffloadError, with the reason, if it is all of them.
        """
        refused = []
        self._program.limit(self._filters.narrowest_routes())
        for interface in self._filters.interfaces():
            try:
                self._attach(interface)
            except OffloadError as error:
                refused.append(str(error))
        if refused and not self._attached:
            raise OffloadError(refused[0])
        return refused

    def detach(self) -> None:
        """Carry nothing any more, without losing a packet. Connections stay here until they are forgotten."""
        for interface in self._attached:
            self._filters.detach(interface)
        self._attached.clear()

    def links_fileno(self) -> int:
        """Return what is readable when interfaces, or filters on them, have come, gone or changed."""
        return self._links.fileno()

    def follow(self) -> Changes:
        """Make up for what has happened to the interfaces, and to the filters on them; return what it was.

        An interface that the kernel refuses is one without a fast path, and is tried again the next time.
        """
        _empty(self._links)
        self._program.limit(self._filters.narrowest_routes())
        there = self._filters.interfaces()
        filtered = {found.interface for found in self._filters.find()}
        changes = Changes([], [interface for interface in self._attached if interface not in there], [])
        for interface in changes.gone:
            self._attached.remove(interface)
            self._filters.detach(interface)
            self._tidy(interface)
        for interface, name in there.items():
            if interface in filtered and interface in self._attached:
                continue
            was_there = interface in self._attached
            self._attached.discard(interface)
            with contextlib.suppress(OffloadError):
                self._attach(interface)
                (changes.restored if was_there else changes.added).append(name)
        return changes

    def close(self, *, keep: bool = False) -> None:
        """Take everything away; or keep it, for a successor to find."""
        if not keep:
            self.detach()
            for interface in list(self._made):
                self._tidy(interface)
        self._ring.close()
        self._links.close()
        self._kernel_nat.close()
        self._program.close()

    def _attach(self, interface: int) -> None:
        if self._filters.attach(interface, self._program.descriptor, made=interface in self._made):
            self._made.add(interface)
        self._attached.add(interface)

    def _tidy(self, interface: int) -> None:
        if interface in self._made:
            self._made.remove(interface)
            self._filters.tidy(interface)

    # Rows

    def _find(self, connection: Connection) -> int | None:
        index = connection.index
        if not 0 <= index < len(self._row_of):
            return None
        row = self._row_of[index]
        return row if row >= 0 and self._owners[row] is connection else None

    def _lend(self) -> int | None:
        if not self._free:
            self._grow(len(self._owners) + PIECE)
        return self._free.pop() if self._free else None

    def _grow(self, rows: int) -> None:
        first, rows = len(self._owners), min(rows, self.capacity)
        if rows <= first:
            return
        self._owners.extend([None] * (rows - first))
        self._generations.extend([0] * (rows - first))
        for told in self._told:
            told.extend([0] * (rows - first))
        self._free.extend(range(rows - 1, first - 1, -1))

    def _own(self, row: int, connection: Connection) -> None:
        if connection.index >= len(self._row_of):
            self._row_of.extend([-1] * (max(self._ledger.size, connection.index + 1) - len(self._row_of)))
        self._row_of[connection.index] = row
        self._owners[row] = connection
        self._held += 1

    def _disown(self, row: int, connection: Connection) -> None:
        self._row_of[connection.index] = -1
        self._owners[row] = None
        self._generations[row] = self._generations[row] + 1 & 0xFFFFFFFF
        self._free.append(row)
        self._held -= 1

    def _content(self, connection: Connection, row: int, state: int, *, behind: bool) -> bytes:
        """Return what stands in the ledger about a connection, for the map; it is what was told of it, too."""
        if behind:
            self.handled(connection, 0, NONE_HANDLED)
            self.handled(connection, 1, NONE_HANDLED)
            self.follow_along(connection)
        ledger, at = self._ledger, 2 * connection.index
        answered = ledger.answered[connection.index]
        patience = PATIENCE_OF_TCP if connection.original[-1] == TCP else PATIENCE
        told_packets, told_reply_packets, told_octets, told_reply_octets = self._told
        told_packets[row], told_reply_packets[row] = packets, reply_packets = ledger.packets[at : at + 2]
        told_octets[row], told_reply_octets[row] = octets, reply_octets = ledger.octets[at : at + 2]
        return CONNECTION.pack(
            self._generations[row],
            int(connection.queue.seen(connection) * _NANO),
            packets,
            octets,
            ledger.following[at],
            ledger.acked[at],
            ledger.edge[at],
            ledger.shift[at],
            ledger.offered[at],
            0,
            reply_packets,
            reply_octets,
            ledger.following[at + 1],
            ledger.acked[at + 1],
            ledger.edge[at + 1],
            ledger.shift[at + 1],
            ledger.offered[at + 1],
            0,
            int(ledger.opened[connection.index] * _NANO),
            int(answered * _NANO) if answered >= 0 else 0,
            self._identify(connection),
            int((time.monotonic() + patience) * _NANO) if behind else 0,
            NONE_PASSED,
            NONE_PASSED,
            state,
            NOBODY,
            0,
            BOTH_CHANGING if behind else 0,
            MOST_PASSED,
        )

    def _look_up(self, row: int) -> Row:
        # An array has all its entries.
        return self._read(row, cast("bytes", self._rows.lookup(_ROW.pack(row), LOCK)))

    def _read(self, row: int, content: "bytes | memoryview", at: int = 0) -> Row:
        """Return what stands in a row, of which this is the content."""
        now = Row._make(CONNECTION.unpack_from(content, at))
        # Of a direction that has not changed over, the engine's numbers are the ones that count.
        at = _HANDLED_WORDS * row
        if now.changing & 1 << Direction.ORIGINAL:
            following, _, acked, _, edge, _ = self._handled[at + 2 : at + _HANDLED_WORDS]
            now = now._replace(following=following, acked=acked, edge=edge)
        if now.changing & 1 << Direction.REPLY:
            _, following, _, acked, _, edge = self._handled[at + 2 : at + _HANDLED_WORDS]
            now = now._replace(reply_following=following, reply_acked=acked, reply_edge=edge)
        return now

    def _report(self, row: int, now: Row) -> Report:
        """Return what has become of a connection since it was told last, and note that it was told."""
        packets, reply_packets, octets, reply_octets = self._told
        report = _report_of(now, packets[row], reply_packets[row], octets[row], reply_octets[row])
        packets[row], reply_packets[row] = now.packets, now.reply_packets
        octets[row], reply_octets[row] = now.octets, now.reply_octets
        return report

    def _piece(self, start: int) -> list[tuple[Connection, Report]]:
        pieces, count = self._pieces, self._read_piece(start)
        # Most rows are as they were: that is seen by comparing whole columns, which costs next to nothing.
        words = pieces.values[: count * CONNECTION.size].cast("Q")
        columns = [words[at::WORDS].tolist() for at in PACKETS_AT]
        told = [self._told[side][start : start + count].tolist() for side in Direction]
        if columns == told:
            return []
        piece = []
        for at, (ours, theirs, told_ours, told_theirs) in enumerate(zip(*columns, *told, strict=True)):
            connection = self._owners[start + at]
            if connection is not None and (ours != told_ours or theirs != told_theirs):
                now = self._read(start + at, pieces.values, at * CONNECTION.size)
                piece.append((connection, self._report(start + at, now)))
        return piece

    def _read_piece(self, start: int) -> int:
        """Read the rows from one on, as many as a piece has; return how many there are."""
        self._pieces.start(_ROW.pack(start - 1) if start else None)
        return self._pieces.read(min(PIECE, len(self._owners) - start))

    def _take_stock(self) -> None:
        """Find out what an earlier run has left: both flows of a connection, or else half of one is removed."""
        pieces = Pieces(self._flows, 1024)
        flows: dict[bytes, bytes] = {}
        while count := pieces.read():
            keys, values = bytes(pieces.keys[: count * KEY.size]), bytes(pieces.values[: count * FLOW.size])
            flows |= zip(_cut(keys, KEY.size), _cut(values, FLOW.size), strict=True)
        found: dict[int, tuple[bytes, bytes]] = {}
        for key, flow in flows.items():
            other = key_of_answers(key, flow)
            *_, row, generation, direction = FLOW.unpack(flow)
            answer = flows.get(other)
            if answer is None or FLOW.unpack(answer)[-3:] != (row, generation, direction ^ 1):
                self._flows.delete_all(key)
            elif direction == Direction.ORIGINAL:
                self._grow(row + 1)
                self._generations[row] = generation
                found[row] = key, other
        for start in range(0, max(found, default=-1) + 1, PIECE):
            for at in range(self._read_piece(start)):
                if (keys_of := found.get(start + at)) is not None:
                    now = self._read(start + at, self._pieces.values, at * CONNECTION.size)
                    original, reply = map(unpacked_key, keys_of)
                    opened, report = now.opened / _NANO, _report_of(now)
                    self._survivors.append(Survivor(start + at, original, reply, now.identity, opened, report))
        self._free = [row for row in self._free if row not in found]

    # What the program says

    def _on_event(self, record: bytes) -> None:
        row, generation = ENDED.unpack(record)
        connection = self._owner(row, generation)
        if connection is not None:
            self._ended.append(connection)

    def _on_sample(self, record: bytes) -> None:
        row, generation, size, copied, direction = SAMPLE.unpack_from(record)
        connection = self._owner(row, generation)
        if connection is not None:
            before = record[SAMPLE.size : SAMPLE.size + copied]
            after = record[SAMPLE.size + SNAP : SAMPLE.size + SNAP + copied]
            self._samples.append(Sample(connection, Direction(direction), size, before, after))

    def _owner(self, row: int, generation: int) -> Connection | None:
        """Return whose row it was, unless it has been given to another since."""
        return self._owners[row] if row < len(self._owners) and self._generations[row] == generation else None


def _report_of(now: Row, packets: int = 0, reply_packets: int = 0, octets: int = 0, reply_octets: int = 0) -> Report:
    return Report(
        (now.packets - packets, now.reply_packets - reply_packets),
        (now.octets - octets, now.reply_octets - reply_octets),
        now.seen / _NANO,
        STATES[now.state],
        None if now.by == NOBODY else Direction(now.by),
        (now.following, now.reply_following),
        (now.acked, now.reply_acked),
        (now.edge, now.reply_edge),
        (now.shift, now.reply_shift),
        (now.offered, now.reply_offered),
        now.answered / _NANO if now.answered else -1.0,
        STATES[now.before],
    )


def _cut(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


def _empty(source: socket.socket) -> None:
    """Read away what is there: what it was does not matter, nor whether there was more than the socket could take."""
    while True:
        try:
            source.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            continue
