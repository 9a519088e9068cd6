"""`udp-lb` sections balance UDP: a frontend and a backend in one, with nothing of TCP in them."""

from ipaddress import ip_address

import pytest

from natlb.config.entries import Refuse
from natlb.config.keywords import UDP_LB
from natlb.config.model import Bind, Location, Timeouts

from .conftest import HAProxy, Reader

SYSLOG = """udp-lb syslog
    dgram-bind 192.168.56.25:3516
    proxy-requests 1
    proxy-responses 0
    balance roundrobin
    option udp-check
    server srv1 10.10.10.10:1514 check
    server srv2 10.10.10.20:1514 check
"""
TIMERS = "    timeout client 1m\n    timeout server 1m\n"
GOOD = f"udp-lb u\n    dgram-bind :53\n    server s 192.0.2.1:53\n{TIMERS}"


def test_a_section_is_a_frontend_and_a_backend_of_one_name_and_number(read: Reader) -> None:
    config = read(f"listen l\n{SYSLOG}backend b\n").config
    assert [(front.name, front.id, front.protocol) for front in config.frontends] == [
        ("l", 1, "tcp"),
        ("syslog", 2, "udp"),
    ]
    assert [(back.name, back.id, back.protocol) for back in config.backends] == [
        ("l", 1, "tcp"),
        ("syslog", 2, "udp"),
        ("b", 3, "tcp"),
    ]
    front, back = config.frontends[1], config.backends[1]
    assert front.default_backend == "syslog"
    assert list(config.proxies())[1] == (front, back)
    assert front.position == back.position == 2


def test_all_keywords_are_kept(read: Reader) -> None:
    config = read(
        "udp-lb u\n"
        "    id 7\n"
        "    description names\n"
        "    dgram-bind 192.0.2.9:53-54,[::1]:53 interface eth0 transparent name dns\n"
        "    maxconn 100\n"
        "    balance roundrobin\n"
        "    proxy-requests 3\n"
        "    proxy-responses 2\n"
        "    source 10.0.0.9\n"
        "    timeout client 1s\n"
        "    timeout server 2s\n"
        "    default-server weight 3\n"
        "    server s 192.0.2.1:53 on-marked-down shutdown-sessions\n"
        "    disabled\n"
    ).config
    (front,), (back,) = config.frontends, config.backends
    assert front.binds[0] == Bind(
        ip_address("192.0.2.9"), 53, Location("t.cfg", 4), interface="eth0", transparent=True, name="dns"
    )
    assert [(str(bind.address), bind.port) for bind in front.binds[1:]] == [("192.0.2.9", 54), ("::1", 53)]
    assert (front.id, front.description, front.maxconn, front.disabled) == (7, "names", 100, True)
    assert front.timeouts == Timeouts(client=1.0)
    assert back.timeouts == Timeouts(server=2.0)
    assert (back.id, back.disabled, back.requests, back.responses) == (7, True, 3, 2)
    assert back.sources is not None
    assert back.sources[0].address == ip_address("10.0.0.9")
    assert (back.servers[0].weight, back.servers[0].shutdown_on_down) == (3, True)


def test_what_is_not_said_is_unlimited(read: Reader) -> None:
    config = read(GOOD + "backend b\n").config
    assert [(back.requests, back.responses) for back in config.backends] == [(None, None), (None, None)]


def test_no_requests_are_as_many_as_the_client_likes_and_no_responses_are_none(read: Reader) -> None:
    (back,) = read(GOOD + "    proxy-requests 0\n    proxy-responses 0\n").config.backends
    assert (back.requests, back.responses) == (None, 0)


@pytest.mark.parametrize(("option", "kind"), [("    option udp-check\n", "udp"), ("", "connect")])
def test_a_check_is_a_datagram_if_asked_for_and_a_tcp_connect_if_not(read: Reader, option: str, kind: str) -> None:
    text = f"udp-lb u\n    server s 192.0.2.1:53 check\n    server t 192.0.2.1 check port 54\n{option}"
    checks = [server.check for server in read(text).config.backends[0].servers]
    assert [check and (check.question.kind, check.port) for check in checks] == [(kind, None), (kind, 54)]


def test_the_checks_of_tcp_are_none_of_udps(read: Reader) -> None:
    config = read(SYSLOG + "backend b\n    server s 192.0.2.1:80 check\n").config
    kinds = [server.check and server.check.question.kind for back in config.backends for server in back.servers]
    assert kinds == ["udp", "udp", "connect"]


def test_it_inherits_nothing(read: Reader) -> None:
    config = read(
        "defaults\n"
        "    maxconn 10\n"
        "    timeout client 1s\n"
        "    timeout server 2s\n"
        "    default_backend b\n"
        "    default-server weight 7 check\n"
        "    source 10.0.0.9\n"
        "    disabled\n"
        "udp-lb u\n"
        "    dgram-bind :53\n"
        "    server s 192.0.2.1:53\n"
        "backend b\n"
    ).config
    front, back = config.frontends[0], config.backends[0]
    assert (front.maxconn, front.disabled, front.default_backend, front.timeouts) == (None, False, "u", Timeouts())
    assert (back.sources, back.timeouts, back.servers[0].weight, back.servers[0].check) == (None, Timeouts(), 1, None)


@pytest.mark.parametrize(
    ("text", "alert"),
    [
        ("udp-lb\n", "parsing [t.cfg:1] : 'udp-lb' expects an <id> argument"),
        ("udp-lb a/b\n", "parsing [t.cfg:1] : character '/' is not permitted in 'udp-lb' name 'a/b'."),
        (
            "udp-lb u :53\n",
            "parsing [t.cfg:1] : 'udp-lb' cannot handle unexpected argument ':53'; its addresses go on a 'dgram-bind' "
            "line.",
        ),
        (
            "defaults d\nudp-lb u from d\n",
            "parsing [t.cfg:2] : 'udp-lb' cannot handle unexpected argument 'from'; a 'udp-lb' section inherits "
            "nothing.",
        ),
        (
            "frontend u\nudp-lb u\n",
            "parsing [t.cfg:2] : udp-lb 'u' has the same name as frontend 'u' declared at t.cfg:1.",
        ),
        (
            "udp-lb u\nbackend u\n",
            "parsing [t.cfg:2] : backend 'u' has the same name as udp-lb 'u' declared at t.cfg:1.",
        ),
        ("udp-lb u\nudp-lb u\n", "parsing [t.cfg:2] : udp-lb 'u' has the same name as udp-lb 'u' declared at t.cfg:1."),
        (
            "backend b\n    id 5\nudp-lb u\n    id 5\n",
            "parsing [t.cfg:4] : udp-lb u reuses same custom id as backend b (declared at t.cfg:1).",
        ),
    ],
)
def test_a_section_that_cannot_open_is_refused(read: Reader, text: str, alert: str) -> None:
    assert read(text).alerts == [alert]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "bind :53",
            "'bind' takes TCP connections; did you mean 'dgram-bind'? A 'udp-lb' section takes UDP datagrams.",
        ),
        ("dgram-bnid :53", "unknown keyword 'dgram-bnid' in 'udp-lb' section; did you mean 'dgram-bind' maybe ?"),
        ("zzzz", "unknown keyword 'zzzz' in 'udp-lb' section"),
        ("mode tcp", "'mode' chooses between TCP and HTTP; a 'udp-lb' section forwards UDP datagrams. Remove it."),
        ("mode http", "'mode http' chooses between TCP and HTTP;"),
        ("mode udp", "'mode' chooses between TCP and HTTP;"),
        (
            "default_backend b",
            "'default_backend' chooses another section's servers; a 'udp-lb' section has its own. Remove it.",
        ),
        ("use_backend b if { src 1.1.1.1 }", "'use_backend' chooses another section's servers;"),
        ("retries 3", "'retries' works on TCP connections; a 'udp-lb' section forwards UDP datagrams. Remove it."),
        ("backlog 3", "'backlog' works on TCP connections;"),
        ("option tcpka", "'option tcpka' works on TCP connections;"),
        ("no option tcpka", "'option tcpka' works on TCP connections;"),
        ("option redispatch", "'option redispatch' works on TCP connections;"),
        ("tcp-request connection reject", "'tcp-request connection' works on TCP connections;"),
        ("tcp-request content reject", "'tcp-request content' works on TCP connections;"),
        (
            "option tcp-check",
            "'option tcp-check' checks over TCP; did you mean 'option udp-check'? 'check' without that is a TCP "
            "connect.",
        ),
        ("option httpchk", "'option httpchk' checks over TCP; did you mean 'option udp-check'?"),
        ("tcp-check connect", "'tcp-check' checks over TCP;"),
        ("option udp-chek", "unknown option 'udp-chek'; did you mean 'udp-check' maybe ?"),
        ("option udp-check x", "'option udp-check' cannot handle unexpected argument 'x'."),
        ("no option udp-check", "negation/default is not supported for option 'udp-check'."),
        ("option", "'option' expects an option name."),
        (
            "timeout connect 5s",
            "'timeout connect' times a TCP connection; a 'udp-lb' section has 'timeout client', 'server' and 'check'.",
        ),
        ("timeout tunnel 5s", "'timeout tunnel' times a TCP connection;"),
        ("timeout foo 5s", "'timeout' supports 'client', 'server', 'check' (got 'foo')"),
        ("timeout client 5x", "unexpected character 'x' after the timer value '5x' in 'timeout client',"),
        ("log 127.0.0.1", "log : expects <address> and <facility>  as arguments"),
        ("option redispatch", "'option redispatch' works on TCP connections;"),
        ("max-session-srv-conns 5", "'max-session-srv-conns' works on TCP connections;"),
        ("balance uri", "'balance uri' works on HTTP messages (layer 7);"),
        ("http-request deny", "'http-request' works on HTTP messages (layer 7);"),
        ("accepted-payload-size 9000", "'accepted-payload-size' sizes a buffer; natlb forwards datagrams of any size "),
        ("proxy-requests", "'proxy-requests' expects an integer argument (a number of datagrams)."),
        ("proxy-requests x", "'proxy-requests' expects an integer from 0 to 2147483647 (got 'x')."),
        ("proxy-responses -1", "'proxy-responses' expects an integer from 0 to 2147483647 (got -1)."),
        ("proxy-responses 1 2", "'proxy-responses' cannot handle unexpected argument '2'."),
        ("maxconn abc", "'maxconn' expects an integer from 0 to 2147483647 (got 'abc')."),
        ("dgram-bind", "'dgram-bind' expects {[addr1]:port1[-end1]}{,[addr]:port[-end]}... as arguments."),
        ("dgram-bind 127.0.0.1", "'dgram-bind' : missing port specification in '127.0.0.1'"),
        ("dgram-bind :0", "'dgram-bind' : invalid port '0'"),
        (
            "dgram-bind udp@:53",
            "'dgram-bind' : 'udp@' in 'udp@:53' is not supported; for UDP write a 'udp-lb' section,",
        ),
        ("dgram-bind 224.0.0.1:53", "'dgram-bind' : '224.0.0.1' in '224.0.0.1:53' is no single host's;"),
        ("dgram-bind :53-54 id 5", "'dgram-bind :53-54' in section 'udp-lb' : 'id' can only be used with a single "),
        (
            "dgram-bind :53 backlog 5",
            "'dgram-bind :53' in section 'udp-lb' : 'backlog' works on TCP connections; a 'udp-lb' section forwards "
            "UDP datagrams. Remove it.",
        ),
        (
            "dgram-bind :53 maxconn 5",
            "'dgram-bind :53' in section 'udp-lb' : 'maxconn' is not for one address:",
        ),
        ("dgram-bind :53 ssl", "'dgram-bind :53' in section 'udp-lb' : 'ssl' works on TLS, which ends in the proxy;"),
        (
            "dgram-bind :53 nmae x",
            "'dgram-bind :53' in section 'udp-lb' : unknown keyword 'nmae'; did you mean 'name' ",
        ),
        ("source 10.0.0.9:1-2", "'source 10.0.0.9:1-2' : port range not permitted here in '10.0.0.9:1-2';"),
    ],
)
def test_an_error_names_the_line_the_word_and_what_to_do(read: Reader, line: str, text: str) -> None:
    (alert,) = read(f"udp-lb u\n    {line}\n").alerts
    assert alert.startswith(f"parsing [t.cfg:2] : {text}")


@pytest.mark.parametrize("line", ["server s 192.0.2.1:53", "default-server"])
@pytest.mark.parametrize("parameter", ["tfo", "tcp-ut 5s"])
def test_a_parameter_that_tunes_tcp_is_refused(read: Reader, line: str, parameter: str) -> None:
    label = "'server u/s'" if line.startswith("server") else "'default-server'"
    assert read(f"udp-lb u\n    {line} {parameter}\n").alerts == [
        f"[t.cfg:2] : {label} : '{parameter.partition(' ')[0]}' works on TCP connections; a 'udp-lb' section forwards "
        "UDP datagrams. Remove it."
    ]


def test_every_keyword_of_the_other_sections_has_an_answer(read: Reader) -> None:
    for name, keyword in UDP_LB.items():
        alerts = read(f"udp-lb u\n    {name}\n").alerts
        if isinstance(keyword.action, Refuse):
            assert alerts == [f"parsing [t.cfg:2] : '{name}' {keyword.action.reason}"]


@pytest.mark.parametrize(
    ("text", "alerts"),
    [
        (
            f"frontend f\n    bind :53\n    default_backend u\n{GOOD}",
            [
                "parsing [t.cfg:3] : Proxy 'f': default_backend 'u' is a udp-lb section (declared at t.cfg:4); it "
                "takes the datagrams of its own 'dgram-bind', and no TCP connections. Name a backend."
            ],
        ),
        (
            f"{GOOD}udp-lb v\n    dgram-bind :52-54\n",
            ["parsing [t.cfg:7] : 'dgram-bind' : 0.0.0.0:53 of udp-lb 'v' is already bound by udp-lb 'u' at t.cfg:2."],
        ),
        (
            "udp-lb u\n    server s 192.0.2.1 check\n",
            ["parsing [t.cfg:2] : udp-lb 'u': server 's' has neither service port nor check port; add 'port <port>'."],
        ),
        (
            "udp-lb u\n    server s 192.0.2.1:1\n    server s 192.0.2.1:2\n",
            [
                "parsing [t.cfg:3] : udp-lb 'u', another server named 's' was already defined at line 2, please use "
                "distinct names."
            ],
        ),
        (
            "udp-lb u\n    dgram-bind :53\n    server s 192.0.2.1:-60\n",
            ["[t.cfg:3] : 'server u/s' : port offset -60 leads from 0.0.0.0:53 (bound at t.cfg:2) to no port."],
        ),
    ],
)
def test_a_contradiction_is_an_error_at_its_line(read: Reader, text: str, alerts: list[str]) -> None:
    assert read(text).alerts == alerts


def test_tcp_and_udp_have_each_their_own_ports(read: Reader) -> None:
    config = read(f"listen l\n    bind :53\n    server s 192.0.2.1:53\n{GOOD}").config
    assert [(front.protocol, front.binds[0].port) for front in config.frontends] == [("tcp", 53), ("udp", 53)]


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (GOOD, []),
        (
            f"udp-lb u\n    server s 192.0.2.1:53\n{TIMERS}",
            ["parsing [t.cfg:1] : udp-lb 'u' has no 'dgram-bind' directive."],
        ),
        (
            f"udp-lb u\n    dgram-bind :53\n{TIMERS}",
            ["parsing [t.cfg:1] : udp-lb 'u' has no 'server'; every datagram sent to it will be refused."],
        ),
        (
            f"udp-lb u\n    dgram-bind :53\n    dgram-bind [::]:53\n    server s 192.0.2.1:53\n{TIMERS}",
            [
                "parsing [t.cfg:3] : 'dgram-bind' : [::]:53 is IPv6, and udp-lb 'u' has no IPv6 server; addresses of "
                "one family cannot be translated into the other, so every such datagram will be refused."
            ],
        ),
        (
            f"{GOOD}    server t [2001:db8::1]:53\n",
            ["[t.cfg:6] : 'server u/t' : no 'dgram-bind' that leads here is IPv6, so it will get no datagram."],
        ),
        (
            f"{GOOD}    source [2001:db8::9]\n",
            [
                "parsing [t.cfg:6] : 'source' : 2001:db8::9 is IPv6, and no server of udp-lb 'u' that it is for is; "
                "addresses of one family cannot be translated into the other, so it will not be used."
            ],
        ),
        (
            "udp-lb u\n    dgram-bind :53\n    server s 192.0.2.1:53\n    timeout client 30s\n    timeout server 1m\n",
            [
                "parsing [t.cfg:4] : 'timeout client' (30s, udp-lb 'u') and 'timeout server' (1m, udp-lb 'u', t.cfg:5) "
                "differ, but a UDP flow that both sides have been seen of has one idle timer; natlb uses the smaller, "
                "30s, and 1m while the server has not answered. Set both to the same."
            ],
        ),
        (
            "udp-lb u\n    disabled\n    dgram-bind [::]:53\n    server s 192.0.2.1:53\n",
            [],
        ),
    ],
)
def test_what_can_be_done_but_was_hardly_meant_is_a_warning(read: Reader, text: str, warnings: list[str]) -> None:
    got = read(text)
    assert got.config
    assert got.warnings == warnings


@pytest.mark.parametrize(
    ("words", "short"),
    [
        ("check inter 999ms", "inter is"),
        ("check fastinter 1ms downinter 500", "fastinter and downinter are"),
        ("check", None),
        ("check inter 1s fastinter 1s downinter 1s", None),
        ("inter 10ms", None),
    ],
)
def test_who_asks_before_silence_can_mean_anything_is_told(read: Reader, words: str, short: str | None) -> None:
    section = f"udp-lb u\n    dgram-bind :53\n    server s 192.0.2.1:53 {words}\n{TIMERS}"
    told = [
        f"[WARNING]  (1) : config : parsing [t.cfg:3] : udp-lb 'u': server 's': {short} less than the second that "
        "'option udp-check' waits for complaints, of which a host has one a second to give; write 1s or more."
    ]
    assert read(f"{section}    option udp-check\n").lines == (told if short else [])
    assert read(section).lines == []


@pytest.mark.parametrize(
    ("lines", "missing"),
    [
        ("", "'timeout client', 'timeout server'"),
        ("    timeout client 5s\n", "'timeout server'"),
        ("    timeout client 0\n    timeout server 5s\n", "'timeout client'"),
        (TIMERS, None),
    ],
)
def test_missing_timeouts_are_named_with_natlbs_own(read: Reader, lines: str, missing: str | None) -> None:
    text = f"udp-lb u\n    dgram-bind :53\n    server s 192.0.2.1:53\n{lines}"
    shown = [line for line in read(text).lines if "missing timeouts" in line]
    if missing is None:
        assert shown == []
        return
    assert shown[0].splitlines() == [
        "[WARNING]  (1) : config : parsing [t.cfg:1] : missing timeouts for udp-lb 'u'.",
        "   | natlb's own are finite, unlike HAProxy's: 5m for a flow that both sides have been seen of,",
        f"   | 2m for one that only one side has (RFC 4787, REQ-5). To choose, set {missing}.",
    ]


@pytest.mark.parametrize(
    "words",
    [":53", "*:53-55,[::]:53", "192.0.2.1:53 name x interface lo transparent", "::1:53 id 5", "ipv6@:53 nice 5"],
)
def test_what_a_dgram_bind_takes_haproxys_own_takes_as_well(read: Reader, haproxy: HAProxy, words: str) -> None:
    assert read(f"udp-lb u\n    dgram-bind {words}\n").config.frontends[0].binds
    verdict = haproxy(f"log-forward u\n    dgram-bind {words}\n    log 127.0.0.1:514 local0\n")
    assert verdict.accepted, verdict.output


def test_haproxy_itself_has_no_such_section(haproxy: HAProxy) -> None:
    assert "unknown keyword 'udp-lb' out of section" in haproxy(GOOD).output
