"""Which settings a plan needs, and the order in which things are installed and undone."""

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

import pytest

from natlb.datapath import diversion, nftables, sysctl
from natlb.datapath.diversion import Diversion, Rules, clear_leftovers, settings_needed
from natlb.datapath.host import Address, Endpoint
from natlb.datapath.rules import Plan
from natlb.datapath.sysctl import (
    IPV4_FORWARDING,
    IPV6_FORWARDING,
    Setting,
    accept_local,
    loose_rp_filter,
    route_localnet,
)
from natlb.errors import DatapathError


def at(address: str, port: int = 80) -> Endpoint:
    return Endpoint(ip_address(address), port)


_INTERFACES: dict[str, set[Address]] = {
    name: {ip_address(address) for address in addresses.split()}
    for name, addresses in {
        "lo": "127.0.0.1 ::1",
        "wan0": "192.0.2.1 2001:db8::1",
        "lan0": "10.0.0.1 10.0.0.2 fe80::1",
        "six0": "2001:db8:1::1",
    }.items()
}

_V4, _V6 = IPV4_FORWARDING, IPV6_FORWARDING


def opens(*names: str) -> list[Setting]:
    return [route_localnet(name) for name in names]


def unmasks(*names: str) -> list[Setting]:
    return [setting for name in names for setting in (accept_local(name), loose_rp_filter(name))]


_NEEDS = {
    "a remote server needs forwarding": ("192.0.2.1", "10.0.0.9", "", [_V4]),
    "a remote IPv6 server needs IPv6 forwarding alone": ("2001:db8::1", "2001:db8::9", "", [_V6]),
    "servers of both families need both": ("192.0.2.1 ::", "10.0.0.9 2001:db8::9", "", [_V4, _V6]),
    "a server at an own address needs nothing": ("192.0.2.1", "10.0.0.2", "", []),
    "a loopback server opens all interfaces, since clients come in by any": (
        *("192.0.2.1", "127.0.0.1", ""),
        opens("lan0", "wan0"),
    ),
    "any loopback address counts": ("10.0.0.2", "127.9.9.9", "", opens("lan0", "wan0")),
    "a virtual address that no interface has opens them too": ("203.0.113.9", "127.0.0.1", "", opens("lan0", "wan0")),
    "a wildcard opens every interface with an IPv4 address": ("0.0.0.0", "127.0.0.1", "", opens("lan0", "wan0")),
    "a loopback server behind a loopback address opens nothing": ("127.0.0.1", "127.0.0.1", "", []),
    "an IPv6 wildcard opens nothing to IPv4": ("::", "127.0.0.1", "", []),
    "an IPv6 loopback server has no such switch": ("2001:db8::1", "::1", "", []),
    "a mixture needs both": ("0.0.0.0", "127.0.0.1 10.0.0.9", "", [_V4, *opens("lan0", "wan0")]),
    "nothing needs nothing": ("", "", "", []),
    "full NAT unmasks every interface that speaks IPv4": (
        *("192.0.2.1", "10.0.0.9", "10.0.0.1"),
        [_V4, *unmasks("lan0", "wan0")],
    ),
    "full NAT to a server on loopback opens and unmasks": (
        *("192.0.2.1", "127.0.0.1", "192.0.2.1"),
        [*opens("lan0", "wan0"), *unmasks("lan0", "wan0")],
    ),
    "IPv6 has nothing to unmask": ("2001:db8::1", "2001:db8::9", "2001:db8::1", [_V6]),
}


@pytest.mark.parametrize(("vips", "servers", "sources", "settings"), _NEEDS.values(), ids=_NEEDS)
def test_settings_needed(vips: str, servers: str, sources: str, settings: list[Setting]) -> None:
    plan = Plan(
        2391,
        tuple(map(at, vips.split())),
        tuple(map(at, servers.split())),
        tuple(map(ip_address, sources.split())),
    )
    assert settings_needed(plan, _INTERFACES) == settings


class Machine:
    """A machine with one switch, on which every step is written down. iptables are dictionaries of lines here."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self.saved = {4: "", 6: ""}
        self.refuses: str | None = None
        self.forwarding = root / "net/ipv4/ip_forward"
        self.forwarding.parent.mkdir(parents=True)
        self.forwarding.write_text("0\n")
        monkeypatch.setattr(sysctl, "_ROOT", root)
        monkeypatch.setattr(sysctl, "_write", self._write)
        monkeypatch.setattr(diversion, "_run", self._run)
        monkeypatch.setattr(diversion, "_versions", lambda: (4, 6))
        monkeypatch.setattr(diversion, "queues_in_use", lambda: {2391})
        monkeypatch.setattr(diversion, "addresses_by_interface", lambda: _INTERFACES)
        monkeypatch.setattr(nftables, "inventory", frozenset)
        monkeypatch.setattr(nftables, "absent", lambda *_: ["ipv4/raw"])
        monkeypatch.setattr(nftables, "remove", lambda names: self.steps.append(f"tables {' '.join(names)}"))

    def settings(self, interface: str, strict: str) -> dict[str, str]:
        """Give an interface, and all of them, the settings that full NAT looks at; return the interface's."""
        made = {f"net/ipv4/conf/{interface}/accept_local": "0", f"net/ipv4/conf/{interface}/rp_filter": strict}
        general = {f"net/ipv4/conf/all/{switch}": "0" for switch in ("accept_local", "rp_filter")}
        for name, value in (made | general).items():
            (sysctl._ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (sysctl._ROOT / name).write_text(f"{value}\n")
        return made

    def _write(self, name: str, value: str, *_: object) -> None:
        self._step(f"{name}={value}")
        (sysctl._ROOT / name).write_text(value)

    def _run(self, command: list[str], text: str) -> str:
        version = 6 if command[0].startswith("ip6") else 4
        if command[0].endswith("-save"):
            return self.saved[version]
        removing = "-X " in text
        self._step(f"{'remove' if removing else 'install'} {version}")
        self.saved[version] = "" if removing else text.replace("-I ", "-A ")
        return ""

    def _step(self, step: str) -> None:
        self.steps.append(step)
        if step == self.refuses:
            raise DatapathError(f"refused: {step}")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def divert(queue: int = 2391) -> tuple[Diversion, list[str]]:
    told: list[str] = []
    return Diversion(queue, [at("192.0.2.1")], [at("10.0.0.9")], told.append), told


def test_rules_come_before_settings_and_settings_go_before_rules(machine: Machine) -> None:
    diverted, told = divert()
    diverted.close()
    forwarding = "net/ipv4/ip_forward"
    assert machine.steps == [
        *("install 4", "install 6", f"{forwarding}=1"),
        *(f"{forwarding}=0", "remove 4", "remove 6", "tables ipv4/raw"),
    ]
    assert told == ["set net.ipv4.ip_forward to 1 while natlb runs: servers are reached through this machine"]


def test_full_nat_is_guarded_before_it_is_let_in_and_everything_is_put_back(machine: Machine) -> None:
    before = machine.settings("lan0", strict="0") | machine.settings("wan0", strict="1")
    told: list[str] = []
    diverted = Diversion(2391, [at("192.0.2.1")], [at("10.0.0.2")], told.append, [ip_address("10.0.0.1")])
    guards = [line for line in machine.saved[4].splitlines() if "--src-type LOCAL -j DROP" in line]
    assert guards == [
        f"-A NATLB-2391-VIP -i {interface} -m addrtype --src-type LOCAL -j DROP" for interface in ("lan0", "wan0")
    ]
    reason = "while natlb runs: full NAT gives what comes in an address of this machine"
    assert told == [
        f"set net.ipv4.conf.{change} {reason}"
        for change in ("lan0.accept_local to 1", "wan0.accept_local to 1", "wan0.rp_filter to 2")
    ]
    assert [step for step in machine.steps if "install" in step] == machine.steps[:2]
    diverted.close()
    assert {name: (sysctl._ROOT / name).read_text().strip() for name in before} == before


def test_what_a_living_neighbour_has_let_in_is_guarded_here_too(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = '-A NATLB-12-NOTES -m comment --comment "sysctl net/ipv4/conf/wan0/accept_local=0"'
    machine.saved[4] = f"*raw\n:NATLB-12-NOTES - [0:0]\n{note}\nCOMMIT\n"
    monkeypatch.setattr(diversion, "queues_in_use", lambda: {12, 2391})
    divert()
    assert "-A NATLB-2391-VIP -i wan0 -m addrtype --src-type LOCAL -j DROP" in machine.saved[4]


def test_closing_twice_undoes_nothing_twice(machine: Machine) -> None:
    diverted, _ = divert()
    diverted.close()
    machine.steps.clear()
    diverted.close()
    assert [step for step in machine.steps if step != "tables "] == []


@pytest.mark.parametrize("refused", ["install 4", "install 6", "net/ipv4/ip_forward=1"])
def test_a_refusal_on_the_way_leaves_nothing(machine: Machine, refused: str) -> None:
    machine.refuses = refused
    with pytest.raises(DatapathError, match=f"^refused: {refused}$"):
        divert()
    assert machine.saved == {4: "", 6: ""}
    assert machine.forwarding.read_text().strip() == "0"


def test_a_setting_that_cannot_be_put_back_does_not_keep_the_rules(machine: Machine) -> None:
    diverted, _ = divert()
    machine.refuses = "net/ipv4/ip_forward=0"
    with pytest.raises(DatapathError, match=r"^refused: net/ipv4/ip_forward=0$"):
        diverted.close()
    assert machine.saved == {4: "", 6: ""}


def test_what_a_crash_has_left_is_undone_and_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    divert()
    told: list[str] = []
    clear_leftovers(set(), told.append)
    assert machine.saved == {4: "", 6: ""}
    assert machine.forwarding.read_text() == "0"
    assert told == ["removed the rules and settings of an earlier natlb on queue 2391 that did not stop in order"]


def test_what_lives_is_no_leftover(machine: Machine) -> None:
    divert()
    before = dict(machine.saved)
    clear_leftovers({2391}, pytest.fail)
    assert machine.saved == before


def test_queues_in_use_are_read_from_the_kernels_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "nfnetlink_queue"
    monkeypatch.setattr(diversion, "Path", lambda _: table)
    assert diversion.queues_in_use() == set()
    table.write_text(
        " 2391  30745     0 2 65531     0     0        0  1\n   12 -15871     0 2 65531     0     0        0  1\n"
    )
    assert diversion.queues_in_use() == {12, 2391}


_COMPLAINTS: Mapping[str, tuple[list[str], str]] = {
    "a program that is not there": (["no-such-program"], r"cannot run no-such-program: .*No such file.*"),
    "a program that complains": (["sh", "-c", "echo one; printf 'two\\nthree\\n' >&2; exit 2"], "sh failed: two three"),
    "a program that only fails": (["sh", "-c", "exit 4"], "sh failed: exit code 4"),
}


_SCRIPT = """\
*raw
:NATLB-7-VIP - [0:0]
-A NATLB-7-VIP -p tcp --dport 80 -m addrtype --dst-type LOCAL -j NFQUEUE --queue-num 7
-A NATLB-7-VIP -p tcp --sport 80 --tcp-flags RST RST -m addrtype --src-type LOCAL -j CT --notrack
COMMIT
"""

_NO_EXTENSION = "Warning: Extension {} revision 0 not supported, missing kernel module?"

# Verbatim but for the name of the target, which stood for one that the kernel at hand did not have.
_UNKNOWN_TO_THE_KERNEL = {
    "on nftables": (
        "iptables-restore v1.8.9 (nf_tables): line 3: RULE_APPEND failed (No such file or directory): rule in chain "
        "NATLB-7-VIP",
        True,
    ),
    "on nftables, with a warning": (
        f"{_NO_EXTENSION.format('NFQUEUE')} iptables-restore v1.8.9 (nf_tables): line 3: RULE_APPEND failed (No such "
        "file or directory): rule in chain NATLB-7-VIP",
        True,
    ),
    "on the old tables": (f"{_NO_EXTENSION.format('NFQUEUE')} iptables-restore: line 5 failed", True),
    "another target": (
        "iptables-restore v1.8.9 (nf_tables): line 4: RULE_APPEND failed (No such file or directory): rule in chain "
        "NATLB-7-VIP",
        False,
    ),
    "another target, on the old tables": (f"{_NO_EXTENSION.format('CT')} iptables-restore: line 5 failed", False),
    "another reason": (
        "iptables-restore v1.8.9 (nf_tables): line 3: RULE_APPEND failed (Invalid argument): rule in chain NATLB-7-VIP",
        False,
    ),
    "a line that is none": (
        "iptables-restore v1.8.9 (nf_tables): line 30: RULE_APPEND failed (No such file or directory): rule in chain X",
        False,
    ),
}


@pytest.mark.parametrize(("complaint", "explained"), _UNKNOWN_TO_THE_KERNEL.values(), ids=_UNKNOWN_TO_THE_KERNEL)
def test_a_kernel_that_cannot_divert_is_told_with_the_remedy(complaint: str, explained: bool) -> None:
    with pytest.raises(DatapathError) as failed:
        diversion._run(["sh", "-c", 'cat >/dev/null; echo "$0" >&2; exit 4', complaint], _SCRIPT)
    said, _, remedy = str(failed.value).partition("; ")
    assert said == f"sh failed: {complaint}"
    assert remedy == (
        "this kernel has no NFQUEUE target, by which packets come to natlb: load it with 'modprobe -a nfnetlink_queue "
        "xt_NFQUEUE', or run a kernel with CONFIG_NETFILTER_XT_TARGET_NFQUEUE"
        if explained
        else ""
    )


def test_a_program_that_hangs_is_told_plainly_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert diversion._PATIENCE <= 10
    monkeypatch.setattr(diversion, "_PATIENCE", 0.1)
    with pytest.raises(DatapathError) as failed:
        diversion._run(["sleep", "60"], "")
    assert str(failed.value) == (
        "sleep did not end within 0.1 seconds: another iptables may hold the xtables lock; 'pgrep -a tables' shows "
        "which, end it and start natlb again"
    )


@pytest.mark.parametrize(("command", "line"), _COMPLAINTS.values(), ids=_COMPLAINTS)
def test_a_program_that_fails_is_one_line(command: list[str], line: str) -> None:
    with pytest.raises(DatapathError, match=f"^{line}$"):
        diversion._run(command, "")


# -- other servers while it runs


def test_other_servers_take_the_place_of_those_before_with_the_settings_they_need(machine: Machine) -> None:
    told: list[str] = []
    diverted = Diversion(2391, [at("192.0.2.1")], [at("10.0.0.2")], told.append)
    assert machine.steps == ["install 4", "install 6"]
    machine.steps.clear()
    diverted.lead_to([at("10.0.0.2"), at("10.0.0.9", 81)], [])
    assert machine.steps == ["install 4", "install 6", "net/ipv4/ip_forward=1"]
    assert "-A NATLB-2391-SRV -s 10.0.0.9 -p tcp --sport 81 -j NFQUEUE" in machine.saved[4]
    assert "-A PREROUTING" not in machine.saved[4], "what leads into the chains is there already"
    diverted.lead_to([at("10.0.0.2")], [])
    assert "10.0.0.9" not in machine.saved[4]
    assert "sysctl net/ipv4/ip_forward=0" in machine.saved[4]
    diverted.close()
    assert machine.forwarding.read_text().strip() == "0"


def test_a_refusal_leaves_what_was_diverted_before(machine: Machine) -> None:
    diverted, _ = divert()
    machine.refuses = "install 4"
    with pytest.raises(DatapathError):
        diverted.lead_to([at("10.0.0.9"), at("10.0.0.10")], [])
    machine.refuses = None
    diverted.lead_to([at("10.0.0.9"), at("10.0.0.11")], [])
    assert "10.0.0.11" in machine.saved[4]
    assert "10.0.0.10" not in machine.saved[4]


def test_nothing_is_diverted_after_the_end(machine: Machine) -> None:
    diverted, _ = divert()
    diverted.close()
    with pytest.raises(AssertionError):
        diverted.lead_to([], [])
    assert machine.saved == {4: "", 6: ""}


# -- in the place of an earlier run


def test_what_is_kept_for_a_successor_is_not_touched(machine: Machine) -> None:
    diverted, _ = divert()
    machine.steps.clear()
    before = dict(machine.saved)
    diverted.close(keep=True)
    assert machine.steps == []
    assert (machine.saved, machine.forwarding.read_text()) == (before, "1")


def test_what_an_earlier_run_has_left_is_replaced_and_never_removed(machine: Machine) -> None:
    divert()  # and is killed
    machine.steps.clear()
    told: list[str] = []
    diverted = Diversion(2391, [at("192.0.2.1")], [at("10.0.0.8")], told.append)
    assert diverted.inherited
    assert machine.steps == ["install 4", "install 6"]
    assert "-s 10.0.0.8 " in machine.saved[4]
    assert "-s 10.0.0.9 " not in machine.saved[4]
    assert told == []


def succeeding(first: Diversion, server: str = "10.0.0.9") -> Diversion:
    """Start a run that `first` hands over to."""
    vip = [at("192.0.2.1")]
    return Diversion(2391, vip, [at(server)], pytest.fail, found=Rules(), handed_over=first.fingerprint)


def test_rules_that_are_as_they_are_to_be_are_left_as_they_are(machine: Machine) -> None:
    first, _ = divert()
    machine.steps.clear()
    second = succeeding(first)
    assert machine.steps == []
    assert (second.lost(), second.fingerprint) == ([], first.fingerprint)
    third = succeeding(second, "10.0.0.8")
    assert machine.steps == ["install 4", "install 6"]
    assert third.fingerprint != second.fingerprint
    third.close()
    assert machine.saved == {4: "", 6: ""}
    assert machine.forwarding.read_text() == "0"
    assert third.fingerprint == ""


def test_rules_that_somebody_has_changed_are_made_again_by_the_next_run(machine: Machine) -> None:
    first, _ = divert()
    machine.saved[6] += "-A NATLB-2391-VIP -j DROP\n"
    machine.steps.clear()
    succeeding(first)
    assert machine.steps == ["install 4", "install 6"]


def test_a_setting_that_is_not_as_needed_is_made_although_the_rules_are_left(machine: Machine) -> None:
    first, _ = divert()
    machine.forwarding.write_text("0\n")
    machine.steps.clear()
    told: list[str] = []
    Diversion(2391, [at("192.0.2.1")], [at("10.0.0.9")], told.append, found=Rules(), handed_over=first.fingerprint)
    assert machine.steps == ["net/ipv4/ip_forward=1"]


@pytest.mark.parametrize("tells", ["iptables v1.8.9 (nf_tables)", "iptables v1.8.9 (legacy)"])
def test_what_was_found_is_read_again_only_if_it_has_changed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tells: str
) -> None:
    asked: list[str] = []

    def run(command: list[str], text: str) -> str:
        asked.append(command[0])
        return tells if command[1:] == ["--version"] else machine._run(command, text)

    monkeypatch.setattr(diversion, "_run", run)
    count = 7
    found = Rules(lambda: count)
    asked.clear()
    for _ in range(2):
        assert found.installed() == {4: {}, 6: {}}
    assert len(asked) == (0 if "nf_tables" in tells else 4)
    divert()
    count += 1
    assert found.installed()[4].keys() == {2391}


def test_where_nobody_counts_what_was_found_is_read_again(machine: Machine) -> None:
    found = Rules()
    divert()
    assert found.installed()[4].keys() == {2391}


def test_the_last_run_puts_back_what_the_first_one_has_found(machine: Machine) -> None:
    for _ in range(3):
        diverted, _ = divert()
    diverted.close()
    assert machine.saved == {4: "", 6: ""}
    assert machine.forwarding.read_text() == "0"
    assert machine.steps[-1] == "tables ipv4/raw"


def test_a_setting_that_was_changed_back_meanwhile_is_not_noted_twice(machine: Machine) -> None:
    divert()
    machine.forwarding.write_text("0\n")
    divert()
    assert machine.saved[4].count("ip_forward") == 1
    assert machine.forwarding.read_text() == "1"


def test_a_note_of_how_it_was_outlives_what_is_there_now(machine: Machine) -> None:
    machine.settings("wan0", strict="0")
    before = machine.settings("lan0", strict="1")
    full_nat = ([at("192.0.2.1")], [at("10.0.0.2")], list[str]().append, [ip_address("10.0.0.1")])
    Diversion(2391, *full_nat)
    strictness = sysctl._ROOT / "net/ipv4/conf/lan0/rp_filter"
    strictness.write_text("1\n")  # somebody else's doing
    Diversion(2391, *full_nat)
    assert strictness.read_text() == "2"
    strictness.write_text("1\n")
    Diversion(2391, *full_nat).close()
    assert {name: (sysctl._ROOT / name).read_text().strip() for name in before} == before


@pytest.mark.parametrize("refused", ["install 4", "install 6"])
def test_a_refusal_leaves_what_an_earlier_run_has_left(machine: Machine, refused: str) -> None:
    divert()
    machine.refuses = refused
    with pytest.raises(DatapathError):
        divert()
    assert all("NATLB-2391-VIP" in saved for saved in machine.saved.values())
    assert machine.forwarding.read_text() == "1"


def test_what_a_successor_that_failed_has_diverted_is_diverted_as_before(machine: Machine) -> None:
    first, _ = divert()
    second = Diversion(2391, [at("192.0.2.1")], [at("10.0.0.8")], pytest.fail)
    second.close(keep=True)
    first.again()
    assert "-s 10.0.0.9 " in machine.saved[4]
    assert "-s 10.0.0.8 " not in machine.saved[4]
    first.close()
    first.again()
    assert machine.saved == {4: "", 6: ""}


# -- what others do to it


def test_rules_that_are_as_installed_are_not_lost_and_those_taken_away_are_made_again(machine: Machine) -> None:
    diverted, _ = divert()
    assert diverted.lost() == []
    whole = dict(machine.saved)
    machine.saved[6] = ""
    machine.saved[4] = "\n".join(line for line in machine.saved[4].splitlines() if "-A POSTROUTING" not in line)
    assert diverted.lost() == [
        "iptables: the way from POSTROUTING of mangle",
        *("ip6tables: chain NATLB-2391-VIP of raw", "ip6tables: chain NATLB-2391-NOTES of raw"),
        "ip6tables: chain NATLB-2391-SRV of mangle",
        *(f"ip6tables: the way from {place} of raw" for place in ("PREROUTING", "OUTPUT")),
        *(f"ip6tables: the way from {place} of mangle" for place in ("POSTROUTING", "INPUT")),
    ]
    diverted.again()
    assert "-A POSTROUTING -j NATLB-2391-SRV" in machine.saved[4]
    assert machine.saved[6] == whole[6]
    assert diverted.lost() == []


def test_what_was_noted_is_put_back_though_somebody_has_taken_the_notes_away(machine: Machine) -> None:
    diverted, _ = divert()
    machine.saved = {4: "", 6: ""}
    diverted.close()
    assert machine.forwarding.read_text().strip() == "0"
    assert diverted.lost() == diverted.unset() == []
    assert not diverted.wants_more()


def test_a_setting_that_somebody_changes_is_named_and_not_changed_again(machine: Machine) -> None:
    diverted, _ = divert()
    assert diverted.unset() == []
    machine.forwarding.write_text("0\n")
    assert diverted.unset() == [IPV4_FORWARDING]
    assert not diverted.wants_more()
    diverted.again()
    assert machine.forwarding.read_text().strip() == "0"
    assert diverted.unset() == [IPV4_FORWARDING]


def test_an_interface_that_comes_gets_its_settings_and_so_does_one_of_the_same_name(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    interfaces: dict[str, set[Address]] = {"lan0": {ip_address("10.0.0.1")}}
    numbers = {"lan0": 2, "wan0": 3}
    monkeypatch.setattr(diversion, "addresses_by_interface", lambda: interfaces)
    monkeypatch.setattr(diversion, "_interface_of", lambda setting: numbers.get(setting.interface, 0))
    machine.settings("lan0", strict="0")
    names = machine.settings("wan0", strict="1")
    told: list[str] = []
    diverted = Diversion(2391, [at("192.0.2.1")], [at("10.0.0.2")], told.append, [ip_address("10.0.0.1")])
    assert not diverted.wants_more()
    interfaces["wan0"] = {ip_address("192.0.2.1")}
    assert diverted.wants_more()
    assert diverted.unset() == []
    diverted.again()
    assert not diverted.wants_more()
    assert {name: (sysctl._ROOT / name).read_text().strip() for name in names} == dict(zip(names, "12", strict=True))
    assert "-A NATLB-2391-VIP -i wan0 -m addrtype --src-type LOCAL -j DROP" in machine.saved[4]
    for name, value in zip(names, "01", strict=True):
        (sysctl._ROOT / name).write_text(value)
    assert not diverted.wants_more(), "somebody has changed that"
    assert [setting.name for setting in diverted.unset()] == list(names)
    numbers["wan0"] = 4
    assert diverted.wants_more(), "it went and came again"
    assert diverted.unset() == []
    diverted.again()
    assert {name: (sysctl._ROOT / name).read_text().strip() for name in names} == dict(zip(names, "12", strict=True))
    diverted.close()
    assert {name: (sysctl._ROOT / name).read_text().strip() for name in names} == dict(zip(names, "01", strict=True))
