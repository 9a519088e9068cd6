from dataclasses import replace

from netns.walk import Sighting, changed, follow, of_connection

WAY = ("client:eth0", "lb:client", "lb:server1", "server1:eth0")
CLIENT, VIP, SERVER = "44.1.1.1:40312", "44.2.2.2:8888", "44.3.3.3:4444"


def sighting(place, time=0.0, source=CLIENT, destination=VIP, seq=1000, payload=b"GET /", flags="PA"):
    return Sighting(place, time, source, destination, 64, 0x1111, 0x2222, True, seq, 2000, flags, (7, 8), payload)


def request(time=0.0, **fields):
    before, after = {**fields}, {**fields, "destination": SERVER}
    return [sighting(place, time + n, **(before if n < 2 else after)) for n, place in enumerate(WAY)]


def reply(time=0.0, **fields):
    fields = {"destination": CLIENT, **fields}
    before, after = {"source": SERVER, **fields}, {**fields, "source": VIP}
    return [sighting(place, time + n, **(before if n < 2 else after)) for n, place in enumerate(reversed(WAY))]


def places(walk):
    return [seen.place for seen in walk.sightings]


def test_one_packet_at_four_places_is_one_walk():
    [walk] = follow(request(), CLIENT, WAY)
    assert walk.towards_server
    assert places(walk) == list(WAY)


def test_a_reply_goes_the_way_backwards():
    [walk] = follow(reply(), CLIENT, WAY)
    assert not walk.towards_server
    assert places(walk) == list(reversed(WAY))
    assert walk.first.source == SERVER


def test_the_order_of_the_captures_does_not_matter():
    assert follow(reversed(request()), CLIENT, WAY) == follow(request(), CLIENT, WAY)


def test_walks_come_in_the_order_of_sending():
    walks = follow(request(time=10, seq=3) + reply(time=5, seq=2) + request(time=0, seq=1), CLIENT, WAY)
    assert [walk.first.seq for walk in walks] == [1, 2, 3]


def test_a_packet_sent_twice_is_two_walks():
    walks = follow(request(time=0) + request(time=1), CLIENT, WAY)
    assert [len(walk.sightings) for walk in walks] == [4, 4]
    assert [walk.first.time for walk in walks] == [0, 1]


def test_a_packet_lost_on_the_way_is_a_short_walk():
    [walk] = follow(request()[:2], CLIENT, WAY)
    assert places(walk) == list(WAY[:2])


def test_a_changed_payload_breaks_the_walk_in_two():
    seen = request()
    seen[2:] = [replace(after, payload=b"GET /evil") for after in seen[2:]]
    assert [len(walk.sightings) for walk in follow(seen, CLIENT, WAY)] == [2, 2]


def test_the_same_numbers_in_both_directions_are_not_one_packet():
    assert len(follow(request() + reply(), CLIENT, WAY)) == 2


def test_other_connections_and_other_places_are_passed_over():
    others = [sighting("client:eth0", source="44.1.1.1:9"), sighting("server2:eth0")]
    assert follow(others, CLIENT, WAY) == []


def test_changed_names_the_fields_that_differ():
    before = sighting("a")
    after = replace(before, place="b", time=1.0, destination=SERVER, ttl=63, ip_checksum=1, tcp_checksum=2)
    assert changed(before, after) == {"destination", "TTL", "IP checksum", "TCP checksum"}
    assert changed(before, replace(before, place="b", time=1.0)) == set()


# -- full NAT: the server sees the balancer in the client's place

KNOWN_AS = "44.2.2.2:61000"


def full_nat(seen):
    """What is seen on the server's side has the balancer's endpoint where the client's was."""
    ends = {end: KNOWN_AS for end in ("source", "destination") if getattr(seen, end) == CLIENT}
    return replace(seen, **ends) if "server1" in seen.place else seen


def opening():
    return [full_nat(seen) for seen in request(seq=999, flags="S", payload=b"")]


def test_with_full_nat_a_connection_is_known_again_by_its_first_packet():
    seen = [*opening(), *map(full_nat, request(time=10) + reply(time=20))]
    assert [(walk.towards_server, places(walk)) for walk in follow(seen, CLIENT, WAY)] == [
        (True, list(WAY)), (True, list(WAY)), (False, list(reversed(WAY))),
    ]  # fmt: skip


def test_what_the_balancer_says_to_the_server_in_the_clients_place_belongs_to_the_connection():
    reset = sighting("lb:server1", 10, KNOWN_AS, SERVER, flags="R", payload=b"")
    *_, last = follow([*opening(), reset], CLIENT, WAY)
    assert (last.towards_server, last.sightings) == (True, (reset,))


def test_a_health_check_does_not_though_it_comes_from_the_same_address():
    check = [
        sighting("server1:eth0", 5, "44.2.2.2:52100", SERVER, seq=7, flags="S", payload=b""),
        sighting("server1:eth0", 6, SERVER, "44.2.2.2:52100", seq=8, flags="SA", payload=b""),
        sighting("server2:eth0", 7, KNOWN_AS, "44.4.4.4:5555", seq=9, flags="S", payload=b""),
    ]
    everywhere = [*WAY, "server2:eth0"]
    assert [walk.first.seq for walk in follow([*opening(), *check], CLIENT, everywhere)] == [999]


def test_another_connection_of_the_client_is_none_of_this_one_whatever_its_numbers():
    mine = request(seq=999, flags="S", payload=b"")
    other = request(seq=999, flags="S", payload=b"", source="44.1.1.1:9")
    assert [seen for _, seen in of_connection(other + mine, CLIENT)] == mine
