"""Ending older natlb, and nobody else."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from natlb.predecessors import end
from tests.descriptors import nothing_left_open

_SLEEP = "import signal; signal.pause()"


@contextmanager
def running(*argv: str, **options: object) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(argv, **options)  # type: ignore[call-overload]
    try:
        while process.poll() is None and not Path(f"/proc/{process.pid}/cmdline").read_bytes():
            pass  # the kernel has not yet put its arguments where they can be read
        yield process
    finally:
        process.kill()
        process.wait()


def old_natlb(folder: Path, *words: str) -> tuple[str, ...]:
    """A program that is called natlb and does nothing."""
    module = folder / "natlb.py"
    module.write_text(_SLEEP)
    return sys.executable, *words


@pytest.mark.parametrize("how", ["module", "script"])
@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGTERM])
def test_a_natlb_is_ended_and_waited_for(tmp_path: Path, how: str, signum: signal.Signals) -> None:
    script = tmp_path / "natlb"
    script.write_text(_SLEEP)
    argv = old_natlb(tmp_path, *(("-m", "natlb") if how == "module" else (str(script),)))
    with running(*argv, cwd=tmp_path) as old:
        end([old.pid], signum)
        assert old.wait(0) == -signum


def test_a_process_that_is_gone_is_no_matter() -> None:
    with running("true") as gone:
        gone.wait()
        end([gone.pid], signal.SIGTERM)


@pytest.mark.parametrize("argv", [("sleep", "99"), (sys.executable, "-c", _SLEEP, "-m", "natlb")])
def test_another_process_is_left_alone_with_a_warning_and_holds_nobody_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, argv: tuple[str, ...]
) -> None:
    with running(*old_natlb(tmp_path, "-m", "natlb"), cwd=tmp_path) as old, running(*argv) as other:
        end([other.pid, old.pid], signal.SIGTERM)
        assert other.poll() is None
        assert old.wait(0) == -signal.SIGTERM
    assert f"process {other.pid} is not natlb; it is sent no signal" in caplog.text


def test_a_thread_of_another_process_is_left_alone_too(caplog: pytest.LogCaptureFixture) -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        end([thread.native_id], signal.SIGTERM)
        assert f"process {thread.native_id} is not natlb" in caplog.text
    finally:
        over.set()
        thread.join()


def test_nothing_stays_open() -> None:
    with nothing_left_open(), running("sleep", "99") as other:
        end([other.pid], signal.SIGTERM)


def test_a_process_that_keeps_a_natlb_is_natlb_too(tmp_path: Path) -> None:
    (tmp_path / "natlb").mkdir()
    script = tmp_path / "natlb" / "keeper.py"
    script.write_text(_SLEEP)
    with running(sys.executable, "-I", "-S", str(script)) as old:
        end([old.pid], signal.SIGTERM)
        assert old.wait(0) == -signal.SIGTERM
