"""The long mode: a target that is wrong is found out, and told of in a way that it can be seen again."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import fuzzing, targets

atheris = pytest.importorskip("atheris", reason="atheris, which brings libFuzzer, has no wheel for this machine")

_WRONG = """
def check(data):
    if data:
        raise AssertionError("wrong on purpose")

def words():
    return ["a", '"', "\\\\"]
"""


@pytest.fixture
def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A target with a fault in it, and the directory that is written to."""
    (tmp_path / "tests" / "fuzz").mkdir(parents=True)
    (tmp_path / "tests" / "fuzz" / "wrong.py").write_text(_WRONG)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(targets.TARGETS, "wrong", 10)
    return tmp_path / "fuzzed"


def test_a_finding_is_told_of_and_can_be_seen_again(wrong: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzzing.fuzz(["wrong"], 100, wrong) == 1
    told = capsys.readouterr().out
    assert "AssertionError: wrong on purpose" in told
    [finding] = (wrong / "wrong" / "findings").iterdir()
    assert f"not right: {finding}" in told
    assert f".venv/bin/python -m tests.fuzz.reproduce wrong {finding}" in told
    again = "from tests.fuzz import targets, reproduce; targets.TARGETS['wrong'] = 10; reproduce.main(['wrong', {!r}])"
    done = subprocess.run(
        [sys.executable, "-c", again.format(str(finding))],
        cwd=fuzzing.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.endswith("AssertionError: wrong on purpose\n")


def test_what_was_found_before_is_not_found_by_a_run_that_finds_nothing(wrong: Path) -> None:
    old = wrong / "scrapes" / "findings"
    old.mkdir(parents=True)
    (old / "crash-0123").write_bytes(b"x")
    assert fuzzing.fuzz(["scrapes"], 1, wrong) == 0


def test_a_process_that_cannot_do_its_work_is_no_success(
    wrong: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (wrong.parent / "tests" / "fuzz" / "wrong.py").write_text("def check(data): pass\n")
    monkeypatch.setattr(fuzzing.sys, "executable", "/bin/false")
    assert fuzzing.fuzz(["wrong"], 1, wrong) == 2
    assert re.search(r"it ended with status 1; the last it said stands in .*/wrong/log", capsys.readouterr().out)
