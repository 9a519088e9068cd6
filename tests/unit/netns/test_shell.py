"""The prompt without a lab: what it completes, what it says of itself, and what curl means there."""

import os
import socket
import subprocess
from dataclasses import dataclass

import pytest

from netns import pings
from netns.__main__ import COMMANDS
from netns.build import Lab
from netns.draw import Pen
from netns.shell import Shell
from netns.topology import SEED


@pytest.fixture
def shell():
    return Shell(Lab(prefix="no-such-lab-"), Pen(), COMMANDS)


def complete(shell, line):
    """All that Tab offers at the end of a line, as the module cmd asks for it."""
    begin = line.rfind(" ") + 1
    if not begin:
        return shell.completenames(line, line, 0, len(line))
    find = getattr(shell, f"complete_{line.split()[0]}", shell.completedefault)
    return find(line[begin:], line, begin, len(line))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("serv", ["server1 ", "server2 "]),
        ("pi", ["pingall "]),
        ("ex", ["exec ", "exit "]),
        ("break m", ["mtu "]),
        ("break --", ["--tell "]),
        ("heal dr", ["drain "]),
        ("start ha", ["haproxy "]),
        ("see se", ["segments "]),
        ("client ping vi", ["vip "]),
        ("client cat /etc/hostn", ["/etc/hostname"]),
        ("client cat /etc/[", []),
        ("lb pytho", None),
        ("nat ", []),
        ("mars ", []),
        ("help his", ["history "]),
    ],
)
def test_tab_offers_what_can_come_here(shell, line, offered):
    found = complete(shell, line)
    assert found == offered if offered is not None else "python3 " in found


@pytest.mark.parametrize("line", ["", "   ", "# a remark"])
def test_a_line_that_says_nothing_does_nothing(shell, line, capsys):
    assert shell.onecmd(line) is False
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("line", ["exit", "quit", "EOF"])
def test_leaving(shell, line):
    assert shell.onecmd(line) is True


def test_an_error_of_the_lab_is_a_line_and_the_talk_goes_on(shell, capsys):
    assert shell.onecmd("nat") is False
    assert "sudo scripts/lab.sh --prefix no-such-lab- up" in capsys.readouterr().err


def test_an_interrupt_ends_the_command_and_the_talk_goes_on(capsys):
    @dataclass
    class Endless:
        about = arguments = ""
        choices = tuple

        def run(self, *_):
            raise KeyboardInterrupt

        def takes(self, number):
            return number == 0

    shell = Shell(Lab(prefix="no-such-lab-"), Pen(), {"endless": Endless()})
    assert shell.onecmd("endless") is False
    assert capsys.readouterr().err == "interrupted\n"


def curl(shell, script, tmp_path):
    (tmp_path / "curl").write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    (tmp_path / "curl").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "BASH_FUNC_curl%%": shell._curl()}
    return subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("curl vip", "<http://vip:8888/>"),
        ("curl -s -4 balancer", "<-s><-4><http://balancer:8888/>"),
        ("curl server1 server2", "<http://server1:4444/><http://server2:5555/>"),
        ("curl -H 'Host: vip' '' '*' vip/bytes/5", "<-H><Host: vip><><*><vip/bytes/5>"),
        ("curl client", "<client>"),
        ("echo x | curl vip | cat", "<http://vip:8888/>"),
    ],
)
def test_for_curl_a_hosts_name_is_its_page_and_other_words_stay(shell, script, words, tmp_path):
    assert curl(shell, script, tmp_path) == words


def test_who_reaches_whom_is_drawn_with_the_family_that_does():
    ways = {
        (near.name, far.name, family): True
        for near in SEED.hosts
        for far in SEED.hosts
        for family in (socket.AF_INET, socket.AF_INET6)
        if near != far
    }
    ways["client", "lb", socket.AF_INET6] = False
    ways["lb", "server2", socket.AF_INET] = ways["lb", "server2", socket.AF_INET6] = False
    assert pings.drawn(SEED, ways, Pen()) == (
        "from \\ to   client   lb          server1   server2\n"
        "client      .        IPv4 only   yes       yes\n"
        "lb          yes      .           yes       no\n"
        "server1     yes      yes         .         yes\n"
        "server2     yes      yes         yes       .\n"
        "\n"
        "21 of 24 pings were answered."
    )
