"""The lab's parts against a real kernel: what `up` builds, what it gives back, its web server and its captures."""

import hashlib
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from netns.build import OFFLOADS, Lab
from netns.dissect import read
from netns.errors import LabError
from netns.topology import LINK, SEED
from netns.web import digest, pattern
from tests.lab.support import at_rest, shell, until

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def web(lab: Lab) -> Lab:
    """A lab with server1 alone running; its neighbour, the balancer, is the client of these tests."""
    lab.start_web("server1")
    return lab


def ask(lab: Lab, address: str, path: str = "/", *options: str) -> str:
    where = f"[{address}]" if ":" in address else address
    return shell(lab, "lb", f"curl -sSf http://{where}:4444{path} {' '.join(options)}")


# -- what `up` builds


def test_hosts_have_their_addresses_and_no_others(lab: Lab) -> None:
    for host in SEED.hosts:
        assert lab.addresses(host.name) == [host.ipv4, host.ipv6]


def test_links_are_a_star_and_nothing_else(lab: Lab) -> None:
    assert set(lab.interfaces("lb")) == {"lo", "client", "server1", "server2"}
    for host in SEED.neighbours:
        assert set(lab.interfaces(host.name)) == {"lo", LINK}


def test_forwarding_is_off_whatever_the_machine_has_set(lab: Lab) -> None:
    for family in ("ipv4", "ipv6"):
        assert shell(lab, "lb", f"cat /proc/sys/net/{family}/conf/all/forwarding") == "0\n"
    assert lab.run("client", ["ping", "-c1", "-W1", SEED.servers[0].ipv4]).returncode != 0


def offloads(lab: Lab, host: str, interface: str) -> str:
    return shell(
        lab, host, f"ethtool -k {interface} | grep -E '^(tx-checksumming|generic-(seg|rec).*):' | cut -d' ' -f2"
    )


def test_links_carry_what_a_wire_would(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OFFLOADS, raising=False)
    with Lab(prefix=f"{lab.prefix}wire-") as wired:
        for host in SEED.neighbours:
            assert offloads(wired, host.name, LINK) == "off\n" * 3
            assert offloads(wired, "lb", host.name) == "off\n" * 3


def test_offloads_can_stay_on_for_measuring(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lab(prefix=f"{lab.prefix}fast-", offloads=True) as fast:
        assert offloads(fast, "client", LINK).startswith("on\n")
    monkeypatch.setenv(OFFLOADS, "1")
    with Lab(prefix=f"{lab.prefix}fast-") as fast:
        assert offloads(fast, "client", LINK).startswith("on\n")


def test_a_lab_that_does_not_prove_itself_is_taken_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Lab(prefix=f"{lab.prefix}bad-")

    def no_answer() -> None:
        raise LabError("client gets no answer")

    monkeypatch.setattr(broken, "_prove", no_answer)
    with pytest.raises(LabError, match="no answer"):
        broken.up()
    assert broken.traces() == []


def test_a_missing_link_is_noticed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Lab(prefix=f"{lab.prefix}cut-")
    join = broken._join
    monkeypatch.setattr(broken, "_join", lambda host: join(host) if host.name != "server2" else None)
    with pytest.raises(LabError, match="server2 gets no answer"):
        broken.up()
    assert broken.traces() == []


def test_a_failure_inside_the_block_takes_the_lab_away(lab: Lab) -> None:
    failing = Lab(prefix=f"{lab.prefix}x-")
    with pytest.raises(ZeroDivisionError), failing:
        failing.start_web("server1")
        raise ZeroDivisionError
    assert failing.traces() == []


def test_a_web_server_that_cannot_start_says_why(web: Lab) -> None:
    with pytest.raises(LabError, match="Address already in use"):
        web.start_web("server1", name="second")


def test_threads_that_visit_hosts_at_the_same_time_come_back_to_where_they_were(lab: Lab) -> None:
    def visit(host: str) -> Path:
        for _ in range(500):
            lab.open_socket(host, socket.AF_INET, socket.SOCK_DGRAM).close()
        return Path("/proc/thread-self/ns/net").readlink()

    home = Path("/proc/thread-self/ns/net").readlink()
    with ThreadPoolExecutor(2) as others:
        visits = [others.submit(visit, server.name) for server in SEED.servers]
        assert visit("client") == home
        assert [each.result() for each in visits] == [home] * 2


def test_a_lab_can_be_used_by_another_process_than_its_builder(web: Lab) -> None:
    assert Lab(prefix=web.prefix).is_up
    assert Lab(prefix=web.prefix).run("server1", ["true"]).returncode == 0


# -- the web server


@pytest.mark.parametrize(("address", "client"), [("44.3.3.3", "44.2.2.2:"), ("fd44::3", "[fd44::2]:")])
def test_web_server_says_who_it_is_and_whom_it_sees(web: Lab, address: str, client: str) -> None:
    name, seen = ask(web, address).splitlines()
    assert name == "server1"
    assert seen.startswith(f"client {client}")


def test_connection_is_kept_alive(web: Lab) -> None:
    twice = shell(web, "lb", "curl -sSf http://44.3.3.3:4444/ http://44.3.3.3:4444/").splitlines()
    assert twice[:2] == twice[2:]


@pytest.mark.parametrize("length", [0, 1, 3_000_000])
def test_bytes_are_the_pattern(web: Lab, length: int) -> None:
    assert ask(web, "44.3.3.3", f"/bytes/{length}", "| sha256sum").split()[0] == digest(length)


@pytest.mark.parametrize("length", [0, 1, 3_000_000])
def test_what_is_put_is_answered_with_digest_and_length(web: Lab, tmp_path: Path, length: int) -> None:
    body = b"".join(pattern(length))
    (tmp_path / "body").write_bytes(body)
    answer = ask(web, "fd44::3", "/", "-T", str(tmp_path / "body"))
    assert answer.split() == [hashlib.sha256(body).hexdigest(), str(length)]


def test_a_client_that_goes_away_is_one_line_in_the_log(web: Lab) -> None:
    service = web.start_web("server2")
    shell(web, "lb", "curl -s http://44.4.4.4:5555/bytes/100000000 | head -c 1000 >/dev/null || true")
    until(lambda: "went away" in service.log(), "the server has noticed")
    assert "44.2.2.2" in service.log().splitlines()[-1]
    assert "Traceback" not in service.log()
    service.stop()


# -- captures


def test_a_capture_has_the_first_packet_and_the_last(web: Lab) -> None:
    with web.capture("server1", LINK, "tcp port 4444") as capture:
        ask(web, "44.3.3.3", "/bytes/1000000", "-o /dev/null")
        at_rest(web, "lb", "server1")
    seen = read(capture.place, capture.packets())
    assert seen[0].flags == "S"
    assert sum("F" in sighting.flags for sighting in seen) == 2
    assert sum(len(sighting.payload) for sighting in seen if sighting.source == "44.3.3.3:4444") > 1_000_000
    assert all(sighting.checksums_right for sighting in seen)
    assert max(len(sighting.payload) for sighting in seen) <= 1448


def test_a_capture_can_be_read_while_it_runs(web: Lab) -> None:
    with web.capture("lb", "server1", "tcp port 4444") as capture:
        for number in (1, 2):
            ask(web, "44.3.3.3")
            at_rest(web, "lb", "server1")
            capture.settle()
            flags = [sighting.flags for sighting in read(capture.place, capture.packets())]
            assert [flags.count("S"), sum("F" in each for each in flags)] == [number, 2 * number]


def test_a_capture_that_cannot_begin_says_why(web: Lab) -> None:
    with pytest.raises(LabError, match=r"tcpdump at lb:eth9 .*eth9"):
        web.capture("lb", "eth9")


def test_programs_of_the_lab_are_seen_by_whoever_looks(web: Lab) -> None:
    with web.popen("client", ["sleep", "60"], stdout=subprocess.DEVNULL) as sleeper:
        until(lambda: any(resident.command == "sleep 60" for resident in web.residents()), "it sleeps")
        [found] = [resident for resident in web.residents() if resident.command == "sleep 60"]
        assert (found.namespace, found.pid) == (web.namespace("client"), sleeper.pid)
        sleeper.kill()


def test_a_program_is_seen_as_soon_as_it_has_been_started_however_long_its_way(
    web: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = web.command

    def slow_command(host: str, argv: list[str], *, names: bool = True) -> list[str]:
        """Take two tenths of a second before the namespace is entered."""
        return ["sh", "-c", 'sleep 0.2; exec "$@"', "sh", *command(host, argv, names=names)]

    monkeypatch.setattr(web, "command", slow_command)
    sleeper = web.start("sleeper", "client", ["sleep", "60"])
    assert [each.pid for each in web.residents() if each.namespace == web.namespace("client")] == [sleeper.process.pid]
    sleeper.stop()


def test_an_interruption_just_as_the_directory_is_made_leaves_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted = Lab(prefix=f"{lab.prefix}int-")
    mkdir = Path.mkdir

    def interrupt(path: Path) -> None:
        mkdir(path)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Path, "mkdir", interrupt)
    with pytest.raises(KeyboardInterrupt):
        interrupted.up()
    assert interrupted.traces() == []
