"""The course, as a class goes through it: every command of every lesson runs, in order and each lesson alone.

What a lesson promises to show is looked for in what it printed. Each exercise is checked before it is done, after its
solution has done it, and in between nothing is done by hand.
"""

import codecs
import contextlib
import itertools
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from netns.draw import WIDTH
from netns.lessons.catalogue import Lesson, lessons
from netns.processes import PYTHON
from tests.lab.support import until
from tests.lab.traced import Traced

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

LESSONS = lessons()

_numbers = itertools.count()

_AT_ONCE = 4
"""Lessons that run beside each other: most of their time they wait."""

_SHOWN = {
    "cable": (r"2 packets transmitted, 2 received", r"Network is unreachable\nIt does not\.\n"),
    "dnat": (r"← SYN-ACK 44\.3\.3\.3:4444", r"→ RST 44\.3\.3\.3:4444", r"refused the answer with a RST"),
    "rewrite": (r"destination  44\.2\.2\.2:8888   44\.2\.2\.2:8888   44\.(3\.3\.3:4444|4\.4\.4:5555) \*",),
    "table": (r"server\d INIT +1 +0\n", r"ESTABLISHED", r"BOTH_FIN", r"that stays", r"ESTABLISHED +\d+ +0\n"),
    "one-connection": (r"✓ through natlb both ends use", r"✓ through the proxy they do not", r"44\.2\.2\.2:9996"),
    "known": (r"natlb +8888 +44\.1\.1\.1:\d+ +nothing\nHAProxy +9996 +44\.2\.2\.2:\d+ +nothing\n.* 44\.1\.1\.1\n",),
    "tls": (r"through natlb +server[12] .*nothing readable\nthrough HAProxy +balancer .*GET /secret-plan\n",),
    "segments": (
        r"The download died\.\n",
        r"← RST (\d+) +← RST \1\n",
        r"server2: \d+ segments? from the client; it sent [1-9]",
        r"✓ every segment of the connection went to server\d\n✓ the download is complete",
    ),
    "paths": (
        r"'mode http' works on HTTP messages",
        r"HAProxy +s\d +s\d app2",
        r"natlb +3 times +3 times\nHAProxy with a cache +3 times +once",
    ),
    "silence": (r"← RST 44\.2\.2\.2:8888\n.*→ RST 44\.[34]", r"After [1-3]\.\d s of silence") * 2,
    "state": (
        r"after:  connection reset by peer\n",
        r"after:  server[12] answers\n",
        r"reject-with tcp-reset\n\$ sleep 2\n(.*\nserver2\nclient .*\n){2}",
        r"reject-with tcp-reset\n\$ sleep 1.5\n.*\nserver(1\nclient .*\n.*\nserver2|2\nclient .*\n.*\nserver1)\n",
        r"ESTABLISHED",
    ),
    "cost": (r"natlb, layer 4 +\d+\.\d s  █+\n  HAProxy, mode tcp +\d+\.\d s  █+\n", r"no balancer +\d+ µs  █+\n"),
}
"""What is seen in each lesson, by its name: in this order, with other things in between."""

_LONG_LINES = re.compile(r"\$ |> |0x\d+: proto=|\[ALERT\]|curl: |Started: ")
"""Commands, and what programs say in their own words: no lesson can make these shorter."""


class Course(Traced):
    """`lab.sh` with a prefix of its own."""

    def __init__(self) -> None:
        super().__init__(f"c{os.getpid()}-{next(_numbers)}-")

    def command(self, *words: str) -> list[str]:
        return [*PYTHON, "netns", "--prefix", self.prefix, *words]

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        # To a file, not to a pipe: what a lesson leaves running would keep a pipe open.
        with tempfile.TemporaryFile("w+") as out:
            done = subprocess.run(
                self.command(*words),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.environment,
                check=False,
                timeout=120,
            )
            out.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, out.read(), "")


@contextlib.contextmanager
def new_course() -> Iterator[Course]:
    made = Course()
    try:
        yield made
    finally:
        made.lab.down()
        until(lambda: made.traces() == [], f"nothing is left of {made.prefix}: {made.traces()}")


@pytest.fixture
def course() -> Iterator[Course]:
    """A course, no lab being up."""
    with new_course() as made:
        yield made


def followed(lesson: Lesson, course: Course) -> str:
    """Go through a lesson and return what it showed, after a look whether that is what it promises."""
    done = course("lesson", str(lesson.number))
    assert done.returncode == 0, done.stdout
    rest = done.stdout
    for expected in _SHOWN[lesson.name]:
        found = re.search(expected, rest)
        assert found, f"{expected!r} is not shown, or not in this order:\n{done.stdout}"
        rest = rest[found.end() :]
    return done.stdout


def test_every_lesson_has_something_to_be_seen() -> None:
    assert [lesson.name for lesson in LESSONS] == list(_SHOWN)


def test_lessons_can_be_followed_in_order_and_each_alone_and_their_exercises_can_be_solved() -> None:
    with ThreadPoolExecutor(_AT_ONCE) as several:
        begun = [several.submit(in_order), *(several.submit(alone, lesson) for lesson in reversed(LESSONS))]
        for each in begun:
            each.result()


def in_order() -> None:
    """Go through all lessons, one after the other, without a look at the exercises; see how they are written."""
    with new_course() as course:
        for lesson in LESSONS:
            shown = followed(lesson, course)
            assert "\x1b" not in shown
            assert [line for line in shown.splitlines() if len(line) > WIDTH and not _LONG_LINES.match(line)] == []


def alone(lesson: Lesson) -> None:
    """Go through a lesson and its exercise where nothing was before."""
    number = str(lesson.number)
    with new_course() as course:
        followed(lesson, course)
        before = course("check", number)
        assert before.returncode == 1, before.stdout
        refused = r"^✗ .*(\n  .*)*\n    saw +\S.*(\n  .*)*\n    expected +\S"
        assert re.search(refused, before.stdout, re.M), before.stdout
        assert before.stdout.endswith(f"\nNot yet. A hint: {course.lab.advice(f'hint {number}')}\n")
        solved = course("solve", number)
        assert solved.returncode == 0, solved.stdout
        after = course("check", number)
        assert after.returncode == 0, solved.stdout + after.stdout
        assert f"Exercise {number} is done." in after.stdout
        assert "✗" not in after.stdout


# -- how a student meets it


def test_hints_come_one_after_the_other_and_the_last_one_names_the_solution(course: Course) -> None:
    assert course("lesson", "1").returncode == 0
    hints = [course("hint", "1").stdout for _ in LESSONS[0].hints]
    for number, (hint, written) in enumerate(zip(hints, LESSONS[0].hints, strict=True), 1):
        assert hint.startswith(f"Hint {number} of {len(hints)}: {written.title}\n")
    assert ["solve 1" in hint for hint in hints] == [False] * (len(hints) - 1) + [True]
    assert course("hint", "1").stdout == hints[-1]


@pytest.mark.parametrize("command", ["check", "hint", "solve"])
def test_without_its_lab_an_exercise_says_how_to_begin(course: Course, command: str) -> None:
    done = course(command, "3")
    assert done.returncode == 1
    assert done.stdout == (f"lab.sh: no lesson has been begun; to begin lesson 3: {course.lab.advice('lesson 3')}\n")


def test_a_step_that_fails_says_what_to_do(course: Course) -> None:
    assert course("lesson", "1").returncode == 0
    course.lab.run("lb", ["ip", "link", "delete", "server1"])
    done = course("solve", "1")
    assert done.returncode == 1
    assert re.search(r"\nlab\.sh: the last command above ended with status \d+, and should not have\n", done.stdout)
    assert f"To begin anew: {course.lab.advice('lesson 1')}\n" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_lesson_leaves_nothing(
    course: Course, tmp_path: Path, signum: signal.Signals, status: int
) -> None:
    lesson = course.start("lesson", "4", output=tmp_path / "out")
    until(lambda: any("tcpdump" in resident.command for resident in course.lab.residents()), "it captures", 60)
    # To the lesson alone: what it has started is its own business.
    lesson.send_signal(signum)
    assert lesson.wait(30) == status
    assert course.traces() == []
    assert "Traceback" not in (tmp_path / "out").read_text()


class Terminal:
    """A student in front of 80 columns."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, {**environment, "TERM": "xterm-256color", "COLUMNS": str(WIDTH)})
        self.shown = ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode  # a read may end in the middle of a character

    def wait_for(self, text: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < deadline, f"{text!r} does not come: {self.shown}"
            if select.select([self._fd], [], [], 0.1)[0]:
                try:
                    self.shown += self._decode(os.read(self._fd, 65536))
                except OSError:  # the other side has ended
                    assert text in self.shown, self.shown

    def type(self, text: str) -> None:
        self.shown = ""
        os.write(self._fd, text.encode())

    def end(self) -> int:
        """Return the exit status, once it has ended."""
        with contextlib.suppress(OSError):
            while piece := os.read(self._fd, 65536):
                self.shown += self._decode(piece)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.parametrize("colour", [True, False])
def test_in_a_terminal_enter_goes_on_and_q_stops(course: Course, colour: bool) -> None:
    environment = course.environment if colour else {**course.environment, "NO_COLOR": "1"}
    environment = {name: value for name, value in environment.items() if colour is False or name != "NO_COLOR"}
    terminal = Terminal(course.command("lesson", "1"), environment)
    terminal.wait_for("q and Enter stops]")
    assert "ip -brief link" not in terminal.shown
    first = terminal.shown
    terminal.type("\n")
    terminal.wait_for("q and Enter stops]")
    assert "exec lb ip -brief link" in terminal.shown
    assert "LOOPBACK,UP" in terminal.shown
    assert ["\x1b" in first, "\x1b" in terminal.shown] == [colour, colour]
    terminal.type("q\n")
    assert terminal.end() == 0
    assert "The lab stays up." in terminal.shown
    assert course.lab.is_up


@pytest.mark.parametrize("name", ["dnat", "rewrite", "known"])
def test_in_a_terminal_a_whole_lesson_can_be_walked_through_with_enter(course: Course, name: str) -> None:
    [lesson] = [each for each in LESSONS if each.name == name]
    terminal = Terminal(course.command("lesson", str(lesson.number)), {**course.environment, "NO_COLOR": "1"})
    shown = ""
    for section in lesson.pages:
        waits = [step.commands for step in section.steps if step.commands] + [()] * (not section.steps[-1].commands)
        for commands in waits:
            terminal.wait_for("q and Enter stops]")
            shown += terminal.shown
            assert not any(f"$ {command}" in terminal.shown for command in commands), "nothing runs before Enter"
            terminal.type("\n")
    assert terminal.end() == 0
    shown = (shown + terminal.shown).replace("\r\n", "\n")
    for expected in _SHOWN[name]:
        assert re.search(expected, shown), f"{expected!r} is not shown:\n{shown}"
    assert "Exercise" in terminal.shown
    assert course.lab.advice(f"check {lesson.number}") in terminal.shown
    assert course.lab.is_up


def test_ctrl_c_at_the_prompt_leaves_nothing(course: Course) -> None:
    terminal = Terminal(course.command("lesson", "1"), course.environment)
    terminal.wait_for("q and Enter stops]")
    terminal.type("\x03")
    assert terminal.end() == 130
    assert course.traces() == []


def test_experiments_say_what_they_need(course: Course) -> None:
    with course.lab as lab:
        for server in lab.topology.servers:
            lab.start_web(server.name)
        for experiment, remedy in (("known", "start natlb"), ("restart", "start natlb")):
            done = course("see", experiment)
            assert done.returncode == 1
            assert f"{course.lab.advice(remedy)}\n" in done.stdout
        assert course("start", "natlb").returncode == 0
        done = course("see", "paths")
        assert done.returncode == 1
        assert f"{course.lab.advice('start haproxy')}\n" in done.stdout
        assert course("start", "natlb").returncode == 1
        assert course("ask", "show", "sess").returncode == 0


def test_python_is_that_of_the_tests() -> None:
    assert PYTHON[0] == sys.executable
