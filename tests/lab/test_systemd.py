"""The unit as it is installed, run by a systemd that is real: in namespaces of its own, with nothing but natlb to run.

Whatever the unit forbids is forbidden here, so what natlb does in it, it may do in there.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from natlb import installing
from netns.processes import every
from tests.lab.support import until

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]

_PYTHON = Path(sys.prefix).resolve() / "bin" / "python"

_MANAGER = Path("/lib/systemd/systemd")

_BOOT = """#!/bin/bash
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t proc proc /proc
mkdir -p /run/systemd/system
printf '[Unit]\\nDescription=nothing\\nDefaultDependencies=no\\n' >/run/systemd/system/nothing.target
ip link set lo up
ip link add outside type veth peer name client
ip address add 10.9.0.1/24 dev outside
ip link set outside up
ip link set client up
exec env -i container=test PATH="$PATH" {manager} --system --unit=nothing.target --log-target=null --show-status=no
"""

_CONFIG = """\
global
    stats socket /run/natlb/admin.sock mode 600 level admin
defaults
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen web
    bind *:8888
    server one 127.0.0.1:4444
"""

_ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.settimeout(20)
    client.connect("/run/natlb/admin.sock")
    client.sendall(sys.argv[1].encode() + b"\\n")
    while piece := client.recv(65536):
        sys.stdout.write(piece.decode())
"""

_TALK = """
import json, socket, subprocess, sys, threading
def echo(connection):
    while data := connection.recv(100):
        connection.sendall(data)
def serve():
    while True:
        threading.Thread(target=echo, args=[listening.accept()[0]], daemon=True).start()
listening = socket.create_server(("127.0.0.1", 4444))
threading.Thread(target=serve, daemon=True).start()
client = socket.create_connection(("10.9.0.1", 8888), 60)
def say(what):
    client.sendall(what)
    return client.recv(100).decode()
before = say(b"before")
status = subprocess.run(sys.argv[1], shell=True).returncode
print(json.dumps([before, status, say(b"after")]))
"""

_SLOW = 60.0
"""Seconds for what takes one or two: the machine may be busy."""


class Systemd:
    """A systemd, and what is to be asked of it."""

    def __init__(self, boot: Path, cgroup: Path) -> None:
        self.cgroup = cgroup
        cgroup.mkdir()
        enter = f"echo $$ >{cgroup}/cgroup.procs && exec unshare -mpfCniu --kill-child {boot}"
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._outer = subprocess.Popen(["sh", "-c", enter], start_new_session=True, **quiet)
        self._inner = 0

    def wait(self) -> None:
        """Return when it takes commands."""
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        for _ in every(0.1, _SLOW):
            found = children.read_text().split()
            if found and Path(f"/proc/{found[0]}/comm").read_text() == "systemd\n":
                self._inner = int(found[0])
                if self.run("systemctl", "show", "-p", "Version").returncode == 0:
                    return
        pytest.fail("systemd does not come up in namespaces of its own")

    def run(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in there."""
        enter = ["nsenter", "-t", str(self._inner), "-m", "-p", "-C", "-n", "-i", "-u", *argv]
        return subprocess.run(enter, capture_output=True, text=True, check=False, timeout=200)

    def did(self, *argv: str) -> str:
        """Run a command in there that must succeed; return what it printed."""
        done = self.run(*argv)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}{self.log()}"
        return done.stdout

    def ask(self, command: str) -> str:
        """Ask natlb in there."""
        return self.did(str(_PYTHON), "-c", _ASK, command)

    def shows(self, name: str) -> str:
        """A property of the service."""
        return self.did("systemctl", "show", "-p", name, "--value", "natlb").strip()

    def log(self) -> str:
        return self.run("cat", "/run/natlb.log").stdout

    def close(self) -> None:
        """End it, with all that runs in it."""
        if self._inner:
            os.kill(self._inner, signal.SIGKILL)
        else:
            self._outer.kill()
        self._outer.wait()
        inside = [self.cgroup, *(path for path in self.cgroup.rglob("*") if path.is_dir())]
        until(lambda: not any((path / "cgroup.procs").read_text() for path in inside), "all of it has ended", _SLOW)
        for path in reversed(inside):
            path.rmdir()


def _cgroups() -> Path | None:
    """Where control groups of the second version are, if they can be made here."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2" and "rw" in options.split(","):
            return Path(place)
    return None


@pytest.fixture(scope="module")
def systemd() -> Iterator[Systemd]:
    cgroups = _cgroups()
    if cgroups is None or not _MANAGER.exists():
        pytest.skip("there is no systemd, or no cgroup2 that can be written to (/proc/mounts)")
    # Not below /tmp, which the service does not see.
    place = Path(tempfile.mkdtemp(prefix="natlb-test-", dir="/var/lib"))
    place.chmod(0o755)
    started = None
    try:
        shutil.copytree(ROOT / "natlb", place / "natlb", ignore=shutil.ignore_patterns("__pycache__"))
        program = place / "run"
        program.write_text(f'#!/bin/sh\nPYTHONPATH={place} exec {_PYTHON} -P -m natlb "$@"\n')
        program.chmod(0o755)
        config = place / "natlb.cfg"
        config.write_text(_CONFIG)
        installing.install(place / "root", config, [str(program)])
        boot = place / "boot"
        boot.write_text(_BOOT.format(manager=_MANAGER))
        boot.chmod(0o755)
        started = Systemd(boot, cgroups / place.name)
        started.wait()
        unit = (place / "root" / str(installing.UNIT).lstrip("/")).read_text()
        # Python may be below /tmp, of which the service has one of its own.
        unit = unit.replace("[Install]", f"BindReadOnlyPaths={Path(sys.prefix).resolve()}\n[Install]")
        # Of the system that it is written for, only the network is left out, and the log is to be read here.
        unit = re.sub(r"(?m)^(After|Wants)=.*\n", "", unit).replace("[Unit]", "[Unit]\nDefaultDependencies=no")
        unit = unit.replace("[Install]", "StandardOutput=append:/run/natlb.log\nStandardError=inherit\n[Install]")
        started.did("sh", "-c", f"cat >/run/systemd/system/natlb.service <<'end'\n{unit}\nend")
        started.did("systemctl", "daemon-reload")
        yield started
    finally:
        if started is not None:
            started.close()
        shutil.rmtree(place)


@pytest.fixture
def service(systemd: Systemd) -> Iterator[Systemd]:
    """natlb as a service that has just been started, and that is stopped afterwards."""
    systemd.did("systemctl", "start", "natlb")
    yield systemd
    systemd.did("systemctl", "stop", "natlb")
    assert systemd.shows("ActiveState") == "inactive"
    assert "Traceback" not in systemd.log()
    assert "internal error" not in systemd.log()
    assert "NATLB" not in systemd.did("iptables-save")
    systemd.run("systemctl", "reset-failed", "natlb")  # how often it was started is forgotten, if it is not already


def test_started_it_is_ready_and_all_that_it_does_is_allowed(service: Systemd) -> None:
    assert service.shows("StatusText").startswith("answering at ")
    assert service.ask("show offload").startswith("state: on\n")
    for wanted in ("off", "on"):
        assert service.ask(f"set offload {wanted}") == "\n"
    assert "IP changed" in service.ask("set server web/one addr 10.9.0.2 port 80")
    assert service.ask("set profiling packets on") == "\n"
    status = service.did("cat", f"/proc/{service.shows('MainPID')}/status")
    assert re.search(r"^Seccomp:\s+2$", status, re.M)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    assert service.did("stat", "-c", "%a %U", "/run/natlb", "/run/natlb/admin.sock") == "700 root\n600 root\n"


def test_below_run_it_may_write_to_its_own_directory_and_the_lock_of_iptables_alone(service: Systemd) -> None:
    def may_write(name: str) -> bool:
        return service.run("nsenter", "-t", service.shows("MainPID"), "-m", "touch", f"/run/{name}").returncode == 0

    names = ("natlb/new", "xtables.lock", "new", "systemd/system/new.service")
    assert [name for name in names if may_write(name)] == ["natlb/new", "xtables.lock"]
    service.did("rm", "/run/natlb/new")


def test_it_cannot_have_systemd_start_what_may_do_more(service: Systemd) -> None:
    ask = ("systemctl", "show", "-p", "Version")
    assert service.run(*ask).returncode == 0
    asked = service.run("nsenter", "-t", service.shows("MainPID"), "-m", *ask)
    assert asked.returncode != 0
    assert "Failed to connect" in asked.stderr


def talk(service: Systemd, meanwhile: str) -> list[object]:
    """Have a client talk through natlb, run a command, and have it talk on; return what it heard and the status."""
    found: list[object] = json.loads(service.did(str(_PYTHON), "-c", _TALK, meanwhile))
    return found


def test_a_reload_keeps_what_is_open_and_the_watchdog_knows_the_new_one(service: Systemd) -> None:
    old = service.shows("MainPID")
    assert talk(service, "systemctl reload natlb") == ["before", 0, "after"]
    new = service.shows("MainPID")
    assert new != old
    until(lambda: service.shows("StatusText").endswith(" usable"), "the new one says how it is", _SLOW)
    assert (service.shows("MainPID"), service.shows("NRestarts")) == (new, "0")
    assert f"natlb {new} goes on from here" in service.log()


def test_a_reload_with_a_mistake_says_so_and_changes_nothing(service: Systemd) -> None:
    old = service.shows("MainPID")
    config = re.search(r"-f (\S+)", service.shows("ExecStart"))
    assert config
    spoil = f"sed -i s/server/serrver/ {config[1]}; systemctl reload natlb"
    [before, status, after] = talk(service, spoil)
    service.did("sed", "-i", "s/serrver/server/", config[1])
    assert (before, after) == ("before", "after")
    assert status != 0
    assert service.shows("MainPID") == old
    assert "unknown keyword 'serrver'" in service.log()


def test_killed_it_is_started_again_at_once_and_what_is_open_goes_on(service: Systemd) -> None:
    killed = service.shows("MainPID")
    assert talk(service, f"kill -9 {killed}") == ["before", 0, "after"]
    until(lambda: service.shows("NRestarts") == "1" and service.shows("SubState") == "running", "it is back", _SLOW)
    assert service.shows("MainPID") != killed
    assert service.ask("show offload").startswith("state: on\n")


def test_hung_it_is_noticed_and_started_again(service: Systemd) -> None:
    hung = service.shows("MainPID")
    service.did("kill", "-STOP", hung)
    until(lambda: service.shows("NRestarts") == "1" and service.shows("SubState") == "running", "it is back", _SLOW)
    assert service.shows("MainPID") != hung


def test_a_fault_at_every_start_is_not_tried_for_ever(service: Systemd) -> None:
    service.did("systemctl", "stop", "natlb")
    holder = "import socket, time; s = socket.socket(); s.bind(('', 8888)); s.listen(); time.sleep(600)"
    service.did("sh", "-c", f'{_PYTHON} -c "{holder}" >/dev/null 2>&1 & echo $! >/run/holder')
    until(lambda: ":8888" in service.did("ss", "-ltn"), "the port is held")
    assert service.run("systemctl", "start", "natlb").returncode != 0
    until(lambda: service.shows("ActiveState") == "failed", "it is given up", 2 * _SLOW)
    assert "cannot bind socket (Address already in use)" in service.log()
    service.did("sh", "-c", "kill $(cat /run/holder)")
    service.did("systemctl", "reset-failed", "natlb")
