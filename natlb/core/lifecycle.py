"""A connection's life: it begins, moves from state to state, and ends, with all that follows from each.

Others decide what becomes of a connection: the way of its packets, a timeout, somebody who needs its place. Here it is
done, and done whole, because a state is written down in more than one place. The table has another timeout for it. Who
counts open connections has one more or one fewer: the engine, the service, its listener, the server and its pool, and
the entries of stick tables. The statistics and the log are told. What was to stick to a server sticks once that has
answered. A port that was lent is free for others when there is no better one.

To be over and to be forgotten are two things. A connection that both sides have closed is over: it is open no more, but
stays in the table for a while, where late packets find it, and some that are over go on after all. That is `move`.
`end` forgets a connection, over or not; its tuples are free then. What counts it is kept here beside the connection,
and not in it, since few connections have any of that and there are a million of them.
"""

from collections import Counter, deque
from collections.abc import Iterator
from typing import Final

from natlb.core.bookkeeping import Books
from natlb.core.events import (
    Account,
    ConnectionClosed,
    ConnectionEstablished,
    ConnectionOpened,
    EndReason,
    Event,
    Live,
)
from natlb.core.flow import Connection, Direction, ends
from natlb.core.offloading import Offloading
from natlb.core.opening import UNCOUNTED, Opening, Past
from natlb.core.pool import Pool, Server
from natlb.core.ports import Lender
from natlb.core.service import Service
from natlb.core.shards import Shards
from natlb.core.states import FINISHED, HALF_OPEN, State
from natlb.core.stick import Entry, Key, StickTable
from natlb.core.table import Table
from natlb.core.waiting import Wait

# Looking up a member of an enumeration takes ten times as long as looking up a name of our own.
_INIT, _SYN_RECEIVED, _ESTABLISHED = State.INIT, State.SYN_RECEIVED, State.ESTABLISHED
_CLIENT_FIN, _BOTH_FIN = State.CLIENT_FIN, State.BOTH_FIN
_ONE_WAY, _BOTH_WAYS = State.ONE_WAY, State.BOTH_WAYS


class Lifecycle:
    """The lives of all connections of one table."""

    __slots__ = (
        "_books",
        "_counted",
        "_events",
        "_ledger",
        "_lender",
        "_offloading",
        "_table",
        "_to_stick",
        "_waited",
        "closed",
        "live",
    )

    def __init__(
        self, table: Table, lender: Lender, books: Books, offloading: Offloading, events: deque[Event]
    ) -> None:
        """Begin without a connection; `events` is where what happens is told, behind what is there."""
        self.live = 0
        """Connections open now: half-open and established, not finished."""
        self.closed: Final[Counter[EndReason]] = Counter()
        """Connections that have ended, by reason."""
        self._table = table
        self._ledger = table.ledger
        self._lender = lender
        self._books = books
        self._offloading = offloading
        self._events = events
        self._counted: Shards[Connection, tuple[Entry | None, ...]] = Shards()
        """The entries of stick tables that count a connection, by slot, of those that any does."""
        self._to_stick: Shards[Connection, tuple[tuple[StickTable, Key], ...]] = Shards()
        """What will stick to the server of a connection when that has answered."""
        self._waited: Shards[Connection, Wait] = Shards()
        """How connections waited before they opened, of those that did and are logged."""

    def begin(self, connection: Connection, opening: Opening, *, again: bool) -> None:
        """Begin with a connection that was entered in the table; `again` if it was on its way to another server before.

        What the rules want to know of it later on is noted.
        """
        pool = connection.server.pool
        self.count(connection, 1, opening.now)
        if opening.tracked is not UNCOUNTED:  # by which it is counted already
            self._counted.add(connection, opening.tracked)
        if opening.waited is not None and opening.service.logged:
            self._waited.add(connection, opening.waited)
        if pool is not None and pool.rules is not None and (keys := pool.rules.to_store(opening)):
            self._to_stick.add(connection, keys)
        self._books.opened(connection, opening.now, again=again, assigned=opening.is_assigned)
        self._events.append(ConnectionOpened(connection))

    def move(
        self,
        connection: Connection,
        state: State,
        now: float,
        reason: EndReason | None = None,
        *,
        by: Direction | None = None,
        payload: int = 0,
    ) -> None:
        """Give a connection its next state, with that state's timeout.

        `reason` is why it is over, if it is. `by` is the direction of the packet that brings it about, and `payload`
        that packet's, not yet counted.
        """
        service, before = connection.service, connection.state
        begins = state is _ESTABLISHED or state is _BOTH_WAYS or (state is _CLIENT_FIN and before in HALF_OPEN)
        is_over, was_over = state in FINISHED, before in FINISHED
        if state is _SYN_RECEIVED or state is _BOTH_WAYS:
            self._ledger.answered[connection.index] = now
        account = None
        if service.logged and (begins or (is_over and not was_over)):
            account = self._account(connection, by, payload)
        self._table.move(connection, state, service.timeout(connection.server, state), now)
        if self._to_stick and before is _INIT and (keys := self._to_stick.pop(connection)):
            _stick(connection, keys, now)
        if is_over and not was_over:
            self.count(connection, -1, now)
            if reason is None:
                reason = EndReason.FINISHED if state is _BOTH_FIN else EndReason.RESET
            self._enter_end(connection, before, reason, now, by if reason is EndReason.RESET else None)
            self._events.append(ConnectionClosed(connection, reason, account))
            if connection.has_own_port:
                self._lender.retire(connection)
        elif was_over and not is_over:
            self.count(connection, 1, now)
            if connection.has_own_port:
                self._lender.revive(connection)
        elif before is _INIT or before is _ONE_WAY:
            self._books.answered(connection, now - self._ledger.opened[connection.index])
        if begins:
            self._events.append(ConnectionEstablished(connection, account))

    def refresh(self, connection: Connection, now: float) -> None:
        """Note that a packet of a connection was seen; once in a while is enough."""
        self._table.refresh(connection, now)
        self._offloading.offer(connection)

    def end(self, connection: Connection, reason: EndReason, now: float) -> Past:
        """Forget a connection. One that was not finished counts as closed now, for the given reason.

        Return what it takes along if it goes to another server.
        """
        self._offloading.forget(connection, now)
        if connection.state not in FINISHED:
            account = self._account(connection) if connection.service.logged else None
            self.count(connection, -1, now)
            self._enter_end(connection, connection.state, reason, now, None)
            self._events.append(ConnectionClosed(connection, reason, account))
        self._table.remove(connection)
        if connection.has_own_port:
            self._lender.give_back(connection)
        if self._to_stick:
            self._to_stick.pop(connection)
        counted = self._counted.pop(connection) if self._counted else None
        return Past(counted or UNCOUNTED, self._waited.pop(connection) if self._waited else None)

    def count(self, connection: Connection, change: int, now: float) -> None:
        """Count a connection as open, which is a `change` of 1, or no longer, which is one of -1."""
        self.live += change
        service = connection.service
        service.live += change
        connection.server.count(change)
        if service.listeners and (listener := service.listener(ends(connection.original)[1])) is not None:
            listener.live += change
        if self._counted:
            for entry in self._counted.get(connection) or UNCOUNTED:
                if entry is not None:
                    entry.hold(now) if change > 0 else entry.release(now)
        if change > 0:
            self._books.grew(connection)

    def live_at(self, service: Service, pool: Pool | None, server: Server | None) -> Live:
        """Count the connections that are open now, of these and of all."""
        return Live(self.live, service.live, pool.live if pool else 0, server.live if server else 0)

    def counted(self) -> Iterator[tuple[Connection, tuple[Entry | None, ...]]]:
        """Go over the connections that stick tables count, with their entries by slot. Nothing may change meanwhile."""
        for part in self._counted.parts:
            yield from part.items()

    def count_again(self, connection: Connection, entries: tuple[Entry | None, ...], now: float) -> None:
        """Have a connection that was resumed counted by these entries, by slot, as it was before."""
        self._counted.add(connection, entries)
        if connection.state not in FINISHED:
            for entry in entries:
                if entry is not None:
                    entry.hold(now)

    def _account(self, connection: Connection, by: Direction | None = None, payload: int = 0) -> Account:
        """Write down what a connection has come to, with the packet that is not yet counted."""
        ledger, index = self._ledger, connection.index
        octets = [ledger.octets[2 * index], ledger.octets[2 * index + 1]]
        if by is not None:
            octets[by] += payload
        answered = ledger.answered[index]
        return Account(
            opened=ledger.opened[index],
            answered=answered if answered >= 0 else None,
            octets=(octets[0], octets[1]),
            retries=ledger.retries[index],
            state=connection.state,
            by=by,
            live=self.live_at(connection.service, connection.server.pool, connection.server),
            waited=self._waited.get(connection),
        )

    def _enter_end(
        self, connection: Connection, state: State, reason: EndReason, now: float, by: Direction | None
    ) -> None:
        self.closed[reason] += 1
        self._books.ended(connection, state, reason, by, now - self._ledger.opened[connection.index])


def _stick(connection: Connection, keys: tuple[tuple[StickTable, Key], ...], now: float) -> None:
    """Remember the server of a connection, if it has taken it."""
    if connection.state not in FINISHED and connection.server.sticks:
        for table, key in keys:
            table.set(key, now, connection.server.name)
