"""Traffic of several flows that crosses a balancer with a queue in front of its engine, at everybody's own pace.

A packet comes to the program first. What that does not carry waits in the queue until the engine gets to it: some
packets at a time, and only when a batch of them has left is the program told. So what a packet overtakes can be seen,
which a conversation that hands in one packet at a time cannot show.

The hosts are real as far as order goes: they number what they send, acknowledge what has come, keep to the window, and
note when something comes before its turn.
"""

from collections import deque
from collections.abc import Callable
from random import Random

from natlb.core.engine import NatEngine
from natlb.core.offloading import FlowCache
from natlb.core.pool import Pool, Server
from natlb.core.service import Service, VirtualAddresses
from natlb.core.verdict import Rewrite
from tests.unit.core.packets import ACK, FIN, SYN, UDP, Place, datagram, ends, packed, places, segment

CLIENT = {4: "44.1.1.1", 6: "fd44:1::1"}
VIP = {4: "44.2.2.2", 6: "fd44:2::2"}
SERVER = {4: "44.3.3.3", 6: "fd44:3::3"}
WEB, DNS, WEB_SERVER, DNS_SERVER = 80, 53, 8080, 5353
WINDOW = 0x2000
WRAPS = 2**32

Carry = Callable[[bytes, float], bytes | None]
"""What a program does with a packet at a time: the packet that leaves, or None if it has to go to the engine."""


class End:
    """One end of a flow."""

    def __init__(self, own: Place, peer: Place, start: int) -> None:
        self.own, self.peer = own, peer
        self.next = start
        """What it sends next: a sequence number, or the number of a datagram."""
        self.packets = self.octets = 0
        """What it has sent."""
        self.expects = 0
        """What should come next."""
        self.disorder = 0
        """How often something else came."""

    def speak(self, random: Random) -> bytes:
        raise NotImplementedError

    def hear(self, packet: bytes) -> None:
        raise NotImplementedError


class Datagrams(End):
    """One that sends datagrams, each with its number in front."""

    def speak(self, random: Random) -> bytes:
        payload = self.next.to_bytes(4, "big") + bytes(random.randrange(200))
        self.packets += 1
        self.octets += len(payload)
        self.next += 1
        return bytes(datagram(self.own, self.peer, payload))

    def hear(self, packet: bytes) -> None:
        number = int.from_bytes(packet[28 if packet[0] >> 4 == 4 else 48 :][:4], "big")
        self.disorder += number != self.expects
        self.expects = max(self.expects, number + 1)


class Segments(End):
    """One that sends a stream."""

    def __init__(self, own: Place, peer: Place, start: int) -> None:
        super().__init__(own, peer, start)
        self.may_send = WINDOW
        """Bytes that the peer still takes."""
        self.early: dict[int, int] = {}
        """Sizes of segments that came before their turn, and where they begin."""

    def speak(self, random: Random, flags: int = ACK) -> bytes:
        size = min(random.choice((0, 1, 500, 1400)), self.may_send)
        made = segment(self.own, self.peer, flags, seq=self.next, ack=self.expects, window=WINDOW, payload=bytes(size))
        self.next = (self.next + size + (flags & FIN)) % WRAPS
        self.packets += 1
        self.octets += size
        self.may_send -= size
        return bytes(made)

    def hear(self, packet: bytes) -> None:
        tcp = packet[20 if packet[0] >> 4 == 4 else 40 :]
        number, acknowledged = (int.from_bytes(tcp[at : at + 4], "big") for at in (4, 8))
        size = len(tcp) - 20 + (tcp[13] & FIN)
        ahead = (number - self.expects) % WRAPS
        self.disorder += ahead != 0
        if size and ahead < WRAPS // 2:
            self.early[number] = size
        while self.expects in self.early:
            self.expects = (self.expects + self.early.pop(self.expects)) % WRAPS
        self.may_send = max(self.may_send, WINDOW - (self.next - acknowledged) % WRAPS)


class Crossing:
    """A balancer, and what crosses it: three connections and three flows that are about to change over.

    `front` makes what stands in front of the engine, and `now` is where the engine's clock begins.
    """

    def __init__(
        self,
        family: int,
        random: Random,
        front: Callable[[NatEngine], tuple[FlowCache, Carry]],
        now: float = 1000.0,
    ) -> None:
        self.random, self.now = random, now
        self.carried = self.handled = 0
        self.blind: set[str] = set()
        """Addresses of hosts whose packets come in where there is no program."""
        self.queue: deque[bytes] = deque()
        pools = [
            Pool(name, [Server("server", packed(SERVER[family]), port)])
            for name, port in (("web", WEB_SERVER), ("dns", DNS_SERVER))
        ]
        services = [Service("web", pools[0]), Service("dns", pools[1], protocol=UDP)]
        addresses = VirtualAddresses()
        for port, service in zip((WEB, DNS), services, strict=True):
            addresses.bind(packed(VIP[family]), port, service)
        self.engine = NatEngine(addresses)
        self.engine.offloading.most_half_open = -1  # none is entered before it is established
        self.engine.offloading.cache, self._carry = front(self.engine)
        self.flows: list[tuple[End, End]] = []
        for number in range(3):
            client = CLIENT[family], 5000 + number
            self._shake_hands(client, (VIP[family], WEB), (SERVER[family], WEB_SERVER), 2**32 - 3000 * number)
            self._greet((client[0], 6000 + number), (VIP[family], DNS), (SERVER[family], DNS_SERVER))
        self._receivers = {(end.peer, end.own): end for pair in self.flows for end in pair}

    def _shake_hands(self, client: Place, vip: Place, server: Place, start: int) -> None:
        asks, answers = Segments(client, vip, start % WRAPS), Segments(server, client, 7000)
        asks.expects, answers.expects = 7001, (start + 1) % WRAPS
        for end, packet in (
            (asks, segment(client, vip, SYN, seq=asks.next)),
            (answers, segment(server, client, SYN | ACK, seq=answers.next, ack=answers.expects)),
            (asks, segment(client, vip, ACK, seq=answers.expects, ack=asks.expects)),
        ):
            assert isinstance(self.engine.handle_packet(packet, self.now), Rewrite)
            end.packets += 1
        asks.next, answers.next = answers.expects, asks.expects
        self.flows.append((asks, answers))

    def _greet(self, client: Place, vip: Place, server: Place) -> None:
        pair = Datagrams(client, vip, 0), Datagrams(server, client, 0)
        for end in pair:
            assert isinstance(self.engine.handle_packet(bytearray(end.speak(self.random)), self.now), Rewrite)
            end.expects = 1
        self.flows.append(pair)

    # What happens

    def come(self, packet: bytes) -> None:
        """Let a packet come in."""
        (source, _), _ = places(packet)
        onward = None if source in self.blind else self._carry(packet, self.now)
        if onward is None:
            self.queue.append(packet)
        else:
            self.carried += 1
            self._deliver(onward)

    def handle(self, most: int, *, lost: float = 0.0) -> None:
        """Let the engine handle a batch of what waits, after a share of it was lost, and tell of it."""
        for _ in range(min(most, len(self.queue))):
            packet = bytearray(self.queue.popleft())
            if self.random.random() >= lost:
                verdict = self.engine.handle_packet(packet, self.now)
                assert isinstance(verdict, Rewrite)
                self.handled += 1
                self._deliver(bytes(verdict.payload))
        self.engine.offloading.tell_handled()
        self.engine.offloading.enter()

    def go_on(self, steps: int, *, busy: bool = False, lost: float = 0.0) -> None:
        """Let all speak for a while; if the engine is busy it never gets to the end of its queue."""
        for _ in range(steps):
            self.now += self.random.choice((0.0, 0.0001, 0.001))
            if self.random.random() < 0.6:
                speaking = self.random.choice(self.random.choice(self.flows))
                for _ in range(self.random.choice((1, 1, 3, 10))):
                    self.come(speaking.speak(self.random))
            else:
                self.handle(self.random.choice((1, 2, 64)) if not busy else max(0, len(self.queue) - 80), lost=lost)

    def drain(self) -> None:
        """Let the engine come to the end of its queue."""
        while self.queue:
            self.handle(64)

    def change_over_again(self) -> None:
        """Take all flows back, and offer them anew."""
        offloading = self.engine.offloading
        offloading.retreat(list(self.engine.connections()), self.now)
        for connection in self.engine.connections():
            offloading.offer(connection)

    def settle(self) -> None:
        """Let everything arrive, and each side hear what the other has got; let the engine learn of it."""
        for _ in range(3):
            for end in (end for pair in self.flows for end in pair):
                self.come(end.speak(self.random))
                self.drain()
        for pair in self.flows:
            if isinstance(pair[0], Segments):
                for end in (*pair, *pair):
                    end.may_send = 0
                    self.come(end.speak(self.random))
                    self.drain()
        self.learn()

    def close(self) -> None:
        """Close the connections of TCP, from either side first."""
        for pair in self.flows:
            if isinstance(pair[0], Segments):
                first, second = self.random.sample(pair, 2)
                for end, flags in (first, FIN | ACK), (second, FIN | ACK), (first, ACK):
                    self.come(end.speak(self.random, flags))
                    self.drain()
        self.learn()

    def learn(self) -> None:
        """Let the engine know all that the program knows."""
        self.engine.offloading.hear(self.now)
        for connection in list(self.engine.connections()):
            self.engine.offloading.catch_up(connection, self.now)

    def _deliver(self, packet: bytes) -> None:
        self._receivers[places(packet)].hear(packet)

    # What has come of it

    @property
    def disorder(self) -> int:
        return sum(end.disorder for pair in self.flows for end in pair)

    def known(self) -> dict[Place, tuple[tuple[int, ...], ...]]:
        """Return what the engine knows of each flow, by its client: packets, bytes, and of TCP the window."""
        ledger, known = self.engine.ledger, {}
        for connection in self.engine.connections():
            rows = slice(2 * connection.index, 2 * connection.index + 2)
            columns = [ledger.packets, ledger.octets]
            if connection.original[-1] != UDP:
                columns += [ledger.following, ledger.acked, ledger.edge]
            known[ends(connection.original)[0]] = tuple(tuple(column[rows]) for column in columns)
        return known

    def true(self) -> dict[Place, tuple[tuple[int, ...], ...]]:
        """Return what the two ends of each flow know."""
        told = {}
        for pair in self.flows:
            columns = [[end.packets for end in pair], [end.octets for end in pair]]
            if isinstance(pair[0], Segments):
                acked = [end.expects for end in pair]
                columns += [[end.next for end in pair], acked, [(number + WINDOW) % WRAPS for number in acked]]
            told[pair[0].own] = tuple(map(tuple, columns))
        return told
