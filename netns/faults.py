"""Faults to find: `lab.sh break route` breaks something, `lab.sh heal` undoes exactly that.

A fault has two faces. What a user notices is said when it is made; what it is, is told only to who asks (`--tell`). In
between lies the exercise: to find it, with whatever the lab has for looking. So each fault is one change at one place,
of a kind that real networks have, and nobody reports it: neither the programs nor, in most cases, natlb's checks.

What undoes a fault is written down in the lab's directory before anything is changed. So it is undone by another
process than the one that made it, also after a kill -9 in between; and every step of it does no harm when there is
nothing left to undo. `down` takes faults away with the lab, since all of them live in its namespaces.

Rules stand in tables of nft that are the lab's own, one for each fault; nothing else is touched in a host's firewall.
"""

import contextlib
import json
import random
import re
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netns import balancer, flood
from netns.build import Lab
from netns.errors import LabError
from netns.processes import PYTHON, Resident, end, send
from netns.topology import LINK

Step = list[str]
"""One thing to do, as it can be written down. Its first word says what the others are:

    run HOST PROGRAM...       run a program
    stop PATTERN              let the lab's processes with such a command line stand still
    continue PATTERN          let them go on
    start NAME HOST READY PROGRAM...    start a program that goes on by itself; READY is what it says once it does
    end PATTERN               end such processes
    ask COMMAND               give natlb a command of the Runtime API
    offer COMMAND             the same, if natlb is there: what it was told went with it
"""


@dataclass(frozen=True, slots=True)
class Change:
    """How to break something and how to undo it."""

    breaking: list[Step]
    healing: list[Step]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that can be broken."""

    notice: str
    """What a user will notice: true, and no more than that."""
    cause: str
    """What it is and where it shows."""
    change: Callable[[Lab], Change]
    """Look at the lab as it is now; LabError when this cannot be broken."""
    runs: str = ""
    """Pattern of a process which the fault is: once that has ended, it is over."""


# -- the faults


def _server(lab: Lab) -> Change:
    pattern = rf" netns\.web --name {lab.topology.servers[0].name} "
    return Change([["stop", pattern]], [["continue", pattern]])


def _route(lab: Lab) -> Change:
    host = lab.topology.servers[-1].name
    breaking, healing = [], []
    for family in ("-4", "-6"):
        routes = _run(lab, host, ["ip", family, "route", "show", "default"]).splitlines()
        breaking += [["run", host, "ip", family, "route", "del", "default"] for _ in routes]
        healing += [["run", host, "ip", family, "route", "replace", *_settable(route)] for route in routes]
    if not breaking:
        raise LabError(f"{host} has no default route: there is nothing to break")
    return Change(breaking, healing)


def _settable(route: str) -> list[str]:
    """Return the words of `ip route show` that `ip route replace` takes, too."""
    return re.sub(r" (linkdown|dead|pref \w+)\b", "", route).split()


def _checksum(lab: Lab) -> Change:
    # Written as raw bits, it is left wrong; whatever nft writes by a field's name, it sums up anew.
    return _rule(
        lab.topology.servers[-1].name,
        "checksum",
        "postrouting priority 300",
        "meta l4proto tcp meta length > 1000 @th,128,16 set 0x0bad",
    )


_LOST = 20
"""Percent."""


def _loss(lab: Lab) -> Change:
    # Where packets arrive they are as long as on the wire. Where they are sent they may still be in one piece of 64 KB.
    return _rule(
        lab.topology.client.name,
        "loss",
        "prerouting priority raw",
        f"iifname {LINK} numgen random mod 100 < {_LOST} drop",
    )


def _rule(host: str, name: str, hook: str, rule: str) -> Change:
    """Have a rule on a host, in a table of its own."""
    table = f"inet lab_{name}"
    chain = f"type filter hook {hook}; policy accept;"
    return Change(
        [["run", host, "nft", f"table {table} {{ chain {name} {{ {chain} {rule}; }}; }}"]],
        [["run", host, "nft", f"add table {table}; delete table {table}"]],
    )


_SHORT_FRAMES = 1300
"""Bytes: more than IPv6 asks of every link (1280), less than what Ethernet takes."""


def _mtu(lab: Lab) -> Change:
    host, link = lab.topology.balancer.name, lab.topology.servers[0].name
    found = re.search(r" mtu (\d+) ", _run(lab, host, ["ip", "link", "show", "dev", link]))
    if found is None:
        raise LabError(f"{host} has no link to {link}: there is nothing to break")
    client = lab.topology.client.name
    set_mtu = ["run", host, "ip", "link", "set", "dev", link, "mtu"]
    # Whoever has sent much to this server meanwhile was told how short its frames are, and would remember it.
    forget = [["run", client, "ip", family, "route", "flush", "cache"] for family in ("-4", "-6")]
    return Change([[*set_mtu, str(_SHORT_FRAMES)]], [[*set_mtu, found[1]], *forget])


_FLOOD = r" netns\.flood "


def _flood(lab: Lab) -> Change:
    vip = lab.topology.balancer
    program = [*PYTHON, "netns.flood", "--to", vip.ipv4, "--port", str(vip.port)]
    return Change([["start", "flood", lab.topology.client.name, flood.READY, *program]], [["end", _FLOOD]])


def _drain(lab: Lab) -> Change:
    name = lab.topology.servers[-1].name
    header, *rows = [line.split() for line in _ask(lab, "show servers state").splitlines() if " " in line]
    column = {title: number for number, title in enumerate(header[1:])}
    ready = [
        f"{row[column['be_name']]}/{row[column['srv_name']]}"
        for row in rows
        if row[column["srv_name"]] == name and row[column["srv_admin_state"]] == "0"
    ]
    if not ready:
        raise LabError(f"natlb has no server '{name}' that is ready: there is nothing to break")
    return Change(
        [["ask", f"set server {server} state drain"] for server in ready],
        [["offer", f"set server {server} state ready"] for server in ready],
    )


FAULTS: dict[str, Fault] = {
    "server": Fault(
        "Every second request gets no answer. Connections are established at once, and natlb holds every server for"
        " up.",
        "The web server of server1 stands still: its process was stopped (SIGSTOP). The kernel of server1 goes on"
        " shaking hands, and a TCP check looks at nothing else. `exec server1 ps -C python3 -o pid,stat,args` shows a"
        " T; a capture shows the request acknowledged and never answered.",
        _server,
    ),
    "route": Fault(
        "Every second connection is never established. natlb holds every server for up.",
        "server2 has no default route any more. It gets the SYN and has no way for the SYN-ACK. natlb's checks come"
        " from the balancer, its neighbour, which it reaches without one. `exec server2 ip route` shows it; captures"
        " show the SYN arrive at server2 again and again, and nothing come back.",
        _route,
    ),
    "checksum": Fault(
        "Short answers always come. Every second long download gets stuck at its beginning.",
        "server2 sends segments of more than 1000 bytes with a wrong TCP checksum. natlb changes a checksum by the"
        " difference (RFC 1624), so what was wrong stays wrong, and the client's kernel drops it without a word. They"
        " arrive, and nobody acknowledges them: `exec client tcpdump -vv` says 'incorrect', `exec client nstat -az"
        " TcpInCsumErrors` counts them.",
        _checksum,
    ),
    "loss": Fault(
        "Requests to both servers take no time, or a fifth of a second, or a whole one: as it comes.",
        f"The client loses {_LOST} of 100 packets that it gets, by chance, before its TCP sees them. A lost SYN-ACK"
        " costs a second, other segments less. `exec client ping lb` tells how many are lost. Captures show each packet"
        " arrive, also at the client, and some come a second time, since nobody acknowledged the first: it is the"
        " client's own doing.",
        _loss,
    ),
    "mtu": Fault(
        "Short answers always come. Every second long download gets stuck at its beginning.",
        f"The balancer's end of the link to server1 takes frames of at most {_SHORT_FRAMES} bytes, server1's end sends"
        " 1500. What is too long vanishes on the link, and no router is there that could say so by ICMP. Captures at"
        " both ends show it: server1 sends segments that the balancer never gets. `exec lb ip link show server1` shows"
        " the mtu.",
        _mtu,
    ),
    "flood": Fault(
        "New connections are not established, or late; those that are open go on, and natlb holds every server for up."
        f" It ends by itself after {flood.SECONDS:g} s.",
        f"A flood: a program on the client's host has opened {flood.CONNECTIONS} connections that say nothing, more"
        " than natlb's `maxconn` lets in. Half-open ones would make way for others; these are established. `nat`"
        " shows them, and `exec client ss -tnp` whose they are.",
        _flood,
        runs=_FLOOD,
    ),
    "drain": Fault(
        "All new connections go to one server. The other is well, and answers when it is asked directly.",
        "server2 is drained: natlb was told by its Runtime API to give it no new connections (`set server"
        " nodes/server2 state drain`). `ask show stat` and natlb's log say DRAIN.",
        _drain,
    ),
}

ANY = "any"
"""Stands for a fault chosen by chance, whose name is not said."""


# -- breaking and healing


@dataclass(frozen=True, slots=True)
class Broken:
    """A fault that is in force."""

    name: str
    hidden: bool
    """Whether it was chosen by chance, and is still to be found."""

    @property
    def fault(self) -> Fault:
        """What is known of it."""
        return FAULTS[self.name]


def broken(lab: Lab) -> list[Broken]:
    """What is broken now, whoever broke it."""
    found = []
    for name, fault in FAULTS.items():
        record = _read(_record(lab, name))
        if record and (not fault.runs or _residents(lab, fault.runs)):
            found.append(Broken(name, hidden=bool(record["hidden"])))
    return found


def break_(lab: Lab, name: str) -> Fault:
    """Break something, by name or `ANY`. LabError: no such fault, broken already, or nothing there to break."""
    now = {each.name for each in broken(lab)}
    if hidden := name == ANY:
        left = [each for each in FAULTS if each not in now]
        if not left:
            raise LabError(f"everything is broken already: {lab.advice('heal')}")
        name = random.choice(left)  # noqa: S311 - no secret that matters
    fault = _find(name)
    if name in now:
        raise LabError(f"'{name}' is broken already: {lab.advice(f'heal {name}')} undoes it")
    change = fault.change(lab)
    _record(lab, name).write_text(json.dumps({"hidden": hidden, "healing": change.healing}), "utf-8")
    try:
        for step in change.breaking:
            _do(lab, step)
    except BaseException:
        heal(lab, [name])
        raise
    return fault


def heal(lab: Lab, names: Iterable[str] = ()) -> list[str]:
    """Undo faults, all of them unless named; return the names of those that were broken.

    LabError when a step of the undoing fails: what is written down of the fault stays, for another try.
    """
    healed = []
    for name in list(names) or FAULTS:
        _find(name)
        path = _record(lab, name)
        if path.exists():
            for step in _read(path).get("healing", []):
                _do(lab, step)
            path.unlink(missing_ok=True)
            healed.append(name)
    return healed


def _find(name: str) -> Fault:
    if name not in FAULTS:
        raise LabError(f"there is no fault '{name}'; there are {', '.join(FAULTS)}, and {ANY} for one by chance")
    return FAULTS[name]


def _record(lab: Lab, name: str) -> Path:
    return lab.directory / f"fault-{name}.json"


def _read(path: Path) -> dict[str, Any]:
    """What is written down of a fault; nothing when it was killed while it wrote, before it had changed anything."""
    try:
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return record


# -- steps


def _do(lab: Lab, step: Step) -> None:
    match step:
        case ["run", host, *argv]:
            _run(lab, host, argv)
        case ["stop", pattern]:
            found = _residents(lab, pattern)
            if not found:
                raise LabError(f"no process in the lab is called '{pattern}': there is nothing to break")
            send(found, signal.SIGSTOP)
        case ["continue", pattern]:
            send(_residents(lab, pattern), signal.SIGCONT)
        case ["start", name, host, ready, *argv]:
            lab.start(name, host, argv, ready)
        case ["end", pattern]:
            end(lambda: _residents(lab, pattern))
        case ["ask", command]:
            if refusal := _ask(lab, command).strip():
                raise LabError(f"natlb refused '{command}': {refusal}")
        case ["offer", command]:
            with contextlib.suppress(LabError):
                _ask(lab, command)
        case _:
            raise LabError(f"nobody knows how to do {step}")


def _residents(lab: Lab, pattern: str) -> list[Resident]:
    return [resident for resident in lab.residents() if re.search(pattern, resident.command)]


def _run(lab: Lab, host: str, argv: Sequence[str]) -> str:
    done = lab.run(host, argv, names=False)
    if done.returncode:
        raise LabError(f"`{' '.join(argv)}` on {host}: {done.stderr.strip()}")
    output: str = done.stdout
    return output


def _ask(lab: Lab, command: str) -> str:
    try:
        return balancer.ask(lab.stats_socket, command)
    except OSError as error:
        raise LabError(f"natlb does not answer at {lab.stats_socket}: {error.strerror or error}") from error
