"""Rules as written and rules as obeyed are the same rules: beside the real HAProxy, running the same configuration."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from natlb.assembly import Assembly, assemble
from natlb.config.parser import parse
from natlb.core.flow import ends, flow_key
from natlb.core.opening import Opening
from natlb.core.service import Service
from natlb.core.verdict import Reply, Rewrite
from netns.balancer import ask
from tests import haproxy
from tests.effort import examples
from tests.ports import free_port
from tests.unit.core import packets as p
from tests.unit.core.packets import packed, places

TIMEOUTS = "defaults\n    timeout client 10s\n    timeout server 10s\n    timeout connect 10s\n"
STATS = "global\n    stats socket {} level admin\n"


def made(text: str) -> Assembly:
    parsed = parse([("t.cfg", text.encode())], {})
    assert parsed.config is not None, [each.render(1) for each in parsed.diagnostics]
    return assemble(parsed.config)


def holds(words: str, *, client: str = "10.1.2.3", port: int = 1001, sections: str = "") -> bool:
    """Whether a condition in braces holds for a connection from `client` to 192.0.2.1:80."""
    config = made(f"frontend web\n    bind 192.0.2.1:80\n    use_backend b if {{ {words} }}\nbackend b\n{sections}")
    [service] = config.services
    vip = "192.0.2.1" if ":" not in client else "2001:db8::1"
    key = flow_key((packed(client), port.to_bytes(2, "big")), (packed(vip), b"\0\x50"), 6)
    opening = Opening(key, service, 1000.0, lambda address: address == packed("192.0.2.1"))
    return service.rules.choose(opening, None) is not None


@pytest.mark.parametrize(
    "words",
    [
        "always_true",
        "src 10.0.0.0/8",
        "src -m found",
        "src,ipmask(24) 10.1.2.0",
        "src,ipmask(255.255.0.0,32) 10.1.0.0",
        "dst 192.0.2.1",
        "src_port 1000:1002",
        "dst_port lt 81",
        "dst_is_local",
        "fe_id 1",
        "fe_name web",
        "fe_name -i WEB",
        "fe_name -m beg w",
        "fe_name -m end b",
        "fe_name -m sub e",
        "fe_conn 1",
        "fe_conn(off) 0",
        "fe_sess_rate 0",
        "be_conn(b) 0",
        "be_sess_rate(b) 0",
        "nbsrv(c) 2",
        "srv_is_up(c/s)",
        "srv_conn(c/s) 0",
        "srv_queue(c/s) 0",
        "queue(c) 0",
        "avg_queue(c) 0",
        "connslots(c) lt 0",
        "table_cnt(b) 0",
        "src_conn_cnt(b) 0",
        "src_conn_rate(b) 0",
        "src_inc_gpc0(b) 1",
        "src_clr_gpc0(b) 0",
        "src_get_gpc0(b) 0",
        "src_port,add(1) 1002",
        "src_port,sub(1) 1000",
        "src_port,mul(2) 2002",
        "src_port,div(2) 500",
        "src_port,mod(10) 1",
        "src_port,and(15) 9",
        "src_port,or(2) 1003",
        "src_port,xor(1) 1000",
        "src_port,odd",
        "src_port,add(1),even",
        "src_port,bool",
        "src_port,sub(1001),not",
    ],
)
def test_every_fact_and_converter_is_what_it_is_called(words: str) -> None:
    sections = (
        "    stick-table type ip size 5 store conn_cnt,conn_rate(1s),gpc0\n"
        "backend c\n    server s 192.0.2.8:80\n    server t 192.0.2.9:80\n"
        "frontend off\n    disabled\n    bind :99\n"
    )
    assert holds(words, sections=sections)


@pytest.mark.parametrize(
    "words",
    [
        "always_false",
        "src 11.0.0.0/8",
        "src",
        "src_is_local",
        "dst_port gt 80",
        "fe_name -m beg b",
        "src,in_table(b)",
        "sc0_tracked",
        "sc0_conn_cnt ge 0",
        "sc_conn_cnt(1) ge 0",
        "sc2_conn_cnt(b) ge 0",
    ],
)
def test_what_is_not_so_does_not_hold(words: str) -> None:
    assert not holds(words, sections="    stick-table type ip size 5 store conn_cnt\n")


@pytest.mark.parametrize(
    ("client", "port", "chosen"),
    [
        ("10.0.0.1", 5, "one"),
        ("10.0.0.9", 5, "two"),
        ("10.0.0.2", 5, "default"),
        ("10.0.0.2", 2000, "two"),
        ("127.0.0.5", 5, "default"),
        ("127.0.0.5", 2000, "off"),
    ],
)
def test_conditions_are_joined_as_they_are_written(client: str, port: int, chosen: str) -> None:
    config = made(
        "frontend f\n    bind :80\n    acl x src 10.0.0.1\n    acl x src 10.0.0.9\n"
        "    use_backend one if x !{ src 10.0.0.9 }\n"
        "    use_backend off if LOCALHOST { src_port gt 1000 }\n"
        "    use_backend two unless !x { src_port lt 1000 }\n"
        "    default_backend default\n"
        "backend one\nbackend two\nbackend default\nbackend off\n    disabled\n"
    )
    [service] = config.services
    key = flow_key((packed(client), port.to_bytes(2, "big")), (packed("192.0.2.1"), b"\0\x50"), 6)
    pool = service.rules.choose(Opening(key, service, 0.0, lambda _: False), service.pool)
    assert ("off" if pool is None else pool.name) == chosen


def test_what_persists_and_what_sticks_is_as_it_was_written() -> None:
    config = made(
        "listen l\n    bind :80\n    force-persist if { src 10.0.0.1 }\n    force-persist unless { src_port lt 9 }\n"
        "    use-server one if TRUE\n    default-server non-stick\n"
        "    server one 10.9.9.9:80 disabled\n    server two 10.9.9.8:80 stick\n"
    )
    [service], pool = config.services, config.pools["l"]
    assert pool.rules is not None
    assert {name: server.sticks for name, server in pool.servers.items()} == {"one": False, "two": True}
    for client, port, forced in (("10.0.0.1", 5, True), ("10.0.0.2", 5, False), ("10.0.0.2", 9, True)):
        key = flow_key((packed(client), port.to_bytes(2, "big")), (packed("192.0.2.1"), b"\0\x50"), 6)
        opening = Opening(key, service, 0.0, lambda _: False)
        assert pool.rules.choose(opening, pool) is (pool.servers["one"] if forced else None)


def test_tables_of_all_sections_are_made_as_they_are_written() -> None:
    tables = made(
        "frontend f\n    bind :80\n    stick-table type ipv6 size 2k expire 1m nopurge store conn_rate(3s),gpc0\n"
        "listen l\n    bind :81\n    stick-table type integer size 5\n"
    ).tables
    table = tables["f"]
    assert (table.name, table.type, table.size, table.expire, table.purge) == ("f", "ipv6", 2048, 60, False)
    assert table.stored == {"conn_rate": 3.0, "gpc0": None}
    assert list(tables) == ["f", "l"]


def test_limits_and_timeouts_arrive() -> None:
    config = made(
        "global\n    maxconnrate 7\n    maxsessrate 8\n"
        "frontend f\n    bind 192.0.2.1:80 maxconn 5\n    bind 192.0.2.1:81\n    rate-limit sessions 9\n"
        "    timeout client 60s\n    use_backend b if TRUE\n    default_backend c\n"
        "backend b\n    timeout server 30s\n    server s 192.0.2.8:80\n"
        "backend c\n    timeout server 60s\n    server t 192.0.2.9:80\n"
    )
    [service] = config.services
    of_all = config.engine.admission
    assert (of_all.connection_limit, of_all.session_limit, service.session_limit) == (7, 8, 9)
    listener = service.listener((packed("192.0.2.1"), (80).to_bytes(2, "big")))
    assert listener is not None
    assert listener.max_connections == 5
    assert service.listener((packed("192.0.2.1"), (81).to_bytes(2, "big"))) is None
    assert service.timeouts.idle == 60
    assert service.other_timeouts[config.pools["b"]].idle == 30
    assert {str(each.address) for each in config.servers} == {"192.0.2.8", "192.0.2.9"}


# Beside HAProxy


PATTERNS = (
    "10.0.0.0/8 10.1.2.3/16 192.0.2.7 10.9.0.1/255.255.0.255 203.0.113.128/25 0.0.0.0/32 2001:db8::/32 ::1 "
    "::ffff:172.16.0.0/108 2002:c000:200::/40"
)
_KNOWN = [
    *("10.9.77.1", "10.9.77.2", "192.0.2.7", "203.0.113.200", "203.0.113.1", "172.16.5.5", "172.32.0.0", "0.0.0.1"),
    *("::1", "::2", "::10.1.1.1", "::ffff:10.1.1.1", "::ffff:172.16.5.5", "::192.0.2.7", "2002:a01:203::1"),
    *("2002:c000:207::5", "2002:c000:208::", "2002:ac10:505::1", "2001:db8:5::"),
]
ADDRESSES = st.one_of(
    st.sampled_from(_KNOWN),
    st.integers(0, 2**24 - 1).map(lambda number: str(IPv4Address(10 << 24 | number))),
    st.integers(0, 2**32 - 1).map(lambda number: f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1"),
    st.integers(0, 2**128 - 1).map(lambda number: str(IPv6Address(number))),
)


@pytest.fixture(scope="module")
def haproxys_acl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], bool]]:
    """What HAProxy says of an address against PATTERNS."""
    stats = tmp_path_factory.mktemp("acl") / "h.sock"
    text = f"{STATS.format(stats)}{TIMEOUTS}frontend f\n    bind 127.0.0.1:{free_port()}\n    acl x src {PATTERNS}\n"
    use = "    tcp-request connection reject if x\n"
    with haproxy.running(text + use, stats):
        yield lambda address: "match=yes" in ask(stats, f"get acl #0 {address}", 60)


@settings(max_examples=examples(150), suppress_health_check=list(HealthCheck))
@given(ADDRESSES)
def test_addresses_match_as_they_do_in_haproxy(haproxys_acl: Callable[[str], bool], address: str) -> None:
    service = made(f"frontend f\n    bind :80\n    use_backend b if {{ src {PATTERNS} }}\nbackend b\n").services[0]
    place = packed(str(ip_address(address))), b"\0\x50"
    opening = Opening(flow_key(place, place, 6), Service("f", None), 0.0, lambda _: False)
    assert (service.rules.choose(opening, None) is not None) == haproxys_acl(address)


def test_some_addresses_match_and_some_do_not(haproxys_acl: Callable[[str], bool]) -> None:
    assert {haproxys_acl(address) for address in _KNOWN} == {True, False}


RULES = """\
frontend f
    bind 127.0.0.1:{ports[0]}
    bind 127.0.0.1:{ports[1]}
    stick-table type ip size 100 expire 60s store conn_cnt,conn_rate(60s),gpc0
    acl friends src 127.0.1.0/24 127.0.9.9
    acl second dst_port {ports[1]}
    tcp-request connection accept if {{ src 127.0.9.9 }}
    tcp-request connection reject if {{ src 127.0.9.0/24 }}
    tcp-request connection track-sc0 src
    tcp-request connection reject if {{ sc0_conn_cnt gt 4 }} !friends
    tcp-request connection sc-inc-gpc0(0) if second
    tcp-request connection reject if {{ fe_conn gt 100 }} or {{ src_get_gpc0 gt 3 }}
    use_backend special if friends second or {{ src 127.0.3.3 }}
    use_backend sticky unless {{ src 127.0.4.0/24 }}
    default_backend plain
backend plain
    server plain1 127.0.0.1:{ports[2]}
backend special
    use-server special2 if {{ src 127.0.1.2 }}
    server special1 127.0.0.1:{ports[3]}
    server special2 127.0.0.1:{ports[4]} weight 0
backend sticky
    stick-table type ip size 100 expire 60s
    stick on src,ipmask(24) if {{ src 127.0.5.0/24 }}
    stick on src
    server sticky1 127.0.0.1:{ports[5]}
    server sticky2 127.0.0.1:{ports[6]}
"""
CLIENTS = [
    *(("127.0.2.1", 0), ("127.0.2.2", 0), ("127.0.2.1", 0), ("127.0.2.2", 0), ("127.0.2.1", 1), ("127.0.2.1", 1)),
    *(("127.0.2.1", 0), ("127.0.2.2", 1), ("127.0.9.1", 0), ("127.0.9.9", 0), ("127.0.9.9", 1), ("127.0.3.3", 0)),
    *(("127.0.1.1", 1), ("127.0.1.2", 1), ("127.0.1.2", 1), ("127.0.1.2", 1), ("127.0.1.2", 1), ("127.0.1.2", 0)),
    *(("127.0.1.1", 0), ("127.0.1.1", 0), ("127.0.1.1", 0), ("127.0.1.1", 0), ("127.0.1.1", 0), ("127.0.1.1", 0)),
    *(("127.0.4.1", 0), ("127.0.5.1", 0), ("127.0.5.2", 0), ("127.0.5.3", 0), ("127.0.2.3", 0), ("127.0.2.4", 0)),
]
"""Who comes, one after the other, and to which of the two ports."""


@contextmanager
def named_servers(names: list[str]) -> Iterator[list[int]]:
    """Servers on loopback that say their names, and their ports."""
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in names]

    def serve(server: socket.socket, name: str) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with closing(connection):
                connection.sendall(name.encode())

    threads = [threading.Thread(target=serve, args=pair) for pair in zip(listening, names, strict=True)]
    for thread in threads:
        thread.start()
    try:
        yield [int(each.getsockname()[1]) for each in listening]
    finally:
        for each in listening:
            each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in threads:
            thread.join()


def asked_of_haproxy(source: str, port: int) -> str:
    """The name of the server that HAProxy leads a client to, or `rejected`."""
    with closing(socket.socket()) as client:
        client.settimeout(10)
        client.bind((source, 0))
        try:
            client.connect(("127.0.0.1", port))
            return b"".join(iter(lambda: client.recv(100), b"")).decode() or "rejected"
        except ConnectionResetError:
            return "rejected"


class Ours:
    """natlb's engine with the same configuration, and clients that come to it one after the other."""

    def __init__(self, text: str) -> None:
        self.assembly = made(text)
        self.next_port = 20000
        self.now = 1000.0

    def ask(self, source: str, port: int) -> str:
        """The name of the server that a client gets, after a whole connection with it; or `rejected`."""
        self.next_port += 1
        self.now += 0.01
        engine, client, vip = self.assembly.engine, (source, self.next_port), ("127.0.0.1", port)
        verdict = engine.handle_packet(p.segment(client, vip, p.SYN, seq=1), self.now)
        if isinstance(verdict, Reply):
            return "rejected"
        assert isinstance(verdict, Rewrite), verdict
        seen, server = places(verdict.payload)
        [connection] = [each for each in engine.connections() if ends(each.original)[0][1] == p_port(client)]
        for packet in (
            p.segment(server, seen, p.SYN | p.ACK, seq=1, ack=2),
            p.segment(client, vip, p.ACK, seq=2, ack=2),
            p.segment(client, vip, p.FIN | p.ACK, seq=2, ack=2),
            p.segment(server, seen, p.FIN | p.ACK, seq=2, ack=3),
        ):
            assert isinstance(engine.handle_packet(packet, self.now), Rewrite)
        return connection.server.name


def p_port(place: tuple[str, int]) -> bytes:
    return place[1].to_bytes(2, "big")


def test_the_same_clients_reach_the_same_servers_as_in_haproxy(tmp_path: Path) -> None:
    names = ["plain1", "special1", "special2", "sticky1", "sticky2"]
    with named_servers(names) as servers:
        ports = [free_port(), free_port(), *servers]
        text = TIMEOUTS + RULES.format(ports=ports)
        ours = Ours(text)
        got = [ours.ask(source, ports[which]) for source, which in CLIENTS]
        stats = tmp_path / "h.sock"
        with haproxy.running(STATS.format(stats) + text, stats):
            expected = [asked_of_haproxy(source, ports[which]) for source, which in CLIENTS]
    assert got == expected
    assert set(expected) == {*names, "rejected"}, "each was reached"
