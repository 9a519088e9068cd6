"""What `--metrics` takes."""

import pytest

from natlb.metrics.address import parse


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("9101", "127.0.0.1:9101"),
        ("127.0.0.2:9101", "127.0.0.2:9101"),
        ("*:1", "0.0.0.0:1"),
        ("[::1]:65535", "[::1]:65535"),
        ("[::]:9101", "[::]:9101"),
    ],
)
def test_an_address_may_be_left_out_and_ipv6_stands_in_brackets(text: str, meant: str) -> None:
    assert str(parse(text)) == meant


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "'' has no port from 1 to 65535; write [ADDRESS:]PORT"),
        ("0", "'0' has no port"),
        ("65536", "'65536' has no port"),
        ("-1", "'-1' has no port"),
        ("9" * 5000, "9' has no port"),
        ("127.0.0.1:", "'127.0.0.1:' has no port"),
        ("127.0.0.1:http", "'127.0.0.1:http' has no port"),
        ("\N{SUPERSCRIPT TWO}", "has no port"),
        (":9101", "'' is not an IP address"),
        ("example.org:9101", "'example.org' is not an IP address; write [ADDRESS:]PORT"),
        ("::1:9101", "'::1:9101' is ambiguous; write an IPv6 address in brackets: [::1]:9101"),
        (
            "[127.0.0.1]:9101",
            "'[127.0.0.1]' is not an IPv6 address, and only those stand in brackets; write 127.0.0.1:9101",
        ),
    ],
)
def test_what_is_wrong_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(text)
    assert complaint in str(error.value)
