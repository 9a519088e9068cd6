from dataclasses import replace

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from netns.build import Lab
from netns.draw import Pen
from netns.errors import LabError
from netns.seeing.pcapng import Writer
from netns.seeing.picture import connection, draw
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


EVERYWHERE = ("client:eth0", "lb:client", "lb:server1", "server1:eth0", "lb:server2", "server2:eth0")


@pytest.mark.parametrize(
    ("captured", "missing"),
    [
        (["lb:client", "lb:server1", "lb:server2"], "client:eth0, server1:eth0, server2:eth0"),
        (["client:eth0"], "lb:client, lb:server1, server1:eth0, lb:server2, server2:eth0"),
    ],
)
def test_a_file_that_was_not_captured_everywhere_is_refused_with_the_one_it_takes(tmp_path, captured, missing):
    file = tmp_path / "some.pcapng"
    with file.open("wb") as opened:
        Writer(opened, captured, {})
    with pytest.raises(LabError) as caught:
        draw(Lab(prefix="no-such-lab-"), Pen(), ["--from", str(file), str(tmp_path / "some.svg")])
    assert str(caught.value) == (
        f"{file} was not captured at {missing}; a picture needs every place of a connection, as in a file of"
        " `lab.sh capture all`"
    )


def test_a_connection_that_went_no_further_is_not_said_to_be_served(tmp_path, capsys):
    file, picture = tmp_path / "some.pcapng", tmp_path / "some.svg"
    syn = bytes(Ether() / IP(src="44.1.1.1", dst="44.2.2.2") / TCP(sport=40312, dport=8888, flags="S"))
    with file.open("wb") as opened:
        Writer(opened, EVERYWHERE, {}).write("client:eth0", 1.0, syn)
    assert draw(Lab(prefix="no-such-lab-"), Pen(), ["--from", str(file), str(picture)]) == 0
    assert capsys.readouterr().out == (
        f"{picture}: 1 packet of 44.1.1.1:40312 > 44.2.2.2:8888, none of them on a server's link. A browser shows it.\n"
    )
