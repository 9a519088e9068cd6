"""`natlb replay` and `natlb explain` from their words to their exit codes."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapReader

from natlb import cli
from tests.unit.core.packets import SYN, segment
from tests.unit.replay.scenes import CLIENT, TEXT, VIP, Played, conversation, pcap, write

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory with a configuration and a capture."""
    monkeypatch.chdir(tmp_path)
    Path("t.cfg").write_text(TEXT)
    write(Path("t.pcap"), conversation())
    return tmp_path


def run(*arguments: str) -> int:
    try:
        return cli.main(list(arguments))
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


def test_a_replay_tells_the_history_and_what_it_came_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("replay", "t.pcap", "-f", "t.cfg") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out == "".join(f"{entry.as_text()}\n" for entry in Played(conversation()).entries)
    assert out.splitlines()[:3] == [
        "    0.000000       1  #1 opened on www: 44.1.1.1:40000 > 44.2.2.2:8888",
        "             to nodes/server1, answers 44.3.3.3:4444 > 44.1.1.1:40000",
        "    0.001000       2  #1 INIT > SYN_RECEIVED",
    ]
    assert "8 packets in 0.007 s; 8 sent by natlb" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_as_json_each_line_is_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("replay", "t.pcap", "-f", "t.cfg", "--json") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["event"] for each in told] == ["opened", "state", "state", "state", "state", "closed", "end"]
    assert told[-1]["fates"] == {"rewritten": 8}


def test_what_is_sent_is_written_as_raw_ip_with_the_times_of_the_capture() -> None:
    assert run("replay", "t.pcap", "-f", "t.cfg", "-q", "-w", "out.pcap") == 0
    played = Played(conversation())
    with RawPcapReader("out.pcap") as reader:
        assert reader.linktype == 101
        read = [(meta.sec * 10**9 + meta.usec, data, meta.wirelen) for data, meta in reader]
    assert read == [(at, bytes(packet), size) for at, packet, size in played.sent]


def test_ethernet_comes_to_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    Path("e.pcap").write_bytes(pcap(conversation(), link=1, head=bytes(Ether(type=0x0800))))
    run("replay", "t.pcap", "-f", "t.cfg")
    raw = capsys.readouterr().out
    run("replay", "e.pcap", "-f", "t.cfg")
    assert capsys.readouterr().out == raw


def test_a_capture_may_come_by_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(pcap(conversation()))))
    assert run("replay", "-", "-f", "t.cfg", "-q") == 0
    assert "8 packets" in capsys.readouterr().out


def test_a_capture_with_something_else_of_natlbs_ends_in_two(capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("t.pcap"), [(0, segment(CLIENT, VIP, SYN)), (0.1, segment(CLIENT, ("44.4.4.4", 5555), SYN))])
    assert run("replay", "t.pcap", "-f", "t.cfg") == 2
    assert "natlb's work, by its looks, and not what was made here" in capsys.readouterr().out


def test_a_capture_that_is_cut_off_counts_as_far_as_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.pcap").write_bytes(pcap(conversation())[:-5])
    assert run("replay", "t.pcap", "-f", "t.cfg", "-q") == 0
    out, err = capsys.readouterr()
    assert "7 packets" in out
    assert err == "natlb replay: t.pcap ends in the middle of a packet: what came before it counts\n"


def test_damage_is_told_after_what_came_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.pcap").write_bytes(pcap(conversation()) + b"\xff" * 16)
    assert run("replay", "t.pcap", "-f", "t.cfg", "-q", "-w", "out.pcap") == 1
    out, err = capsys.readouterr()
    assert "8 packets" in out
    assert err.startswith("natlb replay: t.pcap is damaged: what should be packet 9, at byte ")
    with RawPcapReader("out.pcap") as reader:
        assert len(list(reader)) == 8


BAD: dict[str, tuple[list[str], str]] = {
    "no configuration": (["replay", "t.pcap"], "-f"),
    "no capture": (["replay", "nope.pcap", "-f", "t.cfg"], "cannot read nope.pcap: No such file or directory"),
    "a directory": (["replay", ".", "-f", "t.cfg"], "cannot read .: Is a directory"),
    "a NUL": (["replay", "a\0b", "-f", "t.cfg"], "cannot read a"),
    "not a capture": (["replay", "t.cfg", "-f", "t.cfg"], "t.cfg is no capture: neither pcap nor pcapng"),
    "no such file to read": (["replay", "t.pcap", "-f", "no.cfg"], "the configuration has errors"),
    "nothing to listen on": (["replay", "t.pcap", "-f", "silent.cfg"], "the configuration has no 'bind'"),
    "nowhere to write": (["replay", "t.pcap", "-f", "t.cfg", "-w", "no/where"], "cannot write no/where: No such file"),
    "the capture itself": (["replay", "t.pcap", "-f", "t.cfg", "-w", "./t.pcap"], "./t.pcap is the capture itself"),
    "a foreign link": (["replay", "wifi.pcap", "-f", "t.cfg"], "wifi.pcap has packets of a link of type 105"),
    "an unknown backend": (["replay", "t.pcap", "-f", "t.cfg", "--down", "x/y"], "has no backend 'x'; it has nodes"),
    "an unknown server": (["replay", "t.pcap", "-f", "t.cfg", "--down", "nodes/y"], "no server 'y'; it has server1"),
    "no server": (["replay", "t.pcap", "-f", "t.cfg", "--down", "nodes"], "'nodes' is no server such as"),
    "no number": (["replay", "t.pcap", "-f", "t.cfg", "--load", "nodes/server1"], "lacks a number"),
    "a bad number": (["replay", "t.pcap", "-f", "t.cfg", "--load", "nodes/server1=-1"], "'-1' is not a number from 0"),
    "a bad weight": (["replay", "t.pcap", "-f", "t.cfg", "--weight", "nodes/server1=257"], "0 to 256"),
    "a fixed weight": (["replay", "t.pcap", "-f", "fixed.cfg", "--weight", "l/s=5"], "takes no weights but"),
    "a bad address": (["replay", "t.pcap", "-f", "t.cfg", "--own", "44.2.2.2/33"], "'44.2.2.2/33' is no address"),
    "a bad seed": (["replay", "t.pcap", "-f", "t.cfg", "--seed", "x"], "'x' is not a number, 0 or more"),
    "no packet": (["explain", "-f", "t.cfg", "t.pcap", "9"], "t.pcap has no packet 9: it has 8"),
    "packet 0": (["explain", "-f", "t.cfg", "t.pcap", "0"], "'0' is not the number of a packet, 1 or more"),
    "too few words": (["explain", "-f", "t.cfg", "t.pcap"], "a packet is [tcp|udp] SOURCE DESTINATION, or FILE N"),
    "no port": (["explain", "-f", "t.cfg", "44.1.1.1", "44.2.2.2:80"], "'44.1.1.1' is no address and port such as"),
    "port 0": (["explain", "-f", "t.cfg", "44.1.1.1:0", "44.2.2.2:80"], "'44.1.1.1:0' is no address and port"),
    "no brackets": (["explain", "-f", "t.cfg", "fd44::1:80", "44.2.2.2:80"], "'fd44::1:80' is no address and port"),
    "a name": (["explain", "-f", "t.cfg", "client:80", "44.2.2.2:80"], "'client' is no IP address"),
    "two families": (["explain", "-f", "t.cfg", "[fd44::1]:80", "44.2.2.2:80"], "of different IP versions"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_word_is_answered_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("silent.cfg").write_text("backend b\n server s 44.3.3.3:4444\n")
    Path("fixed.cfg").write_text("listen l\n bind *:80\n balance static-rr\n server s 44.3.3.3:4444\n")
    Path("wifi.pcap").write_bytes(pcap(conversation(), link=105))
    arguments, message = BAD[name]
    before = Path("t.pcap").read_bytes()
    assert run(*arguments) == 1
    _, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith(("usage: ", " ", "[ALERT]"))]
    assert len(lines) == 1
    assert lines[0].startswith(f"natlb {arguments[0]}: ")
    assert message in lines[0]
    assert Path("t.pcap").read_bytes() == before


def test_warnings_about_the_configuration_are_left_to_c(capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.cfg").write_text("listen l\n bind *:8888\n server s 44.3.3.3:4444\n")
    assert run("replay", "t.pcap", "-f", "t.cfg", "-q") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["replay", "explain"])
def test_help_is_a_page_of_eighty_columns(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(command, "-h") == 0
    text = capsys.readouterr().out
    assert all(len(line) <= 80 for line in text.splitlines())
    for part in ("the scene:", "exit status:", "examples:", "--own", "--down", "--seed"):
        assert part in text


def shell(script: str) -> "subprocess.CompletedProcess[bytes]":
    command = f"natlb() {{ '{sys.executable}' -m natlb \"$@\"; }}; {script}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(["bash", "-c", command], capture_output=True, check=False, env=environment, timeout=60)


def test_a_reader_who_has_read_enough_is_no_error() -> None:
    done = shell("natlb replay t.pcap -f t.cfg | head -n 1; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_replay_needs_neither_the_kernel_nor_what_the_lab_needs() -> None:
    heavy = ("scapy", "netfilterqueue", "pyroute2", "rich", "natlb.daemon")
    code = "import sys; from natlb.cli import main; main(sys.argv[1:]); "
    code += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, "replay", "t.pcap", "-f", "t.cfg", "-q"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_hash_seed_of_the_interpreter_changes_nothing() -> None:
    told = {shell(f"PYTHONHASHSEED={seed} natlb replay t.pcap -f t.cfg --json").stdout for seed in (0, 1, 2)}
    assert len(told) == 1
