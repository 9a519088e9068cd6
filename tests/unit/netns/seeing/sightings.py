"""One connection, seen at four places."""

from dataclasses import replace

from netns.topology import SEED
from netns.walk import Sighting

CLIENT, VIP, SERVER = "44.1.1.1:40312", "44.2.2.2:8888", "44.3.3.3:4444"
WAY = ("client:eth0", "lb:client", "lb:server1", "server1:eth0")
SERVED = {SERVER, "44.4.4.4:5555"}
ADDRESSES = {SEED.client.ipv4, SEED.client.ipv6}


def sighting(place=WAY[0], time=0.0, source=CLIENT, destination=VIP, **fields):
    base = Sighting(place, time, source, destination, 64, 0x1111, 0x2222, True, 1000, 0, "S", None, b"")
    return replace(base, **fields)


def sent(time=0.0, seen=4, **fields):
    """A packet of the client, at so many places."""
    after = {"destination": SERVER, "ttl": 63, "ip_checksum": 0x3333, "tcp_checksum": 0x4444}
    return [
        sighting(place, time + at * 1e-5, **{**fields, **(after if at > 1 else {})})
        for at, place in enumerate(WAY[:seen])
    ]


def answered(time=0.0, seen=4, **fields):
    """A packet of the server, at so many places."""
    before = {"source": SERVER, "destination": CLIENT}
    after = {"source": VIP, "destination": CLIENT, "ttl": 63, "ip_checksum": 0x3333, "tcp_checksum": 0x4444}
    return [
        sighting(place, time + at * 1e-5, **fields, **(after if at > 1 else before))
        for at, place in enumerate(WAY[::-1][:seen])
    ]


def conversation():
    """A handshake, a request, an answer, a RST of the client that the balancer held up."""
    return [
        *sent(0.0),
        *answered(0.001, flags="SA", seq=5000, ack=1001),
        *sent(0.002, flags="A", seq=1001, ack=5001),
        *sent(0.003, flags="PA", seq=1001, ack=5001, payload=b"GET / HTTP/1.1\r\n\r\n"),
        *answered(0.004, flags="PA", seq=5001, ack=1019, payload=b"HTTP/1.1 200 OK\r\n\r\n"),
        *sent(0.005, seen=2, flags="R", seq=1019),
    ]
