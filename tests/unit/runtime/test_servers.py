"""What commands about servers change, and what is said where they cannot."""

from collections.abc import Sequence

import pytest

from natlb.core.pool import AdminState, Pool, Server
from natlb.core.service import Service
from natlb.errors import DatapathError
from natlb.runtime.running import Running

from .consoles import Doctor, Recruits, answer


@pytest.fixture
def server(services: list[Service]) -> Server:
    assert services[0].pool is not None
    return services[0].pool.servers["server1"]


@pytest.mark.parametrize("state", AdminState)
def test_the_state_of_a_server_is_set(running: Running, server: Server, state: AdminState) -> None:
    assert answer(running, f"set server www-nodes/server1 state {state.value}") == ""
    assert server.admin is state


def test_a_server_is_disabled_and_enabled(running: Running, server: Server) -> None:
    assert answer(running, "disable server www-nodes/server1") == ""
    assert server.admin is AdminState.MAINT
    assert answer(running, "enable server www-nodes/server1") == ""
    assert server.admin is AdminState.READY


@pytest.mark.parametrize("command", ["set weight www-nodes/server1", "set server www-nodes/server1 weight"])
def test_the_weight_of_a_server_is_set_and_told_beside_the_one_it_began_with(
    running: Running, server: Server, command: str
) -> None:
    assert answer(running, f"{command} 7") == ""
    assert server.weight == 7
    assert answer(running, "get weight www-nodes/server1") == "7 (initial 1)\n"
    assert answer(running, f"{command} 25600%") == ""
    assert server.weight == 256


def test_the_limit_of_a_server_is_set_and_0_is_none(running: Running, server: Server) -> None:
    assert answer(running, "set maxconn server www-nodes/server1 50") == ""
    assert server.maxconn == 50
    assert answer(running, "set maxconn server www-nodes/server1 0") == ""
    assert server.maxconn is None


def test_numbers_of_any_length_are_understood(running: Running, server: Server) -> None:
    """Python reads numbers of some thousand digits and no longer ones; a line has room for more."""
    number = "9" * 5000
    too_much = "Absolute weight can only be between 0 and 256 inclusive.\n"
    assert answer(running, f"set weight www-nodes/server1 {number}") == too_much
    assert answer(running, f"set weight www-nodes/server1 {number}%") == ""
    assert server.weight == 256
    assert answer(running, f"set maxconn server www-nodes/server1 -{number}") == ""
    assert server.maxconn is None
    assert f"invalid port '{number}'" in answer(running, f"set server www-nodes/server1 addr 44.3.3.3 port {number}")


def test_a_server_moves_with_its_next_connections(running: Running, server: Server) -> None:
    reply = answer(running, "set server www-nodes/server1 addr 44.9.9.9 port 80")
    assert reply == (
        "IP changed from '44.3.3.3' to '44.9.9.9', port changed from '4444' to '80' by 'stats socket command'\n"
    )
    assert server.endpoint(0) == (bytes([44, 9, 9, 9]), (80).to_bytes(2, "big"))


def test_a_server_that_keeps_the_clients_port_can_be_given_one(running: Running, server: Server) -> None:
    server.port, server.port_offset = None, 10
    assert "port changed from '+10' to '80'" in answer(running, "set server www-nodes/server1 addr 44.3.3.3 port 80")
    assert server.port == 80


@pytest.mark.parametrize("port", ["0", "70000", "-0"])
def test_a_port_that_is_none_changes_nothing(running: Running, server: Server, port: str) -> None:
    assert "port changed" not in answer(running, f"set server www-nodes/server1 addr 44.3.3.3 port {port}")
    assert server.port == 4444


def test_a_server_comes_in_maintenance_and_goes_without_connections(running: Running, services: list[Service]) -> None:
    pool = services[0].pool
    assert pool is not None
    assert answer(running, "add server www-nodes/new 44.5.5.5:80") == "New server registered.\n"
    assert pool.servers["new"].admin is AdminState.MAINT
    pool.servers["new"].live = 1
    assert answer(running, "del server www-nodes/new") == (
        "Server still has connections attached to it, cannot remove it."
    )
    pool.servers["new"].live = 0
    assert answer(running, "del server www-nodes/new") == "Server deleted."
    assert "new" not in pool.servers


def test_what_the_system_refuses_is_told_and_nothing_has_changed(running: Running, server: Server) -> None:
    class Refusing(Recruits):
        async def move(self, *_: object) -> None:
            raise DatapathError("iptables-restore failed")

        async def add(self, pool: Pool, name: str, words: Sequence[str]) -> None:
            raise DatapathError("iptables-restore failed")

        async def remove(self, *_: object) -> None:
            raise DatapathError("iptables-restore failed")

    running.roster = Refusing()
    server.admin, server.live = AdminState.MAINT, 0
    for line, end in (
        ("set server www-nodes/server1 addr 44.9.9.9", "\n"),
        ("add server www-nodes/new 44.5.5.5:80", "\n"),
        ("del server www-nodes/server1", ""),
    ):
        assert answer(running, line) == f"iptables-restore failed{end}"
    assert server.address == bytes([44, 3, 3, 3])


# -- health


def test_maintenance_is_told_to_the_checks(running: Running) -> None:
    for line in ("disable server {}", "enable server {}", "set server {} state maint", "set server {} state drain"):
        assert answer(running, line.format("www-nodes/server1")) == ""
    assert isinstance(running.checks, Doctor)
    assert [what for _, what in running.checks.told] == ["pause", "resume", "pause", "drain", "resume"]


def test_what_checks_should_have_found_is_told_to_them(running: Running) -> None:
    for state in ("up", "stopping", "down"):
        assert answer(running, f"set server www-nodes/server1 health {state}") == ""
    assert isinstance(running.checks, Doctor)
    assert running.checks.told == [("www-nodes/server1", state) for state in ("up", "stopping", "down")]


def test_the_health_of_a_server_that_tracks_another_is_not_its_own(running: Running, server: Server) -> None:
    running.pools["www-nodes"].servers["tracking"] = server
    server.name = "tracking"
    assert answer(running, "set server www-nodes/tracking health up") == (
        "cannot change health on a tracking server.\n"
    )


def test_checks_are_switched_where_there_are_any(running: Running) -> None:
    running.checks = Doctor("www-nodes/server1")
    assert answer(running, "enable health www-nodes/server1") == ""
    assert answer(running, "disable health www-nodes/server1") == ""
    assert [what for _, what in running.checks.told] == ["enable", "disable"]


def test_a_check_is_aimed_elsewhere(running: Running) -> None:
    running.roster = Recruits("www-nodes/server1")
    for line in ("check-port 8080", "check-addr 44.9.9.9", "check-addr 44.9.9.9 port 81", "check-port 0"):
        assert answer(running, f"set server www-nodes/server1 {line}") == ""
    elsewhere = bytes([44, 9, 9, 9])
    assert running.roster.aimed == [
        ("server1", None, 8080),
        ("server1", elsewhere, None),
        ("server1", elsewhere, 81),
        ("server1", None, 0),
    ]


def test_where_a_server_was_told_to_be_checked_is_forgotten_with_it(running: Running) -> None:
    def shown() -> list[str]:
        row = next(line for line in answer(running, "show servers state www-nodes").splitlines() if " new " in line)
        return row.split()[21:23]

    running.roster = Recruits("www-nodes/new")
    answer(running, "add server www-nodes/new 127.0.0.1:80")
    assert answer(running, "set server www-nodes/new check-port 99") == ""
    assert shown() == ["99", "-"]
    assert answer(running, "set server www-nodes/new check-addr 127.0.0.9") == ""
    assert shown() == ["99", "127.0.0.9"]
    assert answer(running, "del server www-nodes/new") == "Server deleted."
    answer(running, "add server www-nodes/new 127.0.0.1:80")
    assert shown() == ["0", "-"]
