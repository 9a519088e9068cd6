"""What natlb may do while it looks at packets, and that with so little it does all that it is there for."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from natlb.privileges import HANDED_ON, KEPT
from netns.balancer import Natlb
from netns.build import Lab
from netns.topology import SEED
from tests.lab.support import answering_server, balancer_state, download, shell, until

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
_VIP = SEED.balancer.ipv4
_METRICS = 9101

_USERS = {"root": (0, 0, ""), "another user": (65534, 65534, "    user nobody\n    group nogroup\n")}


def as_set(numbers: "list[int] | dict[str, int]") -> str:
    """A set of capabilities as /proc has it."""
    return f"{sum(1 << number for number in (numbers.values() if isinstance(numbers, dict) else numbers)):016x}"


def statuses(pid: int) -> list[dict[str, str]]:
    """What the kernel says of each thread of a process."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return [dict(re.findall(r"^(\w+):\s+(.*)$", text, re.M)) for text in texts]


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that everybody can enter, unlike pytest's."""
    path = Path(tempfile.mkdtemp(prefix="natlb-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def watched(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in which each run of iptables-restore says first what it may do."""
    record = shared / "runs"
    record.touch()
    record.chmod(0o666)
    programs = shared / "bin"
    programs.mkdir()
    wrapper = programs / "iptables-restore"
    wrapper.write_text(
        f"#!/bin/sh\ngrep -E '^(Cap|NoNew)' /proc/self/status | tr '\\n' ' ' >>{record}; echo >>{record}\n"
        f'exec {shutil.which("iptables-restore")} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return record


def config(lab: Lab, more: str = "", checks: str = "check inter 200ms") -> str:
    first, second = SEED.servers[:2]
    return (
        f"global\n{more}    log {_VIP}:5514 local0\n"
        f"    stats socket {lab.stats_socket} user games mode 660 level admin\n"
        f"defaults\n    log global\n    option tcplog\n"
        "    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n"
        f"listen web\n    bind {_VIP}:888\n"
        f"    server one {first.ipv4}:{first.port} {checks}\n    server two {second.ipv4}:{second.port} {checks}\n"
        f"udp-lb dns\n    dgram-bind {_VIP}:53\n    server one {first.ipv4}:53\n"
    )


def use_everything(lab: Lab, natlb: Natlb, syslog: socket.socket) -> None:
    """Have natlb do, after it has let go, whatever it does besides looking at packets."""
    first, second = SEED.servers[:2]

    def state() -> dict[str, str]:
        return dict(line.split(": ", 1) for line in natlb.ask("show offload").splitlines() if ": " in line)

    def ask() -> str:
        return answering_server(lab, "client", _VIP, port=888)

    assert {ask(), ask()} == {first.name, second.name}
    for wanted in ("on", "off", "on"):
        assert natlb.ask(f"set offload {wanted}") == "\n"
        assert state()["state"] == wanted
        download(lab, "client", _VIP, 1_000_000, port=888)
    # A server somewhere else: rules are made anew.
    assert "IP changed" in natlb.ask(f"set server web/one addr {second.ipv4} port {second.port}")
    until(lambda: {ask(), ask()} == {second.name}, "the new address is used")
    assert "IP changed" in natlb.ask(f"set server web/one addr {first.ipv4} port {first.port}")
    # An interface that comes: the program is put on it.
    shell(lab, "lb", "ip link add late type veth peer name late2 && ip link set late up")
    until(lambda: int(state()["interfaces"]) >= 4, "the program is on the interface that came")
    shell(lab, "lb", "ip link del late")
    # Checks that fail and succeed, log lines, metrics, signals.
    up = re.compile(r"^web,one,.*,UP,", re.M)
    until(lambda: up.search(natlb.ask("show stat")) is not None, "the check finds the server")
    shell(lab, first.name, f"iptables -I INPUT -p tcp --dport {first.port} -j REJECT --reject-with tcp-reset")
    until(lambda: up.search(natlb.ask("show stat")) is None, "the check fails")
    shell(lab, first.name, f"iptables -D INPUT -p tcp --dport {first.port} -j REJECT --reject-with tcp-reset")
    until(lambda: up.search(natlb.ask("show stat")) is not None, "the check finds the server again")
    natlb.process.send_signal(signal.SIGHUP)
    until(lambda: "SIGHUP: Server web/one is UP" in natlb.log(), "the signal is answered")
    seen = b""
    while b" web web/" not in seen or b"SIGHUP: Proxy web" not in seen:
        seen += syslog.recv(2000)
    assert "natlb_offload_on 1.0" in shell(lab, "lb", f"curl -sSfm 5 http://127.0.0.1:{_METRICS}/metrics")
    # The profiler, which has read natlb's source.
    natlb.ask("set profiling packets on")
    ask()
    assert "rewrite" in natlb.ask("show profiling packets")
    natlb.ask("set profiling packets off")


_LETS_GO_BESIDE_A_THREAD = """\
import sys, threading, time
from natlb import privileges
from natlb.errors import ProcessError

threading.Thread(target=time.sleep, args=(float(sys.argv[1]),), daemon=True).start()
try:
    privileges.drop(None, None)
except ProcessError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(("lasts", "said"), [("0.3", ""), ("60", "has kept its privileges")], ids=["ends", "stays"])
def test_a_thread_that_ends_is_waited_for_and_one_that_stays_is_told(lasts: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LETS_GO_BESIDE_A_THREAD, lasts], stderr=subprocess.PIPE, text=True, check=False
    )
    assert said in done.stderr
    assert done.returncode == bool(said)


@pytest.mark.parametrize(("uid", "gid", "lines"), _USERS.values(), ids=_USERS)
def test_every_thread_holds_five_capabilities_and_all_of_natlb_works(
    served: Lab, watched: Path, uid: int, gid: int, lines: str
) -> None:
    before = balancer_state(served)
    with served.open_socket("lb", socket.AF_INET, socket.SOCK_DGRAM) as syslog:
        syslog.bind((_VIP, 5514))
        syslog.settimeout(10)
        natlb = served.start_natlb(config(served, lines), ["--offload", "on", "--metrics", str(_METRICS)])
        assert natlb.ask("show offload").startswith("state: on\n")
        at_start = len(watched.read_text().splitlines())
        use_everything(served, natlb, syslog)
        threads = statuses(natlb.process.pid)
        assert len(threads) > 1, "what is done in a thread was done"
        for status in threads:
            held = {name: status[f"Cap{name}"] for name in ("Eff", "Prm", "Bnd", "Inh", "Amb")}
            expected = dict.fromkeys(("Eff", "Prm", "Bnd"), as_set(KEPT)) | dict.fromkeys(
                ("Inh", "Amb"), as_set(HANDED_ON)
            )
            assert held == expected, status["Name"]
            assert status["NoNewPrivs"] == "1"
            assert status["Uid"].split() == [str(uid)] * 4
            assert status["Gid"].split() == [str(gid)] * 4
        assert served.stats_socket.owner() == "games"
        assert served.stats_socket.stat().st_mode & 0o777 == 0o660
        assert natlb.stop() == 0
    log = natlb.log()
    assert "internal error" not in log, log
    assert balancer_state(served) == before
    runs = watched.read_text().splitlines()
    assert len(runs) >= at_start + 3, "rules were made twice while it ran, and taken away"
    for run in runs[at_start:]:
        held = dict(re.findall(r"(\w+):\s+(\w+)", run))
        assert {held[f"Cap{name}"] for name in ("Eff", "Prm", "Inh", "Amb")} == {as_set(HANDED_ON)}, run
        assert held["CapBnd"] == as_set(KEPT)
        assert held["NoNewPrivs"] == "1"
    served.stats_socket.unlink(missing_ok=True)


def test_where_natlb_lies_in_a_home_that_only_its_owner_may_read_it_works_all_the_same(
    served: Lab, shared: Path
) -> None:
    """What is loaded late would not be found: root without CAP_DAC_OVERRIDE is just another user there."""
    home = shared / "home"
    packages = Path(sysconfig.get_path("purelib"))
    shutil.copytree(ROOT / "natlb", home / "natlb", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyroute2", "h11", "prometheus_client"):
        shutil.copytree(packages / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    for library in packages.glob("netfilterqueue*"):
        (shutil.copytree if library.is_dir() else shutil.copy)(library, home / library.name)
    for path in (home, *home.rglob("*")):
        os.chown(path, 4711, 4711, follow_symlinks=False)
        path.chmod(0o700 if path.is_dir() else 0o600)
    written = shared / "natlb.cfg"
    written.write_text(config(served))
    python = Path(sys.executable).resolve()
    argv = ["env", f"PYTHONPATH={home}", str(python), "-P", "-B", "-s", "-m", "natlb", "-f", str(written)]
    argv += ["--offload", "off", "--metrics", str(_METRICS)]
    with served.open_socket("lb", socket.AF_INET, socket.SOCK_DGRAM) as syslog:
        syslog.bind((_VIP, 5514))
        syslog.settimeout(10)
        natlb = Natlb("natlb", served.command("lb", argv, names=False), shared / "log", served.stats_socket)
        try:
            natlb.wait_for("natlb is ready")
            blocked = f"/proc/{natlb.process.pid}/root{home}/natlb/__init__.py"
            powerless = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "cat", blocked]
            assert subprocess.run(powerless, capture_output=True, check=False).returncode == 1, "anybody can read it"
            use_everything(served, natlb, syslog)
        finally:
            status = natlb.stop()
    assert status == 0
    log = natlb.log()
    assert "internal error" not in log, log
    assert "Permission denied" not in log, log


_DROP = """
import json, re, subprocess, sys, threading
from pathlib import Path
from natlb import privileges
from natlb.errors import ProcessError
hold = threading.Event()
if "thread" in sys.argv:
    threading.Thread(target=hold.wait, daemon=True).start()
try:
    privileges.drop(None, None)
except ProcessError as error:
    print(error)
    sys.exit(1)
def held(of):
    return dict(re.findall(r"^((?:Cap|NoNew)\\w+):\\s+(\\w+)$", of, re.M))
def started(*argv):
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
with privileges.handing_on():
    another = started("cat", "/proc/self/status")
print(json.dumps({
    "itself": held(Path("/proc/self/status").read_text()),
    "another natlb": held(another),
    "others": held(started("cat", "/proc/self/status")),
    "securebits": started("setpriv", "--dump"),
}))
"""


def dropping(*arguments: str, less: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*less, sys.executable, "-c", _DROP, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_who_has_less_keeps_what_it_has_of_it() -> None:
    less = ("setpriv", "--bounding-set", "-all,+net_admin,+net_raw,+sys_admin", "--inh-caps", "-all")
    done = dropping(less=less)
    assert done.returncode == 0, done.stdout + done.stderr
    itself = json.loads(done.stdout)["itself"]
    assert itself["CapPrm"] == itself["CapEff"] == itself["CapAmb"] == as_set(HANDED_ON)
    assert itself["NoNewPrivs"] == "1"


def test_another_natlb_can_be_given_all_that_is_kept() -> None:
    done = dropping()
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert {told["another natlb"][f"Cap{name}"] for name in ("Prm", "Eff", "Bnd", "Amb")} == {as_set(KEPT)}
    assert {told["others"][f"Cap{name}"] for name in ("Prm", "Eff", "Inh", "Amb")} == {as_set(HANDED_ON)}
    assert re.search(r"^Securebits: .*noroot_locked", told["securebits"], re.M)


def test_a_thread_that_was_there_before_is_noticed() -> None:
    done = dropping("thread")
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r"thread \d+ \(.+\) has kept its privileges; please report it\n", done.stdout)
