"""The whole: the two configurations of the course, and any bytes at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natlb.config.entries import NO_PEERS, NO_RESOLVERS
from natlb.config.keywords import TABLE
from natlb.config.parser import MOST_ERRORS, parse
from tests.effort import examples

from .conftest import Reader, resolve

SEED_L4 = """    backend nodes
    server server1 127.0.0.1:4444 check
    server server2 127.0.0.1:5555 check

    frontend localnodes
    bind *:8888
    default_backend nodes

    global
    maxconn 940
"""

SEED_L7 = """    frontend localnodes

    bind *:9999
        mode http
        acl app1 path_end -i /app1
        acl app2 path_end -i /app2
        use_backend app1servers if app1
        use_backend app2servers if app2

    backend app1servers
        mode http
        server server1 127.0.0.1:4444 check
        server server2 127.0.0.1:5555 check


    backend app2servers
        mode http
        server server1 127.0.0.1:8888 check
        server server2 127.0.0.1:9999 check
"""


def test_the_layer_4_configuration_of_the_course_is_valid(read: Reader) -> None:
    got = read(SEED_L4)
    config = got.config
    assert config.maxconn == 940
    assert [(back.name, back.id) for back in config.backends] == [("nodes", 1)]
    assert [(s.name, s.id, str(s.address), s.port) for s in config.backends[0].servers] == [
        ("server1", 1, "127.0.0.1", 4444),
        ("server2", 2, "127.0.0.1", 5555),
    ]
    assert [(front.name, front.id, front.default_backend) for front in config.frontends] == [("localnodes", 2, "nodes")]
    assert [(str(bind.address), bind.port) for bind in config.frontends[0].binds] == [("0.0.0.0", 8888)]
    assert got.parsed.exit_status == 0
    assert [line.splitlines()[0].partition(" : config : ")[2] for line in got.lines] == [
        "parsing [t.cfg:1] : missing timeouts for backend 'nodes'.",
        "parsing [t.cfg:5] : missing timeouts for frontend 'localnodes'.",
    ]


def test_the_layer_7_configuration_of_the_course_is_refused_line_by_line(read: Reader) -> None:
    got = read(SEED_L7)
    why = "works on HTTP messages (layer 7); natlb forwards packets and never reads them."
    assert got.lines == [
        f"[ALERT]    (1) : config : {text}"
        for text in (
            f"parsing [t.cfg:4] : 'mode http' {why}",
            f"parsing [t.cfg:5] : acl 'app1' : 'path_end' {why}",
            f"parsing [t.cfg:6] : acl 'app2' : 'path_end' {why}",
            f"parsing [t.cfg:7] : 'use_backend' : acl 'app1', refused at t.cfg:5, {why}",
            f"parsing [t.cfg:8] : 'use_backend' : acl 'app2', refused at t.cfg:6, {why}",
            f"parsing [t.cfg:11] : 'mode http' {why}",
            f"parsing [t.cfg:17] : 'mode http' {why}",
            "Error(s) found in configuration file : t.cfg",
            "Fatal errors found in configuration.",
        )
    ]
    assert got.parsed.config is None
    assert got.parsed.exit_status == 1


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", 2),
        ("backend b\n", 2),
        ("frontend f\n", 2),
        ("frontend f\n    disabled\n    bind :80\n", 2),
        ("frontend f\n    bind :80\n", 0),
        ("global\n    stats socket /run/x\n", 0),
        ("foo\n", 1),
    ],
)
def test_the_exit_status_of_a_check_is_haproxys(read: Reader, text: str, status: int) -> None:
    assert read(text).parsed.exit_status == status


def test_one_run_shows_all_errors(read: Reader) -> None:
    alerts = read('fronted x\nfrontend f\n    bind :0\n    maxconn "x\n    bnid :80\nbackend b\n    server s\n').alerts
    assert [alert.partition("]")[0] for alert in alerts] == [
        "parsing [t.cfg:1",
        "parsing [t.cfg:3",
        "parsing [t.cfg:4",
        "parsing [t.cfg:5",
        "[t.cfg:7",
    ]


def test_after_fifty_errors_a_file_is_read_no_further(read: Reader) -> None:
    alerts = read("foo\n" * 1000).alerts
    assert len(alerts) == MOST_ERRORS + 1
    assert alerts[-1] == "parsing [t.cfg:50] : too many fatal errors (50), stopping now."


def test_what_was_not_read_is_not_said_to_be_missing(read: Reader) -> None:
    head = "frontend f\n    bind :80\n    default_backend b\n"
    assert len(read(head + "    foo\n" * 1000 + "backend b\n").alerts) == MOST_ERRORS + 1
    assert len(read(head + ".if x\nbackend b\n.endif\n").alerts) == 1
    parsed = parse([("one", head.encode()), ("two", b"\0")], {}, resolve)
    assert [diagnostic.text for diagnostic in parsed.diagnostics] == [
        "Stray NUL character at position 1: this is no text file; it is not read.",
        "Error(s) found in configuration file : two",
        "Fatal errors found in configuration.",
    ]


def test_conditional_blocks_are_refused_and_passed_over(read: Reader) -> None:
    text = "global\n.if a\nfoo\n.if b\n.endif\nfoo\n.else\nfoo\n.endif\n    bar\n.notice x\n.foo\n"
    assert read(text).alerts == [
        "parsing [t.cfg:2] : '.if' blocks are refused: nothing is read until '.endif'. Write out what holds.",
        "parsing [t.cfg:10] : unknown keyword 'bar' in 'global' section",
        "parsing [t.cfg:11] : '.notice' is a directive that natlb does not have. Remove it.",
        "parsing [t.cfg:12] : unknown directive '.foo'.",
    ]


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ("peers x", NO_PEERS),
        ("resolvers x", NO_RESOLVERS),
        ("cache x", "works on HTTP messages (layer 7); natlb forwards packets and never reads them."),
        ("program x", "belongs to parts of HAProxy that natlb does not have; remove it."),
    ],
)
def test_a_section_that_natlb_does_not_have_is_refused_whole(read: Reader, section: str, why: str) -> None:
    name = section.partition(" ")[0]
    assert read(f"{section}\n    foo\n    bind :0\nbackend b\n").alerts == [
        f"parsing [t.cfg:1] : section '{name}' {why}"
    ]


def test_the_section_variable_names_the_section(read: Reader) -> None:
    config = read('frontend www\n    bind :80\n    description "${.SECTION} at ${.FILE}:${.LINE}"\n').config
    assert config.frontends[0].description == "www at t.cfg:3"


def test_messages_of_a_line_with_terminal_escapes_stay_one_line(read: Reader) -> None:
    got = read('global\n    "\\x1b[2J\\n[ALERT] forged" x\n')
    assert all("\x1b" not in line and "\n" not in line for line in got.lines)


def test_a_hundred_thousand_lines_are_read_in_reasonable_time(read: Reader) -> None:
    assert read("defaults\n" + "    option tcpka\n" * 20_000 + "# x\n" * 80_000).config


SYNTAX = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "udp-lb",
    "peers",
    "from",
    "if",
    "no",
    "default",
    ".if",
    ".endif",
    "udp-check",
    "usesrc",
    "client",
    "clientip",
    "shutdown-sessions",
    "{",
    "}",
    "!",
    "#",
    "\\",
    "'",
    '"',
    "$",
    "${",
    "}",
    "$X",
    '"$X"',
]
WORDS = SYNTAX + sorted({word for _, name in TABLE for word in name.split(" ")})
VALUES = [
    "s",
    "b",
    ":80",
    "*:0",
    "[::1]:1-9",
    "192.0.2.1:+5",
    "four.test",
    "nope.test:1",
    "5s",
    "1",
    "-1",
    "99999999999",
]
LINES = st.lists(st.sampled_from(WORDS + VALUES), min_size=1, max_size=8).map(" ".join)


@settings(max_examples=examples(300))
@given(st.binary(max_size=400))
def test_no_bytes_raise(data: bytes) -> None:
    parsed = parse([("t.cfg", data)], {}, resolve)
    assert (parsed.config is None) == any(each.severity == "ALERT" for each in parsed.diagnostics)


@settings(max_examples=examples(300))
@given(st.lists(LINES, max_size=12).map("\n".join), st.dictionaries(st.sampled_from("XYZ"), st.text(max_size=5)))
def test_no_words_of_the_language_raise(text: str, environ: dict[str, str]) -> None:
    data = f"{text}\n".encode()
    parsed = parse([("t.cfg", data), ("u.cfg", data)], environ, resolve)
    for diagnostic in parsed.diagnostics:
        assert all(line.isprintable() for line in diagnostic.render(1).splitlines())
