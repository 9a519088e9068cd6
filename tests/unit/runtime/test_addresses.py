import pytest

from natlb.runtime.addresses import endpoints, plain, read, written


def test_a_tuple_reads_source_first() -> None:
    key = bytes([44, 1, 1, 1, 44, 2, 2, 2]) + (80).to_bytes(2, "big") + (65535).to_bytes(2, "big") + b"\x06"
    assert endpoints(key) == ("44.1.1.1:80", "44.2.2.2:65535")


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert written(bytes(15) + b"\x01", b"\x00\x50") == "[::1]:80"


def test_an_ipv4_address_within_an_ipv6_one_is_written_as_such() -> None:
    mapped = bytes(10) + b"\xff\xff" + bytes([44, 1, 1, 0])
    assert plain(mapped) == "::ffff:44.1.1.0"
    assert written(mapped, b"\x00\x50") == "[::ffff:44.1.1.0]:80"
    assert plain(bytes([44, 1, 1, 0])) == "44.1.1.0"


def test_an_address_is_read_without_the_link_that_it_is_on() -> None:
    assert str(read("fe80::1")) == "fe80::1"
    for word in ("fe80::1%eth0", "fe80::1%a b", "example.org", ""):
        with pytest.raises(ValueError):
            read(word)
