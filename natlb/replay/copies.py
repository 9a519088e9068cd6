"""What natlb sent, to be known when the capture shows it once more.

A capture at the balancer has most packets twice: as they came in, and as they went out. Only the first are the engine's
to decide about. How one tells them apart:

- The capture says that a packet was on its way out (cooked captures and many pcapng files do).
- It is what the engine has just sent, byte for byte: but for the hop limit, which routers lower, and a checksum that
  was not complete yet when it was captured.
- It goes nowhere that natlb answers at, from nobody whose answers it waits for. The engine lets such a packet pass.

The second does more than that. Where a capture has both sides, each packet that went out is a promise kept: what is
made here is what was made there. One that looks like natlb's work, and is not what was made here, says that something
was different then: another configuration, a server that was down, a turn that was another's.
"""

from collections import OrderedDict
from hashlib import blake2b
from typing import Final

from natlb.core.flow import Endpoint, FlowKey, ends, flow_key
from natlb.core.packet import Kind, PacketView
from natlb.core.verdict import DropReason

_MOST: Final = 65536
"""Packets, and connections, that are remembered: some 10 MB."""


class Copies:
    """What was sent lately."""

    def __init__(self) -> None:
        self._sent: OrderedDict[bytes, int] = OrderedDict()
        """By digest, how many have not been seen again yet."""
        self.seen = 0
        """Packets that were sent here and are in the capture as well."""
        self._view = PacketView()

    def sent(self, packet: bytes | bytearray) -> None:
        """Remember a packet that was sent."""
        digest = self._digest(bytearray(packet))
        if digest is not None:
            self._sent[digest] = self._sent.pop(digest, 0) + 1
            if len(self._sent) > _MOST:
                self._sent.popitem(last=False)

    def has(self, packet: bytearray) -> bool:
        """Whether a packet of the capture is one that was sent; a capture may show it more than once."""
        digest = self._digest(bytearray(packet))
        unseen = self._sent.get(digest) if digest is not None else None
        if digest is None or unseen is None:
            return False
        if unseen:
            self._sent[digest] = unseen - 1
            self.seen += 1
        return True

    def _digest(self, packet: bytearray) -> bytes | None:
        """Return what a packet is known by; None of one that cannot be read, and so was never sent."""
        view = self._view
        kind = view.read(packet)
        if isinstance(kind, DropReason):
            return None
        if kind in (Kind.TCP, Kind.UDP) and view.checksum_is_begun and not view.checksum_is_good():
            view.finish_checksum()
        if packet[0] >> 4 == 4:
            packet[8] = packet[10] = packet[11] = 0
        else:
            packet[7] = 0
        return blake2b(packet, digest_size=16).digest()


class Acquaintances:
    """Who natlb has spoken for: by that its work is known when it is not what was made here."""

    def __init__(self, servers: frozenset[tuple[Endpoint, int]]) -> None:
        """`servers` are endpoints with their protocols."""
        self._servers = servers
        self._clients: OrderedDict[tuple[Endpoint, int], Endpoint] = OrderedDict()
        """Clients that connections were opened for, each with the virtual address that it asked for last."""

    def meet(self, original: FlowKey) -> None:
        """Remember a connection."""
        client, vip = ends(original)
        self._clients[client, original[-1]] = vip
        if len(self._clients) > _MOST:
            self._clients.popitem(last=False)

    def behind(self, key: FlowKey) -> FlowKey | None:
        """Return what the client sent in whose name natlb must have sent a packet of this tuple; None if it need not.

        It comes from a virtual address, to a client that asked for that one, or from a client, at the port that it
        speaks to a virtual address from, to a server. What full NAT has sent to a server is not known by that: natlb's
        own checks look the same.
        """
        source, destination = ends(key)
        protocol = key[-1]
        if (destination, protocol) in self._servers and (vip := self._clients.get((source, protocol))) is not None:
            return flow_key(source, vip, protocol)
        if self._clients.get((destination, protocol)) == source:
            return flow_key(destination, source, protocol)
        return None
