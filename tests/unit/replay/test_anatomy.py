"""The bytes before and after, and the arithmetic between them, against the engine and against RFC 1071 as written."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.replay.anatomy import changes, fields, rows, sums
from tests.unit.core.packets import ACK, cut, datagram, icmp, ones_sum, segment
from tests.unit.replay.scenes import CLIENT, CLIENT6, SERVER, SERVER6, TEXT, VIP, VIP6, Played, conversation

FULL = TEXT.replace("\nbackend nodes\n", "\nbackend nodes\n    source 44.2.2.20\n").replace(
    "\nbackend nodes6\n", "\nbackend nodes6\n    source [fd44::20]\n"
)
FAMILIES = {"ipv4": (CLIENT, VIP, SERVER), "ipv6": (CLIENT6, VIP6, SERVER6)}


def rewritten(packets: Any, text: str = TEXT) -> list[tuple[bytes, bytes]]:
    played = Played(packets, text)
    return [
        (step.before, bytes(step.captured.packet))
        for step in played.steps
        if step.fate.name == "REWRITTEN" and step.captured is not None
    ]


def check(before: bytes, after: bytes) -> None:
    """Whatever differs is in a field that is named, and each checksum comes out of the arithmetic."""
    named = {at for field, _, _ in changes(before, after) for at in range(field.start, field.start + field.size)}
    assert {at for at in range(len(before)) if before[at] != after[at]} <= named
    assert not any(field.name == "byte" for field, _, _ in changes(before, after))
    done = sums(before, after, len(before))
    named_sums = [field for field, _, _ in changes(before, after) if field.name.endswith("checksum")]
    assert {each.at for each in done} == {field.start for field in named_sums if "quoted" not in field.name}
    for each in done:
        assert each.made == each.new == int.from_bytes(after[each.at : each.at + 2], "big")
        assert each.total in (0xFFFF, None)


@pytest.mark.parametrize("text", [TEXT, FULL], ids=["DNAT", "full NAT"])
@pytest.mark.parametrize("ends", FAMILIES.values(), ids=FAMILIES)
@given(payload=st.binary(max_size=40))
def test_each_change_is_named_and_each_checksum_comes_out(ends: Any, text: str, payload: bytes) -> None:
    pairs = rewritten(conversation(*ends, payload=payload), text)
    assert pairs
    for before, after in pairs:
        check(before, after)


@given(st.binary(max_size=40))
def test_datagrams_too(payload: bytes) -> None:
    (pair,) = rewritten([(0, datagram(CLIENT, ("44.2.2.2", 7007), payload))])
    check(*pair)
    bare = rewritten([(0, datagram(CLIENT, ("44.2.2.2", 7007), payload, checksum=0))])
    (done,) = sums(*bare[0], 1000)
    assert done.name == "IP checksum", "UDP without a checksum has none afterwards"


@pytest.mark.parametrize("ends", FAMILIES.values(), ids=FAMILIES)
def test_errors_too_with_what_they_quote(ends: Any) -> None:
    client, _, _ = ends
    said = conversation(*ends)[:1]
    ((_, went),) = rewritten(said)
    router, kind = ("44.9.9.9", (3, 4)) if len(client[0]) < 10 and "." in client[0] else ("fd44::9", (2, 0))
    error = icmp(router, client[0], *kind, bytes(4), went)
    pair = rewritten([*said, (1, error)])[1]
    check(*pair)
    assert {field.name for field, _, _ in changes(*pair)} >= {"quoted destination address", "ICMP checksum"}


def test_fragments_too() -> None:
    whole = datagram(CLIENT, ("44.2.2.2", 7007), b"z" * 3000)
    pairs = rewritten([(0, cut(whole, 0, 1480)), (0, cut(whole, 1480))])
    first, later = pairs
    check(*first)
    assert [field.name for field, _, _ in changes(*later)] == ["IP checksum", "destination address"]
    assert sums(*first, 2000)[-1].total is None, "of a fragment it cannot be said"


def test_what_was_not_captured_is_not_summed() -> None:
    before, after = rewritten([(0, conversation()[0][1])])[0]
    assert [each.total for each in sums(before, after, 40)] == [0xFFFF, None]


def test_the_sum_is_that_of_rfc_1071() -> None:
    before, after = rewritten([(0, conversation()[0][1])])[0]
    total = ones_sum(after[12:20] + bytes((0, 6)) + (len(after) - 20).to_bytes(2, "big") + after[20:])
    assert total == sums(before, after, len(after))[1].total == 0xFFFF


def test_a_byte_that_has_no_name_is_told_all_the_same() -> None:
    packet = bytes(segment(CLIENT, VIP, ACK))
    other = packet[:32] + bytes([packet[32] ^ 0xFF]) + packet[33:]
    ((field, _, _),) = changes(packet, other)
    assert (field.name, field.start) == ("byte", 32)


@given(st.binary(max_size=90))
def test_no_bytes_are_too_much(data: bytes) -> None:
    assert all(field.start + field.size <= max(len(data), 0) for field in fields(data))
    assert changes(data, data) == []
    assert sums(data, data, len(data)) == []
    assert b"".join(row.before for row in rows(data, data)) == data
