"""Packets that are not cut up, or not finished: which are finished here, and which are handed back to the kernel."""

import errno
import select
import struct
from collections.abc import Callable, Iterator

import pytest

from natlb.core.verdict import Accept, Drop, DropReason, Hold, Rewrite, Verdict
from natlb.datapath import nfqueue
from natlb.datapath.nfqueue import Handler, PacketQueue
from natlb.datapath.onward import Onward
from natlb.errors import DatapathError
from tests.unit.core import packets as p
from tests.unit.core.test_unfinished import begun
from tests.unit.datapath.kernel import (
    CUT_UP,
    INPUT,
    OUTPUT,
    POSTROUTING,
    PREROUTING,
    UNFINISHED,
    Queue,
    answer,
)

CLIENT, VIP = ("44.1.1.1", 40000), ("44.2.2.2", 80)
CLIENT6, VIP6 = ("fd44::1", 40000), ("fd44::2", 80)
SEGMENT = bytes(p.segment(CLIENT, VIP, p.ACK, payload=b"data"))
DATAGRAM = bytes(p.datagram(CLIENT, VIP, b"data"))
SEGMENT6 = bytes(p.segment(CLIENT6, VIP6, p.ACK, payload=b"data"))
DATAGRAM6 = bytes(p.datagram(CLIENT6, VIP6, b"odd"))


class Pair:
    """The queue, the one that packets are handed back to, and what was decided."""

    def __init__(self, handle: Handler, unsegmented: int = 0) -> None:
        self.first, self.second = Queue(), Queue()
        self.first.kernel.send(answer(unsegmented))
        self.first.kernel.send(answer())
        self.second.kernel.send(answer())
        self.handed_in: list[tuple[bytes, bool]] = []
        self._handle = handle

    def open(self) -> PacketQueue:
        return PacketQueue(2391, self.handle, lambda _: None, unsegmented=True)

    def handle(self, packet: bytearray, now: float, unfinished: bool) -> Verdict:
        self.handed_in.append((bytes(packet), unfinished))
        return self._handle(packet, now, unfinished)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Pair, PacketQueue]]]:
    opened: list[tuple[Pair, PacketQueue]] = []

    def makes(
        handle: Handler = lambda packet, *_: Rewrite(packet),
        unsegmented: int = 0,
        hook: int = POSTROUTING,
        sent_on: bool = True,
        checked: bool = False,
    ) -> tuple[Pair, PacketQueue]:
        pair = Pair(handle, unsegmented)
        pair.first.hook = hook
        queues = iter((pair.first, pair.second))
        monkeypatch.setattr(nfqueue.netfilterqueue, "NetfilterQueue", lambda: next(queues))
        monkeypatch.setattr(Onward, "is_sent_on", lambda *_: sent_on)
        monkeypatch.setattr(Onward, "is_checked", lambda _: checked)
        opened.append((pair, pair.open()))
        return opened[-1]

    yield makes
    for pair, packets in opened:
        packets.close()
        assert pair.second.bound == [], "both are given back"
        pair.first.close()
        pair.second.close()


def test_the_kernel_is_asked_for_packets_that_are_not_cut_up_and_the_other_queue_is_the_highest(make) -> None:
    pair, packets = make()
    assert pair.first.verdicts == {}
    flags, whole = pair.first.asked
    assert packets.unsegmented
    assert struct.unpack_from("=HH", whole, 20) == (9, 2)
    assert flags[20:] == struct.pack("=HH", 8, 5) + struct.pack("!I", 4) + struct.pack("=HH", 8, 4) + struct.pack(
        "!I", 4
    )
    assert (pair.first.bound, pair.second.bound) == ([2391], [65535])


def test_a_kernel_that_cannot_is_known(make) -> None:
    pair, packets = make(unsegmented=errno.EOPNOTSUPP)
    assert not packets.unsegmented
    assert pair.second.bound == []
    pair.first.arrive(SEGMENT)
    packets.process_batch()
    assert pair.handed_in == [(SEGMENT, False)]


@pytest.mark.parametrize("info", [0, 4], ids=["nothing is said", "not verified"])
def test_a_packet_that_is_done_is_handled_as_ever(make, info: int) -> None:
    pair, packets = make()
    pair.first.arrive(SEGMENT, info=info)
    packets.process_batch()
    assert pair.handed_in == [(SEGMENT, False)]
    assert pair.first.given[0] == [SEGMENT, "accepted"]


@pytest.mark.parametrize("whole", [SEGMENT, DATAGRAM, SEGMENT6, DATAGRAM6])
def test_an_unfinished_checksum_is_finished(make, whole: bytes) -> None:
    pair, packets = make()
    pair.first.arrive(begun(whole), info=UNFINISHED)
    packets.process_batch()
    assert pair.handed_in == [(begun(whole), True)]
    assert pair.first.given[0] == [whole, "accepted"]


@pytest.mark.parametrize("verdict", [Accept(), Drop(DropReason.MAXCONN)])
def test_what_is_not_rewritten_is_not_finished_either(make, verdict: Verdict) -> None:
    pair, packets = make(lambda *_: verdict)
    pair.first.arrive(begun(SEGMENT), info=UNFINISHED)
    packets.process_batch()
    assert pair.first.given[0] in (["accepted"], ["dropped"])


_FINISHED_LATER = {
    "on its way out": (POSTROUTING, False, True, True),
    "of a program here": (OUTPUT, False, True, True),
    "to be sent on": (PREROUTING, True, False, True),
    "to be sent on, but read before": (PREROUTING, True, True, False),
    "to this machine": (PREROUTING, False, False, False),
    "for a program here": (INPUT, True, False, False),
}


@pytest.mark.parametrize(("hook", "sent_on", "checked", "later"), _FINISHED_LATER.values(), ids=_FINISHED_LATER)
def test_a_packet_to_be_cut_up_is_finished_here_unless_it_is_by_the_kernel(
    make, hook: int, sent_on: bool, checked: bool, later: bool
) -> None:
    pair, packets = make(hook=hook, sent_on=sent_on, checked=checked)
    pair.first.arrive(begun(SEGMENT), info=UNFINISHED | CUT_UP)
    packets.process_batch()
    assert pair.first.given[0] == [bytes(begun(SEGMENT)) if later else SEGMENT, "accepted"]


def _large(size: int) -> bytes:
    """A segment of which the kernel does not show the end: the header says more than there is."""
    packet = begun(SEGMENT)
    packet[2:4] = size.to_bytes(2, "big")
    return bytes(packet)


def _with_options(packet: bytearray) -> bytes:
    """An IPv4 packet with four bytes of options that say nothing."""
    header = bytearray(packet[:20] + b"\1\1\1\0")
    header[0] = 0x46
    header[2:4] = (len(packet) + 4).to_bytes(2, "big")
    return bytes(header + packet[20:])


_HANDED_BACK = {
    "datagrams in one": (begun(DATAGRAM), UNFINISHED | CUT_UP),
    "a datagram with something unfinished inside": (DATAGRAM, UNFINISHED),
    "a segment that is not seen whole": (_large(65535), UNFINISHED | CUT_UP),
    "one that is longer than its header can say": (_large(0), UNFINISHED | CUT_UP),
    "another protocol": (bytes(p.network(CLIENT[0], VIP[0], 132, bytes(20))), UNFINISHED),
    "something else after the end": (begun(SEGMENT) + b"more", UNFINISHED),
    "the same of IPv6": (begun(SEGMENT6) + b"more", UNFINISHED),
    "datagrams in one, of IPv6": (begun(DATAGRAM6), UNFINISHED | CUT_UP),
    "a datagram of IPv6 with something unfinished inside": (DATAGRAM6, UNFINISHED),
    "an IPv4 header with options": (_with_options(begun(SEGMENT)), UNFINISHED),
    "a fragment": (begun(SEGMENT)[:6] + b"\x20\0" + begun(SEGMENT)[8:], UNFINISHED),
    "a datagram without a whole header": (bytes(p.network(CLIENT[0], VIP[0], 17, bytes(6))), UNFINISHED),
    "nothing that is IP": (bytes(60), UNFINISHED),
    "hardly anything": (b"E", UNFINISHED),
}


@pytest.mark.parametrize(("payload", "info"), _HANDED_BACK.values(), ids=_HANDED_BACK)
def test_what_cannot_be_done_right_here_is_handed_back_and_comes_again(make, payload: bytes, info: int) -> None:
    pair, packets = make()
    pair.first.arrive(payload, info=info)
    pair.second.arrive(SEGMENT)
    packets.process_batch()
    assert pair.first.given == [[65535 << 16 | 3]]
    assert pair.handed_in == [(SEGMENT, False)], "as the kernel has finished it"
    assert pair.second.given[0] == [SEGMENT, "accepted"]
    assert (packets.delivered, packets.failures) == (1, 0)


def test_more_than_a_batch_of_pieces_is_fetched_in_several(make) -> None:
    pair, packets = make()
    pair.first.arrive(begun(DATAGRAM), info=UNFINISHED | CUT_UP)
    for _ in range(100):
        pair.second.arrive(DATAGRAM)
    seen = []
    for _ in range(3):
        packets.process_batch()
        seen.append(packets.delivered)
    assert seen == [64, 100, 100]


def test_what_comes_in_the_other_queue_alone_is_fetched_too(make) -> None:
    pair, packets = make()
    assert select.select(packets.filenos(), [], [], 0)[0] == []
    pair.second.arrive(DATAGRAM)
    assert select.select(packets.filenos(), [], [], 0)[0] == [packets.filenos()[1]]
    packets.process_batch()
    assert packets.delivered == 1
    assert select.select(packets.filenos(), [], [], 0)[0] == []


def test_a_piece_that_is_kept_back_is_released(make) -> None:
    pair, packets = make(lambda *_: Hold(5))
    pair.first.arrive(begun(DATAGRAM), info=UNFINISHED | CUT_UP)
    pair.second.arrive(DATAGRAM)
    packets.process_batch()
    assert pair.second.given[0] == []
    packets.release(5, Accept())
    assert pair.second.given[0] == ["accepted"]
    packets.release(5, Accept())
    assert packets.failures == 1


def test_failures_in_the_other_queue_are_told_too(make) -> None:
    def handle(*_: object) -> Verdict:
        raise ZeroDivisionError

    pair, packets = make(handle)
    pair.first.arrive(begun(DATAGRAM), info=UNFINISHED | CUT_UP)
    pair.second.arrive(DATAGRAM)
    packets.process_batch()
    assert (packets.failures, type(packets.last_failure)) == (1, ZeroDivisionError)


def test_where_no_other_queue_is_to_be_had_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Queue()
    first.kernel.send(answer())
    first.kernel.send(answer())
    taken = Queue()
    taken.refuses = OSError("Failed to create queue.")
    queues = iter((first, *[taken] * 64))
    monkeypatch.setattr(nfqueue.netfilterqueue, "NetfilterQueue", lambda: next(queues))
    with pytest.raises(DatapathError, match=r"^none of the queues from 65472 to 65535 is free: .* --no-gso$"):
        PacketQueue(2391, lambda *_: Accept(), lambda _: None, unsegmented=True)
    assert first.bound == []
    first.close()
    taken.close()


def test_both_queues_are_handed_on_and_what_is_left_undone_is_still_seen_to(
    make: Callable[..., tuple[Pair, PacketQueue]],
) -> None:
    pair, first = make(unsegmented=0)
    holdings = [(number, held.dup()) for number, held in first.holdings]
    assert [number for number, _ in holdings] == [2391, 65535]
    first.close(keep=True)
    second = PacketQueue(2391, pair.handle, lambda _: None, inherited=holdings)
    assert second.unsegmented
    assert second.numbers == (2391, 65535)
    pair.first.arrive(SEGMENT, info=UNFINISHED)
    pair.second.arrive(DATAGRAM)
    second.process_batch()
    second.process_batch()
    assert [unfinished for _, unfinished in pair.handed_in] == [True, False]
    second.close()
    pair.second.bound.clear()  # the kernel does so when the socket is closed
