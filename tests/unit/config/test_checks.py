"""What is written of checks, and the questions that it makes. What HAProxy accepts and refuses `test_haproxy` knows."""

import re
from ipaddress import ip_address
from pathlib import Path

import pytest

from natlb.config.model import Check
from natlb.questions import CONNECT, Connect, Expect, Question, Send

from .conftest import HAProxy, Reader

SERVER = "    server s 192.0.2.1:80 check\n"


def question(read: Reader, *lines: str, before: str = "") -> Question:
    body = "".join(f"    {line}\n" for line in lines)
    check = read(f"{before}backend b\n{body}{SERVER}").config.backends[0].servers[0].check
    assert isinstance(check, Check)
    return check.question


def sent(asked: Question) -> list[bytes]:
    return [step.data for step in asked.steps if isinstance(step, Send)]


def test_a_check_is_a_connection_and_no_more(read: Reader) -> None:
    assert question(read) is CONNECT


def test_a_tcp_check_is_its_rules_after_a_connection(read: Reader) -> None:
    asked = question(
        read,
        "option tcp-check",
        "tcp-check send PING\\r\\n comment 'a b'",
        "tcp-check send-binary 00fF",
        "tcp-check expect !string ERR min-recv 5 tout-status l4tout comment none",
        "tcp-check expect rstring ^\\+PO on-error 'bad %%' on-success '  so  so' ok-status L4OK error-status L7STS",
        "tcp-check expect ! ! binary 2b",
    )
    connect, ping, binary, error, pong, plus = asked.steps
    assert (asked.kind, connect) == ("tcp-check", Connect())
    assert (ping, binary) == (Send(1, b"PING\r\n", "a b"), Send(2, b"\x00\xff"))
    assert error == Expect(3, "string", data=b"ERR", negated=True, least=5, timeout_status="L4TOUT", comment="none")
    assert isinstance(pong, Expect)
    assert pong.pattern is not None
    assert pong.pattern.search(b"+PONG")
    assert (pong.on_error, pong.on_success, pong.ok_status, pong.error_status) == ("bad %", "so so", "L4OK", "L7STS")
    assert plus == Expect(5, "binary", data=b"+")


def test_connections_say_where_to(read: Reader) -> None:
    asked = question(
        read,
        "option tcp-check",
        "tcp-check connect port 81 addr 192.0.2.9:82 linger comment x",
        "tcp-check connect addr [2001:db8::9]:83 default",
    )
    assert asked.steps == (
        Connect(1, 81, ip_address("192.0.2.9"), True, "x"),
        Connect(2, 83, ip_address("2001:db8::9")),
    )


def test_a_comment_goes_to_the_rules_below_it_that_are_of_one_kind(read: Reader) -> None:
    asked = question(
        read,
        "option tcp-check",
        "tcp-check comment one",
        "tcp-check connect",
        "tcp-check comment two",
        "tcp-check send a",
        "tcp-check send b comment own",
        "tcp-check expect string c",
    )
    assert [(step.number, step.comment) for step in asked.steps] == [(2, "one"), (4, "two"), (5, "own"), (6, "")]


@pytest.mark.parametrize(
    ("lines", "request_"),
    [
        (["option httpchk"], b"OPTIONS / HTTP/1.0\r\n\r\n"),
        (["option httpchk /x"], b"OPTIONS /x HTTP/1.0\r\n\r\n"),
        (["option httpchk HEAD /x"], b"HEAD /x HTTP/1.0\r\n\r\n"),
        (["option httpchk POST /x"], b"POST /x HTTP/1.0\r\ncontent-length: 0\r\n\r\n"),
        (["option httpchk GET /x HTTP/1.1"], b"GET /x HTTP/1.1\r\nconnection: close\r\n\r\n"),
        (
            ["option httpchk GET /x", "http-check send ver HTTP/1.1 hdr Host a.b hdr X-Y 'z  50%%' body abc"],
            b"GET /x HTTP/1.1\r\nhost: a.b\r\nx-y: z  50%\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc",
        ),
        (
            ["option httpchk", "http-check send meth PUT uri /y ver HTTP/1.1 hdr Connection keep-alive body abc"],
            b"PUT /y HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc",
        ),
        (
            ["option httpchk", "http-check send hdr Connection keep-alive"],
            b"OPTIONS / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        ),
    ],
)
def test_the_request_of_an_http_check_is_haproxys_to_the_byte(read: Reader, lines: list[str], request_: bytes) -> None:
    asked = question(read, *lines)
    assert sent(asked) == [request_]
    assert asked.steps[0] == Connect()
    assert asked.steps[-1] == Expect(2, "status", codes=((200, 399),))


def test_an_http_check_can_connect_and_ask_several_times(read: Reader) -> None:
    asked = question(
        read,
        "option httpchk GET /a",
        "http-check connect port 81",
        "http-check send hdr A b",
        "http-check expect status 200,204,500-599",
        "http-check comment 'and again'",
        "http-check connect port 82",
        "http-check send uri /c",
    )
    assert [type(step).__name__ for step in asked.steps] == [
        "Connect", "Send", "Expect", "Connect", "Send", "Expect",
    ]  # fmt: skip
    assert sent(asked) == [b"GET /a HTTP/1.0\r\na: b\r\n\r\n", b"OPTIONS /c HTTP/1.0\r\n\r\n"]
    first = asked.steps[2]
    assert isinstance(first, Expect)
    assert first.codes == ((200, 200), (204, 204), (500, 599))
    again = asked.steps[3]
    assert isinstance(again, Connect)
    assert (again.port, again.comment) == (82, "and again")


def test_the_last_option_counts(read: Reader) -> None:
    assert question(read, "option httpchk", "option tcp-check").kind == "tcp-check"
    assert question(read, "option tcp-check", "option httpchk").kind == "http"
    assert question(read, "option httpchk", "http-check disable-on-404").disable_on_404


def test_rules_are_inherited_as_a_whole_or_replaced_as_a_whole(read: Reader) -> None:
    before = "defaults\n    option tcp-check\n    tcp-check send a\n    tcp-check send b\n"
    assert sent(question(read, before=before)) == [b"a", b"b"]
    assert sent(question(read, "option tcp-check", before=before)) == [b"a", b"b"]
    assert sent(question(read, "tcp-check send c", "tcp-check send d", before=before)) == [b"c", b"d"]
    assert sent(question(read, "option httpchk /x", before=before)) == [b"OPTIONS /x HTTP/1.0\r\n\r\n"]
    before = "defaults\n    option httpchk /x\n    http-check expect status 200\n    http-check disable-on-404\n"
    asked = question(read, before=before)
    assert (sent(asked), asked.disable_on_404, len(asked.steps)) == ([b"OPTIONS /x HTTP/1.0\r\n\r\n"], True, 3)
    assert sent(question(read, "option httpchk /y", before=before)) == [b"OPTIONS /y HTTP/1.0\r\n\r\n"]


def test_all_parameters_of_servers_are_kept(read: Reader) -> None:
    config = read(
        "global\n    spread-checks 5\n    max-spread-checks 10s\n"
        "backend b\n"
        "    option log-health-checks\n"
        "    default-server inter 3s observe layer4 error-limit 4 on-error sudden-death\n"
        "    server s 192.0.2.1:80 check on-marked-up shutdown-backup-sessions\n"
        "    server t 192.0.2.2 track s\n"
        "backend c\n"
        "    server u 192.0.2.3 track b/t\n"
    ).config
    b, c = config.backends
    check = b.servers[0].check
    assert isinstance(check, Check)
    assert (check.inter, check.observed, check.error_limit, check.on_error) == (3.0, True, 4, "sudden-death")
    assert b.servers[0].shutdown_backups_on_up
    assert (b.servers[1].check, b.servers[1].track, c.servers[0].track) == (None, "b/s", "b/t")
    assert (config.spread_checks, config.max_spread_checks) == (5, 10.0)
    assert (b.log_health_checks, c.log_health_checks) == (True, False)


def test_logging_is_inherited_and_can_be_undone(read: Reader) -> None:
    config = read(
        "defaults\n    option log-health-checks\nbackend a\nbackend b\n    no option log-health-checks\n"
    ).config
    assert [backend.log_health_checks for backend in config.backends] == [True, False]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "tcp-check send-lf %b",
            "'tcp-check send-lf' takes the variables of a log format, and checks of natlb have none;",
        ),
        (
            "tcp-check set-var(check.x) int(1)",
            "'tcp-check set-var(check.x)' sets a variable, and checks of natlb have none;",
        ),
        ("tcp-check connect ssl", "'tcp-check connect' : 'ssl' works on TLS"),
        ("tcp-check connect send-proxy", "'tcp-check connect' : 'send-proxy' needs to end the TCP connection"),
        ("tcp-check connect proto h2", "'tcp-check connect' : 'proto' chooses between protocols"),
        ("tcp-check connect addr 192.0.2.1:+5", "'tcp-check connect' : 'addr' : port offset not permitted here."),
        ("tcp-check connect addr [", "'tcp-check connect' : 'addr' :"),
        ("tcp-check expect string-lf %b", "'tcp-check expect' : 'string-lf' takes the variables of a log format"),
        ("tcp-check expect custom", "'tcp-check expect' : 'custom' leaves it to another program what passes;"),
        ("tcp-check expect rstring (?=a)", "'tcp-check expect' : regex '(?=a)' is invalid (of the groups with"),
        ("tcp-check expect string a on-error %b", "'tcp-check expect' : '%b' : variables of a log format"),
        ("tcp-check expect !", "'tcp-check expect' : '!' expects a pattern after it."),
        ("tcp-check comment a b", "'tcp-check comment' : unexpected argument 'b'; put the text in quotes."),
        ("http-check send-state", "'http-check send-state' tells a server how it is seen here;"),
        (
            "http-check expect hdr name x",
            "'http-check expect' : 'hdr' looks at one header; natlb looks at the status and the body:",
        ),
        ("http-check expect status 200,", "'http-check expect' : invalid piece '' in the list of status codes"),
        ("http-check send uri-lf %b", "'http-check send' : 'uri-lf' takes the variables of a log format"),
        ("http-check send uri http://a/", "'http-check send' : 'http://a/' is no path: it begins with '/'"),
        ("http-check send meth get", "'http-check send' : 'get' is no HTTP method;"),
        ("http-check send ver HTTP/2", "'http-check send' : 'HTTP/2' is not supported; checks speak HTTP/1.0"),
        ("http-check send hdr 'a b' c", "'http-check send' : 'a b' is no name of a header."),
        ("http-check send hdr a %b", "'http-check send' : '%b' : variables of a log format"),
        ('http-check send hdr a "b\\r\\nc"', "'http-check send' : 'hdr a' takes printable characters only."),
        ("http-check send hdr Content-Length 5", "'http-check send' : 'hdr Content-Length' : what the body is"),
        ("http-check send hdr Connection upgrade", "'http-check send' : 'hdr Connection' takes 'close' or"),
        ("option httpchk GET a", "'option httpchk' : 'a' is no path:"),
        ("option ssl-hello-chk", "'option ssl-hello-chk' works on TLS"),
        ("option smtpchk", "'option smtpchk' is a check that natlb lacks; write it with 'option tcp-check'"),
        ("option external-check", "'option external-check' belongs to parts of HAProxy"),
    ],
)
def test_what_natlb_does_not_do_is_refused_by_name(read: Reader, line: str, text: str) -> None:
    (alert,) = read(f"backend b\n    {line}\n").alerts
    assert alert.startswith(f"parsing [t.cfg:2] : {text}"), alert


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        ("observe layer7", "'observe layer7' reads HTTP messages; natlb never reads them: write 'observe layer4'."),
        ("agent-check", "'agent-check' asks a program on the server for its state and weight;"),
        ("init-addr none", "'init-addr' : natlb starts with an address for each server, which 'libc' finds,"),
        ("init-addr libc,192.0.2.1", "'init-addr' : natlb starts with an address for each server, which 'libc' finds,"),
        ("init-addr last", "'init-addr' : natlb starts with an address for each server, which 'libc' finds,"),
        (
            "init-addr foo",
            "'init-addr' : unknown init-addr method 'foo', supported methods are 'libc', 'last', 'none'.",
        ),
        ("check-send-proxy", "'check-send-proxy' needs to end the TCP connection"),
        ("check-ssl", "'check-ssl' works on TLS"),
        ("error-limit 0", "'error-limit' expects an integer from 1"),
    ],
)
def test_parameters_that_make_no_sense_here_are_refused_by_name(read: Reader, parameter: str, text: str) -> None:
    (alert,) = read(f"backend b\n    server s 192.0.2.1:80 {parameter}\n").alerts
    assert alert.startswith(f"[t.cfg:2] : 'server b/s' : {text}"), alert


@pytest.mark.parametrize("methods", ["libc", "last,libc"])
def test_a_name_may_be_said_to_be_looked_up_which_it_is_anyway(read: Reader, methods: str) -> None:
    assert read(f"backend b\n    server s 192.0.2.1:80 init-addr {methods}\n").alerts == []


def test_the_option_stands_before_the_request(read: Reader) -> None:
    (alert,) = read("backend b\n    http-check send hdr A b\n    option httpchk\n").alerts
    assert "'option httpchk' : it has to stand before 'http-check send'" in alert
    config = "defaults\n    option httpchk\nbackend b\n    http-check expect status 200\n"
    (alert,) = read(config).alerts
    assert alert.endswith("has http-check rules of its own and inherits 'option httpchk'; repeat it here.")


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("tcp-check send a", "uses tcp-check rules without 'option tcp-check', so the rules are ignored."),
        ("http-check expect status 200", "uses http-check rules without 'option httpchk', so the rules are ignored."),
        ("option tcp-check\n    http-check disable-on-404", "'disable-on-404' will be ignored for backend 'b'"),
    ],
)
def test_rules_that_nothing_uses_are_warned_of(read: Reader, lines: str, text: str) -> None:
    warnings = read(f"backend b\n    {lines}\n    server s 192.0.2.1:80\n").warnings
    assert any(text in warning for warning in warnings), warnings


def test_servers_that_track_across_backends_agree_on_404(read: Reader) -> None:
    (alert,) = read(
        "backend b\n    option httpchk\n    http-check disable-on-404\n    server s 192.0.2.1:80 check\n"
        "backend c\n    server t 192.0.2.1:80 track b/s\n"
    ).alerts
    assert alert.endswith("unable to use b/s for tracking: disable-on-404 option inconsistency.")


def test_the_examples_of_the_page_about_health_are_accepted_here_and_by_haproxy(read: Reader, haproxy: HAProxy) -> None:
    page = (Path(__file__).parents[3] / "docs" / "health.md").read_text()
    examples = re.findall(r"^```haproxy\n(.*?)^```$", page, re.M | re.S)
    assert len(examples) == 3
    for example in examples:
        assert read(example).warnings == []
        assert haproxy(example).accepted
