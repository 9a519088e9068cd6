"""Connections that wait for a place at a server, although their clients do not know it.

A proxy queues a connection that it has accepted. Here there is nothing to accept yet: the SYN that finds its server
full is dropped, and the client sends it again after a second, then after two more, four, eight (RFC 6298, section 5.5).
All that waits is a note that the flow has asked, and since when.

The order among those who wait is kept as far as that allows. Whoever comes first to a free place may take it, unless
somebody who has waited longer is about to ask: a place is kept for those whose next SYN is due within a second, and not
for those who back off for longer, since a place left empty serves nobody. So new clients do not push aside the ones
that wait, and a place is never idle for more than a moment while anybody asks. Nor is a place kept for who has asked
only once: whether he is there at all is not known yet, and a flood of SYNs from nobody must not keep places empty.

A flow that does not ask when it is due has given up, and is forgotten. The notes are bounded besides: when there are as
many as there may be, a new flow is held back like the others, but has no place in the order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from natlb.core.flow import FlowKey

if TYPE_CHECKING:
    from natlb.core.pool import Server

MOST: Final = 4096
"""Flows that wait for one pool at a time: some 2 MB."""

SOON: Final = 1.0
"""Seconds for which a place is kept for who is expected: the shortest time between two SYNs of a client."""

LATEST: Final = 3.0
"""Seconds that a client may be late: some begin with 3 s instead of 1 s (RFC 6298, appendix A)."""


class Waiting:
    """One flow that waits."""

    __slots__ = ("due", "seen", "server", "since", "turn")

    def __init__(self, server: "Server | None", now: float, turn: int) -> None:
        self.server = server
        """The one that it waits for; None is any."""
        self.turn = turn
        """How many of those who waited for the same had been let through when it began to."""
        self.since = self.seen = now
        """When its first SYN came, and when its last one did."""
        self.due = now + SOON
        """When its next one is expected."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait that is over, whatever came of it."""

    seconds: float
    server: "Server | None"
    """The one that was waited for; None is any."""
    position: int
    """1, and one more for each that waited for the same and was let through meanwhile."""


class WaitingRoom:
    """The flows that wait for the servers of one pool, the longest waiting first."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._flows: dict[FlowKey, Waiting] = {}

    def __len__(self) -> int:
        return len(self._flows)

    def get(self, flow: FlowKey) -> Waiting | None:
        """Return the note of a flow, or None if it does not wait."""
        return self._flows.get(flow)

    def ask(self, flow: FlowKey, server: "Server | None", now: float, turn: int = 0) -> Waiting | None:
        """Note that a flow has asked, and has to wait for `server`, or any; None if there are too many.

        `turn` is how many have been let through so far that waited for the same.
        """
        waiting = self._flows.get(flow)
        if waiting is None:
            if len(self._flows) >= self._most:
                return None
            waiting = self._flows[flow] = Waiting(server, now, turn)
            return waiting
        waiting.due = now + max(SOON, 2 * (now - waiting.seen))
        waiting.seen = now
        if waiting.server is not server:
            waiting.server, waiting.turn = server, turn
        return waiting

    def leave(self, flow: FlowKey) -> Waiting:
        """Forget a flow that waits; return its note."""
        return self._flows.pop(flow)

    def ahead(self, flow: FlowKey, server: "Server", now: float) -> int:
        """Return how many of those who have waited longer are about to ask, and may want a place at `server`."""
        number = 0
        for other, waiting in self._flows.items():
            if other == flow:
                break
            if waiting.due <= now + SOON and waiting.seen > waiting.since and waiting.server in (None, server):
                number += 1
        return number

    def gone(self, now: float) -> Iterator[tuple[FlowKey, Waiting]]:
        """Forget the flows that did not ask when they were due, and return them."""
        late = [flow for flow, waiting in self._flows.items() if now >= waiting.due + LATEST]
        for flow in late:
            yield flow, self._flows.pop(flow)
