"""A conversation that the program and the engine have side by side.

Each packet goes to the program first, and then, as it was, to the engine. Where the program carries it, the engine must
have made the same of it, byte for byte (but for the hop that the kernel counts), and what the map says of the
connection afterwards must be what the ledger says. Where the program passes a packet on, the connection is given back
to the engine first, and entered anew with what the engine has made of it.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from unittest.mock import patch

from natlb.core.flow import Connection
from natlb.core.packet import UDP, PacketView
from natlb.core.states import FINISHED, State
from natlb.core.table import Table
from natlb.core.verdict import Rewrite
from natlb.offload import fastpath
from natlb.offload.fastpath import FastPath
from natlb.offload.program import Program
from tests.unit.core.conversation import Conversation, Fragment, Outcome, Said
from tests.unit.core.packets import complement
from tests.unit.offload import kernel


@cache
def _loaded_once(capacity: int) -> Program:
    return Program(capacity)


def _loaded(capacity: int, left: Iterable[int], handed_over: Mapping[str, int]) -> Program:
    """Load the program once for all conversations: it takes the kernel longer to verify it than a test to run."""
    return _loaded_once(capacity)


class Lockstep(Conversation):
    """An engine, and a fast path that carries whatever the engine would let it carry."""

    arena: kernel.Arena
    """Where the program runs. Set by the fixture."""

    def __init__(self, family: int, **settings: object) -> None:
        super().__init__(family, **settings)
        with patch.object(fastpath, "Program", _loaded):
            self.path = FastPath(self.engine.ledger, 0, 2048, lambda connection: connection.server.name.encode())
        self.was_carried = False
        """Whether the program has carried the packet that was handed in last."""
        self.times_carried = 0
        _watch(self.engine.table, self.path)

    def close(self) -> None:
        """Leave the maps as if nothing had been in them, for the next test."""
        for connection in [owner for owner in self.path._owners if owner is not None]:
            self.path.forget(connection)
        self.path.sample(0)
        self.path.ended()
        self.path.samples()
        with patch.object(self.path._program, "close"):
            self.path.close()

    def carry(self, said: Said, buffer: bytearray) -> Outcome:
        sent = bytes(buffer)
        connection = self._known(sent)
        for each in list(self.engine.connections()):
            if (
                each.original[-1] == UDP and each.server.away and each in self.path
            ):  # natlb forgets them when their server goes
                self.path.forget(each)
        result = self.run(sent)
        self.was_carried = result.verdict == kernel.REDIRECT
        assert self.was_carried or (result.verdict, result.frame[14:]) == (kernel.UNSPEC, sent)
        if connection is not None and connection in self.path and not self.was_carried:
            self.path.forget(connection)
        outcome = super().carry(said, buffer)
        if self.was_carried:
            self.times_carried += 1
            assert isinstance(outcome.verdict, Rewrite)
            assert result.frame[:14] == kernel.framed(sent, to=kernel.NEIGHBOUR)[:6] + kernel.MAC + result.frame[12:14]
            assert result.frame[14:] == one_hop_on(outcome.buffer)
            self._compare(connection)
        if isinstance(said, Fragment):  # the engine counts it, and those that have waited for it, and no map does
            for each in self.engine.connections():
                if each in self.path:
                    self.path.forget(each)
        self._enter()
        return outcome

    def run(self, packet: bytes, **settings: object) -> kernel.Result:
        """Run the program on a packet. What is larger than the kernel's test takes, goes by without it."""
        if len(packet) > kernel.LARGEST:
            return kernel.Result(kernel.UNSPEC, kernel.framed(packet), 0)
        return self.run_frame(kernel.framed(packet), **settings)

    def run_frame(self, frame: bytes, **settings: object) -> kernel.Result:
        return kernel.run(self.path._program.descriptor, frame, self.arena.interface, **settings)

    def _known(self, packet: bytes) -> Connection | None:
        view = PacketView()
        view.read(bytearray(packet))
        return self.engine.table.find(getattr(view, "key", b""))

    def _compare(self, connection: Connection) -> None:
        """Hold what the map says of a connection against what the engine says."""
        ledger, rows = self.engine.ledger, (2 * connection.index, 2 * connection.index + 1)
        if connection not in self.path:
            return  # it is over with this packet, and was forgotten
        told = [[column[self.path._find(connection)] for column in self.path._told[at : at + 2]] for at in (0, 2)]
        report = self.path.read(connection)
        for counted, before, now in (ledger.packets, told[0], report.packets), (ledger.octets, told[1], report.octets):
            assert [counted[row] for row in rows] == [x + y for x, y in zip(before, now, strict=True)]
        if connection.original[-1] != UDP:
            for known, now in (
                (ledger.following, report.following),
                (ledger.acked, report.acked),
                (ledger.edge, report.edge),
                (ledger.shift, report.shift),
                (ledger.offered, report.offered),
            ):
                assert tuple(known[row] for row in rows) == now
        assert report.state is connection.state

    def _enter(self) -> None:
        for connection in list(self.engine.connections()):
            if connection.state is State.ONE_WAY or connection.state in FINISHED or _is_counted_out(connection):
                continue
            if connection not in self.path:
                assert self.path.enter(connection)


def _is_counted_out(connection: Connection) -> bool:
    """Whether datagrams are counted, by which the flow may end."""
    return connection.service.requests is not None or connection.service.responses is not None


def _watch(table: Table, path: FastPath) -> None:
    """Have the path forget what the engine ends, before it does."""
    remove, move = table.remove, table.move

    def on_remove(connection: Connection) -> None:
        if connection in path:
            path.forget(connection)
        remove(connection)

    def on_move(connection: Connection, state: State, timeout: float, now: float) -> None:
        if state in (State.SHUT, State.TRANS, State.ABORTED, State.INIT) and connection in path:
            path.forget(connection)
        move(connection, state, timeout, now)

    table.remove, table.move = on_remove, on_move


def one_hop_on(packet: bytes) -> bytes:
    """Return a packet as a router sends it on."""
    onward = bytearray(packet)
    onward[8 if packet[0] >> 4 == 4 else 7] -= 1
    if packet[0] >> 4 == 4:
        onward[10:12] = bytes(2)
        onward[10:12] = complement(onward[: (packet[0] & 15) * 4])
    return bytes(onward)


def carried(outcome: Outcome) -> None:
    """The program has carried the packet, and made of it what the engine makes of it."""
    assert outcome.talk.was_carried


def passed(outcome: Outcome) -> None:
    """The program has passed the packet on to the engine."""
    assert not outcome.talk.was_carried
