"""All that the lab knows of natlb: how it is configured, how it is started, and how it is asked for its NAT table.

natlb is a black box here: a program with a configuration in HAProxy's language, a log on stderr, a stats socket that
speaks HAProxy's Runtime API, and signals. The lab sees what any user sees.
"""

import os
import re
import shlex
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from netns.processes import PYTHON, Service
from netns.topology import Topology

READY = "natlb is ready"
"""What natlb logs when packets may come."""

COMMAND = (*PYTHON, "natlb")

OPTIONS = "LAB_NATLB_OPTIONS"
"""Variable of the environment with further options for every natlb of the lab, such as `--no-gso`."""


def command(config: Path, options: Sequence[str] = (), *, state: Path | None = None) -> list[str]:
    """Return the command that runs natlb with a configuration file, and with further options.

    Every packet is to be seen, by natlb and by whoever looks at natlb, unless an option says otherwise. What natlb
    records for its next start is kept in the directory `state`, or nowhere: never where it outlives the lab.
    """
    kept = ["--state", "off" if state is None else str(state)]
    return [*COMMAND, "-f", str(config), "--offload", "off", *kept, *shlex.split(os.environ.get(OPTIONS, "")), *options]


def configuration(topology: Topology, stats_socket: Path) -> str:
    """The layer-4 configuration of the lessons, with the lab's addresses; then the same once more for IPv6."""
    servers = "\n".join(f"    server {host.name} {host.ipv4}:{host.port} check" for host in topology.servers)
    servers6 = "\n".join(f"    server {host.name} [{host.ipv6}]:{host.port} check" for host in topology.servers)
    return f"""\
backend nodes
{servers}

frontend localnodes
    bind *:{topology.balancer.port}
    default_backend nodes

global
    maxconn 940
    stats socket {stats_socket} level admin

# The same for IPv6. A packet keeps its address family, so these are servers of their own, in a backend of their own.
backend nodes6
{servers6}

frontend localnodes6
    bind [::]:{topology.balancer.port} v6only
    default_backend nodes6
"""


class Natlb(Service):
    """A running natlb."""

    def __init__(self, name: str, argv: list[str], log: Path, stats_socket: Path) -> None:
        super().__init__(name, argv, log)
        self.stats_socket = stats_socket

    def ask(self, command: str) -> str:
        """Send one command to its stats socket."""
        return ask(self.stats_socket, command)


def ask(stats_socket: Path, command: str, seconds: float = 5.0) -> str:
    """Send one command to a stats socket and read the reply to its end; OSError when nobody answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(str(stats_socket))
        connection.sendall(command.encode() + b"\n")
        reply = b""
        while piece := connection.recv(65536):
            reply += piece
    return reply.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Entry:
    """One connection in natlb's NAT table: the two tuples that *are* the NAT, and what passed."""

    protocol: str
    frontend: str
    backend: str
    server: str
    state: str
    age: str
    idle: str
    original: tuple[str, str]
    """Source and destination of the packets from the client, as they arrive."""
    reply: tuple[str, str]
    """Source and destination of the packets from the server, as they arrive."""
    original_packets: int
    original_bytes: int
    reply_packets: int
    reply_bytes: int

    @property
    def client(self) -> str:
        """The client's address and port."""
        return self.original[0]


_FIELD = re.compile(r"(\w+)=(\S*)")


def nat_table(show_sess: str) -> list[Entry]:
    """Read natlb's reply to `show sess`; what it says beyond the lab's interest is passed over."""
    entries = []
    for line in show_sess.splitlines():
        field = dict(_FIELD.findall(line))
        if "orig" not in field or "reply" not in field:
            continue
        entries.append(
            Entry(
                protocol=field.get("proto", ""),
                frontend=field.get("fe", ""),
                backend=field.get("be", ""),
                server=field.get("srv", ""),
                state=field.get("ts", ""),
                age=field.get("age", ""),
                idle=field.get("idle", ""),
                original=_tuple(field["orig"]),
                reply=_tuple(field["reply"]),
                original_packets=_number(field.get("opkts")),
                original_bytes=_number(field.get("obytes")),
                reply_packets=_number(field.get("rpkts")),
                reply_bytes=_number(field.get("rbytes")),
            )
        )
    return entries


def _tuple(text: str) -> tuple[str, str]:
    source, _, destination = text.partition(">")
    return source, destination


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
