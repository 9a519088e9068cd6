"""What the kernel has left undone in a packet, and who does it.

A packet that travels inside the kernel may be up to 64 KB of a TCP stream, to be cut up where it leaves the machine, if
at all; and its checksum may be unfinished, as may that of a small one that has not been on any wire yet: the field then
holds the sum of the pseudo-header alone. A packet with new bytes counts as finished for the kernel, so this is what
has to be done:

    one that need not be cut up                   its checksum is finished here
    one to be cut up, that leaves this machine    the kernel makes the checksum of each piece; summing 64 KB here would
                                                  cost several times as much as all else
    one to be cut up, for a program here          is not cut up at all, and its receiver reads the checksum: finished
    one that connection tracking sees after us    that reads the checksum: finished

That is for plain packets: a header without options, all bytes there, TCP, or a datagram whose checksum can be seen to
be the unfinished one. The others are for the kernel to finish. They are datagrams that travel in one piece
(UDP_SEGMENT), for the kernel makes the checksums of their pieces out of the field, and does not begin it anew; packets
inside others, in a tunnel; and those that are not shown whole. They are rare, and it does not matter that this takes
longer.

This stands in the way of every packet on a machine where clients or servers are containers, hence few calls, and one
reading of the header.
"""

import struct
from typing import Final

from natlb.core.checksum import fold
from natlb.core.packet import TCP, TRANSPORT_CHECKSUM, UDP
from natlb.datapath.messages import CUT_UP
from natlb.datapath.onward import Onward

# linux/netfilter.h
_NF_INET_PRE_ROUTING, _NF_INET_LOCAL_OUT, _NF_INET_POST_ROUTING = 0, 3, 4

_IPV4_PLAIN, _IPV4_SIZE, _IPV6_SIZE = 0x45, 20, 40
_IPV4_LEAST, _IPV6_LEAST = _IPV4_SIZE + 8, _IPV6_SIZE + 8
"""With a header of UDP, the smallest that is looked at."""
_IS_FRAGMENT: Final = 0x3FFF
"""More fragments, or an offset."""
_IPV4: Final = struct.Struct("!2xH2xHxB2xII")
"""Size, fragmentation, protocol, addresses."""
_IPV6: Final = struct.Struct("!4xHB")
"""Size without the header, protocol."""
_U16: Final = struct.Struct("!H")


class Unfinished:
    """Knows which packets can be finished here, and finishes them."""

    def __init__(self) -> None:
        self._onward = Onward()

    def transport(self, packet: bytearray, info: int) -> int:
        """Return where the transport header begins that an unfinished checksum belongs to; 0 if the kernel must do it.

        `info` is how far the packet is done. This must be asked before the packet is changed.
        """
        whole = len(packet)
        if whole >= _IPV4_LEAST and packet[0] == _IPV4_PLAIN:
            transport = _IPV4_SIZE
            size, fragment, protocol, source, destination = _IPV4.unpack_from(packet)
            if size != whole or fragment & _IS_FRAGMENT:
                return 0
            addresses = source + destination
        elif whole >= _IPV6_LEAST and packet[0] >> 4 == 6:
            transport = _IPV6_SIZE
            size, protocol = _IPV6.unpack_from(packet)
            if size + transport != whole:
                return 0
            addresses = int.from_bytes(packet[8:40], "big")
        else:
            return 0
        if protocol == TCP:
            return transport
        if protocol != UDP or info & CUT_UP:
            return 0
        # What is unfinished may be the checksum of a packet inside this one, in a tunnel. That of this one is the sum
        # of its pseudo-header, a remainder like every sum here (see `natlb.core.checksum`).
        begun = (addresses + UDP + whole - transport) % 0xFFFF or 0xFFFF
        return transport if _U16.unpack_from(packet, transport + 6)[0] == begun else 0

    def finish(self, packet: bytearray, transport: int, info: int, hook: int) -> None:
        """Make an unfinished checksum the one that a receiver expects, unless the kernel does. `hook` is where it is.

        The sum in the field is summed with all that is covered, and so need not be made anew.
        """
        if info & CUT_UP and self._is_finished_later(packet, hook):
            return
        protocol = packet[9 if transport == _IPV4_SIZE else 6]
        checksum = fold(packet[transport:]) ^ 0xFFFF
        # 0 of UDP says that there is none (RFC 768); TCP's sums are the same number either way, and 0 is the usual one.
        at = transport + TRANSPORT_CHECKSUM[protocol]
        _U16.pack_into(packet, at, checksum or (0xFFFF if protocol == UDP else 0))

    def close(self) -> None:
        """Give back what the kernel is asked with."""
        self._onward.close()

    def _is_finished_later(self, packet: bytearray, hook: int) -> bool:
        """Whether a packet at this place in the kernel goes through an interface yet, and nobody reads it before."""
        if hook in (_NF_INET_LOCAL_OUT, _NF_INET_POST_ROUTING):
            return True
        if hook != _NF_INET_PRE_ROUTING:
            return False
        destination = bytes(packet[16:20] if packet[0] >> 4 == 4 else packet[24:40])
        return self._onward.is_sent_on(destination) and not self._onward.is_checked()
