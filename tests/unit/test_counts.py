"""What is counted around the engine is found by name, and packets that were lost are told of, once."""

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from natlb.counts import Counts
from natlb.log import log


class Kernel(SimpleNamespace):
    """Queue, backlog, injector and guard."""

    looked = 0

    def look(self) -> None:
        self.looked += 1


@pytest.fixture
def kernel() -> Kernel:
    numbers = dict.fromkeys(("delivered", "waiting", "queue_full", "socket_full", "refused", "unreadable"), 0)
    return Kernel(**numbers, failures=0, repaired=0)


@pytest.fixture
def counts(kernel: Kernel) -> Counts:
    each = cast("Any", kernel)
    return Counts(each, each, each, each, None)


def test_numbers_are_those_of_the_moment_by_name(kernel: Kernel, counts: Counts) -> None:
    kernel.delivered, kernel.repaired = 7, 2
    found = counts.by_name()
    assert kernel.looked == 1, "the kernel's are read when they are asked for"
    assert {name: number for name, number in found.items() if number} == {"packets": 7, "rules_repaired": 2}
    assert found["log_lines"] == 0, "where nothing is logged"


def test_each_lost_packet_is_told_of_once(
    kernel: Kernel, counts: Counts, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.WARNING, log.name)
    counts.tell_of_losses()
    assert not caplog.messages
    kernel.queue_full, kernel.socket_full = 3, 2
    counts.tell_of_losses()
    counts.tell_of_losses()
    kernel.socket_full = 6
    counts.tell_of_losses()
    told = [message.partition(": ")[2] for message in caplog.messages]
    assert told == [
        "the queue was full for 3 of them, the socket for 2.",
        "the queue was full for 0 of them, the socket for 4.",
    ]
