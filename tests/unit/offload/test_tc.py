"""Manners: others' filters and qdiscs, interfaces that come and go, what a crash has left."""

import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from natlb.core.states import State
from natlb.errors import OffloadError
from natlb.offload import program
from natlb.offload.fastpath import FastPath
from natlb.offload.layout import SETTINGS
from natlb.offload.libbpf import Pieces
from natlb.offload.program import Program
from tests.unit.core.conversation import ACK, DATA, Conversation
from tests.unit.offload import kernel

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[3]


@pytest.fixture
def arena(arena):
    """A namespace for each test: what one leaves must not be there for the next."""
    with kernel.arena() as made:
        yield made


@pytest.fixture
def engine():
    return Conversation(4).engine


@pytest.fixture
def path(arena, engine):
    made = FastPath(engine.ledger, 0, 10, lambda connection: b"")
    yield made
    made.close()


@contextmanager
def link(name: str, kind: str = "veth", **settings: object):
    with IPRoute() as route:
        peer = {"peer": {"ifname": name + "p"}} if kind == "veth" else {}
        route.link("add", ifname=name, kind=kind, **peer, **settings)
        index = route.link_lookup(ifname=name)[0]
        yield index
        if route.link_lookup(ifname=name):
            route.link("del", index=index)


def tc(*words: str) -> str:
    return subprocess.run(["tc", *words], capture_output=True, text=True, check=True).stdout


INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
RTM_NEWQDISC, RTM_DELQDISC, RTM_NEWTFILTER, RTM_DELTFILTER = 36, 37, 44, 45


def somebody(name: str = "in0", parent: int = INGRESS, **place: int) -> None:
    """Attach a filter of somebody else's: another program, loaded for them."""
    other = Program(1)
    with IPRoute() as route:
        settings = {"prio": 10, "handle": 1, "protocol": 3, **place}
        index = route.link_lookup(ifname=name)[0]
        route.tc("add-filter", "bpf", index, parent=parent, fd=other.descriptor, name="theirs", **settings)
    other.close()


def filters(name: str = "in0", way: str = "ingress") -> list[str]:
    """Return the filters of an interface, without the lines that the kernel puts above each kind."""
    return [line for line in tc("filter", "show", "dev", name, way).splitlines() if " handle " in line]


def qdiscs(name: str = "in0") -> list[str]:
    return [line.split()[1] for line in tc("qdisc", "show", "dev", name).splitlines()]


# Attaching


def test_the_program_runs_where_packets_come_in_until_it_is_detached(path):
    before = qdiscs()
    path.attach()
    assert path.interfaces == 2  # and the other end of the link
    for name in "in0", "out0":
        [ours] = filters(name)
        assert "pref 65000 bpf chain 0 handle 0x1 natlb-0+clsact direct-action" in ours
        assert filters(name, "egress") == []
    assert filters("lo") == []
    path.detach()
    assert path.interfaces == 0
    assert filters() == []
    path.close()
    assert qdiscs() == before


def test_a_qdisc_does_not_come_and_go_while_it_is_switched_for_that_loses_packets(path):
    path.attach()
    assert readable(path)
    path.follow()
    path.detach()
    path.attach()
    path.detach()
    heard = set(news(path))
    assert heard >= {RTM_NEWTFILTER, RTM_DELTFILTER}
    assert not heard & {RTM_NEWQDISC, RTM_DELQDISC}
    assert qdiscs() == ["noqueue", "clsact"]
    path.attach()
    assert "natlb-0+clsact" in filters()[0], "a run that finds it knows whose it is"
    path.close()
    assert qdiscs() == ["noqueue"]


def test_attached_twice_it_is_there_once(path):
    path.attach()
    path.attach()
    assert len(filters()) == 1
    path.close()
    assert qdiscs() == ["noqueue"]


def test_a_qdisc_that_was_there_stays(path):
    tc("qdisc", "add", "dev", "in0", "clsact")
    path.attach()
    assert "natlb-0 " in filters()[0]
    path.close()
    assert qdiscs() == ["noqueue", "clsact"]
    tc("qdisc", "del", "dev", "in0", "clsact")


def test_the_older_kind_of_qdisc_serves_as_well(path):
    tc("qdisc", "add", "dev", "in0", "ingress")
    path.attach()
    assert "natlb-0 " in filters()[0]
    path.close()
    assert qdiscs() == ["noqueue", "ingress"]
    tc("qdisc", "del", "dev", "in0", "ingress")


def test_filters_that_were_there_stay_and_come_first(path):
    tc("qdisc", "add", "dev", "in0", "clsact")
    somebody()
    somebody(prio=20, handle=5)
    somebody(parent=EGRESS)
    before = filters(), filters(way="egress")
    path.attach()
    assert filters()[:-1] == before[0]
    assert "natlb-0" in filters()[-1]
    path.close()
    assert (filters(), filters(way="egress")) == before
    tc("qdisc", "del", "dev", "in0", "clsact")


@pytest.mark.parametrize(("way", "parent"), [("ingress", INGRESS), ("egress", EGRESS)])
def test_a_qdisc_that_was_made_stays_where_others_use_it_now(path, way, parent):
    path.attach()
    somebody(parent=parent)
    path.close()
    assert len(filters(way=way)) == 1
    assert qdiscs() == ["noqueue", "clsact"]
    tc("qdisc", "del", "dev", "in0", "clsact")


def test_two_that_run_beside_each_other_leave_each_other_alone(path, engine):
    path.attach()
    second = FastPath(engine.ledger, 7, 10, lambda connection: b"")
    second.attach()
    assert sorted(line.split("handle ")[1].split()[1] for line in filters()) == ["natlb-0+clsact", "natlb-7"]
    path.close()
    assert "handle 0x8 natlb-7 " in filters()[0]
    second.close()
    assert filters() == []
    tc("qdisc", "del", "dev", "in0", "clsact")  # the first had made it, and the second was there when it went
    tc("qdisc", "del", "dev", "out0", "clsact")


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ({"handle": 1}, "interface {} has a filter of somebody else's, theirs, at the preference of natlb's, 65000"),
        ({"protocol": 0x0800, "handle": 5}, "tc refuses the program on interface {} ("),
    ],
)
def test_a_place_that_somebody_else_has_is_theirs(path, arena, place, reason):
    tc("qdisc", "add", "dev", "in0", "clsact")
    somebody(prio=65000, **place)
    [refused] = path.attach()
    assert refused.startswith(reason.format(arena.interface))
    assert path.interfaces == 1
    assert len(filters("out0")) == len(filters()) == 1


def test_where_no_interface_takes_the_program_there_is_no_fast_path(path):
    for name in "in0", "out0":
        tc("qdisc", "add", "dev", name, "clsact")
        somebody(name, prio=65000)
    with pytest.raises(OffloadError, match=r"interface [0-9]+ has a filter of somebody else's"):
        path.attach()
    assert path.interfaces == 0


def test_what_somebody_else_took_away_needs_not_be_taken_away(path):
    path.attach()
    tc("qdisc", "del", "dev", "in0", "clsact")
    path.close()
    assert filters() == []


@pytest.mark.parametrize("queue", [0, 65535])
def test_any_queue_has_a_filter_of_its_own(engine, arena, queue):
    path = FastPath(engine.ledger, queue, 10, lambda connection: b"")
    path.attach()
    assert f"handle {queue + 1:#x} natlb-{queue}+clsact" in filters()[0]
    path.close()


# Interfaces that come and go


def news(path: FastPath) -> Iterator[int]:
    """Go over the kinds of what the kernel has said of interfaces, qdiscs and filters: linux/rtnetlink.h."""
    while select.select([path.links_fileno()], [], [], 0)[0]:
        said = path._links.recv(65536)
        while said:
            size, kind = struct.unpack_from("=IH", said)
            yield kind
            said = said[-(-size // 4) * 4 :]


def readable(path: FastPath) -> bool:
    return bool(select.select([path.links_fileno()], [], [], 1)[0])


def test_an_interface_that_comes_is_added_and_one_that_goes_forgotten(path):
    path.attach()
    with link("late0") as index:
        assert readable(path)
        added, gone, _ = path.follow()
        assert sorted(added) == ["late0", "late0p"]
        assert gone == []
        assert len(filters("late0")) == 1
        assert path.follow() == ([], [], []), "what it hears of its own filters is no news"
        assert select.select([path.links_fileno()], [], [], 0)[0] == []
    assert readable(path)
    added, gone, _ = path.follow()
    assert added == []
    assert index in gone
    assert path.interfaces == 2


def test_what_becomes_part_of_a_bridge_is_left_to_the_bridge(path):
    path.attach()
    with link("port0") as port, link("bridge0", "bridge") as bridge, IPRoute() as route:
        assert "bridge0" in path.follow()[0]
        assert len(filters("port0")) == 1
        route.link("set", index=port, master=bridge)
        assert path.follow() == ([], [port], [])
        assert filters("port0") == []
        assert "clsact" not in qdiscs("port0")
        route.link("set", index=port, master=0)
        assert path.follow() == (["port0"], [], [])


def test_tunnels_have_no_link_layer_and_stay_with_the_kernel(path):
    path.attach()
    subprocess.run(["ip", "tuntap", "add", "dev", "tun0", "mode", "tun"], check=True)
    assert path.follow() == ([], [], [])
    subprocess.run(["ip", "link", "del", "tun0"], check=True)


def test_one_interface_that_is_refused_does_not_keep_the_others_from_coming(path):
    path.attach()
    with link("good0"), link("bad0"):
        tc("qdisc", "add", "dev", "bad0", "clsact")
        somebody("bad0", prio=65000)
        assert sorted(path.follow()[0]) == ["bad0p", "good0", "good0p"]
        tc("filter", "del", "dev", "bad0", "ingress")
        assert path.follow()[0] == ["bad0"]


def test_more_news_than_the_socket_can_take_are_no_harm(path):
    path.attach()
    path._links.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    with link("many0") as index, IPRoute() as route:
        for number in range(100):
            route.link("set", index=index, mtu=1400 + number)
        assert "many0" in path.follow()[0]


@pytest.mark.parametrize(
    "taken",
    [("filter", "del", "dev", "gone0", "ingress"), ("qdisc", "del", "dev", "gone0", "clsact")],
    ids=["the filter", "the qdisc"],
)
def test_a_filter_that_somebody_takes_away_is_noticed_and_put_back(path, taken):
    with link("gone0"):
        path.attach()
        assert path.follow() == ([], [], [])
        tc(*taken)
        assert readable(path)
        assert path.follow() == ([], [], ["gone0"])
        assert len(filters("gone0")) == 1
        assert path.follow() == ([], [], [])
        path.close()
        assert "clsact" not in qdiscs("gone0")


# What a crash has left

CRASH = """
import os, signal, struct, sys
from tests.unit.core.conversation import DATA, Conversation
from natlb.offload import program
from natlb.offload.fastpath import FastPath
from natlb.offload.layout import SETTINGS
from natlb.offload.libbpf import Pieces
from natlb.offload.program import Program
talk = Conversation({family}, ranges={ranges})
path = FastPath(talk.engine.ledger, 0, 100, lambda connection: connection.server.name.encode())
path.attach()
for port in range(1000, 1010):
    talk.now = port - 900.0
    server = talk.shake_hands(talk.client.at(port))
    talk.client.at(port) >> DATA
    server >> DATA
for connection in talk.engine.connections():
    assert path.enter(connection)
{then}
os.kill(os.getpid(), signal.SIGKILL)
"""


def crash(family: int = 4, ranges=None, then: str = "") -> None:
    """Have ten connections on a fast path, and die."""
    done = subprocess.run(
        [sys.executable, "-c", CRASH.format(family=family, ranges=ranges, then=then)], cwd=ROOT, check=False
    )
    assert done.returncode == -signal.SIGKILL


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request):
    return request.param


@pytest.mark.parametrize("ranges", [None, [(30000, 30100)]], ids=["DNAT", "full NAT"])
def test_what_a_crash_has_left_is_carried_on_and_taken_back(arena, family, ranges):
    crash(family, ranges)
    talk = Conversation(family, ranges=ranges)
    client = talk.client.at(1003)
    path = FastPath(talk.engine.ledger, 0, 50, lambda connection: b"")
    assert path.capacity == 100
    survivors = {survivor.original: survivor for survivor in path.survivors()}
    assert len(survivors) == 10
    assert path.survivors() == []
    server = talk.shake_hands(client)
    for said in DATA, ACK:
        client >> said
    server >> DATA
    entry = talk.entry(client)
    survivor = survivors[entry.original]
    # An engine that has had the same packets knows the same of them.
    if ranges is None and entry.server.name == survivor.identity.rstrip(b"\0").decode():
        assert survivor.reply == entry.reply
    assert survivor.identity.rstrip(b"\0") in (b"server1", b"server2")
    assert survivor.opened == 103.0
    assert survivor.report.answered == 103.0
    assert survivor.report.state is State.ESTABLISHED
    assert survivor.report.packets == (3, 2)
    assert survivor.report.octets == (18, 18)
    path.take_back(survivor, entry)
    assert path.held == 1
    packet = kernel.framed(bytes(ACK.packet(client)))
    result = kernel.run(path._program.descriptor, packet, arena.interface)
    assert result.verdict == kernel.REDIRECT
    assert path.read(entry).packets == (1, 0)
    for other in survivors.values():
        if other is not survivor:
            path.discard(other)
    path.attach()
    assert len(filters()) == 1
    assert path.forget(entry).packets == (0, 0)
    path.close()
    assert filters() == []
    assert qdiscs() == ["noqueue"]


def test_rows_of_survivors_are_not_lent_to_others(arena):
    crash()
    talk = Conversation(4)
    path = FastPath(talk.engine.ledger, 0, 100, lambda connection: b"")
    survivors = path.survivors()
    talk.shake_hands(talk.client.at(5))
    assert path.enter(talk.entry(talk.client.at(5)))
    assert path._find(talk.entry(talk.client.at(5))) not in {survivor.row for survivor in survivors}
    for survivor in survivors:
        path.discard(survivor)
    assert path.held == 1
    path.close()


def test_half_of_a_connection_is_removed(arena):
    """natlb may die between the two halves, of entering one or of forgetting it."""
    crash(
        then="""
from natlb.offload.layout import packed_key
first, second, *_ = talk.engine.connections()
path._flows.delete_all(packed_key(first.original))
path._flows.delete_all(packed_key(second.reply))
"""
    )
    path = FastPath(Conversation(4).engine.ledger, 0, 100, lambda connection: b"")
    survivors = path.survivors()
    assert len(survivors) == 8
    for survivor in survivors:
        path.discard(survivor)
    assert Pieces(path._flows, 1024).read() == 0
    path.close()


@pytest.mark.parametrize(
    "then",
    [
        "path._program._settings.update(bytes(4), struct.pack('=II', 99, 0))",
        "path.close()",
    ],
    ids=["another layout", "nothing attached"],
)
def test_what_cannot_be_used_is_left_behind(arena, then):
    crash(then=then)
    path = FastPath(Conversation(4).engine.ledger, 0, 50, lambda connection: b"")
    assert path.survivors() == []
    assert path.capacity == 50
    path.attach()
    [ours] = filters()
    assert "natlb-0+clsact" in ours
    path.close()
    assert qdiscs() == ["noqueue"]


def test_maps_of_another_size_are_not_taken_for_ours(arena, monkeypatch):
    crash()
    monkeypatch.setitem(program._SIZES, "flows", (40, 60))
    path = FastPath(Conversation(4).engine.ledger, 0, 50, lambda connection: b"")
    assert path.survivors() == []
    path.close()
    assert filters() == []


def test_a_run_that_ends_well_leaves_nothing(arena):
    crash(then="path.close()")
    assert filters() == []
    path = FastPath(Conversation(4).engine.ledger, 0, 50, lambda connection: b"")
    assert path.survivors() == []
    path.close()


def test_the_smallest_mtu_that_a_route_sets_is_known_to_the_program(path):
    def limits() -> tuple[int, int]:
        return SETTINGS.unpack(path._program._settings.lookup(bytes(4)))[2:]

    path.attach()
    assert limits() == (0, 0)
    with IPRoute() as route:
        index = route.link_lookup(ifname="in0")[0]
        for destination, mtu in ("44.7.0.0/16", 1400), ("44.8.0.0/16", 1300), ("fd44:7::/64", 1290):
            route.route("add", dst=destination, oif=index, metrics={"mtu": mtu})
    path.follow()
    assert limits() == (1300, 1290)
    path.sample(1)
    assert limits() == (1300, 1290)
