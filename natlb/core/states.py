"""The states that a connection can be in, and how easily each gives way when there is no room.

How one follows another stands with the protocols: `natlb.core.tcp` and `natlb.core.udp`.
"""

from enum import IntEnum
from typing import Final

from natlb.core.enums import Constant


class State(Constant):
    """What the NAT believes about a connection."""

    # TCP
    INIT = "INIT"
    SYN_RECEIVED = "SYN_RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    CLIENT_FIN = "CLIENT_FIN"
    SERVER_FIN = "SERVER_FIN"
    BOTH_FIN = "BOTH_FIN"
    TRANS = "TRANS"
    ABORTED = "ABORTED"
    SHUT = "SHUT"
    # UDP
    ONE_WAY = "ONE_WAY"
    BOTH_WAYS = "BOTH_WAYS"


class Phase(IntEnum):
    """How easily a connection gives way, easiest first."""

    FINISHED = 0
    HALF_OPEN = 1
    OPEN = 2


HALF_OPEN: Final = frozenset((State.INIT, State.SYN_RECEIVED, State.ONE_WAY))
"""The other side has not yet shown that it is there: the entry cost its sender one packet."""

FINISHED: Final = frozenset((State.BOTH_FIN, State.TRANS, State.ABORTED, State.SHUT))
"""It is over: the entry only serves late packets, and counts as no connection any more."""


PHASES: Final = {
    state: Phase.FINISHED if state in FINISHED else Phase.HALF_OPEN if state in HALF_OPEN else Phase.OPEN
    for state in State
}
"""The phase of a connection, by its state."""
