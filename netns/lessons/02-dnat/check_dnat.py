"""The answer comes back in the VIP's name."""

from netns.build import Lab
from netns.claims import Claim, Findings
from netns.experiments.opening import attempt
from netns.lessons.looks import curl, vip
from netns.observe import watching
from netns.topology import LINK
from netns.walk import of_connection
from netns.web import endpoint


def check(lab: Lab) -> Findings:
    """Open a connection, look where its answer comes from, and ask for a page."""
    server, balancer = lab.topology.servers[0], lab.topology.balancer
    with watching(lab, [("client", LINK), (server.name, LINK)], "ip and tcp") as wires:
        client, _ = attempt(lab)
        seen = [each for _, each in of_connection(wires.sightings(), client)]
    at_client = [each for each in seen if each.place.startswith("client")]
    yield Claim(
        "the client's SYN reaches server1, with server1's address and port",
        saw={each.destination for each in seen if each.place.startswith(server.name) and each.flags == "S"},
        expected={endpoint(server.ipv4, server.port)},
        remedy=f"the rule of the lesson is missing: {lab.advice('lesson 2')}",
    )
    yield Claim(
        "the client gets its answer from the VIP",
        saw={each.source for each in at_client if each.destination == client and each.flags == "SA"},
        expected={endpoint(balancer.ipv4, balancer.port)},
        remedy=f"{lab.advice('exec lb nft list table ip byhand')} shows your rules",
    )
    yield Claim("curl on the client shows server1's page", saw=curl(lab, vip(lab)), expected=server.name)
    told = lab.run("client", ["curl", "-4", "-sS", "-m", "3", vip(lab)]).stdout
    yield Claim(
        "and server1 sees the client's own address",
        saw=told.partition("client ")[2].partition(":")[0],
        expected=lab.topology.client.ipv4,
    )
