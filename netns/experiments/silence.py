"""How an idle connection ends: one clock for both sides, since it is one connection.

The times are read from natlb's configuration as it stands in the lab's directory; what happens is read from the wires.
"""

import time

from netns import ladder
from netns.build import Lab
from netns.claims import Claim, Findings, told
from netns.draw import Pen
from netns.observe import Visitor, everywhere, way
from netns.topology import LINK
from netns.walk import follow

LONGEST = 4.0
"""Seconds of silence after which the experiment gives up."""
_TOGETHER = 0.5
"""Seconds between two ends that are one: natlb may have to wait for a processor in between."""


def silence(lab: Lab, pen: Pen) -> Findings:
    """Open a connection, ask once, and keep silent."""
    with everywhere(lab) as observation, Visitor(lab, lab.topology.balancer.port) as visitor:
        began = time.monotonic()  # the silence does not: whoever has to wait for a processor would see a shorter one
        server = lab.topology.host(visitor.ask()[0])
        how = visitor.closed_by_peer(LONGEST)
        after = time.monotonic() - began
        walks = follow(observation.sightings(), visitor.endpoint, way(server))
    places = {f"client:{LINK}": "client's wire", f"{server.name}:{LINK}": f"{server.name}'s wire"}
    yield ladder.draw(pen, walks, places)
    yield ""
    if not how:
        yield told(f"After {LONGEST:g} s of silence the connection is still open. No timeout has passed.")
        return
    yield told(f"After {after:.1f} s of silence the connection was ended.")
    resets = {walk.first.place: walk.first.time for walk in walks if "R" in walk.first.flags}
    ends = sorted(resets.values())
    yield Claim(
        "both ends were told, each by a RST of the balancer's in the other's name",
        saw=len(resets),
        expected=2,
    )
    yield Claim(
        "at the same time: it is one connection, so there is one clock",
        saw=ends[-1] - ends[0] < _TOGETHER,
        expected=True,
    )
