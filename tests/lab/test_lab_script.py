"""`scripts/lab.sh` from the outside, as a user runs it; and docs/lab.md, whose every command is run here."""

import contextlib
import itertools
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns.__main__ import COMMANDS
from netns.draw import WIDTH
from netns.processes import living_in
from netns.topology import SEED
from tests.lab.support import until
from tests.lab.traced import Traced

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "lab.sh"
DOCS = ROOT / "docs" / "lab.md"

_numbers = itertools.count()

_INTERRUPTED = "\nlab.sh: interrupted\n"


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    """Try what the lab needs; without it there is nothing to test, which CI must not pass over."""
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    reason = f"cannot make a network namespace: {done.stderr.strip()}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class Script(Traced):
    """`lab.sh` with a prefix of its own, whose traces can be found."""

    def command(self, *words: str) -> list[str]:
        return [str(SCRIPT), "--prefix", self.prefix, *words]

    def __call__(self, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
        options = {"stdin": subprocess.DEVNULL, "cwd": "/", "timeout": 90, **options}
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, check=False, env=self.environment, **options
        )


@contextlib.contextmanager
def script_with_new_prefix() -> Iterator[Script]:
    script = Script(f"s{os.getpid()}-{next(_numbers)}-")
    try:
        yield script
    finally:
        script.lab.down()
        assert script.traces() == []


@pytest.fixture
def script() -> Iterator[Script]:
    """The script, no lab being up."""
    with script_with_new_prefix() as made:
        yield made


@pytest.fixture(scope="module")
def running() -> Iterator[Script]:
    """The script, after `lab.sh up`."""
    with script_with_new_prefix() as made:
        done = made("up")
        assert done.returncode == 0, done.stderr
        assert made.lab.topology.client.ipv4 in done.stdout
        assert f"sudo scripts/lab.sh --prefix {made.prefix} nat\n" in done.stdout
        yield made


def machine() -> str:
    """Return what the lab must not change: the machine's own links, addresses, routes, rules, forwarding."""
    commands = ["ip -o address", "ip -o route", "ip -o -6 route", "iptables-save", "ip6tables-save"]
    outputs = [
        subprocess.run(command.split(), capture_output=True, text=True, check=False).stdout for command in commands
    ]
    sysctls = [Path(f"/proc/sys/net/{family}/conf/all/forwarding").read_text() for family in ("ipv4", "ipv6")]
    without_counters = re.sub(
        r"^#.*|\[\d+:\d+\]|valid_lft \S+ preferred_lft \S+|expires \S+", "", "\n".join(outputs), flags=re.M
    )
    return without_counters + "".join(sysctls)


# -- the guided tour


def test_the_tour_ends_well_and_leaves_nothing(script: Script) -> None:
    before = machine()
    done = script()
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d\d claims, all of them hold", done.stdout)
    assert done.stderr == ""
    assert script.traces() == []
    assert machine() == before


def test_the_tour_shows_what_it_promises(script: Script) -> None:
    shown = script().stdout
    for host in SEED.hosts:
        assert host.ipv4 in shown
        assert host.ipv6 in shown
    for heading in (
        "1. The hosts",
        "3. One packet's walk",
        "4. The NAT table",
        "5. One single TCP connection",
        "6. Gone",
    ):
        assert heading in shown
    assert re.search(r"destination +44\.2\.2\.2:8888 +44\.2\.2\.2:8888 +(44\.3\.3\.3:4444|44\.4\.4\.4:5555) \*", shown)
    assert "\x1b" not in shown
    assert max(len(line) for line in shown.splitlines()) <= WIDTH


def test_the_tour_in_a_lab_that_is_up_leaves_it_up(running: Script) -> None:
    before = sorted(path.name for path in running.lab.directory.iterdir())
    done = running("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"sudo scripts/lab.sh --prefix {running.prefix} down\n") == 1
    assert running("status").returncode == 0
    assert sorted(path.name for path in running.lab.directory.iterdir()) == before


def test_a_claim_that_fails_is_told_with_what_was_seen_and_expected(script: Script) -> None:
    assert script("up").returncode == 0
    [server2] = [resident for resident in script.lab.residents() if "--name server2" in resident.command]
    script.lab.run("server2", ["kill", str(server2.pid)])
    script.lab.start_web("server2", name="impostor")
    done = script("demo")
    assert done.returncode == 1
    assert "does not hold: the servers take turns (IPv4)" in done.stderr
    assert re.search(r"saw +.*impostor", done.stderr)
    assert re.search(r"expected +server1, server2, server1, server2\n", done.stderr)
    assert "Traceback" not in done.stderr


def begin_the_tour(script: Script, output: Path) -> subprocess.Popen[bytes]:
    """Start the tour and return in the middle of it, while it captures."""
    tour = script.start(output=output)
    until(lambda: any("tcpdump" in resident.command for resident in script.lab.residents()), "the tour captures", 30)
    assert tour.poll() is None
    return tour


def test_down_clears_away_a_tour_that_was_killed(script: Script, tmp_path: Path) -> None:
    tour = begin_the_tour(script, tmp_path / "out")
    tour.kill()
    tour.wait()
    assert script.lab.residents()
    done = script("down")
    assert (done.returncode, done.stdout) == (0, "The lab is gone.\n")
    assert script.traces() == []


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_tour_cleans_up(script: Script, tmp_path: Path, signum: signal.Signals, status: int) -> None:
    tour = begin_the_tour(script, tmp_path / "out")
    # To all of them, as a terminal does.
    os.killpg(tour.pid, signum)
    assert tour.wait(30) == status
    assert script.traces() == []
    assert "Traceback" not in (tmp_path / "out").read_text()


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.1, 0.2, 0.3, 0.5])
def test_down_clears_away_an_up_that_was_killed_at_any_moment(script: Script, tmp_path: Path, moment: float) -> None:
    building = script.start("up", output=tmp_path / "out")
    until(lambda: script.lab.is_up, "it builds", 30)
    time.sleep(moment)
    building.kill()
    building.wait()
    assert script("down").returncode == 0
    assert script.traces() == []


@pytest.mark.parametrize("moment", [0.0, 0.2, 0.4, 0.7])
def test_an_interrupted_up_cleans_up(script: Script, tmp_path: Path, moment: float) -> None:
    building = script.start("up", output=tmp_path / "out")
    until(lambda: script.lab.is_up, "it builds", 30)
    time.sleep(moment)
    os.killpg(building.pid, signal.SIGINT)
    status = building.wait(30)
    if status == 0:  # it was done by then
        assert script("down").returncode == 0
    else:
        said = (tmp_path / "out").read_text()
        assert (status, said[-len(_INTERRUPTED) :]) == (130, _INTERRUPTED)
        assert "Traceback" not in said
    assert script.traces() == []


@pytest.mark.parametrize("name", ["lab", "bench", "soak"])
def test_ctrl_c_before_python_has_begun_is_an_interruption_as_any_other(name: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, signal, sys\nif 'netns' in ' '.join(sys.orig_argv):\n    os.kill(os.getpid(), {signal.SIGINT:d})\n"
    )
    done = subprocess.run(
        [SCRIPT.with_name(f"{name}.sh"), "--help"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"\n{name}.sh: interrupted\n")


def test_a_down_that_is_interrupted_takes_the_lab_away_first(script: Script, tmp_path: Path) -> None:
    assert script("up").returncode == 0
    there = len(script.lab.residents())
    ending = script.start("down", output=tmp_path / "out")
    until(lambda: len(script.lab.residents()) < there, "it ends programs", 30)
    os.killpg(ending.pid, signal.SIGINT)
    assert ending.wait(30) == 130
    assert script.traces() == []


def test_a_reader_who_goes_away_leaves_nothing_behind(script: Script) -> None:
    done = subprocess.run(
        ["bash", "-c", '"$@" | head -n 1', "-", *script.command()],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    until(lambda: script.traces() == [], "it cleans up")


# -- a lab that stays


def test_up_twice_is_refused_and_harms_nothing(running: Script) -> None:
    done = running("up")
    assert done.returncode == 1
    assert re.fullmatch(
        rf"lab\.sh: the lab is up already.*: sudo scripts/lab\.sh --prefix {running.prefix} down .*\n", done.stderr
    )
    assert running("status").returncode == 0


def test_status_names_every_program(running: Script) -> None:
    done = running("status")
    assert done.returncode == 0
    for host, program in (("lb", "natlb -f"), ("server1", "netns.web --name server1"), ("server2", "netns.web")):
        assert re.search(rf"^{host} +\d+  {re.escape(program)}", done.stdout, re.M)


@pytest.mark.parametrize("inside", [host.name for host in SEED.hosts])
@pytest.mark.parametrize(("name", "host"), [(name, host) for host in SEED.hosts for name in host.names])
def test_names_resolve_in_both_families(running: Script, inside: str, name: str, host: object) -> None:
    for family, address in (("ahostsv4", host.ipv4), ("ahostsv6", host.ipv6)):
        done = running.lab.run(inside, ["getent", family, name])
        assert done.stdout.split()[0] == address


def test_names_do_not_resolve_outside(running: Script) -> None:
    assert "44.2.2.2" not in Path("/etc/hosts").read_text()


def test_requests_take_turns(running: Script) -> None:
    asked = [running("exec", "client", "curl", "-4", "-s", "http://vip:8888/").stdout.split()[0] for _ in range(4)]
    assert asked in (["server1", "server2"] * 2, ["server2", "server1"] * 2)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_nat_shows_an_open_connection_with_both_tuples(running: Script, family: socket.AddressFamily) -> None:
    vip = SEED.balancer.ipv4 if family == socket.AF_INET else SEED.balancer.ipv6
    with running.lab.open_socket("client", family, socket.SOCK_STREAM) as connection:
        connection.connect((vip, SEED.balancer.port))
        port = connection.getsockname()[1]
        connection.sendall(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")
        assert connection.recv(1000)
        done = running("nat")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("original") and f":{port} " in line)
    assert "ESTABLISHED" in lines[at]
    assert lines[at + 1].startswith("reply")
    assert f":{port} " in lines[at + 1]


@pytest.mark.parametrize("status", [0, 1, 42])
def test_exec_gives_the_programs_exit_status(running: Script, status: int) -> None:
    assert running("exec", "client", "sh", "-c", f"exit {status}").returncode == status


def test_exec_passes_input_output_errors_and_arguments(running: Script) -> None:
    done = running("exec", "server1", "sh", "-c", 'cat; echo "$1" >&2', "-", "--a b", input="hello\n", stdin=None)
    assert (done.stdout, done.stderr) == ("hello\n", "--a b\n")


def test_exec_runs_in_the_hosts_network(running: Script) -> None:
    assert "44.3.3.3" in running("exec", "server1", "ip", "address", "show", "eth0").stdout
    assert "44.2.2.2" in running("exec", "vip", "ip", "address", "show", "server2").stdout


def test_exec_without_a_program_is_a_shell(running: Script) -> None:
    done = running("exec", "client", input="ip -br link show eth0\nexit 5\n", stdin=None)
    assert done.returncode == 5
    assert "eth0" in done.stdout


def test_unknown_host_is_refused_in_one_line_with_the_choices(running: Script) -> None:
    done = running("exec", "server3", "true")
    assert done.returncode == 2
    assert done.stderr == (
        "lab.sh: there is no host 'server3' in the lab; the hosts are client, lb, balancer, vip, server1, server2\n"
    )


def test_unknown_program_is_refused_in_one_line(running: Script) -> None:
    done = running("exec", "client", "no-such-program")
    assert (done.returncode, done.stderr) == (127, "lab.sh: exec: there is no program 'no-such-program'\n")


def test_unknown_command_is_refused_in_one_line_with_the_choices(script: Script) -> None:
    done = script("dwon")
    assert done.returncode == 2
    assert done.stderr == (f"lab.sh: 'dwon' is not a command; the commands are {', '.join(COMMANDS)}\n")


def test_two_labs_stand_side_by_side(running: Script, script: Script) -> None:
    assert script("up").returncode == 0
    assert script("exec", "client", "curl", "-4", "-s", "http://vip:8888/").returncode == 0
    assert script("down").returncode == 0
    assert running("exec", "client", "curl", "-4", "-s", "http://vip:8888/").returncode == 0


def test_down_ends_everything_that_lives_there_and_can_run_twice(script: Script) -> None:
    assert script("up").returncode == 0
    stubborn = script.lab.popen(
        "client", ["sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done"], stdout=subprocess.PIPE
    )
    assert stubborn.stdout is not None
    with stubborn.stdout:
        stubborn.stdout.readline()
    done = script("down")
    assert (done.returncode, done.stdout) == (0, "The lab is gone.\n")
    assert stubborn.wait(1) == -signal.SIGKILL
    assert script.traces() == []
    done = script("down")
    assert (done.returncode, done.stdout) == (0, "There is no lab.\n")


def test_what_is_not_the_labs_own_is_left_alone(script: Script) -> None:
    foreign = script.lab.namespace("lb")
    subprocess.run(["ip", "netns", "add", foreign], check=True)
    try:
        done = script("up")
        assert done.returncode == 1
        assert re.fullmatch(rf"lab\.sh: /run/netns/{foreign} exists and is not this lab's; .*\n", done.stderr)
        assert script("down").returncode == 0
        assert living_in([foreign]) == []
        assert script.lab.traces() == [Path("/run/netns") / foreign]
    finally:
        subprocess.run(["ip", "netns", "delete", foreign], check=True)


def test_a_directory_that_is_no_labs_is_left_alone(script: Script) -> None:
    foreign = script.lab.directory
    foreign.mkdir()
    (foreign / "pid").write_text("1")
    try:
        assert script("up").returncode == 1
        assert script("down").returncode == 0
        assert (foreign / "pid").exists()
    finally:
        (foreign / "pid").unlink()
        foreign.rmdir()


def test_without_root_it_says_how(tmp_path: Path) -> None:
    copy = tmp_path / "scripts"
    copy.mkdir()
    (copy / "lab.sh").write_text(SCRIPT.read_text())
    tmp_path.chmod(0o755)
    command = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "bash",
        "-c",
        (copy / "lab.sh").read_text(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stderr) == (1, "lab.sh needs root: sudo scripts/lab.sh\n")


# -- the page about it

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def blocks(language: str) -> list[str]:
    return [body for found, body in _BLOCK.findall(DOCS.read_text()) if found == language]


def test_every_command_of_the_page_works(script: Script, tmp_path: Path) -> None:
    for block in blocks("console"):
        lines = block.splitlines()
        assert all(line.startswith("$ ") for line in lines), f"not a command: {block}"
        commands = "\n".join(line[2:] for line in lines)
        mine = commands.replace("sudo scripts/lab.sh --prefix mine-", f"{SCRIPT} --prefix {script.prefix}2-")
        mine = mine.replace("sudo scripts/lab.sh", " ".join(script.command())).replace(
            "/natlb-lab/", f"/{script.prefix}lab/"
        )
        done = subprocess.run(
            ["bash", "-euc", mine],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=60,
            cwd=tmp_path,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        expected = _EXPECTED.get(next((key for key in _EXPECTED if key in commands), ""), "")
        assert re.search(expected, done.stdout), f"{commands}\n{done.stdout}{done.stderr}"


_EXPECTED = {
    "exec server1 iptables -I": (
        r"\Aserver2\nclient .*\nserver2\nclient .*\n"
        r"server([12])\nclient .*\n(?!server\1)server[12]\nclient .*\n\Z"
    ),
    "lab.sh nat": "original 44.1.1.1.*ESTABLISHED",
    "tcpdump": r"44\.2\.2\.2\.8888: Flags \[S\][^$]*Flags \[S\.\]",
    "lab.sh draw connection.svg": r"connection\.svg: \d+ packets of 44\.1\.1\.1:\d+ > 44\.2\.2\.2:8888",
    "lab.sh capture all": r"all\.pcapng: \d{2,} packets\.\nfrom-a-file\.svg: \d+ packets",
    "lab.sh watch": r"client wire:\n[^$]*NAT table:\n[^$]*server wire:\n.*\n.*\[3f\]",
    # Not [^$]* here: a packet may have any character in it.
    "lab.sh trace": r"What is written\n(?s:.*)\n(✓ .*\n){2}(?s:.*)\nPacket \d+: 44\.[34]\.(?s:.*)\n(✓ .*\n){2}",
    "printf": r"\Aserver[12]\nclient .*\n(.*\n)*1 packets transmitted, 1 received",
    "break mtu": r"Broken now: nothing\.\nBroken: +Short answers",
    "break --tell": r"\Amtu  The balancer's end[^$]*Healed: mtu\.\n\Z",
    "natlb.cfg": r"bind \*:8888[^$]*natlb is ready",
}


def test_every_line_at_the_prompt_of_the_page_works(running: Script) -> None:
    lines = [line.removeprefix("lab> ") for line in "".join(blocks("text")).splitlines() if line.startswith("lab> ")]
    done = running("shell", input="\n".join(lines), stdin=None)
    assert (done.returncode, done.stderr) == (0, "")
    expected = (
        r"\Aserver[12]\nclient .*\nState .*\nLISTEN .*:4444 .*\n +2 server1\n +2 server2\ntuple .*\noriginal (.*\n)*"
        r"24 of 24 pings were answered\.\nBroken: (.*\n)*16 of 24 pings were answered\.\nHealed: route\.\nHOST PROGRAM"
    )
    assert re.search(expected, done.stdout), done.stdout


def test_the_python_of_the_page_works(script: Script) -> None:
    [code] = blocks("python")
    code = code.replace('prefix="natlb-"', f"prefix={script.prefix!r}")
    done = subprocess.run(
        [ROOT / ".venv/bin/python", "-c", code], capture_output=True, text=True, check=False, cwd="/", timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"server1\n(.*\n)*\n[1-9]\d* packets between natlb and server1\n", done.stdout)


def test_the_page_names_every_command() -> None:
    text = DOCS.read_text()
    for command in COMMANDS:
        assert f"lab.sh {command}" in text
