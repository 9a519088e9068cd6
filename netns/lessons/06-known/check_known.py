"""The servers see the balancer, and it is still one connection."""

from netns.build import Lab
from netns.claims import Claim, Findings
from netns.experiments.connections import pair_of_ends
from netns.lessons.looks import curl, natlb_runs, vip


def check(lab: Lab) -> Findings:
    """Ask the servers whom they see, and compare the two ends of a connection."""
    yield natlb_runs(lab)
    yield Claim(
        "the VIP answers",
        saw=curl(lab, vip(lab)) in {server.name for server in lab.topology.servers},
        expected=True,
        remedy=f"look at {lab.directory / 'natlb.log'}",
    )
    at_client, at_server = pair_of_ends(lab, lab.topology.balancer.port)
    yield Claim(
        "a server sees the balancer's address as its client",
        saw=at_server["from"].rpartition(":")[0],
        expected=lab.topology.balancer.ipv4,
        remedy="a line `source 44.2.2.2` in `backend nodes`, and a restart of natlb",
    )
    numbers = [title for title in at_client if title.endswith("seq")]
    yield Claim(
        "it is one connection all the same: both ends use the same sequence numbers",
        saw=[at_server[title] for title in numbers],
        expected=[at_client[title] for title in numbers],
    )
