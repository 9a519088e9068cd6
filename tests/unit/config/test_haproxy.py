"""HAProxy is the oracle: what natlb accepts HAProxy accepts, and they say the same of what both refuse.

A `udp-lb` section is HAProxy Enterprise's. HAProxy is shown it as the `listen` section that it would be for TCP.
"""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from natlb.config.samples import CONVERTERS, FACTS
from tests.effort import examples

from .conftest import HAProxy, Reader

NAMES = st.sampled_from(["a", "b", "www", "A.b-c_d:e", "0"])
ODD = st.sampled_from(
    ["", "x", "0", "-1", "1x", "99999999999", "#", "'a b'", '""', '"$NOPE"', "\\ ", "a\\x41", "from", "no", "1.5s", "$"]
)
PORT = st.sampled_from(["1", "80", "8080", "65535", "080", "0", "65536", "80-82", "82-80", "80x", "+5", "-5", ""])
HOST = st.sampled_from(
    ["", "*", "127.0.0.1", "192.0.2.7", "[::1]", "::1", "[::]", "localhost", "127.1", "1.2.3.4.5", "["]
)
PREFIX = st.sampled_from(["", "", "", "ipv4@", "ipv6@", "unix@", "tcp@"])
TIME = st.sampled_from(["0", "1", "5s", "30s", "2h", "24d", "25d", "1us", "5x", "1h30m"])
NUMBER = st.sampled_from(["0", "1", "2", "100", "256", "257", "2147483647", "2147483648", "x", "-1"])

ENDPOINT = st.builds("{}{}:{}".format, PREFIX, HOST, PORT)
SERVER_ADDRESS = ENDPOINT | st.builds("{}{}".format, PREFIX, HOST)


def one_of(*words: str) -> st.SearchStrategy[str]:
    return st.sampled_from(words)


def words(*parts: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    return st.tuples(*(st.just(part) if isinstance(part, str) else part for part in parts)).map(" ".join)


def several(parameter: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(parameter, max_size=3).map(" ".join)


SOURCE_PORT = st.sampled_from(["", "", ":", ":0", ":80", ":80-90", ":0-9", ":90-80", ":+5", ":x"])
SOURCE = words(
    "source",
    st.builds("{}{}{}".format, PREFIX, HOST, SOURCE_PORT),
    st.sampled_from(["", "", "usesrc clientip", "usesrc client", "usesrc", "usesrc 192.0.2.8", "interface lo", "foo"]),
)

BIND_PARAMETER = st.one_of(
    one_of("transparent", "v4v6", "v6only", "defer-accept", "tfo", "name x", "interface lo"),
    words(one_of("maxconn", "id", "backlog", "nice"), NUMBER),
    words("tcp-ut", TIME),
)
SERVER_PARAMETER = st.one_of(
    one_of("check", "no-check", "backup", "no-backup", "disabled", "enabled", "addr 127.0.0.1", "tfo", "port 80"),
    one_of("stick", "non-stick", "init-addr libc", "init-addr last,libc", "init-addr foo", "init-addr last,libc,none"),
    words("on-marked-down", one_of("shutdown-sessions", "shutdown-sessions", "x")),
    words("on-marked-up", one_of("shutdown-backup-sessions", "x")),
    words("observe", one_of("layer4", "none", "layer7")),
    words("on-error", one_of("fastinter", "fail-check", "sudden-death", "mark-down", "x")),
    words("track", NAMES),
    words("error-limit", NUMBER),
    SOURCE,
    words(one_of("weight", "rise", "fall", "port", "id", "maxconn", "minconn", "maxqueue"), NUMBER),
    words(one_of("inter", "fastinter", "downinter", "tcp-ut", "slowstart"), TIME),
)


TIMEOUT = words(
    "timeout", one_of("client", "server", "connect", "check", "queue", "tunnel", "client-fin", "server-fin"), TIME
)
LOG_FORMAT = st.lists(
    st.sampled_from(
        [
            "%ci",
            "%{+Q}b",
            "%{+Q,-X}o",
            "%%",
            "%",
            "x",
            "\\ ",
            "%cp",
            "%[src]",
            "%HM",
            "%xx",
            "%{+Z}ci",
            "%{+Q}",
            "%t",
            "%ts",
        ]
    ),
    min_size=1,
    max_size=4,
).map("".join)
LOG = st.one_of(
    words(
        "log",
        one_of("127.0.0.1", "127.0.0.1:514", "[::1]:5", "::1", "/dev/log", "unix@/x", "stdout", "fd@3", "fd@x", ":514"),
        one_of("", "", "len 80", "len 79", "len x", "format raw", "format x", "len 100 format rfc5424"),
        one_of("local0", "daemon", "x", ""),
        one_of("", "err", "x", "err debug", "err x", "info err x"),
    ),
    one_of("log global", "no log", "log", "no log x", "log-tag x", "log-tag", "log global x"),
)
LOG_OPTION = st.one_of(
    words(
        one_of("option", "no option", "default option"),
        one_of("dontlognull", "dontlog-normal", "log-separate-errors", "logasap", "tcplog"),
    ),
    words(one_of("log-format", "log-format-sd"), LOG_FORMAT),
)
BALANCING = st.one_of(
    words(
        "balance", one_of("roundrobin", "static-rr", "leastconn", "first", "source", "random", "random(3)", "random()")
    ),
    words("balance", one_of("random(0)", "random(", "random)", "uri", "hash", "hash src dst")),
    words("balance hash", one_of("src", "dst", "src_port", "dst_port", "src,ipmask(24)", "path", "nope")),
    words("hash-type", one_of("map-based", "consistent", "x"), one_of("", "sdbm", "djb2", "crc32", "wt6", "avalanche")),
    words("hash-type consistent wt6", one_of("avalanche", "x")),
    words(one_of("hash-balance-factor", "fullconn", "option redispatch", "max-session-srv-conns"), NUMBER),
    words(one_of("", "no", "default"), one_of("option redispatch", "option allbackups", "option persist")),
)
ANY_PROXY = st.one_of(
    BALANCING,
    TIMEOUT,
    LOG,
    LOG_OPTION,
    one_of("mode tcp", "disabled", "enabled", "balance roundrobin", "balance", "option tcpka", "no option splice-auto"),
    one_of("option splice-auto", "no option tcpka", "option abortonclose"),
    words(one_of("", "no", "default"), one_of("option nolinger", "option nolinger x")),
    words(one_of("maxconn", "retries", "id", "backlog", "clitcpka-cnt"), NUMBER),
    words(one_of("description", "default_backend"), NAMES),
    SOURCE,
)
PATTERN = one_of(
    "a", "'a b'", "+OK", "^a|b$", "[[:alpha:]]+", "(", "a{2,3}?", "0a1", "0A1b", "a**", "(?:x)*y", "200-299,404", "404-"
)
EXPECT = words(
    "expect",
    one_of("", "", "!", "min-recv 4", "! !"),
    one_of("string", "rstring", "binary", "rbinary", "status", "rstatus", "hdr"),
    PATTERN,
    several(
        one_of(
            "comment x",
            "on-error 'no, 5%% off'",
            "on-success y",
            "ok-status L4OK",
            "ok-status l7ok",
            "tout-status L4TOUT",
            "error-status L7STS",
            "error-status L4TOUT",
            "min-recv -1",
            "min-recv 0",
            "on-error %b",
        )
    ),
)
CHECKS = st.one_of(
    one_of("option tcp-check", "option httpchk", "option httpchk /x", "option httpchk GET /x HTTP/1.1"),
    one_of("http-check disable-on-404", "option log-health-checks", "no option log-health-checks"),
    words(one_of("tcp-check", "http-check"), EXPECT),
    words(
        one_of("tcp-check", "http-check"), one_of("comment x", "connect", "connect port 5 linger", "connect default")
    ),
    words(
        "tcp-check", one_of("send x", "send-binary 0a", "send-binary 0", "send a comment b", "connect addr 127.0.0.1:5")
    ),
    words("http-check send", several(one_of("meth HEAD", "uri /y", "ver HTTP/1.1", "hdr Host a", "hdr A b", "body x"))),
)
ADDRESS = st.sampled_from(
    [
        "10.0.0.0/8",
        "192.0.2.7",
        "10.1.2.3/255.255.0.0",
        "10.0.0.1/255.0.0.255",
        "::1",
        "2001:db8::/32",
        "0.0.0.0/0",
        "::/0",
        "::ffff:1.2.3.4",
        "1.2.3.4/33",
        "1.2.3.4/",
        "::1/129",
        "10/8",
        "10.0.0",
        "x",
        "*",
        "-n",
        "-i",
        "--",
        "[::1]",
        "01.2.3.4",
        "fe80::1%lo",
    ]
)
AMOUNT = st.sampled_from(
    [
        "0",
        "80",
        "80:90",
        "90:80",
        "80:",
        ":90",
        ":",
        "80-90",
        "gt",
        "lt",
        "ge",
        "le",
        "eq",
        "x",
        "8x",
        "007",
        "-1",
        "-i",
        "--",
        "1.5",
        "9223372036854775808",
    ]
)
CONVERTED = st.sampled_from(
    ["", "", "", ",ipmask(24)", ",ipmask(255.255.0.0,64)", ",ipmask(33)", ",mod(2)", ",add(1),odd", ",div(0)", ",foo"]
)
TEST = st.one_of(
    words(st.builds("{}{}".format, one_of("src", "dst"), CONVERTED), several(ADDRESS)),
    words(
        st.builds(
            "{}{}".format,
            one_of(
                "src_port",
                "dst_port",
                "fe_id",
                "fe_conn",
                "fe_conn(a)",
                "nbsrv",
                "nbsrv(b)",
                "be_conn(a)",
                "queue(b)",
                "connslots",
                "srcport",
            ),
            CONVERTED,
        ),
        several(AMOUNT),
    ),
    words(
        one_of("src_conn_rate", "src_conn_rate(a)", "sc0_conn_cur", "sc_conn_cnt(1)", "table_cnt(b)"), several(AMOUNT)
    ),
    one_of("always_true", "always_false 1", "src_is_local", "srv_is_up(a)", "srv_is_up(b/a)", "srv_conn(b/www) gt 5"),
    words("fe_name", one_of("-i", "-m beg", "-m str", "-m sub", "-m foo", "--", ""), NAMES),
    words(
        one_of("src", "dst_port", "src_is_local", "fe_name"), one_of("-m found", "-m bool", "-m ip", "-m int", "-u 5")
    ),
)
TERM = st.one_of(one_of("TRUE", "LOCALHOST", "x", "!x", "! x", "or", "||", "!", "HTTP"), words("{", TEST, "}"))
CONDITION = words(one_of("if", "unless"), st.lists(TERM, max_size=4).map(" ".join))
MAYBE = st.one_of(st.just(""), CONDITION)
KEY = one_of("src", "dst", "src,ipmask(24)", "src_port", "fe_name", "")
TABLE_NAME = st.one_of(st.just(""), words("table", NAMES))
RULE = st.one_of(
    words("acl", one_of("x", "x", "y", "a$b", "or"), TEST),
    words("acl x", TEST),
    words("use_backend", NAMES, MAYBE),
    words("tcp-request connection", one_of("accept", "reject", "silent-drop", "sc-inc-gpc0(0)", "foo"), MAYBE),
    words("tcp-request connection", one_of("track-sc0", "track-sc2", "track-sc3"), KEY, TABLE_NAME, MAYBE),
    words("rate-limit", one_of("sessions", "foo"), NUMBER),
)
STICK = st.one_of(
    words("acl x", TEST),
    words("use-server", NAMES, CONDITION),
    words("force-persist", st.one_of(CONDITION, one_of("", "foo", "if"))),
    words("stick", one_of("on", "match", "store-request", "x"), KEY, TABLE_NAME, MAYBE),
)
STICK_TABLE = words(
    "stick-table",
    one_of("type ip", "type ip", "type ipv6", "type integer", "type foo", ""),
    one_of("size 10", "size 10k", "size 0", "size 1x", ""),
    st.one_of(st.just(""), words("expire", TIME)),
    one_of("", "nopurge", "srvkey name", "srvkey", "srvkey foo", "foo"),
    st.one_of(
        st.just(""),
        words("store", one_of("conn_cnt,conn_cur,conn_rate(10s)", "conn_rate", "gpc0,gpc0", "conn_cnt(5)", "foo")),
    ),
)
BIND = words("bind", ENDPOINT, several(BIND_PARAMETER))
SERVER = words("server", NAMES, SERVER_ADDRESS, several(SERVER_PARAMETER))
TEMPLATE = words(
    "server-template",
    NAMES,
    one_of("1", "3", "1-3", "0-2", "5-3", "0", "x", "3-", "-3", "9-9"),
    SERVER_ADDRESS,
    several(SERVER_PARAMETER),
)
DEFAULT_SERVER = words("default-server", several(SERVER_PARAMETER))
UDP = st.one_of(
    words("dgram-bind", ENDPOINT, several(one_of("transparent", "name x", "interface lo", "id 5", "tfo", "backlog 5"))),
    words(one_of("maxconn", "id", "proxy-requests", "proxy-responses"), NUMBER),
    BALANCING,
    one_of("option udp-check", "balance roundrobin", "disabled", "enabled", "bind :80", "retries 3", "mode tcp"),
    words("timeout", one_of("client", "server", "connect", "check"), TIME),
    SERVER,
    DEFAULT_SERVER,
    SOURCE,
)
GLOBAL = st.one_of(
    words(one_of("maxconn", "maxconnrate", "maxsessrate", "nbthread", "tune.maxaccept", "tune.bufsize"), NUMBER),
    words(one_of("node", "description"), NAMES),
    LOG,
    one_of("log-send-hostname", "log-send-hostname x", "daemon", "quiet", "pidfile x", "user root", "group root"),
    one_of(
        "user nosuch", "uid 5", "gid 5", "uid x", "setenv A b", "setenv A", "presetenv A b", "unsetenv A", "unsetenv"
    ),
    one_of("resetenv", "resetenv PATH", "hard-stop-after 5s", "grace 1s", "hard-stop-after x", "setenv A=b c"),
    words("stats timeout", TIME),
    words("stats maxconn", NUMBER),
    words("spread-checks", NUMBER),
    words("max-spread-checks", TIME),
    words(
        "stats socket",
        one_of("/tmp/a", "/tmp/b", "unix@/tmp/c") | ENDPOINT,
        several(
            one_of("mode 600", "level admin", "user root", "mode 9", "uid 0", "gid 0", "uid x")
            | one_of("severity-output number", "severity-output x", "expose-fd listeners")
        ),
    ),
)
OPENING = {
    "global": st.just("global"),
    "defaults": st.one_of(st.just("defaults"), words("defaults", NAMES), words("defaults", NAMES, "from", NAMES)),
    "frontend": st.one_of(words("frontend", NAMES), words("frontend", NAMES, "from", NAMES)),
    "backend": st.one_of(words("backend", NAMES), words("backend", NAMES, "from", NAMES)),
    "listen": st.one_of(words("listen", NAMES), words("listen", NAMES, "from", NAMES)),
    "udp-lb": words("udp-lb", NAMES),
}
LINE = {
    "global": GLOBAL,
    "defaults": ANY_PROXY | DEFAULT_SERVER | CHECKS,
    "frontend": ANY_PROXY | BIND | RULE | STICK_TABLE,
    "backend": ANY_PROXY | SERVER | TEMPLATE | DEFAULT_SERVER | CHECKS | STICK | STICK_TABLE,
    "listen": ANY_PROXY | BIND | SERVER | TEMPLATE | DEFAULT_SERVER | CHECKS | RULE | STICK | STICK_TABLE,
    "udp-lb": UDP,
}


@st.composite
def configurations(draw: st.DrawFn) -> str:
    """Configurations that are mostly right; in some an odd word stands somewhere."""
    lines = []
    for kind in draw(st.lists(st.sampled_from(sorted(OPENING)), min_size=1, max_size=4)):
        lines.append(draw(OPENING[kind]))
        lines += [f"    {line}" for line in draw(st.lists(LINE[kind], max_size=3))]
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(lines) - 1))
        lines[at] += f" {draw(ODD)}"
    return "".join(f"{line}\n" for line in lines)


def ruled(lines: list[str]) -> str:
    """A configuration with rules, where what most of them name is there."""
    table = "    stick-table type ip size 10 store conn_cnt,conn_cur,conn_rate(10s)\n"
    return (
        f"listen a\n    bind :80\n    server a 192.0.2.1:80\n{table}    acl x always_true\n"
        + "".join(f"    {line}\n" for line in lines)
        + f"backend b\n    server a 192.0.2.1:80\n    server www 192.0.2.2:80\n{table}"
    )


@settings(max_examples=examples(60), suppress_health_check=list(HealthCheck))
@given(st.lists(RULE | STICK, min_size=4, max_size=20))
def test_what_natlb_accepts_of_rules_haproxy_accepts(read: Reader, haproxy: HAProxy, lines: list[str]) -> None:
    text = ruled([line for line in lines if read(ruled([line])).parsed.config is not None])
    assume(read(text).parsed.config is not None)
    verdict = haproxy(text)
    assert verdict.accepted, f"{text}\n{verdict.output}"


RULES_PAGE = Path(__file__).parents[3] / "docs" / "rules.md"
EXAMPLES = re.findall(r"^```haproxy\n(.*?)^```$", RULES_PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_of_the_page_about_rules_are_accepted_by_both(read: Reader, haproxy: HAProxy, text: str) -> None:
    got = read(text)
    assert got.config
    assert [line for line in got.warnings if "never match" not in line] == []
    verdict = haproxy(text)
    assert verdict.accepted, verdict.output


def test_the_page_about_rules_tells_every_fact_and_every_converter() -> None:
    page = RULES_PAGE.read_text(encoding="utf-8")
    plain = {re.sub(r"^(src|sc\d?)_(?!port|is_local|tracked|inc|clr)", "", name) for name in FACTS}
    named = {name for name in plain | CONVERTERS.keys() if not re.match(r"sc\d?_", name)}
    assert {name for name in named if f"`{name}" not in page} == set()


def as_listen(text: str) -> str:
    """The configuration with each `udp-lb` as a `listen` section that inherits nothing."""
    text, found = re.subn(r"^udp-lb (\S+)", r"listen \1 from nothing", text, flags=re.MULTILINE)
    text = re.sub(r"^    dgram-bind", "    bind", text, flags=re.MULTILINE)
    text = re.sub(r"^    (option udp-check|proxy-requests|proxy-responses)", "    #", text, flags=re.MULTILINE)
    return f"defaults nothing\n{text}" if found else text


@settings(max_examples=examples(200), suppress_health_check=list(HealthCheck))
@given(configurations())
def test_what_natlb_accepts_haproxy_accepts(read: Reader, haproxy: HAProxy, text: str) -> None:
    assume(read(text.replace("localhost", "four.test")).parsed.config is not None)
    verdict = haproxy(as_listen(text))
    assert verdict.accepted, f"{text}\n{verdict.output}"


ACCEPTED = [
    "",
    "global\n    description 'a b' \"c\" d\\ e\n",
    "global\n    description " + "x " * 62 + "x\n",
    "defaults a\ndefaults b from a\nfrontend f from b\n    bind :80\n",
    "listen l\n    bind :80-81,[::1]:82,ipv6@:83\n    server s 192.0.2.1\n    server t [2001:db8::1]:+5\n",
    'listen l\n    bind "${NOPE-127.0.0.1}:80"\n    server s 192.0.2.1:80 "${NOPE[*]}"\n',
    "defaults\n    default_backend b\nfrontend f\n    bind :80\nbackend b\n",
    "frontend a\n    id 2\nbackend b\n    id 1\nlisten c\n",
    "frontend f\r\n    bind :80\r\n",
    "listen l\n    bind :80\n    source 10.0.0.9:0\n    source [2001:db8::9]:5\n    server s 192.0.2.1\n",
    "defaults\n    source * usesrc clientip\nlisten l\n    bind :80\n    source [::] usesrc client\n",
    "listen l\n    bind :80\n    default-server source 10.0.0.9:5-9\n    server s 1.1.1.1:80 source 10.0.0.8 backup\n",
    "listen l\n    bind :80\n    server s 192.0.2.1:80 source ipv6@ usesrc client check\n",
    "listen l\n    bind :80\n    server-template s 0-2 1.1.1.1:+5 id 7 weight 3 check port 80\n    server x 1.1.1.1\n",
    "global\n    log /dev/log len 200 format rfc5424 local1 err warning\n    log-send-hostname\n    log-tag x\n",
    "defaults\n    log global\n    option tcplog\n    option logasap\nlisten l\n    bind :80\n    log fd@5 user\n",
    'listen l\n    bind :80\n    log stdout local0\n    log-format "%{+Q}o %ci:%cp %{-Q}b %% %Td %H %pid"\n',
    "defaults\n    option tcp-check\n    tcp-check connect port 80\nlisten l\n    server s 192.0.2.1 check\n",
    "backend b\n    server s 192.0.2.1:80 check\n    server t 192.0.2.2 track s\n"
    "backend c\n    server u 192.0.2.3 track b/t\n",
    "backend b\n    tcp-check expect string a\n    http-check expect status 200\n",
    "backend b\n    server s 192.0.2.1:80 check observe layer4 error-limit 3 on-error mark-down\n",
    "global\n    spread-checks 50\n    max-spread-checks 0\n",
    "backend b\n    balance random()\n    hash-type consistent wt6 avalanche\n    hash-balance-factor 150\n",
    "defaults\n    no option redispatch\n    option redispatch -2\n    no option allbackups\n    fullconn 5\n",
    "backend b\n    balance hash src_port\n    server s 1.1.1.1:1 maxconn 5 minconn 2 maxqueue 3 slowstart 10s\n",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_both_accept(read: Reader, haproxy: HAProxy, text: str) -> None:
    parsed = read(text).parsed
    verdict = haproxy(text)
    assert (parsed.exit_status, verdict.status) in ((0, 0), (2, 2)), verdict.output


SAME_WORDS = [
    "foo\n",
    "frontend\n",
    "frontend a$b\n",
    "backend b from a\n",
    "defaults a\ndefaults a\nfrontend f from a\n",
    "frontend f\nfrontend f\n",
    "listen f\nfrontend f\n",
    "global x\n",
    "global\n maxconn\n",
    "global\n maxconn 10 x\n",
    "global\n maxcon 10\n",
    "global\n stats timeout 0\n",
    "global\n stats socket\n",
    "global\n description\n",
    "global\n node a b\n",
    'global\n description "abc\n',
    "global\n description \\xZZ\n",
    'global\n description "$1"\n',
    'global\n description "${A"\n',
    'global\n description "${A[x]}"\n',
    "global\n description x",
    "global\n description " + "x " * 70 + "\n",
    "global\n .foo x\n",
    "frontend f\n bind 127.0.0.1\n",
    "frontend f\n bind :0\n",
    "frontend f\n bind :70000\n",
    "frontend f\n bind :20-10\n",
    "frontend f\n bind 1.2.3.4.5:80\n",
    "frontend f\n bind :abc\n",
    "frontend f\n bind :80:81\n",
    "frontend f\n bind :+80\n",
    "frontend f\n bind $NOPE\n",
    "frontend f\n bind :80 transparnt\n",
    "frontend f\n bind :80 zzzz\n",
    "frontend f\n bind :80 name\n",
    "frontend f\n bind :80 interface\n",
    "frontend f\n bind :80-81 id 5\n",
    "frontend f\n bnid :80\n",
    "frontend f\n zzzz :80\n",
    "frontend f\n maxconn\n",
    "frontend f\n maxconn 10 x\n",
    "frontend f\n timeout client\n",
    "frontend f\n timeout client x\n",
    "frontend f\n timeout client 5s x\n",
    "frontend f\n timeout client 25d\n",
    "frontend f\n default_backend\n",
    "frontend f\n default_backend a b\n",
    "frontend f\n bind :80\n default_backend nope\n",
    "listen l\n bind :80\n default_backend l\n",
    "frontend f\n mode udp\n",
    "frontend f\n mode tcp x\n",
    "frontend f\n id\n",
    "frontend f\n disabled x\n",
    "frontend f\n option\n",
    "frontend f\n option foo\n",
    "frontend f\n option tcplo\n",
    "frontend f\n option tcpka x\n",
    "frontend f\n no option tcpka\n",
    "backend b\n default option allbackups\n",
    "frontend f\n tcp-request foo\n",
    "frontend f\n acl x\n",
    "frontend f\n server s 1.1.1.1:1\n",
    "defaults\n bind :80\n",
    "defaults\n id 5\n",
    "frontend f\n acl x* src 1.1.1.1\n",
    "frontend f\n acl or src 1.1.1.1\n",
    "frontend f\n acl x src 1.2.3.4/33\n",
    "frontend f\n acl x src [::1]\n",
    "frontend f\n acl x src ::/129\n",
    "frontend f\n acl x src -x 1.1.1.1\n",
    "frontend f\n acl x src -m foo 1.1.1.1\n",
    "frontend f\n acl x src -u x\n",
    "frontend f\n acl x src -u 5 1.1.1.1\n acl y src -u 5 1.1.1.1\n",
    "frontend f\n acl x src -f nosuch\n",
    "frontend f\n acl x src -f\n",
    "frontend f\n acl x dst_port 90:80\n",
    "frontend f\n acl x dst_port :\n",
    "frontend f\n acl x dst_port 8x\n",
    "frontend f\n acl x dst_port 1.5\n",
    "frontend f\n acl x -i src\n",
    "frontend f\n acl x nosuch 1\n",
    "frontend f\n acl x src,foo 1\n",
    "frontend f\n acl x srv_is_up(s)\n",
    "frontend f\n acl x nbsrv 1\n",
    "frontend f\n acl x nbsrv(f) 1\n",
    "frontend f\n acl x fe_conn(b) 1\n",
    "frontend f\n acl x src_conn_rate gt 1\n",
    "frontend f\n use_backend\n",
    "frontend f\n use_backend b foo\n",
    "frontend f\n use_backend b if x\n",
    "frontend f\n use_backend b if { src 1.1.1.1\n",
    "frontend f\n use_backend b if { }\n",
    "frontend f\n use_backend b if {src 1.1.1.1}\n",
    "frontend f\n use_backend b if TRUE and TRUE\n",
    "frontend f\n bind :80\n use_backend b if TRUE\n",
    "listen l\n bind :80\n use_backend l if TRUE\n",
    "frontend f\n tcp-request connection reject foo\n",
    "frontend f\n tcp-request connection reject if x\n",
    "frontend f\n tcp-request connection track-sc0\n",
    "frontend f\n tcp-request connection track-sc3 src\n",
    "frontend f\n tcp-request connection track-sc0 src\n",
    "frontend f\n tcp-request connection track-sc0 src table t\n",
    "frontend f\n tcp-request connection track-sc0 src foo\n",
    "backend b\n tcp-request connection reject\n",
    "frontend f\n rate-limit sessions\n",
    "frontend f\n rate-limit foo\n",
    "backend b\n use-server\n",
    "backend b\n use-server s\n",
    "backend b\n use-server s foo\n",
    "backend b\n use-server s if TRUE\n",
    "backend b\n use-server s if x\n",
    "backend b\n force-persist\n",
    "backend b\n force-persist foo\n",
    "backend b\n force-persist if x\n",
    "defaults\n force-persist if TRUE\n",
    "backend b\n stick\n",
    "backend b\n stick on\n",
    "backend b\n stick foo src\n",
    "backend b\n stick on src\n",
    "backend b\n stick on src table t\n",
    "backend b\n stick on src foo\n",
    "backend b\n stick on src if x\n",
    "backend b\n stick-table type ip\n",
    "backend b\n stick-table size 10\n",
    "backend b\n stick-table type foo size 10\n",
    "backend b\n stick-table type ip size 10 foo\n",
    "backend b\n stick-table type ip size 10 expire\n",
    "backend b\n stick-table type ip size 10 store foo\n",
    "backend b\n stick-table type ip size 10 store conn_rate\n",
    "backend b\n stick-table type ip size 10 store conn_cnt(5)\n",
    "backend b\n stick-table type ip size 10\n stick-table type ip size 10\n",
    "global\n maxconnrate\n",
    "global\n maxconnrate 5 x\n",
    "backend b\n retries\n",
    "backend b\n retries 3 x\n",
    "backend b\n server\n",
    "backend b\n server s$ 1.1.1.1:1\n",
    "backend b\n server s 1.1.1.1:70000\n",
    "backend b\n server s 1.1.1.1:1-2\n",
    "backend b\n server s 1.1.1.1:x\n",
    "backend b\n server s 1.1.1.1:1 chekc\n",
    "backend b\n server s 1.1.1.1:1 backup x\n",
    "backend b\n server s 1.1.1.1:1 on-marked-down\n",
    "backend b\n server s 1.1.1.1:1 on-marked-down shutdown\n",
    "backend b\n server s 1.1.1.1:1 id 5\n server t 1.1.1.1:1 id 5\n",
    "backend b\n server s 1.1.1.1:1\n server s 1.1.1.1:1\n",
    "backend b\n server s 1.1.1.1 check\n",
    "backend b\n id 5\nbackend c\n id 5\n",
    "backend b\n server-template\n",
    "backend b\n server-template s 3\n",
    "backend b\n server-template s$ 3 1.1.1.1:1\n",
    "backend b\n server-template s 5-3 1.1.1.1:1\n",
    "backend b\n server-template s 0 1.1.1.1:1\n",
    "backend b\n server-template s x 1.1.1.1:1\n",
    "backend b\n server-template s 3- 1.1.1.1:1\n",
    "backend b\n server-template s 1-2 1.1.1.1:1\n server s1 1.1.1.1:1\n",
    "backend b\n server-template s 1-2 1.1.1.1 check\n",
    "defaults\n server-template s 3 1.1.1.1:1\n",
    "global\n spread-checks\n",
    "global\n spread-checks 5 x\n",
    "global\n max-spread-checks 5s x\n",
    "backend b\n option tcp-check x\n",
    "backend b\n no option tcp-check\n",
    "backend b\n option log-health-checks x\n",
    "backend b\n option httpchk GET / HTTP/1.0 d\n",
    "backend b\n tcp-check expect string a\n tcp-check connect\n",
    "backend b\n tcp-check send a b\n",
    "backend b\n tcp-check expect\n",
    "backend b\n tcp-check expect string\n",
    "backend b\n tcp-check expect foo\n",
    "backend b\n tcp-check expect status 200\n",
    "backend b\n tcp-check expect string a string b\n",
    "backend b\n tcp-check expect ! min-recv 4 string a\n",
    "backend b\n tcp-check expect string a ok-status FOO\n",
    "backend b\n tcp-check expect string a error-status FOO\n",
    "backend b\n tcp-check expect string a tout-status FOO\n",
    "backend b\n tcp-check expect string a on-error\n",
    "backend b\n tcp-check expect min-recv 4 comment x\n",
    "backend b\n tcp-check comment\n",
    "backend b\n tcp-check send-binary 012\n",
    "backend b\n tcp-check send-binary 0g\n",
    "backend b\n tcp-check connect foo\n",
    "backend b\n tcp-check connect port\n",
    "backend b\n tcp-check connect addr\n",
    "backend b\n option httpchk\n http-check expect status 500-400\n",
    "backend b\n option httpchk\n http-check expect status x\n",
    "backend b\n option httpchk\n http-check expect binary 00\n",
    "backend b\n option httpchk\n http-check expect string a\n http-check send uri /\n",
    "backend b\n option httpchk\n http-check connect\n http-check expect status 200\n",
    "backend b\n option httpchk\n http-check send uri /\n http-check send uri /x\n",
    "backend b\n option httpchk\n http-check expect status 200\n http-check connect\n",
    "backend b\n option httpchk\n http-check send hdr\n",
    "backend b\n option httpchk\n http-check send foo\n",
    "backend b\n option httpchk\n http-check send hdr host a hdr Host b\n",
    "backend b\n option httpchk\n http-check disable-on-404 x\n",
    "backend b\n server s 1.1.1.1:1 track\n",
    "backend b\n server s 1.1.1.1:1 track b\n",
    "backend b\n server s 1.1.1.1:1 track x/s\n",
    "backend b\n server s 1.1.1.1:1 track s\n",
    "backend b\n server s 1.1.1.1:1\n server t 1.1.1.1:1 track s\n",
    "backend b\n server s 1.1.1.1:1 check\n server t 1.1.1.1:1 check track s\n",
    "backend b\n server s 1.1.1.1:1 track t\n server t 1.1.1.1:1 track s\n",
    "backend b\n server s 1.1.1.1:1 observe\n",
    "backend b\n server s 1.1.1.1:1 observe foo\n",
    "backend b\n server s 1.1.1.1:1 error-limit\n",
    "backend b\n server s 1.1.1.1:1 on-error foo\n",
    "backend b\n server s 1.1.1.1:1 on-marked-up\n",
    "backend b\n option tcp-check\n server s 1.1.1.1 check\n",
    "backend b\n option tcp-check\n tcp-check expect string a\n server s 1.1.1.1 check\n",
    "backend b\n option tcp-check\n tcp-check connect port 5\n tcp-check connect\n server s 1.1.1.1 check\n",
    "backend b\n balance hash\n",
    "backend b\n balance hash src dst\n",
    "backend b\n balance random(0)\n",
    "backend b\n hash-type\n",
    "backend b\n hash-type foo\n",
    "backend b\n hash-type consistent foo\n",
    "backend b\n hash-type consistent avalanche\n",
    "backend b\n hash-type consistent wt6 foo\n",
    "backend b\n hash-balance-factor\n",
    "backend b\n hash-balance-factor 100\n",
    "backend b\n fullconn\n",
    "backend b\n fullconn 5 x\n",
    "backend b\n option allbackups x\n",
    "backend b\n option persist x\n",
    "backend b\n source\n",
    "backend b\n source 10.0.0.1:5-9\n",
    "backend b\n source 10.0.0.1:+5\n",
    "backend b\n source 10.0.0.1:x\n",
    "backend b\n source 10.0.0.1:70000\n",
    "backend b\n source 10.0.0.1,10.0.0.2\n",
    "backend b\n source 10.0.0.1 foo\n",
    "backend b\n source 10.0.0.1 usesrc\n",
    "backend b\n source 10.0.0.1 interface\n",
    "backend b\n usesrc client\n",
    "backend b\n server s 1.1.1.1:1 source\n",
    "backend b\n server s 1.1.1.1:1 source 10.0.0.1:9-5\n",
    "backend b\n server s 1.1.1.1:1 source 10.0.0.1:+5\n",
    "backend b\n server s 1.1.1.1:1 source 10.0.0.1 usesrc\n",
    "backend b\n server s 1.1.1.1:1 source 10.0.0.1 foo\n",
    "backend b\n server s 1.1.1.1:1 usesrc client\n",
    "backend b\n server-template s: 3 1.1.1.1:1\n",
    "backend b\n server s 1.1.1.1:1 check addr x\n",
    "backend b\n no option persist x\n",
    "backend b\n no option allbackups x\n",
    "backend b\n use_backend c\n",
    "backend b\n use_backend b\n",
    "frontend f\n stick-table type ip size 10\nbackend f\n stick on src\n",
    "frontend f\n stick-table type ip size 10\nbackend f\n stick-table type ip size 10\n",
    "global\n daemon x\n",
    "global\n pidfile\n",
    "global\n pidfile a b\n",
    "global\n user nosuch\n",
    "global\n group nosuch\n",
    "global\n uid\n",
    "global\n hard-stop-after\n",
    "global\n setenv A\n",
    "global\n setenv A=b c\n",
    "global\n unsetenv\n",
    "global\n log\n",
    "global\n log global\n",
    "global\n log 127.0.0.1 nope\n",
    "global\n log 127.0.0.1 local0 nope\n",
    "global\n log 127.0.0.1 local0 err nope\n",
    "global\n log 127.0.0.1 local0 err err x\n",
    "global\n log 127.0.0.1 len 79 local0\n",
    "global\n log 127.0.0.1 format foo local0\n",
    "global\n log 127.0.0.1:1-5 local0\n",
    "global\n log fd@x local0\n",
    "global\n no log x\n",
    "global\n log-tag\n",
    "global\n log-tag a b\n",
    "frontend f\n option tcplog clf\n",
    "frontend f\n no option tcplog\n",
    "frontend f\n option dontlognull x\n",
    "frontend f\n log-format\n",
    "frontend f\n log-format a b\n",
    "listen f\n bind :80\n log stderr local0\n log-format %xx\n",
    "listen f\n bind :80\n log stderr local0\n log-format %{+Q}\n",
    "listen f\n bind :80\n log stderr local0\n log-format %{+Q\n",
    "listen f\n bind :80\n log stderr local0\n log-format a%\n",
]


def first_alert(output: str) -> str:
    """The first ALERT's words: from where they stop speaking of the place, without what differs in the spacing."""
    line = next(line for line in output.splitlines() if line.startswith("[ALERT]"))
    text = line.partition(" : config : ")[2]
    text = re.sub(r"^config: ", "", text)
    text = re.sub(r"^(\[t\.cfg:\d+\] : )?([Pp]arsing )?\[t\.cfg:\d+\] ?: ?", "", text)
    return re.sub(r" ?: ", ": ", text).rstrip(".")


@pytest.mark.parametrize("text", SAME_WORDS)
def test_both_refuse_with_the_same_words(read: Reader, haproxy: HAProxy, text: str) -> None:
    got = read(text)
    assert got.parsed.config is None
    verdict = haproxy(text)
    assert not verdict.accepted
    ours, theirs = first_alert("\n".join(got.lines)), first_alert(verdict.output)
    assert ours.startswith(theirs), f"natlb:   {ours}\nHAProxy: {theirs}"


STRICTER = [
    ("global\n maxconn abc\n", "a number that is none"),
    ("global\n maxconn 10\n maxconn 11\n", "a number given twice"),
    ("global\n pidfile a\n pidfile b\n", "a file given twice"),
    ("backend b\n server-template s 3x 1.1.1.1:1\n", "a number with a tail"),
    ("backend b\n server-template s 1-3-5 1.1.1.1:1\n", "a range with a tail"),
    ("global\n uid 1\n user root\n", "a user given twice"),
    ("global\n gid 1\n gid 2\n", "a group given twice"),
    ("global\n uid x\n", "a number that is none"),
    ("global\n setenv A b c\n", "a word too many"),
    ("global\n log 127.0.0.1 sample 1:2 local0\n", "lines that are not logged"),
    ("global\n log :514 local0\n", "a log server that is nowhere"),
    ("global\n log unix@x local0\n", "a path that depends on the place"),
    ("global\n chroot /tmp\n", "a place without iptables"),
    ("frontend f\n bind :80\n log-format %ST\n", "layer 7"),
    ("frontend f\n bind :80\n log-format %{+Z}ci\n", "a flag that is none"),
    ("frontend f\n bind :80 maxconn abc\n", "a number that is none"),
    ("backend b\n server s 1.1.1.1:1 weight x\n", "a number that is none"),
    ("frontend f\n bind :80x\n", "a port with a tail"),
    ("frontend f\n timeout client 5sx\n", "a time with a tail"),
    ("backend b\n balance roundrobin x\n", "a word too many"),
    ("backend b x\n", "a word too many"),
    ("backend b\n balance random(2) x\n", "a word too many"),
    ("backend b\n balance hash src,ipmask(24)\n", "a converter"),
    ("backend b\n balance hash path\n", "layer 7"),
    ("backend b\n balance hash fc_rtt\n", "a fetch of the kernel's sockets"),
    ("backend b\n hash-balance-factor x\n", "a number that is none"),
    ("backend b\n fullconn x\n", "a number that is none"),
    ("backend b\n option redispatch x\n", "a number that is none"),
    ("backend b\n hash-type map-based wt6 avalanche x\n", "a word too many"),
    ("backend b\n server s 1.1.1.1:1 maxconn -1\n", "a number that is none"),
    ("listen l\n bind :80\n max-session-srv-conns 5\n", "idle connections that natlb has none of"),
    ('global\n maxconn 5 "" x\n', "words after an empty one"),
    ("global\n description x\rmaxconn 5\n", "words after a carriage return"),
    ("frontend f\n bind :80,\n", "an address that is none"),
    ("frontend f\n bind :80\n bind :80\n", "one address bound twice"),
    ("backend b\n server s :80\n", "a server that is nowhere"),
    ("backend b\nlisten b\n", "one name twice"),
    ("frontend f\n mode http\n", "layer 7"),
    ("backend b\n source 0.0.0.0\n", "a source that is nowhere"),
    ("backend b\n source 10.0.0.1:80x\n", "a port with a tail"),
    ("backend b\n source 10.0.0.1 usesrc client\n", "two sources at once"),
    ("backend b\n source 10.0.0.1 usesrc 10.0.0.2\n", "two sources at once"),
    ("backend b\n source 0.0.0.0:5 usesrc client\n", "two ports at once"),
    ("backend b\n source 10.0.0.1 usesrc hdr_ip(x)\n", "layer 7"),
    ("backend b\n source 10.0.0.1 interface lo\n", "a socket's device"),
    ("backend b\n source 10.0.0.1\n source 10.0.0.1\n", "one source twice"),
    ("backend b\n source 10.0.0.1\n source * usesrc client\n", "two lines that contradict each other"),
    ("global\n maxconnrate 5\n maxconnrate 6\n", "a number given twice"),
    ("global\n maxsessrate 5\n maxsessrate 6\n", "a number given twice"),
    ("defaults d\n acl x src 1.1.1.1\n", "an ACL for several sections"),
    ("frontend f\n acl x src 10/8\n", "half an address"),
    ("frontend f\n acl x src 01.2.3.4\n", "an address with a leading zero"),
    ("frontend f\n acl x src localhost\n", "a host name for an address"),
    ("frontend f\n acl x src_is_local 1\n", "a pattern that is ignored"),
    ("frontend f\n acl x src -m found 1\n", "a pattern that is ignored"),
    ("frontend f\n acl x dst_port gt 80:90\n", "an operator with a range"),
    ("frontend f\n acl x dst_port gt\n", "an operator with nothing"),
    ("frontend f\n use_backend b if TRUE or\nbackend b\n", "a missing term"),
    ("frontend f\n use_backend b if\nbackend b\n", "a missing term"),
    ("frontend f\n use_backend b if !\nbackend b\n", "a missing term"),
    ("frontend f\n use_backend %[src]\n", "a name made up for each connection"),
    ("backend b\n stick-table type ip size 10 size 20\n", "a size given twice"),
    ("backend b\n stick-table type string size 10\n", "a key that is no address"),
    ("backend b\n stick-table type ip size 10 store http_req_cnt\n", "layer 7"),
    ("frontend f\n stick-table type ip size 10\n acl x src_conn_cnt gt 1\n", "data that is not stored"),
    ("backend b\n stick-table type integer size 10\n stick on src\n", "a key of another type"),
    ("backend b\n server s 1.1.1.1:1 source 10.0.0.1:0-9\n", "a range from any port on"),
    ("backend b\n server s 1.1.1.1:1 source 10.0.0.1 source 10.0.0.2\n", "a parameter given twice"),
]


@pytest.mark.parametrize(("text", "why"), STRICTER)
def test_natlb_refuses_what_haproxy_lets_through(read: Reader, haproxy: HAProxy, text: str, why: str) -> None:
    assert haproxy(text).accepted, why
    assert read(text).parsed.config is None, why
