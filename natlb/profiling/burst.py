"""The engine alone, under a load of its own: `natlb where`. It needs no root, no kernel's queue and no configuration.

Three loads, each of 64 clients of one service: segments of established connections, requests and answers in turn; whole
connections, from the SYN to the last ACK; and datagrams of known flows. The packets are made beforehand. A lap is a
fresh engine that is shown all of them once, so that nothing comes a second time; only while it is, the profiler looks.

What this cannot show is what the kernel does with a packet, and what fetching it and giving it back takes: that is seen
in a natlb that runs, by `show profiling` of the Runtime API.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from natlb.arguments import Arguments, seconds
from natlb.core.checksum import fold, pseudo_header
from natlb.core.engine import NatEngine
from natlb.core.flow import Endpoint
from natlb.core.packet import ACK, FIN, IPV4_CHECKSUM, PSH, SYN, TCP, TRANSPORT_CHECKSUM, UDP
from natlb.core.pool import Pool, Server
from natlb.core.service import Service, VirtualAddresses
from natlb.profiling.checkpoints import Way, sources
from natlb.profiling.profile import Profile
from natlb.profiling.profiler import modules
from natlb.profiling.sampler import Sampler
from natlb.profiling.stages import Stage

_VIP_PORT, _SERVER_PORT = 8888, 4444
_VIP: Final = bytes((44, 2, 2, 2)), _VIP_PORT.to_bytes(2, "big")
_SERVER: Final = bytes((44, 3, 3, 3)), _SERVER_PORT.to_bytes(2, "big")
_CLIENTS: Final = 64
_ROUNDS: Final = 64
"""Requests and answers of each."""
_REQUEST, _ANSWER = bytes(44), bytes(338)

ENGINE: Final = Stage.PARSE, Stage.LOOKUP, Stage.OPEN, Stage.STATE, Stage.REWRITE, Stage.VERDICT
"""The stages that are the engine's."""

_IP: Final = Struct("!BBHHHBBH4s4s")
_TCP: Final = Struct("!2s2sIIBBHHH")
_UDP: Final = Struct("!2s2sHH")
_U16: Final = Struct("!H")


def segment(source: Endpoint, to: Endpoint, flags: int, sequence: int, acknowledged: int, data: bytes = b"") -> bytes:
    """Return a TCP segment over IPv4, checksums included."""
    header = _TCP.pack(source[1], to[1], sequence, acknowledged, 5 << 4, flags, 0xFFFF, 0, 0)
    return _packet(TCP, source[0], to[0], bytearray(header + data))


def datagram(source: Endpoint, to: Endpoint, data: bytes) -> bytes:
    """Return a UDP datagram over IPv4, checksums included."""
    return _packet(UDP, source[0], to[0], bytearray(_UDP.pack(source[1], to[1], 8 + len(data), 0) + data))


def _packet(protocol: int, source: bytes, to: bytes, carried: bytearray) -> bytes:
    total = fold(pseudo_header(source, to, protocol, len(carried)) + carried)
    _U16.pack_into(carried, TRANSPORT_CHECKSUM[protocol], total ^ 0xFFFF)
    header = bytearray(_IP.pack(0x45, 0, 20 + len(carried), 0, 0x4000, 64, protocol, 0, source, to))
    _U16.pack_into(header, IPV4_CHECKSUM, fold(header) ^ 0xFFFF)
    return bytes(header + carried)


class _Talk:
    """A TCP connection, as its packets reach natlb."""

    def __init__(self, client: Endpoint) -> None:
        self._client = client
        self._sent, self._answered = 1, 1

    def opening(self) -> list[bytes]:
        return [self._says(SYN), self._hears(SYN | ACK), self._says(ACK)]

    def exchange(self) -> list[bytes]:
        return [self._says(ACK | PSH, _REQUEST), self._hears(ACK | PSH, _ANSWER)]

    def ending(self) -> list[bytes]:
        return [self._says(FIN | ACK), self._hears(FIN | ACK), self._says(ACK)]

    def _says(self, flags: int, data: bytes = b"") -> bytes:
        made = segment(self._client, _VIP, flags, self._sent, self._answered if flags & ACK else 0, data)
        self._sent += len(data) + bool(flags & (SYN | FIN))
        return made

    def _hears(self, flags: int, data: bytes = b"") -> bytes:
        made = segment(_SERVER, self._client, flags, self._answered, self._sent, data)
        self._answered += len(data) + bool(flags & (SYN | FIN))
        return made


@dataclass(frozen=True, slots=True)
class Load:
    """Packets for one lap."""

    about: str
    protocol: int
    before: Sequence[bytes]
    """Those that come first, and are not looked at."""
    packets: Sequence[bytes]


def loads() -> list[Load]:
    """Make all packets."""
    clients = [(bytes((44, 1, 1, 1)), (40000 + number).to_bytes(2, "big")) for number in range(_CLIENTS)]
    talks = [_Talk(client) for client in clients]
    opening = [packet for talk in talks for packet in talk.opening()]
    established = [packet for _ in range(_ROUNDS) for talk in talks for packet in talk.exchange()]
    connections: list[bytes] = []
    for port in range(1024, 1024 + 16 * _CLIENTS):
        talk = _Talk((clients[0][0], port.to_bytes(2, "big")))
        connections += talk.opening() + talk.exchange() + talk.ending()
    flows = [made for each in clients for made in (datagram(each, _VIP, _REQUEST), datagram(_SERVER, each, _ANSWER))]
    return [
        Load("segments of established TCP connections", TCP, opening, established),
        Load("TCP connections, from the SYN to the last ACK, one exchange in each", TCP, (), connections),
        Load("datagrams of known UDP flows", UDP, flows, flows * _ROUNDS),
    ]


def _engine(protocol: int) -> NatEngine:
    addresses = VirtualAddresses()
    service = Service("service", Pool("servers", [Server("server", _SERVER[0], _SERVER_PORT)]), protocol=protocol)
    addresses.bind(_VIP[0], _VIP_PORT, service)
    return NatEngine(addresses)


def run(load: Load, seconds: float, clock: Callable[[], float] = time.process_time) -> Profile:
    """Show a load to the engine for so many seconds of work, and return where they went."""
    way = Way(sources(modules()))
    sampler = Sampler(way.stage)
    found = Profile(samples=sampler.samples, user_samples=sampler.user_samples)
    way.put_in()
    try:
        while found.cpu < seconds:
            engine = _engine(load.protocol)
            for packet in load.before:
                engine.handle_packet(bytearray(packet), 0.0)
            handle = engine.handle_packet
            sampler.resume()
            begun = clock()
            for packet in load.packets:
                handle(bytearray(packet), time.monotonic())
            found.cpu += clock() - begun
            sampler.pause()
            found.packets += len(load.packets)
    finally:
        sampler.close()
        way.take_out()
    for stage in set(Stage) - set(ENGINE):
        found.forget(stage)
    return found


def main(argv: list[str]) -> int:
    """Run `natlb where` with these arguments and return its exit code."""
    parser = Arguments(
        prog="natlb where",
        description="Show where the time of a packet goes in natlb's engine, under loads of its own. It needs no root. "
        "With all that fetching and sending takes, 'show profiling' of the Runtime API tells of a natlb that runs.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "-s", dest="seconds", metavar="SECONDS", type=seconds(0.1), default=2.0, help="work on each load (%(default)g)"
    )
    options = parser.parse_args(argv)
    try:
        for number, load in enumerate(loads()):
            found = run(load, options.seconds)
            sys.stdout.writelines([*(["\n"] if number else []), f"{load.about}\n", *found.table(ENGINE)])
            sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has read enough; what is still in the buffer would fail once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
