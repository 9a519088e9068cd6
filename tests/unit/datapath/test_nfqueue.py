"""The pump between a queue and the engine, with the netfilterqueue package replaced by one that needs no kernel."""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from natlb.core.verdict import Accept, Drop, DropReason, Hold, Reply, Rewrite, Verdict
from natlb.datapath import nfqueue
from natlb.datapath.nfqueue import Handler, PacketQueue
from natlb.errors import DatapathError
from tests.unit.datapath.kernel import Queue, answer, packet_message


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    queue = Queue()
    monkeypatch.setattr(nfqueue.netfilterqueue, "NetfilterQueue", lambda: queue)
    yield queue
    queue.close()


def opened(
    kernel: Queue,
    handle: Handler = lambda *_: Accept(),
    inject: Callable[[bytes], None] = lambda _: pytest.fail("nothing to inject"),
) -> PacketQueue:
    kernel.kernel.send(answer())
    return PacketQueue(2391, handle, inject)


def one_packets_verdicts(kernel: Queue, verdict: Verdict) -> list[object]:
    injected: list[object] = []
    packets = opened(kernel, lambda *_: verdict, injected.append)
    kernel.arrive(b"packet")
    packets.process_batch()
    packets.close()
    return kernel.given[0] + injected


_VERDICTS: dict[str, tuple[Verdict, list[object]]] = {
    "a rewritten packet goes on with its new bytes": (Rewrite(bytearray(b"new")), [b"new", "accepted"]),
    "one that is none of ours goes on untouched": (Accept(), ["accepted"]),
    "one that is dropped is dropped": (Drop(DropReason.MAXCONN), ["dropped"]),
    "one that is answered is dropped and its answer sent": (Reply(b"RST"), ["dropped", b"RST"]),
}


@pytest.mark.parametrize(("verdict", "verdicts"), _VERDICTS.values(), ids=_VERDICTS)
def test_verdict(kernel: Queue, verdict: Verdict, verdicts: list[object]) -> None:
    assert one_packets_verdicts(kernel, verdict) == verdicts


def test_a_batch_is_bounded_and_the_rest_waits_for_the_next(kernel: Queue) -> None:
    handed_in: list[int] = []

    def handle(packet: bytearray, *_: object) -> Verdict:
        handed_in.append(packet[0])
        return Accept()

    packets = opened(kernel, handle)
    kernel.arrive(*(bytes([number]) for number in range(100)))
    seen = []
    for _ in range(3):
        packets.process_batch()
        seen.append((packets.delivered, packets.had_more))
    packets.close()
    assert seen == [(64, True), (100, False), (100, False)]
    assert handed_in == list(range(100))


SIZES = [1, 2, 3, 4, 20, 1500, 16_383, 16_384, 16_385, 16_386, 30_000, 65_530, 65_531]


@pytest.mark.parametrize("size", SIZES)
def test_a_packet_of_any_size_comes_and_goes_whole(kernel: Queue, size: int) -> None:
    handed_in: list[bytes] = []

    def handle(packet: bytearray, *_: object) -> Verdict:
        handed_in.append(bytes(packet))
        packet[0] ^= 0xFF
        return Rewrite(packet)

    packets = opened(kernel, handle)
    payload = os.urandom(size)
    kernel.arrive(payload)
    packets.process_batch()
    assert handed_in == [payload]
    assert kernel.given == [[bytes([payload[0] ^ 0xFF]) + payload[1:], "accepted"]]
    packets.close()


def test_packets_of_all_sizes_go_on_in_the_order_in_which_they_came(kernel: Queue) -> None:
    kept: list[bytearray] = []

    def handle(packet: bytearray, *_: object) -> Verdict:
        kept.append(packet)
        return Rewrite(packet)

    packets = opened(kernel, handle)
    order: list[int] = []
    understand = kernel._understand

    def noted(message: bytes) -> None:
        order.append(struct.unpack_from("!I", message, 28)[0])
        understand(message)

    kernel._understand = noted  # type: ignore[method-assign]
    payloads = [os.urandom(size) for size in (7, 40, 20_000, 1500, 60_000, 60_000, 9, 11)]
    kernel.arrive(*payloads)
    packets.process_batch()
    assert kernel.given == [[payload, "accepted"] for payload in payloads]
    assert order == list(range(1, 9))
    assert kept == payloads, "no packet's bytes were used for another"
    packets.close()


def test_verdicts_of_a_batch_are_gathered_but_not_without_end(kernel: Queue) -> None:
    packets = opened(kernel, lambda packet, *_: Rewrite(packet))
    kernel.arrive(*[bytes(40)] * 50)
    packets.process_batch()
    assert all(verdicts == [bytes(40), "accepted"] for verdicts in kernel.given)
    assert sum(kernel.datagrams) == 50
    assert kernel.datagrams == [16, 16, 16, 2]
    packets.close()


class Overflowing:
    """A socket that has overflowed a number of times, and then has one packet."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.asked = 0

    def recv_into(self, buffer: bytearray) -> int:
        self.asked += 1
        if self.asked <= self.times:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        if self.asked == self.times + 1:
            message = packet_message(1, b"packet")
            buffer[: len(message)] = message
            return len(message)
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def send(self, message: bytes) -> int:
        return len(message)

    def close(self) -> None: ...


def overflowed(kernel: Queue, times: int) -> tuple[PacketQueue, Overflowing]:
    packets = opened(kernel)
    packets._socket.close()
    source = Overflowing(times)
    packets._socket = source  # type: ignore[assignment]
    packets.process_batch()
    return packets, source


def test_an_overflow_does_not_end_the_batch(kernel: Queue) -> None:
    packets, _ = overflowed(kernel, 2)
    assert packets.delivered == 1


def test_a_socket_that_only_overflows_does_not_hold_the_event_loop(kernel: Queue) -> None:
    packets, source = overflowed(kernel, 10_000)
    assert (packets.delivered, source.asked) == (0, 64)


class Refusing:
    """A socket that sends no message of more than so many bytes, for want of memory: the kernel's, or ours."""

    def __init__(self, real: socket.socket, most: int, error: Exception) -> None:
        self._real, self._most, self._error = real, most, error

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def send(self, message: bytes) -> int:
        if len(message) > self._most:
            raise self._error
        return self._real.send(message)

    def sendmsg(self, parts: list[bytes]) -> int:
        return self.send(b"".join(parts))


@pytest.mark.parametrize(
    ("most", "lost"), [(70_000, []), (200, [2, 3]), (59, [0, 1, 2, 3])], ids=["gathered", "one by one", "small ones"]
)
@pytest.mark.parametrize("error", [OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS)), MemoryError()], ids=repr)
def test_a_verdict_that_cannot_be_sent_costs_its_packet_alone(
    kernel: Queue, most: int, lost: list[int], error: Exception
) -> None:
    packets = opened(kernel, lambda packet, *_: Rewrite(packet))
    packets._socket = Refusing(packets._socket, most, error)  # type: ignore[assignment]
    payloads = [b"a" * 40, b"b" * 40, b"c" * 1000, b"d" * 20_000]
    kernel.arrive(*payloads)
    packets.process_batch()
    expected = [["dropped"] if n in lost else [payload, "accepted"] for n, payload in enumerate(payloads)]
    assert kernel.given == expected
    assert (packets.failures, packets.last_failure is not None) == (len(lost), bool(lost))
    packets.close()


def test_an_error_of_another_kind_is_not_swallowed(kernel: Queue) -> None:
    packets = opened(kernel)
    packets._socket.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        packets.process_batch()


@pytest.mark.parametrize("other", [answer(errno.ENOENT), b"\0", b"", bytes(20), packet_message(1, b"packet")[:-7]])
def test_a_message_that_is_no_packet_is_counted_and_harms_none(kernel: Queue, other: bytes) -> None:
    packets = opened(kernel)
    kernel.arrive(b"before")
    if other:  # a message of no bytes would be the end of a socket of this kind
        kernel.kernel.send(other)
    kernel.arrive(b"after")
    packets.process_batch()
    assert kernel.given == [["accepted"], ["accepted"]]
    counts = packets.refused, packets.unreadable
    assert (packets.delivered, packets.failures) == (2, 0)
    assert counts == ((0, 0) if not other else (1, 0) if other == answer(errno.ENOENT) else (0, 1))
    packets.close()


def test_a_failure_costs_one_packet_and_is_kept_for_the_report(kernel: Queue) -> None:
    failure = ZeroDivisionError("of a packet")

    def handle(packet: bytearray, *_: object) -> Verdict:
        if packet == b"bad":
            raise failure
        return Accept()

    packets = opened(kernel, handle)
    kernel.arrive(b"good", b"bad", b"good")
    packets.process_batch()
    packets.close()
    assert kernel.given == [["accepted"], ["dropped"], ["accepted"]]
    assert (packets.delivered, packets.failures, packets.last_failure) == (3, 1, failure)


class Short(bytearray):
    """A receive buffer that memory runs out for when a packet is taken out of it."""

    times = 0

    def __getitem__(self, at: object) -> object:
        if isinstance(at, slice) and at.stop is not None and at.stop - (at.start or 0) > 4 and Short.times:
            Short.times -= 1
            raise MemoryError
        return super().__getitem__(at)  # type: ignore[index]


def no_memory(*_: object) -> bytearray:
    raise MemoryError


def test_a_packet_that_there_is_no_memory_for_is_dropped_and_those_after_it_come_whole(
    kernel: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = b"s" * 40, b"l" * 20_000
    packets = opened(kernel, lambda packet, *_: Rewrite(packet))
    packets._buffer = Short(packets._buffer)
    monkeypatch.setattr(Short, "times", 1)
    kernel.arrive(small, small)
    packets.process_batch()
    with monkeypatch.context() as short:
        short.setattr(nfqueue, "bytearray", no_memory, raising=False)
        kernel.arrive(large)
        packets.process_batch()
    with monkeypatch.context() as short:
        short.setattr(packets._layouts, "read", no_memory)
        kernel.arrive(small)
        kernel.kernel.send(answer(errno.ENOENT))
        packets.process_batch()
    kernel.arrive(large, small)
    packets.process_batch()
    taken = [[small, "accepted"], [large, "accepted"], [small, "accepted"]]
    assert kernel.given == [["dropped"], taken[0], ["dropped"], ["dropped"], *taken[1:]]
    assert packets.failures == 4
    assert isinstance(packets.last_failure, MemoryError)
    packets.close()


def test_an_answer_that_cannot_be_sent_is_a_failure_and_the_packet_has_one_verdict(kernel: Queue) -> None:
    def inject(_: bytes) -> None:
        raise ZeroDivisionError

    packets = opened(kernel, lambda *_: Reply(b"RST"), inject)
    kernel.arrive(b"packet")
    packets.process_batch()
    packets.close()
    assert kernel.given == [["dropped"]]
    assert packets.failures == 1


# -- packets that are kept back


def holding(kernel: Queue, inject: Callable[[bytes], None] = lambda _: None) -> PacketQueue:
    """A queue that keeps back each packet under the number in its first byte."""
    return opened(kernel, lambda packet, *_: Hold(packet[0]), inject)


@pytest.mark.parametrize(("verdict", "verdicts"), _VERDICTS.values(), ids=_VERDICTS)
def test_a_packet_that_was_kept_back_gets_any_verdict_later(
    kernel: Queue, verdict: Verdict, verdicts: list[object]
) -> None:
    injected: list[object] = []
    packets = holding(kernel, injected.append)
    kernel.arrive(b"\x07")
    packets.process_batch()
    assert kernel.given == [[]]
    assert packets.keeps_back(7)
    packets.release(7, verdict)
    assert kernel.given[0] + injected == verdicts, "at once"
    packets.close()
    assert packets.failures == 0


def test_packets_are_released_by_their_tickets_in_any_order(kernel: Queue) -> None:
    packets = holding(kernel)
    kernel.arrive(b"\x01", b"\x02", b"\x03")
    packets.process_batch()
    packets.release(3, Accept())
    packets.release(1, Drop(DropReason.MAXCONN))
    assert kernel.given == [["dropped"], [], ["accepted"]]
    packets.close()


def test_a_packet_that_is_released_may_be_kept_back_again(kernel: Queue) -> None:
    packets = holding(kernel)
    kernel.arrive(b"\x01")
    packets.process_batch()
    packets.release(1, Hold(2))
    packets.release(2, Accept())
    packets.close()
    assert (kernel.given, packets.failures) == ([["accepted"]], 0)


def test_closing_drops_what_is_still_kept_back_while_the_queue_can_be_told(kernel: Queue) -> None:
    packets = holding(kernel)
    kernel.arrive(b"\x01", b"\x02", b"\x03")
    packets.process_batch()
    packets.release(2, Accept())
    packets.close()
    assert kernel.given == [["dropped"], ["accepted"], ["dropped"]]
    assert kernel.held_when_unbound == []


def test_an_unknown_ticket_is_a_failure_and_no_packets(kernel: Queue) -> None:
    packets = holding(kernel)
    kernel.arrive(b"\x01")
    packets.process_batch()
    packets.release(1, Accept())
    for ticket in (1, 9):
        packets.release(ticket, Accept())
    assert packets.failures == 2
    assert str(packets.last_failure) == "'no packet is kept back under ticket 9'"
    assert kernel.given == [["accepted"]]
    packets.close()


def test_a_ticket_given_out_twice_costs_the_second_packet_alone(kernel: Queue) -> None:
    packets = holding(kernel)
    kernel.arrive(b"\x01", b"\x01")
    packets.process_batch()
    assert packets.failures == 1
    packets.release(1, Accept())
    packets.close()
    assert kernel.given == [["accepted"], ["dropped"]]


def test_a_failure_on_release_costs_that_packet(kernel: Queue) -> None:
    packets = holding(kernel)
    kernel.arrive(b"\x01")
    packets.process_batch()
    packets.release(1, Rewrite("not bytes"))  # type: ignore[arg-type]
    packets.close()
    assert (kernel.given, packets.failures) == ([["dropped"]], 1)


def test_the_engine_may_write_into_the_packet_it_is_given(kernel: Queue) -> None:
    def handle(packet: bytearray, *_: object) -> Verdict:
        packet[0:1] = b"P"
        return Rewrite(packet)

    packets = opened(kernel, handle)
    kernel.arrive(b"packet")
    packets.process_batch()
    packets.close()
    assert kernel.given == [[b"Packet", "accepted"]]


# -- opening and closing


def test_the_kernel_is_asked_for_whole_packets(kernel: Queue) -> None:
    opened(kernel).close()
    assert kernel.verdicts == {}
    (asked,) = kernel.asked
    length, kind, flags = struct.unpack_from("=IHH", asked)
    assert (length, kind, flags) == (len(asked), 3 << 8 | 2, 0x1 | 0x4)
    assert struct.unpack_from("!H", asked, 18) == (2391,)
    assert struct.unpack_from("=HH", asked, 20) == (9, 2)
    assert struct.unpack_from("!IB", asked, 24) == (0xFFFF, 2)


def test_a_kernel_that_refuses_whole_packets_is_one_line_and_the_queue_is_given_back(kernel: Queue) -> None:
    kernel.kernel.send(answer(errno.EPERM))
    with pytest.raises(DatapathError, match=r"^the kernel refuses to hand over whole packets \(Operation not .*\)$"):
        PacketQueue(2391, lambda *_: Accept(), lambda _: None)
    assert kernel.bound == []


def test_packets_that_come_before_the_kernels_answer_are_handled_in_their_order(kernel: Queue) -> None:
    handed_in: list[bytes] = []

    def handle(packet: bytearray, *_: object) -> Verdict:
        handed_in.append(bytes(packet))
        return Accept()

    early, large = b"early 1", b"early 2" * 5000
    kernel.arrive(early, large)
    packets = opened(kernel, handle)
    kernel.arrive(b"late")
    packets.process_batch()
    packets.close()
    assert handed_in == [early, large, b"late"]
    assert kernel.given == [["accepted"]] * 3


def test_more_early_packets_than_a_batch_are_not_forgotten(kernel: Queue) -> None:
    kernel.arrive(*[b"early"] * 70)
    packets = opened(kernel)
    seen = []
    for _ in range(2):
        packets.process_batch()
        seen.append((packets.delivered, packets.had_more))
    packets.close()
    assert seen == [(64, True), (70, False)]


def test_a_queue_that_is_taken_is_one_line_with_the_remedy(kernel: Queue) -> None:
    kernel.refuses = OSError("Failed to create queue 2391.")
    with pytest.raises(
        DatapathError, match=r"^queue 2391 is taken by another process .*: stop it, or choose .* --queue$"
    ):
        opened(kernel)


def test_a_kernel_without_queues_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError("Failed to open NFQueue.")

    monkeypatch.setattr(nfqueue.netfilterqueue, "NetfilterQueue", refuse)
    with pytest.raises(DatapathError, match=r"^cannot open netfilter's packet queue .*CONFIG_NETFILTER_NETLINK_QUEUE"):
        PacketQueue(2391, lambda *_: Accept(), lambda _: None)


def test_closing_gives_the_queue_back(kernel: Queue) -> None:
    packets = opened(kernel)
    assert kernel.bound == [2391]
    packets.close()
    assert kernel.bound == []
    assert packets.filenos() == (-1,)


def test_a_queue_is_handed_on_with_what_waits_in_it(kernel: Queue) -> None:
    first = opened(kernel, lambda *_: Drop(DropReason.MAXCONN))
    kernel.arrive(b"one")
    first.process_batch()
    kernel.arrive(b"two")
    (number, held), *others = first.holdings
    handed_on = [(number, held.dup())]
    first.close(keep=True)
    assert (others, kernel.bound) == ([], [2391])
    assert Path(f"/dev/fd/{kernel.get_fd()}").samefile(os.devnull), "what would take the queue back says so to nobody"
    second = PacketQueue(2391, lambda packet, *_: Rewrite(packet), pytest.fail, inherited=handed_on)
    assert (second.numbers, second.unsegmented) == ((2391,), False)
    kernel.arrive(b"three")
    second.process_batch()
    assert kernel.given == [["dropped"], [b"two", "accepted"], [b"three", "accepted"]]
    assert second.delivered == 2
    second.close()
    with pytest.raises(BrokenPipeError):
        kernel.arrive(b"four")


def test_what_is_kept_back_is_not_handed_on(kernel: Queue) -> None:
    first = opened(kernel, lambda *_: Hold(7))
    kernel.arrive(b"fragment")
    first.process_batch()
    with first.holdings[0][1].dup():
        first.close(keep=True)
        assert kernel.given == [["dropped"]]
