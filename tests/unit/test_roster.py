"""Servers that come, move and go: what is diverted for them, and when."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable, Iterator
from ipaddress import ip_address, ip_network

import pytest

from natlb import roster as under_test
from natlb.assembly import Assembly, Machine, assemble
from natlb.config.parser import parse
from natlb.core.pool import AdminState, Server
from natlb.core.verdict import Rewrite
from natlb.datapath.host import Address, Endpoint
from natlb.errors import ConfigError, DatapathError
from natlb.health.server import CheckSettings, Operation, ServerHealth
from natlb.roster import Roster
from tests.unit.core.packets import SYN, segment

_CONFIG = """\
frontend www
    bind 44.2.2.2:8888
    bind 44.2.2.2:8889
    default_backend nodes
backend nodes
    server server1 44.3.3.3:4444
    server server2 44.4.4.4
"""


class Kernel:
    """A diversion that only remembers what it was told."""

    def __init__(self) -> None:
        self.servers: set[str] = set()
        self.sources: set[str] = set()
        self.refuses = False
        self.steps = 0

    def lead_to(self, servers: Iterable[Endpoint], sources: Iterable[Address]) -> None:
        if self.refuses:
            raise DatapathError("iptables-restore failed")
        self.servers, self.sources = set(map(str, servers)), set(map(str, sources))
        self.steps += 1


class Clinic:
    """Checks that only remember what they were told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.tracked: ServerHealth | None = None

    def add(
        self, name: str, settings: CheckSettings | None, *, track: str | None = None, maintenance: bool = False
    ) -> ServerHealth:
        if track is not None and self.tracked is None:
            raise ValueError("there is no such server")
        self.told.append(("add", name, None if settings is None else settings.port, maintenance))
        health = ServerHealth(name, settings, 0.0)
        if track is not None and self.tracked is not None:
            health.tracked, health.operation = self.tracked, self.tracked.operation
        return health

    def remove(self, name: str) -> None:
        if name.endswith("tracked"):
            raise ValueError("it is tracked")
        self.told.append(("remove", name))

    def disable(self, name: str) -> None:
        self.told.append(("disable", name))

    def aim(self, name: str, address: str, port: int) -> None:
        self.told.append(("aim", name, address, port))


class Stage:
    """A roster, and all that it works on."""

    def __init__(self, config: str = _CONFIG, machine: Machine | None = None) -> None:
        parsed = parse([("t.cfg", config.encode())], {})
        assert parsed.config is not None, parsed.diagnostics
        self.machine = machine or Machine()
        self.made: Assembly = assemble(parsed.config, self.machine)
        self.pool = self.made.pools["nodes"]
        self.kernel = Kernel()
        self.background: list[Coroutine[None, None, None]] = []
        self.checks = Clinic()
        self.roster = Roster(parsed.config, self.made, self.machine, self.kernel, self.checks, self.background.append)

    def add(self, line: str) -> Server:
        name, *words = line.split()
        asyncio.run(self.roster.add(self.pool, name, words))
        return self.pool.servers[name]

    def move(self, name: str, address: str, port: int | None, offset: int = 0) -> None:
        server = self.pool.servers[name]
        asyncio.run(self.roster.move(self.pool, server, ip_address(address).packed, port, offset))

    def remove(self, name: str) -> None:
        asyncio.run(self.roster.remove(self.pool, self.pool.servers[name]))

    def connect(self) -> None:
        packet = segment(("44.1.1.1", 5000), ("44.2.2.2", 8888), SYN, seq=1)
        assert isinstance(self.made.engine.handle_packet(packet, 0.0), Rewrite)

    def run_background(self, monkeypatch: pytest.MonkeyPatch, *, ends: bool = True) -> None:
        """Have the background do its work; it `ends` unless something stays retired."""
        monkeypatch.setattr(under_test, "_RETIRED_FOR", 0.0)
        work, self.background[:] = list(self.background), []

        async def look() -> None:
            for each in work:
                if ends:
                    await asyncio.wait_for(each, 60)
                else:  # a few looks at the table are enough
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(each, 0.2)

        asyncio.run(look())


@pytest.fixture
def staged() -> Iterator[Callable[..., Stage]]:
    """What makes a stage; its background is cleared away in the end."""
    made: list[Stage] = []

    def make(**settings: Machine) -> Stage:
        made.append(Stage(**settings))
        return made[-1]

    yield make
    for stage in made:
        for work in stage.background:
            work.close()


_AT_FIRST = {"44.3.3.3:4444", "44.4.4.4:8888", "44.4.4.4:8889"}


def test_the_addresses_that_a_rule_leads_from_count_as_well(staged) -> None:
    """A server without a port answers from the port that was asked for, whichever frontend led to it."""
    led = "frontend direct\n    bind 44.2.2.2:9000\n    use_backend nodes if TRUE\nbackend other\n"
    stage = staged(config=_CONFIG.replace("default_backend nodes\n", f"default_backend other\n{led}"))
    stage.add("new 44.5.5.5")
    assert stage.kernel.servers == {"44.3.3.3:4444", "44.4.4.4:9000", "44.5.5.5:9000"}
    stage.move("new", "44.6.6.6", None)
    assert "44.6.6.6:9000" in stage.kernel.servers


def test_a_server_is_diverted_before_it_may_get_connections(staged) -> None:
    stage = staged()
    server = stage.add("new 44.5.5.5:80 weight 3")
    assert stage.kernel.servers == {*_AT_FIRST, "44.5.5.5:80"}
    assert (server.admin, server.weight, server.id) == (AdminState.MAINT, 3, 3)


def test_a_server_that_keeps_the_clients_port_is_diverted_at_each_of_them(staged) -> None:
    stage = staged()
    stage.add("new 44.5.5.5:+1000")
    assert stage.kernel.servers == {*_AT_FIRST, "44.5.5.5:9888", "44.5.5.5:9889"}


@pytest.mark.parametrize("words", ["44.5.5.5:80 foo", "nowhere.invalid:80", ""])
def test_a_line_that_is_wrong_changes_nothing(staged, words: str) -> None:
    stage = staged()
    with pytest.raises(ConfigError):
        stage.add(f"new {words}")
    assert list(stage.pool.servers) == ["server1", "server2"]
    assert stage.kernel.steps == 0


def test_what_the_kernel_refuses_changes_nothing(staged) -> None:
    stage = staged()
    stage.kernel.refuses = True
    with pytest.raises(DatapathError):
        stage.add("new 44.5.5.5:80")
    with pytest.raises(DatapathError):
        stage.move("server1", "44.5.5.5", 80)
    assert list(stage.pool.servers) == ["server1", "server2"]
    assert stage.pool.servers["server1"].endpoint(0) == (bytes([44, 3, 3, 3]), (4444).to_bytes(2))
    stage.kernel.refuses = False
    stage.add("new 44.6.6.6:80")
    assert stage.kernel.servers == {*_AT_FIRST, "44.6.6.6:80"}, "what was refused is not tried again"


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "::ffff:44.5.5.5"])
def test_a_server_does_not_move_where_none_can_be(staged, address: str) -> None:
    stage = staged()
    with pytest.raises(ConfigError, match=re.escape(f"'{ip_address(address)}'")):
        stage.move("server1", address, 80)
    assert stage.pool.servers["server1"].endpoint(0) == (bytes([44, 3, 3, 3]), (4444).to_bytes(2))
    assert stage.kernel.steps == 0


def test_a_server_in_the_clients_neighbourhood_gets_full_nat(staged, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(networks=((ip_network("44.5.0.0/16"), ip_address("44.5.0.1")),))
    stage = staged(machine=machine)
    server = stage.add("new 44.5.5.5:80")
    assert [near.source.address for near in server.neighbourhoods] == [bytes([44, 5, 0, 1])]
    assert stage.kernel.sources == {"44.5.0.1"}
    stage.move("new", "44.6.6.6", 80)
    assert server.neighbourhoods == ()
    assert stage.kernel.sources == {"44.5.0.1"}, "connections may still speak from there"
    stage.run_background(monkeypatch)
    assert stage.kernel.sources == set()


def test_a_source_that_this_machine_does_not_have_is_refused(staged) -> None:
    stage = staged()
    with pytest.raises(DatapathError, match="cannot bind to source address 44\\.9\\.9\\.9"):
        stage.add("new 44.5.5.5:80 source 44.9.9.9")
    assert list(stage.pool.servers) == ["server1", "server2"]


def test_a_server_moves_and_where_it_was_stays_diverted_while_connections_go_there(
    staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staged()
    stage.connect()
    (connection,) = stage.made.engine.connections()
    assert connection.server.name == "server1"
    stage.move("server1", "44.5.5.5", 80)
    moved = {"44.4.4.4:8888", "44.4.4.4:8889", "44.5.5.5:80"}
    assert stage.pool.servers["server1"].endpoint(0) == (bytes([44, 5, 5, 5]), (80).to_bytes(2))
    assert stage.kernel.servers == {*moved, "44.3.3.3:4444"}
    stage.run_background(monkeypatch, ends=False)
    assert stage.kernel.servers == {*moved, "44.3.3.3:4444"}
    stage.made.engine.handle_timeout(1e6)
    stage.move("server2", "44.4.4.4", 99)
    stage.roster._watching = False  # the look that was broken off above
    stage.move("server2", "44.4.4.4", 98)
    stage.run_background(monkeypatch)
    assert stage.kernel.servers == {"44.4.4.4:98", "44.5.5.5:80"}


def test_what_another_server_still_uses_stays_diverted(staged, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = staged()
    stage.add("twin 44.3.3.3:4444")
    stage.remove("twin")
    stage.run_background(monkeypatch)
    assert stage.kernel.servers == _AT_FIRST


def test_a_server_that_has_gone_is_not_diverted_any_more(staged, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = staged()
    stage.add("new 44.5.5.5:80")
    stage.remove("new")
    assert "new" not in stage.pool.servers
    stage.run_background(monkeypatch)
    assert stage.kernel.servers == _AT_FIRST
    assert stage.background == []


def test_a_server_without_a_port_is_given_one_and_no_offset(staged) -> None:
    stage = staged()
    stage.add("new 44.5.5.5:+1000")
    stage.move("new", "44.5.5.5", 80)
    assert stage.pool.servers["new"].endpoint(8888) == (bytes([44, 5, 5, 5]), (80).to_bytes(2))
    stage.move("new", "44.6.6.6", 80)
    assert "44.6.6.6:80" in stage.kernel.servers


def test_a_server_that_is_told_to_keep_the_clients_port_is_diverted_there(staged) -> None:
    stage = staged()
    stage.add("new 44.5.5.5:80")
    stage.move("new", "44.5.5.5", None, 1000)
    assert stage.pool.servers["new"].endpoint(8888) == (bytes([44, 5, 5, 5]), (9888).to_bytes(2))
    assert "44.5.5.5:9888" in stage.kernel.servers


# -- health


def test_a_new_server_is_checked_once_that_is_asked_for(staged) -> None:
    stage = staged()
    stage.add("new 44.5.5.5:80 check")
    stage.add("other 44.6.6.6:80")
    stage.remove("new")
    assert stage.checks.told == [
        ("add", "nodes/new", 80, True),
        ("disable", "nodes/new"),
        ("add", "nodes/other", None, True),
        ("remove", "nodes/new"),
    ]


def test_a_server_is_checked_where_it_moves_unless_it_is_checked_elsewhere(staged) -> None:
    stage = staged()
    server = stage.add("new 44.5.5.5:80 check")
    stage.checks.told.clear()
    stage.move("new", "44.6.6.6", 81)
    stage.roster.aim(stage.pool, server, address=bytes([44, 9, 9, 9]))
    stage.roster.aim(stage.pool, server, port=99)
    stage.move("new", "44.7.7.7", 82)
    stage.roster.aim(stage.pool, server, port=0)
    assert [told[2:] for told in stage.checks.told] == [
        ("44.6.6.6", 81),
        ("44.9.9.9", 81),
        ("44.9.9.9", 99),
        ("44.9.9.9", 99),
        ("44.9.9.9", 82),
    ]


def test_a_server_without_checks_is_not_checked_elsewhere_either(staged) -> None:
    stage = staged()
    with pytest.raises(ValueError, match="health checks are not enabled on this server"):
        stage.roster.aim(stage.pool, stage.pool.servers["server1"], port=80)


def test_a_server_that_another_tracks_stays(staged) -> None:
    stage = staged()
    stage.add("tracked 44.5.5.5:80")
    with pytest.raises(ConfigError, match="due to other configuration elements pointing to it"):
        stage.remove("tracked")
    assert "tracked" in stage.pool.servers


@pytest.mark.parametrize(
    "rule", ["use-server server1 if { src 44.1.1.1 }", "use-server server2 unless { srv_is_up(nodes/server1) }"]
)
def test_a_server_that_a_rule_names_stays(staged, rule: str) -> None:
    stage = staged(config=f"{_CONFIG}    {rule}\n    server server3 44.5.5.5:80\n")
    with pytest.raises(ConfigError, match="due to other configuration elements pointing to it"):
        stage.remove("server1")
    stage.remove("server3")
    assert list(stage.pool.servers) == ["server1", "server2"]
    assert stage.checks.told == [("remove", "nodes/server3")]


def test_a_new_server_that_tracks_another_is_down_and_drained_with_it_from_the_first(staged) -> None:
    stage = staged()
    stage.checks.tracked = ServerHealth("nodes/server1", None, 0.0)
    for operation, drained in ((Operation.RUNNING, True), (Operation.STOPPED, False), (Operation.RUNNING, False)):
        stage.checks.tracked.operation, stage.checks.tracked.in_drain = operation, drained
        server = stage.add(f"new{operation}{drained} 44.5.5.5:80 track server1")
        assert (server.healthy, server.drained_along) == (operation is Operation.RUNNING, drained)
        stage.pool.set_admin(server, AdminState.READY, 0.0)
        assert server.usable is (operation is Operation.RUNNING and not drained)


def test_a_server_that_tracks_nobody_does_not_come(staged) -> None:
    stage = staged()
    with pytest.raises(ConfigError, match="unable to find the server 'nodes/nobody' to track"):
        stage.add("new 44.5.5.5:80 track nobody")
    assert "new" not in stage.pool.servers
