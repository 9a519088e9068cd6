"""Rules before real clients: who is rejected, who waits, who is led where, and who stays."""

import time
from collections.abc import Iterator

import pytest

from netns.balancer import ask, nat_table
from netns.build import Lab
from netns.topology import SEED
from tests.lab.support import Client, answering_server, shell, until

pytestmark = pytest.mark.root

VIP = SEED.balancer.ipv4

FRIEND, STRANGER, BLOCKED, IGNORED, BUSY = "44.1.1.10", "44.1.1.20", "44.1.1.30", "44.1.1.31", "44.1.1.40"
"""Further addresses of the client."""

_CONFIG = """\
global
    stats socket {socket} level admin
defaults
    timeout client 60s
    timeout server 60s
    timeout connect 10s

frontend web
    bind *:8888
    stick-table type ip size 1k expire 60s store conn_cur
    acl blocked src -f {blocked}
    tcp-request connection reject if blocked
    tcp-request connection silent-drop if {{ src 44.1.1.31 }}
    tcp-request connection track-sc0 src
    tcp-request connection reject if {{ src 44.1.1.40 }} {{ sc0_conn_cur gt 2 }}
    use_backend second if {{ src 44.1.1.10/31 }}
    default_backend first

backend first
    server server1 44.3.3.3:4444

backend second
    server server2 44.4.4.4:5555
    server spare 44.4.4.4:1 backup

frontend slow
    bind *:8889
    rate-limit sessions 2
    default_backend first

frontend narrow
    bind *:8890 maxconn 1
    bind *:8891
    default_backend first

listen sticky
    bind *:8892
    stick-table type ip size 1k expire 60s
    stick on src
    server server1 44.3.3.3:4444
    server server2 44.4.4.4:5555
"""


@pytest.fixture(scope="module")
def ruled(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    for address in (FRIEND, STRANGER, BLOCKED, IGNORED, BUSY):
        shell(lab, "client", f"ip address add {address}/32 dev eth0")
        shell(lab, "lb", f"ip route add {address}/32 dev client")
    blocked = tmp_path_factory.mktemp("rules") / "blocked.lst"
    blocked.write_text(f"# not these\n{BLOCKED}\n")
    lab.start_web("server1")
    lab.start_web("server2")
    natlb = lab.start_natlb(_CONFIG.format(socket=lab.stats_socket, blocked=blocked))
    yield lab
    assert natlb.stop() == 0


def name_of_server(lab: Lab, source: str, port: int = 8888) -> str:
    """Open a connection from an address of the client, ask who answers, and close it."""
    client = Client(lab, "client", VIP, port, source=(source, 0))
    try:
        return client.ask()
    finally:
        client.close()


def test_the_source_chooses_the_backend(ruled: Lab) -> None:
    assert [name_of_server(ruled, source) for source in (STRANGER, FRIEND, STRANGER)] == [
        "server1",
        "server2",
        "server1",
    ]
    client = Client(ruled, "client", VIP, source=(FRIEND, 0))
    client.ask()
    entries = [e for e in nat_table(ask(ruled.stats_socket, "show sess")) if e.client.startswith(f"{FRIEND}:")]
    client.close()
    assert {(entry.frontend, entry.backend, entry.server) for entry in entries} == {("web", "second", "server2")}


def _counts(lab: Lab, column: str) -> dict[str, int]:
    header, *rows = ask(lab.stats_socket, "show stat").splitlines()
    at = header.removeprefix("# ").split(",").index(column)
    found = [row.split(",") for row in rows if row]
    return {f"{row[0]}/{row[1]}": int(row[at]) for row in found if row[0] in ("first", "second")}


def test_each_backend_counts_who_was_led_there(ruled: Lab) -> None:
    columns = ("stot", "lbtot", "bin")
    before = {column: _counts(ruled, column) for column in columns}
    for source in (STRANGER, FRIEND, FRIEND):
        name_of_server(ruled, source)
    came = {column: _counts(ruled, column) for column in columns}
    for column in ("stot", "lbtot"):
        assert {name: count - before[column][name] for name, count in came[column].items()} == {
            "first/server1": 1,
            "first/BACKEND": 1,
            "second/server2": 2,
            "second/spare": 0,
            "second/BACKEND": 2,
        }
    carried = {name: count - before["bin"][name] for name, count in came["bin"].items()}
    assert carried["second/server2"] == carried["second/BACKEND"] == 2 * carried["first/server1"] > 0


def test_a_server_may_join_and_move_in_a_backend_that_only_a_rule_leads_to(ruled: Lab) -> None:
    """What it answers is handed over by the kernel from the first connection on."""
    for port, name in ((4999, "newcomer"), (4998, "elsewhere")):
        ruled.start_web("server1", port, name)

    def told(line: str) -> str:
        return ask(ruled.stats_socket, line).strip()

    assert told("add server second/new 44.3.3.3:4999") == "New server registered."
    assert told("enable server second/new") == ""
    assert told("disable server second/server2") == ""
    try:
        assert name_of_server(ruled, FRIEND) == "newcomer"
        assert "port changed from '4999' to '4998'" in told("set server second/new addr 44.3.3.3 port 4998")
        assert name_of_server(ruled, FRIEND) == "elsewhere"
        assert "IP changed from '44.4.4.4' to '44.3.3.3'" in told("set server second/spare addr 44.3.3.3 port 4999")
        assert told("disable server second/new") == ""
        assert name_of_server(ruled, FRIEND) == "newcomer", "the backup has moved as well"
        assert name_of_server(ruled, STRANGER) == "server1"
        until(lambda: told("del server second/new") == "Server deleted.", "its connections have ended")
    finally:
        told("enable server second/server2")
    assert name_of_server(ruled, FRIEND) == "server2"


def test_who_is_rejected_hears_it_at_once(ruled: Lab) -> None:
    began = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        Client(ruled, "client", VIP, source=(BLOCKED, 0))
    assert time.monotonic() - began < 1


def test_who_is_dropped_silently_hears_nothing(ruled: Lab) -> None:
    with pytest.raises(TimeoutError):
        Client(ruled, "client", VIP, seconds=1.5, source=(IGNORED, 0))


def test_a_client_may_have_so_many_connections_at_once(ruled: Lab) -> None:
    one, two = (Client(ruled, "client", VIP, source=(BUSY, 0)) for _ in range(2))
    try:
        assert [one.ask(), two.ask()] == ["server1", "server1"]
        with pytest.raises(ConnectionRefusedError):
            Client(ruled, "client", VIP, source=(BUSY, 0))
        assert name_of_server(ruled, STRANGER) == "server1"
    finally:
        one.close()
        two.close()


def test_past_the_rate_a_client_waits_and_gets_in(ruled: Lab) -> None:
    took = []
    # The third one waits; a later one on a machine where two take longer than the second that they are counted in.
    while len(took) < 3 or (max(took) < 0.9 and len(took) < 30):
        began = time.monotonic()
        assert name_of_server(ruled, STRANGER, 8889) == "server1"
        took.append(time.monotonic() - began)
    assert max(took[:2]) < 0.9
    assert max(took) >= 0.9, "one of them had to send its SYN again"


def test_a_bind_line_has_its_own_limit(ruled: Lab) -> None:
    first = Client(ruled, "client", VIP, 8890)
    first.ask()
    with pytest.raises(TimeoutError):
        Client(ruled, "client", VIP, 8890, seconds=1.5)
    assert answering_server(ruled, "client", VIP, port=8891) == "server1"
    first.close()


def test_a_client_stays_with_its_server_in_drain_too_and_moves_when_that_is_gone(ruled: Lab) -> None:
    server = name_of_server(ruled, FRIEND, 8892)
    assert {name_of_server(ruled, FRIEND, 8892) for _ in range(6)} == {server}
    other = ({"server1", "server2"} - {server}).pop()
    assert {name_of_server(ruled, STRANGER, 8892) for _ in range(3)} == {other}
    ask(ruled.stats_socket, f"set server sticky/{server} state drain")
    assert {name_of_server(ruled, FRIEND, 8892) for _ in range(3)} == {server}
    ask(ruled.stats_socket, f"set server sticky/{server} state maint")
    assert name_of_server(ruled, FRIEND, 8892) == other
    ask(ruled.stats_socket, f"set server sticky/{server} state ready")
    assert {name_of_server(ruled, FRIEND, 8892) for _ in range(3)} == {other}, "it stays where it has moved to"
