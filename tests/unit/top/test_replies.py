"""What natlb and HAProxy answer is read; what neither would answer does no harm."""

from hypothesis import given
from hypothesis import strategies as st

from natlb.top.replies import Kind, info, sessions, stat
from tests.unit.top.samples import HAPROXY_SESS, HAPROXY_STAT, NATLB_SESS


def test_show_info_is_names_and_values() -> None:
    said = info("Name: HAProxy\nVersion: 2.6.0-natlb0.1.0\nnode: \nUnstoppable Jobs: 0\n\n")
    assert said == {"Name": "HAProxy", "Version": "2.6.0-natlb0.1.0", "node": "", "Unstoppable Jobs": "0"}


def test_what_is_not_known_there_is_nothing_said() -> None:
    assert info("Unknown command, but maybe one of the following ones is a better match:\n") == {}


def test_the_rows_of_haproxys_show_stat_are_read() -> None:
    front, server, other, back = stat(HAPROXY_STAT)
    assert (front.kind, front.proxy, front.name, front.status) == (Kind.FRONTEND, "localnodes", "FRONTEND", "OPEN")
    assert (front.current, front.limit, front.total, front.octets_in) == (0, 940, 0, 0)
    assert (front.queued, front.weight, front.check) == (None, None, ""), "a frontend has none"
    assert (server.kind, server.key) == (Kind.SERVER, ("2", "nodes", "server1"))
    assert (server.status, server.check, server.weight, server.address) == ("UP", "L4OK", 10, "127.0.0.1:4444")
    assert (other.status, other.check) == ("DOWN", "L4CON")
    assert (back.kind, back.weight, back.active, back.backup, back.limit) == (Kind.BACKEND, 11, 2, 1, 94)


def test_columns_may_stand_in_another_order_or_be_missing() -> None:
    (row,) = stat("# type,svname,pxname,scur,\n2,s,b,7,\n")
    assert (row.key, row.current, row.total, row.address) == (("2", "b", "s"), 7, None, "")


def test_what_is_no_such_reply_has_no_rows() -> None:
    assert stat("Permission denied\n") == []
    assert stat("") == []
    assert stat("# pxname,svname,type,\nweb,sock-1,3,\nshort\n") == [], "a socket of a frontend; half a line"


def test_the_connections_of_natlb_have_both_tuples_and_their_bytes() -> None:
    (one,) = sessions(NATLB_SESS)
    assert (one.id, one.protocol, one.client, one.asked) == ("0x1", "tcpv4", "44.1.1.1:40312", "44.2.2.2:8888")
    assert (one.frontend, one.backend, one.server, one.state) == ("www", "nodes", "server1", "ESTABLISHED")
    assert (one.age, one.idle) == ("12s", "1s")
    assert (one.octets_in, one.octets_out, one.octets, one.packets) == (77, 1200, 1277, 9)


def test_those_of_haproxy_have_less_and_its_own_socket_is_none() -> None:
    (one,) = sessions(HAPROXY_SESS)
    assert (one.client, one.backend, one.server, one.age) == ("127.0.0.1:41280", "web", "s2", "1s")
    assert (one.octets, one.packets, one.asked, one.idle) == (None, None, "", "")


@given(st.text())
def test_whatever_is_answered_it_is_read_without_an_error(text: str) -> None:
    info(text)
    sessions(text)
    stat(text)
    stat(f"# pxname,svname,type,scur,\n{text}")
    sessions(f"0x1: proto=tcpv4 {text}")
