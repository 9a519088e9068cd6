"""The life of a state file: made, followed, killed, read by the next one; kept, or ended."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from natlb.core.events import EndReason
from natlb.core.flow import Connection
from natlb.core.pool import Pool, Server
from natlb.core.record import UNKNOWN
from natlb.core.service import Service
from natlb.core.states import State
from natlb.core.stick import StickTable
from natlb.errors import HandoverError
from natlb.handover import layout, recorder, statefile
from natlb.handover.layout import CHUNK, PAGE, RECORD, read
from natlb.handover.place import here
from natlb.handover.statefile import Restored, StateFile
from tests.descriptors import nothing_left_open
from tests.unit.core import invariants
from tests.unit.core.conversation import ACK, DATA, DATAGRAM, FIN, RST_ACK, SYN, SYN_ACK, Conversation, to

QUEUE = 2391
NOBODY = 65534


class Natlb:
    """An engine with a state file."""

    def __init__(self, directory: Path, now: float = 1000.0, **settings: object) -> None:
        self.talk = Conversation(4, **settings)  # type: ignore[arg-type]
        self.talk.now = now
        self.told: list[str] = []
        self.table = StickTable("clients", "ip", 100, expire=60, stored={"conn_cnt": None, "conn_cur": None})
        self.file = StateFile.open(directory, QUEUE)
        self.restored = Restored()

    def begin(self, services: list[Service] | None = None, pools: dict[str, Pool] | None = None) -> Restored:
        talk = self.talk
        self.restored = self.file.restore(
            talk.engine,
            [talk.service, talk.udp] if services is None else services,
            {"servers": talk.pool} if pools is None else pools,
            [self.table],
            talk.now,
            self.told.append,
        )
        return self.restored

    def prepare(self) -> set[int]:
        """Go on with what another one has on record, which goes on as well; return the ports of the clients."""
        talk = self.talk
        services, pools = [talk.service, talk.udp], {"servers": talk.pool}
        early = self.file.prepare(talk.engine, services, pools, talk.now, self.told.append)
        invariants.check(talk.engine)
        return {port_of(connection) for connection in early}

    def open(self, port: int = 40000) -> None:
        """Open a connection to server1 or server2, in turn, as a batch of packets each."""
        client = self.talk.client.at(port)
        client >> SYN
        self.file.settle()
        [entry] = [each for each in self.talk.engine.connections() if each.original[8:10] == port.to_bytes(2, "big")]
        server = self.talk.server1 if entry.server is self.talk.configured(self.talk.server1) else self.talk.server2
        server >> SYN_ACK
        self.file.settle()
        client >> ACK
        self.file.settle()

    @property
    def recorder(self) -> recorder.Recorder:
        made = self.file.recorder
        assert made is not None
        return made


def port_of(connection: Connection) -> int:
    return int.from_bytes(connection.original[8:10], "big")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def natlb(directory: Path) -> Iterator[Natlb]:
    made = Natlb(directory)
    made.begin()
    yield made
    made.file.close(keep=False)


def on_file(natlb: Natlb) -> dict[str, layout.Record]:
    """Return what the file holds of connections, by the port of the client."""
    contents = read(natlb.file.path.read_bytes(), here(QUEUE))
    assert contents.refused == 0
    return {int.from_bytes(record.original[8:10], "big"): record for _, record in contents.records}  # type: ignore[misc]


def killed(natlb: Natlb) -> Conversation:
    """Kill a natlb: its file stays as it is, and it is not heard of any more."""
    natlb.recorder.close()
    natlb.file._recorder = None
    natlb.file.close(keep=True)
    return natlb.talk


def test_it_is_for_root_alone(natlb: Natlb, directory: Path) -> None:
    assert directory.stat().st_mode & 0o777 == 0o700
    assert natlb.file.path.stat().st_mode & 0o777 == 0o600
    assert natlb.file.path.name == f"{Path('/proc/self/ns/net').stat().st_ino}-{QUEUE}.state"


def test_connections_are_recorded_when_both_ends_have_spoken_and_until_they_leave(natlb: Natlb) -> None:
    talk = natlb.talk
    talk.client >> SYN
    talk.client.at(7) >> DATAGRAM
    natlb.file.settle()
    assert on_file(natlb) == {}, "who has had no answer asks again"
    talk.server1 >> SYN_ACK
    talk.server2 >> DATAGRAM
    natlb.file.settle()
    assert {port: record.state for port, record in on_file(natlb).items()} == {
        40000: State.SYN_RECEIVED,
        7: State.BOTH_WAYS,
    }
    talk.client >> ACK
    natlb.file.settle()
    assert on_file(natlb)[40000].state is State.ESTABLISHED
    talk.client >> DATA
    talk.client >> FIN
    natlb.file.settle()
    assert on_file(natlb)[40000].state is State.ESTABLISHED, "that can wait"
    list(natlb.file.refresh())
    assert on_file(natlb)[40000].state is State.CLIENT_FIN
    assert on_file(natlb)[40000].octets == (len(DATA.payload), 0)
    talk.wait(10_000)
    talk.wait(10_000)
    natlb.file.settle()
    assert on_file(natlb) == {}


def test_a_client_that_begins_anew_is_recorded_no_more(natlb: Natlb) -> None:
    talk = natlb.talk
    talk.client >> SYN
    talk.server1 >> SYN_ACK
    natlb.file.settle()
    talk.client >> SYN(seq=900_000_000)
    natlb.file.settle()
    list(natlb.file.refresh())
    assert on_file(natlb)[40000].state is State.INIT
    talk.wait(300)
    natlb.file.settle()
    talk.client >> SYN
    natlb.file.settle()
    assert on_file(natlb) == {}


def test_a_row_that_another_connection_has_now_is_its(natlb: Natlb) -> None:
    natlb.open()
    talk = natlb.talk
    row = talk.entry().index
    for _ in range(CHUNK + 1):  # rows are lent again, the one free for longest first
        talk.engine.ledger._free.rotate(1)
    talk.engine.shutdown(talk.entry(), talk.now)
    talk.wait(10_000)
    while talk.engine.ledger._free[0] != row:
        talk.engine.ledger._free.rotate(1)
    talk.client.at(5) >> SYN
    assert talk.entry(talk.client.at(5)).index == row
    natlb.file.settle()
    assert on_file(natlb) == {}
    talk.server2 >> SYN_ACK
    natlb.file.settle()
    assert on_file(natlb).keys() == {5}


def test_counts_are_refreshed_a_piece_at_a_time(natlb: Natlb) -> None:
    for port in range(1000, 1000 + 3):
        natlb.open(port)
    list(natlb.file.refresh())
    assert list(natlb.file.refresh()) == [], "nothing has changed"
    natlb.talk.client.at(1001) >> DATA
    natlb.talk.client.at(1002) >> FIN
    natlb.file.settle()
    assert list(natlb.file.refresh()) == [0.0, recorder.PAUSE]
    assert on_file(natlb)[1001].packets == (3, 1)
    assert on_file(natlb)[1002].state is State.CLIENT_FIN


def test_after_a_kill_the_next_one_goes_on(natlb: Natlb, directory: Path) -> None:
    for port in range(2000, 2004):
        natlb.open(port)
    before = killed(natlb)
    again = Natlb(directory, now=2000.0)
    restored = again.begin()
    assert (restored.connections, restored.no_place, restored.refused, restored.complaint) == (4, 0, 0, "")
    assert not restored.was_complete
    assert {each.aside for each in again.talk.engine.connections()} == {UNKNOWN}
    assert on_file(again).keys() == {2000, 2001, 2002, 2003}, "they are on record again at once"
    again.talk.sent, again.talk.heard = before.sent, before.heard
    again.talk.client.at(2000) >> DATA << to(again.talk.server1)
    again.file.close(keep=False)
    assert list(directory.iterdir()) == [], "who has not made the directory leaves it"


def test_what_is_kept_is_complete(natlb: Natlb, directory: Path) -> None:
    natlb.open(3000)
    natlb.talk.client.at(3001) >> SYN
    natlb.talk.client.at(3000) >> DATA
    natlb.talk.client.at(3000) >> FIN
    natlb.open(3002)
    natlb.talk.engine.shutdown(natlb.talk.entry(natlb.talk.client.at(3002)), natlb.talk.now)
    natlb.file.close(keep=True, now=natlb.talk.now)
    again = Natlb(directory)
    restored = again.begin()
    assert restored.was_complete
    states = {int.from_bytes(each.original[8:10], "big"): each.state for each in again.talk.engine.connections()}
    assert states == {3000: State.CLIENT_FIN, 3001: State.INIT, 3002: State.SHUT}
    assert not any(each.aside for each in again.talk.engine.connections())
    again.file.close(keep=False)


# Successors that prepare themselves


RANGES = [(5000, 5999)]


def happens(natlb: Natlb) -> None:
    """Let all happen to connections 1 to 6 that can after they were read."""
    talk = natlb.talk
    talk.now += 2
    talk.client.at(2) >> DATA
    talk.client.at(3) >> FIN
    talk.client.at(4) >> RST_ACK
    talk.engine.lifecycle.end(talk.entry(talk.client.at(5)), EndReason.TIMED_OUT, talk.now)
    natlb.open(7)
    talk.client.at(8) >> SYN
    natlb.file.settle()


def known(natlb: Natlb) -> list[tuple[object, ...]]:
    """Return all that an engine knows of its connections, each without its row."""
    engine, ledger = natlb.talk.engine, natlb.talk.engine.ledger
    names = ("packets", "octets", "following", "acked", "edge", "offered", "shift")
    return [
        (
            *(each.original, each.reply, each.state, each.service.name, each.server.name, each.aside),
            *(each.queue.timeout, each.queue.seen(each), ledger.opened[each.index], ledger.answered[each.index]),
            *(tuple(getattr(ledger, name)[2 * each.index : 2 * each.index + 2]) for name in names),
        )
        for each in engine.connections()
    ]


@pytest.mark.parametrize("ranges", [None, RANGES], ids=["nat", "full nat"])
@pytest.mark.parametrize("in_order", [True, False], ids=["in order", "after a crash"])
def test_one_that_has_prepared_itself_comes_to_the_same(
    directory: Path, tmp_path: Path, ranges: list[tuple[int, int]] | None, in_order: bool
) -> None:
    first = Natlb(directory, ranges=ranges)
    first.begin()
    for port in range(1, 7):
        first.open(port)
    second = Natlb(directory, ranges=ranges)
    assert second.prepare() == {1, 2, 3, 4, 5, 6}
    assert on_file(first).keys() == {1, 2, 3, 4, 5, 6}, "it is the first one's, who goes on with it"
    happens(first)
    now = first.talk.now
    if in_order:
        first.file.close(keep=True, now=now)
    else:
        killed(first)
    third = Natlb(tmp_path / "elsewhere", ranges=ranges)
    third.file.path.write_bytes(first.file.path.read_bytes())
    for each in (second, third):
        each.talk.now = now
        restored = each.begin()
        assert restored.was_complete is in_order
        assert restored.connections == len(restored.late) + (2 if in_order and each is second else 0)
        invariants.check(each.talk.engine)
    assert sorted(known(second)) == sorted(known(third))
    assert known(second) == known(third), "also the order of the queues"
    assert second.talk.engine.live == third.talk.engine.live
    assert second.talk.engine.ports_lent == third.talk.engine.ports_lent
    assert on_file(second).keys() >= {1, 2, 3, 6, 7}
    assert {port: each.packets for port, each in on_file(second).items()} == {
        port_of(each): tuple(second.talk.engine.ledger.packets[2 * each.index : 2 * each.index + 2])
        for each in second.talk.engine.connections()
        if port_of(each) != 8
    }
    for each in (second, third):
        each.file.close(keep=False)


def test_one_that_ends_before_it_is_its_turn_leaves_the_file_alone(natlb: Natlb, directory: Path) -> None:
    natlb.open(1)
    content = natlb.file.path.read_bytes()
    other = Natlb(directory)
    assert other.prepare() == {1}
    other.file.close(keep=False)
    assert list(directory.iterdir()) == [natlb.file.path]
    assert natlb.file.path.read_bytes() == content


@pytest.mark.parametrize("what", ["nothing", "torn", "damaged", "of others", "too late"])
def test_what_has_become_of_the_file_since_is_what_counts(
    natlb: Natlb, directory: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    for port in (1, 2, 3):
        natlb.open(port)
    other = Natlb(directory)
    path, records = natlb.file.path, natlb.recorder._header.records_at
    if what == "torn":  # when it was read
        whole = path.read_bytes()
        path.write_bytes(whole[: records + RECORD + 50] + b"?" + whole[records + RECORD + 51 :])
        assert other.prepare() == {1, 3}
        path.write_bytes(whole)
    else:
        assert other.prepare() == {1, 2, 3}
    natlb.file.close(keep=True, now=natlb.talk.now)
    if what == "nothing":
        path.unlink()
    elif what == "damaged":
        path.write_bytes(path.read_bytes()[:-1])
    elif what == "of others":
        monkeypatch.setattr(other.file, "_place", here(QUEUE + 1))
    elif what == "too late":
        whole = path.read_bytes()
        path.write_bytes(whole[: records + RECORD + 50] + b"?" + whole[records + RECORD + 51 :])
    restored = other.begin()
    ports = {"torn": {1, 2, 3}, "too late": {1, 3}}.get(what, set())
    assert {port_of(each) for each in other.talk.engine.connections()} == ports
    assert restored.connections == other.talk.engine.live == len(ports)
    assert restored.refused == (what == "too late")
    assert bool(restored.complaint) is (what in ("damaged", "of others"))
    invariants.check(other.talk.engine)
    other.file.close(keep=False)
    for left in directory.iterdir():
        left.unlink()


def test_where_names_stand_elsewhere_than_before_all_is_made_anew(natlb: Natlb, directory: Path) -> None:
    natlb.open(1)
    other = Natlb(directory)
    assert other.prepare() == {1}
    natlb.file.close(keep=True, now=natlb.talk.now)
    content, name = natlb.file.path.read_bytes(), natlb.talk.service.name
    assert layout.pack_name(name) in content
    natlb.file.path.write_bytes(content.replace(layout.pack_name(name), layout.pack_name(name.upper())))
    restored = other.begin()
    assert [each.service.name for each in restored.retired] == [name.upper()]
    assert len(other.talk.engine) == 1
    invariants.check_live_counts(other.talk.engine, list(other.talk.engine.connections()))
    other.file.close(keep=False)


def test_who_found_no_place_at_first_finds_the_one_of_another_that_has_ended(directory: Path) -> None:
    first = Natlb(directory)
    first.begin()
    for port in (1, 2):
        first.open(port)
        first.talk.now += 2
    second = Natlb(directory, capacity=1)
    assert second.prepare() == {1}
    first.talk.engine.lifecycle.end(first.talk.entry(first.talk.client.at(1)), EndReason.TIMED_OUT, first.talk.now)
    first.file.close(keep=True, now=first.talk.now)
    restored = second.begin()
    assert (restored.connections, restored.no_place) == (1, 0)
    assert [port_of(each) for each in second.talk.engine.connections()] == [2]
    second.file.close(keep=False)


def test_what_had_ended_when_it_was_read_is_read_from_the_start(natlb: Natlb, directory: Path) -> None:
    natlb.open(1)
    whole = natlb.file.path.read_bytes()
    other = Natlb(directory)
    natlb.recorder.end()
    assert other.prepare() == set()
    natlb.file.path.write_bytes(whole)
    natlb.file.close(keep=True, now=natlb.talk.now)
    assert other.begin().connections == 1
    other.file.close(keep=False)


def test_where_there_is_nothing_on_record_nothing_is_prepared(directory: Path) -> None:
    natlb = Natlb(directory)
    assert natlb.prepare() == set()
    natlb.file.close(keep=False)


def test_want_of_room_while_it_prepares_itself_is_said_later(
    natlb: Natlb, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    natlb.open(1)
    other = Natlb(directory)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        assert other.prepare() == {1}
    natlb.file.close(keep=True, now=natlb.talk.now)
    assert other.begin().failure == ""
    assert on_file(other).keys() == {1}
    other.file.close(keep=False)


def test_stick_tables_and_what_they_count_go_on_in_order(natlb: Natlb, directory: Path) -> None:
    natlb.open()
    talk, now = natlb.talk, natlb.talk.now
    entry = natlb.table.set(bytes(4), now, "server1", conn_cnt=5)
    assert entry is not None
    talk.engine.lifecycle.count_again(talk.entry(), (None, entry, None), now)
    natlb.file.close(keep=True, now=now)
    again = Natlb(directory, now + 10)
    assert again.begin().entries == 1
    found = again.table.get(bytes(4), now + 10)
    assert found is not None
    assert (found.server, found.read("conn_cnt", now), found.read("conn_cur", now), found.use) == ("server1", 5, 1, 1)
    again.talk.engine.shutdown(again.talk.entry(), now + 20)
    assert found.use == 0
    again.file.close(keep=False)


def test_there_is_nothing_to_go_on_with_after_an_orderly_stop(natlb: Natlb, directory: Path) -> None:
    natlb.open()
    natlb.file.close(keep=False)
    assert not directory.exists()
    again = Natlb(directory)
    assert again.begin() == Restored()
    again.file.close(keep=False)


def test_a_natlb_that_has_given_up_root_ends_what_it_cannot_remove(
    natlb: Natlb, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    natlb.open()

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refused)
        natlb.file.close(keep=False)
    assert natlb.file.path.exists()
    again = Natlb(directory)
    assert again.begin().connections == 0
    again.file.close(keep=False)


@pytest.mark.parametrize("damage", ["header", "cut off"])
def test_a_damaged_file_is_moved_aside_and_nothing_of_it_used(natlb: Natlb, directory: Path, damage: str) -> None:
    natlb.open()
    path = natlb.file.path
    killed(natlb)
    content = bytearray(path.read_bytes())
    if damage == "header":
        content[20] ^= 1
    path.write_bytes(content if damage == "header" else content[:-1])
    again = Natlb(directory)
    restored = again.begin()
    assert restored.connections == 0
    assert restored.complaint
    assert restored.aside == path.with_suffix(".damaged")
    assert restored.aside.read_bytes()[:8] == layout.MAGIC
    again.file.close(keep=False)


def test_a_torn_record_is_lost_alone(natlb: Natlb, directory: Path) -> None:
    for port in (1, 2, 3):
        natlb.open(port)
    path, at = natlb.file.path, 2 * PAGE
    row = natlb.talk.entry(natlb.talk.client.at(2)).index
    at = natlb.recorder._header.records_at + row * RECORD + 50
    killed(natlb)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xaa\x55")
    again = Natlb(directory)
    restored = again.begin()
    assert (restored.connections, restored.refused, restored.complaint) == (2, 1, "")
    assert restored.aside is not None
    again.file.close(keep=False)


def test_a_file_from_before_the_machine_was_started_is_replaced(
    natlb: Natlb, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    natlb.open()
    killed(natlb)
    place = here(QUEUE)._replace(boot=bytes(16))
    with monkeypatch.context() as patched:
        patched.setattr(statefile, "here", lambda _: place)
        again = Natlb(directory)
    restored = again.begin()
    assert (restored.connections, restored.aside) == (0, None)
    assert "before the machine was started" in restored.complaint
    again.file.close(keep=False)


def test_what_cannot_be_read_is_said(directory: Path) -> None:
    natlb = Natlb(directory)
    natlb.file.path.mkdir()
    restored = natlb.begin()
    assert restored.complaint == "", "that is said once"
    assert f"cannot write {natlb.file.path}: Is a directory; remove that, or name another" in restored.failure
    assert natlb.file.recorder is None
    natlb.file.settle()
    assert list(natlb.file.refresh()) == []
    natlb.file.close(keep=True)


# Others


def others(path: Path, what: str) -> str:
    """Have something of others' in the place of a state file; return what natlb has to say of it."""
    whole = path.read_bytes()
    if what == "an owner":
        os.chown(path, NOBODY, NOBODY)
        return f"it belongs to user {NOBODY}, and only what root alone can have written is believed"
    if what == "a mode":
        path.chmod(0o622)
        return "it may be written to by others (mode 0622), and only what root alone can have written is believed"
    path.unlink()
    if what == "a symbolic link":
        path.with_name("elsewhere").write_bytes(whole)
        path.symlink_to("elsewhere")
    elif what == "a named pipe":
        os.mkfifo(path)
    elif what == "a device":
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero, which has no end
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    return f"it is {what}, which natlb makes none of"


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others, and make devices")


@as_root
@pytest.mark.parametrize("what", ["an owner", "a mode"])
def test_a_file_that_others_may_have_written_is_kept_for_whoever_wants_to_look(
    natlb: Natlb, directory: Path, what: str
) -> None:
    natlb.open()
    killed(natlb)
    told, before = others(natlb.file.path, what), natlb.file.path.stat()
    again = Natlb(directory)
    assert again.prepare() == set()
    restored = again.begin()
    assert (restored.connections, restored.complaint, restored.failure) == (0, told, "")
    assert restored.aside == natlb.file.path.with_suffix(".damaged")
    assert restored.aside.stat().st_ino == before.st_ino
    assert (again.file.path.stat().st_uid, again.file.path.stat().st_mode & 0o777) == (0, 0o600)
    again.open(7)
    assert on_file(again).keys() == {7}, "a new one has taken its place"
    again.file.close(keep=False)


@as_root
@pytest.mark.parametrize("what", ["a symbolic link", "a named pipe", "a device", "a socket"])
def test_what_is_no_file_is_not_opened_and_a_new_one_takes_its_place(
    natlb: Natlb, directory: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    natlb.open()
    killed(natlb)
    path = natlb.file.path
    monkeypatch.chdir(directory)  # the name of a socket may not be long
    told = others(Path(path.name), what)
    again = Natlb(directory)
    assert again.prepare() == set()
    restored = again.begin()
    assert (restored.connections, restored.complaint, restored.failure) == (0, told, "")
    assert restored.aside is None
    assert stat.S_ISREG(path.lstat().st_mode)
    again.file.close(keep=False)
    assert [each.name for each in directory.iterdir()] == (["elsewhere"] if what == "a symbolic link" else [])


@as_root
@pytest.mark.parametrize("what", ["an owner", "a symbolic link", "a named pipe"])
def test_one_that_is_put_there_between_the_look_and_the_opening_is_not_believed_either(
    natlb: Natlb, directory: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    natlb.open()
    killed(natlb)
    again = Natlb(directory)
    looked = natlb.file.path.stat()
    others(natlb.file.path, what)
    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", lambda *_, **__: looked)
        restored = again.begin()
    assert restored.connections == 0
    assert restored.complaint
    assert stat.S_ISREG(natlb.file.path.lstat().st_mode)
    again.file.close(keep=False)


@as_root
def test_one_that_became_others_after_it_was_read_early_counts_no_more(natlb: Natlb, directory: Path) -> None:
    natlb.open()
    other = Natlb(directory)
    assert other.prepare() == {40000}
    natlb.file.close(keep=True, now=natlb.talk.now)
    os.chown(natlb.file.path, NOBODY, NOBODY)
    assert other.begin().connections == len(other.talk.engine) == 0
    invariants.check(other.talk.engine)
    other.file.close(keep=False)


def test_where_others_may_write_nothing_is_read_and_nothing_written(natlb: Natlb, directory: Path) -> None:
    natlb.open()
    killed(natlb)
    before = natlb.file.path.read_bytes()
    directory.chmod(0o777)
    told = f"others may write to the directory {directory}: make it root's alone .*, or name another with --state DIR"
    with pytest.raises(HandoverError, match=told):
        StateFile.open(directory, QUEUE)
    assert [each.read_bytes() for each in directory.iterdir()] == [before]
    directory.chmod(0o755)
    again = Natlb(directory)
    assert again.begin().connections == 1, "reading is not writing"
    again.file.close(keep=False)


@as_root
def test_a_directory_of_another_user_is_no_place_for_it(natlb: Natlb, directory: Path) -> None:
    os.chown(directory, NOBODY, NOBODY)
    with pytest.raises(HandoverError, match=f"the directory {directory} belongs to user {NOBODY}: make it root's"):
        StateFile.open(directory, QUEUE)


@pytest.mark.parametrize("what", ["a symbolic link", "a named pipe", "a file"])
def test_what_stands_where_the_new_file_is_made_is_not_written_to(directory: Path, what: str) -> None:
    natlb = Natlb(directory)
    new, elsewhere = natlb.file.path.with_suffix(".new"), directory / "elsewhere"
    elsewhere.write_text("as it was", "utf-8")
    if what == "a symbolic link":
        new.symlink_to(elsewhere)
    elif what == "a named pipe":
        os.mkfifo(new)
    else:
        os.link(elsewhere, new)
    assert natlb.begin().failure == ""
    assert elsewhere.read_text("utf-8") == "as it was"
    assert (natlb.file.path.stat().st_nlink, natlb.file.path.stat().st_mode & 0o777) == (1, 0o600)
    natlb.file.close(keep=False)


def test_a_directory_in_the_place_of_the_new_file_is_named(directory: Path) -> None:
    natlb = Natlb(directory)
    new = natlb.file.path.with_suffix(".new")
    new.mkdir()
    assert f"cannot write {new}: Is a directory; remove that, or name another" in natlb.begin().failure
    natlb.file.close(keep=True)


def test_it_is_not_said_to_be_kept_where_it_cannot_be(natlb: Natlb, directory: Path) -> None:
    killed(natlb)
    natlb.file.path.write_bytes(b"no state file")
    natlb.file.path.with_suffix(".damaged").mkdir()
    again = Natlb(directory)
    restored = again.begin()
    assert (bool(restored.complaint), restored.aside, restored.failure) == (True, None, "")
    again.file.close(keep=False)


def test_a_directory_that_cannot_be_had_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    for place in (tmp_path / "file", tmp_path / "file" / "state"):
        with pytest.raises(HandoverError, match="Not a directory; name another directory with --state DIR, or --state"):
            StateFile.open(place, QUEUE)


def test_nor_is_one_that_may_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(HandoverError, match="Permission denied; name another directory"):
        StateFile.open(tmp_path, QUEUE)


# No room


def test_a_file_system_that_is_full_costs_records_and_no_more(natlb: Natlb, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", refused)
        natlb.open(1)
        natlb.open(2)
    assert on_file(natlb) == {}
    assert natlb.recorder.unrecorded == 4
    assert len(natlb.told) == 1
    assert "no room to record connections" in natlb.told[0]
    list(natlb.file.refresh())
    natlb.open(3)
    assert on_file(natlb).keys() == {3}, "there is room again"
    list(natlb.file.refresh())
    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", refused)
        natlb.file.close(keep=True, now=natlb.talk.now)
    assert "stick tables cannot be handed over: No space left on device" in natlb.told[1]
    assert on_file(natlb).keys() == {1, 2, 3}


def test_no_room_from_the_start_is_said(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    natlb = Natlb(directory)

    def refused(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", refused)
        assert "No space left on device; make room there" in natlb.begin().failure
    assert list(directory.iterdir()) == []
    natlb.file.close(keep=False)


def test_names_for_which_there_is_no_room_cost_their_connections(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statefile, "_ROOM_FOR_NAMES", 0)
    natlb = Natlb(directory)
    natlb.begin()
    natlb.open(1)
    natlb.open(2)
    for number in range(400):
        natlb.recorder._name(f"another name {number}")
    natlb.recorder._owners.clear()
    natlb.talk.configured(natlb.talk.server1).name = "x" * 300
    natlb.open(3)
    natlb.open(4)
    assert on_file(natlb).keys() == {1, 2, 4}
    assert natlb.recorder.unrecorded == 2
    natlb.file.close(keep=False)


def test_names_are_looked_up_again_when_there_were_many(natlb: Natlb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_MOST_OWNERS", 1)
    natlb.open(1)
    natlb.open(2)
    assert {record.server for record in on_file(natlb).values()} == {"server1", "server2"}
    assert len(natlb.recorder._owners) == 1


def test_it_grows_with_the_table(directory: Path) -> None:
    natlb = Natlb(directory)
    natlb.begin()
    natlb.open(1)
    ledger = natlb.talk.engine.ledger
    for _ in range(2):
        ledger._grow()
    ledger._free.rotate(-2 * CHUNK)
    natlb.open(2)
    assert natlb.talk.entry(natlb.talk.client.at(2)).index > 2 * CHUNK
    contents = read(natlb.file.path.read_bytes(), here(QUEUE))
    assert (contents.header.chunks, len(contents.records), contents.refused) == (3, 2, 0)
    natlb.file.close(keep=False)


def test_it_takes_no_more_descriptors_however_many_connections_there_are(natlb: Natlb) -> None:
    natlb.open(1)
    ledger = natlb.talk.engine.ledger
    with nothing_left_open():
        for _ in range(3):
            ledger._grow()
        ledger._free.rotate(-3 * CHUNK)
        natlb.open(2)
        assert read(natlb.file.path.read_bytes(), here(QUEUE)).header.chunks == 4


def test_what_no_file_can_hold_is_not_recorded(natlb: Natlb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MOST_CHUNKS", 0)
    natlb.open(1)
    assert on_file(natlb) == {}
    assert len(natlb.told) == 1


def test_a_file_that_is_too_large_to_be_one_is_not_read(natlb: Natlb, directory: Path) -> None:
    path = natlb.file.path
    killed(natlb)
    os.truncate(path, (1 << 30) + 1)
    again = Natlb(directory)
    assert again.begin().complaint == "it is no state file of natlb's"
    again.file.close(keep=False)
    (path.with_suffix(".damaged")).unlink()


# Whose it is


def test_without_its_frontend_or_server_a_connection_goes_on_retired(natlb: Natlb, directory: Path) -> None:
    natlb.open(1)
    natlb.open(2)
    natlb.talk.client.at(3) >> DATAGRAM
    natlb.talk.server1 >> DATAGRAM
    natlb.file.settle()
    killed(natlb)
    again = Natlb(directory)
    moved = Server("server1", bytes(4), 4444)
    pool = Pool("servers", [moved, again.talk.pool.servers["server2"]], id=9)
    restored = again.begin([again.talk.service], {"servers": pool})
    assert restored.connections == 3
    of = {int.from_bytes(each.original[8:10], "big"): each for each in again.talk.engine.connections()}
    assert of[2].server is again.talk.pool.servers["server2"]
    assert of[1].server is not moved
    assert (of[1].server.name, of[1].server.pool.name, of[1].server.pool.id) == ("server1", "servers", 9)  # type: ignore[union-attr]
    assert of[1].service is again.talk.service
    assert of[3].service.name == "dns"
    assert of[3].server.address == of[1].server.address
    assert set(restored.retired) == {of[1], of[3]}
    assert (moved.live, pool.live) == (0, 1)
    assert of[3].service.timeouts.both_ways == natlb.talk.udp.timeouts.both_ways
    again.file.close(keep=True)
    third = Natlb(directory)
    third.begin([], {})
    assert {each.server.pool.name for each in third.talk.engine.connections() if each.server.pool} == {"servers"}
    assert len(third.restored.retired) == 3
    third.file.close(keep=False)


def test_the_timeouts_to_a_backend_are_those_to_its_retired_servers(natlb: Natlb, directory: Path) -> None:
    natlb.open(1)
    killed(natlb)
    again = Natlb(directory)
    talk = again.talk
    other = Pool("servers", [])
    talk.service.other_timeouts[other] = type(talk.service.timeouts)(idle=77.0)
    again.begin([talk.service], {"servers": other})
    [connection] = talk.engine.connections()
    assert connection.queue.timeout == 77.0
    again.file.close(keep=False)
