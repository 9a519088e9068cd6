"""The port from which HAProxy speaks to the server was found."""

import re
import time

from netns.build import Lab
from netns.claims import Claim, Findings
from netns.haproxy import TCP

_MOMENT = 0.3
"""Seconds between two looks: longer than a health check is connected."""


def _staying(lab: Lab) -> list[tuple[str, str, str]]:
    """Return the near address and port and the far end of the balancer's connections, less those of health checks."""
    looks = []
    for wait in (0, _MOMENT):
        time.sleep(wait)
        told = lab.run("lb", ["ss", "-Htn", "state", "established"], names=False).stdout
        looks.append(re.findall(r"(\S+):(\d+) +(\S+:\d+)", told))
    return [pair for pair in looks[0] if pair in looks[1]]


def check(lab: Lab) -> Findings:
    """Compare the student's answer with the balancer's sockets."""
    server_ends = {f"{server.ipv4}:{server.port}" for server in lab.topology.servers}
    pairs = _staying(lab)
    to_client = [far for _, port, far in pairs if port == str(TCP)]
    yield Claim(
        f"a client holds a connection through port {TCP}",
        saw=len(to_client),
        expected=1,
        remedy=f"it was closed; begin anew: {lab.advice('lesson 5')}",
    )
    answer = lab.directory / "answer"
    yield Claim(
        "there is an answer",
        saw=answer.exists(),
        expected=True,
        remedy=f"echo NUMBER | sudo tee {answer}",
    )
    yield Claim(
        "it is the port from which HAProxy speaks to the server",
        saw=answer.read_text("utf-8", "replace").strip(),
        expected=" or ".join(port for _, port, far in pairs if far in server_ends),
        remedy=lab.advice("exec lb ss -tn state established"),
    )
    yield Claim(
        "natlb has no socket: the balancer has those of HAProxy's two connections, and no other",
        saw=len([pair for pair in pairs if pair[1] == str(TCP) or pair[2] in server_ends]),
        expected=2,
    )
