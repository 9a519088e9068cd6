"""What an ICMP error quotes is found and turned back. What the engine does with it is told in `test_engine_icmp`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.core.flow import flow_key
from natlb.core.icmp import is_echo_request, is_error, quoted
from natlb.core.packet import Kind, PacketView
from tests.unit.core import oracle
from tests.unit.core.packets import ACK, TCP, UDP, cut, datagram, icmp, network, packed, segment

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
CLIENT, VIP, SERVER, ROUTER = (
    {4: (f"44.{n}.{n}.{n}", port), 6: (f"fd44:{n}::{n}", port)}
    for n, port in ((1, 40000), (2, 8888), (3, 4444), (9, 0))
)
TIME_EXCEEDED = {4: 11, 6: 3}


def view_of(packet):
    view = PacketView()
    assert view.read(bytearray(packet)) is Kind.ICMP
    return view


def message(family, kind, body=bytes(28)):
    return icmp(ROUTER[family][0], CLIENT[family][0], kind, 0, bytes(4), body)


def error(family, quote):
    return view_of(message(family, TIME_EXCEEDED[family], quote))


def key(source, destination, protocol):
    return flow_key(*((packed(place[0]), place[1].to_bytes(2, "big")) for place in (source, destination)), protocol)


def sent_on(family, protocol=UDP, **fields):
    """Return a packet as natlb has sent it on: from the client to the server."""
    if protocol == UDP:
        return datagram(CLIENT[family], SERVER[family], b"hello", **fields)
    return segment(CLIENT[family], SERVER[family], ACK, payload=b"hello", **fields)


# Which messages


@pytest.mark.parametrize("kind", range(256))
def test_the_errors_of_icmp_are_those_of_rfc_792_but_for_redirect_and_source_quench(kind):
    assert is_error(view_of(message(4, kind))) is (kind in (3, 11, 12))


@pytest.mark.parametrize("kind", range(256))
def test_the_errors_of_icmpv6_are_those_of_rfc_4443(kind):
    assert is_error(view_of(message(6, kind))) is (kind in (1, 2, 3, 4))


@FAMILIES
def test_an_echo_request_is_told_by_its_type(family):
    asks = [kind for kind in range(256) if is_echo_request(view_of(message(family, kind)))]
    assert asks == [8 if family == 4 else 128]


# Finding what is quoted

OPTIONS = [{}, {"ip_options": b"\x01" * 4}, {"ip_options": b"\x01" * 40}]
CHAINS = [{}, {"extensions": (0,)}, {"extensions": (60, 43, 60)}, {"extensions": (0, 44)}]
SHAPES = pytest.mark.parametrize(
    ("family", "shape"), [(4, each) for each in OPTIONS] + [(6, each) for each in CHAINS], ids=str
)
PROTOCOLS = pytest.mark.parametrize("protocol", [TCP, UDP], ids=["tcp", "udp"])


@SHAPES
@PROTOCOLS
def test_the_quoted_packet_has_the_tuple_that_it_was_sent_with(family, shape, protocol):
    quote = quoted(error(family, sent_on(family, protocol, **shape)))
    assert quote.key == key(CLIENT[family], SERVER[family], protocol)


@SHAPES
@PROTOCOLS
def test_eight_bytes_of_the_transport_header_are_enough_and_less_is_not(family, shape, protocol):
    whole = sent_on(family, protocol, **shape)
    header = len(whole) - (13 if protocol == UDP else 25)
    assert quoted(error(family, whole[: header + 8])).key == key(CLIENT[family], SERVER[family], protocol)
    for length in range(header + 8):
        assert quoted(error(family, whole[:length])) is None


@FAMILIES
def test_what_stands_behind_the_packet_is_not_quoted_by_it(family):
    whole = sent_on(family)
    header = len(whole) - 13
    padded = message(family, TIME_EXCEEDED[family], whole[: header + 4]) + whole[header + 4 :]
    assert quoted(view_of(padded)) is None


@FAMILIES
def test_a_quoted_packet_of_another_version_is_none_of_the_family_of_the_error(family):
    assert quoted(error(family, sent_on(10 - family))) is None


@FAMILIES
@pytest.mark.parametrize("protocol", [1, 47, 50, 58, 59, 132])
def test_a_quoted_packet_without_ports_cannot_be_found(family, protocol):
    other = network(CLIENT[family][0], SERVER[family][0], protocol, bytes(range(40)))
    assert quoted(error(family, other)) is None


@FAMILIES
def test_of_a_quoted_datagram_in_fragments_the_first_has_ports_and_the_others_have_none(family):
    whole = datagram(CLIENT[family], SERVER[family], bytes(100))
    assert quoted(error(family, cut(whole, 0, 64))).key == key(CLIENT[family], SERVER[family], UDP)
    assert quoted(error(family, cut(whole, 8, 64))) is None
    assert quoted(error(family, cut(whole, 64))) is None


@pytest.mark.parametrize("words", range(5))
def test_a_quoted_header_shorter_than_a_header_is_none(words):
    bad = sent_on(4)
    bad[0] = 0x40 | words
    assert quoted(error(4, bad)) is None


def test_a_quoted_chain_that_leads_out_of_the_packet_leads_nowhere():
    bad = sent_on(6, extensions=(60,))
    bad[41] = 255
    assert quoted(error(6, bad)) is None


@pytest.mark.parametrize("words", [0, 1, 10])
def test_the_ip_checksum_of_the_quoted_packet_covers_its_options(words):
    went = sent_on(4, ip_options=b"\x01" * 4 * words)
    assert quoted(error(4, went)).is_sound
    went[20 + 4 * words - 1] ^= 1
    assert not quoted(error(4, went)).is_sound


def test_over_ipv6_there_is_none_that_could_be_wrong():
    assert quoted(error(6, sent_on(6))).is_sound


@given(st.binary(min_size=8, max_size=120), st.sampled_from([4, 6]))
def test_whatever_is_quoted_raises_nothing(rubbish, family):
    quoted(error(family, bytes((family << 4 | 5,)) + rubbish))


# Turning it back


@SHAPES
@PROTOCOLS
@pytest.mark.parametrize("spare", [0, 4, 12, 17, 1000])
def test_what_is_turned_back_is_an_error_about_the_packet_as_it_came(family, shape, protocol, spare):
    """Whatever is quoted of it, and byte for byte as scapy writes it."""
    came = sent_on(family, protocol, **shape)
    came = bytearray(oracle.translated(came, destination=VIP[family]))
    went = oracle.translated(came, destination=SERVER[family])
    length = len(went) - (5 if protocol == UDP else 17) + spare
    view = error(family, went[:length])

    quoted(view).translate(key(CLIENT[family], VIP[family], protocol), packed(VIP[family][0]))

    assert view.packet == oracle.error(bytes(view.packet), VIP[family][0], CLIENT[family][0], bytes(came[:length]))
    assert oracle.sound(view.packet)


@FAMILIES
def test_a_quoted_datagram_without_a_checksum_gets_none(family):
    came = datagram(CLIENT[family], VIP[family], b"hello", checksum=0)
    view = error(family, oracle.translated(came, destination=SERVER[family]))
    quoted(view).translate(key(CLIENT[family], VIP[family], UDP), packed(VIP[family][0]))
    assert view.packet[view.transport + 8 :] == came


@PROTOCOLS
def test_a_quoted_transport_checksum_that_is_wrong_stays_wrong(protocol):
    """RFC 5508, REQ-3 c: it is not judged, only moved."""
    came = sent_on(4, protocol, spoilt=True)
    went = bytearray(came)
    at = 20 + (6 if protocol == UDP else 16)
    view = error(4, went)
    quoted(view).translate(key(CLIENT[4], VIP[4], protocol), packed(VIP[4][0]))
    inside = view.packet[view.transport + 8 :]
    assert inside[at : at + 2] != oracle.translated(inside)[at : at + 2]
    assert oracle.sound(view.packet)
