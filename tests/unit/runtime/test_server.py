"""The stats sockets: their files, their clients, and clients that behave badly."""

import asyncio
import contextlib
import grp
import os
import pwd
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from natlb.core.engine import NatEngine
from natlb.core.pool import Pool, Server
from natlb.core.service import Service, VirtualAddresses
from natlb.errors import RuntimeApiError
from natlb.log import log
from natlb.runtime import server as server_module
from natlb.runtime.commands import LANGUAGE
from natlb.runtime.language import Command, Language, Level
from natlb.runtime.running import Running
from natlb.runtime.server import Access, RuntimeServer
from tests.ports import free_port

from .conftest import syn
from .consoles import Doctor, Recruits, answer, run, said, serving, socket_directory


@pytest.fixture
def path() -> Iterator[Path]:
    with socket_directory() as directory:
        yield directory / "natlb.sock"


# -- the file


def started(running: Running, access: Access, look: Callable[[], object]) -> Any:
    async def story() -> object:
        server = RuntimeServer([access], running, LANGUAGE, timeout=1.0, most_clients=1)
        server.start()
        try:
            return look()
        finally:
            server.close()

    return asyncio.run(story())


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_only_the_owner_may_connect_unless_told_otherwise(running: Running, path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        mode = started(running, Access(str(path)), lambda: path.stat().st_mode)
    finally:
        assert os.umask(before) == umask, "the process's own umask is as it was"
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_the_mode_is_as_told_whatever_the_umask(running: Running, path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert started(running, Access(str(path), mode=0o666), lambda: stat.S_IMODE(path.stat().st_mode)) == 0o666
    finally:
        os.umask(before)


def test_owner_and_group_are_as_told(running: Running, path: Path) -> None:
    user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(os.getgid())
    if os.geteuid() == 0:
        user, group = pwd.getpwnam("nobody"), grp.getgrgid(1)
    access = Access(str(path), user=user.pw_name, group=group.gr_name)
    found = started(running, access, path.stat)
    assert (found.st_uid, found.st_gid) == (user.pw_uid, group.gr_gid)


def test_the_socket_of_a_run_that_is_no_more_is_replaced(running: Running, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))

    async def story() -> str:
        async with serving(running, Access(str(path))) as client:
            return await said(await client(), b"help\n")

    assert run(story()).startswith("The following commands")


def test_nothing_is_left_in_the_directory_after_the_end(running: Running, path: Path) -> None:
    started(running, Access(str(path)), lambda: None)
    assert list(path.parent.iterdir()) == []


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What is logged, with a look at the sockets' files in each turn of the loop."""
    monkeypatch.setattr(server_module, "_LOOKED_AFTER", 0)
    monkeypatch.setattr(log, "propagate", True)
    return caplog


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def test_a_socket_whose_file_was_removed_is_there_again_as_it_was(
    running: Running, path: Path, told: pytest.LogCaptureFixture
) -> None:
    async def story() -> str:
        async with serving(running, Access(str(path), mode=0o640)) as client:
            path.unlink()
            await until(path.exists)
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
            return await said(await client(), b"help\n")

    assert run(story()).startswith("The following commands")
    assert told.messages == [f"stats socket unix@{path}: its file was removed by somebody else; made again"]
    assert list(path.parent.iterdir()) == []


def test_a_socket_that_cannot_be_made_again_is_told_once(
    running: Running, path: Path, told: pytest.LogCaptureFixture
) -> None:
    directory = path.parent / "inner"
    directory.mkdir()

    async def story() -> None:
        async with serving(running, Access(str(directory / "natlb.sock"))):
            shutil.rmtree(directory)
            await until(lambda: told.messages)
            for _ in range(10):
                await asyncio.sleep(0)

    run(story())
    [line] = told.messages
    assert line.startswith("its file was removed by somebody else, and cannot be made again: Starting stats socket")
    assert line.endswith(f"make its directory ('mkdir -p {directory}'), or give another path")


def test_a_file_that_somebody_else_has_put_there_stays(
    running: Running, path: Path, told: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with serving(running, Access(str(path))):
            other = path.with_name("other")
            other.write_text("mine")
            other.replace(path)
            await until(lambda: told.messages)
            for _ in range(10):
                await asyncio.sleep(0)

    run(story())
    assert told.messages == [f"stats socket unix@{path}: somebody else's file has taken its place"]
    assert path.read_text() == "mine"


def test_a_place_that_may_not_be_looked_at_is_taken_for_unchanged(
    running: Running, path: Path, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    def forbidden(at: str) -> None:
        looks.append(at)
        raise PermissionError

    async def story() -> None:
        async with serving(running, Access(str(path))):
            monkeypatch.setattr(server_module, "_identity", forbidden)
            await until(lambda: len(looks) > 3)

    run(story())
    assert told.messages == []


_IMPOSSIBLE = {
    "a directory that is not there": (
        "nowhere/natlb.sock",
        {},
        "No such file or directory; make its directory ('mkdir -p {place}/nowhere'), or give another path",
    ),
    "a file in place of the directory": ("file/natlb.sock", {}, "Not a directory; give a path in a directory"),
    "a directory in its place": ("directory", {}, "Is a directory; give the path of a file in it"),
    "a name too long for a Unix socket": (
        "x" * 120,
        {},
        "AF_UNIX path too long; give a path of at most 95 bytes",
    ),
    "a user who is not there": (
        "natlb.sock",
        {"user": "no-such-user"},
        "name not found: 'no-such-user'; add it to the system, or name another",
    ),
    "a group that is not there": (
        "natlb.sock",
        {"group": "no-such-group"},
        "name not found: 'no-such-group'; add it to the system, or name another",
    ),
}


@pytest.mark.parametrize(("name", "access", "reason"), _IMPOSSIBLE.values(), ids=_IMPOSSIBLE)
def test_a_socket_that_cannot_be_had_is_one_line_and_leaves_nothing(
    running: Running, path: Path, name: str, access: dict[str, str], reason: str
) -> None:
    (path.parent / "file").touch()
    (path.parent / "directory").mkdir()
    before = sorted(path.parent.rglob("*"))
    wanted = path.parent / name
    server = RuntimeServer([Access(str(wanted), **access)], running, LANGUAGE, timeout=1.0, most_clients=1)
    with pytest.raises(RuntimeApiError) as refused:
        server.start()
    message = str(refused.value)
    assert message.startswith(f"Starting stats socket {wanted}: ")
    assert message.endswith(reason.format(place=path.parent))
    assert "\n" not in message
    server.close()
    assert sorted(path.parent.rglob("*")) == before


# -- what clients send, and when


_ANSWERED = {
    "one command": ([b"help\n"], ["help"]),
    "several on a line": ([b"help; show sess;help\n"], ["help", "show sess", "help"]),
    "several lines": ([b"help\nshow sess\n"], ["help", "show sess"]),
    "half a line, then the other": ([b"show s", b"ess\n"], ["show sess"]),
    "one byte at a time": ([bytes([byte]) for byte in b"help\n"], ["help"]),
    "a whole line and half of another": ([b"help\nshow s", b"ess\n"], ["help", "show sess"]),
    "a command without the end of its line": ([b"help;"], ["help"]),
    "the same, and half of another": ([b"help;show s", b"ess;"], ["help", "show sess"]),
    "no text at all": ([b"\xff\xfe\n"], ["\ufffd\ufffd"]),
    "as the Datadog agent does": ([b"show backend;show stat\r\n"], ["show backend", "show stat"]),
}


@pytest.mark.parametrize("then_close", [False, True])
@pytest.mark.parametrize(("pieces", "understood"), _ANSWERED.values(), ids=_ANSWERED)
def test_each_command_is_answered_and_followed_by_an_empty_line(
    running: Running, path: Path, pieces: list[bytes], understood: list[str], then_close: bool
) -> None:
    async def story() -> str:
        async with serving(running, Access(str(path))) as client:
            return await said(await client(), *pieces, then_close=then_close)

    expected = "".join(f"{answer(running, line, Level.OPERATOR)}\n" for line in understood)
    assert run(story()) == expected


@pytest.mark.parametrize("pieces", [[b"show sess"], [b""], [b"help\\;show sess"]])
def test_a_command_that_is_broken_off_is_not_obeyed(running: Running, path: Path, pieces: list[bytes]) -> None:
    async def story() -> str:
        async with serving(running, Access(str(path))) as client:
            return await said(await client(), *pieces, then_close=True)

    assert run(story()) == ""


def test_what_was_whole_before_a_command_was_broken_off_is_obeyed(running: Running, path: Path) -> None:
    async def story() -> str:
        async with serving(running, Access(str(path))) as client:
            return await said(await client(), b"show cli level;show sess", then_close=True)

    assert run(story()) == "operator\n\n"


def test_an_interactive_client_is_served_until_it_quits(running: Running, path: Path) -> None:
    async def story() -> str:
        async with serving(running, Access(str(path))) as client:
            return await said(await client(), b"prompt\n", b"show backend\n", b"show cli level\n", b"quit\n")

    assert run(story()) == "\n> # name\nwww-nodes\nwww6-nodes\n\n> operator\n\n> "


def test_more_commands_than_the_buffer_holds_are_all_answered(running: Running, path: Path) -> None:
    async def story() -> str:
        async with serving(running, Access(str(path))) as client:
            return await said(await client(), b"show cli level\n" * 5000)

    assert run(story()) == "operator\n\n" * 5000


def test_the_level_is_the_sockets_and_each_client_begins_with_it(running: Running, path: Path) -> None:
    other = Access(f"{path}.admin", level=Level.ADMIN)

    async def story() -> str:
        async with serving(running, Access(str(path), level=Level.USER), other) as client:
            answers = [await said(await client(), b"show sess\n"), await said(await client(other), b"user\n")]
            answers.append(await said(await client(other), b"show cli level\n"))
            return "|".join(answers)

    assert run(story()) == "Permission denied\n\n|\n|admin\n\n"


def test_a_tcp_socket_speaks_the_same(running: Running) -> None:
    access = Access(address=("127.0.0.1", free_port()), severities="number")
    assert str(access) == f"ipv4@127.0.0.1:{access.address[1]}"

    async def story() -> str:
        async with serving(running, access) as client:
            return await said(await client(), b"get weight x;show backend\n")

    assert run(story()) == "[3]: Require 'backend/server'.\n\n# name\nwww-nodes\nwww6-nodes\n\n"


def test_a_tcp_port_that_is_taken_is_one_line_with_the_remedy(running: Running) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = RuntimeServer([Access(address=taken.getsockname())], running, LANGUAGE, timeout=1.0, most_clients=1)
        with pytest.raises(RuntimeApiError, match="Address already in use; a local process has that port"):
            server.start()


# -- clients that behave badly


_GARBAGE = {
    "a line without an end": b"x" * 20000,
    "bytes of all kinds": bytes(range(256)) * 200,
    "nothing but NUL": bytes(20000),
    "backslashes": b"\\" * 20000,
    "a payload without an end": b"set server a <<\n" + b"x" * 20000,
}


@pytest.mark.parametrize("data", _GARBAGE.values(), ids=_GARBAGE)
def test_garbage_is_answered_or_cut_off_and_the_next_client_is_served(
    running: Running, path: Path, data: bytes
) -> None:
    async def story() -> str:
        async with serving(running, Access(str(path)), timeout=1.0) as client:
            reader, writer = await client()
            writer.write(data)
            with contextlib.suppress(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 60)
            return await said(await client(), b"show cli level\n")

    assert run(story()) == "operator\n\n"


def test_a_silent_client_is_cut_off_after_the_timeout(running: Running, path: Path) -> None:
    async def story() -> str:
        async with serving(running, Access(str(path)), timeout=0.05):
            silent = socket.socket(socket.AF_UNIX)
            silent.connect(str(path))
            silent.sendall(b"show se")  # before the server has as much as looked at it
            reader, writer = await asyncio.open_unix_connection(sock=silent)
            received = await asyncio.wait_for(reader.read(), 60)
            writer.close()
            return received.decode()

    assert run(story()) == ""


def test_a_client_that_sends_a_byte_now_and_then_is_cut_off_too(running: Running, path: Path) -> None:
    async def story() -> str:
        async with serving(running, Access(str(path)), timeout=0.2) as client:
            started = time.monotonic()
            reader, slow = await client()
            while not reader.at_eof() and time.monotonic() - started < 10:
                try:
                    slow.write(b"x")
                    await asyncio.wait_for(reader.read(), 0.05)
                except TimeoutError:
                    continue
                except OSError:  # the last byte met nobody any more
                    break
            return f"{time.monotonic() - started:.3f}"

    assert 0.2 <= float(run(story())) < 10


def test_a_client_may_choose_its_timeout(running: Running, path: Path) -> None:
    async def story() -> str:
        async with serving(running, Access(str(path)), timeout=1.0) as client:
            reader, writer = await client()
            writer.write(b"prompt;set timeout cli 60s\n")
            await asyncio.sleep(1.3)
            return await said((reader, writer), b"quit\n")

    assert run(story()) == "\n> \n> "


def test_a_client_that_does_not_read_is_cut_off_and_gives_its_place_back(running: Running, path: Path) -> None:
    made = 0

    def much(*_: object) -> Iterator[str]:
        nonlocal made
        for _ in range(10_000):
            made += 10_000
            yield "y" * 10_000

    async def story() -> str:
        access = Access(str(path))
        server = RuntimeServer([access], running, language, timeout=0.2, most_clients=1)
        server.start()
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(path))
            deaf.sendall(b"much\n")
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"little\n")
            reply = await asyncio.wait_for(reader.read(), 60)
        server.close()
        writer.close()
        return reply.decode()

    language = Language(
        [
            Command(("much",), Level.USER, "much", "", much),
            Command(("little",), Level.USER, "little", "", lambda *_: "little\n"),
        ],
        {},
    )
    assert run(story()) == "little\n\n"
    assert made < 2_000_000, "a reply is not made before it is read"


def test_a_client_too_many_waits_until_another_has_gone(running: Running, path: Path) -> None:
    async def story() -> str:
        async with serving(running, Access(str(path)), most_clients=2) as client:
            silent = [await client(), await client()]
            late = asyncio.create_task(said(await client(), b"help\n"))
            done, _ = await asyncio.wait([late], timeout=0.1)
            assert not done, "the third was served while two others were there"
            silent[0][1].close()
            return await late

    assert run(story()).startswith("The following commands")


def test_the_places_are_for_all_sockets_together(running: Running, path: Path) -> None:
    other = Access(f"{path}.other")

    async def story() -> str:
        async with serving(running, Access(str(path)), other, most_clients=1) as client:
            _, silent = await client()
            await asyncio.sleep(0.05)
            late = asyncio.create_task(said(await client(other), b"help\n"))
            done, _ = await asyncio.wait([late], timeout=0.1)
            assert not done
            silent.close()
            return await late

    assert run(story()).startswith("The following commands")


def test_a_thousand_clients_at_once_are_all_served_and_never_more_than_have_a_place(
    running: Running, path: Path
) -> None:
    def descriptors() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    async def story() -> str:
        loop = asyncio.get_running_loop()
        server = RuntimeServer([Access(str(path))], running, LANGUAGE, timeout=10.0, most_clients=10)
        server.start()
        clients = []
        for _ in range(1000):
            one = socket.socket(socket.AF_UNIX)
            one.setblocking(False)
            one.connect(str(path))
            one.send(b"show cli level\n")
            clients.append(one)
        before, most = descriptors(), 0
        answers = set()
        for one in clients:
            answers.add(await asyncio.wait_for(loop.sock_recv(one, 100), 60))
            most = max(most, descriptors() - before)
        for one in clients:
            one.close()
        server.close()
        assert most <= 10
        return str(answers)

    assert run(story()) == str({b"operator\n\n"})


def test_one_slow_client_does_not_hold_up_another(running: Running, path: Path) -> None:
    async def story() -> str:
        async with serving(running, Access(str(path)), timeout=60.0) as client:
            _, slow = await client()
            slow.write(b"show s")
            return await said(await client(), b"help\n")

    assert run(story()).startswith("The following commands")


def test_a_client_that_goes_before_its_answer_harms_nobody(
    running: Running, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> str:
        async with serving(running, Access(str(path))) as client:
            for _ in range(3):
                _, hasty = await client()
                hasty.write(b"help\n" * 100)
                await hasty.drain()
                hasty.transport.abort()
            return await said(await client(), b"help\n")

    assert run(story()).startswith("The following commands")
    assert caplog.records == []


# -- packets come first


def test_the_loop_turns_while_much_is_asked_by_several(path: Path) -> None:
    pool = Pool("b", [Server("s", bytes([44, 3, 3, 3]), 4444)])
    addresses = VirtualAddresses()
    addresses.bind(bytes([44, 2, 2, 2]), 8888, Service("f", pool))
    engine = NatEngine(addresses)
    for number in range(4000):
        engine.handle_packet(syn(f"44.1.{number // 200}.{number % 200 + 1}", 4000, "44.2.2.2", 8888), 0.0)
    settled = 0

    def settle() -> None:
        nonlocal settled
        settled += 1

    running = Running(engine, [], {"b": pool}, lambda: 1.0, Recruits(), Doctor(), afterwards=settle)
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def story() -> str:
        async with serving(running, Access(str(path))) as client:
            ticking = asyncio.create_task(tick())
            answers = await asyncio.gather(*[said(await client(), b"show sess\n") for _ in range(3)])
            ticking.cancel()
            return str({reply.count("\n") for reply in answers})

    assert run(story()) == "{4001}"
    assert turns >= 30, "a reply was made in fewer turns than it has milliseconds of work"
    assert settled >= 30
