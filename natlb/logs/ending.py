"""How a connection ended, in two letters: HAProxy's termination state.

The first letter says who or what ended it, the second one when:

    C  the client reset it             C  while it waited for the server to answer its SYN
    S  the server reset or refused it  D  while data went to and fro
    c  it timed out, the client's turn Q  while it waited for a server to be free
    s  it timed out, the server's turn -  none of these
    K  an operator ended it
    D  its server went down
    U  its server was a backup, and a better one came up
    R  natlb had no room left
    -  nobody: it ended as it should

A packet-level balancer does not answer the client's SYN itself. Where the server does, and the client then says nothing
more, that is `cC`: HAProxy would not have heard of such a client.
"""

from typing import Final

from natlb.core.events import Account, EndReason
from natlb.core.flow import Direction
from natlb.core.packet import UDP
from natlb.core.pool import Place
from natlb.core.states import HALF_OPEN, State

NORMAL = "--"
REFUSED: Final = {Place.NONE: "SC", Place.LATE: "sQ", Place.CROWDED: "SQ"}
"""By why a connection has no server: there is none; it waited too long for a place; too many wait already."""


def termination(reason: EndReason, account: Account, protocol: int, shorter: Direction) -> str:
    """Return the two letters; `shorter` is whose idle time is the shorter one, by what they send."""
    if reason is EndReason.FINISHED:
        return NORMAL
    if reason is EndReason.SHUT_DOWN:
        return "K-"
    if reason is EndReason.SERVER_UP:
        return "U-"
    if reason in (EndReason.SERVER_DOWN, EndReason.RESCHEDULED):
        return "D-"
    phase = "C" if account.state in HALF_OPEN else "D"
    if reason is EndReason.EVICTED:
        return f"R{phase}"
    if reason is EndReason.RESET:
        return f"{'C' if account.by is Direction.ORIGINAL else 'S'}{phase}"
    if protocol == UDP:
        # Silence is how a flow ends. One that was never answered may not have wanted an answer.
        return NORMAL if account.state is State.BOTH_WAYS else "sD"
    waited_for = {State.INIT: "s", State.SYN_RECEIVED: "c", State.CLIENT_FIN: "s", State.SERVER_FIN: "c"}
    idle_side = "c" if shorter is Direction.ORIGINAL else "s"
    return f"{waited_for.get(account.state, idle_side)}{phase}"
