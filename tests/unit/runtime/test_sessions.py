"""What is shown of connections, and how they are shut down."""

import asyncio

import pytest

from natlb.core.engine import NatEngine
from natlb.core.ports import PortRanges, Source
from natlb.core.service import VirtualAddresses
from natlb.core.states import State
from natlb.runtime.commands import LANGUAGE
from natlb.runtime.console import Console
from natlb.runtime.language import Level
from natlb.runtime.running import Running
from natlb.runtime.sessions import show_sess_recent
from tests.unit.core.packets import ACK, SYN, packed, segment

from .conftest import syn
from .consoles import Doctor, Recruits, answer

_V4 = (
    "0x1: proto=tcpv4 src=44.1.1.1:40312 fe=www be=www-nodes srv=server1 ts=INIT age=7s idle=7s "
    "orig=44.1.1.1:40312>44.2.2.2:8888 reply=44.3.3.3:4444>44.1.1.1:40312 opkts=1 obytes=0 rpkts=0 rbytes=0"
)
_V6 = (
    "0x2: proto=tcpv6 src=[fd44::1]:40313 fe=www6 be=www6-nodes srv=server1 ts=INIT age=4s idle=4s "
    "orig=[fd44::1]:40313>[fd44::2]:8888 reply=[fd44::3]:4444>[fd44::1]:40313 opkts=1 obytes=0 rpkts=0 rbytes=0"
)


@pytest.mark.parametrize("line", ["show sess", "show sess 0x0", "show sess susp"])
def test_show_sess_is_a_line_for_each_connection_of_either_family(running: Running, line: str) -> None:
    assert answer(running, line) == f"{_V4}\n{_V6}\n"


def test_show_sess_of_an_empty_table_is_empty() -> None:
    assert answer(Running(NatEngine(VirtualAddresses()), [], {}, lambda: 0.0, Recruits(), Doctor()), "show sess") == ""


def test_a_connection_whose_server_is_in_no_pool_any_more_is_shown_too(engine: NatEngine, running: Running) -> None:
    next(iter(engine.connections())).server.pool = None
    assert "be=<none> srv=server1" in answer(running, "show sess")


def test_a_clock_read_before_the_packet_shows_no_negative_time(engine: NatEngine) -> None:
    assert " age=0s idle=0s " in answer(Running(engine, [], {}, lambda: 99.0, Recruits(), Doctor()), "show sess")


_DUMP = """\
0x1: [26/Nov/2026:08:59:45.500000] id=1 proto=tcpv4 source=44.1.1.1:40312
  flags=half_open, conn_retries=0
  frontend=www (id=1 mode=tcp) addr=44.2.2.2:8888
  backend=www-nodes (id=10 mode=tcp) addr=44.1.1.1:40312
  server=server1 (id=1) addr=44.3.3.3:4444
  state=INIT age=7s idle=7s exp=3m54s
  req=44.1.1.1:40312>44.2.2.2:8888 (packets=1 total=0)
  res=44.3.3.3:4444>44.1.1.1:40312 (packets=0 total=0)
"""


def test_all_that_is_known_of_connections_can_be_asked_for(running: Running) -> None:
    shown = answer(running, "show sess all")
    assert shown.startswith(_DUMP)
    assert [line.split(":")[0] for line in shown.splitlines() if not line.startswith(" ")] == ["0x1", "0x2"]
    assert answer(running, "show sess 0x1") == _DUMP


def test_what_a_server_sees_and_has_answered_is_told(running: Running) -> None:
    engine = running.engine
    running.pools["www-nodes"].servers["server1"].sources = (Source(packed("44.3.3.1"), PortRanges([(5000, 5000)])),)
    engine.handle_packet(segment(("44.1.1.1", 5), ("44.2.2.2", 8888), SYN, seq=1), 107.0)
    engine.handle_packet(segment(("44.3.3.3", 4444), ("44.3.3.1", 5000), SYN | ACK, seq=1, ack=2), 107.0)
    lines = answer(running, "show sess 0x3").splitlines()
    assert lines[1] == "  flags=half_open,answered,full-nat, conn_retries=0"
    assert lines[3] == "  backend=www-nodes (id=10 mode=tcp) addr=44.3.3.1:5000"
    assert lines[7] == "  res=44.3.3.3:4444>44.3.3.1:5000 (packets=1 total=0)"


def test_a_connection_whose_server_has_gone_is_of_no_backend(engine: NatEngine, running: Running) -> None:
    next(iter(engine.connections())).server.pool = None
    assert "  backend=<NONE> (id=-1 mode=-) addr=44.1.1.1:40312\n" in answer(running, "show sess all")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m59s"), (3600, "1h"), (7261, "2h1m"), (90000, "1d1h")],
)
def test_times_are_written_as_haproxy_writes_them(running: Running, seconds: float, text: str) -> None:
    running.clock = lambda: 100.0 + seconds
    assert f" age={text} " in answer(running, "show sess 0x1")


def test_one_connection_is_shown_by_its_id(running: Running) -> None:
    assert answer(running, "show sess 0x2") == answer(running, "show sess 2")
    assert answer(running, "show sess 0x2").startswith("0x2: [26/Nov/2026:08:59:48.500000] id=2 proto=tcpv6 ")
    assert answer(running, "show sess 0x99") == "Session not found.\n"


def test_a_connection_is_shut_down_by_its_id(running: Running, engine: NatEngine) -> None:
    assert answer(running, "shutdown session 0x1") == ""
    assert {connection.state for connection in engine.connections()} == {State.SHUT, State.INIT}
    assert engine.next_packet() is not None


def test_all_connections_to_a_server_are_shut_down(running: Running, engine: NatEngine) -> None:
    assert answer(running, "shutdown sessions server www6-nodes/server1") == ""
    states = {connection.service.name: connection.state for connection in engine.connections()}
    assert states == {"www": State.INIT, "www6": State.SHUT}


@pytest.mark.parametrize("line", ["show sess", "shutdown sessions server www-nodes/server1"])
def test_connections_may_end_and_begin_between_two_pieces(running: Running, engine: NatEngine, line: str) -> None:
    for port in range(2000, 2200):
        engine.handle_packet(syn("44.1.1.1", port, "44.2.2.2", 8888), 104.0)
    console = Console(running, LANGUAGE, Level.ADMIN, 10.0)

    async def walk() -> str:
        pieces = []
        async for piece in console.obey(line):
            pieces.append(piece)
            if len(pieces) == 2:
                for now in (1e6, 2e6):  # all that are not finished end, and then those
                    while (due := engine.next_timeout()) is not None and due <= now:
                        engine.handle_timeout(now)
                for port in range(3000, 3100):
                    engine.handle_packet(syn("44.1.1.1", port, "44.2.2.2", 8888), 2e6)
        return "".join(pieces)

    reply = asyncio.run(walk())
    if line == "show sess":
        ids = [shown.split(":")[0] for shown in reply.splitlines() if shown]
        assert len(ids) == len(set(ids)) > 64
    assert len(engine) == 100


def test_the_connections_heard_last_can_be_asked_for_alone(running: Running) -> None:
    assert answer(running, "show sess recent 9") == f"{_V6}\n{_V4}\n"
    assert answer(running, "show sess recent 1") == f"{_V6}\n"
    assert answer(running, "show sess recent 0") == ""
    assert answer(running, f"show sess recent {'9' * 5000}") == f"{_V6}\n{_V4}\n"


@pytest.mark.parametrize("number", ["", "x", "-1", "\N{SUPERSCRIPT TWO}"])
def test_how_many_of_them_has_to_be_a_number(running: Running, number: str) -> None:
    assert answer(running, f"show sess recent {number}") == "'show sess recent' expects how many.\n"


def test_one_that_ends_while_others_are_shown_is_left_out(running: Running) -> None:
    pieces = show_sess_recent(Console(running, LANGUAGE, Level.ADMIN, 1.0), ["9"])
    (newest, _) = running.engine.table.recent(2)
    running.engine.table.remove(newest)
    assert "".join(pieces) == f"{_V4}\n"
