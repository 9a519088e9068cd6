"""An IPv6 route that a router advertises is there still when the machine forwards, and when it has stopped."""

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from natlb.datapath import diversion, nftables, sysctl
from natlb.datapath.diversion import Diversion, clear_leftovers
from natlb.datapath.host import Endpoint
from natlb.errors import DatapathError

_SWITCH = "net/ipv6/conf/all/forwarding"
_HEEDED = {"all": "1", "default": "1", "lo": "1", "wan0": "1", "lan0.7": "1", "quiet0": "0"}


def _place(interface: str, what: str) -> str:
    return f"net/ipv6/conf/{interface}/{what}"


class Machine:
    """IPv6 as the kernel has it: a route is heeded, and thrown away, as `rt6_purge_dflt_routers` does."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.routes: set[str] = set()
        """The interfaces with a route that was advertised there."""
        self.saved = {4: "", 6: ""}
        self.refuses = ""
        for interface, heeded in _HEEDED.items():
            self.come(interface, "0", heeded)
        monkeypatch.setattr(sysctl, "_ROOT", root)
        monkeypatch.setattr(sysctl, "_write", self.write)
        monkeypatch.setattr(diversion, "_run", self._run)
        monkeypatch.setattr(diversion, "_versions", lambda: (4, 6))
        monkeypatch.setattr(diversion, "addresses_by_interface", lambda: {"wan0": {ip_address("2001:db8::1")}})
        monkeypatch.setattr(nftables, "inventory", frozenset)
        monkeypatch.setattr(nftables, "absent", lambda *_: [])
        monkeypatch.setattr(nftables, "remove", lambda _: None)

    def come(self, interface: str, forwarding: str | None = None, heeded: str | None = None) -> None:
        """An interface comes: with what `default` says, unless it is one of those that were there."""
        default = self.settings().get("default", ("0", "1"))
        self.put(_place(interface, "forwarding"), forwarding or default[0])
        self.put(_place(interface, "accept_ra"), heeded or default[1])

    def put(self, name: str, value: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(f"{value}\n")

    def get(self, interface: str, what: str) -> str:
        return (self.root / _place(interface, what)).read_text().strip()

    def settings(self) -> dict[str, tuple[str, str]]:
        """By interface, whether it forwards and whether it heeds advertisements."""
        found = sorted(path.name for path in self.root.glob("net/ipv6/conf/*"))
        return {each: (self.get(each, "forwarding"), self.get(each, "accept_ra")) for each in found}

    def advertise(self) -> None:
        """A router at every interface says that it is there."""
        for interface, (forwarding, heeded) in self.settings().items():
            if interface not in ("all", "default", "lo") and (heeded == "2" if forwarding != "0" else heeded != "0"):
                self.routes.add(interface)

    def write(self, name: str, value: str, *_: object) -> None:
        if name == self.refuses:
            raise DatapathError(f"refused: {name}")
        self.put(name, value)
        if name == _SWITCH:
            for interface in self.settings():
                self.put(_place(interface, "forwarding"), value)
            if value == "1":
                self.routes = {each for each in self.routes if self.get(each, "accept_ra") == "2"}

    def _run(self, command: list[str], text: str) -> str:
        version = 6 if command[0].startswith("ip6") else 4
        if command[0].endswith("-save"):
            return self.saved[version]
        self.saved[version] = "" if "-X " in text else text.replace("-I ", "-A ")
        return ""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def divert(report: Callable[[str], None] = lambda _: None, server: str = "2001:db8::9") -> Diversion:
    return Diversion(2391, [Endpoint(ip_address("2001:db8::1"), 80)], [Endpoint(ip_address(server), 80)], report)


def test_an_advertised_route_outlives_forwarding_and_is_advertised_on(machine: Machine) -> None:
    before = machine.settings()
    machine.advertise()
    assert machine.routes == {"wan0", "lan0.7"}
    told: list[str] = []
    diverted = divert(told.append)
    assert machine.get("all", "forwarding") == "1"
    assert machine.routes == {"wan0", "lan0.7"}
    machine.routes.clear()
    machine.advertise()
    assert machine.routes == {"wan0", "lan0.7"}
    reason = "while natlb runs: an IPv6 route that routers advertise is to stay when this machine forwards"
    assert told[:-1] == [f"set net.ipv6.conf.{each}.accept_ra to 2 {reason}" for each in ("default", "lan0.7", "wan0")]
    assert told[-1].startswith("set net.ipv6.conf.all.forwarding to 1")
    assert not diverted.wants_more()
    diverted.close()
    assert machine.settings() == before


def test_whoever_changes_it_back_is_told_of(machine: Machine) -> None:
    diverted = divert()
    assert diverted.unset() == []
    machine.put(_place("wan0", "accept_ra"), "1")
    assert [setting.name for setting in diverted.unset()] == [_place("wan0", "accept_ra")]


def test_after_a_crash_it_is_put_back_too(machine: Machine) -> None:
    before = machine.settings()
    divert()
    assert machine.settings() != before
    clear_leftovers(set(), lambda _: None)
    assert machine.settings() == before


def test_after_a_crash_the_next_one_goes_on_with_it_and_puts_it_back(machine: Machine) -> None:
    before = machine.settings()
    divert()
    told: list[str] = []
    diverted = divert(told.append)
    assert told == []
    machine.put(_place("wan0", "accept_ra"), "1")
    assert [setting.name for setting in diverted.unset()] == [_place("wan0", "accept_ra")], "it is looked after"
    diverted.close()
    assert machine.settings() == before


def test_an_interface_that_comes_later_heeds_advertisements_from_its_first_moment(machine: Machine) -> None:
    diverted = divert()
    machine.come("late0")
    machine.advertise()
    assert "late0" in machine.routes
    assert not diverted.wants_more()


def test_a_router_that_heeds_no_advertisements_still_does_not(machine: Machine) -> None:
    machine.write(_SWITCH, "1")
    before = machine.settings()
    told: list[str] = []
    diverted = divert(told.append)
    assert told == []
    diverted.close()
    assert machine.settings() == before


def test_an_interface_that_forwards_by_itself_is_left_as_it_is(machine: Machine) -> None:
    machine.put(_place("wan0", "forwarding"), "1")
    before = machine.settings()
    diverted = divert()
    assert machine.get("wan0", "accept_ra") == "1"
    assert not diverted.wants_more()
    diverted.close()
    assert machine.settings() == before


def test_a_server_on_the_machine_itself_changes_nothing(machine: Machine) -> None:
    before = machine.settings()
    divert(server="::1")
    assert machine.settings() == before


def test_a_refusal_of_forwarding_leaves_nothing(machine: Machine) -> None:
    before = machine.settings()
    machine.refuses = _SWITCH
    with pytest.raises(DatapathError, match="refused"):
        divert()
    assert machine.settings() == before
