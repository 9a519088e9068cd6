"""Packets from the kernel, verdicts back: the live end of the datapath.

The netfilterqueue package opens a queue and gives it back. What happens in between is done here, on the same netlink
socket, for the sake of speed and of size: that package makes an object of each packet, copies it three times, and sees
4,016 bytes of it at most, while a verdict that carries a packet must carry all of it.

    receive     into one buffer that is used again and again
    find        where the packet is in the message (`messages.Layouts`)
    take out    a small packet is copied out of the buffer. A large one keeps the buffer: a bytearray gives away what is
                in front without moving the rest
    decide      the engine does that, and writes into those bytes
    hand back   verdicts are gathered, and go to the kernel many at a time; a large packet goes by itself, uncopied

Work comes in batches: a readable socket is drained of at most `_BATCH` packets, and then the event loop gets its turn.
Verdicts of a batch leave in the order in which its packets came.

The kernel is asked to hand over packets as they travel inside it (NFQA_CFG_F_GSO): up to 64 KB of a TCP stream in one,
which is cut up where it leaves the machine, if at all. Else it cuts them up before we see them, and a program that does
the same work for 45 packets has 45 times the work. What is then left undone in a packet, `unfinished` sees to. What
that cannot is handed back with the verdict to queue it again, in a second queue of ours, for which the kernel does cut
up and finish. No rule knows of that queue: its number is the highest that is free.

A packet that has to wait for another (a fragment for its first one) stays in the kernel, with its verdict open, until
`release` says what becomes of it. Meanwhile it counts as waiting in the queue.

A queue belongs to its socket, not to a process. So it can be handed on with that: to the kernel nothing has happened,
packets that come meanwhile wait, and whoever reads the socket next decides about them.
"""

import contextlib
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Final

import netfilterqueue

from natlb.core.verdict import Accept, Drop, Hold, Reply, Rewrite, Verdict
from natlb.datapath import messages
from natlb.datapath.messages import LARGEST_MESSAGE, UNFINISHED, number_in
from natlb.datapath.unfinished import Unfinished
from natlb.errors import DatapathError

_BATCH: Final = 64
"""Packets per turn of the event loop: some 1 ms of work."""

_QUEUE_LENGTH: Final = 8192
"""Packets that may wait in the kernel for their verdict: those of 80 ms, if 100,000 come in a second. natlb never looks
away for half as long, so a burst gets through; and what is more than a burst had better be lost soon than come late."""

_SOCKET_BUFFER: Final = 16 << 20
"""Bytes of packets that may wait in the socket; the kernel doubles it, for its own part in each. That is enough for a
full queue of packets of 1,500 bytes. Of large ones, 64 KB of a stream each, it is what comes in 15 ms at 18 Gbit/s."""

_VERDICTS_BUFFER: Final = 256 << 10
"""Bytes of verdicts that are sent at once, at most; one with a packet of the largest size has to go through."""

_COPIED: Final = 16384
"""Bytes of a packet up to which it is cheaper to copy it than to make a new buffer."""

_GATHERED: Final = 16
"""Verdicts that are sent at once, at most: no packet is to wait long for those behind it."""

_LAST_QUEUE, _QUEUES_TRIED = 65535, 64

# linux/socket.h, linux/netlink.h
_SOL_NETLINK, _NETLINK_NO_ENOBUFS = 270, 5

Handler = Callable[[bytearray, float, bool], Verdict]
"""What decides about a packet, told the time (`time.monotonic`), and whether the transport checksum is unfinished."""


Holding = tuple[int, socket.socket]
"""A queue's number, and the socket that it belongs to."""


class PacketQueue:
    """One netfilter queue, held by this process alone until `close`."""

    def __init__(
        self,
        number: int,
        handle: Handler,
        inject: Callable[[bytes], None],
        *,
        unsegmented: bool = False,
        inherited: Sequence[Holding] = (),
    ) -> None:
        """Take queue `number`; each packet goes through `handle`, and what that replies with through `inject`.

        `unsegmented` asks the kernel for packets that are not cut up; whether it does that is then to be read there.
        What is `inherited` are the `holdings` of the one that held this queue before; it comes with the kernel's
        settings. Raises DatapathError when the kernel has no queues or another process holds this one.
        """
        self.number = number
        """The queue's."""
        self.delivered = 0
        """Packets that came from the kernel."""
        self.failures = 0
        """Packets dropped because handling them failed in a way that should not exist."""
        self.last_failure: Exception | None = None
        self.refused = 0
        """Verdicts that the kernel did not take: it had given up the packet, as it does when a link goes away."""
        self.unreadable = 0
        """Messages from the kernel that are not understood: none, of kernels that are known."""
        self.had_more = False
        """Whether the last batch was a full one, so that more packets may wait."""
        self._handle = handle
        self._inject = inject
        self._held: dict[int, bytes] = {}
        """By their tickets, the kernel's numbers of packets that are kept back."""
        self._buffer = bytearray(LARGEST_MESSAGE)
        self._layouts = messages.Layouts()
        self._verdicts = messages.Verdicts(number)
        self._gathered: list[bytes | bytearray] = []
        self._early: deque[bytes] = deque()
        self._handed_back = False
        self._unfinished: Unfinished | None = None
        self._cutting: PacketQueue | None = None
        """The queue for which the kernel cuts up and finishes."""
        self._queue: netfilterqueue.NetfilterQueue | None = None
        """What opened the queue, and has to give it back; None where it was inherited."""
        if inherited:
            self._inherit(inherited)
        else:
            self._open(unsegmented=unsegmented)
        self._socket.setblocking(False)

    def _inherit(self, holdings: Sequence[Holding]) -> None:
        (_, self._socket), *others = holdings
        for number, held in others:
            self._cutting = PacketQueue(number, self._handle, self._inject, inherited=[(number, held)])
            self._unfinished = Unfinished()

    def _open(self, *, unsegmented: bool) -> None:
        try:
            queue = netfilterqueue.NetfilterQueue()
        except OSError as error:
            raise DatapathError(
                f"cannot open netfilter's packet queue ({error}): the kernel needs nfnetlink_queue "
                "(CONFIG_NETFILTER_NETLINK_QUEUE), and this process CAP_NET_ADMIN"
            ) from error
        try:
            # Until we ask for whole packets ourselves, the kernel is to send none: it drops them.
            queue.bind(
                self.number, _never, max_len=_QUEUE_LENGTH, mode=netfilterqueue.COPY_NONE, sock_len=_SOCKET_BUFFER
            )
        except OSError as error:
            raise DatapathError(
                f"queue {self.number} is taken by another process (another natlb?): stop it, or choose a queue with "
                "--queue"
            ) from error
        self._queue = queue
        self._socket = socket.socket(fileno=os.dup(queue.get_fd()))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _VERDICTS_BUFFER)
        # Else a socket that is full takes nothing more until it has been emptied: one packet too many, and all are lost
        # that come in the next 80 ms.
        with contextlib.suppress(OSError):
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
        cannot = unsegmented and self._ask(messages.ask_for_unsegmented_packets(self.number))
        if problem := self._ask(messages.ask_for_whole_packets(self.number)):
            self.close()
            raise DatapathError(f"the kernel refuses to hand over whole packets ({os.strerror(problem)})")
        if unsegmented and not cannot:  # Linux can since 3.10
            try:
                self._cutting = _any_queue(self._handle, self._inject)
            except DatapathError:
                self.close()
                raise
            self._unfinished = Unfinished()

    @property
    def unsegmented(self) -> bool:
        """Whether packets come as they travel inside the kernel."""
        return self._cutting is not None

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of all queues that are held."""
        return (self.number,) if self._cutting is None else (self.number, self._cutting.number)

    @property
    def holdings(self) -> list[Holding]:
        """What to give to the one who is to hold these queues next."""
        own = [(self.number, self._socket)]
        return own if self._cutting is None else own + self._cutting.holdings

    def filenos(self) -> tuple[int, ...]:
        """Return the descriptors of which one becomes readable when packets wait."""
        own = (self._socket.fileno(),)
        return own if self._cutting is None else own + self._cutting.filenos()

    def process_batch(self) -> None:
        """Handle the packets that wait, a bounded number of them."""
        # -- receive
        receive, take, left = self._socket.recv_into, self._take, _BATCH
        while self._early and left:
            message = self._early.popleft()
            self._buffer[: len(message)] = message
            take(len(message))
            left -= 1
        while left:
            left -= 1
            try:
                size = receive(self._buffer)
            except BlockingIOError:
                left += 1
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # that is what the kernel says of packets that it counts as lost
                    raise
            else:
                take(size)
            if not left % _GATHERED:
                self._flush()
        self.had_more = not left
        if self._gathered:
            self._flush()
        if self._cutting is not None and (self._handed_back or left == _BATCH):
            # What the kernel makes of a packet that was handed back is there by now, or that is why we were called.
            self._cutting.process_batch()
            self._handed_back = self._cutting.had_more
            self._take_over_counts(self._cutting)

    def keeps_back(self, ticket: int) -> bool:
        """Whether a packet waits under this ticket."""
        return ticket in self._held

    def release(self, ticket: int, verdict: Verdict) -> None:
        """Decide about a packet that was kept back by a `Hold` with this ticket."""
        number = self._held.pop(ticket, None)
        if number is None and self._cutting is not None and self._cutting.keeps_back(ticket):
            self._cutting.release(ticket, verdict)
            self._take_over_counts(self._cutting)
            return
        if number is None:
            self._fail(KeyError(f"no packet is kept back under ticket {ticket}"))
            return
        try:
            self._decide(number, verdict)
        except Exception as error:
            self._fail(error, number)
        self._flush()

    def close(self, *, keep: bool = False) -> None:
        """Give the queue back. Packets that are kept back are dropped, and by the kernel those that still wait.

        With `keep` it belongs to whoever has its holdings, and what waits in it waits for him.
        """
        self._gathered += map(self._verdicts.drop, self._held.values())
        self._held.clear()
        self._flush()
        if self._queue is not None:
            if keep:
                # When the object goes, it asks the kernel to take the queue back. It is to ask nobody.
                with Path(os.devnull).open("rb") as nobody:
                    os.dup2(nobody.fileno(), self._queue.get_fd())
            else:
                self._queue.unbind()
            self._queue = None
        if self._cutting is not None:
            self._cutting.close(keep=keep)
            self._cutting = None
        if self._unfinished is not None:
            self._unfinished.close()
        self._socket.close()

    def _take(self, size: int) -> None:
        """Handle one message, of `size` bytes, in the buffer. What fails, for want of memory too, costs it alone."""
        # -- receive
        buffer = self._buffer
        try:
            arrival = self._layouts.read(buffer, size)
        except MemoryError as error:
            self._fail(error, number_in(buffer, size))
            return
        if arrival is None:
            self._take_other(buffer[:size])
            return
        number, start, end, hook, info = arrival
        try:
            if end - start <= _COPIED:
                packet = buffer[start:end]
            else:
                following = bytearray(LARGEST_MESSAGE)  # before this one is cut: there may be no memory for another
                del buffer[end:]
                del buffer[:start]
                packet, self._buffer = buffer, following
            # -- parse
            transport, undone = 0, self._unfinished
            if info and undone is not None:
                transport = undone.transport(packet, info)
                if not transport:
                    self._queue_again(number)
                    return
            self.delivered += 1
            verdict = self._handle(packet, monotonic(), bool(info & UNFINISHED))
            # -- rewrite
            if info & UNFINISHED and undone is not None and type(verdict) is Rewrite:
                undone.finish(packet, transport, info, hook)
            # -- verdict
            self._decide(number, verdict)
        except Exception as error:
            self._fail(error, number)

    def _take_other(self, message: bytearray) -> None:
        """Count a message that brings no packet. The kernel answers a verdict to say that there is no such packet."""
        if messages.error_of(message) is None:
            self.unreadable += 1
        else:
            self.refused += 1

    def _decide(self, number: bytes, verdict: Verdict) -> None:
        if type(verdict) is Rewrite:  # nearly all, hence first and not by a match, which takes five times as long
            payload = verdict.payload
            size = len(payload)
            header = self._verdicts.accept_with(number, size)
            if size > _COPIED:
                self._flush()
                self._socket.sendmsg([header, payload])
            elif size & 3:
                self._gathered.append(header + payload + bytes(-size & 3))
            else:
                self._gathered.append(header + payload)
            return
        match verdict:
            case Accept():
                self._gathered.append(self._verdicts.accept(number))
            case Drop():
                self._gathered.append(self._verdicts.drop(number))
            case Reply(answer):
                self._flush()
                self._inject(answer)
                self._gathered.append(self._verdicts.drop(number))
            case Hold(ticket):
                if ticket in self._held:
                    raise ValueError(f"ticket {ticket} was given out twice")
                self._held[ticket] = number

    def _flush(self) -> None:
        """Send the verdicts that were gathered."""
        # -- verdict
        if not self._gathered:
            return
        gathered = self._gathered
        try:
            self._socket.send(b"".join(gathered))
        except (OSError, MemoryError):  # nothing of it has got there
            for message in gathered:
                self._send(message)
        gathered.clear()

    def _send(self, message: bytes | bytearray) -> None:
        """Send one verdict; if it cannot be, the packet is dropped, for which less is needed."""
        try:
            self._socket.send(message)
        except (OSError, MemoryError) as error:
            self.failures += 1
            self.last_failure = error
            with contextlib.suppress(OSError, MemoryError):
                self._socket.send(self._verdicts.drop(messages.number_of(message)))

    def _queue_again(self, number: bytes) -> None:
        """Hand a packet back to the kernel, for it to cut it up and finish it, and to queue what that makes."""
        if self._cutting is None:
            raise AssertionError("there is no other queue")
        self._handed_back = True
        self._gathered.append(self._verdicts.queue_again(number, self._cutting.number))

    def _take_over_counts(self, other: "PacketQueue") -> None:
        """Count as one's own what another queue has counted since the last time."""
        self.delivered += other.delivered
        self.refused += other.refused
        self.unreadable += other.unreadable
        self.failures += other.failures
        self.last_failure = other.last_failure or self.last_failure
        other.delivered = other.refused = other.unreadable = other.failures = 0
        other.last_failure = None

    def _fail(self, error: Exception, number: bytes | None = None) -> None:
        """The engine does not raise; if it did, this one packet must be the whole damage. The daemon reports it."""
        self.failures += 1
        self.last_failure = error
        if number is not None:
            self._gathered.append(self._verdicts.drop(number))

    def _ask(self, message: bytes) -> int:
        """Configure the queue. Return what the kernel says: 0, or an errno."""
        self._socket.send(message)
        # The rules of a run that crashed may divert packets already: those that come before the answer wait their turn.
        while (problem := messages.error_of(answer := self._socket.recv(LARGEST_MESSAGE))) is None:
            self._early.append(answer)
        return problem


def _never(_: netfilterqueue.Packet) -> None:
    """Take a packet from netfilterqueue, which has none to give."""


def _any_queue(handle: Handler, inject: Callable[[bytes], None]) -> PacketQueue:
    """Take the highest queue that nobody holds. Raises DatapathError when none of the highest is free."""
    for number in range(_LAST_QUEUE, _LAST_QUEUE - _QUEUES_TRIED, -1):
        with contextlib.suppress(DatapathError):
            return PacketQueue(number, handle, inject)
    raise DatapathError(
        f"none of the queues from {_LAST_QUEUE - _QUEUES_TRIED + 1} to {_LAST_QUEUE} is free: start natlb with --no-gso"
    )
