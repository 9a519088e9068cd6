"""What is told of the natlb before, and what is diverted for connections that the configuration has no more."""

import logging
import os
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from natlb.assembly import Assembly, assemble
from natlb.config.parser import parse
from natlb.datapath.host import Endpoint
from natlb.handover import statefile
from natlb.log import NOTICE
from natlb.succession import OFF, Succession
from tests.unit.core.packets import ACK, SYN, TCP, UDP, datagram, segment

CLIENT, VIP, SERVER, SNAT = ("44.1.1.1", 5000), ("44.2.2.2", 80), ("44.3.3.3", 4444), "44.2.2.2"
WEB = """
frontend web
    bind 44.2.2.2:80
    default_backend nodes
backend nodes
    server server1 44.3.3.3:4444 {}
"""
DNS = """
udp-lb dns
    dgram-bind 44.2.2.2:53
    server server1 44.3.3.3:53
"""
OTHER = """
frontend other
    bind 44.2.2.2:81
    default_backend nodes
backend nodes
    server another 44.3.3.4:4444
"""
TABLE = "    stick-table type ip size 10\n    stick on src\n"


def assembled(text: str) -> Assembly:
    parsed = parse([("t.cfg", text.encode())], {})
    assert parsed.config is not None, parsed.diagnostics
    return assemble(parsed.config, choose=lambda _: 0)


Run = Callable[..., Succession]


@pytest.fixture
def run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Run:
    """Start a natlb with a configuration, that takes over what the one before has left."""
    caplog.set_level(NOTICE, "natlb")

    def start(text: str, made: list[Assembly] | None = None) -> Succession:
        assembly = assembled(text)
        if made is not None:
            made.append(assembly)
        succession = Succession(assembly, 1, str(tmp_path))
        succession.restore()
        return succession

    return start


def open_connection(made: Assembly) -> None:
    """Have the client speak to the server, and a flow of datagrams begin where there is a service for it."""
    engine = made.engine
    engine.handle_packet(segment(CLIENT, VIP, SYN, seq=1000), 0.0)
    [connection] = engine.connections()
    server, seen = _ends(connection.reply)
    engine.handle_packet(segment(server, seen, SYN | ACK, seq=5000, ack=1001), 0.0)
    engine.handle_packet(segment(CLIENT, VIP, ACK, seq=1001, ack=5001), 0.0)
    engine.handle_packet(datagram(CLIENT, ("44.2.2.2", 53)), 0.0)
    engine.handle_packet(datagram(("44.3.3.3", 53), CLIENT), 0.0)


def _ends(key: bytes) -> tuple[tuple[str, int], tuple[str, int]]:
    return (str(ip_address(key[:4])), int.from_bytes(key[8:10], "big")), (
        str(ip_address(key[4:8])),
        int.from_bytes(key[10:12], "big"),
    )


def test_what_is_in_the_configuration_needs_nothing_more(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    made: list[Assembly] = []
    first = run(WEB.format("") + DNS, made)
    open_connection(made[0])
    first.settle()
    list(first.refresh())
    first.close(keep=True)
    second = run(WEB.format("") + DNS)
    assert (second.addresses, second.origins) == ([], {})
    assert caplog.messages == [
        "2 connections go on that the natlb before has left, which ended in order; 0 have no place any more; 0 are of "
        "frontends or servers that the configuration has no more"
    ]
    second.close(keep=False)


def test_what_is_not_is_diverted_as_it_was(run: Run) -> None:
    made: list[Assembly] = []
    first = run(WEB.format(f"source {SNAT}") + DNS, made)
    open_connection(made[0])
    first.close(keep=True)
    second = run(OTHER, made)
    assert sorted(map(str, second.addresses)) == ["44.2.2.2:53", "44.2.2.2:80"]
    assert {each.protocol for each in second.addresses} == {TCP, UDP}
    assert second.origins == {
        Endpoint(ip_address("44.3.3.3"), 4444): {ip_address(SNAT)},
        Endpoint(ip_address("44.3.3.3"), 53, protocol=UDP): set(),
    }
    second.close(keep=True)
    third = run(WEB.format(""))
    assert third.origins[Endpoint(ip_address("44.3.3.3"), 4444)] == {ip_address(SNAT)}, "nobody else speaks from there"
    third.close(keep=False)


def test_one_that_has_prepared_itself_diverts_the_same(run: Run, tmp_path: Path) -> None:
    made: list[Assembly] = []
    first = run(WEB.format(f"source {SNAT}") + DNS, made)
    open_connection(made[0])
    first.settle()
    second = Succession(assembled(OTHER), 1, str(tmp_path))
    second.prepare()
    early = sorted(map(str, second.addresses)), second.origins
    made[0].engine.handle_packet(segment(CLIENT, VIP, ACK, seq=1001, ack=5001, payload=b"!"), 1.0)
    first.close(keep=True)
    restored = second.restore()
    assert restored is not None
    assert (restored.connections, len(restored.late)) == (2, 1)
    assert (sorted(map(str, second.addresses)), second.origins) == early
    assert early[0] == ["44.2.2.2:53", "44.2.2.2:80"]
    assert len(early[1]) == 2
    second.close(keep=False)


def test_off_is_off(tmp_path: Path) -> None:
    succession = Succession(assembled(DNS), 1, OFF)
    succession.prepare()
    assert succession.restore() is None
    succession.settle()
    assert list(succession.refresh()) == []
    succession.close(keep=True)
    assert list(tmp_path.iterdir()) == []


def test_no_directory_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    succession = Succession(assembled(DNS), 1, str(tmp_path / "file"))
    assert succession.restore() is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    succession.close(keep=False)


def test_what_is_lost_is_said(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made: list[Assembly] = []
    first = run(WEB.format("") + DNS, made)
    open_connection(made[0])
    first.close(keep=True)
    [file] = tmp_path.iterdir()
    whole = file.read_bytes()
    for damage, told in (
        (whole[:-1], f"the connections of the natlb before are lost: {file} cannot be used, it should have "),
        (
            whole.replace(b"\x2c\x01\x01\x01", b"\x2c\x01\x01\x02", 1),
            f"1 connection of the natlb before is lost, damaged in {file}; ",
        ),
    ):
        caplog.clear()
        file.write_bytes(damage)
        following = run(WEB.format("") + DNS)
        assert caplog.records[0].levelno == logging.WARNING
        assert caplog.messages[0].startswith(told)
        assert caplog.messages[0].endswith(f"it is kept as {file.with_suffix('.damaged')}")
        following.close(keep=False)
    caplog.clear()
    file.mkdir()
    run(DNS).close(keep=False)
    assert f"cannot write {file}: Is a directory; remove that, or name another directory" in caplog.text
    assert len(caplog.messages) == 1, "nothing else is said of it that would not be so"


def test_what_others_may_have_written_is_told_of_and_nothing_of_it_goes_on(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[Assembly] = []
    first = run(WEB.format("") + DNS, made)
    open_connection(made[0])
    first.close(keep=True)
    [file] = tmp_path.iterdir()
    file.chmod(0o666)
    run(WEB.format("") + DNS, made).close(keep=False)
    assert list(made[1].engine.connections()) == []
    assert caplog.messages == [
        f"the connections of the natlb before are lost: {file} cannot be used, it may be written to by others (mode "
        f"0666), and only what root alone can have written is believed; it is kept as {file.with_suffix('.damaged')}"
    ]
    caplog.clear()
    os.mkfifo(file)
    run(WEB.format("") + DNS).close(keep=False)
    assert caplog.messages == [
        f"the connections of the natlb before are lost: {file} cannot be used, it is a named pipe, which natlb makes "
        "none of; it is replaced"
    ]


def test_one_connection_is_told_of_as_one(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    made: list[Assembly] = []
    first = run(WEB.format(""), made)
    open_connection(made[0])
    first.close(keep=True)
    run(OTHER).close(keep=False)
    assert caplog.messages == [
        "1 connection goes on that the natlb before has left, which ended in order; 0 have no place any more; 1 is of "
        "frontends or servers that the configuration has no more"
    ]


def test_a_file_from_elsewhere_costs_no_connection(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = statefile.here(1)
    with monkeypatch.context() as patched:
        patched.setattr(statefile, "here", lambda _: here._replace(boot=bytes(16)))
        run(WEB.format("")).close(keep=True)
    run(WEB.format("")).close(keep=False)
    assert [record.levelno for record in caplog.records] == [NOTICE]
    assert "is of no use any more, and is replaced: it is from before the machine was started" in caplog.messages[0]


def test_stick_tables_go_on(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    made: list[Assembly] = []
    first = run(WEB.format("") + TABLE, made)
    open_connection(made[0])
    first.close(keep=True)
    second = run(WEB.format("") + TABLE, made)
    assert "1 entry of stick tables goes on" in caplog.messages
    [table] = made[1].tables.values()
    assert [entry.server for entry in table.entries(0.0)] == ["server1"]
    second.close(keep=False)
