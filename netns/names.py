"""What the hosts call each other: `curl http://vip:8888` works inside the lab.

`ip netns exec NS` binds every file of /etc/netns/NS over its namesake in /etc, for the one program that it starts. So a
hosts file there gives the lab its names, and the machine's own /etc/hosts is never touched.
"""

import contextlib
import shutil
from pathlib import Path

from netns.topology import Topology

PER_NAMESPACE = Path("/etc/netns")


def hosts_file(topology: Topology) -> str:
    """Every host under all its names, in both address families."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
    for host in topology.hosts:
        lines += [f"{address} {' '.join(host.names)}" for address in (host.ipv4, host.ipv6)]
    return "\n".join(lines) + "\n"


def directory(namespace: str) -> Path:
    """Where the namespace keeps its own versions of files in /etc."""
    return PER_NAMESPACE / namespace


def publish(namespace: str, topology: Topology) -> None:
    """Give the namespace its names."""
    while not directory(namespace).exists():
        # Another lab, on its way down, may remove /etc/netns in between.
        with contextlib.suppress(FileNotFoundError):
            directory(namespace).mkdir(parents=True)
    (directory(namespace) / "hosts").write_text(hosts_file(topology), "ascii")


def withdraw(namespace: str) -> None:
    """Take the names back, and /etc/netns itself when nobody else has a use for it."""
    shutil.rmtree(directory(namespace), ignore_errors=True)
    with contextlib.suppress(OSError):
        PER_NAMESPACE.rmdir()
