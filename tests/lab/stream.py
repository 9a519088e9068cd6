"""Clients that come all the time while a lab test does something to natlb, and must not notice."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from netns.build import Lab
from netns.topology import SEED
from tests.lab.support import Client

_THREADS = 8
_PER_SECOND = 200


class Stream:
    """Clients that come one after the other, each for one request."""

    def __init__(self) -> None:
        self.served: list[tuple[float, str]] = []
        """When each client that was served has come, and who has served it."""
        self.took: list[float] = []
        """Seconds from a client's first SYN until it had its answer."""
        self.lost: list[str] = []
        self.over = threading.Event()

    def since(self) -> Counter[str]:
        """Return who has served clients that came from now on, for a second and a half."""
        now = time.monotonic()
        time.sleep(1.5)
        return Counter(server for begun, server in list(self.served) if begun >= now)


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
