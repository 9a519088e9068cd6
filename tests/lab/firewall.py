"""A stateful firewall on the balancer, as strict as they come: what connection tracking does not know is dropped."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from netns import balancer
from netns.build import Lab
from tests.lab.support import at_rest, shell

_RULES = """\
*filter
:INPUT DROP
:FORWARD DROP
:OUTPUT DROP
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A OUTPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT {untracked}
-A INPUT -i lo -j ACCEPT
-A OUTPUT -m conntrack --ctstate NEW -j ACCEPT
{opened}
{neighbours}
COMMIT
"""

_OPENED = """\
-A FORWARD -i client -m conntrack --ctstate NEW -p tcp --syn -j ACCEPT
-A INPUT -i client -m conntrack --ctstate NEW -p tcp --syn -j ACCEPT
-A FORWARD -i client -m conntrack --ctstate NEW -p udp -j ACCEPT
"""
"""What the client may begin, unless a test opens less."""

UNTRACKED = "-m conntrack --ctstate UNTRACKED -j ACCEPT"
"""What lets natlb's own resets out."""

COMMANDS = {"iptables": "", "ip6tables": "-A INPUT -p icmpv6 -j ACCEPT\n-A OUTPUT -p icmpv6 -j ACCEPT"}
"""Of each address family, and what it needs to find its neighbours."""


_ON_ITS_WAY = 0.1
"""Seconds in which an answer arrives that was on its way; far more than a link of the lab takes."""


LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
"""Whether connection tracking lets sequence numbers pass that it has not seen come about."""


def _misses_packets() -> bool:
    """Whether the natlbs of the lab run with their fast path: then netfilter does not see all of a connection."""
    return dict(pairwise(balancer.command(Path())))["--offload"] != "off"


@contextmanager
def stateful_firewall(lab: Lab, opened: str = _OPENED) -> Iterator[Callable[[], None]]:
    """Have the firewall on the balancer inside the block, at whose end it must have found nothing INVALID.

    What it yields asks for that earlier, so that a test among many can be told from the others.

    What was on its way when connection tracking began, such as the answer to a health check, or the FIN of a server
    that has not had its turn yet, belongs to no connection that it has seen begin. It comes before there is a rest, and
    within the moment that is waited after that, and is not counted.

    Beside the fast path it is set as docs/offload.md has it for such a firewall; all else holds there too.
    """
    shell(lab, "lb", f"sysctl -qw {LIBERAL}={int(_misses_packets())}")
    for command, neighbours in COMMANDS.items():
        rules = _RULES.format(opened=opened, neighbours=neighbours, untracked=UNTRACKED)
        done = lab.run("lb", [f"{command}-restore", "--noflush"], names=False, input=rules)
        assert done.returncode == 0, done.stderr
    at_rest(lab)
    time.sleep(_ON_ITS_WAY)
    for command in COMMANDS:
        shell(lab, "lb", f"{command} -Z")
    try:
        yield lambda: _finds_nothing(lab)
        _finds_nothing(lab)
    finally:
        for command in COMMANDS:
            policies = "; ".join(f"{command} -P {chain} ACCEPT" for chain in ("INPUT", "FORWARD", "OUTPUT"))
            shell(lab, "lb", f"{policies}; {command} -F")
        shell(lab, "lb", f"sysctl -qw {LIBERAL}=0")


def _finds_nothing(lab: Lab) -> None:
    for command in COMMANDS:
        listing = shell(lab, "lb", f"{command} -vxnL")
        invalid = [line.split()[0] for line in listing.splitlines() if "INVALID" in line]
        assert invalid == ["0", "0", "0"], f"{command} found INVALID packets: in, passing, out"
