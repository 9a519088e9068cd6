"""What a service manager is told, heard at a socket of the test's own."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from natlb import notify
from natlb.log import log


@pytest.fixture(params=["a file", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A manager's socket, which $NOTIFY_SOCKET names."""
    name = str(tmp_path / "notify") if request.param == "a file" else f"@natlb-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(name.replace("@", "\0"))
        heard.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield heard


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    monkeypatch.setattr(log, "propagate", True)
    return lambda: [record.getMessage() for record in caplog.records]


def test_each_message_is_one_datagram_with_a_line_for_each_assignment(manager: socket.socket) -> None:
    assert notify.tell("STATUS=fine", "WATCHDOG=1")
    assert manager.recv(1000) == b"STATUS=fine\nWATCHDOG=1"


def test_readiness_names_the_process_and_says_how_it_is(manager: socket.socket) -> None:
    notify.ready("3 addresses")
    assert manager.recv(1000).decode().splitlines() == ["READY=1", f"MAINPID={os.getpid()}", "STATUS=3 addresses"]


def test_a_reload_has_the_time_at_which_it_began_and_a_stop_is_told(manager: socket.socket) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify.reloading()
    notify.stopping()
    first, second = manager.recv(1000).decode().splitlines()
    assert first == "RELOADING=1"
    name, _, began = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(began) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert manager.recv(1000) == b"STOPPING=1"


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_manager_nobody_is_told(
    monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]], value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", value)
    assert not notify.tell("READY=1")
    assert warnings() == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/nonexistent/notify", "No such file or directory"),
        ("/" + "x" * 200, "AF_UNIX path too long"),
        ("vsock:2:1234", "No such file or directory"),
    ],
)
def test_a_manager_that_cannot_be_reached_is_a_warning_and_no_more(
    monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]], name: str, reason: str
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    assert not notify.tell("READY=1", "STATUS=x")
    assert warnings() == [f"cannot tell the service manager READY=1: {reason}"]


def test_a_manager_that_reads_nothing_does_not_hold_natlb_up(
    manager: socket.socket, warnings: Callable[[], list[str]]
) -> None:
    while notify.tell("WATCHDOG=1", "X" * 1000):
        pass
    assert warnings() == ["cannot tell the service manager WATCHDOG=1: timed out"]
    assert manager.recv(10) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("10000000", None, 5.0),
        ("10000000", "mine", 5.0),
        ("10000000", "1", None),
        ("10000000", "", 5.0),
        (None, None, None),
        ("", None, None),
        ("0", None, None),
        ("-5", None, None),
        ("ten", None, None),
        ("9" * 5000, None, None),
    ],
)
def test_a_sign_of_life_is_wanted_in_half_of_the_time(
    monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, seconds: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", str(os.getpid()) if pid == "mine" else pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert notify.interval() == seconds
