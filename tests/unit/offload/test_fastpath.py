"""The fast path as the engine and the loop see it."""

import os
import select
import time

import pytest

from natlb.core.flow import Direction
from natlb.core.states import State
from natlb.errors import OffloadError
from natlb.offload import layout, libbpf
from natlb.offload.fastpath import PIECE, FastPath
from natlb.offload.layout import ENDED, packed_key
from tests.descriptors import nothing_left_open
from tests.unit.core.conversation import ACK, DATA, DATAGRAM, FIN, RST, SYN, SYN_ACK, Conversation, to
from tests.unit.offload import kernel
from tests.unit.offload.lockstep import carried, one_hop_on

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("arena")]


class Driven:
    """An engine of many connections whose packets it has had alone, and a fast path that a test drives by hand."""

    def __init__(
        self, arena: kernel.Arena, connections: int, capacity: int = 1000, handed_over: dict[str, int] | None = None
    ) -> None:
        self.talk = Conversation(4, capacity=10 * connections + 10, half_open_capacity=10 * connections + 10)
        self.path = FastPath(self.talk.engine.ledger, 0, capacity, lambda connection: b"identity", handed_over)
        self._arena = arena
        self.clients = [self.talk.client.at(port) for port in range(1000, 1000 + connections)]
        self.servers = {client.place: self.talk.shake_hands(client) for client in self.clients}
        self.entries = {connection.original[8:10]: connection for connection in self.talk.engine.connections()}

    def entry(self, number: int):
        return self.entries[self.clients[number].place[1].to_bytes(2, "big")]

    def enter_all(self) -> None:
        assert all(self.path.enter(self.entry(number)) for number in range(len(self.clients)))

    def send(self, number: int, said, *, from_server: bool = False) -> bool:
        """Hand a packet to the program alone; return whether it was carried."""
        client = self.clients[number]
        host = self.servers[client.place].facing(client) if from_server else client
        packet = bytes(said.packet(host))
        result = kernel.run(self.path._program.descriptor, kernel.framed(packet), self._arena.interface)
        return result.verdict == kernel.REDIRECT


@pytest.fixture
def driven(arena):
    made = []

    def make(connections: int, **settings: int) -> Driven:
        made.append(Driven(arena, connections, **settings))
        return made[-1]

    yield make
    for each in made:
        each.path.close()


def changed(path: FastPath) -> dict:
    return {connection: report for piece in path.reports() for connection, report in piece}


# Handing over


def test_maps_that_are_handed_over_are_found_with_all_that_is_in_them_by_whoever_may_open_none(driven, monkeypatch):
    monkeypatch.setattr(libbpf, "maps_of", refused)
    before = driven(2)
    before.enter_all()
    after = driven(2, handed_over=before.path.maps)
    assert after.path.capacity == before.path.capacity
    survivors = {survivor.original: survivor for survivor in after.path.survivors()}
    assert survivors.keys() == {before.entry(0).original, before.entry(1).original}
    for number in range(2):
        after.path.take_back(survivors[after.entry(number).original], after.entry(number))
    assert before.send(0, DATA)
    assert [report.packets for report in changed(after.path).values()] == [(1, 0)]
    after.path.forget(after.entry(1))
    assert not before.send(1, DATA), "they have one memory"


def test_maps_of_another_layout_are_not_used_and_stay_their_givers(driven, monkeypatch):
    before = driven(1)
    before.enter_all()
    monkeypatch.setattr(layout, "LAYOUT", layout.LAYOUT + 1)
    monkeypatch.setattr(layout, "check", lambda _: None)
    after = driven(1, handed_over=before.path.maps)
    assert after.path.survivors() == []
    assert before.send(0, DATA)


def test_what_is_handed_over_and_is_no_map_is_not_used(driven):
    nothing = os.eventfd(0)
    after = driven(1, handed_over=dict.fromkeys(("flows", "connections", "settings", "events", "samples"), nothing))
    os.close(nothing)
    assert after.path.survivors() == []
    after.enter_all()
    assert after.send(0, DATA)


def refused(_: int) -> dict[str, int]:
    raise PermissionError(1, "Operation not permitted")


# Entering and forgetting


def test_what_is_not_entered_is_not_here(driven):
    one = driven(1)
    assert not one.send(0, ACK)
    assert one.entry(0) not in one.path
    assert one.path.held == 0


def test_from_entering_to_forgetting_packets_are_carried(driven):
    one = driven(1)
    one.enter_all()
    assert one.entry(0) in one.path
    assert one.path.held == 1
    assert one.send(0, DATA)
    assert one.send(0, DATA, from_server=True)
    report = one.path.forget(one.entry(0))
    assert report.packets == (1, 1)
    assert report.octets == (18, 18)
    assert not one.send(0, ACK)
    assert not one.send(0, ACK, from_server=True)
    assert one.path.held == 0
    assert one.entry(0) not in one.path


def test_a_report_says_what_has_happened_since_the_last(driven):
    one = driven(1)
    one.enter_all()
    before = time.monotonic()
    one.send(0, DATA)
    first = one.path.read(one.entry(0))
    assert (first.packets, first.octets) == ((1, 0), (18, 0))
    assert before <= first.seen <= time.monotonic()
    assert (first.state, first.by) == (State.ESTABLISHED, None)
    second = one.path.read(one.entry(0))
    assert (second.packets, second.octets) == ((0, 0), (0, 0))
    assert second._replace(packets=(1, 0), octets=(18, 0)) == first
    one.send(0, DATA(payload=b"more"), from_server=True)
    one.send(0, FIN, from_server=True)
    third = one.path.forget(one.entry(0))
    assert (third.packets, third.octets) == ((0, 2), (0, 4))
    assert third.seen > first.seen
    assert (third.state, third.by) == (State.SERVER_FIN, Direction.REPLY)


def test_one_that_is_entered_anew_has_what_the_ledger_says_now(driven):
    one = driven(1)
    one.enter_all()
    one.send(0, DATA)
    ledger, at = one.talk.engine.ledger, 2 * one.entry(0).index
    ledger.packets[at], ledger.following[at] = 70, 12345
    assert one.path.enter(one.entry(0))
    assert one.path.held == 1
    report = one.path.read(one.entry(0))
    assert (report.packets, report.following[0]) == ((0, 0), 12345)
    assert one.send(0, DATA)


@pytest.mark.parametrize("state", [State.SHUT, State.ABORTED, State.ONE_WAY])
def test_a_state_that_the_program_does_not_know_is_not_entered(driven, state):
    one = driven(1)
    one.entry(0).state = state
    assert not one.path.enter(one.entry(0))
    assert not one.path.refused
    one.entry(0).state = State.ESTABLISHED


def test_a_row_that_is_lent_again_has_nothing_of_the_one_before(driven):
    two = driven(2)
    assert two.path.enter(two.entry(0))
    two.send(0, DATA)
    two.path.forget(two.entry(0))
    assert two.path.enter(two.entry(1))
    assert two.path._find(two.entry(1)) == 0
    assert two.path.read(two.entry(1)).packets == (0, 0)
    assert not two.send(0, ACK)
    assert two.send(1, ACK)


def test_a_packet_that_was_under_way_is_not_counted_for_the_next_in_the_row(driven):
    """A flow that is there although its connection is gone is what such a packet has in its hands."""
    two = driven(2)
    assert two.path.enter(two.entry(0))
    key = packed_key(two.entry(0).original)
    flow = two.path._flows.lookup(key)
    two.path.forget(two.entry(0))
    two.path.enter(two.entry(1))
    two.path._flows.update(key, flow)
    assert not two.send(0, DATA)
    assert two.path.read(two.entry(1)).packets == (0, 0)


def test_one_more_than_there_is_room_for_stays_with_the_engine(driven):
    few = driven(4, capacity=3)
    assert [few.path.enter(few.entry(number)) for number in range(4)] == [True, True, True, False]
    assert few.path.refused == 1
    assert few.path.held == few.path.capacity == 3
    assert [few.send(number, ACK) for number in range(4)] == [True, True, True, False]
    few.path.forget(few.entry(1))
    assert few.path.enter(few.entry(3))
    assert [few.send(number, ACK) for number in range(4)] == [True, False, True, True]


def test_one_of_which_only_half_has_room_is_not_entered(driven):
    few = driven(3, capacity=3)
    for number in range(5):  # of the six places for flows, one is left
        few.path._flows.update(packed_key(bytes((number,)) * 13), bytes(52))
    assert not few.path.enter(few.entry(0))
    assert few.path.refused == 1
    assert few.path.held == 0
    assert few.path._flows.lookup(packed_key(few.entry(0).original)) is None
    few.path._flows.delete_all(packed_key(bytes((0,)) * 13))
    assert few.path.enter(few.entry(0))
    assert few.send(0, ACK)


# Reading in pieces


def test_only_what_has_changed_is_reported(driven):
    many = driven(300)
    many.enter_all()
    assert changed(many.path) == {}
    for number in 0, 127, 128, 299:
        assert many.send(number, DATA)
    assert many.send(200, ACK, from_server=True)
    found = changed(many.path)
    assert {connection: report.packets for connection, report in found.items()} == {
        **{many.entry(number): (1, 0) for number in (0, 127, 128, 299)},
        many.entry(200): (0, 1),
    }
    assert changed(many.path) == {}


def test_between_two_pieces_connections_come_and_go(driven):
    many = driven(300)
    many.enter_all()
    for number in range(300):
        many.send(number, DATA)
    going = many.path.reports()
    first = next(going)
    assert len(first) == PIECE
    for number in range(150, 200):
        many.path.forget(many.entry(number))
    rest = [connection for piece in going for connection, _ in piece]
    assert set(rest) == {many.entry(number) for number in range(300) if not 150 <= number < 200} - {c for c, _ in first}


def test_a_piece_takes_less_time_than_a_thousand_packets(driven):
    """Two milliseconds, where the engine takes two microseconds for a packet; without news a quarter of that.

    The best of several, because it is the machine that makes the others longer.
    """
    many = driven(2 * PIECE)
    many.enter_all()
    packets = [bytes(ACK.packet(client)) for client in many.clients]
    silent, busy, handled = [], [], []
    for _ in range(10):
        silent.append(_longest(many.path))
        for number in range(2 * PIECE):
            many.send(number, ACK)
        busy.append(_longest(many.path))
        start = time.perf_counter()
        for packet in packets:
            many.talk.engine.handle_packet(bytearray(packet), many.talk.now)
        handled.append((time.perf_counter() - start) / len(packets))
    assert min(silent) < 250 * min(handled)
    assert min(busy) < 1000 * min(handled)


def _longest(path: FastPath) -> float:
    longest, start = 0.0, time.perf_counter()
    for _ in path.reports():
        now = time.perf_counter()
        longest, start = max(longest, now - start), now
    return longest


# What the program says by itself


def test_the_end_of_a_connection_is_told_at_once(driven):
    three = driven(3)
    three.enter_all()
    assert select.select([three.path], [], [], 0)[0] == []
    three.send(0, RST)
    three.send(1, FIN)
    three.send(2, FIN)
    three.send(2, FIN, from_server=True)
    three.send(2, FIN, from_server=True)
    assert select.select([three.path], [], [], 1)[0] == [three.path]
    ended = three.path.ended()
    assert ended == [three.entry(0), three.entry(2)]
    assert [three.path.read(connection).state for connection in ended] == [State.TRANS, State.BOTH_FIN]
    assert three.path.ended() == three.path.samples() == []
    assert select.select([three.path], [], [], 0)[0] == []


@pytest.mark.parametrize("fin", [False, True])
def test_a_reset_is_told_with_the_state_that_it_has_ended(driven, fin):
    one = driven(1)
    one.enter_all()
    if fin:
        assert one.send(0, FIN, from_server=True)
    assert one.send(0, RST)
    report = one.path.read(one.entry(0))
    assert (report.state, report.by) == (State.TRANS, Direction.ORIGINAL)
    assert report.before is (State.SERVER_FIN if fin else State.ESTABLISHED)


def test_of_one_that_is_forgotten_nothing_is_told(driven):
    two = driven(2)
    two.path.enter(two.entry(0))
    two.send(0, RST)
    two.path.forget(two.entry(0))
    two.path.enter(two.entry(1))
    assert two.path.ended() == []


def test_an_event_of_a_row_that_nobody_has_ever_had_means_nothing(driven):
    one = driven(1)
    one.path._on_event(ENDED.pack(7, 0))
    assert one.path.ended() == []


def test_where_there_is_no_room_for_events_the_end_is_read(driven):
    many = driven(1)
    many.enter_all()
    # A ring of 256 KB has room for so many events of 16 bytes.
    for _ in range(256 * 1024 // 16 + 1):
        many.path.enter(many.entry(0))
        assert many.send(0, RST)
    assert changed(many.path)[many.entry(0)].state is State.TRANS
    assert len(many.path.ended()) == 256 * 1024 // 16 - 1


# Samples


def test_a_sample_is_the_packet_as_it_came_and_as_it_went(start):
    talk = start()
    server = talk.shake_hands()
    talk.path.sample(1)
    for said in DATA, ACK, DATA(payload=b"x" * 1400):
        outcome = talk.client >> said << to(server) << carried
        [sample] = talk.path.samples()
        assert sample.connection is talk.entry()
        assert sample.direction is Direction.ORIGINAL
        assert sample.size == len(outcome.sent)
        assert sample.before == outcome.sent
        assert sample.after == one_hop_on(outcome.buffer)
    talk.path.sample(0)
    server >> DATA << carried
    assert talk.path.samples() == []


def test_of_a_long_packet_the_start_is_sampled(start):
    talk = start()
    server = talk.shake_hands()
    talk.path.sample(1)
    talk.arena.set_mtu(9000)
    try:
        outcome = server >> DATA(payload=bytes(range(256)) * 12) << carried
    finally:
        talk.arena.set_mtu(1500)
    [sample] = talk.path.samples()
    assert sample.direction is Direction.REPLY
    assert sample.size == len(outcome.sent) > 2048
    assert sample.before == outcome.sent[:2048]
    assert sample.after == one_hop_on(outcome.buffer)[:2048]


def test_as_many_packets_are_sampled_as_is_asked_for(driven):
    one = driven(1)
    one.enter_all()
    one.path.sample(0.25)
    samples = 0
    for _ in range(4000):
        one.send(0, ACK)
        samples += len(one.path.samples())
    assert 800 < samples < 1200  # beyond that, one time in a million million


def test_samples_never_take_the_room_of_events(driven):
    one = driven(1)
    one.enter_all()
    one.path.sample(1)
    for _ in range(200):
        assert one.send(0, ACK)
    one.send(0, RST)
    assert one.path.ended() == [one.entry(0)]
    assert len(one.path.samples()) == 256 * 1024 // 4136


# What it takes


def test_without_libbpf_there_is_no_fast_path(monkeypatch, driven):
    one = driven(1)
    monkeypatch.setattr(libbpf, "_library", None)
    monkeypatch.setattr(libbpf, "_NAMES", ())
    with pytest.raises(OffloadError, match="libbpf is not installed"):
        FastPath(one.talk.engine.ledger, 0, 10, lambda connection: b"")


def test_more_than_the_kernel_has_memory_for_is_refused(driven):
    one = driven(1)
    with pytest.raises(OffloadError, match="the kernel refuses"):
        FastPath(one.talk.engine.ledger, 0, 2**31 - 1, lambda connection: b"")


def test_a_refusal_leaves_nothing_open(driven):
    one = driven(1)
    with nothing_left_open(), pytest.raises(OffloadError):
        FastPath(one.talk.engine.ledger, 0, 2**31 - 1, lambda connection: b"")


def test_what_was_closed_has_nothing_open(driven):
    one = driven(1)
    with nothing_left_open():
        path = FastPath(one.talk.engine.ledger, 1, 10, lambda connection: b"")
        assert path.enter(one.entry(0))
        path.close()


def test_the_handshake_can_be_had_with_the_program(driven):
    """Entered with its SYN, a connection is reported as established, and since when it is answered."""
    one = driven(0)
    talk = one.talk
    talk.client >> SYN
    [server] = [each for each in (talk.server1, talk.server2) if each.peer is not None]
    one.clients, one.servers = [talk.client], {talk.client.place: server}
    entry = talk.entry()
    assert one.path.enter(entry)
    assert one.path.read(entry).answered < 0
    before = time.monotonic()
    assert one.send(0, SYN_ACK, from_server=True)
    report = one.path.read(entry)
    assert before <= report.answered <= time.monotonic()
    assert (report.state, report.by) == (State.SYN_RECEIVED, Direction.REPLY)
    talk.heard[talk.client.place, talk.client.peer] = 5001
    assert one.send(0, ACK)
    report = one.path.read(entry)
    assert (report.state, report.by) == (State.ESTABLISHED, Direction.ORIGINAL)


def test_of_udp_there_is_no_window(start):
    talk = start()
    talk.client >> DATAGRAM
    [server] = [each for each in (talk.server1, talk.server2) if each.peer is not None]
    server >> DATAGRAM
    talk.client >> DATAGRAM(payload=b"12345") << carried
    report = talk.path.forget(talk.entry())
    assert (report.state, report.following, report.acked, report.edge) == (State.BOTH_WAYS, (0, 0), (0, 0), (0, 0))
