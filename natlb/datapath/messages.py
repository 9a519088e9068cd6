"""The netlink messages of a packet queue: packets from the kernel, verdicts and settings to it.

A message is a netlink header, a word about the queue, and attributes, each with its length and kind before it. Of a
packet that comes, the kernel writes down its number, the place in the kernel where it is, the links that it came
from and goes to, perhaps a mark, a hardware address, a time, how far it is done (NFQA_SKB_INFO), and last the packet
itself.

To walk over these for each packet would take as long as half of all that is done with one. But all that stands
before a packet, its own number aside, is the same for thousands of packets: same place, same links, same neighbour.
So `Layouts` remembers what has been found behind such a head. A head that is known byte for byte, with the header of
a packet behind it, can only be read in one way; whatever else comes is walked over. Nothing is guessed: where a packet
begins is never concluded from bytes that a sender could have written.

All layouts: linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nfnetlink_queue.h.
"""

import socket
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

_NFNL_SUBSYS_QUEUE, _NFQNL_MSG_PACKET, _NFQNL_MSG_VERDICT, _NFQNL_MSG_CONFIG = 3, 0, 1, 2
_NLM_F_REQUEST, _NLM_F_ACK, _NLMSG_ERROR = 0x1, 0x4, 0x2
_NFQA_CFG_PARAMS, _NFQA_CFG_MASK, _NFQA_CFG_FLAGS, _NFQNL_COPY_PACKET = 2, 4, 5, 2
_NFQA_PACKET_HDR, _NFQA_VERDICT_HDR, _NFQA_PAYLOAD, _NFQA_SKB_INFO = 1, 2, 10, 14

NF_DROP, NF_ACCEPT, NF_QUEUE = 0, 1, 3
"""Verdicts (linux/netfilter.h). That to queue a packet again has the number of the queue in its upper half."""

UNFINISHED, CUT_UP = 1 << 0, 1 << 1
"""How far a packet is done: its checksum is unfinished (NFQA_SKB_CSUMNOTREADY); it is yet to be cut up (..._GSO)."""

UNSEGMENTED: Final = 1 << 2
"""The flag of a queue whose packets come as they travel inside the kernel (NFQA_CFG_F_GSO)."""

LARGEST_PACKET: Final = 65535 - 4
"""Bytes that the kernel shows of a packet at most: with their own header they are one netlink attribute, whose length
has 16 bits. Only the loopback interface carries larger packets, up to 65,536 bytes."""

LARGEST_MESSAGE: Final = 65535 + 1024
"""Bytes of a message with a packet of the largest size, and the attributes that come with it."""

_PACKET_KIND: Final = _NFNL_SUBSYS_QUEUE << 8 | _NFQNL_MSG_PACKET
_PACKET_HEADER: Final = (11, _NFQA_PACKET_HDR)
_FIRST, _HOOK, _SECOND = 20, 30, 32
"""Where in a message the first attribute stands (number, protocol, hook), the hook in that, and the second."""
_MOST_HEADS: Final = 1024
"""Heads that are remembered: some for each neighbour that sends."""

_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR: Final = struct.Struct("=i")
_VERDICT: Final = struct.Struct("=I24s4s")
_VERDICT_WITH_PACKET: Final = struct.Struct("=I24s4sHH")

_Split = Callable[[bytearray], tuple[int, bytes, bytes, int, int]]


class Arrival(NamedTuple):
    """A packet in a message."""

    number: bytes
    """The kernel's for it, as it stands in messages."""
    start: int
    """Where in the message it begins."""
    end: int
    """Where it ends, one past the last byte."""
    hook: int
    """The place in the kernel where it is: NF_INET_PRE_ROUTING and so on."""
    info: int
    """UNFINISHED, CUT_UP or both."""


class Layouts:
    """Finds packets in messages, and learns."""

    def __init__(self) -> None:
        self._made: dict[int, _Split] = {}
        """How to cut a message into pieces, by where its packet begins."""
        self._splits: dict[int, _Split] = {}
        """How the last message was cut into pieces, by the hook that it was from."""
        self._known: dict[bytes, tuple[int, int, int]] = {}
        """By what stands between number and packet: where the packet begins, its hook, and how far it is done."""

    def read(self, message: bytearray, size: int) -> tuple[bytes, int, int, int, int] | None:
        """Return the `Arrival` in the first `size` bytes of a message, as a plain tuple; None if it is not about one.

        The buffer has `LARGEST_MESSAGE` bytes.
        """
        split = self._splits.get(message[_HOOK])
        if split is not None:
            kind, number, head, length, attribute = split(message)
            known = self._known.get(head)
            if known is not None and attribute == _NFQA_PAYLOAD and kind == _PACKET_KIND:
                start, hook, info = known
                end = start + length - 4
                if start <= end <= size:
                    return number, start, end, hook, info
        return self._walk(message, size)

    def _walk(self, message: bytearray, size: int) -> Arrival | None:
        if size < _SECOND or kind_of(message) != _PACKET_KIND:
            return None
        if _ATTRIBUTE.unpack_from(message, _FIRST) != _PACKET_HEADER:
            return None
        at, info = _SECOND, 0
        while at + 4 <= size:
            length, attribute = _ATTRIBUTE.unpack_from(message, at)
            if length < 4 or at + length > size:
                return None
            if attribute == _NFQA_PAYLOAD:
                return self._learn(message, at + 4, at + length, info)
            if attribute == _NFQA_SKB_INFO:
                info = message[at + 7] & (UNFINISHED | CUT_UP)
            at += length + 3 & ~3
        return None

    def _learn(self, message: bytearray, start: int, end: int, info: int) -> Arrival:
        hook = message[_HOOK]
        if len(self._known) >= _MOST_HEADS:
            self._known.clear()
        split = self._made.get(start)
        if split is None:
            split = self._made[start] = struct.Struct(f"=4xH18x4s{start - 4 - 28}sHH").unpack_from
        self._splits[hook] = split
        _, number, head, _, _ = split(message)
        self._known[head] = start, hook, info
        return Arrival(number, start, end, hook, info)


class Verdicts:
    """Writes verdicts about the packets of one queue."""

    def __init__(self, queue: int) -> None:
        self._queue = queue
        self._accept, self._drop = self._middle(NF_ACCEPT), self._middle(NF_DROP)

    def accept_with(self, number: bytes, size: int) -> bytes:
        """Return what stands before the new bytes of a packet, `size` of them, to let it pass with those."""
        return _VERDICT_WITH_PACKET.pack(36 + size, self._accept, number, 4 + size, _NFQA_PAYLOAD)

    def accept(self, number: bytes) -> bytes:
        """Return the message to let a packet pass as it is."""
        return _VERDICT.pack(32, self._accept, number)

    def drop(self, number: bytes) -> bytes:
        """Return the message to throw a packet away."""
        return _VERDICT.pack(32, self._drop, number)

    def queue_again(self, number: bytes, queue: int) -> bytes:
        """Return the message to put a packet into another queue."""
        return _VERDICT.pack(32, self._middle(NF_QUEUE | queue << 16), number)

    def _middle(self, verdict: int) -> bytes:
        """Return what stands between the length of a message and the number of a packet."""
        kind = _NFNL_SUBSYS_QUEUE << 8 | _NFQNL_MSG_VERDICT
        header = struct.pack("=HHII", kind, _NLM_F_REQUEST, 0, 0) + _about(self._queue)
        return header + _ATTRIBUTE.pack(12, _NFQA_VERDICT_HDR) + struct.pack("!I", verdict)


def ask_for_whole_packets(queue: int) -> bytes:
    """Return the message to ask for packets with all their bytes."""
    return _setting(queue, (_NFQA_CFG_PARAMS, struct.pack("!IB", 0xFFFF, _NFQNL_COPY_PACKET)))


def ask_for_unsegmented_packets(queue: int) -> bytes:
    """Return the message to ask for packets as they travel inside the kernel."""
    flag = struct.pack("!I", UNSEGMENTED)
    return _setting(queue, (_NFQA_CFG_FLAGS, flag), (_NFQA_CFG_MASK, flag))


def kind_of(message: bytes | bytearray) -> int:
    """Return the kind of a message."""
    return int(_ATTRIBUTE.unpack_from(message, 4)[0])


def number_in(message: bytearray, size: int) -> bytes | None:
    """Return the number of the packet that the first `size` bytes of a message are about; None if they are not."""
    if size < _SECOND or kind_of(message) != _PACKET_KIND:
        return None
    return bytes(message[_FIRST + 4 : _FIRST + 8])


def number_of(verdict: bytes | bytearray) -> bytes:
    """Return the number of the packet that a verdict is about."""
    return bytes(verdict[28:32])


def error_of(message: bytes | bytearray) -> int | None:
    """Return what the kernel says to a message that was sent: 0, or an errno; None if a message is no such answer."""
    if len(message) < 20 or kind_of(message) != _NLMSG_ERROR:
        return None
    return -int(_ERROR.unpack_from(message, 16)[0])


def _setting(queue: int, *attributes: tuple[int, bytes]) -> bytes:
    body = _about(queue)
    for kind, value in attributes:
        body += _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)
    kind = _NFNL_SUBSYS_QUEUE << 8 | _NFQNL_MSG_CONFIG
    return struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST | _NLM_F_ACK, 0, 0) + body


def _about(queue: int) -> bytes:
    return struct.pack("!BBH", socket.AF_UNSPEC, 0, queue)
