"""Bulk data arrives byte for byte over a network that loses packets, reorders them and doubles them, on both sides."""

import contextlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns.balancer import ask
from netns.build import Lab
from netns.processes import PYTHON, Service
from netns.topology import SEED
from netns.web import digest, pattern
from tests.lab.hops import hop
from tests.lab.support import shell, url
from tests.lab.ways import WAYS, Way, add_sources

pytestmark = pytest.mark.root

_SERVICE, _QUEUE = 8001, 5
_LOST, _DISORDERED = 0.002, 0.02
"""The share of the packets that are lost, and that are held back, at each hop."""

_SIZES = {way: 100_000_000 if way.version == 4 and not way.full else 30_000_000 for way in WAYS}


@contextlib.contextmanager
def _disorder(namespace: str) -> Iterator[None]:
    """Lose, reorder and double what a hop forwards; and see that it has."""
    rules = ["DROP", f"NFQUEUE --queue-num {_QUEUE}"]
    share = dict(zip(rules, (_LOST, _DISORDERED), strict=True))
    enter = ["nsenter", f"--net=/run/netns/{namespace}"]
    program = Service("disorder", [*enter, *PYTHON, "netns.disorder", str(_QUEUE)])
    try:
        program.wait_for("disorder begins")
        for command in ("iptables", "ip6tables"):
            for rule in rules:
                chance = f"-m statistic --mode random --probability {share[rule]}"
                _run(enter, f"{command} -A FORWARD -p tcp {chance} -j {rule}")
        yield
        for command in ("iptables", "ip6tables"):
            listing = _run(enter, f"{command} -vxnL FORWARD")
            passed = [int(line.split()[0]) for line in listing.splitlines() if "statistic" in line]
            assert len(passed) == len(rules)
            assert min(passed) > 100, listing
        assert program.stop() == 0
        counts = re.search(r"held (\d+), doubled (\d+)", program.log())
        assert counts
        assert min(map(int, counts.groups())) > 100, program.log()
    finally:
        if program.alive:
            program.kill()


def _run(enter: list[str], script: str) -> str:
    done = subprocess.run([*enter, *shlex.split(script)], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def disordered(lab: Lab) -> Iterator[Lab]:
    """The lab with a hop on both sides of the balancer, each in disorder."""
    add_sources(lab)
    lab.start_web("server1")
    with contextlib.ExitStack() as stack:
        hops = [stack.enter_context(hop(lab, host)) for host in ("client", "server1")]
        sections = [f"global\n    stats socket {lab.stats_socket} level admin\n"]
        sections += ["defaults\n    timeout connect 10s\n    timeout client 30s\n    timeout server 30s\n"]
        sections += [way.listen("bulk", _SERVICE, SEED.host("server1").port) for way in WAYS]
        natlb = lab.start_natlb("\n".join(sections))
        for namespace in hops:
            stack.enter_context(_disorder(namespace))
        yield lab
        drops = [line for line in ask(lab.stats_socket, "show activity").splitlines() if line.startswith("drop_")]
        assert not drops, "natlb has taken nothing for forged, damaged or stray"
        log = natlb.log()
        assert natlb.stop() == 0
        assert "internal error" not in log


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Files of the known pattern, by size."""
    directory = tmp_path_factory.mktemp("disorder")
    made = {size: directory / f"{size}" for size in set(_SIZES.values())}
    for size, file in made.items():
        with file.open("wb") as out:
            out.writelines(pattern(size))
    return made


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param  # type: ignore[no-any-return]


def _out_of_order(lab: Lab, host: str) -> int:
    """Return how many segments a host has received before one that was sent earlier."""
    counters = shell(lab, host, "nstat -asz TcpExtTCPOFOQueue")
    return int(counters.split("TcpExtTCPOFOQueue")[1].split()[0])


def test_a_download_in_disorder_arrives_byte_for_byte(disordered: Lab, way: Way) -> None:
    before = _out_of_order(disordered, "client")
    source = shlex.quote(url(way.vip, f"/bytes/{_SIZES[way]}", way.port(_SERVICE)))
    got = shell(disordered, "client", f"curl -sSfm 60 {source} | sha256sum")
    assert got.split()[0] == digest(_SIZES[way])
    assert _out_of_order(disordered, "client") - before > 100


def test_an_upload_in_disorder_arrives_byte_for_byte(disordered: Lab, way: Way, files: dict[int, Path]) -> None:
    before = _out_of_order(disordered, "server1")
    size = _SIZES[way]
    target = shlex.quote(url(way.vip, port=way.port(_SERVICE)))
    answer = shell(disordered, "client", f"curl -sSfm 60 -H Expect: -T {files[size]} {target}")
    assert answer.split()[:2] == [digest(size), str(size)]
    assert _out_of_order(disordered, "server1") - before > 100
