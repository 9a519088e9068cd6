"""Ten thousand packets at random: nothing raises, and what is sound is not made unsound.

Most of them are valid packets of flows that are alive, damaged in some way, and half of those given right checksums
again, so that they are not refused at the door. The random numbers are the same every time.
"""

from collections import Counter
from random import Random

import pytest

from natlb.core.pool import AdminState
from natlb.core.verdict import Accept, Drop, Hold, Reply, Rewrite
from tests.unit.core import invariants, oracle
from tests.unit.core import packets as p
from tests.unit.core.conversation import (
    ACK,
    DATA,
    DATAGRAM,
    ECHO,
    EXPIRED,
    FIN,
    OTHER_VIP,
    RST_ACK,
    SYN,
    SYN_ACK,
    TOO_BIG,
    UNREACHABLE,
    Conversation,
)

PACKETS = 10_000
WINDOW_SCALE = b"\x02\x04\x05\xb4\x01\x03\x03\x07"


def corpus(talk):
    """Return valid packets of all kinds, as they go in, of flows that are alive and of strangers."""
    said = []

    def say(host, what):
        outcome = host >> what
        said.append(outcome.sent)
        return outcome

    talk.configured(talk.server2).sources = talk.sources
    talk.configured(talk.server1).sources = None
    for number, server in enumerate((talk.server1, talk.server2)):
        client = talk.client.at(2000 + number)
        say(client, SYN(options=WINDOW_SCALE))
        say(server, SYN_ACK(options=WINDOW_SCALE))
        say(client, ACK)
        there, back = say(client, DATA), say(server, DATA(payload=bytes(500)))
        for part in client.cut(DATA(payload=bytes(200)), 64, 128, identification=number):
            say(client, part)
        for error in (UNREACHABLE, TOO_BIG, EXPIRED):
            say(talk.router, error(about=there))
            say(talk.router, error(about=back, quoted=60))
        say(client, FIN)
        say(server, RST_ACK)
    for number, server in enumerate((talk.server1, talk.server2)):
        client = talk.client.at(3000 + number)
        there = say(client, DATAGRAM(ip_options=b"\x01\x01\x01\x00", extensions=(0, 60)))
        back = say(server, DATAGRAM(checksum=0 if talk.family == 4 else None))
        for host in (client, server):
            for part in host.cut(DATAGRAM(payload=bytes(200)), 64, 128, identification=10 + number):
                say(host, part)
        say(talk.router, UNREACHABLE(about=there))
        say(talk.router, EXPIRED(about=back))
    say(talk.client, ECHO)
    for stranger in (talk.client.asking(OTHER_VIP[talk.family]), talk.client.at(4000)):
        for what in (SYN, DATA, DATAGRAM):
            say(stranger, what)
    return said


def mutated(random, packet):
    """Return a packet with some damage: bits, bytes, lengths, or a piece of it somewhere else."""
    packet = bytearray(packet)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        at = random.randrange(len(packet)) if random.random() < 0.3 else random.randrange(min(len(packet), 80))
        match random.randrange(9):
            case 0 | 1 | 7 | 8:
                packet[at] ^= 1 << random.randrange(8)
            case 2 | 3:
                packet[at] = random.choice((0, 1, 4, 6, 17, 43, 44, 58, 60, 127, 128, 255, random.randrange(256)))
            case 4:
                del packet[max(at, 1) :]
            case 5:
                packet += random.randbytes(random.randrange(40))
            case 6:
                piece = packet[at : at + random.randrange(1, 9)]
                start = random.randrange(len(packet))
                packet[start : start + len(piece)] = piece
    return packet


def repaired(packet):
    """Return a packet with right lengths and checksums, as far as its headers can be found."""
    packet = bytearray(packet)
    four = packet[0] >> 4 == 4
    if len(packet) < 48 or packet[0] >> 4 not in (4, 6):
        return packet
    packet[2 if four else 4 : 4 if four else 6] = (len(packet) - (0 if four else 40)).to_bytes(2, "big")
    protocol, start = p.transport(packet)
    if four:
        packet[10:12] = bytes(2)
        packet[10:12] = p.complement(packet[:start])
    at = {p.TCP: 16, p.UDP: 6, p.ICMP: 2, p.ICMPV6: 2}.get(protocol)
    if at is None or start + at + 2 > len(packet):
        return packet
    if protocol == p.UDP:
        packet[start + 4 : start + 6] = (len(packet) - start).to_bytes(2, "big")
    packet[start + at : start + at + 2] = bytes(2)
    ends = (packet[12:16], packet[16:20]) if four else (packet[8:24], packet[24:40])
    pseudo = b"" if protocol == p.ICMP else p.pseudo(*map(bytes, ends), len(packet) - start, protocol)
    right = p.complement(pseudo + packet[start:])
    packet[start + at : start + at + 2] = b"\xff\xff" if protocol == p.UDP and not any(right) else right
    return packet


@pytest.mark.random
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_ten_thousand_random_packets_raise_nothing_and_make_nothing_unsound(family, seed):
    random = Random(f"{family}, {seed}")
    talk = Conversation(family, capacity=50, half_open_capacity=20, ranges=[(5000, 5009)], max_connections=40)
    engine, valid, now = talk.engine, corpus(talk), talk.now
    waiting, seen = {}, Counter()

    def judge(before, verdict, buffer):
        seen[type(verdict)] += 1
        match verdict:
            case Rewrite(payload):
                assert payload is buffer
                assert len(payload) == len(before)
                if oracle.sound(before):
                    seen["sound"] += 1
                    assert oracle.sound(payload)
            case Reply(answer):
                assert oracle.sound(answer)
                assert buffer == before
            case Accept() | Drop():
                assert buffer == before
            case Hold(ticket):
                assert buffer == before
                assert ticket not in waiting
                waiting[ticket] = before, buffer

    for number in range(PACKETS):
        packet = bytearray(random.choice(valid))
        kind = random.random()
        if kind < 0.05:
            first = bytes((random.choice((0x45, 0x46, 0x60, 0x4F)),))
            packet = bytearray(first + random.randbytes(random.randrange(100)))
        elif kind < 0.85:
            packet = mutated(random, packet)
            if random.random() < 0.5:
                packet = repaired(packet)
        before = bytes(packet)
        judge(before, engine.handle_packet(packet, now), packet)
        now += random.choice((0.0, 0.001, 0.01, 0.3))
        if number % 50 == 0:
            engine.handle_timeout(now)
            invariants.check(engine)
        if number % 1000 == 0:
            server = random.choice(list(talk.pool.servers.values()))
            talk.pool.set_admin(server, random.choice(list(AdminState)), now)
            engine.shutdown_server(server, now)
            talk.pool.set_admin(server, AdminState.READY, now)
        for ticket, verdict in iter(engine.next_release, None):
            sent, buffer = waiting.pop(ticket)
            judge(sent, verdict, buffer)
        for answer in iter(engine.next_packet, None):
            seen["reset"] += 1
            assert oracle.sound(answer)
    invariants.check(engine)
    assert {Rewrite, Reply, Accept, Drop, Hold, "sound", "reset"} <= seen.keys()
    assert seen["sound"] > PACKETS / 20, seen
    assert len(engine.drops) > 8, engine.drops
