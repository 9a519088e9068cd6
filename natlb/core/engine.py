"""The one public door: a packet and a clock reading go in, a verdict comes out.

`handle_packet` sees every packet, and here are the ways that packets go. The way of a TCP segment is `_segment`, which
reads from top to bottom: find the connection by its tuple, move its state, rewrite, done. UDP goes by `_datagram`, ICMP
by `_message`, fragments by `_fragment`, which leads the first one of a datagram by the ways above and the others after
it. What belongs to no connection goes by `_first_segment` or `_first_datagram`, and asks `natlb.core.admission`: may it
open one, to which server, and does that server see the client or us? What a way wants to become of a connection is done
by `natlb.core.lifecycle`.

Nearly all packets move no state, and are done with before that, by `natlb.core.shortcut`. It does nothing that is not
done here as well, in less than half of the time that it takes here.

Time is an argument everywhere: `now` is seconds on any clock that never goes backwards. Whoever drives the engine
calls `handle_timeout` when `next_timeout` has come, draws what happened with `next_event`, sends what the engine says
of its own accord with `next_packet`, and lets go of what was held back with `next_release`. Nothing in here raises on a
packet: what cannot be handled is a `Drop` with a reason, counted in `drops`.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from natlb.core import answers
from natlb.core.addresses import OwnAddresses, is_host
from natlb.core.admission import Admission, Refusal
from natlb.core.bookkeeping import Books
from natlb.core.events import EndReason, Event, ServerBypassed, ServerTried
from natlb.core.eviction import Eviction
from natlb.core.flow import OFFLOADED, Connection, Direction, ends, reverse
from natlb.core.fragments import Fate, Fragments, Led
from natlb.core.icmp import is_echo_request, is_error, quoted
from natlb.core.lifecycle import Lifecycle
from natlb.core.offloading import Change, Offloading
from natlb.core.opening import Past
from natlb.core.packet import ACK, SYN, TCP, TRANSPORT_CHECKSUM, UDP, Kind, PacketView
from natlb.core.patience import Patience
from natlb.core.pool import Server
from natlb.core.ports import Lender, last
from natlb.core.resumption import Resumption
from natlb.core.service import VirtualAddresses
from natlb.core.shortcut import Shortcut
from natlb.core.states import FINISHED, HALF_OPEN, State
from natlb.core.table import Table
from natlb.core.tcp import TRANSITIONS, Segment, segment_of
from natlb.core.verdict import Accept, Drop, DropReason, Hold, Reply, Rewrite, Verdict
from natlb.core.window import Window

DEFAULT_CAPACITY: Final = 262_144
"""Entries of the table, finished ones included: what Linux's conntrack allows itself on a machine of 4 GB."""

HALF_OPEN_SHARE: Final = 4
"""Half-open connections may take up to one in so many entries of the table."""

RETRY_AFTER: Final = 0.5
"""Seconds after a SYN from which the same SYN is the client's next try, and not the network's copy of the last one."""

BYPASSED_AFTER: Final = 3
"""Connections in a row that a server has not answered through here, until that is told."""

MOST_ERRORS_PER_SECOND: Final = 1000
"""ICMP errors that are sent in a second: a bound is required (RFC 4443, section 2.4 f), and this is Linux's."""

_EXPIRIES_PER_CALL: Final = 32
"""How many connections one `handle_timeout` ends, so that a million ending together do not stop the packets: with the
RSTs for both sides that are sent then, it is a millisecond's work."""

# Looking up a member of an enumeration takes ten times as long as looking up a name of our own.
_INIT, _SYN_RECEIVED, _ESTABLISHED, _SHUT = State.INIT, State.SYN_RECEIVED, State.ESTABLISHED, State.SHUT
_CLIENT_FIN, _SERVER_FIN = State.CLIENT_FIN, State.SERVER_FIN
_ONE_WAY, _BOTH_WAYS = State.ONE_WAY, State.BOTH_WAYS
_SYN, _SYN_ACK, _FIN, _RST, _DATA = Segment.SYN, Segment.SYN_ACK, Segment.FIN, Segment.RST, Segment.DATA
_ORIGINAL, _REPLY = Direction.ORIGINAL, Direction.REPLY
_ACCEPT = Accept()
_DROPS = {reason: Drop(reason) for reason in DropReason}


class NatEngine:
    """The NAT of all services: connections, their states, their timeouts."""

    def __init__(
        self,
        addresses: VirtualAddresses,
        *,
        max_connections: int | None = None,
        capacity: int = DEFAULT_CAPACITY,
        half_open_capacity: int | None = None,
        choose_port: Callable[[int], int] = last,
    ) -> None:
        """Serve the given addresses, with at most `max_connections` open at once over all services.

        `capacity` bounds the entries of the table, which also holds finished connections for late packets.
        `half_open_capacity` bounds those of them that are half-open. `choose_port` is for full NAT, see `Lender`.
        """
        self.addresses = addresses
        self.capacity: Final = capacity
        """The most entries of the table."""
        self.own_addresses: Final = OwnAddresses()
        """The balancer's own: what a server answers to them comes here anyway, so they need no full NAT."""
        self.largest_packet: int | None = None
        """Bytes of the largest packet that can be handed in, where larger ones are on their way; None is no limit."""
        self.drops: Counter[DropReason] = Counter()
        """Packets thrown away, by reason."""
        self.table: Final = Table(capacity, half_open_capacity or max(1, capacity // HALF_OPEN_SHARE))
        """The entries and their bounds. For reading."""
        self._find = self.table.find
        self.ledger: Final = self.table.ledger
        """What is counted of each connection, at its `index`. For reading."""
        self._window = Window(self.ledger)
        self._view = PacketView()
        self.fragments: Final = Fragments()
        """The datagrams that come in fragments. For reading."""
        self._lender = Lender(choose_port)
        self._patience = Patience()
        self.books: Final = Books()
        """Where connections are entered in the statistics."""
        self._served: Connection | None = None
        """Whose the last packet was that was rewritten here."""
        self._errors_in_second = (0, 0)
        self.offloading: Final = Offloading(self.table, self._move_unseen, self.own_addresses.is_local)
        """Which connections' packets are handled elsewhere, and by whom."""
        self._events: deque[Event] = deque()
        self.lifecycle: Final = Lifecycle(self.table, self._lender, self.books, self.offloading, self._events)
        """What becomes of connections."""
        eviction = Eviction(self.table, self.lifecycle, self.offloading, self._patience)
        self.admission: Final = Admission(
            self.table,
            self.lifecycle,
            eviction,
            self.offloading,
            self._lender,
            self.books,
            self.own_addresses,
            self._events,
            max_connections,
        )
        """Who may open a connection: the limits over all services stand there."""
        self.resumption: Final = Resumption(self.table, self.lifecycle, self._lender)
        """What is taken over from an earlier engine."""
        self.closed: Final = self.lifecycle.closed
        """Connections that have ended, by reason."""
        short_way = Shortcut(self.table, self.lifecycle.refresh)
        self._shortcut: Callable[[bytearray, float, bool], Rewrite | None] = short_way.carry
        self._packets: deque[bytes] = deque()
        self._releases: deque[tuple[int, Verdict]] = deque()

    # What the outside asks

    def handle_packet(self, packet: bytearray, now: float, unfinished: bool = False) -> Verdict:
        """Decide about one IP packet, which may be rewritten in place; `now` is in seconds.

        `unfinished` is whether its transport checksum is, see `PacketView`; then it still is afterwards. The verdict
        holds until the next packet comes: another may be given in the same object.
        """
        # -- parse
        return self._shortcut(packet, now, unfinished) or self._lead(packet, now, unfinished)

    def _lead(self, packet: bytearray, now: float, unfinished: bool) -> Verdict:
        """Decide about any packet in the general way."""
        # -- parse
        view = self._view
        view.unfinished = unfinished
        kind = view.read(packet)
        if kind is Kind.TCP:
            return self._segment(view, now)
        if kind is Kind.UDP:
            return self._datagram(view, now)
        if kind is Kind.FRAGMENT:
            return self._fragment(view, now)
        if kind is Kind.ICMP:
            return self._message(view)
        return _ACCEPT if kind is Kind.OTHER else self._drop(kind)

    def handle_timeout(self, now: float) -> None:
        """End what has been silent for too long. Bounded work: call again while it is still time."""
        for connection in self.table.expired(now, _EXPIRIES_PER_CALL):
            if connection.offloaded and not self.offloading.is_silent(connection, now):
                continue
            if connection.state in (_ESTABLISHED, _CLIENT_FIN, _SERVER_FIN):
                self.shutdown(connection, now, EndReason.TIMED_OUT)
            else:
                if connection.state is _INIT and connection.server.observed and self._asked_once(connection):
                    self._events.append(ServerTried(connection, answered=False))
                self.lifecycle.end(connection, EndReason.TIMED_OUT, now)
        for waiting in self.fragments.expired(now):
            self._let_go(waiting, DropReason.FRAGMENT_TIMEOUT)

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` has something to do, or None while there is nothing to wait for."""
        due = [at for at in (self.table.next_deadline(), self.fragments.next_deadline()) if at is not None]
        return min(due, default=None)

    def next_event(self) -> Event | None:
        """Return the oldest event not yet drawn, or None."""
        return self._events.popleft() if self._events else None

    def next_packet(self) -> bytes | None:
        """Return the next packet that the engine wants sent of its own accord, whole, or None."""
        return self._packets.popleft() if self._packets else None

    def next_release(self) -> tuple[int, Verdict] | None:
        """Return the ticket of a packet that was held back, and what becomes of it now; or None."""
        return self._releases.popleft() if self._releases else None

    def shutdown(self, connection: Connection, now: float, reason: EndReason = EndReason.SHUT_DOWN) -> None:
        """End a connection of the table at once: both sides of a TCP connection are sent a RST that they accept."""
        self.offloading.withdraw(connection, now)
        if connection.state in FINISHED:
            return
        if connection.original[-1] == UDP:
            self.lifecycle.end(connection, reason, now)
            return
        vip, client = ends(reverse(connection.original))
        client_as_seen, server = ends(reverse(connection.reply))
        for direction, source, destination in (
            (_REPLY, vip, client),
            (_ORIGINAL, client_as_seen, server),
        ):
            numbers, acknowledged = self._window.expected(connection, direction)
            for number in numbers:
                self._packets.append(
                    answers.reset(source[0], destination[0], source[1] + destination[1], number, acknowledged)
                )
        self.lifecycle.move(connection, _SHUT, now, reason)

    def shutdown_server(self, server: Server, now: float, among: Iterable[Connection] | None = None) -> int:
        """Shut down all connections to a server, or those in a piece of the table; return how many there were."""
        affected = [
            each
            for each in (self.table if among is None else among)
            if each.server is server and each.state not in FINISHED
        ]
        for connection in affected:
            self.shutdown(connection, now)
        return len(affected)

    def connections(self) -> Iterator[Connection]:
        """Go over all connections of the table, finished ones included. Only the one handed out may end meanwhile."""
        return iter(self.table)

    def pieces(self, most: int) -> Iterator[list[Connection]]:
        """Go over all connections a piece at a time, at most `most` in each: the table may change between two pieces.

        For whoever must not stop the packets for as long as a million connections take.
        """
        return self.table.pieces(most)

    def connection(self, index: int) -> Connection | None:
        """Return the connection of that `index`, finished or not, or None if there is none."""
        return self.table.at(index)

    @property
    def live(self) -> int:
        """Connections open now: half-open and established, not finished."""
        return self.lifecycle.live

    @property
    def ports_lent(self) -> int:
        """Source ports that full NAT has lent to connections, finished ones included."""
        return self._lender.lent

    def expect_port(self, port: int | None) -> None:
        """Say which source port full NAT is to lend next, if it can; None is the client's own, or else any."""
        self._lender.expected = port

    def __len__(self) -> int:
        """The entries of the table, finished connections included."""
        return len(self.table)

    # TCP

    def _segment(self, view: PacketView, now: float, *, is_part: bool = False) -> Verdict:
        """Decide about a TCP segment, or the first part of one."""
        # -- lookup
        key = view.key
        connection = self._find(key)
        if connection is None:
            return self._first_segment(view, now)
        # -- state
        segment = segment_of(view.flags)
        if segment is None:
            return self._drop(DropReason.BAD_FLAGS)
        direction = _ORIGINAL if key == connection.original else _REPLY
        if connection.offloaded:
            change = Change.OVER
            if segment is _DATA:
                said = self._window.said(view, connection, direction)
                change = self.offloading.change(connection, direction, said, now)
            if change is Change.OVERTAKEN:
                if now >= self.ledger.refresh_at[connection.index]:
                    self.table.refresh(connection, now)
                return self._send_on(view, connection, direction, 0)
            if change is Change.OVER:
                self.offloading.withdraw(connection, now)
        if connection.aside:
            self._pick_up(view, connection, direction)
        is_asked = connection.state is _INIT
        verdict = self._consider(view, connection, direction, segment, now)
        if verdict is not None:
            self.offloading.offer(connection)
            return verdict
        fresh = 0
        if segment in (_DATA, _FIN) and connection.state is not _INIT:
            fresh = self._window.follow(view, connection, direction)
            if is_part:  # where the one before it ended is not known, see `Window.stretch`
                fresh = view.payload_size
        elif view.flags & SYN and self.largest_packet is not None:
            view.limit_packets(self.largest_packet)
        if connection.offloaded:
            self.offloading.note(view, connection, direction)
        # A RST that moved no state is no sign of life (RFC 7857, section 7.1).
        if now >= self.ledger.refresh_at[connection.index] and segment is not _RST:
            self.table.refresh(connection, now)
        verdict = self._send_on(view, connection, direction, fresh)
        if is_asked and connection.state is _SYN_RECEIVED:
            if not self._patience.is_pressed(now):  # or else how long its client takes is to be seen here
                self.offloading.enter_answered(connection)
        else:
            self.offloading.offer(connection)
        return verdict

    def _consider(
        self, view: PacketView, connection: Connection, direction: Direction, segment: Segment, now: float
    ) -> Verdict | None:
        """Let a segment move the state of its connection; return a verdict if it goes no further."""
        state = connection.state
        if segment is _SYN and direction is _ORIGINAL and view.checksum_is_good():
            if self._starts_over(view, connection):
                again = state not in FINISHED
                past = self.lifecycle.end(connection, EndReason.RESCHEDULED if again else EndReason.REPLACED, now)
                return self._first_segment(view, now, past=past if again else None)
            if state is _INIT:
                self._sent_again(view, connection)
                verdict = self._retry(view, connection, now)
                if verdict is not None:
                    return verdict
        if state in FINISHED and segment is _SYN_ACK and direction is _REPLY and self._is_of_another(view, connection):
            self.lifecycle.end(connection, EndReason.REPLACED, now)
            return _ACCEPT
        if state is _SHUT:
            if segment is _RST:
                return self._drop(DropReason.NO_CONNECTION)
            return self._refuse(view, now) if view.checksum_is_good() else self._drop(DropReason.BAD_CHECKSUM)
        following = TRANSITIONS.get((state, direction, segment), state)
        if following is not state:
            if not view.checksum_is_good():
                return self._drop(DropReason.BAD_CHECKSUM)
            if self._is_genuine(view, connection, direction, segment):
                if segment is _SYN or segment is _SYN_ACK:
                    self._window.open(view, connection, direction)
                    connection.aside &= OFFLOADED  # where they are is known
                if direction is _REPLY:
                    self._hear(connection)
                    if state is _INIT and connection.server.observed:
                        self._events.append(ServerTried(connection, answered=segment is not _RST))
                elif state is _SYN_RECEIVED and following is _ESTABLISHED and not self.ledger.retries[connection.index]:
                    self._patience.learn(now - self.ledger.opened[connection.index], now)
                self.lifecycle.move(connection, following, now, by=direction, payload=view.end - view.data)
            elif segment is _RST and (state is not _INIT or direction is _REPLY):
                return self._drop(DropReason.OUT_OF_WINDOW)
            # A server that still remembers an older connection of this port answers a SYN with that one's numbers. The
            # client's RST about them makes it forget (RFC 9293, section 3.5.1), and means nothing to the new one.
        elif segment is _SYN_ACK and state is _SYN_RECEIVED and direction is _REPLY:
            self._answered_again(view, connection)
        return None

    def _pick_up(self, view: PacketView, connection: Connection, direction: Direction) -> None:
        """Learn of a sender's first segment since a crash where it is, which the crash has made us forget."""
        unknown = connection.aside
        if unknown >> direction & 1 and view.flags & (SYN | ACK) == ACK and view.checksum_is_good():
            self._window.pick_up(view, connection, direction, peer_is_known=not unknown >> (direction ^ 1) & 1)
            connection.aside = unknown & ~(1 << direction)

    def _is_genuine(self, view: PacketView, connection: Connection, direction: Direction, segment: Segment) -> bool:
        """Whether a segment that would move the state comes, as far as numbers tell, from one of the two ends."""
        state = connection.state
        if state is _INIT and direction is _REPLY:
            return segment is _SYN or self._window.answers(view, connection, direction)
        if segment is _SYN:
            return self._window.opens_anew(view, connection, direction)
        if state is _SYN_RECEIVED and segment is not _RST:
            return self._window.answers(view, connection, direction)
        if state is State.TRANS and self._window.was_overtaken(view, connection, direction):
            return False  # sent before what its receiver has reset, it says nothing of what came after
        return self._window.allows(view, connection, direction)

    def _starts_over(self, view: PacketView, connection: Connection) -> bool:
        """Whether a client's SYN opens a new connection in the place of this one.

        It does when this one is finished: the client uses its port again, and must not wait for our memory of the old
        connection to fade. It also does when the server takes no more connections, and has not answered. One that has
        answered keeps the connection, even if it is held for down since: this SYN may only be late, and its client have
        the answer already, and would talk in vain to a server that knows nothing of it.
        """
        state = connection.state
        if state not in HALF_OPEN or connection.server.usable:
            return state in FINISHED
        return state is _INIT or self._window.opens_anew(view, connection, _ORIGINAL)

    def _is_of_another(self, view: PacketView, connection: Connection) -> bool:
        """Whether a server answers somebody who came directly, and not the client of this connection, which is over.

        A client that asks the server itself may have the port that it had here: that is free for the client once the
        connection is over, and we only remember it. Then the server has another number than it had.
        """
        return self._window.opens_anew(view, connection, _REPLY) and view.checksum_is_good()

    def _sent_again(self, view: PacketView, connection: Connection) -> None:
        """Note that a client has had to send its SYN again; say so when a server leaves several clients waiting."""
        self._window.open(view, connection, _ORIGINAL)
        if self._asked_once(connection):
            connection.server.unanswered += 1
            if connection.server.observed:
                self._events.append(ServerTried(connection, answered=False))
            if connection.server.unanswered == BYPASSED_AFTER:
                self._events.append(ServerBypassed(connection))

    def _hear(self, connection: Connection) -> None:
        """Note that a server's answer has come back through here; say so if several have not before."""
        if connection.server.unanswered >= BYPASSED_AFTER:
            self._events.append(ServerBypassed(connection, over=True))
        connection.server.unanswered = 0

    def _move_unseen(self, connection: Connection, state: State, now: float, by: Direction) -> None:
        """Give a connection its next state, as a segment wants it that was handled elsewhere."""
        if by is _REPLY:
            self._hear(connection)
        self.lifecycle.move(connection, state, now, by=by)

    def _retry(self, view: PacketView, connection: Connection, now: float) -> Verdict | None:
        """Count a client's further try; return the verdict if it is given to another server."""
        ledger, index, server = self.ledger, connection.index, connection.server
        pool = server.pool
        if pool is None or now - ledger.asked[index] < RETRY_AFTER:
            return None
        ledger.asked[index] = now
        retries = ledger.retries[index] = min(255, ledger.retries[index] + 1)
        other = pool.another(connection.original, server, retries, now)
        if other is None:
            self.books.retried(connection, pool)
            return None
        past = self.lifecycle.end(connection, EndReason.RESCHEDULED, now)
        return self._first_segment(view, now, other, retries, past=past)

    def _asked_once(self, connection: Connection) -> bool:
        """Whether a client has sent one packet, and is waiting."""
        return self.ledger.packets[2 * connection.index] == 1

    def _answered_again(self, view: PacketView, connection: Connection) -> None:
        """Note that a server's SYN has another number than the one before, which the client has not acknowledged."""
        window = self._window
        if (
            window.opens_anew(view, connection, _REPLY)
            and window.answers(view, connection, _REPLY)
            and view.checksum_is_good()
        ):
            window.open(view, connection, _REPLY)

    def _first_segment(
        self, view: PacketView, now: float, server: Server | None = None, retries: int = 0, *, past: Past | None = None
    ) -> Verdict:
        """Decide about a segment that belongs to no connection, or to none any longer, which leaves its `past`.

        `server` is the one that it goes to when that has been decided, after so many `retries` at others.
        """
        # -- open
        (client, _), vip = ends(view.key)
        service = self.addresses.find(*vip, TCP)
        if service is None:
            return _ACCEPT
        segment = segment_of(view.flags)
        if segment is None:
            return self._drop(DropReason.BAD_FLAGS)
        if segment is _RST:
            return self._drop(DropReason.NO_CONNECTION)
        if not is_host(client):
            return self._drop(DropReason.BAD_SOURCE)
        if not view.checksum_is_good():
            return self._drop(DropReason.BAD_CHECKSUM)
        if segment is not _SYN:
            return self._refuse(view, now)
        connection = self.admission.open(view.key, service, _INIT, now, server, past=past)
        if not isinstance(connection, Connection):
            return self._turn_away(view, connection, now)
        # -- state
        self.ledger.retries[connection.index] = retries
        self._window.open(view, connection, _ORIGINAL)
        if self.largest_packet is not None:
            view.limit_packets(self.largest_packet)
        return self._send_on(view, connection, _ORIGINAL, view.payload_size)

    # UDP

    def _datagram(self, view: PacketView, now: float) -> Verdict:
        """Decide about a UDP datagram."""
        # -- lookup
        connection = self._find(view.key)
        if connection is None:
            return self._first_datagram(view, now)
        # -- state
        if view.version == 6 and view.checksum_is_missing:
            return self._drop(DropReason.BAD_CHECKSUM)
        ledger, service = self.ledger, connection.service
        row = 2 * connection.index
        if view.key == connection.original:
            spent = service.requests is not None and ledger.packets[row] >= service.requests
            if spent or connection.server.away:
                if not view.checksum_is_good():
                    return self._drop(DropReason.BAD_CHECKSUM)
                past = self.lifecycle.end(connection, EndReason.FINISHED if spent else EndReason.RESCHEDULED, now)
                return self._first_datagram(view, now, None if spent else past)
            direction = _ORIGINAL
        else:
            direction = _REPLY
            if connection.state is _ONE_WAY and view.checksum_is_good():
                self.lifecycle.move(connection, _BOTH_WAYS, now, by=direction, payload=view.payload_size)
                self.offloading.offer(connection)
        if now >= ledger.refresh_at[connection.index]:
            self.lifecycle.refresh(connection, now)
        if connection.offloaded:
            self.offloading.note(view, connection, direction)
        return self._send_datagram_on(view, connection, direction, now)

    def _first_datagram(self, view: PacketView, now: float, past: Past | None = None) -> Verdict:
        """Decide about a datagram that belongs to no flow, or to none any longer, which leaves its `past`."""
        # -- open
        (client, _), vip = ends(view.key)
        service = self.addresses.find(*vip, UDP)
        if service is None:
            return _ACCEPT
        if not is_host(client):
            return self._drop(DropReason.BAD_SOURCE)
        if (view.version == 6 and view.checksum_is_missing) or not view.checksum_is_good():
            return self._drop(DropReason.BAD_CHECKSUM)
        connection = self.admission.open(view.key, service, _ONE_WAY, now, past=past)
        if not isinstance(connection, Connection):
            return self._turn_away(view, connection, now)
        return self._send_datagram_on(view, connection, _ORIGINAL, now)

    def _send_datagram_on(self, view: PacketView, connection: Connection, direction: Direction, now: float) -> Rewrite:
        """Count and rewrite a datagram; end the flow when it was the last that was expected."""
        verdict = self._send_on(view, connection, direction, view.payload_size)
        # -- state
        responses = connection.service.responses
        if responses is not None:
            packets, row = self.ledger.packets, 2 * connection.index
            if packets[row + 1] >= responses * packets[row]:
                self.lifecycle.end(connection, EndReason.FINISHED, now)
        return verdict

    # ICMP

    def _message(self, view: PacketView) -> Verdict:
        """Decide about an ICMP message."""
        if not is_error(view):
            if not is_echo_request(view) or not self.addresses.owns(view.destination):
                return _ACCEPT
            if not is_host(view.source):
                return self._drop(DropReason.BAD_SOURCE)
            return Reply(answers.echo_reply(view)) if view.checksum_is_good() else self._drop(DropReason.BAD_CHECKSUM)
        quote = quoted(view)
        if quote is None:
            return _ACCEPT
        answer = reverse(quote.key)
        connection = self._find(answer)
        if connection is None:
            (address, port), _ = ends(quote.key)
            # An error that was translated on its way in is seen again on its way out: it speaks of a server then.
            is_here = self.addresses.owns(address) or address in self.own_addresses
            of_ours = is_here and self.addresses.find(address, port, quote.key[-1]) is not None
            return self._drop(DropReason.NO_CONNECTION) if of_ours else _ACCEPT
        if not (view.checksum_is_good() and quote.is_sound):
            return self._drop(DropReason.BAD_CHECKSUM)
        (client, _), (vip, _) = ends(connection.original)
        _, (client_as_seen, _) = ends(connection.reply)
        if answer == connection.reply:
            # A router behind the virtual address has no address of its own to the client, as no server has.
            quote.translate(connection.original, vip)
        else:
            quote.translate(connection.reply, view.source if client_as_seen == client else client_as_seen)
        return Rewrite(view.packet)

    # Fragments

    def _fragment(self, view: PacketView, now: float) -> Verdict:
        """Decide about a fragment: the first one of a datagram decides for all."""
        fragments = self.fragments
        if fragments.full and not fragments.knows(view):
            self._let_go(fragments.give_up(), DropReason.FRAGMENT_LIMIT)
        datagram = fragments.see(view, now)
        if isinstance(datagram, DropReason):
            return self._drop(datagram)
        if isinstance(datagram.fate, DropReason) and datagram.held is not None:
            self._let_go(fragments.decide(datagram, datagram.fate), datagram.fate)
        if datagram.held is None:
            verdict = self._share(datagram.fate, view.packet)
        elif view.offset:
            ticket = fragments.hold(datagram, view.packet)
            return self._drop(DropReason.FRAGMENT_LIMIT) if ticket is None else Hold(ticket)
        else:
            self._served = None
            verdict = self._whole(view, now)
            fate = _fate(verdict, view, self._served)
            self._let_go(fragments.decide(datagram, fate), fate)
        if datagram.is_over:
            fragments.forget(view)
        return verdict

    def _whole(self, view: PacketView, now: float) -> Verdict:
        """Decide about a first fragment as if it were the whole datagram."""
        if view.protocol == TCP:
            verdict = self._segment(view, now, is_part=True)
            connection = self._find(view.key)
            if connection is not None:
                direction = _ORIGINAL if view.key == connection.original else _REPLY
                self.offloading.withdraw(connection, now)
                self._window.stretch(view, connection, direction)
                self.offloading.offer(connection)
            return verdict
        return self._datagram(view, now) if view.protocol == UDP else _ACCEPT

    def _let_go(self, waiting: list[tuple[int, bytearray]], fate: Fate) -> None:
        """Decide about fragments that were held back."""
        for ticket, packet in waiting:
            self._releases.append((ticket, self._share(fate, packet)))

    def _share(self, fate: Fate, packet: bytearray) -> Verdict:
        """Do to a later fragment what was done to the first."""
        if fate is None:
            return _ACCEPT
        if isinstance(fate, DropReason):
            return self._drop(fate)
        view = PacketView()  # the engine's own is the one of the fragment that this one may have waited for
        view.read(packet)
        connection, direction = fate
        translation, octets = connection.translations[direction], view.until - view.offset
        translation.account.count(octets)
        if self.table.at(connection.index) is connection:  # or else its row is another's, or will be
            row, service = 2 * connection.index + direction, connection.service
            self.ledger.octets[row] += octets
            if service.requests is None and service.responses is None:  # where datagrams are counted, they are packets
                self.ledger.packets[row] += 1
        translation.apply_addresses(packet)
        return Rewrite(packet)

    # All of them

    def _send_on(self, view: PacketView, connection: Connection, direction: Direction, octets: int) -> Rewrite:
        """Count a packet of a connection, with so many bytes that are new, and rewrite it."""
        # -- state
        self.ledger.record(connection, direction, octets)
        self._served = connection
        translation = connection.translations[direction]
        translation.account.count(octets)
        # -- rewrite
        packet, transport, protocol = view.packet, view.transport, view.protocol
        if view.unfinished:
            translation.apply_unfinished(packet, transport, transport + TRANSPORT_CHECKSUM[protocol])
        elif protocol == TCP:
            translation.apply_tcp(packet, transport)
        else:
            translation.apply_udp(packet, transport)
        # -- verdict
        return Rewrite(packet)

    def _turn_away(self, view: PacketView, refusal: Refusal, now: float) -> Verdict:
        """Do with a packet that opens no connection what admission says."""
        return self._drop(refusal) if isinstance(refusal, DropReason) else self._refuse(view, now)

    def _refuse(self, view: PacketView, now: float) -> Verdict:
        """Answer a packet as a host does where nobody listens."""
        if view.protocol == TCP:
            return Reply(answers.reset_for(view))
        second, sent = self._errors_in_second
        if second != int(now):
            second, sent = int(now), 0
        if sent >= MOST_ERRORS_PER_SECOND:
            return self._drop(DropReason.ICMP_LIMIT)
        self._errors_in_second = second, sent + 1
        return Reply(answers.port_unreachable(view))

    def _drop(self, reason: DropReason) -> Drop:
        self.drops[reason] += 1
        return _DROPS[reason]


def _fate(verdict: Verdict, view: PacketView, served: Connection | None) -> Fate:
    """Return what a verdict about a first fragment means for the others."""
    match verdict:
        case Rewrite() if served is not None:
            return Led(served, _ORIGINAL if view.key == served.original else _REPLY)
        case Drop(reason):
            return reason
        case Reply():
            return DropReason.NO_CONNECTION
    return None
