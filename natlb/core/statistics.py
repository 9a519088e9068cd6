"""What is counted of frontends, servers and backends, as HAProxy counts it.

The engine counts where things happen, so that reading costs nothing and no statistic needs to go over the connections.
The one thing that happens with every packet is that it comes, and carries bytes. That is counted once, in an account
that all connections from one frontend to one server share and that each translation leads to; whoever reads the totals
lets the accounts be settled first, which moves what has gathered there to the frontend, the server and the backend. So
the bytes of connections that are still open are in the totals, to the last packet, and a million connections are as
quick to sum up as one.

An average is HAProxy's: each new value takes the place of the mean of those before.

Time is an argument here as everywhere in the core.
"""

from typing import Final

from natlb.core.rates import Rate

AVERAGED: Final = 512
"""Connections that an average is over: HAProxy's `TIME_STATS_SAMPLES`. A value weighs less with each one after it, and
twice as many carry 86 % of the weight: these are the 1024 that HAProxy's documentation speaks of."""


class Average:
    """The mean of the last values, without keeping them (HAProxy's `swrate`)."""

    __slots__ = ("_sum", "_values", "highest")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all values."""
        self._sum = self._values = self.highest = 0

    def add(self, value: int) -> None:
        """Take in a value, 0 or more."""
        if self._values < AVERAGED:
            self._values += 1
        elif self._sum:
            self._sum -= -(-self._sum // AVERAGED)
        if value:
            self._sum += value
            self.highest = max(self.highest, value)

    @property
    def mean(self) -> int:
        """The mean, rounded up; 0 without values."""
        return -(-self._sum // self._values) if self._values else 0


class Counters:
    """What is counted of one frontend, server or backend. Not all of them have all of these: see docs/statistics.md."""

    __slots__ = (
        "aborted_by_client",
        "aborted_by_server",
        "arrivals",
        "attempts",
        "balanced",
        "connect_time",
        "failed",
        "internal",
        "last_session",
        "most_live",
        "octets_in",
        "octets_out",
        "packets_in",
        "packets_out",
        "queue_time",
        "reset_by_server",
        "sessions",
        "total_time",
    )

    most_live: int
    """The most connections that were open at a time."""
    octets_in: int
    """Bytes of payload from clients to servers. Settled ones only: see `Traffic`."""
    octets_out: int
    """The same from servers to clients."""
    packets_in: int
    """Packets from clients that were sent on to servers; fragments count one by one. Settled ones only."""
    packets_out: int
    """The same from servers to clients."""
    failed: int
    """Connections that no server took: it refused them or did not answer, or there was none."""
    reset_by_server: int
    """Connections that the server reset after it had answered."""
    aborted_by_client: int
    """Connections that the client reset, or fell silent in."""
    aborted_by_server: int
    """Connections that the server reset, or fell silent in."""
    balanced: int
    """Connections that the algorithm of the backend gave to this server; those that a rule led here are not counted."""
    attempts: int
    """SYNs and first datagrams that were sent to servers, those sent again included."""
    internal: int
    """Connections that could not be, or had to end, for want of a port or of room in the table."""
    last_session: float | None
    """When the last connection came."""

    def __init__(self) -> None:
        self.arrivals = Rate()
        """All connections that came, those included that a rule has then refused."""
        self.sessions = Rate()
        """Connections."""
        self.queue_time = Average()
        """Milliseconds from a client's first SYN until one was let through."""
        self.connect_time = Average()
        """Milliseconds from a SYN sent to a server until its SYN came back."""
        self.total_time = Average()
        """Milliseconds that connections were open."""
        self.clear()

    def clear(self) -> None:
        """Begin anew (`clear counters all`). What is open now and happened in the last second stays known."""
        self.octets_in = self.octets_out = self.packets_in = self.packets_out = 0
        self.failed = self.reset_by_server = self.aborted_by_client = self.aborted_by_server = 0
        self.balanced = self.attempts = self.internal = 0
        self.last_session = None
        for average in (self.queue_time, self.connect_time, self.total_time):
            average.clear()
        self.clear_maxima()

    def clear_maxima(self) -> None:
        """Forget what was highest (`clear counters`)."""
        self.most_live = 0
        for each in (self.arrivals, self.sessions, self.queue_time, self.connect_time, self.total_time):
            each.highest = 0


class Account:
    """Packets in one direction, and their payload, that are not settled yet."""

    __slots__ = ("octets", "packets")

    def __init__(self) -> None:
        self.packets = 0
        self.octets = 0

    def count(self, payload: int) -> None:
        """Count a packet with so many bytes of payload."""
        self.packets += 1
        self.octets += payload


class Traffic:
    """What all connections between one frontend and one server carry, by direction, and whose that is."""

    __slots__ = ("_owners", "back", "there")

    def __init__(self, *owners: Counters) -> None:
        self._owners = owners
        self.there = Account()
        """From clients to the server."""
        self.back = Account()
        """From the server to clients."""

    def settle(self) -> int:
        """Add to the owners' totals what has been carried since the last time; return how many bytes that is."""
        there, back = self.there, self.back
        octets_in, octets_out = there.octets, back.octets
        if there.packets or back.packets:
            for owner in self._owners:
                owner.packets_in += there.packets
                owner.packets_out += back.packets
                owner.octets_in += octets_in
                owner.octets_out += octets_out
            there.packets = back.packets = there.octets = back.octets = 0
        return octets_in + octets_out


class Standing:
    """Since when something has been up or down: `lastchg`, `downtime` and `chkdown` of `show stat`."""

    __slots__ = ("_down", "changed", "falls", "up")

    def __init__(self, *, up: bool) -> None:
        self.up = up
        self.changed = 0.0
        """When that changed last; at first, when time begins."""
        self.falls = 0
        """How often it went down."""
        self._down = 0.0

    def update(self, up: bool, now: float) -> None:
        """Note whether it is up now."""
        if up is self.up:
            return
        if up:
            self._down += now - self.changed
        else:
            self.falls += 1
        self.up, self.changed = up, now

    def down_time(self, now: float) -> float:
        """Return the seconds that it was down in all."""
        return self._down + (0.0 if self.up else now - self.changed)
