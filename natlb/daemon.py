"""The running balancer: the only place where the parts meet.

`run` takes what the machine must lend (ports, queue, rules, settings) one after the other and gives it all back in the
reverse order, however it ends. In between one event loop does everything: packets in bounded batches, checks,
the stats socket, and the clock that ends silent connections. How the loop's work ends while connections are open is
told elsewhere: in `natlb.softstop`, and in `natlb.yielding`, when another natlb goes on with them.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import natlb
from natlb import notify, privileges, stats_sockets, transfer
from natlb.assembly import Assembly, Machine, assemble
from natlb.assembly import written as written_of
from natlb.background import write_pidfile
from natlb.bulletin import Bulletin
from natlb.command import Command
from natlb.config.model import Config
from natlb.core.events import ServerBypassed, ServerTried
from natlb.core.service import Service
from natlb.counts import Counts
from natlb.datapath import host
from natlb.datapath.backlog import Backlog
from natlb.datapath.diversion import Diversion, Rules, clear_leftovers, queues_in_use
from natlb.datapath.guard import Generation, Guard, Interfaces
from natlb.datapath.injector import Injector
from natlb.datapath.messages import LARGEST_PACKET
from natlb.datapath.nfqueue import PacketQueue
from natlb.datapath.reservation import Reservation, check_sources
from natlb.errors import ProcessError
from natlb.estate import Inherited, estate
from natlb.journals import journal_for
from natlb.lasting import lasting
from natlb.log import fault, listen, log, never_wait, notice
from natlb.metrics.address import Address
from natlb.metrics.registry import registry
from natlb.metrics.server import MetricsServer
from natlb.metrics.server import listen as listen_for_scrapes
from natlb.metrics.timing import LoopLag, Stopwatch
from natlb.offloading import Offloader, Wish
from natlb.profiling.profiler import Profiler
from natlb.reload import Reloader
from natlb.roster import Roster
from natlb.runtime.running import Running
from natlb.runtime.server import RuntimeServer
from natlb.runtime.vitals import Watch
from natlb.softstop import SoftStop
from natlb.states import States
from natlb.succession import Succession
from natlb.supervision import Supervisor
from natlb.telling import describe
from natlb.transfer import Offer, Predecessor
from natlb.yielding import Owner, Tenure, Yielding

_LENT_TO_THREADS = 5e-5
"""Seconds for which a thread that works beside the packets (rules made for the kernel, mostly) may keep the interpreter
when a packet has come: Python's own five milliseconds would come on top of every packet."""

_STOOD_STILL = 2.0
"""Seconds without a turn of the loop after which more was in the way than work: the machine was suspended, the process
stopped. Turns come every half second at least."""

_TURNS_TO_CATCH_UP = 256
"""Turns of the loop that the packets of that time have to be seen, at most: a full queue takes half of them."""

_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


class Daemon:
    """One configuration, running on one queue that is already held, with its packets already diverted."""

    def __init__(
        self,
        config: Config,
        made: Assembly,
        machine: Machine,
        packets: PacketQueue,
        backlog: Backlog,
        injector: Injector,
        reservation: Reservation,
        diversion: Diversion,
        offloader: Offloader,
        succession: Succession,
        offer: Offer | None,
        tenure: Tenure,
        command: Command | None,
        guard: Guard,
        get_ready: Callable[[], None],
        on_ready: Callable[[], None],
    ) -> None:
        self._config = config
        self._machine = machine
        self._reservation = reservation
        self._diversion = diversion
        self._offloader = offloader
        self._succession = succession
        self._offer = offer
        self._tenure = tenure
        self._reloader = Reloader(command, self._start) if command is not None and offer is not None else None
        self._guard = guard
        self._get_ready = get_ready
        self._on_ready = on_ready
        self._made = made
        self._engine = made.engine
        self._packets = packets
        self._injector = injector
        self._journal = journal_for(config, made.services)
        self._counts = Counts(packets, backlog, injector, guard, self._journal.sender if self._journal else None)
        self._process_batch: Callable[[], None] = packets.process_batch
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._states = States(config, made)
        self._accesses = stats_sockets.accesses(config)
        self._sockets: RuntimeServer
        self._supervisor: Supervisor
        self._roster: Roster
        self._profiler: Profiler
        self._watch = Watch(
            config.node or socket.gethostname(),
            config.description,
            natlb.__version__,
            natlb.__date__,
            listeners=lambda: len(reservation) + len(config.stats_sockets),
            dropped_logs=lambda: self._journal.sender.dropped if self._journal else 0,
        )
        self._soft_stop = SoftStop(
            config.process, made.engine, self._watch, self._states, self._settle, self._start, self._stopping.set
        )
        self._bulletin = Bulletin(made, packets, reservation, self._soft_stop)

    async def serve(
        self, scraped: tuple[str, socket.socket] | None, predecessor: Predecessor | None, inherited: Inherited
    ) -> None:
        """Balance until told to stop; metrics are to be read at `scraped`, an address and a socket, if there is one.

        A `predecessor` has yielded its place, and gets it back if anything fails from here on.
        """
        loop = asyncio.get_running_loop()
        for stop in _STOP_SIGNALS:
            loop.add_signal_handler(stop, self._stopping.set)
        loop.add_signal_handler(signal.SIGUSR1, self._soft_stop.begin)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._start(self._states.tell()))
        loop.add_signal_handler(signal.SIGUSR2, self._reloader.request if self._reloader is not None else _no_reload)
        loop.set_exception_handler(_on_internal_error)
        for pool in self._made.pools.values():
            pool.begin(time.monotonic())
        self._supervisor = Supervisor(self._config, self._made, self._settle, self._start)
        checks = self._supervisor.checks
        self._roster = Roster(self._config, self._made, self._machine, self._diversion, checks, self._start)
        for origin, sources in self._succession.origins.items():
            self._roster.retire([origin], sources)
        self._profiler = Profiler(lambda: self._packets.delivered)
        forget = listen(self._journal.tell) if self._journal is not None else lambda: None
        self._sockets = sockets = self._stats_sockets()
        metrics = self._metrics_server(scraped[1]) if scraped is not None else None
        try:
            if metrics is not None:
                await metrics.start()
            # From here on nothing else has its turn until the packets have theirs; and no command is obeyed, no thread
            # begins before privileges are lost.
            sockets.start(inherited.stats(self._accesses))
            inherited.close()
            self._get_ready()
            ends = predecessor is not None and predecessor.thank()
            self._tenure.owner = Owner.US
            for descriptor in self._packets.filenos():
                loop.add_reader(descriptor, self._on_packets)
            for work in (
                *(self._end_silent_connections, self._step, self._do_background_work, self._measure, self._record),
                *(self._guard.watch, self._bulletin.tell_the_manager),
            ):
                self._start(lasting(work))
            self._offloader.serve(self._start, self._settle)
            if self._offer is not None:
                self._yielding(self._offer, scraped).begin()
            if predecessor is not None:
                if predecessor.stood_still is not None:
                    notice(f"natlb {predecessor.pid} has handed over; packets waited {predecessor.stood_still:.3f} s")
                await predecessor.see_off(ends=ends)
                predecessor.close()
            notice(f"natlb is ready, {self._bulletin.answering()}")
            self._on_ready()
            notify.ready(self._bulletin.answering())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
            await self._stopping.wait()
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
            if not self._tenure.is_over:
                notify.stopping()
            self._stand_aside()
            self._profiler.stop()
            if metrics is not None:
                metrics.close()
            await self._supervisor.checks.close()
            forget()
            if self._journal is not None:
                self._journal.close()

    def _stand_aside(self) -> None:
        """Do nothing more of what the event loop has found to be ready: packets, commands, news of the kernel's.

        Whoever takes this one's place would not know what came of it.
        """
        loop = asyncio.get_running_loop()
        for descriptor in self._packets.filenos():
            loop.remove_reader(descriptor)
        self._offloader.stop()
        self._sockets.close(keep=self._tenure.is_over)
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    def _on_packets(self) -> None:
        self._process_batch()
        self._offloader.after_packets()
        self._settle()
        if self._packets.last_failure is not None:
            fault("a packet was dropped", self._packets.last_failure)
            self._packets.last_failure = None

    def _settle(self) -> None:
        """Do what the engine has to say beyond its verdicts: packets let go, packets of its own, news."""
        engine = self._engine
        while (release := engine.next_release()) is not None:
            self._packets.release(*release)
        while (packet := engine.next_packet()) is not None:
            self._injector.send(packet)
        while (event := engine.next_event()) is not None:
            if log.isEnabledFor(logging.DEBUG):
                log.debug("%s", describe(event))
            if self._journal is not None:
                self._journal.record(event)
            if isinstance(event, ServerTried):
                self._supervisor.observe(event)
            elif isinstance(event, ServerBypassed):
                if event.over:
                    self._supervisor.is_bypassed_no_longer(event.connection.server)
                else:
                    self._start(self._supervisor.look_into(event.connection))
        self._succession.settle()

    async def _end_silent_connections(self) -> None:
        engine, looked = self._engine, time.monotonic()
        while True:
            if time.monotonic() - looked > _STOOD_STILL:
                await self._hear_what_waits()
            looked = now = time.monotonic()
            engine.handle_timeout(now)
            self._settle()
            due = engine.next_timeout()
            # Connections that open meanwhile may be due earlier: never sleep long.
            await asyncio.sleep(min(0.5, max(0.0, due - now)) if due is not None else 0.5)

    async def _hear_what_waits(self) -> None:
        """Look at packets that came while we stood still, before anybody is taken for silent.

        The event loop may not have seen yet that there are any: its waiting is over when the process goes on, and then
        it does what is due before it looks.
        """
        for _ in range(_TURNS_TO_CATCH_UP):
            self._on_packets()
            if not self._packets.had_more:
                break
            await asyncio.sleep(0)

    async def _step(self) -> None:
        """Let slow starts go on, and forget what has waited or stuck for too long: a few at a time."""
        while True:
            for pool in self._made.pools.values():
                pool.step(time.monotonic())
                await asyncio.sleep(0)
            for table in self._made.tables.values():
                while table.tidy(time.monotonic()):
                    await asyncio.sleep(0)
            await asyncio.sleep(0.5)

    async def _do_background_work(self) -> None:
        """Do what schedulers have left to do, a little at a time, so that no packet waits for it."""
        while True:
            working = any(pool.work() for pool in self._made.pools.values())  # of one pool at a time
            await asyncio.sleep(0 if working else 0.05)

    async def _measure(self) -> None:
        """Take a reading of how busy the process is, and of what was too much for it, once a second."""
        while True:
            await asyncio.sleep(1.0)
            self._counts.tell_of_losses()
            for service in self._made.services:
                for _ in service.settling():
                    await asyncio.sleep(0)
            carried = sum(service.carried for service in self._made.services)
            self._watch.sample(carried)

    async def _record(self) -> None:
        """Bring the records of connections up to date, a few at a time, about once a second or as often as it goes."""
        while True:
            await asyncio.sleep(1.0)
            for pause in self._succession.refresh():
                await asyncio.sleep(pause)

    def _on_shutdown(self, service: Service) -> None:
        """A frontend has been shut down: its ports are anybody's, as its packets are the kernel's again."""
        self._reservation.release(service.name)
        self._states.tell_of_stopped(service.name)

    def _yielding(self, offer: Offer, scraped: tuple[str, socket.socket] | None) -> Yielding:
        """Prepare to hand everything on to whoever comes for it."""
        packets, ports, sockets, offloader = self._packets, self._reservation, self._sockets, self._offloader
        return Yielding(
            offer,
            self._tenure,
            self._reloader,
            self._succession,
            self._diversion,
            self._guard,
            self._roster,
            offloader,
            estate=lambda: estate(
                packets.holdings, ports.holdings, sockets.holdings, scraped, offloader.maps, offer.socket
            ),
            catch_up=self._on_packets,
            stand_aside=self._stand_aside,
            answering=self._bulletin.answering,
            start=self._start,
            stop=self._stopping.set,
        )

    def _stats_sockets(self) -> RuntimeServer:
        made, config = self._made, self._config
        running = Running(
            made.engine,
            made.services,
            made.pools,
            time.monotonic,
            self._roster,
            self._supervisor.checks,
            counters=self._counts.by_name,
            profiler=self._profiler,
            afterwards=self._settle,
            on_shutdown=self._on_shutdown,
            on_admin=self._supervisor.on_admin,
            on_weight=self._supervisor.look_at,
            tables=made.tables,
            proxies=made.proxies,
            written=written_of(config),
            vitals=self._watch.vitals,
            version=f"natlb {natlb.__version__}",
            environ=os.environ,
            sockets=[(str(access), access.level) for access in self._accesses],
            offloader=self._offloader,
        )
        return stats_sockets.server_for(self._accesses, config, running)

    def _metrics_server(self, listening: socket.socket) -> MetricsServer:
        """Prepare to be scraped. Only then is it measured what is measured for that alone."""
        packets = self._packets
        stopwatch, lag = Stopwatch(packets.process_batch, lambda: packets.delivered), LoopLag()
        self._process_batch = stopwatch
        self._start(lag.watch())
        sources = self._counts.sources(self._made, self._supervisor.checks, self._offloader, stopwatch, lag)
        return MetricsServer(listening, registry(sources))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            fault("a task ended", error)


def _get_ready(config: Config, pidfile: str | None) -> None:
    """Do what is left when everything is set up: the last that root is needed for, and the last that can fail."""
    if pidfile is not None:
        write_pidfile(pidfile)
    privileges.drop(config.process.uid, config.process.gid)


def _no_reload() -> None:
    log.warning("SIGUSR2: with --state off no other natlb can take this one's place; start one with -sf or -st")


def run(
    config: Config,
    queue_number: int,
    *,
    metrics: Address | None = None,
    unsegmented: bool = True,
    offload: Wish = "off",
    state: str = "off",
    command: Command | None = None,
    succeeded: Sequence[int] = (),
    pidfile: str | None = None,
    on_checked: Callable[[Sequence[int]], None] = lambda _: None,
    on_ready: Callable[[], None] = lambda: None,
) -> list[int] | None:
    """Run a configuration until a signal ends it. Raises NatlbError, with the machine as before, if it cannot start.

    Return None, or, when this process is to stay as the keeper of its child, which goes on from here, the signals that
    came for that one meanwhile.

    Metrics can be read at the address `metrics`. `unsegmented` is whether to ask for packets as they travel inside the
    kernel, see `natlb.datapath.nfqueue`. `offload` is whether the kernel is to carry packets by itself, see
    `natlb.offloading`. `state` is the directory for what the next natlb needs to go on from here, or "off". Those that
    are `succeeded` are processes whose place is to be taken; `command` is how this one was started. `on_checked` is
    called before anything is taken from the machine, when as much is checked as can be without that, with those of them
    that cannot hand over what they have and must end before. `on_ready` is called once packets may come, with the
    process's number in `pidfile`, if one is named.
    """
    host.check_privileges()
    place = None if state == "off" else transfer.place(state, queue_number)
    with contextlib.ExitStack() as lent:
        predecessor = transfer.find(place, succeeded) if place is not None else None
        if predecessor is not None:
            lent.enter_context(predecessor)
        machine = _machine()
        made = assemble(config, machine)
        check_sources(made.asked_sources)
        made.engine.largest_packet = LARGEST_PACKET
        on_checked([pid for pid in succeeded if predecessor is None or not predecessor.is_known_as(pid)])
        # A signal while things are being set up or given back waits until that is done.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        lent.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
        tenure = Tenure(Owner.US if predecessor is None else Owner.PREDECESSOR)
        inherited = Inherited(predecessor.estate() if predecessor is not None else {})
        lent.callback(inherited.close)
        scraped = None
        if metrics is not None:
            scraped = str(metrics), inherited.metrics(str(metrics)) or listen_for_scrapes(metrics)
            lent.callback(scraped[1].close)
            notice(f"metrics can be read at http://{metrics}/metrics")
        reservation = lent.enter_context(Reservation(made.addresses, inherited.ports()))
        injector = Injector()
        lent.callback(injector.close)
        succession = Succession(made, queue_number, state)
        # What is completed for a successor is his already, and what there was of a predecessor's is in the new file.
        lent.callback(lambda: succession.close(keep=tenure.owner is Owner.SUCCESSOR))
        offer = _offer(place, inherited)
        if offer is not None:
            lent.callback(lambda: offer.close(keep=tenure.is_over))
        offloader = Offloader(made, queue_number)
        # A fast path that the natlb before did not have is not left to it.
        lent.callback(
            lambda: offloader.close(keep=tenure.is_over and (tenure.owner is Owner.SUCCESSOR or offloader.inherited))
        )
        offloader.prepare(offload, inherited.maps())
        clear_leftovers(queues_in_use() | {queue_number}, notice)
        generation, interfaces = Generation(), Interfaces()
        lent.callback(generation.close)
        lent.callback(interfaces.close)
        found = Rules(generation.read)
        rules = ""
        if predecessor is not None:
            # What can be done while packets do not wait yet.
            predecessor.ask_to_record()
            succession.prepare()
            rules = predecessor.ask_to_yield()
        packets = PacketQueue(
            queue_number,
            made.engine.handle_packet,
            injector.send,
            unsegmented=unsegmented,
            inherited=inherited.queues(queue_number),
        )
        lent.callback(lambda: packets.close(keep=tenure.is_over))
        backlog = Backlog(packets.numbers, inherited=predecessor is not None)
        lent.callback(backlog.close)
        if predecessor is not None and packets.unsegmented != unsegmented:
            notice(
                "packets come as they came to the natlb before: --no-gso takes effect when natlb is stopped and started"
            )
        elif unsegmented and not packets.unsegmented:
            notice("this kernel hands over no unsegmented packets: bulk data will be slower, as with --no-gso")
        succession.restore()
        addresses = [*(endpoint for _, endpoint in made.addresses), *succession.addresses]
        servers = [*made.servers, *succession.origins]
        sources = set(made.sources).union(*succession.origins.values())
        diversion = Diversion(queue_number, addresses, servers, notice, sources, found=found, handed_over=rules)
        lent.callback(lambda: diversion.close(keep=tenure.is_over))
        guard = Guard(diversion, generation.read, interfaces.have_changed)
        offloader.begin()
        # A full collection would walk the table, for a tenth of a second and more, and find nothing: what a connection
        # refers to does not refer to it.
        gc.freeze()
        gc.set_threshold(700, 10, 1 << 30)
        sys.setswitchinterval(_LENT_TO_THREADS)
        daemon = Daemon(
            config,
            made,
            machine,
            packets,
            backlog,
            injector,
            reservation,
            diversion,
            offloader,
            succession,
            offer,
            tenure,
            command,
            guard,
            partial(_get_ready, config, pidfile),
            on_ready,
        )
        with never_wait():
            asyncio.run(daemon.serve(scraped, predecessor, inherited))
    if tenure.noted is None:
        notice("natlb has stopped")
    return tenure.noted


def _offer(place: Path | None, inherited: Inherited) -> Offer | None:
    """Offer everything to a successor; without a place for that, one will have to wait for this natlb's end."""
    if place is None:
        return None
    try:
        return Offer(place, inherited.offer())
    except ProcessError as error:
        log.warning("no other natlb will be able to go on from where this one is: %s", error)
        return None


def _machine() -> Machine:
    """Look at the machine that we are on."""
    networks = host.connected_networks()
    return Machine(
        networks=tuple((network, own) for network, own, _ in networks),
        own_addresses=frozenset().union(*host.addresses_by_interface().values()),
        ephemeral_ports=host.ephemeral_ports(),
        preferred_source=cache(host.preferred_source),
    )


def _on_internal_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # Without what a callback was called with: it is the same error for all that.
    fault(context["message"].partition("(")[0], context.get("exception"))
