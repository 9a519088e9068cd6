"""How long a half-open connection keeps its place although a limit is reached.

Too short, and a flood of SYNs takes the places of clients whose ACK is on its way. Too long, and it takes everybody's:
each of `n` places is given away once in that time, so that `n / grace` SYNs are let in each second, the flood's and the
others' alike, and the rest has to come again. So it follows what clients here really take from their SYN to their ACK
of the server's answer, twice that:

    it rises at once      with one that took longer: whoever is far away is waited for from then on
    it falls slowly       with those that take less, by a part that grows with the time since the last one: it does not
                          fall faster because many are near while a few are far
    it has bounds         half a second at first, and at most; and a few milliseconds at least

Nobody can move it for nothing. Who finishes handshakes slowly on purpose brings it back to where it began, and no
further; who finishes them fast pays with connections of his own. And only what was seen here counts: a fast path tells
of an ACK later, by up to a second (`natlb.core.offloading`). So connections do not go there before they are established
while a limit is reached.
"""

from typing import Final

LONGEST: Final = 0.5
"""Seconds of patience at first, and at most: longer than a round trip takes anywhere on Earth."""

SHORTEST: Final = 0.01
"""Seconds of patience at least: the servers take some milliseconds as well, now and then."""

_MARGIN: Final = 2
"""How many times as long as clients take."""

_FALLS_IN: Final = 5.0
"""Seconds in which it falls by two thirds of the way, if all take less."""

_MOST_AT_ONCE: Final = 0.125
"""The part of the way that it falls at most with one."""

_PRESSED_FOR: Final = 1.0
"""Seconds after a limit was reached in which another one is expected to be."""


class Patience:
    """What is known of how long clients take."""

    __slots__ = ("_last", "_pressed", "_take")

    def __init__(self) -> None:
        self._take = LONGEST / _MARGIN
        """What clients take, smoothed."""
        self._last = 0.0
        """When that was learned last."""
        self._pressed = -_PRESSED_FOR
        """When a limit was reached last."""

    @property
    def grace(self) -> float:
        """Seconds in which a half-open connection keeps its place."""
        return max(SHORTEST, _MARGIN * self._take)

    def learn(self, took: float, now: float) -> None:
        """Take in what a client took to acknowledge the answer to its SYN, which it has sent once."""
        if took >= self._take:
            self._take = min(took, LONGEST / _MARGIN)
        else:
            self._take += (took - self._take) * min(_MOST_AT_ONCE, (now - self._last) / _FALLS_IN)
        self._last = now

    def press(self, now: float) -> None:
        """Note that a limit is reached."""
        self._pressed = now

    def is_pressed(self, now: float) -> bool:
        """Whether a limit was reached just now."""
        return now - self._pressed < _PRESSED_FOR
