"""`lab.sh draw`: one connection at the four places that its packets pass, as a picture.

By default the lab's client makes one request, and that connection is drawn. With --wait it is the first that somebody
else makes; with --from, the first of a file that `lab.sh capture all` wrote, for which no lab is needed.
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from netns.build import Lab
from netns.draw import Pen
from netns.errors import LabError
from netns.numbers import counted
from netns.observe import Visitor, everywhere, way
from netns.seeing import pcapng
from netns.seeing.diagram import Lane, diagram
from netns.seeing.words import Words, need, seconds
from netns.topology import LINK, Host, Topology
from netns.walk import Sighting, Walk, follow, of_connection
from netns.web import endpoint

MOST = 60
"""Packets in a picture, which is then some 4,700 pixels high."""


def draw(lab: Lab, _: Pen, words: Sequence[str]) -> int:
    """Draw a connection into a file."""
    options = _words().parse_args(words)
    path = Path(options.file)
    if options.source:
        sightings = _of_file(lab.topology, Path(options.source))
        client = None
    else:
        need(lab)
        sightings, client = _captured(lab, options.path, options.wait)
    walks, server = connection(lab.topology, sightings, client)
    try:
        path.write_text(
            diagram(walks[:MOST], lanes(lab.topology, walks[0], server), max(0, len(walks) - MOST)), "utf-8"
        )
    except OSError as error:
        raise LabError(f"{path}: {error.strerror}; give another FILE") from error
    first = walks[0].first
    went_on = any(seen.place == way(server)[2] for walk in walks for seen in walk.sightings)
    who = f"served by {server.name}" if went_on else "none of them on a server's link"
    packets = counted(len(walks), "packet")
    print(f"{path}: {packets} of {first.source} > {first.destination}, {who}. A browser shows it.")
    return 0


def _words() -> Words:
    words = Words("draw", "Draw one connection at the four places that its packets pass, as an SVG picture.")
    words.add_argument("file", metavar="FILE", nargs="?", default="connection.svg", help="to write (%(default)s)")
    which = words.add_mutually_exclusive_group()
    which.add_argument("--path", default="/", help="what the client asks for (%(default)s); /bytes/5000 is long")
    which.add_argument("--wait", type=seconds, metavar="SECONDS", help="ask for nothing; draw the client's next one")
    which.add_argument("--from", dest="source", metavar="PCAPNG", help="draw the first of a `lab.sh capture all`")
    return words


def _of_file(topology: Topology, path: Path) -> list[Sighting]:
    """Read what passed; LabError where it was not captured at all places: what is not in the file would seem lost."""
    sightings, captured = pcapng.sightings(path), pcapng.places(path)
    missing = [place for server in topology.servers for place in way(server) if place not in captured]
    if missing:
        raise LabError(
            f"{path} was not captured at {', '.join(dict.fromkeys(missing))}; a picture needs every place of a"
            " connection, as in a file of `lab.sh capture all`"
        )
    return sightings


def _captured(lab: Lab, path: str, wait: float | None) -> tuple[list[Sighting], str | None]:
    """Return what passed, and the endpoint of the client if it is known."""
    with everywhere(lab, "tcp") as observation:
        if wait is not None:
            print(f"Waiting {wait:g} s for a connection of {lab.topology.client.name} ...", flush=True)
            time.sleep(wait)
            return observation.sightings(), None
        with Visitor(lab, lab.topology.balancer.port) as visitor:
            visitor.get(path)
        return observation.sightings(), visitor.endpoint


def connection(topology: Topology, sightings: Iterable[Sighting], client: str | None = None) -> tuple[list[Walk], Host]:
    """Find a connection, unless told which the first whose SYN left the client: its walks, and its server.

    LabError when there is none. Where no server saw it, it is drawn with the first one.
    """
    sightings = list(sightings)
    sent = [seen for seen in sightings if seen.place == f"client:{LINK}" and seen.flags == "S"]
    if client is None and sent:
        client = min(sent, key=lambda seen: seen.time).source
    mine = [seen for _, seen in of_connection(sightings, client or "")]
    places = {seen.place for seen in mine}
    server = next((host for host in topology.servers if way(host)[2] in places), topology.servers[0])
    walks = follow(mine, client or "", way(server))
    if not walks:
        raise LabError("no connection of the client was seen, from its first packet on, at the client's own wire")
    return walks, server


def lanes(topology: Topology, first: Walk, server: Host) -> list[Lane]:
    """Return the four places of a connection; its first packet tells who was asked, and who was in the end."""
    places = way(server)
    sent = first.first
    own = server.ipv6 if sent.source.startswith("[") else server.ipv4
    asked = next((seen.destination for seen in first.sightings if seen.place == places[2]), endpoint(own, server.port))
    return [
        Lane(places[0], topology.client.name, sent.source),
        Lane(places[1], "balancer", sent.destination, "client side"),
        Lane(places[2], "balancer", sent.destination, "server side"),
        Lane(places[3], server.name, asked),
    ]
