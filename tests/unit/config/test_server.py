"""`server` and `default-server` lines say what HAProxy's say."""

from ipaddress import ip_address

import pytest

from natlb.config.model import Check, Location, Server

from .conftest import Reader


def servers(read: Reader, *lines: str) -> tuple[Server, ...]:
    text = "".join(f"    {line}\n" for line in lines)
    made: tuple[Server, ...] = read(f"backend b\n{text}").config.backends[0].servers
    return made


def test_a_plain_server_has_haproxys_defaults(read: Reader) -> None:
    assert servers(read, "server s1 127.0.0.1:4444") == (
        Server(
            name="s1",
            id=1,
            address=ip_address("127.0.0.1"),
            port=4444,
            port_offset=0,
            weight=1,
            backup=False,
            disabled=False,
            check=None,
            location=Location("t.cfg", 2),
        ),
    )


def test_a_checked_server_has_haproxys_defaults(read: Reader) -> None:
    (server,) = servers(read, "server s1 127.0.0.1:4444 check")
    assert server.check == Check(2.0, None, None, 2, 3, None, None)


def test_all_parameters_are_kept(read: Reader) -> None:
    (server,) = servers(
        read,
        "server s six.test:+10 weight 256 check inter 1s fastinter 100 downinter 5m rise 4 fall 5 port 81 "
        "addr 192.0.2.9 disabled backup id 42 on-marked-down shutdown-sessions",
    )
    assert server == Server(
        name="s",
        id=42,
        address=ip_address("2001:db8::6"),
        port=None,
        port_offset=10,
        weight=256,
        backup=True,
        disabled=True,
        check=Check(1.0, 0.1, 300.0, 4, 5, 81, ip_address("192.0.2.9")),
        location=Location("t.cfg", 2),
        has_given_id=True,
        shutdown_on_down=True,
    )


def test_a_default_server_holds_for_the_servers_below_it(read: Reader) -> None:
    made = servers(
        read,
        "server before 192.0.2.1:80",
        "default-server weight 7 check backup disabled on-marked-down shutdown-sessions",
        "default-server inter 9s",
        "server after 192.0.2.2:80",
        "server other 192.0.2.3:80 weight 8 no-check no-backup enabled",
    )
    assert [server.weight for server in made] == [1, 7, 8]
    assert [server.backup for server in made] == [False, True, False]
    assert [server.shutdown_on_down for server in made] == [False, True, True]
    assert [server.disabled for server in made] == [False, True, False]
    assert made[1].check is not None
    assert made[1].check.inter == 9.0
    assert made[2].check is None


def test_servers_are_numbered_around_the_numbers_that_were_given_as_in_haproxy(read: Reader) -> None:
    made = servers(
        read,
        "server s1 192.0.2.1:1",
        "server s2 192.0.2.1:1 id 1",
        "server s3 192.0.2.1:1",
        "server s4 192.0.2.1:1 id 9",
        "server s5 192.0.2.1:1",
    )
    assert [server.id for server in made] == [2, 1, 4, 9, 6]  # read off HAProxy 2.6.12's show stat


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("server", "'server' expects <name> and <addr>[:<port>] as arguments."),
        ("server s", "'server' expects <name> and <addr>[:<port>] as arguments."),
        ("server s$ 1.1.1.1:1", "character '$' is not permitted in server name 's$'."),
        ("server s 1.1.1.1:70000", "'server b/s' : invalid port '70000'; a port is a number from 1 to 65535."),
        ("server s 1.1.1.1:1-2", "'server b/s' : port range not permitted here in '1.1.1.1:1-2'"),
        ("server s nope.test:80", "'server b/s' : could not resolve address 'nope.test'."),
        ("server s 1.1.1.1:1 chekc", "'server b/s' : unknown keyword 'chekc'; did you mean 'check' maybe ?"),
        ("server s 1.1.1.1:1 inter", "'server b/s' : 'inter' expects an integer value (in milliseconds)"),
        ("server s 1.1.1.1:1 inter 0", "'server b/s' : invalid value 0 for argument 'inter'; it has to be > 0."),
        ("server s 1.1.1.1:1 weight x", "'server b/s' : 'weight' expects an integer from 0 to 256 (got 'x')."),
        ("server s 1.1.1.1:1 weight 257", "'server b/s' : 'weight' expects an integer from 0 to 256 (got 257)."),
        ("server s 1.1.1.1:1 weight", "'server b/s' : 'weight' expects an integer from 0 to 256 (got nothing)."),
        ("server s 1.1.1.1:1 rise 0", "'server b/s' : 'rise' expects an integer from 1 to 2147483647 (got 0)."),
        ("server s 1.1.1.1:1 fall x", "'server b/s' : 'fall' expects an integer from 1 to 2147483647 (got 'x')."),
        ("server s 1.1.1.1:1 port 0", "'server b/s' : 'port' expects an integer from 1 to 65535 (got 0)."),
        ("server s 1.1.1.1:1 addr", "'server b/s' : 'addr' expects <ipv4|ipv6> as argument."),
        (
            "server s 1.1.1.1:1 addr four.test",
            "'server b/s' : 'addr' : invalid address: 'four.test' in 'four.test'; it takes an IPv4 or IPv6 address "
            "and no port.",
        ),
        (
            "server s 1.1.1.1:1 on-marked-down",
            "'server b/s' : 'on-marked-down' expects 'shutdown-sessions' but got ''.",
        ),
        (
            "default-server on-marked-down shutdown",
            "'default-server' : 'on-marked-down' expects 'shutdown-sessions' but got 'shutdown'.",
        ),
        (
            "server s 1.1.1.1:1 agent-check",
            "'server b/s' : 'agent-check' asks a program on the server for its state and weight;",
        ),
        ("server s 1.1.1.1:1 id 0", "'server b/s' : 'id' expects an integer from 1 to 2147483647 (got 0)."),
        ("server s 1.1.1.1:1 weight 1 weight 2", "'server b/s' : 'weight' is given twice; remove one."),
        ("server s 1.1.1.1:1 backup x", "'server b/s' : unknown keyword 'x'."),
        ("server s 1.1.1.1:1 slowstart x", "'server b/s' : "),
        ("server s 1.1.1.1:1 maxconn x", "'server b/s' : 'maxconn' expects an integer from 0 to 2147483647 (got 'x')."),
        ("server s 1.1.1.1:1 maxqueue", "'server b/s' : 'maxqueue' expects an integer from 0 to 2147483647"),
        (
            "server s 1.1.1.1:1 cookie x",
            "'server b/s' : 'cookie' works on HTTP messages (layer 7); natlb forwards packets and never reads them.",
        ),
        (
            "server s 1.1.1.1:1 send-proxy",
            "'server b/s' : 'send-proxy' needs to end the TCP connection; natlb only rewrites its packets.",
        ),
        ("default-server inter x", "'default-server' : unexpected character 'x' in 'inter' (got 'x'); a time is a "),
        ("default-server id 4", "'default-server' : 'id' option is not accepted in default-server sections."),
        ("default-server 1.1.1.1:80", "'default-server' : unknown keyword '1.1.1.1:80'."),
    ],
)
def test_an_error_names_the_line_the_server_and_the_word(read: Reader, line: str, text: str) -> None:
    (alert,) = read(f"backend b\n    {line}\n").alerts
    assert alert.startswith(f"[t.cfg:2] : {text}")


def test_one_line_shows_all_its_errors(read: Reader) -> None:
    alerts = read("backend b\n    server s 1.1.1.1:0 weight 300 ssl verify none rise 0\n").alerts
    assert len(alerts) == 5


def test_the_number_of_a_server_is_given_once(read: Reader) -> None:
    alerts = read("backend b\n    server s 1.1.1.1:1 id 5\n    server t 1.1.1.1:1 id 5\n").alerts
    assert alerts == ["[t.cfg:3] : 'server b/t' : 'id' : custom id 5 already used at t.cfg:2 ('server s')."]


@pytest.mark.parametrize("line", ["server s 1.1.1.1:1", "default-server weight 1"])
def test_a_frontend_has_no_servers(read: Reader, line: str) -> None:
    keyword = line.partition(" ")[0]
    assert read(f"frontend f\n    {line}\n").alerts == [
        f"parsing [t.cfg:2] : '{keyword}' not allowed because frontend 'f' has no backend capability."
    ]


def test_a_server_is_not_inherited(read: Reader) -> None:
    alerts = read("defaults\n    server s 1.1.1.1:1\n    default-server weight 5\n").alerts
    assert alerts == ["parsing [t.cfg:2] : 'server' not allowed in 'defaults' section."]


def test_what_tunes_a_socket_is_said_to_have_no_effect(read: Reader) -> None:
    got = read("backend b\n    server s 1.1.1.1:1 tfo tcp-ut 5s\n")
    assert len(got.config.backends[0].servers) == 1
    assert len(got.warnings) == 2


def test_a_template_is_several_servers_numbered_as_haproxy_numbers_them(read: Reader) -> None:
    """HAProxy's `show servers state` had these ids for this."""
    config = read(
        "listen l\n bind :80\n default-server weight 2\n server-template s 1-3 four.test:80 weight 3\n"
        " server-template t 5-6 1.1.1.2:80 id 9\n server x 1.1.1.1:1\n server y 1.1.1.1:1 id 2\n"
    ).config
    servers = config.backends[0].servers
    assert [(server.name, server.id, server.weight) for server in servers] == [
        ("s1", 1, 3),
        ("s2", 3, 3),
        ("s3", 4, 3),
        ("t5", 9, 2),
        ("t6", 6, 2),
        ("x", 7, 2),
        ("y", 2, 2),
    ]
    assert {str(server.address) for server in servers[:3]} == {"192.0.2.4"}


def test_a_count_is_a_range_from_one(read: Reader) -> None:
    config = read("udp-lb u\n dgram-bind :53\n server-template s 2 1.1.1.1:53\n").config
    assert [server.name for server in config.backends[0].servers] == ["s1", "s2"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("s", "'server-template' expects <prefix> <nb | range> <addr>[:<port>] as arguments."),
        ("s$ 3 1.1.1.1:1", "character '$' is not permitted in server-template prefix 's$'."),
        ("s 5-3 1.1.1.1:1", "Wrong server-template number or range arg '5-3'."),
        ("s 0 1.1.1.1:1", "Wrong server-template number or range arg '0'."),
        ("s x 1.1.1.1:1", "Wrong server-template number or range arg 'x'."),
        ("s 1-5000 1.1.1.1:1", "'server-template' makes at most 4096 servers (got '1-5000')."),
        ("s 3 1.1.1.1:70000", "'server b/s' : invalid port '70000'; a port is a number from 1 to 65535."),
        ("s 3 1.1.1.1:1 chekc", "'server b/s' : unknown keyword 'chekc'; did you mean 'check' maybe ?"),
    ],
)
def test_what_is_wrong_with_a_template_is_said_once(read: Reader, words: str, text: str) -> None:
    assert read(f"backend b\n server-template {words}\n").alerts == [f"[t.cfg:2] : {text}"]


def test_a_frontend_has_no_templates(read: Reader) -> None:
    [alert] = read("frontend f\n bind :80\n server-template s 3 1.1.1.1:1\n").alerts
    assert alert.endswith("'server-template' not allowed because frontend 'f' has no backend capability.")
