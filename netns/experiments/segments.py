"""Who gets which segment of a download: the wires of both servers, side by side.

The download is made through whatever listens at the VIP. With natlb the second server's column stays empty. With the
balancer that is wrong on purpose some segments go astray: the server that gets them knows no such connection, and does
what TCP demands (RFC 9293, 3.10.7.1): it answers with a RST. The balancer brings that to the client in the VIP's name,
and the client believes it.
"""

from netns import ladder, wrong
from netns.build import Lab
from netns.claims import Claim, Findings, told
from netns.draw import Pen
from netns.observe import watching
from netns.topology import LINK
from netns.walk import Sighting, Walk, follow

SIZE = 3_000_000
_BEFORE, _AFTER = 8, 5
"""Lines that are drawn around the first RST."""


def segments(lab: Lab, pen: Pen) -> Findings:
    """Download once through the VIP, and draw what each server saw of it."""
    where = [(host.name, LINK) for host in lab.topology.neighbours]
    with watching(lab, where, "ip and tcp") as observation:
        received, why = download(lab)
        seen = observation.sightings(checksums=False)
    at_client = f"{lab.topology.client.name}:{LINK}"
    endpoint = next((each.source for each in seen if each.place == at_client and each.flags == "S"), "")
    walks = follow(seen, endpoint, tuple(f"{host}:{interface}" for host, interface in where))
    columns = {f"{host}:{interface}": f"{host}'s wire" for host, interface in where}
    relative = ladder.Relative.of(walks)

    def describe(walk: Walk, sighting: Sighting) -> str:
        if walk.towards_server and sighting.flags == "A" and not sighting.payload:
            return f"ACK {relative.ack(walk)}"
        if "R" in sighting.flags:
            return f"RST {relative.seq(walk)}"
        if sighting.payload and not walk.towards_server:
            return f"data {relative.seq(walk)}..{relative.seq(walk) + len(sighting.payload) - 1}"
        return ladder.kind(sighting)

    refused = next((number for number, walk in enumerate(walks) if "R" in walk.first.flags), None)
    first = 0 if refused is None else max(0, refused - _BEFORE)
    last = _BEFORE + _AFTER if refused is None else refused + _AFTER
    if first:
        yield pen.dim(f"{first} packets before these; numbers count from the beginning of each stream")
    yield ladder.draw(pen, walks[first:last], columns, describe)
    if len(walks) > last:
        yield pen.dim(f"and {len(walks) - last} more")
    yield ""
    yield from _balance(lab, walks, received, why)


def download(lab: Lab) -> tuple[int, str]:
    """Download through the VIP; return how many bytes arrived, and what went wrong, if anything did."""
    port = lab.topology.balancer.port
    command = ["curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{size_download}"]
    done = lab.run("client", [*command, f"http://{lab.topology.balancer.ipv4}:{port}/bytes/{SIZE}"], names=False)
    return int(done.stdout or 0), done.stderr.strip()


def _balance(lab: Lab, walks: list[Walk], received: int, why: str) -> Findings:
    """Say who got what, and who ended it."""
    got, sent_rst = {}, {}
    for server in lab.topology.servers:
        place = f"{server.name}:{LINK}"
        here = [walk for walk in walks if any(seen.place == place for seen in walk.sightings)]
        got[server.name] = sum(walk.towards_server for walk in here)
        sent_rst[server.name] = sum("R" in walk.first.flags for walk in here if not walk.towards_server)
        count = f"{got[server.name]} segment{'' if got[server.name] == 1 else 's'}"
        yield f"{server.name}: {count} from the client; it sent {sent_rst[server.name]} RST"
    yield told(f"the client: {received} of {SIZE} bytes{f'; {why}' if why else ''}")
    yield ""
    if wrong.is_running(lab) and all(got.values()):
        yield told("This balancer is wrong on purpose: segments of one connection went to both servers.")
        yield Claim("a server that had no such connection sent a RST", saw=any(sent_rst.values()), expected=True)
        yield Claim("the download is dead", saw=received < SIZE, expected=True)
        yield told(
            "Nothing was lost and nothing was damaged. The segment was whole, its checksum right; it merely reached a "
            "server that had never heard of the connection."
        )
        return
    one = max(got, key=lambda name: got[name])
    yield Claim(
        f"every segment of the connection went to {one}",
        saw={name for name, number in got.items() if number},
        expected={one},
    )
    yield Claim("the download is complete", saw=(received, why), expected=(SIZE, ""), remedy=lab.advice("status"))
