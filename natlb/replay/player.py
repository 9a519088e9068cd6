"""Packets of a capture, one after the other, through the engine.

What the daemon does around a live engine is done here around this one: time passes, what was silent for too long ends,
fragments are let go, and what the engine has to say is told. Time is the capture's. It never goes back: a packet with a
time before that of the one before it, as in captures from several processors, comes at that one's time.

All connections of the engine are `logged` here, since that makes it tell the most.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from natlb.assembly import Assembly
from natlb.captures.files import Record
from natlb.captures.packets import Captured, captured
from natlb.core.events import ConnectionClosed, ConnectionOpened, ConnectionRefused, Event, ServerBypassed
from natlb.core.flow import Connection, FlowKey, ends
from natlb.core.icmp import is_error
from natlb.core.packet import TCP, Kind, PacketView
from natlb.core.states import FINISHED, State
from natlb.core.tcp import Segment, segment_of
from natlb.core.verdict import Accept, Drop, Hold, Reply, Rewrite, Verdict
from natlb.replay.copies import Acquaintances, Copies
from natlb.replay.history import Entry, Fate, Value, ending, opening, ways
from natlb.replay.lent import Lent

_STRAY: Final = "it belongs to no connection, and opens none"

_STEP: Final = 0.5
"""Seconds after which pools are told that time has passed, as by the daemon."""


@dataclass(slots=True)
class Step:
    """What happened with one packet."""

    fate: Fate
    captured: Captured | None = None
    """As it is afterwards; None where there was nothing to follow."""
    before: bytes = b""
    """The packet as it came."""
    verdict: Verdict | None = None
    """The engine's; None where it was not asked."""
    key: FlowKey | None = None
    """The tuple that it came with, if it has one."""
    connection: Connection | None = None
    """The one that it belongs to now; what it opened, or ended, included."""
    state: tuple[State | None, State | None] = (None, None)
    """That connection's before and after."""
    refused: ConnectionRefused | None = None
    """Why no server took it, where that is so."""
    denied: bool = False
    """Whether a rule has rejected it."""
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class _Known:
    number: int
    state: State
    packet: int | None
    """The one that opened it."""


class Player:
    """One engine, and the packets that it has been given."""

    def __init__(
        self,
        made: Assembly,
        tell: Callable[[Entry], None] = lambda _: None,
        send: Callable[[int, bytes | bytearray, int], None] = lambda *_: None,
        on_packet: Callable[[FlowKey | None], None] = lambda _: None,
        lent: Lent | None = None,
    ) -> None:
        """Begin. `tell` is told the history; `send` gets what natlb sends: when, what of it is known, its whole size.

        `on_packet` is called before the engine is asked about a packet, with its tuple, if it has one. `lent`
        is what is known of the ports that full NAT has lent live.
        Where the engine has no own addresses they are not known: what is bound to any address is bound to every one.
        """
        self.fates: Counter[Fate] = Counter()
        """The packets of the capture, those held back included until they are let go."""
        self.closed: Counter[str] = Counter()
        """Connections that ended, by reason."""
        self.opened = 0
        """Connections."""
        self.sent = 0
        """Packets that natlb sent, those of its own accord included."""
        self.strays = 0
        """Segments of TCP that belong to no connection and open none: theirs may have begun before the capture."""
        self.late = 0
        """Packets with a time before that of the one before."""
        self.cut = 0
        """Packets that the capture has cut short."""
        self.first: int | None = None
        """When the first packet came, in nanoseconds since the epoch."""
        self.last = 0
        """When the last one came."""
        self.copies: Final = Copies()
        self.different: int | None = None
        """The first packet that is `Fate.DIFFERENT`."""
        self._made = made
        self._own = made.engine.own_addresses
        self._engine = made.engine
        self._tell = tell
        self._send = send
        self._on_packet = on_packet
        self._lent = lent or Lent()
        self._view = PacketView()
        self._numbers = count(1)
        self._known: dict[Connection, _Known] = {}
        self._held: dict[int, Captured] = {}
        self._stepped = 0.0
        self._packet: int | None = None
        self._acquaintances = Acquaintances(
            frozenset(((each.address.packed, each.port.to_bytes(2, "big")), each.protocol) for each in made.servers)
        )
        for service in made.services:
            service.logged = True

    def play(self, record: Record) -> Step:
        """Let time pass until a packet came, and decide about it."""
        found = captured(record)
        self._begin(record.at)
        if not isinstance(found, Captured):
            return self._done(Step(Fate.FOREIGN if found is None else Fate.SHORT))
        self.cut += found.known < len(found.packet)
        self._packet = record.number
        self._pass_time(self.now)
        step = self._decide(found)
        self._settle(step)
        self._watch(step.connection)
        self._packet = None
        if step.connection is not None:
            known = self._known.get(step.connection)
            step.state = step.state[0], known.state if known else step.connection.state
        return self._done(step)

    def number_of(self, connection: Connection) -> int:
        """Return the number of a connection in the history."""
        return self._known[connection].number

    def opened_by(self, connection: Connection) -> int | None:
        """Return the packet that opened a connection."""
        return self._known[connection].packet

    def finish(self) -> None:
        """Tell which connections are still there, and what the capture came to."""
        for connection in self._engine.connections():
            if connection.state not in FINISHED:
                self._entry("open", connection, ending(self._engine.ledger, connection, self.now))
        self._entry("end", None, self.summary())

    def summary(self) -> dict[str, Value]:
        """Return the counters, by name."""
        seconds = 0.0 if self.first is None else (self.last - self.first) / 1e9
        return {
            "packets": self.fates.total(),
            "seconds": round(seconds, 6),
            "fates": {fate.name.lower(): self.fates[fate] for fate in Fate if self.fates[fate]},
            "drops": dict(sorted((reason.name.lower(), number) for reason, number in self._engine.drops.items())),
            "sent": self.sent,
            "seen": self.copies.seen,
            "different": self.different,
            "cut": self.cut,
            "late": self.late,
            "strays": self.strays,
            "opened": self.opened,
            "closed": dict(sorted(self.closed.items())),
            "open": self._engine.live,
        }

    # One packet

    @property
    def now(self) -> float:
        """The engine's clock: seconds since the first packet."""
        return (self.last - (self.first or 0)) / 1e9

    def _begin(self, at: int) -> None:
        if self.first is None:
            self.first = self.last = at
            for pool in self._made.pools.values():
                pool.begin(0.0)
        if at < self.last:
            self.late += 1
        self.last = max(self.last, at)

    def _decide(self, found: Captured) -> Step:
        packet, view = found.packet, self._view
        before = bytes(packet)
        kind = view.read(packet)
        has_tuple = kind in (Kind.TCP, Kind.UDP) or (kind is Kind.FRAGMENT and not view.offset)
        key = view.key if has_tuple else None
        step = Step(Fate.PASSED, found, before, None, key)
        if found.outgoing is not False and self.copies.has(packet):
            step.fate = Fate.COPY
            return step
        if not found.outgoing:
            self._ask(step, found)
        if step.fate is Fate.PASSED and key and (original := self._acquaintances.behind(key)) is not None:
            step.fate = Fate.DIFFERENT
            step.connection = self._engine.table.find(original)
            self.different = self.different or found.number
        return step

    def _ask(self, step: Step, found: Captured) -> None:
        """Let the engine decide, unless the kernel would not have handed the packet over."""
        engine, key = self._engine, step.key
        before = engine.table.find(key) if key else None
        if before is None and self._own and key is not None and not self._is_here(ends(key)[1][0]):
            return
        self._on_packet(key)
        if before is None:
            engine.expect_port(self._lent.port_for(found.packet))
        state, denied = before.state if before else None, self._denied()
        step.verdict = engine.handle_packet(found.packet, self.now, unfinished=found.unfinished)
        step.denied = self._denied() > denied
        step.fate = self._obey(step.verdict, found)
        after = engine.table.find(key) if key else None
        if after is not None and after is not before and after.has_own_port:
            self._lent.took(int.from_bytes(ends(after.reply)[1][1], "big"))
        step.connection = after or before
        step.state = state if step.connection is before else None, None

    def _is_here(self, address: bytes) -> bool:
        """Whether packets to an address are for this machine, or for an address that is bound by its name."""
        return address in self._own or self._engine.addresses.owns(address)

    def _denied(self) -> int:
        return sum(service.denied for service in self._made.services)

    def _obey(self, verdict: Verdict, found: Captured) -> Fate:
        match verdict:
            case Rewrite(payload):
                whole = found.known == len(payload)
                if found.unfinished and whole and self._view.read(payload) in (Kind.TCP, Kind.UDP):
                    self._view.finish_checksum()
                self._sent(payload, found.known)
                return Fate.REWRITTEN
            case Reply(answer):
                self._sent(answer, len(answer))
                return Fate.ANSWERED
            case Drop():
                return Fate.DROPPED
            case Hold(ticket):
                self._held[ticket] = found
                return Fate.HELD
            case Accept():
                return Fate.PASSED

    def _sent(self, packet: bytes | bytearray, known: int) -> None:
        self.sent += 1
        self.copies.sent(packet)
        self._send(self.last, packet[:known], len(packet))

    def _done(self, step: Step) -> Step:
        self.fates[step.fate] += 1
        return step

    # Time

    def _pass_time(self, now: float) -> None:
        """Do what was due by now."""
        engine, latest = self._engine, self.last
        while (due := engine.next_timeout()) is not None and due <= now:
            # What happens then happens at that time, between two packets.
            self.last = (self.first or 0) + round(due * 1e9)
            packet, self._packet = self._packet, None
            engine.handle_timeout(due)
            self._settle(None)
            self._packet = packet
        self.last = latest
        if now - self._stepped >= _STEP:
            self._stepped = now
            for pool in self._made.pools.values():
                pool.step(now)
                while pool.work():
                    pass

    # What the engine has to say

    def _settle(self, step: Step | None) -> None:
        engine = self._engine
        while (release := engine.next_release()) is not None:
            ticket, verdict = release
            held = self._held.pop(ticket)
            self.fates[Fate.HELD] -= 1
            fate = self._obey(verdict, held)
            self.fates[fate] += 1
            reason = verdict.reason.value if isinstance(verdict, Drop) else None
            self._entry("released", None, {"held": held.number, "fate": fate.name.lower(), "reason": reason})
        while (packet := engine.next_packet()) is not None:
            self._sent(packet, len(packet))
            self._entry("sent", None, {"what": "RST", **ways(packet)})
        while (event := engine.next_event()) is not None:
            if step is not None:
                step.events.append(event)
            self._record(event, step)
        if step is not None:
            self._tell_of(step)

    def _record(self, event: Event, step: Step | None) -> None:
        if isinstance(event, ConnectionRefused):
            if step is not None:
                step.refused = event
            return
        connection = event.connection
        if isinstance(event, ConnectionOpened):
            self.opened += 1
            self._acquaintances.meet(connection.original)
            self._tidy()
            begun = State.INIT if connection.original[-1] == TCP else State.ONE_WAY
            self._known[connection] = _Known(next(self._numbers), begun, self._packet)
            self._entry("opened", connection, opening(connection))
            if step is not None:
                step.connection = connection
        self._watch(connection)
        if isinstance(event, ServerBypassed) and not event.over:
            self._entry("bypassed", None, {"server": connection.server.name})
        if isinstance(event, ConnectionClosed):
            self.closed[event.reason.name.lower()] += 1
            told = ending(self._engine.ledger, connection, self.now)
            self._entry("closed", connection, {"reason": event.reason.value, **told})

    def _watch(self, connection: Connection | None) -> None:
        """Tell if the state of a connection is another than it was."""
        known = self._known.get(connection) if connection is not None else None
        if connection is None or known is None or connection.state is known.state:
            return
        before, known.state = known.state, connection.state
        self._entry("state", connection, {"from": before.value, "to": connection.state.value})

    def _tell_of(self, step: Step) -> None:
        """Tell of a packet that was not simply sent on."""
        match step.verdict:
            case Drop(reason):
                told = {"reason": reason.value, "name": reason.name.lower(), **ways(step.before, step.key)}
                self._entry("dropped", step.connection, told)
            case Reply(answer):
                why = self.why_answered(step)
                self.strays += why is _STRAY
                told = {"what": kind_of(answer), "why": why, **ways(step.before, step.key)}
                self._entry("answered", step.connection, told)
            case Hold():
                self._entry("held", None, {})
        if step.fate is Fate.DIFFERENT:
            self._entry("different", step.connection, dict(ways(step.before, step.key)))

    def why_answered(self, step: Step) -> str:
        """Return why a packet got its answer from natlb itself."""
        if step.key is None:
            return "it asks whether a virtual address is there"
        if step.denied:
            return "a rule rejects it"
        if step.refused is not None:
            return "it has no backend" if step.refused.pool is None else step.refused.reason.value
        if step.state[0] is State.SHUT:
            return "its connection was ended here"
        if step.key[-1] == TCP and self._view.read(bytearray(step.before)) is Kind.TCP:
            return "nothing more is known" if segment_of(self._view.flags) is Segment.SYN else _STRAY
        return _STRAY

    def _tidy(self) -> None:
        """Forget the numbers of connections that are not in the table any more, now and then."""
        if len(self._known) > 2 * len(self._engine) + 4096:
            self._known = {
                each: known for each, known in self._known.items() if self._engine.connection(each.index) is each
            }

    def _entry(self, event: str, connection: Connection | None, told: dict[str, Value]) -> None:
        known = self._known.get(connection) if connection is not None else None
        since = self.last - (self.first or 0)
        self._tell(Entry(event, self.last, since, self._packet, known.number if known else None, told))


def kind_of(answer: bytes) -> str:
    """Return what an answer of natlb's own is."""
    view = PacketView()
    if view.read(bytearray(answer)) is Kind.TCP:
        return "a RST"
    return "an ICMP error" if is_error(view) else "an echo reply"
