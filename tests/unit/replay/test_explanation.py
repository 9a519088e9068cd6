"""Why a packet went where it went: the rules, the candidates, the tuples, as data and in words."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb import cli
from natlb.replay import prose
from natlb.replay.explanation import Explainer
from natlb.replay.lent import Lent
from natlb.replay.scene import Scene
from natlb.replay.witness import Witness
from tests.unit.core.packets import ACK, SYN, icmp, segment
from tests.unit.replay.scenes import CLIENT, SERVER, VIP, Played, config, conversation, made, records, write

CONFIG = """\
defaults
    timeout connect 10s
    timeout client 30s
    timeout server 30s
    timeout queue 5s
frontend www
    bind 44.2.2.2:8888
    bind *:9999
    acl office src 44.1.0.0/16 10.0.0.1
    stick-table type ip size 1k expire 30s store conn_rate(10s)
    tcp-request connection track-sc0 src
    tcp-request connection reject if { src 44.6.6.6 }
    tcp-request connection silent-drop if { sc0_conn_rate gt 20 }
    tcp-request connection reject if { src_is_local }
    use_backend inside if office !{ src_port 1:1023 }
    use_backend full if { src 44.8.8.8 }
    default_backend nodes
backend inside
    balance leastconn
    stick-table type ip size 1k expire 30m
    stick on src
    use-server three if { src 44.1.1.3 }
    use-server two if { src 44.1.1.4 }
    server one 44.3.3.3:4444 maxconn 2
    server two 44.4.4.4:5555 weight 3
    server three 44.5.5.5:5555 disabled
    server spare 44.6.6.6:5555 backup
    server six [fd44::3]:4444
backend nodes
    server server1 44.3.3.3:4444
    server server2 44.4.4.4:5555
backend full
    server only 44.3.3.3:4444 maxconn 1
frontend nowhere
    bind 44.2.2.2:7777
"""


@pytest.fixture
def explain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Explain a packet; return the exit code and what was told, as data."""
    monkeypatch.chdir(tmp_path)
    Path("t.cfg").write_text(CONFIG)

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = cli.main(["explain", "-f", "t.cfg", "--json", *arguments])
        out, err = capsys.readouterr()
        assert err == ""
        return code, json.loads(out)

    return run


def verdicts(told: dict[str, Any]) -> dict[str, str]:
    return {server["name"]: server["why"] for server in told["servers"]}


def chosen(told: dict[str, Any]) -> str:
    (name,) = [server["name"] for server in told["servers"] if server["chosen"]]
    return str(name)


def line(text: str) -> int:
    (number,) = [number for number, each in enumerate(CONFIG.splitlines(), start=1) if each.strip() == text]
    return number


def test_the_bind_and_the_rules_are_told_as_they_are_written(explain: Any) -> None:
    code, told = explain("44.1.1.1:40000", "44.2.2.2:8888")
    assert (code, told["fate"]) == (0, "rewritten")
    assert told["bind"]["where"] == f"t.cfg:{line('bind 44.2.2.2:8888')}"
    assert told["bind"]["line"] == "bind 44.2.2.2:8888"
    asked = [(rule["line"], rule["holds"]) for rule in told["rules"]]
    assert asked == [
        ("tcp-request connection track-sc0 src", True),
        ("tcp-request connection reject if { src 44.6.6.6 }", False),
        ("tcp-request connection silent-drop if { sc0_conn_rate gt 20 }", False),
        ("tcp-request connection reject if { src_is_local }", False),
        ("use_backend inside if office !{ src_port 1:1023 }", True),
        ("use-server three if { src 44.1.1.3 }", False),
        ("use-server two if { src 44.1.1.4 }", False),
        ("stick on src", True),
        ("stick on src", True),
    ]
    assert all(rule["where"] == f"t.cfg:{line(rule['line'])}" for rule in told["rules"])
    assert told["rules"][0]["effect"] == "counted under src 44.1.1.1"
    assert told["rules"][4]["tests"] == [
        {"sample": "src", "value": "44.1.1.1", "method": "ip", "patterns": ["44.1.0.0/16", "10.0.0.1"], "holds": True},
        {"sample": "src_port", "value": "40000", "method": "int", "patterns": ["1:1023"], "holds": False},
    ]
    assert [told["rules"][number]["effect"] for number in (7, 8)] == [
        "src 44.1.1.1 sticks to no server yet",
        "src 44.1.1.1 will stick to one once that has answered",
    ]
    assert (told["backend"]["name"], told["backend"]["how"]) == ("inside", "use_backend")


def test_a_wildcard_is_the_bind_where_no_other_is(explain: Any) -> None:
    _, told = explain("44.1.1.1:40000", "44.7.7.7:9999")
    assert told["bind"]["line"] == "bind *:9999"


def test_each_candidate_has_what_spoke_for_it_or_against_it(explain: Any) -> None:
    _, told = explain("44.1.1.1:40000", "44.2.2.2:8888", "--load", "inside/one=2")
    assert chosen(told) == "two"
    assert verdicts(told) == {
        "one": "it has as many connections as it may have",
        "two": "0 connections at weight 3, number 1 by load and turn",
        "three": "it is in maintenance",
        "spare": "it is a backup, and a server that is none is usable",
        "six": "its address is of the other IP version",
    }
    loads = {server["name"]: (server["connections"], server["limit"]) for server in told["servers"]}
    assert loads["one"] == (2, 2)


def test_the_scene_is_heeded(explain: Any) -> None:
    scene = ["--down", "inside/two", "--drain", "inside/one", "--own", "44.2.2.2/24"]
    _, told = explain("44.1.1.1:40000", "44.2.2.2:8888", *scene)
    assert chosen(told) == "spare"
    assert {verdicts(told)[name] for name in ("one", "two")} == {"it is being drained", "it is down"}
    _, told = explain("44.9.1.1:40000", "44.2.2.2:8888", "--maint", "nodes/server1")
    assert (chosen(told), verdicts(told)["server1"]) == ("server2", "it is in maintenance")
    _, told = explain("44.9.1.1:40000", "44.2.2.2:8888", "--weight", "nodes/server1=0")
    assert (chosen(told), verdicts(told)["server1"]) == ("server2", "its weight is 0")


def test_a_server_by_a_rule_is_told_so_and_one_that_is_away_is_not_taken(explain: Any) -> None:
    _, told = explain("44.1.1.4:40000", "44.2.2.2:8888")
    assert [rule["effect"] for rule in told["rules"][-2:]] == [
        "belongs to two",
        "src 44.1.1.4 will stick to two once that has answered",
    ]
    assert verdicts(told)["two"] == "the connection belongs to it by a rule"
    assert verdicts(told)["one"] == "the connection belongs to two"
    _, told = explain("44.1.1.3:40000", "44.2.2.2:8888")
    effects = [rule["effect"] for rule in told["rules"] if rule["line"].startswith("use-server three")]
    assert effects == ["belongs to three, which is down or in maintenance"]
    assert chosen(told) != "three"


def test_refusals_have_their_reason_and_what_led_to_it(explain: Any) -> None:
    code, told = explain("44.6.6.6:40000", "44.2.2.2:8888")
    assert (code, told["fate"], told["why"]) == (2, "answered", "a rule rejects it")
    assert told["rules"][-1]["effect"] == "rejected"
    assert "servers" not in told
    code, told = explain("44.1.1.1:40000", "44.2.2.2:7777")
    assert (code, told["why"], told["backend"]) == (2, "it has no backend", None)
    code, told = explain("44.8.8.8:40000", "44.2.2.2:8888", "--load", "full/only=1")
    assert (code, told["fate"]) == (2, "dropped")
    assert told["why"] == "a new connection whose server is full; the client will try again"
    assert verdicts(told) == {"only": "it has as many connections as it may have"}
    code, told = explain("44.8.8.8:40000", "44.2.2.2:8888", "--down", "full/only")
    assert (code, told["why"], verdicts(told)) == (2, "no server is usable", {"only": "it is down"})


def test_what_is_none_of_natlbs_is_told_so(explain: Any) -> None:
    code, told = explain("udp", "44.1.1.1:40000", "44.2.2.2:8888")
    assert (code, told["fate"]) == (3, "passed")
    assert "bind" not in told


def test_the_tuples_and_the_bytes_are_told(explain: Any) -> None:
    _, told = explain("44.9.1.1:40000", "44.2.2.2:8888")
    connection = told["connection"]
    assert connection["original"] == ["44.9.1.1:40000", "44.2.2.2:8888"]
    assert connection["reply"] == ["44.3.3.3:4444", "44.9.1.1:40000"]
    assert connection["leaves_as"] == ["44.9.1.1:40000", "44.3.3.3:4444"]
    assert (connection["direction"], connection["state"]) == ("original", [None, "INIT"])
    assert [change["field"] for change in told["changes"]] == [
        "IP checksum",
        "destination address",
        "destination port",
        "TCP checksum",
    ]
    assert [each["sum"] for each in told["checksums"]] == [0xFFFF, 0xFFFF]
    assert all(each["computed"] == each["to"] for each in told["checksums"])


def test_every_packet_of_a_capture_is_explained_as_it_is_replayed(explain: Any, tmp_path: Path) -> None:
    said = conversation(("44.9.1.1", 40000), VIP, SERVER)
    said += [
        (1, segment(("44.9.1.2", 40000), VIP, ACK)),
        (1, segment(CLIENT, ("44.9.9.9", 80), SYN)),
        (1, icmp("44.9.1.1", "44.2.2.2", 8, 0, bytes(4), b"ping")),
        (2, segment(("44.9.1.3", 40000), VIP, SYN)),
    ]
    write(tmp_path / "t.pcap", said)
    played = Played(said, CONFIG)
    for number, step in enumerate(played.steps, start=1):
        code, told = explain("t.pcap", str(number))
        assert told["fate"] == step.fate.name.lower()
        assert code == {"rewritten": 0, "answered": 2, "passed": 3}[told["fate"]]
        assert told["packet"]["number"] == number
        if step.captured is not None and told["fate"] == "rewritten":
            assert "".join(after for _, _, after in told["rows"]) == bytes(step.captured.packet).hex()
            assert told["connection"]["state"] == [each.value if each else None for each in step.state]
    _, last = explain("t.pcap", str(len(said)))
    assert chosen(last) == "server2", "server1 had its turn"
    _, second = explain("t.pcap", "2")
    assert (second["connection"]["direction"], second["connection"]["opened_by"]) == ("reply", 1)
    assert "bind" not in second, "nothing was decided anew"


def test_an_error_is_explained_with_the_connection_that_it_is_about(explain: Any, tmp_path: Path) -> None:
    said = conversation(("44.9.1.1", 40000), VIP, SERVER)[:1]
    (went,) = Played(said, CONFIG).packets
    write(tmp_path / "t.pcap", [*said, (1, icmp("44.9.9.9", "44.9.1.1", 3, 4, bytes(4), went[:28]))])
    _, told = explain("t.pcap", "2")
    assert (told["connection"]["number"], told["connection"]["direction"]) == (1, None)
    assert told["changes"]


@given(st.data())
def test_no_damage_to_a_packet_is_too_much_to_explain(data: st.DataObject) -> None:
    witness = Witness()
    assembly = made(CONFIG, Scene(make_policy=witness.make_policy))
    explainer = Explainer(config(CONFIG), assembly, witness, {}, Lent())
    said = conversation(("44.9.1.1", 40000), VIP, SERVER)
    for at, packet in said:
        for _ in range(data.draw(st.integers(0, 2))):
            packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
        (record,) = records([(at, packet)], most=data.draw(st.sampled_from([30, 60, 200])))
        told = explainer.explain(record)
        json.dumps(told)
        assert all(each is not None for each in prose.lines(told, colour=data.draw(st.booleans())))


# -- in words


@pytest.fixture
def words(explain: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> str:
        cli.main(["explain", "-f", "t.cfg", *arguments])
        return capsys.readouterr().out

    return run


CASES = {
    "sent on": ["44.1.1.1:40000", "44.2.2.2:8888"],
    "rejected": ["44.6.6.6:40000", "44.2.2.2:8888"],
    "queued": ["44.8.8.8:40000", "44.2.2.2:8888", "--load", "full/only=1"],
    "no backend": ["44.1.1.1:40000", "44.2.2.2:7777"],
    "not ours": ["udp", "44.1.1.1:40000", "44.2.2.2:8888"],
}


@pytest.mark.parametrize("case", CASES)
def test_the_words_fit_into_eighty_columns_and_are_plain(words: Any, case: str) -> None:
    text = words(*CASES[case])
    assert text.isascii()
    assert "\x1b" not in text
    long = [each for each in text.splitlines() if len(each) > 80 and ".cfg:" not in each]
    assert not long


def test_the_dump_marks_the_bytes_that_changed(words: Any) -> None:
    text = words("44.9.1.1:40000", "44.2.2.2:8888")
    dump = re.findall(r"^  ([-+]) ([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+)  .*\n(?: {10}([ ^]+)\n)?", text, re.M)
    old = {at: data.split() for sign, at, data, _ in dump if sign == "-"}
    for sign, at, data, marks in dump:
        if sign == "+":
            changed = [one != other for one, other in zip(old[at], data.split(), strict=True)]
            assert [marks[3 * place : 3 * place + 2] == "^^" for place in range(len(changed))] == changed
    assert len(old) == 3


def test_the_arithmetic_adds_up_as_it_is_printed(words: Any) -> None:
    text = words("44.9.1.1:40000", "44.2.2.2:8888")
    blocks = re.findall(r"^(?:IP|TCP) checksum, at .*: ([0-9a-f]{4}) > ([0-9a-f]{4})\n((?: .*\n)+)", text, re.M)
    assert len(blocks) == 2
    for old, new, body in blocks:
        terms = [int(each, 16) for each in re.findall(r"^ +\+? +([0-9a-f]{4})  [~ ][0-9a-f]{4}, ", body, re.M)]
        assert terms[0] == int(old, 16) ^ 0xFFFF
        (total, *folded) = [int(each, 16) for each in re.findall(r"^ +=  *([0-9a-f]+)", body, re.M)]
        assert sum(terms) == total
        assert folded[-1] ^ 0xFFFF == int(new, 16)
        assert "ffff  all that it covers" in body


def test_on_a_terminal_the_changed_bytes_are_in_colour(words: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = words("44.9.1.1:40000", "44.2.2.2:8888")
    assert "\x1b[31m02\x1b[0m" in text
    assert "\x1b[32m03\x1b[0m" in text
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in words("44.9.1.1:40000", "44.2.2.2:8888")
