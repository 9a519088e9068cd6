"""What one natlb hands on to the next: descriptors by names that both understand, whatever their versions.

A name says what a descriptor is for, and everything that must be the same for it to be of use: a port is held as it
was, a stats socket has its level and its mode. What the next natlb does not ask for is closed, and what it does not
find it opens by itself.

All are of sockets but for the maps of the fast path. Those can be found by the kernel's numbers, too, but only by root
(CAP_SYS_ADMIN), which a natlb is not any more that starts its own successor. Whoever has a descriptor needs none of it.
"""

import json
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from ipaddress import ip_address

from natlb.datapath.host import Endpoint
from natlb.datapath.nfqueue import Holding
from natlb.runtime.server import Access
from natlb.transfer import Estate

_OFFER, _MAP = "offer", "map "


def estate(
    queues: Iterable[Holding],
    ports: Mapping[Endpoint, socket.socket],
    stats: Mapping[Access, socket.socket],
    metrics: tuple[str, socket.socket] | None,
    maps: Mapping[str, int],
    offer: socket.socket,
) -> Estate:
    """Return all that a natlb has, by names."""
    made = {f"queue {number}": held.fileno() for number, held in queues}
    made |= {_port(endpoint): held.fileno() for endpoint, held in ports.items()}
    made |= {_stats(access): held.fileno() for access, held in stats.items()}
    if metrics is not None:
        made[f"metrics {metrics[0]}"] = metrics[1].fileno()
    made |= {f"{_MAP}{name}": descriptor for name, descriptor in maps.items()}
    made[_OFFER] = offer.fileno()
    return made


class Inherited:
    """What was handed over, until it is taken out here or closed."""

    def __init__(self, things: Estate) -> None:
        self._things = things

    def queues(self, number: int) -> list[Holding]:
        """Take the queue of this number, and those that it comes with."""
        names = sorted(
            (name for name in self._things if name.startswith("queue ")), key=lambda n: n != f"queue {number}"
        )
        return [(int(name.split()[1]), self._take(name)) for name in names]

    def ports(self) -> dict[Endpoint, socket.socket]:
        """Take all ports."""
        return {_endpoint(name): self._take(name) for name in list(self._things) if name.startswith("port ")}

    def stats(self, accesses: Iterable[Access]) -> dict[Access, socket.socket]:
        """Take those of these stats sockets that are there."""
        named = {access: _stats(access) for access in accesses}
        return {access: self._take(name) for access, name in named.items() if name in self._things}

    def metrics(self, address: str) -> socket.socket | None:
        """Take the socket for metrics at an address, if it is there."""
        return self._take_if_there(f"metrics {address}")

    def maps(self) -> dict[str, int]:
        """Return the maps of the fast path, by their names in the program; they are closed with the rest."""
        return {name.removeprefix(_MAP): held for name, held in self._things.items() if name.startswith(_MAP)}

    def offer(self) -> socket.socket | None:
        """Take the socket at which successors are expected."""
        return self._take_if_there(_OFFER)

    def close(self) -> None:
        """Close what nobody has taken."""
        for unwanted in self._things.values():
            os.close(unwanted)
        self._things.clear()

    def _take(self, name: str) -> socket.socket:
        return socket.socket(fileno=self._things.pop(name))

    def _take_if_there(self, name: str) -> socket.socket | None:
        return self._take(name) if name in self._things else None


def _port(endpoint: Endpoint) -> str:
    return (
        f"port {endpoint.address} {endpoint.port} {endpoint.protocol} {endpoint.foreign:d} {endpoint.interface or '-'}"
    )


def _endpoint(name: str) -> Endpoint:
    _, address, port, protocol, foreign, interface = name.split(" ", 5)
    return Endpoint(
        ip_address(address), int(port), None if interface == "-" else interface, foreign == "1", int(protocol)
    )


def _stats(access: Access) -> str:
    return f"stats {json.dumps(astuple(access))}"
