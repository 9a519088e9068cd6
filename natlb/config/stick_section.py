"""Stick tables: `stick-table` makes the one of a section, `stick` keeps clients at their servers with it.

    stick-table type ip size 100k expire 30m store conn_rate(10s)
    stick on src

A section has at most one table, which has its name, and the rules of any section may use it.
"""

import re
from typing import Final

from natlb.config.acl import condition_of
from natlb.config.drafts import Reading, Reference
from natlb.config.entries import CONTENT, NO_PEERS
from natlb.config.lexer import Line
from natlb.config.rule_model import StickRule, StickTable, TableType
from natlb.config.samples import read_sample
from natlb.config.times import parse_time
from natlb.errors import ConfigError

COUNTS: Final = ("conn_cnt", "conn_cur", "sess_cnt", "gpc0")
RATES: Final = ("conn_rate", "sess_rate", "gpc0_rate")

_TYPES: Final[dict[str, TableType]] = {"ip": "ip", "ipv6": "ipv6", "integer": "integer"}
_TEXT_TYPES: Final = ("string", "binary")
_IMPLIED: Final = ("server_id", "server_key")
"""What a table stores anyway when a `stick` rule uses it."""
_READS: Final = ("http_req_cnt", "http_req_rate", "http_err_cnt", "http_err_rate", "http_fail_cnt", "http_fail_rate")
_OTHER: Final = ("gpt0", "gpt", "gpc", "gpc1", "gpc_rate", "gpc1_rate")
_OF_BYTES: Final = ("bytes_in_cnt", "bytes_out_cnt", "bytes_in_rate", "bytes_out_rate")
_SIZE: Final = re.compile(r"([0-9]{1,10})([kKmMgG]?)", re.ASCII)
_UNITS: Final = {"": 0, "k": 10, "m": 20, "g": 30}
_LARGEST: Final = 1 << 27
"""Entries of one table: some 50 GB of them."""

_STICKS: Final = {
    "on": (True, True),
    "match": (True, False),
    "store-request": (False, True),
}
"""Whether each kind of `stick` rule matches, and whether it stores."""


def stick_table(reading: Reading, line: Line) -> None:
    """`stick-table type <type> size <size> [expire <time>] [nopurge] [store <data>]`."""
    proxy = reading.section
    for other in (each for each in (proxy, *reading.proxies) if each.name == proxy.name):
        if other.stick_table is not None:
            raise ConfigError(
                f"stick-table name '{proxy.name}' conflicts with table declared in {other.noun} '{other.name}' at "
                f"{other.stick_table.location}."
            )
    try:
        proxy.stick_table = _read_table(reading, line)
    except ConfigError as error:
        raise ConfigError(f"stick-table: {error}") from error


def stick(reading: Reading, line: Line) -> None:
    """`stick on|match|store-request <sample> [table <name>] [if|unless <condition>]`."""
    proxy, what, rest = reading.section, line.word(1), line.words[2:]
    if what == "store-response":
        raise ConfigError(f"'stick store-response' {CONTENT}")
    if what not in _STICKS:
        raise ConfigError("'stick' expects 'on', 'match', or 'store'.")
    if not rest:
        raise ConfigError("'stick' expects a fetch method.")
    try:
        sample = read_sample(reading, rest[0], line.location)
    except ConfigError as error:
        raise ConfigError(f"'stick': {error}") from error
    rest = rest[1:]
    table = proxy.name
    if rest[:1] == ("table",):
        table, rest = "".join(rest[1:2]), rest[2:]
        if not table:
            raise ConfigError("'stick' expects a table name after 'table'.")
    condition = None
    if rest:
        if rest[0] not in ("if", "unless"):
            raise ConfigError(f"'stick': unknown keyword '{rest[0]}'.")
        doing = "'stick': error detected while parsing sticking condition"
        condition = condition_of(reading, rest, line.location, doing, "stick")
    if proxy.is_a("backend"):
        proxy.references.append(Reference("stick", table, line.location, "stick", sample.kind))
        matches, stores = _STICKS[what]
        proxy.stick_rules.append(StickRule(matches, stores, sample, table, condition, line.location))


def _read_table(reading: Reading, line: Line) -> StickTable:
    type_: TableType | None = None
    size = 0
    expire: float | None = None
    purge = True
    stored: dict[str, float | None] = {}
    met: set[str] = set()
    words, at = line.words, 1
    while at < len(words):
        name, value = words[at], words[at + 1] if at + 1 < len(words) else ""
        if name in met and name != "store":
            raise ConfigError(f"'{name}' is given twice; remove one.")
        met.add(name)
        at += 1 if name == "nopurge" else 2
        if name == "type":
            type_ = _type(value)
        elif name == "size":
            size = _size(value)
        elif name == "expire":
            if not value:
                raise ConfigError("missing argument after 'expire'.")
            expire = parse_time(value, "expire") or None
        elif name == "nopurge":
            purge = False
        elif name == "store":
            _store(reading, line, value, stored)
        elif name == "peers":
            raise ConfigError(f"'peers' {NO_PEERS}")
        elif name == "srvkey":
            if value not in ("name", "addr"):
                raise ConfigError(f"unknown server key type '{value}'.")
            if value == "addr":
                raise ConfigError("tables of natlb keep servers by name, which is 'srvkey name'.")
        elif name == "write-to":
            raise ConfigError("'write-to' is for tables that are shared, and natlb's are its own. Remove it.")
        else:
            raise ConfigError(f"unknown argument '{name}'.")
    if not size:
        raise ConfigError("missing size.")
    if type_ is None:
        raise ConfigError("missing type.")
    return StickTable(type_, size, expire, purge, tuple(stored.items()), line.location)


def _type(value: str) -> TableType:
    if value in _TEXT_TYPES:
        raise ConfigError(f"type '{value}' is for what a client says; natlb knows its address alone: 'ip' or 'ipv6'.")
    if value not in _TYPES:
        raise ConfigError(f"unknown type '{value}'.")
    return _TYPES[value]


def _size(value: str) -> int:
    if not value:
        raise ConfigError("missing argument after 'size'.")
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ConfigError(f"'size' takes a number, perhaps with k, m or g after it (got '{value}').")
    size = int(match[1]) << _UNITS[match[2].lower()]
    if size > _LARGEST:
        raise ConfigError(f"size {value} is more than the {_LARGEST} entries that a table can have.")
    return size


def _store(reading: Reading, line: Line, value: str, stored: dict[str, float | None]) -> None:
    if not value:
        raise ConfigError("missing argument after 'store'.")
    for each in value.split(","):
        name, parenthesis, argument = each.partition("(")
        argument = argument.removesuffix(")")
        if name in _IMPLIED and not parenthesis:
            continue
        if name in _READS:
            raise ConfigError(f"'{name}' {CONTENT}")
        if name in _OF_BYTES:
            raise ConfigError(f"'{name}' is not counted by client; connections are: 'conn_cnt', 'conn_rate(...)'.")
        if name in _OTHER:
            raise ConfigError(f"'{name}' is not stored; 'gpc0' and 'gpc0_rate(...)' are.")
        if name not in COUNTS + RATES:
            raise ConfigError(f"unknown store option '{name}'.")
        if name in RATES:
            if not argument or not each.endswith(")"):
                raise ConfigError(f"missing argument to store option '{name}'.")
            period = parse_time(argument, f"store {name}")
            if not period:
                raise ConfigError(f"store option '{name}' takes a time above 0.")
        elif parenthesis:
            raise ConfigError(f"unexpected argument to store option '{name}'.")
        if name in stored:
            text = f"stick-table: store option '{name}' already enabled, ignored."
            reading.say("WARNING", line.location, text)
        else:
            stored[name] = period if name in RATES else None
