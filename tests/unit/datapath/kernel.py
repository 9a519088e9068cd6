"""A packet queue of the kernel's that needs no kernel: it sends what the kernel sends, and understands what it is told.

The messages are put together and taken apart here by themselves, after linux/netfilter/nfnetlink_queue.h, and not with
the means that are tested.
"""

import socket
import struct
from collections.abc import Callable

PREROUTING, INPUT, OUTPUT, POSTROUTING = 0, 1, 3, 4
UNFINISHED, CUT_UP = 1, 2
_ACCEPT, _DROP, _QUEUE = 1, 0, 3


def answer(error: int = 0) -> bytes:
    """Return the kernel's answer to a setting."""
    return struct.pack("=IHHIIi", 36, 2, 0, 0, 0, -error) + bytes(16)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def packet_message(
    number: int, payload: bytes, info: int = 0, hook: int = POSTROUTING, more: bytes = b"", padded: bool = False
) -> bytes:
    """Return what the kernel says about a packet: its place, its link, `more`, how far it is done, itself."""
    text = struct.pack("!BBH", 0, 0, 2391)
    text += attribute(1, struct.pack("!IHB", number, 0x0800, hook)) + attribute(5, struct.pack("!I", 7)) + more
    if info:
        text += attribute(14, struct.pack("!I", info))
    text += attribute(10, payload)
    if not padded:
        text = text[: len(text) - (-len(payload) % 4)]
    return struct.pack("=IHHII", 16 + len(text), 0x300, 0, 0, 0) + text


class Queue:
    """netfilterqueue's object and the kernel behind it."""

    def __init__(self) -> None:
        # A netlink socket keeps message boundaries, and so does this one.
        self.kernel, self.here = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.kernel, self.here):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.kernel.setblocking(False)
        self.bound: list[int] = []
        self.held_when_unbound: list[int] | None = None
        self.refuses: OSError | None = None
        self.hook = POSTROUTING
        self.asked: list[bytes] = []
        """The settings that were asked for."""
        self.datagrams: list[int] = []
        """How many verdicts came in each datagram."""
        self._numbers = 0
        self._verdicts: dict[int, list[object]] = {}

    # what netfilterqueue does

    def bind(self, number: int, callback: Callable[[object], None], *, max_len: int, mode: int, sock_len: int) -> None:
        assert mode == 0, "packets are asked for later, whole"
        if self.refuses is not None:
            raise self.refuses
        self.bound.append(number)

    def unbind(self) -> None:
        self.held_when_unbound = [number for number, verdicts in self.verdicts.items() if not verdicts]
        self.bound.clear()

    def get_fd(self) -> int:
        return self.here.fileno()

    # what the kernel does

    def arrive(self, *payloads: bytes, info: int = 0, more: bytes = b"", padded: bool = False) -> None:
        for payload in payloads:
            self._numbers += 1
            self._verdicts[self._numbers] = []
            self.kernel.send(packet_message(self._numbers, payload, info, self.hook, more, padded))

    @property
    def verdicts(self) -> dict[int, list[object]]:
        """The verdicts on each packet: "dropped", its new bytes and "accepted", or the queue that it goes to."""
        while True:
            try:
                datagram = self.kernel.recv(1 << 20)
            except BlockingIOError:
                return self._verdicts
            count = 0
            while datagram:
                size, kind = struct.unpack_from("=IH", datagram)
                assert 20 <= size <= len(datagram)
                if kind == 0x302:
                    self.asked.append(datagram[:size])
                else:
                    self._understand(datagram[:size])
                    count += 1
                datagram = datagram[size + 3 & ~3 :]
            if count:
                self.datagrams.append(count)

    @property
    def given(self) -> list[list[object]]:
        """The verdicts on the packets in their order."""
        return list(self.verdicts.values())

    def close(self) -> None:
        self.kernel.close()
        self.here.close()

    def _understand(self, message: bytes) -> None:
        _, kind, flags, *_ = struct.unpack_from("=IHHII", message)
        assert (kind, flags) == (0x301, 1)
        assert struct.unpack_from("!BBH", message, 16) == (0, 0, *self.bound)
        attributes, at = {}, 20
        while at < len(message):
            size, kind = struct.unpack_from("=HH", message, at)
            assert 4 <= size <= len(message) - at
            attributes[kind] = message[at + 4 : at + size]
            at += size + 3 & ~3
        verdict, number = struct.unpack("!II", attributes.pop(2))
        verdicts = self._verdicts[number]
        assert not verdicts, "one verdict for each packet"
        if 10 in attributes:
            verdicts.append(attributes.pop(10))
        assert not attributes
        verdicts.append({_ACCEPT: "accepted", _DROP: "dropped"}.get(verdict, verdict))
