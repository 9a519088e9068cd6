"""Addresses are read as HAProxy reads them, where a packet can be sent there at all."""

import socket
from ipaddress import ip_address

import pytest

from natlb.config.addresses import AddressReader, BindRange, ServerAddress, SourceRange, system_resolver
from natlb.config.model import Address
from natlb.errors import ConfigError

ENVIRON = {"VIP": "192.0.2.1", "PORT": "80", "PAIR": "192.0.2.1:80,192.0.2.2:80"}


def resolve(host: str) -> list[Address]:
    found = {"both.test": ["2001:db8::46", "192.0.2.46"], "none.test": [], "mapped.test": ["::ffff:192.0.2.1"]}
    if host == "idna.test":
        raise UnicodeError("label too long")
    if host not in found:
        raise OSError("Name or service not known")
    return [ip_address(address) for address in found[host]]


@pytest.fixture
def reader() -> AddressReader:
    return AddressReader(ENVIRON, resolve)


@pytest.mark.parametrize(
    ("word", "ranges"),
    [
        (":80", [("0.0.0.0", 80, 80)]),
        ("*:80", [("0.0.0.0", 80, 80)]),
        ("0.0.0.0:80", [("0.0.0.0", 80, 80)]),
        ("[::]:80", [("::", 80, 80)]),
        (":::80", [("::", 80, 80)]),
        ("ipv6@:80", [("::", 80, 80)]),
        ("ipv6@*:80", [("::", 80, 80)]),
        ("ipv4@*:80", [("0.0.0.0", 80, 80)]),
        ("ipv4@192.0.2.1:80", [("192.0.2.1", 80, 80)]),
        ("::1:80", [("::1", 80, 80)]),
        ("[::1]:80", [("::1", 80, 80)]),
        ("2001:db8::1:80", [("2001:db8::1", 80, 80)]),
        ("192.0.2.1:80-82", [("192.0.2.1", 80, 82)]),
        (":1-65535", [("0.0.0.0", 1, 65535)]),
        (":00080", [("0.0.0.0", 80, 80)]),
        (":80,[::1]:81-82,192.0.2.1:83", [("0.0.0.0", 80, 80), ("::1", 81, 82), ("192.0.2.1", 83, 83)]),
        ("both.test:80", [("2001:db8::46", 80, 80)]),
        ("ipv4@both.test:80", [("192.0.2.46", 80, 80)]),
        ("$VIP:$PORT", [("192.0.2.1", 80, 80)]),
        ("${VIP}:${PORT}", [("192.0.2.1", 80, 80)]),
        (":8$PORT", [("0.0.0.0", 880, 880)]),
    ],
)
def test_a_bind_names_addresses_and_ports(reader: AddressReader, word: str, ranges: list[tuple[str, int, int]]) -> None:
    assert reader.bind(word) == [BindRange(ip_address(address), first, last) for address, first, last in ranges]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("192.0.2.1", "missing port specification in '192.0.2.1'"),
        ("192.0.2.1:", "missing port specification in '192.0.2.1:'"),
        ("[::1]", "missing port specification in '[::1]'"),
        (":0", "invalid port '0'"),
        (":70000", "invalid port '70000'"),
        (":99999999999999999999", "invalid port '99999999999999999999'"),
        (":80x", "invalid port '80x'"),
        (":80-", "invalid port ''"),
        (":80-81-82", "invalid port '81-82'"),
        (":82-80", "invalid port range '82-80'"),
        (":http", "invalid character 'h' in port number 'http' in ':http'"),
        (":\u0661", "invalid character '\u0661' in port number '\u0661' in ':\u0661'"),
        (":+80", "port offset not permitted here in ':+80'"),
        (":80:81", "invalid address: ':80' in ':80:81'"),
        ("[::1:80", "invalid address: '[::1' in '[::1:80'"),
        ("[192.0.2.1]:80", "invalid address: '[192.0.2.1]' in '[192.0.2.1]:80'"),
        ("[]:80", "invalid address: '[]' in '[]:80'"),
        ("1.2.3.4.5:80", "invalid address: '1.2.3.4.5' in '1.2.3.4.5:80'"),
        ("127.1:80", "invalid address: '127.1' in '127.1:80'"),
        ("010.0.0.1:80", "invalid address: '010.0.0.1' in '010.0.0.1:80'"),
        ("0x7f000001:80", "invalid address: '0x7f000001' in '0x7f000001:80'"),
        ("a b:80", "invalid address: 'a b' in 'a b:80'"),
        ("caf\u00e9.test:80", "invalid address: 'caf\u00e9.test' in 'caf\u00e9.test:80'"),
        (":80,", "empty address in the list ':80,'; remove a comma."),
        (":80,,:81", "empty address in the list ':80,,:81'; remove a comma."),
        ("nope.test:80", "could not resolve address 'nope.test'."),
        ("none.test:80", "could not resolve address 'none.test'."),
        ("idna.test:80", "could not resolve address 'idna.test'."),
        ("mapped.test:80", "'::ffff:c000:201' in 'mapped.test:80' travels as IPv4; write 192.0.2.1."),
        ("_http._tcp.test:80", "'_http._tcp.test' is a DNS SRV name, which gives no address;"),
        ("ipv4@[::1]:80", "'::1' in 'ipv4@[::1]:80' is not an IPv4 address."),
        ("ipv6@192.0.2.1:80", "'192.0.2.1' in 'ipv6@192.0.2.1:80' is not an IPv6 address."),
        ("224.0.0.1:80", "'224.0.0.1' in '224.0.0.1:80' is no single host's; natlb forwards unicast packets."),
        ("255.255.255.255:80", "'255.255.255.255' in '255.255.255.255:80' is no single host's;"),
        ("[ff02::1]:80", "'ff02::1' in '[ff02::1]:80' is no single host's;"),
        ("[::ffff:192.0.2.1]:80", "'::ffff:c000:201' in '[::ffff:192.0.2.1]:80' travels as IPv4; write 192.0.2.1."),
        ("[fe80::1%eth0]:80", "'%eth0' in '[fe80::1%eth0]:80' is not supported; use 'interface' on a bind line."),
        ("/run/x.sock:80", "'/run/x.sock:80' is a Unix socket and needs to end the TCP connection;"),
        ("unix@/run/x", "'unix@' in 'unix@/run/x' needs to end the TCP connection;"),
        ("fd@3", "'fd@' in 'fd@3' needs to end the TCP connection;"),
        ("udp@:53", "'udp@' in 'udp@:53' is not supported; for UDP write a 'udp-lb' section, with 'ipv4@', 'ipv6@' or"),
        ("dgram+ipv4@:53", "'dgram+' in 'dgram+ipv4@:53' is not supported; for UDP write a 'udp-lb' section,"),
        ("quic4@:443", "'quic4@' in 'quic4@:443' needs to end the QUIC connection; a 'udp-lb' section forwards its "),
        ("tcp4@:80", "'tcp4@' in 'tcp4@:80' is not supported; write 'ipv4@', 'ipv6@' or no prefix."),
        ("$PAIR", "invalid address: '192.0.2.1:80,192.0.2.2' in '$PAIR'"),  # a list in a variable is no list
        ("$", "'$' : '$' is followed by no variable's name;"),
        ("${VIP-x}:80", "'${VIP-x}:80' : '$' is followed by no variable's name;"),
        ("$NOPE", "'$NOPE' resolves to an empty address (environment variable missing?)"),
    ],
)
def test_a_bind_that_names_none_is_refused(reader: AddressReader, word: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        reader.bind(word)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("word", "address", "port", "offset"),
    [
        ("192.0.2.1:80", "192.0.2.1", 80, 0),
        ("192.0.2.1", "192.0.2.1", None, 0),
        ("192.0.2.1:", "192.0.2.1", None, 0),
        ("192.0.2.1:+1000", "192.0.2.1", None, 1000),
        ("192.0.2.1:-1000", "192.0.2.1", None, -1000),
        ("[::1]", "::1", None, 0),
        ("[::1]:+5", "::1", None, 5),
        ("::1:80", "::1", 80, 0),
        ("ipv4@both.test:80", "192.0.2.46", 80, 0),
        ("ipv6@both.test", "2001:db8::46", None, 0),
        ("$VIP", "192.0.2.1", None, 0),
    ],
)
def test_a_server_has_an_address_and_a_port_or_an_offset(
    reader: AddressReader, word: str, address: str, port: int | None, offset: int
) -> None:
    assert reader.server(word) == ServerAddress(ip_address(address), port, offset)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (":80", "':80' names no host;"),
        ("*:80", "'*:80' names no host;"),
        ("0.0.0.0:80", "'0.0.0.0' is no server's address;"),
        ("[::]:80", "'::' is no server's address;"),
        ("::1", "the last colon of '::1' starts a port; put an IPv6 address in brackets: [::1]."),
        ("2001:db8::80", "the last colon of '2001:db8::80' starts a port;"),
        ("192.0.2.1:0", "invalid port '0'"),
        ("192.0.2.1:80-81", "port range not permitted here in '192.0.2.1:80-81'"),
        ("192.0.2.1:+", "invalid port offset '+' in '192.0.2.1:+'"),
        ("192.0.2.1:+65536", "invalid port offset '+65536' in '192.0.2.1:+65536'"),
        ("192.0.2.1:-x", "invalid port offset '-x' in '192.0.2.1:-x'"),
        ("192.0.2.1:x", "invalid character 'x' in port number 'x' in '192.0.2.1:x'"),
        ("nope.test:80", "could not resolve address 'nope.test'."),
    ],
)
def test_a_server_without_one_is_refused(reader: AddressReader, word: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        reader.server(word)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("word", "address", "first", "last"),
    [
        ("192.0.2.1", "192.0.2.1", 0, 0),
        ("192.0.2.1:", "192.0.2.1", 0, 0),
        ("192.0.2.1:0", "192.0.2.1", 0, 0),
        ("192.0.2.1:0-0", "192.0.2.1", 0, 0),
        ("192.0.2.1:80", "192.0.2.1", 80, 80),
        ("192.0.2.1:80-90", "192.0.2.1", 80, 90),
        ("$VIP:$PORT", "192.0.2.1", 80, 80),
        ("*", "0.0.0.0", 0, 0),
        ("[::]:0", "::", 0, 0),
        ("ipv6@", "::", 0, 0),
    ],
)
def test_a_source_has_an_address_and_perhaps_ports(
    reader: AddressReader, word: str, address: str, first: int, last: int
) -> None:
    assert reader.source(word, ranges=True) == SourceRange(ip_address(address), first, last)


@pytest.mark.parametrize(
    ("word", "ranges", "text"),
    [
        ("192.0.2.1:80-90", False, "port range not permitted here in '192.0.2.1:80-90'"),
        ("192.0.2.1:0-90", True, "invalid port range '0-90'; 0 stands for any port, alone."),
        ("192.0.2.1:90-80", True, "invalid port range '90-80'"),
        ("192.0.2.1:90-0", True, "invalid port range '90-0'"),
        ("192.0.2.1:-80", True, "port offset not permitted here in '192.0.2.1:-80'"),
        ("192.0.2.1:65536", True, "invalid port '65536'; a port is a number from 1 to 65535."),
        ("$NOPE", True, "'$NOPE' resolves to an empty address (environment variable missing?)"),
    ],
)
def test_a_source_with_other_ports_is_refused(reader: AddressReader, word: str, ranges: bool, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        reader.source(word, ranges=ranges)
    assert str(caught.value) == text


def test_a_name_that_has_no_address_of_the_family_asked_for_is_refused(reader: AddressReader) -> None:
    reader = AddressReader({}, lambda _: [ip_address("192.0.2.1")])
    with pytest.raises(ConfigError, match=r"could not resolve address 'x\.test' as an IPv6 address\."):
        reader.server("ipv6@x.test:80")


def test_the_address_of_a_check_is_a_literal_without_a_port(reader: AddressReader) -> None:
    assert reader.host("192.0.2.9") == ip_address("192.0.2.9")
    assert reader.host("[::1]") == ip_address("::1")
    with pytest.raises(ConfigError, match="put an IPv6 address in brackets"):
        reader.host("::1")
    for word in ("192.0.2.9:80", "both.test", ":80", "*"):
        with pytest.raises(ConfigError, match="it takes an IPv4 or IPv6 address and no port"):
            reader.host(word)


def test_a_variable_that_is_not_set_is_kept_for_the_warning(reader: AddressReader) -> None:
    reader.bind("$NOPE:80")
    assert reader.unset == ["NOPE"]


def test_the_default_resolver_is_the_systems() -> None:
    found = {str(address) for address in system_resolver("localhost")}
    assert found
    assert found <= {"127.0.0.1", "::1"}


def test_the_default_resolver_fails_as_the_systems_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ConfigError, match=r"could not resolve address 'www\.test'"):
        AddressReader({}, system_resolver).server("www.test:80")
