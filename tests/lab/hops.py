"""A router in the middle of one of the lab's links: for what only a hop on the way can do.

The hop takes over the balancer's end of the link to a host, and is joined to the balancer by a new one. Both are told
its hardware address for each other's, so neither notices; what it sends itself comes from its `addresses`.
"""

import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from netns.build import Lab


def addresses(lab: Lab, host: str) -> tuple[str, str]:
    """Return the IPv4 and the IPv6 address of the hop on the way to `host`."""
    number = 1 + [each.name for each in lab.topology.hosts].index(host)
    return f"44.9.9.{number}", f"fd44:9::{number}"


@contextmanager
def hop(lab: Lab, host: str, mtu: int = 1500) -> Iterator[str]:
    """Put a router between `host` and the balancer; return the name of its namespace.

    `mtu` is that of its way to the host: what is larger and comes from the balancer is answered with an ICMP error. The
    way back takes any size: a link of that MTU would drop what is larger without a word.
    """
    namespace = f"hop-{os.getpid()}-{host}"
    lb, far = lab.namespace("lb"), lab.topology.host(host)
    near = lab.topology.balancer
    ipv4, ipv6 = addresses(lab, host)
    script = f"""
ip netns add {namespace}
ip -n {lb} link set {host} netns {namespace}
ip -n {lb} link add {host} type veth peer name lb netns {namespace}
ip -n {namespace} link set lo up
ip netns exec {namespace} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip netns exec {namespace} sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
for end in "{namespace} lb" "{namespace} {host}" "{lb} {host}"; do
    set -- $end
    nsenter --net=/run/netns/$1 ethtool -K $2 tx off tso off gso off gro off >/dev/null
    ip -n $1 link set $2 up
done
ip -n {namespace} addr add {ipv4}/32 dev lo
ip -n {namespace} addr add {ipv6}/128 dev lo nodad
ip -n {namespace} route add {far.ipv4} dev {host} src {ipv4} mtu {mtu}
ip -n {namespace} route add {far.ipv6} dev {host} src {ipv6} mtu {mtu}
ip -n {namespace} route add {near.ipv4} dev lb src {ipv4}
ip -n {namespace} route add {near.ipv6} dev lb src {ipv6}
ip -n {namespace} route add default via {near.ipv4} dev lb src {ipv4}
ip -n {namespace} -6 route add default via {near.ipv6} dev lb src {ipv6}
ip -n {lb} addr add {near.ipv4} peer {far.ipv4} dev {host}
ip -n {lb} addr add {near.ipv6} peer {far.ipv6} dev {host} nodad
mac() {{ ip -n $1 -o link show $2 | sed 's/.*ether \\([^ ]*\\).*/\\1/'; }}
know() {{ for address in $3 $4; do ip -n $1 neigh replace $address lladdr $5 dev $2 nud permanent; done; }}
know {lb} {host} {far.ipv4} {far.ipv6} $(mac {namespace} lb)
know {namespace} lb {near.ipv4} {near.ipv6} $(mac {lb} {host})
know {namespace} {host} {far.ipv4} {far.ipv6} $(mac {lab.namespace(host)} eth0)
know {lab.namespace(host)} eth0 {near.ipv4} {near.ipv6} $(mac {namespace} {host})
"""
    try:
        _run(script)
        yield namespace
    finally:
        _run(f"""
ip netns delete {namespace} || true
ip -n {lb} link delete {host} 2>/dev/null || true
""")


def _run(script: str) -> None:
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{shlex.quote(script)}: {done.stderr}"
