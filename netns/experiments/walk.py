"""One packet at the four places that it passes, then its answer: what the balancer rewrites, and what it leaves.

The server says whom it sees. Is that not the client, the balancer does full NAT: then it has to rewrite the source too,
and in the answer the destination.
"""

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
        name, known_as = visitor.ask()
        server, client = lab.topology.host(name), visitor.endpoint
        walks = follow(observation.sightings(), client, way(server))
    request, reply = (_found(lab, walks, beginning) for beginning in (b"GET / ", b"HTTP/1.1 200"))
    full_nat = known_as != client
    ends = {"source", "destination"} if full_nat else {"destination"}
    yield draw.packet_walk(pen, request.sightings, _TITLES)
    yield ""
    client_wire, balancer_in, balancer_out, server_wire = request.sightings
    yield Claim(
        f"the balancer changes the {' and the '.join(sorted(ends, reverse=True))}, the TTL (it routes, too) and the"
        " checksums; a wire changes nothing",
        saw=[sorted(changed(*pair)) for pair in zip(request.sightings[:-1], request.sightings[1:], strict=True)],
        expected=[[], sorted({*ends, "TTL", "IP checksum", "TCP checksum"}), []],
    )
    if full_nat:
        yield Claim(
            f"the source was the client and is {known_as} now, whom {server.name} takes for the client: full NAT",
            saw=(balancer_in.source, balancer_out.source),
            expected=(client, known_as),
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
    if full_nat:
        yield Claim(
            "the destination is the client again",
            saw=(server_wire.destination, client_wire.destination),
            expected=(known_as, client),
        )
    yield Claim(
        "scapy, which shares no code with natlb, finds every checksum right",
        saw={sighting.checksums_right for each in (request, reply) for sighting in each.sightings},
        expected={True},
    )


def _found(lab: Lab, walks: list[Walk], beginning: bytes) -> Walk:
    """Find the packet that begins so; where somebody had to wait for a processor it may have been sent again."""
    found = [each for each in walks if each.first.payload.startswith(beginning)]
    for each in found:
        if len(each.sightings) == PLACES:
            return each
    seen = [[sighting.place for sighting in each.sightings] for each in found]
    raise LabError(
        f"expected a packet that begins with {beginning!r}, at {PLACES} places; saw {seen}:"
        f" {lab.advice('draw')} shows the whole of such a connection"
    )
