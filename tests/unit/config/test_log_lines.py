"""`log` lines and what belongs to them."""

import pytest

from natlb.config.log_format import TCPLOG, parse_log_format
from natlb.config.model import Location, Logging, LogTarget, Variable

from .conftest import Reader

PLACES = {
    "127.0.0.1": ("127.0.0.1", 514),
    "127.0.0.1:5514": ("127.0.0.1", 5514),
    "127.0.0.1:0": ("127.0.0.1", 514),
    "[2001:db8::1]:5514": ("2001:db8::1", 5514),
    "[::1]": ("::1", 514),
    "four.test": ("192.0.2.4", 514),
    "ipv6@both.test:1": ("2001:db8::46", 1),
    "udp@127.0.0.1": ("127.0.0.1", 514),
    "/dev/log": "/dev/log",
    "unix@/dev/log": "/dev/log",
    "stdout": 1,
    "stderr": 2,
    "fd@5": 5,
    "$SYSLOG": ("192.0.2.9", 514),
}


@pytest.mark.parametrize(("word", "destination"), PLACES.items(), ids=PLACES)
def test_where_lines_may_go(read: Reader, word: str, destination: object) -> None:
    config = read(
        f"listen l\n bind :80\n server s 1.1.1.1:1\n log {word} local0\n", environ={"SYSLOG": "192.0.2.9"}
    ).config
    [target] = config.frontends[0].logging.targets
    assert target == LogTarget(destination, 1024, None, 16, 7, 0, Location("t.cfg", 4))


def test_all_that_a_target_may_say(read: Reader) -> None:
    config = read(
        "global\n log /dev/log len 200 format rfc5424 daemon err warning\n"
        "listen l\n log global\n bind :80\n server s 1.1.1.1:1\n"
    ).config
    [target] = config.frontends[0].logging.targets
    assert target == LogTarget("/dev/log", 200, "rfc5424", 3, 3, 4, Location("t.cfg", 2))


def destinations(logging: Logging) -> list[object]:
    return [target.destination for target in logging.targets]


def test_lines_add_up_and_no_log_takes_them_away(read: Reader) -> None:
    config = read(
        "defaults\n log global\n log global\n log stdout local0\n"
        "frontend a\n bind :80\n log fd@5 local0\n"
        "frontend b\n bind :81\n no log\n log fd@6 local0\n"
        "backend c\n"
        "global\n log stderr local0\n"
    ).config
    assert [destinations(each.logging) for each in config.frontends] == [[2, 1, 5], [6]]
    assert destinations(config.backends[0].logging) == [2, 1]


def test_no_log_in_a_global_section(read: Reader) -> None:
    config = read("global\n log stderr local0\n no log\nlisten l\n log global\n bind :80\n").config
    assert config.frontends[0].logging.targets == ()


def test_the_rest_of_it_is_inherited_and_changed(read: Reader) -> None:
    config = read(
        "global\n log-tag mine\n log-send-hostname\n"
        "defaults\n option tcplog\n option dontlognull\n option logasap\n log-tag theirs\n"
        "listen a\n bind :80\n no option dontlognull\n option dontlog-normal\n log-format %ci\n"
        "listen b\n bind :81\n log-tag b\n option log-separate-errors\n"
    ).config
    assert (config.log_tag, config.log_hostname) == ("mine", "")
    a, b = (frontend.logging for frontend in config.frontends)
    assert a == Logging((), "theirs", (Variable("ci"),), frozenset({"logasap", "dontlog-normal"}))
    assert (b.tag, b.options) == ("b", frozenset({"dontlognull", "logasap", "log-separate-errors"}))
    assert b.format == parse_log_format(TCPLOG)


def test_udp_sections_log_too(read: Reader) -> None:
    config = read(
        "global\n log stderr local0\nudp-lb u\n dgram-bind :53\n log global\n server s 1.1.1.1:1\n"
        ' log-format "%ci %B"\n option dontlognull\n'
    ).config
    logging = config.frontends[0].logging
    assert destinations(logging) == [2]
    assert logging.format == (Variable("ci"), " ", Variable("B"))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("log", "log : expects <address> and <facility>  as arguments"),
        ("log global x", "log : unknown log facility 'x'"),
        ("log 127.0.0.1 nope", "log : unknown log facility 'nope'"),
        ("log 127.0.0.1 len 79 local0", "log : invalid log length '79', must be between 80 and 65535"),
        ("log 127.0.0.1 len", "log : invalid log length '', must be between 80 and 65535"),
        ("log 127.0.0.1 len 80", "log : expects <address> and <facility>  as arguments"),
        ("log 127.0.0.1 format foo local0", "log : unknown log format 'foo'"),
        ("log 127.0.0.1 sample 1:2 local0", "log : 'sample' leaves out lines;"),
        ("log 127.0.0.1 local0 x", "log : unknown optional log level 'x'"),
        ("log 127.0.0.1 local0 err x", "log : unknown optional minimum log level 'x'"),
        ("log 127.0.0.1 local0 err err x", "log : cannot handle unexpected argument 'x'"),
        ("log 127.0.0.1:70000 local0", "log : invalid port '70000'"),
        ("log 127.0.0.1:1-5 local0", "log : port range not permitted here in '127.0.0.1:1-5'"),
        ("log :514 local0", "log : ':514' names no host; log lines need the address of one."),
        ("log ring@x local0", "log : 'ring@' in 'ring@x' is not supported; natlb logs over UDP, "),
        ("log tcp@127.0.0.1 local0", "log : 'tcp@' in 'tcp@127.0.0.1' is not supported;"),
        ("log unix@x local0", "log : 'unix@x' is not an absolute path of a Unix socket"),
        ("log fd@x local0", "log : file descriptor 'x' is not a valid integer in 'fd@x'"),
        ("log-tag", "'log-tag' expects a tag for use in syslog."),
        ("log-tag a b", "'log-tag' cannot handle unexpected argument 'b'."),
        ("log-tag a\\nb", "'log-tag' takes printable characters only (got 'a\\x0ab')."),
        ("log-format", "log-format expects an argument."),
        ("log-format a b", "log-format expects only one argument, don't forget to escape spaces!"),
        ("log-format %HM", "failed to parse log-format : variable 'HM' works on HTTP messages (layer 7);"),
        ("log-format %sslv", "failed to parse log-format : variable 'sslv' works on TLS"),
        ("log-format %xx", "failed to parse log-format : no such format variable 'xx'. If you wanted to emit the '%'"),
        (
            "log-format '%[src]'",
            "failed to parse log-format : sample expressions, %[...], are not for natlb's log lines;",
        ),
        ("log-format %{+Q}", "failed to parse log-format : parse argument modifier without variable name near '%{+Q}'"),
        ("log-format %{+Q", "failed to parse log-format : truncated line after '+Q'."),
        ("log-format %{+Z}ci", "failed to parse log-format : unknown flag '+Z' in '%{+Z}ci';"),
        ("log-format 'a%'", "failed to parse log-format : truncated line after '%'."),
        ("log-format-sd", "log-format-sd expects an argument."),
        ("log-format-sd a b", "log-format-sd expects only one argument, don't forget to escape spaces!"),
        ("log-format-sd %HM", "failed to parse log-format : variable 'HM' works on HTTP messages (layer 7);"),
    ],
)
def test_an_error_names_the_line_and_the_word(read: Reader, line: str, text: str) -> None:
    (alert,) = read(f"listen l\n    {line}\n").alerts
    assert alert.startswith(f"parsing [t.cfg:2] : {text}")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("log global", "log : 'global' is not supported for a global syslog server"),
        ("log-send-hostname a b", "'log-send-hostname' cannot handle unexpected argument 'b'."),
    ],
)
def test_an_error_of_the_global_section(read: Reader, line: str, text: str) -> None:
    assert read(f"global\n    {line}\n").alerts == [f"parsing [t.cfg:2] : {text}"]


FORMATS = {
    "plain": ("plain",),
    "%{+Q}o %ci": (Variable("ci", frozenset("Q")),),
    "%{+Q}o%ci%{-Q}cp%b": (Variable("ci", frozenset("Q")), Variable("cp"), Variable("b", frozenset("Q"))),
    "%{+Q,+X}ci": (Variable("ci", frozenset("QX")),),
    "50%%": ("50%",),
    "  a   b  %ci": ("a b ", Variable("ci")),
    "": (),
}


@pytest.mark.parametrize(("text", "parts"), FORMATS.items(), ids=FORMATS)
def test_formats(text: str, parts: object) -> None:
    assert parse_log_format(text) == parts
