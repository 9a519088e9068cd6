"""natlb beside HAProxy, with the same client and the same servers: what a connection is, and who may read it.

A proxy's second connection has nothing in common with the first but the data. So it is found by the data: each request
has a path of its own, and the connection on the server's wire that carries it is the one.
"""

from collections.abc import Sequence

from netns import draw, haproxy, programs
from netns.build import Lab
from netns.claims import Claim, Findings, told
from netns.draw import Pen
from netns.errors import LabError
from netns.observe import Visitor, watching
from netns.topology import LINK
from netns.walk import Sighting


def _both_run(lab: Lab) -> None:
    """LabError, with the remedy, unless natlb and HAProxy run."""
    programs.needed(lab, "natlb")
    programs.needed(lab, "haproxy")


def numbers(lab: Lab, pen: Pen) -> Findings:
    """Make one connection through natlb and one through a proxy; compare their two ends."""
    _both_run(lab)
    facts = [pair_of_ends(lab, port) for port in (lab.topology.balancer.port, haproxy.TCP)]
    rows = [["", "natlb", "", "HAProxy", ""], ["", *["at the client", "at the server"] * 2]]
    rows += [[title, *(end[title] for pair in facts for end in pair)] for title in facts[0][0]]
    lines = draw.table(rows, gap=1)
    yield pen.bold("\n".join(lines[:2]))
    yield "\n".join(lines[2:])
    yield ""
    through_natlb, through_proxy = facts
    yield Claim(
        "through natlb both ends use the same sequence numbers: one single TCP connection",
        saw=[through_natlb[1][title] for title in _SEQUENCE],
        expected=[through_natlb[0][title] for title in _SEQUENCE],
    )
    yield Claim(
        "through the proxy they do not: two connections",
        saw=[through_proxy[0][title] == through_proxy[1][title] for title in _SEQUENCE],
        expected=[False] * len(_SEQUENCE),
    )


_SEQUENCE = ("client's first seq", "server's first seq")


def pair_of_ends(lab: Lab, port: int) -> tuple[dict[str, str], dict[str, str]]:
    """Send a request to a port of the VIP; return what its connection looks like at the client and at the server."""
    path = f"/seen-at-{port}"
    with watching(lab, places(lab), "tcp") as observation:
        with Visitor(lab, port) as visitor:
            visitor.ask(path)
        seen = observation.sightings()
    at_client = [each for each in seen if each.place.startswith("client") and visitor.endpoint in _ends(each)]
    at_server = connection_with(seen, path, "server")
    return _facts(at_client), _facts(at_server)


def places(lab: Lab) -> list[tuple[str, str]]:
    """The ends of all cables that are not the balancer's."""
    return [(host.name, LINK) for host in lab.topology.neighbours]


def connection_with(seen: Sequence[Sighting], path: str, host: str) -> list[Sighting]:
    """Find the connection at a host (or hosts whose name begins so) on which a path was asked for."""
    beginning = f"GET {path} ".encode()
    asked = [each for each in seen if each.place.startswith(host) and each.payload.startswith(beginning)]
    if not asked:
        raise LabError(f"no request for {path} was seen at {host}")
    ends = _ends(asked[0])
    return [each for each in seen if each.place == asked[0].place and _ends(each) == ends]


def _ends(sighting: Sighting) -> set[str]:
    return {sighting.source, sighting.destination}


def _facts(connection: Sequence[Sighting]) -> dict[str, str]:
    syn = next((each for each in connection if each.flags == "S"), None)
    answer = next((each for each in connection if each.flags == "SA"), None)
    if syn is None or answer is None:
        raise LabError("a connection without a beginning was captured")
    return {
        "from": syn.source,
        "to": syn.destination,
        _SEQUENCE[0]: str(syn.seq),
        _SEQUENCE[1]: str(answer.seq),
        "client's clock": str(syn.timestamps[0]) if syn.timestamps else "none",
    }


def known(lab: Lab, pen: Pen) -> Findings:
    """Ask the server whom it sees, through natlb, through HAProxy, and through HAProxy with a header."""
    _both_run(lab)
    rows = [["through", "port", "the server sees", "a header says"]]
    doors = {
        "natlb": lab.topology.balancer.port,
        "HAProxy": haproxy.TCP,
        "HAProxy, option forwardfor": haproxy.HEADER,
    }
    seen = {}
    for title, port in doors.items():
        with Visitor(lab, port) as visitor:
            _, client = visitor.ask()
            headers = visitor.get("/headers").decode().lower().splitlines()
        forwarded = next((line.partition(": ")[2] for line in headers if line.startswith("x-forwarded-for")), "nothing")
        rows.append([title, str(port), client, forwarded])
        seen[title] = client.rpartition(":")[0], forwarded
    heading, *lines = draw.table(rows, right=(1,), gap=3)
    yield pen.bold(heading)
    yield "\n".join(lines)
    yield ""
    client, balancer = lab.topology.client.ipv4, lab.topology.balancer.ipv4
    sees = seen["natlb"][0]
    yield told(
        f"Through natlb the server sees {sees}: "
        + (
            "the client itself. The destination was rewritten, and the source was not."
            if sees == client
            else "the balancer. Source and destination were rewritten: full NAT."
            if sees == balancer
            else "neither the client nor the balancer."
        )
    )
    yield Claim(
        "a proxy's connection to the server is its own, so the server sees the proxy",
        saw=[seen[title][0] for title in doors if title != "natlb"],
        expected=[balancer] * 2,
    )
    yield Claim(
        "a header can carry the client's address, for it is the proxy that writes the request",
        saw=[seen[title][1] for title in doors],
        expected=["nothing", "nothing", client],
    )


def paths(lab: Lab, pen: Pen) -> Findings:
    """Ask for two applications in turn on one kept-alive connection, through natlb and through HAProxy."""
    _both_run(lab)
    asked = ["/app1", "/app2"] * 3
    rows = [["request", *asked]]
    answered = {}
    for title, port in {"natlb": lab.topology.balancer.port, "HAProxy": haproxy.PATHS}.items():
        with Visitor(lab, port) as visitor:
            answered[title] = [visitor.ask(path)[0] for path in asked]
        rows.append([title, *(name.replace("server", "s").replace("-", " ") for name in answered[title])])
    heading, *lines = draw.table(rows, gap=3)
    yield pen.bold(heading)
    yield "\n".join(lines)
    yield pen.dim("s1, s2: the two servers; `app2`: their second application, on a port of its own")
    yield ""
    yield Claim(
        "through natlb all requests of the connection reach one server: it was chosen before the first was sent",
        saw=len(set(answered["natlb"])),
        expected=1,
    )
    yield Claim(
        "HAProxy reads each request, and sends it to the application that it asks for",
        saw=["app2" in name for name in answered["HAProxy"]],
        expected=[path == "/app2" for path in asked],
    )


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def cache(lab: Lab, pen: Pen) -> Findings:
    """Ask three times for the same, through natlb and through HAProxy's cache; count what reaches the servers."""
    _both_run(lab)
    times, size = 3, 1000 + lab.stats_socket.stat().st_ino % 1000  # a size that no earlier run has put in the cache
    rows = [["", "the client asked", "the servers were asked"]]
    reached = {}
    for title, port in {"natlb": lab.topology.balancer.port, "HAProxy with a cache": haproxy.CACHE}.items():
        with watching(lab, places(lab)[1:], "tcp") as observation:
            with Visitor(lab, port) as visitor:
                lengths = {len(visitor.get(f"/bytes/{size}")) for _ in range(times)}
            beginning = f"GET /bytes/{size} ".encode()
            reached[title] = sum(seen.payload.startswith(beginning) for seen in observation.sightings())
        rows.append([title, _times(times), _times(reached[title])])
        yield from () if lengths == {size} else (Claim("the answers are complete", lengths, {size}),)
    heading, *lines = draw.table(rows, gap=3)
    yield pen.bold(heading)
    yield "\n".join(lines)
    yield ""
    yield Claim("natlb passes every request on: it does not know one", saw=reached["natlb"], expected=times)
    yield Claim(
        "the cache answers what it has seen before; layer 4 has nothing to keep",
        saw=reached["HAProxy with a cache"] < times,
        expected=True,
    )
