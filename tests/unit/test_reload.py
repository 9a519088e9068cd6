"""Reloading in place: the command line of the next natlb, and what becomes of one that cannot start."""

import asyncio
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from natlb import reload
from natlb.command import Command
from natlb.reload import KEPT_BY, Reloader, keeper_of

_LINES = {
    "options": (["-f", "a.cfg", "-D"], ["-f", "a.cfg", "-D", "-c"]),
    "files after a double dash": (["-d", "--", "a.cfg", "b.cfg"], ["-d", "-c", "--", "a.cfg", "b.cfg"]),
    "a file by itself": (["a.cfg"], ["a.cfg", "-c"]),
    "an earlier predecessor": (["-f", "a.cfg", "-sf", "12", "13"], ["-f", "a.cfg", "-c"]),
    "an earlier predecessor, first": (["-st", "12", "-f", "7"], ["-f", "7", "-c"]),
    "an earlier predecessor, in one word": (["-sf=12", "-f", "a.cfg"], ["-f", "a.cfg", "-c"]),
    "none at that time": (["-sf", "-f", "a.cfg"], ["-f", "a.cfg", "-c"]),
    "a file of that name": (["--", "-sf", "12"], ["-c", "--", "-sf", "12"]),
}


@pytest.mark.parametrize(("arguments", "checking"), _LINES.values(), ids=_LINES)
def test_the_configuration_is_checked_by_the_same_command_line(arguments: list[str], checking: list[str]) -> None:
    command = Command(("python", "-m", "natlb"), tuple(arguments), "/", {})
    assert command.checking() == ["python", "-m", "natlb", *checking]


def test_the_successor_is_told_whose_place_it_takes() -> None:
    command = Command(("natlb",), ("-f", "a.cfg", "-sf", "12"), "/", {})
    assert command.succeeding(4711) == ["natlb", "-f", "a.cfg", "-sf", "4711"]


def test_a_command_is_the_one_that_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-P", "-m", "natlb", "-f", "a b.cfg"])
    monkeypatch.setattr(sys, "argv", ["/usr/lib/natlb/__main__.py", "-f", "a b.cfg"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYSLOG", "192.0.2.1")
    command = Command.own()
    monkeypatch.setenv("SYSLOG", "changed by the configuration")
    assert command.program == (sys.executable, "-P", "-m", "natlb")
    assert command.arguments == ("-f", "a b.cfg")
    assert (command.directory, command.environment["SYSLOG"]) == (str(tmp_path), "192.0.2.1")


_NUMBERS = {"": None, "12": 12, "x": None, "-1": None, "1" * 30: None, "\N{ARABIC-INDIC DIGIT ONE}": None}


@pytest.mark.parametrize(("text", "pid"), _NUMBERS.items())
def test_the_keeper_is_named_in_the_environment(text: str, pid: int | None) -> None:
    assert keeper_of({KEPT_BY: text}) == pid
    assert keeper_of({}) is None


# -- reloading

_PROGRAM = """
import os, sys
if "-c" in sys.argv:
    print("[ALERT]    (7) : config : parsing [a.cfg:3] : unknown keyword 'bogus'", file=sys.stderr)
    sys.exit({check})
with open("started", "a") as file:
    print(*sys.argv[1:], os.environ.get("NATLB_KEEPER"), os.environ.get("MARK"), file=file)
sys.exit({start})
"""


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    monkeypatch.setattr(reload.log, "propagate", True)
    caplog.set_level(logging.INFO, "natlb")
    return lambda: caplog.text


def reloaded(folder: Path, check: int = 0, start: int = 0, times: int = 1, **environment: str) -> Reloader:
    """Ask for a reload, so many times at once, of a program that ends with these exit codes."""
    program = folder / "program.py"
    program.write_text(_PROGRAM.format(check=check, start=start))
    command = Command((sys.executable, str(program)), ("-f", "a.cfg"), str(folder), environment)
    made: list[Reloader] = []

    async def run() -> None:
        tasks: set[asyncio.Task[None]] = set()

        def begin(work: Coroutine[None, None, None]) -> None:
            tasks.add(asyncio.get_running_loop().create_task(work))

        made.append(Reloader(command, begin))
        for _ in range(times):
            made[0].request()
        await asyncio.gather(*tasks)
        assert len(tasks) == 1

    asyncio.run(run())
    return made[0]


def test_a_configuration_with_errors_is_told_of_and_nothing_is_started(tmp_path: Path, said: Callable[[], str]) -> None:
    reloaded(tmp_path, check=1)
    assert "SIGUSR2: the configuration cannot be used; natlb goes on as it is" in said()
    assert "SIGUSR2: config : parsing [a.cfg:3] : unknown keyword 'bogus'" in said()
    assert not (tmp_path / "started").exists()


def test_a_good_one_starts_a_successor_with_the_same_environment(tmp_path: Path, said: Callable[[], str]) -> None:
    reloaded(tmp_path, MARK="there")
    assert (tmp_path / "started").read_text().split() == [
        *("-f", "a.cfg", "-sf", str(os.getpid())),
        *(str(os.getpid()), "there"),
    ]


@pytest.mark.parametrize("fails", ["check", "start"])
def test_asked_again_meanwhile_it_reloads_once_more(tmp_path: Path, said: Callable[[], str], fails: str) -> None:
    again = reloaded(tmp_path, times=4, **{fails: 3})  # type: ignore[arg-type]
    assert said().count("a reload is under way already; another one follows when that is done") == 1
    assert said().count("natlb goes on as it is" if fails == "check" else "this one goes on as it is") == 2
    assert (again._busy, again._again) == (False, False)


def test_whoever_has_taken_its_place_is_asked_instead(
    tmp_path: Path, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *told: sent.append(told))
    command = Command((sys.executable,), (), str(tmp_path), {})
    for times in (1, 2, 3):
        sent.clear()
        reloader = Reloader(command, lambda work: work.close())
        for _ in range(times):
            reloader.request()
        reloader.hand_on(4711)
        assert sent == ([(4711, signal.SIGUSR2)] if times > 1 else []), "the first was obeyed"
    reloader.request()
    assert sent == [(4711, signal.SIGUSR2)] * 2, "what comes too late is heard there as well"

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refused)
    reloader.request()
    assert "SIGUSR2: natlb 4711, which goes on from here, cannot be told: Operation not permitted" in said()


def test_whoever_is_kept_stays_with_its_keeper(tmp_path: Path) -> None:
    reloaded(tmp_path, **{KEPT_BY: "12"})
    assert (tmp_path / "started").read_text().split()[-2:] == ["12", "None"]


def test_one_that_fails_is_told_of(tmp_path: Path, said: Callable[[], str]) -> None:
    again = reloaded(tmp_path, start=3)
    assert "the new natlb has ended with status 3; this one goes on as it is" in said()
    assert not again.keeps(os.getpid())


def test_a_program_that_is_not_there_any_more_is_told_of(tmp_path: Path, said: Callable[[], str]) -> None:
    command = Command(("/nonexistent/python",), (), str(tmp_path), {})

    async def run() -> None:
        tasks: list[asyncio.Task[None]] = []
        Reloader(command, lambda work: tasks.append(asyncio.get_running_loop().create_task(work))).request()
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert "cannot start another natlb: [Errno 2] No such file or directory" in said()


def test_a_check_that_does_not_end_is_ended(
    tmp_path: Path, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "_CHECKED_WITHIN", 0.01)
    command = Command((sys.executable, "-c", "import signal; signal.pause()"), (), str(tmp_path), {})

    async def run() -> None:
        assert not await Reloader(command, lambda _: None)._is_valid()

    asyncio.run(run())
    assert "the configuration was not read within 0.01 seconds" in said()


def test_another_user_says_what_to_do_instead(
    tmp_path: Path, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reloader = Reloader(Command(("natlb",), (), str(tmp_path), {}), lambda _: pytest.fail("started"))
    monkeypatch.setattr(reloader, "_user", 0)
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    reloader.request()
    assert (
        f"as user 65534 natlb cannot start its successor; run its command line as user 0, with '-sf {os.getpid()}'"
        in (said())
    )


def test_only_a_child_that_nobody_else_keeps_is_kept(tmp_path: Path) -> None:
    for environment, kept in (({}, True), ({KEPT_BY: "12"}, False)):
        reloader = Reloader(Command((sys.executable,), (), str(tmp_path), environment), lambda _: None)
        assert not reloader.keeps(4711)
        reloader._successor = child = reloader._run([sys.executable, "-c", ""], None)
        assert reloader.keeps(child.pid) is kept
        assert not reloader.keeps(child.pid + 1)
        child.wait()
