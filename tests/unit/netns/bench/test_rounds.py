"""A run without a lab: the loads, the servers and the candidates are played."""

from contextlib import contextmanager

import pytest

from netns.bench import hosts, loads, rounds
from netns.bench.candidates import Candidate, Running
from netns.bench.hosts import Room
from netns.bench.loads import Datagrams
from netns.bench.measures import MEASURES
from netns.bench.readings import Bulk, Requests
from netns.bench.rounds import Plan, Run, compare_with_routing
from netns.bench.usage import Spent
from netns.errors import LabError
from netns.topology import SEED

from .test_readings import PROFILING

REQUIRED = (
    "bulk_gbps",
    "bulk_reverse_gbps",
    "bulk8_gbps",
    "keepalive_rps",
    "keepalive_p50_us",
    "keepalive_p99_us",
    "connection_rps",
    "udp_pps",
    "cpu_s_per_gb",
    "cpu_s_per_10k_connections",
    "rss_mb_100k",
)
"""What a reader of the JSON may rely on."""


class Played:
    """A lab, its servers and its loads; every connection is counted once by each who should."""

    topology = SEED

    def __init__(self, monkeypatch):
        self.carried = self.accepted = self.active = 0
        self.story = []
        self.errors = ()
        self.loses = 0
        """Connections of each load that never reach the candidate."""
        monkeypatch.setattr(hosts, "prepare", lambda lab: None)
        monkeypatch.setattr(hosts, "web_servers", self.web_servers)
        for load in ("bulk", "datagrams", "requests", "idle_connections"):
            monkeypatch.setattr(loads, load, getattr(self, load))
        monkeypatch.setattr(loads, "answers", lambda lab, target: True)
        monkeypatch.setattr(Spent, "so_far", lambda lab: Spent(2.0 * self.carried, 3.0 * self.carried))
        monkeypatch.setattr(rounds, "resident_kilobytes", lambda lab: 1000.0 + self.active)
        monkeypatch.setattr(rounds, "every", lambda interval, seconds: [None])
        monkeypatch.setattr(rounds, "available_megabytes", lambda: 9000.0)

    def candidate(self, name, ask=None, **more):
        @contextmanager
        def run(lab, room):
            self.story.append(f"+{name}")
            yield Running(lambda: self.carried, ask=ask)
            self.story.append(f"-{name}")

        return Candidate(name, "played", run, ("true",), **more)

    @contextmanager
    def web_servers(self, lab, room, connections):
        yield self

    def connect(self, number):
        self.carried += number - self.loses
        self.accepted += number

    def bulk(self, lab, target, seconds, streams=1, reverse=False):
        self.connect(streams + 1)
        return Bulk(gbps=streams + reverse, octets=int(4e9), seconds=seconds)

    def datagrams(self, lab, target, seconds):
        self.connect(2)
        return Datagrams(sent=1000, arrived=900, seconds=seconds)

    def requests(self, lab, target, seconds, connections=64, threads=2, close=False):
        done = 20_000
        self.connect(done if close else connections)
        return Requests(done, done / seconds, 10.0, 100.0 + connections, self.errors)

    @contextmanager
    def idle_connections(self, lab, target, number, files):
        self.connect(number)
        self.active = number - self.loses
        yield number
        self.active = 0


@pytest.fixture
def played(monkeypatch):
    return Played(monkeypatch)


def run_with(played, *candidates, files=300_000, **plan):
    run = Run(played, candidates, Plan(**{"rounds": 1, "seconds": 2, "idle_connections": 0, **plan}), Room(2, files))
    said = []
    run.measure(said.append)
    return run.outcome, said


def test_every_measure_is_filled_by_a_program_that_carries_all(played):
    outcome, _ = run_with(played, played.candidate("routing"), played.candidate("it"), idle_connections=100_000)
    values = outcome.results["it"]
    assert set(values) == {measure.key for measure in MEASURES} > set(REQUIRED)
    assert None not in values.values()
    assert not outcome.failed
    assert outcome.remarks == []
    expected = {"bulk_gbps": 1, "bulk_reverse_gbps": 2, "bulk8_gbps": 8, "keepalive_rps": 10_000, "udp_pps": 450}
    assert {key: values[key] for key in expected} == expected
    assert values["udp_loss_percent"] == pytest.approx(10)
    assert (values["cpu_s_per_gb"], values["machine_cpu_s_per_gb"]) == (2 * 2 / 4, 3 * 2 / 4)
    assert (values["cpu_s_per_10k_connections"], values["machine_cpu_s_per_10k_connections"]) == (20_000, 30_000)
    assert (values["rss_mb_100k"], values["rss_kb_per_connection"]) == (101.0, 1.0)
    assert values["added_p99_us"] == 0


def test_candidates_take_turns_at_being_first_and_never_run_together(played):
    run_with(played, played.candidate("a"), played.candidate("b"), rounds=2)
    assert played.story == ["+a", "-a", "+b", "-b", "+b", "-b", "+a", "-a"]


def test_what_a_candidate_did_not_carry_is_not_told(played):
    played.loses = 1
    outcome, _ = run_with(played, played.candidate("it"), idle_connections=1000)
    assert set(outcome.results["it"].values()) == {None}
    assert outcome.failed
    assert "round 1 of 1, it, bulk to the server: it counts 1 of 2 connections: this went elsewhere" in outcome.remarks
    assert outcome.remarks[-1].startswith("it, memory: of 1000 connections 1000 were opened, 999 are open")


def test_a_load_that_fails_leaves_a_gap_and_the_run_goes_on(played, monkeypatch):
    def fail(*_, **__):
        raise LabError("iperf3: no route to host")

    monkeypatch.setattr(loads, "bulk", fail)
    outcome, _ = run_with(played, played.candidate("it"))
    assert outcome.results["it"]["bulk_gbps"] is None
    assert outcome.results["it"]["keepalive_rps"] == 10_000
    assert "round 1 of 1, it, bulk to the server: iperf3: no route to host" in outcome.remarks
    assert outcome.failed


def test_a_candidate_that_does_not_answer_is_told_with_its_last_words(played, monkeypatch):
    class Dead:
        alive = False

        def failure(self, alive):
            return LabError(f"it ended with status 1 and not '{alive}'")

    @contextmanager
    def run(lab, room):
        yield Running(lambda: 0, Dead())

    monkeypatch.setattr(loads, "answers", lambda lab, target: False)
    outcome, _ = run_with(played, Candidate("it", "dead", run, ("true",)), played.candidate("other"))
    assert outcome.remarks[0] == "round 1 of 1, it, start: it ended with status 1 and not 'does not answer'"
    assert outcome.failed


def test_errors_are_told_beside_the_figure(played):
    played.errors = (("timeout", 7), ("read", 2))
    outcome, _ = run_with(played, played.candidate("it"))
    assert "round 1 of 1, it, requests, kept alive: 7 timeout, 2 read; 20000 answered" in outcome.remarks
    assert outcome.results["it"]["keepalive_rps"] == 10_000
    assert not outcome.failed


def test_connections_that_were_used_twice_are_not_a_connection_each(played, monkeypatch):
    def requests(lab, target, seconds, connections=64, threads=2, close=False):
        played.carried += 20_000
        played.accepted += 100
        return Requests(20_000, 10_000.0, 1.0, 2.0, ())

    monkeypatch.setattr(loads, "requests", requests)
    outcome, _ = run_with(played, played.candidate("it"))
    assert outcome.results["it"]["connection_rps"] is None
    assert any("20000 requests were to have a connection each, 100 reached" in remark for remark in outcome.remarks)


def test_who_cannot_carry_datagrams_is_not_asked_to(played):
    outcome, said = run_with(played, played.candidate("it", udp=False))
    assert outcome.results["it"]["udp_pps"] is None
    assert not [line for line in said if "datagrams" in line]
    assert not outcome.failed


def test_memory_at_fewer_connections_is_not_called_memory_at_a_hundred_thousand(played):
    candidate = played.candidate("it", most=lambda room: room.files // 2)
    outcome, _ = run_with(played, candidate, files=20_000, idle_connections=100_000)
    assert outcome.results["it"]["rss_mb_100k"] is None
    assert outcome.results["it"]["rss_kb_per_connection"] == 1.0
    assert outcome.remarks == ["it, memory: at 10,000 connections; one process may have 20,000 files open"]


def test_memory_is_not_tried_where_the_machine_has_too_little(played, monkeypatch):
    monkeypatch.setattr(rounds, "available_megabytes", lambda: 1000.0)
    outcome, _ = run_with(played, played.candidate("it"), idle_connections=100_000)
    assert outcome.remarks == ["memory: not measured, 1,000 MB are too few for all the sockets"]
    assert outcome.results["it"]["rss_kb_per_connection"] is None


def test_the_kernel_has_no_process_to_weigh(played):
    outcome, said = run_with(played, played.candidate("it", program=False), idle_connections=100_000)
    assert outcome.results["it"]["rss_mb_100k"] is None
    assert not [line for line in said if "memory" in line]


def test_a_quick_run_says_that_it_did_not_weigh(played):
    outcome, _ = run_with(played, played.candidate("it"))
    assert outcome.remarks == ["memory: not measured in a quick run"]


def test_how_much_is_added_to_plain_routing_is_known_where_both_are():
    latest = {"routing": {"unloaded_p99_us": 100.0}, "natlb": {"unloaded_p99_us": 350.0}, "nft": {}}
    compare_with_routing(latest)
    assert latest["natlb"]["added_p99_us"] == 250.0
    assert "added_p99_us" not in latest["nft"] | latest["routing"]
    alone = {"natlb": {"unloaded_p99_us": 350.0}}
    compare_with_routing(alone)
    assert "added_p99_us" not in alone["natlb"]


def test_who_can_tell_where_a_packets_time_goes_is_asked_in_a_load_of_its_own(played):
    asked = []

    def ask(command):
        asked.append((command, played.carried))
        return PROFILING if command == "show profiling" else ""

    outcome, said = run_with(played, played.candidate("other"), played.candidate("it", ask), rounds=2)
    assert len([line for line in said if "where a packet's time goes" in line]) == 2
    assert [command for command, _ in asked[:3]] == [
        "set profiling packets on",
        "show profiling",
        "set profiling packets off",
    ]
    assert asked[1][1] - asked[0][1] == loads.CONNECTIONS
    assert [profile.packets for profile in outcome.profiles] == [108055] * 2
    assert not outcome.failed


def test_it_is_told_to_look_no_more_when_the_load_fails(played, monkeypatch):
    asked = []

    def requests(lab, target, seconds, connections=64, threads=2, close=False):
        raise LabError("wrk: no route to host")

    monkeypatch.setattr(loads, "requests", requests)
    outcome, _ = run_with(played, played.candidate("it", lambda command: asked.append(command) or ""))
    assert asked == ["set profiling packets on", "set profiling packets off"]
    assert "round 1 of 1, it, where a packet's time goes: wrk: no route to host" in outcome.remarks
    assert outcome.profiles == []
    assert outcome.failed


# -- a bounded time


class Clock:
    """A clock that only moves when a load lasts."""

    def __init__(self, played, monkeypatch, lasts):
        self.now = 0.0
        monkeypatch.setattr(rounds.time, "monotonic", lambda: self.now)
        connect = played.connect

        def slowly(number):
            self.now += lasts
            connect(number)

        monkeypatch.setattr(played, "connect", slowly)


@pytest.mark.parametrize("lasts", [0.1, 1.0, 1.7, 3.0, 21.0])
def test_a_run_ends_in_time_however_long_its_loads_last(played, monkeypatch, lasts):
    clock = Clock(played, monkeypatch, lasts)
    candidates = [played.candidate(name) for name in ("a", "b", "c", "d", "e", "f")]
    outcome, _ = run_with(played, *candidates, seconds=1, within=50.0)
    assert clock.now <= 50
    possible = 7 * len(candidates)
    left_out = [remark for remark in outcome.remarks if ", left out: " in remark]
    assert bool(left_out) == (lasts * possible > 50)
    assert not outcome.failed


def test_what_no_longer_fits_is_named(played, monkeypatch):
    Clock(played, monkeypatch, 10.0)
    outcome, _ = run_with(played, *map(played.candidate, "abc"), seconds=1, within=95.0)
    first, second, _memory = outcome.remarks
    assert first.startswith(
        "round 1 of 1, b, left out: bulk to the client; bulk, 8 streams; requests, kept alive; "
        "requests, a connection each; datagrams: the time was up. "
    )
    assert second.startswith("round 1 of 1, c, left out: all of it: the time was up. ")
    values = outcome.results["b"]
    assert values["unloaded_p50_us"] is not None
    assert (values["bulk_gbps"], values["bulk_reverse_gbps"]) == (1, None)
    assert outcome.results["c"]["bulk_gbps"] is None
    assert "+c" not in played.story, "it is not started for nothing"


def test_without_a_bound_everything_is_measured(played, monkeypatch):
    Clock(played, monkeypatch, 1000.0)
    outcome, _ = run_with(played, played.candidate("a"))
    assert outcome.remarks == ["memory: not measured in a quick run"]
