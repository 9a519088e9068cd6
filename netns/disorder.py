"""A hop that puts packets in disorder: it holds some back until others have passed, and sends some twice.

`python -m netns.disorder QUEUE` works on the packets that a rule of iptables leads to the queue. The rule chooses them
at random; all others overtake those that are held. A copy is sent from a raw socket. On SIGTERM it ends, and says how
many it has held and how many of those came twice.
"""

import heapq
import random
import select
import signal
import socket
import sys
import time
from ipaddress import ip_address
from itertools import count

import netfilterqueue

HELD = 0.0003, 0.002
"""Seconds that a packet is held back, at least and at most."""

DOUBLED = 0.3
"""The share of the packets held that come twice."""


def main() -> None:
    """Put packets in disorder until told to stop."""
    chance = random.Random(44)  # noqa: S311 - no secret that matters
    held: list[tuple[float, int, netfilterqueue.Packet]] = []
    numbers = count()
    doubled = 0
    copies = {
        version: socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6))
    }

    def hold(packet: netfilterqueue.Packet) -> None:
        packet.retain()
        heapq.heappush(held, (time.monotonic() + chance.uniform(*HELD), next(numbers), packet))

    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    queue = netfilterqueue.NetfilterQueue()
    queue.bind(int(sys.argv[1]), hold, max_len=8192)
    print("disorder begins", flush=True)
    while not stopping or held:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else 0.1
        if select.select([queue.get_fd()], [], [], wait)[0]:
            queue.run(block=False)
        while held and held[0][0] <= time.monotonic():
            packet = heapq.heappop(held)[2]
            if chance.random() < DOUBLED:
                doubled += 1
                payload = packet.get_payload()
                version = payload[0] >> 4
                destination = ip_address(payload[16:20] if version == 4 else payload[24:40])
                copies[version].sendto(payload, (str(destination), 0))
            packet.accept()
    print(f"held {next(numbers)}, doubled {doubled}", flush=True)


if __name__ == "__main__":
    main()
