import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.core.flow import Connection, flow_key
from natlb.core.packet import TCP, UDP
from natlb.core.ports import LOWEST_PORT, Lender, PortPool, PortRanges, Source
from natlb.core.states import State
from tests.unit.core.packets import packed

RANGES = [(1024, 1026), (80, 80), (50000, 50001)]
ROW = [1024, 1025, 1026, 80, 50000, 50001]


# Ranges


def test_ranges_are_one_row_of_ports():
    ranges = PortRanges(RANGES)
    assert ranges.count == 6
    assert [ranges.port(place) for place in range(6)] == ROW
    assert [ranges.place(port) for port in ROW] == list(range(6))


@pytest.mark.parametrize("port", [0, 79, 81, 1023, 1027, 49999, 50002, 65535])
def test_a_port_outside_of_the_ranges_has_no_place(port):
    assert PortRanges(RANGES).place(port) is None


def test_by_default_all_ports_may_be_used_that_are_not_well_known():
    ranges = PortRanges()
    assert ranges.count == 65536 - 1024
    assert (ranges.port(0), ranges.port(ranges.count - 1)) == (1024, 65535)
    assert ranges.place(1023) is None
    assert LOWEST_PORT == 1024


# One pool


def test_the_port_that_is_wanted_is_taken_if_it_is_free():
    pool = PortPool(PortRanges())
    assert pool.take(40000) == 40000
    other = pool.take(40000)
    assert other != 40000
    pool.give_back(40000)
    assert pool.take(40000) == 40000


@pytest.mark.parametrize("wanted", [0, 22, 1023])
def test_a_port_that_may_not_be_used_is_not_taken_even_if_it_is_wanted(wanted):
    assert PortPool(PortRanges()).take(wanted) >= LOWEST_PORT


def test_all_ports_can_be_taken_and_then_there_is_none():
    pool = PortPool(PortRanges(RANGES))
    assert sorted(pool.take(1024) for _ in ROW) == sorted(ROW)
    assert pool.take(1024) is None
    assert pool.take(80) is None
    pool.give_back(80)
    assert pool.take(1024) == 80


def test_a_pool_without_ports_has_none():
    pool = PortPool(PortRanges([]))
    assert pool.take(80) is None
    assert pool.whole


def test_a_pool_is_whole_when_all_is_back():
    pool = PortPool(PortRanges(RANGES))
    assert pool.whole
    taken = [pool.take(80) for _ in ROW[:4]]
    assert not pool.whole
    for port in taken:
        pool.give_back(port)
    assert pool.whole


@pytest.mark.parametrize("port", [80, 22])
def test_what_was_not_taken_cannot_be_given_back(port):
    pool = PortPool(PortRanges(RANGES))
    pool.take(1024)
    pool.give_back(port)
    assert len([taken for _ in range(9) if (taken := pool.take(0)) is not None]) == 5


def test_what_is_out_of_place_is_all_that_is_remembered():
    pool = PortPool(PortRanges())
    taken = [pool.take(port) for port in range(30000, 30010)]
    assert taken == list(range(30000, 30010))
    assert len(pool._at) == len(pool._place_of) == 20


@given(st.lists(st.tuples(st.sampled_from(["take", "give back"]), st.sampled_from([*ROW, 22, 443])), max_size=60))
def test_a_pool_is_a_set_of_free_ports(story):
    """Against a plain set: who wants a free port gets it, who wants another gets any that is free."""
    pool, free = PortPool(PortRanges(RANGES)), set(ROW)
    for act, port in story:
        if act == "take":
            taken = pool.take(port)
            assert taken == port if port in free else taken in free or (taken is None and not free)
            free.discard(taken)
        else:
            pool.give_back(port)
            free |= {port} & set(ROW)
        assert pool.whole is (len(free) == len(ROW))


# All pools

SERVER = packed("44.3.3.3"), b"\x11\x5c"
OTHER_SERVER = packed("44.4.4.4"), b"\x11\x5c"
CLIENT = packed("44.1.1.1"), b"\x9c\x40"
SNAT = packed("44.5.5.5")


def anyone(key):
    return True


def source(*ranges):
    return Source(SNAT, PortRanges(ranges or [(1024, 65535)]))


def answer(port, server=SERVER, protocol=TCP):
    return flow_key(server, (SNAT, port.to_bytes(2, "big")), protocol)


def connection(reply):
    return Connection(b"o", reply, (), None, None, State.ESTABLISHED)


@pytest.fixture
def lender():
    return Lender()


def test_what_is_lent_is_the_tuple_of_the_answers(lender):
    """With the client's own port, if it can be had."""
    assert lender.lend(source(), SERVER, CLIENT, TCP, anyone) == answer(40000)
    again = lender.lend(source(), SERVER, CLIENT, TCP, anyone)
    assert again != answer(40000)
    assert again[:8] == answer(0)[:8]


def test_a_port_needs_to_be_unique_only_towards_one_server_and_in_one_protocol(lender):
    for server, protocol in ((SERVER, TCP), (SERVER, UDP), (OTHER_SERVER, TCP)):
        assert lender.lend(source(), server, CLIENT, protocol, anyone) == answer(40000, server, protocol)
    assert len(lender) == 3


def test_ipv6_is_lent_likewise(lender):
    at = Source(packed("fd44:5::5"), PortRanges([(1024, 1024)]))
    server, client = (packed("fd44:3::3"), b"\x11\x5c"), (packed("fd44:1::1"), b"\x9c\x40")
    assert lender.lend(at, server, client, UDP, anyone) == flow_key(server, (at.address, b"\x04\x00"), UDP)


def test_when_all_is_lent_there_is_none_until_something_comes_back(lender):
    first = lender.lend(source((1024, 1024)), SERVER, CLIENT, TCP, anyone)
    assert lender.lend(source((1024, 1024)), SERVER, CLIENT, TCP, anyone) is None
    lender.give_back(connection(first))
    assert lender.lend(source((1024, 1024)), SERVER, CLIENT, TCP, anyone) == first


def test_a_pool_that_is_whole_again_is_forgotten(lender):
    lent = [lender.lend(source(), SERVER, CLIENT, TCP, anyone) for _ in range(3)]
    for reply in lent:
        assert len(lender) == 1
        lender.give_back(connection(reply))
    assert len(lender) == 0


def test_a_tuple_that_somebody_else_has_is_passed_over(lender):
    taken = {answer(40000)}
    lent = lender.lend(source(), SERVER, CLIENT, TCP, lambda key: key not in taken)
    assert lent not in taken
    lender.give_back(connection(lent))
    assert len(lender) == 0, "what was passed over is not held"


def test_when_nothing_that_is_tried_is_free_none_is_held(lender):
    tried = []
    assert lender.lend(source(), SERVER, CLIENT, TCP, tried.append) is None
    assert len(set(tried)) == 16
    assert tried[0] == answer(40000)
    assert len(lender) == 0


def test_a_finished_connection_holds_its_port_and_the_one_that_ended_first_gives_it_up_first(lender):
    one, other = (connection(lender.lend(source((1024, 1025)), SERVER, CLIENT, TCP, anyone)) for _ in range(2))
    assert lender.retired(source(), SERVER, TCP) is None
    lender.retire(other)
    lender.retire(one)
    assert lender.retired(source(), SERVER, TCP) is other
    lender.give_back(other)
    assert lender.retired(source(), SERVER, TCP) is one
    assert lender.retired(source(), SERVER, UDP) is lender.retired(source(), OTHER_SERVER, TCP) is None


def test_a_connection_that_goes_on_after_all_is_not_retired_any_more(lender):
    one = connection(lender.lend(source(), SERVER, CLIENT, TCP, anyone))
    lender.retire(one)
    lender.revive(one)
    assert lender.retired(source(), SERVER, TCP) is None
    lender.give_back(one)
    assert len(lender) == 0


def test_two_services_with_different_ports_of_one_address_keep_to_their_own(lender):
    """Also while the other has lent of its own, and where their ports overlap."""
    all_ports, few = source(), source((40000, 40001))
    taken = set()

    def lend(of):
        reply = lender.lend(of, SERVER, CLIENT, TCP, lambda key: key not in taken)
        if reply is not None:
            taken.add(reply)
        return reply

    one = lend(all_ports)
    assert one == answer(40000)
    other = lend(few)
    assert other == answer(40001)
    assert lend(few) is None
    assert len(lender) == 2
    lender.retire(connection(one))
    for reply in (one, other):
        lender.give_back(connection(reply))
        taken.remove(reply)
    assert len(lender) == 0
    assert lend(few) == answer(40000)


def test_two_services_with_the_same_ports_of_one_address_share_them(lender):
    assert lender.lend(source((1024, 1025)), SERVER, CLIENT, TCP, anyone)
    assert lender.lend(source((1024, 1025)), SERVER, CLIENT, TCP, anyone)
    assert lender.lend(source((1024, 1025)), SERVER, CLIENT, TCP, anyone) is None
    assert len(lender) == 1


def test_a_finished_connection_gives_up_a_port_of_its_own_pool_first_and_only_one_that_is_of_use(lender):
    all_ports, few = source(), source((1024, 1025))
    far, near = (connection(lender.lend(of, SERVER, CLIENT, TCP, anyone)) for of in (all_ports, few))
    lender.retire(far)
    assert lender.retired(few, SERVER, TCP) is None
    lender.retire(near)
    assert lender.retired(few, SERVER, TCP) is near
    assert lender.retired(all_ports, SERVER, TCP) is far


def test_ranges_are_equal_by_their_ports():
    assert PortRanges([(1, 2), (5, 6)]) == PortRanges([(1, 2), (5, 6)])
    assert PortRanges([(1, 2)]) != PortRanges([(1, 3)])
    assert PortRanges() != "all"
    assert len({PortRanges(), PortRanges()}) == 1


def test_a_port_that_was_not_wanted_is_picked_by_whom_was_handed_in():
    """At random, in real life: nobody should be able to guess the port of another's connection (RFC 6056)."""
    asked = []

    def third(free):
        asked.append(free)
        return 2

    pool = PortPool(PortRanges([(2000, 2009)]), third)
    assert [pool.take(7), pool.take(2000), pool.take(2000)] == [2002, 2000, 2009]
    assert asked == [10, 8]


def test_a_port_that_is_expected_is_lent_in_place_of_the_clients_if_it_is_free(lender):
    lender.expected = 50000
    assert lender.lend(source(), SERVER, CLIENT, TCP, anyone) == answer(50000)
    other = lender.lend(source(), SERVER, CLIENT, TCP, anyone)
    assert other is not None
    assert other != answer(50000)
    lender.expected = None
    assert lender.lend(source(), SERVER, CLIENT, TCP, anyone) == answer(40000)
