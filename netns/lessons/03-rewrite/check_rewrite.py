"""Port 80 of the VIP leads to the same servers, whose ports have not changed."""

from netns.build import Lab
from netns.claims import Claim, Findings
from netns.draw import Pen
from netns.experiments.walk import at_port
from netns.lessons.looks import curl, natlb_runs, vip


def check(lab: Lab) -> Findings:
    """Ask at both ports, and follow a packet to port 80."""
    servers = {server.name for server in lab.topology.servers}
    yield natlb_runs(lab)
    for port in (80, lab.topology.balancer.port):
        yield Claim(
            f"port {port} of the VIP is answered by both servers, in turn",
            saw={curl(lab, vip(lab, port=port)) for _ in servers},
            expected=servers,
            remedy=f"look at {lab.directory / 'natlb.cfg'}, then {lab.advice('restart natlb')}",
        )
    yield from (finding for finding in at_port(lab, Pen(), 80) if isinstance(finding, Claim))
