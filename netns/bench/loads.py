"""The loads: what the client does to the balancer, and what it says about it.

Each is bounded in time and in connections, runs in the lab, and raises LabError when it did not work.
"""

import contextlib
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netns.bench import hosts, readings
from netns.bench.candidates import Endpoint
from netns.build import Lab
from netns.errors import LabError
from netns.processes import PYTHON

CONNECTIONS = 64
"""That wrk keeps busy at a time."""

DATAGRAM = 64
"""Bytes of payload in each."""

_STARTING = 20
"""Seconds that a load may take beyond its measuring."""


def bulk(lab: Lab, target: Endpoint, seconds: int, *, streams: int = 1, reverse: bool = False) -> readings.Bulk:
    """Send all that fits, by TCP, to the server or (reverse) to the client."""
    options = ["-P", str(streams), *(["-R"] if reverse else [])]
    return _iperf3(lab, target, seconds, options)


@dataclass(frozen=True, slots=True)
class Datagrams:
    """What became of a flood of datagrams, as the kernels at both ends count them."""

    sent: int
    arrived: int
    """And were read by the receiver."""
    seconds: float

    @property
    def per_second(self) -> float:
        """How many arrived in a second."""
        return self.arrived / self.seconds

    @property
    def lost_percent(self) -> float:
        """How many of a hundred did not."""
        return 100 * max(0.0, 1 - self.arrived / self.sent)


def datagrams(lab: Lab, target: Endpoint, seconds: int) -> Datagrams:
    """Send small datagrams as fast as one sender can, and count those that arrive.

    The receiver alone cannot tell: it does not know of those that were lost at the end. So the kernels are asked.
    """
    ends = (lab.topology.client.name, "OutDatagrams"), (hosts.first_server(lab.topology), "InDatagrams")
    before = [_udp(lab, *end) for end in ends]
    report = _iperf3(lab, target, seconds, ["-u", "-b", "0", "-l", str(DATAGRAM)])
    sent, arrived = (_udp(lab, *end) - then for end, then in zip(ends, before, strict=True))
    if not sent or not report.seconds:
        raise LabError("iperf3 sent no datagram")
    return Datagrams(sent, arrived, report.seconds)


def _udp(lab: Lab, host: str, name: str) -> int:
    return readings.snmp(hosts.told(lab, host, ["cat", "/proc/net/snmp"]), "Udp", name)


def _iperf3(lab: Lab, target: Endpoint, seconds: int, options: Sequence[str]) -> readings.Bulk:
    argv = ["iperf3", "-J", "-c", target.address, "-p", str(target.port), "-t", str(seconds)]
    with hosts.bulk_receiver(lab):
        done = _run(lab, [*argv, "--connect-timeout", "5000", *options], seconds)
    return readings.iperf3(done.stdout)


def requests(
    lab: Lab, target: Endpoint, seconds: int, *, connections: int = CONNECTIONS, threads: int = 2, close: bool = False
) -> readings.Requests:
    """Ask for the small page on so many connections at a time, kept alive or (close) with one for each request."""
    header = ["-H", "Connection: close"] if close else []
    argv = ["wrk", "--latency", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", *header, f"http://{target}/"]
    done = _run(lab, argv, seconds)
    return readings.wrk(done.stdout + done.stderr)


def _run(lab: Lab, argv: Sequence[str], seconds: int) -> subprocess.CompletedProcess[str]:
    try:
        return lab.run("client", argv, names=False, timeout=seconds + _STARTING)
    except subprocess.TimeoutExpired:
        raise LabError(f"{argv[0]} did not end within {seconds + _STARTING} s") from None


def answers(lab: Lab, target: Endpoint) -> bool:
    """Whether the page can be had at all."""
    return lab.run("client", ["curl", "-sSfm", "2", f"http://{target}/"], names=False).returncode == 0


@contextlib.contextmanager
def idle_connections(lab: Lab, target: Endpoint, number: int, files: int) -> Iterator[int]:
    """Open so many connections from many addresses, keep them, and hand out how many were opened.

    As many openers share the work as are needed when none of them may have more than so many files open.
    """
    processes = number // (files - 100) + 1
    shares = [number // processes + (one < number % processes) for one in range(processes)]
    with contextlib.ExitStack() as running:
        openers = [running.enter_context(_opener(lab, target, share)) for share in shares]
        words = [opener.stdout.readline() if opener.stdout else "" for opener in openers]
        opened = [re.fullmatch(r"opened (\d+), failed \d+\n", line) for line in words]
        if None in opened:
            raise LabError("an opener of connections ended early")
        yield sum(int(found[1]) for found in opened if found)


@contextlib.contextmanager
def _opener(lab: Lab, target: Endpoint, number: int) -> Iterator[subprocess.Popen[str]]:
    argv = [*PYTHON, "netns.bench.opener", target.address, str(target.port)]
    argv += ["--number", str(number), "--from", hosts.CLIENTS]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    opener = lab.popen("client", argv, names=False, start_new_session=True, **pipes)
    try:
        yield opener
    finally:
        opener.kill()
        opener.communicate()
