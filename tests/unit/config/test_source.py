"""`source` chooses whose address servers see: natlb's own for full NAT, or the client's, always."""

from ipaddress import ip_address

import pytest

from natlb.config.model import Backend, Location, Source

from .conftest import Reader

SERVER = "    server s 192.0.2.1:80\n"


def backend(read: Reader, *lines: str) -> Backend:
    text = "".join(f"    {line}\n" for line in lines)
    made: Backend = read(f"backend b\n{text}{SERVER}").config.backends[0]
    return made


def ports(sources: tuple[Source, ...] | None) -> list[tuple[str, int | None, int | None]]:
    assert sources is not None
    return [(str(source.address), source.first_port, source.last_port) for source in sources]


def test_a_section_that_says_nothing_leaves_it_to_natlb(read: Reader) -> None:
    made = backend(read)
    assert made.sources is None
    assert made.servers[0].sources is None


@pytest.mark.parametrize(
    ("words", "address", "port"),
    [
        ("10.0.0.9", "10.0.0.9", None),
        ("10.0.0.9:", "10.0.0.9", None),
        ("10.0.0.9:0", "10.0.0.9", None),
        ("10.0.0.9:1000", "10.0.0.9", 1000),
        ("ipv4@10.0.0.9", "10.0.0.9", None),
        ("four.test", "192.0.2.4", None),
        ("ipv6@both.test:5", "2001:db8::46", 5),
        ("[2001:db8::9]", "2001:db8::9", None),
        ("2001:db8::9:1000", "2001:db8::9", 1000),
    ],
)
def test_an_address_is_full_nat_from_it(read: Reader, words: str, address: str, port: int | None) -> None:
    assert backend(read, f"source {words}").sources == (Source(ip_address(address), port, port, Location("t.cfg", 2)),)


@pytest.mark.parametrize("address", ["0.0.0.0", "*", "[::]", "0.0.0.0:0", ":0", ":::0", "ipv6@", "ipv6@*"])
@pytest.mark.parametrize("usesrc", ["client", "clientip"])
def test_the_clients_own_address_is_asked_for_with_usesrc(read: Reader, address: str, usesrc: str) -> None:
    assert backend(read, f"source {address} usesrc {usesrc}").sources == ()
    made = read(f"backend b\n    server s 192.0.2.1:80 source {address} usesrc {usesrc} weight 3\n").config.backends[0]
    assert (made.servers[0].sources, made.servers[0].weight) == ((), 3)


def test_several_lines_of_a_section_add_up(read: Reader) -> None:
    made = backend(read, "source 10.0.0.9", "source 10.0.0.10:5", "source 10.0.0.10:6", "source [2001:db8::9]")
    assert ports(made.sources) == [
        ("10.0.0.9", None, None),
        ("10.0.0.10", 5, 5),
        ("10.0.0.10", 6, 6),
        ("2001:db8::9", None, None),
    ]
    assert backend(read, "source 0.0.0.0 usesrc client", "source [::] usesrc client").sources == ()


def test_the_first_line_of_a_section_replaces_what_was_inherited(read: Reader) -> None:
    text = "defaults\n    source 10.0.0.1\n    source 10.0.0.2\n" + "".join(
        f"backend {name}\n{lines}{SERVER}"
        for name, lines in {
            "inherits": "",
            "replaces": "    source 10.0.0.3\n    source 10.0.0.1\n",
            "transparent": "    source 0.0.0.0 usesrc clientip\n",
        }.items()
    )
    config = read(text).config
    assert ports(config.backends[0].sources) == [("10.0.0.1", None, None), ("10.0.0.2", None, None)]
    assert ports(config.backends[1].sources) == [("10.0.0.3", None, None), ("10.0.0.1", None, None)]
    assert config.backends[2].sources == ()


def test_defaults_that_keep_the_clients_address_are_replaced_too(read: Reader) -> None:
    text = "defaults a\n    source 0.0.0.0 usesrc client\ndefaults b from a\n    source 10.0.0.1\nbackend b from b\n"
    assert ports(read(text + SERVER).config.backends[0].sources) == [("10.0.0.1", None, None)]


def test_a_server_may_have_its_own_and_a_range_of_ports(read: Reader) -> None:
    servers = (
        read(
            "backend b\n"
            "    source 10.0.0.1\n"
            "    server before 192.0.2.1:80\n"
            "    default-server source 10.0.0.2:1000-1999 check\n"
            "    server below 192.0.2.2:80\n"
            "    server own 192.0.2.3:80 source 10.0.0.3:0-0 check\n"
            "    server transparent 192.0.2.4:80 weight 2 source * usesrc client no-check\n"
        )
        .config.backends[0]
        .servers
    )
    assert servers[0].sources is None
    assert servers[1].sources == (Source(ip_address("10.0.0.2"), 1000, 1999, Location("t.cfg", 4)),)
    assert servers[2].sources == (Source(ip_address("10.0.0.3"), None, None, Location("t.cfg", 6)),)
    assert servers[3].sources == ()
    assert [server.check is not None for server in servers] == [False, True, True, False]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("", "'source' expects <addr>[:<port>], and optionally 'usesrc' <addr>, and 'interface' <name>."),
        (
            " 10.0.0.9:1000-2000",
            "'source 10.0.0.9:1000-2000' : port range not permitted here in '10.0.0.9:1000-2000'; it may stand on a "
            "'server' or 'default-server' line: 'default-server source 10.0.0.9:1000-2000'.",
        ),
        (" 10.0.0.9:+5", "'source 10.0.0.9:+5' : port offset not permitted here in '10.0.0.9:+5'"),
        (" 10.0.0.9:x", "'source 10.0.0.9:x' : invalid character 'x' in port number 'x' in '10.0.0.9:x'"),
        (" 10.0.0.9:70000", "'source 10.0.0.9:70000' : invalid port '70000'"),
        (" 10.0.0.9:80x", "'source 10.0.0.9:80x' : invalid port '80x'"),
        (" nope.test", "'source nope.test' : could not resolve address 'nope.test'."),
        (" ::", "'source ::' : the last colon of '::' starts a port; put an IPv6 address in brackets: [::]."),
        (" 224.0.0.1", "'source 224.0.0.1' : '224.0.0.1' in '224.0.0.1' is no single host's;"),
        (" unix@/run/x", "'source unix@/run/x' : 'unix@' in 'unix@/run/x' needs to end the TCP connection;"),
        (" 10.0.0.9,10.0.0.10", "'source 10.0.0.9,10.0.0.10' : invalid address: "),
        (
            " 0.0.0.0",
            "'source 0.0.0.0' leaves the address to the system; natlb writes it into packets, and needs one. Add "
            "'usesrc clientip' to keep the client's.",
        ),
        (" :1000", "'source :1000' leaves the address to the system;"),
        (" 10.0.0.9 usesrc", "'usesrc' expects <addr>[:<port>], 'client', or 'clientip' as argument."),
        (
            " 10.0.0.9 usesrc clientip",
            "'source 10.0.0.9 usesrc clientip' names two sources; write 'source 0.0.0.0 usesrc clientip' for the "
            "client's, or 'source 10.0.0.9'.",
        ),
        (
            " 0.0.0.0:1000 usesrc client",
            "'source 0.0.0.0:1000 usesrc client' : the client's address comes with the client's port; remove the port.",
        ),
        (
            " 10.0.0.9 usesrc 10.0.0.10",
            "'usesrc 10.0.0.10' : servers see one address; natlb has 'usesrc clientip' for the client's, and 'source "
            "10.0.0.10' for another.",
        ),
        (
            " 10.0.0.9 usesrc hdr_ip(x-forwarded-for,-1)",
            "'usesrc hdr_ip(x-forwarded-for,-1)' works on HTTP messages (layer 7);",
        ),
        (" 10.0.0.9 interface", "'source' : missing interface name."),
        (
            " 0.0.0.0 usesrc client interface eth0",
            "'interface' of 'source' ties a socket to a device; natlb forwards packets as the host routes them. "
            "Remove it.",
        ),
        (" 10.0.0.9 weight 5", "'source' only supports optional keywords 'interface' and 'usesrc' (got 'weight')."),
    ],
)
def test_an_error_names_the_line_and_the_word(read: Reader, words: str, text: str) -> None:
    (alert,) = read(f"backend b\n    source{words}\n").alerts
    assert alert.startswith(f"parsing [t.cfg:2] : {text}")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            "source",
            "'source' expects <addr>[:<port>[-<port>]], and optionally 'usesrc' <addr>, and 'interface' <name> ",
        ),
        ("source 10.0.0.9:2000-1000", "'source 10.0.0.9:2000-1000' : invalid port range '2000-1000'"),
        (
            "source 10.0.0.9:0-100",
            "'source 10.0.0.9:0-100' : invalid port range '0-100'; 0 stands for any port, alone.",
        ),
        ("source 10.0.0.9 usesrc", "'usesrc' expects <addr>[:<port>], 'client', 'clientip', or 'hdr_ip(name,#)' as "),
        ("source 10.0.0.9 source 10.0.0.8", "'source' is given twice; remove one."),
        ("source 10.0.0.9 foo", "unknown keyword 'foo'; did you mean 'tfo' maybe ?"),
        ("source 10.0.0.9 interface eth0 check", "'interface' of 'source' ties a socket to a device;"),
        ("source 10.0.0.9 weight 1 usesrc client", "'usesrc' only allowed after a 'source' statement."),
    ],
)
def test_an_error_on_a_servers_line_names_the_server(read: Reader, words: str, text: str) -> None:
    (alert,) = read(f"backend b\n    server s 192.0.2.1:80 {words}\n").alerts
    assert alert.startswith(f"[t.cfg:2] : 'server b/s' : {text}")
    (alert,) = read(f"backend b\n    default-server {words}\n").alerts
    assert alert.startswith(f"[t.cfg:2] : 'default-server' : {text}")


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (
            "    source 10.0.0.9\n    source 0.0.0.0 usesrc clientip\n",
            "'source 0.0.0.0' contradicts t.cfg:2: either servers see the client's address, or they see natlb's. "
            "Remove one.",
        ),
        ("    source * usesrc client\n    source 10.0.0.9\n", "'source 10.0.0.9' contradicts t.cfg:2: either servers"),
        (
            "    source 10.0.0.9\n    source 10.0.0.9:5\n",
            "'source 10.0.0.9:5' : 10.0.0.9 is already given at t.cfg:2; remove one.",
        ),
        (
            "    source 10.0.0.9:5\n    source 10.0.0.9:5\n",
            "'source 10.0.0.9:5' : 10.0.0.9 is already given at t.cfg:2; remove one.",
        ),
    ],
)
def test_lines_of_one_section_that_contradict_each_other_are_refused(read: Reader, lines: str, text: str) -> None:
    (alert,) = read(f"backend b\n{lines}").alerts
    assert alert.startswith(f"parsing [t.cfg:3] : {text}")


def test_what_may_only_follow_a_source_says_so(read: Reader) -> None:
    text = "parsing [t.cfg:2] : 'usesrc' only allowed after a 'source' statement."
    assert read("backend b\n    usesrc clientip\n").alerts == [text]


def test_a_frontend_has_no_use_for_one(read: Reader) -> None:
    got = read("frontend f\n    source 10.0.0.9\n")
    assert got.alerts == []
    assert got.warnings[0] == "parsing [t.cfg:2] : 'source' ignored because frontend 'f' has no backend capability."


@pytest.mark.parametrize(
    ("lines", "warnings"),
    [
        ("    source 10.0.0.9\n    server s 192.0.2.1:80\n", []),
        ("    source 10.0.0.9\n    source [2001:db8::9]\n    server s 192.0.2.1:80\n", ["[t.cfg:3"]),
        ("    source [2001:db8::9]\n    server s 192.0.2.1:80 source 10.0.0.9\n", []),
        ("    source [2001:db8::9]\n    server s 192.0.2.1:80\n    server t [2001:db8::1]:80\n", []),
        ("    server s 192.0.2.1:80 source [2001:db8::9]\n", ["[t.cfg:2"]),
        (
            "    default-server source [2001:db8::9]\n    server s 192.0.2.1:80\n    server t 192.0.2.2:80\n",
            ["[t.cfg:2"],
        ),
        ("    disabled\n    source [2001:db8::9]\n    server s 192.0.2.1:80\n", []),
    ],
)
def test_a_source_of_a_family_that_no_server_speaks_is_told_of(read: Reader, lines: str, warnings: list[str]) -> None:
    got = read(f"backend b\n{lines}").warnings
    assert got == [
        f"parsing {place}] : 'source' : 2001:db8::9 is IPv6, and no server of backend 'b' that it is for is; addresses "
        "of one family cannot be translated into the other, so it will not be used."
        for place in warnings
    ]
