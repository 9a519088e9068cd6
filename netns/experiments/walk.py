"""One packet at the four places that it passes, then its answer: what the balancer rewrites, and what it leaves."""

from netns import draw
from netns.build import Lab
from netns.claims import Claim, Findings
from netns.draw import Pen
from netns.errors import LabError
from netns.observe import PLACES, Visitor, everywhere, way
from netns.walk import Walk, changed, follow
from netns.web import endpoint

_TITLES = ("client wire", "balancer in", "balancer out", "server wire")


def walk(lab: Lab, pen: Pen) -> Findings:
    """Send one request to the VIP and follow it there and back."""
    yield from at_port(lab, pen, lab.topology.balancer.port)


def at_port(lab: Lab, pen: Pen, port: int) -> Findings:
    """Send one request to a port of the VIP and follow it there and back."""
    with everywhere(lab) as observation, Visitor(lab, port) as visitor:
        server = lab.topology.host(visitor.ask()[0])
        walks = follow(observation.sightings(), visitor.endpoint, way(server))
    request, reply = (_found(walks, beginning) for beginning in (b"GET / ", b"HTTP/1.1 200"))
    yield draw.packet_walk(pen, request.sightings, _TITLES)
    yield ""
    client_wire, balancer_in, balancer_out, server_wire = request.sightings
    yield Claim(
        "the balancer changes the destination, the TTL (it routes, too) and the checksums; a wire changes nothing",
        saw=[sorted(changed(*pair)) for pair in zip(request.sightings[:-1], request.sightings[1:], strict=True)],
        expected=[[], sorted({"destination", "TTL", "IP checksum", "TCP checksum"}), []],
    )
    yield Claim(
        f"the destination was the VIP and is {server.name} now",
        saw=(balancer_in.destination, balancer_out.destination),
        expected=(endpoint(lab.topology.balancer.ipv4, port), endpoint(server.ipv4, server.port)),
    )
    yield Claim(
        f"the {len(client_wire.payload)} bytes of data are the same at both ends",
        saw=server_wire.payload,
        expected=client_wire.payload,
    )
    yield "\nThe answer, on its way back:\n"
    yield draw.packet_walk(pen, reply.sightings, tuple(reversed(_TITLES)))
    yield ""
    server_wire, _, _, client_wire = reply.sightings
    yield Claim(
        f"the source was {server.name} and is the VIP now: whom the client asked",
        saw=(server_wire.source, client_wire.source),
        expected=(endpoint(server.ipv4, server.port), endpoint(lab.topology.balancer.ipv4, port)),
    )
    yield Claim(
        "scapy, which shares no code with natlb, finds every checksum right",
        saw={sighting.checksums_right for each in (request, reply) for sighting in each.sightings},
        expected={True},
    )


def _found(walks: list[Walk], beginning: bytes) -> Walk:
    """Find the packet that begins so; where somebody had to wait for a processor it may have been sent again."""
    found = [each for each in walks if each.first.payload.startswith(beginning)]
    for each in found:
        if len(each.sightings) == PLACES:
            return each
    seen = [[sighting.place for sighting in each.sightings] for each in found]
    raise LabError(f"expected a packet that begins with {beginning!r}, at {PLACES} places; saw {seen}")
