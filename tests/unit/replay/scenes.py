"""Configurations, conversations as captures have them, and players to play them."""

import struct
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from natlb.assembly import Assembly
from natlb.captures.files import Record
from natlb.captures.links import RAW
from natlb.config.model import Config
from natlb.config.parser import parse
from natlb.replay.history import Entry
from natlb.replay.player import Player
from natlb.replay.scene import Scene, prepare
from tests.unit.core.packets import ACK, FIN, SYN, segment

CLIENT, VIP, SERVER = ("44.1.1.1", 40000), ("44.2.2.2", 8888), ("44.3.3.3", 4444)
CLIENT6, VIP6, SERVER6 = ("fd44::1", 40000), ("fd44::2", 8888), ("fd44::3", 4444)

TEXT = """\
defaults
    timeout connect 10s
    timeout client 30s
    timeout server 30s
frontend www
    bind *:8888
    default_backend nodes
backend nodes
    server server1 44.3.3.3:4444
    server server2 44.4.4.4:5555
frontend six
    bind [::]:8888
    default_backend nodes6
backend nodes6
    server server1 [fd44::3]:4444
udp-lb echo
    dgram-bind *:7007
    timeout client 30s
    timeout server 30s
    server server1 44.3.3.3:7000
"""

FIRST = 1_700_000_000_000_000_000
"""When the first packet of a capture comes."""

Timed = tuple[float, bytes | bytearray]
"""Seconds after the first packet, and a packet."""


@cache
def config(text: str = TEXT) -> Config:
    parsed = parse([("t.cfg", text.encode())], {})
    assert parsed.config is not None, parsed.diagnostics
    return parsed.config


def made(text: str = TEXT, scene: Scene | None = None) -> Assembly:
    return prepare(config(text), scene or Scene())


def records(packets: Iterable[Timed], *, most: int = 1 << 16, outgoing: bool | None = None) -> list[Record]:
    return [
        Record(number, FIRST + round(at * 1e9), RAW, bytes(packet[:most]), len(packet), outgoing)
        for number, (at, packet) in enumerate(packets, start=1)
    ]


class Played:
    """What came of a capture."""

    def __init__(
        self, packets: Iterable[Timed] | Sequence[Record], text: str = TEXT, scene: Scene | None = None
    ) -> None:
        self.entries: list[Entry] = []
        self.sent: list[tuple[int, bytes, int]] = []
        self.player = Player(made(text, scene), self.entries.append, lambda *sent: self.sent.append(sent))
        given = list(packets)
        plain: list[Any] = [each for each in given if isinstance(each, Record)]
        self.steps = [self.player.play(record) for record in plain or records(given)]  # type: ignore[arg-type]
        self.player.finish()

    @property
    def packets(self) -> list[bytes]:
        return [bytes(packet) for _, packet, _ in self.sent]

    @property
    def fates(self) -> list[str]:
        return [step.fate.name.lower() for step in self.steps]

    def told(self, event: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.event == event]

    @property
    def end(self) -> dict[str, Any]:
        return dict(self.entries[-1].told)


def conversation(
    client: Any = CLIENT, vip: Any = VIP, server: Any = SERVER, *, payload: bytes = b"hello", start: float = 0.0
) -> list[Timed]:
    """Return a connection from its first to its last packet, as it comes to the balancer."""
    size = len(payload)
    said = [
        segment(client, vip, SYN, seq=100, options=b"\x02\x04\x05\xb4"),
        segment(server, client, SYN | ACK, seq=500, ack=101),
        segment(client, vip, ACK, seq=101, ack=501),
        segment(client, vip, ACK, seq=101, ack=501, payload=payload),
        segment(server, client, ACK, seq=501, ack=101 + size, payload=payload * 2),
        segment(client, vip, FIN | ACK, seq=101 + size, ack=501 + 2 * size, payload=b"bye"),
        segment(server, client, FIN | ACK, seq=501 + 2 * size, ack=105 + size),
        segment(client, vip, ACK, seq=105 + size, ack=502 + 2 * size),
    ]
    return [(start + 0.001 * number, packet) for number, packet in enumerate(said)]


def pcap(packets: Iterable[Timed], *, link: int = RAW, head: bytes = b"") -> bytes:
    data = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 16, link)
    for at, packet in packets:
        frame, when = head + packet, FIRST + round(at * 1e9)
        data += struct.pack("<IIII", when // 10**9, when % 10**9, len(frame), len(frame)) + frame
    return data


def write(path: Path, packets: Iterable[Timed]) -> Path:
    path.write_bytes(pcap(packets))
    return path
