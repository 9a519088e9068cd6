"""What fails in a lesson's lab says how to go on; and an exercise that cannot be looked at is not called undone."""

import re
import subprocess
from collections.abc import Iterator

import pytest

from netns.build import Lab
from netns.processes import PYTHON
from netns.way_out import begin

pytestmark = pytest.mark.root


@pytest.fixture
def unplugged(lab: Lab) -> Iterator[Lab]:
    """A lab whose client has lost its cable."""
    with Lab(prefix=f"{lab.prefix}u-") as made:
        made.start_all()
        made.run("client", ["ip", "link", "delete", "eth0"], names=False, check=True)
        yield made


def run(lab: Lab, *words: str, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYTHON, "netns", "--prefix", lab.prefix, *words], capture_output=True, text=True, check=False, timeout=120,
        **{"stdin": subprocess.DEVNULL} if "input" not in options else options,
    )  # fmt: skip


def ways_out(lab: Lab, again: str) -> str:
    return re.escape(f"To begin anew: {again}\nTo see what runs: {lab.advice('status')}\n")


def test_an_exercise_that_cannot_be_looked_at_is_neither_done_nor_not_yet(unplugged: Lab) -> None:
    begin(unplugged, 10)
    done = run(unplugged, "check", "10")
    assert (done.returncode, "Not yet" in done.stdout) == (3, False)
    out = ways_out(unplugged, unplugged.advice("lesson 10"))
    assert re.fullmatch(rf"lab\.sh: whether exercise 10 is done cannot be seen: .+\n{out}", done.stderr)
    assert run(unplugged, "shell", input="check 10\n").returncode == 3
    assert run(unplugged, "stop", "natlb").returncode == 0
    done = run(unplugged, "check", "10")
    assert (done.returncode, "Not yet" in done.stdout, done.stderr) == (1, True, ""), "natlb does not run: it was seen"


def test_an_experiment_that_fails_says_how_to_begin_anew(unplugged: Lab) -> None:
    lab = f"{unplugged.advice('down')}, then {unplugged.advice('up')}"
    for again in (lab, unplugged.advice("lesson 10")):
        done = run(unplugged, "see", "walk")
        assert done.returncode == 1
        assert re.fullmatch(rf"lab\.sh: tcpdump at .*\n{ways_out(unplugged, again)}", done.stderr)
        begin(unplugged, 10)


def test_what_says_by_itself_what_to_do_is_one_line(unplugged: Lab) -> None:
    run(unplugged, "stop", "natlb")
    done = run(unplugged, "see", "restart")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.endswith(f"{unplugged.advice('start natlb')}\n")
