from dataclasses import replace

import pytest

from netns.errors import LabError
from netns.seeing.picture import connection
from netns.topology import SEED
from netns.walk import changed
from tests.unit.netns.seeing.sightings import CLIENT, conversation, sent, sighting

OTHER = "44.1.1.1:50000"


def test_the_first_connection_is_taken_when_none_is_named():
    walks, server = connection(SEED, [*sent(9.0, source=OTHER), *conversation()])
    assert [walk.first.flags for walk in walks] == ["S", "SA", "A", "PA", "PA", "R"]
    assert server.name == "server1"


def test_one_that_is_named_is_taken():
    [walk], _ = connection(SEED, [*sent(9.0, source=OTHER), *conversation()], OTHER)
    assert walk.first.source == OTHER


def test_one_that_no_server_saw_is_drawn_as_well():
    [walk], _ = connection(SEED, sent(seen=2))
    assert len(walk.sightings) == 2


def test_full_nat_hides_the_client_from_the_server_and_not_from_the_picture():
    names = {"source": {CLIENT: "44.2.2.2:61000"}, "destination": {CLIENT: "44.2.2.2:61000"}}
    translated = [
        replace(seen, **{end: new.get(getattr(seen, end), getattr(seen, end)) for end, new in names.items()})
        if "server1" in seen.place
        else seen
        for seen in conversation()
    ]
    walks, _ = connection(SEED, translated)
    assert [len(walk.sightings) for walk in walks] == [4, 4, 4, 4, 4, 2]
    assert [walk.towards_server for walk in walks] == [True, False, True, True, False, True]
    assert changed(*walks[0].sightings[1:3]) >= {"source", "destination"}


@pytest.mark.parametrize("seen", [[], [sighting(flags="A")], [sighting("lb:client")]])
def test_without_a_beginning_at_the_client_there_is_nothing_to_draw(seen):
    with pytest.raises(LabError, match="no connection of the client was seen"):
        connection(SEED, seen)
