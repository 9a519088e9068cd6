"""The bench's way through a run: all candidates in turn, several times over, and what each round found.

A candidate is started anew for each round, and stopped before the next one starts: the rules of one must not slow the
packets of another. Who begins changes from round to round. A load that fails, or that its candidate did not carry,
leaves a gap and a remark; the run goes on. Where the time is bounded, a load only begins while there is time for the
longest one that was seen: a slow machine has gaps then, and remarks, and the run ends in time.
"""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from netns.bench import hosts, loads, readings
from netns.bench.candidates import Candidate, Running
from netns.bench.hosts import Room, WebServers
from netns.bench.measures import Values, medians
from netns.bench.readings import Profile
from netns.bench.usage import Spent, available_megabytes, resident_kilobytes
from netns.build import Lab
from netns.errors import LabError
from netns.processes import every

_Result = TypeVar("_Result")

_FULL = 100_000
"""Idle connections at which memory is compared."""

_MEMORY_NEEDED = 4000.0
"""MB for so many: up to four sockets each, mostly the kernel's."""

_LONGER = 3
"""How much longer than other loads the one lasts in which natlb looks at itself: shares are made of many looks."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int = 3
    seconds: int = 5
    """Of each load."""
    idle_connections: int = _FULL
    """Whose memory is measured; 0: it is not."""
    within: float | None = None
    """Seconds in which the loads must be done; None: they take what they take."""


QUICK: dict[str, int] = {"rounds": 1, "seconds": 1, "idle_connections": 0}

QUICK_WITHIN = 53.0
"""Seconds of a quick run's minute that the loads have: the rest is for the lab that is made and taken away."""


@dataclass(slots=True)
class Outcome:
    """What a run has found."""

    samples: dict[str, list[Values]]
    """By candidate: a set of values for each round, and one for memory."""
    remarks: list[str] = field(default_factory=list)
    """What went wrong, or should be known."""
    profiles: list[Profile] = field(default_factory=list)
    """Where a packet's time went in natlb, in each round that it was measured in."""
    failed: bool = False
    """Whether something could not be measured that should have been."""

    @property
    def results(self) -> dict[str, Values]:
        """The medians, by candidate."""
        return {name: medians(rounds) for name, rounds in self.samples.items()}


class Run:
    """One run, in a lab that is up. Whatever is found is entered into `outcome` at once."""

    def __init__(self, lab: Lab, candidates: Sequence[Candidate], plan: Plan, room: Room) -> None:
        self.lab, self.candidates, self.plan, self.room = lab, candidates, plan, room
        self.outcome = Outcome({candidate.name: [] for candidate in candidates})
        self._end = None if plan.within is None else time.monotonic() + plan.within
        self._longest = float(plan.seconds)
        """Seconds that a load has taken at most."""

    def late(self) -> bool:
        """Whether there is no time for another load."""
        return self._end is not None and time.monotonic() + self._longest > self._end

    @contextmanager
    def load(self) -> Iterator[None]:
        """Remember how long a load took."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._longest = max(self._longest, time.monotonic() - began)

    def measure(self, progress: Callable[[str], None]) -> None:
        """Go through all rounds, and weigh memory at the end."""
        hosts.prepare(self.lab)
        for number in range(self.plan.rounds):
            first = number % len(self.candidates)
            for candidate in (*self.candidates[first:], *self.candidates[:first]):
                place = f"round {number + 1} of {self.plan.rounds}, {candidate.name}"
                visit = _Visit(self, candidate, place, progress)
                visit.attempt("start", visit.measure)
            compare_with_routing({name: rounds[-1] for name, rounds in self.outcome.samples.items()})
        self._weigh(progress)

    def _weigh(self, progress: Callable[[str], None]) -> None:
        if not self.plan.idle_connections:
            self.outcome.remarks.append("memory: not measured in a quick run")
        elif (available := available_megabytes()) < _MEMORY_NEEDED:
            self.outcome.remarks.append(f"memory: not measured, {available:,.0f} MB are too few for all the sockets")
        else:
            for candidate in self.candidates:
                if candidate.program:
                    visit = _Visit(self, candidate, candidate.name, progress)
                    visit.attempt("memory", visit.weigh)


def compare_with_routing(latest: dict[str, Values]) -> None:
    """Enter how much slower than plain routing each candidate was in one round, where both are known."""
    base = latest.get("routing", {}).get("unloaded_p99_us")
    for name, values in latest.items():
        own = values.get("unloaded_p99_us")
        if name != "routing" and base is not None and own is not None:
            values["added_p99_us"] = own - base


class _Visit:
    """One candidate in one round."""

    def __init__(self, run: Run, candidate: Candidate, place: str, progress: Callable[[str], None]) -> None:
        self._run, self._candidate, self._place, self._progress = run, candidate, place, progress
        self._lab, self._seconds, self._room = run.lab, run.plan.seconds, run.room
        self._web, self._bulk = candidate.web(run.lab.topology), candidate.bulk(run.lab.topology)
        self._values: Values = {}
        run.outcome.samples[candidate.name].append(self._values)
        self._running: Running
        self._servers: WebServers

    def measure(self) -> None:
        """Start the candidate and put every load on it."""
        if self._run.late():
            self._leave_out("all of it")
            return
        with self._started(10_000):
            left_out = []
            for what, load in self._loads():
                if self._run.late():
                    left_out.append(what)
                    continue
                with self._run.load():
                    self.attempt(what, load)
        if left_out:
            self._leave_out("; ".join(left_out))

    def _loads(self) -> Iterator[tuple[str, Callable[[], None]]]:
        # First what is to find the candidate with nothing else to do: after thousands of connections it may tidy up.
        yield "requests, one at a time", self._one_at_a_time
        yield "bulk to the server", self._bulk_to_the_server
        yield "bulk to the client", self._bulk_to_the_client
        yield "bulk, 8 streams", self._bulk_of_8_streams
        yield "requests, kept alive", self._kept_alive
        yield "requests, a connection each", self._connection_each
        if (ask := self._running.ask) is not None:
            yield "where a packet's time goes", partial(self._where, ask)
        if self._candidate.udp:
            yield "datagrams", self._datagrams

    def weigh(self) -> None:
        """Start the candidate, open many connections through it, and see how its memory grows."""
        number = min(self._run.plan.idle_connections, self._candidate.most(self._room))
        with self._started(number):
            begin, empty = self._running.carried(), resident_kilobytes(self._lab)
            with loads.idle_connections(self._lab, self._web, number, self._room.files) as opened:
                for _ in every(0.2, 10):
                    if self._servers.active >= opened:
                        break
                arrived, carried = self._servers.active, self._running.carried() - begin
                if min(opened, arrived, carried) < number:
                    raise LabError(
                        f"of {number} connections {opened} were opened, {arrived} are open at the servers, "
                        f"{self._candidate.name} counts {carried}"
                    )
                full = resident_kilobytes(self._lab)
        self._values["rss_kb_per_connection"] = (full - empty) / number
        if number == _FULL:
            self._values["rss_mb_100k"] = full / 1000
        else:
            self._remark("memory", f"at {number:,} connections; one process may have {self._room.files:,} files open")

    def attempt(self, what: str, load: Callable[[], None]) -> None:
        """Do something that may fail; then there is a remark instead of a value."""
        self._progress(f"{self._place}: {what}")
        try:
            load()
        except (LabError, OSError, subprocess.SubprocessError) as error:
            self._remark(what, str(error))
            self._run.outcome.failed = True

    def _leave_out(self, what: str) -> None:
        self._remark(
            "left out",
            f"{what}: the time was up. '--only' measures fewer candidates, '--seconds {self._seconds}' takes the time",
        )

    # -- the loads

    def _bulk_to_the_server(self) -> None:
        before = Spent.so_far(self._lab)
        done = self._carried(lambda: loads.bulk(self._lab, self._bulk, self._seconds), 2)
        spent = Spent.so_far(self._lab).since(before).each(done.octets / 1e9)
        self._values["bulk_gbps"] = done.gbps
        self._values["cpu_s_per_gb"], self._values["machine_cpu_s_per_gb"] = spent.own, spent.machine

    def _bulk_to_the_client(self) -> None:
        done = self._carried(lambda: loads.bulk(self._lab, self._bulk, self._seconds, reverse=True), 2)
        self._values["bulk_reverse_gbps"] = done.gbps

    def _bulk_of_8_streams(self) -> None:
        done = self._carried(lambda: loads.bulk(self._lab, self._bulk, self._seconds, streams=8), 9)
        self._values["bulk8_gbps"] = done.gbps

    def _kept_alive(self) -> None:
        done = self._carried(lambda: loads.requests(self._lab, self._web, self._seconds), loads.CONNECTIONS)
        self._tell_errors("requests, kept alive", done)
        self._values["keepalive_rps"] = done.per_second
        self._values["keepalive_p50_us"], self._values["keepalive_p99_us"] = done.p50_us, done.p99_us

    def _connection_each(self) -> None:
        before, carried, accepted = Spent.so_far(self._lab), self._running.carried(), self._servers.accepted
        done = loads.requests(self._lab, self._web, self._seconds, close=True)
        spent = Spent.so_far(self._lab).since(before).each(max(1, done.done) / 10_000)
        self._insist(self._running.carried() - carried, done.done)
        if (reached := self._servers.accepted - accepted) < done.done:
            raise LabError(f"{done.done} requests were to have a connection each, {reached} reached the servers")
        self._tell_errors("requests, a connection each", done)
        self._values["connection_rps"] = done.per_second
        self._values["cpu_s_per_10k_connections"] = spent.own
        self._values["machine_cpu_s_per_10k_connections"] = spent.machine

    def _where(self, ask: Callable[[str], str]) -> None:
        """Let natlb look at itself, in a load of its own: looking takes some of the time."""
        ask("set profiling packets on")
        try:
            self._carried(lambda: loads.requests(self._lab, self._web, _LONGER * self._seconds), loads.CONNECTIONS)
            self._run.outcome.profiles.append(readings.profiling(ask("show profiling")))
        finally:
            ask("set profiling packets off")

    def _datagrams(self) -> None:
        done = self._carried(lambda: loads.datagrams(self._lab, self._bulk, self._seconds), 2)
        self._values["udp_pps"], self._values["udp_loss_percent"] = done.per_second, done.lost_percent

    def _one_at_a_time(self) -> None:
        done = self._carried(lambda: loads.requests(self._lab, self._web, self._seconds, connections=1, threads=1), 1)
        self._tell_errors("requests, one at a time", done)
        self._values["unloaded_p50_us"], self._values["unloaded_p99_us"] = done.p50_us, done.p99_us

    # -- what they share

    @contextmanager
    def _started(self, connections: int) -> Iterator[None]:
        """Run the candidate and the servers, which have room for so many connections; wait until they answer."""
        with (
            hosts.web_servers(self._lab, self._room, connections) as self._servers,
            self._candidate.run(self._lab, self._room) as self._running,
        ):
            self._await_answer()
            yield

    def _await_answer(self) -> None:
        program = self._running.program
        for _ in every(0.05, 10):
            if loads.answers(self._lab, self._web):
                return
            if program and not program.alive:
                break
        raise program.failure("does not answer") if program else LabError(f"no answer from {self._web}")

    def _carried(self, load: Callable[[], _Result], connections: int) -> _Result:
        """Run a load that makes at least so many connections, and ask the candidate whether it carried them."""
        before = self._running.carried()
        result = load()
        self._insist(self._running.carried() - before, connections)
        return result

    def _insist(self, carried: int, connections: int) -> None:
        if carried < connections:
            raise LabError(f"{self._candidate.name} counts {carried} of {connections} connections: this went elsewhere")

    def _tell_errors(self, what: str, done: readings.Requests) -> None:
        if done.errors:
            self._remark(what, ", ".join(f"{count} {kind}" for kind, count in done.errors) + f"; {done.done} answered")

    def _remark(self, what: str, words: str) -> None:
        self._run.outcome.remarks.append(f"{self._place}, {what}: {words}")
