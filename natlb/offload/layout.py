"""What the maps hold, byte by byte: the other half of `flow.bpf.c`.

Four maps carry everything that Python and the program tell each other about connections:

    flows          tuple of a packet as it comes in  ->  what to make of it, and the row of its connection
    connections    row                               ->  what both directions share: counters, window, state
    handled        row                               ->  how far the engine is with packets that still go there
    settings       one entry                         ->  what the program must know besides

A connection has two flows, one for each direction, and one row. All that is needed to know a connection again after
natlb was killed stands there: its two tuples (one is the key of a flow, the other is the reverse of what that flow
is made into), its state and numbers, and an identity of eight bytes by which its service and server are found.

The program says in its read-only data how large each structure is and where its fields are. `check` holds that against
what stands here, before anything is loaded: a mistake must not become wrong bytes in packets.
"""

import sys
from functools import partial
from struct import Struct
from typing import Final, NamedTuple

from natlb.core.flow import FlowKey
from natlb.core.states import State
from natlb.errors import OffloadError

LAYOUT: Final = 3
"""The number of this layout. Maps that a run of natlb with another one has left are not taken over."""

STATES: Final = (
    State.INIT,
    State.SYN_RECEIVED,
    State.ESTABLISHED,
    State.CLIENT_FIN,
    State.SERVER_FIN,
    State.BOTH_FIN,
    State.TRANS,
    State.BOTH_WAYS,
)
"""By the program's numbers."""
NUMBERS: Final = {state: number for number, state in enumerate(STATES)}

NOBODY: Final = 2
"""In the place of a direction: the state is the one that the connection was entered with."""

KEY: Final = Struct("=16s16s4sBB2x")
"""Source and destination address, both ports as they stand in a packet, protocol, IP version. IPv4 addresses are
followed by zeros."""
_ENDS: Final = 16 + 16 + 4
"""Bytes of the addresses and ports in it."""

FLOW: Final = Struct("=16s16s4sHHIIB3x")
"""Addresses and ports to write; by how much checksums move because of the addresses, and of the ports, in the byte
order of the machine; row of the connection, its generation, direction."""

KEYS: Final = Struct("=" + 2 * "16s16s4sBB2x")
FLOWS: Final = Struct("=" + 2 * "16s16s4sHHIIB3x")
"""Two keys and two flows, one after the other, those of direction ORIGINAL first."""

CONNECTION: Final = Struct("=4xIQ" + 2 * "QQIIIBBH" + "QQ8sQIIBBBBI")
"""A lock; generation; last sign of life; then for each direction packets, bytes of payload, `following`, `acked`,
`edge`, `shift` and `offered` of `natlb.core.ledger`; when it was opened, when answered; identity; until when packets
follow those that went to the engine, and the fingerprint of the last that did, by direction; state, and by whom; before
a RST, which state; the directions whose packets are still passed on, a bit for each, and whether they stopped to be
out of turn; how many more of them may be passed on.

All times are nanoseconds of the monotonic clock. The generation tells a connection from those that had its row before.
"""

WORDS: Final = CONNECTION.size // 8
"""The same in words of eight bytes, as whole pieces of the map are looked at."""
PACKETS_AT: Final = (2, 6)
"""In which words the counters of packets stand: one of them moves with whatever happens to a connection."""

BOTH_CHANGING: Final = 0b11
"""The packets of both directions are passed on."""
OUT_OF_TURN: Final = 0b100
"""They are not any more, although some may still be on their way to the engine."""
NONE_PASSED: Final = 0xFFFFFFFE
NONE_HANDLED: Final = 0xFFFFFFFF
"""In the place of a fingerprint: larger than any, and not the same."""

HANDLED: Final = Struct("=8I")
"""The fingerprint of the last packet that has left the engine, by direction; then, by sender, `following`, `acked` and
`edge`. Python alone writes here, word by word, and not through the kernel."""

SETTINGS: Final = Struct("=IIII")
"""Layout; how many of 2**32 packets are sampled for the audit; bytes of the largest packet that fits all routes, over
IPv4 and over IPv6, or 0 for any."""

ENDED: Final = Struct("=II")
"""An event: row and generation of a connection that is over."""

SNAP: Final = 2048
"""Bytes of a packet that a sample holds at most. What is larger is a part of a stream, of which the start will do."""

SAMPLE: Final = Struct("=IIIIB7x")
"""The head of a sample: row and generation, size of the packet, bytes of it in the sample, direction. The packet as it
came in follows, and the packet as it went out, each in a space of SNAP bytes, from the IP header on."""


class Row(NamedTuple):
    """What stands in `connections`, as CONNECTION unpacks it."""

    generation: int
    seen: int
    packets: int
    octets: int
    following: int
    acked: int
    edge: int
    shift: int
    offered: int
    spare: int
    reply_packets: int
    reply_octets: int
    reply_following: int
    reply_acked: int
    reply_edge: int
    reply_shift: int
    reply_offered: int
    reply_spare: int
    opened: int
    answered: int
    identity: bytes
    patience: int
    passed: int
    reply_passed: int
    state: int
    by: int
    before: int
    changing: int
    passes: int


FACTS: Final = (
    LAYOUT,
    KEY.size,
    FLOW.size,
    CONNECTION.size,
    HANDLED.size,
    SETTINGS.size,
    ENDED.size,
    SAMPLE.size + 2 * SNAP,
    SNAP,
    # Where fields are: of a key the ports and the version; of a flow the changes of checksums, the row, the direction;
    32,
    37,
    36,
    40,
    48,
    # of a connection the last sign of life, each direction, and in it the window and the scales, then what follows.
    8,
    16,
    48,
    16,
    28,
    80,
    96,
    112,
    120,
    123,
    124,
    # of what Python says where the numbers are.
    8,
    24,
    # The states, as numbers.
    *range(len(STATES)),
)
"""What the program says of itself if it agrees with this module."""


def check(facts: bytes) -> None:
    """Raise OffloadError unless the program, whose read-only data this is, has the layout of this module."""
    found = Struct(f"={len(FACTS)}I")
    if len(facts) < found.size or found.unpack_from(facts) != FACTS:
        raise OffloadError("flow.bpf.o is not of this version of natlb: reinstall natlb")


def packed_key(key: FlowKey) -> bytes:
    """Return a tuple as the program looks it up."""
    if len(key) == 13:
        return KEY.pack(key[:4], key[4:8], key[8:12], key[12], 4)
    return KEY.pack(key[:16], key[16:32], key[32:36], key[36], 6)


def unpacked_key(packed: bytes) -> FlowKey:
    """Return a tuple as the engine looks it up."""
    source, destination, ports, protocol, version = KEY.unpack(packed)
    size = 4 if version == 4 else 16
    return bytes(source[:size] + destination[:size] + ports + protocol.to_bytes())


def packed_flows(original: FlowKey, reply: FlowKey, row: int, generation: int) -> tuple[bytes, bytes]:
    """Return the two keys of a connection, and the two flows: packets of either tuple become the reverse of the other.

    What the one adds to a checksum the other takes off.
    """
    # Each connection comes by here once: hence all at one go, and not by the functions around.
    ports = len(original) - 5
    size, version = ports // 2, 4 if ports == 8 else 6
    client, vip, asked = original[:size], original[size:ports], original[ports:-1]
    server, seen, answered = reply[:size], reply[size:ports], reply[ports:-1]
    # As numbers they have the one's-complement sum of their words, modulo 0xFFFF: see `natlb.core.checksum`.
    addresses_differ = _NUMBER(reply[:ports]) - _NUMBER(original[:ports])
    ports_differ = _NUMBER(answered) - _NUMBER(asked)
    protocol = original[-1]
    return KEYS.pack(client, vip, asked, protocol, version, server, seen, answered, protocol, version), FLOWS.pack(
        seen,
        server,
        answered[2:] + answered[:2],
        _word(addresses_differ % 0xFFFF),
        _word(ports_differ % 0xFFFF),
        row,
        generation,
        0,
        vip,
        client,
        asked[2:] + asked[:2],
        _word(-addresses_differ % 0xFFFF),
        _word(-ports_differ % 0xFFFF),
        row,
        generation,
        1,
    )


def key_of_answers(key: bytes, flow: bytes) -> bytes:
    """Return the key that answers have to the packets which a flow makes of those with its own key."""
    source, destination, ports, *_ = FLOW.unpack(flow)
    return bytes(destination + source + ports[2:] + ports[:2] + key[_ENDS:])


_NUMBER: Final = partial(int.from_bytes, byteorder="big")


def _word(number: int) -> int:
    """Return a sum of network words as a sum of words of this machine: then the program need not turn any."""
    return (number << 8 & 0xFF00 | number >> 8) if sys.byteorder == "little" else number
