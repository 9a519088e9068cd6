"""What can be started and stopped in a lab that is up, by name: `lab.sh start natlb`, `lab.sh stop haproxy`.

Each keeps its configuration in the lab's directory, where it can be edited: what is there already is used as it is.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from netns import balancer, haproxy, wrong
from netns.build import Lab
from netns.certificates import certificate
from netns.errors import LabError
from netns.processes import Resident, end

TLS_PORT = 4443
"""Where the servers answer with TLS, once they do."""


@dataclass(frozen=True, slots=True)
class Program:
    """Something that can run in the lab."""

    about: str
    start: Callable[[Lab], object]
    stop: Callable[[Lab], None]
    configuration: str = ""
    """Its file in the lab's directory."""


def start(lab: Lab, name: str) -> Program:
    """Start a program; LabError when it runs already, or does not come up."""
    program = find(name)
    program.start(lab)
    return program


def stop(lab: Lab, name: str) -> None:
    """Stop a program; not running is fine."""
    find(name).stop(lab)


def find(name: str) -> Program:
    """Find a program by its name; LabError names the choices."""
    if name not in TABLE:
        raise LabError(f"there is no program '{name}' to start; there are {', '.join(TABLE)}")
    return TABLE[name]


def running(lab: Lab, name: str) -> list[Resident]:
    """Return the processes of a program of the balancer's."""
    return _running(lab, {"natlb": _NATLB, "haproxy": _HAPROXY}[name])


def needed(lab: Lab, name: str) -> Resident:
    """Return the process of a program of the balancer's; LabError, saying how it is started, when there is none."""
    found = running(lab, name)
    if not found:
        raise LabError(f"this needs {name}, which does not run: {lab.advice(f'start {name}')}")
    return found[0]


def _natlb(lab: Lab) -> None:
    if _running(lab, _NATLB):
        raise LabError(f"natlb runs already; {lab.advice('restart natlb')} lets it read its configuration again")
    path = lab.directory / "natlb.cfg"
    if not path.exists():
        path.write_text(balancer.configuration(lab.topology, lab.stats_socket), "utf-8")
    lab.start_natlb(path)


def replace_natlb(lab: Lab) -> None:
    """Start another natlb in the place of the one that runs, which hands over what it has; LabError if none does."""
    old = needed(lab, "natlb")
    lab.start_natlb(lab.directory / "natlb.cfg", ["-sf", str(old.pid)])


def _haproxy(lab: Lab) -> None:
    if _running(lab, _HAPROXY):
        raise LabError(f"haproxy runs already; {lab.advice('restart haproxy')} lets it read its configuration again")
    haproxy.start(lab)


def _tls(lab: Lab) -> None:
    for server in lab.topology.servers:
        lab.start_web(server.name, TLS_PORT, server.name, certificate=certificate(lab, server.name))


_NATLB = re.compile(r" -m natlb ")
_HAPROXY = re.compile(r"^haproxy ")
_WEB_WITH_TLS = re.compile(r" -m netns\.web .*--certificate ")


def _running(lab: Lab, command: re.Pattern[str]) -> list[Resident]:
    return [resident for resident in lab.residents() if command.search(resident.command)]


def _ending(command: re.Pattern[str]) -> Callable[[Lab], None]:
    return lambda lab: end(lambda: _running(lab, command))


TABLE = {
    "natlb": Program("natlb", _natlb, _ending(_NATLB), "natlb.cfg"),
    "haproxy": Program("a real HAProxy beside it", _haproxy, _ending(_HAPROXY), "haproxy.cfg"),
    "tls": Program("the servers' TLS ports", _tls, _ending(_WEB_WITH_TLS)),
    "wrong": Program("a balancer that is wrong on purpose", wrong.start, wrong.stop, "wrong.nft"),
}
