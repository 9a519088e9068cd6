"""What a rule may look at: HAProxy's sample fetches and converters, as far as packets tell.

    src     dst_port     nbsrv(nodes)     src_conn_rate(clients)     src,ipmask(24)     dst_port,mod(2)

A sample begins with a fact, and converters may follow, each after a comma. `FACTS` and `CONVERTERS` are all that there
are; what else HAProxy 2.6 knows is refused, with the reason where natlb will never have it. A name that a fact or
converter takes, of a section or a server, is kept as a `Reference` and looked up when all sections are known.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

from natlb.config.drafts import ProxyDraft, Reading, Reference
from natlb.config.entries import CONTENT, HTTP, TLS
from natlb.config.integers import parse_integer
from natlb.config.model import Location
from natlb.config.rule_model import Call, Kind, Sample
from natlb.config.suggest import hint
from natlb.errors import ConfigError

STORED: Final = {
    "conn_cnt": "conn_cnt",
    "conn_cur": "conn_cur",
    "conn_rate": "conn_rate",
    "sess_cnt": "sess_cnt",
    "sess_rate": "sess_rate",
    "get_gpc0": "gpc0",
    "inc_gpc0": "gpc0",
    "clr_gpc0": "gpc0",
    "gpc0_rate": "gpc0_rate",
}
"""What a fact about a key is called after `src_` or `sc0_`, and the data of the table that it needs."""

MOST_SLOTS: Final = 3
"""`sc0` to `sc2`: HAProxy's MAX_SESS_STKCTR."""

_LAYER_7: Final = (
    (re.compile(r"ssl_|req[._]ssl_|res\.ssl_|rep_ssl_"), TLS),
    (
        re.compile(
            r"payload|req[._]len|res\.len|req\.payload|res\.payload|(req[._])?rdp_cookie|wait_end|distcc_|fc_pp_"
        ),
        CONTENT,
    ),
    (
        re.compile(
            r"path|query|url|base|hdr|shdr|cook|scook|set_cookie|meth|http_|status|capture\.|unique-id|internal\.|"
            r"(src|sc[0-9]?)_http_|req\.|res\.|req_|resp_|[bf]c_http_|fcgi\."
        ),
        HTTP,
    ),
)

_OF_A_SOCKET: Final = (
    "is of one listening socket; natlb counts by frontends, and not by 'bind' lines: use 'fe_conn', 'fe_id', 'dst' or "
    "'dst_port'."
)
_ALIKE: Final = (
    "is not of the connection; natlb's rules go by packets and counters, so that 'natlb replay' decides alike:"
)
_BY_CHANCE: Final = f"{_ALIKE} use 'balance random' and weights."
_BY_THE_CLOCK: Final = f"{_ALIKE} use 'set server' on the stats socket when the time has come."
_OF_BYTES: Final = (
    "counts the bytes of a key; natlb's tables count connections: use 'conn_rate', 'conn_cur' or 'sess_rate'."
)
_OF_ENDS: Final = "is of one of a proxy's two connections; natlb has a single one: use 'src', 'dst' and their ports."

_OTHERS: Final = (
    (re.compile(r"(dst_conn|so_id|so_name)\b"), _OF_A_SOCKET),
    (re.compile(r"(rand|uuid)\b"), _BY_CHANCE),
    (re.compile(r"date(_us)?\b"), _BY_THE_CLOCK),
    (re.compile(r"(src|sc[0-9]?)_k?bytes_(in|out)"), _OF_BYTES),
    (re.compile(r"[bf]c_(src|dst|err|rcvd_proxy|rtt|unacked|sacked|retrans|fackets|lost|reordering)"), _OF_ENDS),
)
"""What is no matter of layer 7, and not there all the same."""

_CALL: Final = re.compile(r"([A-Za-z0-9_.-]+)(?:\(([^()]*)\))?")

Section = Literal["frontend", "backend", "table"]
Argument = Literal["", "frontend", "backend", "server", "table", "slot", "slot and table"]


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact: what it is, and what it takes in parentheses."""

    kind: Kind
    takes: Argument = ""
    data: str = ""
    """What the table has to store, for a fact about a key."""


def _table_facts() -> Mapping[str, Fact]:
    facts = {}
    for name, data in STORED.items():
        facts[f"src_{name}"] = Fact("int", "table", data)
        if name not in ("inc_gpc0", "clr_gpc0"):
            facts[f"sc_{name}"] = Fact("int", "slot and table", data)
            facts |= {f"sc{slot}_{name}": Fact("int", "table", data) for slot in range(MOST_SLOTS)}
    facts["sc_tracked"] = Fact("bool", "slot")
    facts |= {f"sc{slot}_tracked": Fact("bool") for slot in range(MOST_SLOTS)}
    return facts


FACTS: Final[Mapping[str, Fact]] = {
    "always_true": Fact("bool"),
    "always_false": Fact("bool"),
    "src": Fact("ip"),
    "dst": Fact("ip"),
    "src_port": Fact("int"),
    "dst_port": Fact("int"),
    "src_is_local": Fact("bool"),
    "dst_is_local": Fact("bool"),
    "fe_id": Fact("int"),
    "fe_name": Fact("str"),
    "fe_conn": Fact("int", "frontend"),
    "fe_sess_rate": Fact("int", "frontend"),
    "be_conn": Fact("int", "backend"),
    "be_sess_rate": Fact("int", "backend"),
    "nbsrv": Fact("int", "backend"),
    "srv_is_up": Fact("bool", "server"),
    "srv_conn": Fact("int", "server"),
    "srv_queue": Fact("int", "server"),
    "queue": Fact("int", "backend"),
    "avg_queue": Fact("int", "backend"),
    "connslots": Fact("int", "backend"),
    "table_cnt": Fact("int", "table"),
    **_table_facts(),
}
"""All facts, by name."""


@dataclass(frozen=True, slots=True)
class Converter:
    """A converter: what it takes and makes, and how its arguments are checked."""

    takes: Kind | None
    """None is any."""
    makes: Kind
    read: Callable[[tuple[str, ...]], tuple[str, ...]]
    """Gives the arguments their standard form. Raises ConfigError for those that it does not take."""
    table: bool = False
    """Whether its argument is the name of a table."""


def _no_arguments(arguments: tuple[str, ...]) -> tuple[str, ...]:
    if arguments:
        raise ConfigError("takes no argument")
    return ()


def _one_number(arguments: tuple[str, ...]) -> tuple[str, ...]:
    if len(arguments) != 1:
        raise ConfigError("takes one number")
    return (str(parse_integer(arguments[0], "its argument", -(2**31))),)


def _divisor(arguments: tuple[str, ...]) -> tuple[str, ...]:
    (number,) = _one_number(arguments)
    if int(number) < 1:
        raise ConfigError("takes a number above 0")
    return (number,)


def _masks(arguments: tuple[str, ...]) -> tuple[str, ...]:
    if not 1 <= len(arguments) <= 2:
        raise ConfigError("takes a mask for IPv4, and perhaps one for IPv6")
    return tuple(str(mask(word, bits)) for word, bits in zip(arguments, (32, 128), strict=False))


def _one_name(arguments: tuple[str, ...]) -> tuple[str, ...]:
    if len(arguments) != 1 or not arguments[0]:
        raise ConfigError("takes the name of a table")
    return arguments


CONVERTERS: Final[Mapping[str, Converter]] = {
    "ipmask": Converter("ip", "ip", _masks),
    "in_table": Converter(None, "bool", _one_name, table=True),
    "add": Converter("int", "int", _one_number),
    "sub": Converter("int", "int", _one_number),
    "mul": Converter("int", "int", _one_number),
    "div": Converter("int", "int", _divisor),
    "mod": Converter("int", "int", _divisor),
    "and": Converter("int", "int", _one_number),
    "or": Converter("int", "int", _one_number),
    "xor": Converter("int", "int", _one_number),
    "odd": Converter("int", "bool", _no_arguments),
    "even": Converter("int", "bool", _no_arguments),
    "bool": Converter("int", "bool", _no_arguments),
    "not": Converter("int", "bool", _no_arguments),
}
"""All converters, by name."""


def mask(word: str, bits: int) -> IPv4Address | IPv6Address:
    """The mask of `bits` bits that a word is: a number of ones, or an address. Raises ConfigError if it is none."""
    make = IPv4Address if bits == 32 else IPv6Address
    if re.fullmatch(r"[0-9]{1,3}", word, re.ASCII) and int(word) <= bits:
        return make(2**bits - 2 ** (bits - int(word)))
    try:
        return make(word)
    except ValueError as error:
        raise ConfigError(f"'{word}' is no IPv{4 if bits == 32 else 6} mask") from error


def why_not(fetch: str) -> str | None:
    """Why natlb will never have this fetch; None if it may."""
    return next((reason for pattern, reason in (*_LAYER_7, *_OTHERS) if pattern.match(fetch)), None)


def read_sample(reading: Reading, word: str, location: Location) -> Sample:
    """The sample that a word is. Raises ConfigError, in HAProxy's words where there are any."""
    pieces = _pieces(word)
    if not pieces or not pieces[0]:
        raise ConfigError(f"missing fetch method in ACL expression '{word}'.")
    reader = _Reader(reading, reading.section, word, location)
    return reader.sample(pieces)


def _pieces(word: str) -> list[str]:
    """A word cut at the commas that are not in parentheses."""
    return re.split(r",(?![^()]*\))", word)


@dataclass(slots=True)
class _Reader:
    reading: Reading
    section: ProxyDraft
    word: str
    location: Location
    references: list[Reference] = field(default_factory=list)

    def sample(self, pieces: list[str]) -> Sample:
        reason = why_not(pieces[0])
        if reason is not None:
            raise ConfigError(f"'{pieces[0]}' {reason}")
        name, arguments = self._call(pieces[0])
        fact = FACTS.get(name)
        if fact is None:
            raise ConfigError(
                f"unknown fetch method '{name}' in ACL expression '{self.word}'{hint(name, FACTS) or _NOT_HERE}"
            )
        made = Call(name, self._arguments(name, fact, arguments))
        kind = fact.kind
        converters = []
        for piece in pieces[1:]:
            call, kind = self._convert(piece, kind)
            converters.append(call)
        self.section.references += self.references
        return Sample(made, tuple(converters), kind)

    def _call(self, piece: str) -> tuple[str, tuple[str, ...]]:
        match = _CALL.fullmatch(piece)
        if match is None:
            raise ConfigError(f"'{piece}' is no fetch method, nor a converter, in ACL expression '{self.word}'.")
        inside = match[2]
        return match[1], tuple(part.strip() for part in inside.split(",")) if inside else ()

    def _arguments(self, name: str, fact: Fact, arguments: tuple[str, ...]) -> tuple[str, ...]:
        most = {"": 0, "slot and table": 2}.get(fact.takes, 1)
        if len(arguments) > most:
            raise ConfigError(f"fetch method '{name}' : too many arguments in ACL expression '{self.word}'.")
        if fact.takes == "":
            return ()
        if fact.takes in ("slot", "slot and table"):
            slot = str(parse_integer(arguments[0] if arguments else "", name, 0, MOST_SLOTS - 1))
            if len(arguments) < 2:
                return (slot,)
            return slot, self._refer("table", arguments[1], fact.data)
        written = arguments[0] if arguments else ""
        if fact.takes == "server":
            return self._server(name, written)
        if fact.takes == "table":
            if not written and name.startswith("sc"):
                return ()
            return (self._refer("table", written or self.section.name, fact.data),)
        side: Section = "frontend" if fact.takes == "frontend" else "backend"
        return (self._refer(side, written or self.section.name),)

    def _server(self, name: str, written: str) -> tuple[str, str]:
        backend, slash, server = written.rpartition("/")
        if not server:
            raise ConfigError(f"missing server name in arg 1 of ACL keyword '{name}' in proxy '{self.section.name}'.")
        backend = backend if slash else self.section.name
        self.references.append(Reference("server", f"{backend}/{server}", self.location, self.word))
        return backend, server

    def _refer(self, what: Section, name: str, data: str = "") -> str:
        self.references.append(Reference(what, name, self.location, self.word, data))
        return name

    def _convert(self, piece: str, kind: Kind) -> tuple[Call, Kind]:
        name, arguments = self._call(piece)
        converter = CONVERTERS.get(name)
        if converter is None:
            raise ConfigError(
                f"unknown converter '{name}' in ACL expression '{self.word}'{hint(name, CONVERTERS) or _NOT_HERE}"
            )
        numeric = {"int", "bool"}
        if converter.takes not in (None, kind) and not {converter.takes, kind} <= numeric:
            raise ConfigError(
                f"converter '{name}' cannot be applied in ACL expression '{self.word}': it takes {converter.takes}, "
                f"not {kind}."
            )
        try:
            read = converter.read(arguments)
        except ConfigError as error:
            raise ConfigError(
                f"invalid args in converter '{name}' : {error} in ACL expression '{self.word}'."
            ) from error
        if converter.table:
            self._refer("table", read[0])
        return Call(name, read), converter.makes


_NOT_HERE: Final = "; natlb knows none of that name: docs/rules.md lists those that it knows."
