"""Setting the diversion up as a whole or not at all, and undoing it as a whole.

The order is the safety. First come the rules, and with them, in the same atomic step, notes of everything that will
have to be undone (see `rules`) and the guard for what is about to be opened; then the kernel settings are switched on.
On the way back the settings go first and the notes last.

Without rules the kernel would answer the packets of connections that it does not know, with RSTs that end them. So
what a run finds of its own queue - a predecessor has handed it over, or was killed - is replaced, each table in one
step, and its notes are kept: they say how the machine was before the first of them. And a run that hands its queue over
leaves all of it in place.

Packets wait while a successor makes its rules, and to read rules and make others takes most of a tenth of a second. So
they are read beforehand (`Rules`), and not made again if nothing about them would be new: for that the one before tells
the `fingerprint` of what it has made, and of what the kernel has made of it.

Whoever holds a queue is alive, so the rules of another queue that nobody holds are what a crash has left: the next
start takes them away and puts back what their notes say.
"""

import contextlib
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from natlb.datapath import nftables, rules, sysctl
from natlb.datapath.host import Address, Endpoint, addresses_by_interface, is_local
from natlb.datapath.rules import Found, Plan
from natlb.datapath.sysctl import Setting
from natlb.errors import DatapathError

Report = Callable[[str], None]

_SAVE: Final = {4: "iptables-save", 6: "ip6tables-save"}
_RESTORE: Final = {4: "iptables-restore", 6: "ip6tables-restore"}

_COMMAND: Final = {4: "iptables", 6: "ip6tables"}

_PATIENCE: Final = 10
"""Seconds that a run of iptables may take: they take milliseconds unless another one is in the way."""

_NO_MODULE: Final = re.compile(r"Extension NFQUEUE revision \d+ not supported")
_REFUSED_RULE: Final = re.compile(r"line (\d+): RULE_APPEND failed \(No such file or directory\)")
"""How iptables says, on either backend or on nftables alone, that the kernel does not have what a rule asks for."""

_SYSCTL_NOTE, _TABLE_NOTE = "sysctl ", "table "


def queues_in_use() -> set[int]:
    """Return the numbers of the queues that some process of this network namespace holds."""
    try:
        lines = Path("/proc/net/netfilter/nfnetlink_queue").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return set()
    return {int(line.split()[0]) for line in lines}


def settings_needed(
    plan: Plan, interfaces: Mapping[str, Collection[Address]], heeding: Iterable[str] = ()
) -> list[Setting]:
    """Return the kernel settings that the plan needs on a machine with these interfaces, in the order to make them.

    Those that are `heeding` router advertisements go on to do so.
    """
    settings = []
    remote = {server.address.version for server in plan.servers if not is_local(server.address, interfaces)}
    if 4 in remote:
        settings.append(sysctl.IPV4_FORWARDING)
    if 6 in remote:
        settings += [*map(sysctl.accept_ra, heeding), sysctl.IPV6_FORWARDING]
    if any(server.address.version == 4 and server.address.is_loopback for server in plan.servers):
        # Which interface has an address does not say by which one its clients come in; only `interface` does.
        entrances = {
            endpoint.interface
            for endpoint in plan.addresses
            if endpoint.address.version == 4 and not endpoint.address.is_loopback
        }
        settings += [
            sysctl.route_localnet(name)
            for name, own in sorted(interfaces.items())
            if name != "lo" and any(address.version == 4 for address in own) and not entrances.isdisjoint({None, name})
        ]
    if any(source.version == 4 for source in plan.sources):
        # Answers may come in by any interface: the way to a server is the kernel's choice, and may change.
        for name, own in sorted(interfaces.items()):
            if name != "lo" and any(address.version == 4 for address in own):
                settings += [sysctl.accept_local(name), sysctl.loose_rp_filter(name)]
    return settings


class Rules:
    """What natlb runs have in the rules, read ahead of the time when it is needed, and again then if it has changed."""

    def __init__(self, generation: Callable[[], int | None] = lambda: None) -> None:
        """Read it. `generation` is how often the rules of nftables have changed, if that is known.

        Raises DatapathError when it cannot be read.
        """
        self.counted: Final = "nf_tables" in _run([_SAVE[4], "--version"], "")
        """Whether the rules are such of nftables, of which the kernel counts how often they change."""
        self._generation = generation
        self._as_of = generation()
        self._installed = _installed()

    def installed(self) -> Mapping[int, Mapping[int, Found]]:
        """Return what is there now, by IP version and queue; some microseconds' work if that is what was there."""
        now = self._generation() if self.counted else None
        if now is None or now != self._as_of:
            self._as_of, self._installed = now, _installed()
        return self._installed


class Diversion:
    """The rules and settings of one run. `close` undoes them, unless a successor is to have them."""

    def __init__(
        self,
        queue: int,
        addresses: Iterable[Endpoint],
        servers: Iterable[Endpoint],
        report: Report,
        sources: Iterable[Address] = (),
        *,
        found: Rules | None = None,
        handed_over: str = "",
    ) -> None:
        """Divert packets to and from these endpoints to `queue`, which this process must hold already.

        `sources` are the addresses of this machine that full NAT speaks from. `report` is told, in one line each, what
        was changed on this machine. What an earlier run has left of this queue is taken over, and left as it is if it
        is what would be made: if it was `found` so, and has the fingerprint with which it was `handed_over`. Raises
        DatapathError when the kernel refuses something, having undone everything; but what was taken over stays, and at
        every moment diverts packets, as before or as they were to be diverted.
        """
        self._queue = queue
        self._report = report
        self._plan: Plan | None = None
        self._standing: Mapping[int, Mapping[int, Found]] = {}
        """What the rules were when they had been installed, by IP version and queue."""
        self._in_force: dict[Setting, int] = {}
        """The settings that are needed and were seen to be as needed, each with the number of its interface, or 0."""
        self._one_at_a_time = threading.RLock()
        found = found or Rules()
        self.counted = found.counted
        """Whether the rules are such of nftables, of which the kernel counts how often they change."""
        installed = found.installed()
        self.inherited = any(queue in runs for runs in installed.values())
        """Whether an earlier run has left its rules."""
        try:
            self._install(Plan(queue, tuple(addresses), tuple(servers), tuple(sources)), installed, handed_over)
        except DatapathError:
            self.close(keep=self.inherited)
            raise

    def lead_to(self, servers: Iterable[Endpoint], sources: Iterable[Address]) -> None:
        """Divert packets of these servers from now on, and of no others, with these addresses for full NAT.

        What is diverted before and after is so at every moment in between. Takes tens of milliseconds. Raises
        DatapathError when the kernel refuses something; then at least what was diverted before still is.
        """
        with self._one_at_a_time:
            if self._plan is None:
                raise AssertionError("nothing is diverted any more")
            self._install(replace(self._plan, servers=tuple(servers), sources=tuple(sources)), _installed())

    def again(self) -> None:
        """Divert what was diverted last, whatever another run, or anybody, has made of it.

        Settings that interfaces need which have come meanwhile are made; those that somebody has changed are not.
        Raises DatapathError as `lead_to` does.
        """
        with self._one_at_a_time:
            if self._plan is not None:
                self._install(self._plan, _installed())

    @property
    def fingerprint(self) -> str:
        """What tells these rules from all others, as they were made and as they were then found to be.

        Two that have the same are the same to every packet.
        """
        with self._one_at_a_time:
            return _fingerprint(self._plan, self._standing) if self._plan is not None else ""

    # What others do to it

    def lost(self) -> list[str]:
        """Return, in words, which of the rules are not there any more as they were installed. Takes milliseconds.

        Raises DatapathError when that cannot be found out.
        """
        with self._one_at_a_time:
            if self._plan is None:
                return []
            now = _installed()
            return [
                f"{_COMMAND[version]}: {what}"
                for version, runs in self._standing.items()
                if self._queue in runs
                for what in runs[self._queue].lost(now[version].get(self._queue, Found()))
            ]

    def unset(self) -> list[Setting]:
        """Return the settings that are not as needed any more, though they were."""
        with self._one_at_a_time:
            there = [setting for setting, interface in self._in_force.items() if _interface_of(setting) == interface]
            return sysctl.to_change(there) if self._plan is not None else []

    def wants_more(self) -> bool:
        """Whether settings are needed that never were: those of an interface, or an address, that has come.

        Raises DatapathError when that cannot be found out.
        """
        with self._one_at_a_time:
            return self._plan is not None and bool(self._never_set(self._needed(self._plan, self._plan.notes)))

    def _needed(self, plan: Plan, notes: Iterable[str]) -> list[Setting]:
        return settings_needed(plan, addresses_by_interface(), sysctl.heeding(_told(_SYSCTL_NOTE, notes)))

    def _never_set(self, needed: Iterable[Setting]) -> list[Setting]:
        """Return those of the needed settings that are to be made: not those that were, and somebody has changed."""
        return sysctl.to_change(each for each in needed if self._in_force.get(each) != _interface_of(each))

    def _install(self, plan: Plan, installed: Mapping[int, Mapping[int, Found]], handed_over: str = "") -> None:
        """Install a plan, in the place of what is there; settings that were changed before stay as they are."""
        own = list(dict.fromkeys([*plan.notes, *_notes(installed, lambda other: other == self._queue)]))
        neighbours = _notes(installed, lambda other: other != self._queue)
        needed = self._needed(plan, [*own, *neighbours])
        changes = self._never_set(needed)
        # What was noted before is how it was: what stands there now may be natlb's own doing.
        noted = {_setting_of(note) for note in own}
        fresh = [_SYSCTL_NOTE + text for text in sysctl.memory_of(changes)]
        # What a living neighbour has changed is remembered by both: whoever stops last puts it back.
        notes = [*own, *neighbours]
        notes += [note for note in fresh if _setting_of(note) not in noted]
        if not own:
            notes += [_TABLE_NOTE + text for text in nftables.absent(nftables.inventory(), rules.JUMPS)]
        changed = _told(_SYSCTL_NOTE, notes)
        plan = replace(
            plan,
            guarded=tuple(sysctl.opened("route_localnet", changed)),
            unmasked=tuple(sysctl.opened("accept_local", changed)),
            notes=tuple(dict.fromkeys(notes)),
        )
        is_there = handed_over != "" and handed_over == _fingerprint(plan, installed)
        if not is_there:
            for version in _versions():
                _restore(version, rules.installation(plan, version, installed[version].get(self._queue)))
        self._plan = plan
        for number, setting in enumerate(changes, 1):
            sysctl.switch_on(setting, later=changes[number:])
            self._report(f"set {setting.dotted} to {setting.value} while natlb runs: {setting.reason}")
        self._in_force = {setting: _interface_of(setting) for setting in needed}
        self._standing = installed if is_there else _installed()

    def close(self, *, keep: bool = False) -> None:
        """Take this run's rules away and put its settings back, or keep them for a successor. May be called twice."""
        with self._one_at_a_time:
            plan, self._plan = self._plan, None
            if not keep:
                _undo(self._queue, () if plan is None else plan.notes)


def clear_leftovers(alive: set[int], report: Report) -> None:
    """Undo what runs that are no more have left: rules, and settings as their notes say."""
    present = {queue for runs in _installed().values() for queue in runs}
    for queue in sorted(present - alive):
        _undo(queue)
        report(f"removed the rules and settings of an earlier natlb on queue {queue} that did not stop in order")


def _fingerprint(plan: Plan, installed: Mapping[int, Mapping[int, Found]]) -> str:
    """Return a digest of what a plan comes to, and of what is there of its queue."""
    made = [(version, rules.installation(plan, version), runs.get(plan.queue)) for version, runs in installed.items()]
    return sha256(repr(made).encode()).hexdigest()


def _setting_of(note: str) -> str:
    """Return the note without the value, for those of settings."""
    return note.partition("=")[0]


def _interface_of(setting: Setting) -> int:
    """Return the number of the interface that a setting is of; 0 if there is none, or none any more."""
    try:
        return socket.if_nametoindex(setting.interface or "")
    except OSError:
        return 0


def _undo(queue: int, remembered: Iterable[str] = ()) -> None:
    """Undo what a run has done, by its notes; `remembered` are those, in case somebody has taken them away."""
    installed = _installed()
    needed_by_others = _notes(installed, lambda other: other != queue)
    own = dict.fromkeys([*_notes(installed, lambda other: other == queue), *remembered])
    notes = [note for note in own if note not in needed_by_others]
    try:
        sysctl.restore(_told(_SYSCTL_NOTE, notes))
    finally:
        # A setting that cannot be put back must not leave rules behind that swallow packets.
        for version, runs in installed.items():
            if queue in runs:
                _restore(version, runs[queue].removal())
    with contextlib.suppress(DatapathError):
        nftables.remove(_told(_TABLE_NOTE, notes))


def _installed() -> dict[int, Mapping[int, Found]]:
    """Return what natlb runs have in the rules now, by IP version and queue."""
    versions = _versions()
    with ThreadPoolExecutor(len(versions)) as both:  # packets may be waiting
        return {version: rules.find(saved) for version, saved in zip(versions, both.map(_saved, versions), strict=True)}


def _notes(installed: Mapping[int, Mapping[int, Found]], wanted: Callable[[int], bool]) -> list[str]:
    """Return the notes of the wanted queues, each once, in their order."""
    every = (note for runs in installed.values() for queue in runs if wanted(queue) for note in runs[queue].notes)
    return list(dict.fromkeys(every))


def _versions() -> tuple[int, ...]:
    """Return the IP versions that this kernel speaks: IPv6 may have been switched off when it was started."""
    return (4, 6) if Path("/proc/net/if_inet6").exists() else (4,)


def _told(kind: str, notes: Iterable[str]) -> list[str]:
    return [note.removeprefix(kind) for note in notes if note.startswith(kind)]


def _saved(version: int) -> str:
    return _run([_SAVE[version]], "")


def _restore(version: int, script: str) -> None:
    _run([_RESTORE[version], "--noflush", "--wait", "5"], script)


def _run(command: list[str], text: str) -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise DatapathError(
            f"{command[0]} did not end within {_PATIENCE} seconds: another iptables may hold the xtables lock; "
            "'pgrep -a tables' shows which, end it and start natlb again"
        ) from error
    except OSError as error:
        raise DatapathError(f"cannot run {command[0]}: {error}") from error
    if done.returncode:
        complaint = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise DatapathError(f"{command[0]} failed: {complaint}{_remedy(complaint, text.splitlines())}")
    return done.stdout


def _remedy(complaint: str, script: list[str]) -> str:
    """Return what to do when the kernel cannot divert packets; nothing about any other complaint."""
    refused = _REFUSED_RULE.search(complaint)
    rule = script[int(refused[1]) - 1] if refused and int(refused[1]) <= len(script) else ""
    if "-j NFQUEUE" not in rule and not _NO_MODULE.search(complaint):
        return ""
    return (
        "; this kernel has no NFQUEUE target, by which packets come to natlb: load it with "
        "'modprobe -a nfnetlink_queue xt_NFQUEUE', or run a kernel with CONFIG_NETFILTER_XT_TARGET_NFQUEUE"
    )
