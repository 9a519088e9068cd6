"""Where the IP packet begins, by link: made by scapy."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether, Loopback

from natlb.captures.links import NAMES, is_known, network

PACKETS = [IP(src="44.1.1.1", dst="44.2.2.2") / UDP(), IPv6(src="fd44::1", dst="fd44::2") / UDP()]

HEADS: dict[str, tuple[int, Any]] = {
    "ethernet": (1, Ether()),
    "a VLAN": (1, Ether() / Dot1Q(vlan=7)),
    "a VLAN in a VLAN": (1, Ether() / Dot1AD(vlan=7) / Dot1Q(vlan=8)),
    "cooked": (113, CookedLinux(pkttype=0)),
    "cooked, version 2": (276, CookedLinuxV2(pkttype=0)),
    "a VLAN, cooked": (113, CookedLinux(pkttype=0) / Dot1Q(vlan=7)),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("packet", PACKETS, ids=["ipv4", "ipv6"])
def test_the_packet_is_found_behind_its_link(name: str, packet: Any) -> None:
    link, head = HEADS[name]
    frame = bytes(head / packet)
    start, _ = network(link, frame) or (0, None)
    assert frame[start:] == bytes(packet)


@pytest.mark.parametrize("packet", PACKETS, ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("link", [12, 14, 101, 228, 229])
def test_a_packet_without_a_link_begins_at_once(packet: Any, link: int) -> None:
    assert network(link, bytes(packet)) == (0, None)


@pytest.mark.parametrize("order", "<>")
def test_loopback_tells_the_family_in_either_byte_order(order: str) -> None:
    for packet, families in zip(PACKETS, ([2], [10, 24, 28, 30]), strict=True):
        for family in families:
            frame = struct.pack(f"{order}I", family) + bytes(packet)
            assert network(0, frame) == network(108, frame) == (4, None)
    assert network(0, bytes(Loopback(type=2) / PACKETS[0])) == (4, None)
    assert network(0, struct.pack(f"{order}I", 7) + bytes(PACKETS[0])) is None


def test_a_cooked_capture_tells_the_way() -> None:
    for kind in range(5):
        for link, head in ((113, CookedLinux(pkttype=kind)), (276, CookedLinuxV2(pkttype=kind))):
            found = network(link, bytes(head / PACKETS[0]))
            assert found is not None
            assert found[1] is (kind == 4)


def test_what_is_no_ip_packet_is_none() -> None:
    assert network(1, bytes(Ether() / ARP())) is None
    assert network(101, b"\x50" * 40) is None
    assert network(101, b"") is None


@given(st.sampled_from([*NAMES, 228]), st.binary(max_size=60))
def test_no_frame_is_too_much(link: int, frame: bytes) -> None:
    found = network(link, frame)
    assert found is None or found[0] <= len(frame)


def test_links_that_can_be_read_are_known_and_others_are_not() -> None:
    assert all(is_known(link) for link in (*NAMES, 228, 229, 12, 14))
    assert not any(is_known(link) for link in (105, 127, 189, 9))
