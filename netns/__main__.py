"""The command line behind `scripts/lab.sh`: a table of commands, and how a line of words finds its entry.

A command that needs scapy or rich, which take half a second to import, imports them when it runs.
"""

import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module

from netns import balancer, draw
from netns.build import PREFIX, Lab
from netns.claims import report
from netns.console import for_people
from netns.draw import Pen
from netns.errors import LabError


def up(lab: Lab, pen: Pen, _: Sequence[str]) -> int:
    """Build the lab and leave it running."""
    lab.up()
    vip = lab.topology.balancer
    try:
        lab.start_all()
        print(_map(lab, pen))
        print(f"\nThe lab is up, natlb listens on {vip.ipv4}:{vip.port}. Now try:\n")
        for command in (f"exec client curl -4 http://vip:{vip.port}/", "nat", "down"):
            print(f"    {lab.advice(command)}")
    except BaseException:
        lab.down()
        raise
    return 0


def down(lab: Lab, pen: Pen, _: Sequence[str]) -> int:  # noqa: ARG001 - as all commands
    """Take the lab away; fine when there is none."""
    was_up = lab.is_up
    lab.down()
    print("The lab is gone." if was_up else "There is no lab.")
    return 0


def status(lab: Lab, pen: Pen, _: Sequence[str]) -> int:
    """Draw the lab and list what runs in it; 1 when it is down or natlb does not answer."""
    if not lab.is_up:
        print("The lab is down.")
        return 1
    programs = [["host", "pid", "program"]]
    for resident in lab.residents():
        program = resident.command.rpartition(" -m ")[2]
        programs.append([resident.namespace.removeprefix(lab.prefix), str(resident.pid), program])
    print(_map(lab, pen), end="\n\n")
    for line in draw.table(programs, right=(1,)):
        print(line[: draw.WIDTH])
    try:
        entries = _nat_entries(lab)
    except LabError as error:
        print(f"\n{error}")
        return 1
    print(f"\nnatlb answers; its NAT table has {len(entries)} {'entry' if len(entries) == 1 else 'entries'}.")
    return 0


def nat(lab: Lab, pen: Pen, _: Sequence[str]) -> int:
    """Show natlb's NAT table."""
    print(draw.nat_table(pen, _nat_entries(lab)))
    return 0


def demo(lab: Lab, pen: Pen, _: Sequence[str]) -> int:
    """Give the guided tour."""
    _quieten_scapy()
    from netns.demo import Tour  # noqa: PLC0415 - see above

    Tour(lab, pen).run()
    return 0


def ask(lab: Lab, _: Pen, words: Sequence[str]) -> int:
    """Send natlb a command of the Runtime API, and print what it answers."""
    answer = _asked(lab, " ".join(words)).strip("\n")
    print(answer, end="\n" if answer else "")
    return 0


def see(lab: Lab, pen: Pen, words: Sequence[str]) -> int:
    """Make an experiment and draw what came of it; 1 when a claim does not hold."""
    _quieten_scapy()
    from netns import experiments  # noqa: PLC0415 - see above

    if not words:
        print(*draw.table([[name, each.about] for name, each in experiments.TABLE.items()]), sep="\n")
        return 0
    experiment = experiments.find(words[0])
    _need(lab)
    return 0 if report(pen, experiment.run(lab, pen)) else 1


def start(lab: Lab, _: Pen, words: Sequence[str]) -> int:
    """Start a program of the lab."""
    from netns import programs  # noqa: PLC0415 - most commands have no use for it

    _need(lab)
    program = programs.start(lab, words[0])
    where = f"; its configuration is {lab.directory / program.configuration}" if program.configuration else ""
    print(f"Started: {program.about}{where}")
    return 0


def stop(lab: Lab, _: Pen, words: Sequence[str]) -> int:
    """Stop a program of the lab."""
    from netns import programs  # noqa: PLC0415 - most commands have no use for it

    _need(lab)
    programs.stop(lab, words[0])
    return 0


def restart(lab: Lab, pen: Pen, words: Sequence[str]) -> int:
    """Stop a program and start it, with the configuration as it is now."""
    return stop(lab, pen, words) or start(lab, pen, words)


def _of_the_course(name: str) -> Callable[[Lab, Pen, Sequence[str]], int]:
    def run(lab: Lab, pen: Pen, words: Sequence[str]) -> int:
        _quieten_scapy()
        from netns.lessons import course  # noqa: PLC0415 - see above

        command: Callable[[Lab, Pen, Sequence[str]], int] = getattr(course, name)
        return command(lab, pen, words)

    return run


def _of_seeing(module: str, name: str) -> Callable[[Lab, Pen, Sequence[str]], int]:
    def run(lab: Lab, pen: Pen, words: Sequence[str]) -> int:
        _quieten_scapy()
        command: Callable[[Lab, Pen, Sequence[str]], int] = getattr(import_module(f"netns.seeing.{module}"), name)
        return command(lab, pen, words)

    return run


def break_(lab: Lab, _: Pen, words: Sequence[str]) -> int:
    """Break something, and say what a user notices; alone, list what can be broken; with --tell, say what is."""
    from netns import faults  # noqa: PLC0415 - most commands have no use for it

    _need(lab)
    now = faults.broken(lab)
    if not words:
        print(draw.paragraphs({name: fault.notice for name, fault in faults.FAULTS.items()}), end="\n\n")
        names = [each.name for each in now if not each.hidden]
        names += ["something that was chosen by chance"] * any(each.hidden for each in now)
        print(f"Broken now: {', '.join(names) or 'nothing'}.")
    elif words[0] == "--tell":
        print(draw.paragraphs({each.name: each.fault.cause for each in now}) if now else "Nothing is broken.")
    else:
        fault = faults.break_(lab, words[0])
        print(draw.paragraphs({"Broken:": f"{fault.notice} Find out why."}))
        advice = [[f"    {lab.advice('break --tell')}", "says what it is"], [f"    {lab.advice('heal')}", "undoes it"]]
        print(*draw.table(advice), sep="\n")
    return 0


def heal(lab: Lab, _: Pen, words: Sequence[str]) -> int:
    """Undo what was broken: all of it, or one fault."""
    from netns import faults  # noqa: PLC0415 - most commands have no use for it

    _need(lab)
    print(f"Healed: {', '.join(faults.heal(lab, words)) or 'nothing was broken'}.")
    return 0


def hosts(lab: Lab, pen: Pen, _: Sequence[str]) -> int:
    """List the hosts, with the addresses that they really have."""
    _need(lab)
    rows = [["host", "also", "addresses", "serves"]]
    for host in lab.topology.hosts:
        addresses = "  ".join(lab.addresses(host.name))
        rows.append([host.name, ", ".join(host.aliases), addresses, f"port {host.port}" if host.port else ""])
    heading, *lines = draw.table(rows)
    print(pen.bold(heading), *lines, sep="\n")
    return 0


def pingall(lab: Lab, pen: Pen, _: Sequence[str]) -> int:
    """Ping from every host to every other; 1 when an answer is missing."""
    from netns import pings  # noqa: PLC0415 - most commands have no use for it

    _need(lab)
    answered = pings.between_all(lab)
    print(pings.drawn(lab.topology, answered, pen))
    return 0 if all(answered.values()) else 1


def shell(lab: Lab, pen: Pen, _: Sequence[str]) -> int:
    """Talk to the lab at a prompt, where every other command works, too; the status of the last one."""
    from netns.shell import Shell  # noqa: PLC0415 - most commands have no use for it

    return Shell(lab, pen, {name: command for name, command in COMMANDS.items() if name not in _NOT_IN_A_SHELL}).run()


def execute(lab: Lab, _: Pen, words: Sequence[str]) -> int:
    """Become a program on a host: its input, output, signals and exit status are the caller's."""
    host, *argv = words
    try:
        lab.topology.host(host)
    except LabError as error:
        return _senseless(str(error))
    _need(lab)
    argv = argv or [os.environ.get("SHELL", "/bin/sh")]
    command = lab.command(host, argv)
    if shutil.which(argv[0]):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # which Python had turned off, for itself
        os.execvp(command[0], command)  # noqa: S606 - no shell, on purpose
    print(f"lab.sh: exec: there is no program '{argv[0]}'", file=sys.stderr)
    return 127


@dataclass(frozen=True, slots=True)
class Command:
    """One entry of the table."""

    run: Callable[[Lab, Pen, Sequence[str]], int]
    about: str
    arguments: str = ""
    """As the help shows them: WORD must be there, [WORD] may, and a last one with ... any number of times."""
    choices: Callable[[], Iterable[str]] = tuple
    """What the words may be, where that is known; the shell offers them."""

    def takes(self, number: int) -> bool:
        """Whether it can be given so many words."""
        words = self.arguments.split()
        endless = bool(words) and words[-1].rstrip("]").endswith("...")
        needed = sum(not word.startswith("[") for word in words)
        return needed <= number and (endless or number <= len(words))


def _choices(module: str, table: str) -> Callable[[], Iterable[str]]:
    """Return what gives the names in a module's table, without importing it before they are asked for."""
    return lambda: getattr(import_module(f"netns.{module}"), table)


_NOT_IN_A_SHELL = ("exec", "shell")
"""A host's name does what the one does; and one shell is enough."""

COMMANDS: dict[str, Command] = {
    "demo": Command(demo, "the guided tour; a lab that is up stays up"),
    "lesson": Command(_of_the_course("walk_through"), "walk through a lesson, or list them all", "[N]"),
    "check": Command(_of_the_course("check"), "look whether a lesson's exercise is done", "N"),
    "hint": Command(_of_the_course("hint"), "the next hint for it", "N"),
    "solve": Command(_of_the_course("solve"), "do it, and say why", "N"),
    "up": Command(up, "build the lab and leave it running"),
    "down": Command(down, "take the lab away, with all that runs in it"),
    "status": Command(status, "draw it, and list what runs in it"),
    "exec": Command(execute, "run a program on a host; without one, a shell", "HOST [CMD...]"),
    "nat": Command(nat, "show natlb's NAT table"),
    "hosts": Command(hosts, "list the hosts: names, addresses, ports"),
    "pingall": Command(pingall, "ping from every host to every other"),
    "break": Command(break_, "break something, to be found; or list what", "[FAULT]", _choices("faults", "FAULTS")),
    "heal": Command(heal, "undo what was broken", "[FAULT]", _choices("faults", "FAULTS")),
    "shell": Command(shell, "a prompt: `client curl vip`, `nat`, `pingall` ..."),
    "ask": Command(ask, "give natlb a command of the Runtime API", "WORDS..."),
    "see": Command(see, "make an experiment and draw it, or list them all", "[WHAT]", _choices("experiments", "TABLE")),
    "watch": Command(_of_seeing("watch", "watch"), "client wire, NAT table, server wire, live", "[...]"),
    "trace": Command(_of_seeing("trace", "trace"), "one packet's life in natlb, byte by byte", "[...]"),
    "capture": Command(_of_seeing("record", "capture"), "a host's packets, for Wireshark", "HOST..."),
    "draw": Command(_of_seeing("picture", "draw"), "draw a connection, as an SVG picture", "[...]"),
    "start": Command(start, "start natlb, haproxy, tls or wrong", "WHAT", _choices("programs", "TABLE")),
    "stop": Command(stop, "stop it", "WHAT", _choices("programs", "TABLE")),
    "restart": Command(
        restart, "stop it, and start it with its configuration of now", "WHAT", _choices("programs", "TABLE")
    ),
}


def usage() -> str:
    """What `lab.sh help` prints."""
    names = {name: f"{name} {command.arguments}".strip() for name, command in COMMANDS.items()}
    rows = [[f"  lab.sh {names[name]}", command.about] for name, command in COMMANDS.items()]
    listed = "\n".join(draw.table([["  lab.sh", "the guided tour: build, show, clean up"], *rows]))
    return f"""\
The lab of natlb: a client, a balancer and two servers in network namespaces.
Each command is given as `sudo scripts/lab.sh COMMAND`.

{listed}

HOST is client, lb, server1 or server2. Before the command, --prefix PREFIX may
say how the namespaces' names begin ({PREFIX} unless told otherwise): so there
can be a second lab beside the first."""


def main(words: Sequence[str]) -> int:
    """Do what the command line says and return the exit status: 2 when it makes no sense."""
    prefix = PREFIX
    if words[:1] == ["--prefix"] and len(words) > 1:
        prefix, words = words[1], words[2:]
    if {"-h", "--help", "help"} & set(words[:1]):
        print(usage())
        return 0
    name, *rest = words or ["demo"]
    command = COMMANDS.get(name)
    if command is None:
        return _senseless(f"'{name}' is not a command; the commands are {', '.join(COMMANDS)}")
    if not command.takes(len(rest)):
        needs = f"'{name}' is given like this: {name} {command.arguments}"
        return _senseless(needs if command.arguments else f"'{name}' takes no arguments")
    try:
        lab = Lab(prefix=prefix)
    except LabError as error:
        return _senseless(str(error))
    return command.run(lab, Pen.for_output(sys.stdout), rest)


def _senseless(wrong: str) -> int:
    print(f"lab.sh: {wrong}", file=sys.stderr)
    return 2


def _map(lab: Lab, pen: Pen) -> str:
    return draw.lab_map(pen, lab.topology, {host.name: lab.addresses(host.name) for host in lab.topology.hosts})


def _need(lab: Lab) -> None:
    if not lab.is_up:
        raise LabError(f"the lab is not up: {lab.advice('up')}")


def _nat_entries(lab: Lab) -> list[balancer.Entry]:
    return balancer.nat_table(_asked(lab, "show sess"))


def _asked(lab: Lab, command: str) -> str:
    _need(lab)
    try:
        return balancer.ask(lab.stats_socket, command)
    except OSError as error:
        raise LabError(f"natlb does not answer at {lab.stats_socket}: {error.strerror or error}") from error


def _quieten_scapy() -> None:
    """What it finds odd about this machine's network is no matter."""
    logging.getLogger("scapy").setLevel(logging.ERROR)


if __name__ == "__main__":
    with for_people("lab.sh"):
        sys.exit(main(sys.argv[1:]))
