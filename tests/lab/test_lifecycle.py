"""natlb leaves the machine as it found it: after a clean stop, after a refusal to start, and after a crash."""

import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from netns.balancer import COMMAND, READY, Natlb, configuration
from netns.build import Lab
from netns.topology import SEED
from tests.lab.support import Client, answering_server, balancer_state, shell, until

pytestmark = pytest.mark.root

_LOCAL = "listen local\n bind *:8889\n server local 127.0.0.1:4446\n"


def test_a_change_of_any_setting_would_be_noticed(lab: Lab) -> None:
    before = balancer_state(lab)
    shell(lab, "lb", "sysctl -w net.ipv4.tcp_keepalive_intvl=74")
    assert balancer_state(lab) != before
    shell(lab, "lb", "sysctl -w net.ipv4.tcp_keepalive_intvl=75")
    assert balancer_state(lab) == before


@pytest.fixture(scope="module")
def served(lab: Lab) -> Lab:
    """The lab with its servers, one on the balancer itself, and no natlb."""
    for server in lab.topology.servers:
        lab.start_web(server.name)
    lab.start_web("lb", 4446, "local", "127.0.0.1")
    return lab


def _config(lab: Lab) -> str:
    return configuration(lab.topology, lab.stats_socket) + _LOCAL


_PRIOR_RULES = {
    "no rules": "true",
    "rules of others": "iptables -t raw -A PREROUTING -p udp --dport 9 -j DROP; ip6tables -t mangle -N OTHERS",
    "odd settings": "echo 1 > /proc/sys/net/ipv4/conf/server1/forwarding;"
    "echo 0 > /proc/sys/net/ipv4/conf/all/accept_redirects",
}


@pytest.mark.parametrize("prior", _PRIOR_RULES.values(), ids=_PRIOR_RULES)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_after_a_clean_stop_rules_and_settings_are_as_before(served: Lab, prior: str, signum: signal.Signals) -> None:
    shell(served, "lb", f"iptables -t raw -F; {prior} || true")
    before = balancer_state(served)
    natlb = served.start_natlb(_config(served))
    assert balancer_state(served) != before
    assert answering_server(served, "client", SEED.balancer.ipv4) == "server1"
    assert natlb.stop(signum=signum) == 0
    assert balancer_state(served) == before
    assert not served.stats_socket.exists()


def test_what_is_changed_on_the_machine_is_reported(served: Lab) -> None:
    natlb = served.start_natlb(_config(served))
    for setting in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.client.route_localnet"):
        assert f"set {setting} to 1 while natlb runs" in natlb.log()
    assert natlb.stop() == 0


def test_after_kill_9_a_new_start_works_and_leaves_nothing_stale(served: Lab) -> None:
    before = balancer_state(served)
    killed = served.start_natlb(_config(served))
    killed.kill()
    assert balancer_state(served) != before
    again = served.start_natlb(_config(served))
    assert "removed" not in again.log(), "no packet may come while there are no rules"
    assert answering_server(served, "client", SEED.balancer.ipv4) == "server1"
    assert answering_server(served, "client", SEED.balancer.ipv4, port=8889) == "local"
    assert again.stop() == 0
    assert balancer_state(served) == before


def test_after_kill_9_a_start_on_another_queue_cleans_up_too(served: Lab) -> None:
    before = balancer_state(served)
    served.start_natlb(_config(served)).kill()
    again = served.start_natlb(_LOCAL, ["--queue", "12"])
    assert again.stop() == 0
    assert balancer_state(served) == before


def test_two_natlb_with_different_queues_and_ports_live_side_by_side(served: Lab) -> None:
    before = balancer_state(served)
    first = served.start_natlb(configuration(served.topology, served.stats_socket))
    second = served.start_natlb(_LOCAL, ["--queue", "12"])
    assert answering_server(served, "client", SEED.balancer.ipv4) == "server1"
    assert answering_server(served, "client", SEED.balancer.ipv4, port=8889) == "local"
    assert first.stop() == 0
    assert answering_server(served, "client", SEED.balancer.ipv4, port=8889) == "local"
    assert second.stop() == 0
    assert balancer_state(served) == before


def _refusal(lab: Lab, config: Path, *arguments: str) -> str:
    """Start natlb, which must refuse in one line; return that line."""
    before = balancer_state(lab)
    done = lab.run("lb", [*COMMAND, "-f", str(config), *arguments], names=False)
    assert done.returncode == 1
    assert balancer_state(lab) == before
    alerts = [line for line in done.stderr.splitlines() if line.startswith("[ALERT]")]
    assert len(alerts) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return str(alerts[0])


@pytest.fixture
def local_config(tmp_path: Path) -> Path:
    path = tmp_path / "local.cfg"
    path.write_text(_LOCAL)
    return path


def test_a_second_natlb_on_the_same_queue_is_refused(served: Lab, local_config: Path) -> None:
    first = served.start_natlb(configuration(served.topology, served.stats_socket))
    alert = _refusal(served, local_config)
    assert "queue 2391 is taken by another process" in alert
    assert "--queue" in alert
    assert answering_server(served, "client", SEED.balancer.ipv4) == "server1", "the first one goes on undisturbed"
    assert first.stop() == 0


def test_a_second_natlb_on_the_same_port_is_refused(served: Lab, local_config: Path) -> None:
    first = served.start_natlb(_LOCAL)
    alert = _refusal(served, local_config, "--queue", "12")
    assert "frontend local: cannot bind socket (Address already in use) [0.0.0.0:8889]" in alert
    assert first.stop() == 0


def test_a_port_where_a_local_process_listens_is_refused(served: Lab, local_config: Path) -> None:
    web = served.start_web("lb", 8889, "squatter")
    alert = _refusal(served, local_config)
    assert "cannot bind socket (Address already in use) [0.0.0.0:8889]" in alert
    assert "ss -tanp" in alert
    web.stop(signum=signal.SIGKILL)


def test_a_port_for_metrics_that_is_taken_is_refused(served: Lab, local_config: Path) -> None:
    web = served.start_web("lb", 9101, "squatter", "127.0.0.1")
    alert = _refusal(served, local_config, "--metrics", "9101")
    assert "--metrics 127.0.0.1:9101: Address already in use; another program has this port ('ss -ltnp' shows" in alert
    web.stop(signum=signal.SIGKILL)


def test_an_address_for_metrics_that_the_machine_does_not_have_is_refused(served: Lab, local_config: Path) -> None:
    alert = _refusal(served, local_config, "--metrics", "44.9.9.9:9101")
    assert "--metrics 44.9.9.9:9101: Cannot assign requested address; this machine has no such address" in alert


def test_an_address_that_the_machine_does_not_have_is_refused(served: Lab, tmp_path: Path) -> None:
    config = tmp_path / "foreign.cfg"
    config.write_text("listen foreign\n bind 44.9.9.9:80\n server s 44.3.3.3:4444\n")
    assert "Cannot assign requested address" in _refusal(served, config)


def test_without_privileges_there_is_one_line_with_the_remedy(served: Lab, local_config: Path) -> None:
    powerless = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", *COMMAND]
    done = served.run("lb", [*powerless, "-f", str(local_config)], names=False)
    assert done.returncode == 1
    assert "natlb needs root (CAP_NET_ADMIN and CAP_NET_RAW)" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_iptables_there_is_one_line_with_the_remedy(served: Lab, local_config: Path) -> None:
    done = served.run("lb", ["env", "PATH=/nonexistent", *COMMAND, "-f", str(local_config)], names=False)
    assert done.returncode == 1
    assert "iptables-save' is missing: install the package iptables" in done.stderr


def test_a_failing_iptables_leaves_the_machine_as_it_was(served: Lab, local_config: Path, tmp_path: Path) -> None:
    broken = tmp_path / "iptables-restore"
    broken.write_text("#!/bin/sh\necho 'no such table' >&2; exit 3\n")
    broken.chmod(0o755)
    before = balancer_state(served)
    env = {"PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin"}
    done = served.run("lb", [*COMMAND, "-f", str(local_config)], names=False, env=env)
    assert done.returncode == 1
    assert "iptables-restore failed: no such table" in done.stderr
    assert balancer_state(served) == before


_READ_ONLY = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec"


def test_where_settings_are_read_only_it_runs_once_they_are_set(served: Lab, tmp_path: Path) -> None:
    config = tmp_path / "remote.cfg"
    config.write_text("listen remote\n bind 44.2.2.2:8890\n server s 44.3.3.3:4444\n")
    before = balancer_state(served)
    command = shlex.join([*COMMAND, "-f", str(config)])
    read_only = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{_READ_ONLY} {command}"]
    done = served.run("lb", read_only, names=False)
    assert done.returncode == 1, done.stderr
    setting = "net/ipv4/ip_forward"
    assert f"cannot set the kernel setting {setting} to 1 (Read-only file system): " in done.stderr
    remedy = done.stderr.rpartition(" beforehand: ")[2].strip()
    # Full NAT, for clients that sit beside the server, has settings of its own.
    assert remedy.startswith(f"sysctl -w {setting}=1 net/ipv4/conf/client/accept_local=1 ")
    assert balancer_state(served) == before
    try:
        shell(served, "lb", remedy)
        natlb = Natlb("natlb", served.command("lb", read_only, names=False), tmp_path / "log", served.stats_socket)
        natlb.wait_for(READY)
        assert answering_server(served, "client", SEED.balancer.ipv4, port=8890) == "server1"
        assert natlb.stop() == 0
    finally:
        shell(served, "lb", re.sub("=[12]", "=0", remedy))


def test_a_soft_stop_refuses_new_connections_and_ends_with_the_last_one(served: Lab) -> None:
    natlb = served.start_natlb(configuration(served.topology, served.stats_socket))
    client = Client(served, "client", SEED.balancer.ipv4)
    server = client.ask()
    natlb.process.send_signal(signal.SIGUSR1)
    until(lambda: "stopping softly" in natlb.log(), "the signal is noticed")
    refused = served.run("client", ["curl", "-sSm", "5", "http://44.2.2.2:8888/"], names=False)
    assert refused.returncode == 7
    assert client.ask() == server
    client.close()
    natlb.process.wait(timeout=10)
    assert natlb.process.returncode == 0


def test_natlb_can_be_stopped_while_it_starts(served: Lab, local_config: Path) -> None:
    before = balancer_state(served)
    for milliseconds in (100, 300, 600):
        command = served.command("lb", [*COMMAND, "-f", str(local_config)], names=False)
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(milliseconds / 1000)
            process.send_signal(signal.SIGTERM)
            process.wait(10)
        assert balancer_state(served) == before
