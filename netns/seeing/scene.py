"""What is going on: packets joined from two wires, each with natlb's table as it was when the packet passed.

Packets come in microseconds, and are told of a little later. So natlb is asked for its table all the time, and what it
said is kept for a while.
"""

import time
from collections import OrderedDict, deque
from dataclasses import dataclass

from netns import balancer
from netns.balancer import Entry
from netns.build import Lab
from netns.dissect import read
from netns.seeing.feed import Feed
from netns.seeing.pairs import Pairs, Passage
from netns.topology import LINK, Topology
from netns.web import endpoint

_KEPT = 512
"""Tables that are kept, as far as they differ: some ten seconds of a busy one; and connections whose beginning is."""
_ENTRIES = 20
"""Connections that natlb is asked for: those heard of last."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One packet, and the table as it was when the packet passed."""

    passage: Passage
    entries: tuple[Entry, ...]
    numbers: str
    """Its sequence and acknowledgement number, counted from the connection's beginning."""


class Scene:
    """What is going on: packets joined, tables kept."""

    def __init__(self, lab: Lab, source: Feed) -> None:
        self._lab = lab
        self._source = source
        topology = lab.topology
        self._pairs = Pairs(f"{topology.client.name}:{LINK}", (topology.client.ipv4, topology.client.ipv6))
        self._served = _served(topology)
        self._tables: deque[tuple[float, tuple[Entry, ...]]] = deque(maxlen=_KEPT)
        self._beginnings: OrderedDict[str, dict[bool, int]] = OrderedDict()
        self.began = time.time()
        self.silent = ""
        """Why natlb does not answer, when it does not."""

    def look(self) -> list[Moment]:
        """Ask natlb for its table, take what the wires have; return the packets that are ready to be shown."""
        self._ask()
        passages: list[Passage] = []
        for at, place, frame in self._source.in_order():
            for sighting in read(place, [(at, frame)], checksums=False):
                passages += self._pairs.add(sighting, self._served)
        passages += self._pairs.overdue(time.time())
        return [Moment(passage, self._table_for(passage), self._numbers(passage)) for passage in passages]

    def _ask(self) -> None:
        try:
            answer = balancer.ask(self._lab.stats_socket, f"show sess recent {_ENTRIES}", seconds=1)
        except OSError as error:
            self.silent = f"natlb does not answer: {error.strerror or error}"
            return
        self.silent = ""
        entries = tuple(balancer.nat_table(answer))
        if not self._tables or self._tables[-1][1] != entries:
            self._tables.append((time.time(), entries))

    def _table_for(self, passage: Passage) -> tuple[Entry, ...]:
        """The table at the time of a packet, or soon afterwards: as soon as the packet's own entry is in it."""
        if not self._tables:
            return ()
        when = passage.first.time
        later = [entries for at, entries in self._tables if at >= when]
        for entries in (*later, *(entries for at, entries in reversed(self._tables) if at < when)):
            if any(belongs(entry, passage) for entry in entries):
                return entries
        return later[0] if later else self._tables[-1][1]

    def _numbers(self, passage: Passage) -> str:
        first = passage.first
        # Whatever the balancer does to the ends, the client's own port is a name for the connection at either wire.
        seen = passage.client_side or first
        client = seen.source if passage.towards_server else seen.destination
        beginnings = self._beginnings.setdefault(client, {})
        if "S" in first.flags:
            beginnings[passage.towards_server] = first.seq
        while len(self._beginnings) > _KEPT:
            self._beginnings.popitem(last=False)
        own, others = (beginnings.get(side) for side in (passage.towards_server, not passage.towards_server))
        text = "" if own is None else f"seq {(first.seq - own) % 2**32}"
        return text + (f" ack {(first.ack - others) % 2**32}" if others is not None and "A" in first.flags else "")


def belongs(entry: Entry, passage: Passage) -> bool:
    """Whether a packet is one of an entry's connection."""
    seen = passage.client_side
    if seen is None:
        found = passage.first
        return {found.source, found.destination} == set(entry.reply)
    return {seen.source, seen.destination} == set(entry.original)


def _served(topology: Topology) -> frozenset[str]:
    return frozenset(endpoint(address, host.port) for host in topology.servers for address in (host.ipv4, host.ipv6))
