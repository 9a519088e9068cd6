"""Which sequence numbers the two ends of a TCP connection would take: the window, as a NAT in the middle sees it.

Each segment tells three numbers: how far its sender has sent (`following`, the sequence number after its last byte),
how far it has received (`acked`), and how far it is willing to receive (`edge`). Kept for both senders, and each
believed only when it agrees with what the other has said, they bound what can be genuine (van Rooij, Real Stateful TCP
Packet Filtering, 2001; Linux's connection tracking does the same):

    a sender never sends past the edge that its peer offers
    a sender never acknowledges what its peer has not sent

So whoever cannot see the connection cannot move these numbers, and a RST or a FIN that they do not allow is not from
either end. They also tell natlb which sequence number an end waits for, so that a RST in the other's name is taken
(RFC 9293, section 3.10.7.4; RFC 5961, section 3.2: exactly the next one expected).

All numbers are modulo 2**32 (RFC 9293, section 3.4): "beyond" means by less than half of that.
"""

from struct import Struct
from typing import Final, NamedTuple

from natlb.core.flow import Connection, Direction
from natlb.core.ledger import Ledger
from natlb.core.packet import ACK, FIN, SYN, PacketView

_ALL: Final = 0xFFFFFFFF
_HALF: Final = 0x80000000
_FIELDS = Struct("!IIHH")  # sequence, acknowledgment, data offset and flags, window

_ORIGINAL = Direction.ORIGINAL
_MOST_IN_SYN: Final = 0xFFFF
_WINDOW_SCALE, _LARGEST_SHIFT = 3, 14


class Said(NamedTuple):
    """What a segment says, or what its sender has said until now: see `natlb.core.ledger`."""

    following: int
    acked: int
    edge: int

    def is_news(self, known: "Said") -> bool:
        """Whether any of these goes beyond what is known."""
        return any((number - before - 1 & _ALL) < _HALF for number, before in zip(self, known, strict=True))


class Window:
    """The sequence numbers of all connections of one ledger."""

    __slots__ = ("_acked", "_edge", "_following", "_offered", "_shift")

    def __init__(self, ledger: Ledger) -> None:
        self._following = ledger.following
        self._acked = ledger.acked
        self._edge = ledger.edge
        self._offered = ledger.offered
        self._shift = ledger.shift

    def follow(self, view: PacketView, connection: Connection, direction: Direction) -> int:
        """Take in a segment without SYN. What it says is believed as far as it agrees with what the peer has said.

        Return how many bytes further its sender has come with it: what is sent again is nothing new.
        """
        row = 2 * connection.index + direction
        peer = row ^ 1
        sequence, acknowledged, offset_and_flags, window = _FIELDS.unpack_from(view.packet, view.transport + 4)
        end = sequence + view.end - view.data + (offset_and_flags & FIN) & _ALL
        following = self._following
        fresh: int = end - following[row] & _ALL
        # One past the edge: a probe of a window that is closed (RFC 9293, section 3.8.6.1).
        if (fresh - 1 & _ALL) < _HALF and (end - self._edge[peer] - 2 & _ALL) >= _HALF:
            following[row] = end
            if offset_and_flags & FIN:
                fresh -= 1
        else:
            fresh = 0
        if (acknowledged - following[peer] - 1 & _ALL) >= _HALF and offset_and_flags & ACK:
            if (acknowledged - self._acked[row] & _ALL) < _HALF:
                self._acked[row] = acknowledged
            edge = acknowledged + (window << self._shift[row]) & _ALL
            if (edge - self._edge[row] & _ALL) < _HALF:
                self._edge[row] = edge
        return fresh

    def stretch(self, view: PacketView, connection: Connection, direction: Direction) -> None:
        """Take in that a segment was only a first fragment: how far it reaches is not known, but its peer allows it."""
        row = 2 * connection.index + direction
        edge = self._edge[row ^ 1]
        if self.allows(view, connection, direction) and (edge - self._following[row] & _ALL) < _HALF:
            self._following[row] = edge

    def allows(self, view: PacketView, connection: Connection, direction: Direction) -> bool:
        """Whether the peer, as far as it is known, would take this segment: its last byte lies in the peer's window."""
        peer = 2 * connection.index + (direction ^ 1)
        end = self._end(view)
        return (end - self._acked[peer] & _ALL) < _HALF and (end - self._edge[peer] - 2 & _ALL) >= _HALF

    def was_overtaken(self, view: PacketView, connection: Connection, direction: Direction) -> bool:
        """Whether its sender has acknowledged more already, in a segment that came here sooner."""
        acknowledged: int = _FIELDS.unpack_from(view.packet, view.transport + 4)[1]
        before: int = self._acked[2 * connection.index + direction]
        return (acknowledged - before & _ALL) >= _HALF

    def answers(self, view: PacketView, connection: Connection, direction: Direction) -> bool:
        """Whether this segment acknowledges what its sender must have received by now, and no more than was sent."""
        row = 2 * connection.index + direction
        acknowledged = _FIELDS.unpack_from(view.packet, view.transport + 4)[1]
        return (
            view.flags & ACK != 0
            and (acknowledged - self._acked[row] & _ALL) < _HALF
            and (acknowledged - self._following[row ^ 1] - 1 & _ALL) >= _HALF
        )

    def open(self, view: PacketView, connection: Connection, direction: Direction) -> None:
        """Take in a SYN: where its sender starts, and how far it is willing to receive. It may take another's place."""
        row = 2 * connection.index + direction
        peer = row ^ 1
        sequence, acknowledged, _, window = _FIELDS.unpack_from(view.packet, view.transport + 4)
        self._following[row] = sequence + view.end - view.data + 1 & _ALL
        shift = _window_scale(view)
        self._offered[row] = 0 if shift is None else shift + 1
        if direction is _ORIGINAL:
            # What it will receive is not numbered yet: the edge is a size until the peer's SYN has come. The peer must
            # acknowledge the SYN at least, and has offered nothing beyond it.
            self._acked[row] = 0
            self._edge[row] = window
            self._acked[peer] = sequence + 1 & _ALL
            self._edge[peer] = self._following[row]
            return
        self._acked[row] = acknowledged if view.flags & ACK else self._following[peer]
        self._edge[row] = self._acked[row] + window & _ALL
        size = self._edge[peer] - self._acked[peer]
        self._acked[peer] = sequence + 1 & _ALL
        self._edge[peer] = sequence + 1 + size & _ALL
        self._settle(row, peer)

    def pick_up(self, view: PacketView, connection: Connection, direction: Direction, *, peer_is_known: bool) -> None:
        """Believe a segment with ACK all that it says: where its sender is in mid-connection is not known.

        So does Linux with a connection that it has not seen open (nf_conntrack_tcp_loose). What the peer has sent and
        will take is told by it too, as far as that goes, and beyond it by the peer's own first segment.
        """
        row = 2 * connection.index + direction
        peer = row ^ 1
        sequence, acknowledged, _, window = _FIELDS.unpack_from(view.packet, view.transport + 4)
        end = self._end(view)
        following, edge = self._following, self._edge
        if not peer_is_known:
            following[row], self._acked[peer], edge[peer] = sequence, sequence, end
            following[peer] = acknowledged
        if (sequence - following[row] & _ALL) < _HALF:
            following[row] = sequence
        if (end - edge[peer] & _ALL) < _HALF:
            edge[peer] = end
        if (acknowledged - following[peer] & _ALL) < _HALF:
            following[peer] = acknowledged
        self._acked[row] = acknowledged
        edge[row] = acknowledged + (window << self._shift[row]) & _ALL

    def opens_anew(self, view: PacketView, connection: Connection, direction: Direction) -> bool:
        """Whether a SYN starts elsewhere than its sender's SYN before. Sent again, it may lack its data (RFC 7413)."""
        sequence: int = _FIELDS.unpack_from(view.packet, view.transport + 4)[0]
        return (self._following[2 * connection.index + direction] - sequence - 1 & _ALL) > _MOST_IN_SYN

    def said(self, view: PacketView, connection: Connection, direction: Direction) -> Said:
        """Return what a segment with ACK says, whether it is to be believed or not."""
        acknowledged, _, window = _FIELDS.unpack_from(view.packet, view.transport + 4)[1:]
        shift = self._shift[2 * connection.index + direction]
        return Said(self._end(view), acknowledged, acknowledged + (window << shift) & _ALL)

    def expected(self, connection: Connection, direction: Direction) -> tuple[tuple[int, ...], int]:
        """Return which sequence numbers the receiver of this direction may be waiting for, and what it has sent.

        It has received up to what its peer has sent, unless something was lost: then up to what it acknowledged.
        """
        row = 2 * connection.index + direction
        peer = row ^ 1
        return tuple(dict.fromkeys((self._following[row], self._acked[peer]))), self._following[peer]

    def _settle(self, row: int, peer: int) -> None:
        """Window scales count only if both sides offer one (RFC 7323, section 2.2)."""
        both = self._offered[row] and self._offered[peer]
        for each in (row, peer):
            self._shift[each] = self._offered[each] - 1 if both else 0

    @staticmethod
    def _end(view: PacketView) -> int:
        """Return the sequence number after the last byte of a segment; SYN and FIN count as one each."""
        sequence: int = _FIELDS.unpack_from(view.packet, view.transport + 4)[0]
        return sequence + view.payload_size + bool(view.flags & SYN) + bool(view.flags & FIN) & _ALL


def _window_scale(view: PacketView) -> int | None:
    """Return the window scale option of a SYN, or None if it has none."""
    at = view.option(_WINDOW_SCALE, 3)
    return None if at is None else min(view.packet[at + 2], _LARGEST_SHIFT)
