"""The ports that full NAT lent at random are read off the capture, and lent again."""

import pytest

from natlb.replay.lent import Lent
from natlb.replay.player import Player
from natlb.replay.scene import Scene, prepare
from tests.unit.core.packets import ACK, FIN, SYN, cut, datagram, packed, places, segment
from tests.unit.replay.scenes import TEXT, config, records

SNAT = "44.2.2.20"
FULL = TEXT.replace("\nbackend nodes\n", f"\nbackend nodes\n    source {SNAT}\n").replace(
    "dgram-bind *:7007\n", f"dgram-bind *:7007\n    source {SNAT}\n"
)
FULL = FULL.replace("    server server2 44.4.4.4:5555\n", "")
SOURCES = frozenset({packed(SNAT)})


def first(client: int, seq: int) -> bytes:
    return bytes(segment(("44.1.1.1", client), ("44.2.2.2", 8888), SYN, seq=seq))


def live(port: int, seq: int, *, server: str = "44.3.3.3", to: int = 4444) -> bytes:
    return bytes(segment((SNAT, port), (server, to), SYN, seq=seq))


def learned(*packets: bytes) -> Lent:
    lent = Lent()
    lent.learn(records((0, packet) for packet in packets), SOURCES)
    return lent


def test_a_port_is_known_by_the_sequence_number_that_it_was_lent_to() -> None:
    lent = learned(first(40000, 7), live(50007, 7), first(40000, 8), live(50008, 8), live(50007, 7))
    assert [lent.port_for(bytearray(first(40000, seq))) for seq in (7, 8, 9)] == [50007, 50008, None]
    assert lent.port_for(bytearray(first(40000, 7))) == 50007, "a SYN that is sent again has the same"


def test_what_does_not_come_from_full_nat_or_opens_nothing_teaches_nothing() -> None:
    others = [
        bytes(segment(("44.2.2.2", 50000), ("44.3.3.3", 4444), SYN, seq=7)),
        bytes(segment((SNAT, 50000), ("44.3.3.3", 4444), SYN | ACK, seq=7)),
        bytes(segment((SNAT, 50000), ("44.3.3.3", 4444), FIN | ACK, seq=7)),
        b"\x45" + bytes(30),
    ]
    lent = learned(*others)
    assert lent.port_for(bytearray(first(40000, 7))) is None
    assert Lent().port_for(bytearray(first(40000, 7))) is None


def test_datagrams_that_say_the_same_get_their_ports_in_order() -> None:
    lent = learned(*(bytes(datagram((SNAT, port), ("44.3.3.3", 7000), b"who?")) for port in (2000, 2001, 2000)))
    asked = bytearray(datagram(("44.1.1.1", 40000), ("44.2.2.2", 7007), b"who?"))
    got = []
    for _ in range(3):
        port = lent.port_for(bytearray(asked))
        assert port == lent.port_for(bytearray(asked)), "one that needs none does not take it from the next"
        assert port is not None
        lent.took(port)
        got.append(port)
    assert got == [2000, 2001, 2001]


def test_who_had_the_clients_own_port_has_it_again() -> None:
    lent = learned(*(bytes(datagram((SNAT, port), ("44.3.3.3", 7000), b"who?")) for port in (2000, 40000)))
    assert lent.port_for(bytearray(datagram(("44.1.1.1", 40000), ("44.2.2.2", 7007), b"who?"))) == 40000


def test_the_first_fragment_of_a_datagram_will_do() -> None:
    whole = datagram((SNAT, 2000), ("44.3.3.3", 7000), b"y" * 3000)
    asked = datagram(("44.1.1.1", 40000), ("44.2.2.2", 7007), b"y" * 3000)
    lent = learned(bytes(cut(whole, 0, 1480)), bytes(cut(whole, 1480)))
    assert lent.port_for(cut(asked, 0, 1480)) == 2000
    assert lent.port_for(cut(asked, 1480)) is None


@pytest.mark.parametrize("seed", range(3))
def test_a_replay_lends_what_was_lent_and_the_answers_come_home(seed: int) -> None:
    clients = [(40000 + number, 1000 * number) for number in range(20)]
    chance = prepare(config(FULL), Scene(seed=7))
    both: list[tuple[float, bytes]] = []
    for client, seq in clients:
        sent: list[bytes] = []
        # Another client has the port already, so this one is given another by chance: as live, so here.
        engine = chance.engine
        blocker = bytearray(segment(("44.1.1.2", client), ("44.2.2.2", 8888), SYN, seq=seq + 1))
        wanted = bytearray(first(client, seq))
        for packet in (blocker, wanted):
            both.append((0, bytes(packet)))
            engine.handle_packet(packet, 0.0)
            both.append((0, bytes(packet)))
            sent.append(bytes(packet))
        (_, port), (server, to) = places(sent[1])
        both.append((0, bytes(segment((server, to), (SNAT, port), SYN | ACK, ack=seq + 1))))
    lent = Lent()
    lent.learn(records(both), SOURCES)
    player = Player(prepare(config(FULL), Scene(seed=seed)), lent=lent)
    for record in records(both):
        player.play(record)
    assert {fate.name: number for fate, number in player.fates.items()} == {"REWRITTEN": 60, "COPY": 40}
    blind = Player(prepare(config(FULL), Scene(seed=seed)))
    for record in records(both):
        blind.play(record)
    assert blind.fates.total() == 100
    assert {fate.name for fate in blind.fates} > {"REWRITTEN", "COPY"}, "else there was nothing to learn"
