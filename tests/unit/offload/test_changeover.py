"""Flows that change over to the program while packets of them wait for the engine: nothing is overtaken."""

from collections.abc import Callable, Iterator
from random import Random
from time import monotonic
from unittest.mock import patch

import pytest

from natlb.core.engine import NatEngine
from natlb.core.events import EndReason
from natlb.core.flow import Direction
from natlb.core.offloading import Change, fingerprint
from natlb.core.packet import PacketView
from natlb.core.window import Said
from natlb.offload import fastpath
from natlb.offload.fastpath import FastPath
from natlb.offload.layout import NONE_HANDLED
from natlb.offload.program import Program
from tests.effort import examples
from tests.unit.core.crossing import Crossing, Datagrams
from tests.unit.core.packets import ACK, cut, datagram, places, segment
from tests.unit.offload import kernel

pytestmark = pytest.mark.root

FOREVER = 1e6
"""Seconds for which nothing is overtaken, where a test is about that."""
ANY_NUMBER = 2**32 - 1
"""Packets that may pass until then, where a test is about the seconds: a fast machine passes thousands in a tenth."""


@pytest.fixture(scope="module")
def program(arena: kernel.Arena) -> Iterator[Program]:
    """The program, loaded once."""
    loaded = Program(64)
    yield loaded
    loaded.close()


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def cross(
    request: pytest.FixtureRequest, arena: kernel.Arena, program: Program, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Crossing]]:
    """Have traffic cross an engine with the program in front, which is patient for so many seconds and packets."""
    paths: list[FastPath] = []

    def front(engine: NatEngine) -> tuple[FastPath, Callable[[bytes, float], bytes | None]]:
        with patch.object(fastpath, "Program", lambda *_: program):
            path = FastPath(engine.ledger, 0, program.connections.capacity, lambda connection: bytes(8))
        paths.append(path)

        def carry(packet: bytes, now: float) -> bytes | None:
            result = kernel.run(program.descriptor, kernel.framed(packet), arena.interface)
            return result.frame[14:] if result.verdict == kernel.REDIRECT else None

        return path, carry

    def begin(patience: float, seed: int = 0, most_passed: int = ANY_NUMBER) -> Crossing:
        monkeypatch.setattr(fastpath, "MOST_PASSED", most_passed)
        monkeypatch.setattr(fastpath, "PATIENCE", patience)
        monkeypatch.setattr(fastpath, "PATIENCE_OF_TCP", patience)
        return Crossing(request.param, Random(f"{request.param}, {seed}"), front, monotonic())

    yield begin
    for path in paths:
        for connection in [owner for owner in path._owners if owner is not None]:
            path.forget(connection)
        with patch.object(program, "close"):
            path.close()


def path_of(crossing: Crossing) -> FastPath:
    path = crossing.engine.offloading.cache
    assert isinstance(path, FastPath)
    return path


@pytest.mark.parametrize("seed", range(examples(3)))
def test_nothing_is_overtaken(cross: Callable[..., Crossing], seed: int) -> None:
    crossing = cross(FOREVER, seed)
    for _ in range(10):
        crossing.go_on(60)
        crossing.drain()
        crossing.go_on(40)
        crossing.change_over_again()
    crossing.settle()
    assert crossing.disorder == 0
    assert crossing.known() == crossing.true()
    assert min(crossing.carried, crossing.handled) > 300
    crossing.close()
    assert crossing.engine.closed == {EndReason.FINISHED: 3}


@pytest.mark.parametrize("seed", range(examples(3)))
def test_without_patience_something_is_and_all_is_known_nevertheless(cross: Callable[..., Crossing], seed: int) -> None:
    crossing = cross(0.0, seed)
    for _ in range(10):
        crossing.go_on(60, busy=True)
        crossing.change_over_again()
    crossing.settle()
    assert crossing.disorder > 0
    assert crossing.known() == crossing.true()
    crossing.close()
    assert crossing.engine.closed == {EndReason.FINISHED: 3}


def test_what_is_lost_keeps_nothing_back(cross: Callable[..., Crossing]) -> None:
    crossing = cross(FOREVER)
    crossing.go_on(200, lost=0.2)
    crossing.drain()
    crossing.settle()
    handled = crossing.handled
    crossing.settle()
    assert crossing.handled == handled


def test_who_is_never_done_is_overtaken_once_patience_ends(cross: Callable[..., Crossing]) -> None:
    """By the clock of the kernel: the engine handles nothing at all."""
    crossing = cross(0.2)
    begun = monotonic()
    crossing.handle(0)
    flow = next(pair[0] for pair in crossing.flows if isinstance(pair[0], Datagrams))
    while not crossing.carried:
        crossing.come(flow.speak(crossing.random))
        assert monotonic() - begun < 10
    assert monotonic() - begun > 0.2


def test_who_fills_the_queue_is_overtaken_before(cross: Callable[..., Crossing]) -> None:
    crossing = cross(FOREVER, most_passed=100)
    crossing.handle(0)
    flow = next(pair[0] for pair in crossing.flows if isinstance(pair[0], Datagrams))
    for _ in range(100):
        crossing.come(flow.speak(crossing.random))
    assert crossing.carried == 0
    for _ in range(100):
        crossing.come(flow.speak(crossing.random))
    assert crossing.carried == 100


NEWS = Said(2**31 - 1, 2**31 - 1, 2**31 - 1)


def test_it_is_told_how_far_a_connection_is(cross: Callable[..., Crossing]) -> None:
    crossing = cross(FOREVER)
    crossing.handle(0)
    path, (client, server) = path_of(crossing), crossing.flows[0]
    connection = next(each for each in crossing.engine.connections() if each in path and each.original[-1] == 6)

    def told() -> list[Change]:
        return [path.change(connection, direction, NEWS) for direction in Direction]

    def say(handle: bool = True) -> None:
        for end in client, server:
            crossing.come(end.speak(crossing.random, ACK))  # type: ignore[call-arg]
            crossing.handle(handle)

    assert told() == [Change.UNDER_WAY] * 2
    say(handle=False)
    assert told() == [Change.UNDER_WAY] * 2
    crossing.drain()
    say()
    assert told() == [Change.OVER] * 2
    assert crossing.carried == 2


def test_of_a_direction_that_has_lost_patience_what_is_late_is_overtaken(cross: Callable[..., Crossing]) -> None:
    crossing = cross(0.0)
    crossing.handle(0)
    path, (client, _) = path_of(crossing), crossing.flows[0]
    connection = next(each for each in crossing.engine.connections() if each.original[-1] == 6)
    ledger, at = crossing.engine.ledger, 2 * connection.index
    before = Said(ledger.following[at], ledger.acked[at], ledger.edge[at])
    crossing.come(client.speak(crossing.random, ACK))  # type: ignore[call-arg]
    there, back = Direction
    assert path.change(connection, there, before) is Change.OVERTAKEN
    for number in range(3):
        news = list(before)
        news[number] = client.next + 2**30 & 0xFFFFFFFF
        assert path.change(connection, there, Said(*news)) is Change.OVER, "nothing was ahead of it that says as much"
    assert path.change(connection, back, before) is Change.ALONE
    ledger.following[at] = ledger.following[at + 1] = 77
    path.follow_along(connection)
    (told,) = [report for piece in path.reports() for each, report in piece if each is connection]
    for report in told, path.read(connection):
        assert report.following == (client.next, 77), "each direction has its own owner"


PAYLOADS = [b"", b"?", b"three", b"x" * 55, b"x" * 56, b"x" * 57, b"x" * 1400]


@pytest.mark.parametrize("payload", PAYLOADS, ids=len)
def test_program_and_engine_tell_packets_apart_by_the_same(cross: Callable[..., Crossing], payload: bytes) -> None:
    crossing = cross(FOREVER)
    crossing.handle(0)
    path = path_of(crossing)
    for pair in crossing.flows[:2]:
        for direction, end in enumerate(pair):
            if isinstance(end, Datagrams):
                packet = datagram(end.own, end.peer, payload)
            else:
                packet = segment(end.own, end.peer, ACK, seq=end.next, ack=end.expects, payload=payload)
            crossing.come(bytes(packet))
            view = PacketView()
            view.read(packet)
            connection = crossing.engine.table.find(view.key)
            assert connection is not None
            row = path._look_up(path._row_of[connection.index])
            assert (row.passed, row.reply_passed)[direction] == fingerprint(view)
            assert fingerprint(view) < NONE_HANDLED


def test_packets_that_differ_are_told_apart() -> None:
    made = [
        *(datagram(("44.1.1.1", 5000), ("44.2.2.2", 53), payload, checksum=77) for payload in PAYLOADS),
        datagram(("44.1.1.1", 5000), ("44.2.2.2", 53), PAYLOADS[1], checksum=78),
        datagram(("fd44::1", 5000), ("fd44::2", 53), PAYLOADS[2], checksum=77),
        datagram(("44.1.1.1", 5000), ("44.2.2.2", 53), PAYLOADS[2], checksum=77),
    ]
    made[-1][4:6] = b"\x12\x35"  # its identification
    told = []
    for packet in made:
        view = PacketView()
        view.read(packet)
        told.append(fingerprint(view))
    assert len(set(told)) == len(made)


def test_what_is_not_plain_goes_on_as_ever(cross: Callable[..., Crossing]) -> None:
    """A fragment is nobody's last packet: what comes after it waits for nothing of it."""
    crossing = cross(FOREVER)
    crossing.go_on(100)
    crossing.settle()
    flow = crossing.flows[1][0]
    assert places(flow.speak(crossing.random))[0] == flow.own
    whole = datagram(flow.own, flow.peer, flow.next.to_bytes(4, "big") + bytes(100))
    carried = crossing.carried
    assert crossing._carry(bytes(cut(whole, 0, 56)), crossing.now) is None
    crossing.come(flow.speak(crossing.random))
    assert crossing.carried == carried + 1


def test_a_row_says_when_patience_ends(cross: Callable[..., Crossing]) -> None:
    crossing = cross(5.0)
    before = monotonic()
    crossing.handle(0)
    path = path_of(crossing)
    connection = next(crossing.engine.connections())
    row = path._look_up(path._row_of[connection.index])
    assert before + 5.0 <= row.patience / 1e9 <= monotonic() + 5.0
