"""What the hosts run besides the candidate: settings for many connections, web servers, a receiver of bulk data.

The web servers are nginx, which is so much faster than any candidate that it does not count. They answer with one small
page, and tell by their own counters how many connections have reached them.
"""

import contextlib
import os
import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from netns import balancer
from netns.bench import readings
from netns.build import Lab
from netns.errors import LabError
from netns.processes import Service, every
from netns.topology import Topology


@dataclass(frozen=True, slots=True)
class Room:
    """What each program may use of the machine."""

    cores: int
    files: int
    """That one process may have open."""

    @classmethod
    def found(cls) -> Self:
        """Find out, and let this process and all that it starts have as many open files as they need, if they may."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError):  # root may raise the limit, unless it has been denied that
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, _FILES), max(hard, _FILES)))
            hard = max(hard, _FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return cls(len(os.sched_getaffinity(0)), hard)


_FILES = 300_000
"""Two for each of a hundred thousand connections, and some."""

WEB_PORT = 8080
BULK_PORT = 5201

CLIENTS = "44.1.64.0/24"
"""Addresses of the client's, besides its own: one address has no more than 64,512 ports."""

_STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
"""Where Debian has it; elsewhere it is compiled in."""


def told(lab: Lab, host: str, argv: Sequence[str], seconds: float = 10) -> str:
    """Run a program on a host and return what it printed; LabError when it failed."""
    done = lab.run(host, argv, names=False, timeout=seconds)
    if done.returncode:
        words = " / ".join((done.stderr or done.stdout).strip().splitlines()[-2:])
        raise LabError(f"'{' '.join(argv)}' on {host} ended with status {done.returncode}: {words or 'nothing said'}")
    return str(done.stdout)


def set_up(lab: Lab, host: str, settings: Mapping[str, str]) -> None:
    """Set some of a host's sysctls."""
    told(lab, host, ["sysctl", "-qw", *(f"{name}={value}" for name, value in settings.items())])


def prepare(lab: Lab) -> None:
    """Let the hosts have many connections, and the client many addresses.

    Who sends fills his window, whatever congestion control this machine has chosen: BBR would send as fast as it
    believes the way to be, and leave the processors idle, which says little of the balancer. Reno is the one that every
    kernel has, and that every namespace may choose.
    """
    for host in lab.topology.hosts:
        set_up(
            lab,
            host.name,
            {
                "net.core.somaxconn": "65535",
                "net.ipv4.tcp_max_syn_backlog": "65535",
                "net.ipv4.ip_local_port_range": "1024 65535",
                "net.ipv4.tcp_congestion_control": "reno",
            },
        )
    client = lab.topology.client
    told(lab, client.name, ["ip", "route", "add", "local", CLIENTS, "dev", "lo"])
    way = ["via", client.ipv4, "dev", client.name, "onlink"]
    told(lab, lab.topology.balancer.name, ["ip", "route", "add", CLIENTS, *way])


def nginx_head(status: Path, workers: int, files: int, *, streams: bool = False) -> str:
    """How each nginx begins: in the foreground, with so many workers, each with so many files open.

    `status` is the socket at which it tells how it is doing; its pid file stands beside that.
    """
    module = f"load_module {_STREAM_MODULE};\n" if streams and _STREAM_MODULE.exists() else ""
    return f"""\
{module}daemon off;
pid {status.with_suffix(".pid")};
error_log stderr warn;
worker_processes {workers};
events {{ worker_connections {files - 100}; }}
"""


def web_configuration(status: Path, workers: int, files: int) -> str:
    """One small page for everybody, on connections that may stay as long as they like."""
    return f"""\
{nginx_head(status, workers, files)}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_header_timeout 1h;
    default_type text/plain;
    server {{ listen {WEB_PORT} reuseport backlog=65535; location / {{ return 200 "{"x" * 99}\\n"; }} }}
    server {{ listen unix:{status}; location / {{ stub_status; }} }}
}}
"""


def nginx_status(status: Path) -> readings.Status:
    """Ask an nginx how it is doing; LabError when it does not say."""
    try:
        return readings.stub_status(balancer.ask(status, "GET / HTTP/1.0\r\n\r"))
    except OSError as error:
        raise LabError(f"nginx does not answer at {status}: {error.strerror or error}") from error


class WebServers:
    """The running web servers."""

    def __init__(self, sockets: Sequence[Path], asked: int = 0) -> None:
        """`asked` is how many questions they have had already."""
        self._sockets = sockets
        self._asked = asked

    @property
    def accepted(self) -> int:
        """Connections that have reached them, all of them together, without the questions asked here."""
        return sum(status.accepted for status in self._ask()) - self._asked

    @property
    def active(self) -> int:
        """Connections that are open now, without the questions asked here."""
        return sum(status.active - 1 for status in self._ask())

    def _ask(self) -> list[readings.Status]:
        self._asked += len(self._sockets)
        return [nginx_status(socket) for socket in self._sockets]


@contextmanager
def web_servers(lab: Lab, room: Room, connections: int) -> Iterator[WebServers]:
    """Run a web server on each server's host, all of them together for so many connections."""
    here = connections // len(lab.topology.servers)
    files = min(room.files, here + 1000)
    # The kernel deals connections out to the workers by a hash: nearly, but not quite, the same number to each.
    workers = max(room.cores, here * 5 // 4 // files + 1)
    sockets = []
    with ExitStack() as running:
        for server in lab.topology.servers:
            name = f"nginx-{server.name}"
            sockets.append(lab.new_file(name, "sock"))
            config = lab.new_file(name, "cfg")
            config.write_text(web_configuration(sockets[-1], workers, files), "utf-8")
            nginx = lab.start(name, server.name, ["nginx", "-e", "stderr", "-c", str(config)])
            running.callback(nginx.stop)
            _wait_for(nginx, sockets[-1])
        yield WebServers(sockets, asked=len(sockets))


def _wait_for(nginx: Service, status: Path) -> None:
    """Return once an nginx has said how it is doing; LabError when it does not."""
    for _ in every(0.05, 10.0):
        with contextlib.suppress(LabError):
            nginx_status(status)
            return
        if not nginx.alive:
            break
    raise nginx.failure("does not say how it is doing")


@contextmanager
def bulk_receiver(lab: Lab) -> Iterator[None]:
    """Run an iperf3 server for one test, on the first server."""
    argv = ["iperf3", "-s", "-1", "--forceflush", "-p", str(BULK_PORT)]
    iperf3 = lab.start("iperf3", first_server(lab.topology), argv, "Server listening")
    try:
        yield
    finally:
        iperf3.stop()


def first_server(topology: Topology) -> str:
    """Name of the server that bulk data goes to."""
    return topology.servers[0].name
