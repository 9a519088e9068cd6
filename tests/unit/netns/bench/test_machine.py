import os
import sys

from netns.bench import machine
from netns.bench.candidates import TABLE
from netns.bench.hosts import Room


def test_a_program_says_its_version_on_either_output():
    for stream in ("stdout", "stderr"):
        argv = [sys.executable, "-c", f"import sys; print('it 1.2\\nmore', file=sys.{stream})"]
        assert machine.version(argv) == "it 1.2"


def test_what_is_not_about_the_version_is_left_out():
    for text in ("wrk 4.1 [epoll] Copyright (C) 2012", "wrk 4.1 [epoll] - https://example.org/"):
        assert machine.version(["echo", text]) == "wrk 4.1 [epoll]"
    assert machine.version(["echo", "nginx version: nginx/1.22.1"]) == "nginx/1.22.1"


def test_a_program_that_is_missing_or_silent_is_told():
    assert machine.version(["/no/such/program"]) == "missing"
    assert machine.version(["true"]) == "says nothing"


def test_the_machine_and_every_candidates_version_are_described(monkeypatch):
    monkeypatch.setattr(machine, "version", lambda argv: f"version of {argv[0]}")
    found = machine.describe(TABLE[:2], Room(3, 500))
    assert (found["cores"], found["files"]) == (3, 500)
    assert found["kernel"] == os.uname().release
    assert found["versions"] == {
        "routing": "version of uname",
        "nft": "version of nft",
        "iperf3": "version of iperf3",
        "wrk": "version of wrk",
        "web servers": "version of nginx",
    }
