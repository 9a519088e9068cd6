import pytest

from natlb.core.flow import flow_key
from natlb.core.schedulers.hashes import HASHES, avalanche, folded_source, hash_by
from tests.unit.core.packets import packed


def flow(source="44.1.1.1", port=0x1234):
    return flow_key((packed(source), port.to_bytes(2, "big")), (packed("44.2.2.2"), b"\x22\xb8"), 6)


def six(source):
    return flow_key((packed(source), b"\x12\x34"), (packed("fd44:2::2"), b"\x22\xb8"), 6)


@pytest.mark.parametrize(
    ("name", "data", "value"),
    [
        ("sdbm", b"", 0),
        ("sdbm", b"a", 0x61),
        ("sdbm", b"ab", (0x61 * 65599 + 0x62) % 2**32),
        ("djb2", b"", 5381),
        ("djb2", b"a", 5381 * 33 + 0x61),
        ("crc32", b"123456789", 0xCBF43926),
        ("wt6", b"", 0xA53C965A ^ 0x5CA6953A),
    ],
)
def test_the_functions_give_their_known_values(name, data, value):
    assert HASHES[name](data) == value


@pytest.mark.parametrize("name", HASHES)
def test_every_hash_has_32_bits_and_differs_with_its_input(name):
    values = {HASHES[name](bytes([44, 1, first, second])) for first in range(0, 256, 5) for second in range(0, 256, 5)}
    assert all(0 <= value < 2**32 for value in values)
    assert len(values) > 1000


def test_the_avalanche_moves_about_half_of_all_bits_for_each_bit_of_the_input():
    flips = [(avalanche(0x2C010101) ^ avalanche(0x2C010101 ^ 1 << bit)).bit_count() for bit in range(32)]
    assert 13 < sum(flips) / 32 < 19
    assert min(flips) > 3
    assert avalanche(0) < 2**32


def test_the_source_is_folded_by_words():
    assert folded_source(flow("44.1.1.1")) == 0x2C010101
    assert folded_source(six("1:2:3:4:5:6:7:8")) == 0x00010002 ^ 0x00030004 ^ 0x00050006 ^ 0x00070008


@pytest.mark.parametrize(
    ("fetch", "data"),
    [
        ("src", packed("44.1.1.1")),
        ("dst", packed("44.2.2.2")),
        ("src_port", b"\0\0\0\0\0\0\x12\x34"),
        ("dst_port", b"\0\0\0\0\0\0\x22\xb8"),
    ],
)
def test_a_fetch_is_hashed_by_the_function(fetch, data):
    for name, function in HASHES.items():
        assert hash_by(fetch, name, stirred=False)(flow()) == function(data)
        assert hash_by(fetch, name, stirred=True)(flow()) == avalanche(function(data))


@pytest.mark.parametrize(("fetch", "address"), [("src", "fd44:1::1"), ("dst", "fd44:2::2")])
def test_addresses_of_ipv6_are_hashed_whole(fetch, address):
    assert hash_by(fetch, "sdbm", stirred=False)(six("fd44:1::1")) == HASHES["sdbm"](packed(address))


def test_balance_source_does_not_ask_the_function():
    assert hash_by(None, "wt6", stirred=False)(flow()) == 0x2C010101
    assert hash_by(None, "wt6", stirred=True)(flow()) == avalanche(0x2C010101)
