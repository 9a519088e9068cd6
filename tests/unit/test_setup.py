"""`scripts/setup.sh` where all that it would install with is made up: no package, no network, no file of the system's.

While packages are installed a file keeps their services from starting. It must not outlive that.
"""

import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
POLICY = "/usr/sbin/policy-rc.d"

_TOOLS = ("bash", "sh", "cat", "cksum", "cut", "sed", "grep", "rm", "chmod", "touch", "mkdir", "cp", "dirname")

_MADE_UP = {
    "id": "echo 0",
    "apt-get": 'cp policy policy-seen 2>/dev/null; [ ! -e deadly ] || kill -9 "$PPID"',
    "python3": """\
case "$*" in
"-m venv .venv") mkdir -p .venv/bin; cp bin/python3 .venv/bin/python ;;
esac""",
}


@dataclass
class Machine:
    """A clone of the project on a machine that has next to nothing, which it installs."""

    root: Path

    @property
    def policy(self) -> Path:
        return self.root / "policy"

    def set_up(self) -> int:
        return subprocess.run(
            [self.root / "scripts" / "setup.sh", "router"],
            env={"PATH": str(self.root / "bin")},
            capture_output=True,
            check=False,
            timeout=60,
        ).returncode

    def killed_in_the_middle(self) -> None:
        (self.root / "deadly").touch()
        assert self.set_up() == -signal.SIGKILL
        (self.root / "deadly").unlink()

    def what_apt_saw(self) -> str:
        seen = self.root / "policy-seen"
        return seen.read_text() if seen.exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "bin").mkdir()
    text = (ROOT / "scripts" / "setup.sh").read_text()
    assert POLICY in text
    script = tmp_path / "scripts" / "setup.sh"
    script.write_text(text.replace(POLICY, str(tmp_path / "policy")))
    script.chmod(0o755)
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    for tool in _TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or "")
    for name, body in _MADE_UP.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return Machine(tmp_path)


def test_no_service_starts_while_packages_are_installed_and_any_may_afterwards(machine: Machine) -> None:
    assert machine.set_up() == 0
    assert machine.what_apt_saw().endswith("\nexit 101\n")
    assert subprocess.run([shutil.which("sh") or "", machine.root / "policy-seen"], check=False).returncode == 101
    assert not machine.policy.exists()


def test_the_next_run_takes_away_what_one_that_was_killed_has_left(machine: Machine) -> None:
    machine.killed_in_the_middle()
    assert machine.policy.exists()
    assert machine.set_up() == 0
    assert machine.what_apt_saw().endswith("\nexit 101\n")
    assert not machine.policy.exists()


def test_it_does_so_too_when_there_is_nothing_to_install_any_more(machine: Machine) -> None:
    machine.killed_in_the_middle()
    left = machine.policy.read_text()
    assert machine.set_up() == 0
    machine.policy.write_text(left)
    assert machine.set_up() == 0
    assert not machine.policy.exists()


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 101\n", "#!/bin/sh\n# mine\nexit 101\n", ""])
def test_what_somebody_else_has_written_stays(machine: Machine, text: str) -> None:
    machine.policy.write_text(text)
    assert machine.set_up() == 0
    assert machine.policy.read_text() == machine.what_apt_saw() == text


def test_what_another_run_needs_stays_while_it_runs(machine: Machine) -> None:
    machine.killed_in_the_middle()
    written = machine.policy.read_text()
    [writer] = [line.split()[-1] for line in written.splitlines() if line.startswith("#") and line[-1].isdigit()]
    sleeper = subprocess.Popen(["bash", "-c", "read", "setup.sh"], stdin=subprocess.PIPE)
    try:
        machine.policy.write_text(written.replace(writer, str(sleeper.pid)))
        assert machine.set_up() == 0
        assert machine.policy.exists()
    finally:
        sleeper.communicate()
    assert machine.set_up() == 0
    assert not machine.policy.exists()
