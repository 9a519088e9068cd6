"""There is a heartbeat unless packets lie in a queue from which nobody fetches them."""

import socket
from collections.abc import Iterator

import pytest

from natlb.heartbeat import Heartbeat


class Queues:
    """Two queues, and what was fetched from them."""

    def __init__(self) -> None:
        self.pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
        self.fetched = 0
        self.heart = Heartbeat([ours.fileno() for ours, _ in self.pairs], lambda: self.fetched)

    def packet(self, queue: int = 0) -> None:
        self.pairs[queue][1].send(b"packet")

    def fetch(self, queue: int = 0) -> None:
        self.pairs[queue][0].recv(100)
        self.fetched += 1


@pytest.fixture
def queues() -> Iterator[Queues]:
    made = Queues()
    yield made
    for pair in made.pairs:
        for each in pair:
            each.close()


def test_without_packets_all_is_in_order(queues: Queues) -> None:
    assert [queues.heart.is_felt() for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("queue", [0, 1])
def test_a_packet_that_nobody_fetches_stops_it_at_the_second_look_and_fetching_it_brings_it_back(
    queues: Queues, queue: int
) -> None:
    queues.packet(queue)
    assert [queues.heart.is_felt() for _ in range(3)] == [True, False, False]
    queues.fetch(queue)
    assert [queues.heart.is_felt() for _ in range(3)] == [True] * 3


def test_a_queue_that_is_never_empty_is_in_order_while_packets_are_fetched(queues: Queues) -> None:
    queues.packet()
    for _ in range(5):
        assert queues.heart.is_felt()
        queues.packet()
        queues.fetch()
    assert queues.heart.is_felt()
    assert not queues.heart.is_felt()


def test_packets_that_come_just_before_each_look_and_are_fetched_after_it_are_in_order(queues: Queues) -> None:
    for _ in range(5):
        queues.packet()
        assert queues.heart.is_felt()
        queues.fetch()
