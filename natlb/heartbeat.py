"""Whether packets are being handled: what a watchdog wants to know.

An event loop that turns is not enough. It may go round while nothing fetches packets any more, and clients would meet
nothing but silence. So there is no heartbeat when packets lay in the queue at the last look, lie there at this one, and
none was fetched in between. A queue that is empty is in order, and so is one that is never empty because more comes
than natlb can take. A loop that does not turn looks at nothing, and that is noticed all the more.
"""

import select
from collections.abc import Callable, Iterable


class Heartbeat:
    """Looks at the descriptors of queues. It asks the kernel whether they are readable, and reads nothing."""

    def __init__(self, descriptors: Iterable[int], fetched: Callable[[], int]) -> None:
        """Begin; `fetched` counts the packets that came from these descriptors."""
        self._poll = select.poll()
        for descriptor in descriptors:
            self._poll.register(descriptor, select.POLLIN)
        self._fetched = fetched
        self._before: int | None = None
        """How many packets had been fetched when packets lay there at the last look; None if none did."""

    def is_felt(self) -> bool:
        """Look, and return whether all is in order; how far apart two looks are is the caller's matter."""
        fetched = self._fetched()
        waited_in_vain = self._before == fetched
        self._before = fetched if self._poll.poll(0) else None
        return not (waited_in_vain and self._before is not None)
