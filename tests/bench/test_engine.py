"""What a packet costs in the engine alone: against scapy, the short way against the general one, and with a record."""

import time
import timeit
from collections.abc import Callable
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP

from natlb.core.engine import NatEngine
from natlb.core.pool import Pool, Server
from natlb.core.service import Service, VirtualAddresses
from natlb.handover.statefile import StateFile

pytestmark = pytest.mark.bench


def _tcp(source: str, destination: str, **fields: object) -> IP:
    return IP(src=source, dst=destination) / TCP(**fields)


def _conversation() -> tuple[NatEngine, bytes]:
    """Return an engine that knows a connection, and a packet of that."""
    addresses = VirtualAddresses()
    service = Service("f", Pool("b", [Server("s", bytes([44, 3, 3, 3]), 4444)]))
    addresses.bind(bytes([44, 2, 2, 2]), 8888, service)
    engine = NatEngine(addresses)
    ends = {"sport": 4000, "dport": 8888}
    data = bytes(_tcp("44.1.1.1", "44.2.2.2", flags="A", seq=2, ack=2, **ends) / (b"x" * 1000))
    for packet in (
        bytes(_tcp("44.1.1.1", "44.2.2.2", flags="S", seq=1, **ends)),
        bytes(_tcp("44.3.3.3", "44.1.1.1", flags="SA", seq=1, ack=2, sport=4444, dport=4000)),
        data,
    ):
        engine.handle_packet(bytearray(packet), 0.0)
    return engine, data


def test_an_established_packet_costs_a_twentieth_of_scapys_parse_and_build() -> None:
    engine, data = _conversation()

    def by_scapy() -> None:
        packet = IP(data)
        packet.dst = "44.3.3.3"
        del packet.chksum
        del packet[TCP].chksum
        bytes(packet)

    ours = min(timeit.repeat(lambda: engine.handle_packet(bytearray(data), 0.0), number=20_000, repeat=3)) / 20_000
    scapys = min(timeit.repeat(by_scapy, number=200, repeat=3)) / 200
    print(f"\nengine {ours * 1e6:.1f} us, scapy {scapys * 1e6:.0f} us, ratio 1/{scapys / ours:.0f}")
    assert ours <= scapys / 20


def test_the_short_way_takes_at_most_half_of_the_time_of_the_general_one() -> None:
    """Or it would not be worth its lines. The two take turns, and the best time of each counts."""
    engine, data = _conversation()
    general, _ = _conversation()
    general._shortcut = lambda *_: None
    best = {}
    for _ in range(50):
        for each in (engine, general):
            packets = [bytearray(data) for _ in range(500)]
            handle, started = each.handle_packet, time.perf_counter()
            for packet in packets:
                handle(packet, 0.0)
            took = (time.perf_counter() - started) / len(packets)
            best[each] = min(took, best.get(each, took))
    print(f"\nthe short way {best[engine] * 1e6:.2f} us, the general one {best[general] * 1e6:.2f} us")
    assert best[engine] <= best[general] / 2


def test_to_be_recorded_costs_an_established_packet_nothing_and_a_connection_a_tenth(tmp_path: Path) -> None:
    """A batch has 32 packets here. The engines take turns, and the best time of each counts."""
    clients = [f"10.0.{number >> 8}.{number & 255}" for number in range(1000)]
    packets_of_all = _short(clients)
    data: dict[bool, list[float]] = {False: [], True: []}
    short: dict[bool, list[float]] = {False: [], True: []}
    for number in range(5):
        for is_recorded in (False, True):
            engine, packet = _conversation()
            file = StateFile.open(tmp_path / str(number), 1) if is_recorded else None
            if file is not None:
                file.restore(engine, [], {}, [], 0.0, print)
            settle = file.settle if file is not None else lambda: None
            data[is_recorded].append(_timed(engine, [packet] * 10_000, settle))
            short[is_recorded].append(_timed(engine, packets_of_all, settle))
            if file is not None:
                file.close(keep=False)
    packets = {each: min(times) / 10_000 * 1e6 for each, times in data.items()}
    connections = {each: min(times) / len(clients) * 1e6 for each, times in short.items()}
    print(
        f"\nestablished packet {packets[False]:.2f} us, recorded {packets[True]:.2f} us; "
        f"short connection {connections[False]:.1f} us, recorded {connections[True]:.1f} us"
    )
    assert packets[True] <= 1.05 * packets[False]
    assert connections[True] <= 1.1 * connections[False]


def _short(clients: list[str]) -> list[bytes]:
    """Return the packets of connections that come and go."""
    there, back = {"sport": 4000, "dport": 8888}, {"sport": 4444, "dport": 4000}
    return [
        bytes(packet)
        for client in clients
        for packet in (
            _tcp(client, "44.2.2.2", flags="S", seq=1, **there),
            _tcp("44.3.3.3", client, flags="SA", seq=1, ack=2, **back),
            _tcp(client, "44.2.2.2", flags="A", seq=2, ack=2, **there),
            _tcp(client, "44.2.2.2", flags="FA", seq=2, ack=2, **there),
            _tcp("44.3.3.3", client, flags="FA", seq=2, ack=3, **back),
            _tcp(client, "44.2.2.2", flags="A", seq=3, ack=3, **there),
        )
    ]


def _timed(engine: NatEngine, packets: list[bytes], settle: Callable[[], None]) -> float:
    """Return the seconds of this process that an engine takes for packets, in batches."""
    buffers = [bytearray(packet) for packet in packets]
    started = time.process_time()
    for number, buffer in enumerate(buffers):
        engine.handle_packet(buffer, 0.0)
        if number % 32 == 0:
            settle()
    return time.process_time() - started
