"""Who is compared. Each candidate is an entry of `TABLE`: a name, a line about it, and how to run it.

To run one is to start it on the balancer, hand out a function that asks it how many connections it has carried since,
and leave the balancer as it was. The counters are the candidate's own: what the load generator believes is no proof.
All listen on the same address and ports and use the same two servers, in turn; bulk data and datagrams go to the first
server alone, since iperf3 needs all of its connections at one place.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from netns import balancer
from netns.bench import hosts, readings
from netns.bench.hosts import Room
from netns.build import Lab
from netns.errors import LabError
from netns.processes import Service
from netns.topology import Topology


class Endpoint(NamedTuple):
    """An IPv4 address and a port, for TCP and UDP."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Running:
    """A candidate that runs."""

    carried: Callable[[], int]
    """Connections and UDP flows that it has carried since it began; for plain routing, packets."""
    program: Service | None = None
    """None where the kernel does all of it."""
    ask: Callable[[str], str] | None = None
    """Its Runtime API, if that tells where a packet's time goes."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One that can be measured."""

    name: str
    about: str
    run: Callable[[Lab, Room], AbstractContextManager[Running]]
    """Runs it in a lab."""
    version: tuple[str, ...]
    """Prints its version, in the first line that it prints."""
    udp: bool = True
    """Whether it can carry UDP."""
    program: bool = True
    """Whether it is a program; else the kernel does all of it, and there is no process to measure."""
    most: Callable[[Room], int] = lambda _: MOST_CONNECTIONS
    """How many connections it can have open."""
    direct: bool = False
    """Whether the client speaks to a server's own address, there being no virtual one."""

    def web(self, topology: Topology) -> Endpoint:
        """Where the web is, for the client."""
        return _server(topology, hosts.WEB_PORT) if self.direct else _vip(topology, topology.balancer.port)

    def bulk(self, topology: Topology) -> Endpoint:
        """Where bulk data goes, and datagrams."""
        return _server(topology, hosts.BULK_PORT) if self.direct else _vip(topology, hosts.BULK_PORT)


def _server(topology: Topology, port: int) -> Endpoint:
    return Endpoint(topology.servers[0].ipv4, port)


def _vip(topology: Topology, port: int) -> Endpoint:
    return Endpoint(topology.balancer.ipv4, port)


MOST_CONNECTIONS = 120_000
"""What each balancer is told to expect at most."""


# -- the kernel


@contextmanager
def _forwarding(lab: Lab) -> Iterator[None]:
    hosts.set_up(lab, "lb", {"net.ipv4.ip_forward": "1"})
    try:
        yield
    finally:
        hosts.set_up(lab, "lb", {"net.ipv4.ip_forward": "0"})


@contextmanager
def _routing(lab: Lab, _: Room) -> Iterator[Running]:
    with _forwarding(lab):
        yield Running(lambda: readings.snmp(hosts.told(lab, "lb", ["cat", "/proc/net/snmp"]), "Ip", "ForwDatagrams"))


def nft_ruleset(topology: Topology) -> str:
    """DNAT to the servers in turn, with a counter for what each rule has sent on: the first packet of a connection."""
    vip, servers = topology.balancer, topology.servers
    turns = ", ".join(f"{number} : {server.ipv4}" for number, server in enumerate(servers))
    bulk = _server(topology, hosts.BULK_PORT)
    return f"""\
table ip bench {{
    counter web {{ }}
    counter bulk {{ }}
    chain prerouting {{
        type nat hook prerouting priority dstnat;
        ip daddr {vip.ipv4} tcp dport {vip.port} counter name web \
dnat to numgen inc mod {len(servers)} map {{ {turns} }} : {hosts.WEB_PORT}
        ip daddr {vip.ipv4} tcp dport {bulk.port} counter name bulk dnat to {bulk}
        ip daddr {vip.ipv4} udp dport {bulk.port} counter name bulk dnat to {bulk}
    }}
}}
"""


@contextmanager
def _nft(lab: Lab, _: Room) -> Iterator[Running]:
    rules = _written(lab, "rules", "nft", nft_ruleset(lab.topology))
    hosts.told(lab, "lb", ["nft", "-f", str(rules)])
    try:
        with _forwarding(lab):
            yield Running(lambda: readings.nft_counters(hosts.told(lab, "lb", ["nft", "-j", "list", "counters"])))
    finally:
        hosts.told(lab, "lb", ["nft", "delete", "table", "ip", "bench"])
        # What it remembers of connections, too, so that the next round begins as the first one did.
        hosts.told(lab, "lb", ["conntrack", "-F"])


# -- programs


def configuration(topology: Topology, stats_socket: Path, most: int) -> str:
    """HAProxy's configuration for TCP, which is natlb's as well."""
    servers = "\n".join(f"    server {host.name} {host.ipv4}:{hosts.WEB_PORT}" for host in topology.servers)
    return f"""\
global
    maxconn {most}
    stats socket {stats_socket} level admin

defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h

frontend web
    bind {_vip(topology, topology.balancer.port)}
    default_backend nodes

backend nodes
    balance roundrobin
{servers}

listen bulk
    bind {_vip(topology, hosts.BULK_PORT)}
    server {topology.servers[0].name} {_server(topology, hosts.BULK_PORT)}
"""


def _most_of_haproxy(room: Room) -> int:
    """Two files for each connection, in one process."""
    return min(MOST_CONNECTIONS, (room.files - 200) // 2)


@contextmanager
def _haproxy(lab: Lab, room: Room) -> Iterator[Running]:
    stats_socket = lab.new_file("haproxy", "sock")
    threads = f"global\n    nbthread {room.cores}\n\n"
    text = configuration(lab.topology, stats_socket, _most_of_haproxy(room))
    config = _written(lab, "haproxy", "cfg", threads + text)
    haproxy = lab.start("haproxy", "lb", ["haproxy", "-db", "-f", str(config)])
    try:
        yield Running(lambda: readings.sessions(balancer.ask(stats_socket, "show stat")), haproxy)
    finally:
        haproxy.stop()


def nginx_configuration(topology: Topology, status: Path, room: Room) -> str:
    """Configuration of nginx for streams: TCP and UDP. A second, local server tells how it is doing."""
    servers = "\n".join(f"        server {host.ipv4}:{hosts.WEB_PORT};" for host in topology.servers)
    bulk = _vip(topology, hosts.BULK_PORT)
    return f"""\
{hosts.nginx_head(status, room.cores, min(room.files, 2 * MOST_CONNECTIONS), streams=True)}
stream {{
    proxy_timeout 1h;
    upstream nodes {{
{servers}
    }}
    server {{ listen {_vip(topology, topology.balancer.port)} reuseport backlog=65535; proxy_pass nodes; }}
    server {{ listen {bulk} reuseport backlog=65535; proxy_pass {_server(topology, bulk.port)}; }}
    server {{ listen {bulk} udp reuseport; proxy_pass {_server(topology, bulk.port)}; }}
}}

http {{
    access_log off;
    server {{ listen unix:{status}; location / {{ stub_status; }} }}
}}
"""


def _most_of_nginx(room: Room) -> int:
    """Two files for each connection, in as many processes as there are cores, which are not all equally busy."""
    return min(MOST_CONNECTIONS, (room.files - 200) // 2 * room.cores * 4 // 5)


@contextmanager
def _nginx(lab: Lab, room: Room) -> Iterator[Running]:
    status = lab.new_file("nginx", "sock")
    config = _written(lab, "nginx", "cfg", nginx_configuration(lab.topology, status, room))

    def carried() -> int:
        now = hosts.nginx_status(status)
        return now.accepted - now.requests  # each request was a question of ours

    nginx = lab.start("nginx", "lb", ["nginx", "-e", "stderr", "-c", str(config)])
    try:
        yield Running(carried, nginx)
    finally:
        nginx.stop()


def natlb_configuration(topology: Topology, stats_socket: Path) -> str:
    """What HAProxy is given, and UDP, which it cannot do."""
    return f"""\
{configuration(topology, stats_socket, MOST_CONNECTIONS)}
udp-lb datagrams
    dgram-bind {_vip(topology, hosts.BULK_PORT)}
    timeout client 1m
    timeout server 1m
    server {topology.servers[0].name} {_server(topology, hosts.BULK_PORT)}
"""


@contextmanager
def _natlb(lab: Lab, _: Room) -> Iterator[Running]:
    natlb = lab.start_natlb(natlb_configuration(lab.topology, lab.stats_socket))
    try:
        yield Running(lambda: readings.sessions(natlb.ask("show stat")), natlb, natlb.ask)
    finally:
        natlb.stop()


@contextmanager
def _natlb_offload(lab: Lab, _: Room) -> Iterator[Running]:
    """Run natlb with the kernel's help; LabError if the kernel has carried nothing although there was something."""
    natlb = lab.start_natlb(natlb_configuration(lab.topology, lab.stats_socket), ["--offload", "on"])

    def carried() -> int:
        return readings.sessions(natlb.ask("show stat"))

    try:
        yield Running(carried, natlb)
        found = readings.offload(natlb.ask("show offload"))
        if found["state"] != "on" or (carried() and found["packets"] == "0"):
            raise LabError(f"the kernel has carried nothing for natlb: {found}")
        if found["differences"] != "0":
            raise LabError(f"the kernel has carried packets otherwise than natlb would have: {natlb.log()}")
    finally:
        natlb.stop()


def _written(lab: Lab, stem: str, suffix: str, text: str) -> Path:
    path = lab.new_file(stem, suffix)
    path.write_text(text, "utf-8")
    return path


TABLE = (
    Candidate(
        "routing", "plain routing by the kernel: no balancer", _routing, ("uname", "-sr"), program=False, direct=True
    ),
    Candidate("nft", "DNAT by the kernel, told by native nft", _nft, ("nft", "--version"), program=False),
    Candidate(
        "haproxy",
        "TCP mode, a thread for each core",
        _haproxy,
        ("haproxy", "-v"),
        udp=False,
        most=_most_of_haproxy,
    ),
    Candidate("nginx", "stream module, a worker for each core", _nginx, ("nginx", "-v"), most=_most_of_nginx),
    Candidate("natlb", "every packet through Python", _natlb, (*balancer.COMMAND, "-v")),
    Candidate(
        "natlb-offload",
        "natlb, established connections carried by the kernel",
        _natlb_offload,
        (*balancer.COMMAND, "-v"),
    ),
)
"""In the order of the table's columns."""
