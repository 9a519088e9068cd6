"""How a connection opens, or does not: its first packets at the client and at both servers.

The experiment does not know who balances. With nothing but a rewritten destination the server's answer comes from an
address that the client never spoke to, and TCP on the client says so with a RST.
"""

import socket

from netns import ladder
from netns.build import Lab
from netns.claims import Findings, told
from netns.draw import Pen
from netns.observe import everywhere
from netns.topology import LINK
from netns.walk import Walk, follow
from netns.web import endpoint

_PATIENCE = 0.5
"""Seconds: less than the second after which a SYN is sent again."""
_MOST = 8


def opening(lab: Lab, pen: Pen) -> Findings:
    """Open one connection to the VIP and watch it."""
    vip = endpoint(lab.topology.balancer.ipv4, lab.topology.balancer.port)
    with everywhere(lab) as observation:
        client, outcome = attempt(lab)
        walks = follow(observation.sightings(), client, _way(lab))
    yield ladder.draw(pen, walks[:_MOST], {place: place.partition(":")[0] for place in _way(lab)})
    yield ""
    yield told(f"The client ({client}) {outcome}. {_story(walks, vip)}")


def attempt(lab: Lab) -> tuple[str, str]:
    """Try to connect; return the client's endpoint, and in words what became of it."""
    target = lab.topology.balancer.ipv4, lab.topology.balancer.port
    with lab.open_socket("client", socket.AF_INET, socket.SOCK_STREAM) as opened:
        opened.settimeout(_PATIENCE)
        opened.bind((lab.topology.client.ipv4, 0))
        client = endpoint(*opened.getsockname())
        try:
            opened.connect(target)
        except TimeoutError:
            return client, f"waited {_PATIENCE:g} s in vain"
        except OSError as error:
            return client, f"was told: {(error.strerror or str(error)).lower()}"
        return client, "is connected"


def _way(lab: Lab) -> tuple[str, ...]:
    """All ends at once: a packet passes the client's, and that of whichever server it is sent to."""
    return tuple(f"{host.name}:{LINK}" for host in lab.topology.neighbours)


def _story(walks: list[Walk], vip: str) -> str:
    """Say what the packets mean, by what was seen at the client."""
    at_client = [(walk, seen) for walk in walks for seen in walk.sightings if seen.place.startswith("client")]
    answers = [seen for _, seen in at_client if seen.flags == "SA"]
    if not any(seen.flags == "S" and len(walk.sightings) > 1 for walk, seen in at_client):
        return f"Its SYN to {vip} reached no server."
    if not answers:
        return f"A server got its SYN to {vip}; no answer came back to it."
    if answers[0].source == vip:
        return f"It asked {vip}, and {vip} answered."
    refused = any(walk.towards_server and "R" in seen.flags for walk, seen in at_client)
    return f"It asked {vip}, and was answered by {answers[0].source}. It has no connection with that address" + (
        ", so it refused the answer with a RST." if refused else "."
    )
