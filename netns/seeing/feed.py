"""Captures at several places, read as they come.

tcpdump writes into a pipe at each place: nothing of it stays on disk, and a flood that is faster than its reader makes
tcpdump wait and the kernel drop, and nothing grow. The places are read one after the other, so a packet can be found at
its second place before the first: whoever wants them in order, or joined, has to wait a little (`Feed.in_order`,
`netns.seeing.pairs`).
"""

import contextlib
import fcntl
import heapq
import os
import struct
import time
from collections.abc import Iterator, Sequence

from netns.build import Lab
from netns.capture import Capture
from netns.errors import LabError
from netns.processes import every
from netns.topology import LINK

_FILE_HEADER = 24
_RECORD = struct.Struct("=IIII")
_MAGIC = 0xA1B2C3D4
_PIPE = 1 << 20
"""Bytes that a pipe holds, and that are read of it at a time."""
_LATE = 0.2
"""Seconds after which a packet is taken to have arrived at its reader from every place."""

Packet = tuple[float, str, bytes]
"""When it was seen, at which place, and its bytes from the Ethernet header on."""


def places_of(lab: Lab, host: str) -> list[tuple[str, str]]:
    """Return the places at a host: it and each of its interfaces to another; LabError if there is no such host."""
    name = lab.topology.host(host).name
    if name == lab.topology.balancer.name:
        return [(name, neighbour.name) for neighbour in lab.topology.neighbours]
    return [(name, LINK)]


class Stream:
    """The bytes of a pcap, in pieces as they come."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = False
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[float, bytes]]:
        """Return the packets that are whole with this piece: time and bytes. LabError when it is no pcap."""
        data = self._rest + data
        at = 0
        if not self._begun and len(data) >= _FILE_HEADER:
            if struct.unpack_from("=I", data)[0] != _MAGIC:
                raise LabError(f"{self._name} is not a pcap file of this machine")
            self._begun, at = True, _FILE_HEADER
        packets = []
        while self._begun and at + _RECORD.size <= len(data):
            seconds, micros, length, _ = _RECORD.unpack_from(data, at)
            if at + _RECORD.size + length > len(data):
                break
            at += _RECORD.size
            packets.append((seconds + micros / 1e6, data[at : at + length]))
            at += length
        self._rest = data[at:]
        return packets


class Feed:
    """Captures that run, each with the pipe that it writes to."""

    def __init__(self, captures: Sequence[tuple[Capture, int]]) -> None:
        self._captures = captures
        self._streams = [Stream(capture.place) for capture, _ in captures]
        self._waiting: list[Packet] = []
        self.places = [capture.place for capture, _ in captures]

    def new(self) -> list[Packet]:
        """Return what came since the last time; LabError when a capture has ended by itself."""
        found: list[Packet] = []
        for (capture, pipe), stream in zip(self._captures, self._streams, strict=True):
            with contextlib.suppress(BlockingIOError):
                data = os.read(pipe, _PIPE)
                if not data:
                    raise LabError(f"the capture at {capture.place} has ended; is the lab still up?")
                found += [(at, capture.place, frame) for at, frame in stream.feed(data)]
        return found

    def in_order(self) -> list[Packet]:
        """Return, in the order of their times, the packets that no earlier one can come after any more."""
        for packet in self.new():
            heapq.heappush(self._waiting, packet)
        until = time.time() - _LATE
        ready = []
        while self._waiting and self._waiting[0][0] < until:
            ready.append(heapq.heappop(self._waiting))
        return ready

    def rest(self, seconds: float = 2.0) -> list[Packet]:
        """Return, in order, all that is on its way, and end the captures; LabError when packets were lost.

        Where traffic does not cease for so long there is no such moment, and no telling what was lost after it.
        """
        for _ in every(0.15, seconds):
            behind = any(capture.behind for capture, _ in self._captures)
            found = self.new()
            for packet in found:
                heapq.heappush(self._waiting, packet)
            if not found and not behind:
                for capture, _ in self._captures:
                    capture.stop(settled=True)
                break
        return [heapq.heappop(self._waiting) for _ in range(len(self._waiting))]


@contextlib.contextmanager
def feed(lab: Lab, places: Sequence[tuple[str, str]], expression: str = "") -> Iterator[Feed]:
    """Watch places, each a host and its interface, with tcpdump's filter."""
    with contextlib.ExitStack() as stack:
        captures = []
        for host, interface in places:
            path = lab.new_file(f"{host}-{interface}", "pcap")
            os.mkfifo(path)
            stack.callback(path.unlink, missing_ok=True)
            pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            stack.callback(os.close, pipe)
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
            enter = lab.command(host, [], names=False)
            capture = Capture(enter, f"{host}:{interface}", interface, expression, path, wait=False)
            stack.callback(capture.kill)
            captures.append((capture, pipe))
        for capture, _ in captures:
            capture.begin()
        yield Feed(captures)
