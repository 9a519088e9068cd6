"""Some of what `test_tcp` says, once more with the kernel carrying what it can: packets may take either way.

All of it, and nearly all other tests of the lab, can be run like this: see docs/offload.md.
"""

from itertools import pairwise
from pathlib import Path

import pytest

from netns.balancer import ask, command
from netns.build import Lab
from tests.lab.test_tcp import (
    balanced,
    listener,
    pair,
    test_a_connection_goes_on_when_its_end_did_not_believe_a_rst_that_natlb_could_not_doubt,
    test_a_half_closed_connection_in_silence_is_ended_for_both_ends,
    test_an_operator_ends_a_connection_at_once_for_both_ends,
    test_both_ends_may_close_at_the_same_time,
    test_the_table_tells_each_state,
    way,
)

__all__ = [
    "balanced",
    "listener",
    "pair",
    "test_a_connection_goes_on_when_its_end_did_not_believe_a_rst_that_natlb_could_not_doubt",
    "test_a_half_closed_connection_in_silence_is_ended_for_both_ends",
    "test_an_operator_ends_a_connection_at_once_for_both_ends",
    "test_both_ends_may_close_at_the_same_time",
    "test_the_table_tells_each_state",
    "way",
]

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("offloaded")]


def test_it_was_the_kernel_that_carried_them(balanced: Lab) -> None:
    ask(balanced.stats_socket, "show sess")
    told = dict(line.split(": ", 1) for line in ask(balanced.stats_socket, "show offload").splitlines() if line)
    assert (told["state"], told["differences"]) == ("on", "0")
    assert int(told["packets"]) > 50


@pytest.mark.in_userspace("this is about the marker")
def test_a_test_that_is_marked_starts_a_natlb_that_sees_each_packet() -> None:
    assert dict(pairwise(command(Path("any.cfg"))))["--offload"] == "off"
