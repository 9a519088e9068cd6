"""A balancer that is WRONG ON PURPOSE: it spreads the packets of a connection over the servers.

It exists to be looked at in the lab, and nowhere else: three dozen lines of nft rules in the balancer's namespace,
under a name that says what they are. natlb has no part in it and no way to it.

What it does right makes the mistake plain. It rewrites addresses, ports and checksums, in both directions, and every
packet arrives. It merely keeps no table: which server a packet goes to depends on a counter, and not on the connection.
A single stray in twenty is enough to kill a download, if not always the first one: a client believes a RST only if it
has exactly the number that comes next (RFC 5961, 3.2), and while much is on its way a RST comes too late for that.

The rules are a file in the lab's directory, so that an exercise can mend them.
"""

from pathlib import Path

from netns.build import Lab
from netns.errors import LabError
from netns.topology import Host, Topology

TABLE = "wrong_on_purpose"


def rules(topology: Topology, of: int = 20) -> str:
    """The rules: of so many packets to the VIP, in a row, the last goes to the second server."""
    vip, (one, two) = topology.balancer, topology.servers
    return f"""\
# WRONG ON PURPOSE. It is for the lab, to be seen failing, and to be mended.
table ip {TABLE} {{
    chain to_the_vip {{
        type filter hook prerouting priority -300
        ip daddr {vip.ipv4} tcp dport {vip.port} jump choose
    }}
    chain choose {{
        # A counter of packets chooses. It knows nothing of connections.
        numgen inc mod {of} vmap {{ 0-{of - 2} : goto {one.name}, {of - 1} : goto {two.name} }}
    }}
{_towards(one)}
{_towards(two)}
    chain from_the_servers {{
        type filter hook postrouting priority 300
        ip saddr {one.ipv4} tcp sport {one.port} ip saddr set {vip.ipv4} tcp sport set {vip.port}
        ip saddr {two.ipv4} tcp sport {two.port} ip saddr set {vip.ipv4} tcp sport set {vip.port}
    }}
}}
"""


def _towards(server: Host) -> str:
    return f"""\
    chain {server.name} {{
        ip daddr set {server.ipv4} tcp dport set {server.port} accept
    }}"""


def file(lab: Lab) -> Path:
    """Where the rules are written down."""
    return lab.directory / "wrong.nft"


def start(lab: Lab) -> None:
    """Load the rules, those of the file where there is one; turn on forwarding, which is natlb's business otherwise."""
    if not file(lab).exists():
        file(lab).write_text(rules(lab.topology), "ascii")
    stop(lab)
    _do(lab, ["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    _do(lab, ["nft", "-f", str(file(lab))])


def stop(lab: Lab) -> None:
    """Take the rules away; forwarding stays as it is."""
    if is_running(lab):
        _do(lab, ["nft", "delete", "table", "ip", TABLE])


def is_running(lab: Lab) -> bool:
    """Whether the rules are there."""
    return lab.run("lb", ["nft", "list", "table", "ip", TABLE], names=False).returncode == 0


def _do(lab: Lab, argv: list[str]) -> None:
    done = lab.run("lb", argv, names=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip()}")
