"""`defaults`, `frontend`, `backend` and `listen`: opening, inheriting, and their common keywords."""

import pytest

from natlb.config.model import Timeouts

from .conftest import Reader


def test_a_listen_is_a_frontend_and_a_backend_of_one_name_and_number(read: Reader) -> None:
    config = read("listen l\n    bind :80\n    server s 192.0.2.1:80\n").config
    (front,), (back,) = config.frontends, config.backends
    assert (front.name, back.name, front.id, back.id) == ("l", "l", 1, 1)
    assert front.default_backend == "l"
    assert list(config.proxies()) == [(front, back)]


def test_a_listen_may_send_its_connections_elsewhere(read: Reader) -> None:
    config = read("listen l\n    bind :80\n    default_backend b\nbackend b\n    server s 192.0.2.1:80\n").config
    assert config.frontends[0].default_backend == "b"


def test_all_keywords_are_kept(read: Reader) -> None:
    config = read(
        "frontend f\n"
        "    mode tcp\n"
        "    id 7\n"
        "    description in front\n"
        "    bind :80\n"
        "    maxconn 100\n"
        "    default_backend b\n"
        "    timeout client 1s\n"
        "    timeout client-fin 2s\n"
        "backend b\n"
        "    balance roundrobin\n"
        "    retries 5\n"
        "    disabled\n"
        "    timeout server 3s\n"
        "    timeout connect 4s\n"
        "    timeout tunnel 5s\n"
        "    timeout check 6s\n"
        "    timeout queue 7s\n"
        "    timeout server-fin 8s\n"
    ).config
    (front,), (back,) = config.frontends, config.backends
    assert (front.id, front.description, front.maxconn, front.disabled) == (7, "in front", 100, False)
    assert front.timeouts == Timeouts(client=1.0, client_fin=2.0)
    assert (back.id, back.balance, back.retries, back.disabled, back.description) == (2, "roundrobin", 5, True, None)
    assert back.timeouts == Timeouts(server=3.0, connect=4.0, tunnel=5.0, check=6.0, queue=7.0, server_fin=8.0)


def test_proxies_are_numbered_around_the_numbers_that_were_given_as_in_haproxy(read: Reader) -> None:
    config = read(
        "frontend a\n    id 5\nbackend b\nlisten c\nfrontend d\n    disabled\nbackend e\n"
        "backend f\n    id 2\nbackend g\n"
    ).config
    numbers = {proxy.name: proxy.id for pair in config.proxies() for proxy in pair if proxy}
    assert numbers == {"a": 5, "b": 3, "c": 4, "d": 6, "e": 7, "f": 2, "g": 9}  # read off HAProxy 2.6.12's show stat


def test_a_section_starts_with_what_the_last_defaults_say(read: Reader) -> None:
    config = read(
        "defaults\n"
        "    mode tcp\n"
        "    maxconn 10\n"
        "    timeout client 1s\n"
        "    timeout server 2s\n"
        "    retries 9\n"
        "    default_backend b\n"
        "    default-server weight 7 check\n"
        "frontend f\n"
        "    bind :80\n"
        "    timeout client 5s\n"
        "backend b\n"
        "    server s 192.0.2.1:80\n"
        "defaults\n"
        "backend c\n"
        "    server s 192.0.2.1:80\n"
    ).config
    front = config.frontends[0]
    assert (front.maxconn, front.default_backend, front.timeouts.client) == (10, "b", 5.0)
    one, two = config.backends
    assert (one.retries, one.timeouts.server, one.servers[0].weight) == (9, 2.0, 7)
    assert one.servers[0].check is not None
    assert (two.retries, two.timeouts.server, two.servers[0].weight, two.sources) == (3, None, 1, None)


def test_a_section_may_name_its_defaults_and_defaults_theirs(read: Reader) -> None:
    config = read(
        "defaults one\n    timeout client 1s\n    maxconn 5\n"
        "defaults two from one\n    timeout client 2s\n"
        "defaults three\n    timeout client 3s\n"
        "frontend f from two\n    bind :80\n"
        "frontend g from one\n    bind :81\n"
        "defaults from one\n    maxconn 7\n"
        "frontend h\n    bind :82\n"
    ).config
    assert [(front.timeouts.client, front.maxconn) for front in config.frontends] == [(2.0, 5), (1.0, 5), (1.0, 7)]


def test_a_server_of_one_backend_does_not_change_the_defaults_of_the_next(read: Reader) -> None:
    config = read(
        "defaults\n    default-server weight 7\n"
        "backend b\n    default-server weight 8\n    server s 192.0.2.1:80\n"
        "backend c\n    server s 192.0.2.1:80\n"
    ).config
    assert [back.servers[0].weight for back in config.backends] == [8, 7]


def test_disabled_defaults_are_undone_by_enabled(read: Reader) -> None:
    config = read("defaults\n    disabled\nfrontend f\n    bind :80\nfrontend g\n    bind :81\n    enabled\n").config
    assert [front.disabled for front in config.frontends] == [True, False]


@pytest.mark.parametrize(
    ("text", "alerts"),
    [
        ("foo x\n", [
            "parsing [t.cfg:1] : unknown keyword 'foo' out of section; a section comes first: 'defaults', 'frontend', "
            "'backend', 'listen', 'udp-lb', 'global'.",
        ]),
        ("fronted f\n", [
            "parsing [t.cfg:1] : unknown keyword 'fronted' out of section; did you mean 'frontend' maybe ?",
        ]),
        ("frontend\n", ["parsing [t.cfg:1] : 'frontend' expects an <id> argument"]),
        ("listen\n    bind :0\n", [
            "parsing [t.cfg:1] : 'listen' expects an <id> argument",
            "parsing [t.cfg:2] : 'bind' : invalid port '0'; a port is a number from 1 to 65535.",
        ]),
        ("backend a$b\n", ["parsing [t.cfg:1] : character '$' is not permitted in 'backend' name 'a$b'."]),
        ("defaults a/b\n", ["parsing [t.cfg:1] : character '/' is not permitted in 'defaults' name 'a/b'."]),
        ("backend \u00e9\n", ["parsing [t.cfg:1] : character '\u00e9' is not permitted in 'backend' name '\u00e9'."]),
        ("frontend f :80\n", [
            "parsing [t.cfg:1] : 'frontend' cannot handle unexpected argument ':80'.",
            "parsing [t.cfg:1] : please use the 'bind' keyword for listening addresses. (got ':80')",
        ]),
        ("backend b x\n", ["parsing [t.cfg:1] : 'backend' cannot handle unexpected argument 'x'."]),
        ("backend b from a c\n", ["parsing [t.cfg:1] : 'backend' cannot handle unexpected argument 'c'."]),
        ("backend b from\n", ["parsing [t.cfg:1] : 'backend' cannot handle unexpected argument 'from'."]),
        ("backend b from a\n", ["parsing [t.cfg:1] : defaults section 'a' not found for backend 'b'."]),
        ("defaults a\ndefaults a\nlisten l from a\n", [
            "parsing [t.cfg:3] : ambiguous defaults section name 'a' referenced by proxy 'l' exists at least at "
            "t.cfg:1 and t.cfg:2."
        ]),
        ("frontend f\nfrontend f\n", [
            "parsing [t.cfg:2] : frontend 'f' has the same name as frontend 'f' declared at t.cfg:1."
        ]),
        ("listen l\nbackend l\n", [
            "parsing [t.cfg:2] : backend 'l' has the same name as proxy 'l' declared at t.cfg:1."
        ]),
        ("backend l\nlisten l\n", [
            "parsing [t.cfg:2] : proxy 'l' has the same name as backend 'l' declared at t.cfg:1."
        ]),
        ("backend b\n    id 5\nfrontend f\n    id 5\n", [
            "parsing [t.cfg:4] : frontend f reuses same custom id as backend b (declared at t.cfg:1)."
        ]),
    ],
)  # fmt: skip
def test_a_section_that_cannot_open_is_refused_and_read_for_its_errors(
    read: Reader, text: str, alerts: list[str]
) -> None:
    assert read(text).alerts == alerts


def test_a_frontend_and_a_backend_may_share_a_name(read: Reader) -> None:
    assert read("frontend www\nbackend www\n").alerts == []


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("bnid :80", "unknown keyword 'bnid' in 'listen' section; did you mean 'bind' maybe ?"),
        ("zzzz", "unknown keyword 'zzzz' in 'listen' section"),
        ("global2", "unknown keyword 'global2' in 'listen' section; did you mean 'global' maybe ?"),
        ("mode", "unknown proxy mode ''; natlb has 'mode tcp'."),
        ("mode udp", "unknown proxy mode 'udp'; natlb has 'mode tcp'. UDP has sections of its own: 'udp-lb'."),
        ("mode tcp x", "'mode' cannot handle unexpected argument 'x'."),
        ("mode health", "'mode health' was removed from HAProxy; remove it."),
        ("id", "'id' expects an integer argument."),
        ("id x", "'id' expects an integer from 1 to 2147483647 (got 'x')."),
        ("id 5\n    id 6", "'id' already specified; a section has one."),
        ("id 5 6", "'id' cannot handle unexpected argument '6'."),
        ("description", "'description' expects a string argument."),
        ("disabled x", "'disabled' cannot handle unexpected argument 'x'."),
        ("enabled x", "'enabled' cannot handle unexpected argument 'x'."),
        ("maxconn", "'maxconn' expects an integer argument."),
        ("maxconn abc", "'maxconn' expects an integer from 0 to 2147483647 (got 'abc')."),
        ("maxconn 10 x", "'maxconn' cannot handle unexpected argument 'x'."),
        ("default_backend", "'default_backend' expects a backend name."),
        ("default_backend b x", "'default_backend' cannot handle unexpected argument 'x'."),
        ("retries", "'retries' expects an integer argument (dispatch counts for one)."),
        ("retries x", "'retries' expects an integer from 0 to 2147483647 (got 'x')."),
        (
            "balance hdr(host)",
            "'balance hdr' works on HTTP messages (layer 7); natlb forwards packets and never reads ",
        ),
        ("balance rdp-cookie", "'balance rdp-cookie' reads what the connection carries (layer 7); natlb forwards "),
        ("timeout", "'timeout' supports 'client', 'server', 'connect', 'check', 'queue', 'tunnel', 'client-fin', "),
        ("timeout foo 5s", "'timeout' supports 'client', 'server', 'connect', 'check', 'queue', 'tunnel', "),
        ("timeout client", "'timeout client' expects an integer value (in milliseconds)"),
        ("timeout client 5s x", "'timeout client' : unexpected extra argument 'x' after value '5s'."),
        ("timeout http-request 5s", "'timeout http-request' works on HTTP messages (layer 7); "),
        ("option", "'option' expects an option name."),
        ("option foo", "unknown option 'foo'."),
        ("option tcplo", "unknown option 'tcplo'; did you mean 'tcplog' maybe ?"),
        ("option tcplog clf", "'option tcplog' cannot handle unexpected argument 'clf'."),
        (
            "option httplog",
            "'option httplog' works on HTTP messages (layer 7); natlb forwards packets and never reads ",
        ),
        ("option tcpka x", "'option tcpka' cannot handle unexpected argument 'x'."),
        ("no option tcpka", "negation/default is not supported for option 'tcpka'."),
        ("no option foo", "negation/default is not supported for option 'foo'."),
        ("no maxconn 5", "negation/default currently supported only for options."),
        ("default", "negation/default currently supported only for options."),
        ("no log x", "log : 'no log' does not expect arguments"),
        (
            "default option abortonclose",
            "'option abortonclose' cannot handle unexpected argument 'abortonclose'; write 'no option abortonclose'.",
        ),
        (
            "http-request deny",
            "'http-request' works on HTTP messages (layer 7); natlb forwards packets and never reads ",
        ),
        ("tcp-request", "missing argument for 'tcp-request' in proxy 'l'"),
        (
            "tcp-request foo",
            "'tcp-request' expects 'inspect-delay', 'connection', or 'content' in proxy 'l' (got 'foo')",
        ),
        ("tcp-request content accept", "'tcp-request content' reads what the connection carries (layer 7); "),
        ("dgram-bind :53", "'dgram-bind' works on UDP datagrams; it belongs in a 'udp-lb' section."),
        ("proxy-requests 1", "'proxy-requests' works on UDP datagrams; it belongs in a 'udp-lb' section."),
        ("option udp-check", "'option udp-check' works on UDP datagrams; it belongs in a 'udp-lb' section."),
        ("stats enable", "'stats' works on HTTP messages (layer 7); "),
        ("acl x$ src 1.1.1.1", "character '$' is not permitted in acl name 'x$'."),
        ("acl x", "error detected while parsing ACL 'x' : missing fetch method in ACL expression ''."),
        ("acl x path_end -i /a", "acl 'x' : 'path_end' works on HTTP messages (layer 7); "),
        ("acl x hdr(host) a", "acl 'x' : 'hdr(host)' works on HTTP messages (layer 7); "),
        ("acl x url_beg /a", "acl 'x' : 'url_beg' works on HTTP messages (layer 7); "),
        ("acl x req.cook(a) b", "acl 'x' : 'req.cook(a)' works on HTTP messages (layer 7); "),
        ("acl x req.len gt 5", "acl 'x' : 'req.len' reads what the connection carries (layer 7); "),
        ("acl x ssl_fc_sni a", "acl 'x' : 'ssl_fc_sni' works on TLS, which ends in the proxy; "),
        ("acl x req_ssl_sni a", "acl 'x' : 'req_ssl_sni' works on TLS, which ends in the proxy; "),
        ("use_backend b if x", "error detected while parsing switching rule : no such ACL : 'x'."),
        ("use_backend b if { path /x }", "'use_backend' : 'path' works on HTTP messages (layer 7); "),
        ("use_backend b if { src 1.1.1.1 } !{ ssl_fc }", "'use_backend' : 'ssl_fc' works on TLS, which ends in "),
    ],
)
def test_an_error_names_the_line_and_the_word(read: Reader, line: str, text: str) -> None:
    (alert,) = read(f"listen l\n    {line}\n").alerts
    assert alert.startswith(f"parsing [t.cfg:{2 + line.count(chr(10))}] : {text}")


_REFUSED_ACL = ": acl 'x', refused at t.cfg:2, works on HTTP messages (layer 7); natlb forwards packets and never "


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("use_backend b if x", f"'use_backend' {_REFUSED_ACL}"),
        ("use_backend b unless x", f"'use_backend' {_REFUSED_ACL}"),
        ("use_backend b if !x", f"'use_backend' {_REFUSED_ACL}"),
        ("use_backend b if y or { src 1.1.1.1 } x", f"'use_backend' {_REFUSED_ACL}"),
        ("use-server s if x", f"'use-server' {_REFUSED_ACL}"),
        ("tcp-request connection reject if y x", f"'tcp-request connection' {_REFUSED_ACL}"),
        ("use_backend x if y", "Proxy 'l': unable to find required use_backend: 'x'; add a section 'backend x'."),
        (
            "use_backend b if { src x }",
            "error detected while parsing switching rule : 'x' is not a valid IPv4 or IPv6 address.",
        ),
        ("use_backend if if y", "Proxy 'l': unable to find required use_backend: 'if'; add a section 'backend if'."),
        ("use_backend x", "Proxy 'l': unable to find required use_backend: 'x'; add a section 'backend x'."),
    ],
)
def test_a_rule_is_refused_as_the_acl_that_it_names_was(read: Reader, line: str, text: str) -> None:
    got = read(f"listen l\n    acl x path_end -i /a\n    acl y src 1.1.1.1\n    {line}\n")
    assert got.alerts[-1].startswith(f"parsing [t.cfg:4] : {text}")


def test_an_acl_belongs_to_its_section(read: Reader) -> None:
    got = read("frontend f\n    acl x path_end -i /a\nfrontend g\n    use_backend b if x\n")
    assert got.alerts[-1] == "parsing [t.cfg:4] : error detected while parsing switching rule : no such ACL : 'x'."


@pytest.mark.parametrize("line", ["bind :80", "server s 1.1.1.1:1", "id 5", "description x"])
def test_what_belongs_to_one_section_is_not_inherited(read: Reader, line: str) -> None:
    keyword = line.partition(" ")[0]
    assert read(f"defaults\n    {line}\n").alerts == [
        f"parsing [t.cfg:2] : '{keyword}' not allowed in 'defaults' section."
    ]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("frontend f\n balance roundrobin\n", "'balance roundrobin' ignored because frontend 'f' has no backend"),
        ("frontend f\n retries 3\n", "'retries' ignored because frontend 'f' has no backend capability."),
        ("frontend f\n timeout server 5s\n", "'timeout server' will be ignored because frontend 'f' has no backend"),
        ("backend b\n maxconn 5\n", "'maxconn' ignored because backend 'b' has no frontend capability."),
        ("backend b\n bind :80\n", "'bind' ignored because backend 'b' has no frontend capability."),
        ("backend b\n timeout client 5s\n", "'timeout client' will be ignored because backend 'b' has no frontend"),
    ],
)
def test_what_a_section_has_no_use_for_is_said_to_be_ignored(read: Reader, text: str, warning: str) -> None:
    got = read(text)
    assert got.alerts == []
    assert got.warnings[0].startswith(f"parsing [t.cfg:2] : {warning}")


def test_a_timeout_said_twice_is_told_of_once_it_changes(read: Reader) -> None:
    text = "defaults\n    timeout client {}\nlisten l\n    bind :80\n    timeout client 6s\n    timeout client {}\n"
    overwriting = "overwriting 'timeout client' which was already specified"
    server = "    server s 192.0.2.1\n"
    assert read(text.format("5s", "7s") + server).warnings == [f"parsing [t.cfg:6] : {overwriting}"]
    assert read(text.format("6s", "6s") + server).warnings == []


def test_an_infinite_timeout_counts_as_none(read: Reader) -> None:
    got = read("listen l\n    bind :80\n    timeout client 0\n    server s 192.0.2.1\n")
    assert got.config.frontends[0].timeouts.client is None
    assert got.warnings == [
        "parsing [t.cfg:3] : 'timeout client 0' counts as not set: natlb has no timeout that never ends."
    ]


def test_defaults_used_both_by_name_and_by_place_are_told_of(read: Reader) -> None:
    got = read("defaults a\nfrontend f from a\n    bind :80\nbackend b\n")
    assert any(
        text.startswith("parsing [t.cfg:4] : defaults section 'a' (declared at t.cfg:1) is") for text in got.warnings
    )


@pytest.mark.parametrize(
    "line",
    [
        "option tcpka",
        "option clitcpka",
        "option srvtcpka",
        "option splice-auto",
        "option splice-request",
        "option splice-response",
        "option abortonclose",
        "no option splice-auto",
        "backlog 10",
        "clitcpka-idle 5s",
        "srvtcpka-cnt 3",
    ],
)
def test_what_tunes_a_socket_is_said_to_have_no_effect(read: Reader, line: str) -> None:
    (warning,) = read(f"listen l\n    bind :80\n    server s 192.0.2.1\n    {line}\n").warnings
    assert "has no effect: natlb forwards packets and has no sockets of its own" in warning
