"""Full NAT: the server sees an address and a port of the balancer's own, and both ends of a packet are rewritten."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from natlb.core.pool import AdminState, Neighbourhood
from natlb.core.ports import PortRanges, Source
from natlb.core.service import Timeouts
from natlb.core.states import State
from natlb.core.verdict import DropReason
from tests.unit.core.conversation import (
    ACK,
    DATA,
    DATAGRAM,
    FIN,
    OTHER_SNAT,
    OTHER_VIP,
    PORT,
    RST,
    RST_ACK,
    SERVER1,
    SNAT,
    SYN,
    SYN_ACK,
    Conversation,
    Reset,
    dropped,
    reset,
    to,
    unreachable,
    untouched,
)
from tests.unit.core.packets import packed, places

ANY = [(1024, 65535)]
ONE = [(5000, 5000)]
TWO = [(5000, 5001)]


@pytest.fixture
def talk(start):
    """A conversation with an engine that speaks to its servers from an address of its own."""
    return start(ranges=ANY)


def only_server1(talk):
    talk.pool.set_admin(talk.configured(talk.server2), AdminState.MAINT, talk.now)
    return talk.server1


def another(host, number):
    """Return a host with another address and the same port."""
    address, port = host.place
    return replace(host, place=(f"{address}{number}", port))


def source_of(outcome):
    return places(outcome.buffer)[0]


# Both ends


def test_a_connection_is_translated_at_both_ends_from_syn_to_fin(talk):
    client, server1 = talk.client, talk.server1
    as_seen = talk.snat, 40000
    client >> SYN << to(server1, seen_as=as_seen)
    server1 >> SYN_ACK << to(client)
    client >> ACK << to(server1, seen_as=as_seen)
    client >> DATA << to(server1, seen_as=as_seen)
    server1 >> DATA << to(client)
    server1 >> FIN << to(client)
    client >> FIN << to(server1, seen_as=as_seen)
    assert talk.news() == ["opened, server1", "established, server1", "closed, server1, FINISHED"]


def test_a_flow_of_udp_likewise(talk):
    for _ in range(3):
        talk.client >> DATAGRAM << to(talk.server1, seen_as=(talk.snat, 40000))
        talk.server1 >> DATAGRAM << to(talk.client)


def test_a_datagram_without_a_checksum_gets_none():
    talk = Conversation(4, ranges=ANY)
    talk.client >> DATAGRAM(checksum=0) << to(talk.server1, seen_as=(talk.snat, 40000))
    talk.server1 >> DATAGRAM(checksum=0) << to(talk.client)


def test_what_is_damaged_stays_damaged(talk):
    server1 = talk.shake_hands()
    talk.client >> DATA(spoilt=True) << to(server1, seen_as=(talk.snat, 40000))
    server1 >> DATA(spoilt=True) << to(talk.client)


def test_what_the_server_sends_to_the_client_itself_is_none_of_ours(talk):
    server1 = talk.shake_hands()
    server1.facing(talk.client) >> DATA << untouched


# Which port


def test_the_port_is_the_clients_own_where_it_can_be_had(talk):
    for port in (1024, 40000, 65535):
        client = talk.client.at(port)
        assert source_of(client >> SYN) == (talk.snat, port)
        assert source_of(client >> DATAGRAM) == (talk.snat, port)


def test_where_it_is_taken_it_is_another_and_both_connections_work(talk):
    server1 = only_server1(talk)
    one, other = talk.client, another(talk.client, 7)
    first, second = source_of(one >> SYN), source_of(other >> SYN)
    assert first == (talk.snat, 40000)
    assert second[0] == talk.snat
    assert second[1] != 40000
    for client, as_seen in ((one, first), (other, second)):
        server = replace(server1, peer=as_seen)
        server >> SYN_ACK << to(client)
        client >> DATA << to(server1, seen_as=as_seen)
        server >> DATA << to(client)
    assert talk.engine.live == 2


def test_towards_two_servers_the_same_port_is_lent_twice(talk):
    one, other = talk.client, another(talk.client, 7)
    one >> SYN << to(talk.server1, seen_as=(talk.snat, 40000))
    other >> SYN << to(talk.server2, seen_as=(talk.snat, 40000))


def test_a_well_known_port_of_a_client_is_not_kept(talk):
    """Servers may take it for privileged."""
    assert source_of(talk.client.at(22) >> SYN)[1] >= 1024


@pytest.mark.parametrize("said", [SYN, DATAGRAM], ids=["tcp", "udp"])
def test_the_ranges_are_honoured_to_the_last_port(start, said):
    talk = start(ranges=[(5000, 5002), (7000, 7000)])
    only_server1(talk)
    ports = [source_of(talk.client.at(port) >> said)[1] for port in (7000, 40000, 40001, 40002)]
    assert sorted(ports) == [5000, 5001, 5002, 7000]
    assert ports[0] == 7000


def test_a_client_keeps_its_port_while_its_connection_lasts(talk):
    server1 = talk.shake_hands()
    for port in range(2000, 2020):
        another(talk.client, 7).at(port) >> SYN
        talk.client >> DATA << to(server1, seen_as=(talk.snat, 40000))


# When there is none


@pytest.mark.parametrize("said", [SYN, DATAGRAM], ids=["tcp", "udp"])
def test_when_all_ports_are_lent_a_new_connection_is_dropped_and_nobody_is_hurt(start, said):
    talk = start(ranges=TWO)
    server1 = only_server1(talk)
    clients = [talk.client.at(port) for port in (1001, 1002)]
    seen = [source_of(client >> said) for client in clients]
    for _ in range(3):
        talk.client >> said << dropped(DropReason.NO_PORT)
    for client, as_seen in zip(clients, seen, strict=True):
        client >> said << to(server1, seen_as=as_seen)
    assert len(talk.engine) == talk.engine.live == 2
    assert talk.news() == ["opened, server1"] * 2


@pytest.mark.parametrize("ranges", [[(1, 2)], None], ids=["full NAT", "without"])
def test_a_connection_that_memory_is_too_short_for_costs_no_port(start, monkeypatch, ranges):
    talk = start(ranges=ranges)
    only_server1(talk)

    def no_memory(*_):
        raise MemoryError

    with monkeypatch.context() as short:
        short.setattr(talk.engine.table, "insert", no_memory)
        for _ in range(3):
            with pytest.raises(MemoryError):
                talk.client >> SYN
    assert talk.engine.ports_lent == talk.engine.live == 0
    talk.client >> SYN
    another(talk.client, 1) >> SYN
    assert talk.engine.live == 2


def test_the_other_protocol_and_the_other_server_have_ports_of_their_own(start):
    talk = start(ranges=ONE)
    talk.client >> SYN << to(talk.server1, seen_as=(talk.snat, 5000))
    talk.client.at(1001) >> SYN << to(talk.server2, seen_as=(talk.snat, 5000))
    talk.client.at(1002) >> DATAGRAM << to(talk.server1, seen_as=(talk.snat, 5000))
    talk.client.at(1003) >> DATAGRAM << to(talk.server2, seen_as=(talk.snat, 5000))
    talk.client.at(1004) >> SYN << dropped(DropReason.NO_PORT)


def test_without_any_port_in_the_ranges_there_is_none(start):
    talk = start(ranges=[])
    talk.client >> SYN << dropped(DropReason.NO_PORT)


# When it comes back


@pytest.mark.parametrize("ending", ["fins", "reset", "refused", "shut down"])
def test_the_port_of_a_finished_connection_is_lent_again_when_there_is_no_other(start, ending):
    """Late packets are served as long as there is room for them and no longer."""
    talk = start(ranges=ONE)
    server1 = only_server1(talk)
    client, as_seen = talk.client, (talk.snat, 5000)
    if ending == "refused":
        client >> SYN << to(server1, seen_as=as_seen)
        server1 >> RST_ACK << to(client)
    else:
        talk.shake_hands()
        if ending == "shut down":
            talk.engine.shutdown(talk.entry(), talk.now)
        else:
            client >> (FIN if ending == "fins" else RST)
            server1 >> (FIN if ending == "fins" else RST)
    client >> SYN_ACK << (reset if ending == "shut down" else to(server1, seen_as=as_seen))
    other = client.at(1001)
    other >> SYN << to(server1, seen_as=as_seen)
    server1 >> SYN_ACK << to(other)
    assert talk.entry() is None
    assert len(talk.engine) == talk.engine.live == 1


def test_of_several_the_one_that_ended_first_gives_up_its_port(start):
    talk = start(ranges=TWO)
    server1 = only_server1(talk)
    one, two = talk.client.at(1001), talk.client.at(1002)
    for client in (one, two):
        talk.shake_hands(client)
    two >> RST
    one >> RST
    talk.client >> SYN << to(server1, seen_as=(talk.snat, 5000))
    assert talk.entry(two) is None
    assert talk.entry(one) is not None


def test_while_there_is_another_the_port_of_a_finished_connection_is_not_lent(start):
    talk = start(ranges=TWO)
    server1 = only_server1(talk)
    first = source_of(talk.client >> SYN)
    talk.client >> RST(seq=1001) << to(server1, seen_as=first)
    assert source_of(talk.client.at(1001) >> SYN) != first
    assert talk.entry() is not None


def test_a_connection_that_comes_back_after_a_reset_has_kept_its_port(start):
    talk = start(ranges=ONE)
    server1 = talk.shake_hands()
    only_server1(talk)
    talk.client >> RST << to(server1, seen_as=(talk.snat, 5000))
    server1 >> DATA << to(talk.client)
    assert talk.entry().state is State.ESTABLISHED
    talk.client.at(1001) >> SYN << dropped(DropReason.NO_PORT)
    talk.client >> DATA << to(server1, seen_as=(talk.snat, 5000))


def test_a_client_that_opens_anew_has_its_port_again(start):
    talk = start(ranges=ONE)
    only_server1(talk)
    for _ in range(3):
        server1 = talk.shake_hands()
        talk.client >> RST << to(server1, seen_as=(talk.snat, 5000))
    assert len(talk.engine) == 1


def test_a_port_comes_back_when_its_connection_is_forgotten(start):
    talk = start(ranges=ONE, timeouts=Timeouts(opening=8, one_way=8, closing=8, idle=8))
    only_server1(talk)
    talk.client >> SYN
    talk.client >> DATAGRAM
    talk.client.at(1001) >> SYN << dropped(DropReason.NO_PORT)
    talk.wait(9)
    talk.client.at(1001) >> SYN << to(talk.server1, seen_as=(talk.snat, 5000))
    talk.client.at(1001) >> DATAGRAM << to(talk.server1, seen_as=(talk.snat, 5000))
    talk.wait(9)
    talk.shake_hands()
    talk.wait(9)
    talk.wait(9)
    assert len(talk.engine) == 0
    assert len(talk.engine._lender) == 0, "nothing is left behind"


def test_a_port_comes_back_when_its_connection_had_to_give_way(start):
    talk = start(ranges=ONE, half_open_capacity=1)
    only_server1(talk)
    talk.client >> SYN
    talk.client.at(1001) >> SYN << to(talk.server1, seen_as=(talk.snat, 5000))


# Several source addresses


def two_sources(talk, ranges):
    at = [Source(packed(addresses[talk.family]), PortRanges(ranges)) for addresses in (SNAT, OTHER_SNAT)]
    for server in talk.pool.servers.values():
        server.sources = tuple(at)
    return [str(addresses[talk.family]) for addresses in (SNAT, OTHER_SNAT)]


def test_source_addresses_take_turns(talk):
    addresses = two_sources(talk, ANY)
    server1 = only_server1(talk)
    for number in range(6):
        client = talk.client.at(2000 + number)
        as_seen = addresses[number % 2], client.place[1]
        client >> SYN << to(server1, seen_as=as_seen)
        server1 >> SYN_ACK << to(client)


def test_where_one_has_no_port_another_has(talk):
    """As many connections as there are ports, over all addresses."""
    addresses = two_sources(talk, TWO)
    only_server1(talk)
    seen = {source_of(talk.client.at(2000 + number) >> SYN) for number in range(4)}
    assert seen == {(address, port) for address in addresses for port in (5000, 5001)}
    talk.client >> SYN << dropped(DropReason.NO_PORT)


def test_an_address_whose_ports_are_held_by_finished_connections_gives_one_up_in_its_turn(talk):
    two_sources(talk, ONE)
    only_server1(talk)
    one, two = talk.client.at(2000), talk.client.at(2001)
    for client in (one, two):
        talk.shake_hands(client)
        client >> RST
    talk.client >> SYN << to(talk.server1, seen_as=(talk.snat, 5000))
    assert talk.entry(one) is None
    assert talk.entry(two) is not None


# Neighbours


def neighbourhood(talk, network):
    """Let the servers be in a network, and be spoken to from SNAT by its hosts."""
    network = ip_network(network)
    near = Neighbourhood(int(network.network_address), int(network.netmask), Source(packed(talk.snat), PortRanges(ANY)))
    for server in talk.pool.servers.values():
        server.neighbourhoods = (near,)


NEAR = {4: "44.1.1.0/24", 6: "fd44:1::/64"}
FAR = {4: "44.1.0.0/24", 6: "fd44:100::/64"}


@pytest.mark.parametrize("said", [SYN, DATAGRAM], ids=["tcp", "udp"])
def test_a_client_in_the_servers_network_is_seen_as_the_balancer(start, said):
    """Else the server would answer it without the balancer, and it would not know the answer."""
    talk = start()
    neighbourhood(talk, NEAR[talk.family])
    talk.client >> said << to(talk.server1, seen_as=(talk.snat, 40000))
    talk.server1 >> (SYN_ACK if said is SYN else DATAGRAM) << to(talk.client)


@pytest.mark.parametrize("said", [SYN, DATAGRAM], ids=["tcp", "udp"])
def test_a_client_of_another_network_is_seen_as_it_is(start, said):
    talk = start()
    neighbourhood(talk, FAR[talk.family])
    talk.client >> said << to(talk.server1)


def test_the_balancers_own_address_needs_no_other(start):
    """What is answered to it comes here anyway."""
    talk = start()
    neighbourhood(talk, NEAR[talk.family])
    talk.engine.own_addresses.add(packed(talk.client.place[0]))
    talk.client >> SYN << to(talk.server1)
    talk.server1 >> SYN_ACK << to(talk.client)


def test_a_server_that_wants_to_see_its_clients_sees_them_even_as_neighbours(start):
    """`sources` of () is never: the operator knows of another way back."""
    talk = start()
    neighbourhood(talk, NEAR[talk.family])
    for server in talk.pool.servers.values():
        server.sources = ()
    talk.client >> SYN << to(talk.server1)


def test_a_server_that_is_to_see_an_address_of_ours_sees_it_whoever_asks(talk):
    neighbourhood(talk, FAR[talk.family])
    talk.engine.own_addresses.add(packed(talk.client.place[0]))
    talk.client >> SYN << to(talk.server1, seen_as=(talk.snat, 40000))


def test_the_first_network_that_a_client_is_in_counts(start):
    talk = start()
    neighbourhood(talk, NEAR[talk.family])
    server = talk.configured(talk.server1)
    other = Source(packed(OTHER_SNAT[talk.family]), PortRanges(ANY))
    server.neighbourhoods += (replace(server.neighbourhoods[0], source=other),)
    talk.client >> SYN << to(talk.server1, seen_as=(talk.snat, 40000))


# Those who have the port already


def test_a_port_that_the_balancer_itself_speaks_from_is_not_lent(start):
    """Its own connection through itself has no need of full NAT, and yet the server knows that tuple."""
    talk = start()
    neighbourhood(talk, NEAR[talk.family])
    server1 = only_server1(talk)
    talk.engine.own_addresses.add(packed(talk.snat))
    itself = replace(talk.client, place=(talk.snat, 40000))
    itself >> SYN << to(server1)
    as_seen = source_of(talk.client >> SYN)
    assert as_seen[0] == talk.snat
    assert as_seen[1] != 40000
    itself >> SYN << to(server1)
    replace(server1, peer=as_seen) >> SYN_ACK << to(talk.client)
    replace(server1, peer=itself.place) >> SYN_ACK << to(itself)


def test_nor_does_it_speak_from_a_port_that_is_lent(start):
    talk = start()
    neighbourhood(talk, NEAR[talk.family])
    server1 = only_server1(talk)
    talk.engine.own_addresses.add(packed(talk.snat))
    talk.client >> SYN << to(server1, seen_as=(talk.snat, 40000))
    itself = replace(talk.client, place=(talk.snat, 40000))
    as_seen = source_of(itself >> SYN)
    assert as_seen[0] == talk.snat
    assert as_seen[1] != 40000
    replace(server1, peer=as_seen) >> SYN_ACK << to(itself)
    replace(server1, peer=(talk.snat, 40000)) >> SYN_ACK << to(talk.client)


def test_with_full_nat_two_virtual_addresses_never_clash(talk):
    talk.addresses.bind(packed(OTHER_VIP[talk.family]), PORT, talk.service)
    server1 = only_server1(talk)
    other = talk.client.asking(OTHER_VIP[talk.family])
    seen = [source_of(client >> SYN) for client in (talk.client, other)]
    assert len(set(seen)) == 2
    for client, as_seen in zip((talk.client, other), seen, strict=True):
        replace(server1, peer=as_seen) >> SYN_ACK << to(client)


def test_a_finished_connection_of_a_port_is_forgotten_for_a_clash_and_no_port_is_lost(start):
    """The tuple is given to the connection that needs it: no other port is needed."""
    talk = start()
    talk.addresses.bind(packed(OTHER_VIP[talk.family]), PORT, talk.service)
    server1 = only_server1(talk)
    talk.client >> SYN << to(server1)
    server1 >> RST_ACK << to(talk.client)
    talk.client.asking(OTHER_VIP[talk.family]) >> SYN << to(server1)
    assert len(talk.engine._lender) == 0


# A client that nobody else can answer

LOOPBACK = {4: "127.0.0.1", 6: "::1"}


def local_client(talk):
    return replace(talk.client, place=(LOOPBACK[talk.family], 40000))


def test_a_loopback_client_is_refused_at_once_when_its_server_is_another_machine(start):
    """That machine would answer itself: silence, if it were let through."""
    talk = start()
    local_client(talk) >> SYN << reset
    local_client(talk) >> DATAGRAM << unreachable
    assert (talk.service.refused, talk.udp.refused) == (1, 1)
    assert len(talk.engine) == 0


def test_a_loopback_client_is_served_by_a_server_on_the_balancer_itself(start):
    talk = start()
    talk.engine.own_addresses.add(packed(SERVER1[talk.family]))
    local_client(talk) >> SYN << to(talk.server1)
    local_client(talk).at(1001) >> SYN << reset


def test_a_loopback_client_is_served_by_a_loopback_server(start):
    talk = start()
    server = talk.configured(talk.server1)
    server.address = packed(LOOPBACK[talk.family])
    at = replace(talk.server1, place=(LOOPBACK[talk.family], talk.server1.place[1]))
    local_client(talk) >> SYN << to(at)


def test_a_loopback_client_of_another_machine_is_refused_under_full_nat_too(talk):
    """The kernel drops what comes in from outside to a loopback address."""
    local_client(talk) >> SYN << reset
    local_client(talk) >> DATAGRAM << unreachable
    assert len(talk.engine) == 0


def test_a_loopback_client_is_served_with_full_nat_by_a_server_on_the_balancer_itself(talk):
    talk.engine.own_addresses.add(packed(SERVER1[talk.family]))
    local_client(talk) >> SYN << to(talk.server1, seen_as=(talk.snat, 40000))
    talk.server1 >> SYN_ACK << to(local_client(talk))


@pytest.mark.parametrize(
    ("address", "is_local"),
    [("127.0.0.1", True), ("127.255.255.254", True), ("126.0.0.1", False), ("::1", True), ("::2", False)],
)
def test_which_addresses_are_loopback(address, is_local):
    talk = Conversation(6 if ":" in address else 4)
    outcome = replace(talk.client, place=(address, 40000)) >> SYN
    outcome << (reset if is_local else to(talk.server1))


# Shut down


def test_each_side_is_reset_at_the_address_that_it_knows(talk):
    client, server1 = talk.client, talk.shake_hands()
    talk.engine.shutdown(talk.entry(), talk.now)
    to_client, to_server = talk.resets()
    assert to_client == Reset(client.peer, client.place, 5001, 1001)
    assert to_server == Reset((talk.snat, 40000), server1.place, 1001, 5001)


def test_the_port_that_is_expected_is_the_one_that_is_lent(talk):
    talk.engine.expect_port(50000)
    opened = talk.client >> SYN
    assert source_of(opened)[1] == 50000
