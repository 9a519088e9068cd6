"""Whatever two hosts, and whoever speaks in their name, send: the program makes of it what the engine makes of it.

Numbers lie around those that the hosts would use, closer and further away, and around the places where they start over.
`Lockstep` compares every packet, and all that is known of the connection after it.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from natlb.core.packet import PacketView
from tests.unit.core import packets as p
from tests.unit.core.conversation import ACK, SYN, SYN_ACK, Datagram, Segment
from tests.unit.offload.lockstep import Lockstep

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("arena")]

SCALES = st.one_of(st.just(b""), st.integers(0, 16).map(lambda scale: bytes((1, 3, 3, scale))))
STARTS = st.sampled_from((1000, 0x7FFFFFF0, 0xFFFFFFF0, 0xFFFF0000))
WINDOWS = st.sampled_from([0, 1, 1000, 8192, 0xFFFF])
OFFSETS = st.one_of(
    st.integers(-3, 3),
    st.builds(sum, st.tuples(WINDOWS, st.integers(-4, 4))),  # one past what the peer allows, and one more
    st.builds(sum, st.tuples(st.sampled_from([-(2**31), 2**31]), st.integers(-4, 4))),
    st.integers(-3000, 3000),
)
FLAGS = st.sampled_from([p.ACK, p.ACK | p.PSH, p.FIN | p.ACK, p.RST, p.RST | p.ACK, p.SYN | p.ACK, p.SYN, p.FIN, 0])
SIZES = st.sampled_from([0, 0, 1, 2, 3, 90, 1000])
STEPS = st.lists(st.tuples(st.booleans(), FLAGS, OFFSETS, OFFSETS, WINDOWS, SIZES, st.booleans()), max_size=25)


def is_begun(packet: bytearray) -> bool:
    view = PacketView()
    view.read(packet)
    return view.checksum_is_begun


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from((4, 6)), st.booleans(), STARTS, STARTS, SCALES, SCALES, st.booleans(), STEPS)
def test_segments(family, full_nat, client_start, server_start, offered, answered, shakes, steps):
    talk = Lockstep(family, ranges=[(30000, 30100)] if full_nat else None)
    try:
        client = talk.client
        outcome = client >> SYN(seq=client_start, options=offered)
        [server] = [each for each in (talk.server1, talk.server2) if each.place == p.places(outcome.buffer)[1]]
        if shakes:
            server >> SYN_ACK(seq=server_start, options=answered)
            client >> ACK
        for from_server, flags, sequence, acknowledged, window, size, spoilt in steps:
            host = server if from_server else client
            way = host.place, host.peer
            mine, theirs = (server_start, client_start) if from_server else (client_start, server_start)
            said = Segment(
                flags,
                seq=talk.sent.get(way, mine + 1) + sequence & 0xFFFFFFFF,
                ack=talk.heard.get(way, theirs + 1) + acknowledged & 0xFFFFFFFF if flags & p.ACK else 0,
                window=window,
                payload=bytes(size),
                spoilt=spoilt and size == 3,
            )
            # One wrong checksum in 65,536 is one that may only be begun: the program takes it for that.
            if not (said.spoilt and is_begun(said.packet(host))):
                host >> said
            if from_server and talk.entry() is None:
                return
    finally:
        talk.close()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from((4, 6)),
    st.booleans(),
    st.lists(
        st.tuples(st.booleans(), st.binary(max_size=40), st.sampled_from((None, None, 0, 1, 0xFFFF))), max_size=25
    ),
)
def test_datagrams(family, full_nat, steps):
    talk = Lockstep(family, ranges=[(30000, 30100)] if full_nat else None)
    try:
        outcome = talk.client >> Datagram()
        [server] = [each for each in (talk.server1, talk.server2) if each.place == p.places(outcome.buffer)[1]]
        server >> Datagram()
        for from_server, payload, checksum in steps:
            host = server if from_server else talk.client
            host >> Datagram(payload=payload, checksum=checksum)
    finally:
        talk.close()
