"""The fast path in the lab: real packets, with it, without it, and while it is switched."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from struct import pack
from threading import Event, Thread

import pytest

from natlb.offload.libbpf import Map, Pieces, map_info, maps_of
from netns.balancer import Natlb, configuration
from netns.build import Lab
from netns.topology import SEED
from netns.web import pattern
from tests.lab.datagrams import MODES, echoes, noise, udp_lb
from tests.lab.datagrams import client as datagrams_to
from tests.lab.support import clients, download, shell, until, upload, url
from tests.lab.ways import FULL_NAT_PORTS, WAYS, add_sources

pytestmark = pytest.mark.root

SIZE = 300_000_000
LARGE = 1_000_000_000
PORT = SEED.balancer.port
ECHO = 7000
"""The port of a service of UDP, and of its servers, that send back what they get."""
FEWEST = 20
"""Packets of a download that may reach Python: the opening, and what was on its way when the connection was entered."""


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> Lab:
    """The lab with its servers, and with the addresses that full NAT speaks from."""
    add_sources(lab)
    for server in lab.topology.servers:
        lab.start_web(server.name)
    return lab


def start(lab: Lab, wish: str = "on") -> Natlb:
    """Start natlb between client and servers, without checks, which would be packets too."""
    text = configuration(lab.topology, lab.stats_socket).replace(" check\n", "\n")
    assert " check" not in text
    text += "".join(way.listen("tcp", PORT, SEED.servers[0].port) for way in WAYS if way.full)
    for mode, full in MODES.items():
        text += udp_lb(lab, f"echo-{mode.replace(' ', '-')}-", ECHO + FULL_NAT_PORTS * full, ECHO, full=full)
    return lab.start_natlb(text, ["--offload", wish])


@pytest.fixture
def natlb(hosts: Lab) -> Iterator[Natlb]:
    """A natlb with its fast path on. Whatever a test does with it, the audit must have nothing to say."""
    started = start(hosts)
    yield started
    if started.alive:
        assert counted(started, "differences") == 0, started.log()
        started.stop()


@pytest.fixture
def restart(hosts: Lab) -> Iterator[Callable[[str], Natlb]]:
    """Start the next one, after one that was killed; it ends with the test."""
    with ExitStack() as running:

        def start_next(wish: str) -> Natlb:
            following = start(hosts, wish)
            running.callback(following.stop)
            return following

        yield start_next


@pytest.fixture(params=MODES.values(), ids=MODES)
def farther(request: pytest.FixtureRequest) -> int:
    """By how much the ports of a service are higher than those above: full NAT has its own."""
    return FULL_NAT_PORTS * int(request.param)


def told(natlb: Natlb, command: str = "show offload") -> dict[str, str]:
    return dict(line.split(": ", 1) for line in natlb.ask(command).splitlines() if ": " in line)


def counted(natlb: Natlb, name: str) -> int:
    return int(told(natlb)[name])


def seen_by_python(natlb: Natlb) -> int:
    return int(told(natlb, "show activity")["packets"])


def sessions(natlb: Natlb) -> list[dict[str, str]]:
    rows = [row for row in natlb.ask("show sess").splitlines() if row.startswith("0x")]
    return [dict(pair.split("=", 1) for pair in row.split()[1:] if "=" in pair) for row in rows]


def test_it_is_on_all_interfaces_but_loopback(natlb: Natlb) -> None:
    state = told(natlb)
    assert (state["state"], state["interfaces"]) == ("on", "3")


def test_of_a_large_download_python_sees_hardly_a_packet(hosts: Lab, natlb: Natlb, vip: str, farther: int) -> None:
    before, carried = seen_by_python(natlb), counted(natlb, "packets")
    download(hosts, "client", vip, LARGE, port=PORT + farther)
    assert seen_by_python(natlb) - before < FEWEST
    until(lambda: counted(natlb, "packets") - carried > LARGE / 65_536, "what was carried is learned of")


def test_of_many_short_connections_at_once_it_sees_how_they_are_opened(hosts: Lab, natlb: Natlb, vip: str) -> None:
    before, number = seen_by_python(natlb), 500
    many = f"-H 'Connection: close' -o /dev/null '{url(vip)}?[1-{number}]'"
    shell(hosts, "client", f"curl -sS --parallel --parallel-max 100 --parallel-immediate {many}")
    seen = seen_by_python(natlb) - before
    assert 2 * number <= seen < 4 * number, "SYN and SYN-ACK, and the last ACK of some"


@pytest.fixture
def masquerading(hosts: Lab) -> Iterator[None]:
    """Have the balancer's kernel hide clients from the servers, as a firewall script may that masquerades all."""
    rules = [f"{tables} -t nat {{}} POSTROUTING -j MASQUERADE" for tables in ("iptables", "ip6tables")]
    for rule in rules:
        shell(hosts, "lb", rule.format("-A"))
    yield
    for rule in rules:
        shell(hosts, "lb", rule.format("-D"))


@pytest.mark.usefixtures("masquerading")
def test_what_the_kernels_own_nat_translates_as_well_is_not_carried_past_it(hosts: Lab, natlb: Natlb, vip: str) -> None:
    download(hosts, "client", vip, 1_000_000)
    with echoes(hosts, ECHO) as servers, datagrams_to(hosts, vip, ECHO) as opened:
        for number in range(50):
            opened.send(bytes([number]))
            assert opened.recv(2048) == bytes([number])
        peers = {peer for server in servers for peer in server.peers}
    assert len(peers) == 1, "from the second datagram on the server would see the client"
    assert (counted(natlb, "translated"), counted(natlb, "connections")) == (2, 0)
    until(lambda: "the kernel's own NAT" in natlb.log(), "it is said")
    assert counted(natlb, "packets") == 0


def test_what_was_carried_is_counted_to_the_last_byte(hosts: Lab, natlb: Natlb, vip: str) -> None:
    natlb.ask("clear counters all")
    download(hosts, "client", vip, SIZE)

    def octets() -> int:
        rows = [row.split(",") for row in natlb.ask("show stat").splitlines() if ",FRONTEND," in row]
        return sum(int(row[9]) for row in rows)

    until(lambda: octets() >= SIZE, "all bytes are in the statistics")
    assert octets() < SIZE + 1000, "and no byte twice"

    def states() -> list[str]:
        return [row["ts"] for row in sessions(natlb) if int(row["rbytes"]) > SIZE]

    until(lambda: states() == ["BOTH_FIN"], "it is known to be over", instead=states)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("offload") / "pattern"
    with made.open("wb") as out:
        out.writelines(pattern(SIZE))
    return made


@contextmanager
def switching(natlb: Natlb, pause: float = 0.3) -> Iterator[list[str]]:
    """Switch the fast path off and on all the time; yield what natlb has said to that until now."""
    over, replies = Event(), []

    def switch() -> None:
        while not over.wait(pause):
            replies.append(natlb.ask("set offload off"))
            over.wait(pause)
            replies.append(natlb.ask("set offload on"))

    thread = Thread(target=switch)
    thread.start()
    try:
        yield replies
    finally:
        over.set()
        thread.join()
    assert replies == ["\n"] * len(replies)


@pytest.mark.parametrize("what", ["download", "upload"])
def test_it_is_switched_while_bytes_flow(
    hosts: Lab, natlb: Natlb, vip: str, farther: int, what: str, file: Path
) -> None:
    carried, handled, port = counted(natlb, "packets"), seen_by_python(natlb), PORT + farther
    with switching(natlb) as replies:
        # Twice on a machine where that takes long, and as often as it takes on one where it is nothing.
        for number in count():
            if number >= 2 and len(replies) >= 4:
                break
            if what == "download":
                download(hosts, "client", vip, SIZE, port=port)
            else:
                upload(hosts, "client", vip, file, port=port)
    assert counted(natlb, "packets") - carried > 1000, "the kernel has carried some"
    assert seen_by_python(natlb) - handled > 1000, "and Python as well"
    until(lambda: all(row["ts"] == "BOTH_FIN" for row in sessions(natlb)), "all connections have ended for natlb too")


def test_a_stream_of_datagrams_stays_in_order_while_it_is_switched(
    hosts: Lab, natlb: Natlb, vip: str, farther: int
) -> None:
    carried, handled, numbers = counted(natlb, "packets"), seen_by_python(natlb), count()
    with echoes(hosts, ECHO), datagrams_to(hosts, vip, ECHO + farther) as opened:
        # A flow is offered once a second: so long, and a little longer, it stays on and off.
        with switching(natlb, 1.2) as replies:
            while len(replies) < 4:
                sent = [pack("!I", next(numbers)) + noise(size) for size in range(0, 1400, 28)]
                for each in sent:
                    opened.send(each)
                assert [opened.recv(2048) for _ in sent] == sent
        until(lambda: counted(natlb, "packets") - carried > 1000, "the kernel has carried some")
    assert seen_by_python(natlb) - handled > 1000, "and Python as well"


def test_connections_that_are_open_change_over(hosts: Lab, natlb: Natlb, vip: str) -> None:
    with clients(hosts, "client", vip, 20) as opened:
        servers = [client.ask() for client in opened]
        assert counted(natlb, "connections") >= 20
        assert natlb.ask("set offload off") == "\n"
        assert counted(natlb, "connections") == 0
        assert told(natlb)["reason"] == "it was switched off"
        assert [client.ask() for client in opened] == servers
        assert natlb.ask("set offload on") == "\n"

        def carried_again() -> bool:
            assert [client.ask() for client in opened] == servers
            return counted(natlb, "connections") >= 20

        until(carried_again, "all are in the map again")


def test_what_is_shut_down_is_reset_at_once(hosts: Lab, natlb: Natlb, vip: str) -> None:
    with clients(hosts, "client", vip, 10) as opened:
        for client in opened:
            client.ask()
        before = counted(natlb, "connections")
        assert before >= 10
        for backend in ("nodes", "nodes6"):
            for server in hosts.topology.servers:
                natlb.ask(f"shutdown sessions server {backend}/{server.name}")
        for client in opened:
            with pytest.raises((ConnectionError, BrokenPipeError)):
                client.ask()
        assert counted(natlb, "connections") == 0


def test_a_drained_server_keeps_its_connections_and_gets_no_others(hosts: Lab, natlb: Natlb, vip: str) -> None:
    backend = "nodes6" if ":" in vip else "nodes"
    with clients(hosts, "client", vip, 4) as opened:
        servers = [client.ask() for client in opened]
        natlb.ask(f"set server {backend}/server1 state drain")
        try:
            assert [client.ask() for client in opened] == servers
            with clients(hosts, "client", vip, 4) as others:
                assert {client.ask() for client in others} == {"server2"}
        finally:
            natlb.ask(f"set server {backend}/server1 state ready")


def test_table_and_map_agree_after_churn(hosts: Lab, natlb: Natlb, vip: str) -> None:
    """Short connections and long ones, closed and reset, while servers come and go."""
    script = f"""
        for n in $(seq 4); do
            ( end=$((SECONDS + 30)); while [ $SECONDS -lt $end ]; do
                curl -sm 5 -o /dev/null '{url(vip)}' '{url(vip)}' || true
                curl -sm 0.02 -o /dev/null '{url(vip, "/bytes/50000000")}' || true
            done ) &
        done; wait"""
    over = Event()

    def disturb() -> None:
        while not over.wait(0.2):
            for state in ("maint", "ready"):
                for backend in ("nodes", "nodes6"):
                    natlb.ask(f"set server {backend}/server2 state {state}")
                over.wait(0.2)

    disturber = Thread(target=disturb)
    with clients(hosts, "client", vip, 20) as staying:
        servers = [client.ask() for client in staying]
        disturber.start()
        try:
            shell(hosts, "client", script)
        finally:
            over.set()
            disturber.join()
        assert counted(natlb, "packets") > 10_000
        assert [client.ask() for client in staying] == servers
        stay = {client.socket.getsockname()[1] for client in staying}

        def others() -> list[dict[str, str]]:
            return [row for row in still_open(natlb) if int(row["src"].rpartition(":")[2]) not in stay]

        until(lambda: not others(), "all others have ended", instead=lambda: (others(), told(natlb, "show activity")))
        assert len(still_open(natlb)) == 20
        assert counted(natlb, "connections") == 20
        assert entries_of_the_map(hosts) == 40
    until(lambda: counted(natlb, "connections") == 0, "all have ended")
    assert entries_of_the_map(hosts) == 0


def still_open(natlb: Natlb) -> list[dict[str, str]]:
    return [row for row in sessions(natlb) if row["ts"] in ("ESTABLISHED", "CLIENT_FIN", "SERVER_FIN")]


def program(hosts: Lab) -> int | None:
    """Return the kernel's number of the program at the client's link, or None if there is none."""
    filters = json.loads(shell(hosts, "lb", "tc -j filter show dev client ingress") or "[]")
    return next((each["options"]["prog"]["id"] for each in filters if "prog" in each.get("options", {})), None)


def entries_of_the_map(hosts: Lab) -> int:
    """Count what stands in the kernel's map of flows: two entries for each connection."""
    number = program(hosts)
    assert number is not None
    maps = maps_of(number)
    try:
        pieces = Pieces(Map(maps["flows"], *map_info(maps["flows"])[1:]), 1024)
        return sum(iter(pieces.read, 0))
    finally:
        for descriptor in maps.values():
            os.close(descriptor)


def test_connections_go_on_without_natlb_and_are_known_to_the_next_one(
    hosts: Lab, natlb: Natlb, vip: str, restart: Callable[[str], Natlb]
) -> None:
    with clients(hosts, "client", vip, 10) as opened:
        servers = [client.ask() for client in opened]
        until(lambda: counted(natlb, "connections") == 10, "all are in the map, and survive")
        before = {row["src"]: row for row in sessions(natlb) if row["ts"] == "ESTABLISHED"}
        natlb.kill()
        assert [client.ask() for client in opened] == servers, "nobody but the kernel is there"
        again = restart("on")
        assert "10 connections go on" in again.log()
        after = {row["src"]: row for row in sessions(again)}
        assert after.keys() == before.keys()
        for source, row in after.items():
            assert (row["orig"], row["reply"], row["srv"]) == tuple(
                before[source][name] for name in ("orig", "reply", "srv")
            )
            assert int(row["opkts"]) > int(before[source]["opkts"]), "what was carried meanwhile is counted"
        assert [client.ask() for client in opened] == servers
        assert entries_of_the_map(hosts) == 20
        for backend in ("nodes", "nodes6"):
            for server in hosts.topology.servers:
                again.ask(f"shutdown sessions server {backend}/{server.name}")
        for client in opened:
            with pytest.raises(ConnectionError):
                client.ask()


def test_without_the_wish_what_a_crash_left_is_taken_back_and_away(
    hosts: Lab, natlb: Natlb, vip: str, restart: Callable[[str], Natlb]
) -> None:
    with clients(hosts, "client", vip, 5) as opened:
        servers = [client.ask() for client in opened]
        until(lambda: counted(natlb, "connections") == 5, "all are in the map, and survive")
        natlb.kill()
        again = restart("off")
        assert program(hosts) is None
        assert [client.ask() for client in opened] == servers
        assert len(still_open(again)) == 5
        assert told(again)["state"] == "off"


def test_nothing_is_left_behind(hosts: Lab, natlb: Natlb) -> None:
    assert program(hosts) is not None
    natlb.stop()
    assert program(hosts) is None
    assert "clsact" not in shell(hosts, "lb", "tc qdisc show")
