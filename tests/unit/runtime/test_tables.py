"""What is shown of stick tables, and how they are changed. Replies that need no table are held against HAProxy's."""

import asyncio

import pytest

from natlb.core.service import Service
from natlb.core.stick import StickTable
from natlb.runtime.commands import LANGUAGE
from natlb.runtime.console import Console
from natlb.runtime.language import Level
from natlb.runtime.running import Running

from .consoles import answer


@pytest.fixture
def table(running: Running) -> StickTable:
    made = StickTable("www-nodes", "ip", 1000, expire=60.0, stored={"conn_cnt": None, "conn_rate": 10.0})
    running.tables = {"www-nodes": made}
    return made


def key(number: int) -> bytes:
    return bytes([44, 1, number >> 8, number & 0xFF])


def test_an_entry_is_shown_with_its_data_and_its_server_by_number_and_name(running: Running, table: StickTable) -> None:
    entry = table.set(key(1), 100.0, "server1", conn_cnt=3)
    assert entry is not None
    entry.use = 2
    assert answer(running, "show table www-nodes") == (
        "# table: www-nodes, type: ip, size:1000, used:1\n"
        "0x1: key=44.1.0.1 use=2 exp=53000 server_id=1 conn_cnt=3 conn_rate(10000)=0 server_key=server1\n"
    )


def test_a_server_that_is_gone_has_no_number(running: Running, table: StickTable) -> None:
    table.set(key(1), 100.0, "gone")
    assert " server_id=0 conn_cnt=0 " in answer(running, "show table www-nodes")


def test_an_entry_is_made_to_stick_to_a_server_by_its_number(
    running: Running, table: StickTable, services: list[Service]
) -> None:
    assert answer(running, "set table www-nodes key 44.1.0.1 data.server_id 1 data.conn_cnt 7") == ""
    entry = table.get(key(1), 107.0)
    assert entry is not None
    assert (entry.server, entry.read("conn_cnt", 107.0)) == ("server1", 7)
    assert answer(running, "show table www-nodes data.server_id eq 2").count("\n") == 1
    assert answer(running, "show table www-nodes data.server_id eq 1").count("\n") == 2


def test_a_table_that_is_full_and_does_not_purge_has_no_room(running: Running) -> None:
    running.tables = {"t": StickTable("t", "integer", 1, purge=False)}
    assert answer(running, "set table t key 1") == ""
    assert answer(running, "set table t key 2") == "Unable to allocate a new entry\n"


def test_entries_in_use_are_not_cleared(running: Running, table: StickTable) -> None:
    for number in (1, 2):
        table.set(key(number), 100.0)
    used = table.get(key(1), 100.0)
    assert used is not None
    used.use = 1
    assert answer(running, "clear table www-nodes key 44.1.0.1") == "Entry currently in use, cannot remove\n"
    assert answer(running, "clear table www-nodes") == ""
    assert [entry.key for entry in table.entries(107.0)] == [key(1)]


@pytest.mark.parametrize("line", ["set table {} key 1.1.1.1", "clear table {}", "clear table {} key 1.1.1.1"])
def test_a_user_may_change_no_entry_and_sees_none(running: Running, table: StickTable, line: str) -> None:
    table.set(key(1), 100.0)
    assert answer(running, line.format("www-nodes"), Level.USER) == "Permission denied\n"
    assert answer(running, "show table www-nodes", Level.USER).splitlines()[1:] == [
        "# contents not dumped due to insufficient privileges"
    ]


@pytest.mark.parametrize("line", ["show table www-nodes", "clear table www-nodes"])
def test_entries_may_go_and_come_between_two_pieces(running: Running, table: StickTable, line: str) -> None:
    for number in range(200):
        table.set(key(number), 100.0)
    console = Console(running, LANGUAGE, Level.ADMIN, 10.0)

    async def walk() -> str:
        pieces = []
        async for piece in console.obey(line):
            pieces.append(piece)
            if len(pieces) == 3:
                table.clear(107.0)
                for number in range(1000, 1100):
                    table.set(key(number), 107.0)
        return "".join(pieces)

    reply = asyncio.run(walk())
    if line.startswith("show"):
        ids = [shown.split(":")[0] for shown in reply.splitlines() if shown.startswith("0x")]
        assert len(ids) == len(set(ids)) >= 64
        assert table.used(107.0) == 100
