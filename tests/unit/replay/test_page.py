"""What docs/explain.md tells the reader to type prints what it shows, and what it lists is all that there is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from natlb.replay.history import EVENTS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")

_EXAMPLE = re.compile(r"^```console\n\$ ([^\n]+)\n```\n\n```text\n(.*?)^```$", re.M | re.S)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A directory as the reader has it: the README's configuration, and the documentation."""
    (configuration,) = re.findall(r"^```haproxy\n(.*?)^```$", README, re.M | re.S)
    (tmp_path / "web.cfg").write_text(configuration)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    return tmp_path


def run(command: str, clone: Path) -> "subprocess.CompletedProcess[str]":
    program, *words = command.split()
    assert program == ".venv/bin/natlb"
    argv = [sys.executable, "-m", "natlb", *words]
    return subprocess.run(
        argv, cwd=clone, capture_output=True, text=True, check=False, timeout=60, env={"PYTHONPATH": str(ROOT)}
    )


def test_every_command_has_its_output() -> None:
    assert len(_EXAMPLE.findall(PAGE)) == PAGE.count("```console\n") == 4


@pytest.mark.parametrize("number", range(4))
def test_each_command_prints_what_the_page_shows(clone: Path, number: int) -> None:
    command, shown = _EXAMPLE.findall(PAGE)[number]
    done = run(command, clone)
    assert done.stderr == ""
    assert done.stdout == shown, f"docs/explain.md needs:\n{done.stdout}"
    assert done.returncode == (2 if "--down" in command else 0)


def test_the_capture_of_the_page_has_both_sides_of_all_that_natlb_sent(clone: Path) -> None:
    done = run(".venv/bin/natlb replay docs/visit.pcap -f web.cfg -q", clone)
    (found,) = re.findall(
        r"^(\d+) of the (\d+) packets that natlb sends are in the capture as well$", done.stdout, re.M
    )
    assert found[0] == found[1]


def test_the_answers_to_the_exam_can_be_had(clone: Path) -> None:
    def explain(number: int, *more: str) -> str:
        return run(f".venv/bin/natlb explain -f web.cfg docs/visit.pcap {number} {' '.join(more)}", clone).stdout

    assert "Connection #2, opened by packet 21" in explain(21)
    reply = explain(3)
    assert "source address: 44.3.3.3 > 44.2.2.2" in reply
    assert len(re.findall(r"^(?:IP|TCP) checksum, at", reply, re.M)) == 2
    weights = ["--weight", "nodes/server1=2", "--weight", "nodes/server2=2"]
    assert explain(21, *weights) == explain(21).replace("weight 1", "weight 2")
    assert "state     BOTH_FIN, as before" in explain(19)
    assert "It is sent on, rewritten." in explain(19)


def test_every_event_is_listed() -> None:
    (table,) = re.findall(r"^\| `event` \|.*?\n\n", PAGE, re.M | re.S)
    listed = [name for row in table.strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(listed) == sorted(EVENTS)
