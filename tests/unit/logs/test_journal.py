"""Which events make a line, of which level, and what is in it. The clocks are the tests'."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from natlb.config.log_format import TCPLOG, parse_log_format
from natlb.core.events import (
    Account,
    ConnectionClosed,
    ConnectionEstablished,
    ConnectionOpened,
    ConnectionRefused,
    EndReason,
    Live,
    ServerBypassed,
)
from natlb.core.flow import Connection, Direction, flow_key
from natlb.core.packet import TCP, UDP
from natlb.core.pool import Place, Pool, Server
from natlb.core.service import Service, Timeouts
from natlb.core.states import State
from natlb.core.waiting import Wait
from natlb.log import Level
from natlb.logs.journal import Journal, Settings
from natlb.logs.syslog import Target

FORMAT = [part if isinstance(part, str) else (part.name, part.flags) for part in parse_log_format(TCPLOG)]
TARGET = Target("/nowhere", header="short")
LIVE = Live(9, 8, 7, 6)


def end(address, port):
    return ip_address(address).packed, port.to_bytes(2, "big")


class Heard:
    """A sender that keeps what it is given."""

    def __init__(self):
        self.lines = []
        self.data = []

    def send(self, targets, origin, level, text, now, data="-"):
        self.data += [data for _ in targets]
        self.lines += [(Level(level).name, origin.tag, text) for _ in targets]


class World:
    def __init__(self, settings, protocol=TCP):
        self.server = Server("s1", ip_address("10.0.0.7").packed, 80)
        self.service = Service("fe", Pool("be", [self.server]), protocol=protocol)
        client, vip = end("192.0.2.1", 4000), end("192.0.2.9", 80)
        original, reply = flow_key(client, vip, protocol), flow_key(end("10.0.0.7", 80), client, protocol)
        self.connection = Connection(original, reply, (None, None), self.service, self.server, State.ESTABLISHED)
        self.journal = Journal(clock=lambda: 1010.5, wall=lambda: 1_700_000_010.5)
        self.journal.sender = self.heard = Heard()
        self.journal.log_connections(self.service, settings)

    def account(self, **changes):
        whole = Account(1010.0, 1010.25, (12, 34), 1, State.ESTABLISHED, Direction.REPLY, LIVE)
        return replace(whole, **changes)

    def closes(self, reason=EndReason.FINISHED, **changes):
        self.journal.record(ConnectionClosed(self.connection, reason, self.account(**changes)))
        return [(level, text.partition("] ")[2]) for level, _, text in self.heard.lines]

    def establishes(self, **changes):
        self.journal.record(ConnectionEstablished(self.connection, self.account(**changes)))
        return [(level, text.partition("] ")[2]) for level, _, text in self.heard.lines]


DETAILED = Settings([TARGET], "natlb", FORMAT)
NORMAL_LINE = ("INFO", "fe be/s1 0/250/500 34 -- 9/8/6/5/1 0/0")


def test_a_connection_that_ended_has_a_line():
    world = World(DETAILED)
    assert world.service.logged
    assert world.establishes() == []
    assert world.closes() == [NORMAL_LINE]
    assert world.heard.lines[0][2].startswith("192.0.2.1:4000 [")


def test_a_connection_of_a_service_that_is_not_logged_has_none():
    world = World(DETAILED)
    other = Service("other", None)
    world.journal.record(ConnectionOpened(Connection(*world_keys(world), other, world.server, State.INIT)))
    world.journal.record(ConnectionClosed(world.connection, EndReason.FINISHED))
    world.journal.record(ServerBypassed(world.connection))
    assert world.heard.lines == []


def world_keys(world):
    return world.connection.original, world.connection.reply, (None, None)


def test_a_connection_that_went_wrong_has_a_line_too():
    assert World(DETAILED).closes(EndReason.RESET) == [("INFO", "fe be/s1 0/250/500 34 SD 9/8/6/5/1 0/0")]


def test_one_without_an_answer_says_so():
    [(_, line)] = World(DETAILED).closes(EndReason.TIMED_OUT, answered=None, state=State.INIT)
    assert line == "fe be/s1 0/-1/500 34 sC 9/8/6/5/1 0/0"


def test_errors_may_be_of_another_level():
    settings = replace(DETAILED, separate_errors=True)
    assert World(settings).closes() == [NORMAL_LINE]
    assert World(settings).closes(EndReason.RESET)[0][0] == "ERR"


def test_normal_ones_may_be_left_out():
    settings = replace(DETAILED, skip_normal=True)
    assert World(settings).closes() == []
    assert len(World(settings).closes(EndReason.RESET)) == 1


def test_those_without_data_of_the_client_may_be_left_out():
    settings = replace(DETAILED, skip_empty=True)
    assert World(settings).closes(octets=(0, 99)) == []
    assert len(World(settings).closes(octets=(1, 0))) == 1
    assert World(settings).closes(EndReason.RESET, octets=(0, 0)) == []


def test_as_soon_as_it_is_established():
    world = World(replace(DETAILED, early=True))
    assert world.service.logged_early and not World(DETAILED).service.logged_early
    lines = world.establishes(octets=(0, 0), state=State.SYN_RECEIVED)
    assert lines == [("INFO", "fe be/s1 0/250/+500 +0 -- 9/8/7/6/1 0/0")]
    assert world.closes() == lines, "once"
    assert world.establishes(state=State.TRANS) == lines, "once, though it was thought to be over"


def test_one_that_never_was_established_is_told_at_its_end():
    world = World(replace(DETAILED, early=True))
    assert world.closes(EndReason.RESET, answered=None, state=State.INIT, octets=(0, 0)) == [
        ("INFO", "fe be/s1 0/-1/+500 +0 SC 9/8/6/5/1 0/0")
    ]


def test_one_that_is_tried_again_elsewhere_is_told_once():
    assert World(DETAILED).closes(EndReason.RESCHEDULED, state=State.INIT) == []


def test_a_flow_whose_server_went_away_is_over():
    world = World(DETAILED, UDP)
    assert world.closes(EndReason.RESCHEDULED, state=State.BOTH_WAYS)[0][1].endswith("34 D- 9/8/6/5/1 0/0")


def refuse(world, service=None, **details):
    service = service or world.service
    event = ConnectionRefused(service, service.pool, world.connection.original, Live(3, 2, 1, 0), **details)
    world.journal.record(event)
    return [(level, text.partition("] ")[2]) for level, _, text in world.heard.lines]


def test_without_a_server():
    assert refuse(World(DETAILED)) == [("INFO", "fe be/<NOSRV> -1/-1/0 0 SC 4/3/1/0/0 0/0")]
    assert refuse(World(replace(DETAILED, separate_errors=True)))[0][0] == "ERR"
    assert refuse(World(replace(DETAILED, skip_empty=True))) == []


def test_a_wait_is_told_and_the_line_begins_with_it():
    world = World(DETAILED)
    lines = world.closes(waited=Wait(2.0, None, 3))
    assert lines == [("INFO", "fe be/s1 2000/250/2500 34 -- 9/8/6/5/1 0/3")]
    assert " [14/Nov/2023:22:13:28.000] " in world.heard.lines[0][2].replace("15/Nov/2023:", "14/Nov/2023:")


def test_a_wait_for_one_server_is_told_as_such():
    world = World(DETAILED)
    assert world.closes(waited=Wait(0.5, world.server, 1))[0][1] == "fe be/s1 500/250/1000 34 -- 9/8/6/5/1 1/0"


def test_whoever_waited_in_vain_has_a_line_about_that():
    world = World(DETAILED)
    [line] = refuse(world, reason=Place.LATE, waited=Wait(15.0, None, 2))
    assert line == ("INFO", "fe be/<NOSRV> 15000/-1/15000 0 sQ 4/3/1/0/0 0/2")
    line = refuse(world, reason=Place.LATE, server=world.server, waited=Wait(15.0, world.server, 1))[-1]
    assert line == ("INFO", "fe be/s1 15000/-1/15000 0 sQ 4/3/1/0/0 1/0")
    line = refuse(world, reason=Place.CROWDED, server=world.server)[-1]
    assert line == ("INFO", "fe be/s1 -1/-1/0 0 SQ 4/3/1/0/0 0/0")


def test_whose_silence_ended_it_is_a_matter_of_the_backend_that_it_was_led_to():
    world = World(DETAILED)
    assert " cD " in world.closes(EndReason.TIMED_OUT)[-1][1]
    world.service.other_timeouts[world.server.pool] = Timeouts(shorter=Direction.REPLY)
    assert " sD " in world.closes(EndReason.TIMED_OUT)[-1][1]


def test_structured_data_is_made_of_the_same_variables():
    world = World(replace(DETAILED, data=[("b", frozenset()), "/", ("s", frozenset())]))
    world.closes()
    refuse(world)
    assert world.heard.data == ["be/s1", "be/<NOSRV>"]
    other = World(DETAILED)
    other.closes()
    assert other.heard.data == ["-"]


def test_a_connection_led_to_another_backend_has_that_ones_name():
    world = World(DETAILED)
    server = Server("s9", ip_address("10.0.0.9").packed, 80)
    Pool("elsewhere", [server])
    world.connection.server = server
    assert world.closes()[0][1].startswith("fe elsewhere/s9 ")


def test_without_a_backend():
    world = World(DETAILED)
    lonely = Service("nobe", None)
    world.journal.log_connections(lonely, DETAILED)
    assert refuse(world, lonely) == [("INFO", "nobe nobe/<NOSRV> -1/-1/0 0 SC 4/3/0/0/0 0/0".replace("3/0/0", "3/1/0"))]


@pytest.mark.parametrize(("protocol", "name"), [(TCP, "TCP"), (UDP, "UDP")])
def test_without_a_format_the_line_comes_first(protocol, name):
    world = World(Settings([TARGET], "px"), protocol)
    world.journal.record(ConnectionOpened(world.connection))
    line = ("INFO", "px", f"Connect from 192.0.2.1:4000 to 192.0.2.9:80 (fe/{name})")
    assert world.heard.lines == [line]
    world.establishes()
    world.closes(EndReason.RESET)
    assert world.heard.lines == [line]
    refuse(world)
    assert world.heard.lines == [line, line]


def test_each_proxy_counts_its_lines():
    world = World(Settings([TARGET], "px", [("lc", frozenset()), " ", ("rt", frozenset())]))
    other = Service("other", world.service.pool)
    world.journal.log_connections(other, world.journal._services[world.service].settings)
    refuse(world)
    refuse(world, other)
    refuse(world)
    assert [text for _, _, text in world.heard.lines] == ["0 0", "0 1", "1 2"]


def test_what_becomes_of_a_proxy_is_told_to_its_targets_alone():
    world = World(DETAILED)
    world.journal.log_proxies({"be": Settings([TARGET, TARGET], "tag")})
    world.journal.tell("be", Level.ALERT, "Server be/s1 is DOWN")
    world.journal.tell("nobody", Level.ALERT, "Server nobody/s1 is DOWN")
    assert world.heard.lines == [("ALERT", "tag", "Server be/s1 is DOWN")] * 2
