import os
import signal
import sys

import pytest

from netns import processes
from netns.errors import LabError
from netns.processes import Service, every, living_in
from tests.travel import Clock


def service(tmp_path, code):
    return Service("it", [sys.executable, "-c", code], tmp_path / "log")


def test_service_is_waited_for(tmp_path):
    it = service(tmp_path, "import time; print('ready', flush=True); time.sleep(60)")
    it.wait_for("ready")
    assert it.alive
    assert it.stop() == -signal.SIGTERM
    assert not it.alive


def test_stderr_is_in_the_log_too(tmp_path):
    it = service(tmp_path, "import sys; print('to stderr', file=sys.stderr)")
    assert it.process.wait(10) == 0
    assert it.log() == "to stderr\n"


def test_a_service_can_speak_into_a_pipe():
    it = Service("it", [sys.executable, "-c", "print('ready', flush=True); input()\nprint('never')"])
    it.process.wait(10)
    it.wait_for("ready")
    assert it.log() == it.log()
    assert "EOFError" in it.log()


def test_a_service_that_dies_at_once_is_reported_with_its_last_words(tmp_path):
    it = service(tmp_path, "print('no such interface'); raise SystemExit(3)")
    with pytest.raises(LabError, match="it ended with status 3; it said: no such interface"):
        it.wait_for("ready")


def test_a_service_that_takes_too_long_is_reported(tmp_path):
    it = service(tmp_path, "import time; time.sleep(60)")
    with pytest.raises(LabError, match="it did not come up; it said: nothing"):
        it.wait_for("ready", seconds=0.1)
    it.kill()
    assert not it.alive


def test_a_service_that_does_not_end_is_killed(tmp_path):
    it = service(
        tmp_path, "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    it.wait_for("ready")
    with pytest.raises(LabError, match=r"did not end within 0\.1 s and was killed"):
        it.stop(seconds=0.1)
    assert not it.alive


def test_a_ctrl_c_at_the_terminal_does_not_reach_a_service(tmp_path):
    it = service(tmp_path, "import os; print(os.getpgid(0), os.getsid(0))")
    it.process.wait(10)
    assert str(os.getpgid(0)) not in it.log().split()


def test_nobody_lives_in_a_namespace_that_is_not_there():
    assert living_in(["no-such-namespace"]) == []


def test_every_yields_at_once_and_stops_in_time(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(processes, "time", clock)
    began = clock.monotonic()
    at = [clock.monotonic() - began for _ in every(0.02, 0.1)]
    assert at[:5] == pytest.approx([0, 0.02, 0.04, 0.06, 0.08])
    assert 0.1 <= at[-1] < 0.13


def test_a_service_is_busy_while_it_has_something_to_do(tmp_path):
    it = service(tmp_path, "print('ready', flush=True)\nwhile True: pass")
    it.wait_for("ready")
    try:
        assert any(it.busy for _ in every(0.01, 10))
    finally:
        it.kill()
    assert not it.busy
    it = service(tmp_path, "import time; print('ready', flush=True); time.sleep(60)")
    it.wait_for("ready")
    try:
        assert any(not it.busy for _ in every(0.01, 10))
    finally:
        it.kill()
