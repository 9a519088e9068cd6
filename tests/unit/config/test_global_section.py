"""The `global` section."""

import pytest

from natlb.config.model import Config, Location, StatsSocket

from .conftest import Reader


def test_all_of_it_is_kept(read: Reader) -> None:
    config = read(
        "global\n"
        "    maxconn 940\n"
        "    node lb-1.example_x\n"
        "    description the  one 'and  only'\n"
        "    stats socket /run/natlb.sock mode 660 user root group root level admin\n"
        "    stats socket unix@/run/other.sock\n"
        "    stats timeout 30s\n"
    ).config
    assert config == Config(
        maxconn=940,
        node="lb-1.example_x",
        description="the one and  only",
        stats_sockets=(
            StatsSocket("/run/natlb.sock", 0o660, "root", "root", "admin", Location("t.cfg", 5)),
            StatsSocket("/run/other.sock", None, None, None, "operator", Location("t.cfg", 6)),
        ),
        stats_timeout=30.0,
    )


def test_a_second_global_section_goes_on_with_the_first(read: Reader) -> None:
    config = read("global\n    maxconn 5\nglobal\n    node x\n").config
    assert (config.maxconn, config.node) == (5, "x")


def test_a_maxconn_of_zero_is_none(read: Reader) -> None:
    assert read("global\n    maxconn 0\n    maxconn 5\n").config.maxconn == 5


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("maxconn", "'maxconn' expects an integer argument."),
        ("maxconn abc", "'maxconn' expects an integer from 0 to 2147483647 (got 'abc')."),
        ("maxconn 10 x", "'maxconn' cannot handle unexpected argument 'x'."),
        ("maxconn 1\n    maxconn 2", "'maxconn' already specified. Continuing."),
        ("maxcon 4", "unknown keyword 'maxcon' in 'global' section; did you mean 'maxconn' maybe ?"),
        ("zzzz", "unknown keyword 'zzzz' in 'global' section"),
        ("stats", "'stats' only supports 'socket', 'maxconn' and 'timeout' (got '')"),
        ("stats foo", "'stats' only supports 'socket', 'maxconn' and 'timeout' (got 'foo')"),
        ("stats maxconn", "'stats maxconn' expects a positive value"),
        ("stats maxconn 0", "'stats maxconn' expects a positive value"),
        ("stats maxconn x", "'stats maxconn' expects an integer from 0 to"),
        ("stats maxconn 5 6", "'stats maxconn' cannot handle unexpected argument '6'."),
        ("stats bind-process 1", "'stats bind-process' divides work among processes; natlb is one. Remove it."),
        ("stats socket", "'stats socket' in global section expects an address or a path to a UNIX socket"),
        ("stats socket x.sock", "missing port specification in 'x.sock'"),
        ("stats socket 127.0.0.1:0", "invalid port '0'"),
        ("stats socket abns@x", "'stats socket' : 'abns@' in 'abns@x' is not supported; give a path, or address:port."),
        (
            "stats socket 127.0.0.1:1\n    stats socket ipv4@127.0.0.1:1",
            "'stats socket' : 'ipv4@127.0.0.1:1' already specified at t.cfg:2.",
        ),
        ("stats socket /a uid", "'stats socket' : 'uid' : missing value"),
        ("stats socket /a gid x", "'stats socket' : "),
        (
            "stats socket /a severity-output all",
            "'stats socket' : 'severity-output' only supports 'none', 'number', and 'string' (got 'all')",
        ),
        ("stats socket /a severity-output", "'stats socket' : 'severity-output' : missing severity format"),
        ("stats socket /a maxconn 5", "'stats socket' : 'maxconn' is not for one socket in natlb: 'stats maxconn' "),
        ("stats socket $NOPE", "'$NOPE' resolves to an empty address (environment variable missing?)"),
        ("stats socket /a,/b", "'stats socket' : '/a,/b' has a comma; write one line for each socket."),
        ("stats socket /run/", "'stats socket' : '/run/' is no path of a socket."),
        ("stats socket /a\\nb", "'stats socket' : '/a\\x0ab' is no path of a socket."),
        (f"stats socket /{'x' * 97}", f"'stats socket' : socket path '/{'x' * 97}' too long (max 97)"),
        ("stats socket /a\n    stats socket /a", "'stats socket' : '/a' already specified at t.cfg:2."),
        ("stats socket /a foo", "'stats socket' : unknown keyword 'foo'; did you mean 'tfo' maybe ?"),
        (
            "stats socket /a mode 999",
            "'stats socket' : 'mode' : missing or invalid mode '999' (octal integer expected)",
        ),
        ("stats socket /a mode -1", "'stats socket' : 'mode' : missing or invalid mode '-1' (octal integer expected)"),
        ("stats socket /a mode", "'stats socket' : 'mode' : missing or invalid mode '' (octal integer expected)"),
        ("stats socket /a user no-such-user", "'stats socket' : 'user' : unknown user name 'no-such-user'"),
        ("stats socket /a user", "'stats socket' : 'user' : missing user name"),
        ("stats socket /a group no-such-group", "'stats socket' : 'group' : unknown group name 'no-such-group'"),
        ("stats socket /a level", "'stats socket' : 'level' : missing level"),
        (
            "stats socket /a level root",
            "'stats socket' : 'level' only supports 'user', 'operator', and 'admin' (got 'root')",
        ),
        (
            "stats socket /a expose-fd listeners",
            "'stats socket' : 'expose-fd' hands listening sockets to another HAProxy, and natlb has none; remove it.",
        ),
        ("stats timeout", "'stats timeout' expects an integer value (in milliseconds)"),
        ("stats timeout 0", "'stats timeout' expects a positive value"),
        ("stats timeout 5s x", "'stats timeout' cannot handle unexpected argument 'x'."),
        ("description", "'description' expects a string argument."),
        ("description a\\nb", "'description' takes printable characters only (got 'a\\x0ab')."),
        ("node", "'node' requires valid node name - non-empty string with digits(0-9), letters(A-Z, a-z), dot(.), "),
        ("node a$", "'node' requires valid node name - "),
        ("node a b", "'node' cannot handle unexpected argument 'b'."),
        ("nbthread 0", "'nbthread' expects an integer from 1 to 64 (got 0)."),
        ("nbproc 2", "'nbproc' was removed from HAProxy; remove it."),
        ("lua-load x.lua", "'lua-load' runs programs on what connections carry (layer 7); natlb forwards packets and "),
        ("ca-base /etc", "'ca-base' works on TLS, which ends in the proxy; natlb forwards packets, encrypted or not, "),
        ("tune.foo 5", "unknown keyword 'tune.foo' in 'global' section"),
        ("tune.bufsize x", "'tune.bufsize' expects an integer from 4096 to 1048576 (got 'x')."),
        ("tune.idle-pool.shared maybe", "'tune.idle-pool.shared' expects either 'on' or 'off' but got 'maybe'."),
        ("tune.maxaccept 1\n    tune.maxaccept 1", "'tune.maxaccept' already specified. Continuing."),
    ],
)
def test_an_error_names_the_line_and_the_word(read: Reader, line: str, text: str) -> None:
    (alert,) = read(f"global\n    {line}\n").alerts
    assert alert.startswith(f"parsing [t.cfg:{2 + line.count(chr(10))}] : {text}")


def test_the_line_that_opens_it_has_no_more_words(read: Reader) -> None:
    assert read("global x\n    maxconn 5\n").alerts == [
        "parsing [t.cfg:1] : 'global' cannot handle unexpected argument 'x'."
    ]


@pytest.mark.parametrize("line", ["nbthread 4", "tune.bufsize 16384", "tune.ssl.lifetime 5m", "tune.ssl.keylog on"])
def test_what_tunes_a_proxy_is_said_to_have_no_effect(read: Reader, line: str) -> None:
    (warning,) = read(f"global\n    {line}\n").warnings
    assert warning.startswith(f"parsing [t.cfg:2] : '{line.partition(' ')[0]}' has no effect: natlb forwards packet")


def test_a_stats_socket_may_be_a_tcp_socket_and_a_line_may_name_several(read: Reader) -> None:
    config = read(
        "global\n    stats socket ipv4@127.0.0.1:9999-10000,[::1]:9999 level user severity-output number\n"
        "    stats maxconn 25\n"
    ).config
    assert [(each.path, str(each.address), each.port) for each in config.stats_sockets] == [
        (None, "127.0.0.1", 9999),
        (None, "127.0.0.1", 10000),
        (None, "::1", 9999),
    ]
    assert {(each.level, each.severity) for each in config.stats_sockets} == {("user", "number")}
    assert config.stats_maxconn == 25


def test_a_stats_socket_may_have_its_owner_by_number(read: Reader) -> None:
    (socket,) = read("global\n    stats socket /a uid 0 gid 7\n").config.stats_sockets
    assert (socket.user, socket.group) == (0, 7)


def test_what_belongs_to_a_file_has_no_effect_on_a_tcp_socket(read: Reader) -> None:
    assert (
        read("global\n    stats socket 127.0.0.1:9999 mode 600\n")
        .warnings[0]
        .endswith("'stats socket' : 'mode' has no effect: 127.0.0.1:9999 is no Unix socket, and has no file.")
    )


def test_stats_sockets_take_a_number_among_the_proxies_where_they_are_first_spoken_of(read: Reader) -> None:
    listen = "listen {}\n    bind :{}\n    server s 192.0.2.1:1\n"
    stats = "global\n    stats timeout 5s\n"
    for text, numbers in (
        (listen.format("a", 1) + listen.format("b", 2), [1, 2]),
        (stats + listen.format("a", 1) + listen.format("b", 2), [2, 3]),
        (listen.format("a", 1) + stats + listen.format("b", 2), [1, 3]),
        (stats + listen.format("a", 1) + "    id 1\n" + listen.format("b", 2), [1, 3]),
    ):
        assert [frontend.id for frontend in read(text).config.frontends] == numbers
