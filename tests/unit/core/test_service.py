import pytest

from natlb.core.flow import Direction
from natlb.core.packet import TCP, UDP
from natlb.core.pool import Pool, Server
from natlb.core.service import Service, Timeouts, VirtualAddresses
from natlb.core.states import State
from tests.unit.core.packets import packed

WEB, MAIL, ANY = (Service(name, None) for name in ("web", "mail", "any"))
DNS = Service("dns", None, protocol=UDP)


@pytest.mark.parametrize(
    ("state", "seconds"),
    [
        (State.INIT, 1),
        (State.SYN_RECEIVED, 1),
        (State.ESTABLISHED, 2),
        (State.CLIENT_FIN, 3),
        (State.SERVER_FIN, 4),
        (State.BOTH_FIN, 5),
        (State.TRANS, 5),
        (State.ABORTED, 5),
        (State.SHUT, 5),
        (State.ONE_WAY, 6),
        (State.BOTH_WAYS, 7),
    ],
)
def test_each_state_has_its_timeout(state, seconds):
    timeouts = Timeouts(opening=1, idle=2, client_fin=3, server_fin=4, closing=5, one_way=6, both_ways=7)
    assert timeouts.of(state) == seconds


@pytest.mark.parametrize("state", State)
def test_by_default_no_state_is_shorter_than_the_rfcs_allow(state):
    """RFC 5382, REQ-5, for TCP; RFC 4787, REQ-5, for UDP."""
    established = (State.ESTABLISHED, State.CLIENT_FIN, State.SERVER_FIN)
    udp = (State.ONE_WAY, State.BOTH_WAYS)
    least = 2 * 3600 + 4 * 60 if state in established else 2 * 60 if state in udp else 4 * 60
    assert Timeouts().of(state) >= least


@pytest.fixture
def addresses():
    addresses = VirtualAddresses()
    addresses.bind(packed("44.2.2.2"), 80, WEB)
    addresses.bind(packed("44.2.2.2"), 25, MAIL)
    addresses.bind(packed("0.0.0.0"), 80, ANY)
    addresses.bind(packed("::"), 443, ANY)
    addresses.bind(packed("44.2.2.2"), 53, DNS)
    addresses.bind(packed("44.2.2.4"), 80, DNS)
    return addresses


@pytest.mark.parametrize(
    ("address", "port", "service"),
    [
        ("44.2.2.2", 80, WEB),
        ("44.2.2.2", 25, MAIL),
        ("44.2.2.2", 443, None),
        ("44.2.2.3", 80, ANY),
        ("44.2.2.3", 25, None),
        ("fd44:2::2", 443, ANY),
        ("fd44:2::2", 80, None),
    ],
)
def test_an_exact_address_comes_before_the_wildcard_of_its_family(addresses, address, port, service):
    assert addresses.find(packed(address), port.to_bytes(2, "big"), TCP) is service


@pytest.mark.parametrize(
    ("address", "port", "tcp", "udp"),
    [("44.2.2.2", 53, None, DNS), ("44.2.2.2", 80, WEB, None), ("44.2.2.4", 80, ANY, DNS)],
)
def test_the_ports_of_tcp_are_not_those_of_udp(addresses, address, port, tcp, udp):
    asked = packed(address), port.to_bytes(2, "big")
    assert addresses.find(*asked, TCP) is tcp
    assert addresses.find(*asked, UDP) is udp


@pytest.mark.parametrize(("address", "ours"), [("44.2.2.2", True), ("44.2.2.4", True), ("44.2.2.3", False)])
def test_an_address_is_owned_if_it_was_named_and_not_if_it_is_one_of_any(addresses, address, ours):
    assert addresses.owns(packed(address)) is ours


def test_a_service_that_is_released_is_found_no_more_and_its_addresses_are_not_owned(addresses):
    addresses.release(DNS)
    assert addresses.find(packed("44.2.2.4"), (53).to_bytes(2, "big"), UDP) is not DNS
    assert addresses.find(packed("44.2.2.2"), (80).to_bytes(2, "big"), TCP) is WEB
    assert addresses.owns(packed("44.2.2.2"))
    addresses.release(WEB)
    addresses.release(MAIL)
    assert not addresses.owns(packed("44.2.2.2"))
    assert addresses.find(packed("44.2.2.2"), (80).to_bytes(2, "big"), TCP) is ANY, "which answers everywhere"


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
def test_a_wildcard_is_no_address_of_its_own(addresses, wildcard):
    assert not addresses.owns(packed(wildcard))


VIP = packed("44.2.2.2"), b"\x00\x50"


def servers(*names, address="44.3.3.3"):
    pool = Pool("servers", [Server(name, packed(address), 4444) for name in names])
    return Service("web", pool), pool, list(pool.servers.values())


def test_all_connections_between_an_address_and_a_server_share_their_translations():
    service, _, [server] = servers("one")
    endpoint = server.endpoint(0)
    there, back = service.translations(VIP, server, endpoint)
    assert service.translations(VIP, server, endpoint) == (there, back)
    assert (there.address, there.port) == endpoint
    assert (back.address, back.port) == VIP
    assert (Direction.ORIGINAL, Direction.REPLY) == (0, 1)


def test_another_endpoint_of_a_server_has_translations_of_its_own():
    service, _, [server] = servers("one")
    for address in (packed("44.3.3.3"), packed("44.4.4.4")):
        assert service.translations(VIP, server, (address, b"\x11\x5c"))[0].address == address


def test_a_server_that_moves_often_leaves_nothing_behind():
    service, _, [server] = servers("one")
    for port in range(1000):
        there, _ = service.translations(VIP, server, (server.address, port.to_bytes(2, "big")))
        there.account.count(1)
    assert len(service._translations) == 1
    service.settle()
    assert server.counters.octets_in == 1000, "the translations share one account"


def test_two_servers_at_one_endpoint_are_counted_apart():
    service, pool, [one, two] = servers("one", "two")
    endpoint = one.endpoint(0)
    assert two.endpoint(0) == endpoint
    service.translations(VIP, one, endpoint)[Direction.ORIGINAL].account.count(5)
    service.translations(VIP, two, endpoint)[Direction.REPLY].account.count(7)
    service.settle()
    assert [(each.octets_in, each.octets_out) for each in (one.counters, two.counters)] == [(5, 0), (0, 7)]
    assert (pool.counters.octets_in, pool.counters.octets_out) == (5, 7)
    assert (service.counters.octets_in, service.counters.octets_out, service.carried) == (5, 7, 12)


def test_a_server_that_is_gone_is_forgotten_with_its_bytes_counted():
    service, pool, [one, two] = servers("one", "two")
    for server in (one, two):
        service.translations(VIP, server, server.endpoint(0))[Direction.ORIGINAL].account.count(3)
    pool.remove(one)
    service.settle()
    assert list(service._traffic) == [two]
    assert {key[1] for key in service._translations} == {two}
    assert (service.counters.octets_in, pool.counters.octets_in, service.carried) == (6, 6, 6)


def test_the_bytes_of_many_servers_are_added_up_in_pieces():
    service, _, many = servers(*map(str, range(1001)))
    for server in many:
        service.traffic(server).there.count(1)
    assert len(list(service.settling())) == 2
    assert service.counters.octets_in == 1001


def test_time_begins_for_a_pool_and_its_servers():
    _, pool, [one] = servers("one")
    pool.begin(1000.0)
    assert (pool.now, pool.standing.changed, one.changed) == (1000.0, 1000.0, 1000.0)


def test_services_are_told_apart_by_identity():
    assert Service("web", None) != Service("web", None)
