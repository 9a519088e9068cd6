"""The first packet of a connection that nobody has captured: a SYN, or an empty datagram."""

from struct import Struct
from typing import Final

from natlb.captures.files import Record
from natlb.captures.links import RAW
from natlb.core.checksum import fold, pseudo_header
from natlb.core.flow import Endpoint, FlowKey, flow_key
from natlb.core.packet import IPV4_CHECKSUM, SYN, TCP, TRANSPORT_CHECKSUM

_U16: Final = Struct("!H")
_HOP_LIMIT: Final = 64
_WINDOW: Final = 64240
"""What Linux offers at first, over Ethernet."""


def first_packet(source: Endpoint, destination: Endpoint, protocol: int) -> Record:
    """Return the packet that opens a connection, as a capture of raw IP would have it."""
    return Record(1, 0, RAW, packet := _packet(flow_key(source, destination, protocol)), len(packet))


def _packet(key: FlowKey) -> bytes:
    size = 4 if len(key) == 13 else 16
    source, destination, ports, protocol = key[:size], key[size : 2 * size], key[2 * size : -1], key[-1]
    if protocol == TCP:
        transport = bytearray(ports + bytes(8) + bytes((0x50, SYN)) + _U16.pack(_WINDOW) + bytes(4))
    else:
        transport = bytearray(ports + _U16.pack(8) + bytes(2))
    covered = pseudo_header(source, destination, protocol, len(transport)) + transport
    # A sum that is all ones would be written as 0, which of UDP says that there is none (RFC 768).
    _U16.pack_into(transport, TRANSPORT_CHECKSUM[protocol], fold(covered) ^ 0xFFFF or 0xFFFF)
    if size == 16:
        head = bytes((0x60, 0, 0, 0)) + _U16.pack(len(transport)) + bytes((protocol, _HOP_LIMIT))
        return head + source + destination + bytes(transport)
    header = bytearray((0x45, 0)) + _U16.pack(20 + len(transport))
    header += bytes((0, 0, 0x40, 0, _HOP_LIMIT, protocol, 0, 0)) + source + destination
    _U16.pack_into(header, IPV4_CHECKSUM, fold(header) ^ 0xFFFF)
    return bytes(header + transport)
