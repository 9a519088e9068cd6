"""What sections say of one another is checked when all are read."""

import pytest

from .conftest import Reader

GOOD = "listen l\n    bind :80\n    server s 192.0.2.1:80\n"


@pytest.mark.parametrize(
    ("text", "alerts"),
    [
        (
            "frontend f\n    bind :80\n    default_backend nope\n",
            [
                "parsing [t.cfg:3] : Proxy 'f': unable to find required default_backend: 'nope'; add a section "
                "'backend nope'."
            ],
        ),
        (
            "frontend f\n    bind :80\n    default_backend g\nfrontend g\n",
            ["parsing [t.cfg:3] : Proxy 'f': unable to find required default_backend: 'g'; add a section 'backend g'."],
        ),
        (
            "frontend f\n    bind :80\n    default_backend nodse\nbackend others\nbackend nodes\n",
            [
                "parsing [t.cfg:3] : Proxy 'f': unable to find required default_backend: 'nodse'; did you mean "
                "'nodes' maybe ?"
            ],
        ),
        (
            "listen l\n    bind :80\n    default_backend l\n",
            ["parsing [t.cfg:3] : Proxy 'l': loop detected for default_backend: 'l'."],
        ),
        (
            "backend b\n    default_backend b\n",
            ["parsing [t.cfg:2] : Proxy 'b': loop detected for default_backend: 'b'."],
        ),
        (
            "backend b\n    server s 1.1.1.1:1\n    server s 1.1.1.1:2\n",
            [
                "parsing [t.cfg:3] : backend 'b', another server named 's' was already defined at line 2, please use "
                "distinct names."
            ],
        ),
        (
            "backend b\n    server s 1.1.1.1 check\n",
            ["parsing [t.cfg:2] : backend 'b': server 's' has neither service port nor check port; add 'port <port>'."],
        ),
        (
            "backend b\n    server s 1.1.1.1:+4 check addr 1.1.1.2\n",
            ["parsing [t.cfg:2] : backend 'b': server 's' has neither service port nor check port; add 'port <port>'."],
        ),
        (
            "frontend f\n    bind :80\n    bind *:80\n",
            ["parsing [t.cfg:3] : 'bind' : 0.0.0.0:80 of frontend 'f' is already bound by frontend 'f' at t.cfg:2."],
        ),
        (
            "frontend f\n    bind :79-81\nlisten l\n    bind ::1:80,:80-90\n",
            ["parsing [t.cfg:4] : 'bind' : 0.0.0.0:80 of proxy 'l' is already bound by frontend 'f' at t.cfg:2."],
        ),
        (
            "frontend f\n    bind :80\n    bind [::]:80 v4v6\n    bind [::]:80\n",
            [
                "parsing [t.cfg:3] : 'bind' : 0.0.0.0:80 of frontend 'f' is already bound by frontend 'f' at t.cfg:2.",
                "parsing [t.cfg:4] : 'bind' : [::]:80 of frontend 'f' is already bound by frontend 'f' at t.cfg:3.",
            ],
        ),
        (
            "listen l\n    bind :80-90\n    server s 1.1.1.1:-85\n",
            ["[t.cfg:3] : 'server l/s' : port offset -85 leads from 0.0.0.0:80 (bound at t.cfg:2) to no port."],
        ),
        (
            "frontend f\n    bind :60000\n    default_backend b\nbackend b\n    server s 1.1.1.1:+6000\n",
            ["[t.cfg:5] : 'server b/s' : port offset +6000 leads from 0.0.0.0:60000 (bound at t.cfg:2) to no port."],
        ),
    ],
)
def test_a_contradiction_is_an_error_at_its_line(read: Reader, text: str, alerts: list[str]) -> None:
    assert read(text).alerts == alerts


def test_a_range_that_is_bound_twice_is_one_error(read: Reader) -> None:
    assert len(read("frontend f\n    bind :1-65535\n    bind :1-65535\n").alerts) == 1


@pytest.mark.parametrize(
    "text",
    [
        "frontend f\n    bind :80\nfrontend g\n    bind 192.0.2.1:80\n    bind [::]:80\n    bind :81\n",
        "frontend f\n    bind :80\nfrontend g\n    disabled\n    bind :80\n    default_backend nope\n",
        "backend b\n    server s 1.1.1.1 check port 80\n    server t 1.1.1.1:80 check\n",
        "listen l\n    bind :80-90\n    server s 1.1.1.1:-79\n",
        "backend b\n    server s 1.1.1.1:1\nbackend c\n    server s 1.1.1.1:1\n",
    ],
)
def test_what_only_looks_like_one_is_none(read: Reader, text: str) -> None:
    assert read(text).alerts == []


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (GOOD, []),
        (
            "frontend f\n    bind :80\n",
            ["parsing [t.cfg:1] : frontend 'f' has no 'default_backend'; every connection to it will be refused."],
        ),
        (
            "listen l\n    server s 192.0.2.1:80\n",
            [
                "parsing [t.cfg:1] : proxy 'l' has no 'bind' directive. Please declare it as a backend if this was "
                "intended."
            ],
        ),
        (
            "backend b\n",
            ["parsing [t.cfg:1] : backend 'b' has no 'server'; every connection sent to it will be refused."],
        ),
        (
            "frontend f\n    bind :80\n    default_backend b\nbackend b\n    disabled\n",
            ["parsing [t.cfg:3] : frontend 'f' : backend 'b' is disabled; every connection will be refused."],
        ),
        (
            GOOD + "    timeout client 30s\n    timeout server 1m\n",
            [
                "parsing [t.cfg:4] : 'timeout client' (30s, proxy 'l') and 'timeout server' (1m, proxy 'l', t.cfg:5) "
                "differ, but one TCP connection has one idle timer; natlb uses the smaller, 30s. Set both to the same."
            ],
        ),
        (GOOD + "    timeout client 30s\n    timeout server 1m\n    timeout tunnel 1h\n", []),
        (GOOD + "    timeout client 30s\n    timeout server 30000\n", []),
        (
            "listen l\n    bind [::]:80-90\n    bind [::1]:443\n    server s 192.0.2.1:80\n",
            [
                "parsing [t.cfg:2] : 'bind' : [::]:80 is IPv6, and proxy 'l' has no IPv6 server; addresses of one "
                "family cannot be translated into the other, so every such connection will be refused."
            ],
        ),
        (
            "frontend f\n    bind :80\n    default_backend b\nbackend b\n    server s [2001:db8::1]:80\n",
            [
                "parsing [t.cfg:2] : 'bind' : 0.0.0.0:80 is IPv4, and backend 'b' has no IPv4 server; addresses of one "
                "family cannot be translated into the other, so every such connection will be refused."
            ],
        ),
        (
            "listen l\n    bind :80\n    server s 192.0.2.1:80\n    server t [2001:db8::1]:80\n",
            ["[t.cfg:4] : 'server l/t' : no 'bind' that leads here is IPv6, so it will get no connection."],
        ),
        (
            "frontend f\n    bind [::1]:79,[::]:80-81\n    default_backend b\n"
            "backend b\n    server s [::1]:80\n    server t [2001:db8::1]:80\n    server u 127.0.0.1:80\n"
            "frontend g\n    bind :80\n    bind [::1]:81\n    default_backend b\n",
            [
                "[t.cfg:5] : 'server b/s' : IPv6 leads nothing from another machine to ::1, unlike IPv4 to 127.0.0.1; "
                "every connection from there to [::]:80 (bound at t.cfg:2) will be refused. Have the server listen at "
                "another address of this machine, and write that."
            ],
        ),
        (
            "udp-lb u\n    dgram-bind [2001:db8::2]:53\n    server-template s 1-9 [::1]:53\n",
            [
                "[t.cfg:3] : 'server u/s1' : IPv6 leads nothing from another machine to ::1, unlike IPv4 to 127.0.0.1; "
                "every datagram from there to [2001:db8::2]:53 (bound at t.cfg:2) will be refused. Have the server "
                "listen at another address of this machine, and write that."
            ],
        ),
        ("listen l\n    bind [::1]:80\n    server s [::1]:81\n", []),
        ("listen l\n    bind :80\n    server s 127.0.0.1:81\n", []),
        ("listen l\n    bind [::]:80 v4v6\n    server s 192.0.2.1:80\n    server t [2001:db8::1]:80\n", []),
    ],
)
def test_what_can_be_done_but_was_hardly_meant_is_a_warning(read: Reader, text: str, warnings: list[str]) -> None:
    got = read(text)
    assert got.config
    assert got.warnings == warnings


def test_inherited_timeouts_that_differ_are_told_of_once(read: Reader) -> None:
    text = "defaults\n    timeout client 30s\n    timeout server 1m\n"
    text += "".join(f"listen l{n}\n    bind :{80 + n}\n    server s 192.0.2.1\n" for n in range(5))
    assert len(read(text).warnings) == 1


@pytest.mark.parametrize(
    ("lines", "missing"),
    [
        ("", "'timeout client', 'timeout connect', 'timeout server'"),
        ("    timeout client 5s\n", "'timeout connect', 'timeout server'"),
        ("    timeout client 5s\n    timeout server 5s\n", "'timeout connect'"),
        ("    timeout client 5s\n    timeout tunnel 5s\n    timeout connect 5s\n", None),
        ("    timeout client 0\n    timeout server 5s\n    timeout connect 5s\n", "'timeout client'"),
    ],
)
def test_missing_timeouts_are_named_with_natlbs_own(read: Reader, lines: str, missing: str | None) -> None:
    shown = [line for line in read(GOOD + lines).lines if "missing timeouts" in line]
    if missing is None:
        assert shown == []
        return
    (warning,) = shown
    first, *details = warning.splitlines()
    assert first == "[WARNING]  (1) : config : parsing [t.cfg:1] : missing timeouts for proxy 'l'."
    assert details == [
        "   | natlb's own are finite, unlike HAProxy's: 2h4m for an idle connection, 4m for one not yet",
        f"   | established (RFC 5382, REQ-5). To choose, set {missing}.",
    ]


def test_a_backend_without_servers_misses_no_timeout(read: Reader) -> None:
    assert not [line for line in read("backend b\n").lines if "missing timeouts" in line]


def test_warnings_wait_until_there_are_no_errors(read: Reader) -> None:
    got = read(GOOD + "    timeout client 5x\n")
    assert got.warnings == []
    assert not [line for line in got.lines if "missing timeouts" in line]
