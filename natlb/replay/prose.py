"""An explanation in words, 80 columns wide, addresses of IPv6 aside; on a terminal with the changed bytes in colour."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from natlb.replay.history import Fate

Told = Mapping[str, Any]

_WIDTH: Final = 80
_MOST_SERVERS: Final = 24
_ROWS_AFTER: Final = 2
"""Rows that are shown behind the last one that changed."""

_OLD, _NEW, _STRONG, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[0m"

_FATES: Final = {
    Fate.REWRITTEN: "It is sent on, rewritten.",
    Fate.ANSWERED: "natlb answers it itself, with",
    Fate.DROPPED: "It is dropped:",
    Fate.HELD: "It is held back: a fragment that came before the first of its datagram.",
    Fate.PASSED: "It is none of natlb's, and passes as it is:",
    Fate.COPY: "It is what natlb sent, which the capture has once more. natlb is not asked about it.",
    Fate.DIFFERENT: "It looks like natlb's work, and is not what was made here: something was different then.",
    Fate.FOREIGN: "It is no IP packet.",
    Fate.SHORT: "The capture has cut it too short: its headers are not whole.",
}


def lines(told: Told, *, colour: bool) -> Iterator[str]:
    """Return the lines of an explanation."""
    yield from _verdict(told, colour=colour)
    if "bind" in told:
        yield from _opening(told, colour=colour)
    if "connection" in told:
        yield from _connection(told["connection"], colour=colour)
    if "answer" in told:
        answer = told["answer"]
        yield from _title("The answer", colour=colour)
        yield f"  {answer['from']} > {answer['to']}"
        data = bytes.fromhex(answer["bytes"])
        yield from (f"  {_dumped(at, data[at : at + 16])}" for at in range(0, len(data), 16))
    if "changes" in told:
        yield from _bytes(told, colour=colour)


def _title(text: str, *, colour: bool) -> list[str]:
    return ["", f"{_STRONG}{text}{_PLAIN}" if colour else text]


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _verdict(told: Told, *, colour: bool) -> Iterator[str]:
    packet = told.get("packet")
    if packet is not None:
        flags = f" {packet['flags']}" if "flags" in packet else ""
        head = f"Packet {packet['number']}: {packet['from']} > {packet['to']}{flags}"
        yield f"{_STRONG}{head}{_PLAIN}" if colour else head
        captured = f", {packet['captured']} of them captured" if packet["captured"] < packet["size"] else ""
        checksum = f", its checksum is {packet['checksum']}" if "checksum" in packet else ""
        yield from _wrapped(f"{packet['kind']} of {packet['size']} bytes{captured}{checksum}")
    fate = Fate[told["fate"].upper()]
    text = _FATES[fate]
    if fate is Fate.ANSWERED:
        text += f" {told['answer']['what']}: {told['why']}."
    elif text.endswith(":"):
        text += f" {told['why']}."
    yield from _wrapped(text)


# How it was decided


def _opening(told: Told, *, colour: bool) -> Iterator[str]:
    bind = told["bind"]
    yield from _title(f"It asks for {bind['vip']}: frontend {bind['frontend']}", colour=colour)
    yield from _written(bind)
    for rule in told["rules"]:
        yield from _rule(rule)
    if "backend" not in told:
        return
    backend = told["backend"]
    if backend is None:
        yield from _title("No backend", colour=colour)
        yield from _wrapped("No rule leads anywhere, and there is no 'default_backend' that takes connections.")
        return
    yield from _title(f"Backend {backend['name']}, by {backend['how']}: balance {backend['balance']}", colour=colour)
    yield from _written(backend)
    servers: Sequence[Told] = told["servers"]
    shown = [each for place, each in enumerate(servers) if place < _MOST_SERVERS or each["chosen"]]
    widest = max((len(each["name"]) for each in shown), default=0)
    for server in shown:
        limit = "" if server["limit"] is None else f" of {server['limit']}"
        mark = "*" if server["chosen"] else "-"
        yield (
            f"  {mark} {server['name']:<{widest}}  {server['address']}  weight {server['weight']}, "
            f"{server['connections']}{limit} connections{', backup' if server['backup'] else ''}"
        )
        verdict = "chosen" if server["chosen"] else "not chosen"
        yield from _wrapped(f"{verdict}: {server['why']}", " " * (widest + 6))
    if len(shown) < len(servers):
        yield f"  and {len(servers) - len(shown)} more"
    if not servers:
        yield "  it has no servers"


def _written(place: Told) -> Iterator[str]:
    yield f"  {place['where']}: {place['line']}" if place["where"] else f"  {place['line']}"


def _rule(rule: Told) -> Iterator[str]:
    yield from _written(rule)
    for test in rule["tests"]:
        asked = " or ".join(test["patterns"]) or {"found": "anything", "bool": "true"}[test["method"]]
        yield from _wrapped(f"{test['sample']} is {test['value']}; is that {asked}? {_yes(test['holds'])}", "      ")
    effect = f": {rule['effect']}" if rule["effect"] else ""
    yield f"      {'holds' if rule['holds'] else 'does not hold'}{effect}"


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


# The connection


def _connection(connection: Told, *, colour: bool) -> Iterator[str]:
    by = f", opened by packet {connection['opened_by']}" if connection["opened_by"] is not None else ""
    yield from _title(f"Connection #{connection['number']}{by}", colour=colour)
    yield f"  {connection['frontend']} to {connection['server']}"
    source, destination = connection["original"]
    yield f"  original  {source} > {destination}   what the client sends"
    source, destination = connection["reply"]
    yield f"  reply     {source} > {destination}   what the server answers"
    if connection["full_nat"]:
        yield "  full NAT: the server sees an address and a port of the balancer's"
    direction = connection["direction"]
    if direction is not None:
        source, destination = connection["leaves_as"]
        other = "reply" if direction == "original" else "original"
        yield from _wrapped(
            f"The packet matches the {direction} tuple, so it leaves as the reverse of the {other}: "
            f"{source} > {destination}"
        )
    before, after = connection["state"]
    if before is None:
        yield f"  state     {after}, its first"
    else:
        yield f"  state     {before} > {after}" if before != after else f"  state     {after}, as before"


# The bytes


def _bytes(told: Told, *, colour: bool) -> Iterator[str]:
    yield from _title("What is written", colour=colour)
    for change in told["changes"]:
        yield f"  {change['at']:04x}  {change['field']}: {change['from']} > {change['to']}"
    yield ""
    yield from _dump([(at, bytes.fromhex(old), bytes.fromhex(new)) for at, old, new in told["rows"]], colour=colour)
    if told["unfinished"]:
        yield from _title("Checksums", colour=colour)
        yield from _wrapped(
            "The transport checksum was not complete when the packet was captured: the field holds the sum of the "
            "pseudo-header. It is summed anew."
        )
    for each in told["checksums"]:
        yield from _arithmetic(each, colour=colour)


def _dump(rows: Sequence[tuple[int, bytes, bytes]], *, colour: bool) -> Iterator[str]:
    changed = [number for number, (_, old, new) in enumerate(rows) if old != new]
    shown = (changed[-1] if changed else 0) + 1 + _ROWS_AFTER
    for at, old, new in rows[:shown]:
        if old == new:
            yield f"    {_dumped(at, old)}"
            continue
        which = [one != other for one, other in zip(old, new, strict=True)]
        if colour:
            yield f"  - {_dumped(at, old, which, _OLD)}"
            yield f"  + {_dumped(at, new, which, _NEW)}"
        else:
            yield f"  - {_dumped(at, old)}"
            yield f"  + {_dumped(at, new)}"
            yield ("          " + " ".join("^^" if each else "  " for each in which)).rstrip()
    left = sum(len(old) for _, old, _ in rows[shown:])
    if left:
        yield f"    and {left} more bytes, as they were"


def _dumped(at: int, data: bytes, which: Sequence[bool] = (), paint: str = "") -> str:
    """Return a row of a hexdump; bytes that are meant are painted."""
    pairs = [f"{byte:02x}" for byte in data]
    gap = "   " * (16 - len(data))
    if which:
        pairs = [f"{paint}{pair}{_PLAIN}" if meant else pair for pair, meant in zip(pairs, which, strict=True)]
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
    return f"{at:04x}  {' '.join(pairs)}{gap}  {text}"


def _arithmetic(told: Told, *, colour: bool) -> Iterator[str]:
    """Return a checksum's arithmetic: HC' = ~(~HC + ~m + m')."""
    old, new = told["from"], told["to"]
    yield from _title(f"{told['name']}, at {told['at']:04x}: {old:04x} > {new:04x}", colour=colour)
    total = old ^ 0xFFFF
    yield f"       {total:04x}  ~{old:04x}, the old checksum"
    for was, now in told["words"]:
        yield f"    +  {was ^ 0xFFFF:04x}  ~{was:04x}, taken out"
        yield f"    +  {now:04x}   {now:04x}, put in"
        total += (was ^ 0xFFFF) + now
    yield f"    = {total:5x}"
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
        yield f"    = {total:5x}  with the carry brought back in"
    made = told["computed"]
    yield f"    ~  {made:04x}  the new checksum"
    if made != new:
        yield f"       {new:04x}  as it is written: 0000 says that there is none (RFC 768)"
    if told["sum"] is not None:
        yield f"       {told['sum']:04x}  all that it covers, summed with it" + (
            ": right" if told["sum"] == 0xFFFF else ": it was wrong before, and is wrong in the same way"
        )
    else:
        yield "       what it covers was not captured, so it cannot be summed"
