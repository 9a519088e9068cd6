"""What is told of natlb as a whole."""

from datetime import datetime

from natlb.core.engine import NatEngine
from natlb.core.verdict import DropReason, Rewrite
from natlb.runtime.language import Level
from natlb.runtime.running import Running

from .conftest import syn
from .consoles import answer


def test_what_became_of_packets_is_counted_by_name(running: Running, engine: NatEngine) -> None:
    assert engine.handle_packet(bytearray(b"\x45"), 0.0).reason is DropReason.TRUNCATED
    counted = dict(line.split(": ") for line in answer(running, "show activity").splitlines())
    assert counted == {
        "packets": "2",
        "connections": "2",
        "connections_live": "2",
        "held_back": "0",
        "rate_limited": "0",
        "denied": "0",
        "refused": "0",
        "drop_truncated": "1",
    }


def test_how_many_connections_a_server_has_and_has_had_at_once(running: Running, engine: NatEngine) -> None:
    def used() -> list[str]:
        return answer(running, "show servers conn www-nodes").splitlines()[1].split()[6:8]

    assert used() == ["1", "1"]
    assert isinstance(engine.handle_packet(syn("44.1.1.1", 5000, "44.2.2.2", 8888), 107.0), Rewrite)
    answer(running, "shutdown session 0x1")
    assert used() == ["1", "2"]


def test_natlb_tells_its_own_version(running: Running) -> None:
    running.version = "natlb 0.1.0"
    assert answer(running, "show version", Level.USER) == "natlb 0.1.0\n"


def test_the_environment_is_told(running: Running) -> None:
    running.environ = {"A": "1", "B": ""}
    assert answer(running, "show env") == "A=1\nB=\n"
    assert answer(running, "show env B") == "B=\n"


def test_no_message_was_ever_read_wrongly(running: Running) -> None:
    running.today = lambda: datetime(2026, 11, 26, 8, 59, 52, 484999)
    assert answer(running, "show errors") == "Total events captured on [26/Nov/2026:08:59:52.484] : 0\n"


def test_connections_to_servers_are_told_by_address(running: Running) -> None:
    assert answer(running, "show servers conn").splitlines()[1:] == [
        "www-nodes/server1 10/1 44.3.3.3 4444 - 5000 1 1 1 0 0 -1 0 0",
        "www6-nodes/server1 20/1 fd44::3 4444 - 5000 1 1 1 0 0 -1 0 0",
    ]
