"""What a reply says: HAProxy's formats, read with lenience.

What is not there, or is no number, is None: natlb leaves empty what it does not count, and HAProxy what does not apply.
Of `show sess` both write `name=value` words; what natlb has beyond HAProxy's, the bytes and both tuples, is None there.
"""

import csv
import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

_WORD: Final = re.compile(r"(\w+)=(\S*)")


class Kind(Enum):
    """What a line of `show stat` is about, by its column `type`."""

    FRONTEND = "0"
    BACKEND = "1"
    SERVER = "2"


@dataclass(frozen=True, slots=True)
class Row:
    """A frontend, a backend or a server."""

    kind: Kind
    proxy: str
    name: str
    status: str
    check: str
    address: str
    current: int | None
    """Connections now."""
    limit: int | None
    total: int | None
    """Connections ever."""
    rate: int | None
    """Connections of the last second."""
    octets_in: int | None
    octets_out: int | None
    queued: int | None
    weight: int | None
    active: int | None
    """Usable servers that are no backups; of a server, whether it is one."""
    backup: int | None

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from all others."""
        return self.kind.value, self.proxy, self.name


@dataclass(frozen=True, slots=True)
class Session:
    """A connection."""

    id: str
    protocol: str
    client: str
    frontend: str
    backend: str
    server: str
    state: str
    age: str
    idle: str
    asked: str
    """The virtual address."""
    octets_in: int | None
    octets_out: int | None
    packets: int | None
    """In both directions."""

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from all others: an id may be given again when its connection is over."""
        return self.id, self.client, self.asked

    @property
    def octets(self) -> int | None:
        """In both directions."""
        return None if self.octets_in is None or self.octets_out is None else self.octets_in + self.octets_out


def info(text: str) -> dict[str, str]:
    """Read the reply to `show info`: its values, by name. Nothing in it is nothing said."""
    pairs = (line.partition(": ") for line in text.splitlines())
    return {name: value for name, colon, value in pairs if colon}


def stat(text: str) -> list[Row]:
    """Read the reply to `show stat`. What has no heading of its own is no such reply, and has no rows."""
    if not text.startswith("# "):
        return []
    rows = []
    for line in csv.DictReader(text[2:].splitlines(), restval=""):
        try:
            kind = Kind(line.get("type"))
        except ValueError:
            continue  # a socket of a frontend, which natlb does not tell apart
        rows.append(
            Row(
                kind=kind,
                proxy=line["pxname"],
                name=line["svname"],
                status=line.get("status", ""),
                check=line.get("check_status", ""),
                address=line.get("addr", ""),
                current=_number(line.get("scur")),
                limit=_number(line.get("slim")),
                total=_number(line.get("stot")),
                rate=_number(line.get("rate")),
                octets_in=_number(line.get("bin")),
                octets_out=_number(line.get("bout")),
                queued=_number(line.get("qcur")),
                weight=_number(line.get("weight")),
                active=_number(line.get("act")),
                backup=_number(line.get("bck")),
            )
        )
    return rows


def refusal(text: str) -> str:
    """Return what a reply to `show sess` says that is no list of connections; empty for one that is."""
    said = text.strip().partition("\n")[0]
    return "" if "proto=" in said else said


def sessions(text: str) -> list[Session]:
    """Read the reply to `show sess`, less the connections to the stats socket itself."""
    found = []
    for line in text.splitlines():
        id_, colon, rest = line.partition(": ")
        word = dict(_WORD.findall(rest))
        if not colon or not word.get("proto", "").startswith(("tcp", "udp")):
            continue
        there, back = _number(word.get("opkts")), _number(word.get("rpkts"))
        found.append(
            Session(
                id=id_,
                protocol=word["proto"],
                client=word.get("src", ""),
                frontend=word.get("fe", ""),
                backend=word.get("be", ""),
                server=word.get("srv", ""),
                state=word.get("ts", ""),
                age=word.get("age", ""),
                idle=word.get("idle", ""),
                asked=word.get("orig", "").partition(">")[2],
                octets_in=_number(word.get("obytes")),
                octets_out=_number(word.get("rbytes")),
                packets=None if there is None or back is None else there + back,
            )
        )
    return found


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None
