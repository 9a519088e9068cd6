"""Fragments, translated one by one (RFC 3022, section 6.3; RFC 4787, REQ-14).

Only the first fragment of a datagram has ports, so only it says which flow the datagram belongs to. What is decided for
it, the datagram's `fate`, holds for all the others: they are rewritten in the IP header and sent on as they are, in the
size that their sender chose, and count as packets of the same connection while that is there. A fragment that comes
before the first one is held back, and let go with it.

Nothing is put together here, and nothing is taken on trust either. The bytes that have been covered are remembered: a
fragment that lies in them is a duplicate and is dropped, one that overlaps them partly is an attack or damage, and the
datagram is given up (RFC 5722; Linux does it for IPv4 too). All of it is bounded: time, datagrams, of which the oldest
gives way, and fragments that wait, past which one that comes before its first is dropped.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

from natlb.core.flow import Connection, Direction
from natlb.core.packet import PacketView
from natlb.core.verdict import DropReason

FRAGMENT_TIMEOUT: Final = 30.0
"""Seconds after its first seen fragment in which a datagram is over. Linux's; RFC 1122, section 3.3.2 has 60 at least
for hosts, who put it together: in a middle box most of a datagram comes within milliseconds."""

MOST_DATAGRAMS: Final = 4096
"""Datagrams in fragments at a time."""

MOST_HELD: Final = 1024
"""Fragments that wait for their first one at a time, each in a place of the kernel's queue."""

_MOST_GAPS: Final = 64
"""Separate runs of bytes that one datagram may be in: RFC 791 datagrams over any real link need one or two."""

_LARGEST: Final = 65535


class Led(NamedTuple):
    """Where a first fragment was led: the others are rewritten as it was, even if the connection ends meanwhile."""

    connection: Connection
    direction: Direction


Fate = Led | DropReason | None
"""What is done to the fragments of a datagram; None is nothing."""


class Datagram:
    """What is known of a datagram in fragments."""

    __slots__ = ("covered", "deadline", "fate", "held", "size")

    def __init__(self, deadline: float) -> None:
        self.deadline: Final = deadline
        self.covered: list[tuple[int, int]] = []
        """Runs of bytes that have been seen, first and one past the last, in order and apart."""
        self.size: int | None = None
        """Its bytes, once the last fragment has told."""
        self.fate: Fate = None
        """What to do to each fragment; None is nothing, once `held` is: the datagram is none of ours."""
        self.held: list[tuple[int, bytearray]] | None = []
        """Tickets and packets that wait for the fate; None once it is known."""

    @property
    def is_over(self) -> bool:
        """Whether every byte has been seen and none waits: the sender may use its identification again."""
        return self.held is None and self.size is not None and self.covered == [(0, self.size)]


class Fragments:
    """The datagrams that come in fragments."""

    def __init__(self) -> None:
        self._datagrams: OrderedDict[bytes, Datagram] = OrderedDict()
        self._tickets = 0
        self._held = 0

    def __len__(self) -> int:
        """Datagrams that are remembered."""
        return len(self._datagrams)

    @property
    def held(self) -> int:
        """Fragments that wait."""
        return self._held

    @property
    def full(self) -> bool:
        """Whether a datagram has to give way before another can be entered."""
        return len(self._datagrams) >= MOST_DATAGRAMS

    def knows(self, view: PacketView) -> bool:
        """Whether the datagram of a fragment is remembered already."""
        return view.datagram in self._datagrams

    def see(self, view: PacketView, now: float) -> Datagram | DropReason:
        """Enter a fragment; return its datagram, or why the fragment must not pass.

        A datagram whose fragments overlap is returned with that as its fate.
        """
        first, last = view.offset, view.until
        if last > _LARGEST:
            return DropReason.BAD_HEADER
        datagram = self._datagrams.get(view.datagram)
        if datagram is None:
            datagram = self._datagrams[view.datagram] = Datagram(now + FRAGMENT_TIMEOUT)
        problem = _cover(datagram, first, last)
        if problem is not None:
            return problem
        if not view.more:
            datagram.size = last
        return datagram

    def hold(self, datagram: Datagram, packet: bytearray) -> int | None:
        """Keep a fragment until the datagram's fate is known; return its ticket, or None if too many wait."""
        if datagram.held is None or self._held >= MOST_HELD:
            return None
        self._tickets += 1
        self._held += 1
        datagram.held.append((self._tickets, packet))
        return self._tickets

    def decide(self, datagram: Datagram, fate: Fate) -> list[tuple[int, bytearray]]:
        """Settle what happens to the fragments of a datagram; return those that have waited for it."""
        waiting = datagram.held or []
        self._held -= len(waiting)
        datagram.fate, datagram.held = fate, None
        return waiting

    def forget(self, view: PacketView) -> None:
        """Forget the datagram of a fragment."""
        del self._datagrams[view.datagram]

    def expired(self, now: float) -> Iterator[list[tuple[int, bytearray]]]:
        """Forget the datagrams whose time is over, and hand out the fragments of each that still wait."""
        while self._datagrams and next(iter(self._datagrams.values())).deadline <= now:
            yield self.give_up()

    def give_up(self) -> list[tuple[int, bytearray]]:
        """Forget the oldest datagram and return its fragments that still wait."""
        _, oldest = self._datagrams.popitem(last=False)
        return self.decide(oldest, None)

    def next_deadline(self) -> float | None:
        """Return when the next datagram is over, or None if there is none."""
        return next(iter(self._datagrams.values())).deadline if self._datagrams else None


def _cover(datagram: Datagram, first: int, last: int) -> DropReason | None:
    """Note the bytes from `first` up to but not including `last`; return why they must not pass."""
    before: list[tuple[int, int]] = []
    after: list[tuple[int, int]] = []
    for run in datagram.covered:
        if run[0] <= first and last <= run[1]:
            return DropReason.FRAGMENT_DUPLICATE
        if run[0] < last and first < run[1]:
            datagram.fate = DropReason.FRAGMENT_OVERLAP
            return None
        if run[1] == first:
            first = run[0]
        elif run[0] == last:
            last = run[1]
        else:
            (before if run[1] < first else after).append(run)
    if len(before) + len(after) >= _MOST_GAPS:
        return DropReason.FRAGMENT_LIMIT
    datagram.covered = [*before, (first, last), *after]
    return None
