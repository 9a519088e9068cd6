"""How long a half-open connection keeps its place at a limit: as long as clients are seen to need, and no longer."""

import itertools
from heapq import heappop, heappush

import pytest

from natlb.core.eviction import HALF_OPEN_GRACE
from natlb.core.patience import LONGEST, SHORTEST, Patience
from natlb.core.states import State
from natlb.core.verdict import DropReason, Rewrite
from tests.unit.core.conversation import ACK, DATAGRAM, RST, SYN, SYN_ACK, dropped, places, to

NEAR, FAR = 0.002, 0.2
"""Seconds from a client to natlb and back."""
MAXCONN = 20
SYN_AGAIN = 1.0
"""Seconds after which a client sends a SYN again that was not answered."""


# What is known


def after(*handshakes, start=0.0, every=0.01):
    """Return the patience after handshakes that took so long, one after the other."""
    patience = Patience()
    for number, took in enumerate(handshakes):
        patience.learn(took, start + number * every)
    return patience


def test_before_anything_is_known_it_is_the_longest():
    assert Patience().grace == LONGEST


def test_with_near_clients_it_falls_to_a_few_milliseconds_within_some_seconds():
    assert after(*[NEAR] * 100).grace > 0.8 * LONGEST, "after one second, whatever comes in it"
    assert after(*[NEAR] * 3000).grace == SHORTEST


def test_how_fast_it_falls_is_a_matter_of_time_and_not_of_how_many_are_near():
    few, many = after(*[NEAR] * 50, every=0.1), after(*[NEAR] * 5000, every=0.001)
    assert few.grace == pytest.approx(many.grace, rel=0.03)


def test_one_after_a_long_silence_says_little():
    assert after(NEAR, start=1e6).grace > 0.8 * LONGEST


def test_with_a_far_client_it_rises_at_once_and_stays_for_a_while():
    patience = after(*[NEAR] * 3000)
    patience.learn(FAR, 30)
    assert patience.grace == 2 * FAR
    for number in range(300):
        patience.learn(NEAR, 30 + number / 100)
    assert patience.grace > FAR, "three seconds later another one would have time"


def test_who_takes_forever_brings_it_back_to_where_it_began():
    assert after(*[NEAR] * 3000, 60.0).grace == LONGEST


# In the engine


class Siege:
    """Clients, near and far, and a flood, each at a steady rate, before an engine with a limit."""

    def __init__(self, talk):
        self.talk = talk
        self.tries = {NEAR: [], FAR: []}
        """At which of its SYNs each client got in, by how far away it is."""
        self._ports = itertools.count(1024)
        self._order = itertools.count()
        self._due = []

    def come(self, rate, seconds, away=None, after=0.0):
        """Have clients come so many times a second, or a flood, whose SYNs nobody stands behind."""
        for number in range(int(rate * seconds)):
            self._later(after + number / rate, self._try, self.talk.client.at(next(self._ports)), away, 1)

    def go_on(self):
        """Let time pass until all have done what they will."""
        while self._due:
            at, _, do, what = heappop(self._due)
            self.talk.wait(max(0.0, at - self.talk.now))
            do(*what)

    def _later(self, seconds, do, *what):
        heappush(self._due, (self.talk.now + seconds, next(self._order), do, what))

    def _try(self, client, away, number):
        came = client >> SYN
        if away is None:
            return
        if isinstance(came.verdict, Rewrite):
            [server] = [host for host in (self.talk.server1, self.talk.server2) if host.place == places(came.buffer)[1]]
            server >> SYN_ACK << to(client)
            self._later(away, self._agree, client, away, number)
        else:
            self._later(SYN_AGAIN, self._try, client, away, number + 1)

    def _agree(self, client, away, number):
        client >> ACK
        if (entry := self.talk.entry(client)) is None:
            self._later(SYN_AGAIN, self._try, client, away, number + 1)
            return
        assert entry.state is State.ESTABLISHED
        self.tries[away].append(number)
        client >> RST


@pytest.fixture
def siege(start):
    return Siege(start(max_connections=MAXCONN))


def test_a_flood_of_twice_what_the_longest_grace_lets_in_keeps_no_near_client_out(siege):
    siege.come(10, 12, NEAR)
    siege.come(2 * MAXCONN / HALF_OPEN_GRACE, 3, after=9)
    siege.go_on()
    assert siege.tries[NEAR] == [1] * 120


def test_far_clients_beside_near_ones_get_in_as_well_under_a_flood(siege):
    siege.come(10, 12, NEAR)
    siege.come(1, 12, FAR)
    siege.come(1.25 * MAXCONN / HALF_OPEN_GRACE, 3, after=9)
    siege.go_on()
    assert len(siege.tries[NEAR]) == 120
    assert len(siege.tries[FAR]) == 12
    assert max(siege.tries[NEAR] + siege.tries[FAR]) <= 3


def test_where_clients_are_far_away_no_flood_takes_the_place_of_one_whose_ack_is_on_its_way(siege):
    siege.come(10, 12, NEAR)
    siege.come(1, 12, FAR)
    siege.go_on()
    talk, client = siege.talk, siege.talk.client
    client >> SYN << to(talk.server1)
    talk.server1 >> SYN_ACK << to(client)
    siege.come(2000, FAR)
    siege.go_on()
    client >> ACK << to(talk.server1)


def used_to_near_clients(talk):
    for port in range(1024, 1124):
        talk.shake_hands(talk.client.at(port))
        talk.client.at(port) >> RST
        talk.now += 0.2


def test_a_handshake_with_a_syn_that_was_sent_again_says_nothing(talk):
    """It is not known which of them was answered (Karn's algorithm)."""
    used_to_near_clients(talk)
    before = talk.engine._patience.grace
    assert before < HALF_OPEN_GRACE / 2
    talk.client >> SYN
    talk.now += SYN_AGAIN
    talk.shake_hands()
    assert talk.engine._patience.grace == before


def test_a_flow_of_udp_has_its_time_whatever_connections_of_tcp_need(start):
    """How long a server takes for an answer is another thing."""
    talk = start(max_connections=2)
    used_to_near_clients(talk)
    talk.client >> DATAGRAM << to(talk.server1)
    talk.client.at(1001) >> SYN << to(talk.server2)
    talk.client.at(1002) >> SYN << dropped(DropReason.MAXCONN)
    talk.now += 0.1
    talk.client.at(1002) >> SYN << to(talk.server1)
    assert talk.entry() is not None, "it was there before the other, and stays"
    assert talk.entry(talk.client.at(1001)) is None
    talk.now += HALF_OPEN_GRACE
    talk.client.at(1003) >> DATAGRAM << to(talk.server2)
    talk.client.at(1004) >> SYN << to(talk.server1)
    assert talk.entry() is None
    assert talk.engine.live == 2
