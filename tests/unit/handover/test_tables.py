"""What stick tables hold goes on, as far as the next configuration has a place for it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.core.stick import StickTable
from natlb.handover import tables
from tests.unit.core.conversation import SYN, Conversation

NOW = 1000.0


@pytest.fixture
def talk() -> Conversation:
    """An engine with one connection."""
    talk = Conversation(4)
    talk.client >> SYN
    return talk


def table(name: str = "clients", kind: str = "ip", size: int = 10, **settings: object) -> StickTable:
    stored = {"conn_cnt": None, "conn_cur": None, "conn_rate": 10.0, "gpc0": None}
    return StickTable(name, kind, size, **{"expire": 60.0, "stored": stored, **settings})  # type: ignore[arg-type]


def filled(**settings: object) -> StickTable:
    made = table(**settings)
    for number in range(3):
        entry = made.set(bytes([10, 0, 0, number]), NOW + number, f"server{number}", gpc0=number)
        assert entry is not None
        for _ in range(number):
            entry.count_connection(NOW + number)
    return made


def test_entries_go_on_as_they_were(talk: Conversation) -> None:
    before, after = filled(), table()
    packed = tables.pack(talk.engine, [before], NOW + 5)
    assert tables.restore(packed, talk.engine, {}, [after], NOW + 20) == 3
    for number, entry in enumerate(after.entries(NOW + 20)):
        assert (entry.key, entry.server) == (bytes([10, 0, 0, number]), f"server{number}")
        assert entry.expires == NOW + number + 60
        assert [entry.read(name, NOW + 5) for name in ("conn_cnt", "conn_rate", "gpc0")] == [number] * 3
        assert entry.read("conn_cur", NOW + 5) == 0, "only of connections that go on"


def test_the_next_configuration_says_what_is_kept(talk: Conversation) -> None:
    packed = tables.pack(talk.engine, [filled()], NOW + 5)
    for other in (table("others"), table(kind="ipv6"), table(size=0, purge=False)):
        assert tables.restore(packed, talk.engine, {}, [other], NOW + 5) == 0
    small = table(size=2)
    tables.restore(packed, talk.engine, {}, [small], NOW + 5)
    assert [entry.key[3] for entry in small.entries(NOW + 5)] == [1, 2], "who was touched last"  # type: ignore[index]
    other_period = table(stored={"conn_rate": 20.0, "gpc0": None, "sess_cnt": None})
    tables.restore(packed, talk.engine, {}, [other_period], NOW + 5)
    entry = other_period.get(bytes([10, 0, 0, 2]), NOW + 5)
    assert entry is not None
    assert [entry.read(name, NOW + 5) for name in ("conn_rate", "gpc0", "conn_cnt")] == [0, 2, None]
    forever = table(expire=None)
    tables.restore(packed, talk.engine, {}, [forever], NOW + 5)
    assert {entry.expires for entry in forever.entries(NOW + 5)} == {None}


def test_numbers_are_keys_too(talk: Conversation) -> None:
    before, after = table(kind="integer"), table(kind="integer")
    before.set(77, NOW, "server1")
    assert tables.restore(tables.pack(talk.engine, [before], NOW), talk.engine, {}, [after], NOW) == 1
    assert [entry.key for entry in after.entries(NOW)] == [77]


def test_connections_are_counted_where_they_were(talk: Conversation) -> None:
    before, after = filled(), table()
    connection = talk.entry()
    entry = before.get(bytes([10, 0, 0, 1]), NOW)
    talk.engine.lifecycle.count_again(connection, (None, entry, None), NOW)
    packed = tables.pack(talk.engine, [before], NOW)
    for resumed, use in (({}, 0), ({connection.index: connection}, 1)):
        other = Conversation(4)
        after = table()
        tables.restore(packed, other.engine, resumed, [after], NOW)
        found = after.get(bytes([10, 0, 0, 1]), NOW)
        assert found is not None
        assert (found.use, found.read("conn_cur", NOW)) == (use, use)
    gone = table("others")
    tables.restore(packed, Conversation(4).engine, {connection.index: connection}, [gone], NOW)


def test_without_tables_there_is_nothing(talk: Conversation) -> None:
    assert tables.pack(talk.engine, [], NOW) == b""
    assert tables.restore(b"", talk.engine, {}, [table()], NOW) == 0


@given(
    st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=4), lambda each: st.lists(each, max_size=4))
)
def test_what_makes_no_sense_is_not_begun_with(data: object) -> None:
    talk, after = Conversation(4), table()
    for shape in (data, [data, []], [[], data], [[data], []], [[["clients", "ip", {}, [data]]], []], [[], [[0, data]]]):
        tables.restore(json.dumps(shape).encode(), talk.engine, {}, [after], NOW)


@given(st.binary(max_size=50))
def test_random_bytes_are_no_entries(data: bytes) -> None:
    after = table()
    assert tables.restore(data, Conversation(4).engine, {}, [after], NOW) == 0
