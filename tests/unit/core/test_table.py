import pytest

from natlb.core.flow import Connection
from natlb.core.service import Service
from natlb.core.states import State
from natlb.core.table import Table


@pytest.fixture
def table():
    return Table(capacity=3, half_open_capacity=2)


def connection(name, state=State.ESTABLISHED, *, original=None, reply=None, service=None):
    return Connection(original or name + b">", reply or name + b"<", (), service, None, state)


def enter(table, connection, timeout=80.0, now=0.0):
    assert table.insert(connection, timeout, now)
    return connection


def test_a_connection_is_found_by_either_tuple(table):
    a = enter(table, connection(b"a"))
    assert table.find(b"a>") is table.find(b"a<") is a
    assert table.find(b"b>") is None
    assert len(table) == 1


def test_a_connection_that_left_is_not_found(table):
    a, b = enter(table, connection(b"a")), enter(table, connection(b"b"))
    table.remove(a)
    assert table.find(b"a>") is table.find(b"a<") is None
    assert list(table) == [b]


@pytest.mark.parametrize(
    "clash",
    [
        {"reply": b"a<"},
        {"reply": b"a>"},
        {"original": b"a>"},
        {"original": b"a<"},
        {"original": b"same", "reply": b"same"},
    ],
    ids=str,
)
def test_a_tuple_that_is_taken_leaves_the_table_as_it_was(table, clash):
    a = enter(table, connection(b"a"))
    assert not table.insert(connection(b"b", **clash), 80.0, 0.0)
    assert table.find(b"a>") is table.find(b"a<") is a
    assert {key: found for key in (b"b>", b"b<", b"same") if (found := table.find(key))} == {}
    assert list(table) == [a]
    assert len(table) == 1


class Short:
    """The tuples of a table, for which memory runs out at one of them."""

    def __init__(self, real, at):
        self.real, self.at = real, at

    def __getattr__(self, name):
        return getattr(self.real, name)

    def __len__(self):
        return len(self.real)

    def add(self, key, value):
        if key == self.at:
            raise MemoryError
        return self.real.add(key, value)


@pytest.mark.parametrize("missing", ["the reply tuple", "the original tuple", "the queue"])
def test_a_connection_that_memory_is_too_short_for_leaves_the_table_as_it_was(table, monkeypatch, missing):
    a = enter(table, connection(b"a"))
    b = connection(b"b", State.INIT)
    whole = table.connections
    with monkeypatch.context() as short:
        if missing == "the queue":
            short.setattr("natlb.core.table.IdleQueue", lambda *_: Short(None, b"").add(b"", b""))
        else:
            short.setattr(table, "connections", Short(whole, b.reply if missing == "the reply tuple" else b.original))
        with pytest.raises(MemoryError):
            table.insert(b, 80.0, 0.0)
    assert (list(table), len(table), table.half_open) == ([a], 1, 0)
    assert table.find(b"b>") is table.find(b"b<") is None
    rows = table.ledger.size
    enter(table, b)
    assert table.ledger.size == rows
    assert table.find(b"b>") is table.find(b"b<") is table.at(b.index) is b


def test_the_table_is_full_at_its_capacity(table):
    for name in (b"a", b"b", b"c"):
        assert not table.full
        enter(table, connection(name))
    assert table.full


def test_going_over_the_table_is_by_phase_and_then_by_silence(table):
    old = enter(table, connection(b"o"), now=1.0)
    half_open = enter(table, connection(b"h", State.INIT), timeout=5.0, now=2.0)
    finished = enter(table, connection(b"f", State.TRANS), timeout=9.0, now=3.0)
    young = enter(table, connection(b"y"), now=4.0)
    assert list(table) == [finished, half_open, old, young]


def test_without_connections_there_is_no_deadline(table):
    assert table.next_deadline() is None
    table.remove(enter(table, connection(b"a")))
    assert table.next_deadline() is None


def test_the_next_deadline_is_the_earliest_of_all_queues(table):
    enter(table, connection(b"a"), timeout=80.0, now=0.0)
    enter(table, connection(b"b"), timeout=8.0, now=10.0)
    assert table.next_deadline() == 10.0 + 8.0 + 1.0


def test_a_refreshed_connection_starts_its_silence_anew(table):
    a, b = enter(table, connection(b"a"), now=0.0), enter(table, connection(b"b"), now=1.0)
    table.refresh(a, 5.0)
    assert table.next_deadline() == 1.0 + 80.0 + 1.0
    assert list(table) == [b, a]


def test_a_connection_that_moves_has_the_timeout_of_its_new_state(table):
    a = enter(table, connection(b"a"), timeout=80.0)
    table.move(a, State.TRANS, 8.0, 5.0)
    assert a.state is State.TRANS
    assert table.next_deadline() == 5.0 + 8.0 + 1.0
    assert table.weakest() is a


def test_all_that_are_overdue_are_handed_out_from_every_queue(table):
    a, b = enter(table, connection(b"a"), timeout=8.0), enter(table, connection(b"b"), timeout=16.0)
    c = enter(table, connection(b"c"), timeout=16.0, now=50.0)
    gone = []
    for each in table.expired(20.0, most=10):
        table.remove(each)
        gone.append(each)
    assert gone == [a, b]
    assert list(table) == [c]


def test_no_more_are_handed_out_than_asked_for(table):
    for name in (b"a", b"b", b"c"):
        enter(table, connection(name), timeout=8.0 if name == b"c" else 16.0)
    for each in table.expired(1e9, most=2):
        table.remove(each)
    assert len(table) == 1


def test_an_established_connection_never_gives_way(table):
    enter(table, connection(b"a"))
    enter(table, connection(b"b", State.CLIENT_FIN))
    assert table.weakest() is None


def test_half_open_connections_give_way_the_longest_silent_first(table):
    enter(table, connection(b"e"), now=0.0)
    enter(table, connection(b"y", State.INIT), timeout=5.0, now=2.0)
    old = enter(table, connection(b"o", State.SYN_RECEIVED), timeout=9.0, now=1.0)
    assert table.weakest() is old


def test_finished_connections_give_way_before_half_open_ones(table):
    enter(table, connection(b"h", State.INIT), now=1.0)
    finished = enter(table, connection(b"f", State.BOTH_FIN), now=2.0)
    assert table.weakest() is finished


# Half-open ones


def test_half_open_connections_are_counted_as_they_come_move_and_leave(table):
    a = enter(table, connection(b"a", State.INIT))
    b = enter(table, connection(b"b", State.ONE_WAY))
    enter(table, connection(b"c"))
    assert table.half_open == table.half_open_capacity == 2
    table.refresh(a, 1.0)
    table.move(a, State.SYN_RECEIVED, 8.0, 1.0)
    assert table.half_open == 2
    table.move(a, State.ESTABLISHED, 80.0, 2.0)
    assert table.half_open == 1
    table.remove(b)
    assert table.half_open == 0


def test_a_connection_that_found_no_place_is_not_counted(table):
    enter(table, connection(b"a", State.INIT))
    assert not table.insert(connection(b"a", State.INIT), 80.0, 0.0)
    assert table.half_open == 1


def test_the_oldest_half_open_connection_is_that_of_a_service_or_of_all(table):
    web, mail = Service("web", None), Service("mail", None)
    assert table.oldest_half_open() is None
    enter(table, connection(b"e", service=web), now=0.0)
    old = enter(table, connection(b"o", State.INIT, service=web), timeout=9.0, now=1.0)
    young = enter(table, connection(b"y", State.ONE_WAY, service=mail), timeout=9.0, now=2.0)
    assert table.oldest_half_open() is table.oldest_half_open(web) is old
    assert table.oldest_half_open(mail) is young
    assert table.oldest_half_open(Service("other", None)) is None


def test_services_with_the_same_timeouts_share_their_queues_but_for_half_open_connections(table):
    web, mail = Service("web", None), Service("mail", None)
    ours = enter(table, connection(b"a", service=web)), enter(table, connection(b"b", State.INIT, service=web))
    theirs = connection(b"c", service=mail)
    enter(table, theirs)
    assert theirs.queue is ours[0].queue
    table.move(theirs, State.INIT, 80.0, 1.0)
    assert theirs.queue is not ours[1].queue


# Rows of the ledger


def test_a_connection_has_a_row_of_the_ledger_while_it_is_in_the_table(table):
    a = enter(table, connection(b"a"), now=7.0)
    b = enter(table, connection(b"b"), now=8.0)
    assert (a.index, b.index) == (0, 1)
    assert list(table.ledger.opened[:2]) == [7.0, 8.0]
    table.remove(a)
    c = enter(table, connection(b"c"), now=9.0)
    assert c.index == 2, "the row that has been free for longest"
    assert list(table.ledger.opened[:3]) == [7.0, 8.0, 9.0]


def test_a_connection_that_moves_keeps_its_row(table):
    a = enter(table, connection(b"a", State.INIT))
    table.ledger.packets[0] = 7
    table.move(a, State.ESTABLISHED, 80.0, 1.0)
    table.refresh(a, 2.0)
    assert a.index == 0
    assert table.ledger.packets[0] == 7
    assert table.ledger.opened[0] == 0.0


def test_a_connection_is_found_by_its_row(table):
    a, b = enter(table, connection(b"a")), enter(table, connection(b"b"))
    assert table.at(a.index) is a
    assert table.at(b.index) is b
    table.remove(a)
    assert table.at(a.index) is None
    assert table.at(-1) is table.at(10**6) is None


def test_all_connections_are_gone_over_in_pieces():
    table = Table(capacity=5000, half_open_capacity=5000)
    assert list(table.pieces(10)) == []
    entered = [enter(table, connection(bytes([1]) + number.to_bytes(2))) for number in range(1500)]
    pieces = list(table.pieces(100))
    assert max(map(len, pieces)) == 100
    assert {id(each) for piece in pieces for each in piece} == set(map(id, entered))


def test_between_two_pieces_the_table_may_change():
    table = Table(capacity=5000, half_open_capacity=5000)
    entered = [enter(table, connection(bytes([1]) + number.to_bytes(2))) for number in range(100)]
    pieces = table.pieces(30)
    assert next(pieces) == entered[:30]
    for each in entered[:60]:
        table.remove(each)
    for number in range(2000):
        enter(table, connection(bytes([2]) + number.to_bytes(2)))
    rest = [each for piece in pieces for each in piece]
    assert set(map(id, rest)) >= set(map(id, entered[60:]))
    assert not set(map(id, rest)) & set(map(id, entered[:60]))


def test_the_recent_ones_are_those_heard_last_and_open_ones_come_first():
    table = Table(capacity=10, half_open_capacity=10)
    over = enter(table, connection(b"o", State.BOTH_FIN), now=9.0)
    half = [enter(table, connection(name, State.INIT, service=Service(str(name), None))) for name in (b"1", b"2")]
    old, young, between = (
        enter(table, connection(name), timeout, now)
        for name, timeout, now in ((b"a", 80.0, 1.0), (b"b", 80.0, 3.0), (b"c", 4.0, 2.0))
    )
    assert table.recent(10) == [young, between, old, *half, over]
    assert table.recent(4) == [young, between, old, half[0]]
    assert table.recent(2) == [young, between]
    table.refresh(old, 5.0)
    assert table.recent(1) == [old]
    assert table.recent(0) == []
