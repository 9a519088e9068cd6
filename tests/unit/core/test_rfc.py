"""What docs/rfc.md claims of the core and no other test shows: by RFC, in the order of the requirements there."""

import pytest

from natlb.core.pool import Neighbourhood
from natlb.core.ports import PortRanges, Source
from natlb.core.states import State
from natlb.core.verdict import DropReason
from tests.unit.core import packets as p
from tests.unit.core.conversation import (
    CLIENT,
    DATAGRAM,
    ECHO,
    EXPIRED,
    OTHER_VIP,
    PORT,
    RST,
    SYN,
    UNREACHABLE,
    VIP,
    Conversation,
    Error,
    Host,
    Message,
    dropped,
    to,
    untouched,
)
from tests.unit.core.packets import packed

SAID = pytest.mark.parametrize("said", [SYN, DATAGRAM], ids=["tcp", "udp"])

TIMESTAMP = Message({4: (13, 0), 6: (139, 0)})
"""A query of ICMP; over IPv6 a node information query."""

EXTENSION = b"\x20\0\x00\x00" + b"\0\x08\x01\x01" + b"\0\x01\x01\x40"
"""What a router with MPLS adds to an error (RFC 4884, RFC 4950): a header, an object, one label."""


def neighbours(talk: Conversation) -> Host:
    """Let the client be in the network of the servers; return it."""
    address, mask = int(p.ip_address(CLIENT[talk.family])), (1 << (32 if talk.family == 4 else 128)) - 1
    near = Neighbourhood(address, mask, Source(packed(talk.snat), PortRanges()))
    for server in talk.pool.servers.values():
        server.neighbourhoods = (near,)
    return talk.client


# RFC 4787 and RFC 5382: mapping and filtering


@SAID
def test_one_port_of_a_client_has_a_server_of_its_own_at_each_virtual_address(talk, said):
    other_vip = OTHER_VIP[talk.family]
    for service in (talk.service, talk.udp):
        talk.addresses.bind(packed(other_vip), PORT, service)
    talk.client >> said << to(talk.server1)
    talk.client.asking(other_vip) >> said << to(talk.server2)
    assert len(talk.engine) == 2


def test_a_server_is_the_virtual_address_to_every_client(talk):
    clients = [talk.client.at(port) for port in (40000, 40002, 40004)]
    for client in clients:
        client >> DATAGRAM
    for client in clients[::2]:
        talk.server1.facing(client) >> DATAGRAM << to(client)
    talk.server2.facing(clients[1]) >> DATAGRAM << to(clients[1])


@SAID
def test_whoever_asks_is_let_in(talk, said):
    for client in (talk.client, talk.client.at(1), talk.client.at(65535)):
        client >> said
    Host(talk, "stranger", (OTHER_VIP[talk.family], 40000), talk.client.peer) >> said
    assert len(talk.engine) == 4


@SAID
def test_what_a_server_begins_is_not_translated(talk, said):
    """It has an address that is routed: nothing has to be lent to it."""
    talk.server1.facing(talk.client) >> said << untouched
    Host(talk, "server1 as a client", (talk.server1.place[0], 50000), (CLIENT[talk.family], 80)) >> said << untouched
    assert len(talk.engine) == 0


@SAID
def test_a_client_in_the_servers_network_hears_the_virtual_address_alone(talk, said):
    client = neighbours(talk)
    client >> said << to(talk.server1, seen_as=(talk.snat, 40000))
    answer = SYN(flags=p.SYN | p.ACK) if said is SYN else DATAGRAM
    talk.server1 >> answer << to(client)


@SAID
def test_how_a_packet_is_translated_does_not_depend_on_who_came_before(start, said):
    """Not even if the port that it would have had is taken: it is another port, and all else is the same."""
    talk = start(ranges=[(40000, 40001)])
    first = talk.client
    second = Host(talk, "second", (OTHER_VIP[talk.family], 40000), first.peer)
    third = Host(talk, "third", (OTHER_VIP[talk.family], 40001), first.peer)
    first >> said << to(talk.server1, seen_as=(talk.snat, 40000))
    third >> said << to(talk.server2, seen_as=(talk.snat, 40001))
    second >> said << to(talk.server1, seen_as=(talk.snat, 40001))
    answer = SYN(flags=p.SYN | p.ACK) if said is SYN else DATAGRAM
    talk.server1 >> answer << to(second)


# RFC 5508


@pytest.mark.parametrize("query", [ECHO, TIMESTAMP], ids=["echo", "other"])
def test_a_query_of_a_server_goes_out_as_it_is(talk, query):
    talk.server1.facing(talk.client) >> query << untouched
    assert len(talk.engine) == 0


def test_what_a_router_adds_to_an_error_is_left_as_it_is(start):
    """And the padding before it: the quoted packet is 128 bytes long then, with zeros at its end."""
    talk = start()
    family = talk.family
    sent = talk.client >> DATAGRAM << to(talk.server1)
    quote = bytes(sent.buffer).ljust(128, b"\0")
    length = b"\0\x20\0\0" if family == 4 else b"\x10\0\0\0"
    kind = EXPIRED.kinds[family][:2]
    packet = p.icmp(talk.router.place[0], talk.client.place[0], *kind, length, quote + EXTENSION)
    talk.engine.handle_packet(packet, talk.now)
    header = 20 if family == 4 else 40
    inner = bytes(sent.sent).ljust(128, b"\0")
    expected = p.icmp(VIP[family], talk.client.place[0], *kind, length, inner + EXTENSION)
    assert packet[header:] == expected[header:]


@pytest.mark.parametrize("error", [UNREACHABLE, EXPIRED], ids=["unreachable", "expired"])
def test_errors_are_turned_back_between_neighbours_too(talk, error: Error):
    client = neighbours(talk)
    asked = client >> DATAGRAM << to(talk.server1, seen_as=(talk.snat, 40000))
    answered = talk.server1 >> DATAGRAM << to(client)
    talk.router >> error(about=asked) << to(client)
    talk.router >> error(about=answered) << to(talk.server1)


# RFC 7857


def test_a_reset_is_carried_and_its_connection_kept_for_four_minutes(talk):
    server1 = talk.shake_hands()
    talk.client >> RST << to(server1)
    talk.wait(239)
    assert talk.entry().state is State.TRANS
    talk.wait(2)
    assert talk.entry() is None


def test_what_is_dropped_keeps_no_connection_alive(talk):
    talk.shake_hands()
    for _ in range(8):
        talk.wait(1000)
        if talk.entry() is None or talk.entry().state is State.SHUT:
            return
        talk.client >> RST(seq=0x7FFFFFFF) << dropped(DropReason.OUT_OF_WINDOW)
    pytest.fail("it was kept alive")
