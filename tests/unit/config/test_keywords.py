"""The table says something of every keyword, and says it in full of those that natlb has."""

import pytest

from natlb.config.entries import Keyword, Refuse, Warn
from natlb.config.keywords import TABLE

from .conftest import HAProxy, Reader

HANDLED = [
    pytest.param(section, entry, id=f"{section}: {entry.name}")
    for (section, _), entry in TABLE.items()
    if not isinstance(entry.action, Refuse | Warn)
]
NO_EFFECT = sorted({(s, n) for (s, n), entry in TABLE.items() if isinstance(entry.action, Warn) and s != "defaults"})

SPEC = {
    "global": "maxconn maxconnrate nbthread daemon pidfile user group uid gid node description log log-tag "
    "spread-checks hard-stop-after quiet setenv presetenv lua-load",
    "listen": "mode id description disabled enabled log bind maxconn default_backend acl use_backend balance hash-type "
    "server default-server server-template fullconn retries source stick-table http-request redirect cookie capture "
    "compression errorfile stats filter tcp-check http-check",
    "bind": "interface name id maxconn transparent v4v6 v6only backlog defer-accept tfo nice tcp-ut ssl crt alpn "
    "accept-proxy",
    "server": "weight check inter fastinter downinter rise fall port addr maxconn maxqueue backup disabled slowstart "
    "id track on-marked-down on-marked-up source ssl sni socks4",
    "udp-lb": "dgram-bind balance server default-server maxconn proxy-requests proxy-responses disabled enabled "
    "description id source log bind mode default_backend retries",
    "dgram-bind": "name interface transparent id maxconn backlog defer-accept tcp-ut ssl accept-proxy",
}


@pytest.mark.parametrize("section", SPEC)
def test_every_keyword_of_the_language_has_an_entry(section: str) -> None:
    assert [word for word in SPEC[section].split() if (section, word) not in TABLE] == []


def test_every_keyword_that_haproxy_registers_has_an_entry(haproxy: HAProxy) -> None:
    dump = haproxy("", "-dKcfg").output
    section, missing = "", []
    for line in dump.splitlines():
        if line[:1].strip():
            section = line
            continue
        match line.split():
            case ["bind", "<addr>", *rest]:
                where, name = "bind", next(word for word in rest if word != "ssl" or len(rest) == 1)
            case ["server", "<name>", "<addr>", name, *_]:
                where = "server"
            case ["option", option, *_]:
                where, name = "listen", f"option {option}"
            case [name, *_] if section in ("global", "listen"):
                where = section
            case _:
                continue
        if (where, name) not in TABLE:
            missing.append((where, name))
    assert dump.count("\n") > 100
    assert missing == []


@pytest.mark.parametrize(("section", "entry"), HANDLED)
def test_what_natlb_does_has_a_line_of_help(section: str, entry: Keyword[object]) -> None:
    assert entry.syntax.startswith(entry.name.split(" ")[0])
    family = " " not in entry.name and any(
        name.startswith(f"{entry.name} ") for where, name in TABLE if where == section
    )
    assert entry.help or family
    assert "\n" not in entry.help


def test_all_refusals_are_sentences() -> None:
    reasons = {entry.action.reason for entry in TABLE.values() if isinstance(entry.action, Refuse)}
    assert all(reason.endswith(".") for reason in reasons)


INTEGERS = (-1024, 0, 1, 9, 64, 100, 101, 1024, 4096, 16384, 32767, 65535, 1 << 20, 16777215, (1 << 31) - 1)
ARGUMENTS = ("", "on", "off", "0", "5s", "24d", *map(str, INTEGERS))
PLACES = {
    "global": "global\n    {}\n",
    "bind": "frontend f\n    bind :80 {}\n",
    "server": "backend b\n    server s{n} 192.0.2.1:80 {}\n",
    "listen": "listen l\n    {}\n",
}


@pytest.mark.parametrize("extreme", ["first", "last"])
@pytest.mark.parametrize("section", ["global", "bind", "server", "listen"])
def test_what_has_no_effect_is_accepted_by_haproxy_with_the_same_arguments(
    section: str, extreme: str, read: Reader, haproxy: HAProxy
) -> None:
    head, _, line = PLACES[section].partition("\n")
    taken = []
    for number, name in enumerate(name for where, name in NO_EFFECT if where == section):
        lines = [line.format(f"{name} {argument}".rstrip(), n=number) for argument in ARGUMENTS]
        fitting = [each for each in lines if not read(f"{head}\n{each}").alerts]
        assert fitting, name
        taken.append(fitting[0 if extreme == "first" else -1])
    verdict = haproxy(f"{head}\n" + "".join(taken))
    assert verdict.accepted, verdict.output
