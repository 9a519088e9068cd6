"""Captures: whatever a file is, `natlb replay` tells what is in it, or in one line why it cannot.

An input is a file, pcap or pcapng. Its packets go through the engine of a whole balancer, as `natlb replay` has it, and
the last one is explained. What is written can be read again.
"""

import json
import time
from io import BytesIO

from natlb.captures.files import Reader, Record
from natlb.captures.links import is_known
from natlb.captures.writer import Writer
from natlb.errors import CaptureError
from natlb.replay import prose
from natlb.replay.explanation import Explainer
from natlb.replay.history import Entry
from natlb.replay.lent import Lent
from natlb.replay.player import Player
from natlb.replay.scene import Scene, prepare
from natlb.replay.witness import Witness
from tests.fuzz.balancer import TEXT, configuration
from tests.unit.core import invariants

SLOWEST = 3.0
"""Seconds of the processor for a file, instrumented."""
_MOST_RECORDS = 100


def check(data: bytes) -> None:
    """Replay a capture. Raises if anything about it is not right."""
    began = time.process_time()
    records = _records(data)
    if records:
        _replay(data, records)
        _explain(records)
    took = time.process_time() - began
    assert took < SLOWEST, f"it took {took:.1f} s"


def _records(data: bytes) -> list[Record]:
    """Return the records of a file, up to where it is damaged, if it is."""
    records: list[Record] = []
    try:
        for record in Reader(BytesIO(data), "fuzzed.pcap"):
            assert record.number == len(records) + 1
            assert len(record.data) <= min(record.size, len(data))
            assert record.at >= 0
            records.append(record)
    except CaptureError as error:
        assert str(error).isprintable(), error
    return [each for each in records if is_known(each.link)][:_MOST_RECORDS]


def _replay(data: bytes, records: list[Record]) -> None:
    made = prepare(configuration(), Scene())
    lent = Lent()
    lent.learn(iter(records), frozenset(address.packed for address in made.sources))
    written = BytesIO()
    writer = Writer(written, "written.pcap")
    player = Player(made, _tell, writer.write, lent=lent)
    for record in records:
        player.play(record)
    invariants.check(made.engine)
    player.finish()
    writer.flush()
    summary = player.summary()
    assert summary["packets"] == len(records), "a packet has no fate, or two"
    assert sum(1 for _ in Reader(BytesIO(written.getvalue()), "written.pcap")) == summary["sent"]


def _tell(entry: Entry) -> None:
    text = entry.as_text()
    assert all(line.isprintable() for line in text.split("\n")), text
    assert json.loads(entry.as_json())["event"] == entry.event


def _explain(records: list[Record]) -> None:
    witness = Witness()
    made = prepare(configuration(), Scene(make_policy=witness.make_policy))
    lines = {("balancer.cfg", number): line for number, line in enumerate(TEXT.decode().split("\n"), 1)}
    explainer = Explainer(configuration(), made, witness, lines, Lent())
    for record in records[:-1]:
        explainer.play(record)
    told = explainer.explain(records[-1])
    json.dumps(told)
    for line in prose.lines(told, colour=False):
        assert line.isprintable(), line
