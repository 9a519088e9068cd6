"""From a configuration's text to the engine's settings and the endpoints to divert."""

from ipaddress import ip_address, ip_network

import pytest

from natlb.assembly import Assembly, Machine, assemble, written
from natlb.config.parser import parse
from natlb.core.flow import Direction, flow_key
from natlb.core.packet import TCP, UDP
from natlb.core.pool import AdminState, Pool
from natlb.core.ports import PortRanges, Source
from natlb.core.schedulers.base import Scheduler
from natlb.core.schedulers.draw import RandomDraws
from natlb.core.schedulers.first import First
from natlb.core.schedulers.hashes import avalanche, djb2
from natlb.core.schedulers.leastconn import LeastConnections
from natlb.core.schedulers.maglev import Consistent
from natlb.core.schedulers.mapbased import MapBased
from natlb.core.schedulers.roundrobin import RoundRobin, StaticRoundRobin
from natlb.core.service import Service, Timeouts
from natlb.core.tcp import ESTABLISHED_TIMEOUT, TRANSITORY_TIMEOUT
from natlb.datapath.host import Endpoint
from natlb.runtime.running import Written


def assembled(text: str, machine: Machine | None = None) -> Assembly:
    parsed = parse([("t.cfg", text.encode())], {})
    assert parsed.config is not None, parsed.diagnostics
    return assemble(parsed.config, machine)


def service_at(made: Assembly, address: str, port: int, protocol: int = TCP) -> Service | None:
    return made.engine.addresses.find(ip_address(address).packed, port.to_bytes(2, "big"), protocol)


def at(
    address: str, port: int, interface: str | None = None, *, foreign: bool = False, protocol: int = TCP
) -> Endpoint:
    return Endpoint(ip_address(address), port, interface, foreign, protocol)


WEB = """\
global
    maxconn 940
frontend www
    bind 192.0.2.1:80,[2001:db8::1]:80
    maxconn 100
    default_backend nodes
backend nodes
    server one 10.0.0.1:4444 weight 3
    server two 10.0.0.2:5555 backup disabled
    server six [2001:db8::9]:4444
"""


def test_the_global_maxconn_is_the_engines_limit() -> None:
    assert assembled(WEB).engine.admission.max_connections == 940
    assert assembled(WEB.replace("maxconn 940", "")).engine.admission.max_connections is None


def test_a_frontend_answers_at_each_of_its_addresses_and_nowhere_else() -> None:
    made = assembled(WEB)
    service = service_at(made, "192.0.2.1", 80)
    assert service is not None
    assert (service.name, service.max_connections, service.pool) == ("www", 100, made.pools["nodes"])
    assert service_at(made, "2001:db8::1", 80) is service
    assert service_at(made, "192.0.2.1", 81) is None
    assert service_at(made, "192.0.2.2", 80) is None


def test_addresses_are_listed_with_the_frontend_that_a_message_would_name() -> None:
    assert assembled(WEB).addresses == [("www", at("192.0.2.1", 80)), ("www", at("2001:db8::1", 80))]


def test_a_wildcard_answers_at_every_address_of_its_family() -> None:
    made = assembled("listen all\n bind *:80\n server s 10.0.0.1:80\n")
    assert service_at(made, "198.51.100.7", 80) is not None
    assert service_at(made, "2001:db8::1", 80) is None
    assert made.addresses == [("all", at("0.0.0.0", 80))]


def test_an_exact_address_comes_before_a_wildcard() -> None:
    made = assembled(
        "listen all\n bind *:80\n server s 10.0.0.1:80\nlisten one\n bind 192.0.2.1:80\n server s 10.0.0.1:80\n"
    )
    names = [getattr(service_at(made, address, 80), "name", None) for address in ("192.0.2.1", "192.0.2.2")]
    assert names == ["one", "all"]


def test_what_a_bind_line_says_of_interface_and_transparency_reaches_the_datapath() -> None:
    made = assembled("listen l\n bind 192.0.2.1:80 interface eth0 transparent\n server s 10.0.0.1:80\n")
    assert made.addresses == [("l", at("192.0.2.1", 80, "eth0", foreign=True))]


def test_servers_have_their_weight_place_and_state() -> None:
    one, two, six = assembled(WEB).pools["nodes"].servers.values()
    assert (one.name, one.endpoint(80), one.weight, one.backup, one.admin) == (
        *("one", (bytes([10, 0, 0, 1]), (4444).to_bytes(2, "big")), 3),
        *(False, AdminState.READY),
    )
    assert (two.backup, two.admin, two.usable) == (True, AdminState.MAINT, False)
    assert six.address == ip_address("2001:db8::9").packed


def test_answers_of_every_server_are_diverted_those_of_disabled_ones_too() -> None:
    assert set(assembled(WEB).servers) == {at("10.0.0.1", 4444), at("10.0.0.2", 5555), at("2001:db8::9", 4444)}


_OFFSETS = {
    "the client's port is kept": ("10.0.0.1", {8000: 8000, 8001: 8001}),
    "an offset is added": ("10.0.0.1:+1000", {8000: 9000, 8001: 9001}),
    "an offset is taken off": ("10.0.0.1:-1000", {8000: 7000, 8001: 7001}),
    "a port of its own takes all": ("10.0.0.1:80", {8000: 80, 8001: 80}),
}


@pytest.mark.parametrize(("server", "ports"), _OFFSETS.values(), ids=_OFFSETS)
def test_the_servers_port_is_the_same_for_the_engine_and_for_the_rules(server: str, ports: dict[int, int]) -> None:
    made = assembled(f"listen l\n bind 192.0.2.1:8000-8001\n server s {server}\n")
    running = made.pools["l"].servers["s"]
    assert {asked: int.from_bytes(running.endpoint(asked)[1], "big") for asked in ports} == ports
    assert set(made.servers) == {at("10.0.0.1", port) for port in ports.values()}


# -- statistics


def test_the_proxies_stand_in_the_order_written_without_those_that_are_disabled() -> None:
    made = assembled(
        "backend nodes\n server s 10.0.0.1:80\n"
        "frontend off\n bind 192.0.2.1:81\n disabled\n"
        "listen both\n bind 192.0.2.1:80\n server s 10.0.0.1:80\n"
        "backend away\n disabled\n server s 10.0.0.1:80\n"
        "frontend www\n bind 192.0.2.1:82\n default_backend nodes\n"
    )
    names = [(service.name if service else None, pool.name if pool else None) for service, pool in made.proxies]
    assert names == [(None, "nodes"), ("both", "both"), ("www", None)]
    assert made.proxies[0][1] is made.pools["nodes"]
    assert made.proxies[1] == (service_at(made, "192.0.2.1", 80), made.pools["both"])


def test_what_is_written_of_servers_for_the_file_of_states() -> None:
    parsed = parse(
        [
            (
                "t.cfg",
                b"listen l\n bind 192.0.2.1:80\n id 7\n server one 10.0.0.1:80 id 5 check port 81 addr 10.0.0.9\n"
                b" server two 10.0.0.1:80 disabled\n",
            )
        ],
        {},
    )
    assert parsed.config is not None
    assert written(parsed.config) == {
        "l/one": Written(id=True, backend_id=True, check_port=81, check_address="10.0.0.9"),
        "l/two": Written(disabled=True, backend_id=True),
    }


# -- time

_LONG = ESTABLISHED_TIMEOUT

_TIMES = {
    "nothing is said": ("", "", Timeouts(TRANSITORY_TIMEOUT, _LONG, _LONG, _LONG)),
    "the smaller of client and server is the one idle timer": (
        "client 60s",
        "server 50s",
        Timeouts(240.0, 50.0, 50.0, 50.0, shorter=Direction.REPLY),
    ),
    "the client's is the shorter of equals": ("client 60s", "server 60s", Timeouts(240.0, 60.0, 60.0, 60.0)),
    "the client's alone is the idle timer": ("client 60s", "", Timeouts(240.0, 60.0, 60.0, 60.0)),
    "the server's alone is the idle timer": (
        "",
        "server 50s",
        Timeouts(240.0, 50.0, 50.0, 50.0, shorter=Direction.REPLY),
    ),
    "tunnel takes the place of both": ("client 60s", "tunnel 2h", Timeouts(240.0, 7200.0, 7200.0, 7200.0)),
    "connect is the time to open": ("", "connect 5s", Timeouts(5.0, _LONG, _LONG, _LONG)),
    "each side has its own time after a FIN": ("client-fin 7s", "server-fin 9s", Timeouts(240.0, 7440.0, 7.0, 9.0)),
}


@pytest.mark.parametrize(("front", "back", "timeouts"), _TIMES.values(), ids=_TIMES)
def test_timeouts(front: str, back: str, timeouts: Timeouts) -> None:
    lines = [f" timeout {front}\n" if front else "", f" timeout {back}\n" if back else ""]
    made = assembled(
        f"frontend f\n bind 192.0.2.1:80\n default_backend b\n{lines[0]}backend b\n server s 10.0.0.1:80\n{lines[1]}"
    )
    service = service_at(made, "192.0.2.1", 80)
    assert service is not None
    assert service.timeouts == timeouts


def test_two_frontends_of_one_backend_share_its_pool_and_keep_their_own_timers() -> None:
    made = assembled(
        "frontend a\n bind 192.0.2.1:80\n timeout client 1s\n default_backend b\n"
        "frontend c\n bind 192.0.2.1:81\n timeout client 2s\n default_backend b\n"
        "backend b\n server s 10.0.0.1:80\n timeout server 3s\n"
    )
    first, second = (service_at(made, "192.0.2.1", port) for port in (80, 81))
    assert first is not None
    assert second is not None
    assert first.pool is second.pool
    assert (first.timeouts.idle, second.timeouts.idle) == (1.0, 2.0)


# -- what is switched off


def test_a_disabled_frontend_is_nowhere() -> None:
    made = assembled(WEB.replace("maxconn 100", "disabled"))
    assert service_at(made, "192.0.2.1", 80) is None
    assert (made.addresses, made.servers) == ([], [])


@pytest.mark.parametrize(
    "text", [WEB.replace("\nbackend nodes\n", "\nbackend nodes\n disabled\n"), "frontend f\n bind 192.0.2.1:80\n"]
)
def test_a_frontend_without_a_backend_to_use_takes_packets_and_has_no_pool(text: str) -> None:
    made = assembled(text)
    service = service_at(made, "192.0.2.1", 80)
    assert service is not None
    assert service.pool is None
    assert at("192.0.2.1", 80) in [endpoint for _, endpoint in made.addresses]
    assert made.servers == []


def test_a_backend_that_no_frontend_uses_is_not_diverted() -> None:
    made = assembled(WEB + "backend spare\n server s 10.0.0.99:1\n")
    assert at("10.0.0.99", 1) not in made.servers
    assert set(made.pools) == {"nodes", "spare"}


# -- UDP

DNS = """\
udp-lb dns
    dgram-bind 192.0.2.1:53
    proxy-requests 10
    proxy-responses 1
    server one 10.0.0.1:5353
    server two 10.0.0.2
"""


def test_a_udp_lb_section_is_a_service_of_udp_and_of_nothing_else() -> None:
    made = assembled(DNS)
    service = service_at(made, "192.0.2.1", 53, UDP)
    assert service is not None
    assert (service.protocol, service.requests, service.responses) == (UDP, 10, 1)
    assert service_at(made, "192.0.2.1", 53, TCP) is None
    assert made.addresses == [("dns", at("192.0.2.1", 53, protocol=UDP))]
    assert made.servers == [at("10.0.0.1", 5353, protocol=UDP), at("10.0.0.2", 53, protocol=UDP)]


@pytest.mark.parametrize(
    ("lines", "one_way", "both_ways"),
    [
        ("", 120.0, 300.0),
        (" timeout client 50s\n timeout server 10s\n", 10.0, 10.0),
        (" timeout client 50s\n", 50.0, 50.0),
    ],
)
def test_a_flow_has_a_time_for_one_way_and_one_for_both(lines: str, one_way: float, both_ways: float) -> None:
    service = service_at(assembled(DNS + lines), "192.0.2.1", 53, UDP)
    assert service is not None
    assert (service.timeouts.one_way, service.timeouts.both_ways) == (one_way, both_ways)


# -- whose address the servers see

HERE, BESIDE = ip_address("10.0.0.254"), ip_address("10.0.0.253")
MACHINE = Machine(
    networks=((ip_network("10.0.0.0/24"), HERE), (ip_network("2001:db8::/64"), ip_address("2001:db8::254"))),
    own_addresses=frozenset((HERE, BESIDE, ip_address("192.0.2.1"))),
    ephemeral_ports=(32768, 60999),
    preferred_source=lambda address: HERE if address.version == 4 else None,
)
LISTEN = "listen l\n bind 192.0.2.1:80\n server s 10.0.0.1:80 {}\n server six [2001:db8::9]:80\n"


def sources(made: Assembly, server: str = "s") -> list[tuple[str, PortRanges]] | None:
    found = made.pools["l"].servers[server].sources
    return None if found is None else [(str(ip_address(source.address)), source.ranges) for source in found]


def usable_ports(ranges: PortRanges) -> set[int]:
    return {ranges.port(place) for place in range(ranges.count)}


def test_a_source_of_the_backend_holds_for_its_servers_of_that_family() -> None:
    made = assembled(LISTEN.format("") + " source 10.0.0.253:2000\n source 10.0.0.252\n", MACHINE)
    told = sources(made)
    assert told is not None
    assert [address for address, _ in told] == ["10.0.0.253", "10.0.0.252"]
    assert usable_ports(told[0][1]) == {2000}
    assert usable_ports(told[1][1]) == set(range(1024, 65536))
    assert sources(made, "six") is None
    assert {address for address, _ in made.asked_sources} == {BESIDE, ip_address("10.0.0.252")}
    assert {told for _, told in made.asked_sources} == {f"'source' at t.cfg:{line}, for server l/s" for line in (5, 6)}


def test_a_source_of_the_server_takes_the_place_of_the_backends() -> None:
    told = sources(assembled(LISTEN.format("source 10.0.0.253:2000-2009") + " source 10.0.0.252\n", MACHINE))
    assert told is not None
    assert [(address, usable_ports(ranges)) for address, ranges in told] == [("10.0.0.253", set(range(2000, 2010)))]


def test_where_the_machine_itself_speaks_from_its_own_ports_are_left_to_it() -> None:
    told = sources(assembled(LISTEN.format("source 10.0.0.254"), MACHINE))
    assert told is not None
    assert usable_ports(told[0][1]) == set(range(1024, 32768)) | set(range(61000, 65536))


def test_usesrc_clientip_is_never_full_nat() -> None:
    made = assembled(LISTEN.format("source 0.0.0.0 usesrc clientip"), MACHINE)
    assert sources(made) == []
    assert made.pools["l"].servers["s"].neighbourhoods == ()


def test_a_client_beside_the_server_is_spoken_for_by_the_machines_address_there() -> None:
    made = assembled(LISTEN.format(""), MACHINE)
    server = made.pools["l"].servers["s"]
    assert server.sources is None
    (source,) = server.sources_for(ip_address("10.0.0.77").packed)
    assert ip_address(source.address) == HERE
    assert server.sources_for(ip_address("10.0.1.77").packed) == ()
    assert set(made.sources) == {HERE, ip_address("2001:db8::254")}
    assert made.asked_sources == []


def test_a_server_that_shares_no_network_is_its_own_neighbour() -> None:
    made = assembled(LISTEN.format("").replace("10.0.0.1:80", "10.9.0.1:80"), MACHINE)
    server = made.pools["l"].servers["s"]
    assert len(server.sources_for(ip_address("10.9.0.1").packed)) == 1
    assert server.sources_for(ip_address("10.9.0.2").packed) == ()


@pytest.mark.parametrize("local", ["127.0.0.1", "10.0.0.254", "10.0.0.253"])
def test_a_server_on_the_machine_has_no_neighbours(local: str) -> None:
    made = assembled(LISTEN.format("").replace("10.0.0.1:80", f"{local}:80"), MACHINE)
    assert made.pools["l"].servers["s"].neighbourhoods == ()


def test_without_a_way_to_a_server_nothing_is_known_of_its_neighbours() -> None:
    made = assembled(LISTEN.format(""), Machine())
    assert made.pools["l"].servers["s"].neighbourhoods == ()
    assert made.sources == []


def test_the_machines_own_addresses_are_known_to_the_engine() -> None:
    assert assembled(WEB, MACHINE).engine.own_addresses == {a.packed for a in MACHINE.own_addresses}


def test_a_server_that_is_to_lose_its_connections_when_it_goes_down_says_so() -> None:
    servers = assembled(LISTEN.format("on-marked-down shutdown-sessions")).pools["l"].servers
    assert (servers["s"].shutdown_on_down, servers["six"].shutdown_on_down) == (True, False)


def test_numbers_are_those_of_the_configuration() -> None:
    made = assembled("listen l\n id 7\n bind 192.0.2.1:80\n server s 10.0.0.1:80 id 9\n")
    assert (made.services[0].id, made.pools["l"].id, made.pools["l"].servers["s"].id) == (7, 7, 9)


def test_ports_are_picked_at_random() -> None:
    """Of as many engines, each would lend the same one else."""
    picked = set()
    for _ in range(20):
        lender = assembled(WEB).engine._lender
        source = Source(ip_address("10.0.0.253").packed, PortRanges())
        server, client = (ip_address("10.0.0.1").packed, b"\0P"), (ip_address("192.0.2.9").packed, b"\0\1")
        picked.add(lender.lend(source, server, client, TCP, lambda _: True))
    assert len(picked) > 10


# Balancing

FLOW = flow_key((bytes([192, 0, 2, 7]), b"xy"), (bytes([192, 0, 2, 1]), b"\0\x50"), TCP)


def pool_of(lines: str, servers: str = "    server one 10.0.0.1:80\n    server two 10.0.0.2:80\n") -> Pool:
    return assembled(f"listen l\n    bind :80\n{lines}{servers}").pools["l"]


@pytest.mark.parametrize(
    ("lines", "kind", "algorithm"),
    [
        ("", RoundRobin, "roundrobin"),
        ("    balance static-rr\n", StaticRoundRobin, "static-rr"),
        ("    balance leastconn\n", LeastConnections, "leastconn"),
        ("    balance first\n", First, "first"),
        ("    balance random(3)\n", RandomDraws, "random"),
        ("    balance source\n", MapBased, "source"),
        ("    balance source\n    hash-type consistent\n", Consistent, "source"),
        ("    balance hash dst\n", MapBased, "hash"),
        ("    balance hash src_port\n    hash-type consistent wt6 avalanche\n", Consistent, "hash"),
    ],
)
def test_a_backend_gets_the_scheduler_that_it_asks_for_in_each_family(
    lines: str, kind: type[Scheduler], algorithm: str
) -> None:
    pool = pool_of(lines)
    assert pool.algorithm == algorithm
    assert [type(each) for each in pool._schedulers.values()] == [kind, kind]
    assert pool._schedulers[4] is not pool._schedulers[16]
    assert not pool.work(), "what has to be made is made before the first connection"
    assert pool.pick(FLOW, 0.0) in pool.servers.values()


def test_a_client_is_hashed_as_the_configuration_says() -> None:
    def home(lines: str) -> str:
        picked = pool_of(lines, "".join(f"    server s{n} 10.0.0.{n}:80\n" for n in range(97))).pick(FLOW, 0.0)
        assert picked is not None
        return picked.name

    address = 0xC0000207
    assert home("    balance source\n") == f"s{address % 97}"
    assert home("    balance source\n    hash-type map-based wt6 avalanche\n") == f"s{avalanche(address) % 97}"
    assert home("    balance hash src_port\n    hash-type map-based djb2\n") == f"s{djb2(bytes(6) + b'xy') % 97}"


def test_the_settings_of_a_backend_reach_its_pool() -> None:
    pool = pool_of(
        "    retries 2\n    option redispatch 3\n    option allbackups\n    timeout queue 7s\n    fullconn 9\n",
        "    server one 10.0.0.1:80 weight 5 maxconn 4 minconn 2 maxqueue 3 slowstart 10s\n",
    )
    assert (pool.retries_allowed, pool.redispatch, pool.all_backups, pool.queue_timeout, pool.fullconn) == (
        2,
        3,
        True,
        7.0,
        9,
    )
    server = pool.servers["one"]
    assert (server.maxconn, server.minconn, server.maxqueue, server.slowstart, server.initial_weight) == (
        4,
        2,
        3,
        10,
        5,
    )


def test_draws_and_the_bound_of_hashing_reach_the_scheduler() -> None:
    assert pool_of("    balance random(5)\n")._schedulers[4]._draws == 5  # type: ignore[attr-defined]
    bounded = pool_of("    balance source\n    hash-type consistent\n    hash-balance-factor 130\n")
    assert bounded._schedulers[4]._factor == 130  # type: ignore[attr-defined]


def test_without_timeout_queue_a_connection_waits_as_long_as_a_server_may_take_to_answer() -> None:
    assert pool_of("    timeout connect 3s\n").queue_timeout == 3.0
    assert pool_of("").queue_timeout == TRANSITORY_TIMEOUT


@pytest.mark.parametrize(
    ("text", "fullconn"),
    [
        ("global\n maxconn 1000\nfrontend f\n bind :80\n maxconn 55\n default_backend b\nbackend b\n", 6),
        ("global\n maxconn 1000\nfrontend f\n bind :80\n default_backend b\nbackend b\n", 100),
        ("global\n maxconn 1000\nbackend b\n", 1),
        ("frontend f\n bind :80\n maxconn 55\n use_backend b if TRUE\n default_backend c\nbackend b\nbackend c\n", 6),
        ("frontend f\n bind :80\n maxconn 55\n use_backend b if TRUE\n default_backend b\nbackend b\n", 6),
        ("frontend f\n bind :80\n default_backend b\nbackend b\n", 26215),
        ("frontend f\n bind :80\n maxconn 55\n default_backend b\nbackend b\n fullconn 7\n", 7),
    ],
)
def test_the_default_of_fullconn_is_a_tenth_of_what_may_come_as_in_haproxy(text: str, fullconn: int) -> None:
    assert assembled(text).pools["b"].fullconn == fullconn
