"""The lab of a soak: the ways through natlb, natlb's configuration, and how everything in it is started and told.

All calls into the lab block, for milliseconds or, where something is started, for longer. So whoever runs an event loop
makes them in a thread, by `aside`.
"""

import asyncio
import contextlib
import csv
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TypeVar

from netns import balancer
from netns.build import Lab
from netns.errors import LabError
from netns.processes import PYTHON, Service, every
from netns.soak import nuisance, plans
from netns.soak.client import PORTS
from netns.soak.server import PORT, READY, SINK
from netns.topology import Host
from netns.web import endpoint

SOURCES = {4: "44.2.2.20", 6: "fd44::20"}
"""By IP version, the balancer's address that servers see under full NAT."""

PROTOCOLS = ("tcp", "udp")
FLOODED = ("flood", "burst")
"""The sections that nuisances go to, which nobody counts."""

_BALANCE = {"dnat4": "roundrobin", "dnat6": "leastconn", "full4": "random", "full6": "roundrobin"}

_CHECKS = "inter 8s fall 2 rise 1 downinter 2s"
"""How servers are checked. A check may take as long as it is to the next one: a machine that is busy with other things
must not make natlb hold servers for down that are merely late."""
_ORIGINAL = re.compile(r" orig=(\S+) ")
_STARTED_WITHIN = 60.0
"""Seconds for a program to start, on a machine that is busy."""
_REPLACED_WITHIN = 60.0
"""Seconds for one natlb to take another's place, there."""

_Answer = TypeVar("_Answer")


async def aside(call: Callable[..., _Answer], *words: object) -> _Answer:
    """Make a call that blocks, in a thread."""
    return await asyncio.to_thread(call, *words)


def section(protocol: str, way: str) -> str:
    """Return the name of the section, and so of the backend, that leads one way."""
    return f"{protocol}-{way}"


SECTIONS = tuple(section(protocol, way) for protocol in PROTOCOLS for way in plans.WAYS)
"""All sections that are counted."""


class Scene:
    """A lab that is up, with a soak's programs in it."""

    def __init__(self, lab: Lab, seed: int, *, offload: bool) -> None:
        self.lab, self.seed, self.offload = lab, seed, offload
        self.topology = lab.topology
        self.conductor = lab.directory / "soak.sock"
        self.config = lab.directory / "soak.cfg"
        self.natlb: balancer.Natlb
        self.pid = 0
        """The process that balances: `natlb` may have become the keeper of another one."""
        self.client: Service
        self.servers: dict[str, Service] = {}

    @property
    def server_hosts(self) -> list[str]:
        """The names of the servers' hosts."""
        return [host.name for host in self.topology.servers]

    def address(self, host: Host, way: str) -> str:
        """Return the address of a host that a way uses."""
        return host.ipv6 if way.endswith("6") else host.ipv4

    def prepare(self) -> None:
        """Give the hosts what they need besides: addresses, routes, room."""
        centre = self.topology.balancer
        for address, more in ((f"{SOURCES[4]}/32", []), (f"{SOURCES[6]}/128", ["nodad"])):
            self.told(centre.name, ["ip", "addr", "add", address, "dev", "lo", *more])
        self._lay_routes()
        # A link that is down for a moment keeps its addresses; IPv6 would lose them otherwise.
        self.told(centre.name, ["sysctl", "-qw", "net.ipv6.conf.all.keep_addr_on_down=1"])
        self.config.write_text(self.configuration(), "utf-8")

    def configuration(self) -> str:
        """Return natlb's configuration: a section for each way and protocol, and two for nuisances."""
        parts = [
            f"""\
global
    stats socket {self.lab.stats_socket} level admin
    stats timeout 5s
    stats maxconn 20
    maxconn 20000

defaults
    timeout connect 10s
    timeout client 3m
    timeout server 3m
"""
        ]
        for way in plans.WAYS:
            for protocol in PROTOCOLS:
                parts.append(self._section(protocol, way))
        vip, server = self.topology.balancer, self.topology.servers[0]
        place = f"bind {vip.ipv4}:{nuisance.PORT}\n    server {server.name} {server.ipv4}:{SINK}\n"
        idle = "timeout client 15s\n    timeout server 15s"
        parts.append(f"listen {FLOODED[0]}\n    {place}")
        parts.append(f"udp-lb {FLOODED[1]}\n    {idle}\n    dgram-{place}")
        return "\n".join(parts)

    def _section(self, protocol: str, way: str) -> str:
        bind = endpoint(self.address(self.topology.balancer, way), PORTS[way])
        if protocol == "tcp":
            said = [f"listen {section(protocol, way)}", f"bind {bind}", f"balance {_BALANCE[way]}"]
        else:
            said = [f"udp-lb {section(protocol, way)}", f"dgram-bind {bind}"]
            said += ["timeout client 15s", "timeout server 15s"]
        if way.startswith("full"):
            said.append(f"source [{SOURCES[6]}]" if way.endswith("6") else f"source {SOURCES[4]}")
        for host in self.topology.servers:
            place = endpoint(self.address(host, way), PORT)
            said.append(f"server {host.name} {place} check port {PORT} {_CHECKS}")
        return "\n    ".join(said) + "\n"

    def _lay_routes(self) -> None:
        """Have a way to those who flood: to any stranger there is one, although nobody is there."""
        client, centre = self.topology.client, self.topology.balancer
        way = ["via", client.ipv4, "dev", client.name, "onlink"]
        self.told(centre.name, ["ip", "route", "replace", nuisance.STRANGERS, *way])

    def set_link(self, host: str, state: str) -> None:
        """Set the balancer's link to a host `up` or `down`."""
        self.told(self.topology.balancer.name, ["ip", "link", "set", "dev", host, state])
        if state == "up":
            self._lay_routes()

    # -- programs

    def start_natlb(self, *options: str) -> None:
        """Start natlb, with further options."""
        wish = ["--offload", "on" if self.offload else "off", *options]
        self.natlb = self.lab.start_natlb(self.config, wish, wait=False)
        self.natlb.wait_for(balancer.READY, _STARTED_WITHIN)
        self.pid = self._balancing()

    def _balancing(self) -> int:
        found = re.search(r"^Pid: (\d+)$", self.ask("show info"), re.M)
        if not found:
            raise LabError("natlb does not tell its number in 'show info'")
        return int(found[1])

    @cached_property
    def hands_over(self) -> bool:
        """Whether connections go on in the next natlb."""
        return "--state" in self.told(self.topology.balancer.name, [*balancer.COMMAND, "-h"], 60)

    @property
    def repairs(self) -> bool:
        """Whether natlb makes rules again that somebody has taken away."""
        return "rules_repaired: " in self.ask("show activity")

    def kill_natlb(self) -> None:
        """End natlb with no time for a last word; LabError when it does not end."""
        os.kill(self.pid, signal.SIGKILL)
        self._ends(self.natlb)

    def replace_natlb(self) -> None:
        """Start another natlb, which is to take the place of this one (`-sf`); LabError when this one does not end."""
        before = self.natlb
        self.start_natlb("-sf", str(self.pid))
        self._ends(before)

    def reload_natlb(self) -> None:
        """Have natlb start its own successor (SIGUSR2); LabError when there is none in time."""
        self.natlb.process.send_signal(signal.SIGUSR2)
        for _ in every(0.1, _REPLACED_WITHIN):
            with contextlib.suppress(LabError):
                if (pid := self._balancing()) != self.pid:
                    self.pid = pid
                    return
            if not self.natlb.alive:
                break
        raise self.natlb.failure("has not reloaded")

    def _ends(self, natlb: balancer.Natlb) -> None:
        try:
            natlb.process.wait(_REPLACED_WITHIN)
        except subprocess.TimeoutExpired:
            raise natlb.failure("does not end") from None

    def flush_rules(self) -> None:
        """Take away all rules of the balancer, as somebody does who loads a firewall."""
        self.told(self.topology.balancer.name, ["nft", "flush", "ruleset"])

    @property
    def is_diverting(self) -> bool:
        """Whether there are rules by which natlb gets packets."""
        return "NATLB" in self.told(self.topology.balancer.name, ["nft", "list", "ruleset"])

    def start_server(self, host: str, name: str) -> None:
        """Start the server of a host under a name, and wait until it serves."""
        argv = [*PYTHON, "netns.soak.server", "--seed", str(self.seed), "--name", name]
        argv += ["--conductor", str(self.conductor)]
        self.servers[host] = self.lab.start(f"soak-{host}", host, argv)
        self.servers[host].wait_for(READY, _STARTED_WITHIN)

    def start_client(self) -> None:
        """Start all clients."""
        self.client = self.lab.start("soak-client", self.topology.client.name, self._bothering("client", []))

    def bother(self, what: str, seed: int, seconds: float) -> None:
        """Run a nuisance to its end; LabError when it fails."""
        argv = self._bothering("nuisance", [what, "--seconds", f"{seconds:.1f}"], seed)
        self.told(self.topology.client.name, argv, seconds + 40)

    def _bothering(self, module: str, words: list[str], seed: int | None = None) -> list[str]:
        vip = self.topology.balancer
        argv = [*PYTHON, f"netns.soak.{module}", *words, "--vip4", vip.ipv4, "--vip6", vip.ipv6]
        argv += ["--seed", str(self.seed if seed is None else seed)]
        return argv if module == "nuisance" else [*argv, "--conductor", str(self.conductor)]

    # -- telling and asking

    def told(self, host: str, argv: Sequence[str], seconds: float = 30) -> str:
        """Run a program on a host and return what it printed; LabError when it failed, or takes too long."""
        try:
            # In a session of its own: a Ctrl-C at the terminal is for the soak, which then ends in order.
            done = self.lab.run(host, argv, names=False, timeout=seconds, start_new_session=True)
        except subprocess.TimeoutExpired:
            raise LabError(f"'{' '.join(argv)}' on {host} takes longer than {seconds:g} s") from None
        if done.returncode:
            words = " / ".join((done.stderr or done.stdout).strip().splitlines()[-2:])
            raise LabError(f"'{' '.join(argv)}' on {host} failed: {words or 'nothing said'}")
        return str(done.stdout)

    def ask(self, command: str) -> str:
        """Give natlb a command of the Runtime API; LabError when it does not answer."""
        try:
            return balancer.ask(self.lab.stats_socket, command, 20.0)
        except OSError as error:
            raise LabError(f"natlb does not answer '{command}': {error.strerror or error}") from error

    def tell(self, command: str, reply: str = "") -> None:
        """Give natlb a command that changes something; LabError unless it says what `reply` matches."""
        said = self.ask(command).strip()
        if not re.fullmatch(reply, said):
            raise LabError(f"natlb refused '{command}': {said}")

    def totals(self) -> dict[str, int]:
        """Return how many connections and flows natlb has counted so far, by section."""
        rows = csv.DictReader(self.ask("show stat").strip().removeprefix("# ").splitlines())
        return {row["pxname"]: int(row["stot"]) for row in rows if row["svname"] == "FRONTEND"}

    def sent_again(self) -> int:
        """Return how many SYNs the client has sent again."""
        text = self.told(self.topology.client.name, ["cat", "/proc/net/netstat"])
        names, values = (line.split() for line in text.splitlines() if line.startswith("TcpExt:"))
        return int(dict(zip(names, values, strict=True))["TCPSynRetrans"])

    def entries(self) -> list[balancer.Entry]:
        """Return natlb's table, finished connections included."""
        return balancer.nat_table(self.ask("show sess"))

    def sessions(self, originals: Iterable[str]) -> dict[str, str]:
        """Return natlb's lines about the connections with these tuples, of those that it knows.

        They are among those that were heard last, as a rule: the whole table takes a second to show, and more.
        """
        wanted = set(originals)
        found: dict[str, str] = {}
        for command in ("show sess recent 1000", "show sess"):
            for line in self.ask(command).splitlines():
                if (original := _ORIGINAL.search(line)) and original[1] in wanted:
                    found[original[1]] = line
            if len(found) == len(wanted):
                break
        return found

    def servers_down(self, host: str) -> list[str]:
        """Return which of natlb's servers on a host it holds for down."""
        rows = csv.DictReader(self.ask("show stat").strip().removeprefix("# ").splitlines())
        return [
            f"{row['pxname']}/{host}"
            for row in rows
            if row["svname"] == host and row["pxname"] in SECTIONS and row["status"].startswith("DOWN")
        ]

    def signal(self, host: str, signum: signal.Signals) -> None:
        """Send a signal to the server of a host."""
        self.servers[host].process.send_signal(signum)
