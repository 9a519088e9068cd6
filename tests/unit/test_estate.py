"""Names of descriptors: what was given under one is found under it, and nothing else."""

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from natlb.datapath.host import Endpoint
from natlb.estate import Inherited, estate
from natlb.runtime.language import Level
from natlb.runtime.server import Access

ENDPOINTS = [
    Endpoint(ip_address("0.0.0.0"), 80),
    Endpoint(ip_address("192.0.2.1"), 53, "wan 0", True, 17),
    Endpoint(ip_address("2001:db8::1"), 65535, "-odd"),
]
UNIX = Access("/run/natlb.sock", level=Level.ADMIN, user="root")
TCP = Access(address=("127.0.0.1", 9999))


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    made = [socket.socket() for _ in range(9)]
    yield made
    for each in made:
        each.close()


@pytest.fixture
def maps() -> Iterator[dict[str, int]]:
    made = {name: os.eventfd(0) for name in ("flows", "connections")}
    yield made
    for each in made.values():
        os.close(each)


@pytest.fixture
def inherited(sockets: list[socket.socket], maps: dict[str, int]) -> Iterator[Inherited]:
    cutting, queue, first, second, third, stats, tcp, metrics, offer = sockets
    given = estate(
        [(2391, queue), (65535, cutting)],
        dict(zip(ENDPOINTS, (first, second, third), strict=True)),
        {UNIX: stats, TCP: tcp},
        ("127.0.0.1:9101", metrics),
        maps,
        offer,
    )
    made = Inherited({name: os.dup(descriptor) for name, descriptor in given.items()})
    yield made
    made.close()


def are_the_same(one: socket.socket | None, other: socket.socket) -> bool:
    assert one is not None
    with one:
        return os.path.sameopenfile(one.fileno(), other.fileno())


def test_everything_is_found_under_its_name(inherited: Inherited, sockets: list[socket.socket]) -> None:
    cutting, queue, first, second, third, stats, tcp, metrics, offer = sockets
    queues, ports, accesses = inherited.queues(2391), inherited.ports(), inherited.stats([TCP, UNIX])
    assert [number for number, _ in queues] == [2391, 65535]
    assert list(ports) == ENDPOINTS
    assert list(accesses) == [TCP, UNIX]
    got = [*(held for _, held in queues), *ports.values(), *accesses.values()]
    got += [inherited.metrics("127.0.0.1:9101"), inherited.offer()]
    given = [queue, cutting, first, second, third, tcp, stats, metrics, offer]
    assert all(are_the_same(one, other) for one, other in zip(got, given, strict=True))


def test_maps_are_there_by_their_names_until_the_rest_is_closed(inherited: Inherited, maps: dict[str, int]) -> None:
    for _ in range(2):
        assert inherited.maps().keys() == maps.keys()
    there = inherited.maps()
    assert all(os.path.sameopenfile(descriptor, maps[name]) for name, descriptor in there.items())
    inherited.close()
    assert inherited.maps() == {}
    for descriptor in there.values():
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_what_is_wanted_otherwise_is_not_found_and_closed(inherited: Inherited) -> None:
    other = Access("/run/natlb.sock", level=Level.OPERATOR, user="root")
    assert inherited.stats([other]) == {}
    assert inherited.metrics("127.0.0.1:9102") is None
    things = list(inherited._things.values())
    assert len(things) == 11
    inherited.close()
    for descriptor in things:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_of_nothing_nothing_is_inherited() -> None:
    nothing = Inherited({})
    assert (nothing.queues(2391), nothing.ports(), nothing.stats([UNIX])) == ([], {}, {})
    assert (nothing.metrics("x"), nothing.offer(), nothing.maps()) == (None, None, {})
    nothing.close()
