"""Frames of two wires and what natlb says of its table: moments."""

import time

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from netns.build import Lab
from netns.seeing import scene as module
from netns.seeing.scene import Scene

SYN_AT, FIN_AT = 10.0, 20.0
ENTRY = "0x1: proto=tcp fe=www be=nodes srv=server1 ts={state} " + (
    "orig=44.1.1.1:5>44.2.2.2:8888 reply=44.3.3.3:4444>44.1.1.1:5\n"
)


def frame(destination, port, **fields):
    return bytes(Ether() / IP(src="44.1.1.1", dst=destination) / TCP(sport=5, dport=port, **fields))


def both_wires(at, **fields):
    return [
        (at, "client:eth0", frame("44.2.2.2", 8888, **fields)),
        (at + 1e-4, "server1:eth0", frame("44.3.3.3", 4444, **fields)),
    ]


class Wires:
    """A feed that gives what it is told to."""

    def __init__(self):
        self.next = []

    def in_order(self):
        found, self.next = self.next, []
        return found


@pytest.fixture
def scene(monkeypatch):
    """A scene, whose natlb says what `scene.says` is, at the time `scene.now`."""
    wires = Wires()
    made = Scene(Lab(prefix="no-such-lab-"), wires)
    made.wires, made.says, made.now = wires, "", 0.0

    def ask(*_, **__):
        if made.says is None:
            raise ConnectionRefusedError(111, "Connection refused")
        return made.says

    monkeypatch.setattr(module.balancer, "ask", ask)
    monkeypatch.setattr(time, "time", lambda: made.now)
    return made


def test_a_packet_is_shown_with_the_table_of_its_time_however_late_it_is_shown(scene):
    for now, state in ((SYN_AT + 0.01, "INIT"), (FIN_AT + 0.01, "BOTH_FIN")):
        scene.now, scene.says = now, ENTRY.format(state=state)
        scene.look()
    scene.now += 1
    scene.wires.next = both_wires(SYN_AT, flags="S", seq=100) + both_wires(FIN_AT, flags="FA", seq=900)
    assert [[entry.state for entry in moment.entries] for moment in scene.look()] == [["INIT"], ["BOTH_FIN"]]


def test_a_connection_that_is_gone_already_is_shown_as_it_was_last(scene):
    scene.now, scene.says = 5.0, ENTRY.format(state="ESTABLISHED")
    scene.look()
    scene.now, scene.says = 15.0, ""
    scene.wires.next = both_wires(SYN_AT, flags="A")
    [moment] = scene.look()
    assert [entry.state for entry in moment.entries] == ["ESTABLISHED"]


def test_numbers_are_counted_from_the_beginning_of_the_connection(scene):
    scene.wires.next = both_wires(1.0, flags="S", seq=100) + both_wires(2.0, flags="PA", seq=101)
    assert [moment.numbers for moment in scene.look()] == ["seq 0", "seq 1"]


def test_of_a_connection_whose_beginning_was_not_seen_there_are_no_numbers(scene):
    scene.wires.next = both_wires(2.0, flags="PA", seq=101)
    assert [moment.numbers for moment in scene.look()] == [""]


def test_a_natlb_that_does_not_answer_is_no_end(scene):
    scene.says = None
    scene.wires.next = both_wires(1.0, flags="S")
    assert [moment.entries for moment in scene.look()] == [()]
    assert scene.silent == "natlb does not answer: Connection refused"
    scene.says = ENTRY.format(state="INIT")
    scene.look()
    assert scene.silent == ""
