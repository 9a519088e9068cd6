"""When the fast path is looked for, switched and followed, with a stand-in for the kernel's side of it."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from typing import ClassVar

import pytest

from natlb import offloading
from natlb.assembly import Assembly, assemble
from natlb.config.parser import parse
from natlb.core.checksum import adjust, difference, fold, pseudo_header
from natlb.core.flow import Connection, Direction, reverse
from natlb.core.ledger import Ledger
from natlb.core.packet import TCP
from natlb.core.pool import AdminState
from natlb.core.record import UNKNOWN, after_a_crash
from natlb.core.states import State
from natlb.errors import OffloadError
from natlb.offload.audit import Sample, expected
from natlb.offload.fastpath import Changes, Survivor
from natlb.offloading import Offloader
from tests.unit.core.packets import ACK, FIN, SYN, datagram, segment
from tests.unit.core.program import Program
from tests.unit.core.test_resumption import record

CLIENT, VIP, DNS, SERVER = ("44.1.1.1", 5000), ("44.2.2.2", 80), ("44.2.2.2", 53), ("44.3.3.3", 4444)
CONFIG = b"""
frontend web
    bind 44.2.2.2:80
    default_backend nodes
backend nodes
    server server1 44.3.3.3:4444
udp-lb dns
    dgram-bind 44.2.2.2:53
    server server1 44.3.3.3:4444
"""


class Path(Program):
    """A fast path without a kernel."""

    refused_by_kernel = ""
    left = False
    there = 2
    """Interfaces that the machine has."""
    made: ClassVar[list["Path"]] = []

    def __init__(
        self,
        ledger: Ledger,
        queue: int,
        capacity: int,
        identify: Callable[[Connection], bytes],
        handed_over: Mapping[str, int] | None = None,
    ) -> None:
        if self.refused_by_kernel == "program":
            raise OffloadError("libbpf is not installed: 'apt install libbpf1'")
        super().__init__(ledger, capacity)
        self.queue, self.capacity, self.identify = queue, capacity, identify
        self.interfaces = self.refused = self.translated = self.looked_at_links = 0
        self.handed_over, self.maps = handed_over, {"flows": 40, "connections": 41}
        self.share = 0.0
        self.closed = self.kept = False
        self.discarded: list[Survivor] = []
        self.taken: list[Sample] = []
        self.events, self.links = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
        self.made.append(self)

    @staticmethod
    def read_file() -> None:
        pass

    @classmethod
    def has_left(cls, queue: int) -> bool:
        return cls.left

    @property
    def carries(self) -> bool:
        return self.left

    def attach(self) -> list[str]:
        if self.refused_by_kernel == "filter":
            raise OffloadError("tc refuses the program")
        self.interfaces = self.there
        return ["tc refuses the program on interface 7"] if self.refused_by_kernel == "one" else []

    def detach(self) -> None:
        self.interfaces = 0

    def close(self, *, keep: bool = False) -> None:
        assert not self.closed
        if not keep:
            self.detach()
        self.closed, self.kept = True, keep
        os.close(self.events)
        os.close(self.links)

    def sample(self, share: float) -> None:
        self.share = share

    def fileno(self) -> int:
        return self.events

    def links_fileno(self) -> int:
        return self.links

    def follow(self) -> Changes:
        os.eventfd_read(self.links)
        self.looked_at_links += 1
        return Changes([], [], ["eth0", "eth1"] if self.looked_at_links == 2 else [])

    def samples(self) -> list[Sample]:
        taken, self.taken = self.taken, []
        return taken

    def ended(self) -> list[Connection]:
        with suppress(BlockingIOError):
            os.eventfd_read(self.events)
        return super().ended()

    def survivors(self) -> list[Survivor]:
        return []

    def take_back(self, survivor: Survivor, connection: Connection) -> None:
        self.enter(connection)

    def discard(self, survivor: Survivor) -> None:
        self.discarded.append(survivor)


def assembled() -> Assembly:
    parsed = parse([("t.cfg", CONFIG)], {})
    assert parsed.config is not None, parsed.diagnostics
    return assemble(parsed.config)


@pytest.fixture
def made() -> Assembly:
    return assembled()


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Path]]:
    """What the kernel has to say; each test has its own."""

    class Own(Path):
        made: ClassVar[list[Path]] = []

    monkeypatch.setattr(offloading, "FastPath", Own)
    yield Own
    for path in Own.made:
        if not path.closed:
            path.close()


def begun(made: Assembly, wish: offloading.Wish = "auto") -> Offloader:
    offloader = Offloader(made, 7)
    offloader.prepare(wish)
    offloader.begin()
    return offloader


def open_connection(made: Assembly) -> Connection:
    """Have a connection of TCP opened through the engine."""
    for packet in (
        segment(CLIENT, VIP, SYN, seq=1000),
        segment(SERVER, CLIENT, SYN | ACK, seq=5000, ack=1001),
        segment(CLIENT, VIP, ACK, seq=1001, ack=5001),
    ):
        made.engine.handle_packet(packet, 1.0)
    made.engine.offloading.enter()
    return next(each for each in made.engine.connections() if each.state is State.ESTABLISHED)


def open_flow(made: Assembly) -> Connection:
    """The same of UDP."""
    made.engine.handle_packet(datagram(CLIENT, DNS, b"?"), 1.0)
    made.engine.handle_packet(datagram(SERVER, CLIENT, b"!"), 1.0)
    made.engine.offloading.enter()
    return next(each for each in made.engine.connections() if each.state is State.BOTH_WAYS)


def following(offloader: Offloader, happens: Callable[[], Awaitable[None]]) -> None:
    """Let something happen while the offloader follows it, in a loop."""

    async def run() -> None:
        tasks: list[asyncio.Task[None]] = []

        def start(work: Coroutine[None, None, None]) -> None:
            tasks.append(asyncio.get_running_loop().create_task(work))

        offloader.serve(start, lambda: None)
        await happens()
        offloader.stop()
        for task in tasks:
            if task.done():
                task.result()
            task.cancel()

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_without_the_wish_nothing_is_looked_for(made: Assembly, kernel: type[Path]) -> None:
    offloader = begun(made, "off")
    assert not kernel.made
    assert (offloader.is_on, offloader.lacking) == (False, "it was not asked for")
    assert (offloader.interfaces, offloader.capacity, offloader.refused, offloader.offloaded) == (0, 0, 0, 0)
    offloader.close()


@pytest.mark.parametrize("wish", ["auto", "on"])
def test_connections_are_offered_when_it_is_on(made: Assembly, kernel: type[Path], wish: offloading.Wish) -> None:
    offloader = begun(made, wish)
    (path,) = kernel.made
    assert (path.queue, path.capacity, path.share) == (7, offloading.MOST_CONNECTIONS, offloading.AUDITED)
    assert offloader.is_on
    assert [open_connection(made)] == list(path.rows)
    assert (offloader.interfaces, offloader.offloaded, offloader.capacity) == (2, 1, path.capacity)
    offloader.close()
    assert path.closed


@pytest.mark.parametrize(("there", "told"), [(1, "on 1 interface"), (2, "on 2 interfaces")])
def test_the_log_says_on_how_many_interfaces(
    made: Assembly, kernel: type[Path], monkeypatch: pytest.MonkeyPatch, there: int, told: str
) -> None:
    notices: list[str] = []
    monkeypatch.setattr(offloading, "notice", notices.append)
    kernel.there = there
    begun(made).close()
    assert f"the kernel carries packets of established connections, {told}" in notices


def test_its_maps_change_hands(made: Assembly, kernel: type[Path]) -> None:
    offloader = begun(made)
    successor = Offloader(assembled(), 7)
    assert successor.maps == {}
    successor.prepare("auto", offloader.maps)
    first, second = kernel.made
    assert first.handed_over is None
    assert second.handed_over == first.maps
    for each in (successor, offloader):
        each.close()


@pytest.mark.parametrize(("wish", "level"), [("auto", 25), ("on", logging.WARNING)])
@pytest.mark.parametrize(
    ("lacks", "reason"), [("program", "libbpf is not installed: 'apt install libbpf1'"), ("filter", "tc refuses")]
)
def test_what_is_lacking_is_said_in_one_line_and_no_error(
    made: Assembly,
    kernel: type[Path],
    caplog: pytest.LogCaptureFixture,
    wish: offloading.Wish,
    level: int,
    lacks: str,
    reason: str,
) -> None:
    kernel.refused_by_kernel = lacks
    with caplog.at_level(25):
        offloader = begun(made, wish)
    assert [record.levelno for record in caplog.records if reason in record.message] == [level]
    assert not offloader.is_on
    assert reason in offloader.lacking
    assert made.engine.offloading.cache is None
    assert all(path.closed for path in kernel.made)
    assert not open_connection(made).offloaded


def test_an_interface_without_it_is_spoken_of(
    made: Assembly, kernel: type[Path], caplog: pytest.LogCaptureFixture
) -> None:
    kernel.refused_by_kernel = "one"
    with caplog.at_level(25):
        assert begun(made).is_on
    assert any("interface 7" in record.message for record in caplog.records)


# What a crash left


def left_by(
    made: Assembly, kernel: type[Path], monkeypatch: pytest.MonkeyPatch, name: str = "web"
) -> tuple[Connection, Survivor]:
    """Let a natlb be killed, and the next start find what it left: return its connection, as both of them know it."""
    begun(made)
    connection = open_connection(made)
    (path,) = kernel.made
    connection.service.name = name
    identity = path.identify(connection)
    report = path.read(connection)._replace(packets=(7, 5), octets=(70, 50))
    survivor = Survivor(0, connection.original, connection.reply, identity, 1.0, report)
    path.close()
    kernel.left = True
    kernel.made.clear()
    monkeypatch.setattr(kernel, "survivors", lambda _: [survivor])
    return connection, survivor


@pytest.mark.parametrize("wish", ["auto", "off"])
def test_what_a_crash_left_is_taken_over(
    made: Assembly, kernel: type[Path], monkeypatch: pytest.MonkeyPatch, wish: offloading.Wish
) -> None:
    before, _ = left_by(made, kernel, monkeypatch)
    anew = assembled()
    offloader = begun(anew, wish)
    (after,) = anew.engine.connections()
    assert (after.original, after.reply, after.server.name) == (before.original, before.reply, "server1")
    assert list(anew.engine.ledger.packets[2 * after.index : 2 * after.index + 2]) == [7, 5]
    (path,) = kernel.made
    assert after.offloaded is offloader.is_on is (wish == "auto")
    assert path.closed is (wish == "off")


def test_what_the_configuration_does_not_know_is_given_up(
    made: Assembly, kernel: type[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, survivor = left_by(made, kernel, monkeypatch, name="another frontend")
    anew = assembled()
    begun(anew)
    assert len(anew.engine) == 0
    assert kernel.made[0].discarded == [survivor]


def on_record(anew: Assembly, connection: Connection, ledger: Ledger, **changes: object) -> Connection:
    """Have another engine know a connection from its record, written before packets were carried; return it there."""
    left = after_a_crash(record(connection, ledger)._replace(**changes, packets=(2, 1), octets=(0, 0)), 1.0)
    service, pool = anew.services[0], anew.pools["nodes"]
    resumed = anew.engine.resumption.resume(left, service, pool.servers["server1"])
    assert resumed is not None
    return resumed


@pytest.mark.parametrize("wish", ["auto", "off"])
def test_what_is_on_record_goes_on_with_what_the_kernel_has_seen(
    made: Assembly, kernel: type[Path], monkeypatch: pytest.MonkeyPatch, wish: offloading.Wish
) -> None:
    # By these names the configuration does not know it; but it is on record whose it is.
    before, _ = left_by(made, kernel, monkeypatch, name="another frontend")
    anew = assembled()
    after = on_record(anew, before, made.engine.ledger)
    offloader = begun(anew, wish)
    assert list(anew.engine.connections()) == [after]
    assert list(anew.engine.ledger.packets[2 * after.index : 2 * after.index + 2]) == [7, 5]
    assert after.offloaded is offloader.is_on is (wish == "auto")
    assert not after.aside & UNKNOWN
    assert kernel.made[0].discarded == []


def test_what_the_kernel_leads_elsewhere_than_the_record_is_given_up_there(
    made: Assembly, kernel: type[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, survivor = left_by(made, kernel, monkeypatch)
    anew = assembled()
    after = on_record(anew, before, made.engine.ledger, reply=reverse(before.reply))
    begun(anew)
    assert list(anew.engine.connections()) == [after]
    assert kernel.made[0].discarded == [survivor]


# While it runs


def test_it_is_switched_off_and_on(made: Assembly, kernel: type[Path]) -> None:
    offloader = begun(made)
    connection = open_connection(made)

    async def happens() -> None:
        await offloader.switch(on=True)
        assert len(kernel.made) == 1, "it is on"
        kernel.made[0].refused, kernel.made[0].translated = 3, 4
        await offloader.switch(on=False)
        assert not connection.offloaded
        assert (kernel.made[0].interfaces, kernel.made[0].closed) == (0, False), "that would lose packets"
        assert (offloader.is_on, offloader.lacking, offloader.refused) == (False, "it was switched off", 3)
        await offloader.switch(on=False)
        await offloader.switch(on=True)
        made.engine.handle_packet(segment(CLIENT, VIP, ACK, seq=1001, ack=5001), 3.0)
        assert not connection.offloaded
        offloader.after_packets()
        assert connection.offloaded
        assert list(kernel.made[0].rows) == [connection]
        assert (len(kernel.made), offloader.refused, offloader.translated) == (1, 3, 4)
        await offloader.switch(on=False)

    following(offloader, happens)
    offloader.close(keep=True)
    assert kernel.made[0].closed
    assert not kernel.made[0].kept, "a successor would not know of it"


@pytest.mark.parametrize("lacks", ["program", "filter"])
def test_when_it_cannot_be_switched_on_everything_is_as_before(made: Assembly, kernel: type[Path], lacks: str) -> None:
    offloader = begun(made, "off")
    kernel.refused_by_kernel = lacks

    async def happens() -> None:
        with pytest.raises(OffloadError):
            await offloader.switch(on=True)
        assert not offloader.is_on
        assert made.engine.offloading.cache is None
        assert all(path.closed for path in kernel.made)

    following(offloader, happens)


def test_what_it_cannot_be_switched_on_with_any_more_is_given_up(made: Assembly, kernel: type[Path]) -> None:
    offloader = begun(made)

    async def happens() -> None:
        await offloader.switch(on=False)
        kernel.made[0].refused, kernel.refused_by_kernel = 2, "filter"
        with pytest.raises(OffloadError):
            await offloader.switch(on=True)
        assert kernel.made[0].closed
        kernel.refused_by_kernel = ""
        await offloader.switch(on=True)
        assert (len(kernel.made), offloader.is_on, offloader.refused) == (2, True, 2)

    following(offloader, happens)


def test_who_has_ended_is_known_at_once(made: Assembly, kernel: type[Path]) -> None:
    offloader = begun(made)
    open_connection(made)
    path = kernel.made[0]

    async def happens() -> None:
        assert path.carry(bytes(segment(CLIENT, VIP, FIN | ACK, seq=1001, ack=5001)), 2.0)
        assert path.carry(bytes(segment(SERVER, CLIENT, FIN | ACK, seq=5001, ack=1002)), 2.0)
        assert made.engine.live == 1
        os.eventfd_write(path.events, 1)
        await until(lambda: made.engine.live == 0)
        assert not path.rows

    following(offloader, happens)


def test_what_was_carried_is_known_within_a_second(made: Assembly, kernel: type[Path]) -> None:
    offloader = begun(made)
    connection = open_connection(made)
    assert kernel.made[0].carry(bytes(segment(CLIENT, VIP, ACK, seq=1001, ack=5001, payload=b"hello")), 2.0)

    async def happens() -> None:
        await until(lambda: offloader.packets == 1)
        assert made.engine.ledger.octets[2 * connection.index] == 5

    following(offloader, happens)


def test_that_the_kernels_nat_has_a_hand_in_some_is_said_once(
    made: Assembly, kernel: type[Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(25)
    offloader = begun(made)
    open_connection(made)

    def told() -> int:
        return sum("the kernel's own NAT" in message for message in caplog.messages)

    async def happens() -> None:
        assert told() == 0
        kernel.made[0].translated = 1
        await until(lambda: told() == 1)
        kernel.made[0].translated = 2
        assert kernel.made[0].carry(bytes(segment(CLIENT, VIP, ACK, seq=1001, ack=5001, payload=b"hello")), 2.0)
        await until(lambda: offloader.packets == 1)
        assert told() == 1

    following(offloader, happens)


def test_flows_of_udp_are_taken_back_when_a_server_is_away(made: Assembly, kernel: type[Path]) -> None:
    offloader = begun(made)
    connection, flow = open_connection(made), open_flow(made)
    assert set(kernel.made[0].rows) == {connection, flow}

    async def happens() -> None:
        pool = made.pools["dns"]
        pool.set_admin(pool.servers["server1"], AdminState.MAINT, 2.0)
        await until(lambda: not flow.offloaded)
        assert connection.offloaded

    following(offloader, happens)


def test_interfaces_that_come_are_followed_and_filters_that_somebody_took_away_are_told_of(
    made: Assembly, kernel: type[Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offloading, "_GATHERED", 0)
    offloader = begun(made)
    path = kernel.made[0]

    async def happens() -> None:
        for times in (1, 2):
            os.eventfd_write(path.links, 1)
            await until(lambda times=times: path.looked_at_links == times)
        await until(lambda: "somebody has taken" in caplog.text)  # a thread has looked, and the loop is yet to tell

    following(offloader, happens)
    assert caplog.messages[-1] == (
        "somebody has taken natlb's filter off eth0, eth1: the kernel carried no packets there, and does again"
    )


# The audit


def right_sample(connection: Connection) -> Sample:
    before = bytes(segment(CLIENT, VIP, ACK, seq=1001, ack=5001, payload=b"hello"))
    made = Sample(connection, Direction.ORIGINAL, len(before), before, b"")
    (after,) = expected(made)
    return made._replace(after=after)


def test_an_unfinished_checksum_is_told_from_a_finished_one_unless_it_is_both(made: Assembly) -> None:
    connection = open_connection(made)
    packet = segment(CLIENT, VIP, ACK, seq=1001, ack=5001, payload=b"..")
    at, pseudo = 36, fold(pseudo_header(packet[12:16], packet[16:20], TCP, len(packet) - 20))
    packet[at : at + 2] = pseudo.to_bytes(2)

    def outcomes(size: int = len(packet)) -> set[int]:
        sample = Sample(connection, Direction.ORIGINAL, size, bytes(packet), b"")
        return {int.from_bytes(after[at : at + 2]) for after in expected(sample)}

    server, port = bytes((44, 3, 3, 3)), (4444).to_bytes(2)
    unfinished = fold(pseudo_header(packet[12:16], server, TCP, len(packet) - 20))
    finished = adjust(pseudo, difference(packet[16:20] + packet[22:24], server + port))
    assert outcomes() == {unfinished}
    # With other data the same field is right as a finished checksum, too.
    packet[-2:] = bytes(2)
    rest = fold(pseudo_header(packet[12:16], packet[16:20], TCP, len(packet) - 20) + packet[20:])
    packet[-2:] = (rest ^ 0xFFFF).to_bytes(2)
    assert outcomes() == {unfinished, finished}
    # Of a packet that is not wholly here it cannot be told.
    packet[2:4] = (2 * len(packet)).to_bytes(2)
    packet[at : at + 2] = fold(pseudo_header(packet[12:16], packet[16:20], TCP, 2 * len(packet) - 20)).to_bytes(2)
    assert len(outcomes(2 * len(packet))) == 2


def test_a_packet_that_was_carried_otherwise_takes_its_connection_off(
    made: Assembly, kernel: type[Path], caplog: pytest.LogCaptureFixture
) -> None:
    offloader = begun(made)
    connection = open_connection(made)
    right = right_sample(connection)
    wrong = right._replace(after=right.after[:-1] + b"?")
    path = kernel.made[0]

    async def happens() -> None:
        path.taken = [right]
        os.eventfd_write(path.events, 1)
        await until(lambda: offloader.audited == 1)
        assert (offloader.differences, connection.offloaded) == (0, True)
        path.taken = [wrong, right]
        os.eventfd_write(path.events, 1)
        await until(lambda: offloader.audited == 3)
        assert (offloader.differences, connection.offloaded) == (1, False)

    following(offloader, happens)
    (alarm,) = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert all(packet.hex() in alarm for packet in (wrong.before, wrong.after, right.after))
    made.engine.handle_packet(segment(CLIENT, VIP, ACK, seq=1001, ack=5001), 9.0)
    offloader.after_packets()
    assert not connection.offloaded, "not again"


def test_a_packet_that_should_not_have_been_carried_is_a_difference(
    made: Assembly, kernel: type[Path], caplog: pytest.LogCaptureFixture
) -> None:
    offloader = begun(made)
    connection = open_connection(made)
    before = bytes(segment(CLIENT, VIP, SYN, seq=1001))
    path = kernel.made[0]

    async def happens() -> None:
        path.taken = [Sample(connection, Direction.ORIGINAL, len(before), before, before)]
        os.eventfd_write(path.events, 1)
        await until(lambda: offloader.differences == 1)

    following(offloader, happens)
    assert "and not nothing" in caplog.text
