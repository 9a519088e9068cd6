import contextlib
import os
import pty
import signal
import subprocess
import sys

import pytest

from netns.console import Progress, for_people
from netns.errors import LabError


@pytest.fixture(autouse=True)
def _handlers():
    """What it does to signals is for a program's whole life: take it back."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    hook = sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize(
    ("failure", "status", "line"),
    [
        (LabError("the lab is not up"), 1, "it.sh: the lab is not up\n"),
        (KeyboardInterrupt(), 130, "\nit.sh: interrupted\n"),
        (ZeroDivisionError("by zero"), 1, "it.sh: ZeroDivisionError: by zero (NATLB_LAB_DEBUG=1 tells more)\n"),
    ],
)
def test_every_failure_is_a_line_and_a_status(capsys, monkeypatch, failure, status, line):
    monkeypatch.delenv("NATLB_LAB_DEBUG", raising=False)
    with pytest.raises(SystemExit) as ended, for_people("it.sh"):
        raise failure
    assert ended.value.code == status
    assert capsys.readouterr() == ("", line)


def test_who_looks_for_a_fault_gets_all_of_it(monkeypatch):
    monkeypatch.setenv("NATLB_LAB_DEBUG", "1")
    with pytest.raises(ZeroDivisionError), for_people("it.sh"):
        raise ZeroDivisionError


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_polite_end_is_an_exception_on_the_way_to_which_everything_is_cleaned_up(signum):
    cleaned = []
    with pytest.raises(SystemExit) as ended, for_people("it.sh"):
        try:
            signal.raise_signal(signum)
        finally:
            cleaned.append(True)
    assert ended.value.code == 128 + signum
    assert cleaned


def test_progress_is_a_line_each_where_there_is_no_terminal(capsys):
    progress = Progress()
    progress("round 1")
    progress("round 2")
    progress("")
    assert capsys.readouterr() == ("", "round 1\nround 2\n")


def test_progress_is_one_line_of_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = Progress()
    progress("round 1")
    progress("")
    assert capsys.readouterr().err == "\r\x1b[Kround 1\r\x1b[K"


def test_what_passes_is_for_a_terminal_alone(capsys, monkeypatch):
    Progress().passing("0:01")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    Progress().passing("0:01")
    assert capsys.readouterr().err == "\r\x1b[K0:01"


def test_ctrl_c_while_code_runs_that_was_given_as_text_is_an_interruption_as_any_other():
    program = """
import signal
from netns.console import for_people
with for_people("it.sh"):
    exec("signal.raise_signal(signal.SIGINT)")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nit.sh: interrupted\n")


@pytest.mark.parametrize(("signum", "told"), [(signal.SIGINT, "\nit.sh: interrupted\n"), (signal.SIGTERM, "")])
def test_what_a_signal_finds_half_made_is_thrown_away_without_a_word(signum, told):
    """As an event loop that has no sockets yet, and is to close them."""
    program = f"""
import os
from netns.console import for_people
class Half:
    def __init__(self):
        os.kill(os.getpid(), {int(signum)})
        self.socket = None
    def __del__(self):
        self.socket.close()
with for_people("it.sh"):
    Half()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signum, told)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_python_ends_makes_no_failure_of_what_is_done(signum):
    program = f"""
import atexit, os, sys
from netns.console import for_people
class Late:
    def __del__(self, kill=os.kill, number=os.getpid()):
        kill(number, {int(signum)})
late = Late()
atexit.register(os.kill, os.getpid(), {int(signum)})
with for_people("it.sh"):
    print("done")
    sys.exit(0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


class Person:
    """Somebody at a terminal, who is asked for a line there."""

    PROGRAM = """
import signal
from netns.console import ask, for_people
signal.signal(signal.SIGUSR1, lambda *_: print("noticed", flush=True))
with for_people("it.sh"):
    print("answered", repr(ask("well? ")))
"""

    def __init__(self):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [sys.executable, "-c", self.PROGRAM])
        self.shown = ""

    def reads(self, text):
        while text not in self.shown:
            self.shown += os.read(self.fd, 4096).decode()

    def types(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        with contextlib.suppress(OSError):  # the terminal's other side is gone
            while piece := os.read(self.fd, 4096):
                self.shown += piece.decode()
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.parametrize(("typed", "line"), [("yes\n", "'yes\\n'"), ("\x04", "''")])
def test_a_person_answers(typed, line):
    person = Person()
    person.reads("well? ")
    person.types(typed)
    assert person.end() == 0
    assert f"answered {line}" in person.shown


def test_ctrl_c_ends_a_question_in_the_moment_it_is_put():
    person = Person()
    person.reads("well? ")
    person.types("\x03")
    assert person.end() == 130
    assert "it.sh: interrupted" in person.shown


def test_a_signal_that_ends_nothing_leaves_the_question_open():
    person = Person()
    person.reads("well? ")
    os.kill(person.pid, signal.SIGUSR1)
    person.reads("noticed")
    person.types("yes\n")
    assert person.end() == 0
    assert "answered 'yes\\n'" in person.shown
