"""What stands in a state file: what was written is read again, and nothing else is believed."""

from dataclasses import replace
from random import Random
from struct import pack_into
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natlb.core.record import Record
from natlb.core.states import State
from natlb.handover import layout
from natlb.handover.layout import CHUNK_SIZE, PAGE, RECORD, Header, Place, Refused, Stranger, read
from tests.effort import examples
from tests.unit.core.conversation import ACK, DATA, DATAGRAM, SYN, SYN_ACK, Conversation

HERE = Place(bytes(range(16)), 4026531840, 77, 2391)
NAMES = b"".join(layout.pack_name(name) for name in ("web", "dns", "servers", "server1", "sërver2"))
WEB, DNS, SERVERS, SERVER1, SERVER2 = layout.read_names(NAMES)[0]
TABLES = b"[[], []]"


def conversation(family: int) -> Conversation:
    """An engine with connections in several states."""
    talk = Conversation(family, ranges=[(5000, 5009)] if family == 6 else None)
    for port in range(40000, 40003):
        client = talk.client.at(port)
        client >> SYN(options=b"\x02\x04\x05\xb4\x01\x03\x03\x07")
        server = talk.server2 if port == 40001 else talk.server1
        server >> SYN_ACK
        if port < 40002:
            client >> ACK
            client >> DATA
    talk.now += 5
    talk.client.at(1) >> DATAGRAM
    return talk


def recorded(talk: Conversation) -> dict[int, bytes]:
    """Return the records of all connections, by row."""
    return {
        each.index: layout.pack_record(
            each,
            talk.engine.ledger,
            WEB if each.service is talk.service else DNS,
            SERVERS,
            SERVER1 if each.server.name == "server1" else SERVER2,
        )
        for each in talk.engine.connections()
    }


def made(records: dict[int, bytes], *, tables: bytes = TABLES, **header: object) -> bytearray:
    """Return a complete file."""
    known = Header(
        HERE,
        PAGE,
        chunks=1,
        flags=layout.COMPLETE,
        completed=1000.0,
        tables=len(tables),
        tables_checksum=crc32(tables),
        version="1.2",
    )
    file = bytearray(layout.pack_header(replace(known, **header)))  # type: ignore[arg-type]
    file += NAMES.ljust(PAGE, b"\0") + bytes(CHUNK_SIZE) + tables
    for row, record in records.items():
        file[2 * PAGE + row * RECORD : 2 * PAGE + (row + 1) * RECORD] = record
    return file


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def talk(request: pytest.FixtureRequest) -> Conversation:
    return conversation(request.param)


def test_all_states_have_a_number() -> None:
    assert set(layout.STATES) == set(State)
    assert CHUNK_SIZE % PAGE == 0


def test_what_is_written_is_read(talk: Conversation) -> None:
    contents = read(bytes(made(recorded(talk))), HERE)
    assert contents.is_complete
    assert contents.refused == 0
    assert contents.tables == TABLES
    assert contents.header.version == "1.2"
    ledger, found = talk.engine.ledger, dict(contents.records)
    assert found.keys() == {each.index for each in talk.engine.connections()}
    for each in talk.engine.connections():
        at = slice(2 * each.index, 2 * each.index + 2)
        assert found[each.index] == Record(
            each.original,
            each.reply,
            each.state,
            each.service.name,
            "servers",
            "server1" if each.server.name == "server1" else "sërver2",
            each.has_own_port,
            0,
            each.queue.timeout,
            each.queue.seen(each),
            ledger.opened[each.index],
            ledger.answered[each.index],
            ledger.asked[each.index],
            ledger.retries[each.index],
            *(tuple(getattr(ledger, name)[at]) for name in ("packets", "octets", "following", "acked", "edge")),
            *(tuple(getattr(ledger, name)[at]) for name in ("offered", "shift")),
        )


def places_of_interest(file: bytes) -> list[int]:
    """Return every byte that says something, and some of those that say nothing."""
    random = Random(1)
    zeros = [at for at in range(len(file)) if not file[at]]
    return sorted({*(at for at in range(len(file)) if file[at]), *range(200), *random.sample(zeros, 600)})


def test_no_flipped_byte_is_believed() -> None:
    talk = conversation(4)
    file = made(recorded(talk))
    whole = dict(read(bytes(file), HERE).records)
    for at in places_of_interest(file):
        file[at] ^= 1 << at % 8
        try:
            contents = read(bytes(file), HERE)
        except Refused:
            assert at < PAGE or at >= PAGE * 2 + CHUNK_SIZE, "what is wrong with one record is not the others' matter"
        else:
            assert contents.refused >= 1, f"byte {at} was flipped"
            assert dict(contents.records).items() <= whole.items(), f"byte {at} was flipped"
        file[at] ^= 1 << at % 8


def test_nothing_that_is_cut_off_is_believed() -> None:
    file = bytes(made(recorded(conversation(4))))
    for size in (*range(0, len(file), 997), *range(PAGE - 3, PAGE + 3), len(file) - 1):
        with pytest.raises(Refused):
            read(file[:size], HERE)
    with pytest.raises(Refused, match=f"it should have {len(file)} bytes, and has {len(file) + 1}"):
        read(file + b"\0", HERE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"place": HERE._replace(boot=bytes(16))}, "before the machine was started"),
        ({"place": HERE._replace(namespace=1)}, "a network namespace that is gone"),
        ({"place": HERE._replace(cookie=1)}, "a network namespace that is gone"),
        ({"place": HERE._replace(queue=1)}, "it is of queue 1"),
    ],
)
def test_a_file_from_elsewhere_is_a_stranger(change: dict[str, Place], reason: str) -> None:
    with pytest.raises(Stranger, match=reason):
        read(bytes(made({}, **change)), HERE)


def with_checksum(file: bytearray) -> bytes:
    """Return a file with the right checksum of its header."""
    pack_into("<I", file, PAGE - 4, crc32(file[: PAGE - 4]))
    return bytes(file)


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (8, layout.FORMAT + 1, "it is of format 2, written by another version of natlb, and this one reads 1"),
        (12, RECORD + 4, "written by another version"),
        (16, 100, "makes no sense"),
        (16, 1 << 30, "makes no sense"),
        (20, 1 << 30, "makes no sense"),
        (0, 0, "it is no state file of natlb's"),
    ],
)
def test_a_header_of_another_kind_is_refused(at: int, value: int, reason: str) -> None:
    file = made({})
    pack_into("<I", file, at, value)
    with pytest.raises(Refused, match=reason):
        read(with_checksum(file), HERE)


def test_a_file_that_was_ended_holds_nothing(talk: Conversation) -> None:
    assert read(bytes(made(recorded(talk), flags=layout.ENDED)), HERE).records == []


def test_what_lies_behind_a_file_that_is_being_completed_does_not_matter(talk: Conversation) -> None:
    file = made(recorded(talk), flags=0, tables=b"", tables_checksum=0)
    contents = read(bytes(file + b"half of the tables"), HERE)
    assert len(contents.records) == 4
    assert not contents.is_complete


def test_a_name_that_a_kill_has_torn_costs_those_that_need_it() -> None:
    talk = conversation(4)
    file = made(recorded(talk))
    start = PAGE + SERVER2
    file[start + 8 : start + 10] = b"\0\0"
    contents = read(bytes(file), HERE)
    assert contents.refused == 1 + 2, "the name, and the two connections to that server"
    assert {record.server for _, record in contents.records} == {"server1"}


def test_names_are_not_read_past_their_end() -> None:
    assert layout.read_names(b"") == ({}, True)
    whole = layout.pack_name("server")
    for size in range(1, len(whole)):
        names, _ = layout.read_names(whole[:size])
        assert names == {}
    wrong = b"\xff\xfe"
    assert layout.read_names(layout._NAME.pack(crc32(wrong), 2) + wrong) == ({}, False)


# Whatever a record holds: with a checksum that is right, it is one that an engine can go on with, or none


@settings(max_examples=examples(400))
@given(data=st.data(), family=st.sampled_from([4, 6]))
def test_a_record_makes_sense_or_is_none(data: st.DataObject, family: int) -> None:
    packed = bytearray(data.draw(st.sampled_from(list(recorded(TALKS[family]).values()))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, RECORD - 1))
        packed[at] = data.draw(st.sampled_from([0, 1, 5, 11, 13, 17, 37, 127, 128, 255]))
    pack_into("<I", packed, 0, crc32(packed[4:]))
    record = layout.unpack_record(bytes(packed), NAME)
    if record is not None:
        assert record.original[-1] == record.reply[-1]
        assert len(record.original) == len(record.reply)
        assert record.timeout > 0
        assert 0 <= record.aside <= 7


TALKS = {family: conversation(family) for family in (4, 6)}
NAME = layout.read_names(NAMES)[0].get


@settings(max_examples=examples(200))
@given(st.binary(max_size=2 * RECORD))
def test_random_bytes_are_no_record(data: bytes) -> None:
    assert layout.unpack_record(data, NAME) is None


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (4, 2),  # in use
        (5, 11),  # a state that there is not
        (5, 9),  # one of UDP
        (6, 2),  # lent
        (7, 8),  # aside
        (9, 16),  # scales
        (12, 15),
        (13, 12),  # size of the tuples
        (14 + 12, 1),  # the protocol of one of them
        (14 + 74, 200),  # a name that there is not
        (14 + 78, 200),
        (14 + 82, 200),
    ],
)
def test_each_field_is_looked_at(at: int, value: int) -> None:
    packed = recorded(TALKS[4])[0]  # an established one
    assert layout.unpack_record(packed, NAME) is not None
    changed = bytearray(packed)
    changed[at] = value
    pack_into("<I", changed, 0, crc32(changed[4:]))
    assert layout.unpack_record(bytes(changed), NAME) is None


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -2.0])
def test_each_time_is_looked_at(number: int, value: float) -> None:
    packed = recorded(TALKS[4])[0]  # an established one
    changed = bytearray(packed)
    pack_into("<d", changed, 14 + 86 + 8 * number, value)
    pack_into("<I", changed, 0, crc32(changed[4:]))
    assert layout.unpack_record(bytes(changed), NAME) is None
