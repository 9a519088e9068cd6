"""Faults to find: each does what its notice says, nobody reports it, and healing leaves the lab as it was.

A fault is made by one process and healed by another, as a student does it from the command line.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from netns import faults, flood
from netns.balancer import ask, nat_table
from netns.build import Lab
from netns.faults import FAULTS
from netns.processes import PYTHON
from netns.topology import SEED
from tests.lab.support import Client, shell, until, url

pytestmark = pytest.mark.root

_SHORT, _LONG = "/", "/bytes/300000"
_PATIENCE = 2.0
"""Seconds after which a request has got stuck: many times what one takes, and not so long that waiting is dear."""


def command(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [*PYTHON, "netns", "--prefix", lab.prefix, *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL)


@pytest.fixture
def well(balanced: Lab) -> Iterator[Lab]:
    """A lab in which nothing is broken, and in which nothing is broken afterwards."""
    yield balanced
    faults.heal(balanced)


def requests(lab: Lab, path: str, number: int = 4) -> list[str]:
    """Send requests at the same time and tell how each ended: well, never connected, or got stuck after that."""
    argv = [
        "curl",
        "-4",
        "-s",
        "-m",
        str(_PATIENCE),
        "-o",
        "/dev/null",
        "-w",
        "%{time_connect} %{http_code} %{exitcode}",
    ]
    started = [
        lab.popen("client", [*argv, url(SEED.balancer.ipv4, path)], names=False, stdout=subprocess.PIPE, text=True)
        for _ in range(number)
    ]
    ends = []
    for each in started:
        connected, code, status = each.communicate()[0].split()
        ends.append("well" if (code, status) == ("200", "0") else "stuck" if float(connected) else "not connected")
    return sorted(ends)


_WELL = ["well"] * 4


def of_requests(lab: Lab) -> object:
    return requests(lab, _SHORT)


def of_downloads(lab: Lab) -> object:
    return requests(lab, _SHORT), requests(lab, _LONG)


def of_pings(lab: Lab) -> object:
    pings = shell(lab, "client", "ping -q -i 0.002 -c 300 44.2.2.2 || true")
    lost = float(re.search(r"([\d.]+)% packet loss", pings)[1])
    return "none" if not lost else "some" if 8 < lost < 40 else lost


def of_an_open_connection(lab: Lab) -> object:
    """What becomes of new connections, while one that was open before still answers; see the test."""
    return requests(lab, _SHORT)


def of_turns(lab: Lab) -> object:
    answers = [shell(lab, "client", f"curl -4 -s {url(SEED.balancer.ipv4)}").split()[0] for _ in range(4)]
    directly = [
        shell(lab, "client", f"curl -s {url(server.ipv4, port=server.port)}").split()[0] for server in SEED.servers
    ]
    return len(set(answers)), directly


_HALF_STUCK = ["stuck", "stuck", "well", "well"]

SHOWN: dict[str, tuple[Callable[[Lab], object], object, object]] = {
    "server": (of_requests, _WELL, _HALF_STUCK),
    "route": (of_requests, _WELL, ["not connected", "not connected", "well", "well"]),
    "checksum": (of_downloads, (_WELL, _WELL), (_WELL, _HALF_STUCK)),
    "loss": (of_pings, "none", "some"),
    "mtu": (of_downloads, (_WELL, _WELL), (_WELL, _HALF_STUCK)),
    "flood": (of_an_open_connection, _WELL, ["not connected"] * 4),
    "drain": (of_turns, (2, ["server1", "server2"]), (1, ["server1", "server2"])),
}
"""By fault: where it shows, what is seen there when all is well, and while it is in force."""


def state(lab: Lab) -> dict[str, object]:
    """Whatever a fault may have changed, but for numbers that count or pass."""
    seen: dict[str, object] = {}
    for host in SEED.hosts:
        script = "nft list ruleset; ip link; ip route; ip -6 route; ip rule"
        seen[host.name] = re.sub(r"packets \d+ bytes \d+|expires \S+", "", shell(lab, host.name, script))
    seen["processes"] = [(each.namespace, each.command, standing_still(each.pid)) for each in lab.residents()]
    seen["servers"] = [line.split()[1:7] for line in ask(lab.stats_socket, "show servers state").splitlines()]
    seen["files"] = sorted(path.name for path in lab.directory.iterdir() if not path.name.startswith("flood"))
    return seen


def standing_still(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def up(lab: Lab) -> set[str]:
    """What natlb holds of its servers' health."""
    rows = [line.split(",") for line in ask(lab.stats_socket, "show stat").splitlines()]
    servers, status = rows[0].index("svname"), rows[0].index("status")
    return {row[status] for row in rows[1:] if len(row) > status and row[servers].startswith("server")}


def full(lab: Lab) -> bool:
    """Whether natlb has as many connections as it may, all of them established: none makes way for another."""
    info = dict(line.split(": ", 1) for line in ask(lab.stats_socket, "show info").splitlines() if ": " in line)
    states = [entry.state for entry in nat_table(ask(lab.stats_socket, "show sess"))]
    return info["CurrConns"] == info["Maxconn"] == str(states.count("ESTABLISHED"))


# -- each fault


def test_the_table_here_is_complete() -> None:
    assert SHOWN.keys() == FAULTS.keys()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_does_what_it_says_and_healing_leaves_the_lab_as_it_was(well: Lab, name: str) -> None:
    look, sound, broken = SHOWN[name]
    before = state(well)
    assert look(well) == sound
    with closing(Client(well, "client", SEED.balancer.ipv4)) as kept:
        done = command(well, "break", name)
        assert (done.returncode, done.stderr) == (0, "")
        assert " ".join(FAULTS[name].notice.split()) in " ".join(done.stdout.split())
        if name == "flood":
            until(lambda: full(well), "every place is taken")
        assert look(well) == broken
        assert command(well, "break").stdout.endswith(f"Broken now: {name}.\n")
        if name not in ("drain", "server", "route"):
            assert kept.ask().startswith("server"), "what was open goes on"
        assert up(well) <= ({"UP", "DRAIN"} if name == "drain" else {"UP"}), "natlb reports it: nothing to find"
        done = command(well, "heal")
        assert (done.returncode, done.stdout) == (0, f"Healed: {name}.\n")
    assert look(well) == sound
    assert state(well) == before


@pytest.mark.parametrize("name", FAULTS)
def test_healing_does_no_harm_where_the_breaker_was_killed_before_it_broke_anything(well: Lab, name: str) -> None:
    before = state(well)
    record = {"hidden": False, "healing": FAULTS[name].change(well).healing}
    (well.directory / f"fault-{name}.json").write_text(json.dumps(record))
    assert faults.heal(well) == [name]
    assert state(well) == before


def test_a_record_that_was_cut_short_is_of_a_fault_that_was_not_made(well: Lab) -> None:
    before = state(well)
    (well.directory / "fault-route.json").write_text('{"hidden": fal')
    assert faults.broken(well) == []
    faults.heal(well)
    assert state(well) == before


def test_a_fault_that_cannot_be_made_in_full_is_not_made_at_all(well: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(well)
    done = []

    def fail_at_the_second(lab: Lab, step: list[str]) -> None:
        done.append(step)
        if len(done) == 2:
            raise KeyboardInterrupt
        do(lab, step)

    do = faults._do
    monkeypatch.setattr(faults, "_do", fail_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        faults.break_(well, "route")
    assert len(done) > 2, "the first step was undone"
    assert state(well) == before


# -- what is said of them


def test_several_faults_are_listed_told_and_healed_apart(well: Lab) -> None:
    for name in ("route", "loss"):
        assert command(well, "break", name).returncode == 0
    assert command(well, "break").stdout.endswith("Broken now: route, loss.\n")
    told = command(well, "break", "--tell").stdout
    assert "default route" in told
    assert "by chance" in told
    assert command(well, "heal", "route").stdout == "Healed: route.\n"
    assert command(well, "break").stdout.endswith("Broken now: loss.\n")
    assert command(well, "heal").stdout == "Healed: loss.\n"
    assert command(well, "heal").stdout == "Healed: nothing was broken.\n"
    assert command(well, "break", "--tell").stdout == "Nothing is broken.\n"


def test_a_fault_by_chance_is_not_named_until_asked_for(well: Lab) -> None:
    done = command(well, "break", "any")
    assert done.returncode == 0
    [made] = faults.broken(well)
    said = " ".join(done.stdout.split())
    assert made.fault.notice in said
    assert made.name not in said.replace(made.fault.notice, "").split()
    assert command(well, "break").stdout.endswith("Broken now: something that was chosen by chance.\n")
    assert command(well, "break", "--tell").stdout.startswith(f"{made.name}  ")
    assert command(well, "heal").stdout == f"Healed: {made.name}.\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("break", "luck"), "there is no fault 'luck'; there are server, .*, drain, and any for one by chance"),
        (("heal", "luck"), "there is no fault 'luck'; there are server, .*, drain, and any for one by chance"),
        (("break", "mtu"), r"'mtu' is broken already: sudo scripts/lab\.sh --prefix \S+ heal mtu undoes it"),
    ],
)
def test_what_cannot_be_broken_is_refused_in_one_line(well: Lab, words: tuple[str, ...], line: str) -> None:
    assert command(well, "break", "mtu").returncode == 0
    done = command(well, *words)
    assert done.returncode == 1
    assert re.fullmatch(f"lab\\.sh: {line}\n", done.stderr)


# -- the flood


def test_the_flood_is_bounded_and_ends_by_itself(well: Lab) -> None:
    seconds = 2.0
    program = [*PYTHON, "netns.flood", "--to", SEED.balancer.ipv4, "--port", "8888", "--seconds", str(seconds)]
    began = time.monotonic()
    flooding = well.start("flood", "client", program, flood.READY)
    until(lambda: len(idle(well)) > 50, "it floods")
    most = len(idle(well))
    assert flooding.process.wait(10) == 0
    assert most < flood.RATE * (time.monotonic() - began) + 10
    until(lambda: idle(well) == [], "every connection was reset")


def test_the_flood_keeps_no_place_after_a_kill(well: Lab) -> None:
    assert command(well, "break", "flood").returncode == 0
    until(lambda: len(idle(well)) > 50, "it floods")
    [flooding] = [each for each in well.residents() if "netns.flood" in each.command]
    os.kill(flooding.pid, 9)
    until(lambda: idle(well) == [], "every connection was reset")
    assert command(well, "break").stdout.endswith("Broken now: nothing.\n")


def idle(lab: Lab) -> list[object]:
    entries = nat_table(ask(lab.stats_socket, "show sess"))
    return [entry for entry in entries if entry.state == "ESTABLISHED" and not entry.original_bytes]


# -- manners


def test_faults_stay_in_their_own_lab(well: Lab) -> None:
    with Lab(prefix=f"{well.prefix}b-") as other:
        ruleset = "nft list ruleset; ip link; ip route"
        before = [shell(other, host.name, ruleset) for host in SEED.hosts]
        for name in ("route", "checksum", "loss", "mtu"):
            faults.break_(well, name)
        assert [shell(other, host.name, ruleset) for host in SEED.hosts] == before
        assert faults.broken(other) == []
        assert faults.heal(other) == []
        assert [each.name for each in faults.broken(well)] == ["route", "checksum", "loss", "mtu"]


def test_down_takes_faults_away_without_waiting_for_who_stands_still(well: Lab) -> None:
    with Lab(prefix=f"{well.prefix}c-") as other:
        other.start_all()
        for name in FAULTS:
            faults.break_(other, name)
        [still] = [each for each in other._services if each.name == f"web server {SEED.servers[0].name}"]
        assert command(other, "down").returncode == 0
        assert still.process.wait(10) == -signal.SIGTERM, "for who does not heed that, there is SIGKILL after a while"
        assert other.traces() == []


def test_without_the_processes_that_it_is_about_nothing_is_broken(lab: Lab) -> None:
    with Lab(prefix=f"{lab.prefix}d-") as bare:
        done = command(bare, "break", "server")
        assert (done.returncode, "there is nothing to break" in done.stderr) == (1, True)
        done = command(bare, "break", "drain")
        assert (done.returncode, "natlb does not answer" in done.stderr) == (1, True)
        assert faults.broken(bare) == []
