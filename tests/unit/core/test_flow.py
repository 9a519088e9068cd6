import pytest

from natlb.core.flow import Connection, Direction, FullTranslation, Translation, apply_delta, ends, flow_key, reverse
from natlb.core.states import State
from natlb.core.statistics import Account
from tests.unit.core import oracle
from tests.unit.core.conversation import CLIENT, SERVER1, SNAT, VIP, client_key
from tests.unit.core.packets import ACK, TCP, UDP, cut, datagram, packed, segment

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


def endpoint(place):
    return packed(place[0]), place[1].to_bytes(2, "big")


CLIENT_AT, VIP_AT, SERVER_AT, SNAT_AT = (
    {family: (addresses[family], port) for family in (4, 6)}
    for addresses, port in ((CLIENT, 40000), (VIP, 8888), (SERVER1, 4444), (SNAT, 1024))
)


# Tuples


@FAMILIES
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_tuple_is_its_two_ends_and_a_protocol(family, protocol):
    client, vip = CLIENT_AT[family], VIP_AT[family]
    key = flow_key(endpoint(client), endpoint(vip), protocol)
    assert key == client_key(client, vip) + bytes((protocol,))
    assert len(key) == (13 if family == 4 else 37)
    assert ends(key) == (endpoint(client), endpoint(vip))


@FAMILIES
def test_the_reply_tuple_is_the_way_back_from_the_server(family):
    client, server = CLIENT_AT[family], SERVER_AT[family]
    there, back = client_key(client, server) + b"\x06", client_key(server, client) + b"\x06"
    assert reverse(there) == back
    assert reverse(back) == there


# Translations


@FAMILIES
@pytest.mark.parametrize("payload", [b"", b"x", b"xy"])
def test_a_translation_replaces_the_destination_one_way_and_the_source_the_other(family, payload):
    client, vip, server = CLIENT_AT[family], VIP_AT[family], SERVER_AT[family]
    transport = 20 if family == 4 else 40
    there, back = segment(client, vip, ACK, payload=payload), segment(server, client, ACK, payload=payload)
    expected = oracle.translated(there, destination=server), oracle.translated(back, source=vip)

    Translation(Direction.ORIGINAL, endpoint(vip), endpoint(server), Account()).apply_tcp(there, transport)
    Translation(Direction.REPLY, endpoint(server), endpoint(vip), Account()).apply_tcp(back, transport)

    assert (bytes(there), bytes(back)) == expected


@FAMILIES
@pytest.mark.parametrize("checksum", [None, 0], ids=["with checksum", "without"])
@pytest.mark.parametrize("payload", [b"", b"x", b"xy"])
def test_a_datagram_is_translated_likewise_and_gets_no_checksum_that_it_did_not_have(family, payload, checksum):
    client, vip, server = CLIENT_AT[family], VIP_AT[family], SERVER_AT[family]
    transport = 20 if family == 4 else 40
    there = datagram(client, vip, payload, checksum=checksum)
    back = datagram(server, client, payload, checksum=checksum)
    expected = oracle.translated(there, destination=server), oracle.translated(back, source=vip)

    Translation(Direction.ORIGINAL, endpoint(vip), endpoint(server), Account()).apply_udp(there, transport)
    Translation(Direction.REPLY, endpoint(server), endpoint(vip), Account()).apply_udp(back, transport)

    assert (bytes(there), bytes(back)) == expected


@FAMILIES
@pytest.mark.parametrize("protocol", [TCP, UDP], ids=["tcp", "udp"])
@pytest.mark.parametrize("payload", [b"", b"x"])
def test_a_full_translation_replaces_both_ends_at_once(family, protocol, payload):
    client, vip, server, snat = CLIENT_AT[family], VIP_AT[family], SERVER_AT[family], SNAT_AT[family]
    keys = [
        flow_key(endpoint(source), endpoint(destination), protocol)
        for source, destination in ((client, vip), (snat, server))
    ]
    packet = segment(client, vip, ACK, payload=payload) if protocol == TCP else datagram(client, vip, payload)
    expected = oracle.translated(packet, snat, server)

    translation = FullTranslation(*keys, Account())
    apply = translation.apply_tcp if protocol == TCP else translation.apply_udp
    apply(packet, 20 if family == 4 else 40)

    assert bytes(packet) == expected


@FAMILIES
@pytest.mark.parametrize("full", [False, True])
def test_in_a_later_fragment_the_addresses_alone_are_translated(family, full):
    client, vip, server, snat = CLIENT_AT[family], VIP_AT[family], SERVER_AT[family], SNAT_AT[family]
    whole = datagram(client, vip, bytes(range(100)))
    fragment = cut(whole, 16, 64)
    if full:
        old, new = client_key(client, vip) + b"\x11", client_key(snat, server) + b"\x11"
        FullTranslation(old, new, Account()).apply_addresses(fragment)
        expected = oracle.translated(whole, snat, server)
    else:
        Translation(Direction.ORIGINAL, endpoint(vip), endpoint(server), Account()).apply_addresses(fragment)
        expected = oracle.translated(whole, destination=server)
    assert fragment == cut(expected, 16, 64)


def test_a_translation_to_the_same_endpoint_changes_nothing():
    packet = segment(("44.1.1.1", 40000), ("44.2.2.2", 8888), ACK)
    before = bytes(packet)
    same = endpoint(("44.2.2.2", 8888))
    Translation(Direction.ORIGINAL, same, same, Account()).apply_tcp(packet, 20)
    assert packet == before


# Checksums


@pytest.mark.parametrize(
    ("protocol", "before", "delta", "after"),
    [
        (TCP, 0x1234, 0, 0x1234),
        (TCP, 0x1234, 0x34, 0x1200),
        (TCP, 0x1234, 0x1234, 0x0000),
        (TCP, 0x0000, 0x0001, 0xFFFE),
        (UDP, 0x1234, 0x34, 0x1200),
        (UDP, 0x1234, 0x1234, 0xFFFF),
        (UDP, 0xFFFF, 0x0000, 0xFFFF),
        (UDP, 0x0000, 0x0001, 0x0000),
    ],
)
def test_a_checksum_moves_by_a_difference_and_in_udp_zero_says_that_there_is_none(protocol, before, delta, after):
    packet = bytearray(b"\xaa" + before.to_bytes(2, "big") + b"\xaa")
    apply_delta(packet, 1, delta, protocol)
    assert packet == b"\xaa" + after.to_bytes(2, "big") + b"\xaa"


# Connections


def test_a_new_connection_is_in_no_queue_and_has_no_row():
    connection = Connection(b"o", b"r", (), None, None, State.INIT)
    assert connection.index == -1
    assert connection.older is connection.newer is None
    assert not hasattr(connection, "queue")


def test_a_connection_with_both_ends_translated_has_a_port_that_was_lent():
    vip, server = endpoint(VIP_AT[4]), endpoint(SERVER_AT[4])
    one_end = (
        Translation(Direction.ORIGINAL, vip, server, Account()),
        Translation(Direction.REPLY, server, vip, Account()),
    )
    key = client_key(CLIENT_AT[4], VIP_AT[4]) + b"\x06"
    both_ends = FullTranslation(key, key, Account()), FullTranslation(key, key, Account())
    assert not Connection(b"o", b"r", one_end, None, None, State.INIT).has_own_port
    assert Connection(b"o", b"r", both_ends, None, None, State.INIT).has_own_port


def test_a_connection_has_no_room_for_what_is_not_declared():
    with pytest.raises(AttributeError):
        Connection(b"o", b"r", (), None, None, State.INIT).note = "a table of a million entries has no dictionaries"
