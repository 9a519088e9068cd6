"""One command, one reply, within bounds; nobody there is said in words."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from natlb.top.client import Reply, Unreachable, ask

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def asked(path: Path, answer: Answer, *, most: int = 1000, seconds: float = 5.0) -> Reply:
    async def run() -> Reply:
        server = await asyncio.start_unix_server(answer, str(path))
        try:
            return await ask(str(path), "show it", most=most, seconds=seconds)
        finally:
            server.close()
            await asyncio.sleep(0.01)

    return asyncio.run(run())


def saying(*pieces: bytes, end: bool = True) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"show it\n"
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)
        if not end:
            await reader.read()
        writer.transport.abort() if not end else writer.close()

    return answer


def test_a_reply_is_read_to_its_end(tmp_path: Path) -> None:
    assert asked(tmp_path / "s", saying(b"one\n", b"two\n\n")) == Reply("one\ntwo\n\n", whole=True)


def test_no_more_is_read_than_asked_for_and_the_last_line_is_whole(tmp_path: Path) -> None:
    reply = asked(tmp_path / "s", saying(b"123456789\n" * 1000), most=95)
    assert not reply.whole
    assert reply.text.endswith("9\n")


def test_who_does_not_stop_is_not_listened_to_for_ever(tmp_path: Path) -> None:
    assert asked(tmp_path / "s", saying(b"one\ntw", end=False), seconds=1.0) == Reply("one\n", whole=False)


def test_who_says_nothing_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="does not answer within"):
        asked(tmp_path / "s", saying(end=False), seconds=0.1)


def test_nobody_there_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"cannot ask .*: No such file or directory"):
        asyncio.run(ask(str(tmp_path / "none"), "show it", most=1, seconds=1))
    (tmp_path / "file").touch()
    with pytest.raises(Unreachable, match="Connection refused"):
        asyncio.run(ask(str(tmp_path / "file"), "show it", most=1, seconds=1))
    with pytest.raises(Unreachable, match="AF_UNIX path too long"):
        asyncio.run(ask("/" + "x" * 200, "show it", most=1, seconds=1))


def test_what_could_be_an_order_to_the_terminal_is_none(tmp_path: Path) -> None:
    assert asked(tmp_path / "s", saying(b"\x1b[2J\x9b\x07ok\xc2\x9b\n")).text == "?[2J\ufffd?ok?\n"
