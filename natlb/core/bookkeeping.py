"""What becomes of connections, entered in the counters of all whom it concerns.

The engine says what happened; here stands what that means in HAProxy's statistics. A connection that comes to nothing
is somebody's doing: a server that refuses it or leaves its SYN without an answer has failed (`econ`), a client or a
server that resets it afterwards has aborted it (`cli_abrt`, `srv_abrt`), and so has whoever was to speak when it timed
out. What natlb itself ends, because an operator or a full table wants it so, is nobody's fault.
"""

from typing import TYPE_CHECKING

from natlb.core.events import EndReason
from natlb.core.flow import Direction
from natlb.core.states import HALF_OPEN, State
from natlb.core.statistics import Counters

if TYPE_CHECKING:
    from natlb.core.flow import Connection
    from natlb.core.pool import Pool, Server
    from natlb.core.service import Service

_TO_SPEAK = {
    State.INIT: Direction.REPLY,
    State.SYN_RECEIVED: Direction.ORIGINAL,
    State.CLIENT_FIN: Direction.REPLY,
    State.SERVER_FIN: Direction.ORIGINAL,
}
"""Whose silence a connection times out from, by its state. In ESTABLISHED it is that of the shorter timeout."""

# Looking up a member of an enumeration takes ten times as long as looking up a name of our own.
_INIT, _ESTABLISHED = State.INIT, State.ESTABLISHED
_ORIGINAL, _REPLY = Direction.ORIGINAL, Direction.REPLY
_RESET, _TIMED_OUT = EndReason.RESET, EndReason.TIMED_OUT
_RESCHEDULED, _EVICTED = EndReason.RESCHEDULED, EndReason.EVICTED


class Books:
    """The counters of one engine's frontends, servers and backends, and those of the whole."""

    def __init__(self) -> None:
        self.counters = Counters()
        """Of the whole: `arrivals` and `sessions` only."""
        self.total = 0
        """Connections, those that were refused included. Never cleared."""
        self.let_in = 0
        """Those of them that no rule has rejected. Never cleared."""

    def opened(self, connection: "Connection", now: float, *, again: bool, assigned: bool = False) -> None:
        """Enter a connection that is on its way to a server; `again` if it was on its way to another before.

        `assigned` is whether it belongs to that server by a rule, so that no algorithm has given it to it.
        """
        server = connection.server
        if not again:
            self._came(connection.service, server.pool, now)
        server.total += 1
        for counters in server.accounts:
            counters.last_session = now
            counters.balanced += not assigned
            counters.attempts += 1
            counters.sessions.count(now)

    def denied(self, service: "Service", now: float) -> None:
        """Enter a connection that a rule has rejected."""
        self.total += 1
        service.denied += 1
        for counters in (self.counters, service.counters):
            counters.arrivals.count(now)

    def refused(self, service: "Service", pool: "Pool | None", now: float, *, again: bool) -> None:
        """Enter a connection that no server of a backend could take, or that has no backend."""
        service.refused += 1
        if not again:
            self._came(service, pool, now)
        if pool is not None:
            pool.counters.failed += 1

    def no_room(self, service: "Service", server: "Server") -> None:
        """Enter that a packet could not open a connection to a server, for want of a port or of room in the table."""
        for counters in (service.counters, *server.accounts):
            counters.internal += 1

    def grew(self, connection: "Connection") -> None:
        """Enter how many connections are open now that this one is."""
        service, server = connection.service, connection.server
        for owner in (service, server, server.pool):
            if owner is not None and owner.live > owner.counters.most_live:
                owner.counters.most_live = owner.live

    def retried(self, connection: "Connection", pool: "Pool") -> None:
        """Enter that a client has sent its SYN again, and natlb has sent it on again."""
        for owner in (connection.server, pool):
            owner.retries += 1
            owner.counters.attempts += 1

    def answered(self, connection: "Connection", seconds: float) -> None:
        """Enter how long a server took to answer."""
        for counters in connection.server.accounts:
            counters.connect_time.add(int(seconds * 1000))

    def ended(
        self, connection: "Connection", state: State, reason: EndReason, by: Direction | None, seconds: float
    ) -> None:
        """Enter the end of a connection in `state`, open for so many `seconds`; `by` is who has reset it."""
        server = connection.server
        if reason is _TIMED_OUT:
            by = connection.service.timeouts_to(server).shorter if state is _ESTABLISHED else _TO_SPEAK.get(state)
        elif reason is _RESCHEDULED:
            for owner in (server, server.pool):
                if owner is not None:
                    owner.redispatches += 1
        elif reason is _EVICTED:
            self.no_room(connection.service, server)
        for counters in server.accounts:
            if by is _ORIGINAL:
                counters.aborted_by_client += 1
            elif by is _REPLY and state is _INIT:
                counters.failed += 1
            elif by is _REPLY:
                counters.aborted_by_server += 1
                counters.reset_by_server += reason is _RESET
            if state not in HALF_OPEN:
                counters.total_time.add(int(seconds * 1000))

    def _came(self, service: "Service", pool: "Pool | None", now: float) -> None:
        self.total += 1
        self.let_in += 1
        service.total += 1
        if pool is not None:
            pool.total += 1
        for counters in (self.counters, service.counters):
            counters.arrivals.count(now)
            counters.sessions.count(now)
