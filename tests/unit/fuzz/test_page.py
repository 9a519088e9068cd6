"""What docs/fuzzing.md says can be done as it says, and the table on it has every target."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.effort import examples
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "fuzzing.md").read_text(encoding="utf-8")
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.M | re.S)
    for line in block.splitlines()
]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What looks like a clone to the commands of the page, with everything installed."""
    for name in (".venv", "natlb", "tests", "setup.cfg"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "fuzz.sh", tmp_path / "scripts")
    setup = tmp_path / "scripts" / "setup.sh"
    setup.write_text('#!/bin/sh\n[ "$*" = test ]\n')
    setup.chmod(0o755)
    return tmp_path


def test_every_target_is_on_the_page() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.M) == list(TARGETS)


def follow(command: str, clone: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the page."""
    return subprocess.run(
        ["bash", "-euc", command], cwd=clone, capture_output=True, text=True, check=False, timeout=280
    )


def test_the_command_for_every_day_is_the_test_of_the_inputs_that_are_kept(clone: Path) -> None:
    (command,) = [each for each in COMMANDS if "pytest" in each]
    done = follow(f"{command} --collect-only", clone)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("test_every_input_that_is_kept_is_taken_well[") == len(TARGETS)


def test_the_commands_for_hours_work_in_seconds(clone: Path) -> None:
    pytest.importorskip("atheris", reason="atheris, which brings libFuzzer, has no wheel for this machine")
    minutes = examples(3) / 60
    for command in [each for each in COMMANDS if "scripts/fuzz.sh" in each]:
        target = re.fullmatch(r"scripts/fuzz\.sh (\w+) \d+", command)
        assert target, f"nobody has taught this test to run {command}"
        assert target[1] in ("all", *TARGETS)
    done = follow(f"scripts/fuzz.sh scrapes {minutes:.3f}", clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"^scrapes +\d+:\d\d +[\d,]+ executions +[\d,]+/s +[1-9][\d,]* places +\d+ new inputs", done.stdout, re.M
    )
    assert list((clone / "fuzzed" / "scrapes" / "inputs").iterdir())


def test_what_was_found_is_kept_by_the_command_for_that(clone: Path) -> None:
    pytest.importorskip("atheris", reason="atheris, which brings libFuzzer, has no wheel for this machine")
    (command,) = [each for each in COMMANDS if "tests.fuzz.keep" in each]
    (clone / "tests").unlink()
    (clone / "tests").mkdir()
    for path in (ROOT / "tests").iterdir():
        (clone / "tests" / path.name).symlink_to(path)
    (clone / "tests" / "fuzz").unlink()
    shutil.copytree(ROOT / "tests" / "fuzz", clone / "tests" / "fuzz", ignore=shutil.ignore_patterns("__pycache__"))
    kept = clone / "tests" / "fuzz" / "corpus" / "scrapes.txt"
    kept.write_bytes(b"")
    inputs = clone / "fuzzed" / "scrapes" / "inputs"
    inputs.mkdir(parents=True)
    (inputs / "one").write_bytes(b"\0GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    (inputs / "other").write_bytes(b"\0GET /metrics HTTP/1.1\r\nHost: xx\r\n\r\n")
    done = follow(command, clone)
    assert done.returncode == 0, done.stderr
    assert kept.read_bytes() == rb"\x00GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" + b"\n"
    assert done.stdout.startswith("scrapes: 1 inputs of 35 bytes, 1 of them new")
