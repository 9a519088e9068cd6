import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.core.packet import ACK, FIN, ICMP, ICMPV6, PSH, RST, SYN, TCP, UDP, Kind, PacketView
from natlb.core.verdict import DropReason
from tests.unit.core.packets import cut, datagram, icmp, ones_sum, packed, pseudo, segment

HERE = {4: ("44.1.1.1", 40000), 6: ("fd44:1::1", 40000)}
THERE = {4: ("44.2.2.2", 8888), 6: ("fd44:2::2", 8888)}

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
KEY = {
    4: bytes.fromhex("2c010101 2c020202 9c40 22b8 06"),
    6: bytes.fromhex("fd440001000000000000000000000001 fd440002000000000000000000000002 9c40 22b8 06"),
}

HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60


def packet(family, flags=ACK, **fields):
    return segment(HERE[family], THERE[family], flags, **fields)


def udp(family, payload=b"", **fields):
    return datagram(HERE[family], THERE[family], payload, **fields)


def ping(family, **fields):
    kind = {4: 8, 6: 128}[family]
    return icmp(HERE[family][0], THERE[family][0], kind, 0, b"\x12\x34\x00\x01", b"are you there?", **fields)


def read(packet, kind=Kind.TCP):
    view = PacketView()
    assert view.read(packet) is kind
    return view


def problem(packet):
    """Return why a packet cannot be followed, or what it is if it can."""
    return PacketView().read(packet)


@FAMILIES
def test_the_view_finds_the_fields(family):
    view = read(packet(family, SYN | ACK | PSH, payload=b"hello"))
    assert view.version == family
    assert view.key == KEY[family]
    assert (view.source, view.source_port) == (packed(HERE[family][0]), 40000)
    assert (view.destination, view.destination_port) == (packed(THERE[family][0]), 8888)
    assert view.flags == SYN | ACK | PSH
    assert view.payload_size == 5


@FAMILIES
def test_options_of_tcp_are_not_its_payload(family):
    view = read(packet(family, SYN, options=b"\x02\x04\x05\xb4\x01\x01\x01\x00", payload=b"x"))
    assert view.data - view.transport == 28
    assert view.payload_size == 1


@pytest.mark.parametrize("words", range(11))
def test_options_of_ipv4_are_stepped_over(words):
    view = read(packet(4, ip_options=b"\x01" * 4 * words))
    assert view.transport == 20 + 4 * words
    assert view.key == KEY[4]


@pytest.mark.parametrize(
    "chain",
    [(HOP_BY_HOP,), (DESTINATION,), (ROUTING,), (HOP_BY_HOP, DESTINATION, ROUTING, DESTINATION)],
    ids=lambda chain: "-".join(map(str, chain)),
)
def test_extension_headers_of_ipv6_are_stepped_over(chain):
    view = read(packet(6, extensions=chain))
    assert view.transport == 40 + 8 * len(chain)
    assert view.key == KEY[6]


def test_an_extension_header_may_be_longer_than_eight_bytes():
    long = packet(6, extensions=(DESTINATION, DESTINATION))
    long[41] = 1  # the first one takes the second one in
    long[40] = 6
    assert read(long).transport == 56


@FAMILIES
def test_padding_behind_the_packet_is_not_its_payload(family):
    view = read(packet(family, payload=b"abc") + b"padding")
    assert view.payload_size == 3
    assert view.checksum_is_good()


@FAMILIES
def test_a_view_is_pointed_at_one_packet_after_another(family):
    view = read(packet(family, SYN, payload=b"first"))
    other = 10 - family
    assert view.read(packet(other, ACK)) is Kind.TCP
    assert (view.version, view.key, view.flags, view.payload_size) == (other, KEY[other], ACK, 0)


@FAMILIES
def test_a_packet_cut_anywhere_is_truncated(family):
    whole = packet(family, payload=b"hello", options=b"\x01\x01\x01\x01")
    assert problem(whole) is Kind.TCP
    for length in range(len(whole)):
        assert problem(whole[:length]) is DropReason.TRUNCATED


@FAMILIES
def test_a_packet_that_ends_inside_its_tcp_header_is_truncated(family):
    short = packet(family)
    short[(2 if family == 4 else 4) + 1] -= 1
    assert problem(short) is DropReason.TRUNCATED


def test_an_ipv6_packet_that_ends_inside_its_extension_headers_is_truncated():
    chain = packet(6, extensions=(HOP_BY_HOP, DESTINATION))
    chain[5] = 12
    assert problem(chain) is DropReason.TRUNCATED


def test_an_extension_header_that_claims_to_be_longer_than_the_packet_is_truncated():
    chain = packet(6, extensions=(HOP_BY_HOP,))
    chain[41] = 255
    assert problem(chain) is DropReason.TRUNCATED


@pytest.mark.parametrize("version", sorted(set(range(16)) - {4, 6}))
def test_other_versions_are_not_followed(version):
    other = packet(4)
    other[0] = version << 4 | 5
    assert problem(other) is DropReason.BAD_VERSION


@pytest.mark.parametrize("words", range(5))
def test_an_ipv4_header_has_at_least_five_words(words):
    bad = packet(4)
    bad[0] = 0x40 | words
    assert problem(bad) is DropReason.BAD_HEADER


@FAMILIES
@pytest.mark.parametrize("words", [*range(5), 7, 15])
def test_a_tcp_header_has_five_words_at_least_and_ends_within_the_packet(family, words):
    bad = packet(family, payload=b"1234567")
    bad[(20 if family == 4 else 40) + 12] = words << 4
    assert problem(bad) is DropReason.BAD_HEADER


@pytest.mark.parametrize("flags", [0x00, 0x40, 0x80])
def test_neither_dont_fragment_nor_the_evil_bit_makes_a_fragment(flags):
    whole = packet(4)
    whole[6] = flags
    assert problem(whole) is Kind.TCP


@pytest.mark.parametrize("protocol", [0, 2, 41, 47, 50, 51, 58, 132, 255])
def test_another_protocol_over_ipv4_is_something_else(protocol):
    other = packet(4)
    other[9] = protocol
    assert problem(other) is Kind.OTHER


@pytest.mark.parametrize("protocol", [1, 50, AUTHENTICATION, 59, 132, 255])
@pytest.mark.parametrize("chain", [(), (HOP_BY_HOP,)])
def test_another_protocol_over_ipv6_is_something_else(protocol, chain):
    other = packet(6, extensions=chain)
    other[40 if chain else 6] = protocol
    assert problem(other) is Kind.OTHER


def test_more_extension_headers_than_there_are_kinds_of_are_not_followed():
    assert problem(packet(6, extensions=(DESTINATION,) * 8)) is Kind.TCP
    assert problem(packet(6, extensions=(DESTINATION,) * 9)) is Kind.OTHER


# UDP


@FAMILIES
def test_the_view_finds_the_fields_of_a_datagram(family):
    view = read(udp(family, b"hello"), Kind.UDP)
    assert view.key == KEY[family][:-1] + bytes((UDP,))
    assert (view.source, view.source_port) == (packed(HERE[family][0]), 40000)
    assert (view.destination, view.destination_port) == (packed(THERE[family][0]), 8888)
    assert view.payload_size == 5
    assert not view.is_fragment


@FAMILIES
def test_options_and_extension_headers_before_a_datagram_are_stepped_over(family):
    view = read(udp(family, b"x", ip_options=b"\x01" * 8, extensions=(HOP_BY_HOP, DESTINATION)), Kind.UDP)
    assert view.transport == (28 if family == 4 else 56)
    assert view.payload_size == 1


@FAMILIES
def test_a_datagram_cut_anywhere_is_truncated(family):
    whole = udp(family, b"hello")
    for length in range(len(whole)):
        assert problem(whole[:length]) is DropReason.TRUNCATED


@FAMILIES
def test_a_packet_that_ends_inside_its_udp_header_is_truncated(family):
    short = udp(family)
    short[(2 if family == 4 else 4) + 1] -= 1
    assert problem(short) is DropReason.TRUNCATED


@FAMILIES
@pytest.mark.parametrize("length", [0, 7, 14, 0xFFFF])
def test_a_datagram_is_no_shorter_than_its_header_and_ends_within_the_packet(family, length):
    bad = udp(family, b"hello")
    at = (20 if family == 4 else 40) + 4
    bad[at : at + 2] = length.to_bytes(2, "big")
    assert problem(bad) is DropReason.BAD_HEADER


@FAMILIES
def test_what_stands_behind_a_datagram_in_its_packet_is_not_in_its_checksum(family):
    longer = udp(family, b"hello") + b"!!!"
    longer[(2 if family == 4 else 4) + 1] += 3
    assert read(longer, Kind.UDP).checksum_is_good()


@FAMILIES
@given(payload=st.binary(max_size=9), data=st.data())
def test_one_flipped_bit_in_a_datagram_makes_the_checksum_bad(family, payload, data):
    damaged = udp(family, payload)
    assert read(damaged, Kind.UDP).checksum_is_good()
    first = 20 if family == 4 else 40
    # But for its length, without which it cannot be followed.
    bit = data.draw(st.integers(first * 8, len(damaged) * 8 - 1).filter(lambda bit: bit // 8 - first not in (4, 5)))
    damaged[bit // 8] ^= 1 << bit % 8
    view = read(damaged, Kind.UDP)
    assert not view.checksum_is_good() or (family == 4 and view.checksum_is_missing)


@FAMILIES
def test_without_a_checksum_a_datagram_is_good_over_ipv4_and_not_over_ipv6(family):
    view = read(udp(family, b"hello", checksum=0), Kind.UDP)
    assert view.checksum_is_missing
    assert view.checksum_is_good() is (family == 4)
    assert not read(udp(family, b"hello"), Kind.UDP).checksum_is_missing


@FAMILIES
def test_only_udp_can_be_without_a_checksum(family):
    without = packet(family)
    start = 20 if family == 4 else 40
    without[start + 6 : start + 8] = without[start + 16 : start + 18] = b"\0\0"
    view = read(without)
    assert not view.checksum_is_missing
    assert not view.checksum_is_good()


# ICMP


@FAMILIES
def test_a_message_of_icmp_is_found_by_its_protocol(family):
    view = read(ping(family), Kind.ICMP)
    assert view.protocol == {4: ICMP, 6: ICMPV6}[family]
    assert view.transport == (20 if family == 4 else 40)
    assert view.checksum_is_good()
    assert not read(ping(family, spoilt=True), Kind.ICMP).checksum_is_good()


@FAMILIES
def test_a_message_shorter_than_its_header_is_truncated(family):
    short = ping(family)
    short[(2 if family == 4 else 4) : (4 if family == 4 else 6)] = (27 if family == 4 else 7).to_bytes(2, "big")
    assert problem(short) is DropReason.TRUNCATED


def test_the_icmp_of_the_other_family_is_something_else():
    four, six = ping(4), ping(6)
    four[9], six[6] = ICMPV6, ICMP
    assert problem(four) is problem(six) is Kind.OTHER


# Fragments


@FAMILIES
@pytest.mark.parametrize("make", [packet, udp], ids=["tcp", "udp"])
def test_the_first_fragment_has_the_tuple_of_its_datagram(family, make):
    whole = make(family, payload=bytes(100))
    protocol, header = (TCP, 20) if make is packet else (UDP, 8)
    view = read(cut(whole, 0, 64), Kind.FRAGMENT)
    assert view.is_fragment
    assert (view.offset, view.more) == (0, True)
    assert view.key == KEY[family][:-1] + bytes((protocol,))
    assert view.payload_size == 64 - header


@FAMILIES
def test_a_later_fragment_says_where_its_bytes_belong_and_whether_it_is_the_last(family):
    whole = udp(family, bytes(100))
    middle, last = read(cut(whole, 64, 96), Kind.FRAGMENT), read(cut(whole, 96), Kind.FRAGMENT)
    assert (middle.offset, middle.until, middle.more) == (64, 96, True)
    assert (last.offset, last.until, last.more) == (96, 108, False)


@FAMILIES
def test_the_fragments_of_a_datagram_have_its_name_and_no_others(family):
    whole, back = udp(family, bytes(100)), datagram(THERE[family], HERE[family], bytes(100))

    def name(fragment):
        return read(fragment, Kind.FRAGMENT).datagram

    parts = [cut(whole, 0, 32), cut(whole, 32, 64), cut(whole, 64)]
    assert len({name(part) for part in parts}) == 1
    assert name(cut(whole, 0, 32, identification=78)) != name(parts[0])
    assert name(cut(back, 0, 32)) != name(parts[0])


def test_over_ipv4_the_protocol_is_a_part_of_the_name():
    """RFC 791, section 3.2: over IPv6 the identification alone tells the datagrams of two hosts apart."""
    names = [read(cut(make(4, payload=bytes(99)), 0, 32), Kind.FRAGMENT).datagram for make in (packet, udp)]
    assert names[0] != names[1]


@pytest.mark.parametrize("first", [0, 8, 0x1FFF * 8])
def test_the_offset_of_ipv4_counts_in_units_of_eight_bytes(first):
    part = cut(udp(4, bytes(100)), 0, 64)
    part[6:8] = (0x2000 | first // 8).to_bytes(2, "big")
    view = read(part, Kind.FRAGMENT)
    assert (view.offset, view.more) == (first, True)


@pytest.mark.parametrize("flags", [0x40, 0x80])
def test_a_fragment_may_bear_other_flags(flags):
    part = cut(udp(4, bytes(100)), 0, 64)
    part[6] |= flags
    view = read(part, Kind.FRAGMENT)
    assert (view.offset, view.more) == (0, True)


def test_the_only_fragment_of_a_datagram_is_a_whole_packet():
    """RFC 6946: an IPv6 fragment header with offset 0 and none to follow makes no fragment."""
    view = read(packet(6, payload=b"hello", extensions=(FRAGMENT,)))
    assert not view.is_fragment
    assert view.key == KEY[6]
    assert view.payload_size == 5
    assert view.checksum_is_good()


def test_a_fragment_header_stands_anywhere_among_the_others():
    whole = udp(6, bytes(100), extensions=(HOP_BY_HOP, ROUTING, DESTINATION))
    first, later = cut(whole, 0, 64), cut(whole, 64)
    view = read(first, Kind.FRAGMENT)
    assert view.key == KEY[6][:-1] + bytes((UDP,))
    assert view.transport == 40 + 8 * 4
    assert (view.offset, view.until) == (0, 64), "what stands behind it is cut as well"
    view = read(later, Kind.FRAGMENT)
    assert view.datagram == read(first, Kind.FRAGMENT).datagram
    assert (view.offset, view.until) == (64, 116)


@pytest.mark.parametrize("size", [8, 16])
def test_a_first_fragment_that_ends_within_its_extension_headers_is_not_followed(size):
    """RFC 7112: nobody can tell what it carries."""
    whole = udp(6, bytes(100), extensions=(DESTINATION, DESTINATION))
    assert problem(cut(whole, 0, size)) in (DropReason.BAD_HEADER, DropReason.TRUNCATED)


def test_a_fragment_that_ends_inside_its_fragment_header_is_truncated():
    short = cut(udp(6, bytes(100)), 0, 64)
    short[4:6] = (7).to_bytes(2, "big")
    assert problem(short) is DropReason.TRUNCATED


@FAMILIES
@pytest.mark.parametrize(("make", "least"), [(packet, 24), (udp, 8)], ids=["tcp", "udp"])
def test_a_first_fragment_without_the_whole_transport_header_is_tiny(family, make, least):
    """RFC 1858, and RFC 7112 for IPv6: it cannot be judged, so it must not pass."""
    whole = make(family, payload=bytes(100))
    assert problem(cut(whole, 0, least)) is Kind.FRAGMENT
    if least > 8:
        assert problem(cut(whole, 0, least - 8)) is DropReason.FRAGMENT_TINY


@FAMILIES
@pytest.mark.parametrize("words", [*range(5), 15])
def test_a_first_fragment_with_an_impossible_tcp_header_is_no_better_than_a_whole_packet(family, words):
    bad = cut(packet(family, payload=bytes(100)), 0, 32)
    bad[(20 if family == 4 else 48) + 12] = words << 4
    assert problem(bad) is DropReason.BAD_HEADER


@FAMILIES
@pytest.mark.parametrize("first", [0, 64])
def test_all_fragments_but_the_last_carry_a_multiple_of_eight_bytes_and_none_is_empty(family, first):
    whole = udp(family, bytes(200))
    assert problem(cut(whole, first, first + 33)) is DropReason.BAD_HEADER
    assert problem(cut(whole, first, first)) is DropReason.BAD_HEADER


@pytest.mark.parametrize("protocol", [1, 47, 50, 132])
@pytest.mark.parametrize("first", [0, 64])
def test_a_fragment_of_what_has_no_ports_is_something_else(protocol, first):
    other = cut(packet(4, payload=bytes(100)), first, first + 32)
    other[9] = protocol
    assert problem(other) is Kind.OTHER


def test_what_a_later_fragment_of_ipv6_carries_is_not_known_from_itself():
    """Extension headers may precede it, so even the first one of another protocol is for its datagram to know."""
    for first in (0, 64):
        other = cut(packet(6, payload=bytes(100)), first, first + 32)
        other[40] = 132
        assert problem(other) is Kind.FRAGMENT


@FAMILIES
def test_the_checksum_of_a_fragment_is_for_its_receiver_to_judge(family):
    assert read(cut(udp(family, bytes(100), spoilt=True), 0, 64), Kind.FRAGMENT).checksum_is_good()


# Checksums


@FAMILIES
@given(payload=st.binary(max_size=9))
def test_a_right_checksum_is_good(family, payload):
    assert read(packet(family, payload=payload)).checksum_is_good()


@FAMILIES
@given(payload=st.binary(max_size=9), data=st.data())
def test_one_flipped_bit_in_the_segment_makes_the_checksum_bad(family, payload, data):
    damaged = packet(family, payload=payload)
    # The data offset stays as it is: with another one the segment cannot be followed at all.
    first = 20 if family == 4 else 40
    bit = data.draw(st.integers(first * 8, len(damaged) * 8 - 1).filter(lambda bit: bit // 8 != first + 12))
    damaged[bit // 8] ^= 1 << bit % 8
    assert not read(damaged).checksum_is_good()


@FAMILIES
@pytest.mark.parametrize("end", ["source", "destination"])
def test_a_damaged_address_makes_the_checksum_bad(family, end):
    damaged = packet(family)
    damaged[{(4, "source"): 12, (4, "destination"): 16, (6, "source"): 8, (6, "destination"): 24}[family, end]] ^= 1
    assert not read(damaged).checksum_is_good()


@FAMILIES
def test_an_unfinished_checksum_is_not_good(family):
    """The rewrite could not keep it right: the field holds a sum, and not the complement of one."""
    unfinished = packet(family, payload=b"hello")
    start = 20 if family == 4 else 40
    partial = ones_sum(pseudo(packed(HERE[family][0]), packed(THERE[family][0]), len(unfinished) - start))
    unfinished[start + 16 : start + 18] = partial.to_bytes(2, "big")
    assert not read(unfinished).checksum_is_good()


def test_the_flags_are_those_of_rfc_9293():
    assert (FIN, SYN, RST, PSH, ACK) == (1, 2, 4, 8, 16)


def test_the_protocols_are_those_of_iana():
    assert (ICMP, TCP, UDP, ICMPV6) == (1, 6, 17, 58)


MSS = b"\x02\x04\xff\xd7"  # 65,495: what the loopback interface takes in one IPv4 packet


@pytest.mark.parametrize(
    ("options", "place"),
    [
        (MSS, 0),
        (b"\x01\x01\x01\x01" + MSS, 4),
        (b"\x01" + MSS + b"\x01\x01\x00", 1),
        (b"\x03\x03\x07" + MSS + b"\x00", 3),
        (b"", None),
        (b"\x00" + MSS + b"\x00\x00\x00", None),
        (b"\x01\x01\x01\x02", None),
        (b"\x02\x03\xff\x00", None),
        (b"\x01\x01\x02\x04", None),
        (b"\x08\x01" + MSS + b"\x00\x00", None),
    ],
    ids=[
        "first",
        "behind others",
        "at an odd offset",
        "behind one of odd size",
        "no options",
        "behind the end of the options",
        "without its size",
        "of another size",
        "cut off",
        "behind one of an impossible size",
    ],
)
@FAMILIES
def test_an_option_is_found_by_kind_and_size(family, options, place):
    view = read(packet(family, SYN, options=options, payload=b"\x02\x04"))
    found = view.option(2, 4)
    assert (None if found is None else found - view.transport - 20) == place


@FAMILIES
@pytest.mark.parametrize("padding", [0, 1, 2, 3])
def test_a_syn_never_says_that_its_sender_takes_larger_packets(family, padding):
    options = b"\x01" * padding + MSS + b"\x00" * (-padding % 4)
    syn = packet(family, SYN, options=options)
    view = read(syn)
    view.limit_packets(65531)
    most = 65531 - {4: 40, 6: 60}[family]
    changed = options.replace(MSS, b"\x02\x04" + most.to_bytes(2, "big"))
    assert view.packet == packet(family, SYN, options=changed)
    assert view.checksum_is_good()


@FAMILIES
@pytest.mark.parametrize("options", [b"", b"\x02\x04\x05\xb4", b"\x01\x01\x01\x00"])
def test_a_syn_that_says_less_or_nothing_is_left_alone(family, options):
    view = read(packet(family, SYN, options=options))
    view.limit_packets(65531)
    assert view.packet == packet(family, SYN, options=options)
