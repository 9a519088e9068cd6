"""Rules as they are read: what they mean, and what is said of those that mean nothing."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from natlb.config.rule_model import Call, ConnectionRule, Network, Range, Sample, StickTable
from natlb.config.rule_model import Test as AclTest

from .conftest import Read, Reader

LISTEN = "listen l\n    bind :80\n    server s 192.0.2.1:80\n    server t 192.0.2.2:80\n"
STORED = (
    "    stick-table type ip size 10 store conn_cnt,conn_cur,conn_rate(10s),sess_cnt,sess_rate(1s),gpc0,gpc0_rate(1m)\n"
)


def network(text: str, mask: str) -> Network:
    return Network(ip_address(text), ip_address(mask))


def acl_test(read: Reader, words: str, more: str = "") -> AclTest:
    """The test that an ACL makes of these words, in a section with a table."""
    config = read(f"{LISTEN}{STORED}{more}    use_backend b if {{ {words} }}\nbackend b\n").config
    condition = config.frontends[0].use_backends[0].condition
    assert condition is not None
    [[term]] = condition.choices
    [test] = term.tests
    return test


@pytest.mark.parametrize(
    ("words", "patterns"),
    [
        ("10.0.0.0/8", [network("10.0.0.0", "255.0.0.0")]),
        ("192.0.2.7", [network("192.0.2.7", "255.255.255.255")]),
        ("10.1.2.3/255.255.0.0 ::1", [network("10.1.2.3", "255.255.0.0"), network("::1", "ffff:" * 7 + "ffff")]),
        ("10.0.0.1/255.0.0.255", [network("10.0.0.1", "255.0.0.255")]),
        ("2001:db8::/32", [network("2001:db8::", "ffff:ffff::")]),
        ("0.0.0.0/0 ::/0", [network("0.0.0.0", "0.0.0.0"), network("::", "::")]),
        ("-n -- 192.0.2.7", [network("192.0.2.7", "255.255.255.255")]),
    ],
)
def test_addresses_and_networks(read: Reader, words: str, patterns: list[Network]) -> None:
    test = acl_test(read, f"src {words}")
    assert (test.sample, test.method) == (Sample(Call("src"), (), "ip"), "ip")
    assert list(test.patterns) == patterns


@pytest.mark.parametrize(
    ("words", "patterns"),
    [
        ("80 443", [Range(80, 80), Range(443, 443)]),
        ("80:90 :10 60000: 1-3", [Range(80, 90), Range(None, 10), Range(60000, None), Range(1, 3)]),
        ("gt 80", [Range(81, None)]),
        ("ge 80 lt 10 12 le 5 eq 7", [Range(80, None), Range(None, 9), Range(None, 11), Range(None, 5), Range(7, 7)]),
        ("-- -5 -3:-1", [Range(-5, -5), Range(-3, -1)]),
    ],
)
def test_numbers_and_ranges(read: Reader, words: str, patterns: list[Range]) -> None:
    assert list(acl_test(read, f"dst_port {words}").patterns) == patterns


def test_texts_and_how_they_are_compared(read: Reader) -> None:
    test = acl_test(read, "fe_name -i -m beg W x")
    assert (test.method, test.patterns, test.any_case) == ("beg", ("W", "x"), True)


@pytest.mark.parametrize("word", ["src_is_local", "always_true", "dst_port -m bool", "src -m found"])
def test_what_is_true_or_there_needs_no_pattern(read: Reader, word: str) -> None:
    assert acl_test(read, word).patterns == ()


@pytest.mark.parametrize(
    ("word", "sample"),
    [
        ("nbsrv lt 1", Sample(Call("nbsrv", ("l",)), (), "int")),
        ("nbsrv(b) lt 1", Sample(Call("nbsrv", ("b",)), (), "int")),
        ("fe_conn() gt 1", Sample(Call("fe_conn", ("l",)), (), "int")),
        ("srv_is_up(s)", Sample(Call("srv_is_up", ("l", "s")), (), "bool")),
        ("srv_is_up(l/t)", Sample(Call("srv_is_up", ("l", "t")), (), "bool")),
        ("src_conn_rate gt 1", Sample(Call("src_conn_rate", ("l",)), (), "int")),
        ("sc0_conn_rate gt 1", Sample(Call("sc0_conn_rate"), (), "int")),
        ("sc0_get_gpc0(l) gt 1", Sample(Call("sc0_get_gpc0", ("l",)), (), "int")),
        ("sc_conn_cur(2,l) gt 1", Sample(Call("sc_conn_cur", ("2", "l")), (), "int")),
        ("sc_tracked(1)", Sample(Call("sc_tracked", ("1",)), (), "bool")),
        ("src,ipmask(24) 10.0.0.0", Sample(Call("src"), (Call("ipmask", ("255.255.255.0",)),), "ip")),
        (
            "dst_port,add(1),mod(2),not",
            Sample(Call("dst_port"), (Call("add", ("1",)), Call("mod", ("2",)), Call("not")), "bool"),
        ),
        ("src,in_table(l)", Sample(Call("src"), (Call("in_table", ("l",)),), "bool")),
    ],
)
def test_samples_with_all_that_may_be_left_out(read: Reader, word: str, sample: Sample) -> None:
    assert acl_test(read, word).sample == sample


def test_a_pattern_file_has_a_pattern_a_line(read: Reader, tmp_path: Path) -> None:
    file = tmp_path / "blocked.lst"
    file.write_text("# ours\n\n10.0.0.0/8\r\n\t192.0.2.7\n2001:db8::/32")
    test = acl_test(read, f"src -f {file} 127.0.0.1")
    assert [str(each.address) for each in test.patterns if isinstance(each, Network)] == [
        "10.0.0.0",
        "192.0.2.7",
        "2001:db8::",
        "127.0.0.1",
    ]


def test_of_a_map_file_the_first_word_of_a_line_counts(read: Reader, tmp_path: Path) -> None:
    file = tmp_path / "m.map"
    file.write_text("10.0.0.0/8 inside\n")
    assert acl_test(read, f"src -M -f {file}").patterns == (network("10.0.0.0", "255.0.0.0"),)


def test_what_is_wrong_in_a_pattern_file_is_said_with_its_line(read: Reader, tmp_path: Path) -> None:
    file = tmp_path / "ports"
    file.write_text("80\neighty\n")
    assert refused(read, f"acl x dst_port -f {file}") == (
        "parsing [t.cfg:5] : error detected while parsing ACL 'x' : "
        f"'eighty' is not a number at line 2 of file '{file}'."
    )


def test_a_directory_is_no_pattern_file(read: Reader, tmp_path: Path) -> None:
    assert refused(read, f"acl x src -f {tmp_path}") == (
        f"parsing [t.cfg:5] : error detected while parsing ACL 'x' : error encountered while reading <{tmp_path}> : "
        "Is a directory"
    )


def refused(read: Reader, line: str) -> str:
    """What is said first of a line that is an error."""
    got: Read = read(f"{LISTEN}    {line}\nbackend b\n    server u 192.0.2.3:80\n")
    assert got.parsed.config is None, line
    return got.alerts[0]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("acl x src 10/8", "'10/8' is not a valid IPv4 or IPv6 address."),
        ("acl x src fe80::1%lo", "'fe80::1%lo' is not a valid IPv4 or IPv6 address."),
        ("acl x src -i -f nosuch -m ip", "failed to open pattern file <nosuch>."),
        ("acl x src -f /dev/null -m ip", "'-m' must only be specified before patterns and files."),
        ("acl x src -m str 10", "'src' cannot be matched by '-m str' in natlb, but by 'ip'"),
        ("acl x fe_name -m reg a", "'fe_name' cannot be matched by '-m reg' in natlb, but by 'str'"),
        ("acl x src_is_local yes", "'src_is_local' is true or not, and is compared with no pattern (got 'yes')."),
        ("acl x src -m found 1", "'src' has a value or not, and is compared with no pattern (got '1')."),
        ("acl x dst_port gt", "'gt' expects a number after it."),
        ("acl x dst_port gt 1:2", "'1:2' is not a number."),
        ("acl x srcport 80", "unknown fetch method 'srcport' in ACL expression 'srcport'; did you mean 'src_port'"),
        ("acl x srv_name a", "unknown fetch method 'srv_name' in ACL expression 'srv_name'; "),
        ("acl x 5", "unknown fetch method '5' in ACL expression '5'; "),
        ("acl x src( 5", "'src(' is no fetch method, nor a converter, in ACL expression 'src('."),
        ("acl x src(5) 5", "fetch method 'src' : too many arguments in ACL expression 'src(5)'."),
        ("acl x sc_conn_rate(3) 5", "'sc_conn_rate' expects an integer from 0 to 2 (got 3)."),
        ("acl x srv_is_up", "missing server name in arg 1 of ACL keyword 'srv_is_up' in proxy 'l'."),
        ("acl x src,upper a", "unknown converter 'upper' in ACL expression 'src,upper'; "),
        (
            "acl x src,mod(2) 0",
            "converter 'mod' cannot be applied in ACL expression 'src,mod(2)': it takes int, not ip.",
        ),
        ("acl x src,ipmask(33) 0", "invalid args in converter 'ipmask' : '33' is no IPv4 mask in ACL expression"),
        ("acl x src,ipmask 0", "invalid args in converter 'ipmask' : takes a mask for IPv4, and perhaps one for"),
        ("acl x dst_port,div(0) 0", "invalid args in converter 'div' : takes a number above 0 in ACL expression"),
        ("acl x dst_port,mod 0", "invalid args in converter 'mod' : takes one number in ACL expression"),
        ("acl x dst_port,not(1) 0", "invalid args in converter 'not' : takes no argument in ACL expression"),
        ("acl x src,in_table", "invalid args in converter 'in_table' : takes the name of a table in ACL expression"),
    ],
)
def test_an_acl_that_means_nothing_is_refused(read: Reader, line: str, text: str) -> None:
    assert refused(read, line).startswith(f"parsing [t.cfg:5] : error detected while parsing ACL 'x' : {text}")


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        ("so_name -m str a", "'so_name' is of one listening socket; "),
        ("so_id 1", "'so_id' is of one listening socket; "),
        ("dst_conn gt 5", "'dst_conn' is of one listening socket; "),
        ("rand(100) lt 50", "'rand(100)' is not of the connection; "),
        ("date(-1) gt 5", "'date(-1)' is not of the connection; "),
        ("date,mod(86400) lt 3600", "'date,mod(86400)' is not of the connection; "),
        ("src_bytes_in_rate gt 5", "'src_bytes_in_rate' counts the bytes of a key; "),
        ("sc0_kbytes_out gt 5", "'sc0_kbytes_out' counts the bytes of a key; "),
        ("fc_rtt gt 5", "'fc_rtt' is of one of a proxy's two connections; "),
    ],
)
def test_a_fact_of_haproxys_that_natlb_will_not_have_is_refused_with_the_reason(
    read: Reader, fact: str, reason: str
) -> None:
    assert refused(read, f"acl x {fact}").startswith(f"parsing [t.cfg:5] : acl 'x' : {reason}")
    assert f": {reason}" in refused(read, f"use_backend b if {{ {fact} }}")


_OPTION_X = "error detected while parsing switching rule : '-x' is not a valid ACL option. Please use '--' before any"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "use_backend b if TRUE or",
            "error detected while parsing switching rule : a condition is missing after 'or'.",
        ),
        (
            "use_backend b if or TRUE",
            "error detected while parsing switching rule : a condition is missing before 'or'.",
        ),
        ("use_backend b if", "error detected while parsing switching rule : a condition is missing after 'if'."),
        (
            "use_backend b if TRUE !",
            "error detected while parsing switching rule : '!' has nothing after it to negate.",
        ),
        ("use_backend b if { src -x }", _OPTION_X),
        ("use_backend b if METH_GET", "'use_backend' : 'METH_GET' works on HTTP messages (layer 7); "),
        ("use_backend b if WAIT_END", "'use_backend' : 'WAIT_END' reads what the connection carries (layer 7); "),
        (
            "use_backend %[src]",
            "'use_backend' takes the name of a backend (got '%[src]'); write a line for each, with 'if'.",
        ),
        ("use_backend c", "Proxy 'l': unable to find required use_backend: 'c'"),
        ("use-server u if TRUE", "proxy 'l' : unable to find server 'u' referenced in a 'use-server' rule"),
        ("tcp-request connection", "'tcp-request connection' expects 'accept', 'reject', 'silent-drop', 'track-sc0'"),
        ("tcp-request connection expect-proxy layer4", "'tcp-request connection expect-proxy' needs to end the TCP"),
        ("tcp-request connection set-src src", "'tcp-request connection set-src' changes what servers see of a"),
        (
            "tcp-request connection set-var(x) src",
            "'tcp-request connection set-var' sets a variable, and natlb has none; remove it.",
        ),
        ("tcp-request connection sc-inc-gpc0(3)", "'sc-inc-gpc0' expects an integer from 0 to 2 (got 3)."),
        (
            "tcp-request connection track-sc0 nosuch",
            "'tcp-request connection track-sc0' : unknown fetch method 'nosuch'",
        ),
        ("tcp-request connection track-sc0 path", "'tcp-request connection track-sc0' : 'path' works on HTTP messages"),
        ("tcp-request connection track-sc0 src table", "'tcp-request connection track-sc0' : missing table name"),
        ("rate-limit sessions x", "'rate-limit sessions' expects an integer from 0 to 2147483647 (got 'x')."),
        ("rate-limit sessions 5 x", "'rate-limit sessions' cannot handle unexpected argument 'x'."),
        ("stick-table type string size 10", "stick-table: type 'string' is for what a client says;"),
        ("stick-table type ip size 10 size 20", "stick-table: 'size' is given twice; remove one."),
        (
            "stick-table type ip size 10 peers p",
            "stick-table: 'peers' is for sharing stick tables with other HAProxys;",
        ),
        (
            "stick-table type ip size 10 srvkey addr",
            "stick-table: tables of natlb keep servers by name, which is 'srvkey name'.",
        ),
        ("stick-table type ip size", "stick-table: missing argument after 'size'."),
        (
            "stick-table type ip size 10x",
            "stick-table: 'size' takes a number, perhaps with k, m or g after it (got '10x').",
        ),
        (
            "stick-table type ip size 4g",
            "stick-table: size 4g is more than the 134217728 entries that a table can have.",
        ),
        ("stick-table type ip size 1 store", "stick-table: missing argument after 'store'."),
        (
            "stick-table type ip size 1 store gpt0",
            "stick-table: 'gpt0' is not stored; 'gpc0' and 'gpc0_rate(...)' are.",
        ),
        ("stick-table type ip size 1 store http_req_cnt", "stick-table: 'http_req_cnt' reads what the connection"),
        (
            "stick-table type ip size 1 store conn_rate(0)",
            "stick-table: store option 'conn_rate' takes a time above 0.",
        ),
        ("stick on src table", "'stick' expects a table name after 'table'."),
        ("stick on path", "'stick': 'path' works on HTTP messages (layer 7); "),
        ("stick store-response src", "'stick store-response' reads what the connection carries (layer 7); "),
    ],
)
def test_a_rule_that_means_nothing_is_refused(read: Reader, line: str, text: str) -> None:
    assert refused(read, line).startswith(f"parsing [t.cfg:5] : {text}")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("acl x src_conn_rate gt 1", "unable to find table 'l' referenced in arg 1 of ACL keyword 'src_conn_rate' in "),
        ("acl x srv_is_up(l/u)", "unable to find server 'u' in proxy 'l', referenced in arg 1 of ACL keyword "),
        ("acl x nbsrv(c) 1", "unable to find backend 'c' referenced in arg 1 of ACL keyword 'nbsrv' in proxy 'l'"),
        (
            "stick on src",
            "Proxy 'l': unable to find stick-table 'l'; a 'stick' rule needs one; add a",
        ),
    ],
)
def test_what_a_rule_names_has_to_be_there(read: Reader, line: str, text: str) -> None:
    assert refused(read, line).startswith(f"parsing [t.cfg:5] : {text}")


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (
            "stick-table type ip size 10\n acl x src_conn_rate gt 1",
            "table 'l' does not store what 'src_conn_rate' asks for; add 'store conn_rate(<period>)' to it (at "
            "t.cfg:5).",
        ),
        (
            "stick-table type integer size 10\n stick on src",
            "Proxy 'l': 'stick' cannot use table 'l': keys of type 'integer' are not made of ip.",
        ),
        (
            "stick-table type ip size 10\n tcp-request connection track-sc0 dst_port",
            "Proxy 'l': 'track-sc0' cannot use table 'l': keys of type 'ip' are not made of int.",
        ),
    ],
)
def test_a_table_has_to_have_what_a_rule_asks_of_it(read: Reader, lines: str, text: str) -> None:
    assert refused(read, lines) == f"parsing [t.cfg:6] : {text}"


def test_a_rule_cannot_lead_to_datagrams(read: Reader) -> None:
    got = read(
        "frontend f\n    bind :80\n    use_backend u if TRUE\nudp-lb u\n    dgram-bind :53\n    server s 1.1.1.1:53\n"
    )
    assert got.alerts[0].startswith(
        "parsing [t.cfg:3] : Proxy 'f': use_backend 'u' is a udp-lb section (declared at t.cfg:4)"
    )


def test_an_acl_without_patterns_never_matches_and_that_is_said(read: Reader) -> None:
    got = read(f"{LISTEN}    acl x src\n")
    assert got.config
    assert got.warnings == [
        "parsing [t.cfg:5] : parsing acl keyword 'src' : no pattern to match against were provided, so this ACL will "
        "never match."
    ]


def test_conditions_are_joined_by_or_and_lines_of_an_acl_add_up(read: Reader) -> None:
    config = read(
        f"{LISTEN}    acl x src 10.0.0.1\n    acl x dst_port 80\n"
        "    use_backend b unless x !LOCALHOST or ! { src_is_local } || !! TRUE\nbackend b\n"
    ).config
    [rule] = config.frontends[0].use_backends
    assert rule.condition is not None
    assert rule.condition.negated
    shape = [
        [(term.negated, [test.sample.fact.name for test in term.tests]) for term in c] for c in rule.condition.choices
    ]
    assert shape == [
        [(False, ["src", "dst_port"]), (True, ["src"])],
        [(True, ["src_is_local"])],
        [(False, ["always_true"])],
    ]


def test_rules_keep_their_order_and_go_to_their_side(read: Reader) -> None:
    config = read(
        f"{LISTEN}{STORED}"
        "    tcp-request connection track-sc1 src,ipmask(24) table b if TRUE\n"
        "    tcp-request connection accept if LOCALHOST\n"
        "    tcp-request connection sc-inc-gpc0(1)\n"
        "    tcp-request connection reject\n"
        "    rate-limit sessions 100\n"
        "    use-server t if LOCALHOST\n"
        "    stick match src\n"
        "    stick store-request src table b unless LOCALHOST\n"
        "    stick on src\n"
        "backend b\n    stick-table type ipv6 size 2k expire 1m nopurge store server_id,gpc0\n"
    ).config
    front, (back, other) = config.frontends[0], config.backends
    rules = [(rule.action, rule.slot, rule.table, rule.condition is None) for rule in front.connection_rules]
    assert rules == [
        ("track", 1, "b", False),
        ("accept", 0, None, False),
        ("sc-inc-gpc0", 1, None, True),
        ("reject", 0, None, True),
    ]
    assert isinstance(front.connection_rules[0], ConnectionRule)
    assert front.rate_limit == 100
    assert [rule.server for rule in back.use_servers] == ["t"]
    assert [(rule.matches, rule.stores, rule.table) for rule in back.stick_rules] == [
        (True, False, "l"),
        (False, True, "b"),
        (True, True, "l"),
    ]
    assert front.stick_table is not None
    assert back.stick_table is None, "a listen section has one table"
    assert dict(front.stick_table.stored)["conn_rate"] == 10
    assert other.stick_table == StickTable("ipv6", 2048, 60, False, (("gpc0", None),), other.stick_table.location)


def test_what_is_stored_twice_is_stored_once_with_a_warning(read: Reader) -> None:
    got = read("backend b\n    stick-table type ip size 1 store gpc0,gpc0\n")
    assert got.config.backends[0].stick_table.stored == (("gpc0", None),)
    assert "parsing [t.cfg:2] : stick-table: store option 'gpc0' already enabled, ignored." in got.warnings


@pytest.mark.parametrize("line", ["use_backend c if TRUE", "rate-limit sessions 5"])
def test_rules_of_frontends_are_ignored_in_a_backend(read: Reader, line: str) -> None:
    got = read(f"backend b\n    {line}\n    server s 1.1.1.1:80\nbackend c\n")
    assert got.config
    assert any("ignored because backend 'b' has no frontend capability." in text for text in got.warnings)


def test_a_limit_per_second_is_inherited(read: Reader) -> None:
    config = read(f"defaults\n    rate-limit sessions 7\n{LISTEN}").config
    assert config.frontends[0].rate_limit == 7


def test_limits_per_second_of_the_process(read: Reader) -> None:
    config = read("global\n    maxconnrate 5\n    maxsessrate 6\n").config
    assert (config.maxconnrate, config.maxsessrate) == (5, 6)


def test_a_frontend_of_rules_alone_is_not_said_to_refuse_everything(read: Reader) -> None:
    got = read("frontend f\n    bind :80\n    use_backend b if TRUE\nbackend b\n    server s 1.1.1.1:80\n")
    assert got.warnings == []


def test_a_disabled_backend_that_a_rule_names_is_a_warning(read: Reader) -> None:
    got = read(
        "frontend f\n    bind :80\n    use_backend b if TRUE\n    default_backend c\n"
        "backend b\n    disabled\nbackend c\n    server s 1.1.1.1:80\n"
    )
    assert got.warnings == [
        "parsing [t.cfg:3] : frontend 'f' : backend 'b' is disabled; connections to it will be refused."
    ]
