"""Packets that are handled elsewhere: what the engine is told of them makes no difference to anybody."""

from collections import Counter
from operator import itemgetter
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from natlb.core.engine import NatEngine
from natlb.core.events import ConnectionRefused, EndReason
from natlb.core.flow import OFFLOADED, Direction
from natlb.core.offloading import OFFLOADABLE, Offloading, Survivor
from natlb.core.pool import AdminState, Pool, Server
from natlb.core.record import after_a_crash
from natlb.core.service import Service, Timeouts, VirtualAddresses
from natlb.core.states import FINISHED, HALF_OPEN, State
from natlb.core.verdict import DropReason, Rewrite
from tests.effort import examples
from tests.unit.core.conversation import ACK as ACK_
from tests.unit.core.conversation import DATA, DATAGRAM, SYN_ACK, dropped, to
from tests.unit.core.conversation import FIN as FIN_
from tests.unit.core.conversation import RST as RST_
from tests.unit.core.conversation import SYN as SYN_
from tests.unit.core.crossing import Crossing
from tests.unit.core.packets import ACK, FIN, PSH, RST, SYN, TCP, UDP, URG, cut, datagram, ends, packed, places, segment
from tests.unit.core.program import Program
from tests.unit.core.test_model import NatMachine
from tests.unit.core.test_resumption import record


class OffloadedNatMachine(NatMachine):
    """The same engine with a program in front of it, against the same model."""

    def prepare(self):
        self.program = Program(self.engine.ledger)
        self.engine.offloading.cache = self.program
        self.engine.offloading.most_half_open = 1000

    @rule(room=st.sampled_from([0, 1, 1000]))
    def it_is_switched(self, room):
        """Off and on again, with that much room."""
        offloading = self.engine.offloading
        offloading.retreat(self.engine.connections(), self.model.now)
        assert not offloading.offloaded
        self.program = Program(self.engine.ledger, room)
        offloading.cache = self.program if room else None

    def change(self, place, usable, how):
        super().change(place, usable, how)
        self.engine.offloading.retreat_from_servers_away(self.engine.connections(), self.model.now)

    def handled_elsewhere(self, sent):
        packet = self.program.carry(bytes(sent), self.model.now)
        return None if packet is None else places(packet)

    def learn(self):
        self.engine.offloading.hear(self.model.now)
        self.engine.offloading.enter()
        for _ in self.engine.offloading.catch_up_all(lambda: self.model.now):
            pass

    @invariant()
    def the_cache_is_a_part_of_the_table(self):
        offloaded = {each for each in self.engine.connections() if each.offloaded}
        assert offloaded == set(self.program.rows)
        assert self.engine.offloading.offloaded == len(offloaded)
        assert {each.state for each in offloaded} <= OFFLOADABLE
        assert self.program.flows.keys() == {key for each in offloaded for key in (each.original, each.reply)}


TestOffloadedNat = pytest.mark.random(OffloadedNatMachine.TestCase)
TestOffloadedNat.settings = settings(max_examples=60, stateful_step_count=60)


# The same packets, with and without


CLIENT = {4: "44.1.1.1", 6: "fd44:1::1"}
VIP = {4: ("44.2.2.2", 80), 6: ("fd44:2::2", 80)}
SERVER = {4: ("44.3.3.3", 4444), 6: ("fd44:3::3", 4444)}
TIMEOUTS = Timeouts(opening=8, idle=64, client_fin=16, server_fin=24, closing=4, one_way=12, both_ways=32)
HOUR = 3600
FLAGS = [ACK] * 30 + [FIN | ACK] * 5 + [RST, RST | ACK, SYN, SYN | ACK, 0, ACK | URG, PSH | ACK, FIN | ACK | URG]


class Side:
    """An engine, and what stands in front of it, if anything does."""

    def __init__(self, family, *, with_program=False):
        self.server = Server("server1", packed(SERVER[family][0]), SERVER[family][1])
        self.pool = Pool("servers", [self.server])
        self.services = [
            Service("web", self.pool, timeouts=TIMEOUTS, logged=True),
            Service("dns", self.pool, timeouts=TIMEOUTS, protocol=UDP, logged=True),
        ]
        addresses = VirtualAddresses()
        for service in self.services:
            addresses.bind(packed(VIP[family][0]), VIP[family][1], service)
        self.engine = NatEngine(addresses)
        self.program = self.engine.offloading.cache = Program(self.engine.ledger) if with_program else None
        self.events = []

    def handle(self, sent, now):
        """Return what becomes of a packet: bytes if it goes on, or what was decided."""
        if self.program is not None and (packet := self.program.carry(sent, now)) is not None:
            return packet
        verdict = self.engine.handle_packet(bytearray(sent), now)
        self.engine.offloading.enter()
        return bytes(verdict.payload) if isinstance(verdict, Rewrite) else verdict

    def learn(self, now):
        offloading = self.engine.offloading
        offloading.hear(now)
        for _ in offloading.catch_up_all(lambda: now):
            pass
        self.agree()

    def agree(self):
        """What the program has is what the table says that it has, and each of it twice."""
        offloaded = {each for each in self.engine.connections() if each.offloaded}
        assert set(self.program.rows) == offloaded
        assert self.program.flows.keys() == {key for each in offloaded for key in (each.original, each.reply)}
        assert self.engine.offloading.offloaded == len(offloaded)
        assert {each.state for each in offloaded} <= OFFLOADABLE

    def known(self):
        """Return all that is known of connections, and counted of anybody."""
        self.events += [self.told(event) for event in iter(self.engine.next_event, None)]
        for service in self.services:
            service.settle()
        return {
            "connections": sorted(map(self.row, self.engine.connections())),
            "owners": [self.counted(each) for each in (*self.services, self.pool, self.server)],
            "events": sorted(self.events, key=itemgetter(0)),  # of one connection they stay in order
            "sent": sorted(iter(self.engine.next_packet, None)),
            "drops": self.engine.drops,
            "closed": self.engine.closed,
            "live": self.engine.live,
        }

    def row(self, connection):
        ledger, row = self.engine.ledger, 2 * connection.index
        pairs = ledger.packets, ledger.octets, ledger.following, ledger.acked, ledger.edge, ledger.shift
        return (
            connection.original,
            connection.reply,
            connection.state.name,
            *(tuple(each[row : row + 2]) for each in pairs),
        )

    @staticmethod
    def counted(owner):
        counters = owner.counters
        average = counters.total_time
        names = [name for name in counters.__slots__ if isinstance(getattr(counters, name), int)]
        return [getattr(counters, name) for name in names], average.mean, getattr(owner, "live", 0)

    @staticmethod
    def told(event):
        if isinstance(event, ConnectionRefused):
            return event.original, "refused"
        account = getattr(event, "account", None)
        reason = getattr(event, "reason", None)
        return (
            event.connection.original,
            type(event).__name__,
            reason,
            account.state if account is not None else None,
            account.by if account is not None else None,
        )


def anything(random, family, engine):
    """Return a packet of one of a few connections: mostly what goes on with it, sometimes what does not."""
    client = CLIENT[family], random.choice((5000, 5001, 5002))
    connection = next((each for each in engine.connections() if ends(each.original)[0] == client), None)
    direction = random.choice((0, 1))
    way = (client, VIP[family]) if direction == 0 else (SERVER[family], client)
    payload = bytes(random.choice((0, 0, 1, 100, 1400)))
    if random.random() < 0.2:
        return datagram(*way, payload, spoilt=random.random() < 0.1)
    if connection is None or connection.state in FINISHED or random.random() < 0.01:
        return segment(*way, random.choice((SYN, SYN, SYN, RST, ACK)), seq=random.choice((1000, 2**32 - 3000, 2**31)))
    ledger, row = engine.ledger, 2 * connection.index + direction
    seq, ack = ledger.following[row], ledger.following[row ^ 1]
    if connection.state in HALF_OPEN:
        flags = ACK if direction == 0 else SYN | ACK
        return segment(*way, flags, seq=seq if flags == ACK else 7_000_000, ack=ack)
    astray = random.choice((0, 0, 0, 0, 0, 1400, -1400, 100_000, -100_000, 2**30))
    sent = segment(
        *way,
        random.choice(FLAGS),
        seq=seq + astray & 0xFFFFFFFF,
        ack=ack - random.choice((0, 0, 0, 100, -5000)) & 0xFFFFFFFF,
        window=random.choice((0x2000, 0x2000, 0, 0xFFFF)),
        payload=payload,
        ip_options=b"\1\1\1\1" if random.random() < 0.05 else b"",
        extensions=(60,) if random.random() < 0.05 else (),
        spoilt=random.random() < 0.05,
    )
    return cut(sent, 0, 24) if random.random() < 0.02 else sent


@pytest.mark.random
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_an_hour_of_the_same_packets_comes_to_the_same_with_a_program_and_without(family, seed):
    """Connections come and go, are closed, reset, shut down and time out; servers come and go as well."""
    random, begun = Random(f"{family}, {seed}"), 1000.0
    now, packets = begun, 0
    alone, helped = Side(family), Side(family, with_program=True)
    compared = Counter()
    while now < begun + HOUR:
        packets += 1
        sent = bytes(anything(random, family, alone.engine))
        assert helped.handle(sent, now) == alone.handle(sent, now)
        chance = random.random()
        if chance < 0.02:
            helped.learn(now)
            assert helped.known() == alone.known()
            compared.update(each.state for each in alone.engine.connections())
        elif chance < 0.03:
            helped.engine.offloading.retreat(helped.engine.connections(), now)
        elif chance < 0.035:
            for side in (alone, helped):
                for connection in list(side.engine.connections()):
                    side.engine.shutdown(connection, now)
        elif chance < 0.04:
            up = random.random() < 0.5
            for side in (alone, helped):
                side.pool.set_health(side.server, up, now)
            helped.engine.offloading.retreat_from_servers_away(helped.engine.connections(), now)
        elif chance < 0.1:
            # Moves of the state are heard of within milliseconds. What expires is nothing or all: within the second,
            # the two need not agree.
            helped.engine.offloading.hear(now)
            now += random.choice((0.125, 0.125, 0.125, 0.125, 5, 130))
            for side in (alone, helped):
                side.engine.handle_timeout(now)
                side.pool.set_health(side.server, True, now)
    helped.learn(now)
    assert helped.known() == alone.known()
    assert helped.program.carried > packets / 5
    assert compared.keys() >= {State.ESTABLISHED, State.BOTH_WAYS}
    ways_to_end = EndReason.FINISHED, EndReason.RESET, EndReason.TIMED_OUT, EndReason.SHUT_DOWN
    assert alone.engine.closed.keys() >= set(ways_to_end)


# When a flow changes over


def behind(patience, **settings):
    """Return what stands in front of an engine: a program that lets nothing overtake, with so much patience."""

    def front(engine):
        program = Program(engine.ledger, patience=patience, **settings)
        return program, program.carry

    return front


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request):
    return request.param


@pytest.mark.random
@pytest.mark.parametrize("seed", range(examples(2)))
def test_nothing_is_overtaken_when_flows_change_over(family, seed):
    crossing = Crossing(family, Random(f"{family}, {seed}"), behind(patience=1e9))
    for _ in range(4):
        crossing.go_on(40)
        crossing.drain()
        crossing.go_on(30)
        crossing.change_over_again()
    crossing.settle()
    assert crossing.disorder == 0
    assert crossing.known() == crossing.true()
    assert min(crossing.carried, crossing.handled) > 100
    crossing.close()
    assert crossing.engine.closed == {EndReason.FINISHED: 3}


@pytest.mark.random
@pytest.mark.parametrize("seed", range(examples(2)))
def test_where_the_engine_is_never_done_patience_ends_and_all_is_known_nevertheless(family, seed):
    crossing = Crossing(family, Random(f"{family}, {seed}"), behind(patience=0.05))
    for _ in range(2):
        crossing.go_on(250, busy=True)
        crossing.change_over_again()
    crossing.settle()
    assert crossing.disorder > 0, "that is the price"
    assert crossing.known() == crossing.true()
    assert min(crossing.carried, crossing.handled) > 100
    crossing.close()
    assert crossing.engine.closed == {EndReason.FINISHED: 3}


@pytest.mark.random
@pytest.mark.parametrize("hosts", [(CLIENT,), (SERVER,), (CLIENT, SERVER)], ids=["client", "server", "both"])
def test_what_has_changed_over_out_of_turn_and_comes_to_the_engine_nevertheless_is_known(family, hosts):
    """A filter is taken off, of one interface after the other, while connections are still with the program."""
    blind = {host[family] for host in hosts}
    for seed in range(examples(4)):
        crossing = Crossing(family, Random(f"{family}, {seed}"), behind(patience=0.01))
        for _ in range(4):
            crossing.go_on(80, busy=True)
            crossing.blind = blind
            crossing.go_on(80, busy=True)
            crossing.change_over_again()
            crossing.blind = set()
        crossing.settle()
        assert crossing.known() == crossing.true()
        crossing.close()
        assert crossing.engine.closed == {EndReason.FINISHED: 3}


def test_a_segment_that_was_overtaken_is_a_sign_of_life_and_no_more(family):
    crossing = Crossing(family, Random(0), behind(patience=0.01))
    crossing.handle(0)
    client = crossing.flows[0][0]
    connection = next(each for each in crossing.engine.connections() if ends(each.original)[0] == client.own)
    crossing.come(client.speak(crossing.random))
    crossing.now += 60
    crossing.come(client.speak(crossing.random))
    assert (len(crossing.queue), crossing.carried) == (1, 1)
    crossing.now += 60
    crossing.drain()
    assert connection.offloaded
    assert crossing.engine.ledger.refresh_at[connection.index] > crossing.now
    crossing.settle()
    assert crossing.known() == crossing.true()


@pytest.mark.parametrize("host", [CLIENT, SERVER], ids=["client", "server"])
def test_what_comes_in_where_there_is_no_program_is_known(family, host):
    crossing = Crossing(family, Random(f"{family}"), behind(patience=0.01))
    crossing.blind = {host[family]}
    crossing.go_on(500, busy=True)
    crossing.settle()
    assert crossing.known() == crossing.true()
    assert crossing.carried > 50
    crossing.close()
    assert crossing.engine.closed == {EndReason.FINISHED: 3}


def test_of_what_is_lost_on_its_way_to_the_engine_the_next_one_makes_up(family):
    crossing = Crossing(family, Random(f"{family}"), behind(patience=1e9))
    crossing.go_on(100, lost=0.2)
    crossing.drain()
    crossing.settle()
    handled = crossing.handled
    crossing.settle()
    assert crossing.handled == handled, "all that is said is carried"


def test_of_a_flow_that_is_taken_back_nothing_more_is_told(family):
    crossing = Crossing(family, Random(0), behind(patience=1e9))
    crossing.handle(0)
    offloading, program = crossing.engine.offloading, crossing.engine.offloading.cache
    for _, end in crossing.flows:
        assert isinstance(crossing.engine.handle_packet(bytearray(end.speak(crossing.random)), crossing.now), Rewrite)
    (gone, *staying) = list(program.rows)
    offloading.withdraw(gone, crossing.now)
    offloading.tell_handled()
    assert [program.rows[each].sides[Direction.REPLY].handled is not None for each in staying] == [True] * 5


# What a cache is asked for, and when


@pytest.fixture
def offloaded(start):
    """Start a conversation with an engine that has a cache, and the cache."""

    def begin(room=1000, **settings):
        talk = start(**settings)
        program = talk.engine.offloading.cache = Program(talk.engine.ledger, room)
        carry = talk.carry

        def carry_and_enter(*arguments):
            outcome = carry(*arguments)
            talk.engine.offloading.enter()
            return outcome

        talk.carry = carry_and_enter
        return talk, program

    return begin


def carried(talk, program, host, said):
    """Return what became of a packet, as bytes, in front of the engine; None if it had to go there."""
    return program.carry(bytes(said.packet(host)), talk.now)


@pytest.fixture
def answered(offloaded):
    """Begin a conversation whose client has been sent the server's SYN."""

    def begin(most_half_open=1000, *, early=False, logged=False, **settings):
        talk, program = offloaded(**settings)
        talk.engine.offloading.most_half_open = most_half_open
        talk.service.logged, talk.service.logged_early = logged, early
        talk.client >> SYN_ << to(talk.server1)
        assert not program.rows
        talk.server1 >> SYN_ACK << to(talk.client)
        return talk, program, talk.server1

    return begin


def agree(talk, program):
    """Have the client acknowledge the server's SYN, past the engine."""
    assert carried(talk, program, talk.client, ACK_) is not None
    assert talk.entry().state is State.SYN_RECEIVED, "that is not known yet"


def test_a_connection_is_entered_when_the_server_has_answered(answered):
    talk, program, server = answered()
    assert list(program.rows) == [talk.entry()]
    assert talk.entry().offloaded
    assert carried(talk, program, server, DATA) is None, "it has to wait for the client"
    agree(talk, program)
    assert carried(talk, program, server, DATA) is not None
    talk.engine.offloading.catch_up(talk.entry(), talk.now)
    assert talk.entry().state is State.ESTABLISHED


def test_it_is_entered_although_packets_of_others_wait(answered, monkeypatch):
    monkeypatch.setattr(Offloading, "enter", lambda self: None)
    talk, program, _ = answered()
    assert list(program.rows) == [talk.entry()]


@pytest.mark.parametrize("why", [{"most_half_open": 0}, {"early": True}], ids=["half-open ones", "its log"])
def test_else_it_is_entered_when_the_client_has_acknowledged_the_servers_syn(answered, why):
    talk, program, server = answered(**why)
    assert not program.rows
    talk.client >> ACK_ << to(server)
    assert list(program.rows) == [talk.entry()]


def test_while_a_limit_is_reached_likewise_so_that_it_is_seen_how_long_the_client_takes(offloaded):
    """What the fast path would tell of a second later is no time that a client has taken."""
    talk, program = offloaded(max_connections=1)
    talk.client >> SYN_ << to(talk.server1)
    talk.client.at(1001) >> SYN_ << dropped(DropReason.MAXCONN)
    talk.server1 >> SYN_ACK << to(talk.client)
    assert not program.rows
    before = talk.engine._patience.grace
    talk.client >> ACK_ << to(talk.server1)
    assert list(program.rows) == [talk.entry()]
    assert talk.engine._patience.grace < before


def test_what_is_learned_of_a_client_later_is_no_time_that_it_has_taken(answered):
    talk, program, _ = answered()
    agree(talk, program)
    before = talk.engine._patience.grace
    talk.now += 1
    talk.engine.offloading.catch_up(talk.entry(), talk.now)
    assert talk.entry().state is State.ESTABLISHED
    assert talk.engine._patience.grace == before


def test_it_is_not_entered_where_the_fast_path_is_being_switched_off(offloaded):
    talk, program = offloaded()
    talk.engine.offloading.is_open = False
    talk.client >> SYN_ << to(talk.server1)
    talk.server1 >> SYN_ACK << to(talk.client)
    assert not program.rows


@pytest.mark.parametrize("ender", ["client", "server1"])
def test_a_connection_that_is_over_before_that_is_known_was_established(answered, ender):
    talk, program, _ = answered(logged=True)
    agree(talk, program)
    assert carried(talk, program, getattr(talk, ender), RST_) is not None
    talk.engine.offloading.hear(talk.now)
    assert (talk.entry().state, talk.engine.closed) == (State.TRANS, {EndReason.RESET: 1})
    events = [event for event in iter(talk.engine.next_event, None) if getattr(event, "account", None)]
    states = [(type(event).__name__, event.account.state) for event in events]
    assert states == [("ConnectionEstablished", State.SYN_RECEIVED), ("ConnectionClosed", State.ESTABLISHED)]


@pytest.mark.parametrize("closer", ["client", "server1"])
@pytest.mark.parametrize("resetter", ["client", "server1"])
def test_of_a_fin_and_a_reset_within_a_second_both_are_told(answered, closer, resetter):
    talk, program, _ = answered(logged=True)
    agree(talk, program)
    assert carried(talk, program, getattr(talk, closer), FIN_) is not None
    assert carried(talk, program, getattr(talk, resetter), RST_) is not None
    talk.engine.offloading.hear(talk.now)
    assert (talk.entry().state, talk.engine.closed) == (State.TRANS, {EndReason.RESET: 1})
    *_, account = [event.account for event in iter(talk.engine.next_event, None) if getattr(event, "account", None)]
    assert account.state is (State.CLIENT_FIN if closer == "client" else State.SERVER_FIN)
    assert account.by is (Direction.ORIGINAL if resetter == "client" else Direction.REPLY)


def test_a_syn_that_is_sent_again_comes_here_and_takes_it_back(answered):
    talk, program, server = answered()
    assert carried(talk, program, talk.client, SYN_) is None
    talk.client >> SYN_ << to(server)
    assert not program.rows, "what the client sends next may wait behind it"
    talk.client >> ACK_ << to(server)
    assert list(program.rows) == [talk.entry()]


@pytest.mark.parametrize("limits", [{"capacity": 1}, {"half_open_capacity": 1}, {"max_connections": 1}], ids=str)
@pytest.mark.parametrize("is_agreed", [False, True])
def test_who_has_agreed_on_the_fast_path_does_not_give_way(answered, limits, is_agreed):
    talk, program, _ = answered(**limits)
    if is_agreed:
        agree(talk, program)
    talk.now += 1
    talk.client.at(40001) >> SYN_
    gives_way = not is_agreed
    assert talk.engine.closed == ({EndReason.EVICTED: 1} if gives_way else {})
    assert (talk.entry(talk.client) is None) is gives_way


@pytest.mark.parametrize("is_agreed", [False, True])
def test_nor_is_who_has_agreed_forsaken(answered, is_agreed):
    talk, program, _ = answered()
    for each in talk.pool.servers.values():
        each.maxconn = 1
    talk.client.at(40001) >> SYN_
    talk.server2 >> SYN_ACK << to(talk.client.at(40001))
    talk.client.at(40001) >> ACK_ << to(talk.server2)
    if is_agreed:
        agree(talk, program)
    talk.now += 3
    talk.client.at(40002) >> SYN_
    assert (talk.entry(talk.client) is None) is not is_agreed


@pytest.mark.parametrize("is_agreed", [False, True])
def test_it_times_out_by_what_the_fast_path_has_seen(answered, is_agreed):
    talk, program, _ = answered(timeouts=Timeouts(opening=8, idle=64))
    if is_agreed:
        agree(talk, program)
    talk.wait(10)
    assert (talk.entry() is not None) is is_agreed


def test_a_connection_is_carried_once_it_is_established(offloaded):
    talk, program = offloaded()
    server = talk.shake_hands()
    assert list(program.rows) == [talk.entry()]
    assert talk.entry().offloaded
    assert carried(talk, program, talk.client, DATA) is not None
    assert carried(talk, program, server, DATA) is not None


def test_a_flow_of_udp_is_entered_when_the_server_has_answered(offloaded):
    talk, program = offloaded()
    talk.client >> DATAGRAM << to(talk.server1)
    assert not program.rows
    talk.server1 >> DATAGRAM << to(talk.client)
    assert list(program.rows) == [talk.entry()]


@pytest.mark.parametrize("settings", [{"requests": 3}, {"responses": 2}])
def test_a_flow_of_udp_is_not_whose_datagrams_are_counted(offloaded, settings):
    talk, program = offloaded(**settings)
    talk.client >> DATAGRAM << to(talk.server1)
    talk.server1 >> DATAGRAM << to(talk.client)
    assert talk.entry().state is State.BOTH_WAYS
    assert not program.rows


@pytest.mark.parametrize("own", ["client", "server1"])
def test_nor_is_a_connection_of_this_machines(offloaded, own):
    talk, program = offloaded()
    talk.engine.own_addresses.add(packed(getattr(talk, own).place[0]))
    talk.shake_hands()
    assert talk.entry().state is State.ESTABLISHED
    assert not program.rows


def test_who_finds_no_room_is_offered_again_once_a_second(offloaded):
    talk, program = offloaded(room=0)
    server = talk.shake_hands()
    program.room = 1
    talk.client >> DATA << to(server)
    assert not talk.entry().offloaded, "each offer costs as much as the packet"
    talk.wait(1)
    talk.client >> DATA << to(server)
    assert talk.entry().offloaded


def test_who_is_translated_elsewhere_as_well_never_gets_there(offloaded):
    talk, program = offloaded()
    program.misses_all = True
    server = talk.shake_hands()
    program.misses_all = False
    talk.wait(1)
    talk.client >> DATA << to(server)
    assert talk.entry().state is State.ESTABLISHED
    assert not talk.entry().offloaded, "that was decided with its first packet"
    assert not program.rows


def test_a_fast_path_that_is_switched_on_takes_what_is_there(offloaded):
    talk, program = offloaded()
    talk.engine.offloading.cache = None
    server = talk.shake_hands()
    talk.client >> DATAGRAM << to(talk.server2)
    talk.server2 >> DATAGRAM << to(talk.client)
    talk.engine.offloading.cache = program
    talk.wait(1)
    server >> DATA << to(talk.client)
    talk.client >> DATAGRAM << to(talk.server2)
    assert len(program.rows) == 2 == talk.engine.offloading.offloaded


def test_a_fast_path_that_is_switched_off_gives_back_what_it_has(offloaded):
    talk, program = offloaded()
    server = talk.shake_hands()
    assert carried(talk, program, talk.client, DATA) is not None
    talk.engine.offloading.retreat(list(talk.engine.connections()), talk.now)
    assert not program.rows
    server >> DATA << to(talk.client)
    assert talk.carried() == [(3, len(DATA.payload)), (2, len(DATA.payload))]


def test_a_segment_that_comes_here_nevertheless_goes_on_where_the_others_were(offloaded):
    talk, program = offloaded()
    server = talk.shake_hands()
    assert carried(talk, program, talk.client, DATA) is not None
    talk.client >> DATA(payload=b"more") << to(server)
    assert talk.entry().offloaded
    assert carried(talk, program, server, ACK_) is not None, "it is entered again"
    talk.engine.offloading.catch_up(talk.entry(), talk.now)
    assert talk.carried() == [(4, len(DATA.payload) + 4), (2, 0)]


def test_what_is_carried_is_learned_of_as_of_that_moment(answered):
    talk, program, server = answered()
    agree(talk, program)
    assert carried(talk, program, server, DATA) is not None
    clock = iter([talk.now])
    for _ in talk.engine.offloading.catch_up_all(lambda: next(clock)):
        assert talk.entry().state is State.ESTABLISHED
        assert talk.carried() == [(2, 0), (2, len(DATA.payload))]
    assert not list(clock), "there was one piece"
    talk.engine.offloading.cache = None
    assert not list(talk.engine.offloading.catch_up_all(lambda: talk.now)), "without a cache there is none"


def test_a_forged_reset_takes_nothing_off_the_fast_path(offloaded):
    talk, program = offloaded()
    server = talk.shake_hands()
    server >> RST_(seq=1) << dropped(DropReason.OUT_OF_WINDOW)
    assert list(program.rows) == [talk.entry()]


def test_who_is_shut_down_is_sent_resets_with_the_numbers_of_the_fast_path(offloaded):
    talk, program = offloaded()
    server = talk.shake_hands()
    for host in (talk.client, server):
        said = talk.numbered(DATA, host)
        assert carried(talk, program, host, said) is not None
        other = server if host is talk.client else talk.client
        talk.heard[other.place, other.peer] = said.seq + len(said.payload)
    talk.engine.shutdown(talk.entry(), talk.now)
    assert not program.rows
    assert {talk.wanted(talk.client), talk.wanted(server)} <= set(talk.resets())


def test_who_has_reset_meanwhile_is_not_shut_down(offloaded):
    talk, program = offloaded()
    server = talk.shake_hands()
    assert carried(talk, program, server, RST_) is not None
    talk.engine.shutdown(talk.entry(), talk.now)
    assert (talk.entry().state, talk.resets()) == (State.TRANS, [])


def test_a_connection_lives_on_by_what_the_fast_path_has_seen(offloaded):
    talk, program = offloaded(timeouts=Timeouts(idle=10))
    talk.shake_hands()
    talk.now += 9
    assert carried(talk, program, talk.client, DATA) is not None
    talk.wait(9)
    assert talk.entry().state is State.ESTABLISHED
    talk.wait(2)
    assert talk.entry().state is State.SHUT
    assert not program.rows


def test_a_connection_that_ended_makes_room_for_the_next_at_once(offloaded):
    talk, program = offloaded(max_connections=1)
    server = talk.shake_hands()
    assert carried(talk, program, talk.client, FIN_) is not None
    assert carried(talk, program, server, FIN_) is not None
    assert talk.engine.live == 1
    talk.client.at(40001) >> SYN_ << to(talk.server2)
    assert talk.engine.live == 1
    assert not program.rows


def test_a_flow_of_udp_does_not_go_on_to_a_server_that_is_away(offloaded):
    talk, program = offloaded()
    server = talk.shake_hands()
    talk.client >> DATAGRAM << to(talk.server2)
    talk.server2 >> DATAGRAM << to(talk.client)
    for each in (server, talk.server2):
        talk.pool.set_admin(talk.configured(each), AdminState.MAINT, talk.now)
    talk.engine.offloading.retreat_from_servers_away(talk.engine.connections(), talk.now)
    assert [each.original[-1] for each in program.rows] == [TCP], "a connection is left to its ends"
    talk.pool.set_admin(talk.configured(server), AdminState.READY, talk.now)
    talk.client >> DATAGRAM << to(server)


# After a crash


def killed(talk, program):
    """Return what a cache knows of its connections when there is no engine any more."""
    ledger = talk.engine.ledger
    survivors = []
    for connection, row in program.rows.items():
        at = 2 * connection.index
        report = program.read(connection)
        totals = [
            tuple(a + b for a, b in zip(counted[at : at + 2], since, strict=True))
            for counted, since in ((ledger.packets, report.packets), (ledger.octets, report.octets))
        ]
        report = report._replace(
            packets=totals[0],
            octets=totals[1],
            shift=tuple(side.shift for side in row.sides),
            answered=ledger.answered[connection.index],
        )
        survivors.append(Survivor(connection.original, connection.reply, ledger.opened[connection.index], report))
    return survivors


def restarted(start, talk, **settings):
    """Start another natlb; who spoke with the first one notices nothing."""
    other = start(**settings)
    other.now, other.sent, other.heard = talk.now, talk.sent, talk.heard
    other.server1.peer = talk.server1.peer
    return other


@pytest.mark.parametrize("ranges", [None, [(5000, 5001)]], ids=["nat", "full nat"])
@pytest.mark.parametrize("is_closing", [False, True])
def test_a_connection_outlives_the_engine(offloaded, start, ranges, is_closing):
    talk, program = offloaded(ranges=ranges)
    server = talk.shake_hands()
    talk.now += 3
    assert carried(talk, program, talk.client, DATA) is not None
    if is_closing:
        assert carried(talk, program, talk.client, FIN_) is not None
    [survivor], entry = killed(talk, program), talk.entry()
    other = restarted(start, talk, ranges=ranges)
    adopted = other.engine.resumption.adopt(survivor, other.service, other.configured(server))
    assert adopted is other.entry()
    assert adopted.state is (State.CLIENT_FIN if is_closing else State.ESTABLISHED)
    times = [
        (e.ledger.opened[c.index], e.ledger.answered[c.index])
        for e, c in ((talk.engine, entry), (other.engine, adopted))
    ]
    assert times[0] == times[1]
    assert adopted.queue.seen(adopted) == talk.now
    assert other.carried() == [(3 + is_closing, len(DATA.payload)), (1, 0)]
    assert other.engine.live == other.service.live == other.configured(server).live == 1
    other.server1 >> DATA << to(other.client)
    other.client >> ACK_ << to(other.server1, seen_as=server.peer)
    other.engine.shutdown(adopted, other.now)
    assert {other.wanted(other.client), other.wanted(other.server1)} <= set(other.resets())
    other.client.at(40001) >> SYN_ << to(other.server1, seen_as=ranges and (talk.snat, 10001 - server.peer[1]))
    other.wait(10_000)
    other.wait(10_000)
    assert not other.engine.ports_lent


def test_so_does_one_whose_client_has_not_agreed_yet(answered, start):
    talk, program, server = answered()
    [survivor] = killed(talk, program)
    other = restarted(start, talk)
    adopted = other.engine.resumption.adopt(survivor, other.service, other.configured(server))
    assert adopted.state is State.SYN_RECEIVED
    other.client >> ACK_ << to(other.server1)
    assert other.entry().state is State.ESTABLISHED


@pytest.mark.parametrize("ranges", [None, [(5000, 5000)]], ids=["nat", "full nat"])
def test_a_connection_that_does_not_fit_is_given_up(offloaded, start, ranges):
    talk, program = offloaded(ranges=ranges)
    server = talk.shake_hands()
    [survivor] = killed(talk, program)
    over = survivor._replace(report=survivor.report._replace(state=State.BOTH_FIN))
    for given, most in ((survivor, 1), (survivor, 100), (over, 100)):
        other = restarted(start, talk, ranges=ranges, capacity=most)
        if given is survivor:
            (other.client.at(40001) if most == 1 else other.client) >> SYN_
        assert other.engine.resumption.adopt(given, other.service, other.configured(server)) is None
        assert len(other.engine) == (given is survivor)


def test_nor_does_one_whose_port_is_not_to_be_lent(offloaded, start):
    talk, program = offloaded(ranges=[(5000, 5000)])
    server = talk.shake_hands()
    [survivor] = killed(talk, program)
    for ranges in ([(6000, 6000)], None):
        other = restarted(start, talk, ranges=ranges)
        assert other.engine.resumption.adopt(survivor, other.service, other.configured(server)) is None
        assert not other.engine.ports_lent


def test_the_servers_are_asked_about_when_one_goes_away(talk):
    asked = []
    talk.pool.on_away = lambda: asked.append(talk.now)
    server = talk.configured(talk.server1)
    talk.pool.set_admin(server, AdminState.DRAIN, talk.now)
    assert not asked
    talk.pool.set_admin(server, AdminState.MAINT, talk.now)
    talk.pool.set_health(server, False, talk.now)
    talk.pool.set_admin(server, AdminState.READY, talk.now)
    assert len(asked) == 1, "it was away all the time"


def test_a_connection_that_is_barred_stays_here_until_it_ends(offloaded):
    talk, program = offloaded()
    server = talk.shake_hands()
    talk.engine.offloading.bar(talk.entry(), talk.now)
    talk.wait(1)
    talk.client >> DATA << to(server)
    assert not program.rows
    talk.client >> FIN_ << to(server)
    server >> FIN_ << to(talk.client)
    talk.client >> SYN_ << to(talk.server2)
    talk.server2 >> SYN_ACK << to(talk.client)
    talk.client >> ACK_ << to(talk.server2)
    assert list(program.rows) == [talk.entry()], "another one with the same tuple"
    assert not talk.engine.offloading._barred


# After a crash, with the connections on record: the table has them, and the cache has seen more


def on_record(start, talk, survivor, record, now):
    """Start another natlb that goes on with a record, and is told by the cache what it has seen."""
    other = restarted(start, talk)
    program = other.engine.offloading.cache = Program(other.engine.ledger)
    connection = other.engine.resumption.resume(
        after_a_crash(record, now), other.service, other.configured(talk.server1)
    )
    connection.state, state = survivor.report.state, connection.state
    assert program.enter(connection)
    connection.state = state
    other.engine.offloading.reconcile(connection, survivor.report, now)
    return other, program, connection


@pytest.mark.parametrize("is_closing", [False, True])
@pytest.mark.parametrize("is_known_established", [False, True])
def test_what_the_cache_has_seen_is_newer_than_the_record(offloaded, start, is_closing, is_known_established):
    talk, program = offloaded()
    server = talk.shake_hands()
    written = record(talk.entry(), talk.engine.ledger)
    written = written._replace(state=State.ESTABLISHED if is_known_established else State.SYN_RECEIVED)
    for _ in range(50):
        assert carried(talk, program, talk.client, DATA) is not None
        assert carried(talk, program, server, DATA) is not None
    if is_closing:
        assert carried(talk, program, talk.client, FIN_) is not None
    [survivor] = killed(talk, program)
    other, again, connection = on_record(start, talk, survivor, written, talk.now)
    assert connection.state is (State.CLIENT_FIN if is_closing else State.ESTABLISHED)
    assert connection.aside == OFFLOADED, "where both senders are is known"
    assert other.carried() == [(52 + is_closing, 50 * len(DATA.payload)), (51, 50 * len(DATA.payload))]
    ledger, row = other.engine.ledger, 2 * connection.index
    assert tuple(ledger.following[row : row + 2]) == survivor.report.following
    assert other.engine.offloading.packets == 100 + is_closing
    other.server1 >> DATA << to(other.client)
    other.engine.offloading.enter()
    assert list(again.rows) == [connection]


def test_one_that_has_ended_unseen_is_taken_back_at_once(offloaded, start):
    talk, program = offloaded()
    server = talk.shake_hands()
    written = record(talk.entry(), talk.engine.ledger)
    assert carried(talk, program, talk.client, FIN_) is not None
    assert carried(talk, program, server, FIN_) is not None
    [survivor] = killed(talk, program)
    survivor = survivor._replace(report=survivor.report._replace(answered=-1.0))
    other = restarted(start, talk)
    again = other.engine.offloading.cache = Program(other.engine.ledger)
    connection = other.engine.resumption.resume(written, other.service, other.configured(talk.server1))
    assert again.enter(connection)
    other.engine.offloading.reconcile(connection, survivor.report, talk.now)
    assert connection.state is State.BOTH_FIN
    assert not again.rows
    assert other.engine.live == 0
    assert other.engine.ledger.answered[connection.index] == written.answered


def test_what_was_entered_as_it_is_on_record_only_brings_numbers(offloaded, start):
    talk, program = offloaded()
    talk.shake_hands()
    talk.client >> DATAGRAM << to(talk.server2)
    talk.server2 >> DATAGRAM << to(talk.client)
    udp = next(each for each in talk.engine.connections() if each.original[-1] == UDP)
    written = record(udp, talk.engine.ledger)
    survivor = next(each for each in killed(talk, program) if each.original == udp.original)
    other = restarted(start, talk)
    again = other.engine.offloading.cache = Program(other.engine.ledger)
    connection = other.engine.resumption.resume(written, other.udp, other.configured(talk.server2))
    assert again.enter(connection)
    other.engine.offloading.reconcile(connection, survivor.report, talk.now)
    assert connection.offloaded
    assert record(connection, other.engine.ledger)._replace(seen=written.seen) == written
