"""How a backend shares out its connections: `balance`, `hash-type`, `fullconn`, `retries`, and the options beside them.

The algorithms are HAProxy's that work on what every packet shows. `balance hash` takes the fetches that do, and names
the layer of those that do not.
"""

from dataclasses import replace
from typing import Final

from natlb.config.drafts import Reading
from natlb.config.entries import at_most
from natlb.config.integers import parse_integer
from natlb.config.lexer import Line
from natlb.config.samples import why_not
from natlb.errors import ConfigError

FETCHES: Final = ("src", "dst", "src_port", "dst_port")
"""What `balance hash` can take of a connection."""
FUNCTIONS: Final = ("sdbm", "djb2", "crc32", "wt6")
"""The hash functions of `hash-type`."""
ALGORITHMS: Final = ("roundrobin", "static-rr", "leastconn", "first", "source", "random", "hash")


def balance(reading: Reading, line: Line) -> None:
    """`balance` alone, which means `balance roundrobin`, or with an algorithm that is not known."""
    if line.word(1):
        known = ", ".join(f"'{name}'" for name in ALGORITHMS)
        raise ConfigError(f"balance only supports {known} (got '{line.word(1)}').")
    reading.section.balance = "roundrobin"


def algorithm(reading: Reading, line: Line) -> None:
    """`balance roundrobin|static-rr|leastconn|first|source`."""
    at_most(1, "balance", line.words[1:])
    reading.section.balance = line.word(1)


def random(reading: Reading, line: Line) -> None:
    """`balance random`, with the number of draws behind it or without."""
    at_most(1, "balance", line.words[1:])
    _, opened, rest = line.word(1).partition("(")
    number, closed, after = rest.partition(")")
    if (opened and not closed) or after:
        raise ConfigError("balance random : expects 'random' or 'random(<draws>)'.")
    draws = parse_integer(number, "balance random") if number else None
    if draws == 0:
        raise ConfigError("balance random : number of draws must be at least 1.")
    reading.section.balance = "random"
    reading.section.draws = draws


def balance_hash(reading: Reading, line: Line) -> None:
    """`balance hash <fetch>`."""
    fetch = line.word(2)
    if not fetch:
        raise ConfigError("balance hash requires a sample expression.")
    if line.word(3):
        raise ConfigError(f"balance hash takes no other argument (got '{line.word(3)}').")
    if fetch not in FETCHES:
        reason = why_not(fetch)
        if reason is not None:
            raise ConfigError(f"'balance hash' : '{fetch}' {reason}")
        known = ", ".join(f"'{name}'" for name in FETCHES)
        raise ConfigError(f"'balance hash' takes one of {known} here, without converters (got '{fetch}').")
    reading.section.balance = "hash"
    reading.section.hashing = replace(reading.section.hashing, fetch=fetch)


def hash_type(reading: Reading, line: Line) -> None:
    """`hash-type map-based|consistent [<function> [avalanche]]`."""
    method, function, modifier = line.word(1), line.word(2), line.word(3)
    if method not in ("map-based", "consistent"):
        raise ConfigError("'hash-type' only supports 'consistent' and 'map-based'.")
    if function and function not in FUNCTIONS:
        raise ConfigError("'hash-type' only supports 'sdbm', 'djb2', 'crc32', or 'wt6' hash functions.")
    if modifier and modifier != "avalanche":
        raise ConfigError("'hash-type' only supports 'avalanche' as a modifier for hash functions.")
    at_most(3, "hash-type", line.words[1:])
    reading.section.hashing = replace(
        reading.section.hashing,
        consistent=method == "consistent",
        function=function or FUNCTIONS[0],
        avalanche=bool(modifier),
    )


def hash_balance_factor(reading: Reading, line: Line) -> None:
    """`hash-balance-factor <percent>`."""
    if not line.word(1):
        raise ConfigError("'hash-balance-factor' expects an integer argument.")
    at_most(1, "hash-balance-factor", line.words[1:])
    factor = parse_integer(line.word(1), "hash-balance-factor")
    if 0 < factor <= 100:
        raise ConfigError("'hash-balance-factor' must be 0 or greater than 100.")
    reading.section.hashing = replace(reading.section.hashing, balance_factor=factor)


def fullconn(reading: Reading, line: Line) -> None:
    """`fullconn <number>`."""
    if not line.word(1):
        raise ConfigError("'fullconn' expects an integer argument.")
    at_most(1, "fullconn", line.words[1:])
    reading.section.fullconn = parse_integer(line.word(1), "fullconn") or None


def retries(reading: Reading, line: Line) -> None:
    """`retries <number>`."""
    if not line.word(1):
        raise ConfigError("'retries' expects an integer argument (dispatch counts for one).")
    at_most(1, "retries", line.words[1:])
    reading.section.retries = parse_integer(line.word(1), "retries")


def redispatch(reading: Reading, line: Line) -> None:
    """`option redispatch [<interval>]`."""
    at_most(1, "option redispatch", line.words[2:])
    every = parse_integer(line.word(2), "option redispatch", -(2**31)) if line.word(2) else -1
    reading.section.redispatch = every


def no_redispatch(reading: Reading, line: Line) -> None:
    """`no option redispatch`."""
    at_most(1, "option redispatch", line.words[2:])
    reading.section.redispatch = 0


def all_backups(reading: Reading, line: Line) -> None:
    """`option allbackups`."""
    at_most(0, "option allbackups", line.words[2:])
    reading.section.all_backups = True


def no_all_backups(reading: Reading, line: Line) -> None:
    """`no option allbackups`."""
    at_most(0, "option allbackups", line.words[2:])
    reading.section.all_backups = False


def persist(reading: Reading, line: Line) -> None:
    """`option persist`."""
    at_most(0, "option persist", line.words[2:])
    reading.section.persist = True


def no_persist(reading: Reading, line: Line) -> None:
    """`no option persist`."""
    at_most(0, "option persist", line.words[2:])
    reading.section.persist = False
