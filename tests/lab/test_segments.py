"""Every segment of a connection reaches one server, and nothing but addresses, ports, checksums and TTL has changed."""

import pytest

from netns.build import Lab
from netns.capture import Capture, settle
from netns.dissect import read
from netns.walk import Sighting
from tests.lab.support import download, until

pytestmark = pytest.mark.root

_CONNECTIONS = 6
_SIZE = 300_000


def test_every_segment_of_a_connection_reaches_one_server(balanced: Lab, vip: str) -> None:
    with balanced.capture("server1", "eth0", "tcp") as first, balanced.capture("server2", "eth0", "tcp") as second:
        for _ in range(_CONNECTIONS):
            download(balanced, "client", vip, _SIZE)
        settle([first, second])
    client = balanced.topology.client
    ours = tuple(f"{address}:" for address in (client.ipv4, f"[{client.ipv6}]"))
    seen = []
    for capture in (first, second):
        ends = {end for packet in read(capture.place, capture.packets()) for end in (packet.source, packet.destination)}
        seen.append({end for end in ends if end.startswith(ours)})
    assert len(seen[0]) == len(seen[1]) == _CONNECTIONS // 2, "each server got half of the connections"
    assert not seen[0] & seen[1], "a connection was seen at both servers"


def test_nothing_changes_on_the_way_but_addresses_ports_checksums_and_ttl(balanced: Lab, vip: str) -> None:
    client = balanced.topology.client
    # The health checks of the balancer reach the servers too; they are not the client's.
    ours = f"tcp and (host {client.ipv4} or host {client.ipv6})"
    at_client = balanced.capture("client", "eth0", ours)
    at_servers = [balanced.capture(host.name, "eth0", ours) for host in balanced.topology.servers]
    download(balanced, "client", vip, _SIZE)

    def seen(*captures: Capture) -> int:
        return sum(len(capture.packets()) for capture in captures)

    settle([at_client, *at_servers])
    until(lambda: seen(at_client) == seen(*at_servers), "none is on its way")
    near = []
    far = []
    for capture in (at_client, *at_servers):
        capture.stop()
        sightings = read(capture.place, capture.packets())
        (near if capture is at_client else far).extend(sightings)
    assert len(near) == len(far) > 20
    assert all(sighting.checksums_right for sighting in near + far)

    def unchanged(sighting: Sighting) -> tuple[object, ...]:
        return sighting.seq, sighting.ack, sighting.flags, sighting.timestamps, sighting.payload

    assert sorted(map(repr, map(unchanged, near))) == sorted(map(repr, map(unchanged, far)))
