"""`lab.sh shell` as its users have it: at a terminal, with Tab and Ctrl-C and Ctrl-D, and fed from a pipe."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from netns.build import Lab
from netns.processes import PYTHON
from tests.lab.support import until

pytestmark = pytest.mark.root

PROMPT = re.compile(r"lab> $")


def command(lab: Lab) -> list[str]:
    return [*PYTHON, "netns", "--prefix", lab.prefix, "shell"]


def piped(lab: Lab, *lines: str) -> subprocess.CompletedProcess[str]:
    text = "".join(f"{line}\n" for line in lines)
    return subprocess.run(command(lab), input=text, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def no_lab(lab: Lab) -> Iterator[Lab]:
    """A lab that is not up, and is gone afterwards."""
    other = Lab(prefix=f"{lab.prefix}s-")
    try:
        yield other
        assert other.traces() == []
    finally:
        other.down()


# -- from a pipe


def test_a_line_runs_a_program_on_a_host(balanced: Lab) -> None:
    done = piped(balanced, "server1 ip -br -4 address show eth0", "lb cat /proc/sys/net/ipv4/ip_forward")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"eth0\S* +UP +44\.3\.3\.3 .*\n1\n", done.stdout)


def test_hosts_have_their_names_in_the_programs(balanced: Lab) -> None:
    done = piped(balanced, "client getent ahostsv4 vip", "client ping -4 -q -c 1 server2")
    assert done.returncode == 0
    assert done.stdout.startswith("44.2.2.2 ")
    assert "(44.4.4.4) " in done.stdout


def test_for_curl_a_name_is_the_page_and_all_else_is_as_ever(balanced: Lab) -> None:
    done = piped(
        balanced,
        "client curl -s server1 server2",
        "client curl -4 -s vip | head -n 1 >&2",
        "client for i in 1 2 3 4; do curl -4 -s vip; done | grep -c client",
        "client curl -s -o /dev/null -w '%{http_code} %{size_download}\\n' http://vip:8888/bytes/20",
    )
    assert done.returncode == 0
    assert re.fullmatch(r"server1\nclient .*\nserver2\nclient .*\n4\n200 20\n", done.stdout)
    assert re.fullmatch(r"server[12]\n", done.stderr)


def test_the_status_is_that_of_the_last_line(balanced: Lab) -> None:
    assert piped(balanced, "client exit 3", "client exit 7").returncode == 7
    assert piped(balanced, "client exit 3", "client true", "# a remark", "").returncode == 0
    assert piped(balanced, "client kill -9 $$").returncode == 128 + 9
    assert piped(balanced, "client exit 3", "exit", "client exit 4").returncode == 3


def test_programs_do_not_read_the_lines_that_come_after_theirs(balanced: Lab) -> None:
    done = piped(balanced, "client cat", "client echo still here")
    assert done.stdout == "still here\n"


def test_commands_of_the_lab_are_lines_too(balanced: Lab) -> None:
    done = piped(balanced, "hosts", "nat", "pingall", "break route", "break --tell", "heal", "status")
    assert (done.returncode, done.stderr) == (0, "")
    for seen in (
        r"\nlb +balancer, vip +44\.2\.2\.2 +fd44::2 +port 8888\n",
        r"\nclient +\. +yes +yes +yes\n(.*\n)*\n24 of 24 pings were answered\.\n",
        r"\nroute +server2 has no default route",
        r"\nHealed: route\.\n",
        r"\nlb +\d+ +natlb -f",
    ):
        assert re.search(seen, done.stdout), seen


def test_pingall_shows_what_is_missing(balanced: Lab) -> None:
    done = piped(balanced, "server2 ip -4 route del default", "pingall")
    back = piped(balanced, "server2 ip -4 route add default via 44.2.2.2 dev eth0 onlink", "pingall")
    assert done.returncode == 1
    assert re.search(r"^server1 +yes +yes +\. +IPv6 only$", done.stdout, re.M)
    assert "20 of 24 pings were answered." in done.stdout
    assert back.returncode == 0


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("mars curl vip", "'mars' is no host and no command; `help` lists them"),
        ("exec client true", "'exec' is no host and no command; `help` lists them"),
        ("client", "what is to be run on client? client PROGRAM..."),
        ("nat now", "this is given like this: nat"),
        ("ask 'show", "No closing quotation: 'show"),
        ("help mars", "there is no command 'mars'; `help` lists them"),
    ],
)
def test_a_line_that_makes_no_sense_is_answered_in_one_and_the_next_one_is_done(
    balanced: Lab, line: str, answer: str
) -> None:
    assert piped(balanced, line).returncode == 2
    done = piped(balanced, line, "client echo goes on")
    assert (done.returncode, done.stdout, done.stderr) == (0, "goes on\n", f"{answer}\n")


def test_what_fails_is_one_line(balanced: Lab) -> None:
    done = piped(balanced, "break luck")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    done = piped(balanced, "client no-such-program")
    assert (done.returncode, done.stderr) == (127, "bash: line 1: no-such-program: command not found\n")


def test_a_shell_without_a_lab_builds_one_and_takes_it_away(no_lab: Lab) -> None:
    done = piped(no_lab, "client curl -s vip", "down", "client true", "up", "client curl -s vip")
    assert done.returncode == 0
    assert len(re.findall(r"^server[12]$", done.stdout, re.M)) == 2
    assert done.stderr == "the lab is not up: `up` builds it\n"


# -- at a terminal


class Terminal:
    """A shell and the terminal that it is at."""

    def __init__(self, lab: Lab, **environment: str) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, command(lab), {**os.environ, "TERM": "dumb", **environment})
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C, as a person would: not within microseconds of the last key, while readline is still at it."""
        time.sleep(0.1)
        until(lambda: "State:\tS" in Path(f"/proc/{self.pid}/status").read_text(), "it waits")
        self.type("\x03")

    def read_until(self, pattern: str | re.Pattern[str], seconds: float = 20) -> str:
        """Return all that was shown since the last call, up to the pattern's first match."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self._seen)):
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self._seen!r}"
            if select.select([self._fd], [], [], left)[0]:
                self._seen += os.read(self._fd, 65536).decode()
        shown, self._seen = self._seen[: found.end()], self._seen[found.end() :]
        return shown

    def line(self, text: str) -> str:
        """Type a line and return what was shown until the next prompt."""
        self.type(f"{text}\r")
        self.read_until(re.escape(text[:20]))
        return self.read_until(PROMPT)

    def end(self) -> int:
        """Return the exit status; what is still shown is read, so that nobody waits for a reader."""
        with suppress(OSError):  # a terminal whose other side is gone
            while piece := os.read(self._fd, 65536):
                self._seen += piece.decode()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        os.close(self._fd)
        with suppress(ChildProcessError, ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@contextmanager
def terminal(lab: Lab) -> Iterator[Terminal]:
    with closing(Terminal(lab)) as opened:
        opened.read_until(PROMPT)
        yield opened


def residents(lab: Lab, command: str) -> list[str]:
    return [each.command for each in lab.residents() if each.command == command]


def test_ctrl_c_ends_what_runs_and_not_the_shell(balanced: Lab) -> None:
    with terminal(balanced) as shell:
        shell.type("client sleep 61\r")
        until(lambda: residents(balanced, "sleep 61"), "it sleeps")
        shell.interrupt()
        shell.read_until(PROMPT)
        assert residents(balanced, "sleep 61") == []
        shell.type("server1 tcpdump -n -i eth0 tcp\r")
        shell.read_until("listening on")
        shell.interrupt()
        assert "packets captured" in shell.read_until(PROMPT)
        assert "on\r\n" in shell.line("client echo still o''n")


def test_ctrl_c_ends_a_command_of_the_lab_and_not_the_shell(balanced: Lab) -> None:
    with terminal(balanced) as shell:
        assert balanced.run(
            "client", ["nft", "table inet slow { chain c { type filter hook output priority 0; drop; }; }"]
        )
        shell.type("pingall\r")
        until(lambda: any("ping -n -q" in each.command for each in balanced.residents()), "it pings")
        shell.interrupt()
        assert "interrupted" in shell.read_until(PROMPT)
        balanced.run("client", ["nft", "delete table inet slow"])
        assert "yes" in shell.line("pingall")


def test_ctrl_c_at_the_prompt_gives_up_the_line(balanced: Lab) -> None:
    with terminal(balanced) as shell:
        shell.type("client exit 9")
        shell.read_until("exit 9")
        shell.interrupt()
        shell.read_until(PROMPT)
        shell.type("\x04")
        assert shell.end() == 0


def test_ctrl_d_leaves_and_what_was_there_stays(balanced: Lab) -> None:
    with terminal(balanced) as shell:
        shell.line("client false")
        shell.type("\x04")
        assert shell.end() == 0
    assert balanced.is_up


def test_tab_completes_hosts_commands_programs_names_and_faults(balanced: Lab) -> None:
    with terminal(balanced) as shell:
        for typed, completed in (
            ("cli\t", "client "),
            ("ping\t", "pingall "),
            ("break ro\t", "break route "),
            ("client tcpdu\t", "client tcpdump "),
            ("client ping server2\t-", "client ping server2 -"),
            ("client cat /proc/sys/kernel/hostn\t", "client cat /proc/sys/kernel/hostname"),
            ("help hea\t", "help heal "),
        ):
            shell.type(typed)
            shell.read_until(re.escape(completed))
            shell.interrupt()
            shell.read_until(PROMPT)


def test_what_was_typed_comes_back_also_in_the_next_shell(balanced: Lab) -> None:
    with terminal(balanced) as shell:
        shell.line("client echo o''nce")
        shell.type("\x04")
        assert shell.end() == 0
    with terminal(balanced) as shell:
        shell.type("\x1b[A")
        shell.read_until("echo o''nce")
        shell.type("\r")
        assert "once" in shell.read_until(PROMPT)
        assert "client echo o''nce" in shell.line("history")


def test_a_host_alone_is_a_shell_on_it(balanced: Lab) -> None:
    with closing(Terminal(balanced, SHELL="/bin/sh")) as shell:
        shell.read_until(PROMPT)
        shell.type("server1\r")
        shell.read_until(r"[#$] $")
        shell.type("ip -br -4 address show eth0\r")
        shell.read_until(r"44\.3\.3\.3")
        shell.type("exit\r")
        shell.read_until(PROMPT)


def test_whoever_ends_the_shell_ends_what_runs_in_it(no_lab: Lab) -> None:
    with closing(Terminal(no_lab)) as shell:
        shell.read_until("Building")
        shell.read_until(PROMPT)
        shell.type("client sleep 62\r")
        until(lambda: residents(no_lab, "sleep 62"), "it sleeps")
        os.kill(shell.pid, signal.SIGHUP)
        assert shell.end() == 128 + signal.SIGHUP
    assert no_lab.traces() == []


@pytest.mark.parametrize("moment", [0.0, 0.2, 0.5])
def test_ctrl_c_while_it_builds_leaves_nothing(no_lab: Lab, moment: float) -> None:
    with closing(Terminal(no_lab)) as shell:
        shell.read_until("Building")
        time.sleep(moment)
        shell.interrupt()
        built = "interrupted" not in shell.read_until(f"interrupted|{PROMPT.pattern}")
        if built:  # it was done by then
            shell.type("\x04")
        assert shell.end() == (0 if built else 128 + signal.SIGINT)
    assert no_lab.traces() == []


def test_down_clears_away_a_shell_that_was_killed(no_lab: Lab) -> None:
    with terminal(no_lab) as shell:
        shell.line("break flood")
        shell.line("break server")
        shell.type("server2 sleep 63\r")
        until(lambda: residents(no_lab, "sleep 63"), "it sleeps")
        os.kill(shell.pid, signal.SIGKILL)
        os.waitpid(shell.pid, 0)
    assert no_lab.residents()
    no_lab.down()
    assert no_lab.traces() == []


def test_two_shells_in_two_labs_know_which_is_which(balanced: Lab, no_lab: Lab) -> None:
    with terminal(balanced) as one, closing(Terminal(no_lab)) as two:
        two.read_until(re.escape(f"{no_lab.prefix}lab> ") + "$")
        two.line("server2 ip -4 route del default")
        assert "24 of 24" in one.line("pingall")
        assert "24 of 24" not in two.line("pingall")
        two.type("\x04")
        assert two.end() == 0
        assert "24 of 24" in one.line("pingall")


def test_help_fits_the_terminal(balanced: Lab) -> None:
    shown = piped(balanced, "help").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert re.search(r"^HOST PROGRAM\.\.\. +run it there", shown, re.M)
    assert re.fullmatch(r"heal \[FAULT\]  undo what was broken\n", piped(balanced, "help heal").stdout)


def test_nothing_of_a_shell_is_left_in_the_home_directory(balanced: Lab, tmp_path: Path) -> None:
    with closing(Terminal(balanced, HOME=str(tmp_path))) as shell:
        shell.read_until(PROMPT)
        shell.line("client true")
        shell.type("\x04")
        assert shell.end() == 0
    assert list(tmp_path.iterdir()) == []
