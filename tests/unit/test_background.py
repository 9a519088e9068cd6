"""Going into the background, and the file that tells which process it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from natlb.background import write_pidfile
from natlb.errors import ProcessError

_PROGRAM = """
import os, sys
from natlb.background import fork
started = os.getpid()
ready = fork()
assert os.getppid() != started
print("setting up", os.getpid(), file=sys.stderr, flush=True)
if sys.argv[1] == "fails":
    sys.exit(3)
ready()
print("not heard", file=sys.stderr, flush=True)
with open(sys.argv[2], "w") as file:
    file.write(" ".join(os.readlink(f"/proc/self/fd/{n}") for n in range(3)) + f" {os.getsid(0) == os.getpid()}")
os.mkfifo(sys.argv[2] + ".end")
open(sys.argv[2] + ".end").read()
"""


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments], capture_output=True, text=True, timeout=30, check=False
    )


def test_the_command_returns_when_the_other_is_ready_and_the_other_goes_on(tmp_path: Path) -> None:
    done = run("works", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("setting up ")
    assert done.stderr.count("\n") == 1
    while not (tmp_path / "out.end").exists():
        pass
    (tmp_path / "out.end").write_text("end")
    assert (tmp_path / "out").read_text() == "/dev/null /dev/null /dev/null True"


def test_the_journal_is_written_to_all_the_time(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with journal.open("wb") as file:
        status = os.fstat(file.fileno())
        subprocess.run(
            [sys.executable, "-c", _PROGRAM, "works", str(tmp_path / "out")],
            env=os.environ | {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"},
            stdout=subprocess.DEVNULL,
            stderr=file,
            timeout=30,
            check=True,
        )
    while not (tmp_path / "out.end").exists():
        pass
    (tmp_path / "out.end").write_text("end")
    assert (tmp_path / "out").read_text() == f"/dev/null /dev/null {journal} True"
    assert journal.read_text().endswith("not heard\n")


def test_the_exit_code_tells_that_the_other_has_failed(tmp_path: Path) -> None:
    done = run("fails", str(tmp_path / "out"))
    assert done.returncode == 1
    assert done.stderr.startswith("setting up ")


def test_a_pidfile_has_the_number_and_takes_the_place_of_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "natlb.pid"
    path.write_text("something longer than a number\n")
    write_pidfile(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_what_others_put_in_the_place_of_a_pidfile_meanwhile_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, opened = tmp_path / "secret", os.open
    secret.write_text("as it was")
    secret.chmod(0o600)

    def exchanged(path: Path, flags: int, mode: int) -> int:
        descriptor = opened(path, flags, mode)
        path.unlink()
        path.symlink_to(secret)
        return descriptor

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", exchanged)
        write_pidfile(str(tmp_path / "natlb.pid"))
    assert (secret.read_text(), secret.stat().st_mode & 0o777) == ("as it was", 0o600)


def test_a_pidfile_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match=r"cannot create pidfile /nonexistent/x: No such file.*; make its directory"):
        write_pidfile("/nonexistent/x")
    (tmp_path / "x").mkdir()
    with pytest.raises(
        ProcessError, match=r"cannot create pidfile .*/x: Is a directory; give the path of a file in it"
    ):
        write_pidfile(str(tmp_path / "x"))
    assert [each.name for each in tmp_path.iterdir()] == ["x"]
