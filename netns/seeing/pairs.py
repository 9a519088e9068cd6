"""A packet on the client's wire and the same packet on a server's wire, joined as they come.

What the balancer may not change names a packet on both (`netns.walk.Sighting.identity`); which of its ends is the
client's does not matter, so it works with full NAT as well. A packet whose other half does not come within a second was
held up: dropped, answered by the balancer itself, or sent by it. Pure: sightings and times in, passages out.
"""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from netns.walk import Sighting

_PATIENCE = 1.0
"""Seconds."""
_MOST = 1024
"""Packets that wait for their other half; and connections that are known."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One packet on both wires; None where it was not seen."""

    towards_server: bool
    client_side: Sighting | None
    server_side: Sighting | None

    @property
    def first(self) -> Sighting:
        """As it was sent."""
        order = (self.client_side, self.server_side) if self.towards_server else (self.server_side, self.client_side)
        return next(seen for seen in order if seen is not None)


class Pairs:
    """Sightings that wait for their other half."""

    def __init__(self, client_place: str, clients: Collection[str]) -> None:
        """`clients` are the client's addresses: who sends, at its own wire, tells the direction."""
        self._client_place = client_place
        self._clients = clients
        self._waiting: OrderedDict[tuple[object, ...], list[Sighting]] = OrderedDict()
        self._known: OrderedDict[frozenset[str], None] = OrderedDict()
        """The two ends of the client's connections at the servers' wires: with full NAT the client is none of them."""

    def add(self, sighting: Sighting, ports: Collection[str]) -> list[Passage]:
        """Take a sighting; return the passages that are complete with it, or had to make room.

        `ports` are the endpoints that servers serve at: at a server's wire, what goes there comes from the client.
        """
        here = sighting.place == self._client_place
        towards_server = _address(sighting.source) in self._clients if here else sighting.destination in ports
        key = (towards_server, *sighting.identity)
        waiting = self._waiting.get(key, [])
        other = next((seen for seen in waiting if (seen.place == self._client_place) != here), None)
        if other is None:
            self._waiting.setdefault(key, []).append(sighting)
            return self._oldest() if len(self._waiting) > _MOST else []
        waiting.remove(other)
        if not waiting:
            del self._waiting[key]
        self._known[_ends(other if here else sighting)] = None
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return [Passage(towards_server, *((sighting, other) if here else (other, sighting)))]

    def overdue(self, now: float) -> list[Passage]:
        """Return those whose other half does not come any more."""
        found: list[Passage] = []
        while self._waiting and next(iter(self._waiting.values()))[0].time < now - _PATIENCE:
            found += self._oldest()
        return found

    def _oldest(self) -> list[Passage]:
        (towards_server, *_), waiting = self._waiting.popitem(last=False)
        halves = [(seen, None) if seen.place == self._client_place else (None, seen) for seen in waiting]
        alone = [Passage(bool(towards_server), *half) for half in halves]
        return [passage for passage in alone if passage.client_side or self._concerns_client(passage.first)]

    def _concerns_client(self, sighting: Sighting) -> bool:
        """Health checks, for one, do not: they are the balancer's own."""
        addresses = {_address(sighting.source), _address(sighting.destination)}
        return bool(addresses & set(self._clients)) or _ends(sighting) in self._known


def _ends(sighting: Sighting) -> frozenset[str]:
    return frozenset((sighting.source, sighting.destination))


def _address(endpoint: str) -> str:
    return endpoint.rpartition(":")[0].strip("[]")
