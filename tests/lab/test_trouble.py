"""What a router's balancer meets: rules that somebody flushes, cables, clocks, memory, disks. The page docs/trouble.md
says what becomes of each.

natlb runs as it is; only what no lab has - an error of its own, a wall clock that jumps - is put into the process
before it begins.
"""

import contextlib
import os
import re
import resource
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from netns.balancer import READY, Natlb
from netns.build import Lab
from netns.processes import every
from netns.topology import SEED
from tests.lab.datagrams import activity
from tests.lab.support import answering_server, balancer_state, clients, shell, until

pytestmark = pytest.mark.root

_VIP = SEED.balancer.ipv4
_SERVER1, _SERVER2 = SEED.servers
_LOCAL = 8889
_UDP = 8053

_CONFIG = f"""\
global
    maxconn 100000
    stats socket {{socket}} level admin
defaults
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen web
    bind {_VIP}:8888
    server server1 {_SERVER1.ipv4}:4444
listen local
    bind *:{_LOCAL}
    server local 127.0.0.1:4446
udp-lb flows
    dgram-bind {_VIP}:{_UDP}
    server server1 {_SERVER1.ipv4}:53
"""

_RUN = "from natlb.cli import run; run()"


@pytest.fixture(scope="module")
def served(lab: Lab) -> Lab:
    """The lab with its servers, one on the balancer itself, and no natlb."""
    for server in lab.topology.servers:
        lab.start_web(server.name)
    lab.start_web("lb", 4446, "local", "127.0.0.1")
    return lab


@contextlib.contextmanager
def running(
    lab: Lab, *options: str, config: str = _CONFIG, before: str = "", enter: Sequence[str] = (), offload: str = "off"
) -> Iterator[Natlb]:
    """Run natlb in the block, entered by a command, with a piece of Python done `before`; it leaves nothing behind."""
    path = lab.new_file("natlb", "cfg")
    path.write_text(config.format(socket=lab.stats_socket), "utf-8")
    argv = [*enter, sys.executable, "-P", "-c", f"{before}\n{_RUN}", "-f", str(path), "--offload", offload, *options]
    natlb = Natlb("natlb", lab.command("lb", argv, names=False), lab.new_file("natlb", "log"), lab.stats_socket)
    try:
        natlb.wait_for(READY)
        yield natlb
        natlb.process.send_signal(signal.SIGCONT)
        assert natlb.stop() == 0
        assert "Traceback" not in natlb.log()
    finally:
        natlb.kill()


def _asked(lab: Lab, port: int = 8888) -> str:
    return answering_server(lab, "client", _VIP, port=port)


# -- rules, settings and filters that somebody takes away

_DAMAGES = {
    "a table is flushed": "iptables -t raw -F",
    "a jump is removed": "iptables -t mangle -D POSTROUTING -j NATLB-2391-SRV",
    "all rules are flushed": "nft flush ruleset",
}


def test_rules_that_somebody_takes_away_are_there_again_within_seconds(served: Lab) -> None:
    before = balancer_state(served)
    with running(served) as natlb, clients(served, "client", _VIP, 3) as open_ones:
        for number, (name, damage) in enumerate(_DAMAGES.items(), start=1):
            shell(served, "lb", damage)
            until(lambda number=number: activity(served)["rules_repaired"] == number, f"{name}: it is noticed", 30)
            assert [client.ask() for client in open_ones] == ["server1"] * 3
            assert _asked(served) == "server1"
            assert _asked(served, _LOCAL) == "local"
        told = re.findall(r"somebody has taken away or changed rules of natlb's, .*", natlb.log())
        assert len(told) == 3
        assert "iptables: the way from POSTROUTING of mangle. " in told[1]
        assert "iptables: chain NATLB-2391-SRV of mangle" in told[2]
        assert "internal error" not in natlb.log()
    assert balancer_state(served) == before


def test_rules_of_the_old_tables_are_looked_after_too(served: Lab, tmp_path: Path) -> None:
    for family in ("iptables", "ip6tables"):
        for action in ("save", "restore"):
            (tmp_path / f"{family}-{action}").symlink_to(f"/usr/sbin/{family}-legacy-{action}")
    with running(served, enter=["env", f"PATH={tmp_path}:{os.environ['PATH']}"]) as natlb:
        assert _asked(served) == "server1"
        shell(served, "lb", "iptables-legacy -t raw -F")
        until(lambda: activity(served)["rules_repaired"] == 1, "it is noticed", 30)
        assert _asked(served) == "server1"
        assert "somebody has taken away or changed rules of natlb's" in natlb.log()
    shell(served, "lb", "iptables-legacy -t raw -S | grep -q NATLB && exit 1 || true")


def test_a_setting_that_somebody_changes_is_told_with_the_remedy_and_left_alone(served: Lab) -> None:
    with running(served) as natlb:
        shell(served, "lb", "sysctl -w net.ipv4.ip_forward=0")
        told = r"somebody has changed net\.ipv4\.ip_forward, which natlb needs to be 1: .* right: (sysctl -w .*)"
        until(lambda: re.search(told, natlb.log()) is not None, "it is told", 30)
        assert shell(served, "lb", "cat /proc/sys/net/ipv4/ip_forward") == "0\n"
        remedy = re.search(told, natlb.log())
        assert remedy is not None
        shell(served, "lb", remedy[1])
        assert _asked(served) == "server1"
        until(lambda: "net.ipv4.ip_forward is no longer in natlb's way" in natlb.log(), "that is told, too", 30)


def test_a_filter_of_the_fast_path_that_somebody_takes_away_is_put_back(served: Lab) -> None:
    with running(served, offload="on") as natlb, clients(served, "client", _VIP, 1) as [client]:
        assert client.ask() == "server1"
        shell(served, "lb", "tc qdisc del dev client clsact")
        assert client.ask() == "server1"
        until(lambda: "somebody has taken natlb's filter off client: " in natlb.log(), "it is told", 30)
        assert "natlb-2391" in shell(served, "lb", "tc filter show dev client ingress")
        assert client.ask() == "server1"


# -- interfaces and addresses


def test_connections_go_on_when_a_cable_was_out_for_a_while(served: Lab) -> None:
    with running(served) as natlb, clients(served, "client", _VIP, 2) as [one, other]:
        assert one.ask() == "server1"
        shell(served, "lb", "ip link set client down; ip link set server1 down")
        one.socket.sendall(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")
        shell(served, "lb", "ip link set client up; ip link set server1 up")
        assert one.socket.recv(65536).startswith(b"HTTP/1.1 200"), "it was sent again"
        assert other.ask() == "server1"
        assert _asked(served) == "server1"
        assert "internal error" not in natlb.log()


def test_connections_go_on_when_the_virtual_address_was_gone_for_a_while(served: Lab) -> None:
    ends = [(host.name, host.ipv4) for host in SEED.neighbours]
    away = "; ".join(f"ip addr del {_VIP} peer {far} dev {name}" for name, far in ends)
    back = "; ".join(f"ip addr add {_VIP} peer {far} dev {name}" for name, far in ends)
    with running(served) as natlb, clients(served, "client", _VIP, 1) as [client]:
        assert client.ask() == "server1"
        shell(served, "lb", away)
        assert "44.2.2.2" not in shell(served, "lb", "ip addr show")
        shell(served, "lb", back)
        assert client.ask() == "server1"
        assert _asked(served) == "server1"
        assert _asked(served, _LOCAL) == "local"
        assert "internal error" not in natlb.log()


def test_an_interface_that_comes_later_gets_what_servers_on_loopback_need(served: Lab) -> None:
    before = balancer_state(served)
    with running(served) as natlb:
        shell(served, "lb", f"ip link add late0 type veth peer name late1 netns {served.namespace('client')}")
        try:
            shell(served, "lb", "ip link set late0 up; ip addr add 44.8.8.1/24 dev late0")
            shell(served, "client", "ip link set late1 up; ip addr add 44.8.8.2/24 dev late1")
            told = "set net.ipv4.conf.late0.route_localnet to 1 while natlb runs"
            until(lambda: told in natlb.log(), "it is noticed", 30)
            assert answering_server(served, "client", "44.8.8.1", port=_LOCAL) == "local"
            guarded = served.run("client", ["curl", "-sm", "1", "--interface", "late1", "http://127.0.0.1:4446/"])
            assert guarded.returncode != 0
        finally:
            shell(served, "lb", "ip link del late0")
        assert _asked(served) == "server1"
    assert balancer_state(served) == before


# -- servers


def test_a_server_that_comes_and_goes_costs_no_connection_of_the_others(served: Lab) -> None:
    config = f"""\
global
    stats socket {{socket}} level admin
defaults
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    default-server inter 100ms fall 1 rise 1
listen web
    bind {_VIP}:8888
    option redispatch 1
    server server1 {_SERVER1.ipv4}:4444 check
    server flapping {_SERVER2.ipv4}:5556 check
"""
    with contextlib.ExitStack() as stack:
        natlb = stack.enter_context(running(served, config=config))
        until(lambda: "web/flapping is DOWN" in natlb.log(), "its first check has failed")
        steady = stack.enter_context(clients(served, "client", _VIP, 2))
        for number in range(1, 4):
            flapping = served.start_web("server2", 5556, "flapping")
            until(lambda number=number: natlb.log().count("web/flapping is UP") >= number, "it is up")
            assert {_asked(served) for _ in range(4)} == {"server1", "flapping"}
            flapping.stop(signum=signal.SIGKILL)
            until(lambda number=number: natlb.log().count("web/flapping is DOWN") > number, "it is down")
            assert {_asked(served) for _ in range(3)} == {"server1"}
        assert [client.ask() for client in steady] == ["server1"] * 2
        assert "internal error" not in natlb.log()


def test_checks_that_hang_hold_up_neither_packets_nor_each_other_for_long(served: Lab) -> None:
    hanging = "\n".join(f"    server hangs{number} {_SERVER1.ipv4}:4999 check" for number in range(100))
    config = f"""\
global
    stats socket {{socket}} level admin
defaults
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout check 500ms
    default-server inter 500ms fall 1 rise 1
listen web
    bind {_VIP}:8888
    server server1 {_SERVER1.ipv4}:4444 check
backend hanging
    option httpchk
{hanging}
"""
    with served.open_socket("server1", socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind((_SERVER1.ipv4, 4999))
        listening.listen(1024)  # and nobody accepts
        with running(served, config=config, enter=["prlimit", "--nofile=128"]) as natlb:
            until(lambda: natlb.log().count(" is DOWN, reason: Layer7 timeout") >= 100, "all have hung", 60)
            assert _asked(served) == "server1"
            assert natlb.ask("show servers conn hanging").count("hangs") == 100
            assert "internal error" not in natlb.log()


# -- clocks


def test_a_wall_clock_that_jumps_moves_nothing_but_the_stamps_of_log_lines(served: Lab) -> None:
    jumping = (
        "import itertools, time\n"
        "jumps, real = itertools.cycle([0, 1e9, -1e9, 1e8, -86400]), time.time\n"
        "time.time = lambda: real() + next(jumps)"
    )
    with running(served, before=jumping) as natlb, clients(served, "client", _VIP, 2) as open_ones:
        for _ in range(5):
            assert _asked(served) == "server1"
            assert [client.ask() for client in open_ones] == ["server1"] * 2
        assert "connections: 7\n" in natlb.ask("show activity")
        assert "internal error" not in natlb.log()


@pytest.mark.parametrize("offset", ["just started", "a hundred years on"])
def test_a_machine_may_have_just_been_started_or_run_for_a_hundred_years(served: Lab, offset: str) -> None:
    uptime = time.clock_gettime(time.CLOCK_MONOTONIC)
    seconds = 1 - int(uptime) if offset == "just started" else 100 * 365 * 86_400
    enter = ["unshare", "--time", f"--monotonic={seconds}", f"--boottime={seconds}"]
    config = _CONFIG.replace("timeout client 1h", "timeout client 1s").replace("timeout server 1h", "timeout server 1s")
    with running(served, config=config, enter=enter) as natlb, clients(served, "client", _VIP, 1) as [client]:
        assert client.ask() == "server1"
        assert select.select([client.socket], [], [], 10)[0], "it is reset when it was silent for its timeout"
        with pytest.raises(ConnectionResetError):
            client.socket.recv(1)
        assert _asked(served) == "server1"
        assert "internal error" not in natlb.log()


def test_whoever_spoke_while_natlb_stood_still_is_not_taken_for_silent(served: Lab) -> None:
    """As after a suspended machine: the clock has leapt over all timeouts, and a queue of packets waits."""
    config = _CONFIG.replace("timeout client 1h", "timeout client 2s").replace("timeout server 1h", "timeout server 2s")
    flow = f"import socket\ns = socket.socket(2, 2)\nfor _ in range(3000): s.sendto(b'x', ('{_VIP}', {_UDP}))"
    with running(served, config=config) as natlb, clients(served, "client", _VIP, 3) as open_ones:
        assert [client.ask() for client in open_ones] == ["server1"] * 3
        natlb.process.send_signal(signal.SIGSTOP)
        assert served.run("client", [sys.executable, "-c", flow], names=False).returncode == 0
        for client in open_ones[:2]:
            client.socket.sendall(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")
        time.sleep(3.5)  # the timeout, and what it may be late
        natlb.process.send_signal(signal.SIGCONT)
        for client in open_ones[:2]:
            assert client.socket.recv(65536).startswith(b"HTTP/1.1 200")
        with pytest.raises(ConnectionResetError):
            open_ones[2].socket.recv(1)
        assert activity(served)["packets"] >= 3000


# -- memory, and errors of natlb's own


_POISON = """
from natlb.core.engine import NatEngine
real = NatEngine.handle_packet
def handle_packet(self, packet, now, unfinished=False):
    if b"poison" in packet:
        raise {error}
    return real(self, packet, now, unfinished)
NatEngine.handle_packet = handle_packet
"""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("ZeroDivisionError('of a packet')", "because of an internal error, please report it: ZeroDivisionError('of a"),
        ("MemoryError", "for want of memory: the machine, a cgroup or a limit"),
    ],
    ids=["an error", "no memory"],
)
def test_a_packet_that_cannot_be_handled_is_dropped_and_counted_and_told_once(
    served: Lab, error: str, told: str
) -> None:
    with running(served, before=_POISON.format(error=error)) as natlb, clients(served, "client", _VIP, 1) as [client]:
        with served.open_socket("client", socket.AF_INET, socket.SOCK_DGRAM) as poisoner:
            for _ in range(500):
                poisoner.sendto(b"poison", (_VIP, _UDP))
        until(lambda: activity(served)["failures"] == 500, "all are counted")
        assert client.ask() == "server1"
        assert _asked(served) == "server1"
        until(lambda: activity(served)["queue_waiting"] == 0, "none of them is left in the queue")
        assert 1 <= natlb.log().count(f"a packet was dropped {told}") < 10


def _size(pid: int) -> int:
    """Return the bytes of address space of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


_NO_MEMORY = "a packet was dropped for want of memory"


def test_natlb_outlives_that_memory_runs_out_and_open_connections_go_on_when_there_is_some_again(served: Lab) -> None:
    flows = (
        "import socket\n"
        "for port in range(2000, 62000):\n"
        "    with socket.socket(2, 2) as s:\n"
        f"        s.bind(('', port)); s.sendto(b'x', ('{_VIP}', {_UDP}))\n"
    )
    # Of the address space that the C library keeps for other threads it would live for a while.
    one_arena = ["env", "MALLOC_ARENA_MAX=1"]
    with running(served, enter=one_arena) as natlb, clients(served, "client", _VIP, 3) as open_ones:
        assert [client.ask() for client in open_ones] == ["server1"] * 3
        pid = natlb.process.pid
        resource.prlimit(pid, resource.RLIMIT_AS, (_size(pid) + (4 << 20), resource.RLIM_INFINITY))
        for _ in every(0, 60):
            assert served.run("client", [sys.executable, "-c", flows], names=False).returncode == 0
            assert natlb.alive
            if _NO_MEMORY in natlb.log():
                break
        resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        until(lambda: activity(served)["queue_waiting"] == 0, "what waited was seen to", 30)
        assert activity(served)["failures"] > 0
        assert _NO_MEMORY in natlb.log()
        assert [client.ask() for client in open_ones] == ["server1"] * 3
        assert _asked(served) == "server1"
        assert natlb.log().count("for want of memory") < 100


# -- disks, sockets and standard error


def _small_disk(script: str) -> list[str]:
    """Return a command that has a full disk at /mnt, of its own, does a script, and goes on with another command."""
    make = (
        "mount -t tmpfs -o size=4k,nr_inodes=4 none /mnt; : >/mnt/a; head -c 100000 /dev/zero >/mnt/b 2>&-; : >/mnt/c"
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{make} 2>&-; {script}; exec "$@"', "sh"]


_FULL_DISKS = {
    "the pid file": (
        ("-D", "-p", "/mnt/natlb.pid"),
        "",
        "cannot create pidfile /mnt/natlb.pid: No space left on device; make room where /mnt is",
    ),
    "a stats socket": (
        (),
        "global\n    stats socket /mnt/stats level admin\n",
        "Starting stats socket /mnt/stats: No space left on device; make room where /mnt is",
    ),
}


@pytest.mark.parametrize(("options", "lines", "said"), _FULL_DISKS.values(), ids=_FULL_DISKS)
@pytest.mark.parametrize("disk", ["full", "read-only"])
def test_a_file_that_cannot_be_made_is_named_and_nothing_is_left(
    served: Lab, tmp_path: Path, options: tuple[str, ...], lines: str, said: str, disk: str
) -> None:
    before = balancer_state(served)
    config = tmp_path / "natlb.cfg"
    config.write_text(lines + _CONFIG.format(socket=served.stats_socket))
    script = "true"
    if disk == "read-only":
        script = "mount -o remount,ro /mnt"
        said = said.partition("No space")[0] + "Read-only file system; natlb must be able to write to /mnt"
    natlb = [sys.executable, "-P", "-m", "natlb", "-f", str(config), "--offload", "off", *options]
    done = served.run("lb", [*_small_disk(script), *natlb], names=False)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr
    assert balancer_state(served) == before


def test_a_log_on_a_disk_that_is_full_or_that_nobody_has_opened_does_not_matter(served: Lab, tmp_path: Path) -> None:
    config = tmp_path / "natlb.cfg"
    config.write_text(_CONFIG.format(socket=served.stats_socket))
    natlb = [sys.executable, "-P", "-m", "natlb", "-d", "-f", str(config), "--offload", "off"]
    for where in ("2>/dev/full", "2>&-", "<&- >&- 2>&-"):
        command = served.command("lb", ["sh", "-c", f"exec {shlex.join(natlb)} {where}"], names=False)
        with subprocess.Popen(command) as process:
            try:
                until(lambda: _asked(served) == "server1", "it answers", 20)
                assert _asked(served, _LOCAL) == "local"
            finally:
                process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def test_a_log_that_nobody_reads_holds_up_no_packet_and_tells_what_was_lost(served: Lab, tmp_path: Path) -> None:
    config = tmp_path / "natlb.cfg"
    config.write_text(_CONFIG.format(socket=served.stats_socket))
    natlb = [sys.executable, "-P", "-m", "natlb", "-d", "-f", str(config), "--offload", "off"]
    flows = (
        "import socket\n"
        "for port in range(2000, 5000):\n"
        f"    s = socket.socket(2, 2); s.bind(('', port)); s.sendto(b'x', ('{_VIP}', {_UDP}))"
    )
    command = served.command("lb", natlb, names=False)
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        read = b""
        try:
            while READY.encode() not in read:
                read += os.read(process.stderr.fileno(), 65536)
            assert served.run("client", [sys.executable, "-c", flows], names=False).returncode == 0
            until(lambda: activity(served)["connections"] >= 3000, "all have been opened, each with a line", 30)
            assert _asked(served) == "server1"
            while b"lines of this log were lost: standard error did not take them" not in read:
                read += os.read(process.stderr.fileno(), 65536)
                if not select.select([process.stderr], [], [], 0)[0]:
                    assert _asked(served) == "server1", "which has lines, too"
        finally:
            process.send_signal(signal.SIGTERM)
            process.stderr.close()
        assert process.wait(20) == 0


def test_a_stats_socket_whose_file_somebody_removes_is_there_again(served: Lab) -> None:
    with running(served) as natlb:
        served.stats_socket.unlink()
        until(served.stats_socket.exists, "it is there again", 30)
        assert natlb.ask("show info").startswith("Name: HAProxy")
        assert "its file was removed by somebody else; made again" in natlb.log()
    assert not served.stats_socket.exists()


def test_a_log_server_that_does_not_listen_and_one_that_hangs_hold_up_no_packet(served: Lab, tmp_path: Path) -> None:
    lines = f"    log {tmp_path}/hangs format raw local0\n    log 127.0.0.1:9 local0\n    log 44.3.3.3:9 local0\n"
    config = _CONFIG.replace("global\n", f"global\n{lines}").replace("defaults\n", "defaults\n    log global\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hanging:
        hanging.bind(f"{tmp_path}/hangs")
        with running(served, config=config) as natlb:
            for _ in range(30):
                assert _asked(served) == "server1"
            assert activity(served)["log_lines_dropped"] > 0
            assert "internal error" not in natlb.log()
