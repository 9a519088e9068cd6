"""The life of an entry in the NAT table, with a server that is made to wait, so that the beginning can be seen.

The table is natlb's word. The wire is asked whether it is true.
"""

import contextlib
import select
import socket
from collections.abc import Iterator

from netns import balancer, draw
from netns.build import Lab
from netns.claims import Claim, Findings
from netns.draw import Pen
from netns.errors import LabError
from netns.observe import everywhere, way
from netns.processes import every
from netns.walk import follow
from netns.web import endpoint

_DEAF = "lab_deaf"
_TTL = 64
"""What Linux sends with."""


def entry(lab: Lab, pen: Pen) -> Findings:
    """Open a connection while no server answers, then let one; look at the table at each stage."""
    vip = endpoint(lab.topology.balancer.ipv4, lab.topology.balancer.port)
    with everywhere(lab) as observation, lab.open_socket("client", socket.AF_INET, socket.SOCK_STREAM) as opened:
        with deaf_servers(lab):
            opened.setblocking(False)
            opened.connect_ex((lab.topology.balancer.ipv4, lab.topology.balancer.port))
            client = endpoint(*opened.getsockname())
            before = of_client(lab, client, "INIT")
            yield "A SYN has passed. The server has it, and is made to keep silent:\n"
            yield draw.nat_table(pen, before)
            yield ""
            server = lab.topology.host(before[0].server)
            walks = follow(observation.sightings(), client, way(server))
            sent = next((walk.sightings[-1] for walk in walks if walk.first.flags == "S"), None)
            yield Claim(
                "the entry came with the first packet: the server has not answered yet",
                saw=([each.reply_packets for each in before], [walk for walk in walks if not walk.towards_server]),
                expected=([0], []),
            )
        yield Claim(
            f"the SYN has reached {server.name}",
            saw=sent and (sent.place, sent.destination),
            expected=(way(server)[-1], endpoint(server.ipv4, server.port)),
        )
        yield Claim(
            "it says already how the answer will look when it comes, and how to turn it round",
            saw=(before[0].original, before[0].reply),
            expected=((client, vip), sent and (sent.destination, sent.source)),
        )
        if not select.select([], [opened], [], 5.0)[1]:
            raise LabError(f"the connection to {vip} did not open within 5 s")
        opened.settimeout(5)
        opened.sendall(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")
        opened.recv(1000)
        yield "\nThe server may speak. The client has sent its SYN again, and a request:\n"
        during = of_client(lab, client, "ESTABLISHED")
        yield draw.nat_table(pen, during)
        yield ""
        wire = [seen for seen in observation.sightings() if seen.place == way(server)[0]]
        yield Claim(
            "it counts the bytes of data, each way, that the wire showed",
            saw=(during[0].original_bytes, during[0].reply_bytes),
            expected=(
                sum(len(seen.payload) for seen in wire if seen.source == client),
                sum(len(seen.payload) for seen in wire if seen.destination == client),
            ),
        )
    yield "\nThe client has closed:\n"
    after = of_client(lab, client, "BOTH_FIN")
    yield draw.nat_table(pen, after)
    yield ""
    yield Claim(
        "the entry stays for a while, for packets that are late",
        saw=[(each.original, each.reply) for each in after],
        expected=[(each.original, each.reply) for each in during],
    )


def of_client(lab: Lab, client: str, state: str, seconds: float = 2.0) -> list[balancer.Entry]:
    """Wait for a client's entry whose state begins like that; LabError when there is none in time."""
    found: list[balancer.Entry] = []
    for _ in every(0.02, seconds):
        entries = balancer.nat_table(balancer.ask(lab.stats_socket, "show sess"))
        found = [each for each in entries if each.client == client]
        if any(each.state.startswith(state) for each in found):
            return found
    raise LabError(f"the NAT table has no entry {state} of {client} ({[each.state for each in found]})")


@contextlib.contextmanager
def deaf_servers(lab: Lab) -> Iterator[None]:
    """Let no SYN of the client's reach the servers' TCP; natlb's own checks pass.

    With full NAT both come from the same address. But the client's have passed a router, and have a TTL less by one.
    """
    chain = "type filter hook input priority filter; policy accept;"
    rule = f"meta l4proto tcp ip ttl < {_TTL} tcp flags & (syn | ack) == syn drop"

    def all_servers(command: str) -> None:
        for server in lab.topology.servers:
            done = lab.run(server.name, ["nft", command], names=False)
            if done.returncode != 0:
                raise LabError(f"nft on {server.name}: {done.stderr.strip()}")

    try:
        all_servers(f"table ip {_DEAF} {{ chain {_DEAF} {{ {chain} {rule}; }}; }}")
        yield
    finally:
        # Added first, so that it is there to be deleted, wherever the above got stuck.
        all_servers(f"add table ip {_DEAF}; delete table ip {_DEAF}")
