"""`natlb top` in a real terminal: it shows what goes on, its keys work, and it leaves the terminal as it was."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from netns.balancer import Natlb, ask
from netns.build import Lab
from netns.topology import SEED
from tests import haproxy
from tests.lab.support import Client, clients, shell, until

pytestmark = pytest.mark.root

VIP = SEED.balancer.ipv4
_PYTHON = shlex.join([sys.executable, "-P", "-m", "natlb", "top"])

_CONFIG = """\
global
    maxconn 940
    stats socket {socket} level admin
defaults
    timeout connect 5s
    timeout client 1m
    timeout server 1m
frontend www
    bind *:8888
    default_backend nodes
backend nodes
    server server1 44.3.3.3:4444 check inter 200ms
    server server2 44.4.4.4:5555 check inter 200ms
"""


@pytest.fixture(scope="module")
def served(lab: Lab) -> Lab:
    for server in lab.topology.servers:
        lab.start_web(server.name)
    return lab


@pytest.fixture
def natlb(served: Lab) -> Iterator[Natlb]:
    running = served.start_natlb(_CONFIG.format(socket=served.stats_socket))
    yield running
    if running.alive:
        assert running.stop() == 0


class Screen:
    """A terminal of its own, with a shell in it."""

    _numbers = count()

    def __init__(self, directory: Path, width: int = 80, height: int = 24, term: str = "screen") -> None:
        self._socket = directory / f"tmux-{next(self._numbers)}"
        shell_ = f"env TERM={term} PS1='$ ' sh"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), shell_)

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", str(self._socket), *arguments]
        environment = {**os.environ, "TERM": "xterm", "TMUX": "", "LC_ALL": "C.UTF-8"}
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10, env=environment).stdout

    def type(self, *keys: str) -> None:
        """Press keys, by tmux's names for them."""
        self._tmux("send-keys", *keys)

    def run(self, command: str) -> None:
        """Type a command."""
        self._tmux("send-keys", "-l", command)
        self.type("Enter")

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    @property
    def text(self) -> str:
        return self._tmux("capture-pane", "-p")

    @property
    def cursor_is_shown(self) -> bool:
        return self._tmux("display", "-p", "#{cursor_flag}").strip() == "1"

    @property
    def is_alternate(self) -> bool:
        return self._tmux("display", "-p", "#{alternate_on}").strip() == "1"

    def shows(self, pattern: str, seconds: float = 10.0) -> re.Match[str]:
        """Wait until something is to be seen, and return it."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            match = re.search(pattern, self.text)
            found.extend([match] if match else [])
            return bool(match)

        deadline = time.monotonic() + seconds
        while not look():
            assert time.monotonic() < deadline, f"{pattern!r} is not on the screen:\n{self.text}"
            time.sleep(0.05)
        return found[0]

    def pid(self, of: str) -> int:
        """Return the process of a program that runs in it."""
        (shell_,) = self._tmux("list-panes", "-F", "#{pane_pid}").split()
        seen = subprocess.run(["pgrep", "-P", shell_, "-f", of], check=True, capture_output=True, text=True)
        return int(seen.stdout.split()[0])

    def close(self) -> None:
        self._tmux("kill-server")


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    opened = Screen(tmp_path)
    yield opened
    opened.close()


def start(screen: Screen, lab: Lab, *options: str) -> None:
    screen.run(f"{_PYTHON} -s {lab.stats_socket} -i 0.3 {shlex.join(options)}; echo status $?")
    screen.shows(r"\[1 Proxies\]")


def is_clean(screen: Screen) -> None:
    """What the shell showed before is there again, echo too."""
    screen.shows(r"status 0\n")
    assert "Traceback" not in screen.text
    assert "[1 Proxies]" not in screen.text
    assert screen.cursor_is_shown
    assert not screen.is_alternate
    screen.run("echo it is e''choed; stty -a")
    screen.shows(r"\necho it is e''choed|\$ echo it is e''choed")
    screen.shows(r"(?<!-)\bicanon\b")
    screen.shows(r"(?<!-)\becho echoe\b")  # and not the word that was typed


def test_proxies_and_servers_are_shown_with_the_connections_made_here(
    served: Lab, natlb: Natlb, screen: Screen
) -> None:
    start(screen, served)
    screen.shows(r"www +frontend OPEN +0 ")
    with clients(served, "client", VIP, 4) as opened:
        assert {client.ask() for client in opened} == {"server1", "server2"}
        screen.shows(r"www +frontend OPEN +4 ")
        screen.shows(r"nodes +backend +UP +4 ")
        screen.type("2")
        screen.shows(r"\[2 Servers\]")
        screen.shows(r"nodes/server1 +UP +L4OK +1 +2 ")
        screen.shows(r"nodes/server2 +UP +L4OK +1 +2 ")
    screen.shows(r"nodes/server1 +UP +L4OK +1 +0 ")
    ask(served.stats_socket, "set server nodes/server2 state maint")
    screen.shows(r"nodes/server2 +MAINT")


def test_the_busiest_connection_is_on_top_with_its_rate(served: Lab, natlb: Natlb, screen: Screen) -> None:
    start(screen, served)
    screen.type("3")
    with clients(served, "client", VIP, 3) as opened:
        for client in opened:
            client.ask()
        ports = [client.socket.getsockname()[1] for client in opened]
        until_busy = time.monotonic() + 10
        while time.monotonic() < until_busy:
            opened[1].ask()
            if re.search(rf"BYTES\n44\.1\.1\.1:{ports[1]} +nodes/server. +ESTABLISHED +\d+s +\d\S* +\d", screen.text):
                break
        else:
            pytest.fail(screen.text)
        for port in ports:
            assert f"44.1.1.1:{port} " in screen.text


def test_keys_switch_sort_pause_help_and_quit(served: Lab, natlb: Natlb, screen: Screen) -> None:
    start(screen, served)
    for shown in ("2 Servers", "3 Connections", "1 Proxies"):
        screen.type("Tab")
        screen.shows(rf"\[{shown}\]")
    screen.type("s")
    screen.shows("by connections")
    screen.type("?")
    screen.shows("sort by something else")
    screen.type("?")
    screen.shows("PROXY +SIDE")
    screen.type("p")
    screen.shows("PAUSED")
    with clients(served, "client", VIP, 2):
        time.sleep(1)
        assert re.search(r"www +frontend OPEN +0 ", screen.text), "it stands still"
        screen.type("p")
        screen.shows(r"www +frontend OPEN +2 ")
    screen.type("q")
    is_clean(screen)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_as_cleanly(served: Lab, natlb: Natlb, screen: Screen, signum: signal.Signals) -> None:
    start(screen, served)
    if signum is signal.SIGINT:
        screen.type("C-c")
        until(lambda: not screen.is_alternate, "it reads no keys any more")
        # The shell drops the rest of the line that was interrupted.
        screen.run("echo status 0")
    else:
        os.kill(screen.pid("natlb top"), signum)
    is_clean(screen)


def test_it_can_be_suspended_and_goes_on(served: Lab, natlb: Natlb, screen: Screen) -> None:
    start(screen, served)
    screen.type("C-z")
    until(lambda: not screen.is_alternate, "the terminal is given back")
    assert screen.cursor_is_shown
    screen.run("echo between; fg")
    screen.shows(r"\[1 Proxies\]")
    assert screen.is_alternate
    screen.type("q")
    until(lambda: not screen.is_alternate, "it ends")


def test_it_follows_the_size_of_the_terminal(served: Lab, natlb: Natlb, screen: Screen) -> None:
    start(screen, served)
    screen.type("2")
    assert "ADDRESS" not in screen.text
    screen.resize(200, 50)
    screen.shows(r"ADDRESS")
    screen.shows(r"44\.3\.3\.3:4444")
    screen.shows(r"\A(.*\n){49}q quit.*\n*\Z")
    screen.resize(40, 10)
    until(lambda: "ADDRESS" not in screen.text and screen.text.count("\n") == 10, "it is small")
    screen.shows("q quit")


def test_when_natlb_is_away_it_says_so_and_goes_on_when_it_is_back(served: Lab, natlb: Natlb, screen: Screen) -> None:
    start(screen, served)
    assert natlb.stop() == 0
    screen.shows(r"Connection lost: cannot ask .*natlb\.sock.*")
    again = served.start_natlb(_CONFIG.format(socket=served.stats_socket))
    try:
        screen.shows("q quit")
        assert "Connection lost" not in screen.text
        with clients(served, "client", VIP, 1):
            screen.shows(r"www +frontend OPEN +1 ")
        screen.type("q")
        is_clean(screen)
    finally:
        assert again.stop() == 0


@pytest.mark.parametrize("term", ["vt100", "linux", "xterm-256color"])
def test_any_terminal_that_can_be_drawn_on_will_do(served: Lab, natlb: Natlb, tmp_path: Path, term: str) -> None:
    screen = Screen(tmp_path, term=term)
    try:
        start(screen, served)
        screen.shows(r"www +frontend OPEN +0 ")
        screen.type("q")
        screen.shows("status 0")
    finally:
        screen.close()


def test_where_nothing_can_be_drawn_samples_are_written_one_after_the_other(served: Lab, natlb: Natlb) -> None:
    client = Client(served, "client", VIP)
    server = client.ask()
    top = f"env TERM=dumb {_PYTHON} -s {served.stats_socket} -i 0.2"
    said = shell(served, "lb", f"{top} -n 2")
    client.close()
    assert said.count("[2 Servers]") == 2
    assert re.search(rf"44\.1\.1\.1:\d+ +nodes/{server} +ESTABLISHED", said)
    assert "\x1b" not in said
    assert shell(served, "lb", f"set +o pipefail; {top} | head -n 3; echo done").endswith("done\n")


def test_a_socket_that_is_not_there_is_one_line_and_exit_code_1(served: Lab) -> None:
    done = served.run("lb", ["sh", "-c", f"{_PYTHON} -s /run/nobody.sock"], names=False)
    assert done.returncode == 1
    assert done.stderr == (
        "natlb top: cannot ask /run/nobody.sock: No such file or directory; "
        "is natlb running, with 'stats socket' naming this path? -s names another\n"
    )


_HAPROXY = """\
global
    stats socket {socket} level operator
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen web
    bind 44.2.2.2:8889
    server server1 44.3.3.3:4444 check inter 200ms
    server nobody 44.3.3.3:9 check inter 200ms fall 1
"""


def test_a_haproxy_can_be_watched_as_well(served: Lab, screen: Screen, tmp_path: Path) -> None:
    stats = tmp_path / "h.sock"
    with haproxy.running(_HAPROXY.format(socket=stats), stats, lab=served):
        screen.run(f"{_PYTHON} -s {stats} -i 0.3")
        screen.shows(r"HAProxy 2\.\d")
        with clients(served, "client", VIP, 2, port=8889) as opened:
            assert opened[0].ask() == opened[1].ask() == "server1"
            screen.shows(r"web +frontend OPEN +2 ")
            screen.type("2")
            screen.shows(r"web/server1 +UP +L4OK +1 +2 ")
            screen.shows(r"web/nobody +DOWN +L4CON")
            screen.type("3")
            for client in opened:
                screen.shows(rf"44\.1\.1\.1:{client.socket.getsockname()[1]} +web/server1 ")
        screen.type("q")
