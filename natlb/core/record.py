"""What there is to know of a connection, apart from the engine that has it: so that another engine can go on with it.

A record says who the two ends are, by their tuples and by the names of frontend, backend and server, and all that the
ledger has. `natlb.core.resumption` makes a connection of it again, of which the engine then decides as the earlier one
would have. What is not in here does not survive: places in a queue, what stick tables count, fragments that wait.

A record is complete if the engine that wrote it has seen no packet since. If it was killed, it may have: numbers have
moved on, and time has. `after_a_crash` says what can still be believed then.
"""

from typing import Final, NamedTuple

from natlb.core.flow import OFFLOADED, Direction, FlowKey
from natlb.core.packet import TCP
from natlb.core.states import FINISHED, State

UNKNOWN: Final = 1 << Direction.ORIGINAL | 1 << Direction.REPLY
"""Reasons to stand aside (`Connection.aside`): where both senders are in their numbers is not known."""


class Record(NamedTuple):
    """One connection, or one flow of UDP. Pairs are by direction, or by sender, as in the ledger."""

    original: FlowKey
    reply: FlowKey
    state: State
    service: str
    """The name of its frontend."""
    pool: str | None
    """The name of its backend; None when the server had been taken out of that."""
    server: str
    lent: bool
    """Whether the server sees a source that was lent."""
    aside: int
    """As `Connection.aside`."""
    timeout: float
    """Seconds of silence that it was allowed in this state."""
    seen: float
    """When its last packet came, within the granularity of `IdleQueue`, on the engine's clock, as all times."""
    opened: float
    answered: float
    """Below zero while the server has not."""
    asked: float
    retries: int
    packets: tuple[int, int]
    octets: tuple[int, int]
    following: tuple[int, int]
    acked: tuple[int, int]
    edge: tuple[int, int]
    offered: tuple[int, int]
    shift: tuple[int, int]


def after_a_crash(record: Record, now: float) -> Record:
    """Return what can be believed of a record whose engine may have seen packets since.

    It has as much time as a connection that was heard right now, unless it is over: it only waits for late packets, and
    would never be forgotten by one who is killed often. Where each sender is in its numbers is told by its next
    segment. In INIT nothing has moved on but by segments that begin anew.
    """
    forgotten = UNKNOWN if record.original[-1] == TCP and record.state is not State.INIT else 0
    return record._replace(seen=record.seen if record.state in FINISHED else now, aside=forgotten)


def after_a_handover(record: Record, now: float) -> Record:
    """Return what can be believed of a record that was written when its engine had stopped.

    Packets that were handled elsewhere may have gone on being handled there: whoever has that on record is to tell.
    """
    if record.aside & OFFLOADED:
        return after_a_crash(record, now)
    return record
