"""What stays of a natlb that was reloaded: it hears signals for its child, and ends as that ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from natlb import keeper

_STARTER = """
import os, signal, subprocess, sys
from natlb import keeper
noted = keeper.prepare()
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.DEVNULL)
for number in sys.argv[2:]:
    os.kill(os.getpid(), int(number))
keeper.become(noted)
"""

_CHILD = """
import os, signal, sys
def say(what):
    os.write(1, f"{what}\\n".encode())  # not print(), in the midst of which a signal may come that prints
def hear(number, _):
    say(signal.Signals(number).name)
    if number == signal.SIGTERM:
        sys.exit(5)
for each in ("TERM", "INT", "HUP", "USR1", "USR2"):
    signal.signal(getattr(signal, "SIG" + each), hear)
signal.pthread_sigmask(signal.SIG_UNBLOCK, set(signal.Signals))
say(os.getpid())
while True:
    signal.pause()
"""

_SUCCESSION = (
    """
import os, sys, time
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:  # an orphan is one whose parent has gone
    time.sleep(0.001)
"""
    + _CHILD
)


@contextmanager
def kept(child: str, *signals: int) -> Iterator["subprocess.Popen[str]"]:
    """A process that is a keeper by now, or is about to be, of a child that tells its number and what it hears."""
    argv = [sys.executable, "-c", _STARTER, child, *map(str, signals)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its child, too
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_keeper(process: "subprocess.Popen[str]") -> bool:
    return b"keeper.py" in Path(f"/proc/{process.pid}/cmdline").read_bytes()


def becomes_keeper(process: "subprocess.Popen[str]") -> None:
    while not is_keeper(process):
        assert process.poll() is None


def test_signals_are_passed_on_and_the_end_is_the_childs() -> None:
    with kept(_CHILD) as process:
        assert int(line(process)) != process.pid
        becomes_keeper(process)
        for signum in keeper.PASSED_ON[1:]:
            process.send_signal(signum)
            assert line(process) == signum.name
        process.send_signal(signal.SIGTERM)
        assert line(process) == "SIGTERM"
        assert process.wait(30) == 5


def test_a_child_that_is_killed_is_ended_after_in_the_same_way() -> None:
    with kept(_CHILD) as process:
        pid = int(line(process))
        becomes_keeper(process)
        os.kill(pid, signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL


def test_what_comes_before_it_is_a_keeper_is_not_lost() -> None:
    with kept(_CHILD.replace("sys.exit(5)", "os._exit(7)"), signal.SIGTERM) as process:
        assert process.wait(30) in (7, -signal.SIGTERM)  # the child may not have got as far as hearing it


def test_an_orphan_is_kept_in_the_place_of_its_parent() -> None:
    with kept(_SUCCESSION) as process:
        pid = int(line(process))
        becomes_keeper(process)
        process.send_signal(signal.SIGHUP)
        heard = line(process)
        os.kill(pid, signal.SIGTERM)
        assert heard == "SIGHUP"
        assert line(process) == "SIGTERM"
        assert process.wait(30) == 5


def test_it_knows_nothing_but_the_standard_library() -> None:
    code = f"import runpy; runpy.run_path({keeper.__file__!r}); import sys; print('natlb' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(("status", "code"), [(0, 0), (3 << 8, 3)])
def test_the_status_is_the_childs(status: int, code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        keeper._end_as(status)
    assert ended.value.code == code
