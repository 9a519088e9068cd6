"""Connections outlive natlb: what is recorded of them, a kill, and the next start that goes on with them."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

from netns.balancer import Natlb, configuration, nat_table
from netns.build import Lab
from netns.web import digest, pattern
from tests.lab.datagrams import MODES, asked, client, echoes, udp_lb
from tests.lab.support import Client, clients, until
from tests.lab.ways import add_sources, full_nat

pytestmark = pytest.mark.root

SIZE = 200_000_000
BEFORE = 10_000_000
"""Bytes of a download that have come when natlb is killed."""

Start = Callable[..., Natlb]


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> Lab:
    """The lab with its servers, and an address that full NAT may speak from."""
    add_sources(lab)
    for server in lab.topology.servers:
        lab.start_web(server.name)
    return lab


@pytest.fixture
def start(hosts: Lab) -> Iterator[Start]:
    """Start natlb, as often as a test likes, with a change of its configuration; all have ended when the test has."""
    with ExitStack() as running:

        def start_natlb(change: Callable[[str], str] = lambda text: text, *options: str) -> Natlb:
            text = change(configuration(hosts.topology, hosts.stats_socket).replace(" check\n", "\n"))
            natlb = hosts.start_natlb(text, options)
            running.callback(lambda: natlb.alive and natlb.stop())
            return natlb

        yield start_natlb
        running.close()
        assert files(hosts) == [], "an orderly stop leaves nothing"


def files(lab: Lab) -> list[Path]:
    return sorted(path for path in lab.directory.iterdir() if path.suffix in (".state", ".new", ".damaged"))


def established(natlb: Natlb) -> set[tuple[str, str, str]]:
    """Return the client, the server and the frontend of each connection that is established."""
    entries = nat_table(natlb.ask("show sess"))
    return {(each.client, each.server, each.frontend) for each in entries if each.state == "ESTABLISHED"}


def test_what_is_recorded_is_for_root_alone_and_gone_after_an_orderly_stop(hosts: Lab, start: Start) -> None:
    natlb = start()
    [file] = files(hosts)
    assert file.stat().st_mode & 0o777 == 0o600
    assert natlb.stop() == 0
    assert files(hosts) == []


def test_connections_survive_kill_9_and_a_start(hosts: Lab, start: Start, vip: str) -> None:
    first = start()
    with clients(hosts, "client", vip, 20) as opened:
        servers = [client.ask() for client in opened]
        before = established(first)
        assert len(before) == 20
        first.kill()
        again = start()
        assert "20 connections go on that the natlb before has left, which ended without warning" in again.log()
        assert established(again) == before
        assert [client.ask() for client in opened] == servers
    until(lambda: not established(again), "they end as others do")
    fresh = Client(hosts, "client", vip)
    assert fresh.ask() in servers
    fresh.close()


def test_a_stream_goes_on_to_the_last_byte_over_kill_9_and_a_start(hosts: Lab, start: Start, vip: str) -> None:
    first = start()
    download = Client(hosts, "client", vip, seconds=60.0)
    with download.socket, download.socket.makefile("rb") as stream:
        download.socket.sendall(f"GET /bytes/{SIZE} HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n".encode())
        while stream.readline().strip():
            pass
        whole = sha256(stream.read(BEFORE))
        first.kill()
        again = start()
        while piece := stream.read1():
            whole.update(piece)
    assert whole.hexdigest() == digest(SIZE)
    [entry] = nat_table(again.ask("show sess"))
    assert entry.reply_bytes > SIZE - BEFORE - 100_000_000, "its numbers are known again, so what it carries counts"
    until(lambda: nat_table(again.ask("show sess"))[0].state == "BOTH_FIN", "its end is believed")


def test_an_upload_goes_on_to_the_last_byte_too(hosts: Lab, start: Start, vip: str) -> None:
    first = start()
    upload = Client(hosts, "client", vip, seconds=60.0)
    with upload.socket:
        upload.socket.sendall(f"PUT / HTTP/1.1\r\nHost: vip\r\nContent-Length: {SIZE}\r\n\r\n".encode())
        sent = 0
        for piece in pattern(SIZE):
            upload.socket.sendall(piece)
            sent += len(piece)
            if sent - len(piece) < BEFORE <= sent:
                first.kill()
                start()
        reply = b""
        while digest(SIZE).encode() not in reply:
            got = upload.socket.recv(65536)
            assert got, f"the connection ended after {reply!r}"
            reply += got


@pytest.mark.parametrize("full", MODES.values(), ids=MODES)
def test_flows_of_datagrams_keep_their_servers(hosts: Lab, start: Start, vip: str, full: bool) -> None:
    def with_datagrams(text: str) -> str:
        return text + udp_lb(hosts, "echo", 8000, 7000, full=full)

    with echoes(hosts, 7000), ExitStack() as held:
        first = start(with_datagrams)
        flows = [held.enter_context(client(hosts, vip, 8000)) for _ in range(6)]
        before = [asked(flow) for flow in flows]
        assert len(set(before)) == 2
        first.ask("show info")  # when it has turned to something else, what is new is on record
        first.kill()
        again = start(with_datagrams)
        assert "6 connections go on" in again.log()
        assert [asked(flow) for flow in flows] == before


def test_full_nat_keeps_the_ports_that_it_has_lent(hosts: Lab, start: Start, vip: str) -> None:
    version = 6 if ":" in vip else 4

    def from_the_balancer(text: str) -> str:
        backend = "backend nodes6\n" if version == 6 else "backend nodes\n"
        return text.replace(backend, f"{backend}    {full_nat(version)}\n")

    first = start(from_the_balancer)
    with clients(hosts, "client", vip, 8) as opened:
        before = [each.as_seen() for each in opened]
        first.kill()
        again = start()  # and nobody is to be lent a port any more
        assert "8 connections go on" in again.log()
        assert [each.as_seen() for each in opened] == before


def test_what_the_configuration_has_no_more_goes_on_and_is_counted_nowhere(hosts: Lab, start: Start, vip: str) -> None:
    def without_server1(text: str) -> str:
        return re.sub(r"(?m)^    server server1 .*\n", "", text)

    def elsewhere(text: str) -> str:
        return without_server1(text).replace("localnodes", "others").replace(":8888", ":8889")

    first = start()
    with clients(hosts, "client", vip, 8) as opened:
        servers = [each.ask() for each in opened]
        assert len(set(servers)) == 2
        before = established(first)
        first.kill()
        second = start(without_server1)
        assert "8 connections go on" in second.log()
        assert "4 are of frontends or servers that the configuration has no more" in second.log()
        assert established(second) == before
        assert [each.ask() for each in opened] == servers
        assert "server1" not in second.ask("show stat")
        second.kill()
        third = start(elsewhere)
        assert "8 are of frontends or servers that the configuration has no more" in third.log()
        assert established(third) == before
        assert [each.ask() for each in opened] == servers
        assert "localnodes" not in third.ask("show stat")
        fresh = Client(hosts, "client", vip, 8889)
        assert fresh.ask() == "server2"
        fresh.close()
        with pytest.raises(ConnectionRefusedError):
            Client(hosts, "client", vip)


@pytest.mark.parametrize("wish", ["on", "off"])
def test_with_the_fast_path_both_what_is_on_record_and_what_the_kernel_has_seen_count(
    hosts: Lab, start: Start, vip: str, wish: str
) -> None:
    first = start(_same, "--offload", "on")
    with clients(hosts, "client", vip, 10) as opened:
        servers = [each.ask() for each in opened]

        def all_are_carried() -> bool:
            """Whoever is in use is offered to the kernel about once a second, until it has it."""
            return [each.ask() for each in opened] == servers and "connections: 10\n" in first.ask("show offload")

        until(all_are_carried, "the kernel carries all of them", seconds=30.0)
        before = established(first)
        first.kill()
        assert [each.ask() for each in opened] == servers, "nobody but the kernel is there"
        second = start(without_servers, "--offload", wish)
        assert "10 connections go on that the natlb before has left" in second.log()
        assert "10 are of frontends or servers that the configuration has no more" in second.log()
        assert established(second) == before, "although the map alone could not tell whose they are"
        counted = {each.client: each.original_packets for each in nat_table(second.ask("show sess"))}
        assert all(packets >= 6 for packets in counted.values()), "what the kernel carried meanwhile counts"
        assert [each.ask() for each in opened] == servers
    until(lambda: not established(second), "their ends are believed")


def without_servers(text: str) -> str:
    """Have other servers by other names."""
    return re.sub(r"(?m)^    server server(\d) ", r"    server another\1 ", text)


def _same(text: str) -> str:
    return text


def test_a_damaged_file_costs_connections_and_says_so(hosts: Lab, start: Start) -> None:
    first = start()
    held = Client(hosts, "client", hosts.topology.balancer.ipv4)
    held.ask()
    first.kill()
    [file] = files(hosts)
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    again = start()
    assert f"{file} cannot be used, the checksum of its header is wrong" in again.log()
    held.close()
    fresh = Client(hosts, "client", hosts.topology.balancer.ipv4)
    fresh.ask()
    fresh.close()
    assert again.stop() == 0
    [damaged] = files(hosts)
    damaged.unlink()


@pytest.mark.parametrize("what", ["a file", "a named pipe", "a directory"])
def test_what_others_may_have_written_is_not_believed_and_holds_nothing_up(hosts: Lab, start: Start, what: str) -> None:
    first = start()
    held = Client(hosts, "client", hosts.topology.balancer.ipv4)
    held.ask()
    first.kill()
    [file] = files(hosts)
    if what == "a file":
        os.chown(file, 65534, 65534)
        told = f"{file} cannot be used, it belongs to user 65534"
    elif what == "a named pipe":
        file.unlink()
        os.mkfifo(file)
        told = f"{file} cannot be used, it is a named pipe"
    else:
        hosts.directory.chmod(0o777)
        told = f"others may write to the directory {hosts.directory}: make it root's alone"
    try:
        again = start()
    finally:
        hosts.directory.chmod(0o755)
    assert told in again.log()
    assert "on that the natlb before has left" not in again.log()
    held.close()
    fresh = Client(hosts, "client", hosts.topology.balancer.ipv4)
    fresh.ask()
    assert len(established(again)) == 1
    fresh.close()
    assert again.stop() == 0
    left = [file] if what == "a directory" else [file.with_suffix(".damaged")] if what == "a file" else []
    assert files(hosts) == left
    for path in left:
        path.unlink()


def test_without_a_place_for_it_natlb_runs_and_says_so_once(hosts: Lab, start: Start) -> None:
    file = hosts.new_file("not-a-directory", "txt")
    file.write_text("", "utf-8")
    natlb = start(_same, "--state", str(file))
    assert natlb.log().count("connections will not survive a crash or a reload") == 1
    assert "Not a directory; name another directory with --state DIR" in natlb.log()
    held = Client(hosts, "client", hosts.topology.balancer.ipv4)
    held.ask()
    held.close()


def test_with_state_off_nothing_is_recorded(hosts: Lab, start: Start) -> None:
    natlb = start(_same, "--state", "off")
    assert files(hosts) == []
    assert "survive" not in natlb.log()
