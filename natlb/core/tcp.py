r"""The states of a TCP connection as a NAT in the middle sees them, and how long each may be silent.

A NAT sees the segments of both sides but never knows which of them arrived. So its states are not those of an
endpoint (RFC 9293, section 3.3.2) but those of RFC 6146, section 3.5.2, with the client in the place of the IPv6
side and three states more: SYN_RECEIVED, between the server's SYN and the proof that the client has seen it, ABORTED,
when there was a RST before that, and SHUT, when natlb itself has ended the connection. A connection in INIT or
SYN_RECEIVED is half-open: it cost its sender one packet.

               client SYN            server SYN                client ACK
       (none) ------------> INIT ------------> SYN_RECEIVED ------------> ESTABLISHED
                              \                    /                      |         |
                               \ RST              / RST         client FIN |         | server FIN
                                v                v                        v         v
                                     ABORTED                         CLIENT_FIN  SERVER_FIN
                                                                          |         |
       TRANS <---- RST in ESTABLISHED, CLIENT_FIN or SERVER_FIN            \       / the other FIN
         |                                                                 BOTH_FIN
         +--> ESTABLISHED, if data still flows

A RST does not end an established connection for the NAT: it cannot know whether the peer took it, and a forged one
must not cut a living connection's mapping. The connection goes to TRANS and comes back if either side goes on talking.
A segment that others of its sender have overtaken, and that acknowledges less than they, is no sign of that: what its
receiver says to it, a RST with an old number, would not be believed, and nobody would end the connection any more.
A half-open connection that is reset has nothing to come back to. It stays ABORTED, or else a SYN, a RST and an ACK,
all three forged by one host, would make an established connection that no server has ever seen.

Whoever has no answer to its SYN may begin anew with another number: a client that gave up and uses its port again, a
server that was restarted or has answered with a cookie. What counts is the SYN that was seen last. So a client's takes
SYN_RECEIVED back to INIT, and a server's, if it acknowledges the client's, takes the place of the one before.

SHUT follows any state but these when the connection was silent for too long, when an operator shut it down, or when its
server went down and `on-marked-down shutdown-sessions` says so. Both ends have then been sent a RST; whoever did not
take it, and goes on talking, is answered with another, for as long as the entry lasts.

When the client sends a SYN in BOTH_FIN, TRANS, ABORTED or SHUT, it is opening a new connection with an old port: the
engine then starts over.

A segment moves the state only if it lies in the window (`natlb.core.window`): who cannot see the connection cannot end
it. The table below is the whole machine; what it does not list leaves the state as it is.
"""

from typing import Final

from natlb.core.enums import Constant
from natlb.core.flow import Direction
from natlb.core.packet import ACK, FIN, RST, SYN, URG
from natlb.core.states import State

ESTABLISHED_TIMEOUT: Final = 7440.0
"""Seconds of silence after which an established connection is given up: 2 h 4 min, RFC 5382, REQ-5."""

TRANSITORY_TIMEOUT: Final = 240.0
"""Seconds of silence for connections being opened or closed: 4 min, RFC 5382, REQ-5 (TCP_TRANS of RFC 6146)."""


class Segment(Constant):
    """A segment by what it does to the state."""

    SYN = "SYN"
    SYN_ACK = "SYN and ACK"
    FIN = "FIN"
    RST = "RST"
    DATA = "anything else, with ACK"


_CLIENT, _SERVER = Direction.ORIGINAL, Direction.REPLY

_RESET = {
    State.INIT: State.ABORTED,
    State.SYN_RECEIVED: State.ABORTED,
    State.ESTABLISHED: State.TRANS,
    State.CLIENT_FIN: State.TRANS,
    State.SERVER_FIN: State.TRANS,
}

TRANSITIONS: Final[dict[tuple[State, Direction, Segment], State]] = {
    (State.INIT, _SERVER, Segment.SYN_ACK): State.SYN_RECEIVED,
    (State.INIT, _SERVER, Segment.SYN): State.SYN_RECEIVED,  # both open at once: RFC 5382, REQ-2
    (State.SYN_RECEIVED, _CLIENT, Segment.SYN): State.INIT,  # with another number: it begins anew
    (State.SYN_RECEIVED, _CLIENT, Segment.DATA): State.ESTABLISHED,
    (State.SYN_RECEIVED, _CLIENT, Segment.FIN): State.CLIENT_FIN,
    (State.ESTABLISHED, _CLIENT, Segment.FIN): State.CLIENT_FIN,
    (State.ESTABLISHED, _SERVER, Segment.FIN): State.SERVER_FIN,
    (State.CLIENT_FIN, _SERVER, Segment.FIN): State.BOTH_FIN,
    (State.SERVER_FIN, _CLIENT, Segment.FIN): State.BOTH_FIN,
    (State.TRANS, _CLIENT, Segment.DATA): State.ESTABLISHED,
    (State.TRANS, _SERVER, Segment.DATA): State.ESTABLISHED,
} | {(state, side, Segment.RST): reset for state, reset in _RESET.items() for side in Direction}


UNMOVED: Final = frozenset((State.ESTABLISHED, State.CLIENT_FIN, State.SERVER_FIN, State.BOTH_FIN))
"""What a segment is believed and carried in, and moves only with SYN, FIN or RST."""

SIGNIFICANT: Final = FIN | SYN | RST | ACK | URG
"""The flags that tell what a segment is."""

_SEGMENTS = {
    SYN: Segment.SYN,
    SYN | URG: Segment.SYN,
    SYN | ACK: Segment.SYN_ACK,
    FIN | ACK: Segment.FIN,
    FIN | ACK | URG: Segment.FIN,
    RST: Segment.RST,
    RST | ACK: Segment.RST,
    ACK: Segment.DATA,
    ACK | URG: Segment.DATA,
}


def segment_of(flags: int) -> Segment | None:
    """Classify a segment by its flags, or return None for a combination that no host sends.

    The combinations are those that Linux's conntrack lets through; a SYN with FIN or RST, a FIN without ACK, or no flag
    at all is a scan. PSH, ECE and CWR may stand beside anything.
    """
    return _SEGMENTS.get(flags & SIGNIFICANT)
