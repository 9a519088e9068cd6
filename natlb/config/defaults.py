"""What natlb does where a configuration is silent, and why.

HAProxy's own timeouts are infinite unless set, and it warns about each section that leaves them so. A proxy gets away
with that: the kernel's sockets underneath notice the death of a peer on their own. A NAT has no sockets. A mapping
whose two ends vanished without a FIN would stay for ever, so every one of natlb's timers ends, and RFC 5382 says how
soon a NAT may let it. A UDP flow has no FIN to begin with: its timers are all there is to end it, and RFC 4787 says how
long they must be.

What these never are: below the RFC's floor. A configuration may go below it, since its author knows the traffic; a
default may not.
"""

from dataclasses import dataclass
from typing import Final

from natlb.config.model import OnError, Timeouts

IDLE: Final = 2 * 3600 + 4 * 60.0
"""`timeout client` and `timeout server`: an idle established connection is kept at least 2 h 4 min (RFC 5382, REQ-5),
that is TCP's 2 h keep-alive interval and four minutes for the answer."""

TRANSITORY: Final = 4 * 60.0
"""`timeout connect`: a connection half open is kept at least 4 min (RFC 5382, REQ-5), so that SYNs sent again still
find it. One that is half closed counts as established to the RFC: its side goes on talking for as long as it likes."""

FLOW_ONE_WAY: Final = 2 * 60.0
"""A UDP flow that only one side has been seen of is kept at least 2 min: no mapping may expire sooner (RFC 4787,
REQ-5). It is the same for all ports; REQ-5a would allow less for some well-known ones."""

FLOW_BOTH_WAYS: Final = 5 * 60.0
"""A UDP flow that both sides have been seen of is kept 5 min, the least that is recommended as a default (RFC 4787,
REQ-5c)."""

STATS_TIMEOUT: Final = 10.0
"""`stats timeout`: HAProxy's own default."""
STATS_MAXCONN: Final = 10
"""`stats maxconn`: HAProxy's own default."""

WEIGHT: Final = 1
"""`weight`: HAProxy's own default."""
CHECK_INTER: Final = 2.0
"""`inter`: HAProxy's own default."""
CHECK_RISE: Final = 2
"""`rise`: HAProxy's own default."""
CHECK_FALL: Final = 3
"""`fall`: HAProxy's own default."""
ERROR_LIMIT: Final = 10
"""`error-limit`: HAProxy's own default."""
ON_ERROR: Final[OnError] = "fail-check"
"""`on-error`: HAProxy's own default."""
RETRIES: Final = 3
"""`retries`: HAProxy's own default."""
BALANCE: Final = "roundrobin"
"""`balance`: HAProxy's own default."""


@dataclass(frozen=True, slots=True)
class ConnectionTimeouts:
    """The timers of one connection, each finite, in seconds."""

    idle: float
    """Established, and no packet either way."""
    connect: float
    """Until the server's SYN-ACK."""
    queue: float
    """For a SYN held back because a limit is reached."""
    client_fin: float
    """The client has closed its direction, and no packet either way."""
    server_fin: float
    """The server has closed its direction, and no packet either way."""


def connection_timeouts(front: Timeouts, back: Timeouts) -> ConnectionTimeouts:
    """The timers of a connection from a frontend with the timeouts `front` to a backend with the timeouts `back`.

    `client` and `server` are one idle timer here, because it is one TCP connection: the smaller of those that are
    set. `tunnel` takes the place of both. As in HAProxy, `queue` is `connect` where it is not set.
    """
    spoken = [seconds for seconds in (front.client, back.server) if seconds is not None]
    idle = back.tunnel if back.tunnel is not None else min(spoken, default=IDLE)
    connect = TRANSITORY if back.connect is None else back.connect
    return ConnectionTimeouts(
        idle=idle,
        connect=connect,
        queue=connect if back.queue is None else back.queue,
        client_fin=idle if front.client_fin is None else front.client_fin,
        server_fin=idle if back.server_fin is None else back.server_fin,
    )


@dataclass(frozen=True, slots=True)
class FlowTimeouts:
    """The timers of one UDP flow, each finite, in seconds."""

    one_way: float
    """No packet either way, of a flow that only one side has been seen of."""
    both_ways: float
    """No packet either way, of a flow that both sides have been seen of."""


def flow_timeouts(front: Timeouts, back: Timeouts) -> FlowTimeouts:
    """The timers of a flow from a frontend with the timeouts `front` to a backend with the timeouts `back`.

    `timeout server` says how long a server may be silent, and while it has not been heard at all that is all there is
    to wait for: it alone times such a flow, and `timeout client` only where it is not set. Once both sides have been
    heard a flow has one idle timer as a TCP connection has, the smaller of those that are set.
    """
    spoken = [seconds for seconds in (back.server, front.client) if seconds is not None]
    return FlowTimeouts(one_way=spoken[0] if spoken else FLOW_ONE_WAY, both_ways=min(spoken, default=FLOW_BOTH_WAYS))


def check_timeouts(back: Timeouts, inter: float) -> tuple[float, float | None]:
    """Seconds that a check may take to connect, and then to be answered, for a server checked every `inter` seconds.

    As in HAProxy: without `timeout check`, both together may take as long as the interval, and there is no second
    number. With it, connecting is bounded by `timeout connect` as well, and the answer by `timeout check`.
    """
    if back.check is None:
        return inter, None
    return (inter if back.connect is None else min(inter, back.connect)), back.check
