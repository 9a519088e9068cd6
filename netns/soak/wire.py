"""How the two ends of a soak speak to each other: frames in a connection, and datagrams.

A connection is a number of turns. The client begins each with a frame, which says how much it is going to send and how
much it wants to be sent, and, in the last one, how the connection is to end. Both streams go on from turn to turn: see
`netns.soak.keyed`. A frame has a checksum of its own, its connection's name, and its turn's number, so that one that is
altered, strange, lost or doubled is found like any other byte.

A datagram carries the flow's name, its own number, and as many keyed bytes as fill it.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import ClassVar, Self

from netns.soak.keyed import Stream, WrongByte

LAST, BOTH = 1, 2
"""Flags of a frame: no other follows; both ends send at the same time."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The head of a turn."""

    connection: int
    turn: int
    up: int
    """Bytes that follow from the client."""
    down: int
    """Bytes that the server is to send: once it has all of the client's, unless `BOTH`."""
    quiet: float
    """Seconds that the client may be silent after this turn, at most."""
    flags: int
    end: int
    """How it is to end after the last turn: a number of `netns.soak.plans.End`."""

    FORMAT: ClassVar = struct.Struct("!4sQIIIIBB")
    SIZE: ClassVar = FORMAT.size + 4
    _MAGIC: ClassVar = b"SOAK"

    def pack(self) -> bytes:
        """Return its bytes."""
        quiet = int(self.quiet * 1000)
        head = self.FORMAT.pack(
            self._MAGIC, self.connection, self.turn, self.up, self.down, quiet, self.flags, self.end
        )
        return head + zlib.crc32(head).to_bytes(4, "big")

    @classmethod
    def unpack(cls, octets: bytes, connection: int | None, turn: int) -> Self:
        """Read one that must be of this turn, and of this connection if that is known; WrongByte if it is not."""
        magic, number, its_turn, up, down, quiet, flags, end = cls.FORMAT.unpack_from(octets)
        frame = cls(number, its_turn, up, down, quiet / 1000, flags, end)
        if magic != cls._MAGIC or zlib.crc32(octets[:-4]) != int.from_bytes(octets[-4:], "big"):
            raise WrongByte(f"the frame of turn {turn} is {octets.hex()}")
        if frame.turn != turn or connection not in (None, frame.connection):
            found = f"of connection {frame.connection}, turn {frame.turn}"
            raise WrongByte(f"the frame is {found}, and should be of {connection}, turn {turn}")
        return frame


_DATAGRAM = struct.Struct("!4sQI")
_QUESTION, _ANSWER = b"ASK?", b"ECHO"
LEAST = _DATAGRAM.size
"""Bytes of the smallest datagram."""


def question(seed: int, flow: int, number: int, size: int) -> bytes:
    """Return a datagram of a client's."""
    return _datagram(_QUESTION, seed, flow, number, size)


def answer(seed: int, flow: int, number: int, size: int) -> bytes:
    """Return the server's answer to it, of the same size."""
    return _datagram(_ANSWER, seed, flow, number, size)


def read_question(seed: int, datagram: bytes) -> tuple[int, int]:
    """Return flow and number of a client's datagram; WrongByte if any of its bytes is not what it should be."""
    return _read(_QUESTION, seed, datagram)


def read_answer(seed: int, datagram: bytes) -> tuple[int, int]:
    """Return flow and number of a server's answer; WrongByte as above."""
    return _read(_ANSWER, seed, datagram)


def _datagram(kind: bytes, seed: int, flow: int, number: int, size: int) -> bytes:
    head = _DATAGRAM.pack(kind, flow, number)
    return head + _filling(kind, seed, flow).at(number * 7, size - len(head)) if size > len(head) else head


def _filling(kind: bytes, seed: int, flow: int) -> Stream:
    return Stream(seed, "flow", flow, kind.decode())


def _read(kind: bytes, seed: int, datagram: bytes) -> tuple[int, int]:
    if len(datagram) < LEAST:
        raise WrongByte(f"a datagram of {len(datagram)} bytes has come: {datagram.hex()}")
    found, flow, number = _DATAGRAM.unpack_from(datagram)
    if found != kind:
        raise WrongByte(f"a datagram of nobody's has come: {datagram[:32].hex()}")
    if len(datagram) > LEAST:
        _filling(kind, seed, flow).check(number * 7, datagram[LEAST:])
    return flow, number
