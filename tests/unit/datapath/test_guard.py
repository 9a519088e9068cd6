"""What a guard looks at and when, against a diversion that only tells; and the kernel's own count."""

import asyncio
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from natlb.datapath import guard as guard_module
from natlb.datapath.guard import Generation, Guard, Interfaces
from natlb.datapath.sysctl import IPV4_FORWARDING, Setting, accept_local
from natlb.errors import DatapathError
from natlb.log import log


class Diversion:
    """Rules that are there, or not, and a clock that moves as far as it is told."""

    def __init__(self) -> None:
        self.counted = True
        self.now = 1000.0
        self.generation: int | None = 1
        self.interfaces_changed = False
        self.takes = 0.0
        self.gone: list[str] = []
        self.changed: list[Setting] = []
        self.more_is_needed = False
        self.refuses: DatapathError | None = None
        self.looks: list[float] = []
        self.repairs: list[float] = []
        self.guard = Guard(self, lambda: self.generation, self._have_changed, lambda: self.now)

    def _have_changed(self) -> bool:
        changed, self.interfaces_changed = self.interfaces_changed, False
        return changed

    def lost(self) -> list[str]:
        self.looks.append(self.now)
        self.now += self.takes
        return list(self.gone)

    def unset(self) -> list[Setting]:
        return list(self.changed)

    def wants_more(self) -> bool:
        return self.more_is_needed

    def again(self) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.repairs.append(self.now)
        self.gone, self.more_is_needed = [], False
        self.generation = (self.generation or 0) + 1

    def turns(self, seconds: float) -> None:
        """Let time pass, with a turn of the guard each half second."""

        async def all_of_them() -> None:
            until = self.now + seconds
            while self.now < until:
                self.now += 0.5
                await self.guard.turn()

        asyncio.run(all_of_them())

    def flush(self) -> None:
        """Somebody takes the rules away."""
        self.gone = ["iptables: chain NATLB-7-VIP of raw"]
        self.generation = (self.generation or 0) + 1


@pytest.fixture
def diversion() -> Diversion:
    return Diversion()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(1, log.name)
    return caplog


def test_while_the_kernel_counts_no_change_nobody_looks(diversion: Diversion) -> None:
    diversion.turns(600)
    assert diversion.looks == []


def test_rules_that_were_taken_away_are_made_again_within_a_second_and_told(
    diversion: Diversion, told: pytest.LogCaptureFixture
) -> None:
    diversion.turns(30)
    diversion.flush()
    began = diversion.now
    diversion.turns(10)
    assert [at - began <= 1.0 for at in diversion.repairs] == [True]
    assert diversion.guard.repaired == 1
    assert told.messages == [
        "somebody has taken away or changed rules of natlb's, which are made again: iptables: chain NATLB-7-VIP of "
        "raw. If that happens once more, they are left away for up to 2 seconds."
    ]


def test_of_many_things_some_are_named(diversion: Diversion, told: pytest.LogCaptureFixture) -> None:
    diversion.flush()
    diversion.gone = [f"thing {number}" for number in range(10)]
    diversion.turns(1)
    assert "thing 5; and 4 more. If" in told.messages[0]


def test_changes_that_are_none_of_natlbs_business_are_looked_at_and_no_more(
    diversion: Diversion, told: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        diversion.generation = (diversion.generation or 0) + 1
        diversion.turns(1)
    assert 50 <= len(diversion.looks) <= 101
    assert (diversion.repairs, told.messages) == ([], [])


def test_looks_that_take_long_are_few(diversion: Diversion) -> None:
    diversion.takes = 0.2
    for _ in range(200):
        diversion.generation = (diversion.generation or 0) + 1
        diversion.turns(0.5)
    spent = diversion.takes * len(diversion.looks)
    assert spent <= 0.06 * (diversion.now - 1000)


def test_whoever_takes_the_rules_away_all_the_time_is_answered_ever_more_rarely(diversion: Diversion) -> None:
    for _ in range(600):
        diversion.flush()
        diversion.turns(0.5)
    gaps = [later - before for before, later in zip(diversion.repairs, diversion.repairs[1:], strict=False)]
    assert gaps == sorted(gaps)
    assert (gaps[0], gaps[-1]) == (2.0, 30.0)
    assert len(diversion.repairs) < 20


def test_once_it_was_quiet_for_a_while_the_next_time_is_the_first(diversion: Diversion) -> None:
    for _ in range(100):
        diversion.flush()
        diversion.turns(0.5)
    diversion.turns(120)
    diversion.flush()
    began = diversion.now
    diversion.turns(2)
    assert diversion.repairs[-1] - began <= 1.0


@pytest.mark.parametrize("why", ["the old tables", "no answer"])
def test_where_the_kernel_does_not_count_they_are_looked_at_every_two_seconds(diversion: Diversion, why: str) -> None:
    if why == "the old tables":
        diversion.counted = False
    else:
        diversion.generation = None
    diversion.turns(20)
    assert 9 <= len(diversion.looks) <= 11


def test_rules_that_cannot_be_made_again_are_told_once_and_tried_for_ever(
    diversion: Diversion, told: pytest.LogCaptureFixture
) -> None:
    diversion.refuses = DatapathError("iptables-restore failed: no")
    diversion.flush()
    diversion.turns(100)
    assert told.messages == [
        "natlb's rules and settings cannot be looked after: somebody has taken away iptables: chain NATLB-7-VIP of "
        "raw; packets pass natlb by, and iptables-restore failed: no"
    ]
    assert 5 <= len(diversion.looks) <= 10
    diversion.refuses = None
    diversion.turns(40)
    assert (len(diversion.repairs), diversion.gone) == (1, [])


def test_a_look_that_fails_is_told_once_and_repeated(diversion: Diversion, told: pytest.LogCaptureFixture) -> None:
    def broken() -> list[str]:
        diversion.looks.append(diversion.now)
        raise DatapathError("cannot run iptables-save: [Errno 12] Cannot allocate memory")

    real, diversion.lost = diversion.lost, broken  # type: ignore[method-assign]
    diversion.flush()
    diversion.turns(10)
    assert len(diversion.looks) > 5
    diversion.lost = real  # type: ignore[method-assign]
    diversion.turns(3)
    assert len(diversion.repairs) == 1
    assert [message.partition(":")[0] for message in told.messages] == [
        "natlb's rules and settings cannot be looked after",
        "somebody has taken away or changed rules of natlb's, which are made again",
    ]


def test_a_setting_that_somebody_has_changed_is_told_once_and_left_alone(
    diversion: Diversion, told: pytest.LogCaptureFixture
) -> None:
    diversion.changed = [IPV4_FORWARDING, accept_local("eth1.7")]
    diversion.turns(10)
    diversion.changed = [IPV4_FORWARDING]
    diversion.turns(10)
    assert told.messages == [
        "somebody has changed net.ipv4.conf.eth1.7.accept_local, which natlb needs to be 1: full NAT gives what comes "
        "in an address of this machine. To put it right: sysctl -w net/ipv4/conf/eth1.7/accept_local=1",
        "somebody has changed net.ipv4.ip_forward, which natlb needs to be 1: servers are reached through this "
        "machine. To put it right: sysctl -w net/ipv4/ip_forward=1",
        "net.ipv4.conf.eth1.7.accept_local is no longer in natlb's way",
    ]
    assert diversion.repairs == []


@pytest.mark.parametrize("more_is_needed", [True, False])
def test_an_interface_that_comes_gets_what_it_needs(diversion: Diversion, more_is_needed: bool) -> None:
    diversion.turns(5)
    diversion.interfaces_changed, diversion.more_is_needed = True, more_is_needed
    diversion.turns(3)
    assert len(diversion.repairs) == more_is_needed


def test_an_interface_that_comes_while_nobody_looks_is_not_forgotten(diversion: Diversion) -> None:
    for _ in range(20):
        diversion.flush()
        diversion.turns(0.5)
    diversion.interfaces_changed = diversion.more_is_needed = True
    repairs = len(diversion.repairs)
    diversion.turns(31)
    assert len(diversion.repairs) == repairs + 1


def test_nothing_is_looked_at_while_another_natlb_makes_its_rules(diversion: Diversion) -> None:
    async def story() -> None:
        async with diversion.guard.undisturbed():
            diversion.flush()
            diversion.now += 10
            turn = asyncio.get_running_loop().create_task(diversion.guard.turn())
            for _ in range(20):
                await asyncio.sleep(0)
            assert diversion.looks == []
        await turn

    asyncio.run(story())
    assert len(diversion.repairs) == 1


def test_watching_goes_on_by_itself(diversion: Diversion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "_TURN", 0)
    diversion.flush()

    async def until_it_was_repaired() -> None:
        watching = asyncio.get_running_loop().create_task(diversion.guard.watch())
        while not diversion.repairs:
            diversion.now += 0.5
            await asyncio.sleep(0)
        watching.cancel()

    asyncio.run(until_it_was_repaired())


# -- what the kernel says


class Kernel:
    """A netlink socket that gives one answer."""

    answer: bytes | OSError = b""

    def send(self, question: bytes) -> None:
        assert struct.unpack("=IHHIIBBH", question) == (20, 0xA10, 1, 0, 0, 0, 0, 0)

    def recv(self, _: int) -> bytes:
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer

    def close(self) -> None: ...


_NEWGEN = bytes.fromhex(
    "300000000f0a0000010000000f0c00000000000208000100010203040800020000000c0f0b000300707974686f6e0000"
)


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        (_NEWGEN, 0x01020304),
        (_NEWGEN[:27], None),
        (_NEWGEN[:4] + b"\x02" + _NEWGEN[5:], None),
        (_NEWGEN[:22] + b"\x02" + _NEWGEN[23:], None),
        (BlockingIOError(), None),
        (PermissionError(), None),
    ],
    ids=["a count", "too short", "another kind", "another attribute", "nothing", "forbidden"],
)
def test_the_count_is_read_where_there_is_one(answer: bytes | OSError, count: int | None) -> None:
    generation = Generation()
    generation.close()
    kernel = Kernel()
    kernel.answer = answer
    generation._socket = kernel  # type: ignore[assignment]
    assert generation.read() == count


def test_a_kernel_without_netfilter_has_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> socket.socket:
        raise OSError

    monkeypatch.setattr(guard_module.socket, "socket", none)
    generation = Generation()
    assert generation.read() is None
    generation.close()


@pytest.fixture
def interfaces() -> Iterator[tuple[Interfaces, socket.socket]]:
    """What listens to the kernel, with the end of a pair in the place of that."""
    made = Interfaces()
    made.close()
    made._socket, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    made._socket.setblocking(False)
    with kernel:
        yield made, kernel
    made.close()


def test_whatever_is_said_of_links_is_a_change_once(interfaces: tuple[Interfaces, socket.socket]) -> None:
    listening, kernel = interfaces
    assert not listening.have_changed()
    for _ in range(3):
        kernel.send(b"a link")
    assert [listening.have_changed() for _ in range(2)] == [True, False]


def test_more_than_the_socket_can_take_is_a_change_too_and_has_an_end(
    interfaces: tuple[Interfaces, socket.socket],
) -> None:
    class Overflowing:
        def recv(self, _: int) -> bytes:
            raise OSError(105, os.strerror(105))

    real = interfaces[0]._socket
    interfaces[0]._socket = Overflowing()  # type: ignore[assignment]
    assert interfaces[0].have_changed()
    interfaces[0]._socket = real
