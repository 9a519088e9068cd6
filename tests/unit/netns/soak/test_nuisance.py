"""What bothers natlb is what it says it is, by scapy's reckoning; and none of it can do harm to a connection."""

import random
from collections.abc import Callable

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from netns.soak import nuisance
from tests.travel import Clock

ENDS = {4: ("44.1.1.1", "44.2.2.2"), 6: ("fd44::1", "fd44::2")}


def read(packet: bytes) -> IP | IPv6:
    return (IP if packet[0] >> 4 == 4 else IPv6)(packet)


def is_whole(packet: bytes) -> bool:
    """Whether it is as long as its header says: a kernel throws away whatever is not."""
    if packet[0] >> 4 == 4:
        return len(packet) >= 20 and int.from_bytes(packet[2:4], "big") == len(packet)
    return len(packet) >= 40 and int.from_bytes(packet[4:6], "big") + 40 == len(packet)


def is_sound(packet: bytes) -> bool:
    """Whether all checksums are what scapy makes of the same packet."""
    found = read(packet)
    for layer in (TCP, UDP):
        if layer in found:
            del found[layer].chksum
    return bytes(found) == packet


@pytest.mark.parametrize("version", ENDS)
def test_segments_and_datagrams_have_the_right_checksums(version: int) -> None:
    source, destination = ENDS[version]
    segment = nuisance.tcp((1, 2), 3, 0x02, b"\x02\x04\x05\xb4", b"odd")
    for protocol, made in ((6, segment), (17, nuisance.udp((1, 2), b"seven b"))):
        whole = nuisance.transport(source, destination, protocol, made)
        assert is_sound(nuisance.ip(source, destination, protocol, whole))


@pytest.mark.parametrize("version", ENDS)
@pytest.mark.parametrize("make", nuisance.GARBAGE, ids=lambda make: make.__name__.strip("_"))
def test_no_garbage_can_end_or_open_a_connection(
    version: int, make: Callable[[random.Random, str, str], bytes]
) -> None:
    chance = random.Random(44)
    for _ in range(100):
        packet = make(chance, *ENDS[version])
        assert packet
        if not is_whole(packet):
            continue
        found = read(packet)
        if TCP not in found or not is_sound(packet) or found[TCP].dport == nuisance.PORT:
            continue
        # What is sound goes to ports that no client uses, or has flags that no host sends, or an impossible header.
        flags = int(found[TCP].flags) & 0x3F
        odd = flags in (0, 0x01, 0x03, 0x06, 0x1F, 0x29)
        assert odd or found[TCP].sport >= 61_000 or found[TCP].dataofs != 5


def test_floods_come_from_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuisance, "time", Clock())
    sent: list[bytes] = []

    class Wire:
        def send(self, packet: bytes, version: int) -> None:
            sent.append(packet)

    nuisance.flood(Wire(), ("44.2.2.2", "fd44::2"), random.Random(44), 0.1)  # type: ignore[arg-type]
    assert 10 < len(sent) <= nuisance.FLOODED_PER_SECOND * 0.1
    for packet in sent[:20]:
        found = read(packet)
        assert is_sound(packet)
        assert found.src.startswith("44.1.64.")
        assert (found[TCP].dport, str(found[TCP].flags)) == (nuisance.PORT, "S")
