"""Client and server1 reach each other by way of the balancer."""

import re

from netns.build import Lab
from netns.claims import Claim, Findings
from netns.lessons.looks import ANSWER, ping


def check(lab: Lab) -> Findings:
    """Look at the routes, at forwarding, and at a ping."""
    client, server, router = lab.topology.client, lab.topology.servers[0], lab.topology.balancer
    for near, far in ((client, server), (server, client)):
        yield Claim(
            f"{near.name} reaches its neighbour, the balancer",
            saw=ping(lab, near.name, router.ipv4),
            expected=ANSWER,
            remedy=f"begin anew: {lab.advice('lesson 1')}",
        )
        told = lab.run(near.name, ["ip", "route", "get", far.ipv4], names=False)
        via = re.search(r"via (\S+)", told.stdout)
        yield Claim(
            f"{near.name} has a route to {far.name} by way of the balancer",
            saw=via[1] if via else told.stderr.strip() or "no gateway",
            expected=router.ipv4,
            remedy=f"{lab.advice(f'exec {near.name} ip route')} shows the routes that there are",
        )
    forwarding = lab.run("lb", ["cat", "/proc/sys/net/ipv4/ip_forward"], names=False).stdout.strip()
    yield Claim(
        "the balancer passes on packets that are not for itself",
        saw=f"net.ipv4.ip_forward = {forwarding}",
        expected="net.ipv4.ip_forward = 1",
        remedy=lab.advice("exec lb sysctl net.ipv4.ip_forward"),
    )
    answer = lab.run(client.name, ["ping", "-n", "-c", "1", "-W", "1", server.ipv4], names=False).stdout
    ttl = re.search(r"ttl=(\d+)", answer)
    yield Claim(
        "a ping from the client to server1 is answered, and the answer has passed one router",
        saw=f"TTL {ttl[1]}" if ttl else "no answer",
        expected="TTL 63",
    )
