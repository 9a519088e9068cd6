"""Who may open a connection, to which server, and whose address that server sees.

A packet that belongs to no connection, and is for a virtual address, has come here by way of the engine. What follows
is asked in this order, and the first no is the last word:

    the service     whether it takes new connections now
    the rates       how many may be looked at in a second, and after the rules how many may be let in
    the rules       of the frontend: whether this one is let in
    the limits      how many may be open at once; a half-open one may give way (`natlb.core.eviction`)
    the rules       of frontend and backend: to which pool, and in it to which server if they say so
    the pool        to which server, by its algorithm, and whether there is a place
    the table       whether there is room
    the port        with which tuple the server's answers come back, under full NAT with a port that is lent

There are two ways to say no. Where it is for good the client is told, as by a host where nobody listens, unless a rule
wants its packet dropped without a word. Where it is for now the packet is dropped, and what the rules have counted is
taken back: the client sends its SYN again, and all of this is asked anew. A connection on its way to another server was
let in when it came, and is asked about no more than a server, room and a port.
"""

from collections import deque
from typing import Final

from natlb.core.addresses import OwnAddresses, is_loopback
from natlb.core.bookkeeping import Books
from natlb.core.enums import Constant
from natlb.core.events import ConnectionRefused, EndReason, Event
from natlb.core.eviction import Eviction
from natlb.core.flow import Connection, Endpoint, FlowKey, flow_key
from natlb.core.lifecycle import Lifecycle
from natlb.core.offloading import Offloading
from natlb.core.opening import Opening, Past
from natlb.core.pool import Place, Pool, Server
from natlb.core.ports import ANY_PORT, Lender, Source
from natlb.core.rules import Decision
from natlb.core.service import Intake, Service
from natlb.core.states import FINISHED, State
from natlb.core.table import Table
from natlb.core.verdict import DropReason


class Answered(Constant):
    """That a client is told that there is no connection."""

    REFUSED = "as by a host where nobody listens"


Refusal = DropReason | Answered
"""Why a packet opens no connection: what it is dropped for, or that it is answered."""

_REFUSED: Final = Answered.REFUSED


class Admission:
    """How connections come into one table."""

    __slots__ = (
        "_books",
        "_events",
        "_eviction",
        "_find",
        "_lender",
        "_lifecycle",
        "_offloading",
        "_own",
        "_table",
        "connection_limit",
        "max_connections",
        "session_limit",
    )

    def __init__(
        self,
        table: Table,
        lifecycle: Lifecycle,
        eviction: Eviction,
        offloading: Offloading,
        lender: Lender,
        books: Books,
        own: OwnAddresses,
        events: deque[Event],
        max_connections: int | None,
    ) -> None:
        """Take what connections come into; `own` are the balancer's addresses.

        `events` is where it is told who is refused, behind what is there.
        """
        self.max_connections = max_connections
        """Connections open at once, over all services; further ones wait. None is no limit."""
        self.connection_limit: int | None = None
        """New connections per second that are looked at, over all services; further ones wait. None is no limit."""
        self.session_limit: int | None = None
        """New connections per second that the rules let in, over all services; further ones wait."""
        self._table = table
        self._find = table.find
        self._lifecycle = lifecycle
        self._eviction = eviction
        self._offloading = offloading
        self._lender = lender
        self._books = books
        self._own = own
        self._events = events

    def open(
        self,
        key: FlowKey,
        service: Service,
        state: State,
        now: float,
        server: Server | None = None,
        *,
        past: Past | None,
    ) -> Connection | Refusal:
        """Ask the rules about a connection, and the limits; return it, in the table and with a server, or why not.

        `key` is the tuple of its first packet, and `state` the one that this leads to. `past` is there if it was let in
        before, on its way to another server; `server` is who gets it then, if that has been decided.
        """
        if service.intake is not Intake.OPEN:
            return _REFUSED
        # What ended before this began may be what makes room for it.
        self._offloading.hear(now)
        opening = Opening(key, service, now, self._own.is_local)
        again = past is not None
        if past is not None:
            opening.follow(past)
        elif (refusal := self._let_in(opening)) is not None:
            return refusal
        entered = self._enter(opening, state, server, again=again)
        if isinstance(entered, Connection):
            return entered
        if again or entered is _REFUSED:
            opening.give_up()
        else:
            opening.take_back()
        return entered

    def _let_in(self, opening: Opening) -> Refusal | None:
        """Ask the rules and the limits whether a connection may begin; return why not, if it may not."""
        service, now, rates = opening.service, opening.now, self._books.counters
        if self.connection_limit is not None and not rates.arrivals.room(now, self.connection_limit):
            return _held_back(service, DropReason.RATE_LIMIT)
        decision = service.rules.decide(opening)
        if decision is not Decision.ACCEPT:
            self._books.denied(service, now)
            opening.give_up()
            return _REFUSED if decision is Decision.REJECT else DropReason.DENIED
        limit = service.session_limit
        is_too_fast = limit is not None and not service.counters.sessions.room(now, limit)
        limit = self.session_limit
        if is_too_fast or (limit is not None and not rates.sessions.room(now, limit)):
            opening.take_back()
            return _held_back(service, DropReason.RATE_LIMIT)
        if not self._admits(service, opening.vip, now):
            opening.take_back()
            return _held_back(service, DropReason.MAXCONN)
        opening.accept()
        return None

    def _admits(self, service: Service, vip: Endpoint, now: float) -> bool:
        """Whether the limits leave room for another connection, or a half-open one makes way for it.

        One at most does: where it makes way within its service, it makes way under the limit of all as well.
        """
        listener = service.listener(vip) if service.listeners else None
        if listener is not None and listener.live >= listener.max_connections:
            return self._eviction.relieve(service, now, listener)
        if service.max_connections is not None and service.live >= service.max_connections:
            return self._eviction.relieve(service, now)
        if self.max_connections is not None and self._lifecycle.live >= self.max_connections:
            return self._eviction.relieve(None, now)
        return True

    def _enter(self, opening: Opening, state: State, server: Server | None, *, again: bool) -> Connection | Refusal:
        """Enter a connection under both tuples, to a server that is chosen unless it is given; or return why not."""
        service, original, now = opening.service, opening.key, opening.now
        pool = server.pool if server is not None else service.rules.choose(opening, service.pool)
        assigned: Server | Place = server or Place.NONE
        if server is None and pool is not None:
            assigned = pool.assign(opening, self._eviction.reclaim)
        if assigned is Place.WAIT:
            return DropReason.QUEUED
        if not isinstance(assigned, Server) or self._is_stranded(opening.client[0], assigned):
            self._give_up(opening, pool, assigned if isinstance(assigned, Place) else Place.NONE, again=again)
            return _REFUSED
        server = assigned
        if not self._eviction.make_room(now):
            self._books.no_room(service, server)
            return DropReason.TABLE_FULL
        endpoint = server.endpoint(int.from_bytes(opening.vip[1], "big"))
        found = self._reply_tuple(original, opening.client, server, endpoint, now)
        if found is None:
            self._books.no_room(service, server)
            return DropReason.NO_PORT
        reply, lent = found
        try:
            if lent:
                translations = service.full_translations(original, reply, server)
            else:
                translations = service.translations(opening.vip, server, endpoint)
            connection = Connection(original, reply, translations, service, server, state)
            is_entered = self._table.insert(connection, service.timeout(server, state), now)
        except MemoryError:
            if lent:
                self._lender.take_back(reply)
            raise
        if not is_entered:
            self._books.no_room(service, server)
            return DropReason.TUPLE_CLASH
        self._lifecycle.begin(connection, opening, again=again)
        return connection

    def _give_up(self, opening: Opening, pool: Pool | None, reason: Place, *, again: bool) -> None:
        """Enter and tell that a connection is refused."""
        service, wanted = opening.service, opening.wanted if reason is not Place.NONE else None
        self._books.refused(service, pool, opening.now, again=again)
        if service.logged:
            live = self._lifecycle.live_at(service, pool, wanted)
            self._events.append(ConnectionRefused(service, pool, opening.key, live, reason, wanted, opening.waited))

    def _is_stranded(self, client: bytes, server: Server) -> bool:
        """Whether a client speaks from a loopback address, and its server is another machine.

        No other machine could answer it; and under full NAT the answer would come in from outside addressed to a
        loopback address, which the kernel drops.
        """
        return is_loopback(client) and not self._own.is_local(server.address)

    def _reply_tuple(
        self, original: FlowKey, client: Endpoint, server: Server, endpoint: Endpoint, now: float
    ) -> tuple[FlowKey, bool] | None:
        """Return the tuple of the server's answers, and whether it has a source that was lent; None if none is free.

        The client's own address and port are kept unless the server must not see them, or the server knows them
        already: from the client's connection to another virtual address.
        """
        if server.sources is None and client[0] in self._own:
            sources: tuple[Source, ...] = ()
        else:
            sources = server.sources_for(client[0])
        if not sources:
            reply = flow_key(endpoint, client, original[-1])
            taken = self._find(reply)
            if taken is not None and taken.state in FINISHED:
                self._lifecycle.end(taken, EndReason.REPLACED, now)
                taken = None
            if taken is None:
                return reply, False
            sources = (Source(client[0], ANY_PORT),)
        # Begin with the address that has served least: the pools take turns.
        turn = server.total % len(sources)
        for source in sources[turn:] + sources[:turn]:
            lent = self._lend_port(source, endpoint, client, original, now)
            if lent is not None:
                return lent, True
        return None

    def _lend_port(
        self, source: Source, endpoint: Endpoint, client: Endpoint, original: FlowKey, now: float
    ) -> FlowKey | None:
        """Take a free port of a source address; return the tuple of the answers to it."""

        def is_free(key: FlowKey) -> bool:
            return self._find(key) is None and key != original

        protocol = original[-1]
        reply = self._lender.lend(source, endpoint, client, protocol, is_free)
        if reply is None and (retired := self._lender.retired(source, endpoint, protocol)) is not None:
            self._lifecycle.end(retired, EndReason.REPLACED, now)
            reply = self._lender.lend(source, endpoint, client, protocol, is_free)
        return reply


def _held_back(service: Service, reason: DropReason) -> DropReason:
    """Count a client that has to wait: it will send its SYN again."""
    if reason is DropReason.RATE_LIMIT:
        service.rate_limited += 1
    else:
        service.held_back += 1
    return reason
