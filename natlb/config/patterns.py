"""What samples are compared with: addresses and networks, numbers and ranges, texts.

    src 10.0.0.0/8 192.0.2.7 2001:db8::/32 -f blocked.lst
    dst_port 80 8000:8999
    nbsrv(nodes) lt 2

Flags come first, then patterns, of which one has to match. A pattern file has one pattern a line; empty lines and those
that begin with `#` are passed over.

Stricter than HAProxy: a host name is no address here (it is resolved once, and `10/8` is one to HAProxy: 0.0.0.10), an
operator goes with a number and not with a range, and what is compared with nothing (`-m bool`, `-m found`) takes none.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

from natlb.config.drafts import Reading
from natlb.config.rule_model import Kind, Method, Network, Pattern, Range, Sample, Test
from natlb.config.samples import mask
from natlb.errors import ConfigError

_METHODS: Final[dict[Kind, tuple[Method, ...]]] = {
    "ip": ("ip", "found"),
    "int": ("int", "bool", "found"),
    "bool": ("bool", "found"),
    "str": ("str", "beg", "end", "sub", "found"),
}
"""How samples of each kind can be compared; the first is what holds without `-m`."""

_OTHER_METHODS: Final = ("bin", "len", "dir", "dom", "reg", "ip", "int", "bool", "str", "beg", "end", "sub", "found")
_OPERATORS: Final = ("eq", "ge", "gt", "le", "lt")
_RANGE: Final = re.compile(r"(-?[0-9]+)?:(-?[0-9]+)?|([0-9]+)-([0-9]+)", re.ASCII)
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_LARGEST_FILE: Final = 64 << 20
"""Bytes of a pattern file."""


def read_test(reading: Reading, sample: Sample, words: tuple[str, ...]) -> Test:
    """The test that a sample and the words after it are. Raises ConfigError."""
    method: Method = _METHODS[sample.kind][0]
    any_case = as_map = from_file = False
    patterns: list[Pattern] = []
    at = 0
    while at < len(words) and words[at].startswith("-"):
        flag, value = words[at], words[at + 1] if at + 1 < len(words) else ""
        at += 1
        if flag == "--":
            break
        if flag in ("-i", "-m") and from_file:
            raise ConfigError(f"'{flag}' must only be specified before patterns and files.")
        if flag == "-i":
            any_case = True
        elif flag == "-M":
            as_map = True
        elif flag == "-m":
            method = _method(sample, value)
            at += 1
        elif flag == "-u":
            _take_id(reading, value)
            at += 1
        elif flag == "-f":
            patterns += _from_file(value, _reader(method), as_map=as_map)
            from_file = True
            at += 1
        elif flag != "-n":  # names are never resolved here
            raise ConfigError(
                f"'{flag}' is not a valid ACL option. Please use '--' before any pattern beginning with a '-'."
            )
    rest = words[at:]
    if method in ("bool", "found"):
        if rest or patterns:
            what = "is true or not" if method == "bool" else "has a value or not"
            raise ConfigError(
                f"'{sample.fact.name}' {what}, and is compared with no pattern (got '{(*rest, '-f')[0]}')."
            )
    elif method == "int":
        patterns += _numbers(rest)
    else:
        patterns += [_reader(method)(word) for word in rest]
    return Test(sample, method, tuple(patterns), any_case)


def _method(sample: Sample, name: str) -> Method:
    known = _METHODS[sample.kind]
    for method in known:
        if method == name:
            return method
    if name not in _OTHER_METHODS:
        raise ConfigError(f"unknown matching method '{name}' when parsing ACL expression; '-m' takes one.")
    fitting = ", ".join(f"'{each}'" for each in known)
    raise ConfigError(f"'{sample.fact.name}' cannot be matched by '-m {name}' in natlb, but by {fitting}.")


def _take_id(reading: Reading, word: str) -> None:
    if not _NUMBER.fullmatch(word):
        raise ConfigError("the argument of -u must be an integer.")
    if int(word) in reading.pattern_ids:
        raise ConfigError("the id is already used.")
    reading.pattern_ids.add(int(word))


def _reader(method: Method) -> Callable[[str], Pattern]:
    """What makes a pattern of a word, for a method that takes patterns."""
    return {"ip": _network, "int": _range}.get(method, _text)


def _text(word: str) -> Pattern:
    return word


def _network(word: str) -> Pattern:
    host, slash, size = word.partition("/")
    try:
        if re.fullmatch(r"[0-9.]+", host):
            address: IPv4Address | IPv6Address = IPv4Address(host)
        else:
            address = ip_address(host)
        if isinstance(address, IPv6Address) and (address.scope_id is not None or "." in size):
            raise ValueError(word)
        bits = 32 if address.version == 4 else 128
        if slash and (not size or (":" in size)):
            raise ValueError(word)
        return Network(address, mask(size if slash else str(bits), bits))
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"'{word}' is not a valid IPv4 or IPv6 address.") from error


def _range(word: str) -> Pattern:
    match = _RANGE.fullmatch(word)
    if match is not None:
        low, high = (_bound(match[1] or match[3], word), _bound(match[2] or match[4], word))
        if (low is None and high is None) or (low is not None and high is not None and low > high):
            raise ConfigError(f"'{word}' is not a valid number range.")
        return Range(low, high)
    number = _bound(word, word)
    return Range(number, number)


def _bound(text: str | None, word: str) -> int | None:
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise ConfigError(f"'{word}' is not a number.")
    return int(text)


def _numbers(words: tuple[str, ...]) -> list[Pattern]:
    operator, dangling = "eq", False
    patterns: list[Pattern] = []
    for word in words:
        if word in _OPERATORS:
            operator, dangling = word, True
            continue
        dangling = False
        if operator == "eq":
            patterns.append(_range(word))
            continue
        number = _bound(word, word)
        if number is None:
            raise AssertionError("a word is never None")
        patterns.append(
            {
                "ge": Range(number, None),
                "gt": Range(number + 1, None),
                "le": Range(None, number),
                "lt": Range(None, number - 1),
            }[operator]
        )
    if dangling:
        raise ConfigError(f"'{operator}' expects a number after it.")
    return patterns


def _from_file(name: str, read: Callable[[str], Pattern], *, as_map: bool) -> list[Pattern]:
    try:
        path = Path(name)
        if not name or not path.exists():
            raise ConfigError(f"failed to open pattern file <{name}>.")
        if path.is_file() and path.stat().st_size > _LARGEST_FILE:
            raise ConfigError(f"pattern file <{name}> is larger than {_LARGEST_FILE >> 20} MB.")
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ConfigError(f"error encountered while reading <{name}> : {reason}") from error
    patterns = []
    for number, line in enumerate(re.split(r"\r?\n", text), 1):
        word = line.lstrip(" \t")
        if not word or word.startswith("#"):
            continue
        if as_map:
            word = re.split(r"[ \t]", word, maxsplit=1)[0]
        try:
            patterns.append(read(word))
        except ConfigError as error:
            raise ConfigError(f"{str(error).rstrip('.')} at line {number} of file '{name}'.") from error
    return patterns
