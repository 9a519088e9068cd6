"""Checksums that the kernel has only begun are finished in the packet: as sums made as RFC 1071 is written say."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natlb.datapath.unfinished import Unfinished
from tests.unit.core import packets as p
from tests.unit.core.test_unfinished import AT, begun, endpoints, families, payloads
from tests.unit.datapath.kernel import CUT_UP, POSTROUTING, UNFINISHED

UNDONE = Unfinished()


@pytest.fixture(scope="module", autouse=True)
def closed() -> Iterator[None]:
    yield
    UNDONE.close()


@given(st.data(), families, st.sampled_from([p.TCP, p.UDP]), payloads)
def test_a_begun_checksum_is_seen_and_finished(data: st.DataObject, family: int, protocol: int, payload: bytes) -> None:
    source, destination = data.draw(endpoints(family)), data.draw(endpoints(family))
    make = p.segment if protocol == p.TCP else p.datagram
    whole = make(source, destination, payload=payload, **({"flags": p.ACK} if protocol == p.TCP else {}))
    packet = begun(whole)
    transport = UNDONE.transport(packet, UNFINISHED)
    assert transport == p.transport(packet)[1] == {4: 20, 6: 40}[family]
    UNDONE.finish(packet, transport, UNFINISHED, POSTROUTING)
    assert packet == whole


@given(st.data(), families, payloads, st.integers(0, 0xFFFF))
def test_a_datagram_is_only_finished_here_if_its_own_checksum_is_the_begun_one(
    data: st.DataObject, family: int, payload: bytes, field: int
) -> None:
    packet = begun(p.datagram(data.draw(endpoints(family)), data.draw(endpoints(family)), payload))
    transport = p.transport(packet)[1]
    at = transport + AT[p.UDP]
    right = int.from_bytes(packet[at : at + 2], "big")
    packet[at : at + 2] = field.to_bytes(2, "big")
    assert UNDONE.transport(packet, UNFINISHED) == (transport if field == right else 0)
    assert UNDONE.transport(packet, UNFINISHED | CUT_UP) == 0


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda rest: b"\x45\0" + rest))
def test_no_bytes_whatever_are_more_than_unknown(noise: bytes) -> None:
    for info in (UNFINISHED, CUT_UP, UNFINISHED | CUT_UP):
        assert UNDONE.transport(bytearray(noise), info) in (0, 20, 40)
