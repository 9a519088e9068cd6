"""What links put before an IP packet, and what they say of its way, by LINKTYPE (https://www.tcpdump.org/linktypes.html).

A capture at all interfaces at once (`tcpdump -i any`) is "cooked": the header says whether the packet came in or went
out. Ethernet's says no such thing.
"""

from struct import Struct
from typing import Final

_NULL, _ETHERNET, _RAW, _LOOP, _SLL, _IPV4, _IPV6, _SLL2 = 0, 1, 101, 108, 113, 228, 229, 276
_RAWS: Final = (_RAW, 12, 14, _IPV4, _IPV6)
"""With 12 and 14, which were never meant to stand in files, and do."""

NAMES: Final = {
    _NULL: "BSD loopback",
    _ETHERNET: "Ethernet",
    _RAW: "raw IP",
    _LOOP: "OpenBSD loopback",
    _SLL: "Linux cooked",
    _SLL2: "Linux cooked, version 2",
}
"""The links that can be read."""

RAW: Final = _RAW

_IP: Final = (0x0800, 0x86DD)
_TAGS: Final = (0x8100, 0x88A8, 0x9100)
"""EtherTypes of VLAN tags (IEEE 802.1Q), which stand before another type."""
_FAMILIES: Final = (2, 10, 24, 28, 30)
"""Numbers of IPv4, and of IPv6 on Linux, NetBSD, FreeBSD and Darwin."""

_SENT: Final = 4
"""Of a cooked capture: what this machine sent (LINUX_SLL_OUTGOING)."""

_U16: Final = Struct("!H")


def is_known(link: int) -> bool:
    """Whether packets of a link can be found."""
    return link in NAMES or link in _RAWS


def network(link: int, data: bytes) -> tuple[int, bool | None] | None:
    """Return where the IP packet begins, and whether it went out of the machine, where the link says that.

    None is anything but IP.
    """
    if link in _RAWS:
        return (0, None) if data and data[0] >> 4 in (4, 6) else None
    if link in (_NULL, _LOOP):
        # One byte of the four is not zero: the number is small, whatever the byte order.
        family = max(data[:4], default=0)
        return (4, None) if len(data) > 4 and family in _FAMILIES else None
    outgoing = None
    if link == _ETHERNET:
        types, after = 12, 14
    elif link == _SLL:
        types, after = 14, 16
    else:
        types, after = 0, 20
    if len(data) < after:
        return None
    if link == _SLL:
        outgoing = _U16.unpack_from(data)[0] == _SENT
    elif link == _SLL2:
        outgoing = data[10] == _SENT
    kind = _U16.unpack_from(data, types)[0]
    while kind in _TAGS:
        if len(data) < after + 4:
            return None
        kind = _U16.unpack_from(data, after + 2)[0]
        after += 4
    return (after, outgoing) if kind in _IP else None
