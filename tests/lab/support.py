"""What the lab tests share: clients that live in the lab, transfers that check every byte, waiting without sleeping."""

import re
import shlex
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netns.build import Lab
from netns.processes import every
from netns.web import digest

SEED_L4 = Path(__file__).parent / "seed-l4.cfg"
SEED_L7 = Path(__file__).parent / "seed-l7.cfg"

NOBODYS_PID = 1 << 22
"""A number that no process ever has: the least one that Linux does not give (PID_MAX_LIMIT of linux/threads.h)."""

_STATE = "iptables-save; ip6tables-save; sysctl -a 2>/dev/null | sort"

_CHANGING_BY_ITSELF = {
    r"fs\.(aio-nr|dentry-state|file-nr|inode-nr|inode-state)": "what all programs of the machine have open",
    r"kernel\.(ns_last_pid|pty\.nr)": "how many processes and terminals the machine has had, or has",
    r"kernel\.random\.(entropy_avail|uuid)": "a new value at each reading, or nearly so",
    r"kernel\.perf_\w+": "lowered by the kernel itself when it is busy",
    r"kernel\.hung_task_(detect_count|warnings)": "how often a program of the machine has hung",
    r"net\.netfilter\.nf_conntrack_count": "how many connections there are",
}
"""Entries of `sysctl -a` that natlb cannot put back, nor anybody, and why they change: what they hold."""


def url(address: str, path: str = "/", port: int = 8888) -> str:
    """Return an http URL at an address of either family."""
    return f"http://[{address}]:{port}{path}" if ":" in address else f"http://{address}:{port}{path}"


def answering_server(lab: Lab, host: str, address: str, *, seconds: int = 5, port: int = 8888) -> str:
    """Ask as a fresh client on `host`; return the name of the server that answered, or curl's complaint."""
    done = lab.run(host, ["curl", "-sSm", str(seconds), url(address, port=port)], names=False)
    return done.stdout.splitlines()[0] if done.returncode == 0 else done.stderr.strip()


def until(
    condition: Callable[[], bool], what: str, seconds: float = 10.0, *, instead: Callable[[], object] = str
) -> None:
    """Wait for a condition, or fail saying what did not come true, and what there is `instead`."""
    for _ in every(0.05, seconds):
        if condition():
            return
    pytest.fail(f"not within {seconds:g} s: {what} {instead()}".rstrip())


_UNDER_WAY = ("syn-sent", "syn-recv", "fin-wait-1", "fin-wait-2", "close-wait", "last-ack", "closing")


def at_rest(lab: Lab, *hosts: str) -> None:
    """Wait until no TCP connection of these hosts, or of any, is being opened or closed: both ends know of the end."""
    look = f"ss -Htn {' '.join(f'state {state}' for state in _UNDER_WAY)}"
    hosts = hosts or tuple(host.name for host in lab.topology.hosts)
    until(lambda: not any(shell(lab, host, look) for host in hosts), "what was ended has ended at both ends")


def shell(lab: Lab, host: str, script: str, seconds: float = 120) -> str:
    """Run a shell script on a host and return what it printed; its failure is the test's."""
    done = lab.run(host, ["bash", "-o", "pipefail", "-ec", script], names=False, timeout=seconds)
    assert done.returncode == 0, f"{script!r} on {host}: {done.stdout}{done.stderr}"
    return str(done.stdout)


def balancer_state(lab: Lab) -> str:
    """Return the balancer's rules and all its settings, less dates and counters and what changes by itself."""
    passing = "|".join([r"# .* on .*", *(f"{name} = .*" for name in _CHANGING_BY_ITSELF)])
    state = re.sub(rf"(?m)^({passing})\n| \[\d+:\d+\]$", "", shell(lab, "lb", _STATE))
    assert "net.ipv4.ip_forward = " in state
    return state


def download(lab: Lab, host: str, address: str, size: int, *, port: int = 8888) -> None:
    """Fetch `size` bytes through the virtual address and compare them, by their digest, with what was sent."""
    got = shell(lab, host, f"curl -sSfm 110 {shlex.quote(url(address, f'/bytes/{size}', port))} | sha256sum")
    assert got.split()[0] == digest(size)


def upload(lab: Lab, host: str, address: str, file: Path, *, port: int = 8888) -> None:
    """Send a file of the known pattern through the virtual address and compare what arrived."""
    size = file.stat().st_size
    answer = shell(lab, host, f"curl -sSfm 110 -H Expect: -T {file} {shlex.quote(url(address, port=port))}")
    assert answer.split()[:2] == [digest(size), str(size)]


class Client:
    """One HTTP connection from a host of the lab, kept open."""

    def __init__(
        self,
        lab: Lab,
        host: str,
        address: str,
        port: int = 8888,
        seconds: float = 10.0,
        source: tuple[str, int] | None = None,
    ) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = lab.open_socket(host, family, socket.SOCK_STREAM)
        self.socket.settimeout(seconds)
        try:
            if source:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                self.socket.bind(source)
            self.socket.connect((address, port))
        except BaseException:
            self.socket.close()
            raise

    def ask(self) -> str:
        """Send a request on the open connection and return the name of the server that answered."""
        return self._answer()[0]

    def as_seen(self) -> str:
        """Send a request on the open connection and return the client that the server sees."""
        return self._answer()[2]

    def _answer(self) -> list[str]:
        self.socket.sendall(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")
        reply = b""
        while b"\r\n\r\n" not in reply or not reply.endswith(b"\n") or len(reply.split(b"\r\n\r\n", 1)[1]) < 8:
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionError(f"the connection ended after {reply!r}")
            reply += piece
        return reply.split(b"\r\n\r\n", 1)[1].decode().split()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


@contextmanager
def clients(lab: Lab, host: str, address: str, number: int, port: int = 8888) -> Iterator[list[Client]]:
    """Open a number of connections, closed at the end whatever happens."""
    opened: list[Client] = []
    try:
        for _ in range(number):
            opened.append(Client(lab, host, address, port))
        yield opened
    finally:
        for client in opened:
            client.close()
