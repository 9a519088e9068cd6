"""Conditions: what matches is what a plain reading of the patterns says."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.core import conditions
from natlb.core.flow import flow_key
from natlb.core.opening import Opening
from natlb.core.service import Service
from tests.unit.core.packets import packed

NETWORKS_4 = st.builds(
    lambda number, bits: ip_network((number, bits), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)
)
NETWORKS_6 = st.builds(
    lambda number, bits: ip_network((number, bits), strict=False), st.integers(2**32, 2**128 - 1), st.integers(0, 128)
)
NETWORKS = st.lists(NETWORKS_4 | NETWORKS_6, max_size=8)


def near(networks):
    """Addresses on the borders of networks, and some anywhere."""
    borders = [address for each in networks for address in (each[0], each[-1])]
    borders += [type(each)(int(each) + step) for each in borders for step in (-1, 1) if 0 < int(each) < 2**32 - 1]
    anywhere = [st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(2**32, 2**128 - 1).map(IPv6Address)]
    return st.one_of(*([st.sampled_from(borders)] if borders else []), *anywhere)


def embedded(address):
    """The addresses of both families that HAProxy takes an address for."""
    if address.version == 4:
        return [address, IPv6Address(f"::ffff:{address}")]
    if address.packed[:12] in (bytes(12), bytes(10) + b"\xff\xff"):
        return [address, IPv4Address(address.packed[12:])]
    return [address, address.sixtofour] if address.sixtofour is not None else [address]


@given(st.data())
def test_addresses_are_in_a_network_when_the_standard_library_says_so(data):
    networks = data.draw(NETWORKS)
    address = data.draw(near(networks))
    match = conditions.in_networks((each.network_address.packed, each.netmask.packed) for each in networks)
    assert match(address.packed) == any(
        each in network for each in embedded(address) for network in networks if each.version == network.version
    )


@pytest.mark.parametrize(
    ("address", "network", "mask", "matches"),
    [
        ("10.9.9.1", "10.0.0.1", "255.0.0.255", True),
        ("10.9.9.2", "10.0.0.1", "255.0.0.255", False),
        ("10.0.0.1", "::ffff:0:0", "ffff:ffff:ffff:ffff:ffff:ffff::", True),
        ("::ffff:10.0.0.1", "10.0.0.0", "255.0.0.0", True),
        ("2002:a00:1::5", "10.0.0.0", "255.0.0.0", True),
        ("::10.0.0.1", "10.0.0.0", "255.0.0.0", True),
        ("2001:db8::1", "10.0.0.0", "255.0.0.0", False),
    ],
)
def test_masks_may_have_gaps_and_families_meet_where_one_embeds_the_other(address, network, mask, matches):
    assert conditions.in_networks([(packed(network), packed(mask))])(packed(address)) is matches


@given(
    st.lists(st.tuples(st.none() | st.integers(-9, 9), st.none() | st.integers(-9, 9)), max_size=4), st.integers(-9, 9)
)
def test_numbers_are_in_a_range_or_not(ranges, number):
    wanted = {
        each for low, high in ranges for each in range(-9 if low is None else low, (9 if high is None else high) + 1)
    }
    assert conditions.in_ranges(ranges)(number) == (number in wanted)


def test_values_of_another_kind_match_nothing():
    assert not conditions.in_ranges([(None, None)])(b"\0\0\0\0")
    assert not conditions.in_networks([(bytes(4), bytes(4))])(5)


def test_texts():
    assert conditions.is_text(["www", "mail"])("mail")
    assert not conditions.is_text(["www", "mail"])("Mail")
    assert conditions.is_text(["WWW"], any_case=True)("www")
    assert conditions.is_text(["ma"], str.startswith)("mail")
    assert conditions.is_text(["ai"], str.__contains__)("mail")


def test_truth_and_being_there():
    assert conditions.is_true(5)
    assert not conditions.is_true(0)
    assert conditions.is_found(0)


def opening() -> Opening:
    place = packed("10.0.0.1"), b"\x04\x00"
    return Opening(flow_key(place, place, 6), Service("f", None), 0.0, lambda _: False)


def yes(_):
    return True


def no(_):
    return False


def unasked(_):
    raise AssertionError("nobody should ask this")


def test_no_more_is_asked_than_it_takes():
    at = opening()
    assert conditions.any_of([no, yes, unasked])(at)
    assert not conditions.all_of([yes, no, unasked])(at)
    assert conditions.all_of([yes])(at)
    assert not conditions.any_of([no])(at)
    assert not conditions.any_of([])(at)
    assert conditions.unless(no)(at)
    assert conditions.always(at)


def test_a_sample_without_a_value_matches_nothing():
    assert not conditions.ask(lambda _: None, conditions.is_found)(opening())
    assert conditions.ask(lambda _: 0, conditions.is_found)(opening())


def test_an_address_embeds_what_the_standard_library_says():
    assert embedded(ip_address("2002:a00:1::5"))[1] == ip_address("10.0.0.1")
