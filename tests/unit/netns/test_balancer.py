from pathlib import Path

import pytest

from netns.balancer import COMMAND, OPTIONS, command, configuration, nat_table
from netns.topology import SEED

ANSWER = """\
0x1: proto=tcpv4 src=44.1.1.1:40312 fe=localnodes be=nodes srv=server1 ts=ESTABLISHED age=1s idle=0s \
orig=44.1.1.1:40312>44.2.2.2:8888 reply=44.3.3.3:4444>44.1.1.1:40312 opkts=6 obytes=412 rpkts=5 rbytes=880
0x2: proto=tcpv6 src=[fd44::1]:40312 fe=localnodes6 be=nodes6 srv=server2 ts=TIME_WAIT age=1m2s idle=3s \
orig=[fd44::1]:40312>[fd44::2]:8888 reply=[fd44::4]:5555>[fd44::1]:40312 opkts=1 obytes=80 rpkts=0 rbytes=0

"""


def test_entry_has_both_tuples():
    entry, _ = nat_table(ANSWER)
    assert entry.original == ("44.1.1.1:40312", "44.2.2.2:8888")
    assert entry.reply == ("44.3.3.3:4444", "44.1.1.1:40312")


def test_entry_has_its_facts():
    entry, _ = nat_table(ANSWER)
    assert (entry.protocol, entry.server, entry.state, entry.age) == ("tcpv4", "server1", "ESTABLISHED", "1s")
    assert (entry.original_packets, entry.original_bytes, entry.reply_packets, entry.reply_bytes) == (6, 412, 5, 880)


def test_ipv6_endpoints_stay_in_brackets():
    _, entry = nat_table(ANSWER)
    assert entry.client == "[fd44::1]:40312"
    assert entry.reply == ("[fd44::4]:5555", "[fd44::1]:40312")


def test_no_connections_is_an_empty_table():
    assert nat_table("\n") == []


def test_lines_that_are_no_entries_are_passed_over():
    assert nat_table("Unknown command\n" + ANSWER + "0x3: proto=unix src=GLOBAL:1 ts=09 age=0s\n") == nat_table(ANSWER)


def test_a_missing_count_is_zero():
    [entry] = nat_table("0x1: orig=a:1>b:2 reply=c:3>a:1 opkts= rpkts=7\n")
    assert (entry.original_packets, entry.reply_packets, entry.server) == (0, 7, "")


def test_configuration_is_the_one_of_the_notes_with_the_labs_addresses():
    text = configuration(SEED, Path("/run/x.sock"))
    words = [line.split() for line in text.splitlines()]
    for expected in (
        "backend nodes",
        "server server1 44.3.3.3:4444 check",
        "server server2 44.4.4.4:5555 check",
        "frontend localnodes",
        "bind *:8888",
        "default_backend nodes",
        "maxconn 940",
        "stats socket /run/x.sock level admin",
        "server server1 [fd44::3]:4444 check",
    ):
        assert expected.split() in words


def test_the_environment_can_give_every_natlb_of_the_lab_further_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OPTIONS, raising=False)
    every = [*COMMAND, "-f", "a.cfg", "--offload", "off", "--state", "off"]
    assert command(Path("a.cfg"), ["-D"]) == [*every, "-D"]
    monkeypatch.setenv(OPTIONS, "--no-gso --queue 7")
    assert command(Path("a.cfg")) == [*every, "--no-gso", "--queue", "7"]


def test_what_a_natlb_of_the_lab_records_is_where_the_lab_says_or_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OPTIONS, raising=False)
    assert command(Path("a.cfg"))[-2:] == ["--state", "off"]
    assert command(Path("a.cfg"), state=Path("/run/x-lab"))[-2:] == ["--state", "/run/x-lab"]
