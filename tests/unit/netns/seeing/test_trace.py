import pytest

from netns.seeing.trace import KINDS
from tests.unit.netns.seeing.sightings import CLIENT, conversation, sent


@pytest.mark.parametrize(
    ("name", "at"), [("syn", 0.0), ("syn-ack", 0.001), ("request", 0.003), ("answer", 0.004), ("fin", 0.006)]
)
def test_each_kind_is_one_packet_of_a_connection(name, at):
    kind = KINDS[name]
    first = [seen for seen in [*conversation(), *sent(0.006, flags="FA")] if kind.fits(seen)]
    first = [seen for seen in first if (seen.source == CLIENT) == kind.from_client]
    assert first[0].time == at
