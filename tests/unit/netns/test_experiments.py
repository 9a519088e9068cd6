"""What experiments say is chosen by what was seen: here the captures are written by hand."""

import pytest

from netns.build import Lab
from netns.draw import Pen
from netns.errors import LabError
from netns.experiments import connections, cost, opening, segments
from netns.topology import LINK
from netns.walk import Sighting, follow

CLIENT, VIP, SERVER = "44.1.1.1:40312", "44.2.2.2:8888", "44.3.3.3:4444"
AT_CLIENT, AT_SERVER = f"client:{LINK}", f"server1:{LINK}"


def seen(place, source, destination, flags, *, time=0.0, payload=b"", seq=0):
    return Sighting(place, time, source, destination, 64, 1, 2, True, seq, 0, flags, (1, 2), payload)


SYN = [seen(AT_CLIENT, CLIENT, VIP, "S"), seen(AT_SERVER, CLIENT, SERVER, "S")]


def story(*sightings):
    return opening._story(follow(sightings, CLIENT, (AT_CLIENT, AT_SERVER)), VIP)


def test_an_answer_of_the_vips_is_what_the_client_waited_for():
    answer = [seen(AT_SERVER, SERVER, CLIENT, "SA", time=1), seen(AT_CLIENT, VIP, CLIENT, "SA", time=2)]
    assert story(*SYN, *answer) == f"It asked {VIP}, and {VIP} answered."


def test_an_answer_of_a_stranger_is_told_with_the_strangers_name_and_what_the_client_did():
    answer = [seen(AT_SERVER, SERVER, CLIENT, "SA", time=1), seen(AT_CLIENT, SERVER, CLIENT, "SA", time=2)]
    refusal = [seen(AT_CLIENT, CLIENT, SERVER, "R", time=3)]
    assert f"was answered by {SERVER}." in story(*SYN, *answer)
    assert "RST" not in story(*SYN, *answer)
    assert story(*SYN, *answer, *refusal).endswith("so it refused the answer with a RST.")


def test_with_full_nat_the_answer_is_the_vips_as_well():
    known_as = "44.2.2.2:61000"
    there = [SYN[0], seen(AT_SERVER, known_as, SERVER, "S")]
    answer = [seen(AT_SERVER, SERVER, known_as, "SA", time=1), seen(AT_CLIENT, VIP, CLIENT, "SA", time=2)]
    assert story(*there) == f"A server got its SYN to {VIP}; no answer came back to it."
    assert story(*there, *answer) == f"It asked {VIP}, and {VIP} answered."


def test_segments_are_counted_in_good_english(monkeypatch):
    monkeypatch.setattr(segments.wrong, "is_running", lambda _: False)
    said = [*segments._balance(Lab(prefix="no-such-lab-"), follow(SYN, CLIENT, (AT_CLIENT, AT_SERVER)), 0, "")]
    assert said[:2] == [
        "server1: 1 segment from the client; it sent 0 RST",
        "server2: 0 segments from the client; it sent 0 RST",
    ]


def test_silence_is_told_apart_from_a_syn_that_got_nowhere():
    assert story(SYN[0]) == f"Its SYN to {VIP} reached no server."
    assert story(*SYN) == f"A server got its SYN to {VIP}; no answer came back to it."


def test_a_proxys_connection_is_found_by_what_it_carries():
    wanted, other = "44.2.2.2:50000", "44.2.2.2:50001"
    sightings = [
        seen(AT_SERVER, other, SERVER, "S"),
        seen(AT_SERVER, wanted, SERVER, "S"),
        seen(AT_SERVER, SERVER, wanted, "SA"),
        seen(AT_SERVER, other, SERVER, "PA", payload=b"GET /elsewhere HTTP/1.1"),
        seen(AT_SERVER, wanted, SERVER, "PA", payload=b"GET /here HTTP/1.1"),
    ]
    found = connections.connection_with(sightings, "/here", "server")
    assert [each.flags for each in found] == ["S", "SA", "PA"]
    with pytest.raises(LabError, match="no request for /nowhere was seen at server"):
        connections.connection_with(sightings, "/nowhere", "server")


@pytest.mark.parametrize(("number", "words"), [(0, "never"), (1, "once"), (2, "twice"), (3, "3 times")])
def test_numbers_of_times_are_written_as_people_say_them(number, words):
    assert connections._times(number) == words


def test_bars_are_as_long_as_their_values():
    drawn = cost._bars(Pen(), {"a": 30.0, "bb": 15.0, "c": 0.0}, "{:5.1f}")
    assert [line.count("█") for line in drawn.splitlines()] == [30, 15, 1]
    assert "#" in cost._bars(Pen(boxes=False), {"a": 1.0}, "{:.1f}")
