"""Captured bytes -> sightings, read by scapy.

Scapy shares no code with natlb: that a checksum is right is the word of a third party. It takes half a second to
import; so whoever only wants the lab up or down must not import this module.
"""

from collections.abc import Iterable
from typing import Any

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from netns.walk import Sighting
from netns.web import endpoint


def read(place: str, packets: Iterable[tuple[float, bytes]], *, checksums: bool = True) -> list[Sighting]:
    """Read the TCP segments of a capture (time and frame, from the Ethernet header on); pass over the rest.

    Computing the checksums is most of the work; without `checksums` they pass for right.
    """
    sightings = []
    for time, frame in packets:
        parsed = Ether(frame)
        network = parsed.getlayer(IP) or parsed.getlayer(IPv6)
        if network is None or TCP not in network:
            continue
        tcp = network[TCP]
        sightings.append(
            Sighting(
                place=place,
                time=time,
                source=endpoint(network.src, tcp.sport),
                destination=endpoint(network.dst, tcp.dport),
                ttl=network.ttl if IP in network else network.hlim,
                ip_checksum=network.chksum if IP in network else None,
                tcp_checksum=tcp.chksum,
                checksums_right=not checksums or _checksums_right(network),
                seq=tcp.seq,
                ack=tcp.ack,
                flags=str(tcp.flags),
                timestamps=next((value for name, value in tcp.options if name == "Timestamp"), None),
                payload=_payload(network),
            )
        )
    return sightings


def _payload(network: Any) -> bytes:
    """Without the padding that Ethernet adds to short packets."""
    tcp = network[TCP]
    length = (network.len - network.ihl * 4 if IP in network else network.plen) - tcp.dataofs * 4
    return bytes(tcp.payload)[:length]


def _checksums_right(network: Any) -> bool:
    """Whether scapy, left to compute the checksums, comes to the same."""
    again = network.copy()
    del again[TCP].chksum
    if IP in again:
        del again.chksum
    return bytes(type(network)(bytes(again))) == bytes(network)
