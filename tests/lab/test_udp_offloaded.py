"""Some of what `test_udp` says, once more with the kernel carrying what it can: packets may take either way.

All of it, and nearly all other tests of the lab, can be run like this: see docs/offload.md.
"""

import pytest

from netns.balancer import Natlb
from tests.lab.test_udp import (
    fresh,
    full,
    natlb,
    servers,
    test_a_flow_leaves_a_server_that_is_put_into_maintenance_with_its_next_datagram,
    test_a_stream_of_datagrams_comes_back_complete_in_order_and_byte_for_byte,
    test_the_table_shows_both_tuples_and_what_each_side_sent,
)

__all__ = [
    "fresh",
    "full",
    "natlb",
    "servers",
    "test_a_flow_leaves_a_server_that_is_put_into_maintenance_with_its_next_datagram",
    "test_a_stream_of_datagrams_comes_back_complete_in_order_and_byte_for_byte",
    "test_the_table_shows_both_tuples_and_what_each_side_sent",
]

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("offloaded")]


def test_it_was_the_kernel_that_carried_them(natlb: Natlb) -> None:
    natlb.ask("show sess")
    told = dict(line.split(": ", 1) for line in natlb.ask("show offload").splitlines() if line)
    assert (told["state"], told["differences"]) == ("on", "0")
    assert int(told["packets"]) > 20_000, "nearly all of the streams"
