"""What the engine tells of servers that are observed: whether a connection reached them."""

import pytest

from natlb.core.service import Timeouts
from tests.unit.core.conversation import ACK, DATA, RST, RST_ACK, SYN, SYN_ACK, to


@pytest.fixture
def observed(start):
    """A conversation with a server1 that is observed."""
    talk = start(timeouts=Timeouts(opening=8))
    talk.configured(talk.server1).observed = True
    return talk


def tried(talk):
    return [line for line in talk.news() if "answered" in line]


def test_a_syn_of_the_servers_own_is_an_answer_and_is_told_once(observed):
    client, server1 = observed.client, observed.server1
    client >> SYN << to(server1)
    assert tried(observed) == []
    server1 >> SYN_ACK << to(client)
    server1 >> SYN_ACK << to(client)
    client >> ACK << to(server1)
    client >> DATA << to(server1)
    server1 >> RST << to(client)
    assert tried(observed) == ["answered, server1"]


def test_a_refusal_is_none(observed):
    observed.client >> SYN << to(observed.server1)
    observed.server1 >> RST_ACK(seq=0) << to(observed.client)
    assert tried(observed) == ["not answered, server1"]


def test_neither_is_silence_until_the_client_tries_again_and_that_is_told_once(observed):
    observed.client >> SYN << to(observed.server1)
    observed.client >> SYN(seq=1000) << to(observed.server1)
    observed.client >> SYN(seq=1000) << to(observed.server1)
    observed.wait(9)
    assert tried(observed) == ["not answered, server1"]


def test_silence_is_told_in_the_end_when_the_client_never_tries_again(observed):
    observed.client >> SYN << to(observed.server1)
    observed.wait(9)
    assert tried(observed) == ["not answered, server1"]


def test_a_client_that_gives_up_is_no_fault_of_the_server(observed):
    observed.client >> SYN << to(observed.server1)
    observed.client >> RST(seq=1001) << to(observed.server1)
    observed.wait(9)
    assert tried(observed) == []


def test_nothing_is_told_of_servers_that_are_not_observed(talk):
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    client >> SYN(seq=1000) << to(server1)
    server1 >> SYN_ACK << to(client)
    assert tried(talk) == []
