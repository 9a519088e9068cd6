"""The NAT table: FlowKey -> Connection, under both tuples, with bounds and with deadlines.

One dictionary (in parts: see `shards`) holds both tuples of every connection, so that a packet of either direction
costs one look-up. The reply
tuple is entered first, because it is the one that can clash: two clients' connections always differ in `original`,
but one client port that speaks to two virtual addresses may meet itself at one server.

Every connection stands in one `IdleQueue`, chosen by its phase and its timeout. The phase orders who gives way when
the table is full: finished connections first, half-open ones next, established ones never. Half-open ones have a bound
of their own besides, and queues of their own for each service: they cost their sender a single packet with any source
address that he likes, so it is among themselves that they have to make room.
"""

from collections.abc import Iterator
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Final

from natlb.core.flow import Connection, FlowKey
from natlb.core.idle import IdleQueue
from natlb.core.ledger import Ledger
from natlb.core.packet import UDP
from natlb.core.shards import Shards
from natlb.core.states import PHASES, Phase, State

if TYPE_CHECKING:
    from natlb.core.service import Service

_HALF_OPEN: Final = Phase.HALF_OPEN


class Table:
    """All connections, found by either tuple, bounded by `capacity`, half-open ones by `half_open_capacity`."""

    def __init__(self, capacity: int, half_open_capacity: int) -> None:
        self.capacity: Final = capacity
        self.half_open_capacity: Final = half_open_capacity
        self.half_open = 0
        """Half-open connections now."""
        self.ledger: Final = Ledger()
        self._rows: list[Connection | None] = []
        self.connections: Final[Shards[FlowKey, Connection]] = Shards()
        """By either tuple. For reading."""
        self._queues: dict[tuple[Phase, float, Service | None], IdleQueue] = {}
        self.changed: set[int] | None = None
        """Rows of connections that have moved or gone, for who follows that and empties it; None while nobody does."""
        self.find = self.connections.get
        """`find(key)` returns the connection of a tuple, or None."""

    def __len__(self) -> int:
        """The number of connections."""
        return len(self.connections) // 2

    def __iter__(self) -> Iterator[Connection]:
        """All connections, by phase, each the longest silent first."""
        for key in sorted(self._queues, key=lambda key: key[:2]):
            yield from self._queues[key]

    def at(self, index: int) -> Connection | None:
        """Return the connection whose row in the ledger is `index`, or None if there is none."""
        return self._rows[index] if 0 <= index < len(self._rows) else None

    def pieces(self, most: int) -> Iterator[list[Connection]]:
        """Go over all connections that are here from now to the end, by row, at most `most` in a piece.

        Between two pieces the table may change in any way.
        """
        for start in range(0, len(self._rows), most):
            yield [connection for connection in self._rows[start : start + most] if connection is not None]

    def recent(self, most: int) -> list[Connection]:
        """Return at most `most` connections, those that were heard last: open ones first, finished ones in the end.

        A busy connection is heard all the time, so it is among them. This looks at no more of them than it returns.
        """
        found: list[Connection] = []
        for phase in reversed(Phase):
            queues = [reversed(queue) for (at, _, _), queue in self._queues.items() if at is phase]
            youngest_first = merge(*queues, key=lambda connection: -connection.queue.seen(connection))
            found.extend(islice(youngest_first, most - len(found)))
        return found

    @property
    def full(self) -> bool:
        """Whether there is no room for another connection."""
        return len(self) >= self.capacity

    def insert(self, connection: Connection, timeout: float, now: float) -> bool:
        """Enter a connection under both tuples; return False, changing nothing, if one of them is taken.

        MemoryError changes nothing either: half a connection would never end.
        """
        connections = self.connections
        connection.index = index = self.ledger.lend(now)
        try:
            if index >= len(self._rows):
                self._rows.extend([None] * (self.ledger.size - len(self._rows)))
            entered = connections.add(connection.reply, connection)
            if entered and not connections.add(connection.original, connection):
                connections.pop(connection.reply)
                entered = False
            if entered:
                self._enqueue(connection, timeout, now)
                self._rows[index] = connection
        except MemoryError:
            for key in (connection.reply, connection.original):
                if connections.get(key) is connection:
                    connections.pop(key)
            self.ledger.give_back(index)
            raise
        if not entered:
            self.ledger.give_back(index)
        return entered

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is in the table."""
        self.connections.pop(connection.original)
        self.connections.pop(connection.reply)
        self._dequeue(connection)
        self._rows[connection.index] = None
        self.ledger.give_back(connection.index)
        if self.changed is not None:
            self.changed.add(connection.index)

    def refresh(self, connection: Connection, now: float) -> None:
        """Note that a packet of the connection was seen: it moves to the young end of its queue."""
        queue = connection.queue
        queue.remove(connection)
        queue.add(connection, now)

    def move(self, connection: Connection, state: State, timeout: float, now: float) -> None:
        """Give a connection another state, and that state's timeout from now on."""
        self._dequeue(connection)
        connection.state = state
        self._enqueue(connection, timeout, now)
        if self.changed is not None:
            self.changed.add(connection.index)

    def expired(self, now: float, most: int) -> Iterator[Connection]:
        """Hand out at most `most` connections whose deadline has passed; the caller ends each before the next."""
        for queue in list(self._queues.values()):
            while most and (connection := queue.overdue(now)) is not None:
                most -= 1
                yield connection

    def next_deadline(self) -> float | None:
        """Return when the next connection expires, or None if the table is empty."""
        return min((d for queue in self._queues.values() if (d := queue.deadline()) is not None), default=None)

    def weakest(self) -> Connection | None:
        """Return the connection that should give way when the table is full, or None if all are established."""
        return self._oldest(Phase.FINISHED) or self._oldest(Phase.HALF_OPEN)

    def oldest_half_open(self, service: "Service | None" = None, later: float = 0.0) -> Connection | None:
        """Return the half-open connection (of one service, or of all) that has been silent longest.

        A flow of UDP counts as if it had been heard so much `later`.
        """
        return self._oldest(Phase.HALF_OPEN, service, later)

    def half_open_of(self, service: "Service") -> Iterator[Connection]:
        """Go over the half-open connections of a service, the longest silent of each timeout first."""
        for (phase, _, owner), queue in self._queues.items():
            if phase is Phase.HALF_OPEN and owner is service:
                yield from queue

    def _oldest(self, phase: Phase, service: "Service | None" = None, later: float = 0.0) -> Connection | None:
        candidates = [
            (queue.seen(oldest) + later * (oldest.original[-1] == UDP), number, oldest)
            for number, ((at, _, owner), queue) in enumerate(self._queues.items())
            if at is phase and (service is None or owner is service) and (oldest := queue.oldest()) is not None
        ]
        return min(candidates)[2] if candidates else None

    def _enqueue(self, connection: Connection, timeout: float, now: float) -> None:
        phase = PHASES[connection.state]
        owner = connection.service if phase is _HALF_OPEN else None
        key = phase, timeout, owner
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = IdleQueue(timeout, self.ledger.refresh_at)
        self.half_open += phase is _HALF_OPEN
        queue.add(connection, now)

    def _dequeue(self, connection: Connection) -> None:
        connection.queue.remove(connection)
        if PHASES[connection.state] is _HALF_OPEN:
            self.half_open -= 1
