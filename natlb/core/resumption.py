"""Connections that are older than this engine, and go on in it.

natlb ends, and its connections do not have to: the two ends know nothing of it, and a connection is what the table has
of it. There are two who can tell. A `Record` is what an earlier engine has left of a connection, and has all that there
is to know (`resume`). A `Survivor` is what a fast path has gone on with while there was no engine, and has what its
packets told (`adopt`). The record is the better word; of a connection that both know it is taken first, and what the
fast path has seen since comes on top (`Offloading.reconcile`).

A connection that goes on is counted as open, and what it has carried is in the statistics; that it was opened is not.
Nobody is asked whether it may go on, since rules and limits are for those who come. But it has to fit in: if there is
no room for it, or another has its tuple or its port, nothing changes.
"""

from typing import Final

from natlb.core.flow import Connection, FlowKey, ends
from natlb.core.lifecycle import Lifecycle
from natlb.core.offloading import OFFLOADABLE, Report, Survivor
from natlb.core.pool import Server
from natlb.core.ports import ANY_PORT, Lender, PortRanges, Source
from natlb.core.record import Record
from natlb.core.service import Service
from natlb.core.states import FINISHED, HALF_OPEN
from natlb.core.table import Table

_EVERY_PORT: Final = PortRanges([(0, 65535)])


class Resumption:
    """How connections come into one table that were in another before."""

    __slots__ = ("_find", "_ledger", "_lender", "_lifecycle", "_table")

    def __init__(self, table: Table, lifecycle: Lifecycle, lender: Lender) -> None:
        self._table = table
        self._find = table.find
        self._ledger = table.ledger
        self._lifecycle = lifecycle
        self._lender = lender

    def adopt(self, survivor: Survivor, service: Service, server: Server) -> Connection | None:
        """Enter a connection to a server of a service that is older than this engine; None if there is no room for it.

        What it has carried is in the statistics, and that it is open; that it was opened is not.
        """
        original, reply, opened, report = survivor
        if report.state not in OFFLOADABLE:
            return None
        lent = ends(reply)[1] != ends(original)[0]
        connection = self._take_back(original, reply, service, server, report, report.seen, lent=lent)
        if connection is not None:
            self._ledger.opened[connection.index] = opened
        return connection

    def resume(self, record: Record, service: Service, server: Server) -> Connection | None:
        """Go on with a connection of an earlier engine as it was left there; None if there is no room for it.

        One that is half-open needs room among those, and gives way as they do. A source port that was lent to it is
        lent to it again, and may be one that would not be lent any more. It goes fastest if those come first that were
        silent longest. What rates and stick tables knew of it is not known any more.
        """
        connection = self._take_back(
            record.original, record.reply, service, server, record, record.seen, lent=record.lent, wherever=True
        )
        if connection is not None:
            ledger, index = self._ledger, connection.index
            ledger.opened[index], ledger.asked[index] = record.opened, record.asked
            ledger.retries[index] = record.retries
            connection.aside = record.aside
        return connection

    def unresume(self, connection: Connection, now: float) -> None:
        """Forget a connection that was resumed, as if it had not been; no packet of it may have come here."""
        ledger, row = self._ledger, 2 * connection.index
        for direction, translation in enumerate(connection.translations):
            translation.account.packets -= ledger.packets[row + direction]
            translation.account.octets -= ledger.octets[row + direction]
        if connection.state not in FINISHED:
            self._lifecycle.count(connection, -1, now)
        self._table.remove(connection)
        if connection.has_own_port:
            self._lender.give_back(connection)

    def _take_back(
        self,
        original: FlowKey,
        reply: FlowKey,
        service: Service,
        server: Server,
        left: Report | Record,
        seen: float,
        *,
        lent: bool,
        wherever: bool = False,
    ) -> Connection | None:
        """Enter a connection with what it has come to; return None, having changed nothing, if there is no room for it.

        `lent` is whether it has a source that was lent; `wherever` is whether any source will do for that.
        """
        client, vip = ends(original)
        endpoint, (source, _) = ends(reply)
        table = self._table
        if table.full or (left.state in HALF_OPEN and table.half_open >= table.half_open_capacity):
            return None
        if original == reply or any(self._find(key) is not None for key in (original, reply)):
            return None
        if lent:
            sources = server.sources_for(client[0]) or (Source(client[0], ANY_PORT),)
            if wherever:
                sources += (Source(source, _EVERY_PORT),)
            if not any(each.address == source and self._lender.claim(each, reply) for each in sources):
                return None
            translations = service.full_translations(original, reply, server)
        else:
            translations = service.translations(vip, server, endpoint)
        connection = Connection(original, reply, translations, service, server, left.state)
        self._table.insert(connection, service.timeout(server, left.state), seen)
        connection.queue.put_in_order(connection)
        ledger, index = self._ledger, connection.index
        ledger.answered[index] = left.answered
        # Each on its own: a hundred thousand connections come by here, and nobody is served meanwhile.
        row, peer = 2 * index, 2 * index + 1
        ledger.packets[row], ledger.packets[peer] = left.packets
        ledger.octets[row], ledger.octets[peer] = left.octets
        ledger.following[row], ledger.following[peer] = left.following
        ledger.acked[row], ledger.acked[peer] = left.acked
        ledger.edge[row], ledger.edge[peer] = left.edge
        ledger.shift[row], ledger.shift[peer] = left.shift
        ledger.offered[row], ledger.offered[peer] = left.offered
        for direction, translation in enumerate(translations):
            translation.account.packets += left.packets[direction]
            translation.account.octets += left.octets[direction]
        if connection.state not in FINISHED:
            self._lifecycle.count(connection, 1, seen)
        elif lent:
            self._lender.retire(connection)
        if self._table.changed is not None:
            self._table.changed.add(index)
        return connection
