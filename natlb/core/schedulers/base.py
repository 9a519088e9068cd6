"""What a pool asks of a scheduling algorithm.

A scheduler chooses among servers that may get connections now, and knows nothing of why the others may not: the pool
tells it anew whenever that changes, or a weight does. Weights come as `Server.share`, in sixteenths of what the
configuration says, because a server in its slow start counts for a part of its weight only.

Those that look at loads pass over servers that are full, as in HAProxy, and return None when all are: the connection
then waits for any of them. Those that hash do not: whoever belongs to a server waits for that one.

What takes long, such as filling a table of 65537 entries, is cut into pieces that `work` does one at a time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from natlb.core.flow import FlowKey

if TYPE_CHECKING:
    from natlb.core.pool import Server

HashOf = Callable[[FlowKey], int]
"""What a connection, given by the tuple that its client sends, is hashed to: 32 bits."""


class Scheduler(ABC):
    """One algorithm at work, on the servers of one address family of one pool."""

    dynamic = True
    """Whether weights count live, also in a slow start."""
    rotates = False
    """Whether it takes turns or draws, so that the next server is always as good as this one."""
    belongs = False
    """Whether a connection belongs to one server, and waits for that one when it is full."""

    @abstractmethod
    def rebuild(self, servers: Sequence["Server"], configured: Sequence["Server"]) -> None:
        """Choose among `servers` from now on: usable, weight above 0. Both are in the order of the configuration."""

    @abstractmethod
    def pick(self, flow: FlowKey, avoid: "Server | None" = None) -> "Server | None":
        """Return the server for a connection; None if there is none. `avoid` is taken only if there is no other."""

    @abstractmethod
    def standings(self, flow: FlowKey) -> Iterable[tuple["Server", str]]:
        """Return the servers that may be picked, each with what is gone by when this connection comes, in words."""

    def load_changed(self, server: "Server") -> None:  # noqa: B027 - most do not look at loads
        """Note that a server has more or fewer connections than before, or room for more or fewer."""

    def work(self) -> bool:
        """Do a little of what is left to do, some milliseconds at most; return whether anything is left."""
        return False
