"""What the engine tells about its connections: facts for logs and tests, drawn with `NatEngine.next_event`.

Nobody changes them. They are not frozen all the same, because that makes making them three times as dear, and every
connection makes three.
"""

from dataclasses import dataclass

from natlb.core.enums import Constant
from natlb.core.flow import Connection, Direction, FlowKey
from natlb.core.pool import Place, Pool, Server
from natlb.core.service import Service
from natlb.core.states import State
from natlb.core.waiting import Wait


class EndReason(Constant):
    """Why a connection is over."""

    FINISHED = "both sides closed it"
    RESET = "one side reset it"
    TIMED_OUT = "it was silent for too long"
    SHUT_DOWN = "it was shut down here"
    SERVER_DOWN = "its server went down"
    SERVER_UP = "its server was a backup, and is needed no more"
    REPLACED = "the client opened a new connection with the same port"
    RESCHEDULED = "its server was gone, or did not answer, and another one is asked"
    EVICTED = "it had to make room for another"


@dataclass(slots=True)
class Live:
    """Connections open at one moment."""

    process: int
    service: int
    pool: int
    server: int


@dataclass(slots=True)
class Account:
    """What a connection had come to at one moment, for a log: its row in the ledger may soon be another's.

    It is made for services that are `logged`, and counts the packet that brought the moment about.
    """

    opened: float
    """When its first packet came, on the engine's clock."""
    answered: float | None
    """When its server first answered: of TCP, with a SYN. None while it has not."""
    octets: tuple[int, int]
    """Bytes of payload, by direction."""
    retries: int
    """How often the client had to send its SYN again."""
    state: State
    """The state that it was in before."""
    by: Direction | None
    """Which side's packet it was; None if it was none."""
    live: Live
    """With this connection in it."""
    waited: Wait | None = None
    """How it waited for a place before that; None if it had one at once."""


@dataclass(slots=True)
class ConnectionOpened:
    """The first packet of a connection was let through to a server."""

    connection: Connection


@dataclass(slots=True)
class ConnectionEstablished:
    """Both sides have been heard: of TCP, the client has acknowledged the server's SYN."""

    connection: Connection
    account: Account | None = None


@dataclass(slots=True)
class ConnectionClosed:
    """A connection ended: both sides closed it, or it was given up."""

    connection: Connection
    reason: EndReason
    account: Account | None = None


@dataclass(slots=True)
class ConnectionRefused:
    """A service that is `logged` had no server for a connection, or no place, and said so to the client."""

    service: Service
    pool: Pool | None
    """Where it was led; None is nowhere."""
    original: FlowKey
    """What the client sent."""
    live: Live
    reason: Place = Place.NONE
    server: Server | None = None
    """The one that it was to have, if any."""
    waited: Wait | None = None
    """How it waited for a place, if it did."""


@dataclass(slots=True)
class ServerBypassed:
    """A server gets SYNs and no answer of it comes back through here: it may be answering the clients directly."""

    connection: Connection
    """The latest that it did not answer."""
    over: bool = False
    """Whether that is over, since it has answered this connection."""


@dataclass(slots=True)
class ServerTried:
    """A connection to a server that is observed has, or has not, reached it."""

    connection: Connection
    answered: bool
    """Whether the server answered with a SYN of its own. False is a RST, or no answer until the client tried again."""


Event = ConnectionOpened | ConnectionEstablished | ConnectionClosed | ConnectionRefused | ServerBypassed | ServerTried
