"""Whose a recorded connection is: by names, and by the address that it goes to.

A connection whose frontend, backend or server is not in the configuration any more goes on as it is, as with HAProxy,
whose old process carries on with it. So does one whose server has another address now: it keeps the one that it has.
They belong to a service and a server made for them, which nothing leads to: no new connection comes there, no
statistics show them, and they are gone with their last connection.
"""

from collections.abc import Iterable, Mapping

from natlb.core.flow import ends
from natlb.core.pool import Pool, Server
from natlb.core.record import Record
from natlb.core.service import Intake, Service, Timeouts
from natlb.core.states import State

_TIMEOUTS = {
    State.INIT: "opening",
    State.SYN_RECEIVED: "opening",
    State.ESTABLISHED: "idle",
    State.CLIENT_FIN: "client_fin",
    State.SERVER_FIN: "server_fin",
    State.BOTH_FIN: "closing",
    State.TRANS: "closing",
    State.ABORTED: "closing",
    State.SHUT: "closing",
    State.ONE_WAY: "one_way",
    State.BOTH_WAYS: "both_ways",
}
"""Which timeout a connection in that state had on record."""


def _timeouts(known: Mapping[str, float]) -> Timeouts:
    """Return timeouts of which some are known, by name, and the others are what they are by default."""
    usual, names = Timeouts(), ("opening", "idle", "client_fin", "server_fin", "closing", "one_way", "both_ways")
    return Timeouts(*(known.get(name, getattr(usual, name)) for name in names))


class Owners:
    """The services and servers of a configuration, and those that are retired."""

    def __init__(self, services: Iterable[Service], pools: Mapping[str, Pool]) -> None:
        """Begin with what the configuration has."""
        self._services = {(service.name, service.protocol): service for service in services}
        self._pools = pools
        self._retired_services: dict[tuple[str, int], Service] = {}
        self._retired_pools: dict[str, Pool] = {}
        self._retired_servers: dict[tuple[str | None, str, bytes, bytes], Server] = {}
        self._timeouts: dict[tuple[str, int], dict[str, float]] = {}

    def expect(self, records: Iterable[Record]) -> None:
        """Note the timeouts of these, before any of them is asked about: a retired service has those."""
        for record in records:
            own = self._timeouts.setdefault((record.service, record.original[-1]), {})
            own.setdefault(_TIMEOUTS[record.state], record.timeout)

    def of(self, record: Record) -> tuple[Service, Server, bool]:
        """Return the service and the server of a record, and whether either of them is retired."""
        name = record.service, record.original[-1]
        service, server = self._services.get(name), self._server(record)
        is_retired = service is None or server is None
        if service is None:
            service = self._retired_services.get(name)
        if service is None:
            timeouts = _timeouts(self._timeouts[name])
            service = Service(record.service, None, protocol=name[1], timeouts=timeouts, intake=Intake.STOPPED)
            self._retired_services[name] = service
        if server is None:
            server = self._retired_server(record, service)
        return service, server, is_retired

    def _server(self, record: Record) -> Server | None:
        """Return the server of a record if it is where the record says."""
        pool = self._pools.get(record.pool) if record.pool is not None else None
        server = pool.servers.get(record.server) if pool is not None else None
        if server is None:
            return None
        _, (_, asked) = ends(record.original)
        place, _ = ends(record.reply)
        return server if server.endpoint(int.from_bytes(asked, "big")) == place else None

    def _retired_server(self, record: Record, service: Service) -> Server:
        """Return the retired server of a record, made if there is none."""
        (address, port), _ = ends(record.reply)
        name = record.pool, record.server, address, port
        server = self._retired_servers.get(name)
        if server is None:
            server = Server(record.server, address, int.from_bytes(port, "big"))
            self._retired_servers[name] = server
            if record.pool is not None:
                # Each of its own: two of one name may be there, where a server has been.
                pool = Pool(record.pool, [server])
                now = self._pools.get(record.pool)
                if now is not None:
                    pool.id = now.id
        if server.pool is not None and (now := self._pools.get(server.pool.name)) in service.other_timeouts:
            service.other_timeouts[server.pool] = service.other_timeouts[now]
        return server
