"""What becomes of a packet."""

from dataclasses import dataclass

from natlb.core.enums import Constant


class DropReason(Constant):
    """Why a packet was not let through. Each is counted by its name."""

    TRUNCATED = "the packet is shorter than its headers say"
    BAD_VERSION = "neither IPv4 nor IPv6"
    BAD_HEADER = "a header length is impossible"
    BAD_FLAGS = "a combination of TCP flags that no host sends"
    BAD_CHECKSUM = "a checksum is wrong, in a packet that would open, change or refuse something"
    BAD_SOURCE = "a new connection from an address that no single host has"
    OUT_OF_WINDOW = "a RST that its receiver would not take either"
    NO_CONNECTION = "a RST or an ICMP error about a virtual address, for a connection that does not exist"
    MAXCONN = "a new connection past the limit; the client will try again"
    RATE_LIMIT = "a new connection past the limit per second; the client will try again"
    DENIED = "a new connection that a rule drops without an answer"
    QUEUED = "a new connection whose server is full; the client will try again"
    TUPLE_CLASH = "a connection of an endpoint with itself"
    NO_PORT = "no source port is free for full NAT"
    TABLE_FULL = "no entry of the table can give way"
    FRAGMENT_DUPLICATE = "a fragment of which every byte was there already"
    FRAGMENT_OVERLAP = "fragments that overlap: the whole datagram is given up"
    FRAGMENT_TINY = "a first fragment without the whole transport header"
    FRAGMENT_TIMEOUT = "a fragment whose first fragment did not come in time"
    FRAGMENT_LIMIT = "more fragments wait, or of more datagrams, than is allowed"
    ICMP_LIMIT = "a refused datagram, when enough refusals were sent this second"


@dataclass(slots=True)
class Accept:
    """Let the packet pass as it is: it is none of ours."""


@dataclass(slots=True)
class Rewrite:
    """Let the packet pass in the place of the one handed in.

    It holds until the next packet is handed in: the short way gives the same object each time.
    """

    payload: bytearray
    """The whole packet: the very buffer that was handed in."""


@dataclass(slots=True)
class Drop:
    """Throw the packet away."""

    reason: DropReason


@dataclass(slots=True)
class Reply:
    """Throw the packet away and send this one, made by the engine, to where it says."""

    packet: bytes


@dataclass(slots=True)
class Hold:
    """Keep the packet back: what becomes of it is told later, by its ticket."""

    ticket: int


Verdict = Accept | Rewrite | Drop | Reply | Hold
