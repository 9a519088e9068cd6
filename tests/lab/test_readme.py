"""What README.md and the pages in docs tell the reader to do, done as they tell it.

Every `console` block is run and every `haproxy` block is used: in the lab, whose servers have the addresses of the
README's configuration, with the reader at the balancer. A command that these tests do not know how to run fails them.
"""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns.balancer import READY, Natlb
from netns.build import Lab
from netns.topology import SEED
from tests.lab.support import answering_server, until

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "docs/architecture.md",
    "docs/firewall.md",
    "docs/metrics.md",
    "docs/nat.md",
    "docs/running.md",
    "docs/top.md",
)

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)

_PROVEN_ELSEWHERE = {
    "sudo scripts/lab.sh": "test_lab_script.py runs it",
    "sudo scripts/test.sh": "is what runs this test",
    "sudo apt update": "scripts/setup.sh router does it",
    "sudo apt install --no-install-recommends iptables libbpf1 pipx gcc python3-dev libnetfilter-queue-dev socat": (
        "scripts/setup.sh router installs these, but for pipx"
    ),
    "sudo PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx install .": "test_installing.py installs the wheel",
    "sudo systemctl daemon-reload": "there is no systemd in the lab; test_installing.py has it look at the unit",
    "sudo systemctl enable --now natlb": "as above",
}

_THE_TWO = ["sudo scripts/lab.sh", "sudo scripts/test.sh"]

_FOLLOWED_ELSEWHERE = {
    "docs/explain.md": "test_page.py of tests/unit/replay follows it",
    "docs/fuzzing.md": "test_page.py of tests/unit/fuzz follows it",
    "docs/lab.md": "test_lab_script.py follows it",
    "docs/performance.md": "test_bench.py reads its commands",
    "docs/soak.md": "test_soak.py reads its commands, and does the same",
}

_SOCKET = "/run/natlb/admin.sock"
"""Where the README has the stats socket: on the reader's machine, which may have a natlb of its own."""


def blocks(page: str, language: str) -> list[str]:
    return [body for found, body in _BLOCK.findall((ROOT / page).read_text()) if found == language]


def commands(page: str) -> list[str]:
    """All commands of a page, without their prompts, in the order in which the reader types them."""
    lines = [line for block in blocks(page, "console") for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines), f"not a command in {page}: {lines}"
    return [line.removeprefix("$ ") for line in lines]


class Reader:
    """Someone at the balancer who follows a page, in a directory that looks like a clone to the commands."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        self.socket = directory / "natlb.sock"
        self.pidfile = directory / "natlb.pid"
        self.natlb: Natlb | None = None
        for name in (".venv", "scripts"):
            (directory / name).symlink_to(ROOT / name)

    def write(self, configuration: str) -> None:
        """Write down the configuration of the page, with the stats socket in the reader's own directory."""
        assert configuration.count(_SOCKET) == 1
        (self.directory / "web.cfg").write_text(configuration.replace(_SOCKET, str(self.socket)))

    def follow(self, command: str) -> str:
        """Run a command of the page as the page has it, but for `sudo`; return what it printed."""
        mine = re.sub(r"\bsudo ", "", command).replace(_SOCKET, str(self.socket))
        # Where the reader has pipx's natlb, we have ours, and what it installs goes below the reader's own directory.
        mine = re.sub(r"^natlb install-service$", f".venv/bin/natlb install-service --root {self.directory}", mine)
        mine = re.sub(r"^natlb -c -f /", f".venv/bin/natlb -c -f {self.directory}/", mine)
        mine = re.sub(r"^natlb -D", ".venv/bin/natlb -D", mine).replace("/run/natlb.pid", str(self.pidfile))
        if command in _PROVEN_ELSEWHERE:
            return ""
        if mine == "scripts/setup.sh router":
            # Not from the reader's directory: pip would install that.
            return self._finish(["bash", "-euc", mine], cwd=ROOT)
        if re.fullmatch(r"\.venv/bin/natlb -f \S+( --metrics \d+)?", mine):
            return self._start(mine)
        if re.fullmatch(
            r"\.venv/bin/natlb (-c -f|install-service --root) \S+|"
            r"\.venv/bin/natlb -D -f web\.cfg -p (\S+)( -sf \$\(cat \2\))?",
            mine,
        ) or re.fullmatch(
            r'echo "(show|shutdown) [\w /]+" \| socat - \S+|curl -sSf http://127\.0\.0\.1:\d+/metrics|'
            r"\.venv/bin/natlb top -s \S+ -n \d+",
            mine,
        ):
            return self._finish(self.lab.command("lb", ["bash", "-o", "pipefail", "-euc", mine], names=False))
        if re.fullmatch(r"iptables [\w ,.-]+", mine):
            return self._finish(self.lab.command("lb", shlex.split(mine), names=False))
        if re.fullmatch(r"\.venv/bin/python -m tests\.bench\.scale --plot docs/scale\.svg", mine):
            drawn = mine.replace("docs/", f"{self.directory}/") + " --quick"
            return self._finish(["bash", "-euc", drawn], cwd=ROOT)
        if re.fullmatch(r"\.venv/bin/python -m pytest tests/bench -m bench -s", mine):
            return self._finish(["bash", "-euc", f"{mine} --collect-only"], cwd=ROOT)
        pytest.fail(f"the page has a command that nobody has taught this test to run: {command}")

    def _finish(self, argv: list[str], cwd: Path | None = None) -> str:
        done = subprocess.run(
            argv,
            cwd=cwd or self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _start(self, command: str) -> str:
        # What it records would be in /run, as the reader's own would be.
        kept = ["--state", str(self.directory / "state")]
        argv = self.lab.command("lb", ["env", "-C", str(self.directory), *shlex.split(command), *kept], names=False)
        self.natlb = Natlb("natlb", argv, self.directory / "log", self.socket)
        self.natlb.wait_for(READY)
        return self.natlb.log()


@pytest.fixture
def reader(served: Lab, tmp_path: Path) -> Iterator[Reader]:
    made = Reader(served, tmp_path)
    yield made
    if made.natlb is not None:
        made.natlb.stop()


_PRINTED = {
    "install-service": r"\Awrote     .*/etc/systemd/system/natlb.service\n",
    "-c -f": r"\AConfiguration file is valid\n\Z",
    "natlb -f": r"set net\.ipv4\.ip_forward to 1[^$]*natlb is ready",
    "show sess": r"\A0x1: proto=tcpv4 src=44\.1\.1\.1:\d+ fe=www be=nodes srv=server[12] ts=\w+ ",
}
"""What the reader should see, by a part of the command."""


def test_the_readme_can_be_followed_from_top_to_bottom(reader: Reader) -> None:
    (configuration,) = blocks("README.md", "haproxy")
    reader.write(configuration)
    used = set()
    for command in commands("README.md"):
        printed = reader.follow(command)
        for part in (part for part in _PRINTED if part in command):
            assert re.search(_PRINTED[part], printed), f"{command}\n{printed}"
            used.add(part)
        if reader.natlb is not None and "natlb -f" in command:
            answers = {answering_server(reader.lab, "client", SEED.balancer.ipv4) for _ in range(2)}
            assert answers == {"server1", "server2"}
    assert used == set(_PRINTED)
    assert reader.natlb is not None
    assert reader.natlb.stop() == 0
    assert not reader.socket.exists()
    assert "NATLB" not in reader.lab.run("lb", ["iptables-save"], names=False).stdout


def test_the_commands_of_the_architecture_work(reader: Reader) -> None:
    assert blocks("docs/architecture.md", "haproxy") == []
    (printed,) = [reader.follow(command) for command in commands("docs/architecture.md")]
    assert re.search(r"[1-9]\d*(/\d+)? tests? collected", printed)


def test_the_configurations_and_commands_of_the_page_about_packets_work(reader: Reader) -> None:
    head = f"global\n    stats socket {_SOCKET} level admin\n"
    reader.write(head + "".join(blocks("docs/nat.md", "haproxy")))
    reader.follow(".venv/bin/natlb -c -f web.cfg")
    reader.follow("sudo .venv/bin/natlb -f web.cfg")
    printed = {command: reader.follow(command) for command in commands("docs/nat.md")}
    (activity,) = [text for command, text in printed.items() if "show activity" in command]
    assert re.search(r"^packets: \d+$", activity, re.M)
    (shutdown,) = [text for command, text in printed.items() if "shutdown" in command]
    assert shutdown == "\n", "obeyed, and nothing to say"
    (costs,) = [text for command, text in printed.items() if "tests.bench.scale" in command]
    assert re.search(r"^ +10,000 +\d+ ", costs, re.M)
    assert (reader.directory / "scale.svg").read_text().startswith("<?xml")


def test_the_commands_of_the_pages_about_watching_work(reader: Reader) -> None:
    (configuration,) = blocks("README.md", "haproxy")
    reader.write(configuration)
    printed = {
        command: reader.follow(command) for page in ("docs/metrics.md", "docs/top.md") for command in commands(page)
    }
    (metrics,) = [text for command, text in printed.items() if "curl" in command]
    assert "\nnatlb_connections 0.0\n" in metrics
    (shown,) = [text for command, text in printed.items() if "natlb top" in command]
    assert re.search(r"^www +frontend OPEN +0 ", shown, re.M)


def test_the_commands_of_the_page_about_running_work(reader: Reader) -> None:
    (configuration,) = blocks("README.md", "haproxy")
    reader.write(configuration)
    *listed, takeover = commands("docs/running.md")
    printed = {command: reader.follow(command) for command in listed}
    assert [text for command, text in printed.items() if "natlb -c" in command] == ["Configuration file is valid\n"]
    (installed,) = [text for command, text in printed.items() if "install-service" in command]
    assert f"wrote     {reader.directory}/etc/natlb/natlb.cfg\n" in installed
    numbers = []
    for command in (takeover.partition(" -sf ")[0], takeover):
        reader.follow(command)
        numbers.append(int(reader.pidfile.read_text()))
    old, new = (Path(f"/proc/{number}") for number in numbers)
    until(lambda: not old.exists(), "the old one has ended")
    assert new.exists()
    os.kill(numbers[1], signal.SIGTERM)
    until(lambda: not new.exists(), "the new one has ended")


_BEHIND_THE_FIREWALL = """
listen local
    bind *:8889
    server local 127.0.0.1:4444 check
frontend nobody
    bind *:8890
"""
"""What docs/firewall.md has besides the README's configuration: a server on this machine, and a client to refuse."""

_CHAINS = ("INPUT", "FORWARD", "OUTPUT")


@pytest.fixture
def firewall(reader: Reader) -> Iterator[Reader]:
    """A reader whose firewall is taken away at the end."""
    yield reader
    if reader.natlb is not None:
        assert reader.natlb.stop() == 0
    for arguments in (*(f"-P {chain} ACCEPT" for chain in _CHAINS), "-F", "-t raw -F PREROUTING"):
        reader.follow(f"iptables {arguments}")


def packets(reader: Reader, chain: str) -> list[int]:
    """How many packets have met each rule of a chain."""
    return [int(line.split()[0]) for line in reader.follow(f"iptables -vxnL {chain}").splitlines()[2:]]


@pytest.mark.parametrize("firewall_first", [True, False])
def test_the_firewall_of_its_page_lets_natlb_work_and_each_of_its_rules_is_met(
    firewall: Reader, firewall_first: bool
) -> None:
    (configuration,) = blocks("README.md", "haproxy")
    firewall.write(configuration + _BEHIND_THE_FIREWALL)
    local = firewall.lab.start_web("lb", 4444, "local", "127.0.0.1")
    steps = [commands("docs/firewall.md"), ["sudo .venv/bin/natlb -f web.cfg"]]
    for step in steps if firewall_first else reversed(steps):
        for command in step:
            firewall.follow(command)
    for chain in _CHAINS:
        assert firewall.follow(f"iptables -S {chain}").startswith(f"-P {chain} DROP\n")
        firewall.follow(f"iptables -I {chain} -p tcp -m multiport --ports 8888,8889")

    def ask(host: str, port: int = 8888) -> str:
        return answering_server(firewall.lab, host, SEED.balancer.ipv4, port=port)

    assert {ask("client") for _ in range(4)} == {"server1", "server2"}
    assert ask("client", 8889) == "local"
    assert "Failed to connect" in ask("client", 8890)
    for chain in _CHAINS:
        until(lambda chain=chain: all(packets(firewall, chain)[1:]), f"each rule of {chain} is met")
    assert [packets(firewall, chain)[0] for chain in _CHAINS] == [0, 0, 0], "the firewall has seen the virtual port"
    assert {ask("lb") for _ in range(4)} == {"server1", "server2"}
    seen = [packets(firewall, chain)[0] > 0 for chain in _CHAINS]
    assert seen == [True, False, False], "a client on this machine gets answers from the virtual port"
    local.kill()


def test_nobody_gets_around_natlb_behind_the_firewall_of_its_page(firewall: Reader) -> None:
    (configuration,) = blocks("README.md", "haproxy")
    firewall.write(configuration)
    firewall.follow("sudo .venv/bin/natlb -f web.cfg")
    server = SEED.servers[0]

    def directly() -> str:
        return answering_server(firewall.lab, "client", server.ipv4, port=server.port, seconds=1)

    closing = [command for command in commands("docs/firewall.md") if "-t raw" in command]
    for command in commands("docs/firewall.md"):
        if command not in closing:
            firewall.follow(command)
    assert directly() == "server1", "else there is nothing to close"
    for command in closing:
        firewall.follow(command)
    assert "timed out" in directly()
    answers = {answering_server(firewall.lab, "client", SEED.balancer.ipv4) for _ in range(2)}
    assert answers == {"server1", "server2"}


def test_no_page_has_commands_that_nobody_follows() -> None:
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))}
    assert {page for page in pages if blocks(page, "console")} == {*PAGES, *_FOLLOWED_ELSEWHERE}


def test_the_two_commands_at_the_top_are_those_that_are_proven_elsewhere() -> None:
    assert commands("README.md")[:2] == _THE_TWO
    for command in _THE_TWO:
        assert (ROOT / command.removeprefix("sudo ")).stat().st_mode & 0o111


@pytest.mark.parametrize(
    "command", ["sudo rm -rf x", "sudo scripts/lab.sh up", "iptables -F; true", ".venv/bin/natlb -c -f web.cfg; true"]
)
def test_a_command_that_nobody_taught_this_test_fails_it(reader: Reader, command: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="nobody has taught"):
        reader.follow(command)
