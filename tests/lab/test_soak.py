"""A soak of natlb finds nothing wrong with it, and finds what is wrong with a natlb that has a mistake."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netns.build import Lab
from netns.processes import PYTHON
from netns.soak.command import arguments
from netns.soak.scene import SECTIONS
from tests.lab import wrong_natlb
from tests.lab.support import until

pytestmark = [pytest.mark.root, pytest.mark.soak]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "soak.md"

_WITH_A_MISTAKE = """\
import sys
from netns import balancer
balancer.COMMAND = (sys.executable, "-P", sys.argv[1], sys.argv[2])
from netns.soak.command import main
sys.exit(main(sys.argv[3:]))
"""
"""A soak of a natlb that is started by the program in the first argument, with the mistake in the second."""


@contextlib.contextmanager
def nothing_left(letter: str) -> Iterator[str]:
    """Hand out a prefix for a soak's lab, and find no trace and no process of it at the end."""
    prefix = f"{letter}{os.getpid()}-"
    lab = Lab(prefix=prefix)
    try:
        yield prefix
        assert lab.traces() == []
        assert lab.residents() == []
    finally:
        lab.down()


def soak(command: list[str], words: str, prefix: str, file: Path, seconds: int) -> tuple[int, str, dict[str, Any]]:
    """Run a soak; return its exit status, what it printed, and what it wrote down."""
    argv = [*command, *words.split(), "--json", str(file), "--prefix", prefix]
    done = subprocess.run(
        argv, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=seconds
    )
    assert file.exists(), done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr, json.loads(file.read_text())


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("minutes", "offload"), [(1, "off"), (2, "on")])
def test_in_minutes_nothing_is_lost_and_no_byte_is_wrong(tmp_path: Path, minutes: int, offload: str) -> None:
    words = f"{minutes} --seed 44 --offload {offload} --plot {tmp_path / 'it.svg'}"
    with nothing_left("s") as prefix:
        status, printed, report = soak([*PYTHON, "netns.soak"], words, prefix, tmp_path / "it.json", 590)
    assert status == 0, printed
    assert report["failures"] == []
    assert "lost: 0, corrupted: 0" in printed
    assert report["connections"]["made"] > 300
    assert report["connections"]["ends"]["finished"] > 150
    assert report["verified"] > 10_000_000
    assert report["datagrams"]["answered"] > 300
    assert len(report["faults"]) >= 3
    assert len(report["churn"]) >= 3
    assert report["natlb"]["open"] == 0
    assert report["natlb"]["end"]["resident"] > 10
    assert set(report["natlb"]["counters"]) == set(SECTIONS)
    assert all(counted > 0 for _, _, counted in report["natlb"]["counters"].values())
    assert (tmp_path / "it.svg").read_text().count("connections open") == 1


@pytest.mark.parametrize(("mistake", "word"), [("forget", "lost"), ("alter", "corrupted")])
def test_a_natlb_with_a_mistake_is_found_out(tmp_path: Path, mistake: str, word: str) -> None:
    command = [sys.executable, "-P", "-c", _WITH_A_MISTAKE, wrong_natlb.__file__, mistake]
    with nothing_left("w") as prefix:
        status, printed, report = soak(command, "0.3 --seed 44", prefix, tmp_path / "it.json", 290)
    assert status == 1, printed
    assert report["connections"][word] > 0, printed
    assert re.search(rf"^connection \d+ is {word}: ", printed, re.M)
    assert "once more: scripts/soak.sh 0.3 --offload off --seed 44" in printed


def test_ctrl_c_ends_it_in_order_with_a_report_of_what_was(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with nothing_left("i") as prefix, log.open("wb") as output:
        lab = Lab(prefix=prefix)
        running = subprocess.Popen(
            [*PYTHON, "netns.soak", "30", "--seed", "44", "--prefix", prefix],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        until(lambda: any(" netns.soak.client " in one.command for one in lab.residents()), "clients are there", 60)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(200) == 128 + signal.SIGINT, log.read_text()
    assert re.search(r"interrupted after \d+:\d\d$", log.read_text(), re.M)
    assert "lost: 0, corrupted: 0" in log.read_text()


def test_the_commands_of_the_page_make_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = re.findall(r"^\$ (.*)$", PAGE.read_text(), re.M)
    assert commands
    monkeypatch.chdir(ROOT)
    for command in commands:
        script, options = command.split("scripts/soak.sh")
        assert script == "sudo "
        arguments().parse_args(shlex.split(options))
