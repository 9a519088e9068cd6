"""The command line of `natlb top`, and what it asks for each view."""

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from natlb import cli
from natlb.top.app import MOST_CONNECTIONS, take
from natlb.top.client import Unreachable
from natlb.top.state import View
from tests.unit.top.samples import HAPROXY_STAT, NATLB_SESS

ANSWERS = {
    "show info": "Name: HAProxy\nVersion: 2.6.0-natlb0.1.0\n\n",
    "show stat": HAPROXY_STAT,
    f"show sess recent {MOST_CONNECTIONS}": NATLB_SESS,
}


@contextmanager
def answering(path: Path) -> Iterator[list[str]]:
    """Answer at a socket, in a thread; yield what is asked."""
    asked: list[str] = []
    ready = Event()
    stop: Callable[[], object] = lambda: None  # noqa: E731

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = (await reader.readline()).decode().strip()
        asked.append(command)
        writer.write(ANSWERS[command].encode())
        writer.close()

    async def serve() -> None:
        nonlocal stop
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()
        stop = lambda: loop.call_soon_threadsafe(stopping.set)  # noqa: E731
        server = await asyncio.start_unix_server(answer, str(path))
        ready.set()
        await stopping.wait()
        server.close()
        await asyncio.sleep(0.01)

    thread = Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(60)
    try:
        yield asked
    finally:
        stop()
        thread.join(60)


def test_connections_are_asked_for_only_when_they_are_shown(tmp_path: Path) -> None:
    with answering(tmp_path / "s") as asked:
        proxies = asyncio.run(take(str(tmp_path / "s"), View.PROXIES))
        assert asked == ["show info", "show stat"]
        connections = asyncio.run(take(str(tmp_path / "s"), View.CONNECTIONS))
        assert asked[2:] == list(ANSWERS)
    assert (len(proxies.rows), proxies.sessions, proxies.whole) == (4, None, True)
    assert [each.server for each in connections.sessions or ()] == ["server1"]
    assert connections.info["Version"] == "2.6.0-natlb0.1.0"


def test_where_nobody_answers_nothing_is_made_up(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        asyncio.run(take(str(tmp_path / "s"), View.PROXIES))


def test_samples_are_written_as_text_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(tmp_path / "s"):
        assert cli.main(["top", "-s", str(tmp_path / "s"), "-i", "0.2", "-n", "2"]) == 0
    said = capsys.readouterr()
    assert (said.out.count("[3 Connections]"), said.err) == (2, "")
    assert "\x1b" not in said.out
    assert max(map(len, said.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("Permission denied\n\n", "Permission denied: connections need 'level operator' on the stats socket"),
        ("Unknown command: 'show sess'\n\n", "Unknown command: 'show sess'"),
    ],
)
def test_what_is_answered_instead_of_connections_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, reply: str, said: str
) -> None:
    monkeypatch.setitem(ANSWERS, f"show sess recent {MOST_CONNECTIONS}", reply)
    with answering(tmp_path / "s"):
        assert cli.main(["top", "-s", str(tmp_path / "s"), "-n", "1"]) == 0
    assert capsys.readouterr().out.count(f"\n{said}") == 1


def test_nobody_there_is_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["top", "-s", str(tmp_path / "s"), "-n", "1"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"natlb top: cannot ask {tmp_path / 's'}: No such file or directory; is natlb running")


def test_who_may_not_ask_is_told_who_may(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(asyncio, "open_unix_connection", refuse)
    assert cli.main(["top", "-s", "/run/s", "-n", "1"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("natlb top: cannot ask /run/s: Permission denied; run it as root, or as somebody whom")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("-i x", "argument -i: 'x' is not a number of seconds, 0.2 to 3600"),
        ("-i 0", "argument -i: '0' is not a number of seconds"),
        ("-i nan", "argument -i: 'nan' is not a number of seconds"),
        ("-i inf", "argument -i: 'inf' is not a number of seconds"),
        ("-n 0", "argument -n: '0' is not a number of samples, 1 or more"),
        ("-n -1", "argument -n: '-1' is not a number of samples"),
        ("-s", "argument -s: expected one argument"),
        ("web.cfg", "unrecognized arguments: web.cfg"),
    ],
)
def test_bad_arguments(capsys: pytest.CaptureFixture[str], arguments: str, complaint: str) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["top", *arguments.split()])
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("usage: natlb top ")
    assert f"natlb top: {complaint}" in said


def test_the_help_of_natlb_names_it_and_its_own_names_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (["-h"], ["natlb top"]), (["top", "-h"], ["-s SOCKET", "-i SECONDS", "-n COUNT"]):
        with pytest.raises(SystemExit):
            cli.main(arguments)
        said = capsys.readouterr().out
        assert all(word in said for word in words)
