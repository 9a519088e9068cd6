"""What silence about a datagram is worth: a host complains once in a second at the most.

Who sends a datagram to a port where nobody is hears of it by ICMP, and who sends it to a server may hear nothing. So
`option udp-check` takes silence for life - and Linux is silent about closed ports as well. It sends an address six
complaints at once, and from then on one in each second (`icmp_ratelimit`); what else it had to say, it drops:

    seconds             0         1         2         3
    c1, closed          ask refused         ask refused
    c2, closed              ask silence         ask silence      <- it looks as c3 does
    c3, silent                ask silence         ask silence

A complaint is always true, and so is a reply. Silence is true if the host could have complained, and it could unless it
had done so within the second before: the second makes up for what the last complaint took, whatever was before that.
From this follow two rules.

    1. Silence says nothing if the host has refused a check that was sent in the second before, and a bit. Then it is
       as if the check had not been made, and it is made again.
    2. While one of a host's servers is refused, its servers are asked in turn, each more than a second after the one
       before. So the host has a complaint for each of them, and silence is true again.

Where none is refused there is no line, and many servers of one host are asked as often as those of many. The host may
spend its complaints on others behind the same address as well; that is not known here.
"""

from typing import Final

from natlb.health.conversation import Answer
from natlb.health.server import ServerHealth
from natlb.health.status import Result, Status

_TAKES: Final = 1.05
"""Seconds in which a host can complain again, and what datagrams may gain on one another on their way."""
_APART: Final = 1.2
"""Seconds from one check of a line to the next: more than that by what a busy loop may be late."""


class _Host:
    """One address of which a check was refused."""

    __slots__ = ("free_at", "refused", "spent_at")

    def __init__(self) -> None:
        self.refused: set[ServerHealth] = set()
        """The servers whose last answer was a complaint."""
        self.spent_at = float("-inf")
        """When the last check was sent that was refused."""
        self.free_at = float("-inf")
        """When the next of the line may be asked."""


class Complaints:
    """Which hosts complain, and whose turn it is there."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}

    def wait(self, address: str, now: float) -> float:
        """Return in how many seconds a server at that address may be asked; if not now, that moment is its own."""
        host = self._hosts.get(address)
        if host is None:
            return 0.0
        host.refused = {each for each in host.refused if _is_asked_at(each, address)}
        if not host.refused and now >= host.spent_at + 2 * _APART:  # nobody is on the way who was asked beside them
            del self._hosts[address]
            return 0.0
        turn = max(now, host.free_at)
        host.free_at = turn + _APART
        return turn - now

    def believes(self, health: ServerHealth, address: str, answer: Answer, sent: float) -> bool:
        """Take in the answer of a server that was asked there and then; return False if it says nothing."""
        if answer.status is Status.L4CON:
            host = self._hosts.setdefault(address, _Host())
            host.refused.add(health)
            host.spent_at = max(host.spent_at, sent)
            host.free_at = max(host.free_at, sent + _APART)
            return True
        known = self._hosts.get(address)
        if known is None:
            return True
        if answer.silent and sent < known.spent_at + _TAKES:
            return False
        if answer.status.result is Result.PASSED:
            known.refused.discard(health)
        return True

    def forget(self, health: ServerHealth) -> None:
        """A server is no more."""
        for host in self._hosts.values():
            host.refused.discard(health)


def _is_asked_at(health: ServerHealth, address: str) -> bool:
    return health.checked and health.settings is not None and health.settings.address == address
