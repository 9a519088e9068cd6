"""A new natlb in the place of an old one, a reload in place, a kill with an immediate start: no connection notices."""

import os
import re
import select
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from netns.balancer import COMMAND, READY, Natlb
from netns.build import Lab
from netns.topology import LINK, SEED
from tests.lab.streams import streams
from tests.lab.support import NOBODYS_PID, Client, answering_server, balancer_state, shell, until

pytestmark = pytest.mark.root

_VIP = SEED.balancer.ipv4
_SERVERS = SEED.servers
_ECHO = 7000

Start = Callable[..., Natlb]


@pytest.fixture
def config(served: Lab, tmp_path: Path) -> Path:
    path = tmp_path / "natlb.cfg"
    path.write_text(_text(served))
    return path


def _text(lab: Lab, *more: str) -> str:
    first = _SERVERS[0]
    return (
        f"global\n    stats socket {lab.stats_socket} level admin\n"
        "defaults\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n"
        f"listen web\n    bind {_VIP}:8888\n    server {first.name} {first.ipv4}:{first.port}\n"
        f"listen echo\n    bind {_VIP}:8000\n    server {first.name} {first.ipv4}:{_ECHO}\n"
    ) + "".join(f"{line}\n" for line in more)


@pytest.fixture
def start(served: Lab) -> Iterator[Start]:
    """Start natlb, as often as a test likes; at the end the last one leaves the machine as it was."""
    before = balancer_state(served)
    started: list[Natlb] = []
    with ExitStack() as running:

        def begin(config: Path, *options: str) -> Natlb:
            natlb = served.start_natlb(config, options, wait=False)
            running.callback(lambda: natlb.alive and natlb.kill())
            started.append(natlb)
            natlb.wait_for(READY, 60)
            return natlb

        yield begin
        assert started[-1].stop() == 0
        assert balancer_state(served) == before
        assert [each.name for each in served.directory.iterdir() if each.suffix in (".state", ".sock")] == [
            each.name for each in (served.stats_socket,) if each.exists()
        ]


def _balancing(natlb: Natlb) -> int:
    """Return the process that answers at the stats socket; 0 while there is none."""
    try:
        found = re.search(r"(?m)^Pid: (\d+)", natlb.ask("show info"))
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _reload(natlb: Natlb, seconds: float = 60.0) -> int:
    """Have natlb reload in place; return the process that balances then."""
    old = _balancing(natlb)
    natlb.process.send_signal(signal.SIGUSR2)
    until(lambda: _balancing(natlb) not in (0, old), "another one balances", seconds)
    if old != natlb.process.pid:
        _await_end(old)
    return _balancing(natlb)


def _await_end(pid: int, seconds: float = 30.0) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], seconds)[0], f"process {pid} does not end"
    finally:
        os.close(descriptor)


@pytest.mark.busy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("offload", ["off", "on"])
def test_a_thousand_streams_go_on_to_the_last_byte_whatever_becomes_of_natlb(
    served: Lab, config: Path, start: Start, offload: str
) -> None:
    options = ("--offload", offload)
    natlb = start(config, *options)
    resets = "tcp[tcpflags] & tcp-rst != 0"
    with served.capture("client", LINK, resets) as near, served.capture("server1", LINK, resets) as far:
        with streams(served, 1000, port=8000, server_port=_ECHO) as made:
            for number in range(25):
                if number % 5 == 4:
                    os.kill(_balancing(natlb), signal.SIGKILL)
                    assert natlb.process.wait(30) == -signal.SIGKILL
                    natlb = start(config, *options)
                elif number % 2:
                    _reload(natlb)
                else:
                    old, natlb = natlb, start(config, "-sf", str(natlb.process.pid), *options)
                    assert old.process.wait(30) == 0
                assert made.failures == []
        assert sum(made.exchanged) > 1000
    assert near.packets() == []
    assert far.packets() == []


@contextmanager
def _visitors(lab: Lab) -> Iterator[list[str]]:
    """Have clients come and go, as fast as they can; hand out how it ended for each, empty if they were served."""
    # A fast machine makes more of them in a minute, for which a port is not given again, than there are ports.
    shell(lab, "client", "sysctl -qw net.ipv4.tcp_tw_reuse=1")
    ended = threading.Event()
    outcomes: list[str] = []

    def visit() -> None:
        while not ended.is_set():
            try:
                client = Client(lab, "client", _VIP, seconds=5)
                client.ask()
                client.close()
                outcomes.append("")
            except OSError as error:
                outcomes.append(repr(error))

    threads = [threading.Thread(target=visit) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@pytest.mark.busy
@pytest.mark.parametrize("offload", ["off", "on"])
def test_whoever_comes_meanwhile_is_served(served: Lab, config: Path, start: Start, offload: str) -> None:
    """Packets of a handshake that the old natlb still looked at would be unknown to the new one, and reset by it."""
    natlb = start(config, "--offload", offload)
    with _visitors(served) as outcomes:
        for _ in range(6):
            _reload(natlb)
    assert len(outcomes) > 500
    assert Counter(outcomes) == {"": len(outcomes)}


def test_a_new_natlb_goes_on_with_every_connection_and_the_old_one_has_gone(
    served: Lab, config: Path, start: Start
) -> None:
    old = start(config)
    client = Client(served, "client", _VIP)
    before = client.ask()
    new = start(config, "-sf", str(old.process.pid), str(NOBODYS_PID))
    assert old.process.wait(30) == 0
    assert f"natlb {new.process.pid} goes on from here" in old.log()
    assert re.search(rf"natlb {old.process.pid} has handed over; packets waited \d+\.\d+ s", new.log())
    assert client.ask() == before
    assert answering_server(served, "client", _VIP) == before
    client.close()


def test_what_is_new_and_what_is_gone_in_the_configuration_takes_effect(
    served: Lab, config: Path, start: Start
) -> None:
    first, second = _SERVERS
    natlb = start(config)
    client = Client(served, "client", _VIP)
    assert client.ask() == first.name
    config.write_text(
        _text(served)
        .replace(f"bind {_VIP}:8888", "bind *:8888")
        .replace(f"{first.name} {first.ipv4}:{first.port}", f"{second.name} {second.ipv4}:{second.port}")
        .replace(":8000", ":8001")
    )
    _reload(natlb)
    assert client.ask() == first.name, "where it was led to before"
    assert answering_server(served, "client", _VIP) == second.name
    refused = served.run("client", ["curl", "-sSm", "5", f"http://{_VIP}:8000/"], names=False)
    assert refused.returncode == 7, refused.stderr
    client.close()


def test_a_process_that_is_reloaded_in_place_keeps_its_number_and_hears_signals(
    served: Lab, config: Path, start: Start
) -> None:
    natlb = start(config)
    first = natlb.process.pid
    assert _balancing(natlb) == first
    second = _reload(natlb)
    third = _reload(natlb)
    assert len({first, second, third}) == 3
    assert natlb.alive
    assert answering_server(served, "client", _VIP) == "server1"
    natlb.process.send_signal(signal.SIGHUP)
    until(lambda: "SIGHUP: Server web/server1 is UP" in natlb.log(), "the signal is passed on")


@pytest.mark.parametrize("before", [0, 1], ids=["by the first natlb", "by one that has a keeper"])
def test_a_change_during_a_reload_takes_effect_when_it_is_asked_for(
    served: Lab, config: Path, start: Start, before: int
) -> None:
    natlb = start(config)
    for _ in range(before):
        _reload(natlb)
    reloads, (first, second) = "SIGUSR2: the configuration is valid; a natlb starts", _SERVERS
    natlb.process.send_signal(signal.SIGUSR2)
    until(lambda: natlb.log().count(reloads) == before + 1, "the configuration was read", 60)
    changed = config.with_name("changed.cfg")
    changed.write_text(
        _text(served).replace(f"{first.name} {first.ipv4}:{first.port}", f"{second.name} {second.ipv4}:{second.port}")
    )
    changed.replace(config)
    natlb.process.send_signal(signal.SIGUSR2)
    until(lambda: natlb.log().count(reloads) == before + 2, "it is read once more", 60)
    until(lambda: natlb.log().count(READY) == before + 3, "the last one balances", 60)
    assert answering_server(served, "client", _VIP) == second.name


def test_whoever_kills_the_process_that_was_reloaded_has_killed_natlb(served: Lab, config: Path, start: Start) -> None:
    natlb = start(config)
    client = Client(served, "client", _VIP)
    client.ask()
    balancing = _reload(natlb)
    natlb.kill()
    _await_end(balancing)
    start(config)
    assert client.ask() == "server1"
    client.close()


@pytest.mark.parametrize("way", ["-sf", "SIGUSR2"])
def test_packets_that_the_kernel_carries_it_goes_on_carrying(served: Lab, config: Path, start: Start, way: str) -> None:
    number, options = 50, ("--offload", "on")
    natlb = start(config, *options)
    with streams(served, number, port=8000, server_port=_ECHO) as made:
        until(lambda: _told(natlb, "show offload")["connections"] == str(number), "the kernel carries all of them", 30)
        if way == "-sf":
            old, natlb = natlb, start(config, "-sf", str(natlb.process.pid), *options)
            assert old.process.wait(30) == 0
        else:
            _reload(natlb)
        assert f"the kernel has gone on with {number} connections of the natlb before; 0 have no place" in natlb.log()
        before = list(made.exchanged)
        until(
            lambda: all(now >= then + 2 for now, then in zip(made.exchanged, before, strict=True)),
            "two blocks come back on every connection",
            60,
        )
        offload = _told(natlb, "show offload")
        assert (offload["connections"], offload["differences"]) == (str(number), "0")
        until(lambda: int(_told(natlb, "show offload")["packets"]) > 4 * number, "what was carried is learned of")
        # To be known again without the maps, each would have had to come here with a packet of each end.
        assert int(_told(natlb, "show activity")["packets"]) < number


def _told(natlb: Natlb, command: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in natlb.ask(command).splitlines() if ": " in line)


_BAD = {
    "an unknown word": ("    bogus", r"parsing \[{config}:13\] : unknown keyword 'bogus'"),
    "a port that is taken": (f"    bind {_VIP}:8889", r"cannot bind socket \(Address already in use\) \[{vip}:8889\]"),
    "a stats socket that cannot be made": (
        "global\n    stats socket /nonexistent/socket",
        "Starting stats socket /nonexistent/socket: No such file or directory; make its directory",
    ),
}


@pytest.mark.parametrize("way", ["-sf", "SIGUSR2"])
@pytest.mark.parametrize(("line", "complaint"), _BAD.values(), ids=_BAD)
def test_a_configuration_that_cannot_be_used_leaves_the_old_one_running_and_says_why(
    served: Lab, config: Path, start: Start, way: str, line: str, complaint: str
) -> None:
    squatter = served.start_web("lb", 8889, "squatter")
    natlb = start(config)
    client = Client(served, "client", _VIP)
    client.ask()
    good = config.read_text()
    config.write_text(_text(served, line))
    complaint = complaint.format(config=re.escape(str(config)), vip=re.escape(_VIP))
    if way == "-sf":
        kept = ["--state", str(served.directory)]
        argv = [*COMMAND, "-D", "-f", str(config), *kept, "-sf", str(natlb.process.pid)]
        done = served.run("lb", argv, names=False)
        assert done.returncode == 1
        assert re.search(complaint, done.stderr), done.stderr
        assert "Traceback" not in done.stderr
    else:
        natlb.process.send_signal(signal.SIGUSR2)
        until(lambda: bool(re.search(complaint, natlb.log())), "it is told", 30)
        until(lambda: "goes on as it is" in natlb.log(), "it goes on", 30)
    assert _balancing(natlb) == natlb.process.pid
    assert client.ask() == "server1"
    assert answering_server(served, "client", _VIP) == "server1"
    config.write_text(good)
    assert _reload(natlb) != natlb.process.pid, "and it can be reloaded once that is put right"
    assert client.ask() == "server1"
    client.close()
    squatter.stop(signum=signal.SIGKILL)
