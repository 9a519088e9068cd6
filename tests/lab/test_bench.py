"""`scripts/bench.sh` from the outside, and its parts against real programs. How fast anything is, is no matter here."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns.bench import hosts, loads
from netns.bench.candidates import TABLE, Candidate
from netns.bench.command import arguments
from netns.bench.hosts import Room
from netns.build import Lab
from netns.errors import LabError
from netns.processes import Resident
from tests.lab.support import until

pytestmark = [pytest.mark.root, pytest.mark.busy]

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "bench.sh"
DOCS = ROOT / "docs" / "performance.md"

_REQUIRED = (
    "bulk_gbps",
    "bulk_reverse_gbps",
    "bulk8_gbps",
    "keepalive_rps",
    "keepalive_p50_us",
    "keepalive_p99_us",
    "connection_rps",
    "udp_pps",
)
"""What a quick run measures of whoever carries everything."""


@contextlib.contextmanager
def _nothing_left(prefix: str) -> Iterator[Lab]:
    """Hand out the lab of a bench, and find no trace and no process of it at the end."""
    lab = Lab(prefix=prefix)
    try:
        yield lab
        assert lab.traces() == []
        assert lab.residents() == []
    finally:
        lab.down()


def test_a_quick_run_measures_all_and_leaves_nothing(tmp_path: Path) -> None:
    prefix = f"b{os.getpid()}-"
    # With `--seconds` nothing is left out, however slow the machine is.
    options = ["--quick", "--seconds", "1", "--only", "routing,natlb"]
    options += ["--json", str(tmp_path / "it.json"), "--prefix", prefix]
    with _nothing_left(prefix):
        done = subprocess.run(
            [SCRIPT, *options], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "it.json").read_text())
    assert list(report["results"]) == ["routing", "natlb"]
    for values in report["results"].values():
        assert all(values[key] > 0 for key in _REQUIRED), values
        assert values["rss_mb_100k"] is None
        assert values["keepalive_p50_us"] <= values["keepalive_p99_us"]
        assert 0 <= values["udp_loss_percent"] < 100
        assert values["machine_cpu_s_per_gb"] > 0
    own = ("cpu_s_per_gb", "cpu_s_per_10k_connections")
    assert [report["results"]["routing"][key] for key in own] == [None, None]
    assert all(report["results"]["natlb"][key] > 0 for key in own)
    assert report["quick"] is True
    assert report["machine"]["versions"]["natlb"].startswith("natlb version ")
    assert report["remarks"][-1] == "memory: not measured in a quick run"
    assert re.search(r"^ +routing +natlb$", done.stdout, re.M)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, signum: signal.Signals, status: int) -> None:
    prefix = f"i{os.getpid()}-"
    log = tmp_path / "log"
    with _nothing_left(prefix) as lab, log.open("wb") as output:
        bench = subprocess.Popen(
            [SCRIPT, "--quick", "--only", "natlb", "--prefix", prefix],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        until(lambda: any(" iperf3 -J " in f" {one.command} " for one in lab.residents()), "a load is on", 30)
        # To all of them, as a terminal does.
        os.killpg(bench.pid, signum)
        assert bench.wait(30) == status
    assert "Traceback" not in log.read_text()


def test_a_second_run_beside_the_first_is_refused_in_one_line() -> None:
    prefix = f"o{os.getpid()}-"
    with _nothing_left(prefix) as lab:
        lab.up()
        done = subprocess.run(
            [SCRIPT, "--quick", "--prefix", prefix], capture_output=True, text=True, check=False, timeout=60
        )
        lab.down()
    assert done.returncode == 1
    assert re.fullmatch(rf"bench\.sh: the lab is up already .*--prefix {prefix} down .*\n", done.stderr)


def test_the_commands_of_the_page_make_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = re.findall(r"^\$ (.*)$", DOCS.read_text(), re.M)
    benches = [command.removeprefix("sudo scripts/bench.sh") for command in commands if "scripts/bench.sh" in command]
    assert len(benches) >= 3
    monkeypatch.chdir(ROOT)
    for options in benches:
        arguments().parse_args(shlex.split(options))
    assert set(commands) - {f"sudo scripts/bench.sh{options}" for options in benches} == {
        ".venv/bin/python -m netns.bench.page docs/performance.json docs/performance.md",
        ".venv/bin/natlb where",  # tests/unit/profiling/test_burst.py runs it
    }


# -- the parts


@pytest.fixture(scope="module")
def prepared() -> Iterator[Lab]:
    """A lab in which a bench could begin."""
    with Lab(prefix=f"p{os.getpid()}-", offloads=True) as lab:
        hosts.prepare(lab)
        yield lab


@pytest.fixture(scope="module")
def room() -> Room:
    return Room.found()


def _balancer_state(lab: Lab) -> list[str]:
    """What a candidate may not leave behind on the balancer."""
    commands = (["sysctl", "net.ipv4.ip_forward"], ["iptables-save"], ["nft", "list", "ruleset"], ["ss", "-Hltun"])
    text = "".join(hosts.told(lab, "lb", argv) for argv in commands)
    return [line for line in text.splitlines() if not line.startswith("#") and "[" not in line]


def _of_the_balancer(lab: Lab) -> list[Resident]:
    return [one for one in lab.residents() if one.namespace == lab.namespace("lb")]


@pytest.mark.parametrize("candidate", TABLE, ids=lambda candidate: candidate.name)
def test_a_candidate_carries_counts_and_leaves_nothing(prepared: Lab, room: Room, candidate: Candidate) -> None:
    before = _balancer_state(prepared)
    web, bulk = candidate.web(prepared.topology), candidate.bulk(prepared.topology)
    with hosts.web_servers(prepared, room, 1000) as servers:
        assert not loads.answers(prepared, web), "nobody carries anything yet"
        with candidate.run(prepared, room) as running:
            assert candidate.program == (running.program is not None) == bool(_of_the_balancer(prepared))
            until(lambda: loads.answers(prepared, web), f"{candidate.name} answers")
            counted, accepted = running.carried(), servers.accepted
            assert all(loads.answers(prepared, web) for _ in range(4))
            assert running.carried() - counted >= 4
            assert servers.accepted - accepted == 4
            if candidate.udp:
                counted = running.carried()
                done = loads.datagrams(prepared, bulk, 1)
                assert done.arrived > 0
                assert running.carried() - counted >= 2, "iperf3's connection, and the datagrams' flow"
        assert not loads.answers(prepared, web), "nobody carries anything any more"
    assert _balancer_state(prepared) == before


def test_many_idle_connections_come_from_many_addresses_and_from_several_openers(prepared: Lab, room: Room) -> None:
    routing = TABLE[0]
    web = routing.web(prepared.topology)
    with hosts.web_servers(prepared, room, 2000) as servers, routing.run(prepared, room):
        until(lambda: loads.answers(prepared, web), "it answers")
        with loads.idle_connections(prepared, web, 1000, files=500) as opened:
            assert opened == 1000
            until(lambda: servers.active >= 1000, "all are open at the servers")
            peers = hosts.told(prepared, "server1", ["ss", "-Htn", "state", "established", f"sport = :{web.port}"])
            addresses = {line.split()[-1].rpartition(":")[0] for line in peers.splitlines()}
            assert len(addresses) > 200
        until(lambda: servers.active == 0, "they are closed with their openers")


def test_a_load_that_cannot_work_is_told_in_its_own_words(prepared: Lab) -> None:
    web = TABLE[1].web(prepared.topology)
    with pytest.raises(LabError, match=r"^wrk: unable to connect"):
        loads.requests(prepared, web, 1)
    with pytest.raises(LabError, match=r"^iperf3: "):
        loads.bulk(prepared, TABLE[1].bulk(prepared.topology), 1)
