"""Each number is the one that stands in the engine; each name is one that Prometheus' users expect."""

import re
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from natlb.core.events import EndReason
from natlb.core.pool import AdminState
from natlb.core.rules import Decision, FrontendRules
from natlb.core.verdict import DropReason
from natlb.health.conversation import Answer, Limits
from natlb.health.server import CheckSettings, Intervals, Operation, ServerHealth
from natlb.health.status import Status
from natlb.metrics.families import FAMILIES, Kind
from natlb.metrics.registry import registry
from natlb.metrics.render import format_for, render
from tests.unit.core.packets import ACK, RST, SYN, segment
from tests.unit.metrics.balancer import Balancer, Counts, Offloaded, many

CLIENT, VIP, NOBODY = ("11.0.0.1", 5000), ("44.2.2.2", 8888), ("44.2.2.2", 8889)
SERVERS = {"s0": ("44.3.0.0", 4444), "s1": ("44.3.0.1", 4444)}


@pytest.fixture
def balancer() -> Balancer:
    return many(2)


def read(balancer: Balancer) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Scrape, and read the text as Prometheus does."""
    made = registry(balancer.sources)
    text = b"".join(render(made, format_for("").encode)).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name, frozenset(sample.labels.items())
            assert name not in found, "one value for each name and labels"
            found[name] = sample.value
    return found


class Scrape:
    """What a scrape has found, by name and labels."""

    def __init__(self, balancer: Balancer) -> None:
        self._found = read(balancer)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self._found.get((name, frozenset(labels.items())))


def open_connection(balancer: Balancer, port: int, now: float = 0.0) -> str:
    """Make a whole handshake; return the server that it went to."""
    engine, client = balancer.engine, ("11.0.0.1", port)
    before = {server.name: server.total for server in balancer.pools["web"].servers.values()}
    engine.handle_packet(segment(client, VIP, SYN, seq=1000), now)
    (name,) = [s.name for s in balancer.pools["web"].servers.values() if s.total > before[s.name]]
    engine.handle_packet(segment(SERVERS[name], client, SYN | ACK, seq=5000, ack=1001), now)
    engine.handle_packet(segment(client, VIP, ACK, seq=1001, ack=5001), now)
    return name


def test_connections_are_counted_by_frontend_and_server(balancer: Balancer) -> None:
    balancer.engine.admission.max_connections = 10
    for port in range(5000, 5004):
        open_connection(balancer, port)
    balancer.engine.handle_packet(segment(("11.0.0.1", 5000), VIP, RST, seq=1001), 1.0)
    seen = Scrape(balancer)
    assert (seen("natlb_connections"), seen("natlb_connections_limit")) == (3, 10)
    assert seen("natlb_frontend_connections", proxy="web") == 3
    assert seen("natlb_frontend_connections_opened_total", proxy="web") == 4
    assert seen("natlb_frontend_connections", proxy="nobody") == 0
    assert seen("natlb_connections_closed_total", reason="reset") == 1
    for name in SERVERS:
        assert seen("natlb_server_connections_opened_total", proxy="web", server=name) == 2
    live = [seen("natlb_server_connections", proxy="web", server=name) for name in SERVERS]
    assert sorted(live) == [1, 2]  # type: ignore[type-var]


def test_the_table_says_how_full_it_is(balancer: Balancer) -> None:
    open_connection(balancer, 5000)
    balancer.engine.handle_packet(segment(("11.0.0.1", 5001), VIP, SYN, seq=1), 0.0)
    seen = Scrape(balancer)
    assert (seen("natlb_table_entries"), seen("natlb_table_entries_limit")) == (2, 1000)
    assert (seen("natlb_table_half_open"), seen("natlb_table_half_open_limit")) == (1, 250)


def test_a_connection_that_a_limit_or_a_missing_server_turned_away_is_counted_by_why(balancer: Balancer) -> None:
    balancer.services[0].max_connections = 1
    for port in (5000, 5001, 5002):
        balancer.engine.handle_packet(segment(("11.0.0.1", port), VIP, SYN, seq=1), 0.0)
    balancer.engine.handle_packet(segment(CLIENT, NOBODY, SYN, seq=1), 0.0)
    seen = Scrape(balancer)
    assert seen("natlb_frontend_connections_turned_away_total", proxy="web", reason="maxconn") == 2
    assert seen("natlb_frontend_connections_turned_away_total", proxy="nobody", reason="no_server") == 1
    assert seen("natlb_frontend_connections_limit", proxy="web") == 1
    assert seen("natlb_frontend_connections_limit", proxy="nobody") is None, "there is none"
    assert seen("natlb_packets_dropped_total", reason="maxconn") == 2


def test_every_reason_is_there_from_the_beginning(balancer: Balancer) -> None:
    seen = Scrape(balancer)
    assert [seen("natlb_packets_dropped_total", reason=each.name.lower()) for each in DropReason] == [0] * len(
        DropReason
    )
    assert [seen("natlb_connections_closed_total", reason=each.name.lower()) for each in EndReason] == [0] * len(
        EndReason
    )


def test_payload_is_counted_by_direction_to_the_last_packet(balancer: Balancer) -> None:
    name = open_connection(balancer, 5000)
    client, engine = ("11.0.0.1", 5000), balancer.engine
    for number, size in ((1001, 100), (1101, 11), (1001, 100)):  # the last one is sent again, and nothing new
        engine.handle_packet(segment(client, VIP, ACK, seq=number, ack=5001, payload=bytes(size)), 1.0)
    engine.handle_packet(segment(SERVERS[name], client, ACK, seq=5001, ack=1112, payload=bytes(7)), 1.0)
    seen = Scrape(balancer)
    for labels in ({"proxy": "web"}, {"proxy": "web", "server": name}):
        family = f"natlb_{'server' if 'server' in labels else 'frontend'}_bytes_total"
        assert [seen(family, **labels, direction=direction) for direction in ("in", "out")] == [111, 7]
    (other,) = SERVERS.keys() - {name}
    assert seen("natlb_server_bytes_total", proxy="web", server=other, direction="in") == 0


def test_what_servers_and_clients_have_failed_at_is_counted(balancer: Balancer) -> None:
    engine, pool = balancer.engine, balancer.pools["web"]
    name = open_connection(balancer, 5000)
    engine.handle_packet(segment(SERVERS[name], ("11.0.0.1", 5000), RST, seq=5001), 1.0)
    (other,) = SERVERS.keys() - {name}
    silent = segment(("11.0.0.1", 5001), VIP, SYN, seq=1)
    for now in (1.0, 2.0):
        engine.handle_packet(bytearray(silent), now)
    assert pool.servers[other].total == 1
    seen = Scrape(balancer)
    assert seen("natlb_server_connections_aborted_total", proxy="web", server=name, by="server") == 1
    assert seen("natlb_server_connections_aborted_total", proxy="web", server=name, by="client") == 0
    assert seen("natlb_server_retries_total", proxy="web", server=other) == 1
    engine.handle_packet(segment(SERVERS[other], ("11.0.0.1", 5001), RST | ACK, seq=0, ack=2), 3.0)
    assert Scrape(balancer)("natlb_server_connections_failed_total", proxy="web", server=other) == 1


def test_who_waits_for_a_place_is_counted(balancer: Balancer) -> None:
    pool = balancer.pools["web"]
    for server in pool.servers.values():
        server.maxconn = 1
    for port in range(5000, 5005):
        balancer.engine.handle_packet(segment(("11.0.0.1", port), VIP, SYN, seq=1), 0.0)
    seen = Scrape(balancer)
    assert seen("natlb_backend_queue_length", proxy="web") == 3
    assert seen("natlb_backend_queue_given_up_total", proxy="web") == 0
    for name in SERVERS:
        assert seen("natlb_server_queue_length", proxy="web", server=name) == 0
        assert seen("natlb_server_connections_limit", proxy="web", server=name) == 1


def test_health_state_and_weight_of_a_server_are_told(balancer: Balancer) -> None:
    pool = balancer.pools["web"]
    pool.set_admin(pool.servers["s1"], AdminState.DRAIN, 0.0)
    pool.set_health(pool.servers["s0"], False, 0.0)
    balancer.checks["web/s0"].change(Operation.STOPPED, 0.0)
    pool.servers["s0"].unanswered = 3
    seen = Scrape(balancer)
    assert [seen("natlb_server_up", proxy="web", server=name) for name in SERVERS] == [0, 1]
    states = [seen("natlb_server_state", proxy="web", server="s1", state=state.value) for state in AdminState]
    assert states == [0, 1, 0]
    assert seen("natlb_server_weight", proxy="web", server="s0") == 1
    assert seen("natlb_server_unanswered", proxy="web", server="s0") == 3
    assert seen("natlb_backend_servers_usable", proxy="web") == 0


def test_what_the_checks_have_found_is_told_of_servers_that_have_any(balancer: Balancer) -> None:
    settings = CheckSettings("44.3.0.0", 4444, Intervals(2, 2, 2), Limits(2))
    checked = balancer.checks["web/s0"] = ServerHealth("web/s0", settings, 0.0)
    for operation in (Operation.STOPPED, Operation.RUNNING, Operation.STOPPED):
        checked.change(operation, 1.0)
    checked.failed_checks = 5
    before = Scrape(balancer)
    checked.last = Answer(Status.L4OK, "", 0, 0.25)
    after = Scrape(balancer)
    assert [before("natlb_server_checks_failed_total", proxy="web", server=name) for name in SERVERS] == [5, None]
    assert [before("natlb_server_downs_total", proxy="web", server=name) for name in SERVERS] == [2, 0]
    assert [before("natlb_server_up", proxy="web", server=name) for name in SERVERS] == [0, 1]
    assert before("natlb_server_check_seconds", proxy="web", server="s0") is None, "none has ended"
    assert [after("natlb_server_check_seconds", proxy="web", server=name) for name in SERVERS] == [0.25, None]


def test_a_server_that_the_checks_do_not_know_yet_has_no_health(balancer: Balancer) -> None:
    del balancer.checks["web/s1"]
    seen = Scrape(balancer)
    assert [seen("natlb_server_up", proxy="web", server=name) for name in SERVERS] == [1, None]


def test_packets_are_counted_by_direction(balancer: Balancer) -> None:
    name = open_connection(balancer, 5000)
    balancer.engine.handle_packet(segment(SERVERS[name], ("11.0.0.1", 5000), ACK, seq=5001, ack=1001), 1.0)
    balancer.engine.handle_packet(segment(("11.0.0.1", 5001), NOBODY, SYN, seq=1), 1.0)  # refused: nothing is sent on
    seen = Scrape(balancer)
    for proxy, expected in (("web", [2, 2]), ("nobody", [0, 0])):
        directions = [seen("natlb_frontend_packets_total", proxy=proxy, direction=each) for each in ("in", "out")]
        assert directions == expected
    for server in SERVERS:
        counted = [
            seen("natlb_server_packets_total", proxy="web", server=server, direction=each) for each in ("in", "out")
        ]
        assert counted == ([2, 2] if server == name else [0, 0])


def test_who_is_too_fast_or_rejected_is_counted_by_why(balancer: Balancer) -> None:
    web = balancer.services[0]
    web.session_limit = 1
    for port in (5000, 5001, 5002):
        balancer.engine.handle_packet(segment(("11.0.0.1", port), VIP, SYN, seq=1), 0.0)
    web.rules = FrontendRules(((lambda _: True, Decision.REJECT),))
    balancer.engine.handle_packet(segment(("11.0.0.1", 5003), VIP, SYN, seq=1), 0.0)
    seen = Scrape(balancer)
    turned_away = {
        reason: seen("natlb_frontend_connections_turned_away_total", proxy="web", reason=reason)
        for reason in ("maxconn", "rate_limit", "rule", "no_server")
    }
    assert turned_away == {"maxconn": 0, "rate_limit": 2, "rule": 1, "no_server": 0}


def test_log_lines_are_counted_where_any_are_written(balancer: Balancer) -> None:
    assert Scrape(balancer)("natlb_log_lines_total", outcome="dropped") == 0
    balancer.log = Counts(sent=9, dropped=2)
    seen = Scrape(balancer)
    assert [seen("natlb_log_lines_total", outcome=each) for each in ("sent", "dropped")] == [9, 2]


def test_the_datapath_and_the_clocks_are_read(balancer: Balancer) -> None:
    balancer.queue = Counts(delivered=7, failures=1, refused=5, unreadable=6)
    balancer.backlog = Counts(waiting=8, queue_full=2, socket_full=3)
    balancer.outlet.failures = 4
    balancer.guard.repaired = 9
    balancer.packet_seconds.observe(2e-5, times=3)
    balancer.lag_seconds.observe(0.5)
    seen = Scrape(balancer)
    assert seen("natlb_packets_received_total") == 7
    assert seen("natlb_queue_packets_waiting") == 8
    assert [seen("natlb_queue_packets_lost_total", full=each) for each in ("queue", "socket")] == [2, 3]
    assert seen("natlb_queue_verdicts_refused_total") == 5
    assert seen("natlb_queue_messages_unreadable_total") == 6
    assert seen("natlb_packet_failures_total") == 1
    assert seen("natlb_packets_unsendable_total") == 4
    assert seen("natlb_rules_repaired_total") == 9
    assert seen("natlb_packet_seconds_bucket", le="0.0001") == seen("natlb_packet_seconds_count") == 3
    assert seen("natlb_packet_seconds_bucket", le="1e-05") == 0
    assert seen("natlb_event_loop_lag_seconds_bucket", le="0.01") == 0
    assert seen("natlb_event_loop_lag_seconds_count") == 1
    assert seen("natlb_build_info", version="1.2.3") == 1


def test_the_fast_path_is_told_of(balancer: Balancer) -> None:
    assert Scrape(balancer)("natlb_offload_on") == 0
    balancer.offloader = Offloaded(True, 3, 100, 5, 6, 70, 9, 1)
    seen = Scrape(balancer)
    names = (
        "on",
        "connections",
        "connections_limit",
        "no_room_total",
        "translated_total",
        "packets_total",
        "audited_total",
        "differences_total",
    )
    assert [seen(f"natlb_offload_{name}") for name in names] == [1, 3, 100, 5, 6, 70, 9, 1]


def test_the_process_is_told_of(balancer: Balancer) -> None:
    seen = Scrape(balancer)
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"):
        assert (seen(name) or 0) > 0
    assert seen("python_gc_collections_total", generation="0") is not None


def test_servers_may_come_and_go_during_a_scrape() -> None:
    balancer = many(1000)
    pieces = render(registry(balancer.sources), format_for("").encode)
    next(pieces)
    for name in list(balancer.pools["web"].servers)[:500]:
        del balancer.pools["web"].servers[name]
    assert b"natlb_server_weight" in b"".join(pieces)


def test_no_name_is_taken_twice() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    CollectorRegistry(auto_describe=True).register(_Described())


class _Described:
    """All families, in a registry that refuses names that clash."""

    def collect(self) -> list[object]:
        sources = many(1).sources
        return [family.collect(sources) for family in FAMILIES]


def test_names_follow_the_conventions_of_prometheus() -> None:
    for family in FAMILIES:
        assert re.fullmatch(r"natlb_[a-z]+(_[a-z]+)*", family.name)
        assert (family.kind is Kind.COUNTER) == family.name.endswith("_total"), "_total is for counters"
        assert not re.search(r"_(count|sum|bucket|info_\w+)$", family.name), "these are a histogram's"
        assert not re.search(r"milli|micro|minutes|hours|kilo|mega|percent|bits", family.name), "base units only"
        assert family.help.endswith("."), "a sentence"
        assert len(family.help) > len("Always 1."), "that says something"
        assert not set(family.labels) & {"le", "quantile", "instance", "job"}, "these are Prometheus'"
        kind = {"total", "counter", "gauge", "histogram", "metric"} & set(family.name.removesuffix("_total").split("_"))
        assert not kind, "a name does not say its kind"


def test_labels_are_neither_repeated_nor_left_in_the_name() -> None:
    for family in FAMILIES:
        assert len(set(family.labels)) == len(family.labels)
        for first, second in pairwise(("proxy", "server", "state")):
            assert second not in family.labels or first in family.labels, "a server is one of a proxy"
