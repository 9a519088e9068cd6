"""The part of the model that rules are made of: what they look at, what they compare it with, what they do then.

A rule has a `Condition`, which joins ACLs, and an ACL has tests: a `Sample` of the connection against patterns. Names
are HAProxy's, and all of them mean something: a rule that names a backend, a server or a table that is not there, or a
fact that natlb does not know, makes no model. What HAProxy lets a configuration leave out, such as the section that is
meant, is filled in here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from natlb.config.model import Address, Location

Kind = Literal["ip", "int", "bool", "str"]
"""What a sample is: an address, a number, a truth or a text."""

Method = Literal["found", "bool", "int", "ip", "str", "beg", "end", "sub"]
"""How a sample is compared with patterns (`-m`)."""

TableType = Literal["ip", "ipv6", "integer"]


@dataclass(frozen=True, slots=True)
class Call:
    """A name with arguments in parentheses: `nbsrv(nodes)`, `ipmask(24)`."""

    name: str
    """As it was written."""
    arguments: tuple[str, ...] = ()
    """As they were written, or as HAProxy understands them where they were left out."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A fact about a connection, and what is made of it: `src,ipmask(24)`."""

    fact: Call
    """HAProxy's sample fetch."""
    converters: tuple[Call, ...]
    """Applied one after the other."""
    kind: Kind
    """What comes out."""


@dataclass(frozen=True, slots=True)
class Network:
    """Addresses that are the same where the mask has ones."""

    address: "Address"
    mask: "Address"
    """Of the same family; its ones need not be the first."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from one to another, both included. None is no end."""

    low: int | None
    high: int | None


Pattern = Network | Range | str


@dataclass(frozen=True, slots=True)
class Test:
    """One ACL line: a sample, and the patterns of which it has to match one."""

    sample: Sample
    method: Method
    patterns: tuple[Pattern, ...]
    """Networks for `ip`, ranges for `int`, texts for `str` and its parts; none for `found` and `bool`."""
    any_case: bool
    """Whether texts are compared without regard to case (`-i`)."""


@dataclass(frozen=True, slots=True)
class Term:
    """One word of a condition: an ACL, or what stands in braces."""

    negated: bool
    """Whether it holds when the ACL does not match (`!`)."""
    tests: tuple[Test, ...]
    """All lines of the ACL; it matches when one of them does."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What stands after `if` or `unless`."""

    negated: bool
    """`unless`."""
    choices: tuple[tuple[Term, ...], ...]
    """It holds when all terms of one of these do."""


@dataclass(frozen=True, slots=True)
class UseBackend:
    """`use_backend`."""

    backend: str
    condition: Condition | None
    """None holds always."""
    location: "Location"


@dataclass(frozen=True, slots=True)
class UseServer:
    """`use-server`."""

    server: str
    condition: Condition
    location: "Location"


@dataclass(frozen=True, slots=True)
class ConnectionRule:
    """`tcp-request connection`."""

    action: Literal["accept", "reject", "silent-drop", "track", "sc-inc-gpc0"]
    condition: Condition | None
    """None holds always."""
    location: "Location"
    slot: int = 0
    """For `track` and `sc-inc-gpc0`: which of the connection's entries, 0 to 2."""
    sample: Sample | None = None
    """For `track`: the key."""
    table: str | None = None
    """For `track`: the table, by the name of its section."""


@dataclass(frozen=True, slots=True)
class StickTable:
    """`stick-table`; its name is that of its section."""

    type: TableType
    size: int
    """The most entries that it has."""
    expire: float | None
    """Seconds after which an entry that nothing happens to is forgotten; None is never."""
    purge: bool
    """Whether old entries make room for new ones; not with `nopurge`."""
    stored: tuple[tuple[str, float | None], ...]
    """What entries store, by HAProxy's names; rates with their periods in seconds, counts with None."""
    location: "Location"


@dataclass(frozen=True, slots=True)
class StickRule:
    """`stick on`, `stick match` or `stick store-request`."""

    matches: bool
    """Whether it sends connections to the server that their key sticks to."""
    stores: bool
    """Whether their keys will stick to the server that they get."""
    sample: Sample
    """The key."""
    table: str
    """The table, by the name of its section."""
    condition: Condition | None
    """None holds always."""
    location: "Location"
