from netns.seeing import pairs
from netns.seeing.pairs import Pairs, Passage
from tests.unit.netns.seeing.sightings import ADDRESSES, CLIENT, SERVED, SERVER, VIP, answered, sent, sighting

CLIENT_WIRE, SERVER_WIRE = "client:eth0", "server1:eth0"


def joined(*sightings, now=None):
    found = Pairs(CLIENT_WIRE, ADDRESSES)
    passages = [passage for seen in sightings for passage in found.add(seen, SERVED)]
    return passages + (found.overdue(now) if now is not None else [])


def ends(sightings):
    return [seen for seen in sightings if seen.place in (CLIENT_WIRE, SERVER_WIRE)]


def test_a_packet_on_both_wires_is_one_passage_whichever_was_read_first():
    there, arrived = ends(sent())
    assert joined(there, arrived) == joined(arrived, there) == [Passage(True, there, arrived)]


def test_an_answer_was_first_at_the_server():
    [passage] = joined(*ends(answered(flags="SA")))
    assert not passage.towards_server
    assert passage.first.source == SERVER
    assert passage.client_side.source == VIP


def test_a_packet_sent_twice_is_two_passages():
    assert len(joined(*ends(sent(0.0)), *ends(sent(0.2)))) == 2


def test_full_net_address_translation_hides_the_client_and_not_the_packet():
    there, arrived = ends(sent())
    behind = sighting(SERVER_WIRE, arrived.time, "44.2.2.2:61000", SERVER)
    assert joined(there, behind) == [Passage(True, there, behind)]


def test_what_goes_no_further_is_told_after_a_second():
    [there] = ends(sent(seen=2))
    assert joined(there, now=0.9) == []
    assert joined(there, now=1.1) == [Passage(True, there, None)]


def test_what_the_balancer_itself_sends_the_client_is_told():
    seen = sighting(CLIENT_WIRE, 0.0, VIP, CLIENT, flags="R")
    assert joined(seen, now=2.0) == [Passage(False, seen, None)]


def test_health_checks_are_passed_over():
    assert joined(sighting(SERVER_WIRE, 0.0, "44.2.2.2:52100", SERVER), now=2.0) == []


def test_what_the_balancer_itself_sends_the_server_is_told_also_in_full_nat():
    there, arrived = ends(sent())
    behind = sighting(SERVER_WIRE, arrived.time, "44.2.2.2:61000", SERVER)
    reset = sighting(SERVER_WIRE, 1.0, "44.2.2.2:61000", SERVER, flags="R")
    check = sighting(SERVER_WIRE, 1.0, "44.2.2.2:52100", SERVER, seq=7)
    assert joined(there, behind, reset, check, now=3.0)[1:] == [Passage(True, None, reset)]


def test_a_flood_makes_room_for_itself(monkeypatch):
    monkeypatch.setattr(pairs, "_MOST", 3)
    flood = [sighting(seq=number) for number in range(10)]
    assert [passage.first.seq for passage in joined(*flood)] == list(range(7))
