"""`natlb where`: packets that are what they should be, and the table that it prints."""

import re
import subprocess
import sys

import pytest
from scapy.layers.inet import IP

from natlb.cli import main
from natlb.core.verdict import Rewrite
from natlb.profiling import burst
from natlb.profiling.burst import Load, loads


@pytest.mark.parametrize("load", loads(), ids=lambda load: load.about)
def test_every_packet_is_valid_and_is_carried(load: Load) -> None:
    engine = burst._engine(load.protocol)
    for number, packet in enumerate([*load.before, *load.packets]):
        if number % 97 == 0:  # scapy takes its time
            again = IP(packet)
            del again.chksum, again.payload.chksum
            assert bytes(again) == packet
        assert isinstance(engine.handle_packet(bytearray(packet), 0.0), Rewrite)
    assert not engine.drops


def test_established_packets_move_no_state_and_nothing_is_sent_twice() -> None:
    load = loads()[0]
    engine = burst._engine(load.protocol)
    for packet in load.before:
        engine.handle_packet(bytearray(packet), 0.0)
    states = {connection.state for connection in engine.connections()}
    octets = 0
    for packet in load.packets:
        engine.handle_packet(bytearray(packet), 0.0)
        octets += len(packet) - 40
    assert {connection.state for connection in engine.connections()} == states
    assert len(states) == 1
    ledger = engine.ledger
    assert sum(sum(ledger.octets[2 * each.index :][:2]) for each in engine.connections()) == octets


def test_whole_connections_end() -> None:
    load = loads()[1]
    engine = burst._engine(load.protocol)
    for packet in load.packets:
        engine.handle_packet(bytearray(packet), 0.0)
    assert len(engine) > 1000
    assert engine.live == 0


def test_it_prints_a_table_for_each_load(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["where", "-s", "0.2"]) == 0
    tables = capsys.readouterr().out.split("\n\n")
    assert [table.splitlines()[0] for table in tables] == [load.about for load in loads()]
    for table in tables:
        rows = [line.split() for line in table.splitlines()[2:]]
        assert [row[0] for row in rows] == ["parse", "lookup", "open", "state", "rewrite", "verdict", "total"]
        assert sum(int(row[1]) for row in rows[:-1]) == int(rows[-1][1]) > 10
        assert re.search(r"^  parse +\d+ +[\d.]+ms .*%  #+$", table, re.M)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [(["-s", "0"], "'0' is not a number of seconds"), (["-s", "nan"], "'nan' is not"), (["-x"], "unrecognized")],
)
def test_what_it_cannot_do_is_told_in_a_line(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["where", *words])
    assert stop.value.code == 1
    assert complaint in capsys.readouterr().err.splitlines()[-1]


def test_whoever_has_read_enough_may_go() -> None:
    shell = f"{sys.executable} -m natlb where -s 0.1 | head -n 1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"{loads()[0].about}\n"
    assert done.stderr == ""
