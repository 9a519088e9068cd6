"""natlb's own marks: where they stand, and that every kind of packet meets the stages that it should.

The engine is followed line by line here, not sampled: what a change loses is found at once, and always.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import natlb
import natlb.daemon
from natlb.core.engine import NatEngine
from natlb.core.verdict import Rewrite
from natlb.profiling.checkpoints import Way, sources
from natlb.profiling.profiler import modules
from natlb.profiling.stages import Stage, mark_of
from tests.unit.core.conversation import ACK, DATA, DATAGRAM, FIN, SYN, SYN_ACK, Conversation, to
from tests.unit.core.test_unfinished import begun

PACKAGE = Path(natlb.__file__).parent
OPENING = [Stage.PARSE, Stage.LOOKUP, Stage.OPEN, Stage.STATE, Stage.REWRITE, Stage.VERDICT]
KNOWN = [Stage.PARSE, Stage.LOOKUP, Stage.STATE, Stage.REWRITE, Stage.VERDICT]


@cache
def way() -> Way:
    return Way(sources(modules()))


@contextmanager
def followed() -> Iterator[list[Stage]]:
    """Hand out the stages of all lines of natlb that are run inside the block."""
    met: list[Stage] = []

    def on_line(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(str(PACKAGE)):
            return None
        if event == "line":
            met.append(way().stage(frame))
        return on_line

    before = sys.gettrace()
    sys.settrace(on_line)
    try:
        yield met
    finally:
        sys.settrace(before)


def stages_met(engine: NatEngine, packet: bytes, *, unfinished: bool = False) -> list[Stage]:
    """Return the stages that a packet comes by, each once, in the order of their first lines."""
    buffer = bytearray(packet)
    with followed() as met:
        verdict = engine.handle_packet(buffer, 1.0, unfinished=unfinished)
    assert isinstance(verdict, Rewrite)
    return list(dict.fromkeys(met))


def test_every_stage_is_marked_and_every_mark_is_a_checkpoint() -> None:
    marks = {
        (str(path), number): mark
        for path in PACKAGE.rglob("*.py")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if "profiling" not in path.parts and (mark := mark_of(line))
    }
    assert way().marks() == set(marks)
    assert set(marks.values()) == set(Stage) - {Stage.ELSEWHERE}


def test_a_comment_that_looks_like_a_mark_is_one() -> None:
    looks = re.compile(r"^\s+# ?--")
    for path in [*PACKAGE.glob("core/**/*.py"), *PACKAGE.glob("datapath/*.py")]:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            assert not looks.match(line) or mark_of(line), f"{path}:{number}: {line.strip()} is no stage"


@pytest.mark.parametrize("unfinished", [False, True], ids=["finished", "unfinished"])
@pytest.mark.parametrize("said", [DATA, ACK], ids=["data", "ack"])
@pytest.mark.parametrize("side", ["client", "server1"])
def test_an_established_segment_comes_by_all_stages(talk: Conversation, said: Any, side: str, unfinished: bool) -> None:
    talk.shake_hands()
    packet = said.packet(getattr(talk, side))
    met = stages_met(talk.engine, begun(packet) if unfinished else packet, unfinished=unfinished)
    assert met == KNOWN


@pytest.mark.parametrize("unfinished", [False, True], ids=["finished", "unfinished"])
@pytest.mark.parametrize("side", ["client", "server1"])
def test_a_datagram_of_a_known_flow_comes_by_all_stages(talk: Conversation, side: str, unfinished: bool) -> None:
    talk.client >> DATAGRAM << to(talk.server1)
    talk.server1 >> DATAGRAM << to(talk.client)
    packet = DATAGRAM.packet(getattr(talk, side))
    met = stages_met(talk.engine, begun(packet) if unfinished else packet, unfinished=unfinished)
    assert met == KNOWN


@pytest.mark.parametrize("said", [SYN, DATAGRAM], ids=["tcp", "udp"])
def test_the_first_packet_of_a_connection_is_one_that_opens(talk: Conversation, said: Any) -> None:
    assert stages_met(talk.engine, said.packet(talk.client)) == OPENING


@pytest.mark.parametrize(
    ("before", "packet"),
    [
        (lambda talk: talk.client >> SYN, lambda talk: SYN_ACK.packet(talk.server1)),
        (lambda talk: talk.shake_hands(), lambda talk: FIN.packet(talk.client)),
    ],
    ids=["syn-ack", "fin"],
)
def test_a_segment_that_moves_the_state_comes_by_all_stages(
    talk: Conversation, before: Callable[[Conversation], object], packet: Callable[[Conversation], bytearray]
) -> None:
    before(talk)
    assert stages_met(talk.engine, packet(talk)) == KNOWN
