"""natlb as a process: in the background, as another user, in the place of an older one, and how it ends."""

import os
import re
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from netns.balancer import COMMAND
from netns.build import Lab
from netns.topology import SEED
from tests.lab.support import NOBODYS_PID, Client, answering_server, balancer_state, until

pytestmark = pytest.mark.root

_VIP = SEED.balancer.ipv4
_SERVER = SEED.servers[0]
_NOBODY = 65534


@pytest.fixture(autouse=True)
def leave_nothing(lab: Lab) -> Iterator[None]:
    """End whatever natlb a test that failed has left behind."""
    yield
    for resident in lab.residents():
        if " ".join(COMMAND) in resident.command:  # not "natlb" alone, which may be the name of the clone
            with suppress(ProcessLookupError):  # it was just ending
                os.kill(resident.pid, signal.SIGKILL)


def _config(folder: Path, *process: str, name: str = "natlb.cfg") -> Path:
    lines = "".join(f"    {line}\n" for line in process)
    path = folder / name
    path.write_text(
        f"global\n{lines}"
        "defaults\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n"
        f"listen web\n    bind {_VIP}:8888\n    server {_SERVER.name} {_SERVER.ipv4}:{_SERVER.port}\n"
    )
    return path


def _start(lab: Lab, config: Path, *arguments: str) -> tuple[int, str]:
    """Run natlb until the command returns; its exit code and what it said."""
    kept = ["--state", str(config.parent / "state")]
    done = lab.run("lb", [*COMMAND, "-f", str(config), *kept, *arguments], names=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def _end_of(pid: int, signum: signal.Signals | None = signal.SIGTERM, seconds: float = 15) -> bool:
    """Send a signal to a process and wait for its end; whether it came."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if signum is not None:
            signal.pidfd_send_signal(descriptor, signum)
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


@contextmanager
def _in_background(lab: Lab, config: Path, *arguments: str) -> Iterator[int]:
    """Start natlb in the background; its process number. It is ended in any case."""
    pidfile = config.with_suffix(".pid")
    code, said = _start(lab, config, "-D", "-p", str(pidfile), *arguments)
    assert code == 0, said
    pid = int(pidfile.read_text())
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            if not _end_of(pid):
                os.kill(pid, signal.SIGKILL)


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_the_command_returns_when_natlb_is_ready_and_natlb_goes_on(served: Lab, tmp_path: Path) -> None:
    before = balancer_state(served)
    with _in_background(served, _config(tmp_path)) as pid:
        assert answering_server(served, "client", _VIP) == "server1"
        assert (tmp_path / "natlb.pid").stat().st_mode & 0o777 == 0o644
        assert [str(Path(f"/proc/{pid}/fd/{standard}").readlink()) for standard in range(3)] == ["/dev/null"] * 3
        assert os.getsid(pid) == pid
        assert _end_of(pid)
    assert balancer_state(served) == before
    assert {each.name for each in tmp_path.iterdir()} == {"natlb.cfg", "natlb.pid"}


def test_the_configuration_may_say_so_and_db_overrides_it(served: Lab, tmp_path: Path) -> None:
    pidfile = tmp_path / "mine.pid"
    config = _config(tmp_path, "daemon", f"pidfile {pidfile}")
    code, said = _start(served, config)
    assert code == 0, said
    assert _end_of(int(pidfile.read_text()))
    pidfile.unlink()
    foreground = served.start_natlb(config, ["-db"])
    assert foreground.alive
    assert not pidfile.exists()
    assert foreground.stop() == 0


def test_the_exit_code_tells_that_it_could_not_start(served: Lab, tmp_path: Path) -> None:
    before = balancer_state(served)
    web = served.start_web("lb", 8888, "squatter")
    pidfile = tmp_path / "pid"
    code, said = _start(served, _config(tmp_path), "-D", "-p", str(pidfile))
    assert code == 1
    assert "cannot bind socket (Address already in use)" in said
    assert not pidfile.exists()
    web.stop(signum=signal.SIGKILL)
    assert balancer_state(served) == before


def test_a_pidfile_that_cannot_be_written_is_an_error_and_nothing_is_left(served: Lab, tmp_path: Path) -> None:
    before = balancer_state(served)
    code, said = _start(served, _config(tmp_path), "-D", "-p", "/nonexistent/pid")
    assert code == 1
    assert "cannot create pidfile /nonexistent/pid: No such file or directory" in said
    assert "; make its directory ('mkdir -p /nonexistent'), or give another path" in said
    assert balancer_state(served) == before


_USERS = {
    "by name": ("user nobody", "group nogroup"),
    "by number": (f"uid {_NOBODY}", f"gid {_NOBODY}"),
}


@pytest.mark.parametrize("lines", _USERS.values(), ids=_USERS)
def test_as_another_user_it_works_and_takes_everything_back(
    served: Lab, tmp_path: Path, lines: tuple[str, str]
) -> None:
    before = balancer_state(served)
    stats = served.stats_socket
    config = _config(tmp_path, *lines, f"stats socket {stats} user games mode 600 level admin")
    natlb = served.start_natlb(config)
    status = _status(natlb.process.pid)
    assert status["Uid"].split() == status["Gid"].split() == [str(_NOBODY)] * 4
    assert status["Groups"] == ""
    assert stats.owner() == "games"
    assert natlb.ask("show stat").startswith("# pxname")
    assert answering_server(served, "client", _VIP) == "server1"
    assert natlb.stop() == 0
    assert "natlb has stopped" in natlb.log()
    assert balancer_state(served) == before
    with suppress(FileNotFoundError):
        stats.unlink()


def test_a_user_that_one_may_not_become_is_an_error(served: Lab, tmp_path: Path) -> None:
    before = balancer_state(served)
    caps = "+net_admin,+net_raw"
    powerless = ["setpriv", "--reuid", "1", "--inh-caps", caps, "--ambient-caps", caps, "--clear-groups"]
    tmp_path.chmod(0o755)
    config = _config(tmp_path, "uid 2")
    shared = Path("/run/natlb-process-test.cfg")
    shared.write_text(config.read_text())
    shared.chmod(0o644)
    try:
        done = served.run("lb", [*powerless, *COMMAND, "-f", str(shared)], names=False)
    finally:
        shared.unlink()
    assert done.returncode == 1, done.stderr
    assert "cannot become user 2: Operation not permitted; start natlb as root" in done.stderr
    assert balancer_state(served) == before


def test_a_soft_stop_ends_hard_after_its_time_and_says_so(served: Lab, tmp_path: Path) -> None:
    natlb = served.start_natlb(_config(tmp_path, "hard-stop-after 1s"))
    client = Client(served, "client", _VIP)
    client.ask()
    natlb.process.send_signal(signal.SIGUSR1)
    natlb.process.wait(timeout=10)
    assert natlb.process.returncode == 0
    assert "Proxy web stopped (cumulated conns: FE: 1, BE: 1)." in natlb.log()
    assert "soft-stop running for too long, performing a hard-stop, which ends 1 connection." in natlb.log()
    with pytest.raises(ConnectionResetError):
        client.ask()
    client.close()


def test_grace_is_for_connections_that_still_come(served: Lab, tmp_path: Path) -> None:
    natlb = served.start_natlb(_config(tmp_path, "grace 2s"))
    natlb.process.send_signal(signal.SIGUSR1)
    assert answering_server(served, "client", _VIP) == "server1"
    until(lambda: not natlb.alive, "it stops")
    assert "Proxy web stopped (cumulated conns: FE: 1, BE: 1)." in natlb.log()


@pytest.mark.parametrize("option", ["-sf", "-st"])
def test_a_new_natlb_takes_the_place_of_an_old_one(served: Lab, tmp_path: Path, option: str) -> None:
    before = balancer_state(served)
    with _in_background(served, _config(tmp_path, name="old.cfg")) as old:
        assert answering_server(served, "client", _VIP) == "server1"
        client = Client(served, "client", _VIP)
        assert client.ask() == "server1"
        with _in_background(served, _config(tmp_path, name="new.cfg"), option, str(old), str(NOBODYS_PID)) as new:
            assert _end_of(old, None, 0)
            assert new != old
            assert answering_server(served, "client", _VIP) == "server1"
            if option == "-sf":
                assert client.ask() == "server1"
            client.close()
    assert balancer_state(served) == before


def test_a_configuration_with_errors_leaves_the_old_one_alone(served: Lab, tmp_path: Path) -> None:
    with _in_background(served, _config(tmp_path, name="old.cfg")) as old:
        code, _ = _start(served, _config(tmp_path, "bogus"), "-D", "-sf", str(old))
        assert code == 1
        assert answering_server(served, "client", _VIP) == "server1"


def test_one_that_may_not_run_leaves_the_old_one_alone(served: Lab, tmp_path: Path) -> None:
    with _in_background(served, _config(tmp_path, name="old.cfg")) as old:
        powerless = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", *COMMAND]
        done = served.run("lb", [*powerless, "-f", str(_config(tmp_path)), "-st", str(old)], names=False)
        assert done.returncode == 1
        assert "natlb needs root" in done.stderr
        assert answering_server(served, "client", _VIP) == "server1"


@pytest.mark.parametrize("option", ["-sf", "-st"])
def test_a_process_that_is_not_natlb_is_sent_no_signal_and_keeps_nobody_from_starting(
    served: Lab, tmp_path: Path, option: str
) -> None:
    pidfile = tmp_path / "pid"
    code, said = _start(served, _config(tmp_path), "-D", "-p", str(pidfile), option, str(os.getpid()))
    assert code == 0, said
    assert f"process {os.getpid()} is not natlb; it is sent no signal" in said
    assert answering_server(served, "client", _VIP) == "server1"
    assert _end_of(int(pidfile.read_text()))


def test_sighup_tells_how_servers_are(served: Lab, tmp_path: Path) -> None:
    natlb = served.start_natlb(_config(tmp_path))
    answering_server(served, "client", _VIP)
    natlb.process.send_signal(signal.SIGHUP)
    until(lambda: "SIGHUP: Proxy web has" in natlb.log(), "the signal is noticed")
    said = natlb.log()
    # The connection's last segment may still be on its way.
    assert re.search(r"SIGHUP: Server web/server1 is UP\. Conn: [01] act, 0 pend, 1 tot\.\n", said)
    assert "SIGHUP: Proxy web has 1 active servers and 0 backup servers available. Conn: act(FE+BE): " in said
    assert "0 pend (0 unass), tot(FE+BE): 1+1.\n" in said
    assert natlb.stop() == 0


def test_where_nothing_is_recorded_sigusr2_says_what_to_do_instead(served: Lab, tmp_path: Path) -> None:
    natlb = served.start_natlb(_config(tmp_path), ["--state", "off"])
    natlb.process.send_signal(signal.SIGUSR2)
    until(lambda: "start one with -sf or -st" in natlb.log(), "the signal is noticed")
    assert answering_server(served, "client", _VIP) == "server1"
    assert natlb.stop() == 0


@pytest.mark.parametrize("lines", _USERS.values(), ids=_USERS)
def test_another_user_is_followed_by_command_and_says_so_at_sigusr2(
    served: Lab, tmp_path: Path, lines: tuple[str, str]
) -> None:
    before = balancer_state(served)
    with _in_background(served, _config(tmp_path, *lines, name="old.cfg")) as old:
        client = Client(served, "client", _VIP)
        assert client.ask() == "server1"
        with _in_background(served, _config(tmp_path, *lines, name="new.cfg"), "-sf", str(old)) as new:
            assert _end_of(old, None, 0)
            assert _status(new)["Uid"].split() == [str(_NOBODY)] * 4
            assert client.ask() == "server1"
            client.close()
    natlb = served.start_natlb(_config(tmp_path, *lines))
    natlb.process.send_signal(signal.SIGUSR2)
    remedy = f"as user {_NOBODY} natlb cannot start its successor; run its command line as user 0, with '-sf "
    until(lambda: remedy in natlb.log(), "it is told")
    assert natlb.stop() == 0
    assert balancer_state(served) == before


def test_the_servers_states_are_in_the_proxys_log_too(served: Lab, tmp_path: Path) -> None:
    with served.open_socket("lb", socket.AF_INET, socket.SOCK_DGRAM) as syslog:
        syslog.bind((_VIP, 5514))
        syslog.settimeout(5)
        config = _config(tmp_path)
        config.write_text(config.read_text() + f"    log {_VIP}:5514 local0\n")
        natlb = served.start_natlb(config)
        natlb.process.send_signal(signal.SIGHUP)
        line = syslog.recv(1000)
        assert re.fullmatch(
            rb"<133>\w{3} [ \d]\d [\d:]{8} natlb\[\d+\]: SIGHUP: Server web/server1 is UP\. Conn: .* tot\.\n", line
        )
        assert natlb.stop() == 0
