"""Stick tables: bounded, expiring, and never without what is in use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.core.stick import StickTable
from tests.unit.core.packets import packed

NOW = 1000.0
A, B, C, D = (packed(f"10.0.0.{n}") for n in range(1, 5))
ALL = {"conn_cnt": None, "conn_cur": None, "conn_rate": 10.0, "sess_cnt": None, "gpc0": None, "gpc0_rate": 10.0}


def table(size=3, **settings):
    return StickTable("t", "ip", size, **settings)


def keys(made, now=NOW):
    return [entry.key for entry in made.entries(now)]


def test_what_is_remembered_is_found_again():
    made = table(stored=ALL)
    entry = made.set(A, NOW, "server1", conn_cnt=5, conn_rate=7, bytes_in_cnt=9)
    assert made.get(A, NOW) is entry
    assert (entry.server, entry.read("conn_cnt", NOW), entry.read("conn_rate", NOW)) == ("server1", 5, 7)
    assert entry.read("bytes_in_cnt", NOW) is None, "the table does not store that"
    assert made.get(B, NOW) is None
    assert made.used(NOW) == 1
    made.set(A, NOW, gpc0=1)
    assert made.get(A, NOW).server == "server1"


def test_a_full_table_forgets_what_was_touched_longest_ago():
    made = table()
    for key in (A, B, C):
        made.enter(key, NOW)
    made.enter(A, NOW)
    made.enter(D, NOW)
    assert keys(made) == [C, A, D]


def test_a_full_table_that_does_not_purge_takes_nothing_new():
    made = table(purge=False)
    for key in (A, B, C):
        made.enter(key, NOW)
    assert made.enter(D, NOW) is None
    assert made.set(D, NOW, "server1") is None
    assert made.enter(A, NOW) is not None
    assert keys(made) == [B, C, A]


def test_what_is_in_use_never_goes():
    made = table(expire=10)
    made.enter(A, NOW).count_connection(NOW)
    made.enter(B, NOW)
    made.enter(C, NOW).count_connection(NOW)
    made.enter(D, NOW)
    assert set(keys(made)) == {A, C, D}
    assert set(keys(made, NOW + 10)) == {A, C}, "not even when its time is over"
    made.enter(D, NOW + 10)
    assert made.clear(NOW + 10) == 1
    made.enter(B, NOW + 10).count_connection(NOW + 10)
    assert made.enter(D, NOW + 10) is None, "there is no room"
    made.get(A, NOW).release(NOW + 12)
    assert made.enter(D, NOW + 12) is not None
    assert made.get(A, NOW + 12) is None


def test_a_table_that_is_all_in_use_looks_at_no_more_than_a_few_entries_to_make_room():
    made = table(size=100)
    for number in range(100):
        made.enter(number.to_bytes(4, "big"), NOW).count_connection(NOW)
    made.get((99).to_bytes(4, "big"), NOW).release(NOW)
    tries = next(number for number in range(10) if made.enter(A, NOW) is not None)
    assert tries == 3, "each try puts 32 of those in use last"


def test_time_begins_anew_with_each_touch():
    made = table(expire=10)
    made.enter(A, NOW)
    made.enter(B, NOW)
    made.enter(A, NOW + 5)
    assert keys(made, NOW + 9.9) == [B, A]
    assert keys(made, NOW + 10) == [A]
    assert made.get(A, NOW + 14.9).expires == NOW + 15
    assert made.used(NOW + 15) == 0


def test_without_expiry_nothing_goes_by_time():
    made = table()
    made.enter(A, NOW)
    assert made.get(A, NOW + 1e9).expires is None


def test_connections_and_events_are_counted():
    made = table(stored=ALL)
    entry = made.enter(A, NOW)
    for _ in range(3):
        entry.count_connection(NOW)
        entry.count_session(NOW)
    entry.release(NOW)
    entry.add("gpc0", NOW)
    entry.add("gpc0_rate", NOW)
    read = {name: entry.read(name, NOW) for name in ALL}
    assert read == {"conn_cnt": 3, "conn_cur": 2, "conn_rate": 3, "sess_cnt": 3, "gpc0": 1, "gpc0_rate": 1}
    assert entry.use == 2
    entry.count_session(NOW, -1)
    entry.count_connection(NOW, -1)
    assert [entry.read(name, NOW) for name in ("conn_cnt", "conn_cur", "sess_cnt", "conn_rate")] == [2, 1, 2, 2]


def test_only_the_entries_that_match_are_cleared():
    made = table(stored=ALL)
    made.set(A, NOW, gpc0=1)
    made.set(B, NOW, gpc0=2)
    assert made.clear(NOW, lambda entry: entry.read("gpc0", NOW) > 1) == 1
    assert keys(made) == [A]


def test_entries_are_gone_over_while_the_table_changes():
    made = table(size=10)
    for key in (A, B, C):
        made.enter(key, NOW)
    seen = []
    for entry in made.entries(NOW):
        seen.append(entry.key)
        made.clear(NOW, lambda entry: entry.key == B)
        made.enter(D, NOW)
    assert seen == [A, C]


def test_an_entry_that_was_forgotten_can_still_be_let_go_of():
    made = table(size=1)
    entry = made.enter(A, NOW)
    made.enter(B, NOW)
    entry.count_connection(NOW)
    entry.release(NOW)
    assert keys(made) == [B]


@pytest.mark.parametrize(
    ("type_", "value", "key"),
    [
        ("ip", packed("10.0.0.1"), packed("10.0.0.1")),
        ("ip", packed("::ffff:10.0.0.1"), packed("10.0.0.1")),
        ("ip", packed("2001:db8::1"), None),
        ("ip", 5, None),
        ("ipv6", packed("10.0.0.1"), packed("::ffff:10.0.0.1")),
        ("ipv6", packed("2001:db8::1"), packed("2001:db8::1")),
        ("integer", 5, 5),
        ("integer", packed("10.0.0.1"), None),
        ("ip", None, None),
    ],
)
def test_values_become_keys_of_a_tables_type(type_, value, key):
    assert StickTable("t", type_, 1).key(value) == key


@given(
    st.lists(
        st.tuples(st.sampled_from(["enter", "use", "release", "clear"]), st.integers(0, 5), st.integers(0, 4)),
        max_size=60,
    )
)
def test_a_table_is_a_dictionary_of_the_latest_touched_that_are_not_too_old(steps):
    made, now = table(size=3, expire=6), NOW
    last: dict[int, float] = {}
    used: dict[int, int] = {}
    for what, key, pause in steps:
        now += pause
        for each in [each for each in last if not used.get(each) and now >= last[each] + 6]:
            del last[each]
        if what in ("enter", "use"):
            entry = made.enter(key, now)
            if key not in last and len(last) >= 3:
                idle = [each for each in last if not used.get(each)]
                assert (entry is None) == (not idle)
                if idle:
                    gone = {each for each in last if made.get(each, now) is None}
                    assert len(gone) == 1
                    assert not used.get(gone.pop())
                    last = {each: at for each, at in last.items() if made.get(each, now) is not None}
            if entry is not None:
                last[key] = now
                if what == "use":
                    entry.count_connection(now)
                    used[key] = used.get(key, 0) + 1
        elif what == "release" and used.get(key):
            made.get(key, now).release(now)
            used[key] -= 1
            last[key] = now
        elif what == "clear":
            made.clear(now, lambda entry, key=key: entry.key == key)
            if not used.get(key):
                last.pop(key, None)
        assert {entry.key for entry in made.entries(now)} == last.keys()
        assert made.used(now) <= 3


# By pieces


def test_entries_are_gone_over_in_pieces_between_which_the_table_may_change():
    made = table(size=1000)
    for number in range(100):
        made.set(number.to_bytes(4), NOW)
    pieces = made.pieces(30, NOW)
    first = next(pieces)
    assert len(first) == 30
    for entry in list(made.entries(NOW))[:60]:
        assert made.forget(entry)
    for number in range(500, 600):
        made.set(number.to_bytes(4), NOW)
    rest = [entry.key for piece in pieces for entry in piece]
    assert len(rest) == len(set(rest))
    assert set(rest) >= {number.to_bytes(4) for number in range(60, 100)}


def test_an_entry_in_use_is_not_forgotten():
    made = table()
    entry = made.set(A, NOW)
    entry.use = 1
    assert not made.forget(entry)
    assert made.get(A, NOW) is entry


def test_what_ends_together_is_taken_away_a_few_at_a_time_and_is_nobodys_meanwhile():
    made = StickTable("t", "ip", 200, expire=10.0)
    keys = [bytes((10, 0, 0, number)) for number in range(100)]
    for key in keys:
        made.enter(key, NOW)
    made.enter(keys[0], NOW).use = 1
    later = NOW + 10
    assert made.tidy(later), "there are more"
    assert made.get(keys[98], later) is None
    assert [entry.key for entry in made.entries(later)] == [keys[0]]
    assert [entry.key for piece in made.pieces(50, later) for entry in piece] == [keys[0]]
    while made.tidy(later):
        pass
    assert made.used(later) == 1


def test_an_entry_goes_on_with_what_another_had():
    stored = {"conn_cnt": None, "conn_cur": None, "conn_rate": 10.0}
    before, after = (StickTable("t", "ip", 5, stored=stored).enter(b"\n\0\0\1", 1.0) for _ in range(2))
    before.count_connection(1.0)
    kept = before.kept()
    after.keep(kept | {"gpc0": 7, "conn_cnt": kept["conn_rate"]})
    assert [after.read(name, 1.0) for name in ("conn_cnt", "conn_cur", "conn_rate", "gpc0")] == [0, 0, 1, None]
    after.keep(kept | {"conn_rate": 3})
    assert [after.read(name, 1.0) for name in ("conn_cnt", "conn_cur", "conn_rate")] == [1, 0, 1]
    assert after.table.name == "t"
