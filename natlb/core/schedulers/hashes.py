"""HAProxy's hashes, bit for bit, and what of a connection they are taken of.

`balance source` folds the client's address into 32 bits by exclusive or and takes that; `balance hash` takes the
address, or the port as a number of eight bytes, and hashes it with the function of `hash-type`. `avalanche` stirs the
result, for inputs that are too regular.
"""

from binascii import crc32
from collections.abc import Callable, Mapping
from typing import Final

from natlb.core.flow import FlowKey
from natlb.core.schedulers.base import HashOf

_ALL: Final = 0xFFFFFFFF


def sdbm(data: bytes) -> int:
    """The hash of the sdbm library: even over most inputs. HAProxy's default."""
    value = 0
    for byte in data:
        value = (value * 65599 + byte) & _ALL
    return value


def djb2(data: bytes) -> int:
    """Bernstein's hash."""
    value = 5381
    for byte in data:
        value = (value * 33 + byte) & _ALL
    return value


def wt6(data: bytes) -> int:
    """HAProxy's own, made to be even over short inputs."""
    high, low = 0xA53C965A, 0x5CA6953A
    left, right = 6, 18
    for byte in data:
        high = ~(high ^ byte) & _ALL
        low = ~(low + byte) & _ALL
        turned = _turn(low, left)
        low = _turn(high, right)
        high = turned
        mixed = (high >> 16 ^ low) & 0xFFFF
        left, right = mixed & 0x1F, mixed >> 11
    return high ^ low


def _turn(word: int, bits: int) -> int:
    """Rotate 32 bits to the left."""
    return (word << bits | word >> (32 - bits)) & _ALL


HASHES: Final[Mapping[str, Callable[[bytes], int]]] = {"sdbm": sdbm, "djb2": djb2, "crc32": crc32, "wt6": wt6}
"""By the name that `hash-type` gives them."""


def avalanche(value: int) -> int:
    """Stir 32 bits so that each bit of the input moves half of the output's: Bob Jenkins' integer hash."""
    value = value + 0x7ED55D16 + (value << 12) & _ALL
    value = value ^ 0xC761C23C ^ value >> 19
    value = value + 0x165667B1 + (value << 5) & _ALL
    value = (value + 0xD3A2646C ^ value << 9) & _ALL
    value = value + 0xFD7046C5 + (value << 3) & _ALL
    value = value ^ 0xB55A4F09 ^ value >> 16
    return value * 3221225473 & _ALL


def _source(flow: FlowKey) -> bytes:
    return flow[:4] if len(flow) == 13 else flow[:16]


def _destination(flow: FlowKey) -> bytes:
    return flow[4:8] if len(flow) == 13 else flow[16:32]


def _source_port(flow: FlowKey) -> bytes:
    return bytes(6) + flow[-5:-3]


def _destination_port(flow: FlowKey) -> bytes:
    return bytes(6) + flow[-3:-1]


FETCHES: Final[Mapping[str, Callable[[FlowKey], bytes]]] = {
    "src": _source,
    "dst": _destination,
    "src_port": _source_port,
    "dst_port": _destination_port,
}
"""What can be hashed of a connection, by HAProxy's names."""


def folded_source(flow: FlowKey) -> int:
    """Return the client's address folded into 32 bits: what `balance source` goes by."""
    value = 0
    address = _source(flow)
    for at in range(0, len(address), 4):
        value ^= int.from_bytes(address[at : at + 4], "big")
    return value


def hash_by(fetch: str | None, function: str, *, stirred: bool) -> HashOf:
    """Return how to hash connections: by a fetch, or for None by the folded client address; `stirred` is avalanche."""
    if fetch is None:
        plain: HashOf = folded_source
    else:
        of, hashed = FETCHES[fetch], HASHES[function]

        def plain(flow: FlowKey) -> int:
            return hashed(of(flow))

    return (lambda flow: avalanche(plain(flow))) if stirred else plain
