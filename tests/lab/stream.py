"""Clients that come all the time while a lab test does something to natlb, and must not notice."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from netns.build import Lab
from netns.processes import every
from netns.topology import SEED
from tests.lab.support import Client

_THREADS = 8
_PER_SECOND = 200
_ENOUGH = 20
"""Clients that tell who serves them, whichever of the servers has its turn."""


class Stream:
    """Clients that come one after the other, each for one request."""

    def __init__(self) -> None:
        self.served: list[tuple[float, str]] = []
        """When each client came that had its answer, and who served it."""
        self.took: list[float] = []
        """Seconds from a client's first SYN until it had its answer."""
        self.lost: list[str] = []
        self.over = threading.Event()

    def since(self) -> Counter[str]:
        """Return who has served clients that came from now on, for a second and a bit, or until there are some."""
        now, found = time.monotonic(), Counter[str]()
        time.sleep(1.2)
        for _ in every(0.05, 10.0):
            found = Counter(server for begun, server in list(self.served) if begun > now)
            if found.total() >= _ENOUGH:
                break
        return found


@contextmanager
def stream(lab: Lab, address: str = SEED.balancer.ipv4, *, patience: float = 10.0) -> Iterator[Stream]:
    """Have 200 connections a second come inside the block, of which none may be lost."""
    made = Stream()

    def one() -> None:
        while not made.over.wait(_THREADS / _PER_SECOND):
            begun = time.monotonic()
            try:
                client = Client(lab, "client", address, seconds=patience)
                try:
                    made.served.append((begun, client.ask()))
                finally:
                    client.close()
            except OSError as error:
                made.lost.append(repr(error))
            made.took.append(time.monotonic() - begun)

    threads = [threading.Thread(target=one) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        made.over.set()
        for thread in threads:
            thread.join()
    assert made.lost == []
    assert len(made.served) > 100
