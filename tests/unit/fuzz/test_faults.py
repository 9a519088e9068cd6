"""The targets find faults: one planted in natlb is found by the inputs that are kept, as one that crept in would be.

Each fault is one that somebody might make. What finds it is in the message: had a target only looked for tracebacks,
most of these would have passed.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from zlib import crc32

import pytest

import natlb.captures.files
import natlb.config.diagnostics
import natlb.core.flow
import natlb.datapath.messages
import natlb.handover.layout
import natlb.health.conversation
import natlb.health.http
import natlb.metrics.server
import natlb.replay.player
import natlb.runtime.console
from natlb.core.engine import NatEngine
from natlb.core.fragments import Fragments
from natlb.core.verdict import Drop, Rewrite
from natlb.runtime.commands import LANGUAGE
from natlb.runtime.language import Language, Level
from tests.fuzz import corpus
from tests.fuzz.targets import check_of

Plant = pytest.MonkeyPatch


def found(target: str, *, within: int | None = None) -> str:
    """Try the inputs that are kept; return what the first of them has to say that is not taken well."""
    check = check_of(target)
    for each in itertools.islice(corpus.read(target), within):
        try:
            check(each)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return "nothing"


def instead(function: Callable[..., object], change: Callable[..., object]) -> Callable[..., object]:
    """Return a function whose result is changed; the change is given the arguments too."""
    return lambda *args, **kwargs: change(function(*args, **kwargs), *args, **kwargs)


def test_a_checksum_that_moves_by_one_too_much(monkeypatch: Plant) -> None:
    wrong = instead(natlb.core.flow.difference, lambda delta, *_: (delta + 1) % 0xFFFF)
    monkeypatch.setattr(natlb.core.flow, "difference", wrong)
    assert "checksum is wrong" in found("packets")


def test_a_last_byte_that_is_changed(monkeypatch: Plant) -> None:
    def spoil(verdict: object, engine: object, packet: bytearray, *_: object) -> object:
        if isinstance(verdict, Rewrite):
            packet[-1] ^= 1
        return verdict

    monkeypatch.setattr(NatEngine, "handle_packet", instead(NatEngine.handle_packet, spoil))
    assert found("packets") != "nothing"


def test_a_packet_that_is_one_byte_too_short(monkeypatch: Plant) -> None:
    handle = NatEngine.handle_packet

    def generous(engine: NatEngine, packet: bytearray, *args: object) -> object:
        packet.append(0)
        try:
            return handle(engine, packet, *args)  # type: ignore[arg-type]
        finally:
            packet.pop()

    monkeypatch.setattr(NatEngine, "handle_packet", generous)
    assert "a packet that is shorter than it says" in found("packets")


def test_a_drop_that_is_not_counted(monkeypatch: Plant) -> None:
    monkeypatch.setattr(NatEngine, "_drop", lambda _, reason: Drop(reason))
    assert "drops are counted wrongly" in found("packets")


def test_fragments_that_wait_for_ever(monkeypatch: Plant) -> None:
    monkeypatch.setattr(Fragments, "expired", lambda *_: iter(()))
    assert "time does not end everything" in found("packets")


def test_a_packet_that_goes_to_the_other_server(monkeypatch: Plant) -> None:
    def stray(key: bytes | None, *_: object) -> bytes:
        return bytes((*key[:-2], key[-2] ^ 1, key[-1]))

    monkeypatch.setattr("tests.fuzz.packets.reverse", instead(natlb.core.flow.reverse, stray))
    assert "the packet went elsewhere" in found("packets")


def test_a_message_whose_packet_begins_too_late(monkeypatch: Plant) -> None:
    layouts = natlb.datapath.messages.Layouts

    def late(arrival: tuple[bytes, int, int, int, int] | None, *_: object) -> object:
        return arrival and (arrival[0], arrival[1] + 4, *arrival[2:])

    monkeypatch.setattr(layouts, "read", instead(layouts.read, late))
    assert " is not " in found("messages")


def test_a_diagnostic_that_a_terminal_would_obey(monkeypatch: Plant) -> None:
    monkeypatch.setattr(natlb.config.diagnostics, "printable", str)
    assert "Diagnostic(" in found("configuration")


def test_a_number_that_is_not_one(monkeypatch: Plant) -> None:
    monkeypatch.setattr("natlb.config.times.parse_time", int)
    monkeypatch.setattr("natlb.config.entries.parse_integer", int, raising=False)
    assert found("configuration").startswith(("ValueError", "TypeError"))


def test_a_command_that_anybody_may_give(monkeypatch: Plant) -> None:
    commands = [replace(command, level=Level.USER) for command in LANGUAGE.commands]
    monkeypatch.setattr("tests.fuzz.runtime.LANGUAGE", Language(commands, LANGUAGE.refused))
    assert "changed something at level" in found("runtime")


def test_a_port_that_is_none(monkeypatch: Plant) -> None:
    monkeypatch.setattr("natlb.runtime.servers._MOST_PORT", 10**9)
    assert found("runtime").startswith(("OverflowError", "AssertionError"))


def test_a_command_that_has_no_answer(monkeypatch: Plant) -> None:
    monkeypatch.setattr(natlb.runtime.console.Console, "_told", lambda *_: 1 / 0)
    assert found("runtime").startswith("ZeroDivisionError")


def test_an_answer_that_is_longer_than_it_says(monkeypatch: Plant) -> None:
    def longer(answer: natlb.metrics.server._Answer, *_: object) -> natlb.metrics.server._Answer:
        answer.body = [*answer.body, b"x"]
        return answer

    of_text = natlb.metrics.server._Answer.of_text
    monkeypatch.setattr(natlb.metrics.server._Answer, "of_text", staticmethod(instead(of_text, longer)))
    assert found("scrapes") != "nothing"


def test_options_of_a_capture_that_are_not_whole(monkeypatch: Plant) -> None:
    def last(options: dict[int, bytes], order: str, data: bytes) -> dict[int, bytes]:
        return options | {0: data[0:1], 9: bytes((data[0],))}

    monkeypatch.setattr(natlb.captures.files, "_options", instead(natlb.captures.files._options, last))
    assert found("captures").startswith("IndexError")


def test_a_packet_of_a_capture_with_two_fates(monkeypatch: Plant) -> None:
    player = natlb.replay.player.Player

    def twice(step: natlb.replay.player.Step, self: natlb.replay.player.Player, *_: object) -> object:
        self.fates[step.fate] += 1
        return step

    monkeypatch.setattr(player, "play", instead(player.play, twice))
    assert "a packet has no fate, or two" in found("captures")


def test_a_server_s_words_that_do_not_fit_on_a_line(monkeypatch: Plant) -> None:
    monkeypatch.setattr(natlb.health.conversation, "_shown", str)
    assert "Answer(" in found("health")


def test_a_response_that_becomes_another(monkeypatch: Plant) -> None:
    def grow(response: natlb.health.http.Response | None, data: bytes, **_: object) -> object:
        return response and replace(response, reason=f"{response.reason}{len(data)}")

    monkeypatch.setattr(natlb.health.http, "read", instead(natlb.health.http.read, grow))
    assert "AssertionError" in found("responses")


def test_a_record_that_is_believed_although_it_is_torn(monkeypatch: Plant) -> None:
    unpack = natlb.handover.layout.unpack_record

    def believing(packed: bytes, name: Callable[[int], str | None]) -> object:
        return unpack(crc32(packed[4:]).to_bytes(4, "little") + packed[4:], name)

    monkeypatch.setattr(natlb.handover.layout, "unpack_record", believing)
    assert "a torn record is believed" in found("handover")
