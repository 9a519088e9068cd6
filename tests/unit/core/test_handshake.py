"""Handshakes that begin anew: what counts is the SYN that was seen last, and who cannot see them changes nothing.

In the conversations a client's sequence numbers start at 1000 and a server's at 5000, unless a SYN says otherwise.
"""

import pytest

from natlb.core.pool import AdminState
from natlb.core.states import State
from natlb.core.verdict import DropReason
from tests.unit.core.conversation import ACK, DATA, FIN, RST, RST_ACK, SYN, SYN_ACK, dropped, to

SCALE = b"\x01\x03\x03\x07"


def test_the_rst_that_makes_a_server_forget_an_older_connection_reaches_it(talk):
    """RFC 9293, section 3.5.1: the server answers with the numbers that it remembers, the client resets those."""
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    server1 >> ACK(seq=700000, ack=900000) << to(client)
    client >> RST(seq=900000) << to(server1)
    assert talk.entry().state is State.INIT
    client >> SYN << to(server1)
    server1 >> SYN_ACK << to(client)
    client >> ACK << to(server1)
    assert talk.entry().state is State.ESTABLISHED


def test_a_refusal_with_a_number_that_was_never_sent_does_not_reach_the_client(talk):
    talk.client >> SYN << to(talk.server1)
    talk.server1 >> RST_ACK(seq=0, ack=900000) << dropped(DropReason.OUT_OF_WINDOW)
    assert talk.entry().state is State.INIT


@pytest.mark.parametrize("number", [70000, 4_000_000_000, 2**32 - 70000])
def test_a_client_that_begins_anew_is_followed(talk, number):
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    server1 >> SYN_ACK << to(client)
    client >> SYN(seq=number) << to(server1)
    assert talk.entry().state is State.INIT
    server1 >> SYN_ACK(seq=2_000_000, ack=number + 1) << to(client)
    assert talk.entry().state is State.SYN_RECEIVED
    client >> ACK(seq=number + 1, ack=2_000_001) << to(server1)
    assert talk.entry().state is State.ESTABLISHED
    client >> RST(seq=1001) << dropped(DropReason.OUT_OF_WINDOW)
    client >> RST(seq=number + 1) << to(server1)
    assert talk.entry().state is State.TRANS


def _drain(talk):
    talk.pool.set_admin(talk.configured(talk.server1), AdminState.DRAIN, talk.now)


def _maintain(talk):
    """As the Runtime API does: whom nobody checks any more is not held for healthy."""
    talk.pool.set_admin(talk.configured(talk.server1), AdminState.MAINT, talk.now)
    _fail(talk)


def _fail(talk):
    talk.pool.set_health(talk.configured(talk.server1), False, talk.now)


out_of_use = pytest.mark.parametrize("put_out_of_use", [_drain, _maintain, _fail])


@out_of_use
def test_a_syn_that_is_sent_again_stays_with_a_server_that_has_answered(talk, put_out_of_use):
    """The client may have the answer by now, and would talk to another server in vain."""
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    server1 >> SYN_ACK << to(client)
    put_out_of_use(talk)
    client >> SYN << to(server1)
    client >> ACK << to(server1)
    assert talk.entry().state is State.ESTABLISHED


@out_of_use
def test_a_client_that_begins_anew_goes_elsewhere_when_its_server_is_out_of_use(talk, put_out_of_use):
    client, server1, server2 = talk.client, talk.server1, talk.server2
    client >> SYN << to(server1)
    server1 >> SYN_ACK << to(client)
    put_out_of_use(talk)
    client >> SYN(seq=70000) << to(server2)
    assert talk.entry().state is State.INIT


@pytest.mark.parametrize("payload", [b"", b"fast open"])
def test_a_syn_that_is_sent_again_changes_nothing_with_its_data_or_without(talk, payload):
    client, server1 = talk.client, talk.server1
    client >> SYN(seq=1000, payload=b"fast open") << to(server1)
    server1 >> SYN_ACK(ack=1010) << to(client)
    client >> SYN(seq=1000, payload=payload) << to(server1)
    assert talk.entry().state is State.SYN_RECEIVED
    client >> ACK(seq=1010, ack=5001) << to(server1)
    assert talk.entry().state is State.ESTABLISHED


def test_a_damaged_syn_does_not_begin_anew(talk):
    talk.client >> SYN << to(talk.server1)
    talk.server1 >> SYN_ACK << to(talk.client)
    talk.client >> SYN(seq=70000, spoilt=True) << dropped(DropReason.BAD_CHECKSUM)
    assert talk.entry().state is State.SYN_RECEIVED


def test_a_server_that_answers_anew_is_followed(talk):
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    server1 >> SYN_ACK << to(client)
    client >> SYN(seq=1000) << to(server1)
    server1 >> SYN_ACK(seq=2_000_000, ack=1001) << to(client)
    client >> ACK(seq=1001, ack=2_000_001) << to(server1)
    assert talk.entry().state is State.ESTABLISHED
    server1 >> DATA(seq=2_000_001, ack=1001) << to(client)
    server1 >> RST(seq=5001) << dropped(DropReason.OUT_OF_WINDOW)
    server1 >> RST(seq=2_000_001 + len(DATA.payload)) << to(client)
    assert talk.entry().state is State.TRANS


@pytest.mark.parametrize(
    "said",
    [SYN_ACK(seq=2_000_000, ack=900), SYN_ACK(seq=2_000_000, ack=1002), SYN_ACK(seq=2_000_000, ack=1001, spoilt=True)],
    ids=["acknowledges too little", "acknowledges too much", "damaged"],
)
def test_an_answer_that_nobody_who_saw_the_syn_would_give_changes_nothing(talk, said):
    client, server1 = talk.client, talk.server1
    client >> SYN << to(server1)
    server1 >> SYN_ACK << to(client)
    server1 >> said << to(client)
    client >> ACK(seq=1001, ack=5001) << to(server1)
    assert talk.entry().state is State.ESTABLISHED


@pytest.mark.parametrize("first", [SCALE, b""], ids=["scaled first", "not scaled first"])
@pytest.mark.parametrize("last", [SCALE, b""], ids=["scaled last", "not scaled last"])
def test_the_window_scale_is_that_of_the_servers_last_answer(talk, first, last):
    """As when a server answers with a cookie, which has no room for it, and later without."""
    client, server1 = talk.client, talk.server1
    client >> SYN(options=SCALE) << to(server1)
    server1 >> SYN_ACK(options=first) << to(client)
    server1 >> SYN_ACK(seq=2_000_000, ack=1001, options=last) << to(client)
    client >> ACK(seq=1001, ack=2_000_001) << to(server1)
    server1 >> ACK(seq=2_000_001, ack=1001) << to(client)
    ledger, index = talk.engine.ledger, talk.entry().index
    assert list(ledger.shift[2 * index : 2 * index + 2]) == ([7, 7] if last else [0, 0])
    client >> FIN(seq=1001, ack=2_000_001) << to(server1)
    assert talk.entry().state is State.CLIENT_FIN


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_syn_of_the_other_number_changes_nothing_once_the_connection_is_established(talk, side):
    server1 = talk.shake_hands()
    if side == "client":
        talk.client >> SYN(seq=70000) << to(server1)
    else:
        server1 >> SYN_ACK(seq=2_000_000, ack=1001) << to(talk.client)
    assert talk.entry().state is State.ESTABLISHED
    server1 >> RST(seq=2_000_001) << dropped(DropReason.OUT_OF_WINDOW)
    talk.client >> RST(seq=70001) << dropped(DropReason.OUT_OF_WINDOW)
