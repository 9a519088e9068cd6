"""What natlb says of itself: on standard error, come of that what may, and about proxies to whoever listens."""

import errno
import io
import logging
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, suppress
from pathlib import Path
from typing import TextIO

import pytest

from natlb import cli
from natlb import log as log_module
from natlb.log import NOTICE, Level, fault, is_journal, listen, log, never_wait, notice, set_up, status


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = log.handlers, log.level, log.propagate
    monkeypatch.setattr(log_module, "_faults", {})
    monkeypatch.setattr(log_module._standard_error, "_untold", 0)
    yield
    log.handlers, log.level, log.propagate = before


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [
        line.replace(line[line.index("(") : line.index(")") + 1], "(1)")
        for line in capsys.readouterr().err.splitlines()
    ]


def test_lines_have_haproxys_layout(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(NOTICE)
    notice("ready")
    log.warning("careful")
    log.error("no")
    assert said(capsys) == ["[NOTICE]   (1) : ready", "[WARNING]  (1) : careful", "[ALERT]    (1) : no"]


@contextmanager
def journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a file in the place of standard error, and have it said to be the journal."""
    own = os.dup(2)
    with path.open("wb") as file, monkeypatch.context() as patched:
        status = os.fstat(file.fileno())
        patched.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        os.dup2(file.fileno(), 2)
        try:
            with open(2, "w", closefd=False) as stderr:
                patched.setattr("sys.stderr", stderr)
                yield
        finally:
            os.dup2(own, 2)
            os.close(own)


def test_the_journal_is_told_how_urgent_each_line_is_and_nothing_that_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with journal(tmp_path / "journal", monkeypatch):
        set_up(logging.DEBUG)
        log.debug("a connection")
        notice("ready")
        log.warning("careful\nand more")
        log.error("no")
        log.critical("not at all")
    assert (tmp_path / "journal").read_text().splitlines() == [
        "<7>a connection",
        "<5>ready",
        "<4>careful",
        "<4>and more",
        "<3>no",
        "<2>not at all",
    ]


def test_what_is_wrong_with_a_configuration_is_told_the_journal_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.cfg").write_text("listen web\n bind *:80\n server one 192.0.2.1:80\n bnid *:81\n")
    with journal(tmp_path / "journal", monkeypatch):
        assert cli.main(["-c", "-f", str(tmp_path / "t.cfg")]) == 1
    lines = (tmp_path / "journal").read_text().splitlines()
    assert [line[:3] for line in lines] == ["<3>"] * len(lines)
    assert "t.cfg:4] : unknown keyword 'bnid'" in lines[0]


@pytest.mark.parametrize("stream", [None, "", "1:2", "nonsense"])
def test_what_is_not_the_journal_gets_haproxys_layout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stream: str | None
) -> None:
    if stream is None:
        monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    else:
        monkeypatch.setenv("JOURNAL_STREAM", stream)
    set_up(NOTICE)
    notice("ready")
    assert said(capsys) == ["[NOTICE]   (1) : ready"]


def test_a_descriptor_that_is_closed_is_not_the_journal() -> None:
    one, other = os.pipe()
    os.close(one)
    os.close(other)
    assert not is_journal(one)


def test_a_change_of_a_proxy_is_a_warning_and_an_emergency_an_alert(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(NOTICE)
    status("be", Level.NOTICE, "Server be/s1 is UP")
    status("be", Level.ALERT, "Server be/s1 is DOWN")
    status("be", Level.EMERG, "backend be has no server available!", "backend 'be' has no server available!")
    assert said(capsys) == [
        "[WARNING]  (1) : Server be/s1 is UP",
        "[WARNING]  (1) : Server be/s1 is DOWN",
        "[ALERT]    (1) : backend 'be' has no server available!",
    ]


def test_who_listens_hears_it_whatever_standard_error_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(40)
    heard: list[tuple[str, Level, str]] = []
    forget = listen(lambda *what: heard.append(what))
    status("be", Level.ALERT, "down")
    forget()
    status("be", Level.NOTICE, "up")
    assert heard == [("be", Level.ALERT, "down")]
    assert said(capsys) == []


# -- standard error that takes nothing, or is not there


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Have a pipe for standard error: the end that is read from, and the other."""
    reading, writing = os.pipe()
    set_up(NOTICE)
    with os.fdopen(reading, "rb"), os.fdopen(writing, "w", encoding="utf-8") as file, redirect_stderr(file):
        yield reading, writing


def fill(descriptor: int) -> int:
    """Write until nothing more is taken; return how much it was."""
    os.set_blocking(descriptor, False)
    written = 0
    try:
        while True:
            written += os.write(descriptor, b"x" * select.PIPE_BUF)
    except BlockingIOError:
        os.set_blocking(descriptor, True)
        return written


def test_a_reader_that_has_stopped_holds_nobody_up_and_hears_how_much_was_lost() -> None:
    with pipe() as (reading, writing), never_wait():
        filled = fill(writing)
        for number in range(3):
            notice(f"lost {number}")
        assert len(os.read(reading, filled)) == filled
        notice("there again")
        notice("and as before")
        lines = [line.partition(" : ")[2] for line in os.read(reading, 10_000).decode().splitlines()]
    assert lines == ["there again", "3 lines of this log were lost: standard error did not take them", "and as before"]


def test_until_packets_come_a_line_waits_for_its_reader() -> None:
    with pipe() as (reading, writing):
        filled = fill(writing)
        reader = threading.Thread(target=lambda: os.read(reading, filled))
        reader.start()
        notice("what the reader asked for")
        reader.join()
        assert os.read(reading, 10_000).endswith(b" : what the reader asked for\n")


def test_a_long_line_is_cut_to_what_a_pipe_takes_whole() -> None:
    with pipe() as (reading, _), never_wait():
        notice("y" * 10_000)
        notice("next")
        first, second = os.read(reading, 20_000).splitlines()
    assert len(first) + 1 == select.PIPE_BUF
    assert second.endswith(b" : next")


@pytest.mark.parametrize("waiting", [never_wait, nullcontext])
def test_a_reader_that_has_gone_is_no_matter(waiting: Callable[[], AbstractContextManager[None]]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    set_up(NOTICE)
    with os.fdopen(writing, "w", encoding="utf-8") as file, redirect_stderr(file), waiting():
        notice("into nothing")
        notice("once more")


def _closed(_: Path) -> TextIO | None:
    return None


def _closed_since(folder: Path) -> TextIO | None:
    file = (folder / "closed").open("w")
    file.close()
    return file


def _full(_: Path) -> TextIO | None:
    return open("/dev/full", "w")  # noqa: PTH123 - closed by the test


_USELESS: dict[str, Callable[[Path], TextIO | None]] = {
    "closed before the start": _closed,
    "closed since": _closed_since,
    "a disk that is full": _full,
}


@pytest.mark.parametrize("useless", _USELESS.values(), ids=_USELESS)
def test_standard_error_that_is_of_no_use_is_no_matter(
    useless: Callable[[Path], TextIO | None], tmp_path: Path
) -> None:
    set_up(NOTICE)
    file = useless(tmp_path)
    with redirect_stderr(file):
        notice("into nothing")
        with never_wait():
            notice("once more")
    if file is not None:
        with suppress(OSError):
            file.close()


def test_a_journal_that_hangs_holds_nobody_up() -> None:
    """Under systemd standard error is a stream socket."""
    ours, theirs = socket.socketpair()
    set_up(NOTICE)
    with ours, theirs, ours.makefile("w", encoding="utf-8") as file, redirect_stderr(file), never_wait():
        for _ in range(10_000):
            notice("z" * 100)
        theirs.setblocking(False)
        taken = 0
        with pytest.raises(BlockingIOError):
            while piece := theirs.recv(1 << 20):
                taken += piece.count(b"\n")
        notice("there again")
        told = theirs.recv(1 << 16).decode()
        assert f" : {10_000 - taken} lines of this log were lost: " in told


# -- errors of natlb's own


def raised(error: Exception) -> Exception:
    """Let an error pass through natlb."""

    class Broken:
        def write(self, _: str) -> None:
            raise error

        def fileno(self) -> int:
            raise io.UnsupportedOperation

    try:
        with redirect_stderr(Broken()):  # type: ignore[type-var]
            log_module._standard_error._try("line")
    except Exception as caught:
        return caught
    raise AssertionError


def test_an_error_of_natlbs_own_is_told_with_its_place_and_not_for_each_packet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up(NOTICE)
    error, now = raised(KeyError("x")), [100.0]
    for at in (100.0, 100.1, 109.9, 110.0, 110.1, 121.0, 140.0):
        now[0] = at
        fault("a packet was dropped", error, lambda: now[0])
    fault("a task ended", None, lambda: now[0])
    lines = [line.partition(" : ")[2] for line in said(capsys)]
    place = lines[0].rpartition(" at ")[2]
    assert place.startswith("natlb/log.py:")
    first = f"a packet was dropped because of an internal error, please report it: KeyError('x') at {place}"
    assert lines == [
        first,
        f"{first} (2 times more since it was told last)",
        f"{first} (1 times more since it was told last)",
        first,
        "a task ended because of an internal error, please report it: None",
    ]


@pytest.mark.parametrize(
    "error",
    [MemoryError(), OSError(errno.ENOBUFS, "No buffer space available"), RuntimeError("can't start new thread")],
    ids=repr,
)
def test_want_of_memory_is_called_by_its_name(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    set_up(NOTICE)
    fault("a packet was dropped", error)
    assert said(capsys) == [
        "[ALERT]    (1) : a packet was dropped for want of memory: the machine, a cgroup or a limit ('ulimit -v') "
        "gives natlb no more"
    ]


def test_kinds_of_errors_are_remembered_within_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(NOTICE)
    for number in range(1000):
        fault(f"kind {number}", ValueError())
    assert len(log_module._faults) <= 64
    assert len(said(capsys)) == 1000
