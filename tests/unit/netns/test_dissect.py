import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from netns.dissect import read

LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")  # else scapy asks the machine's neighbours
OPTIONS = [("NOP", None), ("NOP", None), ("Timestamp", (77, 66))]


def frame(network, payload=b"GET /"):
    tcp = TCP(sport=40312, dport=8888, seq=5, ack=6, flags="PA", options=OPTIONS)
    return bytearray(bytes(LINK / network / tcp / payload))


def ipv4():
    return IP(src="44.1.1.1", dst="44.2.2.2", ttl=64)


def ipv6():
    return IPv6(src="fd44::1", dst="fd44::2", hlim=63)


def test_ipv4_segment_is_read():
    [seen] = read("here", [(1.5, bytes(frame(ipv4())))])
    assert (seen.place, seen.time) == ("here", 1.5)
    assert (seen.source, seen.destination, seen.ttl) == ("44.1.1.1:40312", "44.2.2.2:8888", 64)
    assert (seen.seq, seen.ack, seen.flags, seen.timestamps, seen.payload) == (5, 6, "PA", (77, 66), b"GET /")
    assert seen.ip_checksum is not None


def test_ipv6_segment_is_read():
    [seen] = read("here", [(1.5, bytes(frame(ipv6())))])
    assert (seen.source, seen.destination, seen.ttl) == ("[fd44::1]:40312", "[fd44::2]:8888", 63)
    assert seen.ip_checksum is None
    assert seen.payload == b"GET /"


def test_ethernet_padding_is_no_payload():
    [seen] = read("here", [(0, bytes(frame(ipv4(), b"")) + b"\0" * 6)])
    assert seen.payload == b""
    assert seen.checksums_right


@pytest.mark.parametrize("network", [ipv4(), ipv6()], ids=["ipv4", "ipv6"])
def test_right_checksums_are_found_right(network):
    [seen] = read("here", [(0, bytes(frame(network)))])
    assert seen.checksums_right


@pytest.mark.parametrize("network", [ipv4(), ipv6()], ids=["ipv4", "ipv6"])
def test_a_wrong_tcp_checksum_is_found(network):
    damaged = frame(network)
    damaged[-1] ^= 1
    [seen] = read("here", [(0, bytes(damaged))])
    assert not seen.checksums_right


def test_a_wrong_ip_checksum_is_found():
    damaged = frame(ipv4())
    damaged[14 + 8] -= 1  # TTL
    [seen] = read("here", [(0, bytes(damaged))])
    assert not seen.checksums_right


def test_what_is_not_tcp_is_passed_over():
    others = [LINK / ARP(), LINK / ipv4() / UDP(sport=1, dport=2)]
    assert read("here", [(0, bytes(other)) for other in others]) == []


def test_without_checksums_they_pass_for_right_and_the_rest_is_read():
    wrong = frame(ipv4())
    wrong[-1] ^= 1
    assert [seen.checksums_right for seen in read("here", [(0, bytes(wrong))])] == [False]
    [seen] = read("here", [(0, bytes(wrong))], checksums=False)
    assert seen.checksums_right
    assert seen.seq == 5
