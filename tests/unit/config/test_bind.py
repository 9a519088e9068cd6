"""The `bind` line makes one Bind for each address and port, and names the word that it cannot take."""

from ipaddress import ip_address

import pytest

from natlb.config.model import Bind, Location

from .conftest import Reader


def binds(read: Reader, *lines: str) -> tuple[Bind, ...]:
    text = "".join(f"    {line}\n" for line in lines)
    binds_read: tuple[Bind, ...] = read(f"frontend f\n{text}").config.frontends[0].binds
    return binds_read


def endpoints(made: tuple[Bind, ...]) -> list[tuple[str, int]]:
    return [(str(bind.address), bind.port) for bind in made]


def test_lists_and_ranges_are_expanded_in_the_order_written(read: Reader) -> None:
    made = binds(read, "bind :80-81,[::1]:90", "bind 192.0.2.1:22")
    assert endpoints(made) == [("0.0.0.0", 80), ("0.0.0.0", 81), ("::1", 90), ("192.0.2.1", 22)]
    assert [bind.location.line for bind in made] == [2, 2, 2, 3]


def test_all_parameters_are_kept(read: Reader) -> None:
    (made,) = binds(read, "bind four.test:80 name www id 7 interface eth0 transparent maxconn 100")
    assert made == Bind(
        ip_address("192.0.2.4"),
        80,
        Location("t.cfg", 2),
        interface="eth0",
        transparent=True,
        maxconn=100,
        name="www",
        id=7,
    )


def test_a_maxconn_of_zero_is_no_limit(read: Reader) -> None:
    assert binds(read, "bind :80 maxconn 0")[0].maxconn is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bind [::]:80", ["::"]),
        ("bind [::]:80 v6only", ["::"]),
        ("bind [::]:80 v4v6", ["0.0.0.0", "::"]),
        ("bind *:80", ["0.0.0.0"]),
    ],
)
def test_every_ipv6_address_is_no_ipv4_address_unless_asked_for(read: Reader, line: str, expected: list[str]) -> None:
    assert [str(bind.address) for bind in binds(read, line)] == expected


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("bind", "'bind' expects {[addr1]:port1[-end1]}{,[addr]:port[-end]}... as arguments."),
        ("bind 127.0.0.1", "'bind' : missing port specification in '127.0.0.1'"),
        ("bind :0", "'bind' : invalid port '0'; a port is a number from 1 to 65535."),
        ("bind :70000", "'bind' : invalid port '70000'; a port is a number from 1 to 65535."),
        ("bind :20-10", "'bind' : invalid port range '20-10'"),
        ("bind nope.test:80", "'bind' : could not resolve address 'nope.test'."),
        ("bind :80 foo", "'bind :80' in section 'frontend' : unknown keyword 'foo'; did you mean 'tfo' maybe ?"),
        ("bind :80 zzzz name", "'bind :80' in section 'frontend' : unknown keyword 'zzzz'."),
        ("bind :80 name", "'bind :80' in section 'frontend' : 'name' : missing name"),
        ("bind :80 name \\x41\\n", "'bind :80' in section 'frontend' : 'name' : 'A\\x0a' is not printable ASCII."),
        ("bind :80 interface", "'bind :80' in section 'frontend' : 'interface' : missing interface name"),
        ("bind :80 interface a/b", "'bind :80' in section 'frontend' : 'interface' : no such 'a/b'."),
        (
            "bind :80 interface abcdefghijklmnop",
            "'bind :80' in section 'frontend' : 'interface' : 'abcdefghijklmnop' is longer than the 15 characters of "
            "a name.",
        ),
        (
            "bind :80 maxconn abc",
            "'bind :80' in section 'frontend' : 'maxconn' expects an integer from 0 to 2147483647 (got 'abc').",
        ),
        (
            "bind :80 id 0",
            "'bind :80' in section 'frontend' : 'id' expects an integer from 1 to 2147483647 (got 0).",
        ),
        ("bind :80 id 5 id 5", "'bind :80' in section 'frontend' : 'id' is given twice; remove one."),
        ("bind :80-81 id 5", "'bind :80-81' in section 'frontend' : 'id' can only be used with a single socket"),
        (
            "bind [::]:80 v4v6 v6only",
            "'bind [::]:80' in section 'frontend' : 'v4v6' and 'v6only' contradict each other; remove one.",
        ),
        (
            "bind :80 accept-proxy",
            "'bind :80' in section 'frontend' : 'accept-proxy' needs to end the TCP connection; natlb only rewrites "
            "its packets.",
        ),
        (
            "bind :80 backlog x",
            "'bind :80' in section 'frontend' : 'backlog' expects an integer from 1 to 2147483647 (got 'x').",
        ),
        (
            "bind :80 nice 2000",
            "'bind :80' in section 'frontend' : 'nice' expects an integer from -1024 to 1024 (got 2000).",
        ),
    ],
)
def test_an_error_names_the_line_and_the_word(read: Reader, line: str, text: str) -> None:
    assert read(f"frontend f\n    {line}\n").alerts == [f"parsing [t.cfg:2] : {text}"]


def test_one_line_shows_all_its_errors(read: Reader) -> None:
    alerts = read("listen l\n    bind :0 maxconn x ssl crt /x.pem alpn h2 name\n").alerts
    assert [alert.split(" : ")[-1].split(" ")[0] for alert in alerts] == [
        "invalid",
        "'maxconn'",
        "'ssl'",
        "'crt'",
        "'alpn'",
        "missing",
    ]


def test_the_number_of_a_listener_is_given_once(read: Reader) -> None:
    assert read("frontend f\n    bind :80 id 5\n    bind :81 id 5\n").alerts == [
        "parsing [t.cfg:3] : 'bind :81' in section 'frontend' : 'id' : custom id 5 already used at t.cfg:2"
    ]


@pytest.mark.parametrize("parameter", ["backlog 100", "defer-accept", "tfo", "nice -5", "tcp-ut 5s"])
def test_what_tunes_a_socket_is_said_to_have_no_effect(read: Reader, parameter: str) -> None:
    got = read(f"listen l\n    bind :80 {parameter}\n    server s 192.0.2.1\n")
    assert got.config.frontends[0].binds
    (warning,) = got.warnings
    assert f"'{parameter.partition(' ')[0]}' has no effect: natlb forwards packets " in warning


def test_v4v6_on_one_address_is_said_to_have_no_effect(read: Reader) -> None:
    got = read("listen l\n    bind 192.0.2.1:80 v4v6\n    server s 192.0.2.1\n")
    assert got.warnings == [
        "parsing [t.cfg:2] : 'bind 192.0.2.1:80' in section 'listen' : 'v4v6' has no effect: only [::] stands for "
        "both families."
    ]


def test_a_variable_that_is_not_set_is_told_of(read: Reader) -> None:
    got = read("listen l\n    bind $VIP:80\n    server s 192.0.2.1\n")
    assert got.warnings == ["parsing [t.cfg:2] : environment variable 'VIP' is not set; it stands for nothing."]
    assert read("frontend f\n    bind $VIP:80\n", {"VIP": "192.0.2.1"}).config.frontends[0].binds[0].address == (
        ip_address("192.0.2.1")
    )
