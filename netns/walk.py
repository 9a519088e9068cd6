"""One packet recognised at several places: what the balancer changed in it, and what it left alone.

A layer-4 balancer changes where a packet goes, never what it says. So the TCP connection itself identifies a packet on
both sides: sequence and acknowledgement number, flags, timestamps and payload are the same before and after; addresses,
ports, checksums and the time to live are not part of that. A packet sent twice is told apart by order.

Nor do addresses say whose connection it is: with full NAT a server sees the balancer in the client's place, and the
balancer's own health checks come from the same address. A connection's first packet does, with its sequence number.

Pure: sightings in, walks out. `netns.dissect` makes sightings of captures.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sighting:
    """One TCP segment, seen at one place."""

    place: str
    time: float
    source: str
    destination: str
    ttl: int
    ip_checksum: int | None
    """None with IPv6, which has none."""
    tcp_checksum: int
    checksums_right: bool
    seq: int
    ack: int
    flags: str
    timestamps: tuple[int, int] | None
    payload: bytes

    @property
    def identity(self) -> tuple[object, ...]:
        """What no layer-4 balancer may change."""
        return self.seq, self.ack, self.flags, self.timestamps, self.payload


FIELDS = {
    "source": "source",
    "destination": "destination",
    "TTL": "ttl",
    "IP checksum": "ip_checksum",
    "TCP checksum": "tcp_checksum",
    "sequence": "seq",
    "acknowledged": "ack",
    "flags": "flags",
    "timestamp": "timestamps",
    "payload": "payload",
}
"""The fields that a walk compares: how people call them -> how `Sighting` does."""


@dataclass(frozen=True, slots=True)
class Walk:
    """One packet at every place where it was seen, in the order of its way."""

    towards_server: bool
    sightings: tuple[Sighting, ...]

    @property
    def first(self) -> Sighting:
        """As it was sent."""
        return self.sightings[0]


def of_connection(sightings: Iterable[Sighting], client: str) -> list[tuple[bool, Sighting]]:
    """Return what belongs to one connection, named by its client's endpoint, each with whether it goes to the server.

    Where the client was not seen, it is known by another endpoint if one sent its SYN there.
    """
    sightings = list(sightings)
    own = [seen for seen in sightings if client in (seen.source, seen.destination)]
    openings = {seen.identity for seen in own if seen.source == client and seen.flags == "S"}
    under_its_name = {seen.place for seen in own}
    towards_server = {(seen.source, seen.destination) for seen in own if seen.source == client}
    towards_server |= {
        (seen.source, seen.destination)
        for seen in sightings
        if seen.flags == "S" and seen.identity in openings and seen.place not in under_its_name
    }
    found = []
    for seen in sightings:
        ends = seen.source, seen.destination
        if ends in towards_server:
            found.append((True, seen))
        elif client in ends or ends[::-1] in towards_server:
            found.append((False, seen))
    return found


def follow(sightings: Iterable[Sighting], client: str, way: Sequence[str]) -> list[Walk]:
    """Join the sightings of one connection, named by its client's endpoint, into walks, in the order of sending.

    `way` lists the places from the client to the server. A reply goes it backwards. Sightings at other places, or of
    other connections, are passed over.
    """
    together: dict[tuple[bool, tuple[object, ...], int], list[Sighting]] = {}
    count: dict[tuple[object, ...], Iterable[int]] = {}
    for towards_server, sighting in of_connection((seen for seen in sightings if seen.place in way), client):
        seen_here = count.setdefault((sighting.place, towards_server, sighting.identity), itertools.count())
        nth = next(iter(seen_here))
        together.setdefault((towards_server, sighting.identity, nth), []).append(sighting)
    walks = []
    for (towards_server, _, _), group in together.items():
        group.sort(key=lambda sighting: way.index(sighting.place), reverse=not towards_server)
        walks.append(Walk(towards_server, tuple(group)))
    return sorted(walks, key=lambda walk: min(sighting.time for sighting in walk.sightings))


def changed(before: Sighting, after: Sighting) -> set[str]:
    """Name the fields that differ between two places."""
    return {name for name, field in FIELDS.items() if getattr(before, field) != getattr(after, field)}
