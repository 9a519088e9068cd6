"""How a backend shares out its connections: the algorithms, what they hash, and the limits beside them."""

import pytest

from natlb.config.model import Backend, Hashing

from .conftest import Reader


def backend(read: Reader, *lines: str) -> Backend:
    """The backend of these lines, which are right and give no warning."""
    got = read("backend b\n" + "".join(f"    {line}\n" for line in lines))
    assert not got.warnings, got.warnings
    return got.config.backends[0]


@pytest.mark.parametrize("name", ["roundrobin", "static-rr", "leastconn", "first", "source", "random"])
def test_an_algorithm_is_named(read: Reader, name: str) -> None:
    made = backend(read, f"balance {name}", "server s 1.1.1.1:1")
    assert (made.balance, made.draws, made.hashing) == (name, None, Hashing())


@pytest.mark.parametrize("line", ["balance", "balance roundrobin", "retries 3"])
def test_roundrobin_is_the_default(read: Reader, line: str) -> None:
    assert backend(read, line, "server s 1.1.1.1:1").balance == "roundrobin"


@pytest.mark.parametrize(("line", "draws"), [("random", None), ("random()", None), ("random(1)", 1), ("random(3)", 3)])
def test_random_may_be_told_how_often_to_draw(read: Reader, line: str, draws: int | None) -> None:
    made = backend(read, f"balance {line}", "server s 1.1.1.1:1")
    assert (made.balance, made.draws) == ("random", draws)


@pytest.mark.parametrize("fetch", ["src", "dst", "src_port", "dst_port"])
def test_hash_takes_a_part_of_the_tuple(read: Reader, fetch: str) -> None:
    made = backend(read, f"balance hash {fetch}", "server s 1.1.1.1:1")
    assert (made.balance, made.hashing.fetch) == ("hash", fetch)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("map-based", Hashing()),
        ("consistent", Hashing(consistent=True)),
        ("consistent djb2", Hashing(consistent=True, function="djb2")),
        ("map-based wt6 avalanche", Hashing(function="wt6", avalanche=True)),
    ],
)
def test_hash_type_says_how_to_find_the_server(read: Reader, line: str, expected: Hashing) -> None:
    assert backend(read, "balance source", f"hash-type {line}", "server s 1.1.1.1:1").hashing == expected


def test_what_is_hashed_and_how_are_said_apart(read: Reader) -> None:
    lines = ["hash-type consistent crc32", "balance hash dst", "hash-balance-factor 150", "server s 1.1.1.1:1"]
    expected = Hashing("dst", consistent=True, function="crc32", balance_factor=150)
    assert backend(read, *lines).hashing == backend(read, *reversed(lines)).hashing == expected


@pytest.mark.parametrize(
    ("lines", "redispatch"),
    [
        ([], 0),
        (["option redispatch"], -1),
        (["option redispatch 2"], 2),
        (["option redispatch -3"], -3),
        (["option redispatch 0"], 0),
        (["option redispatch", "no option redispatch"], 0),
    ],
)
def test_redispatch_has_an_interval(read: Reader, lines: list[str], redispatch: int) -> None:
    assert backend(read, *lines, "server s 1.1.1.1:1").redispatch == redispatch


@pytest.mark.parametrize(("option", "attribute"), [("allbackups", "all_backups"), ("persist", "persist")])
def test_an_option_is_off_until_it_is_said_and_may_be_taken_back(read: Reader, option: str, attribute: str) -> None:
    for lines, expected in (
        ([], False),
        ([f"option {option}"], True),
        ([f"option {option}", f"no option {option}"], False),
    ):
        assert getattr(backend(read, *lines, "server s 1.1.1.1:1"), attribute) is expected


def test_all_of_it_is_inherited(read: Reader) -> None:
    made = read(
        "defaults\n    balance random(4)\n    hash-type consistent\n    fullconn 7\n    retries 1\n"
        "    option redispatch 2\n    option allbackups\n    option persist\n"
        "    default-server maxconn 5 maxqueue 6 slowstart 7s minconn 2\nbackend b\n    server s 1.1.1.1:1\n"
    ).config.backends[0]
    assert (made.balance, made.draws, made.hashing.consistent, made.fullconn) == ("random", 4, True, 7)
    assert (made.retries, made.redispatch, made.all_backups, made.persist) == (1, 2, True, True)
    [server] = made.servers
    assert (server.maxconn, server.maxqueue, server.slowstart, server.minconn) == (5, 6, 7, 2)


@pytest.mark.parametrize(
    ("parameters", "maxconn", "minconn"),
    [
        ("", None, None),
        ("maxconn 0", None, None),
        ("maxconn 5", 5, None),
        ("minconn 5", 5, None),
        ("maxconn 3 minconn 5", 5, None),
        ("maxconn 5 minconn 5", 5, None),
        ("maxconn 5 minconn 3", 5, 3),
    ],
)
def test_minconn_raises_maxconn_to_itself_as_in_haproxy(
    read: Reader, parameters: str, maxconn: int | None, minconn: int | None
) -> None:
    [server] = backend(read, f"server s 1.1.1.1:1 {parameters}").servers
    assert (server.maxconn, server.minconn) == (maxconn, minconn)


@pytest.mark.parametrize(("time", "seconds"), [("0", 0), ("1", 1), ("1500", 2), ("10s", 10)])
def test_a_slow_start_is_counted_in_whole_seconds_as_in_haproxy(read: Reader, time: str, seconds: int) -> None:
    [server] = backend(read, f"server s 1.1.1.1:1 slowstart {time}").servers
    assert server.slowstart == seconds


def test_udp_is_balanced_alike(read: Reader) -> None:
    made = read(
        "udp-lb u\n    dgram-bind :53\n    balance hash src\n    hash-type consistent\n    hash-balance-factor 120\n"
        "    option allbackups\n    fullconn 9\n    server s 1.1.1.1:53 maxconn 5 slowstart 1s\n"
    ).config.backends[0]
    assert (made.balance, made.hashing) == ("hash", Hashing("src", consistent=True, balance_factor=120))
    assert (made.all_backups, made.fullconn, made.servers[0].maxconn) == (True, 9, 5)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("balance foo", "balance only supports 'roundrobin', 'static-rr', 'leastconn', 'first', 'source', 'random', "),
        ("balance roundrobin x", "'balance' cannot handle unexpected argument 'x'."),
        ("balance leastconn x", "'balance' cannot handle unexpected argument 'x'."),
        ("balance random(0)", "balance random : number of draws must be at least 1."),
        ("balance random(2", "balance random : expects 'random' or 'random(<draws>)'."),
        ("balance random(2)3", "balance random : expects 'random' or 'random(<draws>)'."),
        ("balance random(x)", "'balance random' expects an integer from 0 to 2147483647 (got 'x')."),
        ("balance hash path", "'balance hash' : 'path' works on HTTP messages (layer 7);"),
        ("balance hash fe_id", "'balance hash' takes one of 'src', 'dst', 'src_port', 'dst_port' here, without "),
        ("hash-balance-factor 99", "'hash-balance-factor' must be 0 or greater than 100."),
        ("hash-balance-factor x", "'hash-balance-factor' expects an integer from 0"),
        ("option redispatch x", "'option redispatch' expects an integer"),
        ("option redispatch 1 2", "'option redispatch' cannot handle unexpected argument '2'."),
        (
            "max-session-srv-conns 5",
            "'max-session-srv-conns' bounds idle connections to servers, which natlb has none ",
        ),
    ],
)
def test_an_error_names_the_line_and_the_word(read: Reader, line: str, text: str) -> None:
    (alert,) = read(f"backend b\n    {line}\n").alerts
    assert alert.startswith(f"parsing [t.cfg:2] : {text}")


@pytest.mark.parametrize(
    ("lines", "has_effect"),
    [
        ("balance source", False),
        ("balance random", False),
        ("balance source\n    hash-type consistent", True),
        ("balance roundrobin", True),  # it may well be inherited from defaults
    ],
)
def test_a_bound_that_bounds_nothing_is_told_of(read: Reader, lines: str, has_effect: bool) -> None:
    got = read(f"backend b\n    {lines}\n    hash-balance-factor 150\n    server s 1.1.1.1:1\n")
    told = [text for text in got.warnings if "'hash-balance-factor' has no effect here" in text]
    assert len(told) == (not has_effect)
