"""Lines reach their targets, or are counted as dropped, and nobody waits."""

import os
import socket
import time

import pytest

from natlb.log import Level
from natlb.logs.sender import Sender
from natlb.logs.syslog import Origin, Target

ORIGIN = Origin("natlb", 1)


@pytest.fixture
def sender():
    made = Sender()
    yield made
    made.close()


def send(sender, *destinations, text="hello", length=1024):
    targets = [Target(each, length, "raw") for each in destinations]
    sender.send(targets, ORIGIN, Level.INFO, text, 0.0)
    return sender.sent, sender.dropped


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_over_udp(sender, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((address, 0))
        server.settimeout(5)
        assert send(sender, (address, server.getsockname()[1])) == (1, 0)
        assert server.recv(100) == b"hello\n"


def test_to_a_unix_socket_that_goes_and_comes_back(sender, tmp_path):
    path = str(tmp_path / "log")
    assert send(sender, path) == (0, 1)
    for taken in (1, 2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(path)
            assert send(sender, path) == (taken, taken)
            assert server.recv(100) == b"hello\n"
        assert send(sender, path) == (taken, taken + 1)
        (tmp_path / "log").unlink()


def test_a_unix_socket_that_nobody_reads_does_not_make_us_wait(sender, tmp_path):
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        began = time.monotonic()
        for _ in range(2000):
            send(sender, path)
        assert sender.dropped > 0
        assert sender.sent + sender.dropped == 2000
        assert time.monotonic() - began < 5


def test_a_pipe_that_nobody_reads_does_not_make_us_wait(sender):
    reading, writing = os.pipe()
    try:
        for _ in range(100):
            send(sender, writing, text="x" * 5000, length=65535)
        assert sender.dropped > 0
        assert os.read(reading, 4096) == b"x" * 4095 + b"\n", "a line is cut to what a pipe takes whole"
    finally:
        os.close(reading)
        os.close(writing)


def test_a_file_takes_everything_and_a_closed_descriptor_nothing(sender, tmp_path):
    with (tmp_path / "log").open("wb") as file:
        assert send(sender, file.fileno()) == (1, 0)
        descriptor = file.fileno()
    assert (tmp_path / "log").read_bytes() == b"hello\n"
    assert send(sender, descriptor) == (1, 1)


def test_every_target_gets_its_line_although_another_fails(sender, tmp_path):
    with (tmp_path / "log").open("wb") as file:
        assert send(sender, "/nonexistent", file.fileno(), file.fileno()) == (2, 1)
