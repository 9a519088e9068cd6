"""The engine against the model: whatever clients, servers, routers, operators and time do, the two agree."""

from collections import Counter
from functools import cache
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from natlb.core.engine import NatEngine
from natlb.core.events import ConnectionClosed, ServerBypassed
from natlb.core.packet import TCP, UDP
from natlb.core.pool import AdminState, Neighbourhood, Pool, Server
from natlb.core.ports import PortRanges, Source
from natlb.core.service import Service, Timeouts, VirtualAddresses
from natlb.core.states import FINISHED, HALF_OPEN
from natlb.core.verdict import Accept, Drop, DropReason, Hold, Reply, Rewrite
from tests.effort import examples
from tests.unit.core import invariants, oracle, packets, wire
from tests.unit.core.model import PASS, REFUSED, Model, Packet
from tests.unit.core.packets import ACK, FIN, RST, SYN, packed, places, segment

FLAGS = {"SYN": SYN, "SYN+ACK": SYN | ACK, "ACK": ACK, "FIN": FIN | ACK, "RST": RST, "nonsense": 0}
ADDRESS = {4: "44.{}.0.{}", 6: "fd44:{}::{}"}
# Exact in binary, so that no comparison of times depends on rounding.
TIMEOUTS = {
    "opening": 8, "idle": 64, "client fin": 16, "server fin": 24, "closing": 4, "one way": 12, "both ways": 32
}  # fmt: skip
STARTS = (2**32 - 5000, 2**31 - 5000, 1_000_000)
"""Where sequence numbers start: two soon come to where they wrap around, or change their sign."""
UNLIMITED = 10**9
LIMITS = [
    (100, 100, 100, 100),
    (3, 2, 100, 100),
    (3, 1, 100, 100),
    (100, 2, 3, 100),
    (100, 100, 100, 2),
    (5, 100, 5, 3),
]
"""Living flows, those of one service, entries of the table, half-open ones among them."""

segments = st.sampled_from(list(FLAGS))
datagrams = st.sampled_from(["datagram", "datagram", "datagram", "bare"])
mostly = st.sampled_from([True, True, True, True, False])
distances = st.sampled_from([0, 0, 1, 4000])
in_pieces = st.sampled_from(["", "", "", "in order", "last first"])
sides = st.sampled_from(["client", "server"])

ends = cache(packets.ends)


class NatMachine(RuleBasedStateMachine):
    """Clients, one a neighbour of the servers and one a server itself; two TCP services and one of UDP, on one pool."""

    @initialize(
        family=st.sampled_from([4, 6]),
        limits=st.sampled_from(LIMITS),
        requests=st.sampled_from([UNLIMITED, 2]),
        responses=st.sampled_from([None, None, 0, 1, 2]),
        sights=st.tuples(*[st.sampled_from(["itself", "itself unless near", "one", "two"])] * 4),
    )
    def start(self, family, limits, requests, responses, sights):
        def place(net, host, port=0):
            return ADDRESS[family].format(net, host), port

        living, most, entries, half_open = limits
        self.family, self.start_of_data = family, {4: 20, 6: 40}[family]
        self.numbers = count(1)
        self.clients = [place(*host, port) for host in ((1, 1), (1, 2), (3, 2)) for port in (5000, 65535)]
        self.lent = [place(7, host, port) for host, port in ((1, 5000), (1, 5001), (2, 5001), (2, 6000))]
        self.nobody = place(9, 9, 99)
        self.vips = {
            (name, place(2, host, port)): service
            for name, host, port, service in (
                ("TCP", 1, 80, "web"), ("TCP", 2, 80, "web"), ("TCP", 1, 25, "mail"),
                ("UDP", 1, 7001, "games"), ("UDP", 2, 7001, "games"),
            )
        }  # fmt: skip
        self.servers, servers = {}, {}
        for number, sight in enumerate(sights, 1):
            at = place(3, number, 4444)
            self.servers[at] = Server(f"server{number}", packed(at[0]), at[1], backup=number > 2)
            seen_as = self.look(self.servers[at], sight)
            servers[at] = {"usable": True, "away": False, "backup": number > 2, "seen as": seen_as}
        self.pool = Pool("servers", self.servers.values())
        timeouts = Timeouts(**{name.replace(" ", "_"): seconds for name, seconds in TIMEOUTS.items()})
        self.services = {
            "web": Service("web", self.pool, max_connections=most, timeouts=timeouts),
            "mail": Service("mail", self.pool, timeouts=timeouts),
            "games": Service(
                "games", self.pool, protocol=UDP, timeouts=timeouts, requests=min(requests, 2**32), responses=responses
            ),
        }
        addresses = VirtualAddresses()
        for (_, (address, port)), name in self.vips.items():
            addresses.bind(packed(address), port, self.services[name])
        self.engine = NatEngine(addresses, max_connections=living, capacity=entries, half_open_capacity=half_open)
        self.prepare()
        described = {
            "web": {"most": most, "requests": UNLIMITED, "responses": None},
            "mail": {"most": UNLIMITED, "requests": UNLIMITED, "responses": None},
            "games": {"most": UNLIMITED, "requests": requests, "responses": responses},
        }
        self.model = Model(
            {vip: described[name] for vip, name in self.vips.items()},
            {"living": living, "entries": entries, "half-open": half_open},
            TIMEOUTS,
            servers,
            checksum_needed=family == 6,
        )
        self.talks = {}
        """By client and VIP: the two ends of a TCP connection."""
        self.live = set()
        """What has been told to be open."""

    def prepare(self):
        """Do what there is to do with a new engine."""

    def look(self, server, sight):
        """Say to the engine how a server sees its clients; return the same for the model, by client."""
        ports = {}
        for address, port in self.lent:
            ports.setdefault(address, []).append(port)
        chosen = list(ports.items())[: 2 if sight == "two" else 0 if sight == "itself" else 1]
        sources = tuple(Source(packed(at), PortRanges((port, port) for port in free)) for at, free in chosen)
        if sight != "itself unless near":
            server.sources = sources
            return {client: chosen for client, _ in self.clients}
        here, there = (int.from_bytes(packed(ADDRESS[self.family].format(net, 2)), "big") for net in (1, 3))
        server.neighbourhoods = Neighbourhood(here, -1, sources[0]), Neighbourhood(there & -256, -256, sources[0])
        return dict.fromkeys((self.clients[2][0], self.clients[4][0]), chosen)

    # What happens

    @rule(data=st.data(), said=segments, sound=mostly)
    def a_client_speaks(self, data, said, sound):
        vip = data.draw(st.sampled_from([*self.vips, ("TCP", self.nobody)]))
        said = said if vip[0] == "TCP" else data.draw(datagrams)
        self.send(vip[0], data.draw(st.sampled_from(self.clients)), vip[1], said, sound)

    @precondition(lambda self: self.flows())
    @rule(data=st.data(), protocol=st.sampled_from(["TCP", "UDP"]), said=segments, sound=mostly)
    def a_server_speaks(self, data, protocol, said, sound):
        source = data.draw(st.sampled_from([*self.servers, self.nobody]))
        said = said if protocol == "TCP" else data.draw(datagrams)
        self.send(protocol, source, data.draw(st.sampled_from([*self.clients, *self.lent])), said, sound)

    @precondition(lambda self: self.flows("TCP"))
    @rule(data=st.data(), side=sides, said=segments, sound=mostly, skipped=distances)
    def a_connection_goes_on(self, data, side, said, sound, skipped):
        self.send("TCP", *self.way(data.draw(st.sampled_from(self.flows("TCP"))), side), said, sound, skipped=skipped)

    @precondition(lambda self: self.flows("TCP"))
    @rule(data=st.data(), side=sides, said=st.sampled_from(["SYN+ACK", "ACK", "FIN", "RST", "RST"]), sound=mostly)
    def somebody_forges(self, data, side, said, sound):
        flow = data.draw(st.sampled_from(self.flows("TCP")))
        self.send("TCP", *self.way(flow, side), said, sound, genuine=False)

    @precondition(lambda self: [flow for flow in self.flows("TCP") if not flow.proven])
    @rule(data=st.data())
    def a_server_accepts(self, data):
        flow = data.draw(st.sampled_from([flow for flow in self.flows("TCP") if not flow.proven]))
        self.send("TCP", flow.server, flow.seen, "SYN+ACK")
        self.send("TCP", flow.client, flow.vip, "ACK")

    @precondition(lambda self: self.flows("TCP"))
    @rule(data=st.data(), sides=st.lists(sides, min_size=2, max_size=8))
    def much_is_said(self, data, sides):
        flow = data.draw(st.sampled_from(self.flows("TCP")))
        for side in sides:
            self.send("TCP", *self.way(flow, side), "ACK", skipped=4000)

    @precondition(lambda self: self.flows("UDP"))
    @rule(data=st.data(), side=sides, said=datagrams, sound=mostly, in_pieces=in_pieces, before=st.integers(0, 2))
    def a_flow_goes_on(self, data, side, said, sound, in_pieces, before):
        way = self.way(data.draw(st.sampled_from(self.flows("UDP"))), side)
        for _ in range(before):
            self.send("UDP", *way, "datagram")
        self.send("UDP", *way, said, sound, in_pieces=in_pieces)

    @rule(data=st.data(), in_pieces=in_pieces)
    def a_client_asks(self, data, in_pieces):
        _, vip = data.draw(st.sampled_from([vip for vip in self.vips if vip[0] == "UDP"]))
        self.send("UDP", data.draw(st.sampled_from(self.clients)), vip, "datagram", in_pieces=in_pieces)

    @precondition(lambda self: self.flows("TCP"))
    @rule(data=st.data(), meanwhile=st.sampled_from(["", "", "answered", "down", "answered and down"]), sound=mostly)
    def a_client_tries_again(self, data, meanwhile, sound):
        flow = data.draw(st.sampled_from(self.flows("TCP")))
        if "answered" in meanwhile:
            self.send("TCP", flow.server, flow.seen, "SYN+ACK")
        if "down" in meanwhile:
            self.change(flow.server, usable=False, how="health")
        self.send("TCP", flow.client, flow.vip, "SYN", sound)

    @rule(
        data=st.data(),
        proofs=st.lists(st.sampled_from(["ACK", "ACK", "FIN", "", ""]), min_size=1, max_size=4),
        pause=st.sampled_from([0, 0, 0.25, 0.5]),
    )
    def clients_come(self, data, proofs, pause):
        for proof in proofs:
            self.wait(pause)
            client = data.draw(st.sampled_from(self.clients))
            _, vip = data.draw(st.sampled_from([vip for vip in self.vips if vip[0] == "TCP"]))
            leaves_as = self.send("TCP", client, vip, "SYN")
            if proof and isinstance(leaves_as, tuple):
                seen, server = leaves_as
                self.send("TCP", server, seen, "SYN+ACK")
                self.send("TCP", client, vip, proof)

    @precondition(lambda self: self.flows("TCP"))
    @rule(data=st.data(), side=sides, said=st.sampled_from(["FIN", "RST"]), other=st.sampled_from(["", "FIN", "ACK"]))
    def somebody_leaves(self, data, side, said, other):
        flow = data.draw(st.sampled_from(self.flows("TCP")))
        self.send("TCP", *self.way(flow, side), said)
        if other:
            self.send("TCP", *self.way(flow, "client" if side == "server" else "server"), other)

    @precondition(lambda self: self.flows())
    @rule(
        data=st.data(), side=sides, known=mostly, kind=st.integers(0, 3), sound=mostly,
        most=st.sampled_from([8, 100]), by_router=st.booleans(),
    )  # fmt: skip
    def an_error_comes_back(self, data, side, known, kind, sound, most, by_router):
        """It is about a packet that was sent on to the given side, or about one that never was."""
        flow = data.draw(st.sampled_from(self.flows()))
        source, destination = (flow.vip, flow.client) if side == "client" else (flow.seen, flow.server)
        if not known:
            anybody = st.sampled_from([source, *self.clients, *self.servers, *(place for _, place in self.vips)])
            source, destination = data.draw(anybody), data.draw(anybody)
        sender = ADDRESS[self.family].format(8, 8) if by_router else destination[0]
        self.complain(flow.protocol, source, destination, sender, kind, sound=sound, most=most)

    @precondition(lambda self: self.flows())
    @rule(data=st.data(), loses=st.sampled_from(["", "client", "server"]), whole_server=st.booleans())
    def an_operator_shuts_down(self, data, loses, whole_server):
        """Perhaps just after one end has sent something that got lost: the other end does not wait for more then."""
        flow = data.draw(st.sampled_from(self.flows()))
        if flow.protocol == "TCP" and loses:
            self.send("TCP", *self.way(flow, loses), "ACK", sound=False)
            flow, _ = self.model.find("TCP", flow.client, flow.vip)
        if whole_server:
            flows = [each for each in self.model.flows if each.server == flow.server and not each.over]
            assert self.engine.shutdown_server(self.servers[flow.server], self.model.now) == len(flows)
        else:
            flows = [flow]
            [connection] = [each for each in self.engine.connections() if self.seen(each) == self.known(flow)]
            self.engine.shutdown(connection, self.model.now)
        self.shut(flows)

    @rule(
        data=st.data(), usable=st.sampled_from([True, True, False]), how=st.sampled_from(["health", "drain", "maint"])
    )
    def a_server_changes(self, data, usable, how):
        self.change(data.draw(st.sampled_from(list(self.servers))), usable, how)

    @rule(seconds=st.sampled_from([0.125, 0.5, 0.5, 1, 1, 3.5, 4, 7.5, 8, 15.5, 24, 66]))
    def time_passes(self, seconds):
        self.wait(seconds)

    def wait(self, seconds):
        self.model.now += seconds
        self.engine.handle_timeout(self.model.now)
        left = {known[:3]: known for known in self.snapshot()}
        flows = []
        for flow in self.model.flows:
            what_is_left = left.get((flow.protocol, flow.client, flow.vip))
            right = [after for after in self.model.after_silence(flow) if self.known(after) == what_is_left]
            assert right, "forgotten too early, or not in time"
            flows += [(flow, right[0])]
        self.model.flows = [after for _, after in flows if after is not None]
        self.hear_resets([after for flow, after in flows if after is not None and after.shut and not flow.shut])
        due = self.engine.next_timeout()
        assert due is None or due > self.model.now
        assert due is not None or not self.model.flows

    def change(self, place, usable, how):
        """Make a server usable, or unusable in one of the ways that there are."""
        self.pool.set_health(self.servers[place], usable or how != "health", self.model.now)
        self.pool.set_admin(
            self.servers[place], AdminState("ready" if usable or how == "health" else how), self.model.now
        )
        self.model.servers[place].update(usable=usable, away=not usable and how != "drain")

    def flows(self, protocol=""):
        return [flow for flow in self.model.flows if protocol in flow.protocol]

    @staticmethod
    def way(flow, side):
        return (flow.client, flow.vip) if side == "client" else (flow.server, flow.seen)

    # What has to be right

    def send(self, protocol, source, destination, said, sound=True, genuine=True, *, skipped=0, in_pieces=""):
        """Send a packet through both, compare, and return what became of it."""
        flow, side = self.model.find(protocol, source, destination)
        sent, end = self.make(protocol, source, destination, said, sound, genuine, skipped, flow, side)
        # Nobody can judge the checksum of a fragment.
        packet = Packet(protocol, source, destination, said, sound or said == "bare" or in_pieces != "", genuine)
        became = self.hand_in(sent, in_pieces)
        snapshot = self.snapshot()
        alternatives = self.model.receive(packet, became)
        assert alternatives, f"a packet has become {became}"
        flows = [flows for flows in alternatives if Counter(map(self.known, flows)) == snapshot]
        assert flows, "the engine knows other connections than the model allows"
        self.model.flows = flows[0]
        if protocol == "TCP" and isinstance(became, tuple):
            self.count_numbers(packet, flow, end)
        return became

    def hand_in(self, sent, in_pieces):
        """Give a packet to the engine, whole or in pieces, and return what became of it, as the model names it."""
        if not in_pieces and (became := self.handled_elsewhere(sent)) is not None:
            return became
        pieces = wire.cut(sent, 8, number=next(self.numbers)) if in_pieces else [sent]
        order = range(len(pieces)) if in_pieces != "last first" else reversed(range(len(pieces)))
        buffers, dropped = [bytearray(piece) for piece in pieces], self.engine.drops.copy()
        verdicts = {number: self.engine.handle_packet(buffers[number], self.model.now) for number in order}
        released = dict(iter(self.engine.next_release, None))
        verdict, *others = [
            released.pop(verdict.ticket) if isinstance(verdict, Hold) else verdict
            for _, verdict in sorted(verdicts.items())
        ]
        assert not released
        drops = Counter(each.reason for each in (verdict, *others) if isinstance(each, Drop))
        assert self.engine.drops - dropped == drops
        match verdict:
            case Rewrite(payload):
                assert payload is buffers[0]
                became = places(wire.unfragmented(payload) if in_pieces else payload)
                whole = wire.translated(sent, *became)
                number = int.from_bytes(pieces[0][44:48], "big")
                assert buffers == (wire.cut(whole, 8, number=number) if in_pieces else [whole])
                assert all(isinstance(each, Rewrite) and each.payload is buffers[1] for each in others)
                return became
            case Accept():
                became = PASS
                assert others == [Accept()] * len(others)
            case Drop(reason):
                became = reason.name
                assert others == [Drop(reason)] * len(others)
            case Reply(answer):
                became = REFUSED
                is_tcp = sent[9 if self.family == 4 else 6] == TCP
                assert answer == (oracle.reset_for if is_tcp else wire.port_unreachable_for)(pieces[0])
                assert others == [Drop(DropReason.NO_CONNECTION)] * len(others)
        assert buffers == pieces
        return became

    def handled_elsewhere(self, sent):
        """Return what became of a packet that the engine has not seen, or None if it has to."""

    def complain(self, protocol, source, destination, sender, kind, *, sound, most):
        """Send an ICMP error about a packet, of which `most` bytes of the transport header and data are quoted."""

        def quote(*ends):
            whole = segment(*ends, ACK, payload=b"x") if protocol == "TCP" else wire.datagram(*ends, b"x", number=7)
            return bytes(whole[: self.start_of_data + most])

        kind = wire.ERRORS[self.family][kind]
        sent = wire.error(sender, source[0], kind, quote(source, destination), spoilt=not sound)
        buffer, right = bytearray(sent), self.model.complain(protocol, source, destination, sender, sound)
        match self.engine.handle_packet(buffer, self.model.now):
            case Rewrite(payload):
                assert payload is buffer
                outer, about = right
                assert buffer == wire.error_with(sent, *outer, quote(*about))
            case Accept():
                assert (right, buffer) == (PASS, sent)
            case Drop(reason):
                assert (right, buffer) == (reason.name, sent)

    def make(self, protocol, source, destination, said, sound, genuine, skipped, flow, side):
        """Return a packet, numbered as its sender would unless it is no genuine one, and the number after its end."""
        if protocol == "UDP":
            checksum = "bare" if said == "bare" else "sound" if sound else "spoilt"
            payload = b"x" * (1 + skipped % 3)
            return wire.datagram(source, destination, payload, checksum=checksum, number=next(self.numbers)), 0
        fresh = STARTS[next(self.numbers) % len(STARTS)] + next(self.numbers)
        seq, ack, flags, payload = fresh, 0, FLAGS[said], b"" if said in ("SYN", "SYN+ACK", "RST") else b"x"
        if flow is not None:
            me = self.talks[flow.client, flow.vip][side]
            ack = me.received
            if not flow.answered and side == "server" and said == "RST":
                flags |= ACK  # else the client could not know that it answers its SYN: RFC 9293, section 3.10.7.3
            if "SYN" not in said:
                seq = me.number(len(payload) + (said == "FIN"), skipped if sound else 0)
        astray = 0 if genuine or said == "SYN" else (-(2**30), -100_000, 100_000, 2**30)[next(self.numbers) % 4]
        seq, ack = seq + astray & 0xFFFFFFFF, ack + astray & 0xFFFFFFFF
        end = seq + len(payload) + ("SYN" in said) + (said == "FIN") & 0xFFFFFFFF
        return segment(source, destination, flags, seq=seq, ack=ack, payload=payload, spoilt=not sound), end

    def count_numbers(self, packet, before, end):
        """Note what the two ends have sent and received, now that a segment has passed."""
        flow, side = self.model.find(packet.protocol, packet.source, packet.destination)
        if side == "client" and packet.said == "SYN" and packet.sound and not (flow.answered or flow.over):
            client, server = wire.End(next=end, edge=end, gone_by=end), wire.End(received=end, acked=end)
            self.talks[flow.client, flow.vip] = {"client": client, "server": server}
            return
        client, server = self.talks[flow.client, flow.vip].values()
        answers_anew = side == "server" and packet.said == "SYN+ACK" and packet.sound and packet.genuine
        if flow.answered and (not before.answered or (answers_anew and not (flow.proven or flow.over))):
            server.next = server.gone_by = client.received = client.acked = end
            client.edge = server.received + wire.WINDOW & 0xFFFFFFFF
            server.edge = end + wire.WINDOW & 0xFFFFFFFF
        elif flow.answered and packet.said in ("ACK", "FIN") and packet.genuine:
            me, peer = (client, server) if side == "client" else (server, client)
            me.sent(end, arrives_at=peer if packet.sound else None)

    def shut(self, flows):
        """Shut flows down in the model, and see that both sides of each have been told."""
        after = {flow: self.model.after_shutdown(flow) for flow in flows}
        self.model.flows = [each for flow in self.model.flows if (each := after.get(flow, flow)) is not None]
        self.hear_resets([each for flow, each in after.items() if each is not None and each != flow])

    def hear_resets(self, flows):
        """Both ends of each of these flows, and nobody else, have been sent a RST that they take."""
        heard = {}
        for packet in iter(self.engine.next_packet, None):
            heard.setdefault(places(packet), []).append(packet)
        for flow in flows:
            client, server = self.talks[flow.client, flow.vip].values()
            for me, peer, way in (client, server, (flow.vip, flow.client)), (server, client, (flow.seen, flow.server)):
                numbers = []
                for packet in heard.pop(way):
                    numbers.append(wire.numbers(packet))
                    assert packet == wire.reset(*way, *numbers[-1])
                assert len(numbers) <= 2
                if me is client and not flow.answered:
                    assert all(ack == client.next for _, ack in numbers)
                elif me.received in (peer.gone_by, me.acked):  # else what it waits for cannot be known
                    assert me.received in [seq for seq, _ in numbers]
        assert not heard

    def seen(self, connection):
        """Return what the engine knows of a connection in the model's terms."""
        packets, row = self.engine.ledger.packets, 2 * connection.index
        phase = "over" if connection.state in FINISHED else "half-open" if connection.state in HALF_OPEN else "open"
        (client, vip), (server, seen) = ends(connection.original), ends(connection.reply)
        heard = packets[row], packets[row + 1]
        return wire.NAMES[connection.original[-1]], client, vip, seen, server, phase, heard

    @staticmethod
    def known(flow):
        """Return the same of a flow of the model."""
        if flow is None:
            return None
        phase = "over" if flow.over else "open" if flow.proven else "half-open"
        return flow.protocol, flow.client, flow.vip, flow.seen, flow.server, phase, flow.heard

    def snapshot(self):
        self.learn()
        return Counter(map(self.seen, self.engine.connections()))

    def learn(self):
        """Let the engine know what has been handled elsewhere."""

    @invariant()
    def the_two_agree(self):
        assert self.snapshot() == Counter(map(self.known, self.model.flows))
        living = [flow for flow in self.model.flows if not flow.over]
        assert self.engine.live == len(living)
        for name, service in self.services.items():
            assert service.live == sum(self.vips[flow.protocol, flow.vip] == name for flow in living)
        for place, server in self.servers.items():
            assert server.live == sum(flow.server == place for flow in living)

    @invariant()
    def the_table_is_consistent(self):
        invariants.check(self.engine)
        for event in iter(self.engine.next_event, None):
            if isinstance(event, ConnectionClosed):
                self.live.remove(event.connection)
            elif not isinstance(event, ServerBypassed):
                self.live.add(event.connection)
        assert self.live == {each for each in self.engine.connections() if each.state not in FINISHED}


TestNat = pytest.mark.random(NatMachine.TestCase)
TestNat.settings = settings(max_examples=examples(150), stateful_step_count=60)


# What takes the machine long to come upon, told to it step by step


@pytest.fixture(params=[(100, 100, 100, 100), (3, 2, 100, 100)], ids=["unlimited", "limited"])
def nat(request):
    nat = NatMachine()
    nat.start(4, request.param, UNLIMITED, None, ["itself"] * 4)
    yield nat
    nat.the_two_agree()
    nat.the_table_is_consistent()


def shake_hands(nat, client, vip):
    seen, server = nat.send("TCP", client, vip, "SYN")
    nat.send("TCP", server, seen, "SYN+ACK")
    nat.send("TCP", client, vip, "ACK")
    return seen, server


def test_two_limits_at_once(nat):
    (web, _, mail), [one, two, three, *_] = [vip for _, vip in nat.vips if vip[1] != 7001], nat.clients
    nat.send("TCP", one, mail, "SYN")
    nat.wait(0.5)
    shake_hands(nat, one, web)
    shake_hands(nat, two, web)
    nat.send("TCP", three, web, "SYN")


def test_more_connections_than_the_limit_as_one_came_back(nat):
    (web, other_web, mail), [one, two, three, *_] = [vip for _, vip in nat.vips if vip[1] != 7001], nat.clients
    seen, server = shake_hands(nat, one, mail)
    nat.send("TCP", one, mail, "RST")
    shake_hands(nat, one, web)
    nat.send("TCP", two, mail, "SYN")
    nat.send("TCP", three, web, "SYN")
    nat.wait(0.5)
    nat.send("TCP", server, seen, "ACK")
    nat.send("TCP", two, other_web, "SYN")


@pytest.mark.parametrize("before", ["nothing", "a datagram"])
def test_where_clients_are_quick_one_that_is_not_keeps_its_place_for_less_than_half_a_second(nat, before):
    (web, _, mail, games, _), [one, two, three, four, *_] = [vip for _, vip in nat.vips], nat.clients
    for _ in range(40):
        nat.wait(1)
        shake_hands(nat, one, mail)
        nat.send("TCP", one, mail, "RST")
    nat.wait(66)
    shake_hands(nat, one, web)
    if before == "a datagram":
        nat.send("UDP", two, games, "datagram")
    else:
        shake_hands(nat, two, mail)
    nat.wait(0.125)
    nat.send("TCP", three, mail, "SYN")
    nat.wait(0.125)
    nat.send("TCP", four, mail, "SYN")


def test_a_damaged_syn_between_two_good_ones(nat):
    (web, *_), client = [vip for _, vip in nat.vips], nat.clients[0]
    seen, server = nat.send("TCP", client, web, "SYN")
    nat.send("TCP", client, web, "SYN", sound=False)
    nat.send("TCP", server, seen, "SYN+ACK")
    nat.send("TCP", client, web, "ACK")
