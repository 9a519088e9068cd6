"""What an old natlb and a new one say to each other, and that neither is left with nothing."""

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from natlb import transfer
from natlb.errors import ProcessError
from natlb.transfer import Estate, Heir, Offer, Predecessor, find


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path / "4026531840-2391.sock"


@pytest.fixture
def offer(path: Path) -> Iterator[Offer]:
    made = Offer(path)
    made.begin()
    yield made
    made.close()


@pytest.fixture
def both(offer: Offer, path: Path) -> Iterator[tuple[Heir, Predecessor]]:
    """The two ends of a conversation, both in this process."""
    predecessor = find(path, [os.getpid()])
    heir = offer.accept()
    assert predecessor is not None
    assert heir is not None
    with heir.socket:
        yield heir, predecessor
    predecessor.close()


def heard(heir: Heir) -> str:
    return asyncio.run(heir.hear())


def beside(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def descriptors(number: int) -> Estate:
    """Make some, every other of something that is no socket: maps of the kernel are none."""
    return {f"port {each}": socket.socket().detach() if each % 2 else os.eventfd(0) for each in range(number)}


def test_the_place_is_of_a_network_namespace_and_a_queue() -> None:
    inode = Path("/proc/self/ns/net").stat().st_ino
    assert transfer.place("/run/natlb", 12) == Path(f"/run/natlb/{inode}-12.sock")


def test_only_its_owner_may_connect(offer: Offer, path: Path) -> None:
    assert path.is_socket()
    assert path.stat().st_mode & 0o777 == 0o600
    offer.close()
    assert not path.exists()


def test_a_successor_keeps_the_socket_and_is_known_by_its_own_number(offer: Offer, path: Path) -> None:
    inherited = Offer(path, offer.socket.dup())
    offer.close(keep=True)
    inherited.begin()
    predecessor = find(path, [os.getpid()])
    assert predecessor is not None
    predecessor.close()
    inherited.close()
    assert not path.exists()


def test_strangers_are_not_listened_to(offer: Offer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connected = find(path, [os.getpid()])
    assert connected is not None
    monkeypatch.setattr(transfer, "_peer", lambda _: (4711, 65534))
    monkeypatch.setattr(offer, "_user", 0)
    assert offer.accept() is None
    with connected, pytest.raises(ProcessError, match=f"natlb {os.getpid()} does not hand over"):
        connected.estate()


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    with pytest.raises(ProcessError, match=f"others may write to the directory {tmp_path}: make it root's alone"):
        Offer(tmp_path / "x.sock")
    assert list(tmp_path.iterdir()) == []


def test_where_others_may_write_nobody_is_found(offer: Offer, path: Path) -> None:
    path.parent.chmod(0o777)
    assert find(path, [os.getpid()]) is None


def test_a_directory_is_made_for_root_alone(tmp_path: Path) -> None:
    offer = Offer(tmp_path / "state" / "x.sock")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    offer.close()


def test_a_directory_may_have_a_longer_path_than_a_socket_can(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 100) / ("y" * 100) / "4026531840-2391.sock"
    offer = Offer(path)
    offer.begin()
    predecessor = find(path, [os.getpid()])
    assert predecessor is not None
    predecessor.close()
    offer.close()
    assert list(path.parent.iterdir()) == []


def test_a_place_that_cannot_be_had_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(
        ProcessError, match=r"cannot open .*: AF_UNIX path too long; name another directory with --state"
    ):
        Offer(tmp_path / f"{'x' * 120}.sock")


def test_where_nobody_listens_nobody_is_found(path: Path) -> None:
    assert find(path, [os.getpid()]) is None
    Offer(path).close(keep=True)  # and is killed
    assert path.exists()
    assert find(path, [os.getpid()]) is None
    Offer(path).close()


def test_one_that_was_not_meant_is_left_alone(offer: Offer, path: Path) -> None:
    assert find(path, [1 << 22]) is None


def test_one_is_known_by_the_process_that_keeps_it(offer: Offer, path: Path) -> None:
    found = find(path, [os.getppid()])
    assert found is not None
    assert found.is_known_as(os.getpid())
    assert found.is_known_as(os.getppid())
    assert not found.is_known_as(1 << 22)
    found.close()


def test_a_process_that_is_not_there_has_no_parent() -> None:
    assert transfer.parent_of(1 << 30) == 0


@pytest.mark.parametrize("number", [0, 1, 128, 300])
def test_copies_of_all_descriptors_arrive_under_their_names(both: tuple[Heir, Predecessor], number: int) -> None:
    heir, predecessor = both
    given = descriptors(number)
    giving = beside(lambda: heard(heir) == "estate" and heir.give(given))
    got = predecessor.estate()
    giving.join()
    assert list(got) == list(given)
    with ExitStack() as held:
        for name, each in got.items():
            held.callback(os.close, each)
            held.callback(os.close, given[name])
            assert os.path.sameopenfile(each, given[name])
            assert not os.get_inheritable(each)


def test_it_goes_on_from_there(both: tuple[Heir, Predecessor]) -> None:
    heir, predecessor = both
    said: list[str] = []

    def old() -> None:
        said.extend([heard(heir), heir.yield_to("4711")])
        heir.bid_farewell(ends=True)

    standing = beside(old)
    assert predecessor.ask_to_yield() == "4711"
    assert predecessor.thank()
    standing.join()
    assert said == ["yield", ""]
    assert predecessor.stood_still is not None


def test_it_is_told_when_everything_is_on_record(both: tuple[Heir, Predecessor]) -> None:
    heir, predecessor = both
    said: list[str] = []

    def old() -> None:
        said.append(heard(heir))
        heir.confirm()

    recording = beside(old)
    predecessor.ask_to_record()
    recording.join()
    assert said == ["record"]
    heir.close()
    with pytest.raises(ProcessError, match=f"natlb {os.getpid()} does not hand over"):
        predecessor.ask_to_record()


def test_a_process_that_stays_is_not_waited_for(both: tuple[Heir, Predecessor]) -> None:
    heir, predecessor = both
    heir.bid_farewell(ends=False)
    assert not predecessor.thank()


def test_the_old_one_hears_why_it_has_to_go_on(both: tuple[Heir, Predecessor]) -> None:
    heir, predecessor = both
    with pytest.raises(ProcessError, match="iptables-restore failed"), predecessor:
        raise ProcessError("iptables-restore failed")
    assert heir.yield_to("") == "iptables-restore failed"


def test_the_old_one_goes_on_when_the_new_one_dies(both: tuple[Heir, Predecessor]) -> None:
    heir, predecessor = both
    predecessor._socket.close()
    assert heir.yield_to("") == "it has ended"
    heir.bid_farewell(ends=True)


def test_the_old_one_goes_on_when_the_new_one_takes_too_long(
    both: tuple[Heir, Predecessor], monkeypatch: pytest.MonkeyPatch
) -> None:
    heir, predecessor = both
    monkeypatch.setattr(transfer, "PATIENCE", 0.01)
    assert heir.yield_to("4711") == "it was not ready within 0.01 seconds"
    heir.close()
    assert predecessor._hear() == "yours 4711"
    with pytest.raises(ProcessError, match="has waited too long for this one, and goes on by itself; try again"):
        predecessor.thank()


def test_the_new_one_goes_on_when_the_old_one_has_died_with_everything_in_place(offer: Offer, path: Path) -> None:
    expected, expects = os.pipe()
    child = os.fork()
    if not child:
        offer.begin()
        os.write(expects, b".")
        heir = offer.accept()
        while heir is None:
            heir = offer.accept()
        heir.socket.setblocking(True)
        heir.socket.recv(100)
        os._exit(0)
    os.close(expects)
    assert os.read(expected, 1) == b"."  # whoever had come before would be taken for the successor, and gone
    os.close(expected)
    found = find(path, [child])
    assert found is not None
    assert found.thank()
    assert os.waitpid(child, 0) == (child, 0)
    assert found.wait(0.0)
    found.close()


def test_the_new_one_ends_when_the_old_one_says_no(both: tuple[Heir, Predecessor]) -> None:
    heir, predecessor = both
    heir.close()
    with pytest.raises(ProcessError, match=f"natlb {os.getpid()} does not hand over"):
        predecessor.ask_to_yield()


def test_the_new_one_ends_when_the_old_one_says_nothing(
    both: tuple[Heir, Predecessor], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, predecessor = both
    predecessor._socket.settimeout(0.01)
    with pytest.raises(ProcessError, match="does not hand over"):
        predecessor.estate()


def test_one_that_does_not_speak_is_not_waited_for(
    both: tuple[Heir, Predecessor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_UNDECIDED", 0.01)
    with pytest.raises(OSError, match="it has said nothing for"):
        heard(both[0])


def test_who_connects_is_told_by_the_kernel() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert transfer._peer(ours) == (os.getpid(), os.geteuid())
    assert transfer._CREDENTIALS.size == struct.calcsize("iII")
