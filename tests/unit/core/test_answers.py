"""What natlb says of its own accord is, byte for byte, what scapy builds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.core import answers
from natlb.core.packet import ACK, FIN, PSH, SYN, Kind, PacketView
from tests.unit.core import oracle
from tests.unit.core.packets import HOP_BY_HOP, cut, datagram, icmp, packed, ports, segment

HERE = {4: ("44.1.1.1", 40000), 6: ("fd44:1::1", 40000)}
THERE = {4: ("44.2.2.2", 8888), 6: ("fd44:2::2", 8888)}

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])

numbers = st.integers(0, 2**32 - 1)


def read(packet):
    view = PacketView()
    assert view.read(packet) in (Kind.TCP, Kind.UDP, Kind.ICMP, Kind.FRAGMENT)
    return view


def packet(family, flags=ACK, **fields):
    return segment(HERE[family], THERE[family], flags, **fields)


# RST


@FAMILIES
@given(
    flags=st.sampled_from([SYN, ACK, SYN | ACK, FIN | ACK, PSH | ACK]),
    seq=numbers | st.just(2**32 - 1),
    ack=numbers,
    payload=st.binary(max_size=3),
    options=st.sampled_from([b"", b"\x02\x04\x05\xb4"]),
)
def test_the_reset_is_the_one_that_scapy_builds_from_the_rfc(family, flags, seq, ack, payload, options):
    stray = packet(family, flags, seq=seq, ack=ack, payload=payload, options=options)
    assert answers.reset_for(read(stray)) == oracle.reset_for(stray)


@FAMILIES
def test_without_an_ack_the_reset_acknowledges_all_that_was_sent(family):
    """A SYN and a FIN count as one each, and the sequence numbers go round."""
    stray = packet(family, SYN | FIN, seq=2**32 - 2, payload=b"abc")
    answer = oracle.parsed(answers.reset_for(read(stray)))
    assert (answer["TCP"].seq, answer["TCP"].ack, str(answer["TCP"].flags)) == (0, 3, "RA")


@FAMILIES
def test_with_an_ack_the_reset_stands_where_the_other_side_expects_the_next_byte(family):
    answer = oracle.parsed(answers.reset_for(read(packet(family, ACK, ack=77))))
    assert (answer["TCP"].seq, answer["TCP"].ack, str(answer["TCP"].flags)) == (77, 0, "R")


@FAMILIES
def test_a_reset_is_made_of_a_segment_with_options_and_extensions_as_well(family):
    stray = packet(family, SYN, ip_options=b"\x01\x01\x01\x01", extensions=(HOP_BY_HOP,), payload=b"ab")
    assert answers.reset_for(read(stray)) == oracle.reset_for(stray)


@FAMILIES
@given(seq=numbers, ack=numbers)
def test_a_reset_that_nothing_called_for_is_the_one_that_scapy_builds(family, seq, ack):
    here, there = HERE[family], THERE[family]
    made = answers.reset(packed(here[0]), packed(there[0]), ports(here, there), seq, ack)
    assert made == oracle.reset(here, there, seq, ack)
    assert oracle.sound(made)


# ICMP


@FAMILIES
@given(payload=st.binary(max_size=33) | st.binary(min_size=500, max_size=1300))
def test_an_unreachable_port_is_told_with_as_much_of_the_packet_as_the_rfcs_ask_for(family, payload):
    """In all 576 bytes over IPv4 (RFC 1812, section 4.3.2.3), 1280 over IPv6 (RFC 4443, section 3.1)."""
    refused = datagram(HERE[family], THERE[family], payload)
    answer = answers.port_unreachable(read(refused))
    assert answer == oracle.port_unreachable(refused)
    assert oracle.sound(answer)
    assert len(answer) == min(len(refused) + (28 if family == 4 else 48), 576 if family == 4 else 1280)


@FAMILIES
def test_padding_behind_a_refused_packet_is_not_quoted(family):
    refused = datagram(HERE[family], THERE[family], b"hello")
    assert answers.port_unreachable(read(refused + b"padding")) == oracle.port_unreachable(refused)


@FAMILIES
def test_a_first_fragment_is_refused_like_a_whole_datagram(family):
    fragment = cut(datagram(HERE[family], THERE[family], bytes(100)), 0, 64)
    assert answers.port_unreachable(read(fragment)) == oracle.port_unreachable(fragment)


@FAMILIES
@given(rest=st.binary(min_size=4, max_size=4), payload=st.binary(max_size=33))
def test_an_echo_is_what_was_said_with_identifier_number_and_all(family, rest, payload):
    request = icmp(HERE[family][0], THERE[family][0], {4: 8, 6: 128}[family], 0, rest, payload)
    answer = answers.echo_reply(read(request))
    assert answer == oracle.echo_reply(request)
    assert oracle.sound(answer)


def test_an_echo_is_as_long_as_the_packet_and_not_as_the_buffer():
    request = icmp("44.1.1.1", "44.2.2.2", 8, 0, bytes(4), b"x")
    assert answers.echo_reply(read(request + b"padding")) == oracle.echo_reply(request)


@FAMILIES
def test_an_answer_by_icmp_has_the_service_class_of_what_it_answers_without_its_congestion_bits(family):
    """RFC 5508, REQ-10 d."""
    refused = datagram(HERE[family], THERE[family])
    if family == 4:
        refused[1] = 0xBB
        assert answers.port_unreachable(read(refused))[1] == 0xB8
    else:
        refused[0:2] = b"\x6b\xb0"
        assert answers.port_unreachable(read(refused))[0:2] == b"\x6b\x80"
