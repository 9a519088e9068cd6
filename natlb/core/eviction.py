"""Who gives way when a connection wants to open and there is no room.

Only what costs nobody anything gives way: connections that are over, and half-open ones. A half-open connection has
cost its client a single packet, with any source that he liked, and whether anybody is behind it is not known; an
established one is never ended for another. There is no room in three ways, and each finds somebody else:

    a limit is reached     how many connections may be open at a listener, of a service, or in all. The half-open one
                           that has been silent longest gives way, but not before its grace is over, which is what
                           clients here really take (`natlb.core.patience`): or a flood of SYNs would keep everybody out
    a server is full       one of its half-open ones whose client has not sent its SYN again when it should have
    the table is full      whoever gives way most easily, see `Table`; and among the half-open ones, who have a bound of
                           their own, the one that has been silent longest

Of a connection whose packets are handled elsewhere the table may not know the latest. So whoever is to give way is
asked for that first, and may turn out not to be half-open any more.
"""

from collections.abc import Callable
from itertools import islice
from typing import Final

from natlb.core.events import EndReason
from natlb.core.flow import Connection, ends
from natlb.core.lifecycle import Lifecycle
from natlb.core.offloading import Offloading
from natlb.core.opening import Opening
from natlb.core.packet import TCP, UDP
from natlb.core.patience import LONGEST, Patience
from natlb.core.pool import Pool, Server
from natlb.core.service import Listener, Service
from natlb.core.table import Table

HALF_OPEN_GRACE: Final = LONGEST
"""Seconds in which a half-open connection keeps its place although a limit is reached. Then it gives way to the next
one, or a flood of SYNs would keep everybody else out. Where clients of TCP are seen to need less it is less for them:
see `Patience`."""

FORSAKEN_AFTER: Final = 2.0
"""Seconds from a first SYN in which its client has sent another, or has acknowledged the answer, if it is there at all;
twice as many from each further one."""

_MOST_LOOKED_AT: Final = 16
"""How many half-open connections are looked at for one that is forsaken."""


class Eviction:
    """What makes room among the connections of one table."""

    __slots__ = ("_ledger", "_lifecycle", "_offloading", "_patience", "_table")

    def __init__(self, table: Table, lifecycle: Lifecycle, offloading: Offloading, patience: Patience) -> None:
        """End connections of `table` by way of `lifecycle`; `patience` is told when a limit is reached."""
        self._table = table
        self._ledger = table.ledger
        self._lifecycle = lifecycle
        self._offloading = offloading
        self._patience = patience

    def relieve(self, service: Service | None, now: float, listener: Listener | None = None) -> bool:
        """End the half-open connection (of a service, or of all) whose grace is over longest; return if there was one.

        At a listener's limit it has to be one of that listener's.
        """
        self._patience.press(now)
        grace = self._patience.grace
        later = HALF_OPEN_GRACE - grace
        oldest = self._weakest(lambda: self._table.oldest_half_open(service, later), now)
        if oldest is None:
            return False
        if now - self._ledger.opened[oldest.index] < (grace if oldest.original[-1] == TCP else HALF_OPEN_GRACE):
            return False
        if listener is not None and oldest.service.listener(ends(oldest.original)[1]) is not listener:
            return False
        self._lifecycle.end(oldest, EndReason.EVICTED, now)
        return True

    def reclaim(self, opening: Opening, pool: Pool, server: Server | None) -> bool:
        """End a half-open connection to a full server whose client is not there; return whether there was one.

        A SYN with a made-up source costs its sender one packet, and would keep a place for as long as `timeout connect`
        lasts. Who is there sends the next SYN after one second, then after two, four and so on (RFC 6298, section 5.5).
        """
        service, now = opening.service, opening.now
        if service.protocol == UDP:
            return False
        asked, retries = self._ledger.asked, self._ledger.retries
        for connection in list(islice(self._table.half_open_of(service), _MOST_LOOKED_AT)):
            holder, index = connection.server, connection.index
            patience = FORSAKEN_AFTER * 2 ** min(retries[index], 8)
            if (
                now - asked[index] >= patience
                and holder.pool is pool
                and holder.full
                and server in (None, holder)
                and self._is_as_known(connection, now)
            ):
                self._lifecycle.end(connection, EndReason.EVICTED, now)
                return True
        return False

    def make_room(self, now: float) -> bool:
        """Make room in the table if there is none; return whether there is room."""
        table = self._table

        def surplus() -> Connection | None:
            return table.oldest_half_open() if table.half_open >= table.half_open_capacity else None

        if (oldest := self._weakest(surplus, now)) is not None:
            self._lifecycle.end(oldest, EndReason.EVICTED, now)
        if table.full:
            weakest = self._weakest(table.weakest, now)
            if weakest is None:
                return False
            self._lifecycle.end(weakest, EndReason.EVICTED, now)
        return True

    def _weakest(self, find: Callable[[], Connection | None], now: float) -> Connection | None:
        """Return the connection to give way that is found, once that is as weak as the table has it."""
        while (found := find()) is not None and not self._is_as_known(found, now):
            pass
        return found

    def _is_as_known(self, connection: Connection, now: float) -> bool:
        """Whether a connection is in the state that the table has it in; now that is so."""
        state = connection.state
        self._offloading.catch_up(connection, now)
        return connection.state is state
