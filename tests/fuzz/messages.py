"""Messages of the kernel's packet queue: where a packet is, is known for sure or not at all.

An input is a row of messages to one reader, which remembers what it has met (`Layouts`). Each is built as the kernel
builds them and then perhaps changed in a few places, or is bytes. What the reader says has to be what a plain reading
of the attributes says, by the layouts of linux/netlink.h and linux/netfilter/nfnetlink_queue.h, whatever it has met
before; so what a sender writes into a packet can never move where the next one is thought to begin.

Flags, sequence number, family and the header of the first attribute are the kernel's, and the same in every message of
a packet. The reader looks at them once, so they are not changed here.
"""

import struct

from natlb.datapath.messages import CUT_UP, LARGEST_MESSAGE, UNFINISHED, Layouts, error_of
from tests.fuzz.choices import Choices

_PACKET, _HEADER, _PAYLOAD, _INFO = 0x300, 1, 10, 14
_CONSTANT = struct.pack("=HII4sHH", 0, 0, 0, b"\2\0\x09\x57", 11, _HEADER)
"""From the flags to the header of the first attribute."""
_OTHERS = ((3, 4), (4, 8), (5, 4), (6, 4), (7, 4), (8, 16), (9, 12), (15, 7), (20, 40))
"""Kinds and sizes of other attributes: marks, times, links, addresses, names."""


def check(data: bytes) -> None:
    """Read the messages. Raises if one of them is read wrongly."""
    choices, layouts = Choices(data), Layouts()
    buffer = bytearray(LARGEST_MESSAGE)
    for _ in range(50):
        if not choices.more:
            break
        message = _message(choices)
        buffer[: len(message)] = message
        found = layouts.read(buffer, len(message))
        expected = plainly(buffer, len(message))
        assert (found and tuple(found)) == expected, f"{found} is not {expected} of {bytes(message)!r}"
        problem = error_of(message)
        assert problem is None or isinstance(problem, int)


def _message(choices: Choices) -> bytearray:
    if choices.byte() % 8 == 7:
        raw = choices.take(choices.byte())
        return bytearray(raw[:6] + _CONSTANT[: max(0, len(raw) - 6)] + raw[24:])
    body = _attribute(_HEADER, struct.pack("!IHB", choices.byte(), 0x0800, choices.byte() % 5))
    shape = choices.byte()
    for bit in range(3):
        if shape >> bit & 1:
            kind, size = choices.pick(_OTHERS)
            body += _attribute(kind, bytes(size))
    if shape & 8:
        body += _attribute(_INFO, struct.pack("!I", choices.byte() & 7))
    if not shape & 16:
        body += _attribute(_PAYLOAD, choices.take(choices.byte() % 60))
    if shape & 32:  # a kernel that puts something behind the packet
        body += _attribute(_INFO, struct.pack("!I", choices.byte() & 7))
    message = bytearray(struct.pack("=IH", 20 + len(body), _PACKET) + _CONSTANT + body[4:])
    for _ in range(choices.pick((0, 0, 0, 1, 2))):
        at = choices.byte() % len(message)
        message[at if at < 6 else max(at, 24)] = choices.byte()
    if choices.byte() % 16 == 15:
        del message[choices.byte() % len(message) :]
    return message


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def plainly(buffer: bytearray, size: int) -> tuple[bytes, int, int, int, int] | None:
    """Return number, start and end of the packet, hook, and how far it is done; None if a message is about none."""
    if size < 32 or struct.unpack_from("=H", buffer, 4)[0] != _PACKET:
        return None
    if struct.unpack_from("=HH", buffer, 20) != (11, _HEADER):
        return None
    at, info = 32, 0
    while at + 4 <= size:
        length, kind = struct.unpack_from("=HH", buffer, at)
        if length < 4 or at + length > size:
            return None
        if kind == _PAYLOAD:
            return bytes(buffer[24:28]), at + 4, at + length, buffer[30], info
        if kind == _INFO:
            info = buffer[at + 7] & (UNFINISHED | CUT_UP)
        at += length + -length % 4
    return None
