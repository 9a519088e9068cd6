"""What Prometheus reads is what has happened: traffic made here and counted by others, compared with each metric."""

import socket
import subprocess
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from netns.balancer import Natlb
from netns.build import Lab
from netns.processes import every
from netns.topology import SEED
from tests.lab.datagrams import Wire, asked, client, datagram, echoes
from tests.lab.support import Client, clients, download, shell, until
from tests.lab.ways import SOURCES, add_sources, full_nat

pytestmark = pytest.mark.root

VIP = SEED.balancer.ipv4
_PORT = 9101
_URL = f"http://127.0.0.1:{_PORT}/metrics"

_CONFIG = """\
global
    maxconn 100
    stats socket {socket} level admin
defaults
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen web
    bind *:8888
    maxconn 4
    server server1 44.3.3.3:4444
    server server2 44.4.4.4:5555
listen nat
    bind *:8889
    {source}
    server server1 44.3.3.3:4444 {check}
listen nobody
    bind *:8890
listen closed
    bind *:8891
    tcp-request connection reject if {{ src 44.1.1.1 }}
    server server1 44.3.3.3:4444
listen slow
    bind *:8892
    rate-limit sessions 1
    server server1 44.3.3.3:4444
listen told
    bind *:8893
    log {log} local0
    option tcplog
    server server1 44.3.3.3:4444
udp-lb echo
    dgram-bind *:7007
    timeout client 1m
    timeout server 1m
    server server1 44.3.3.3:7000
    server server2 44.4.4.4:7000
"""


@pytest.fixture(scope="module")
def servers(lab: Lab) -> Lab:
    for server in lab.topology.servers:
        lab.start_web(server.name)
    add_sources(lab)
    return lab


@pytest.fixture
def check() -> str:
    """No check, whose packets would be counted too."""
    return ""


@pytest.fixture
def natlb(servers: Lab, check: str) -> Iterator[Natlb]:
    """A fresh natlb for each test: it has counted nothing yet."""
    log = servers.stats_socket.with_name("log")
    config = _CONFIG.format(socket=servers.stats_socket, source=full_nat(4), check=check, log=log)
    running = servers.start_natlb(config, ["--metrics", str(_PORT)])
    yield running
    assert running.stop() == 0


class Scrape:
    """What a scrape has found, by name and labels; what is not there is None."""

    def __init__(self, lab: Lab) -> None:
        text = shell(lab, "lb", f"curl -sSfm 5 -H 'Accept: application/openmetrics-text;version=1.0.0' {_URL}")
        self.values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.values.get((name, frozenset(labels.items())))


def becomes(lab: Lab, value: float, name: str, **labels: str) -> None:
    until(lambda: Scrape(lab)(name, **labels) == value, f"{name} {labels} is {value}")


@pytest.fixture
def counter(lab: Lab) -> Iterator[None]:
    """Rules on the client that count what it sends to and gets from the port of `web`."""
    rules = ("OUTPUT -p tcp --dport 8888", "INPUT -p tcp --sport 8888")
    for rule in rules:
        shell(lab, "client", f"iptables -t raw -A {rule.replace('INPUT', 'PREROUTING')}")
    yield
    shell(lab, "client", "iptables -t raw -F")


def received(scrape: Scrape) -> float:
    """Return how many packets natlb and the kernel's program, which carries some for it, have had between them."""
    return (scrape("natlb_packets_received_total") or 0) + (scrape("natlb_offload_packets_total") or 0)


def packets_of_client(lab: Lab) -> tuple[int, int]:
    """Return how many packets the client has sent to the port of `web`, and how many it got from there."""
    listed = shell(lab, "client", "iptables -t raw -vxnL OUTPUT; iptables -t raw -vxnL PREROUTING")
    sent, got = (int(line.split()[0]) for line in listed.splitlines() if line.split()[:1] and line.split()[0].isdigit())
    return sent, got


def seen_by_client(lab: Lab) -> int:
    return sum(packets_of_client(lab))


def of_one_moment(lab: Lab, natlb: Natlb) -> tuple[Scrape, tuple[int, int]]:
    """Return what natlb tells and what the client has counted, when nothing is on its way, a late ACK for instance."""
    for _ in every(0.05, 10.0):
        natlb.ask("show sess")  # which makes it learn of those that were carried, as it does once a second
        before, seen, after = packets_of_client(lab), Scrape(lab), packets_of_client(lab)
        if before == after and received(seen) == sum(after):
            break
    return seen, after


def test_connections_packets_and_ends_are_those_that_the_client_made(lab: Lab, natlb: Natlb, counter: None) -> None:
    with clients(lab, "client", VIP, 4) as opened:
        answered = [each.ask() for each in opened]
        seen, by_client = of_one_moment(lab, natlb)
        assert seen("natlb_frontend_connections", proxy="web") == seen("natlb_connections") == 4
        for name in ("server1", "server2"):
            assert seen("natlb_server_connections", proxy="web", server=name) == answered.count(name) == 2
        assert received(seen) == sum(by_client)
        for direction, packets in zip(("in", "out"), by_client, strict=True):
            assert seen("natlb_frontend_packets_total", proxy="web", direction=direction) == packets
            each = [
                seen("natlb_server_packets_total", proxy="web", server=name, direction=direction) or 0
                for name in ("server1", "server2")
            ]
            assert sum(each) == packets
            assert min(each) > 0
        opened[0].close()
        opened[1].socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        opened[1].close()
        becomes(lab, 2, "natlb_frontend_connections", proxy="web")
        seen = Scrape(lab)
        assert seen("natlb_connections_closed_total", reason="finished") == 1
        assert seen("natlb_connections_closed_total", reason="reset") == 1
        assert seen("natlb_connections_closed_total", reason="timed_out") == 0
        assert seen("natlb_frontend_connections_opened_total", proxy="web") == 4
        assert seen("natlb_table_entries") == 4, "those that are over are remembered"
    until(lambda: received(Scrape(lab)) == seen_by_client(lab), "each packet is counted once")
    seen = Scrape(lab)
    assert (seen("natlb_packet_seconds_count") or 0) <= (seen("natlb_packets_received_total") or 0)
    assert (seen("natlb_event_loop_lag_seconds_count") or 0) > 0


def test_payload_is_what_the_client_sent_and_got(lab: Lab, natlb: Natlb) -> None:
    wanted = "%{size_request} %{size_header} %{size_download}"
    carried = []
    for size in (10, 20_000, 300):
        printed = shell(lab, "client", f"curl -sSf -o /dev/null -w '{wanted}' http://{VIP}:8888/bytes/{size}")
        sent, head, body = map(int, printed.split())
        assert body == size
        carried.append((sent, head + body))
    seen = Scrape(lab)
    for direction, number in (("in", 0), ("out", 1)):
        numbers = [each[number] for each in carried]
        assert seen("natlb_frontend_bytes_total", proxy="web", direction=direction) == sum(numbers)
        turns = {"server1": numbers[0] + numbers[2], "server2": numbers[1]}
        for server, expected in turns.items():
            labels = {"proxy": "web", "server": server, "direction": direction}
            assert seen("natlb_server_bytes_total", **labels) == expected


def test_who_is_turned_away_and_what_is_dropped_is_counted_by_why(lab: Lab, natlb: Natlb) -> None:
    with clients(lab, "client", VIP, 4):
        with pytest.raises(OSError, match="timed out"):
            Client(lab, "client", VIP, seconds=0.2)  # one SYN, and none again before a second is over
        with pytest.raises(ConnectionRefusedError):
            Client(lab, "client", VIP, port=8890)  # which natlb answers when it has had the one before, too
        seen = Scrape(lab)
    assert seen("natlb_frontend_connections_limit", proxy="web") == 4
    assert seen("natlb_frontend_connections_turned_away_total", proxy="web", reason="maxconn") == 1
    assert seen("natlb_frontend_connections_turned_away_total", proxy="nobody", reason="no_server") == 1
    assert seen("natlb_packets_dropped_total", reason="maxconn") == 1


def test_who_is_rejected_or_too_fast_is_counted(lab: Lab, natlb: Natlb) -> None:
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            Client(lab, "client", VIP, port=8891)
    with clients(lab, "client", VIP, 1, port=8892), pytest.raises(OSError, match="timed out"):
        Client(lab, "client", VIP, port=8892, seconds=0.2)
    becomes(lab, 1, "natlb_frontend_connections_turned_away_total", proxy="slow", reason="rate_limit")
    seen = Scrape(lab)
    assert seen("natlb_frontend_connections_turned_away_total", proxy="closed", reason="rule") == 3
    assert seen("natlb_frontend_connections_turned_away_total", proxy="slow", reason="maxconn") == 0
    assert seen("natlb_frontend_connections_opened_total", proxy="closed") == 0


def test_log_lines_that_nobody_took_are_counted(lab: Lab, natlb: Natlb) -> None:
    """Nobody listens at the log's socket until a test does."""
    path = lab.stats_socket.with_name("log")
    Client(lab, "client", VIP, port=8893).close()
    becomes(lab, 1, "natlb_log_lines_total", outcome="dropped")
    assert Scrape(lab)("natlb_log_lines_total", outcome="sent") == 0
    assert "DroppedLogs: 1\n" in natlb.ask("show info")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(path))
        log.settimeout(5)
        try:
            Client(lab, "client", VIP, port=8893).close()
            assert b" told " in log.recv(4096)
            becomes(lab, 1, "natlb_log_lines_total", outcome="sent")
            assert Scrape(lab)("natlb_log_lines_total", outcome="dropped") == 1
        finally:
            path.unlink()


def test_full_nat_says_how_many_ports_it_has_lent(lab: Lab, natlb: Natlb) -> None:
    with clients(lab, "client", VIP, 3, port=8889) as opened:
        assert opened[0].as_seen().startswith(SOURCES[4])
        assert Scrape(lab)("natlb_nat_ports_in_use") == 3


def test_flows_of_udp_and_fragments_are_counted(lab: Lab, natlb: Natlb) -> None:
    with echoes(lab, 7000), client(lab, VIP, 7007) as one, client(lab, VIP, 7007) as other, Wire(lab) as wire:
        assert {asked(one), asked(other)} == {b"server1", b"server2"}
        whole = datagram(one, bytes(4000))
        wire.send([whole.piece(1400, 2800)])
        becomes(lab, 1, "natlb_fragments_held")
        seen = Scrape(lab)
        assert seen("natlb_fragmented_datagrams") == 1
        assert seen("natlb_frontend_connections", proxy="echo") == 2
        wire.send([whole.piece(0, 1400), whole.piece(2800)])
        becomes(lab, 0, "natlb_fragments_held")
        assert one.recv(65536) == bytes(4000)


@pytest.mark.parametrize("check", ["check inter 1s downinter 100ms fall 1 rise 1"])
def test_a_server_that_dies_is_down_and_up_again_when_it_is_back(lab: Lab, natlb: Natlb) -> None:
    becomes(lab, 1, "natlb_server_up", proxy="nat", server="server1")
    before = Scrape(lab)
    assert before("natlb_backend_servers_usable", proxy="nat") == 1
    assert before("natlb_server_checks_failed_total", proxy="nat", server="server1") == 0
    assert before("natlb_server_downs_total", proxy="nat", server="server1") == 0
    until(lambda: Scrape(lab)("natlb_server_check_seconds", proxy="nat", server="server1") is not None, "it is checked")
    assert 0 < (Scrape(lab)("natlb_server_check_seconds", proxy="nat", server="server1") or 0) < 1
    shell(lab, "server1", "iptables -A INPUT -p tcp --dport 4444 -s 44.2.2.2 -j REJECT --reject-with tcp-reset")
    becomes(lab, 0, "natlb_server_up", proxy="nat", server="server1")
    assert Scrape(lab)("natlb_backend_servers_usable", proxy="nat") == 0
    shell(lab, "server1", "iptables -F")
    becomes(lab, 1, "natlb_server_up", proxy="nat", server="server1")
    after = Scrape(lab)
    assert after("natlb_server_checks_failed_total", proxy="nat", server="server1") == 1, "while it was up"
    assert after("natlb_server_downs_total", proxy="nat", server="server1") == 1
    assert after("natlb_server_checks_failed_total", proxy="web", server="server1") is None, "which nobody checks"
    assert Scrape(lab)("natlb_server_up", proxy="web", server="server1") == 1, "which nobody checks"


def test_the_state_that_an_operator_sets_is_told(lab: Lab, natlb: Natlb) -> None:
    natlb.ask("set server web/server2 state drain")
    seen = Scrape(lab)
    states = [seen("natlb_server_state", proxy="web", server="server2", state=s) for s in ("ready", "drain", "maint")]
    assert states == [0, 1, 0]


def test_clients_that_never_read_or_never_ask_do_not_disturb_the_traffic(lab: Lab, natlb: Natlb) -> None:
    held = []
    try:
        for sent in [b""] * 4 + [b"GET /metrics HTTP/1.1\r\n"] * 4 + [b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"] * 20:
            held.append(lab.open_socket("lb", socket.AF_INET, socket.SOCK_STREAM))
            held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            held[-1].connect(("127.0.0.1", _PORT))
            held[-1].sendall(sent)
        busy = lab.run("lb", ["curl", "-sSm", "5", "-o", "/dev/null", "-w", "%{http_code}", _URL], names=False)
        assert busy.stdout == "503"
        download(lab, "client", VIP, 10_000_000)
        until(lambda: lab.run("lb", ["curl", "-sSfm", "5", _URL], names=False).returncode == 0, "they are cut off", 20)
    finally:
        for each in held:
            each.close()
    assert "ALERT" not in natlb.log()


def test_scrapes_under_load_lose_no_byte_of_the_traffic(lab: Lab, natlb: Natlb) -> None:
    scraping = f"while curl -sSf -H 'Accept-Encoding: gzip' -o /dev/null {_URL}; do :; done"
    with lab.popen("lb", ["sh", "-c", scraping], names=False, stderr=subprocess.DEVNULL) as scraper:
        try:
            download(lab, "client", VIP, 20_000_000)
        finally:
            scraper.terminate()
    assert Scrape(lab)("natlb_packet_failures_total") == 0
