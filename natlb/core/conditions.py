"""Conditions: what rules ask before they act, made ready once and asked for each connection that opens.

    sample      takes a value off a connection that opens: its source address, the sessions of its frontend, ...
    match       says of a value whether it is one of those that were named
    condition   says of a connection that opens whether it is so: a match applied to a sample, or several of them joined

All three are plain functions, put together when the configuration is read; nothing is interpreted afterwards. A sample
that has no value, such as what a table stores of a key that it does not know how to have, gives None, and no match is
asked about that: it is not so.

Addresses are bytes as they stand in a packet. A set of networks is kept by mask: an address is looked up once for each
different mask, however many networks there are. As in HAProxy, an IPv4 address is also in the networks of IPv4-mapped
IPv6 addresses, and an IPv6 address that embeds an IPv4 one (IPv4-mapped, or 6to4) is also in those of IPv4.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from natlb.core.opening import Opening

Value = bytes | int | str
"""An address, a number or a truth, a name."""

Sample = Callable[["Opening"], Value | None]
Match = Callable[[Value], bool]
Condition = Callable[["Opening"], bool]

Network = tuple[bytes, bytes]
"""An address and a mask, 4 or 16 bytes each. The mask's ones need not be the first."""

_MAPPED: Final = bytes(10) + b"\xff\xff"
_UNSPECIFIED: Final = bytes(12)
_6TO4: Final = b"\x20\x02"


def in_networks(networks: Iterable[Network]) -> Match:
    """Match addresses of these networks."""
    by_mask: dict[int, dict[int, set[int]]] = {4: {}, 16: {}}
    for address, mask in networks:
        bits = _number(mask)
        by_mask[len(address)].setdefault(bits, set()).add(_number(address) & bits)
    narrow, wide = tuple(by_mask[4].items()), tuple(by_mask[16].items())

    def match(value: Value) -> bool:
        if not isinstance(value, bytes):
            return False
        four, six = (value, _MAPPED + value) if len(value) == 4 else (_embedded(value), value)
        return (four is not None and _is_in(four, narrow)) or _is_in(six, wide)

    return match


def in_ranges(ranges: Iterable[tuple[int | None, int | None]]) -> Match:
    """Match numbers from one of these ranges, both ends included; None is no end."""
    bounds = tuple(ranges)

    def match(value: Value) -> bool:
        return isinstance(value, int) and any(
            (low is None or low <= value) and (high is None or value <= high) for low, high in bounds
        )

    return match


def is_text(texts: Iterable[str], compare: Callable[[str, str], bool] = str.__eq__, *, any_case: bool = False) -> Match:
    """Match texts that compare well with one of these, as `compare(text, wanted)` says."""
    wanted = tuple(text.lower() if any_case else text for text in texts)

    def match(value: Value) -> bool:
        text = str(value).lower() if any_case else str(value)
        return any(compare(text, each) for each in wanted)

    return match


def is_true(value: Value) -> bool:
    """Match what is true, or a number that is not 0."""
    return bool(value)


def is_found(_: Value) -> bool:
    """Match any value at all."""
    return True


def ask(sample: Sample, match: Match) -> Condition:
    """Return the condition that a sample has a value and the value matches."""

    def condition(opening: "Opening") -> bool:
        value = sample(opening)
        return value is not None and match(value)

    return condition


def any_of(conditions: Iterable[Condition]) -> Condition:
    """Return the condition that one of these holds. They are asked in order, and no more than it takes."""
    asked = tuple(conditions)
    return asked[0] if len(asked) == 1 else lambda opening: any(condition(opening) for condition in asked)


def all_of(conditions: Iterable[Condition]) -> Condition:
    """Return the condition that all of these hold. They are asked in order, and no more than it takes."""
    asked = tuple(conditions)
    return asked[0] if len(asked) == 1 else lambda opening: all(condition(opening) for condition in asked)


def unless(condition: Condition) -> Condition:
    """Return the condition that this one does not hold."""
    return lambda opening: not condition(opening)


def always(_: "Opening") -> bool:
    """Hold for every connection."""
    return True


def _is_in(address: bytes, networks: tuple[tuple[int, set[int]], ...]) -> bool:
    number = _number(address)
    return any(number & mask in wanted for mask, wanted in networks)


def _embedded(address: bytes) -> bytes | None:
    """Return the IPv4 address that an IPv6 one embeds, if it does."""
    if address.startswith((_MAPPED, _UNSPECIFIED)):
        return address[12:]
    return address[2:6] if address.startswith(_6TO4) else None


def _number(address: bytes) -> int:
    return int.from_bytes(address, "big")
